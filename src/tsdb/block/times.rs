//! Timestamp columns: one for each distinct vector of times in a block, shared by all series that were scraped together.
//!
//! ```text
//! column      an `ints` column of the times                                     regular grids take 10 bytes
//! directory   ( offset − last offset varint | length varint | count varint | first zigzag − last first | span varint )*
//! ```

use super::wire::{Cursor, DecodeError, put_signed, put_varint};
use crate::model::Millis;

/// One column, as the directory describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeColumn {
    /// Where it stands in the file.
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) count: u32,
    pub(crate) first: Millis,
    pub(crate) last: Millis,
}

/// Appends the directory.
pub(crate) fn put_directory(columns: &[TimeColumn], out: &mut Vec<u8>) {
    put_varint(out, columns.len() as u64);
    let (mut offset, mut first) = (0, 0);
    for column in columns {
        put_varint(out, column.offset - offset);
        put_varint(out, u64::from(column.len));
        put_varint(out, u64::from(column.count));
        put_signed(out, column.first.0.wrapping_sub(first));
        put_varint(out, column.last.0.wrapping_sub(column.first.0) as u64);
        (offset, first) = (column.offset, column.first.0);
    }
}

/// Reads the directory.
pub(crate) fn take_directory(bytes: &[u8]) -> Result<Vec<TimeColumn>, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let (mut offset, mut first) = (0u64, 0i64);
    let mut columns = Vec::new();
    for _ in 0..cursor.size()? {
        offset = offset
            .checked_add(cursor.varint()?)
            .ok_or(DecodeError::Malformed("time column"))?;
        let (len, count) = (cursor.id()?, cursor.id()?);
        first = first.wrapping_add(cursor.signed()?);
        let last = first.wrapping_add(cursor.varint()? as i64);
        columns.push(TimeColumn {
            offset,
            len,
            count,
            first: Millis(first),
            last: Millis(last),
        });
    }
    cursor.finish("time directory")?;
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_directory_reads_back_and_no_prefix_does(
            rows in proptest::collection::vec((0u32..1000, any::<u32>(), any::<i64>(), any::<i64>()), 0..20),
        ) {
            let mut offset = 0;
            let columns: Vec<TimeColumn> = rows
                .into_iter()
                .map(|(len, count, a, b)| {
                    offset += u64::from(len);
                    TimeColumn { offset, len, count, first: Millis(a.min(b)), last: Millis(a.max(b)) }
                })
                .collect();
            let mut out = Vec::new();
            put_directory(&columns, &mut out);
            prop_assert_eq!(take_directory(&out).unwrap(), columns);
            for len in 0..out.len() {
                prop_assert!(take_directory(&out[..len]).is_err());
            }
        }
    }
}
