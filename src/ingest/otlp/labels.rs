//! The labels of OTLP's series, spelled out when a series is new: resource, scope, attributes, and what a part of a
//! histogram or summary adds.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::OtlpConfig;
use super::proto::{self, KeyValue};
use super::reader::{Metric, widen};
use crate::ingest::wire::{Cursor, Field};
use crate::ingest::{DecodeError, LabelCheck, check_labels};
use crate::model::{LabelError, LabelSource, Labels, METRIC_NAME};

/// What a series is of its point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// The point's one value.
    Plain,
    /// `…_count`.
    Count,
    /// `…_sum`.
    Sum,
    /// `…_bucket` up to this bound.
    Bucket(f64),
    /// This quantile.
    Quantile(f64),
    /// A native histogram.
    Native,
}

impl Role {
    /// Returns a tag and a number that tell roles apart.
    pub(super) fn bits(self) -> (u8, u64) {
        match self {
            Role::Plain => (0, 0),
            Role::Count => (1, 0),
            Role::Sum => (2, 0),
            Role::Bucket(bound) => (3, bound.to_bits()),
            Role::Quantile(quantile) => (4, quantile.to_bits()),
            Role::Native => (5, 0),
        }
    }
}

/// Where a series' labels come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// A point of a metric, and which part of it.
    Point {
        metric: u32,
        from: u32,
        to: u32,
        role: Role,
    },
    /// A resource.
    TargetInfo { resource: u32 },
}

/// Where an instrumentation scope stands in the body; nowhere when it is not promoted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scope {
    pub(super) scope: (usize, usize),
    pub(super) schema_url: (usize, usize),
}

/// A resource, its attributes as text.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) hash: u128,
    job: Option<String>,
    instance: Option<String>,
    /// What every series of it gets.
    promoted: Vec<(String, String)>,
    /// The labels of `target_info` beside job and instance.
    info: Vec<(String, String)>,
}

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";

impl Resource {
    /// Reads `Resource` at `at` and the scope, when it is promoted.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] when an attribute cannot be read.
    pub(super) fn read(
        body: &[u8],
        at: (usize, usize),
        scope: Scope,
        hash: u128,
        config: &OtlpConfig,
    ) -> Result<Resource, DecodeError> {
        let attributes = attributes(body, at, 1)?;
        let find = |wanted: &str| {
            let found = attributes.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        let job = find(SERVICE_NAME).map(|name| match find(SERVICE_NAMESPACE) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        });
        let identifying = |name: &str| matches!(name, SERVICE_NAME | SERVICE_NAMESPACE | SERVICE_INSTANCE);
        let strategy = config.translation_strategy;
        let info = attributes
            .iter()
            .filter(|(name, _)| config.keep_identifying_resource_attributes || !identifying(name));
        let mut promoted: Vec<(String, String)> = attributes
            .iter()
            .filter(|(name, _)| config.promotes(name))
            .map(|(name, value)| (strategy.label_name(name), value.clone()))
            .collect();
        promoted.extend(scope_labels(body, scope, config)?);
        Ok(Resource {
            hash,
            job,
            instance: find(SERVICE_INSTANCE),
            promoted,
            info: info
                .map(|(name, value)| (strategy.label_name(name), value.clone()))
                .collect(),
        })
    }

    /// Returns the key of the resource's `target_info`, `None` when it has none: nothing to say, or about nobody.
    pub(super) fn info_hash(&self, seed: u64) -> Option<u128> {
        let says = !self.info.is_empty() && (self.job.is_some() || self.instance.is_some());
        says.then(|| xxh3_128_with_seed(&self.hash.to_le_bytes(), seed))
    }
}

fn scope_labels(body: &[u8], scope: Scope, config: &OtlpConfig) -> Result<Vec<(String, String)>, DecodeError> {
    let (from, to) = scope.scope;
    let read = proto::Scope::decode(&body[from..to]).map_err(|error| {
        DecodeError::Malformed(format!(
            "malformed protobuf body: a scope cannot be read: {error}, at byte {from}"
        ))
    })?;
    let (from, to) = scope.schema_url;
    let mut labels = vec![
        ("otel_scope_name".to_owned(), read.name),
        ("otel_scope_version".to_owned(), read.version),
        (
            "otel_scope_schema_url".to_owned(),
            String::from_utf8_lossy(&body[from..to]).into_owned(),
        ),
    ];
    for KeyValue { key, value } in read.attributes {
        let name = config.translation_strategy.label_name(&format!("otel_scope_{key}"));
        labels.push((name, value.unwrap_or_default().text()));
    }
    labels.retain(|(_, value)| !value.is_empty());
    Ok(labels)
}

/// Reads the attributes in field `number` of the message at `at`, sorted by name.
fn attributes(body: &[u8], (from, to): (usize, usize), number: u32) -> Result<Vec<(String, String)>, DecodeError> {
    let mut found = Vec::new();
    let mut cursor = Cursor::new(body, from, to);
    while let Some(field) = cursor.next()? {
        if let Field::Bytes(of, from, to) = field
            && of == number
        {
            let KeyValue { key, value } = KeyValue::decode(&body[from..to])
                .map_err(|error| cursor.malformed(&format!("an attribute cannot be read: {error}")))?;
            found.push((key, value.unwrap_or_default().text()));
        }
    }
    found.sort();
    Ok(found)
}

/// Keeps the body and the tables, and spells out what the store does not know.
pub(super) struct OtlpLabels {
    pub(super) body: Bytes,
    pub(super) config: OtlpConfig,
    pub(super) resources: Vec<Resource>,
    pub(super) metrics: Vec<Metric>,
    pub(super) places: Vec<Place>,
    pub(super) check: LabelCheck,
}

impl LabelSource for OtlpLabels {
    fn labels(&self, index: usize) -> Result<Labels, LabelError> {
        let mut pairs = BTreeMap::new();
        match self.places[index] {
            Place::TargetInfo { resource } => {
                let resource = &self.resources[resource as usize];
                merge(&mut pairs, &resource.info);
                identify(&mut pairs, resource);
                pairs.insert(METRIC_NAME.to_owned(), "target_info".to_owned());
            }
            Place::Point { metric, from, to, role } => self.point(&mut pairs, metric, (from, to), role)?,
        }
        let bytes = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        check_labels(bytes, &self.check)
    }
}

impl OtlpLabels {
    fn point(
        &self,
        pairs: &mut BTreeMap<String, String>,
        metric: u32,
        at: (u32, u32),
        role: Role,
    ) -> Result<(), LabelError> {
        let metric = &self.metrics[metric as usize];
        let resource = &self.resources[metric.resource as usize];
        let strategy = self.config.translation_strategy;
        let text = |(from, to): (usize, usize)| std::str::from_utf8(&self.body[from..to]);
        let name = text(widen(metric.name)).map_err(|_| broken("the metric's name is not UTF-8"))?;
        let unit = text(widen(metric.unit)).map_err(|_| broken("the metric's unit is not UTF-8"))?;
        let number = super::points::attributes_field(metric.kind, role);
        let own = attributes(&self.body, widen(at), number).map_err(|error| broken(&error.to_string()))?;
        let own: Vec<(String, String)> = own
            .into_iter()
            .map(|(name, value)| (strategy.label_name(&name), value))
            .collect();
        merge(pairs, &own);
        for (name, value) in &resource.promoted {
            pairs.entry(name.clone()).or_insert_with(|| value.clone());
        }
        identify(pairs, resource);
        let mut whole = strategy.metric_name(name, unit, metric.kind);
        match role {
            Role::Plain | Role::Native => {}
            Role::Count => whole.push_str("_count"),
            Role::Sum => whole.push_str("_sum"),
            Role::Bucket(bound) => {
                whole.push_str("_bucket");
                pairs.insert("le".to_owned(), bound_text(bound));
            }
            Role::Quantile(quantile) => drop(pairs.insert("quantile".to_owned(), bound_text(quantile))),
        }
        pairs.insert(METRIC_NAME.to_owned(), whole);
        Ok(())
    }
}

/// A bound as Prometheus writes it.
fn bound_text(bound: f64) -> String {
    if bound == f64::INFINITY {
        return "+Inf".to_owned();
    }
    crate::model::format_plain(bound)
}

/// Adds labels; values of names that become the same are joined, as Prometheus does.
fn merge(pairs: &mut BTreeMap<String, String>, more: &[(String, String)]) {
    for (name, value) in more {
        pairs
            .entry(name.clone())
            .and_modify(|before| {
                before.push(';');
                before.push_str(value);
            })
            .or_insert_with(|| value.clone());
    }
}

fn identify(pairs: &mut BTreeMap<String, String>, resource: &Resource) {
    for (name, value) in [("job", &resource.job), ("instance", &resource.instance)] {
        if let Some(value) = value {
            pairs.insert(name.to_owned(), value.clone());
        }
    }
}

fn broken(reason: &str) -> LabelError {
    LabelError {
        series: String::new(),
        reason: reason.to_owned(),
    }
}
