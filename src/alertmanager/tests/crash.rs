//! The process dies at every step: no page is lost, and only what was being sent may come twice.

use std::collections::BTreeSet;

use super::*;

/// A log that stops taking records at one append, as if the process had died there.
struct DyingLog {
    inner: Arc<MemLog>,
    /// How many appends still succeed; the next one is written, but nobody learns of it, when `torn` is set.
    left: parking_lot::Mutex<(usize, bool)>,
    dead: tokio::sync::watch::Sender<bool>,
}

impl Log for DyingLog {
    fn append(&self, record: bytes::Bytes, id: Option<RecordId>) -> BoxFuture<'_, Result<Appended, LogError>> {
        Box::pin(async move {
            let (write, die) = {
                let mut left = self.left.lock();
                let last = left.0 == 0;
                left.0 = left.0.saturating_sub(1);
                (!last || left.1, last)
            };
            let appended = if write {
                Some(self.inner.append(record, id).await)
            } else {
                None
            };
            if die {
                self.dead.send_replace(true);
                std::future::pending::<()>().await;
            }
            appended.expect("a record that does not die is written")
        })
    }

    fn read(&self, from: Position, visit: &mut dyn FnMut(LogItem) -> bool) -> Result<(), LogError> {
        self.inner.read(from, visit)
    }

    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }

    fn trim(&self, below: Position) -> Result<(), LogError> {
        self.inner.trim(below)
    }
}

/// What goes on before and after the crash: one alert fires, another comes and goes, a silence is made.
async fn busy_minutes(world: &World, manager: &AlertManager) {
    let a = alert("A", &[], START);
    let b = alert("B", &[], START);
    // Rules repeat what was not recorded, for as long as it holds: so does the script.
    let _ = manager.receive(vec![a, b.clone()], Origin::Rules).await;
    world.pass(Interval::secs(3)).await;
    let _ = manager
        .receive(vec![resolved(&b, START + Interval::secs(3))], Origin::Rules)
        .await;
    world.pass(Interval::secs(10)).await;
}

#[tokio::test]
async fn a_crash_at_any_append_loses_no_page_and_repeats_only_what_was_being_sent() {
    for torn in [false, true] {
        let mut crash_at = 0;
        loop {
            let inner = Arc::new(MemLog::new());
            let (dead, mut died) = tokio::sync::watch::channel(false);
            let dying = DyingLog {
                inner: Arc::clone(&inner),
                left: parking_lot::Mutex::new((crash_at, torn)),
                dead,
            };
            let mut world = World::with_log(Arc::new(dying));
            let manager = world.open(ONE);
            let (_stop, shutdown) = ShutdownHandle::new();
            let crashed = tokio::select! {
                biased;
                _ = died.wait_for(|dead| *dead) => true,
                () = manager.run(shutdown) => unreachable!("nobody asked it to stop"),
                () = busy_minutes(&world, &manager) => false,
            };
            drop(manager);
            let before = world.http.sent().len();
            world.log = inner;
            world
                .run(ONE, async |world, manager| {
                    let a = alert("A", &[], START);
                    manager
                        .receive(
                            vec![a.clone(), resolved(&alert("B", &[], START), START + Interval::secs(3))],
                            Origin::Rules,
                        )
                        .await
                        .unwrap();
                    manager.evaluated([a.fingerprint()].into()).await;
                    world.pass(Interval::secs(20)).await;
                })
                .await;
            let sent = world.http.sent();
            let what = format!("crash at append {crash_at}, torn {torn}");
            let mut bodies: Vec<(String, Vec<(String, String)>)> = Vec::new();
            for message in &sent {
                let body: Value = serde_json::from_slice(&message.request.body).unwrap();
                let id = message
                    .request
                    .headers
                    .iter()
                    .find(|(name, _)| name == "Idempotency-Key")
                    .unwrap()
                    .1
                    .clone();
                bodies.push((id, states(&body)));
            }
            let tells = |name: &str, state: &str| {
                let wanted = [(name.to_owned(), state.to_owned())];
                bodies
                    .iter()
                    .filter(|(_, told)| *told == wanted)
                    .map(|(id, _)| id)
                    .collect::<Vec<_>>()
            };
            let a = tells("A", "firing");
            assert!(!a.is_empty(), "{what}: A was never told");
            let distinct: BTreeSet<_> = a.iter().collect();
            assert_eq!(distinct.len(), 1, "{what}: A was told twice under different names");
            assert!(a.len() <= 2, "{what}: A was told {} times", a.len());
            if !tells("B", "firing").is_empty() {
                assert!(
                    !tells("B", "resolved").is_empty(),
                    "{what}: B was told, and never that it is over"
                );
            }
            assert!(
                sent.len() <= before + 3,
                "{what}: {} messages before, {} after",
                before,
                sent.len()
            );
            if !crashed {
                break;
            }
            crash_at += 1;
        }
        assert!(crash_at >= 4, "only {crash_at} crash points were found");
    }
}

#[tokio::test]
async fn a_snapshot_holds_everything_and_what_came_before_it_may_go() {
    let mut world = World::new();
    let wide = ONE.replace("group_by: [alertname]", "group_by: ['...']");
    world
        .run(&wide, async |world, manager| {
            for round in 0..8 {
                let alerts = (0..500).map(|n| {
                    let (n, round, pad) = (n.to_string(), round.to_string(), "x".repeat(500));
                    alert("A", &[("n", &n), ("round", &round), ("pad", &pad)], START)
                });
                manager.receive(alerts.collect(), Origin::Rules).await.unwrap();
            }
            world.pass(Interval::secs(15)).await;
            let needed = manager.log_needed_from();
            assert!(needed > Position(0), "no snapshot was written");
            world.log.trim(needed).unwrap();
        })
        .await;
    let told = world.http.sent().len();
    assert_eq!(told, 4_000);
    let manager = world.open(&wide);
    assert_eq!(manager.alerts().len(), 4_000);
    assert_eq!(manager.groups().len(), 4_000);
}

/// A log on a simulated disk. Once the disk has stopped, nobody learns anything any more: the process is gone.
struct DiskLog {
    disk: SimDisk,
    inner: crate::io::log::FileLog,
    dead: tokio::sync::watch::Sender<bool>,
}

impl DiskLog {
    fn open(disk: &SimDisk, dead: tokio::sync::watch::Sender<bool>) -> Result<DiskLog, LogError> {
        let options = crate::io::log::SegmentOptions {
            segment_bytes: 1 << 20,
            reserve_bytes: Some(0),
        };
        let (inner, _) = crate::io::log::FileLog::open(Arc::new(disk.clone()), "/alerts".as_ref(), options)?;
        let disk = disk.clone();
        Ok(DiskLog { disk, inner, dead })
    }
}

impl Log for DiskLog {
    fn append(&self, record: bytes::Bytes, id: Option<RecordId>) -> BoxFuture<'_, Result<Appended, LogError>> {
        Box::pin(async move {
            let mut appending = self.inner.append(record, id);
            // The committer has a thread of its own, which simulated time does not wait for: so we do.
            let appended = loop {
                if let Some(appended) = futures_util::FutureExt::now_or_never(&mut appending) {
                    break appended;
                }
                std::thread::yield_now();
            };
            if self.disk.crashed() {
                self.dead.send_replace(true);
                std::future::pending::<()>().await;
            }
            appended
        })
    }

    fn read(&self, from: Position, visit: &mut dyn FnMut(LogItem) -> bool) -> Result<(), LogError> {
        self.inner.read(from, visit)
    }

    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }

    fn trim(&self, below: Position) -> Result<(), LogError> {
        self.inner.trim(below)
    }
}

/// Runs `before` until the disk stops at its n-th operation, and `after` on what is left, for every n; `judge` looks at each.
async fn at_every_disk_operation(
    yaml: &str,
    before: impl AsyncFn(&World, &AlertManager),
    after: impl AsyncFn(&World, &AlertManager),
    judge: impl Fn(&World, &str),
) {
    for crash_at in 0.. {
        let disk = SimDisk::seeded(crash_at).crash_at(crash_at);
        let mut world = World::new();
        let (dead, mut died) = tokio::sync::watch::channel(false);
        if let Ok(log) = DiskLog::open(&disk, dead) {
            world.log = Arc::new(log);
            let manager = world.open(yaml);
            let (_stop, shutdown) = ShutdownHandle::new();
            tokio::select! {
                biased;
                _ = died.wait_for(|dead| *dead) => {}
                () = manager.run(shutdown) => unreachable!("nobody asked it to stop"),
                () = before(&world, &manager) => {}
            }
        }
        let whole = !disk.crashed();
        let (dead, _) = tokio::sync::watch::channel(false);
        world.log = Arc::new(MemLog::new());
        world.log = Arc::new(DiskLog::open(&disk.after_crash(), dead).unwrap());
        world.run(yaml, &after).await;
        judge(&world, &format!("crash at operation {crash_at}"));
        if whole {
            assert!(crash_at > 10, "only {crash_at} operations were found");
            break;
        }
    }
}

/// What arrived at the URL: the message's id, and its alerts with their states.
fn arrived(world: &World, url: &str) -> Vec<(String, Vec<(String, String)>)> {
    let sent = world.http.sent();
    let taken = sent
        .iter()
        .filter(|sent| sent.answered && sent.request.url.contains(url));
    taken
        .map(|sent| {
            let mut headers = sent.request.headers.iter();
            let id = headers.find(|(name, _)| name == "Idempotency-Key").unwrap().1.clone();
            let body: Value = serde_json::from_slice(&sent.request.body).unwrap();
            let alerts = body["alerts"].as_array().unwrap().iter().map(|alert| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (text(&alert["labels"]["n"]), text(&alert["status"]))
            });
            (id, alerts.collect())
        })
        .collect()
}

/// The ids under which an alert was told in a state.
fn ids_of<'a>(told: &'a [(String, Vec<(String, String)>)], n: &str, state: &str) -> BTreeSet<&'a str> {
    let wanted = (n.to_owned(), state.to_owned());
    let about = told.iter().filter(|(_, alerts)| alerts.contains(&wanted));
    about.map(|(id, _)| id.as_str()).collect()
}

fn refuse_for_long(world: &World, url: &str) {
    for _ in 0..1000 {
        world.http.script_status(url, 503);
    }
}

const GIVES_UP: &str = "global: {fallback: backup}\n\
    route: {receiver: page, group_by: [alertname], group_wait: 0s, group_interval: 5s}\n\
    receivers:\n\
    - {name: page, give_up_after: 8s, webhook_configs: [{url: 'http://hook/page'}]}\n\
    - {name: backup, webhook_configs: [{url: 'http://hook/backup'}]}\n";

#[tokio::test]
async fn a_crash_at_any_disk_operation_leaves_no_fallback_untold_of_an_alert_or_of_its_end() {
    let a = || alert("A", &[("n", "1")], START);
    at_every_disk_operation(
        GIVES_UP,
        async |world, manager| {
            refuse_for_long(world, "page");
            let _ = manager.receive(vec![a()], Origin::Rules).await;
            world.pass(Interval::secs(14)).await;
            let _ = manager
                .receive(vec![resolved(&a(), world.clock.now())], Origin::Rules)
                .await;
            world.pass(Interval::secs(8)).await;
        },
        async |world, manager| {
            refuse_for_long(world, "page");
            // What the rules would say: it may fire again and end, if nobody remembers that it did.
            let over = resolved(&a(), START + Interval::secs(14));
            let known = !manager.alerts().is_empty();
            if !known && world.clock.now() < START + Interval::secs(14) {
                manager.receive(vec![a()], Origin::Rules).await.unwrap();
            }
            manager.evaluated([a().fingerprint()].into()).await;
            world.pass(Interval::secs(14)).await;
            manager.receive(vec![over], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(60)).await;
        },
        |world, what| {
            let told = arrived(world, "backup");
            let (firing, over) = (ids_of(&told, "1", "firing"), ids_of(&told, "1", "resolved"));
            assert!(firing.len() <= 1, "{what}: told twice under different names: {told:?}");
            assert!(!over.is_empty(), "{what}: its end was never told: {told:?}");
            assert!(
                over.len() <= 1,
                "{what}: its end was told under different names: {told:?}"
            );
            assert!(told.len() <= 3, "{what}: {told:?}");
        },
    )
    .await;
}

const FLOOD: &str = "route: {receiver: page, group_by: ['...'], group_wait: 0s, group_interval: 1m}\n\
    receivers: [{name: page, rate: 6/m, burst: 2, webhook_configs: [{url: 'http://hook/page'}]}]\n";

#[tokio::test]
async fn a_crash_at_any_disk_operation_loses_nothing_of_a_digest_and_repeats_it_under_its_name() {
    let alerts = || {
        (0..8)
            .map(|n| alert("A", &[("n", &n.to_string())], START))
            .collect::<Vec<_>>()
    };
    let fingerprints = || alerts().iter().map(Alert::fingerprint).collect();
    at_every_disk_operation(
        FLOOD,
        async |world, manager| {
            let _ = manager.receive(alerts(), Origin::Rules).await;
            world.pass(Interval::secs(3)).await;
        },
        async |world, manager| {
            manager.receive(alerts(), Origin::Rules).await.unwrap();
            manager.evaluated(fingerprints()).await;
            world.pass(Interval::secs(50)).await;
        },
        |world, what| {
            let told = arrived(world, "page");
            for n in 0..8 {
                let ids = ids_of(&told, &n.to_string(), "firing");
                assert_eq!(ids.len(), 1, "{what}: alert {n} was told as {ids:?} in {told:?}");
            }
            assert!(told.len() <= 4, "{what}: {told:?}");
        },
    )
    .await;
}

const WATCHED: &str = "global: {dead_mans_switch: {url: 'http://outside/alive', interval: 1s, overdue: 6s}}\n\
    route: {receiver: page, group_by: [alertname], group_wait: 0s, group_interval: 5s}\n\
    receivers: [{name: page, webhook_configs: [{url: 'http://hook/page'}]}]\n";

#[tokio::test]
async fn a_crash_at_any_disk_operation_never_makes_the_dead_mans_switch_believe_that_pages_get_out() {
    let a = || alert("A", &[("n", "1")], START);
    at_every_disk_operation(
        WATCHED,
        async |world, manager| {
            refuse_for_long(world, "page");
            let _ = manager.receive(vec![a()], Origin::Rules).await;
            world.pass(Interval::secs(4)).await;
            let _ = manager
                .receive(vec![alert("B", &[("n", "2")], START)], Origin::Rules)
                .await;
            world.pass(Interval::secs(6)).await;
        },
        async |world, manager| {
            refuse_for_long(world, "page");
            manager.receive(vec![a()], Origin::Rules).await.unwrap();
            manager.evaluated([a().fingerprint()].into()).await;
            world.pass(Interval::secs(7)).await;
            let before = world.seconds_of("alive").len();
            world.pass(Interval::secs(10)).await;
            assert_eq!(world.seconds_of("alive").len(), before, "a page is overdue");
            world.http.forget_script("page");
            world.pass(Interval::mins(1)).await;
            assert!(world.seconds_of("alive").len() > before + 5, "pages get out again");
        },
        |world, what| {
            let told = arrived(world, "page");
            let ids = ids_of(&told, "1", "firing");
            assert_eq!(ids.len(), 1, "{what}: {ids:?}");
        },
    )
    .await;
}
