//! The manager on a simulated clock: alerts over time, restarts, reloads, and sinks that do not take.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{AlertSink, Deps, EngineOver, Health, Manager, RuleFileSource, RulesError, Settings};
use crate::io::log::MemLog;
use crate::io::{BoxFuture, Clock, Shutdown, ShutdownHandle, SimClock};
use crate::model::{Alert, Interval, Labels, Millis};
use crate::query::{Engine, QueryOptions};
use crate::storage::LiteralStore;

const START: Millis = Millis(1_700_000_000_000);

/// Takes alerts, or refuses them when told.
#[derive(Default)]
struct Sink {
    taken: Mutex<Vec<Alert>>,
    refuse: Mutex<bool>,
}

impl AlertSink for Sink {
    fn send(&self, alerts: Vec<Alert>) -> BoxFuture<'_, Result<(), String>> {
        let refused = *self.refuse.lock();
        if !refused {
            self.taken.lock().extend(alerts);
        }
        Box::pin(std::future::ready(if refused {
            Err("not now".to_owned())
        } else {
            Ok(())
        }))
    }
}

/// A server's worth of rules in memory: what survives a restart is the log, the store and the clock.
struct World {
    clock: SimClock,
    store: LiteralStore,
    log: Arc<MemLog>,
    sink: Arc<Sink>,
}

struct Running {
    manager: Arc<Manager>,
    handle: ShutdownHandle,
    task: tokio::task::JoinHandle<()>,
}

impl World {
    fn new() -> World {
        World {
            clock: SimClock::at(START),
            store: LiteralStore::new(),
            log: Arc::new(MemLog::new()),
            sink: Arc::default(),
        }
    }

    async fn start(&self, rules: &str) -> Running {
        self.start_with(rules, None).await
    }

    async fn start_with(&self, rules: &str, interest: Option<Arc<dyn crate::storage::Interest>>) -> Running {
        let deps = Deps {
            clock: Arc::new(self.clock.clone()),
            engine: Arc::new(EngineOver {
                engine: Engine,
                querier: Arc::new(self.store.clone()),
                options: QueryOptions::default(),
            }),
            appender: Arc::new(self.store.clone()),
            log: self.log.clone(),
            sink: self.sink.clone(),
            interest,
            settings: Settings {
                external_labels: Labels::from_pairs([("region", "eu")]),
                ..Settings::default()
            },
            seed: 1,
        };
        let manager = Manager::new(deps).unwrap();
        manager.load(vec![file(rules)]).await.unwrap();
        let (handle, shutdown): (ShutdownHandle, Shutdown) = ShutdownHandle::new();
        let running = Arc::clone(&manager);
        let task = tokio::spawn(async move { running.run(shutdown).await });
        Running { manager, handle, task }
    }

    /// Sets a series, fresh for as long as queries look back.
    fn set(&self, series: &str, value: f64) {
        let (labels, _) = crate::query::parse_series(series).unwrap();
        self.store.put(&labels, self.clock.now(), value);
    }

    fn sent(&self) -> Vec<String> {
        let now = self.clock.now();
        let shown = |alert: &Alert| {
            let state = if alert.is_resolved(now) { "resolved" } else { "firing" };
            format!("{} {state}", alert.labels.value("alertname"))
        };
        self.sink.taken.lock().iter().map(shown).collect()
    }
}

impl Running {
    /// Lets `length` pass, a second at a time; evaluations run on their own threads in between.
    async fn pass(&self, world: &World, length: Interval) {
        for _ in 0..length.0 / 1000 {
            world.clock.advance(Interval::secs(1));
            self.settle(world).await;
        }
    }

    /// Waits until every group that is due has been evaluated.
    async fn settle(&self, world: &World) {
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
            let now = world.clock.now();
            let due = self.manager.groups().iter().any(|group| {
                let age = group.last_evaluation.map_or(now - START, |at| now - at);
                age >= Interval(group.interval.0 + if group.last_evaluation.is_none() { 1000 } else { 0 })
            });
            if !due {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Ends it as `kill -9` does: nothing more is written.
    fn kill(self) {
        self.task.abort();
        drop(self.handle);
    }

    fn states(&self) -> Vec<String> {
        let mut states = Vec::new();
        for group in self.manager.groups() {
            for alert in group.rules.iter().filter_map(|rule| rule.alert.as_ref()) {
                let active = alert.active.iter();
                states.extend(
                    active.map(|alert| format!("{} {}", alert.labels.value("alertname"), alert.state.as_str())),
                );
            }
        }
        states
    }
}

fn file(text: &str) -> RuleFileSource {
    RuleFileSource {
        path: "x.yaml".to_owned(),
        text: text.to_owned(),
    }
}

const HOT: &str = "groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: Hot\n    expr: temp > 30\n    for: 5s\n    annotations: {v: '{{ $value }}'}\n";

#[tokio::test]
async fn an_alert_is_pending_fires_is_sent_once_and_resolves() {
    let world = World::new();
    let running = world.start(HOT).await;
    world.set("temp", 40.0);
    running.pass(&world, Interval::secs(4)).await;
    assert_eq!(running.states(), ["Hot pending"]);
    assert!(world.sent().is_empty(), "a pending alert was sent");
    running.pass(&world, Interval::secs(6)).await;
    assert_eq!(
        (running.states(), world.sent()),
        (vec!["Hot firing".to_owned()], vec!["Hot firing".to_owned()])
    );
    let alert = world.sink.taken.lock()[0].clone();
    assert_eq!(
        (alert.labels.value("region"), alert.annotations.value("v")),
        ("eu", "40")
    );
    world.set("temp", 20.0);
    running.pass(&world, Interval::secs(3)).await;
    assert_eq!(
        (running.states().len(), world.sent()),
        (0, vec!["Hot firing".to_owned(), "Hot resolved".to_owned()])
    );
    running.kill();
}

#[tokio::test]
async fn the_clock_of_a_pending_alert_survives_a_crash() {
    let world = World::new();
    let first = world.start(HOT).await;
    world.set("temp", 40.0);
    first.pass(&world, Interval::secs(3)).await;
    assert_eq!(first.states(), ["Hot pending"]);
    first.kill();
    let second = world.start(HOT).await;
    assert_eq!(second.states(), ["Hot pending"], "before the first evaluation");
    second.pass(&world, Interval::secs(4)).await;
    assert_eq!(
        (second.states(), world.sent()),
        (vec!["Hot firing".to_owned()], vec!["Hot firing".to_owned()])
    );
    second.kill();
}

#[tokio::test]
async fn what_the_sink_does_not_take_is_offered_until_it_does() {
    let world = World::new();
    *world.sink.refuse.lock() = true;
    let running = world.start(&HOT.replace("5s", "0s")).await;
    world.set("temp", 40.0);
    running.pass(&world, Interval::secs(3)).await;
    world.set("temp", 20.0);
    running.pass(&world, Interval::secs(3)).await;
    assert!(world.sent().is_empty());
    running.kill();
    // It ended while nobody listened, and the server died: the end is told all the same.
    *world.sink.refuse.lock() = false;
    let running = world.start(&HOT.replace("5s", "0s")).await;
    running.pass(&world, Interval::secs(3)).await;
    assert_eq!(world.sent(), ["Hot resolved"]);
    running.kill();
}

#[tokio::test]
async fn a_removed_rule_resolves_at_once_and_a_bad_file_changes_nothing() {
    let world = World::new();
    let rules = HOT.replace("5s", "0s");
    let running = world.start(&rules).await;
    world.set("temp", 40.0);
    running.pass(&world, Interval::secs(3)).await;
    let refused = running
        .manager
        .load(vec![file(&rules.replace("temp > 30", "temp >"))])
        .await;
    assert!(matches!(refused, Err(RulesError::Load(_))));
    assert_eq!(running.states(), ["Hot firing"]);
    let more = format!("{rules}  - alert: Warm\n    expr: temp > 25\n");
    running.manager.load(vec![file(&more)]).await.unwrap();
    assert_eq!(running.states(), ["Hot firing"], "state was lost over a reload");
    running
        .manager
        .load(vec![file(&more.replace("Hot", "Cold"))])
        .await
        .unwrap();
    assert_eq!(world.sent()[..2], ["Hot firing", "Hot resolved"]);
    running.kill();
}

#[tokio::test]
async fn a_limit_is_an_error_that_keeps_what_fires() {
    let world = World::new();
    let running = world
        .start("groups:\n- name: g\n  interval: 1s\n  limit: 1\n  rules:\n  - alert: A\n    expr: x > 0\n")
        .await;
    world.set("x{n=\"1\"}", 1.0);
    running.pass(&world, Interval::secs(3)).await;
    world.set("x{n=\"2\"}", 1.0);
    running.pass(&world, Interval::secs(3)).await;
    let group = &running.manager.groups()[0];
    assert_eq!(
        group.rules[0].health,
        Health::Err("exceeded limit of 1 with 2 alerts".to_owned())
    );
    assert_eq!(running.states(), ["A firing"]);
    running.kill();
}

#[tokio::test]
async fn a_wall_clock_that_is_set_does_not_fire_an_alert_early() {
    let world = World::new();
    let running = world.start(&HOT.replace("5s", "10m")).await;
    world.set("temp", 40.0);
    running.pass(&world, Interval::secs(3)).await;
    world.clock.jump_wall(world.clock.now() + Interval::hours(1));
    world.set("temp", 40.0);
    running.pass(&world, Interval::secs(3)).await;
    assert_eq!(running.states(), ["Hot pending"]);
    running.kill();
}

#[tokio::test]
async fn several_signals_join_on_their_shared_labels_and_recover_by_their_own_threshold() {
    let world = World::new();
    let rules = "groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: Drop\n    queries: {clicks: clicks, spend: spend, all: sum(clicks)}\n    \
        condition: clicks < 10 and spend > 0 and all > 1\n    recover: clicks > 20\n    annotations: {s: '{{ $values.spend }}'}\n";
    let running = world.start(rules).await;
    world.set("clicks{campaign=\"a\", node=\"1\"}", 5.0);
    world.set("clicks{campaign=\"b\", node=\"1\"}", 50.0);
    world.set("spend{campaign=\"a\"}", 3.0);
    world.set("spend{campaign=\"b\"}", 3.0);
    running.pass(&world, Interval::secs(3)).await;
    assert_eq!(running.states(), ["Drop firing"]);
    let alert = world.sink.taken.lock()[0].clone();
    assert_eq!(
        (alert.labels.value("campaign"), alert.annotations.value("s")),
        ("a", "3")
    );
    world.set("clicks{campaign=\"a\", node=\"1\"}", 15.0);
    running.pass(&world, Interval::secs(3)).await;
    assert_eq!(running.states(), ["Drop firing"], "above the threshold, below recovery");
    world.set("clicks{campaign=\"a\", node=\"1\"}", 25.0);
    running.pass(&world, Interval::secs(3)).await;
    assert!(running.states().is_empty());
    running.kill();
}

#[tokio::test]
async fn missing_data_means_what_the_rule_says() {
    for (no_data, expected) in [("ok", 0), ("keep", 1), ("alert", 1)] {
        let world = World::new();
        let rules = format!(
            "groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: A\n    expr: x > 0\n    no_data: {no_data}\n"
        );
        let running = world.start(&rules).await;
        world.set("x{n=\"1\"}", 1.0);
        running.pass(&world, Interval::secs(3)).await;
        assert_eq!(running.states(), ["A firing"], "{no_data}");
        world.set("x{n=\"1\"}", crate::model::stale_marker());
        running.pass(&world, Interval::secs(3)).await;
        assert_eq!(running.states().len(), expected, "{no_data}");
        running.kill();
    }
}

#[tokio::test]
async fn a_series_that_vanished_is_missed_after_a_restart_too() {
    let world = World::new();
    let rules = "groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: A\n    expr: x > 5\n    no_data: alert\n";
    let first = world.start(rules).await;
    world.set("x{n=\"1\"}", 1.0);
    world.set("x{n=\"2\"}", 1.0);
    first.pass(&world, Interval::secs(3)).await;
    assert!(first.states().is_empty());
    first.kill();
    world.set("x{n=\"1\"}", crate::model::stale_marker());
    let second = world.start(rules).await;
    second.pass(&world, Interval::secs(3)).await;
    assert_eq!(second.states(), ["A firing"]);
    assert_eq!(world.sink.taken.lock()[0].labels.value("n"), "1");
    second.kill();
}

/// Rules of every kind: recorded, held, recovering, judged by a detector, joined.
const OF_EVERY_KIND: &str = "groups:
- name: g
  rules:
  - {record: 'job:load:sum', expr: sum by (job) (load)}
  - {alert: High, expr: 'job:load:sum > 12', for: 30s, keep_firing_for: 1m, annotations: {summary: '{{ $value }}'}}
  - {alert: Odd, expr: load, anomaly: {model: mad, history: 1h, resolution: 1m, min_change: 3}, recover: value.score < 0.5}
  - alert: Both
    queries: {load: {expr: load, anomaly: {model: ewma, history: 2h, resolution: 1m}}, busy: {expr: busy, default: 1}}
    condition: load.score > 1 && busy > 0
    annotations: {summary: '{{ $values.load | printf \"%.1f\" }} instead of {{ $expected | printf \"%.1f\" }}'}
";

/// A load that wobbles, and jumps twice.
fn load(world: &World) {
    let (labels, _) = crate::query::parse_series("load{job=\"a\"}").unwrap();
    for second in (-7200..1200).step_by(15) {
        let wobble = f64::from((second / 15 * 7 % 5) as i16);
        let jump = if (300..420).contains(&second) || (700..715).contains(&second) {
            20.0
        } else {
            0.0
        };
        world
            .store
            .put(&labels, START + Interval::secs(second), 5.0 + wobble + jump);
    }
}

#[tokio::test]
async fn a_backtest_says_sample_for_sample_what_live_evaluation_did() {
    let world = World::new();
    load(&world);
    let past = world.store.deep_copy();
    let running = world.start(OF_EVERY_KIND).await;
    let mut last = None;
    let mut ticks = Vec::new();
    for _ in 0..1000 {
        running.pass(&world, Interval::secs(1)).await;
        let evaluated = running.manager.groups()[0].last_evaluation;
        if evaluated != last {
            ticks.extend(evaluated);
            last = evaluated;
        }
    }
    let live: Vec<(String, i64, f64)> = written(
        &world.store,
        &[
            "ALERTS",
            "ALERTS_FOR_STATE",
            "job:load:sum",
            "anomaly_score",
            "anomaly_upper",
        ],
    );
    assert!(
        live.iter()
            .any(|(series, ..)| series.contains("Odd") && series.contains("firing")),
        "nothing odd: {ticks:?}"
    );
    assert!(live.iter().any(|(series, ..)| series.contains("High")), "nothing high");
    let source = file(OF_EVERY_KIND);
    let groups = super::RuleFile::read(&source).unwrap().groups;
    let test = super::Backtest {
        groups: groups.into_iter().map(|group| (source.path.clone(), group)).collect(),
        querier: Arc::new(past),
        options: QueryOptions::default(),
        settings: Settings {
            external_labels: Labels::from_pairs([("region", "eu")]),
            ..Settings::default()
        },
        from: ticks[0],
        to: *ticks.last().unwrap(),
    };
    let tested = test.run().await.unwrap();
    assert_eq!(
        (tested.evaluations, tested.errors.len()),
        (ticks.len() as u64, 0),
        "{:?}",
        tested.errors
    );
    let beside = LiteralStore::new();
    for (labels, samples) in &tested.recorded {
        samples
            .iter()
            .for_each(|sample| beside.put(labels, sample.at, sample.value));
    }
    let tested_samples = written(
        &beside,
        &[
            "ALERTS",
            "ALERTS_FOR_STATE",
            "job:load:sum",
            "anomaly_score",
            "anomaly_upper",
        ],
    );
    assert_eq!(tested_samples, live);
    let handed: Vec<Alert> = tested.handed.into_iter().flat_map(|(_, alerts)| alerts).collect();
    assert_eq!(handed, *world.sink.taken.lock());
    running.kill();
}

/// Returns all samples of these metrics, stale markers as -1.
fn written(store: &LiteralStore, metrics: &[&str]) -> Vec<(String, i64, f64)> {
    use crate::storage::{Columns, Hints, Querier, Select};
    let mut found = Vec::new();
    for metric in metrics {
        let select = Select {
            matchers: vec![crate::model::Matcher::equal("__name__", *metric)],
            range: crate::model::TimeRange::ALL,
            hints: Hints::default(),
        };
        let mut columns = Columns::default();
        for series in store.select(&select).unwrap().series {
            series.columns(crate::model::TimeRange::ALL, &mut columns).unwrap();
            let samples = columns.times.iter().zip(&columns.values);
            let value = |value: &f64| if crate::model::is_stale(*value) { -1.0 } else { *value };
            found.extend(samples.map(|(at, sample)| (series.labels().to_string(), *at, value(sample))));
        }
    }
    found
}

#[tokio::test]
async fn a_detector_that_is_learning_is_shown_and_pages_nobody() {
    let world = World::new();
    let rules = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: load, anomaly: both, no_data: alert}\n";
    world.set("load{job=\"a\"}", 1e9);
    let running = world.start(rules).await;
    for _ in 0..4 {
        world.set("load{job=\"a\"}", 1e9);
        running.pass(&world, Interval::secs(15)).await;
    }
    let rule = &running.manager.rules_named("A")[0].1;
    let alert = rule.alert.as_ref().unwrap();
    assert_eq!(alert.learning, [Labels::from_pairs([("job", "a")])]);
    assert!(running.states().is_empty() && world.sent().is_empty());
    running.kill();
}

/// A store that tells at once.
struct Told(parking_lot::Mutex<Option<Arc<crate::storage::Wake>>>);

impl crate::storage::Interest for Told {
    fn register(&self, _: Vec<(u64, Vec<crate::model::Matcher>)>, wake: Arc<crate::storage::Wake>) {
        *self.0.lock() = Some(wake);
    }
}

#[tokio::test]
async fn a_sample_that_crosses_pages_within_milliseconds_unless_its_group_is_not_eager() {
    for (eager, expected) in [(true, vec!["A firing"]), (false, vec![])] {
        let world = World::new();
        let told = Arc::new(Told(parking_lot::Mutex::default()));
        let rules = format!(
            "groups:\n- name: g\n  interval: 1h\n  eager: {eager}\n  rules:\n  - {{alert: A, expr: up == 0}}\n"
        );
        let running = world.start_with(&rules, Some(told.clone())).await;
        running.pass(&world, Interval::secs(3)).await;
        assert!(world.sent().is_empty());
        world.set("up{job=\"a\"}", 0.0);
        let wake = told.0.lock().clone().unwrap();
        wake(&[0]);
        for _ in 0..20 {
            tokio::task::yield_now().await;
            world.clock.advance(Interval(1));
            for _ in 0..200 {
                tokio::task::yield_now().await;
                std::thread::yield_now();
            }
        }
        assert_eq!(world.sent(), expected, "eager: {eager}");
        assert_eq!(running.states().len(), expected.len());
        running.kill();
    }
}
