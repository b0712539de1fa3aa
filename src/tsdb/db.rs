//! The store's façade: open it, append to it, ask it, look after it.

use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::append::append_error;
use super::block::BlockCache;
use super::block_set::{BlockSet, BlockSetConfig};
use super::commit::Committer;
use super::config::DbConfig;
use super::cut::Cutting;
use super::head::{BLOCK_MILLIS, Head};
use super::merge::merge_series;
use super::metrics;
use super::postings::Selector;
use super::recovery::{Covered, Recovery, RecoveryReport};
use super::status::{self, TsdbStatus};
use crate::io::disk::{DirLock, Disk};
use crate::io::log::{SegmentLog, SegmentOptions};
use crate::io::{Clock, Random};
use crate::model::{Interval, Labels, Matcher, MetricMetadata, Millis, TimeRange};
use crate::storage::{AppendError, ExemplarSeries, Interest, Querier, Select, Selection, StorageError};

/// Where things are, inside the store's directory.
const LOG_DIR: &str = "wal";
const BLOCKS_DIR: &str = "blocks";
const QUARANTINE_DIR: &str = "quarantine";

/// A segment of the log in which more numbers of series are used is not continued.
const NUMBERS_USED_MAX: u64 = 1 << 31;

/// Why a store cannot be opened. Damaged data is no reason: it is reported and left out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory; the text names it.
    #[error("{0}")]
    Locked(String),
    /// The directory cannot be made or read.
    #[error("cannot open the store in {dir}: {reason}")]
    Unreadable {
        /// The store's directory.
        dir: String,
        /// The operating system's words.
        reason: String,
    },
}

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
    readers: Mutex<Arc<()>>,
    _lock: Box<dyn DirLock>,
}

impl Db {
    /// Opens the store, creating it, and reads its log. Blocks for as long as that takes (about 0.1 µs a sample);
    /// `config.progress` tells how far it is.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is taken or cannot be used.
    pub fn open(
        config: DbConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<(Arc<Db>, RecoveryReport), OpenError> {
        let started = clock.mono();
        let unreadable = |reason: String| OpenError::Unreadable {
            dir: config.dir.display().to_string(),
            reason,
        };
        disk.create_dir_all(&config.dir)
            .map_err(|error| unreadable(error.to_string()))?;
        let lock = disk.lock(&config.dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked(error.to_string()),
            _ => unreadable(error.to_string()),
        })?;
        let head = Arc::new(Head::new(
            random.next_u64(),
            config.series_max,
            config.out_of_order_window,
        ));
        let block_config = BlockSetConfig {
            dir: config.dir.join(BLOCKS_DIR),
            quarantine: config.dir.join(QUARANTINE_DIR),
            seed: random.next_u64(),
        };
        let opened = BlockSet::open(&disk, block_config, Arc::new(BlockCache::new()));
        let (blocks, opened) = opened.map_err(|error| unreadable(error.to_string()))?;
        let covered = covered(&blocks);
        let below = covered.iter().map(|covered| covered.range.max.0).max();
        let mut recovery = Recovery::new(&head, covered, &config.progress);
        let options = SegmentOptions {
            segment_bytes: config.segment_bytes,
            reserve_bytes: config.reserve_bytes,
        };
        let log = SegmentLog::open(Arc::clone(&disk), &config.dir.join(LOG_DIR), options, &mut |found| {
            recovery.visit(found);
        });
        let mut log = log.map_err(|error| unreadable(error.to_string()))?;
        let tombstones = recovery.tombstones();
        let (mut report, newest, next_ref) = recovery.finish();
        let resumed = blocks.resume(tombstones);
        let base = if next_ref > NUMBERS_USED_MAX {
            log.seal(); // Its numbers are nearly used up; a new segment begins anew.
            0
        } else {
            next_ref as u32
        };
        let committer = Committer::start(
            Arc::clone(&head),
            log,
            newest,
            base,
            config.durability,
            Arc::clone(&clock),
        );
        let committer = committer.map_err(|error| unreadable(error.to_string()))?;
        report.blocks = blocks.snapshot().blocks.len() as u64;
        let lost = opened
            .lost
            .iter()
            .map(|lost| format!("block {} is lost: {}", lost.id, lost.reason));
        report.damage.extend(lost.chain(opened.problems));
        report.damage.extend(
            resumed
                .err()
                .map(|error| format!("a deletion is not complete: {error}")),
        );
        report.took = Interval((clock.mono().seconds_since(started) * 1000.0) as i64);
        for damage in &report.damage {
            tracing::warn!(damage, "corrupt data was found and left out");
        }
        let cutting = Cutting {
            below: below.map_or(i64::MIN, |max| {
                max.saturating_sub(max.rem_euclid(BLOCK_MILLIS)) + BLOCK_MILLIS
            }),
            pending: None,
        };
        let db = Db {
            config,
            clock,
            head,
            committer,
            blocks,
            cutting: Mutex::new(cutting),
            readers: Mutex::default(),
            _lock: lock,
        };
        db.measure();
        Ok((Arc::new(db), report))
    }

    /// Says whether writes are possible: what `/-/ready` asks.
    ///
    /// # Errors
    /// What an append would answer.
    pub fn check(&self) -> Result<(), AppendError> {
        self.committer.check().map_err(append_error)
    }

    /// Returns head and cardinality, with at most `limit` entries in each list.
    pub fn status(&self, limit: usize) -> TsdbStatus {
        status::status(&self.head, limit)
    }

    /// Commits what is waiting and stops taking samples; queries go on.
    pub fn close(&self) {
        self.committer.stop();
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
        metrics::LOG_BYTES.set(self.committer.log_bytes() as f64);
        if let Some(range) = self.head.range() {
            metrics::MIN_TIME.set(range.min.as_secs_f64());
            metrics::MAX_TIME.set(range.max.as_secs_f64());
        }
    }
}

/// Returns what blocks spare the log's reader. Blocks that a manifest no longer vouches for spare nothing.
fn covered(blocks: &BlockSet) -> Vec<Covered> {
    let snapshot = blocks.snapshot();
    let metas = snapshot.metas().into_iter();
    let covers = metas.filter_map(|meta| Some((meta.covers?.to.min(snapshot.covered), meta.range)));
    covers.map(|(upto, range)| Covered { upto, range }).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimClock;
    use crate::io::disk::SimDisk;
    use crate::model::{
        BatchSeries, Exemplar, HistogramSample, Labels, MetricKind, OwnedSeries, Sample, SeriesKey, WriteBatch,
    };
    use crate::storage::{Appender, RefusalReason};
    use crate::tsdb::testing::{self, Model, START, batch, labels, open, read, try_open};

    fn clock() -> SimClock {
        SimClock::at(Millis(START))
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_a_restart() {
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let db = open(&disk, &clock);
        let mut model = Model::new();
        for step in 0..400i64 {
            let at = START - 4_000_000 + step * 10_000;
            let value = |n: usize| step as f64 * 0.1 + n as f64;
            let report = db.append(batch((0..5).map(|n| (n, at, value(n))))).await.unwrap();
            assert_eq!((report.samples, report.refused), (5, 0));
            for n in 0..5 {
                model.entry(labels(n)).or_default().insert(at, value(n).to_bits());
            }
        }
        assert_eq!(read(&*db, vec![]), model);
        assert_eq!(read(&*db, vec![Matcher::equal("n", "3")]).len(), 1);
        drop(db);
        let (db, report) = try_open(&disk, &clock).unwrap();
        assert_eq!((report.samples, report.series, report.damage), (2000, 5, vec![]));
        assert_eq!(read(&*db, vec![]), model);
    }

    #[tokio::test]
    async fn a_retry_changes_nothing_and_a_conflict_is_refused() {
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let db = open(&disk, &clock);
        let report = db.append(batch([(0, START, 1.0), (1, START, 1.0)])).await.unwrap();
        assert_eq!((report.samples, report.duplicates), (2, 0));
        let report = db.append(batch([(0, START, 1.0), (1, START, 2.0)])).await.unwrap();
        assert_eq!((report.samples, report.duplicates, report.refused), (1, 1, 1));
        assert_eq!(report.refusals[0].reason, RefusalReason::Conflict);
        assert_eq!(report.refusals[0].series, labels(1).to_string());
    }

    #[tokio::test]
    async fn bad_series_and_times_leave_the_good_ones_alone() {
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let db = open(&disk, &clock);
        let month = 31 * 86_400_000;
        let samples = [
            (0, START, 1.0),
            (1, START + 660_000, 1.0),
            (2, START - month, 1.0),
            (3, START + 590_000, 1.0),
        ];
        let report = db.append(batch(samples)).await.unwrap();
        assert_eq!((report.samples, report.refused), (2, 2));
        assert!(matches!(report.refusals[0].reason, RefusalReason::TooFarAhead { .. }));
        assert!(matches!(
            report.refusals[1].reason,
            RefusalReason::BeyondRetention { .. }
        ));
        let report = db
            .append(batch([(0, START - 3_600_001, 1.0), (0, START - 3_600_000, 1.0)]))
            .await
            .unwrap();
        assert!(matches!(report.refusals[0].reason, RefusalReason::TooOld { .. }));
        assert_eq!(report.samples, 1);
        assert_eq!(read(&*db, vec![Matcher::equal("n", "1")]), Model::new());
    }

    /// A batch with everything in it that a batch can have.
    fn rich_batch(at: i64) -> WriteBatch {
        let sample = Sample {
            at: Millis(at),
            value: 5.0,
        };
        let series = OwnedSeries {
            labels: labels(0),
            samples: vec![sample],
        };
        let histogram_series = OwnedSeries {
            labels: labels(1),
            samples: vec![],
        };
        let mut batch = WriteBatch::from_series(vec![series, histogram_series], 1);
        batch.start_times = vec![Millis(at - 1000)];
        batch.histograms = vec![HistogramSample {
            at: Millis(at),
            histogram: Arc::default(),
        }];
        batch.histogram_start_times = vec![Millis(at - 2000)];
        batch.exemplars = vec![Exemplar {
            labels: Labels::empty(),
            value: 1.0,
            at: Millis(at),
        }];
        batch.metadata = vec![MetricMetadata {
            metric: "m".to_owned(),
            kind: MetricKind::Counter,
            help: "Help.".to_owned(),
            unit: String::new(),
        }];
        batch.series[0].exemplars = 0..1;
        batch.series[1].histograms = 0..1;
        batch
    }

    #[tokio::test]
    async fn histograms_exemplars_metadata_and_start_times_survive_a_restart() {
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let db = open(&disk, &clock);
        let report = db.append(rich_batch(START)).await.unwrap();
        assert_eq!((report.samples, report.histograms, report.exemplars), (1, 1, 1));
        for _ in 0..2 {
            drop(db.append(batch([(0, START + 1, 0.0)])).await);
        }
        drop(db);
        let db = open(&disk, &clock);
        let select = |n: &str| Select {
            matchers: vec![Matcher::equal("n", n)],
            range: TimeRange::ALL,
            hints: crate::storage::Hints::default(),
        };
        let mut columns = crate::storage::Columns::default();
        db.select(&select("0")).unwrap().series[0]
            .columns(TimeRange::ALL, &mut columns)
            .unwrap();
        assert_eq!(
            (columns.times.len(), columns.start_times.clone()),
            (2, vec![START - 1000, 0])
        );
        db.select(&select("1")).unwrap().series[0]
            .columns(TimeRange::ALL, &mut columns)
            .unwrap();
        assert_eq!(
            (columns.histograms.len(), columns.histogram_start_times),
            (1, vec![START - 2000])
        );
        assert_eq!(db.metadata()[0].help, "Help.");
        assert_eq!(db.exemplars(&[], TimeRange::ALL).unwrap()[0].labels, labels(0));
    }

    #[tokio::test]
    async fn two_spellings_of_the_same_labels_are_one_series() {
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let db = open(&disk, &clock);
        db.append(batch([(0, START, 1.0)])).await.unwrap();
        let mut again = batch([(0, START + 1, 2.0)]);
        again.series[0] = BatchSeries {
            key: SeriesKey(99),
            ..again.series[0].clone()
        };
        db.append(again).await.unwrap();
        assert_eq!(read(&*db, vec![])[&labels(0)].len(), 2);
        assert_eq!(db.status(10).head_stats.num_series, 1);
    }

    #[tokio::test]
    async fn whoever_registered_is_woken_when_a_matching_series_moves() {
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let db = open(&disk, &clock);
        db.append(batch([(0, START, 1.0)])).await.unwrap();
        let woken = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let heard = Arc::clone(&woken);
        let selectors = vec![(7, vec![Matcher::equal("n", "0")]), (8, vec![Matcher::equal("n", "1")])];
        db.register(
            selectors,
            Arc::new(move |tokens| heard.lock().extend_from_slice(tokens)),
        );
        db.append(batch([(0, START + 1, 1.0), (2, START, 1.0)])).await.unwrap();
        assert_eq!(*woken.lock(), [7]);
        db.append(batch([(1, START, 1.0)])).await.unwrap();
        db.append(batch([(1, START, 1.0)])).await.unwrap(); // A duplicate moves nothing.
        assert_eq!(*woken.lock(), [7, 8]);
    }

    #[tokio::test]
    async fn labels_and_cardinality_are_answered_from_the_index() {
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let db = open(&disk, &clock);
        db.append(batch((0..3).map(|n| (n, START, 1.0)))).await.unwrap();
        assert_eq!(db.label_names(&[], TimeRange::ALL).unwrap(), ["__name__", "job", "n"]);
        assert_eq!(db.label_values("n", &[], TimeRange::ALL).unwrap(), ["0", "1", "2"]);
        let one = [vec![Matcher::equal("n", "1")]];
        assert_eq!(db.label_values("n", &one, TimeRange::ALL).unwrap(), ["1"]);
        assert_eq!(db.series(&one, TimeRange::ALL).unwrap(), [labels(1)]);
        let never = TimeRange {
            min: Millis(0),
            max: Millis(1),
        };
        assert!(db.series(&[], never).unwrap().is_empty() && db.label_names(&[], never).unwrap().is_empty());
        let status = db.status(1);
        assert_eq!(
            (status.head_stats.num_series, status.head_stats.num_label_pairs),
            (3, 5)
        );
        assert_eq!(
            status.label_value_count_by_label_name,
            [crate::tsdb::Count {
                name: "n".to_owned(),
                value: 3
            }]
        );
        assert_eq!(status.series_count_by_label_value_pair[0].name, "__name__=m");
    }

    #[tokio::test]
    async fn a_second_owner_is_refused() {
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let _db = open(&disk, &clock);
        assert!(matches!(try_open(&disk, &clock), Err(OpenError::Locked(_))));
    }

    #[tokio::test]
    async fn a_full_disk_refuses_writes_answers_queries_and_ends_by_itself() {
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let config = DbConfig {
            reserve_bytes: Some(50_000),
            ..testing::config()
        };
        let random = Arc::new(crate::io::SeededRandom::new(1));
        let (db, _) = Db::open(config, Arc::new(disk.clone()), Arc::new(clock), random).unwrap();
        db.append(batch([(0, START, 1.0)])).await.unwrap();
        disk.set_total(40_000);
        let full = db.append(batch([(0, START + 1, 1.0)])).await;
        assert!(matches!(full, Err(AppendError::DiskFull(_))) && db.check().is_err());
        assert_eq!(read(&*db, vec![])[&labels(0)].len(), 1);
        disk.set_total(1 << 30);
        db.append(batch([(0, START + 1, 1.0)])).await.unwrap();
        assert_eq!(read(&*db, vec![])[&labels(0)].len(), 2);
    }

    #[tokio::test]
    async fn a_failed_sync_ends_writing_until_the_store_is_opened_again() {
        let clock = clock();
        let disk = SimDisk::seeded(1);
        let db = open(&disk, &clock);
        db.append(batch([(0, START, 1.0)])).await.unwrap();
        let disk = disk.clone().fail_at(disk.operations() + 1, std::io::ErrorKind::Other);
        for at in 1..5 {
            let result = db.append(batch([(0, START + at, 1.0)])).await;
            assert!(matches!(result, Err(AppendError::Closed(_))), "{result:?}");
        }
        assert_eq!(
            read(&*db, vec![])[&labels(0)].len(),
            1,
            "what is not durable is not visible"
        );
        drop(db);
        open(&disk, &clock).append(batch([(0, START + 9, 1.0)])).await.unwrap();
    }

    #[tokio::test]
    async fn a_flipped_bit_in_the_log_costs_its_record_and_never_gives_a_wrong_number() {
        let clock = clock();
        for byte in (64..1800).step_by(37) {
            let disk = SimDisk::seeded(1);
            let db = open(&disk, &clock);
            let mut model = Model::new();
            for step in 0..30i64 {
                db.append(batch((0..3).map(|n| (n, START + step, step as f64))))
                    .await
                    .unwrap();
                for n in 0..3 {
                    model
                        .entry(labels(n))
                        .or_default()
                        .insert(START + step, (step as f64).to_bits());
                }
            }
            drop(db);
            let first = disk.list(std::path::Path::new("/tsdb/wal")).unwrap().remove(0);
            let path = std::path::Path::new("/tsdb/wal").join(&first.name);
            disk.flip_bit(&path, byte, 2).unwrap();
            let (db, report) = try_open(&disk, &clock).unwrap();
            let found = read(&*db, vec![]);
            let lost = model != found;
            assert!(
                !lost || !report.damage.is_empty(),
                "byte {byte}: samples are gone in silence"
            );
            for (labels, samples) in &found {
                assert!(
                    samples
                        .iter()
                        .all(|sample| model[labels].get(sample.0) == Some(sample.1)),
                    "byte {byte}"
                );
            }
        }
    }

    /// Writes until the disk dies; returns what was acknowledged and what was under way then.
    async fn write_until_crash(disk: &SimDisk, clock: &SimClock) -> (Model, Model) {
        let (mut acknowledged, mut sent) = (Model::new(), Model::new());
        let Ok((db, _)) = try_open(disk, clock) else {
            return (acknowledged, sent);
        };
        for step in 0..24i64 {
            let series = (0..3).map(|n| n + (step as usize / 8) * 2);
            let samples: Vec<_> = series
                .map(|n| (n, START + (step ^ 1) * 100, step as f64 * 0.5))
                .collect();
            let put = |model: &mut Model| {
                for (n, at, value) in &samples {
                    model.entry(labels(*n)).or_default().insert(*at, value.to_bits());
                }
            };
            put(&mut sent);
            if db.append(batch(samples.iter().copied())).await.is_err() {
                break;
            }
            put(&mut acknowledged);
        }
        (acknowledged, sent)
    }

    fn assert_between(acknowledged: &Model, found: &Model, sent: &Model, context: &str) {
        for (labels, samples) in acknowledged {
            for (at, bits) in samples {
                let stored = found.get(labels).and_then(|samples| samples.get(at));
                assert_eq!(stored, Some(bits), "lost {labels} at {at}: {context}");
            }
        }
        for (labels, samples) in found {
            let known =
                |sample: (&i64, &u64)| sent.get(labels).and_then(|samples| samples.get(sample.0)) == Some(sample.1);
            assert!(samples.iter().all(known), "{labels} holds what nobody sent: {context}");
        }
    }

    #[tokio::test]
    async fn acknowledged_samples_survive_a_crash_at_every_disk_operation() {
        let clock = clock();
        for seed in 0..4 {
            for crash_at in 0.. {
                let disk = SimDisk::seeded(seed).crash_at(crash_at);
                let (acknowledged, sent) = write_until_crash(&disk, &clock).await;
                let context = format!("seed {seed}, crash at {crash_at}");
                let again = disk.after_crash();
                let db = open(&again, &clock);
                assert_between(&acknowledged, &read(&*db, vec![]), &sent, &context);
                db.append(batch([(0, START + 5000, 9.0)])).await.unwrap();
                drop(db);
                let found = read(&*open(&again, &clock), vec![]);
                assert!(found[&labels(0)].contains_key(&(START + 5000)), "{context}");
                if !disk.crashed() {
                    break; // The workload ran to its end: every crash point has been tried.
                }
            }
        }
    }

    const MINUTE: i64 = 60_000;

    /// Nine hours of samples every ten minutes, some of them late, with upkeep now and then and a restart in the middle;
    /// until the disk dies.
    async fn live_until_crash(disk: &SimDisk, clock: &SimClock) -> (Model, Model) {
        let (mut acknowledged, mut sent) = (Model::new(), Model::new());
        let mut opened = try_open(disk, clock).ok();
        for step in 0..54i64 {
            let Some((db, _)) = &opened else { break };
            let late = if step % 5 == 3 { -25 * MINUTE } else { 0 };
            let at = START - 9 * 60 * MINUTE + step * 10 * MINUTE + late;
            let samples: Vec<_> = (0..2)
                .map(|n| (n + step as usize / 30, at, step as f64 + 0.25))
                .collect();
            let put = |model: &mut Model| {
                for (n, at, value) in &samples {
                    model.entry(labels(*n)).or_default().insert(*at, value.to_bits());
                }
            };
            put(&mut sent);
            if db.append(batch(samples.iter().copied())).await.is_err() {
                break;
            }
            put(&mut acknowledged);
            if step % 9 == 8 {
                let _ = db.maintain(); // Failures are part of the test; nothing may be lost by them.
            }
            if step == 40 {
                drop(opened.take());
                opened = try_open(disk, clock).ok();
            }
        }
        (acknowledged, sent)
    }

    fn check_after(disk: &SimDisk, clock: &SimClock, acknowledged: &Model, sent: &Model, context: &str) {
        let after = disk.after_crash();
        let (db, report) = try_open(&after, clock).unwrap();
        let harmless = |text: &String| text.contains("torn") || text.contains("was taken in");
        assert!(report.damage.iter().all(harmless), "{context}: {:?}", report.damage);
        assert_between(acknowledged, &read(&*db, vec![]), sent, context);
        db.maintain().unwrap();
        db.maintain().unwrap();
        assert_between(acknowledged, &read(&*db, vec![]), sent, context);
        drop(db);
        assert_between(acknowledged, &read(&*open(&after, clock), vec![]), sent, context);
    }

    #[tokio::test]
    async fn a_crash_at_every_disk_operation_of_write_cut_compact_and_restart_loses_nothing() {
        let clock = clock();
        for seed in 0..2 {
            for crash_at in 0.. {
                let disk = SimDisk::seeded(seed).crash_at(crash_at);
                let (acknowledged, sent) = live_until_crash(&disk, &clock).await;
                check_after(
                    &disk,
                    &clock,
                    &acknowledged,
                    &sent,
                    &format!("seed {seed}, crash at {crash_at}"),
                );
                if !disk.crashed() {
                    assert!(crash_at > 100, "the workload has only {crash_at} disk operations");
                    break; // The workload ran to its end: every crash point has been tried.
                }
            }
        }
    }

    #[tokio::test]
    async fn a_failure_of_every_disk_operation_loses_nothing() {
        let clock = clock();
        for kind in [std::io::ErrorKind::Other, std::io::ErrorKind::StorageFull] {
            for fail_at in 0.. {
                let disk = SimDisk::seeded(5).fail_at(fail_at, kind);
                let (acknowledged, sent) = live_until_crash(&disk, &clock).await;
                check_after(&disk, &clock, &acknowledged, &sent, &format!("{kind} at {fail_at}"));
                if disk.operations() <= fail_at {
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_cut_moves_samples_into_blocks_trims_the_log_and_lets_idle_series_go() {
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let db = open(&disk, &clock);
        let mut model = Model::new();
        for step in 0..300i64 {
            let at = START - 300 * MINUTE + step * MINUTE;
            let idle = usize::from(step >= 30);
            db.append(batch((idle..4).map(|n| (n, at, step as f64)))).await.unwrap();
            (idle..4).for_each(|n| {
                model.entry(labels(n)).or_default().insert(at, (step as f64).to_bits());
            });
        }
        let log = || disk.list(std::path::Path::new("/tsdb/wal")).unwrap().len();
        let before = (db.status(1).head_stats, log());
        let query = db
            .select(&Select {
                matchers: vec![],
                range: TimeRange::ALL,
                hints: Default::default(),
            })
            .unwrap();
        assert!(db.maintain().unwrap().cut > 0);
        assert_eq!(
            db.status(1).head_stats.min_time,
            before.0.min_time,
            "a query still looks into the head"
        );
        drop(query);
        db.maintain().unwrap();
        let after = (db.status(1).head_stats, log());
        assert!(
            after.0.min_time > before.0.min_time && after.1 < before.1,
            "{before:?} became {after:?}"
        );
        assert_eq!((before.0.num_series, after.0.num_series), (4, 3));
        assert_eq!(read(&*db, vec![]), model);
        assert_eq!(db.label_values("n", &[], TimeRange::ALL).unwrap(), ["0", "1", "2", "3"]);
        drop(db);
        let (db, report) = try_open(&disk, &clock).unwrap();
        assert_eq!((report.damage.len(), report.series), (0, 3));
        assert_eq!(read(&*db, vec![]), model);
        let old = batch([(0, START - 299 * MINUTE + 1, 7.0)]);
        assert_eq!(
            db.append(old).await.unwrap().samples,
            1,
            "a series that left the head may come back"
        );
    }
}
