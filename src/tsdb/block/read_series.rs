//! One series of a block: its samples, decoded when asked for.

use std::ops::Range;
use std::sync::Arc;

use super::presence::Presence;
use super::reader::Block;
use super::series::{Entry, Track};
use super::stats::Stats;
use super::wire::{Cursor, DecodeError};
use super::{histograms, ints, values};
use crate::model::{Labels, Millis, Sample, TimeRange};
use crate::storage::{Columns, Point, Series, StorageError, Summary};

/// A series of an open block. Nothing is decoded until [`Series::columns`].
#[derive(Clone)]
pub struct BlockSeries {
    block: Arc<Block>,
    labels: Labels,
    entry: Entry,
    /// Times that a tombstone took out: sorted, not touching.
    deleted: Arc<[TimeRange]>,
}

impl BlockSeries {
    pub(super) fn new(block: Arc<Block>, labels: Labels, entry: Entry) -> BlockSeries {
        BlockSeries {
            block,
            labels,
            entry,
            deleted: Arc::from([]),
        }
    }

    /// Returns the series without the samples in `deleted`, which is sorted.
    #[must_use]
    pub fn without(mut self, deleted: Arc<[TimeRange]>) -> BlockSeries {
        self.deleted = deleted;
        self
    }

    /// Returns the statistics of the series' floats when they stand for exactly the floats in `range`: all of them lie
    /// inside, none was deleted, and there is no histogram.
    fn stats(&self, range: TimeRange) -> Option<Summary> {
        let track = self.entry.floats.as_ref()?;
        let inside = range.min <= track.first && track.last <= range.max;
        let untouched = !self.deleted.iter().any(|deleted| deleted.overlaps(&self.range()));
        let stats = self.entry.stats.filter(|stats| stats.exact)?;
        let sample = |at, value| Sample { at, value };
        (inside && untouched && self.entry.histograms.is_none()).then_some(Summary {
            count: u64::from(track.count),
            first: sample(track.first, stats.first),
            last: sample(track.last, stats.last),
            min: stats.min,
            max: stats.max,
            sum: Some(stats.sum),
        })
    }

    /// Returns how many bytes the series takes in the block's pages, shared times not counted.
    pub fn encoded_len(&self) -> u32 {
        self.entry.len
    }

    /// Returns the times of the oldest and the newest sample, tombstones not considered.
    pub fn range(&self) -> TimeRange {
        let tracks = [self.entry.floats, self.entry.histograms];
        let tracks = tracks.iter().flatten();
        TimeRange {
            min: tracks.clone().map(|track| track.first).min().unwrap_or(Millis::MAX),
            max: tracks.map(|track| track.last).max().unwrap_or(Millis::MIN),
        }
    }

    fn decode(&self, range: TimeRange, columns: &mut Columns) -> Result<(), StorageError> {
        columns.clear();
        let record = self.block.record(self.entry.offset, self.entry.len)?;
        let rotten = |error: DecodeError| self.block.rotten(self.entry.offset, &error);
        let mut cursor = Cursor::new(record.bytes());
        if let Some(track) = &self.entry.histograms {
            let part = Part::open(&self.block, track, &mut cursor)?;
            let bytes = cursor.bytes().map_err(rotten)?;
            let times = part.all_times();
            histograms::decode(&mut Cursor::new(bytes), &times, &mut columns.histograms).map_err(rotten)?;
            let kept = part.kept(range);
            columns.histograms.truncate(kept.end);
            columns.histograms.drain(..kept.start);
            columns.histogram_start_times.extend(part.starts(&kept));
        }
        if let Some(track) = &self.entry.floats {
            let part = Part::open(&self.block, track, &mut cursor)?;
            let kept = part.kept(range);
            part.put_times(&kept, &mut columns.times);
            columns.start_times.extend(part.starts(&kept));
            if kept.is_empty() {
                return Ok(());
            }
            match (self.entry.constant, self.entry.stats) {
                (true, Some(stats)) => columns.values.resize(kept.len(), stats.first),
                _ => {
                    let first = values::decode(&mut cursor, track.count as usize, kept.clone(), &mut columns.values);
                    let first = first.map_err(rotten)?;
                    columns.values.truncate(kept.end - first);
                    columns.values.drain(..kept.start - first);
                }
            }
        }
        Ok(())
    }

    fn delete(&self, columns: &mut Columns) {
        let kept = |at: i64| !self.deleted.iter().any(|range| range.contains(Millis(at)));
        let float_kept: Vec<bool> = columns.times.iter().map(|at| kept(*at)).collect();
        if float_kept.contains(&false) {
            retain(&mut columns.times, &float_kept);
            retain(&mut columns.values, &float_kept);
            retain(&mut columns.start_times, &float_kept);
        }
        let histogram_kept: Vec<bool> = columns.histograms.iter().map(|sample| kept(sample.at.0)).collect();
        if histogram_kept.contains(&false) {
            retain(&mut columns.histograms, &histogram_kept);
            retain(&mut columns.histogram_start_times, &histogram_kept);
        }
    }

    /// Decodes everything and compares it with the table; returns how many samples there are.
    pub(super) fn verify(&self, columns: &mut Columns) -> Result<u64, StorageError> {
        self.decode(TimeRange::ALL, columns)?;
        let count = |track: &Option<Track>| track.map_or(0, |track| track.count as usize);
        let rising = columns.times.windows(2).all(|pair| pair[0] < pair[1]);
        let counted = columns.times.len() == count(&self.entry.floats)
            && columns.values.len() == columns.times.len()
            && columns.histograms.len() == count(&self.entry.histograms);
        let same = |stats: Stats| {
            let found = Stats::of(&columns.values);
            let bits = |stats: Stats| [stats.first, stats.last, stats.min, stats.max, stats.sum].map(f64::to_bits);
            bits(found) == bits(stats)
        };
        if rising && counted && self.entry.stats.is_none_or(same) {
            Ok(columns.len() as u64)
        } else {
            let what = DecodeError::Malformed("series: not what the table says of it");
            Err(self.block.rotten(self.entry.offset, &what))
        }
    }
}

fn retain<T>(column: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    column.retain(|_| kept.next().copied().unwrap_or(true));
}

impl Series for BlockSeries {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn columns(&self, range: TimeRange, columns: &mut Columns) -> Result<(), StorageError> {
        self.decode(range, columns)?;
        if !self.deleted.is_empty() {
            self.delete(columns);
        }
        Ok(())
    }

    fn latest(&self, range: TimeRange) -> Result<Option<Point>, StorageError> {
        if let (Some(track), Some(stats), None, true) = (
            &self.entry.floats,
            self.entry.stats,
            &self.entry.histograms,
            self.deleted.is_empty(),
        ) && range.contains(track.last)
        {
            return Ok(Some(Point::Float(Sample {
                at: track.last,
                value: stats.last,
            })));
        }
        let mut columns = Columns::default();
        self.columns(range, &mut columns)?;
        Ok(columns.latest())
    }

    fn summary(&self, range: TimeRange) -> Result<Option<Summary>, StorageError> {
        Ok(self.stats(range))
    }
}

/// The times and start times of one track of a record.
struct Part {
    /// The column of times, of which `presence` may take some.
    base: Arc<[i64]>,
    presence: Option<Presence>,
    starts: Option<Vec<i64>>,
}

impl Part {
    fn open(block: &Block, track: &Track, cursor: &mut Cursor<'_>) -> Result<Part, StorageError> {
        let base = block.times(track.times)?;
        let rotten = |error: DecodeError| block.rotten(0, &error);
        let presence = track
            .thinned
            .then(|| Presence::decode(cursor, base.len()))
            .transpose()
            .map_err(rotten)?;
        if presence.as_ref().map_or(base.len(), Presence::len) != track.count as usize {
            return Err(rotten(DecodeError::Malformed("number of times")));
        }
        let starts = track.started.then(|| {
            let (mut starts, count) = (Vec::new(), track.count as usize);
            ints::decode_all(&mut Cursor::new(cursor.bytes()?), count, &mut starts)?;
            Ok(starts)
        });
        Ok(Part {
            base,
            presence,
            starts: starts.transpose().map_err(rotten)?,
        })
    }

    /// Calls `visit` with the stretches of the base that are meant, in order.
    fn stretches(&self) -> impl Iterator<Item = &[i64]> {
        let whole = self.presence.is_none().then_some(&self.base[..]);
        let runs = self.presence.as_ref().map_or(&[][..], Presence::runs);
        whole
            .into_iter()
            .chain(runs.iter().map(|run| &self.base[run.start as usize..run.end as usize]))
    }

    fn all_times(&self) -> Vec<i64> {
        self.stretches().flatten().copied().collect()
    }

    /// Returns which samples lie in `range`.
    fn kept(&self, range: TimeRange) -> Range<usize> {
        let (mut start, mut end) = (0, 0);
        for stretch in self.stretches() {
            start += stretch.partition_point(|at| *at < range.min.0);
            end += stretch.partition_point(|at| *at <= range.max.0);
        }
        start..end.max(start)
    }

    fn put_times(&self, kept: &Range<usize>, out: &mut Vec<i64>) {
        let mut before = 0;
        for stretch in self.stretches() {
            let from = kept.start.saturating_sub(before).min(stretch.len());
            let to = kept.end.saturating_sub(before).min(stretch.len());
            out.extend_from_slice(&stretch[from..to]);
            before += stretch.len();
        }
    }

    fn starts(&self, kept: &Range<usize>) -> impl Iterator<Item = i64> {
        let starts = self.starts.as_ref().map_or(&[][..], |starts| &starts[kept.clone()]);
        starts.iter().copied()
    }
}
