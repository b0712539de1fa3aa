//! The store against a model while its disk crashes or fails at every operation: nothing acknowledged is lost, nothing that
//! nobody sent turns up.

use std::path::{Path, PathBuf};

use super::testing::{Model, START, batch, labels, open, read, try_open};
use crate::io::SimClock;
use crate::io::disk::{Disk, SimDisk};
use crate::model::{Matcher, Millis, TimeRange};
use crate::storage::{Appender, Columns, Querier, Select, StorageError};

const CHUNKS: &str = "/tsdb/chunks";
const SNAPSHOT: &str = "/tsdb/head.snapshot";

fn clock() -> SimClock {
    SimClock::at(Millis(START))
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
        let known = |sample: (&i64, &u64)| sent.get(labels).and_then(|samples| samples.get(sample.0)) == Some(sample.1);
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

/// Nine hours of samples every ten minutes, some of them late, with upkeep now and then, a stop in order
/// and a restart without one; until the disk dies.
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
        if step == 20 || step == 40 {
            let last = opened.take();
            if let Some((db, _)) = last.filter(|_| step == 20) {
                db.close(); // In order: with a snapshot of the head. At 40 the process just ends.
            }
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

/// Fills a store with two hours of samples, so that most of them stand in files of chunks.
async fn filled(disk: &SimDisk, clock: &SimClock) -> (std::sync::Arc<super::Db>, Model) {
    let (db, mut model) = (open(disk, clock), Model::new());
    for step in 0..240i64 {
        let at = START - 2 * 60 * MINUTE + step * MINUTE / 2 + step % 3;
        let value = |n: usize| (step * 7 % 11) as f64 + n as f64;
        db.append(batch((0..4).map(|n| (n, at, value(n))))).await.unwrap();
        for n in 0..4 {
            model.entry(labels(n)).or_default().insert(at, value(n).to_bits());
        }
    }
    (db, model)
}

fn chunk_files(disk: &SimDisk) -> Vec<PathBuf> {
    let entries = disk.list(Path::new(CHUNKS)).unwrap();
    entries
        .into_iter()
        .map(|entry| Path::new(CHUNKS).join(entry.name))
        .collect()
}

#[tokio::test]
async fn after_a_stop_in_order_the_log_is_not_read_and_after_a_crash_it_is() {
    let (disk, clock) = (SimDisk::seeded(1), clock());
    let (db, mut model) = filled(&disk, &clock).await;
    let late = START - 60 * MINUTE + 17;
    db.append(batch([(1, late, 0.5)])).await.unwrap();
    model.entry(labels(1)).or_default().insert(late, 0.5f64.to_bits());
    db.close();
    drop(db);
    assert!(!chunk_files(&disk).is_empty());
    let disk = disk.after_crash();
    let (db, report) = try_open(&disk, &clock).unwrap();
    assert_eq!((report.snapshot, report.records, report.series), (true, 0, 4));
    assert!(disk.open_read(Path::new(SNAPSHOT)).is_err(), "a snapshot is used once");
    assert_eq!(read(&*db, vec![]), model);
    assert_eq!(read(&*db, vec![Matcher::equal("n", "3")]).len(), 1);
    let again = db
        .append(batch([(1, late, 0.5), (1, START + 1, 3.0), (9, START, 1.0)]))
        .await
        .unwrap();
    assert_eq!((again.samples, again.duplicates), (3, 1));
    model.entry(labels(1)).or_default().insert(START + 1, 3.0f64.to_bits());
    model.entry(labels(9)).or_default().insert(START, 1.0f64.to_bits());
    assert_eq!(read(&*db, vec![]), model);
    drop(db);
    let (db, report) = try_open(&disk, &clock).unwrap();
    assert!(
        !report.snapshot && report.records > 0 && report.damage.is_empty(),
        "{report:?}"
    );
    assert_eq!(read(&*db, vec![]), model);
}

#[tokio::test]
async fn a_snapshot_that_is_not_whole_is_no_snapshot() {
    let clock = clock();
    let disk = SimDisk::seeded(1);
    let (db, model) = filled(&disk, &clock).await;
    db.close();
    drop(db);
    let len = disk.open_read(Path::new(SNAPSHOT)).unwrap().len().unwrap();
    for offset in (0..len).step_by(41) {
        let disk = disk.after_crash();
        disk.flip_bit(Path::new(SNAPSHOT), offset, (offset % 8) as u8).unwrap();
        let (db, report) = try_open(&disk, &clock).unwrap();
        assert!(!report.snapshot && read(&*db, vec![]) == model, "byte {offset}");
    }
    for file in chunk_files(&disk) {
        let disk = disk.after_crash();
        disk.remove_file(&file).unwrap();
        let (db, report) = try_open(&disk, &clock).unwrap();
        assert!(
            !report.snapshot && read(&*db, vec![]) == model,
            "without {}",
            file.display()
        );
    }
    let log = Path::new("/tsdb/wal");
    let newest = disk
        .list(log)
        .unwrap()
        .into_iter()
        .rfind(|entry| entry.name.ends_with(".log"));
    disk.remove_file(&log.join(newest.unwrap().name)).unwrap();
    assert!(
        !try_open(&disk, &clock).unwrap().1.snapshot,
        "the log must reach up to it"
    );
}

#[tokio::test]
async fn a_corrupt_chunk_is_an_error_that_names_it_and_a_restart_heals_it() {
    let (disk, clock) = (SimDisk::seeded(1), clock());
    let (db, model) = filled(&disk, &clock).await;
    let file = chunk_files(&disk).remove(0);
    // The last byte of the first page: the end of one series' chunk.
    let page = disk.map(&file).unwrap().slice(64..80);
    let used = u32::from_le_bytes(page[8..12].try_into().unwrap());
    disk.flip_bit(&file, 64 + u64::from(used) - 1, 1).unwrap();
    let select = Select {
        matchers: vec![],
        range: TimeRange::ALL,
        hints: Default::default(),
    };
    let series = db.select(&select).unwrap().series;
    let errors: Vec<StorageError> = series
        .iter()
        .filter_map(|series| series.columns(TimeRange::ALL, &mut Columns::default()).err())
        .collect();
    assert!(!errors.is_empty() && errors.len() < series.len(), "{errors:?}");
    let name = file.display().to_string();
    assert!(
        errors.iter().all(|error| error.to_string().contains(&name)),
        "{errors:?}"
    );
    drop(series);
    db.close();
    drop(db);
    let (db, report) = try_open(&disk, &clock).unwrap();
    assert!(!report.snapshot, "a damaged head makes no snapshot");
    assert_eq!(read(&*db, vec![]), model);
}
