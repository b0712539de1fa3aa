//! All strings of a block's labels, sorted: a symbol is the number of its string, so symbols order as their strings do.
//!
//! ```text
//! count u32 | offset u32 for every 16th string | strings: ( shared varint | length varint | suffix )*
//! ```
//! Front-coded: each string but every 16th leaves out what it shares with the one before. Offsets count from the first
//! string. A prefix of strings is a range of symbols.

use std::ops::Range;

use bytes::Bytes;

use super::wire::{Cursor, DecodeError, put_bytes, put_varint};

/// Strings between two that are spelled out.
const GROUP: u32 = 16;
const BROKEN: DecodeError = DecodeError::Malformed("symbol table");

/// Writes the table of `strings`, which are sorted and unique.
pub(crate) fn encode<'a>(strings: impl ExactSizeIterator<Item = &'a str>, out: &mut Vec<u8>) {
    let count = strings.len();
    out.extend((count as u32).to_le_bytes());
    let directory = out.len();
    out.resize(directory + count.div_ceil(GROUP as usize) * 4, 0);
    let start = out.len();
    let mut last = "";
    for (i, string) in strings.enumerate() {
        let shared = if i % GROUP as usize == 0 {
            let offset = (out.len() - start) as u32;
            let at = directory + i / GROUP as usize * 4;
            out[at..at + 4].copy_from_slice(&offset.to_le_bytes());
            0
        } else {
            last.bytes().zip(string.bytes()).take_while(|(a, b)| a == b).count()
        };
        put_varint(out, shared as u64);
        put_bytes(out, &string.as_bytes()[shared..]);
        last = string;
    }
}

/// A table to look into: verified when the block is opened, mapped.
#[derive(Clone, Debug)]
pub(crate) struct Symbols {
    bytes: Bytes,
    count: u32,
    strings_at: usize,
}

impl Symbols {
    pub(crate) fn new(bytes: Bytes) -> Result<Symbols, DecodeError> {
        let count = Cursor::new(&bytes).u32()?;
        let strings_at = 4 + count.div_ceil(GROUP) as usize * 4;
        if bytes.len() < strings_at {
            return Err(DecodeError::Truncated);
        }
        Ok(Symbols {
            bytes,
            count,
            strings_at,
        })
    }

    /// Calls `visit` with the strings of `range`, in order, until it returns `false`.
    pub(crate) fn scan(&self, range: Range<u32>, mut visit: impl FnMut(u32, &str) -> bool) -> Result<(), DecodeError> {
        if range.start >= range.end.min(self.count) {
            return Ok(());
        }
        let mut cursor = self.group(range.start / GROUP)?;
        let mut buffer: Vec<u8> = Vec::with_capacity(64);
        for symbol in range.start / GROUP * GROUP..range.end.min(self.count) {
            let shared = cursor.size()?;
            if shared > buffer.len() {
                return Err(BROKEN);
            }
            buffer.truncate(shared);
            buffer.extend_from_slice(cursor.bytes()?);
            if symbol >= range.start && !visit(symbol, std::str::from_utf8(&buffer).map_err(|_| BROKEN)?) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Puts the string of `symbol` into `out`, which is cleared first.
    pub(crate) fn get(&self, symbol: u32, out: &mut String) -> Result<(), DecodeError> {
        if symbol >= self.count {
            return Err(BROKEN);
        }
        out.clear();
        self.scan(symbol..symbol + 1, |_, string| {
            out.push_str(string);
            true
        })
    }

    /// Returns the symbol of `string`, if the block has it.
    pub(crate) fn find(&self, string: &str) -> Result<Option<u32>, DecodeError> {
        let at = self.lower_bound(string.as_bytes())?;
        let mut found = None;
        self.scan(at..at.saturating_add(1), |symbol, candidate| {
            found = (candidate == string).then_some(symbol);
            true
        })?;
        Ok(found)
    }

    /// Returns the symbols of the strings that start with `prefix`.
    pub(crate) fn with_prefix(&self, prefix: &str) -> Result<Range<u32>, DecodeError> {
        let start = self.lower_bound(prefix.as_bytes())?;
        // No UTF-8 string contains a byte of all ones: the prefix followed by one sorts behind all that start with it.
        let beyond = [prefix.as_bytes(), &[0xff]].concat();
        Ok(start..self.lower_bound(&beyond)?)
    }

    /// Returns the first symbol whose string is not below `bytes`.
    fn lower_bound(&self, bytes: &[u8]) -> Result<u32, DecodeError> {
        let (mut low, mut high) = (0, self.count.div_ceil(GROUP));
        while low < high {
            let middle = low.midpoint(high);
            let mut cursor = self.group(middle)?;
            cursor.varint()?;
            if cursor.bytes()? < bytes {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let start = low.saturating_sub(1) * GROUP;
        let mut found = (start + GROUP).min(self.count);
        self.scan(start..found, |symbol, string| {
            let below = string.as_bytes() < bytes;
            if !below {
                found = symbol;
            }
            below
        })?;
        Ok(found)
    }

    fn group(&self, group: u32) -> Result<Cursor<'_>, DecodeError> {
        let at = 4 + group as usize * 4;
        let offset = Cursor::new(self.bytes.get(at..self.strings_at).ok_or(BROKEN)?).u32()?;
        self.bytes
            .get(self.strings_at + offset as usize..)
            .map(Cursor::new)
            .ok_or(BROKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn table(strings: &BTreeSet<String>) -> Symbols {
        let mut out = Vec::new();
        encode(strings.iter().map(String::as_str), &mut out);
        Symbols::new(out.into()).unwrap()
    }

    proptest! {
        #[test]
        fn a_table_answers_as_a_sorted_list(
            strings in proptest::collection::btree_set("[a-c]{0,5}|.{0,8}", 0..120), probe in "[a-c]{0,3}",
        ) {
            let symbols = table(&strings);
            let list: Vec<&String> = strings.iter().collect();
            for (i, string) in list.iter().enumerate() {
                let mut read = String::new();
                symbols.get(i as u32, &mut read).unwrap();
                prop_assert_eq!(&read, *string);
                prop_assert_eq!(symbols.find(string).unwrap(), Some(i as u32));
            }
            prop_assert_eq!(symbols.find(&probe).unwrap().is_some(), strings.contains(&probe));
            let range = symbols.with_prefix(&probe).unwrap();
            let expected: Vec<u32> = (0..list.len()).filter(|i| list[*i].starts_with(&probe)).map(|i| i as u32).collect();
            prop_assert_eq!(range.collect::<Vec<_>>(), expected);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(symbols) = Symbols::new(bytes.into()) {
                let _ = symbols.find("abc");
                let _ = symbols.scan(0..u32::MAX, |_, _| true);
            }
        }
    }
}
