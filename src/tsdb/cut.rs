//! Looking after the store: the head's older half becomes blocks, blocks become larger blocks, old ones go.
//!
//! Cuts follow the samples' time, never the clock: when the newest sample is an hour past the end of a two-hour window, all
//! samples before that end are written, one block a window, and published together. Only when no query that began earlier
//! is left does the head forget them. A crash in between costs nothing: replay leaves out what blocks cover, and what is
//! there twice is merged.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::block::{BlockMeta, BlockWriter, Covers, WriteError};
use super::block_set::Change;
use super::commit::Taken;
use super::compact::{carry_out, plan_compaction};
use super::db::Db;
use super::head::{BLOCK_MILLIS, Series, sort_by_labels};
use super::metrics;
use super::retention::{RetentionPolicy, plan_retention};
use crate::io::log::Position;
use crate::model::{Interval, Labels};
use crate::storage::Columns;

/// How far the newest sample must be past a window's end before the window is cut.
const SETTLED_MILLIS: i64 = 3_600_000;

/// What the store still has to do about a cut that is published.
pub(super) struct Pending {
    taken: Taken,
    /// Queries that may look for the samples in the head only.
    readers: Weak<()>,
}

/// Where cutting stands.
pub(super) struct Cutting {
    /// Everything before this time was cut at least once; late samples wait for the next cut.
    pub(super) below: i64,
    pub(super) pending: Option<Pending>,
}

/// What [`Db::maintain`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Blocks cut from the head.
    pub cut: usize,
    /// Blocks written by compaction.
    pub compacted: usize,
    /// Blocks dropped by retention.
    pub dropped: usize,
    /// Whether there is more to do at once.
    pub more: bool,
}

impl Db {
    /// Cuts, compacts and drops blocks as far as that is due: one step of each. Blocks; call it regularly, and again at
    /// once while `more` is set.
    ///
    /// # Errors
    /// [`WriteError`] when the disk does not take it; nothing is lost, and the next call tries again.
    pub fn maintain(&self) -> Result<Maintained, WriteError> {
        let mut done = Maintained::default();
        {
            let mut cutting = self.cutting.lock();
            self.forget_pending(&mut cutting);
            if let Some(below) = self.cut_due(&cutting) {
                let (blocks, pending) = self.cut(below).inspect_err(|_| metrics::CUT_FAILURES.inc())?;
                done.cut = blocks;
                metrics::CUTS.add(blocks as u64);
                cutting.below = below;
                cutting.pending = Some(pending);
                self.forget_pending(&mut cutting);
            }
        }
        done.dropped = self.retain()?;
        let metas = self.blocks.compactable();
        let window = self.config.out_of_order_window;
        if let Some(plan) = plan_compaction(&metas, &self.blocks.touched(), window, self.clock.now()) {
            done.compacted = carry_out(&self.blocks, &plan)?.len();
            done.more = true;
        }
        self.measure();
        Ok(done)
    }

    /// Lets the head forget what was cut, once no query needs it there.
    pub(super) fn forget_pending(&self, cutting: &mut Cutting) {
        let Some(pending) = cutting.pending.take_if(|pending| pending.readers.strong_count() == 0) else {
            return;
        };
        if let Err(error) = self.committer.forget(pending.taken) {
            tracing::warn!(%error, "the log could not be trimmed after a cut");
        }
    }

    /// Returns the time before which everything should become blocks now.
    fn cut_due(&self, cutting: &Cutting) -> Option<i64> {
        if cutting.pending.is_some() {
            return None;
        }
        let range = self.head.range()?;
        let settled = range.max.0.saturating_sub(SETTLED_MILLIS);
        let below = settled.saturating_sub(settled.rem_euclid(BLOCK_MILLIS));
        (range.min.0 < below && cutting.below < below).then_some(below)
    }

    /// Writes and publishes all samples before `below`.
    fn cut(&self, below: i64) -> Result<(usize, Pending), WriteError> {
        let upto = self.committer.position(); // All records before it are applied.
        let covers = Covers {
            from: Position(0),
            to: upto,
        };
        let mark = self.head.chunks.mark();
        let (mut series, spelling): (Vec<Arc<Series>>, _) = {
            let table = self.head.table.read();
            (table.iter().cloned().collect(), table.spelling())
        };
        sort_by_labels(&mut series, &spelling);
        let mut windows = Windows {
            db: self,
            covers,
            writers: BTreeMap::new(),
        };
        let mut taken = Vec::with_capacity(series.len());
        let written = series.into_iter().try_for_each(|series| {
            let (columns, cut) = series.cut(below, &self.head.chunks)?;
            if !columns.is_empty() {
                windows.push(&spelling.labels(&series), &columns)?;
            }
            taken.push((series, cut));
            Ok(())
        });
        let added = windows.finish(written)?;
        let blocks = added.len();
        if blocks > 0 {
            self.blocks.commit(Change {
                added,
                dropped: Vec::new(),
                covered: Some(upto),
            })?;
        }
        // Queries that begin from now on see the blocks; those that began earlier are waited for.
        let readers = self.renew_readers();
        let taken = Taken {
            below,
            upto,
            series: taken,
            mark,
        };
        Ok((blocks, Pending { taken, readers }))
    }

    /// Drops blocks that are too old or too many.
    fn retain(&self) -> Result<usize, WriteError> {
        let (age, bytes) = (self.config.retention, self.config.retention_size.0);
        let policy = RetentionPolicy {
            age_max: (age > Interval::ZERO).then_some(age),
            bytes_max: (bytes > 0).then_some(bytes),
        };
        let metas = self.blocks.snapshot().metas();
        let dropped = plan_retention(&metas, policy, self.committer.log_bytes(), self.clock.now());
        let count = dropped.len();
        if count > 0 {
            self.blocks.commit(Change {
                dropped,
                ..Change::default()
            })?;
        }
        Ok(count)
    }
}

/// The blocks of a cut, one for each window of two hours.
struct Windows<'a> {
    db: &'a Db,
    covers: Covers,
    writers: BTreeMap<i64, BlockWriter>,
}

impl Windows<'_> {
    fn push(&mut self, labels: &Labels, columns: &Columns) -> Result<(), WriteError> {
        let mut rest = Rest {
            columns,
            float: 0,
            histogram: 0,
        };
        while let Some(window) = rest.window() {
            let part = rest.take(window);
            if !self.writers.contains_key(&window) {
                let mut new = self.db.blocks.new_block();
                new.covers = Some(self.covers);
                self.writers.insert(window, self.db.blocks.create(new)?);
            }
            let writer = self.writers.get_mut(&window).expect("it was just made");
            writer.push(labels, &part)?;
        }
        Ok(())
    }

    fn finish(self, written: Result<(), WriteError>) -> Result<Vec<BlockMeta>, WriteError> {
        written?; // Writers that are dropped unfinished leave garbage that nobody lists.
        let mut added = Vec::new();
        for writer in self.writers.into_values() {
            match writer.finish() {
                Ok(meta) => added.extend(meta),
                Err(error) => {
                    self.db.blocks.abandon(added.iter().map(|meta: &BlockMeta| meta.id));
                    return Err(error);
                }
            }
        }
        Ok(added)
    }
}

/// A series' samples that are in no window yet.
struct Rest<'a> {
    columns: &'a Columns,
    float: usize,
    histogram: usize,
}

impl Rest<'_> {
    /// The window of the oldest sample left, by its number.
    fn window(&self) -> Option<i64> {
        let float = self.columns.times.get(self.float).copied();
        let histogram = self.columns.histograms.get(self.histogram).map(|sample| sample.at.0);
        let oldest = float.into_iter().chain(histogram).min()?;
        Some(oldest.div_euclid(BLOCK_MILLIS))
    }

    /// Takes the samples of a window off the front.
    fn take(&mut self, window: i64) -> Columns {
        let inside = |at: i64| at.div_euclid(BLOCK_MILLIS) == window;
        let columns = self.columns;
        let floats = columns.times[self.float..].partition_point(|at| inside(*at));
        let histograms = columns.histograms[self.histogram..].partition_point(|sample| inside(sample.at.0));
        let (floats, histograms) = (
            self.float..self.float + floats,
            self.histogram..self.histogram + histograms,
        );
        (self.float, self.histogram) = (floats.end, histograms.end);
        Columns {
            times: columns.times[floats.clone()].to_vec(),
            values: columns.values[floats.clone()].to_vec(),
            start_times: columns.start_times.get(floats).unwrap_or_default().to_vec(),
            histograms: columns.histograms[histograms.clone()].to_vec(),
            histogram_start_times: columns
                .histogram_start_times
                .get(histograms)
                .unwrap_or_default()
                .to_vec(),
        }
    }
}
