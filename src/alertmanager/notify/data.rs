//! What templates and web hooks are told: Alertmanager's `Data`, as values of the template language and as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::json;

use super::super::record::{Waiting, WaitingAlert};
use crate::model::{Labels, Millis};
use crate::template::{Map, Record, Value};

/// The time that Go prints for "no time".
pub(crate) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Everything a message says.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) receiver: String,
    pub(crate) alerts: Vec<WaitingAlert>,
    pub(crate) reason: String,
    pub(crate) group_key: String,
    pub(crate) group_labels: Labels,
    pub(crate) common_labels: Labels,
    pub(crate) common_annotations: Labels,
    pub(crate) route_labels: BTreeMap<String, String>,
    pub(crate) external_url: String,
    /// When the message is made.
    pub(crate) now: Millis,
}

impl Data {
    /// Collects what a message says. `route_labels` are already rendered.
    pub(crate) fn of(
        waiting: &Waiting,
        route_labels: BTreeMap<String, String>,
        external_url: &str,
        now: Millis,
    ) -> Data {
        Data {
            receiver: waiting.key.receiver.clone(),
            reason: waiting
                .note
                .clone()
                .unwrap_or_else(|| waiting.reason.as_str().to_owned()),
            group_key: waiting.key.group_key.clone(),
            group_labels: waiting.group_labels.clone(),
            common_labels: common(waiting.alerts.iter().map(|item| &item.alert.labels)),
            common_annotations: common(waiting.alerts.iter().map(|item| &item.alert.annotations)),
            alerts: waiting.alerts.clone(),
            route_labels,
            external_url: external_url.to_owned(),
            now,
        }
    }

    /// Whether any alert fires.
    pub(crate) fn is_firing(&self) -> bool {
        self.alerts.iter().any(|item| !item.resolved)
    }

    /// Returns `firing` or `resolved`.
    pub(crate) fn status(&self) -> &'static str {
        status(!self.is_firing())
    }

    /// Returns the value that templates see as `.`.
    pub(crate) fn value(&self) -> Value {
        let alerts: Vec<Value> = self.alerts.iter().map(alert_value).collect();
        Record::new("*template.Data")
            .field("Receiver", self.receiver.as_str())
            .field("Status", self.status())
            .field("Alerts", alerts_value(alerts))
            .field("NotificationReason", self.reason.as_str())
            .field("GroupLabels", kv(self.group_labels.iter()))
            .field("CommonLabels", kv(self.common_labels.iter()))
            .field("CommonAnnotations", kv(self.common_annotations.iter()))
            .field(
                "RouteLabels",
                kv(self
                    .route_labels
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))),
            )
            .field("ExternalURL", self.external_url.as_str())
            .into()
    }

    /// Returns version 4 of the web hook's message, keys in Alertmanager's order.
    pub(crate) fn webhook(&self, alerts_max: usize) -> serde_json::Value {
        let shown = if alerts_max == 0 {
            self.alerts.len()
        } else {
            self.alerts.len().min(alerts_max)
        };
        let alerts: Vec<serde_json::Value> = self.alerts[..shown].iter().map(alert_json).collect();
        let status = status(!self.alerts[..shown].iter().any(|item| !item.resolved));
        let mut message = json!({
            "receiver": self.receiver,
            "status": status,
            "alerts": alerts,
            "notification_reason": self.reason,
            "groupLabels": self.group_labels,
            "commonLabels": common(self.alerts[..shown].iter().map(|item| &item.alert.labels)),
            "commonAnnotations": common(self.alerts[..shown].iter().map(|item| &item.alert.annotations)),
            "externalURL": self.external_url,
            "version": "4",
            "groupKey": self.group_key,
            "truncatedAlerts": self.alerts.len() - shown,
        });
        if !self.route_labels.is_empty() {
            message["routeLabels"] = json!(self.route_labels);
        }
        message
    }
}

fn status(resolved: bool) -> &'static str {
    if resolved { "resolved" } else { "firing" }
}

/// Returns the pairs that all sets share.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else {
        return Labels::empty();
    };
    let mut shared = first.clone();
    for set in sets {
        if shared.is_empty() {
            break;
        }
        shared = shared.filtered(|name| first.get(name) == set.get(name));
    }
    shared
}

fn alert_json(item: &WaitingAlert) -> serde_json::Value {
    let alert = &item.alert;
    json!({
        "status": status(item.resolved),
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": rfc3339(alert.starts_at),
        "endsAt": shown_end(item).map_or_else(|| ZERO_TIME.to_owned(), rfc3339),
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint().to_string(),
    })
}

/// The end of an alert that fires is a guess, which is nobody's business.
fn shown_end(item: &WaitingAlert) -> Option<Millis> {
    item.alert.ends_at.filter(|_| item.resolved)
}

/// Writes a time as Go's JSON does: UTC, with as many digits of the second as there are.
pub(crate) fn rfc3339(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| ZERO_TIME.to_owned(), |timestamp| timestamp.to_string())
}

fn alert_value(item: &WaitingAlert) -> Value {
    let alert = &item.alert;
    Record::new("template.Alert")
        .field("Status", status(item.resolved))
        .field("Labels", kv(alert.labels.iter()))
        .field("Annotations", kv(alert.annotations.iter()))
        .field("StartsAt", time(alert.starts_at))
        .field("EndsAt", shown_end(item).map_or_else(zero_time, time))
        .field("GeneratorURL", alert.generator_url.as_str())
        .field("Fingerprint", alert.fingerprint().to_string())
        .into()
}

pub(super) fn time(at: Millis) -> Value {
    let timestamp = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    Value::Time(Arc::new(timestamp.to_zoned(TimeZone::UTC)))
}

fn zero_time() -> Value {
    let zero: jiff::Timestamp = ZERO_TIME.parse().expect("the constant is a time");
    Value::Time(Arc::new(zero.to_zoned(TimeZone::UTC)))
}

/// A list of alerts: `.Firing` and `.Resolved` pick from it.
fn alerts_value(alerts: Vec<Value>) -> Value {
    let pick = |alerts: &[Value], wanted: &'static str| {
        let is_wanted = |alert: &&Value| match alert {
            Value::Record(record) => record
                .fields()
                .any(|(name, value)| name == "Status" && value.as_str() == Some(wanted)),
            _ => false,
        };
        alerts_list(alerts.iter().filter(is_wanted).cloned().collect())
    };
    let (firing, resolved) = (pick(&alerts, "firing"), pick(&alerts, "resolved"));
    Record::new("template.Alerts")
        .method("Firing", move |_| Ok(firing.clone()))
        .method("Resolved", move |_| Ok(resolved.clone()))
        .list(alerts)
        .into()
}

/// A list without methods: what `.Firing` gives is listed, counted and indexed, and rarely asked for its own `.Firing`.
fn alerts_list(alerts: Vec<Value>) -> Value {
    Value::from(alerts)
}

/// Names and values with the methods that Alertmanager gives them.
pub(super) fn kv<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let pairs: Vec<(String, String)> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    kv_of(pairs)
}

fn kv_of(mut pairs: Vec<(String, String)>) -> Value {
    // Alertmanager shows the alert's name first.
    pairs.sort_by(|(a, _), (b, _)| (a != "alertname", a).cmp(&(b != "alertname", b)));
    let pairs = Arc::new(pairs);
    let (for_pairs, for_remove, for_names, for_values) = (
        Arc::clone(&pairs),
        Arc::clone(&pairs),
        Arc::clone(&pairs),
        Arc::clone(&pairs),
    );
    let text = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(", ");
    Record::new("template.KV")
        .method("SortedPairs", move |_| Ok(sorted_pairs(&for_pairs)))
        .method("Remove", move |args| {
            let [names] = args else {
                return Err(format!("wrong number of args for Remove: want 1 got {}", args.len()));
            };
            let names = names.elements().ok_or("Remove expects a list of strings")?;
            let keep = |name: &str| !names.iter().any(|gone| gone.as_str() == Some(name));
            Ok(kv_of(
                for_remove.iter().filter(|(name, _)| keep(name)).cloned().collect(),
            ))
        })
        .method("Names", move |_| Ok(texts(for_names.iter().map(|(name, _)| name))))
        .method("Values", move |_| Ok(texts(for_values.iter().map(|(_, value)| value))))
        .map(Map::of_strings(
            pairs.iter().map(|(name, value)| (name.clone(), value.as_str())),
        ))
        .text(text)
        .into()
}

fn sorted_pairs(pairs: &Arc<Vec<(String, String)>>) -> Value {
    let items = pairs
        .iter()
        .map(|(name, value)| {
            Record::new("template.Pair")
                .field("Name", name.as_str())
                .field("Value", value.as_str())
                .into()
        })
        .collect();
    let (names, values) = (Arc::clone(pairs), Arc::clone(pairs));
    Record::new("template.Pairs")
        .method("Names", move |_| Ok(texts(names.iter().map(|(name, _)| name))))
        .method("Values", move |_| Ok(texts(values.iter().map(|(_, value)| value))))
        .list(items)
        .into()
}

fn texts<'a>(items: impl Iterator<Item = &'a String>) -> Value {
    Value::from(items.map(Value::from).collect::<Vec<Value>>())
}
