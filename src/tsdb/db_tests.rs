//! What the store promises: writes, restarts, queries, upkeep, on a simulated disk.

use std::sync::Arc;

use super::testing::{self, Model, START, batch, labels, open, read, try_open};
use super::{Db, DbConfig, OpenError};
use crate::io::SimClock;
use crate::io::disk::{Disk, SimDisk};
use crate::model::{
    BatchSeries, Exemplar, HistogramSample, Labels, Matcher, MetricKind, MetricMetadata, Millis, OwnedSeries, Sample,
    SeriesKey, TimeRange, WriteBatch,
};
use crate::storage::{AppendError, Appender, Interest, NewestBy, Querier, RefusalReason, Select};

const MINUTE: i64 = 60_000;

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

/// Labels of which some series lack one, so that groups and series come in different orders.
fn grouped(n: usize) -> Labels {
    let group = ["", "a", "b"][n % 3];
    Labels::from_pairs([("__name__", "m"), ("n", &n.to_string()), ("x", group)])
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
    #[test]
    fn newest_values_by_label_are_those_of_the_series(
        samples in proptest::collection::vec((0usize..12, 0i64..40, 0u8..6), 1..120),
        range in (0i64..45, 0i64..45),
        by in 0usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (disk, clock) = (SimDisk::seeded(1), clock());
        let db = open(&disk, &clock);
        for (n, step, value) in samples {
            let value = if value == 0 { crate::model::stale_marker() } else { f64::from(value) };
            let sample = Sample { at: Millis(START - 40_000 + step * 1000), value };
            let series = vec![OwnedSeries { labels: grouped(n), samples: vec![sample] }];
            runtime.block_on(db.append(WriteBatch::from_series(series, 1))).unwrap();
        }
        let select = Select {
            matchers: vec![],
            range: TimeRange { min: Millis(START - 40_000 + range.0 * 1000), max: Millis(START - 40_000 + range.1 * 1000) },
            hints: crate::storage::Hints::default(),
        };
        let names: &[&str] = [&[][..], &["x"], &["n", "x"], &["none", "x"]][by];
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let shown = |found: NewestBy| -> Vec<(String, u64)> {
            let labels = |group: u32| found.groups[group as usize].to_string();
            found.values.iter().map(|(group, value)| (labels(*group), value.to_bits())).collect()
        };
        let found = db.newest_by(&select, &names).unwrap().expect("no histogram, no block");
        let expected = NewestBy::of(&db.select(&select).unwrap().series, select.range, &names).unwrap().unwrap();
        proptest::prop_assert_eq!(shown(found), shown(expected));
    }
}
