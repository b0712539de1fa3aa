//! One group: the labels that name it, what was pushed to it, and how that becomes samples.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;

use crate::ingest::exposition::{Family, Value};
use crate::model::{
    FloatHistogram, HistogramSample, Labels, LabelsBuilder, METRIC_NAME, MetricKind, MetricMetadata, Millis,
    OwnedSeries, Sample, WriteBatch, is_valid_label_name, stale_marker,
};

/// The two metrics that a group has beside those that were pushed.
const PUSH_TIME: &str = "push_time_seconds";
const PUSH_TIME_HELP: &str = "Last Unix time when changing this group in the Pushgateway succeeded.";
const FAILURE_TIME: &str = "push_failure_time_seconds";
const FAILURE_TIME_HELP: &str = "Last Unix time when changing this group in the Pushgateway failed.";

/// The labels that name a group: `job` and those of the path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grouping(pub(super) BTreeMap<String, String>);

impl Grouping {
    /// Reads a job and `name/value/name@base64/value…`.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub fn from_path(job: &str, path: &str) -> Result<Grouping, String> {
        if job.is_empty() {
            return Err("job name is required".to_owned());
        }
        let mut labels = BTreeMap::new();
        let mut parts = path.trim_matches('/').split('/');
        while let Some(name) = parts.next().filter(|name| !name.is_empty()) {
            let Some(value) = parts.next() else {
                return Err(format!("odd number of components in label string {path:?}"));
            };
            let (name, value) = match name.strip_suffix("@base64") {
                Some(name) => (name, Grouping::base64(value)?),
                None => (name, value.to_owned()),
            };
            if !is_valid_label_name(name) || name.starts_with("__") {
                return Err(format!("improper label name {name:?}"));
            }
            labels.insert(name.to_owned(), value);
        }
        labels.insert("job".to_owned(), job.to_owned());
        Ok(Grouping(labels))
    }

    /// Reads a value in URL-safe base64, padded or not; `=` alone is the empty value.
    ///
    /// # Errors
    /// That it is none.
    pub fn base64(value: &str) -> Result<String, String> {
        let plain = value.trim_end_matches('=');
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(plain);
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| format!("invalid base64 encoding in label value {value:?}"))
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        write!(f, "{{{}}}", pairs.join(", "))
    }
}

/// What a push does with what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushMode {
    /// PUT: the whole group is replaced.
    Replace,
    /// POST: metrics of the same names are.
    Merge,
}

/// A family as it was pushed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) kind: MetricKind,
    pub(super) help: String,
    pub(super) pushed_at: Millis,
    pub(super) points: Vec<(Labels, Value)>,
}

/// What was pushed, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Group {
    /// The last push that succeeded; the epoch when none did.
    pub(super) pushed_at: Millis,
    /// The last push that failed; the epoch when none did.
    pub(super) failed_at: Millis,
    pub(super) families: BTreeMap<String, Stored>,
}

/// Checks a push and puts the group's labels on.
///
/// # Errors
/// What contradicts itself.
pub(super) fn check(grouping: &Grouping, families: Vec<Family>) -> Result<BTreeMap<String, Stored>, String> {
    let mut checked = BTreeMap::new();
    let mut seen = HashSet::new();
    for family in families {
        if matches!(family.name.as_str(), PUSH_TIME | FAILURE_TIME) {
            return Err(format!(
                "pushed metrics are invalid: {:?} is the gateway's own",
                family.name
            ));
        }
        let mut points = Vec::with_capacity(family.points.len());
        for point in family.points {
            let mut labels = LabelsBuilder::default();
            for (name, value) in &point.labels {
                labels.set(name, value);
            }
            for (name, value) in &grouping.0 {
                labels.set(name, value);
            }
            let labels = labels.build();
            if point.at.is_some() {
                return Err(format!("pushed metrics must not have a timestamp: {labels}"));
            }
            if !seen.insert(labels.clone()) {
                return Err(format!("pushed metrics are inconsistent: {labels} was sent twice"));
            }
            points.push((labels, point.value));
        }
        let stored = Stored {
            kind: family.kind,
            help: family.help,
            pushed_at: Millis(0),
            points,
        };
        if !stored.points.is_empty() {
            checked.insert(family.name, stored);
        }
    }
    Ok(checked)
}

impl Group {
    /// Returns the group after a good push.
    pub(super) fn pushed(mut self, mode: PushMode, pushed: BTreeMap<String, Stored>, now: Millis) -> Group {
        if mode == PushMode::Replace {
            self.families.clear();
        }
        for (name, family) in pushed {
            self.families.insert(
                name,
                Stored {
                    pushed_at: now,
                    ..family
                },
            );
        }
        self.pushed_at = now;
        self
    }

    /// Returns the group after a bad push: nothing changes but that it is known.
    pub(super) fn failed(mut self, now: Millis) -> Group {
        self.failed_at = now;
        self
    }

    /// Returns when the group was last pushed, with or without success.
    pub(super) fn touched(&self) -> Millis {
        self.pushed_at.max(self.failed_at)
    }

    fn own(&self, grouping: &Grouping) -> [(Labels, f64, &'static str); 2] {
        let named = |name: &str| {
            let mut labels = LabelsBuilder::default();
            for (name, value) in &grouping.0 {
                labels.set(name, value);
            }
            labels.set(METRIC_NAME, name).build()
        };
        let seconds = |at: Millis| at.0 as f64 / 1000.0;
        [
            (named(PUSH_TIME), seconds(self.pushed_at), PUSH_TIME_HELP),
            (named(FAILURE_TIME), seconds(self.failed_at), FAILURE_TIME_HELP),
        ]
    }

    /// Returns all its series.
    pub(super) fn labels(&self, grouping: &Grouping) -> HashSet<Labels> {
        let points = self.families.values().flat_map(|family| &family.points);
        let own = self.own(grouping).into_iter().map(|(labels, ..)| labels);
        points.map(|(labels, _)| labels.clone()).chain(own).collect()
    }

    /// Returns all its samples, as of `now`.
    pub(super) fn sample(&self, grouping: &Grouping, now: Millis) -> Sampled {
        let mut out = Sampled::default();
        for (name, family) in &self.families {
            for (labels, value) in &family.points {
                out.push(labels.clone(), now, value.clone());
            }
            out.metadata.push(metadata(name, family.kind, &family.help));
        }
        for (labels, value, help) in self.own(grouping) {
            out.metadata
                .push(metadata(labels.value(METRIC_NAME), MetricKind::Gauge, help));
            out.push(labels, now, Value::Float(value));
        }
        out
    }

    /// Returns the group in the shape of the Pushgateway's own API.
    pub(super) fn view(&self, grouping: &Grouping) -> serde_json::Value {
        let mut view = serde_json::Map::new();
        view.insert("labels".to_owned(), serde_json::json!(grouping.0));
        view.insert(
            "last_push_successful".to_owned(),
            (self.pushed_at >= self.failed_at).into(),
        );
        for (labels, value, help) in self.own(grouping) {
            let at = if labels.value(METRIC_NAME) == PUSH_TIME {
                self.pushed_at
            } else {
                self.failed_at
            };
            let metrics = vec![metric(&labels, &Value::Float(value))];
            let about = family_view(MetricKind::Gauge, help, at, metrics);
            view.insert(labels.value(METRIC_NAME).to_owned(), about);
        }
        for (name, family) in &self.families {
            let metrics = family
                .points
                .iter()
                .map(|(labels, value)| metric(labels, value))
                .collect();
            let about = family_view(family.kind, &family.help, family.pushed_at, metrics);
            view.insert(name.clone(), about);
        }
        view.into()
    }
}

fn metadata(name: &str, kind: MetricKind, help: &str) -> MetricMetadata {
    MetricMetadata {
        metric: name.to_owned(),
        kind,
        help: help.to_owned(),
        unit: String::new(),
    }
}

fn family_view(kind: MetricKind, help: &str, at: Millis, metrics: Vec<serde_json::Value>) -> serde_json::Value {
    serde_json::json!({
        "time_stamp": at.to_string(),
        "type": kind.as_str().to_uppercase(),
        "help": help,
        "metrics": metrics,
    })
}

fn metric(labels: &Labels, value: &Value) -> serde_json::Value {
    let value = match value {
        Value::Float(value) => value.to_string(),
        Value::Histogram(histogram) => format!("count {} sum {}", histogram.count, histogram.sum),
    };
    serde_json::json!({"labels": labels, "value": value})
}

/// Samples on their way to the store.
#[derive(Default)]
pub(super) struct Sampled {
    points: Vec<(Labels, Millis, Value)>,
    metadata: Vec<MetricMetadata>,
}

impl Sampled {
    fn push(&mut self, labels: Labels, at: Millis, value: Value) {
        self.points.push((labels, at, value));
    }

    pub(super) fn merge(&mut self, mut other: Sampled) {
        self.points.append(&mut other.points);
        self.metadata.append(&mut other.metadata);
    }

    /// Ends those of `before` that have no sample here.
    pub(super) fn end(&mut self, before: Option<HashSet<Labels>>, at: Millis) {
        let here: HashSet<&Labels> = self.points.iter().map(|(labels, ..)| labels).collect();
        let gone: Vec<Labels> = before
            .into_iter()
            .flatten()
            .filter(|labels| !here.contains(labels))
            .collect();
        for labels in gone {
            self.push(labels, at, Value::Float(stale_marker()));
        }
    }

    /// Returns the samples as a batch keyed under `seed`.
    pub(super) fn batch(self, seed: u64) -> WriteBatch {
        let mut histograms: HashMap<usize, (Millis, Arc<FloatHistogram>)> = HashMap::new();
        let mut series = Vec::with_capacity(self.points.len());
        for (index, (labels, at, value)) in self.points.into_iter().enumerate() {
            let samples = match value {
                Value::Float(value) => vec![Sample { at, value }],
                Value::Histogram(histogram) => {
                    histograms.insert(index, (at, histogram));
                    Vec::new()
                }
            };
            series.push(OwnedSeries { labels, samples });
        }
        let mut batch = WriteBatch::from_series(series, seed);
        for (index, series) in batch.series.iter_mut().enumerate() {
            if let Some((at, histogram)) = histograms.remove(&index) {
                let from = batch.histograms.len() as u32;
                batch.histograms.push(HistogramSample { at, histogram });
                series.histograms = from..from + 1;
            }
        }
        batch.metadata = self.metadata;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_group() {
        let group = |path: &str| Grouping::from_path("a", path).map(|group| group.to_string());
        assert_eq!(group(""), Ok(r#"{job="a"}"#.to_owned()));
        assert_eq!(
            group("instance/db-1/x/y"),
            Ok(r#"{instance="db-1", job="a", x="y"}"#.to_owned())
        );
        assert_eq!(
            group("path@base64/L3Zhci90bXA"),
            Ok(r#"{job="a", path="/var/tmp"}"#.to_owned())
        );
        assert_eq!(group("first@base64/="), Ok(r#"{first="", job="a"}"#.to_owned()));
        assert_eq!(group("job/other"), Ok(r#"{job="a"}"#.to_owned()));
        for (path, expected) in [
            ("x", "odd number"),
            ("a-b/c", "improper"),
            ("__a/b", "improper"),
            ("x@base64/!", "base64"),
        ] {
            assert!(group(path).unwrap_err().contains(expected), "{path}");
        }
        assert!(Grouping::from_path("", "").is_err());
    }
}
