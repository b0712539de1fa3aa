//! Sending to Alertmanagers elsewhere (`alerting.alertmanagers`), as Prometheus does: firing alerts again and again, ends for
//! a quarter of an hour, never a pending one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;

use super::metrics;
use crate::ingest::relabel::{RelabelConfig, relabel};
use crate::io::disk::Disk;
use crate::io::http_client::HttpClient;
use crate::io::outgoing::config::{HttpConfig, RawAuthorization, RawBasicAuth, RawHeader, RawOAuth2, TlsConfig};
use crate::io::outgoing::scalar::Text;
use crate::io::outgoing::sender::{Failure, Outgoing, Sender};
use crate::io::{Clock, Shutdown};
use crate::model::{Alert, Fingerprint, Interval, LabelsBuilder, Millis, Secret};

/// The most alerts kept for one Alertmanager; beyond it the oldest are dropped, and counted as errors.
const PENDING_MAX: usize = 10_000;
/// The most alerts of one request.
const BATCH_MAX: usize = 64;
/// How long a stop waits for what is being sent.
const STOP_WAIT: Interval = Interval::secs(1);
/// How often the queues are looked at.
const PAUSE: Interval = Interval(200);
/// The longest pause after failures.
const BACKOFF_MAX: Interval = Interval::secs(30);
/// For how long the end of an alert is repeated.
const RESOLVED_FOR: Interval = Interval::mins(15);

/// One entry of `alerting.alertmanagers`, in Prometheus's keys.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct AlertmanagersConfig {
    static_configs: Vec<StaticConfig>,
    scheme: String,
    path_prefix: String,
    timeout: Interval,
    http: HttpConfig,
    relabel_configs: Vec<RelabelConfig>,
    alert_relabel_configs: Vec<RelabelConfig>,
}

/// The same as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    static_configs: Vec<StaticConfig>,
    #[serde(default = "http")]
    scheme: String,
    #[serde(default)]
    path_prefix: String,
    #[serde(default = "ten_seconds")]
    timeout: Interval,
    #[serde(default, rename = "api_version")]
    _api_version: ApiVersion,
    #[serde(default)]
    relabel_configs: Vec<RelabelConfig>,
    #[serde(default)]
    alert_relabel_configs: Vec<RelabelConfig>,
    basic_auth: Option<RawBasicAuth>,
    authorization: Option<RawAuthorization>,
    bearer_token: Option<Secret>,
    bearer_token_file: Option<std::path::PathBuf>,
    oauth2: Option<RawOAuth2>,
    #[serde(default)]
    tls_config: TlsConfig,
    #[serde(default = "yes")]
    follow_redirects: bool,
    #[serde(default = "yes")]
    enable_http2: bool,
    proxy_url: Option<Text>,
    no_proxy: Option<Text>,
    #[serde(default)]
    proxy_from_environment: bool,
    http_headers: Option<BTreeMap<String, RawHeader>>,
}

impl TryFrom<Written> for AlertmanagersConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<AlertmanagersConfig, String> {
        if !matches!(written.scheme.as_str(), "http" | "https") {
            return Err(format!("scheme {:?} is neither http nor https", written.scheme));
        }
        let mut http = HttpConfig {
            basic_auth: written.basic_auth,
            authorization: written.authorization,
            bearer_token: written.bearer_token,
            bearer_token_file: written.bearer_token_file,
            oauth2: written.oauth2,
            tls_config: written.tls_config,
            follow_redirects: written.follow_redirects,
            enable_http2: written.enable_http2,
            proxy_url: written.proxy_url,
            no_proxy: written.no_proxy,
            proxy_from_environment: written.proxy_from_environment,
            http_headers: written.http_headers,
            ..HttpConfig::default()
        };
        http.finish(Path::new(""))?;
        Ok(AlertmanagersConfig {
            static_configs: written.static_configs,
            scheme: written.scheme,
            path_prefix: written.path_prefix,
            timeout: written.timeout,
            http,
            relabel_configs: written.relabel_configs,
            alert_relabel_configs: written.alert_relabel_configs,
        })
    }
}

/// Where Alertmanagers are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticConfig {
    targets: Vec<String>,
    /// Labels of the targets, for `relabel_configs` to look at.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The version of the API: only the one that Alertmanager still has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum ApiVersion {
    #[default]
    #[serde(rename = "v2")]
    V2,
}

const fn yes() -> bool {
    true
}

fn http() -> String {
    "http".to_owned()
}

fn ten_seconds() -> Interval {
    Interval::secs(10)
}

impl AlertmanagersConfig {
    /// Makes file names relative to the folder of the file that says them.
    pub fn resolve_paths(&mut self, folder: &Path) {
        self.http.rebase(folder);
    }

    /// Returns the Alertmanagers that are left after `relabel_configs`: name and URL.
    fn urls(&self) -> Vec<(String, String)> {
        let mut urls = Vec::new();
        for group in &self.static_configs {
            for target in &group.targets {
                let mut labels = LabelsBuilder::default();
                for (name, value) in &group.labels {
                    labels.set(name, value);
                }
                labels.set("__address__", target);
                labels.set("__scheme__", &self.scheme);
                let path = format!("/{}/api/v2/alerts", self.path_prefix.trim_matches('/'));
                labels.set("__alerts_path__", &path.replace("//", "/"));
                if !relabel(&self.relabel_configs, &mut labels) {
                    continue;
                }
                let of = |name: &str| labels.get(name).unwrap_or_default().to_owned();
                let url = format!("{}://{}{}", of("__scheme__"), of("__address__"), of("__alerts_path__"));
                urls.push((of("__address__"), url));
            }
        }
        urls
    }
}

/// What sending elsewhere needs.
pub struct ExternalDeps {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The network.
    pub client: Arc<dyn HttpClient>,
    /// Where secrets are read.
    pub disk: Arc<dyn Disk>,
}

/// Sends alerts to Alertmanagers elsewhere. None of them can hold up the rules, or another.
pub struct External {
    targets: Vec<Target>,
    /// `alerting.alert_relabel_configs`: for all of them.
    relabel: Vec<RelabelConfig>,
    clock: Arc<dyn Clock>,
    sender: Sender,
    resend_delay: Interval,
    /// Ends that are still repeated: when they were last offered.
    resolved: Mutex<BTreeMap<Fingerprint, (Alert, Millis)>>,
}

struct Target {
    name: String,
    url: String,
    http: HttpConfig,
    timeout: Interval,
    relabel: Vec<RelabelConfig>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    alerts: BTreeMap<u64, Alert>,
    order: BTreeMap<Fingerprint, u64>,
    next: u64,
}

impl External {
    /// Prepares the senders. `relabel` is applied to every alert before those of the single Alertmanager.
    pub fn new(
        configs: &[AlertmanagersConfig],
        relabel: Vec<RelabelConfig>,
        resend_delay: Interval,
        deps: ExternalDeps,
    ) -> Arc<External> {
        let targets = configs.iter().flat_map(|config| {
            config.urls().into_iter().map(move |(name, url)| Target {
                name,
                url,
                http: config.http.clone(),
                timeout: config.timeout,
                relabel: config.alert_relabel_configs.clone(),
                queue: Mutex::default(),
            })
        });
        Arc::new(External {
            targets: targets.collect(),
            relabel,
            clock: Arc::clone(&deps.clock),
            sender: Sender::new(deps.client, deps.disk, deps.clock),
            resend_delay,
            resolved: Mutex::default(),
        })
    }

    /// Takes the alerts of one evaluation. Never waits: what cannot be sent now stays queued, the newest word of each alert.
    pub fn offer(&self, alerts: &[Alert]) {
        if self.targets.is_empty() {
            return;
        }
        let now = self.clock.now();
        let alerts = relabelled(&self.relabel, alerts);
        {
            let mut resolved = self.resolved.lock();
            for alert in &alerts {
                if alert.is_resolved(now) {
                    resolved.insert(alert.fingerprint(), (alert.clone(), now));
                } else {
                    resolved.remove(&alert.fingerprint());
                }
            }
        }
        self.enqueue(&alerts);
    }

    fn enqueue(&self, alerts: &[Alert]) {
        for target in &self.targets {
            let alerts = relabelled(&target.relabel, alerts);
            let mut queue = target.queue.lock();
            for alert in alerts {
                queue.push(alert);
            }
            let dropped = queue.drop_excess();
            metrics::EXTERNAL_ERRORS.add(&[&target.name], dropped);
        }
    }

    /// Sends until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let senders = (0..self.targets.len()).map(|at| {
            let (sender, shutdown) = (Arc::clone(&self), shutdown.clone());
            tokio::spawn(async move { sender.send_all(at, shutdown).await })
        });
        let senders: Vec<_> = senders.collect();
        let mut stop = shutdown;
        loop {
            tokio::select! {
                biased;
                () = stop.requested() => break,
                () = self.clock.sleep(Interval::secs(1)) => self.repeat_ends(),
            }
        }
        // One that hangs is not waited for: what it has not taken, it gets again after the start.
        let deadline = self.clock.mono().after(STOP_WAIT);
        for mut sender in senders {
            tokio::select! {
                biased;
                _ = &mut sender => {}
                () = self.clock.sleep_until(deadline) => sender.abort(),
            }
        }
    }

    /// Queues ends again that are younger than a quarter of an hour.
    fn repeat_ends(&self) {
        let now = self.clock.now();
        let mut due = Vec::new();
        self.resolved.lock().retain(|_, (alert, offered)| {
            let over = alert.ends_at.is_none_or(|ended| now - ended > RESOLVED_FOR);
            if !over && now - *offered >= self.resend_delay {
                *offered = now;
                due.push(alert.clone());
            }
            !over
        });
        if !due.is_empty() {
            self.enqueue(&due);
        }
    }

    async fn send_all(&self, at: usize, mut shutdown: Shutdown) {
        let target = &self.targets[at];
        let mut pause = PAUSE;
        loop {
            let batch = target.queue.lock().peek(BATCH_MAX);
            if !batch.is_empty() {
                pause = match self.post(target, &batch).await {
                    Ok(()) => {
                        target.queue.lock().remove(&batch);
                        metrics::EXTERNAL_SENT.add(&[&target.name], batch.len() as u64);
                        Interval::ZERO
                    }
                    Err(failure) => {
                        metrics::EXTERNAL_ERRORS.add(&[&target.name], batch.len() as u64);
                        tracing::warn!(
                            error = failure.reason(),
                            alertmanager = target.name,
                            alerts = batch.len(),
                            "an Alertmanager did not take alerts"
                        );
                        if matches!(failure, Failure::Permanent(_)) {
                            target.queue.lock().remove(&batch);
                        }
                        Interval((pause.0.max(PAUSE.0) * 2).min(BACKOFF_MAX.0))
                    }
                };
            } else {
                pause = PAUSE;
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    async fn post(&self, target: &Target, batch: &[(u64, Alert)]) -> Result<(), Failure> {
        let body: Vec<serde_json::Value> = batch.iter().map(|(_, alert)| json(alert)).collect();
        let outgoing = Outgoing {
            body: Bytes::from(serde_json::Value::Array(body).to_string()),
            ..Outgoing::json(target.url.as_str(), &serde_json::Value::Null)
        };
        self.sender
            .send(&target.http, outgoing, target.timeout)
            .await
            .map(|_| ())
    }
}

impl Queue {
    /// Adds an alert; an older word on the same alert is forgotten.
    fn push(&mut self, alert: Alert) {
        let fingerprint = alert.fingerprint();
        let number = self.next;
        self.next += 1;
        if let Some(older) = self.order.insert(fingerprint, number) {
            self.alerts.remove(&older);
        }
        self.alerts.insert(number, alert);
    }

    fn drop_excess(&mut self) -> u64 {
        let mut dropped = 0;
        while self.alerts.len() > PENDING_MAX {
            if let Some((_, alert)) = self.alerts.pop_first() {
                self.order.remove(&alert.fingerprint());
                dropped += 1;
            }
        }
        dropped
    }

    fn peek(&self, count: usize) -> Vec<(u64, Alert)> {
        self.alerts
            .iter()
            .take(count)
            .map(|(number, alert)| (*number, alert.clone()))
            .collect()
    }

    fn remove(&mut self, batch: &[(u64, Alert)]) {
        for (number, alert) in batch {
            self.alerts.remove(number);
            let fingerprint = alert.fingerprint();
            if self.order.get(&fingerprint) == Some(number) {
                self.order.remove(&fingerprint);
            }
        }
    }
}

/// Returns the alerts as the rules leave them; one that they drop, or leave without labels, is not sent.
fn relabelled(rules: &[RelabelConfig], alerts: &[Alert]) -> Vec<Alert> {
    let relabelled = alerts.iter().filter_map(|alert| {
        let mut labels = alert.labels.to_builder();
        let kept = relabel(rules, &mut labels);
        let labels = labels.build();
        (kept && !labels.is_empty()).then(|| Alert {
            labels,
            ..alert.clone()
        })
    });
    relabelled.collect()
}

fn json(alert: &Alert) -> serde_json::Value {
    let mut value = serde_json::json!({
        "labels": alert.labels,
        "startsAt": alert.starts_at.to_string(),
        "generatorURL": alert.generator_url,
    });
    if !alert.annotations.is_empty() {
        value["annotations"] = serde_json::json!(alert.annotations);
    }
    if let Some(ends_at) = alert.ends_at {
        value["endsAt"] = serde_json::json!(ends_at.to_string());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::SimDisk;
    use crate::io::http_client::HttpOutbox;
    use crate::io::{ShutdownHandle, SimClock};
    use crate::model::Labels;

    fn alert(name: &str, ends_at: i64) -> Alert {
        Alert {
            labels: Labels::from_pairs([("alertname", name), ("replica", "1")]),
            annotations: Labels::empty(),
            starts_at: Millis(1_000),
            ends_at: Some(Millis(ends_at)),
            generator_url: "http://x/graph".into(),
            sample_at: None,
        }
    }

    fn config(yaml: &str) -> AlertmanagersConfig {
        serde_yaml::from_str(yaml).unwrap()
    }

    struct World {
        clock: SimClock,
        outbox: Arc<HttpOutbox>,
        external: Arc<External>,
    }

    impl World {
        fn new(yaml: &str, relabel: &str) -> World {
            let clock = SimClock::at(Millis(1_000_000));
            let outbox = HttpOutbox::new(Arc::new(clock.clone()));
            let disk = SimDisk::seeded(1);
            disk.create_dir_all(Path::new("/etc")).unwrap();
            let token = disk.create(Path::new("/etc/token")).unwrap();
            token.write_all_at(b"first\n", 0).unwrap();
            let deps = ExternalDeps {
                clock: Arc::new(clock.clone()),
                client: outbox.clone(),
                disk: Arc::new(disk),
            };
            let relabel = serde_yaml::from_str(relabel).unwrap();
            World {
                external: External::new(&[config(yaml)], relabel, Interval::mins(1), deps),
                clock,
                outbox,
            }
        }

        /// Runs `script` beside the senders.
        async fn run(&self, script: impl AsyncFnOnce(&World)) {
            let (stop, shutdown) = ShutdownHandle::new();
            let task = tokio::spawn(Arc::clone(&self.external).run(shutdown));
            script(self).await;
            stop.request();
            self.pass(Interval::secs(2)).await;
            task.await.unwrap();
        }

        async fn pass(&self, time: Interval) {
            for _ in 0..time.0 / 100 {
                self.clock.advance(Interval(100));
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            }
        }

        fn bodies(&self) -> Vec<(String, serde_json::Value)> {
            let sent = self.outbox.sent();
            sent.iter()
                .map(|sent| {
                    (
                        sent.request.url.clone(),
                        serde_json::from_slice(&sent.request.body).unwrap(),
                    )
                })
                .collect()
        }
    }

    #[tokio::test]
    async fn an_end_is_repeated_each_minute_for_a_quarter_of_an_hour() {
        let world = World::new("static_configs: [{targets: ['am:9093']}]", "[]");
        world
            .run(async |world| {
                world.external.offer(&[alert("A", 2_000_000)]);
                world.pass(Interval::secs(1)).await;
                assert_eq!(world.bodies().len(), 1);
                world.external.offer(&[alert("A", 1_000_500)]);
                world.pass(Interval::mins(40)).await;
                let count = world.bodies().len() - 1;
                assert!((15..=16).contains(&count), "{count} times");
            })
            .await;
    }

    #[tokio::test]
    async fn what_is_refused_for_now_comes_again_and_what_is_refused_for_good_does_not() {
        let world = World::new("static_configs: [{targets: ['am:9093']}]", "[]");
        world
            .run(async |world| {
                world.outbox.script_status("am", 503);
                world.external.offer(&[alert("A", 9_000_000)]);
                world.pass(Interval::secs(3)).await;
                assert_eq!(world.bodies().len(), 2);
                world.outbox.script_status("am", 400);
                world.external.offer(&[alert("B", 9_000_000)]);
                world.pass(Interval::mins(2)).await;
                assert_eq!(world.bodies().len(), 3);
            })
            .await;
    }

    #[tokio::test]
    async fn one_that_hangs_delays_no_other() {
        let world = World::new("static_configs: [{targets: ['slow:1', 'quick:2']}]", "[]");
        world
            .run(async |world| {
                world.outbox.hang("slow");
                for name in ["A", "B"] {
                    world.external.offer(&[alert(name, 9_000_000)]);
                    world.pass(Interval::secs(1)).await;
                }
                let quick = world.bodies().iter().filter(|(url, _)| url.contains("quick")).count();
                assert_eq!(quick, 2);
            })
            .await;
    }

    #[tokio::test]
    async fn targets_and_alerts_are_relabelled_and_secrets_read_anew() {
        let yaml = "scheme: https\npath_prefix: /am/\nauthorization: {credentials_file: token}\n\
            static_configs: [{targets: ['a:1', 'b:2'], labels: {use: 'yes'}}, {targets: ['c:3']}]\n\
            relabel_configs: [{source_labels: [use], regex: 'yes', action: keep}, {source_labels: [__address__], regex: 'b:.*', action: drop}]\n\
            alert_relabel_configs: [{target_label: to, replacement: am}]";
        let mut config = config(yaml);
        config.resolve_paths(Path::new("/etc"));
        assert_eq!(
            config.urls(),
            [("a:1".to_owned(), "https://a:1/am/api/v2/alerts".to_owned())]
        );
        let world = World::new(
            &yaml.replace("file: token", "file: /etc/token"),
            "[{regex: replica, action: labeldrop}]",
        );
        world
            .run(async |world| {
                world.external.offer(&[alert("A", 9_000_000)]);
                world.pass(Interval::secs(1)).await;
                let sent = world.outbox.sent();
                assert!(
                    sent[0]
                        .request
                        .headers
                        .contains(&("Authorization".to_owned(), "Bearer first".to_owned()))
                );
                let labels = &world.bodies()[0].1[0]["labels"];
                assert_eq!(*labels, serde_json::json!({"alertname": "A", "to": "am"}));
            })
            .await;
    }

    #[test]
    fn what_prometheus_refuses_is_refused() {
        for (yaml, reason) in [
            ("{static_configs: [], scheme: ftp}", "neither http nor https"),
            (
                "{static_configs: [], kubernetes_sd_configs: []}",
                "kubernetes_sd_configs",
            ),
            ("{static_configs: [], api_version: v1}", "v1"),
            (
                "{static_configs: [], basic_auth: {username: a}, authorization: {credentials: b}}",
                "at most one",
            ),
            (
                "{static_configs: [], tls_config: {cert_file: x}}",
                "certificate and its key",
            ),
        ] {
            let error = serde_yaml::from_str::<AlertmanagersConfig>(yaml)
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{yaml}: {error}");
        }
    }

    #[test]
    fn the_newest_word_on_an_alert_replaces_older_ones() {
        let mut queue = Queue::default();
        queue.push(alert("a", 1));
        queue.push(alert("b", 1));
        queue.push(alert("a", 2));
        let batch = queue.peek(10);
        let ends: Vec<_> = batch.iter().map(|(_, alert)| alert.ends_at.unwrap().0).collect();
        assert_eq!(ends, [1, 2]);
        queue.push(alert("a", 3));
        queue.remove(&batch);
        assert_eq!(queue.peek(10)[0].1.ends_at, Some(Millis(3)));
    }

    #[test]
    fn an_alert_travels_as_alertmanager_reads_it() {
        assert_eq!(
            json(&alert("a", 2_000)).to_string(),
            r#"{"labels":{"alertname":"a","replica":"1"},"startsAt":"1970-01-01T00:00:01.000Z","generatorURL":"http://x/graph","endsAt":"1970-01-01T00:00:02.000Z"}"#
        );
    }
}
