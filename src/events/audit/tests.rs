//! Recalculation, reconciliation and erasure over a real store on a simulated disk.

use std::path::Path;
use std::sync::Arc;

use super::super::{
    Checked, Counting, Domain, EventsConfig, EventsParts, Field, Micros, ParquetStore, PersonHash, Question, Reason,
    checker, testing,
};
use super::*;
use crate::io::disk::SimDisk;
use crate::io::{DirStore, ObjectStore, SimClock};
use crate::model::Interval;

const START: i64 = 489_944 * HOUR;
const NOW: Millis = Millis(START + 5 * HOUR);
const DIR: &str = "/data/events";

fn open(disk: &SimDisk) -> Arc<Events> {
    let disk: Arc<dyn crate::io::disk::Disk> = Arc::new(disk.clone());
    let objects: Arc<dyn ObjectStore> = Arc::new(DirStore::open(Arc::clone(&disk), Path::new(DIR)).unwrap());
    let parts = EventsParts {
        config: EventsConfig::default(),
        dir: DIR.into(),
        disk,
        objects: Arc::clone(&objects),
        clock: Arc::new(SimClock::at(NOW)),
        log: crate::io::log::SegmentOptions::default(),
        raw: Some(Arc::new(ParquetStore::new(objects, u64::MAX))),
    };
    Events::open(parts).unwrap().0
}

/// Clicks of ten people on three ads over two hours; every fifth by an agent of a suspicious name.
async fn fill(events: &Events) {
    let clicks = (0..600).map(|n: i64| {
        let (id, ad) = (format!("e{n}"), format!("ad-{}", n % 3));
        let agent = if n % 5 == 0 { "ShadyBot/1" } else { "Mozilla/5.0" };
        let texts = [
            (Field::EventId, id.as_str()),
            (Field::AdId, ad.as_str()),
            (Field::UserAgent, agent),
        ];
        let mut click = testing::event(super::super::Kind::Click, START + n * 12_000, &texts);
        click.price = Micros(250_000);
        click.user = Some(PersonHash(u128::try_from(n % 10 + 1).unwrap()));
        click
    });
    let batch = Checked {
        events: clicks.collect(),
        rejected: Vec::new(),
    };
    assert_eq!(events.collect(batch, None).await.unwrap().accepted, 600);
}

fn net(events: &Events) -> (i64, i64) {
    let question = Question {
        domain: Domain::Ads,
        from: Millis(START),
        to: Millis(START + 2 * HOUR),
        fields: Vec::new(),
        users: Vec::new(),
        ips: Vec::new(),
    };
    let (counts, _) = events.totals(&question).unwrap();
    (
        counts.get(super::super::CellMetric::NetClicks),
        counts.get(super::super::CellMetric::NetSpend),
    )
}

fn agrees(events: &Events) {
    let found = reconcile(events, Millis(START), Millis(START + 2 * HOUR), NOW).unwrap();
    assert!(found.agrees && found.rows == 600, "{found:?}");
}

fn asked(apply: bool) -> Request {
    Request {
        from: Millis(START),
        to: Millis(START + 2 * HOUR),
        apply,
    }
}

#[tokio::test]
async fn a_recalculation_is_shown_applied_and_taken_back_and_survives_restarts() {
    let disk = SimDisk::seeded(1);
    let events = open(&disk);
    fill(&events).await;
    agrees(&events);
    let stricter = checker::tests::checker("bots: {agents: ['^ShadyBot']}");
    let shown = recalculate(&events, &stricter, asked(false), NOW).unwrap();
    assert_eq!((shown.events, shown.changed, shown.net), (600, 120, -120));
    assert!((shown.spend + 30.0).abs() < 1e-9 && !shown.applied, "{shown:?}");
    assert_eq!(
        (shown.difference[0].before.as_str(), shown.difference[0].after.as_str()),
        ("", "crawler")
    );
    assert_eq!(net(&events), (600, 150_000_000), "it was only shown");
    let applied = recalculate(&events, &stricter, asked(true), NOW).unwrap();
    assert!(applied.applied);
    assert_eq!(net(&events), (480, 120_000_000));
    agrees(&events);
    events.close();
    drop(events);

    let events = open(&disk);
    assert_eq!(net(&events), (480, 120_000_000));
    let again = recalculate(&events, &stricter, asked(true), NOW).unwrap();
    assert_eq!((again.changed, again.applied), (0, false), "nothing is left to change");
    let back = roll_back(&events, &applied.id, NOW).unwrap();
    assert_eq!(back.changed, 120);
    assert_eq!(net(&events), (600, 150_000_000));
    agrees(&events);
    events.close();
}

#[tokio::test]
async fn a_person_is_forgotten_and_no_count_is_lost() {
    let disk = SimDisk::seeded(2);
    let events = open(&disk);
    let checker = checker::tests::checker("{}");
    let user = checker.keys().user("ann", Millis(START)).unwrap();
    fill(&events).await;
    let mut own = testing::click("ann-1", "ad-1", START + 5);
    own.user = Some(user);
    own.texts = own.texts.with(Field::UserAgent, "Mozilla/5.0").unwrap();
    let batch = Checked {
        events: vec![own],
        rejected: Vec::new(),
    };
    events.collect(batch, None).await.unwrap();
    let ann = Person {
        user_id: Some("ann".to_owned()),
        ip: None,
        from: None,
        to: None,
    };
    let exported = export(&events, checker.keys(), &ann).unwrap();
    assert_eq!((exported.len(), exported[0]["ua"].as_str()), (1, Some("Mozilla/5.0")));
    let receipt = erase(&events, checker.keys(), &ann, NOW).unwrap();
    assert_eq!((receipt.rows, receipt.finished), (1, Some(NOW)));
    assert!(export(&events, checker.keys(), &ann).unwrap().is_empty());
    assert_eq!(receipts(&events), [receipt]);
    let found = reconcile(&events, Millis(START), Millis(START + HOUR), NOW).unwrap();
    assert!(found.agrees, "{found:?}");
    let nobody = Person { user_id: None, ..ann };
    assert!(matches!(
        erase(&events, checker.keys(), &nobody, NOW),
        Err(AuditError::Asked(_))
    ));
    events.close();
}

#[tokio::test]
async fn a_difference_is_found_and_named() {
    let events = open(&SimDisk::seeded(3));
    fill(&events).await;
    events.save().unwrap();
    let files = events.raw_files(Millis(START), Millis(START + HOUR));
    let mut all = read_slice(&events, &files, (Millis(START), Millis(START + HOUR))).unwrap();
    all[0].reasons = Reason::Repeat.into();
    let changed = raw(&events).unwrap().write(START / HOUR, 0..1, &all).unwrap();
    let old: Vec<String> = files.into_iter().map(|file| file.name).collect();
    assert!(events.replace_raw(&old, vec![changed]).unwrap());
    let found = reconcile(&events, Millis(START), Millis(START + 2 * HOUR), NOW).unwrap();
    assert!(!found.agrees);
    let gap = &found.gaps[0];
    assert_eq!((gap.metric.as_str(), gap.counted, gap.raw), ("net_clicks", 300, 299));
    assert!(found.gaps.iter().any(|gap| gap.ad_id == "ad-0"), "{:?}", found.gaps);
    events.close();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let events = open(&SimDisk::seeded(4));
    let checker = checker::tests::checker("{}");
    let half = Request {
        from: Millis(START + 1),
        ..asked(false)
    };
    assert!(matches!(
        recalculate(&events, &checker, half, NOW),
        Err(AuditError::Asked(_))
    ));
    let old = Request {
        from: Millis(START - 60 * 24 * HOUR),
        ..asked(false)
    };
    assert!(matches!(
        recalculate(&events, &checker, old, NOW),
        Err(AuditError::Asked(_))
    ));
    let end = NOW.saturating_add(Interval::hours(2));
    assert!(matches!(
        reconcile(&events, Millis(START), end, NOW),
        Err(AuditError::Asked(_))
    ));
    assert!(matches!(roll_back(&events, "none", NOW), Err(AuditError::Asked(_))));
    events.close();
}

#[tokio::test]
async fn the_mirror_gets_everything_though_it_often_fails() {
    use super::super::{Mirror, MirrorConfig};
    use crate::io::http_client::{HttpClient, HttpError, HttpRequest, HttpResponse};
    use crate::io::{BoxFuture, SystemClock};

    /// Refuses every third request.
    #[derive(Default)]
    struct Often(parking_lot::Mutex<(u32, std::collections::BTreeSet<String>)>);

    impl HttpClient for Often {
        fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
            let mut seen = self.0.lock();
            seen.0 += 1;
            let status = if seen.0.is_multiple_of(3) { 503 } else { 204 };
            if status == 204 {
                let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
                let ids = body["events"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|event| event["event_id"].to_string());
                seen.1.extend(ids);
            }
            let answer = HttpResponse {
                status,
                ..HttpResponse::default()
            };
            Box::pin(async move { Ok(answer) })
        }
    }

    let disk = SimDisk::seeded(5);
    let events = open(&disk);
    let config = MirrorConfig {
        url: "http://sink.example/".to_owned(),
        secret_file: None,
        batch: 50,
        timeout: Interval::secs(1),
    };
    let client = Arc::new(Often::default());
    let new = |events: &Arc<Events>| {
        Mirror::new(
            &config,
            Arc::clone(events),
            &disk,
            Arc::clone(&client) as _,
            SystemClock::new(),
        )
        .unwrap()
    };
    drop(new(&events)); // A server that ends before it has sent anything.
    fill(&events).await;
    let mut mirror = new(&events);
    for _ in 0..20 {
        let _ = mirror.step().await;
    }
    assert_eq!(client.0.lock().1.len(), 600);
    assert!(client.0.lock().0 < 30, "what was confirmed is not sent again");
    events.close();
}
