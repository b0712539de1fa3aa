//! The head: every series that got a sample lately, and its newest samples.
//!
//! The head is a fold over the log: live writes and crash recovery both go through [`Head::apply`], so there is one way
//! for a sample to arrive and one place that decides about it. What it holds, the log holds too; it may be thrown away.

mod exemplars;
mod extra;
mod interest;
mod order;
mod query;
mod series;
#[cfg(test)]
mod series_tests;
mod symbols;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};

use super::chunk::ChunkStore;
use super::metrics;
use super::postings::Selector;
use super::record::{ExemplarRecord, HistogramRecord, Record, SamplesRecord, SeriesRef};
use super::snapshot::SavedSeries;
use super::tombstone::Tombstone;
use crate::model::{Exemplar, Interval, Labels, MetricMetadata, Millis, TimeRange};
use crate::storage::{REFUSALS_MAX, Refusal, RefusalReason, StorageError};

pub(crate) use exemplars::Exemplars;
pub(crate) use interest::Watchers;
pub(crate) use order::sort_by_labels;
pub(crate) use series::{BLOCK_MILLIS, Cut, Outcome, Rules, Series};
pub(crate) use table::{Inner, NONE, NoSeries, Table};

/// How many metrics' metadata is kept.
const METADATA_MAX: usize = 100_000;
/// How many windows of time have a version of their own; older ones share one.
const VERSIONS_MAX: usize = 4096;

/// The fold over the log.
pub(crate) struct Head {
    pub(crate) table: Table,
    pub(crate) chunks: Arc<ChunkStore>,
    pub(crate) watchers: Watchers,
    pub(crate) exemplars: Exemplars,
    order: order::Order,
    metadata: RwLock<BTreeMap<String, MetricMetadata>>,
    window: Interval,
    /// From the oldest to the newest sample applied since the last cut.
    min: AtomicI64,
    max: AtomicI64,
    versions: Mutex<BTreeMap<i64, u64>>,
    version: AtomicU64,
}

/// What became of the samples of a record.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) samples: u64,
    pub(crate) histograms: u64,
    pub(crate) exemplars: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
    pub(crate) refusals: Vec<Refusal>,
    late: u64,
    moved: Vec<SeriesRef>,
}

impl Head {
    pub(crate) fn new(seed: u64, series_max: usize, window: Interval, chunks: ChunkStore) -> Head {
        Head {
            table: Table::new(seed, series_max),
            chunks: Arc::new(chunks),
            watchers: Watchers::default(),
            exemplars: Exemplars::default(),
            order: order::Order::default(),
            metadata: RwLock::default(),
            window,
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(i64::MIN),
            versions: Mutex::default(),
            version: AtomicU64::new(0),
        }
    }

    /// The rules for a record whose samples stand in blocks as far as their time lies in one of these ranges.
    pub(crate) fn rules<'a>(&self, stored: &'a [TimeRange]) -> Rules<'a> {
        Rules {
            window: self.window,
            stored,
        }
    }

    /// Takes a record whose series are numbers of this head, in the order of the log. Declarations of series and their
    /// departures are the caller's: numbers differ between processes.
    pub(crate) fn apply(&self, record: &Record, rules: &Rules<'_>, applied: &mut Applied) {
        match record {
            Record::Samples(record) => self.apply_samples(record, rules, applied),
            Record::Histograms(records) => self.apply_histograms(records, rules, applied),
            Record::Exemplars(records) => self.apply_exemplars(records, applied),
            Record::Metadata(records) => self.apply_metadata(records),
            Record::Series(_) | Record::Forgotten(_) | Record::Tombstone(_) => {}
        }
    }

    pub(crate) fn apply_samples(&self, record: &SamplesRecord, rules: &Rules<'_>, applied: &mut Applied) {
        let table = self.table.read();
        let (mut next, mut range) = (0, NO_TIME);
        for (id, count) in &record.series {
            let own = next..next + *count as usize;
            next = own.end;
            let Some(series) = table.get(*id) else {
                debug_assert!(false, "series {id} left the head while samples for it were under way");
                continue;
            };
            let mut moved = false;
            for index in own {
                let sample = record.samples[index];
                let start = record.starts.get(index).map_or(0, |start| start.0);
                let outcome = series.append(sample, start, rules, &self.chunks);
                moved |= applied.count(outcome, &table, series, sample.at, (self.window, false));
                range = (range.0.min(sample.at.0), range.1.max(sample.at.0));
            }
            if moved && series::is_watched(series) {
                applied.moved.push(*id);
            }
        }
        drop(table);
        self.touch(range);
    }

    fn apply_histograms(&self, records: &[HistogramRecord], rules: &Rules<'_>, applied: &mut Applied) {
        let table = self.table.read();
        let mut range = NO_TIME;
        for record in records {
            let Some(series) = table.get(record.series) else {
                continue;
            };
            let outcome = series.append_histogram(&record.sample, record.start.0, rules, &self.chunks);
            let moved = applied.count(outcome, &table, series, record.sample.at, (self.window, true));
            if moved && series::is_watched(series) {
                applied.moved.push(record.series);
            }
            range = (range.0.min(record.sample.at.0), range.1.max(record.sample.at.0));
        }
        drop(table);
        self.touch(range);
    }

    fn apply_exemplars(&self, records: &[ExemplarRecord], applied: &mut Applied) {
        let table = self.table.read();
        for record in records {
            let Some(series) = table.get(record.series) else {
                continue;
            };
            applied.exemplars += u64::from(self.exemplars.add(&table.labels(series), record.exemplar.clone()));
        }
    }

    fn apply_metadata(&self, records: &[MetricMetadata]) {
        let mut metadata = self.metadata.write();
        for record in records {
            if metadata.len() < METADATA_MAX || metadata.contains_key(&record.metric) {
                metadata.insert(record.metric.clone(), record.clone());
            }
        }
    }

    /// Returns what is known about metrics, sorted by name.
    pub(crate) fn metadata(&self) -> Vec<MetricMetadata> {
        self.metadata.read().values().cloned().collect()
    }

    /// Returns those that say something new.
    pub(crate) fn new_metadata(&self, metadata: Vec<MetricMetadata>) -> Vec<MetricMetadata> {
        let known = self.metadata.read();
        metadata
            .into_iter()
            .filter(|found| known.get(&found.metric) != Some(found))
            .collect()
    }

    /// Forgets the samples of the head that a tombstone means.
    ///
    /// # Errors
    /// [`StorageError`] when a chunk cannot be read; the series that come after it keep their samples.
    pub(crate) fn delete(&self, tombstone: &Tombstone) -> Result<(), StorageError> {
        let table = self.table.read();
        let found = Selector::new(&tombstone.matchers).find(&table.postings)?;
        let mut gone = NO_TIME;
        let mut deleted = Ok(());
        for series in found.iter().filter_map(|id| table.get(id)) {
            match series.delete(tombstone.range, &self.chunks) {
                Ok(None) => {}
                Ok(Some(range)) => gone = (gone.0.min(range.min.0), gone.1.max(range.max.0)),
                Err(error) => {
                    deleted = Err(error);
                    break;
                }
            }
        }
        drop(table);
        self.touch(gone);
        self.measure();
        deleted
    }

    fn touch(&self, (min, max): (i64, i64)) {
        if min > max {
            return;
        }
        self.min.fetch_min(min, Relaxed);
        self.max.fetch_max(max, Relaxed);
        let version = self.version.fetch_add(1, Relaxed) + 1;
        let mut versions = self.versions.lock();
        let (first, last) = (min.div_euclid(BLOCK_MILLIS), max.div_euclid(BLOCK_MILLIS));
        for window in first..=last.min(first.saturating_add(VERSIONS_MAX as i64)) {
            versions.insert(window, version);
        }
        versions.insert(last, version);
        while versions.len() > VERSIONS_MAX {
            versions.pop_first();
        }
    }

    /// Returns a number that changes when samples within `range` do.
    pub(crate) fn version(&self, range: TimeRange) -> u64 {
        if range.min > range.max {
            return 0;
        }
        let windows = range.min.0.div_euclid(BLOCK_MILLIS)..=range.max.0.div_euclid(BLOCK_MILLIS);
        let versions = self.versions.lock();
        let forgotten =
            versions.len() >= VERSIONS_MAX && versions.keys().next().is_some_and(|first| windows.start() < first);
        if forgotten {
            return self.version.load(Relaxed);
        }
        versions.range(windows).map(|(_, version)| *version).max().unwrap_or(0)
    }

    /// The times between which the head has samples; `None` while it has none.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        let (min, max) = (self.min.load(Relaxed), self.max.load(Relaxed));
        (min <= max).then_some(TimeRange {
            min: Millis(min),
            max: Millis(max),
        })
    }

    /// Sets the oldest time again, after a cut.
    pub(crate) fn measure(&self) {
        let table = self.table.read();
        let bounds = table.iter().filter_map(|series| series.bounds());
        let (min, max) = bounds.fold(NO_TIME, |all, one| (all.0.min(one.min.0), all.1.max(one.max.0)));
        self.min.store(min, Relaxed);
        self.max.store(max, Relaxed);
    }

    /// Hands over all series as a snapshot has them; their open chunks are sealed by that. Nobody may be appending.
    pub(crate) fn save_series(&self, take: &mut dyn FnMut(SavedSeries) -> std::io::Result<()>) -> std::io::Result<()> {
        let table = self.table.read();
        table
            .iter()
            .try_for_each(|series| take(series.save(table.labels(series), &self.chunks)))
    }

    /// Takes what is known about metrics and exemplars from a snapshot.
    pub(crate) fn restore(&self, metadata: Option<&Record>, exemplars: Vec<(Labels, Exemplar)>) {
        if let Some(Record::Metadata(records)) = metadata {
            self.apply_metadata(records);
        }
        for (labels, exemplar) in exemplars {
            self.exemplars.add(&labels, exemplar);
        }
        self.measure();
    }

    /// Counts what was applied and wakes who waits for it.
    pub(crate) fn settle(&self, applied: &Applied) {
        metrics::SAMPLES_APPENDED.add(applied.samples - applied.duplicates.min(applied.samples));
        metrics::HISTOGRAMS_APPENDED.add(applied.histograms);
        metrics::EXEMPLARS_APPENDED.add(applied.exemplars);
        metrics::DUPLICATES.add(applied.duplicates);
        metrics::OUT_OF_ORDER.add(applied.late);
        metrics::REFUSED.add(applied.refused);
        self.watchers.moved(&applied.moved);
    }
}

const NO_TIME: (i64, i64) = (i64::MAX, i64::MIN);

impl Applied {
    /// Counts an outcome; returns whether the series moved.
    fn count(
        &mut self,
        outcome: Outcome,
        table: &Inner,
        series: &Series,
        at: Millis,
        (window, histogram): (Interval, bool),
    ) -> bool {
        let reason = match outcome {
            Outcome::Stored | Outcome::StoredLate | Outcome::Duplicate => {
                let durable = if histogram {
                    &mut self.histograms
                } else {
                    &mut self.samples
                };
                *durable += 1;
                self.duplicates += u64::from(outcome == Outcome::Duplicate);
                self.late += u64::from(outcome == Outcome::StoredLate);
                return outcome != Outcome::Duplicate;
            }
            Outcome::Conflict => RefusalReason::Conflict,
            Outcome::TooOld(behind) => RefusalReason::TooOld { behind, window },
        };
        self.refused += 1;
        if self.refusals.len() < REFUSALS_MAX {
            let (series, at) = (table.labels(series).to_string(), Some(at));
            self.refusals.push(Refusal { series, at, reason });
        }
        false
    }
}
