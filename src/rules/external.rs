//! Sending to Alertmanagers elsewhere (`alerting.alertmanagers`), as Prometheus does: firing alerts again and again, ends for
//! a quarter of an hour, never a pending one.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;

use super::metrics;
use crate::io::http_client::{HttpClient, HttpOptions, HttpRequest};
use crate::io::{Clock, Shutdown};
use crate::model::{Alert, Fingerprint, Interval, Millis};

/// The most alerts kept for one Alertmanager; beyond it the oldest are dropped, and counted as errors.
const PENDING_MAX: usize = 10_000;
/// The most alerts of one request.
const BATCH_MAX: usize = 64;
/// How often the queues are looked at.
const PAUSE: Interval = Interval(200);
/// The longest pause after failures.
const BACKOFF_MAX: Interval = Interval::secs(30);
/// For how long the end of an alert is repeated.
const RESOLVED_FOR: Interval = Interval::mins(15);

/// One entry of `alerting.alertmanagers`, in Prometheus's keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertmanagersConfig {
    /// Host and port of each Alertmanager.
    pub static_configs: Vec<StaticConfig>,
    /// `http` or `https`.
    #[serde(default = "http")]
    pub scheme: String,
    /// What stands before `/api/v2/alerts`.
    #[serde(default)]
    pub path_prefix: String,
    /// The longest time for a request.
    #[serde(default = "ten_seconds")]
    pub timeout: Interval,
    /// Only `v2` is spoken.
    #[serde(default)]
    pub api_version: ApiVersion,
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// A token.
    pub authorization: Option<Authorization>,
}

/// Where Alertmanagers are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticConfig {
    /// `host:port`
    pub targets: Vec<String>,
    /// Labels of the targets; they have no effect without relabelling.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// The version of the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ApiVersion {
    /// The only one that Alertmanager still has.
    #[default]
    #[serde(rename = "v2")]
    V2,
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password.
    #[serde(default)]
    pub password: String,
}

/// The `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// What stands before the credentials.
    #[serde(default = "bearer", rename = "type")]
    pub kind: String,
    /// The credentials.
    pub credentials: String,
}

fn http() -> String {
    "http".to_owned()
}

fn bearer() -> String {
    "Bearer".to_owned()
}

fn ten_seconds() -> Interval {
    Interval::secs(10)
}

/// Sends alerts to Alertmanagers elsewhere. None of them can hold up the rules, or another.
pub struct External {
    targets: Vec<Target>,
    clock: Arc<dyn Clock>,
    client: Arc<dyn HttpClient>,
    resend_delay: Interval,
    /// Ends that are still repeated: when they were last offered.
    resolved: Mutex<BTreeMap<Fingerprint, (Alert, Millis)>>,
}

struct Target {
    name: String,
    url: String,
    header: Option<String>,
    timeout: Interval,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    alerts: BTreeMap<u64, Alert>,
    order: BTreeMap<Fingerprint, u64>,
    next: u64,
}

impl External {
    /// Prepares the senders.
    pub fn new(
        configs: &[AlertmanagersConfig],
        resend_delay: Interval,
        clock: Arc<dyn Clock>,
        client: Arc<dyn HttpClient>,
    ) -> Arc<External> {
        let targets = configs.iter().flat_map(|config| {
            let hosts = config.static_configs.iter().flat_map(|group| &group.targets);
            hosts.map(move |host| Target {
                name: host.clone(),
                url: format!(
                    "{}://{host}{}/api/v2/alerts",
                    config.scheme,
                    config.path_prefix.trim_end_matches('/')
                ),
                header: authorization(config),
                timeout: config.timeout,
                queue: Mutex::default(),
            })
        });
        Arc::new(External {
            targets: targets.collect(),
            clock,
            client,
            resend_delay,
            resolved: Mutex::default(),
        })
    }

    /// Takes the alerts of one evaluation. Never waits: what cannot be sent now stays queued, the newest word of each alert.
    pub fn offer(&self, alerts: &[Alert]) {
        let now = self.clock.now();
        {
            let mut resolved = self.resolved.lock();
            for alert in alerts {
                if alert.is_resolved(now) {
                    resolved.insert(alert.fingerprint(), (alert.clone(), now));
                } else {
                    resolved.remove(&alert.fingerprint());
                }
            }
        }
        self.enqueue(alerts);
    }

    fn enqueue(&self, alerts: &[Alert]) {
        for target in &self.targets {
            let mut queue = target.queue.lock();
            for alert in alerts {
                queue.push(alert.clone());
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
        for sender in senders {
            // A sender that panicked has nothing left to finish.
            let _ = sender.await;
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
                    Err(Failure { error, retry }) => {
                        metrics::EXTERNAL_ERRORS.add(&[&target.name], batch.len() as u64);
                        tracing::warn!(%error, alertmanager = target.name, alerts = batch.len(), "an Alertmanager did not take alerts");
                        if !retry {
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
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        headers.extend(target.header.clone().map(|value| ("Authorization".to_owned(), value)));
        let request = HttpRequest {
            method: "POST".to_owned(),
            url: target.url.clone(),
            headers,
            body: Bytes::from(serde_json::Value::Array(body).to_string()),
            timeout: target.timeout,
            options: HttpOptions::default(),
        };
        let answer = self.client.send(request).await.map_err(|error| Failure {
            error: error.to_string(),
            retry: true,
        })?;
        if answer.status / 100 == 2 {
            return Ok(());
        }
        let text: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
        Err(Failure {
            error: format!("status {}: {text}", answer.status),
            retry: answer.status >= 500 || answer.status == 429,
        })
    }
}

struct Failure {
    error: String,
    retry: bool,
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

fn authorization(config: &AlertmanagersConfig) -> Option<String> {
    if let Some(basic) = &config.basic_auth {
        let pair = format!("{}:{}", basic.username, basic.password);
        return Some(format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        ));
    }
    let authorization = config.authorization.as_ref()?;
    Some(format!("{} {}", authorization.kind, authorization.credentials))
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
    use crate::model::Labels;

    fn alert(name: &str, ends_at: i64) -> Alert {
        Alert {
            labels: Labels::from_pairs([("alertname", name)]),
            annotations: Labels::empty(),
            starts_at: Millis(1_000),
            ends_at: Some(Millis(ends_at)),
            generator_url: "http://x/graph".into(),
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
            r#"{"labels":{"alertname":"a"},"startsAt":"1970-01-01T00:00:01.000Z","generatorURL":"http://x/graph","endsAt":"1970-01-01T00:00:02.000Z"}"#
        );
    }
}
