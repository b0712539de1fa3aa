//! The table of a block's series: labels, where the samples stand, and statistics that answer without them.
//!
//! ```text
//! table   schemas varint | schema*: names varint | name symbol* | count u32 | group offset u32 * ceil(count / 16) | groups
//! group   record offset varint | 16 entries, the last group fewer
//! entry   schema varint | changed mask varint | value symbol* (of changed values) | flags varint
//!         [ float track ] [ statistics ] [ histogram track ] | record length varint
//!         right after the flags, when a column of times stands before the record: gap varint;
//!         when an earlier series has the same record: how far back it stands, varint
//! track   time column: zigzag difference to the entry before
//!         when thinned: count varint | first − column's first varint | column's last − last varint
//! stats   as `stats` has them
//! ```
//! Sorted by labels. A schema is a list of label names; an entry names only the values that differ from the entry
//! before (a bit a label), so that ten labels cost about four bytes. Groups of 16 can be read by themselves.

use bytes::Bytes;

use super::stats::{self, Stats};
use super::times::TimeColumn;
use super::wire::{Cursor, DecodeError, put_signed, put_varint, unzigzag};
use crate::model::Millis;

/// Entries that are read together.
pub(crate) const GROUP: u32 = 16;
/// A mask has one bit a label; series with more labels spell all of them out.
const MASKED_MAX: usize = 63;
const BROKEN: DecodeError = DecodeError::Malformed("series table");

const FLOATS: u64 = 1;
pub(super) const FLOATS_CONST: u64 = 1 << 1;
const FLOATS_THINNED: u64 = 1 << 2;
const FLOATS_STARTED: u64 = 1 << 3;
const HISTOGRAMS: u64 = 1 << 4;
const HISTOGRAMS_THINNED: u64 = 1 << 5;
const HISTOGRAMS_STARTED: u64 = 1 << 6;
const STATS_NONE: u64 = 1 << 13;
const GAP: u64 = 1 << 14;
const SHARED: u64 = 1 << 15;

/// The samples of one kind: their times and how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Track {
    /// The time column.
    pub(crate) times: u32,
    pub(crate) count: u32,
    /// Whether a presence bitmap in the record says which of the column's times are meant.
    pub(crate) thinned: bool,
    /// Whether start times stand in the record.
    pub(crate) started: bool,
    pub(crate) first: Millis,
    pub(crate) last: Millis,
}

/// One series, without its labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) floats: Option<Track>,
    /// Set when all floats have the same bits, which are here and not in the record.
    pub(crate) constant: bool,
    pub(crate) stats: Option<Stats>,
    pub(crate) histograms: Option<Track>,
    /// Where the record stands in the file.
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// Labels as symbols: a schema and its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Symbolic {
    pub(crate) schema: u32,
    pub(crate) values: Vec<u32>,
}

/// What an entry is told by its difference to: the entry before it in the group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    labels: Symbolic,
    times: u32,
    /// Where the record ended.
    end: u64,
}

/// Begins a group whose first record stands at `offset`.
pub(crate) fn put_group(offset: u64, out: &mut Vec<u8>) -> Before {
    put_varint(out, offset);
    Before {
        end: offset,
        ..Before::default()
    }
}

/// Appends an entry.
pub(crate) fn put_entry(
    entry: &Entry,
    columns: &[TimeColumn],
    labels: &Symbolic,
    before: &mut Before,
    out: &mut Vec<u8>,
) {
    put_labels(labels, &mut before.labels, out);
    let gap = entry.offset.checked_sub(before.end);
    let mut flags = match gap {
        Some(0) => 0,
        Some(_) => GAP,
        None => SHARED,
    };
    if let Some(track) = &entry.floats {
        flags |= FLOATS | track_flags(track, FLOATS_THINNED, FLOATS_STARTED);
        flags |= u64::from(entry.constant) * FLOATS_CONST;
    }
    if let Some(track) = &entry.histograms {
        flags |= HISTOGRAMS | track_flags(track, HISTOGRAMS_THINNED, HISTOGRAMS_STARTED);
    }
    let count = entry.floats.map_or(0, |track| track.count);
    flags |= entry.stats.map_or(STATS_NONE, |stats| stats::flags_of(&stats, count));
    put_varint(out, flags);
    match gap {
        Some(gap) => {
            if gap > 0 {
                put_varint(out, gap);
            }
            before.end = entry.offset + u64::from(entry.len);
        }
        None => put_varint(out, before.end - entry.offset),
    }
    if let Some(track) = &entry.floats {
        put_track(track, columns, &mut before.times, out);
    }
    if let Some(stats) = &entry.stats {
        stats::put(stats, flags, out);
    }
    if let Some(track) = &entry.histograms {
        put_track(track, columns, &mut before.times, out);
    }
    put_varint(out, u64::from(entry.len));
}

fn put_labels(labels: &Symbolic, last: &mut Symbolic, out: &mut Vec<u8>) {
    put_varint(out, u64::from(labels.schema));
    let same_shape = labels.schema == last.schema && labels.values.len() == last.values.len();
    let masked = labels.values.len() <= MASKED_MAX;
    let changed = |at: usize| !(same_shape && masked) || labels.values[at] != last.values[at];
    if masked {
        let mask = (0..labels.values.len()).fold(0u64, |mask, at| mask | u64::from(changed(at)) << at);
        put_varint(out, mask);
    }
    for (at, value) in labels.values.iter().enumerate() {
        if changed(at) {
            put_varint(out, u64::from(*value));
        }
    }
    last.clone_from(labels);
}

fn track_flags(track: &Track, thinned: u64, started: u64) -> u64 {
    (u64::from(track.thinned) * thinned) | (u64::from(track.started) * started)
}

fn put_track(track: &Track, columns: &[TimeColumn], last_times: &mut u32, out: &mut Vec<u8>) {
    put_signed(out, i64::from(track.times) - i64::from(*last_times));
    *last_times = track.times;
    if track.thinned {
        let column = &columns[track.times as usize];
        put_varint(out, u64::from(track.count));
        put_varint(out, track.first.0.wrapping_sub(column.first.0) as u64);
        put_varint(out, column.last.0.wrapping_sub(track.last.0) as u64);
    }
}

/// The table, to be looked into: verified when the block is opened, mapped.
#[derive(Clone, Debug)]
pub(crate) struct SeriesTable {
    bytes: Bytes,
    /// The label names of each schema, as symbols.
    pub(crate) schemas: Vec<Vec<u32>>,
    count: u32,
    directory_at: usize,
    groups_at: usize,
}

/// Writes the head of the table; groups follow.
pub(crate) fn put_table(schemas: &[Vec<u32>], count: u32, groups: &[u32], bodies: &[u8], out: &mut Vec<u8>) {
    put_varint(out, schemas.len() as u64);
    for schema in schemas {
        put_varint(out, schema.len() as u64);
        schema.iter().for_each(|name| put_varint(out, u64::from(*name)));
    }
    out.extend(count.to_le_bytes());
    groups.iter().for_each(|offset| out.extend(offset.to_le_bytes()));
    out.extend_from_slice(bodies);
}

impl SeriesTable {
    pub(crate) fn new(bytes: Bytes) -> Result<SeriesTable, DecodeError> {
        let mut cursor = Cursor::new(&bytes);
        let mut schemas = Vec::new();
        for _ in 0..cursor.size()? {
            let mut names = Vec::new();
            for _ in 0..cursor.size()? {
                names.push(cursor.id()?);
            }
            schemas.push(names);
        }
        let count = cursor.u32()?;
        let directory_at = bytes.len() - cursor.rest().len();
        cursor.take(count.div_ceil(GROUP) as usize * 4)?;
        let groups_at = bytes.len() - cursor.rest().len();
        Ok(SeriesTable {
            bytes,
            schemas,
            count,
            directory_at,
            groups_at,
        })
    }

    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// Returns a reader that stands before the first entry of the group of `id`.
    pub(crate) fn group<'a>(&'a self, id: u32, columns: &'a [TimeColumn]) -> Result<GroupReader<'a>, DecodeError> {
        let group = id / GROUP;
        let at = self.directory_at + group as usize * 4;
        let offset = Cursor::new(self.bytes.get(at..self.groups_at).ok_or(BROKEN)?).u32()?;
        let mut cursor = Cursor::new(self.bytes.get(self.groups_at + offset as usize..).ok_or(BROKEN)?);
        let record_at = cursor.varint()?;
        Ok(GroupReader {
            schemas: &self.schemas,
            columns,
            cursor,
            next: group * GROUP,
            end: ((group + 1) * GROUP).min(self.count),
            record_at,
            last_times: 0,
            labels: Symbolic::default(),
        })
    }
}

/// Reads the entries of one group in order.
pub(crate) struct GroupReader<'a> {
    schemas: &'a [Vec<u32>],
    columns: &'a [TimeColumn],
    cursor: Cursor<'a>,
    next: u32,
    end: u32,
    record_at: u64,
    last_times: u32,
    /// The labels of the entry read last.
    pub(crate) labels: Symbolic,
}

impl GroupReader<'_> {
    /// Reads the next entry, if the group has one.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Entry)>, DecodeError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let id = self.next;
        self.next += 1;
        self.take_labels()?;
        let flags = self.cursor.varint()?;
        if flags & GAP != 0 {
            self.record_at = self.record_at.checked_add(self.cursor.varint()?).ok_or(BROKEN)?;
        }
        let shared = flags & SHARED != 0;
        let mut offset = self.record_at;
        if shared {
            offset = offset.checked_sub(self.cursor.varint()?).ok_or(BROKEN)?;
        }
        let floats = (flags & FLOATS != 0)
            .then(|| self.take_track(flags & FLOATS_THINNED != 0, flags & FLOATS_STARTED != 0))
            .transpose()?;
        let count = floats.map_or(0, |track| track.count);
        let stats = (flags & STATS_NONE == 0)
            .then(|| stats::take(&mut self.cursor, flags, count))
            .transpose()?;
        let histograms = (flags & HISTOGRAMS != 0)
            .then(|| self.take_track(flags & HISTOGRAMS_THINNED != 0, flags & HISTOGRAMS_STARTED != 0))
            .transpose()?;
        let len = self.cursor.id()?;
        let entry = Entry {
            floats,
            constant: flags & FLOATS_CONST != 0,
            stats,
            histograms,
            offset,
            len,
        };
        if !shared {
            self.record_at = self.record_at.checked_add(u64::from(len)).ok_or(BROKEN)?;
        }
        Ok(Some((id, entry)))
    }

    fn take_labels(&mut self) -> Result<(), DecodeError> {
        let schema = self.cursor.id()?;
        let names = self.schemas.get(schema as usize).ok_or(BROKEN)?.len();
        let same_shape = schema == self.labels.schema && self.labels.values.len() == names;
        if !same_shape {
            self.labels.schema = schema;
            self.labels.values.clear();
            self.labels.values.resize(names, 0);
        }
        let mask = if names <= MASKED_MAX {
            self.cursor.varint()?
        } else {
            u64::MAX
        };
        for at in 0..names {
            if at >= u64::BITS as usize || mask >> at & 1 == 1 {
                self.labels.values[at] = self.cursor.id()?;
            }
        }
        Ok(())
    }

    fn take_track(&mut self, thinned: bool, started: bool) -> Result<Track, DecodeError> {
        let times = i64::from(self.last_times)
            .checked_add(unzigzag(self.cursor.varint()?))
            .and_then(|times| u32::try_from(times).ok())
            .ok_or(BROKEN)?;
        self.last_times = times;
        let column = self.columns.get(times as usize).ok_or(BROKEN)?;
        let (mut count, mut first, mut last) = (column.count, column.first, column.last);
        if thinned {
            count = self.cursor.id()?;
            first = Millis(first.0.wrapping_add(self.cursor.varint()? as i64));
            last = Millis(last.0.wrapping_sub(self.cursor.varint()? as i64));
            if count == 0 || count > column.count {
                return Err(BROKEN);
            }
        }
        Ok(Track {
            times,
            count,
            thinned,
            started,
            first,
            last,
        })
    }
}

const _: () = assert!(MASKED_MAX < u64::BITS as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(table) = SeriesTable::new(bytes.into())
                && let Ok(mut group) = table.group(0, &[])
            {
                let _ = group.next();
            }
        }
    }
}
