//! The store's façade: append to it, ask it, close it. `open` opens it, `cut` looks after it.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::append::append_error;
use super::block_set::BlockSet;
use super::commit::Committer;
use super::config::DbConfig;
use super::cut::Cutting;
use super::head::Head;
use super::merge::merge_series;
use super::metrics;
use super::postings::Selector;
use super::status::{self, TsdbStatus};
use crate::io::Clock;
use crate::io::disk::{DirLock, Disk};
use crate::model::{Labels, Matcher, MetricMetadata, Millis, TimeRange};
use crate::storage::{AppendError, ExemplarSeries, Interest, NewestBy, Querier, Select, Selection, StorageError};

/// A time-series store in a directory of its own.
///
/// [`crate::storage::Appender`] makes samples durable, [`Querier`] shows them, [`Interest`] wakes who waits for them.
pub struct Db {
    pub(super) config: DbConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) head: Arc<Head>,
    pub(super) committer: Committer,
    pub(super) blocks: BlockSet,
    pub(super) cutting: Mutex<Cutting>,
    /// Held by each query for as long as it may look into the head.
    pub(super) readers: Mutex<Arc<()>>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) _lock: Box<dyn DirLock>,
}

impl Db {
    /// Says whether writes are possible: what `/-/ready` asks.
    ///
    /// # Errors
    /// What an append would answer.
    pub fn check(&self) -> Result<(), AppendError> {
        self.committer.check().map_err(append_error)
    }

    /// Returns head and cardinality, with at most `limit` entries in each list.
    pub fn status(&self, limit: usize) -> TsdbStatus {
        status::status(&self.head, self.blocks.damage(), limit)
    }

    /// Commits what is waiting, stops taking samples and writes a snapshot of the head, so that the next start need not
    /// read the log; queries go on. Blocks, about 2 µs a series.
    pub fn close(&self) {
        let mut cutting = self.cutting.lock();
        self.forget_pending(&mut cutting);
        self.committer.stop();
        if let Err(error) = self.save_snapshot() {
            tracing::warn!(%error, "no snapshot of the head was written: the next start reads the whole log");
        }
    }

    /// Returns the blocks of the store.
    pub fn blocks(&self) -> &BlockSet {
        &self.blocks
    }

    /// Lets queries that begin from now on be told from those that began before.
    pub(super) fn renew_readers(&self) -> Weak<()> {
        let before = std::mem::take(&mut *self.readers.lock());
        Arc::downgrade(&before)
    }

    /// Sets the gauges.
    pub(super) fn measure(&self) {
        metrics::SERIES.set(self.head.table.read().len() as f64);
        metrics::CHUNK_MEMORY.set(self.head.chunks.memory_bytes() as f64);
        metrics::LOG_BYTES.set(self.committer.log_bytes() as f64);
        if let Some(range) = self.head.range() {
            metrics::MIN_TIME.set(range.min.as_secs_f64());
            metrics::MAX_TIME.set(range.max.as_secs_f64());
        }
    }
}

/// Makes matcher sets ready; no set at all stands for all series.
fn selectors(sets: &[Vec<Matcher>]) -> Vec<Selector> {
    if sets.is_empty() {
        return vec![Selector::new(&[])];
    }
    sets.iter().map(|set| Selector::new(set)).collect()
}

impl Querier for Db {
    fn select(&self, select: &Select) -> Result<Selection, StorageError> {
        // In this order: what leaves the head meanwhile is in the blocks that are looked at afterwards.
        let reader = Arc::clone(&self.readers.lock());
        let selector = Selector::new(&select.matchers);
        let head = self.head.select(&selector, select.range, &reader)?;
        let snapshot = self.blocks.snapshot();
        let mut parts = snapshot.find(&selector, select.range)?;
        parts.push(head);
        Ok(Selection {
            series: merge_series(parts),
            warnings: snapshot.warnings(select.range),
        })
    }

    fn newest_by(&self, select: &Select, names: &[String]) -> Result<Option<NewestBy>, StorageError> {
        let reader = Arc::clone(&self.readers.lock());
        let snapshot = self.blocks.snapshot();
        let in_blocks = snapshot
            .blocks
            .iter()
            .any(|block| block.meta().range.overlaps(&select.range));
        if in_blocks || !snapshot.warnings(select.range).is_empty() {
            return Ok(None);
        }
        let selector = Selector::new(&select.matchers);
        self.head.newest_by(&selector, select.range, names, &reader)
    }

    fn series(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<Labels>, StorageError> {
        let selectors = selectors(sets);
        let mut found = self.head.series(&selectors, range)?;
        for block in &self.blocks.snapshot().blocks {
            for selector in selectors.iter().filter(|_| block.meta().range.overlaps(&range)) {
                found.extend(block.series(selector, range)?);
            }
        }
        Ok(found.into_iter().collect())
    }

    fn label_names(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError> {
        let selectors = selectors(sets);
        let mut found = self.head.label_names(&selectors, sets.is_empty(), range)?;
        for block in &self.blocks.snapshot().blocks {
            for selector in selectors.iter().filter(|_| block.meta().range.overlaps(&range)) {
                found.extend(block.label_names(selector)?);
            }
        }
        Ok(found.into_iter().collect())
    }

    fn label_values(&self, name: &str, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError> {
        let selectors = selectors(sets);
        let mut found = self.head.label_values(name, &selectors, sets.is_empty(), range)?;
        for block in &self.blocks.snapshot().blocks {
            for selector in selectors.iter().filter(|_| block.meta().range.overlaps(&range)) {
                found.extend(block.label_values(name, selector)?);
            }
        }
        Ok(found.into_iter().collect())
    }

    fn metadata(&self) -> Vec<MetricMetadata> {
        self.head.metadata()
    }

    fn exemplars(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<ExemplarSeries>, StorageError> {
        Ok(self.head.exemplars.find(sets, range))
    }

    fn complete_until(&self) -> Millis {
        Millis::MAX
    }

    fn version(&self, range: TimeRange) -> u64 {
        // Both parts only grow.
        let head = self.head.version(range).wrapping_mul(1 << 24);
        head.wrapping_add(self.blocks.snapshot().version)
    }
}

impl Interest for Db {
    fn register(&self, selectors: Vec<(u64, Vec<Matcher>)>, wake: Arc<dyn Fn(&[u64]) + Send + Sync>) {
        let table = self.head.table.read();
        self.head.watchers.register(selectors, wake, &table);
    }
}
