//! The whole store against an oracle that shares nothing with it: a map of ids to events. Batches with retries, duplicates,
//! late and early events, checkpoints, merges, raw files and restarts, with the disk dying at every single operation.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::{
    CellMetric, Checked, Counting, Domain, Event, Events, EventsConfig, EventsError, EventsParts, Field,
    IdempotencyKey, Kind, Opened, ParquetStore, PersonHash, Question, Reason, Step, testing,
};
use crate::io::disk::{Disk, SimDisk};
use crate::io::log::SegmentOptions;
use crate::io::{Clock, DirStore, ObjectStore, Random, SeededRandom, SimClock};
use crate::model::{Interval, Matcher, Millis, TimeRange};
use crate::storage::{Columns, Hints, Querier, Select};

const DIR: &str = "/events";
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// Noon of a day in 2026.
const START: i64 = 1_795_348_800_000;
const STEPS: i64 = 18;

fn open_with(disk: &SimDisk, clock: &SimClock, config: EventsConfig) -> Result<(Arc<Events>, Opened), EventsError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let objects: Arc<dyn ObjectStore> = Arc::new(DirStore::open(Arc::clone(&disk), Path::new(DIR))?);
    Events::open(EventsParts {
        config,
        dir: DIR.into(),
        disk,
        objects: Arc::clone(&objects),
        clock: Arc::new(clock.clone()),
        raw: Some(Arc::new(ParquetStore::new(objects, 1 << 30))),
        log: SegmentOptions {
            segment_bytes: 64 << 10,
            reserve_bytes: Some(0),
        },
    })
}

fn open(disk: &SimDisk, clock: &SimClock) -> Result<(Arc<Events>, Opened), EventsError> {
    open_with(disk, clock, EventsConfig::default())
}

fn clock() -> SimClock {
    SimClock::at(Millis(START))
}

/// What was sent, by id: the oracle.
#[derive(Default)]
struct Oracle {
    sent: BTreeMap<u128, Event>,
    acknowledged: BTreeSet<u128>,
}

/// What the store should say: clicks by ad and minute, of these events.
fn cells<'a>(events: impl Iterator<Item = &'a Event>) -> BTreeMap<(String, i64), i64> {
    let mut cells = BTreeMap::new();
    for event in events.filter(|event| event.kind == Kind::Click && event.reasons.0 & 0xffff == 0) {
        let minute = event.at.0 / MINUTE * MINUTE;
        *cells.entry((event.text(Field::AdId).to_owned(), minute)).or_insert(0) += 1;
    }
    cells
}

fn question(fields: &[(Field, &str)], from: i64, to: i64) -> Question {
    Question {
        domain: Domain::Ads,
        from: Millis(from),
        to: Millis(to),
        fields: fields
            .iter()
            .map(|(field, value)| (*field, (*value).to_owned()))
            .collect(),
        users: Vec::new(),
        ips: Vec::new(),
    }
}

const ADS: [&str; 4] = ["ad-0", "ad-1", "ad-2", "ad-3"];
const FROM: i64 = START - 48 * HOUR;
const TO: i64 = START + 48 * HOUR;

/// What the store says: by minutes, and the same by days with the rest of the range, which other files answer.
fn counted(events: &Events, context: &str) -> BTreeMap<(String, i64), i64> {
    let mut cells = BTreeMap::new();
    let mut sum = 0;
    for ad in ADS {
        let asked = question(&[(Field::AdId, ad)], START - 6 * HOUR, START + 6 * HOUR);
        let (minutes, _) = events
            .by_step(&asked, Step::Minutes(1), &jiff::tz::TimeZone::UTC)
            .unwrap();
        let minutes = minutes
            .into_iter()
            .map(|(at, counts)| (at.0, counts.get(CellMetric::NetClicks)));
        let by_minute: Vec<(i64, i64)> = minutes.filter(|(_, count)| *count != 0).collect();
        let by_minutes: i64 = by_minute.iter().map(|(_, count)| count).sum();
        let wide = question(&[(Field::AdId, ad)], FROM, TO);
        let (total, _) = events.totals(&wide).unwrap();
        assert_eq!(
            total.get(CellMetric::NetClicks),
            by_minutes,
            "grains differ for {ad}: {context}"
        );
        let (hours, _) = events
            .by_step(&wide, Step::Minutes(60), &jiff::tz::TimeZone::UTC)
            .unwrap();
        let by_hours: i64 = hours.iter().map(|(_, counts)| counts.get(CellMetric::NetClicks)).sum();
        assert_eq!(by_hours, by_minutes, "hours differ for {ad}: {context}");
        sum += by_minutes;
        cells.extend(by_minute.into_iter().map(|(at, count)| ((ad.to_owned(), at), count)));
    }
    let (top, _) = events
        .top(&question(&[], FROM, TO), Field::AdId, CellMetric::NetClicks, 10)
        .unwrap();
    assert_eq!(
        top.iter().map(|ad| ad.count).sum::<i64>(),
        sum,
        "top differs: {context}"
    );
    assert!(top.is_sorted_by_key(|ad| (-ad.count, ad.value.clone())), "{top:?}");
    cells
}

/// The events behind the counts, by id, each at most once.
fn kept(events: &Events, context: &str) -> BTreeMap<u128, Event> {
    let mut kept = BTreeMap::new();
    let mut see = |event: &Event| {
        let twice = kept.insert(event.id.0, event.clone()).is_some();
        assert!(!twice, "{} is kept twice: {context}", event.id);
    };
    events.scan(&question(&[], FROM, TO), &Field::ALL, &mut see).unwrap();
    kept
}

fn batch_of(events: &[Event]) -> Checked {
    Checked {
        events: events.to_vec(),
        rejected: Vec::new(),
    }
}

fn new_event(random: &SeededRandom, number: u64, now: i64) -> Event {
    // Mostly of this minute, some late, one or two hours old.
    let age = match random.below(10) {
        0 => random.below(3 * HOUR as u64) as i64,
        1..4 => random.below(4 * MINUTE as u64) as i64,
        _ => random.below(MINUTE as u64) as i64,
    };
    let ad = ADS[random.below(4) as usize];
    let mut event = testing::click(&format!("e{number}"), ad, now - age);
    event.user = Some(PersonHash(u128::from(random.below(50)) << 64));
    if random.below(8) == 0 {
        event.reasons = Reason::Crawler.into();
    }
    event
}

/// A life: until the disk dies, or to its end.
async fn live(seed: u64, disk: &SimDisk, clock: &SimClock) -> Oracle {
    let random = SeededRandom::new(seed);
    let mut oracle = Oracle::default();
    let mut events = open(disk, clock).ok();
    let mut number = 0;
    let mut last: Vec<Event> = Vec::new();
    for step in 0..STEPS {
        clock.advance(Interval::secs(20));
        let Some((store, _)) = &events else { break };
        let mut batch: Vec<Event> = (0..3 + random.below(4))
            .map(|_| {
                number += 1;
                new_event(&random, number, clock.now().0)
            })
            .collect();
        batch.extend(last.iter().take(random.below(3) as usize).cloned());
        batch.extend(batch.first().cloned());
        let old = oracle.sent.values().nth(random.below(40) as usize).cloned();
        batch.extend(old);
        oracle
            .sent
            .extend(batch.iter().map(|event| (event.id.0, event.clone())));
        let key = (step % 3 == 0).then(|| IdempotencyKey {
            sender: "test".to_owned(),
            key: step.to_string(),
        });
        match store.collect(batch_of(&batch), key.clone()).await {
            Ok(answer) => {
                assert_eq!(answer.accepted + answer.duplicate, batch.len() as u64);
                oracle.acknowledged.extend(batch.iter().map(|event| event.id.0));
                if key.is_some() {
                    let again = store.collect(batch_of(&batch), key).await;
                    assert!(
                        again.is_err() || again.unwrap() == answer,
                        "a retry has its first answer"
                    );
                }
            }
            Err(_) if disk.crashed() => break,
            Err(_) => {}
        }
        last = batch;
        let _ = store.look_after(); // Failures are part of the test; nothing may be lost by them.
        if random.below(6) == 0 {
            if random.below(2) == 0 {
                store.close();
            }
            drop(events.take());
            events = open(disk, clock).ok();
        }
    }
    oracle
}

/// What must be true of the disk after a life.
async fn judge(oracle: &Oracle, disk: &SimDisk, clock: &SimClock, context: &str) {
    let (store, _) = open(disk, clock).unwrap_or_else(|error| panic!("cannot open: {error}: {context}"));
    let kept = kept(&store, context);
    for id in &oracle.acknowledged {
        assert!(kept.contains_key(id), "an acknowledged event was lost: {context}");
    }
    for (id, event) in &kept {
        assert_eq!(oracle.sent.get(id), Some(event), "an event that nobody sent: {context}");
    }
    assert_eq!(
        counted(&store, context),
        cells(kept.values()),
        "counts are not those of the events: {context}"
    );
    // Everything is sent once more: what was counted is duplicate, the rest is counted now.
    for batch in oracle.sent.values().cloned().collect::<Vec<_>>().chunks(7) {
        store.collect(batch_of(batch), None).await.unwrap();
    }
    assert_eq!(
        counted(&store, context),
        cells(oracle.sent.values()),
        "after retries: {context}"
    );
    store.save().unwrap();
    assert_eq!(
        counted(&store, context),
        cells(oracle.sent.values()),
        "after a checkpoint: {context}"
    );
    let status = store.status();
    assert_eq!(status.counted.accepted, oracle.sent.len() as u64, "{context}");
}

#[tokio::test]
async fn acknowledged_events_are_counted_once_after_a_crash_at_every_disk_operation() {
    for seed in 1..3 {
        for crash_at in 0.. {
            let clock = clock();
            let disk = SimDisk::seeded(seed).crash_at(crash_at);
            let oracle = live(seed, &disk, &clock).await;
            let context = format!("seed {seed}, crash at {crash_at}");
            judge(&oracle, &disk.after_crash(), &clock, &context).await;
            if !disk.crashed() {
                break; // The workload ran to its end: every crash point has been tried.
            }
        }
    }
}

#[tokio::test]
async fn a_disk_that_fails_once_or_is_full_for_a_moment_loses_nothing_that_was_acknowledged() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for fail_at in (0..500).step_by(3) {
            let clock = clock();
            let disk = SimDisk::seeded(5).fail_at(fail_at, kind);
            let oracle = live(5, &disk, &clock).await;
            let context = format!("{kind} at {fail_at}");
            judge(&oracle, &disk.after_crash(), &clock, &context).await;
        }
    }
}

#[tokio::test]
async fn people_and_any_window_are_the_same_from_memory_and_from_files() {
    let (clock, disk) = (clock(), SimDisk::seeded(1));
    let oracle = live(11, &disk, &clock).await;
    let (store, _) = open(&disk, &clock).unwrap();
    let ask = |store: &Events, from: i64, to: i64| {
        let asked = question(&[(Field::AdId, "ad-1")], from, to);
        let (count, exact, _, _) = store.uniques(&asked).unwrap();
        let (total, _) = store.totals(&asked).unwrap();
        let (top, _) = store
            .top(&question(&[], from, to), Field::AdId, CellMetric::GrossClicks, 2)
            .unwrap();
        (count, exact, total, top)
    };
    let windows = [
        (FROM, TO),
        (START, START + 3 * MINUTE),
        (START + 1234, START + 4 * MINUTE + 77),
    ];
    let answers = |store: &Events| windows.map(|(from, to)| ask(store, from, to));
    let fresh = answers(&store);
    for ((from, to), answer) in windows.into_iter().zip(&fresh) {
        let expected: Vec<&Event> = oracle
            .sent
            .values()
            .filter(|event| (from..to).contains(&event.at.0) && event.text(Field::AdId) == "ad-1")
            .collect();
        let net = expected.iter().filter(|event| event.is_net());
        let people: BTreeSet<_> = net.clone().map(|event| event.user).collect();
        assert_eq!((answer.0, answer.1), (people.len() as f64, true));
        assert_eq!(answer.2.get(CellMetric::NetClicks), net.count() as i64);
        assert_eq!(answer.2.get(CellMetric::GrossClicks), expected.len() as i64);
    }
    store.save().unwrap();
    assert_eq!(answers(&store), fresh, "from files");
    assert_eq!(answers(&store), fresh, "from the cache");
    store.close();
    let (again, opened) = open(&disk.after_crash(), &clock).unwrap();
    assert_eq!((answers(&again), opened.records), (fresh, 0), "after a restart");
}

fn series(store: &Events, matchers: &[(&str, &str)], from: i64, to: i64) -> Vec<(String, Vec<f64>)> {
    let select = Select {
        matchers: matchers
            .iter()
            .map(|(name, value)| Matcher::equal(*name, *value))
            .collect(),
        range: TimeRange {
            min: Millis(from),
            max: Millis(to),
        },
        hints: Hints::default(),
    };
    let found = store.select(&select).unwrap().series;
    let read = |series: &dyn crate::storage::Series| {
        let mut columns = Columns::default();
        series.columns(select.range, &mut columns).unwrap();
        (series.labels().value("ad_id").to_owned(), columns.values)
    };
    found.iter().map(|series| read(&**series)).collect()
}

#[tokio::test]
async fn a_late_event_corrects_its_minute_raises_its_version_and_changes_the_series() {
    let (clock, disk) = (clock(), SimDisk::seeded(1));
    let (store, _) = open(&disk, &clock).unwrap();
    let event = |id: &str, at: i64| testing::click(id, "ad-1", START + at);
    store
        .collect(batch_of(&[event("a", 0), event("b", 61_000)]), None)
        .await
        .unwrap();
    let name = [("__name__", "ads_net_clicks_1m")];
    assert!(
        series(&store, &name, START, START + 5 * MINUTE).is_empty(),
        "no minute is closed yet"
    );
    clock.advance(Interval::mins(5));
    let shown = || series(&store, &name, START, START + 4 * MINUTE);
    assert_eq!(
        shown(),
        [("ad-1".to_owned(), vec![1.0, 1.0, 0.0])],
        "stamped with the minute's end"
    );
    let range = TimeRange {
        min: Millis(START),
        max: Millis(START + 4 * MINUTE),
    };
    let version = store.version(range);
    let late = store
        .collect(batch_of(&[event("late", 1000), event("a", 0)]), None)
        .await
        .unwrap();
    assert_eq!((late.accepted, late.duplicate), (1, 1));
    assert_eq!(shown(), [("ad-1".to_owned(), vec![2.0, 1.0, 0.0])]);
    assert_ne!(store.version(range), version);
    let asked = question(&[], START, START + 2 * MINUTE);
    let states = store
        .states(&asked, Step::Minutes(1), &jiff::tz::TimeZone::UTC)
        .unwrap();
    let states: Vec<(&str, i64)> = states
        .iter()
        .map(|(_, state, version)| (state.name(), *version))
        .collect();
    assert_eq!(states, [("closed", 2), ("closed", 1)]);
    store.mark_reconciled(Millis(START), Millis(START + MINUTE)).unwrap();
    let states = store
        .states(&asked, Step::Minutes(1), &jiff::tz::TimeZone::UTC)
        .unwrap();
    assert_eq!(states[0].1.name(), "reconciled");
    let named = [("__name__", "ads_net_clicks_1m"), ("ad_id", "ad-1")];
    let quiet = series(&store, &named, START + 3 * MINUTE, START + 4 * MINUTE);
    assert_eq!(quiet[0].1, [0.0], "a series that is named is 0 when nothing comes");
    assert!(
        series(
            &store,
            &[("__name__", "ads_net_clicks_1m"), ("ad_id", "ad-9")],
            START,
            TO
        )
        .is_empty()
    );
    store
        .correct(
            &mut [event("late", 1000)].into_iter(),
            &mut std::iter::empty(),
            (&[], vec![]),
            ("recalc", 1.into()),
        )
        .unwrap();
    assert_eq!(shown()[0].1, [1.0, 1.0, 0.0], "a correction takes it back");
    assert_eq!(store.note("recalc"), Some(1.into()));
}

#[tokio::test]
async fn retention_drops_each_grain_by_its_own_time_and_says_so() {
    let (clock, disk) = (clock(), SimDisk::seeded(1));
    let mut config = EventsConfig::default();
    config.retention.raw = Interval::hours(2);
    config.retention.minute = Interval::hours(2);
    config.dedup = Interval::hours(2);
    let (store, _) = open_with(&disk, &clock, config.clone()).unwrap();
    let click = testing::click("a", "ad-1", START + 1000);
    store
        .collect(batch_of(std::slice::from_ref(&click)), None)
        .await
        .unwrap();
    clock.advance(Interval::mins(3));
    store.look_after().unwrap();
    assert_eq!(store.raw_files(Millis(START), Millis(START + HOUR)).len(), 1);
    clock.advance(Interval::hours(28));
    store.look_after().unwrap();
    assert!(store.raw_files(Millis(START), Millis(START + HOUR)).is_empty());
    let hour = store.totals(&question(&[], START, START + HOUR)).unwrap().0;
    assert_eq!(hour.get(CellMetric::NetClicks), 1, "the hour is still there");
    let gone = store
        .totals(&question(&[], START, START + MINUTE))
        .unwrap_err()
        .to_string();
    assert!(gone.contains("gone by retention"), "{gone}");
    assert_eq!(
        store.status().files[1],
        0,
        "ids are forgotten when their events would be refused"
    );
}
