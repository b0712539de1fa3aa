//! From queries to verdicts: which elements a rule found, and whether its condition holds for each.

use std::collections::BTreeMap;

use super::anomaly::{Band, Reading};
use super::file::{RuleSpec, Signal, Signals, Source};
use super::subject::subject;
use super::{Evaluate, vector};
use crate::model::{Labels, Millis};
use crate::storage::Point;
use crate::template::Value;

/// One element of a rule's result.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The element's labels, the metric's name among them.
    pub(super) labels: Labels,
    /// Its value as a number.
    pub(super) value: f64,
    /// Its value as templates see it.
    pub(super) shown: Value,
    /// The values of all queries, when there are several.
    pub(super) values: Vec<(String, f64)>,
    /// Whether the condition holds; `None` when a value that it needs is missing.
    pub(super) holds: Option<bool>,
    /// What detectors say of it, each with the name of its query.
    pub(super) bands: Vec<(String, Band)>,
    /// Whether a detector is still learning it.
    pub(super) learning: bool,
}

/// What the rule judges, without its thresholds: values by labels.
pub(super) type Subject = BTreeMap<Labels, Found>;

impl Found {
    pub(super) fn new(labels: Labels, value: f64, holds: Option<bool>) -> Found {
        Found {
            labels,
            value,
            shown: Value::Float(value),
            values: Vec::new(),
            holds,
            bands: Vec::new(),
            learning: false,
        }
    }
}

/// Asks the rule's question.
pub(super) fn find(rule: &RuleSpec, engine: &dyn Evaluate, at: Millis) -> Result<Vec<Found>, String> {
    match &rule.source {
        Source::Expr(query) => elements(engine, &query.expr, at),
        Source::Signals(signals) => join(signals, engine, at),
    }
}

/// Asks what the rule is about, thresholds aside.
pub(super) fn find_subject(rule: &RuleSpec, engine: &dyn Evaluate, at: Millis) -> Result<Subject, String> {
    match &rule.source {
        Source::Expr(query) => {
            let found = elements(engine, &subject(&query.expr), at)?;
            Ok(found.into_iter().map(|found| (found.labels.clone(), found)).collect())
        }
        Source::Signals(_) => Ok(Subject::new()),
    }
}

fn elements(engine: &dyn Evaluate, expr: &crate::query::Expr, at: Millis) -> Result<Vec<Found>, String> {
    let output = engine.instant(expr, at).map_err(|error| error.to_string())?;
    let found = vector(output.value)?.into_iter().map(|sample| match sample.point {
        Point::Float(float) => Found::new(sample.labels, float.value, Some(true)),
        Point::Histogram(histogram) => Found {
            shown: Value::from(format!(
                "{{count:{}, sum:{}}}",
                histogram.histogram.count, histogram.histogram.sum
            )),
            ..Found::new(sample.labels, 0.0, Some(true))
        },
    });
    Ok(found.collect())
}

/// Joins the results of several queries on `on:`, or on the labels that all of them share. A series without labels goes
/// with every one.
fn join(signals: &Signals, engine: &dyn Evaluate, at: Millis) -> Result<Vec<Found>, String> {
    let mut results = Vec::new();
    for signal in &signals.queries {
        let found = readings(signal, engine, at).map_err(|error| match signals.queries.len() {
            1 => error,
            _ => format!("query {}: {error}", signal.name),
        })?;
        results.push((signal, found));
    }
    let on = join_labels(
        signals,
        results.iter().flat_map(|(_, found)| found).map(|(labels, _)| labels),
    );
    let mut rows: BTreeMap<Labels, Vec<Option<Reading>>> = BTreeMap::new();
    let mut everywhere: Vec<Option<Reading>> = vec![None; results.len()];
    for (i, (signal, found)) in results.iter().enumerate() {
        let mut seen: BTreeMap<Labels, &Labels> = BTreeMap::new();
        for (labels, reading) in found {
            let bare = labels.without_metric_name();
            if bare.is_empty() {
                everywhere[i] = Some(*reading);
                continue;
            }
            let key = bare.filtered(|name| on.iter().any(|label| label == name));
            if let Some(other) = seen.insert(key.clone(), labels) {
                return Err(format!(
                    "query {}: two series for {key}: {other} and {}; join on more labels with \"on\"",
                    signal.name, labels
                ));
            }
            rows.entry(key).or_insert_with(|| vec![None; signals.queries.len()])[i] = Some(*reading);
        }
    }
    if rows.is_empty() {
        rows.insert(Labels::empty(), vec![None; results.len()]);
    }
    let judged = rows.into_iter().filter_map(|(labels, mut row)| {
        for (value, common) in row.iter_mut().zip(&everywhere) {
            *value = value.or(*common);
        }
        let empty = row.iter().all(Option::is_none);
        for (value, signal) in row.iter_mut().zip(&signals.queries) {
            let default = || signal.default.map(|value| Reading { value, band: None });
            *value = value.or_else(default);
        }
        // Nothing at all was found: there is no label set to speak of.
        (!empty).then(|| judge(signals, labels, &row))
    });
    Ok(judged.collect())
}

/// Asks one query for its elements.
fn readings(signal: &Signal, engine: &dyn Evaluate, at: Millis) -> Result<Vec<(Labels, Reading)>, String> {
    if let Some(anomaly) = &signal.anomaly {
        return anomaly.ask(engine, at);
    }
    let found = elements(engine, &signal.query.expr, at)?;
    let reading = |found: Found| {
        let value = found.value;
        (found.labels, Reading { value, band: None })
    };
    Ok(found.into_iter().map(reading).collect())
}

fn judge(signals: &Signals, labels: Labels, row: &[Option<Reading>]) -> Found {
    let mut values = Vec::new();
    let mut bands = Vec::new();
    let mut learning = false;
    for (signal, reading) in signals.queries.iter().zip(row) {
        let Some(reading) = reading else { continue };
        values.push((signal.name.clone(), reading.value));
        if signal.anomaly.is_none() {
            continue;
        }
        match reading.band {
            Some(band) => {
                values.push((format!("{}.score", signal.name), band.score));
                values.push((format!("{}.expected", signal.name), band.expected));
                bands.push((signal.name.clone(), band));
            }
            None => learning = true,
        }
    }
    let value_of = |name: &str| values.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    let holds = signals.condition.holds(value_of);
    // Who is learning has data, and nothing to say about them.
    let holds = if learning { holds.or(Some(false)) } else { holds };
    Found {
        bands,
        learning,
        values,
        ..Found::new(labels, row[0].map_or(f64::NAN, |reading| reading.value), holds)
    }
}

fn join_labels<'a>(signals: &Signals, found: impl Iterator<Item = &'a Labels>) -> Vec<String> {
    if !signals.on.is_empty() {
        return signals.on.clone();
    }
    let mut shared: Option<Vec<String>> = None;
    for labels in found {
        let bare = labels.without_metric_name();
        if bare.is_empty() {
            continue;
        }
        shared = Some(match shared {
            None => bare.iter().map(|(name, _)| name.to_owned()).collect(),
            Some(names) => names.into_iter().filter(|name| bare.get(name).is_some()).collect(),
        });
    }
    shared.unwrap_or_default()
}
