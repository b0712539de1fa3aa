//! The whole store against a map of series to samples: written, cut, compacted, deleted from, aged and restarted in an order
//! that a seed decides, with the disk failing at every single operation.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::testing::{self, Model, START, batch, labels, read};
use super::{Db, DbConfig, RecoveryReport};
use crate::io::disk::{Disk, SimDisk};
use crate::io::{Clock, Random, SeededRandom, SimClock};
use crate::model::{Interval, Matcher, Millis, TimeRange};
use crate::storage::{Appender, Columns, Hints, Querier, Select};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// Samples older than this go, block by block.
const RETENTION: Interval = Interval(16 * HOUR);
/// Steps of a run: about a day.
const STEPS: i64 = 90;

fn open(disk: &SimDisk, clock: &SimClock) -> Option<(Arc<Db>, RecoveryReport)> {
    let config = DbConfig {
        retention: RETENTION,
        ..testing::config()
    };
    let random = Arc::new(SeededRandom::new(7));
    Db::open(config, Arc::new(disk.clone()), Arc::new(clock.clone()), random).ok()
}

/// What a store owes: each sample of `must` is there, and nothing that is not in `may`.
#[derive(Default)]
struct Owed {
    must: Model,
    may: Model,
    /// What a run did, for the message of a failure.
    done: BTreeMap<&'static str, u32>,
}

impl Owed {
    fn sent(&mut self, samples: &[(usize, i64, f64)]) {
        put(&mut self.may, samples);
    }

    fn acknowledged(&mut self, samples: &[(usize, i64, f64)]) {
        put(&mut self.must, samples);
    }

    /// A deletion was asked for: from now on it may have happened; when it was acknowledged, it has.
    fn delete(&mut self, series: usize, range: TimeRange, acknowledged: bool) {
        let forget = |model: &mut Model| {
            if let Some(samples) = model.get_mut(&labels(series)) {
                samples.retain(|at, _| !range.contains(Millis(*at)));
            }
        };
        forget(&mut self.must);
        if acknowledged {
            forget(&mut self.may);
        }
    }

    /// What is older than retention may be gone.
    fn age(&mut self, now: Millis) {
        let horizon = now.0 - RETENTION.0;
        self.must
            .values_mut()
            .for_each(|samples| samples.retain(|at, _| *at >= horizon));
    }

    fn check(&self, found: &Model, context: &str) {
        for (labels, samples) in &self.must {
            for (at, bits) in samples {
                let stored = found.get(labels).and_then(|samples| samples.get(at));
                assert_eq!(stored, Some(bits), "lost {labels} at {at}: {context}, {:?}", self.done);
            }
        }
        self.check_nothing_else(found, context);
    }

    fn check_nothing_else(&self, found: &Model, context: &str) {
        for (labels, samples) in found {
            for (at, bits) in samples {
                let known = self.may.get(labels).and_then(|samples| samples.get(at));
                assert_eq!(
                    Some(bits),
                    known,
                    "{labels} at {at} should not be there: {context}, {:?}",
                    self.done
                );
            }
        }
    }
}

fn put(model: &mut Model, samples: &[(usize, i64, f64)]) {
    for (n, at, value) in samples {
        model.entry(labels(*n)).or_default().insert(*at, value.to_bits());
    }
}

/// A life of a day, a quarter of an hour a step: until the disk dies, or to its end.
async fn live(seed: u64, disk: &SimDisk, clock: &SimClock) -> Owed {
    let random = SeededRandom::new(seed);
    let mut owed = Owed::default();
    let mut opened = open(disk, clock);
    for step in 0..STEPS {
        clock.advance(Interval(15 * MINUTE));
        owed.age(clock.now());
        let Some((db, _)) = &opened else { break };
        let late = if random.below(5) == 0 { -25 * MINUTE } else { 0 };
        let at = clock.now().0 - 2 * MINUTE + late;
        let churn = step as usize / 40;
        let samples: Vec<_> = (churn..churn + 2).map(|n| (n, at, step as f64 + 0.25)).collect();
        owed.sent(&samples);
        match db.append(batch(samples.iter().copied())).await {
            Ok(_) => owed.acknowledged(&samples),
            Err(_) if disk.crashed() => break,
            Err(_) => {}
        }
        match random.below(12) {
            0..3 => {
                // Failures are part of the test; nothing may be lost by them.
                let done = db.maintain().unwrap_or_default();
                *owed.done.entry("cut").or_default() += done.cut as u32;
                *owed.done.entry("compacted").or_default() += done.compacted as u32;
                *owed.done.entry("dropped").or_default() += done.dropped as u32;
            }
            3 => {
                let series = random.below(3) as usize;
                let from = clock.now().0 - random.below(10) as i64 * HOUR;
                let range = TimeRange {
                    min: Millis(from),
                    max: Millis(from + random.below(4) as i64 * HOUR),
                };
                let deleted = db.delete(vec![Matcher::equal("n", series.to_string())], range);
                owed.delete(series, range, deleted.is_ok());
                *owed.done.entry("deleted").or_default() += 1;
            }
            4 => {
                let last = opened.take();
                if let Some((db, _)) = last.filter(|_| step % 2 == 0) {
                    db.close(); // In order, with a snapshot of the head; else the process just ends.
                }
                opened = open(disk, clock);
                *owed.done.entry("restarted").or_default() += 1;
            }
            _ => {}
        }
    }
    owed
}

/// Opens what the machine finds after it stopped, and again after some upkeep.
fn check_after(disk: &SimDisk, clock: &SimClock, owed: &Owed, context: &str) {
    let after = disk.after_crash();
    for life in ["first", "second"] {
        let context = format!("{context}, {life} life");
        let (db, report) = open(&after, clock).expect("a sound disk opens");
        let harmless = |text: &String| text.contains("torn") || text.contains("was taken in");
        assert!(report.damage.iter().all(harmless), "{context}: {:?}", report.damage);
        owed.check(&read(&*db, vec![]), &context);
        while db.maintain().expect("a sound disk takes it").more {}
        owed.check(&read(&*db, vec![]), &context);
    }
}

fn clock() -> SimClock {
    SimClock::at(Millis(START))
}

#[tokio::test]
async fn a_crash_at_every_disk_operation_of_a_whole_life_loses_nothing_and_revives_nothing() {
    for seed in 0..3 {
        for crash_at in 0.. {
            let (disk, clock) = (SimDisk::seeded(seed).crash_at(crash_at), clock());
            let owed = live(seed, &disk, &clock).await;
            check_after(&disk, &clock, &owed, &format!("seed {seed}, crash at {crash_at}"));
            if !disk.crashed() {
                let done = |what| owed.done.get(what).copied().unwrap_or(0) > 0;
                let all = ["cut", "compacted", "dropped", "deleted", "restarted"];
                assert!(
                    all.into_iter().all(done),
                    "seed {seed} does not do all: {:?}",
                    owed.done
                );
                break; // The life ran to its end: every crash point has been tried.
            }
        }
    }
}

#[tokio::test]
async fn a_failure_of_every_disk_operation_of_a_whole_life_loses_nothing_and_revives_nothing() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for fail_at in 0.. {
            let (disk, clock) = (SimDisk::seeded(4).fail_at(fail_at, kind), clock());
            let owed = live(4, &disk, &clock).await;
            check_after(&disk, &clock, &owed, &format!("{kind} at {fail_at}"));
            if disk.operations() <= fail_at {
                break;
            }
        }
    }
}

/// All files of the store, with their lengths.
fn files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let dirs = ["/tsdb/wal", "/tsdb/blocks"].map(Path::new);
    let listed = dirs.iter().flat_map(|dir| {
        let entries = disk.list(dir).unwrap_or_default().into_iter();
        entries.map(|entry| (dir.join(&entry.name), entry.len))
    });
    listed.filter(|(_, len)| *len > 0).collect()
}

/// Reads what can be read; says whether anything was told to be wrong.
fn read_damaged(db: &Db) -> (Model, bool) {
    let select = Select {
        matchers: vec![],
        range: TimeRange::ALL,
        hints: Hints::default(),
    };
    let mut model = Model::new();
    let Ok(selection) = db.select(&select) else {
        return (model, true);
    };
    let mut told = !selection.warnings.is_empty();
    let mut columns = Columns::default();
    for series in selection.series {
        match series.columns(TimeRange::ALL, &mut columns) {
            Err(_) => told = true,
            Ok(()) => {
                let values = columns.values.iter().map(|value| value.to_bits());
                model.insert(series.labels(), columns.times.iter().copied().zip(values).collect());
            }
        }
    }
    (model, told)
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_told_and_never_makes_a_wrong_number() {
    let (disk, clock) = (SimDisk::seeded(5), clock());
    let owed = live(5, &disk, &clock).await;
    let disk = disk.after_crash(); // What was not durable is decided once.
    let files = files(&disk);
    let blocks = files
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|is| is == "block"))
        .count();
    assert!(blocks > 1 && files.len() > blocks + 2, "{files:?}");
    for (path, len) in files {
        for offset in (0..len).step_by(3) {
            let rotten = disk.after_crash();
            rotten.flip_bit(&path, offset, (offset % 8) as u8).unwrap();
            let context = format!("{} at {offset}", path.display());
            let (db, report) = open(&rotten, &clock).expect("damage is no reason not to open");
            let (found, told) = read_damaged(&db);
            owed.check_nothing_else(&found, &context);
            if !told && report.damage.is_empty() {
                owed.check(&found, &context);
            }
        }
    }
}

#[tokio::test]
async fn what_is_deleted_stays_so_in_head_and_blocks_and_may_be_sent_again() {
    let (disk, clock) = (SimDisk::seeded(1), clock());
    let (db, _) = open(&disk, &clock).unwrap();
    for step in 0..60i64 {
        clock.advance(Interval(5 * MINUTE));
        let samples = (0..2).map(|n| (n, clock.now().0, step as f64));
        db.append(batch(samples)).await.unwrap();
    }
    assert!(
        db.maintain().unwrap().cut > 0,
        "one part is in a block, the other in the head"
    );
    let now = clock.now().0;
    let range = TimeRange {
        min: Millis(START + 30 * MINUTE),
        max: Millis(now - 20 * MINUTE),
    };
    let version = db.version(range);
    let tombstone = db.delete(vec![Matcher::equal("n", "0")], range).unwrap();
    assert_ne!(db.version(range), version, "a cached answer is not used any more");
    let mut expected = read(&*db, vec![Matcher::equal("n", "0")]);
    let times: Vec<i64> = expected[&labels(0)].keys().copied().collect();
    assert_eq!(times.len(), 5 + 4, "{times:?}");
    assert!(times.iter().all(|at| !range.contains(Millis(*at))));
    assert_eq!(read(&*db, vec![Matcher::equal("n", "1")])[&labels(1)].len(), 60);
    // Late samples at a deleted time are new ones.
    let late = now - 40 * MINUTE;
    db.append(batch([(0, late, 77.0)])).await.unwrap();
    expected.get_mut(&labels(0)).unwrap().insert(late, 77f64.to_bits());
    for _ in 0..2 {
        assert_eq!(read(&*db, vec![Matcher::equal("n", "0")]), expected);
        while db.maintain().unwrap().more {}
    }
    assert!(
        db.blocks()
            .snapshot()
            .metas()
            .iter()
            .all(|meta| meta.tombstones >= tombstone.id),
        "compaction left them out for good"
    );
    drop(db);
    let (db, report) = open(&disk, &clock).unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
    assert_eq!(read(&*db, vec![Matcher::equal("n", "0")]), expected);
}

#[tokio::test]
async fn the_newest_sample_deleted_is_not_the_newest_any_more() {
    let (disk, clock) = (SimDisk::seeded(1), clock());
    let (db, _) = open(&disk, &clock).unwrap();
    for step in 0..3 {
        db.append(batch([(0, START + step * MINUTE, step as f64)]))
            .await
            .unwrap();
    }
    let newest = TimeRange {
        min: Millis(START + MINUTE + 1),
        max: Millis::MAX,
    };
    db.delete(vec![], newest).unwrap();
    let select = Select {
        matchers: vec![],
        range: TimeRange::ALL,
        hints: Hints::default(),
    };
    let found = db.select(&select).unwrap();
    let latest = found.series[0].latest(TimeRange::ALL).unwrap().unwrap();
    assert_eq!(latest.at(), Millis(START + MINUTE));
    db.append(batch([(0, START + 3 * MINUTE, 3.0)])).await.unwrap();
    let latest = found.series[0].latest(TimeRange::ALL).unwrap().unwrap();
    assert_eq!(latest.at(), Millis(START + 3 * MINUTE));
    assert_eq!(read(&*db, vec![])[&labels(0)].len(), 3);
}

#[tokio::test]
async fn a_deletion_waits_for_queries_that_began_before_a_cut() {
    let (disk, clock) = (SimDisk::seeded(1), clock());
    let (db, _) = open(&disk, &clock).unwrap();
    for step in 0..40 {
        clock.advance(Interval(10 * MINUTE));
        db.append(batch([(0, clock.now().0, step as f64)])).await.unwrap();
    }
    let select = Select {
        matchers: vec![],
        range: TimeRange::ALL,
        hints: Hints::default(),
    };
    let query = db.select(&select).unwrap();
    assert!(db.maintain().unwrap().cut > 0);
    let error = db.delete(vec![], TimeRange::ALL).unwrap_err().to_string();
    assert!(error.contains("try again"), "{error}");
    drop(query);
    db.delete(vec![], TimeRange::ALL).unwrap();
    assert!(read(&*db, vec![]).values().all(BTreeMap::is_empty));
}
