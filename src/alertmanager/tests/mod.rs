//! Whole paths through the alert manager on a simulated clock, log and outbox: what people are told, and when.

mod crash;
mod delivery;
mod extensions;
mod shapes;

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
            limits: AlertLimits {
                alerts: 10_000,
                ..AlertLimits::default()
            },
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
        sample_at: None,
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

const INHIBIT: &str = "route: {receiver: page, group_by: [alertname], group_wait: 0s, group_interval: 1s}\n\
    inhibit_rules: [{source_matchers: [severity=critical], target_matchers: [severity=warning], equal: [site]}]\n\
    receivers: [{name: page, webhook_configs: [{url: 'http://hook/page'}]}]\n";

const MAIL: &str = "global: {smtp_smarthost: 'mail:25', smtp_from: 'Campanile <campanile@corp.example>', smtp_require_tls: false}\n\
    route: {receiver: mail, group_by: [alertname], group_wait: 0s, group_interval: 2s}\n\
    receivers: [{name: mail, email_configs: [{to: 'a@b.c, d@e.f', send_resolved: true, headers: {X-Team: '{{ .CommonLabels.team }}'}}]}]\n";

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
