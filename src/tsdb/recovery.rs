//! Opening: the log is read back into the head, and what cannot be read is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::head::{Applied, Head, NONE, Rules};
use super::metrics;
use super::record::{self, Record, SamplesRecord, SeriesRef};
use super::tombstone::Tombstone;
use crate::io::log::{Position, Record as LogRecord, Replay};
use crate::model::{Interval, TimeRange};

/// How far opening is: read by `/api/v1/status/walreplay` while the store is not there yet.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    /// Records read so far.
    pub records: AtomicU64,
    /// Samples applied so far.
    pub samples: AtomicU64,
    /// The segment that is being read; the log's files are numbered from 0.
    pub segment_current: AtomicU64,
    /// The last segment.
    pub segment_max: AtomicU64,
}

/// What opening found.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Whether the head came from a snapshot, so that the log before it was not read.
    pub snapshot: bool,
    /// Records read from the log.
    pub records: u64,
    /// Samples that are in the head because of them.
    pub samples: u64,
    /// Series in the head.
    pub series: u64,
    /// Blocks opened.
    pub blocks: u64,
    /// What could not be read: file, bytes, reason, and where a copy is; one line each.
    pub damage: Vec<String>,
    /// How long opening took.
    pub took: Interval,
}

/// Samples that a block has already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covered {
    /// Records before this position …
    pub(crate) upto: Position,
    /// … stand in the block as far as their time is one of these.
    pub(crate) range: TimeRange,
}

/// A replay under way.
pub(crate) struct Recovery<'a> {
    head: &'a Head,
    covered: Vec<Covered>,
    /// Records before it are in the head already.
    from: Position,
    progress: &'a ReplayProgress,
    segment: Option<Position>,
    /// From the log's numbers to the head's, in the present segment.
    refs: HashMap<SeriesRef, SeriesRef>,
    /// The largest number of the present segment, plus one.
    next_ref: u64,
    applied: Applied,
    unknown: u64,
    pub(crate) newest: BTreeMap<u64, i64>,
    pub(crate) report: RecoveryReport,
    /// Deletions that the log knows of, for the blocks.
    tombstones: Vec<Tombstone>,
}

impl<'a> Recovery<'a> {
    /// Begins a replay of the log from `from` on.
    pub(crate) fn new(
        head: &'a Head,
        covered: Vec<Covered>,
        from: Position,
        progress: &'a ReplayProgress,
    ) -> Recovery<'a> {
        Recovery {
            head,
            covered,
            from,
            progress,
            segment: None,
            refs: HashMap::new(),
            next_ref: 0,
            applied: Applied::default(),
            unknown: 0,
            newest: BTreeMap::new(),
            report: RecoveryReport::default(),
            tombstones: Vec::new(),
        }
    }

    /// Takes what the log says next.
    pub(crate) fn visit(&mut self, found: Replay<'_>) {
        match found {
            Replay::Damage(damage) => {
                metrics::LOG_CORRUPTIONS.inc();
                self.report.damage.push(damage.to_string());
            }
            Replay::Segment { index, count } => {
                self.progress.segment_current.store(index as u64, Relaxed);
                self.progress.segment_max.store(count as u64 - 1, Relaxed);
            }
            Replay::Record(record) if record.at < self.from => self.skip(&record),
            Replay::Record(record) => {
                self.enter(record.segment);
                self.report.records += 1;
                self.progress.records.store(self.report.records, Relaxed);
                match Record::decode(record.kind, &record.payload) {
                    Ok(decoded) => self.apply(record.at, decoded),
                    Err(error) => {
                        metrics::LOG_CORRUPTIONS.inc();
                        let text = format!(
                            "log record {} of kind {}: {error}; it is left out",
                            record.at.0, record.kind
                        );
                        self.report.damage.push(text);
                    }
                }
            }
        }
    }

    /// Leaves a record out whose effect the head has already; blocks may not have heard of a deletion.
    fn skip(&mut self, record: &LogRecord) {
        if record.kind == record::TOMBSTONE
            && let Ok(Record::Tombstone(tombstone)) = Record::decode(record.kind, &record.payload)
        {
            self.keep(tombstone);
        }
    }

    /// Keeps a deletion for the blocks; one that failed may have been tried again under the same number.
    fn keep(&mut self, tombstone: Tombstone) {
        self.tombstones.retain(|known| known.id != tombstone.id);
        self.tombstones.push(tombstone);
    }

    fn enter(&mut self, segment: Position) {
        if self.segment != Some(segment) {
            // Numbers mean nothing across segments: one that was lost must not lend its number to another series.
            self.refs.clear();
            self.next_ref = 0;
            self.segment = Some(segment);
        }
    }

    fn apply(&mut self, at: Position, record: Record) {
        let covered = self.covered.iter().filter(|covered| at < covered.upto);
        let stored: Vec<TimeRange> = covered.map(|covered| covered.range).collect();
        let rules = self.head.rules(&stored);
        match record {
            Record::Series(records) => {
                for record in records {
                    let raw = record.series;
                    self.next_ref = self.next_ref.max(u64::from(raw) + 1);
                    let mut created = |_: &_, _: &_| metrics::SERIES_CREATED.inc();
                    // A full table would lose samples that were acknowledged; the limit is for newcomers.
                    if let Ok(id) = self.head.table.declare(record.labels, record.newest, &mut created) {
                        self.refs.insert(raw, id);
                    }
                }
            }
            Record::Samples(record) => {
                let record = self.translate_samples(record);
                self.note(record.samples.iter().map(|sample| sample.at.0).max());
                self.head.apply_samples(&record, &rules, &mut self.applied);
                self.progress.samples.store(self.applied.samples, Relaxed);
            }
            Record::Histograms(mut records) => {
                records.retain_mut(|record| self.translate(&mut record.series));
                self.note(records.iter().map(|record| record.sample.at.0).max());
                self.apply_other(&Record::Histograms(records), &rules);
            }
            Record::Exemplars(mut records) => {
                records.retain_mut(|record| self.translate(&mut record.series));
                self.apply_other(&Record::Exemplars(records), &rules);
            }
            Record::Metadata(records) => self.apply_other(&Record::Metadata(records), &rules),
            Record::Tombstone(tombstone) => {
                if let Err(error) = self.head.delete(&tombstone) {
                    self.report
                        .damage
                        .push(format!("a deletion could not be carried out: {error}"));
                }
                self.keep(tombstone);
            }
            Record::Forgotten(mut gone) => {
                gone.retain_mut(|series| self.translate(series));
                let table = self.head.table.read();
                // Not yet empty here: a block was lost since, and the log still has the samples.
                gone.retain(|id| table.get(*id).is_some_and(|series| series.is_empty()));
                drop(table);
                self.head.table.remove(&gone);
            }
        }
    }

    fn apply_other(&mut self, record: &Record, rules: &Rules<'_>) {
        self.head.apply(record, rules, &mut self.applied);
    }

    fn note(&mut self, newest: Option<i64>) {
        if let (Some(newest), Some(segment)) = (newest, self.segment) {
            let known = self.newest.entry(segment.0).or_insert(i64::MIN);
            *known = newest.max(*known);
        }
    }

    fn translate(&mut self, series: &mut SeriesRef) -> bool {
        match self.refs.get(series) {
            Some(id) => {
                *series = *id;
                true
            }
            None => {
                self.unknown += 1;
                false
            }
        }
    }

    /// Translates numbers; samples of series whose declaration was lost are left out and counted.
    fn translate_samples(&mut self, mut record: SamplesRecord) -> SamplesRecord {
        let mut unknown = 0;
        for (series, count) in &mut record.series {
            *series = self.refs.get(series).copied().unwrap_or_else(|| {
                unknown += u64::from(*count);
                NONE
            });
        }
        self.unknown += unknown;
        if unknown == 0 {
            return record;
        }
        let mut known = SamplesRecord::default();
        let mut next = 0;
        for (series, count) in record.series {
            let own = next..next + count as usize;
            next = own.end;
            if series != NONE {
                known.series.push((series, count));
                known.samples.extend_from_slice(&record.samples[own.clone()]);
                known
                    .starts
                    .extend_from_slice(record.starts.get(own).unwrap_or_default());
            }
        }
        known
    }

    /// Takes the deletions that were read.
    pub(crate) fn tombstones(&mut self) -> Vec<Tombstone> {
        std::mem::take(&mut self.tombstones)
    }

    /// Ends the replay. Returns the report, the newest time of each segment, and where new numbers of series may begin.
    pub(crate) fn finish(mut self) -> (RecoveryReport, BTreeMap<u64, i64>, u64) {
        if self.unknown > 0 {
            let text = format!(
                "{} samples in the log belong to series whose declaration was lost",
                self.unknown
            );
            self.report.damage.push(text);
        }
        self.report.samples = self.applied.samples + self.applied.histograms;
        self.report.series = self.head.table.read().len() as u64;
        (self.report, self.newest, self.next_ref)
    }
}
