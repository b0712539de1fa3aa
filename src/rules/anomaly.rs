//! `anomaly:` on a rule or a query: sugar over the detectors of the query language.
//!
//! `anomaly: below` and the full form become one query, `anomaly_bands("seasonal", …)`, whose answer holds value, expected
//! value, band and score of each element. Nothing else is remembered: the same data gives the same alerts.

use std::collections::BTreeMap;

use super::file::QueryText;
use super::{Evaluate, vector};
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, Millis};
use crate::storage::Point;

/// The label by which `anomaly_bands` tells its numbers apart.
const BAND: &str = "band";
/// The model of the short form.
const MODEL: &str = "seasonal";
/// What a rule records of each element, in the order of [`Reading::recorded`].
pub(super) const RECORDED: [&str; 4] = ["anomaly_score", "anomaly_expected", "anomaly_lower", "anomaly_upper"];

/// A query whose values are judged by a detector.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// The query for value, band and score.
    bands: QueryText,
    /// The query for the score alone, for people to graph.
    score: String,
}

/// One element of a judged query.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    pub(super) value: f64,
    /// `None` while the model is learning.
    pub(super) band: Option<Band>,
}

/// What was expected of an element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Band {
    pub(super) expected: f64,
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) score: f64,
}

impl Anomaly {
    /// Reads the key's value: a direction, or a map of options.
    pub(super) fn read(yaml: &serde_yaml::Value, query: &QueryText) -> Result<Anomaly, String> {
        let mut model = MODEL.to_owned();
        let mut options = Vec::new();
        match yaml {
            serde_yaml::Value::String(direction) => options.push(format!("direction={direction}")),
            serde_yaml::Value::Mapping(map) => {
                for (key, value) in map {
                    let key = key.as_str().ok_or("anomaly: a key is no text")?;
                    let value =
                        text(value).ok_or_else(|| format!("anomaly: the value of {key:?} is no text or number"))?;
                    match key {
                        "model" => model = value,
                        _ => options.push(format!("{key}={value}")),
                    }
                }
            }
            _ => return Err("anomaly: write below, above, both, or a map of options".to_owned()),
        }
        let arguments = |function: &str| {
            let quoted = |text: &str| serde_json::Value::from(text).to_string();
            let mut call = format!("{function}({}, {}", quoted(&model), query.expr);
            for option in &options {
                call.push_str(", ");
                call.push_str(&quoted(option));
            }
            call + ")"
        };
        let bands = arguments("anomaly_bands").parse().map_err(|error: String| {
            // The query is good: what is left to be wrong is an option.
            let reason = error
                .split_once("anomaly_bands: ")
                .map_or(error.as_str(), |(_, reason)| reason);
            format!("anomaly: {reason}")
        })?;
        Ok(Anomaly {
            bands,
            score: arguments("anomaly_score"),
        })
    }

    /// Returns the query for the score.
    pub(super) fn score_query(&self) -> &str {
        &self.score
    }

    /// Asks for the elements, each with its reading.
    pub(super) fn ask(&self, engine: &dyn Evaluate, at: Millis) -> Result<Vec<(Labels, Reading)>, String> {
        let output = engine
            .instant(&self.bands.expr, at)
            .map_err(|error| error.to_string())?;
        let mut found: BTreeMap<Labels, (Option<f64>, [Option<f64>; 4])> = BTreeMap::new();
        for sample in vector(output.value)? {
            let Point::Float(float) = sample.point else { continue };
            let labels = sample.labels.filtered(|name| name != BAND);
            let reading = found.entry(labels).or_default();
            let slot = match sample.labels.value(BAND) {
                "value" => &mut reading.0,
                "score" => &mut reading.1[0],
                "expected" => &mut reading.1[1],
                "lower" => &mut reading.1[2],
                "upper" => &mut reading.1[3],
                _ => continue,
            };
            *slot = Some(float.value);
        }
        let read = found.into_iter().filter_map(|(labels, (value, band))| {
            let band = match band {
                [Some(score), Some(expected), Some(lower), Some(upper)] => Some(Band {
                    expected,
                    lower,
                    upper,
                    score,
                }),
                _ => None,
            };
            Some((labels, Reading { value: value?, band }))
        });
        Ok(read.collect())
    }
}

impl Band {
    /// Returns the series that a rule records of an element. `query` tells several judged queries of a rule apart.
    pub(super) fn recorded(&self, labels: &Labels, alert: &str, query: Option<&str>) -> Vec<(Labels, f64)> {
        let mut builder: LabelsBuilder = labels.to_builder();
        builder.set("alertname", alert);
        if let Some(query) = query {
            builder.set("query", query);
        }
        let numbers = [self.score, self.expected, self.lower, self.upper];
        RECORDED
            .into_iter()
            .zip(numbers)
            .map(|(name, number)| (builder.set(METRIC_NAME, name).build(), number))
            .collect()
    }
}

/// Words a YAML value as the options of a query have it.
fn text(value: &serde_yaml::Value) -> Option<String> {
    match value {
        serde_yaml::Value::String(text) => Some(text.clone()),
        serde_yaml::Value::Number(number) => {
            let number = number.as_f64()?;
            Some(number.to_string())
        }
        serde_yaml::Value::Sequence(items) => {
            let items: Option<Vec<String>> = items.iter().map(text).collect();
            Some(items?.join(", "))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Anomaly, String> {
        let query = "sum by (site) (rate(views_total[5m]))".parse().unwrap();
        Anomaly::read(&serde_yaml::from_str(yaml).unwrap(), &query)
    }

    #[test]
    fn short_and_full_form_become_a_query() {
        assert_eq!(
            read("below").unwrap().score_query(),
            r#"anomaly_score("seasonal", sum by (site) (rate(views_total[5m])), "direction=below")"#
        );
        let full = "{model: mad, history: 2d, direction: above, min_change: 20%, sensitivity: 3.5, range: [0, inf]}";
        assert_eq!(
            read(full).unwrap().score_query(),
            r#"anomaly_score("mad", sum by (site) (rate(views_total[5m])), "history=2d", "direction=above", "min_change=20%", "sensitivity=3.5", "range=0, inf")"#
        );
        assert!(read("{season: 1w, timezone: Europe/Berlin, holidays: [2026-12-25, 2026-12-26]}").is_ok());
    }

    #[test]
    fn a_mistake_is_told_with_what_would_be_right() {
        for (yaml, expected) in [
            ("belwo", "write below, above or both"),
            ("{model: sesonal}", "did you mean \"seasonal\"?"),
            ("{sensitivty: 3}", "did you mean \"sensitivity\"?"),
            ("{history: 1w}", "two seasons"),
            ("7", "write below, above, both, or a map"),
            ("{range: {a: b}}", "no text or number"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(
                error.starts_with("anomaly: ") && error.contains(expected),
                "{yaml}: {error}"
            );
        }
    }
}
