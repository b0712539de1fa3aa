//! Whole paths through the alert manager on a simulated clock, log and outbox: what people are told, and when.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::io::disk::{Disk, SimDisk};
use crate::io::http_client::HttpOutbox;
use crate::io::log::{Appended, Bounds, Log, LogError, LogItem, MemLog, Position, RecordId};
use crate::io::mailer::{MailError, MailOutbox};
use crate::io::{BoxFuture, Clock, SeededRandom, ShutdownHandle, SimClock};
use crate::model::{Alert, Interval, Labels, Millis};

const START: Millis = Millis(1_700_000_000_000);

/// A world to run a manager in; the log outlives the manager.
struct World {
    clock: SimClock,
    log: Arc<dyn Log>,
    http: Arc<HttpOutbox>,
    mailer: Arc<MailOutbox>,
    disk: Arc<SimDisk>,
    seed: u64,
}

impl World {
    fn new() -> World {
        World::with_log(Arc::new(MemLog::new()))
    }

    fn with_log(log: Arc<dyn Log>) -> World {
        let clock = SimClock::at(START);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        World {
            log,
            http: HttpOutbox::new(Arc::clone(&shared)),
            mailer: MailOutbox::new(shared),
            disk: Arc::new(SimDisk::seeded(1)),
            clock,
            seed: 1,
        }
    }

    fn open(&mut self, yaml: &str) -> AlertManager {
        self.seed += 1;
        let config = Config::parse(&*self.disk, "alertmanager.yml", yaml, "/conf".as_ref());
        let deps = Deps {
            clock: Arc::new(self.clock.clone()),
            log: Arc::clone(&self.log),
            disk: Arc::clone(&self.disk) as Arc<dyn Disk>,
            http: self.http.clone(),
            mailer: self.mailer.clone(),
            random: Arc::new(SeededRandom::new(self.seed)),
            external_url: "http://localhost:9490".to_owned(),
        };
        AlertManager::open(config.unwrap_or_else(|error| panic!("{error}")), deps).unwrap()
    }

    /// Runs `script` beside the manager's task, and stops the task when the script ends.
    async fn run(&mut self, yaml: &str, script: impl AsyncFnOnce(&World, &AlertManager)) {
        let manager = self.open(yaml);
        let (stop, shutdown) = ShutdownHandle::new();
        let clock = self.clock.clone();
        tokio::join!(manager.run(shutdown), async {
            script(self, &manager).await;
            stop.request();
            // What is being sent is given its grace, and the clock moves only when told to.
            for _ in 0..8 {
                settle().await;
                clock.advance(Interval::secs(1));
            }
        });
    }

    /// Lets time pass in small steps, so that every timer gets its turn.
    async fn pass(&self, time: Interval) {
        let step = Interval(100);
        for _ in 0..time.0 / step.0 {
            self.clock.advance(step);
            settle().await;
        }
    }

    /// Returns the bodies that arrived at the URL, in order.
    fn told(&self, url: &str) -> Vec<Value> {
        self.http
            .sent()
            .iter()
            .filter(|sent| sent.answered && sent.request.url.contains(url))
            .map(|sent| serde_json::from_slice(&sent.request.body).unwrap())
            .collect()
    }

    fn seconds_of(&self, url: &str) -> Vec<i64> {
        let sent = self.http.sent();
        sent.iter()
            .filter(|sent| sent.request.url.contains(url))
            .map(|sent| (sent.at - START).0 / 1000)
            .collect()
    }
}

/// Gives the manager's task enough turns to do all it can do now.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn alert(name: &str, labels: &[(&str, &str)], at: Millis) -> Alert {
    let pairs = labels.iter().copied().chain([("alertname", name)]);
    Alert {
        labels: Labels::from_pairs(pairs),
        annotations: Labels::from_pairs([("summary", format!("{name} happened"))]),
        starts_at: at,
        ends_at: None,
        generator_url: "http://localhost/graph".to_owned(),
    }
}

fn resolved(alert: &Alert, at: Millis) -> Alert {
    Alert {
        ends_at: Some(at),
        ..alert.clone()
    }
}

fn states(message: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alerts = message["alerts"].as_array().unwrap();
    alerts
        .iter()
        .map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["status"])))
        .collect()
}

const ONE: &str = "route: {receiver: page, group_by: [alertname], group_wait: 1s, group_interval: 5s, repeat_interval: 1m}\n\
    receivers: [{name: page, webhook_configs: [{url: 'http://hook/page'}]}]\n";

#[tokio::test]
async fn a_page_goes_out_after_the_wait_and_the_end_is_told_at_the_next_tick() {
    World::new()
        .run(ONE, async |world, manager| {
            let fire = alert("A", &[("x", "1")], START);
            manager.receive(vec![fire.clone()], Origin::Rules).await.unwrap();
            world.pass(Interval(900)).await;
            assert!(world.told("page").is_empty());
            world.pass(Interval(200)).await;
            let told = world.told("page");
            assert_eq!(told.len(), 1);
            let keys: Vec<&String> = told[0].as_object().unwrap().keys().collect();
            assert_eq!(
                keys,
                [
                    "receiver",
                    "status",
                    "alerts",
                    "notification_reason",
                    "groupLabels",
                    "commonLabels",
                    "commonAnnotations",
                    "externalURL",
                    "version",
                    "groupKey",
                    "truncatedAlerts"
                ]
            );
            assert_eq!(told[0]["groupKey"], r#"{}:{alertname="A"}"#);
            assert_eq!(told[0]["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
            assert_eq!(told[0]["alerts"][0]["startsAt"], "2023-11-14T22:13:20Z");
            world.pass(Interval::secs(2)).await;
            let over = resolved(&fire, world.clock.now());
            manager.receive(vec![over], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(30)).await;
            let told = world.told("page");
            assert_eq!(told.len(), 2);
            assert_eq!(
                (&told[1]["status"], &told[1]["notification_reason"]),
                (&"resolved".into(), &"all alerts resolved".into())
            );
            assert_eq!(world.seconds_of("page"), [1, 6]);
            assert!(manager.groups().is_empty() && manager.receipts().len() == 2);
        })
        .await;
}

#[tokio::test]
async fn the_same_is_repeated_after_the_repeat_interval() {
    World::new()
        .run(ONE, async |world, manager| {
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(130)).await;
            assert_eq!(world.seconds_of("page"), [1, 61, 121]);
        })
        .await;
}

const INHIBIT: &str = "route: {receiver: page, group_by: [alertname], group_wait: 0s, group_interval: 1s}\n\
    inhibit_rules: [{source_matchers: [severity=critical], target_matchers: [severity=warning], equal: [site]}]\n\
    receivers: [{name: page, webhook_configs: [{url: 'http://hook/page'}]}]\n";

#[tokio::test]
async fn an_inhibited_alert_of_the_same_batch_never_slips_out() {
    World::new()
        .run(INHIBIT, async |world, manager| {
            let target = alert("Target", &[("severity", "warning"), ("site", "a")], START);
            let source = alert("Source", &[("severity", "critical"), ("site", "a")], START);
            manager
                .receive(vec![target, source.clone()], Origin::Api)
                .await
                .unwrap();
            world.pass(Interval::secs(5)).await;
            assert_eq!(world.told("page").len(), 1);
            assert_eq!(
                states(&world.told("page")[0]),
                [("Source".to_owned(), "firing".to_owned())]
            );
            manager
                .receive(vec![resolved(&source, world.clock.now())], Origin::Api)
                .await
                .unwrap();
            world.pass(Interval::secs(3)).await;
            let names: Vec<String> = world
                .told("page")
                .iter()
                .map(|message| states(message)[0].0.clone())
                .collect();
            assert!(names.contains(&"Target".to_owned()), "{names:?}");
        })
        .await;
}

#[tokio::test]
async fn a_silenced_alert_pages_nobody_until_the_silence_ends() {
    World::new()
        .run(ONE, async |world, manager| {
            let silence = Silence {
                id: String::new(),
                matchers: vec![SilenceMatcher {
                    name: "alertname".to_owned(),
                    value: "A".to_owned(),
                    is_regex: false,
                    is_equal: true,
                }],
                starts_at: START,
                ends_at: START + Interval::mins(10),
                updated_at: START,
                created_by: "me".to_owned(),
                comment: "c".to_owned(),
                annotations: Default::default(),
                calendar: None,
            };
            let id = manager.set_silence(silence).await.unwrap();
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(20)).await;
            assert!(world.told("page").is_empty());
            manager.expire_silence(&id).await.unwrap();
            world.pass(Interval::secs(6)).await;
            assert_eq!(world.told("page").len(), 1);
        })
        .await;
}

const TWO: &str = "route: {receiver: page, group_wait: 0s, group_interval: 2s}\n\
    receivers: [{name: page, email_configs: [{to: a@b.c, from: x@y.z, smarthost: 'tarpit:25', require_tls: false}], \
    webhook_configs: [{url: 'http://hook/page'}]}]\n";

#[tokio::test]
async fn a_hanging_receiver_delays_nobody_else() {
    World::new()
        .run(TWO, async |world, manager| {
            world.mailer.hang("tarpit");
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(1)).await;
            manager
                .receive(vec![alert("B", &[], world.clock.now())], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(3)).await;
            assert_eq!(world.told("page").len(), 2);
        })
        .await;
}

#[tokio::test]
async fn what_fired_and_went_while_the_receiver_was_down_is_told_in_one_message() {
    World::new()
        .run(ONE, async |world, manager| {
            for _ in 0..30 {
                world.http.script_status("page", 503);
            }
            let fire = alert("A", &[], START);
            manager.receive(vec![fire.clone()], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(7)).await;
            manager
                .receive(vec![resolved(&fire, world.clock.now())], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::mins(5)).await;
            let arrived: Vec<Value> = world.told("page").split_off(30);
            assert_eq!(arrived.len(), 1);
            assert_eq!(states(&arrived[0]), [("A".to_owned(), "resolved".to_owned())]);
            let last = manager.receipts().pop().unwrap().1;
            assert_eq!(
                (last.answer.as_str(), last.attempts, last.resolved),
                ("HTTP 200", 31, 1)
            );
        })
        .await;
}

#[tokio::test]
async fn a_refusal_is_not_repeated_at_once_and_a_new_file_is_a_new_try() {
    World::new()
        .run(ONE, async |world, manager| {
            world.http.script_status("page", 403);
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(30)).await;
            assert_eq!(world.seconds_of("page"), [1]);
            let other = ONE.replace("hook/page", "hook/other");
            let config = Config::parse(&*world.disk, "alertmanager.yml", &other, "/".as_ref()).unwrap();
            manager.reload(config).await;
            world.pass(Interval::secs(1)).await;
            assert_eq!(world.seconds_of("other").len(), 1);
        })
        .await;
}

const MAIL: &str = "global: {smtp_smarthost: 'mail:25', smtp_from: 'Campanile <campanile@corp.example>', smtp_require_tls: false}\n\
    route: {receiver: mail, group_by: [alertname], group_wait: 0s, group_interval: 2s}\n\
    receivers: [{name: mail, email_configs: [{to: 'a@b.c, d@e.f', send_resolved: true, headers: {X-Team: '{{ .CommonLabels.team }}'}}]}]\n";

#[tokio::test]
async fn a_mail_is_threaded_retried_and_cannot_be_injected_into() {
    World::new()
        .run(MAIL, async |world, manager| {
            world.mailer.script(MailError::Transient("451 greylisted".to_owned()));
            let fire = alert("A", &[("team", "x\r\nBcc: evil@example.com")], START);
            manager.receive(vec![fire.clone()], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(2)).await;
            manager
                .receive(vec![resolved(&fire, world.clock.now())], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(5)).await;
            let sent = world.mailer.sent();
            assert_eq!(
                sent.iter().map(|mail| mail.taken).collect::<Vec<_>>(),
                [false, true, true]
            );
            let texts: Vec<String> = sent
                .iter()
                .map(|mail| String::from_utf8(mail.mail.message.clone()).unwrap())
                .collect();
            let header = |text: &str, name: &str| {
                let line = text.lines().find(|line| line.starts_with(&format!("{name}: ")));
                line.map(|line| line[name.len() + 2..].to_owned())
            };
            assert_eq!(header(&texts[0], "Message-Id"), header(&texts[1], "Message-Id"));
            assert_eq!(header(&texts[2], "References"), header(&texts[1], "Message-Id"));
            assert_eq!(header(&texts[1], "X-Team").unwrap(), "x  Bcc: evil@example.com");
            assert!(header(&texts[1], "Subject").unwrap().starts_with("[FIRING:1] A"));
            assert!(texts[1].contains("From: \"Campanile\" <campanile@corp.example>\r\n"));
            assert_eq!(sent[1].mail.to, ["a@b.c", "d@e.f"]);
            assert!(header(&texts[1], "Bcc").is_none());
        })
        .await;
}

#[tokio::test]
async fn after_a_restart_pages_wait_for_the_rules_first_word_and_lost_rules_resolve() {
    let mut world = World::new();
    world
        .run(ONE, async |world, manager| {
            let alerts = vec![alert("A", &[], START), alert("Gone", &[], START)];
            manager.receive(alerts, Origin::Rules).await.unwrap();
            world.pass(Interval::secs(2)).await;
            assert_eq!(world.told("page").len(), 2);
        })
        .await;
    world
        .run(ONE, async |world, manager| {
            let a = alert("A", &[], START);
            manager
                .receive(vec![a.clone(), alert("New", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(10)).await;
            assert_eq!(world.told("page").len(), 2, "held back until the rules have spoken");
            manager.evaluated([a.fingerprint()].into()).await;
            world.pass(Interval::secs(6)).await;
            let told: BTreeSet<(String, String)> = world.told("page")[2..].iter().flat_map(states).collect();
            let expected = [("Gone", "resolved"), ("New", "firing")].map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(told, expected.into());
        })
        .await;
}

#[test]
fn the_task_can_be_spawned() {
    fn is_send(_: impl Send) {}
    let (_stop, shutdown) = ShutdownHandle::new();
    is_send(World::new().open(ONE).run(shutdown));
}

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
async fn a_full_disk_does_not_silence_a_page_but_says_so() {
    let log = Arc::new(MemLog::new());
    World::with_log(log.clone())
        .run(ONE, async |world, manager| {
            log.refuse(Some(LogError::DiskFull("no room".to_owned())));
            let answer = manager.receive(vec![alert("A", &[], START)], Origin::Rules).await;
            assert!(matches!(answer, Err(Error::Log(_))));
            world.pass(Interval::secs(2)).await;
            assert_eq!(world.told("page").len(), 1);
        })
        .await;
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

fn golden(name: &str, found: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/alertmanager")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{name} (UPDATE_GOLDEN=1 rewrites it)");
}

#[test]
fn files_are_read_or_refused_as_recorded() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/alertmanager");
    let disk = SimDisk::seeded(1);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    assert!(files.len() > 10);
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let found = match Config::parse(&disk, &name, &text, "/conf".as_ref()) {
            Ok(config) => {
                assert!(!config.original.contains("hunter2"), "{name}: a secret is shown");
                format!("{:?}\n{}", config.summary(), config.original)
            }
            Err(ConfigError::Yaml(error)) => error.with_snippet() + "\n",
            Err(error) => format!("{error}\n"),
        };
        golden(&name.replace(".yml", ".txt"), &found);
    }
}

const PRESETS: &str = r#"
route: {receiver: all, group_by: [alertname], group_wait: 0s, group_interval: 1s}
receivers:
- name: all
  slack_configs: [{api_url: 'http://slack/x', channel: '#ops', send_resolved: true, text: '{{ range .Alerts }}{{ .Labels.instance }} {{ end }}', fields: [{title: '{{ .Status }}', value: v}]}]
  pagerduty_configs: [{routing_key: KEY, url: 'http://pagerduty/x', severity: '{{ .CommonLabels.severity }}', details: {n: '{{ len .Alerts }}'}}]
  opsgenie_configs: [{api_key: KEY, api_url: 'http://opsgenie', priority: P1, tags: 'a, b', responders: [{name: 'x,y', type: teams}]}]
  victorops_configs: [{api_key: KEY, api_url: 'http://victorops/', routing_key: team, custom_fields: {a: '{{ .Status }}'}}]
  telegram_configs: [{bot_token: KEY, api_url: 'http://telegram', chat_id: 42, message: '{{ len .Alerts }} alerts'}]
  discord_configs: [{webhook_url: 'http://discord/x'}]
  msteams_configs: [{webhook_url: 'http://msteams/x'}]
  msteamsv2_configs: [{webhook_url: 'http://msteams2/x'}]
  mattermost_configs: [{webhook_url: 'http://mattermost/x', channel: c}]
  pushover_configs: [{user_key: U, token: T, ttl: 1h}]
  webex_configs: [{room_id: r, api_url: 'http://webex/x', http_config: {authorization: {credentials: KEY}}}]
  rocketchat_configs: [{token: T, token_id: U, channel: c, api_url: 'http://rocket/'}]
  ntfy_configs: [{api_url: 'http://ntfy/', topic: t, token: T}]
  webhook_configs:
  - {url: 'http://hook/x', payload: {status: '{{ .Status }}', n: '{{ len .Alerts }}', list: ['{{ .GroupLabels.alertname }}'], alerts: '{{ .Alerts | toJson }}'}, hmac: {secret: S, previous_secret: P}}
"#;

#[tokio::test]
async fn presets_send_what_is_recorded() {
    World::new()
        .run(PRESETS, async |world, manager| {
            let a = alert("Boom", &[("instance", "a"), ("severity", "critical")], START);
            let b = alert("Boom", &[("instance", "b"), ("severity", "critical")], START);
            manager
                .receive(vec![a.clone(), b.clone()], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval(500)).await;
            let over = vec![resolved(&a, world.clock.now()), resolved(&b, world.clock.now())];
            manager.receive(over, Origin::Rules).await.unwrap();
            world.pass(Interval::secs(2)).await;
            let mut out = String::new();
            let mut sent = world.http.sent();
            sent.sort_by(|a, b| (a.at, &a.request.url).cmp(&(b.at, &b.request.url)));
            for message in sent {
                let request = message.request;
                out.push_str(&format!("{} {}\n", request.method, request.url));
                for (name, value) in request.headers.iter().filter(|(name, _)| name != "Idempotency-Key") {
                    out.push_str(&format!("{name}: {value}\n"));
                }
                let body = String::from_utf8(request.body.to_vec()).unwrap();
                let body = serde_json::from_str::<Value>(&body)
                    .map_or(body, |json| serde_json::to_string_pretty(&json).unwrap());
                out.push_str(&format!("\n{body}\n\n"));
            }
            golden("presets.txt", &out);
        })
        .await;
}

#[tokio::test]
async fn the_stock_mail_is_as_recorded() {
    World::new()
        .run(MAIL, async |world, manager| {
            let labels = [("instance", "host<script>1"), ("team", "growth")];
            manager
                .receive(vec![alert("Mail", &labels, START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval(500)).await;
            let mail = world.mailer.sent().remove(0).mail;
            let text = String::from_utf8(mail.message).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let encoded: String = body
                .split("\r\n\r\n")
                .nth(1)
                .unwrap()
                .split("\r\n--")
                .next()
                .unwrap()
                .replace("\r\n", "");
            let html = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
            let html = String::from_utf8(html).unwrap();
            assert!(!html.contains("<script>1"));
            golden("mail.txt", &format!("{}\n\n{html}", head.replace("\r\n", "\n")));
        })
        .await;
}

/// A router whose receiver is down leads to another one; times are short.
const FALLBACK: &str = "global: {fallback: backup}\n\
    route: {receiver: page, group_by: [alertname], group_wait: 0s, group_interval: 5s}\n\
    receivers:\n\
    - {name: page, give_up_after: 20s, webhook_configs: [{url: 'http://hook/page'}]}\n\
    - {name: backup, webhook_configs: [{url: 'http://hook/backup'}]}\n";

#[tokio::test]
async fn what_cannot_be_told_is_told_to_the_fallback_with_the_reason() {
    World::new()
        .run(FALLBACK, async |world, manager| {
            for _ in 0..100 {
                world.http.script_status("page", 503);
            }
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(15)).await;
            assert!(world.told("backup").is_empty());
            world.pass(Interval::secs(20)).await;
            let told = world.told("backup");
            assert_eq!(told.len(), 1);
            let reason = told[0]["notification_reason"].as_str().unwrap();
            assert!(
                reason.starts_with("fallback: page (webhook) could not be told since"),
                "{reason}"
            );
            let events: Vec<String> = manager.audit(0).into_iter().map(|entry| entry.event).collect();
            for event in ["firing", "decided", "given_up", "fallback", "delivered"] {
                assert!(events.iter().any(|known| known == event), "{event}: {events:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_refusal_for_good_goes_to_the_fallback_before_a_day_is_over() {
    World::new()
        .run(&FALLBACK.replace("give_up_after: 20s, ", ""), async |world, manager| {
            for _ in 0..3 {
                world.http.script_status("page", 403);
            }
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::mins(4)).await;
            assert_eq!(world.told("backup").len(), 1);
        })
        .await;
}

#[tokio::test]
async fn a_flood_comes_as_a_few_messages_and_one_digest_that_holds_everything() {
    let yaml = "route: {receiver: page, group_by: ['...'], group_wait: 0s, group_interval: 5m}\n\
        receivers: [{name: page, rate: 6/m, burst: 3, webhook_configs: [{url: 'http://hook/page'}]}]\n";
    World::new()
        .run(yaml, async |world, manager| {
            let alerts = (0..50).map(|n| alert("A", &[("n", &n.to_string())], START)).collect();
            manager.receive(alerts, Origin::Rules).await.unwrap();
            world.pass(Interval::secs(2)).await;
            let told = world.told("page");
            let mut counts: Vec<usize> = told.iter().map(|message| states(message).len()).collect();
            counts.sort_unstable();
            assert_eq!(counts, [1, 1, 48]);
            let digest = told.iter().find(|message| states(message).len() == 48).unwrap();
            assert_eq!(
                digest["notification_reason"],
                "digest of 48 notifications held back by the rate 6/1m"
            );
            let receipts = manager.receipts();
            assert_eq!(receipts.len(), 50);
            assert_eq!(
                receipts.iter().filter(|(_, receipt)| receipt.digest.is_some()).count(),
                48
            );
            world.pass(Interval::mins(2)).await;
            assert_eq!(world.told("page").len(), 3, "everything was told once");
        })
        .await;
}

#[tokio::test]
async fn an_alert_that_ends_while_it_is_silenced_is_told_to_whoever_asks_for_that() {
    for (asks, expected) in [(false, 1), (true, 2)] {
        let yaml = ONE.replace(
            "{name: page,",
            &format!("{{name: page, send_silenced_resolved: {asks},"),
        );
        World::new()
            .run(&yaml, async |world, manager| {
                let fire = alert("A", &[], START);
                manager.receive(vec![fire.clone()], Origin::Rules).await.unwrap();
                world.pass(Interval::secs(3)).await;
                let silence = Silence {
                    id: String::new(),
                    matchers: vec![SilenceMatcher {
                        name: "alertname".to_owned(),
                        value: "A".to_owned(),
                        is_regex: false,
                        is_equal: true,
                    }],
                    starts_at: START,
                    ends_at: START + Interval::hours(1),
                    updated_at: START,
                    created_by: "me".to_owned(),
                    comment: "c".to_owned(),
                    annotations: Default::default(),
                    calendar: None,
                };
                manager.set_silence(silence).await.unwrap();
                let over = resolved(&fire, world.clock.now());
                manager.receive(vec![over], Origin::Rules).await.unwrap();
                world.pass(Interval::secs(15)).await;
                assert_eq!(world.told("page").len(), expected, "asks: {asks}");
            })
            .await;
    }
}

#[tokio::test]
async fn an_urgent_alert_does_not_wait_for_its_groups_next_look() {
    let yaml = "route: {receiver: page, group_wait: 1s, group_interval: 5m, group_urgent: severity=critical}\n\
        receivers: [{name: page, webhook_configs: [{url: 'http://hook/page'}]}]\n";
    World::new()
        .run(yaml, async |world, manager| {
            manager
                .receive(vec![alert("A", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(5)).await;
            manager
                .receive(vec![alert("B", &[], world.clock.now())], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(5)).await;
            assert_eq!(world.told("page").len(), 1);
            let urgent = alert("C", &[("severity", "critical")], world.clock.now());
            manager.receive(vec![urgent.clone()], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(1)).await;
            assert_eq!(states(&world.told("page")[1]).len(), 3);
            manager.receive(vec![urgent], Origin::Rules).await.unwrap();
            world.pass(Interval::secs(30)).await;
            assert_eq!(world.told("page").len(), 2, "the same alert is urgent once");
        })
        .await;
}

#[tokio::test]
async fn the_dead_mans_switch_hears_of_us_while_pages_get_out() {
    let yaml = "global: {dead_mans_switch: {url: 'http://outside/alive', interval: 10s, overdue: 30s, watchdog: [alertname=Watchdog]}}\n\
        route: {receiver: page, group_wait: 0s, group_interval: 1m}\n\
        receivers: [{name: page, webhook_configs: [{url: 'http://hook/page'}]}]\n";
    let log = Arc::new(MemLog::new());
    World::with_log(log.clone())
        .run(yaml, async |world, manager| {
            let words = || world.seconds_of("alive").len();
            world.pass(Interval::secs(30)).await;
            assert_eq!(words(), 0, "the watchdog does not fire");
            manager
                .receive(vec![alert("Watchdog", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::secs(30)).await;
            let before = words();
            assert!((2..=4).contains(&before), "{before}");
            log.refuse(Some(LogError::DiskFull("no room".to_owned())));
            let _ = manager.receive(vec![alert("B", &[], START)], Origin::Rules).await;
            world.pass(Interval::secs(30)).await;
            assert_eq!(words(), before, "the log takes nothing");
            log.refuse(None);
            for _ in 0..200 {
                world.http.script_status("page", 503);
            }
            manager
                .receive(vec![alert("C", &[], START)], Origin::Rules)
                .await
                .unwrap();
            world.pass(Interval::mins(3)).await;
            let stuck = words();
            world.pass(Interval::secs(60)).await;
            assert_eq!(words(), stuck, "a message is overdue");
        })
        .await;
}

#[tokio::test]
async fn a_receiver_that_is_down_is_asked_by_one_message_at_a_time_and_health_says_so() {
    let yaml = "route: {receiver: page, group_by: ['...'], group_wait: 0s, group_interval: 5m}\n\
        receivers: [{name: page, webhook_configs: [{url: 'http://hook/page'}]}]\n";
    World::new()
        .run(yaml, async |world, manager| {
            for _ in 0..40 {
                world.http.script_status("page", 503);
            }
            let alerts = (0..100).map(|n| alert("A", &[("n", &n.to_string())], START)).collect();
            manager.receive(alerts, Origin::Rules).await.unwrap();
            world.pass(Interval::secs(12)).await;
            let asked = world.http.sent().len();
            assert!(asked <= 30, "{asked} requests in twelve seconds of outage");
            let health = &manager.health()[0];
            assert_eq!((health.state, health.waiting), ("open", 100));
            world.pass(Interval::mins(5)).await;
            assert_eq!(world.told("page").len(), 140, "40 refused, 100 arrived");
            assert_eq!(manager.health()[0].state, "ok");
        })
        .await;
}

#[tokio::test]
async fn an_explanation_says_what_keeps_an_alert_back() {
    World::new()
        .run(INHIBIT, async |world, manager| {
            let target = alert("Target", &[("severity", "warning"), ("site", "a")], START);
            let source = alert("Source", &[("severity", "critical"), ("site", "a")], START);
            let unknown = manager.explain(&target.labels);
            assert_eq!((unknown.state, unknown.groups.len()), ("unknown", 1));
            manager
                .receive(vec![target.clone(), source.clone()], Origin::Api)
                .await
                .unwrap();
            world.pass(Interval::secs(2)).await;
            let why = |labels: &Labels| manager.explain(labels).groups[0].integrations[0].why.clone();
            assert!(
                why(&target.labels).starts_with("inhibited by {alertname=\"Source\""),
                "{}",
                why(&target.labels)
            );
            assert!(
                why(&source.labels).starts_with("told at 2023-11-14T22:13:20"),
                "{}",
                why(&source.labels)
            );
            assert!(manager.explain(&source.labels).groups[0].integrations[0].told_firing);
        })
        .await;
}

#[tokio::test]
async fn a_preview_shows_every_message_and_no_secret_and_sends_nothing() {
    let mut world = World::new();
    let manager = world.open(PRESETS);
    let shown = PreviewAlert {
        alert: alert("Boom", &[("instance", "a")], START),
        resolved: false,
    };
    let rendered = manager.preview(None, vec![shown.clone()]).unwrap();
    assert_eq!(rendered.len(), 14);
    for one in &rendered {
        assert_eq!(one.error, None, "{}", one.integration);
        let all = format!("{one:?}");
        assert!(!all.contains("KEY"), "{all}");
    }
    assert!(
        rendered
            .iter()
            .any(|one| one.bodies.iter().any(|body| body.contains("Boom")))
    );
    assert!(world.http.sent().is_empty());
    assert!(manager.preview(Some("nobody"), vec![shown]).is_err());
    let mail = world.open(MAIL);
    let shown = PreviewAlert {
        alert: alert("Mail", &[("team", "x")], START),
        resolved: true,
    };
    let rendered = mail.preview(Some("mail"), vec![shown]).unwrap();
    assert!(
        rendered[0].headers.contains("[RESOLVED]") && rendered[0].bodies[0].contains("<html"),
        "{:?}",
        rendered[0].headers
    );
}

#[test]
fn contradictions_of_the_extensions_are_refused() {
    let disk = SimDisk::seeded(1);
    for (receivers, reason) in [
        ("[{name: r, fallback: x}]", "undefined receiver \"x\" used as fallback"),
        (
            "[{name: r, fallback: s, webhook_configs: [{url: 'http://a/'}]}, {name: s, fallback: r, webhook_configs: [{url: 'http://a/'}]}]",
            "fall back on each other",
        ),
        ("[{name: r, fallback: s}, {name: s}]", "told by no means"),
        ("[{name: r, burst: 3}]", "burst needs a rate"),
        ("[{name: r, rate: fast}]", "is no rate"),
        ("[{name: r, give_up_after: 0s}]", "give_up_after must be"),
        (
            "[{name: r, email_configs: [{to: a@b.c, from: a@b.c, smarthost: 'm:25', tls_config: {max_version: TLS12}}]}]",
            "cannot be kept for e-mail",
        ),
    ] {
        let text = format!("route: {{receiver: r}}\nreceivers: {receivers}\n");
        let error = Config::parse(&disk, "am.yml", &text, "/".as_ref())
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{receivers}: {error}");
    }
}
