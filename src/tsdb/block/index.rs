//! The inverted index of a block: which series have which label value.
//!
//! ```text
//! index     names varint | ( name symbol varint | values varint | having: postings | body length varint )* | body*
//! body      ( symbol u32 | offset u32 ) for every 16th value | ( symbol − last symbol varint | postings )*
//! postings  varint count * 2     then the series as varint differences
//!           varint length * 2+1  then a roaring bitmap in its portable form, when that is shorter
//! ```
//! Values stand in the order of their symbols, which is their own order.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use roaring::RoaringBitmap;

use super::symbols::Symbols;
use super::wire::{Cursor, DecodeError, put_varint};

/// Values between two that can be found directly.
const GROUP: usize = 16;
const BROKEN: DecodeError = DecodeError::Malformed("label index");
/// Longer lists are always better off as bitmaps.
const LIST_MAX: u64 = 64;

/// Writes the index of `names`: of each name its values' symbols with their series.
pub(crate) fn encode(names: &BTreeMap<u32, BTreeMap<u32, RoaringBitmap>>, out: &mut Vec<u8>) {
    put_varint(out, names.len() as u64);
    let mut bodies = Vec::new();
    for (name, values) in names {
        let start = bodies.len();
        put_values(values, &mut bodies);
        put_varint(out, u64::from(*name));
        put_varint(out, values.len() as u64);
        let having = values.values().fold(RoaringBitmap::new(), |all, ids| all | ids);
        put_postings(having, out);
        put_varint(out, (bodies.len() - start) as u64);
    }
    out.extend_from_slice(&bodies);
}

fn put_values(values: &BTreeMap<u32, RoaringBitmap>, out: &mut Vec<u8>) {
    let directory = out.len();
    out.resize(directory + values.len().div_ceil(GROUP) * 8, 0);
    let start = out.len();
    let mut last = 0;
    for (i, (symbol, ids)) in values.iter().enumerate() {
        if i % GROUP == 0 {
            let at = directory + i / GROUP * 8;
            let offset = (out.len() - start) as u32;
            out[at..at + 4].copy_from_slice(&symbol.to_le_bytes());
            out[at + 4..at + 8].copy_from_slice(&offset.to_le_bytes());
            last = *symbol;
        }
        put_varint(out, u64::from(symbol - last));
        put_postings(ids.clone(), out);
        last = *symbol;
    }
}

fn put_postings(mut ids: RoaringBitmap, out: &mut Vec<u8>) {
    ids.optimize();
    let start = out.len();
    if ids.len() <= LIST_MAX {
        put_varint(out, ids.len() * 2);
        let mut last = 0;
        for id in &ids {
            put_varint(out, u64::from(id - last));
            last = id;
        }
    }
    let size = ids.serialized_size();
    if out.len() == start || size + 2 < out.len() - start {
        out.truncate(start);
        put_varint(out, size as u64 * 2 + 1);
        ids.serialize_into(&mut *out).expect("a Vec takes every write");
    }
}

fn take_postings(cursor: &mut Cursor<'_>) -> Result<RoaringBitmap, DecodeError> {
    let head = cursor.size()?;
    if head % 2 == 1 {
        let bytes = cursor.take(head / 2)?;
        return RoaringBitmap::deserialize_from(bytes).map_err(|_| BROKEN);
    }
    let (mut ids, mut last) = (RoaringBitmap::new(), 0u32);
    for _ in 0..head / 2 {
        last = last.checked_add(cursor.id()?).ok_or(BROKEN)?;
        ids.insert(last);
    }
    Ok(ids)
}

fn skip_postings(cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
    let head = cursor.size()?;
    if head % 2 == 1 {
        cursor.take(head / 2)?;
    } else {
        for _ in 0..head / 2 {
            cursor.varint()?;
        }
    }
    Ok(())
}

/// The index of one label name.
#[derive(Clone, Debug)]
struct Name {
    name: String,
    values: usize,
    /// Byte ranges of the section.
    having: Range<usize>,
    body: Range<usize>,
}

/// The index, to be looked into: verified when the block is opened, mapped.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    bytes: Bytes,
    /// Sorted by name.
    names: Vec<Name>,
}

impl Index {
    pub(crate) fn new(bytes: Bytes, symbols: &Symbols) -> Result<Index, DecodeError> {
        let mut cursor = Cursor::new(&bytes);
        let at = |cursor: &Cursor<'_>| bytes.len() - cursor.rest().len();
        let mut names = Vec::new();
        let mut body = 0usize;
        for _ in 0..cursor.size()? {
            let mut name = String::new();
            symbols.get(cursor.id()?, &mut name)?;
            let values = cursor.size()?;
            let start = at(&cursor);
            skip_postings(&mut cursor)?;
            let having = start..at(&cursor);
            let end = body.checked_add(cursor.size()?).ok_or(BROKEN)?;
            names.push(Name {
                name,
                values,
                having,
                body: body..end,
            });
            body = end;
        }
        let bodies = at(&cursor);
        if bytes.len() - bodies != body {
            return Err(BROKEN);
        }
        for name in &mut names {
            name.body = name.body.start + bodies..name.body.end + bodies;
            if name.values > name.body.len() || name.values.div_ceil(GROUP) * 8 > name.body.len() {
                return Err(BROKEN);
            }
        }
        Ok(Index { bytes, names })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| name.name.as_str())
    }

    fn name(&self, name: &str) -> Option<&Name> {
        let at = self
            .names
            .binary_search_by(|found| found.name.as_str().cmp(name))
            .ok()?;
        Some(&self.names[at])
    }

    pub(crate) fn value_count(&self, name: &str) -> usize {
        self.name(name).map_or(0, |name| name.values)
    }

    pub(crate) fn having(&self, name: &str) -> Result<RoaringBitmap, DecodeError> {
        match self.name(name) {
            Some(name) => take_postings(&mut Cursor::new(&self.bytes[name.having.clone()])),
            None => Ok(RoaringBitmap::new()),
        }
    }

    /// Returns the series whose value of `name` is `symbol`.
    pub(crate) fn exact(&self, name: &str, symbol: u32) -> Result<RoaringBitmap, DecodeError> {
        let mut found = RoaringBitmap::new();
        self.scan(name, symbol..symbol.saturating_add(1), |_, cursor| {
            found = take_postings(cursor)?;
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `visit` for the values of `name` among `symbols`, in order; it must read or skip the postings.
    pub(crate) fn scan(
        &self,
        name: &str,
        symbols: Range<u32>,
        mut visit: impl FnMut(u32, &mut Cursor<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let Some(name) = self.name(name) else { return Ok(()) };
        let body = &self.bytes[name.body.clone()];
        let (directory, values) = body.split_at_checked(name.values.div_ceil(GROUP) * 8).ok_or(BROKEN)?;
        let groups: &[[u8; 8]] = directory.as_chunks().0;
        let head = |group: &[u8; 8]| u32::from_le_bytes([group[0], group[1], group[2], group[3]]);
        let first = groups
            .partition_point(|group| head(group) <= symbols.start)
            .saturating_sub(1);
        let Some(start) = groups.get(first) else { return Ok(()) };
        let offset = u32::from_le_bytes([start[4], start[5], start[6], start[7]]);
        let mut cursor = Cursor::new(values.get(offset as usize..).ok_or(BROKEN)?);
        let mut symbol = 0u32;
        for i in first * GROUP..name.values {
            if i % GROUP == 0 {
                symbol = head(&groups[i / GROUP]);
            }
            symbol = symbol.checked_add(cursor.id()?).ok_or(BROKEN)?;
            if symbol >= symbols.end {
                break;
            }
            if symbol < symbols.start {
                skip_postings(&mut cursor)?;
            } else {
                visit(symbol, &mut cursor)?;
            }
        }
        Ok(())
    }

    /// Returns the series whose value of `name` is among `symbols` and passes `test`.
    pub(crate) fn passing(
        &self,
        name: &str,
        symbols: Range<u32>,
        mut test: impl FnMut(u32) -> Result<bool, DecodeError>,
    ) -> Result<RoaringBitmap, DecodeError> {
        let mut union = RoaringBitmap::new();
        self.scan(name, symbols, |symbol, cursor| {
            if test(symbol)? {
                union |= take_postings(cursor)?;
                Ok(())
            } else {
                skip_postings(cursor)
            }
        })?;
        Ok(union)
    }

    /// Calls `visit` with each value of `name` and how many series have it.
    pub(crate) fn count(
        &self,
        name: &str,
        mut visit: impl FnMut(u32, u64) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.scan(name, 0..u32::MAX, |symbol, cursor| {
            visit(symbol, take_postings(cursor)?.len())
        })
    }

    /// Calls `visit` with each value of `name` that one of `ids` (any series when `None`) has.
    pub(crate) fn values(
        &self,
        name: &str,
        ids: Option<&RoaringBitmap>,
        mut visit: impl FnMut(u32) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.scan(name, 0..u32::MAX, |symbol, cursor| {
            let hit = match ids {
                None => {
                    skip_postings(cursor)?;
                    true
                }
                Some(ids) => !take_postings(cursor)?.is_disjoint(ids),
            };
            if hit { visit(symbol) } else { Ok(()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn postings_read_back(ids in proptest::collection::btree_set(0u32..100_000, 0..200), dense in 0u32..500) {
            for ids in [ids.into_iter().collect::<RoaringBitmap>(), (0..dense).collect()] {
                let mut out = Vec::new();
                put_postings(ids.clone(), &mut out);
                let mut cursor = Cursor::new(&out);
                prop_assert_eq!(take_postings(&mut cursor).unwrap(), ids);
                prop_assert!(cursor.is_empty());
                for len in 0..out.len() {
                    prop_assert!(take_postings(&mut Cursor::new(&out[..len])).is_err());
                }
            }
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut out = Vec::new();
            super::super::symbols::encode(["a", "b"].into_iter(), &mut out);
            let symbols = Symbols::new(out.into()).unwrap();
            if let Ok(index) = Index::new(bytes.into(), &symbols) {
                for name in ["a", "b"] {
                    let _ = index.having(name);
                    let _ = index.exact(name, 1);
                    let _ = index.values(name, None, |_| Ok(()));
                }
            }
        }
    }
}
