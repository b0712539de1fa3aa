//! A server's answer, read from Prometheus's JSON.

use serde_json::Value;

use crate::model::{Labels, Millis};

/// Series with their values; numbers and texts are a series without labels.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) series: Vec<Series>,
    /// Whether each series has one value, all at one time.
    pub(super) instant: bool,
}

#[derive(Debug, PartialEq)]
pub(super) struct Series {
    /// The labels as the language writes them; empty for a number.
    pub(super) name: String,
    pub(super) points: Vec<(Millis, String)>,
}

impl Answer {
    /// Reads `data` of an answer.
    ///
    /// # Errors
    /// A text that says what is not as it should be.
    pub(super) fn read(data: &Value) -> Result<Answer, String> {
        let kind = data["resultType"].as_str().unwrap_or("");
        let result = &data["result"];
        let rows = || result.as_array().into_iter().flatten();
        let series: Result<Vec<Series>, String> = match kind {
            "scalar" | "string" => Ok(vec![Series {
                name: String::new(),
                points: vec![point(result)?],
            }]),
            "vector" => rows().map(|row| one(row, &["value", "histogram"], false)).collect(),
            "matrix" => rows().map(|row| one(row, &["values", "histograms"], true)).collect(),
            other => Err(format!("the answer has the unknown type {other:?}")),
        };
        Ok(Answer {
            series: series?,
            instant: kind != "matrix",
        })
    }
}

fn one(row: &Value, keys: &[&str], many: bool) -> Result<Series, String> {
    let labels = row["metric"].as_object().into_iter().flatten();
    let labels = Labels::from_pairs(labels.map(|(name, value)| (name, value.as_str().unwrap_or(""))));
    let mut points = Vec::new();
    for value in keys.iter().map(|key| &row[*key]).filter(|value| !value.is_null()) {
        if many {
            for value in value.as_array().into_iter().flatten() {
                points.push(point(value)?);
            }
        } else {
            points.push(point(value)?);
        }
    }
    points.sort_by_key(|(at, _)| *at);
    Ok(Series {
        name: labels.to_string(),
        points,
    })
}

fn point(value: &Value) -> Result<(Millis, String), String> {
    let seconds = value[0]
        .as_f64()
        .ok_or_else(|| format!("a value without a time: {value}"))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of floats stops at the ends of time"
    )]
    let at = Millis((seconds * 1000.0).round() as i64);
    let text = match &value[1] {
        Value::String(text) => text.clone(),
        histogram => format!(
            "count {} sum {}",
            histogram["count"].as_str().unwrap_or("?"),
            histogram["sum"].as_str().unwrap_or("?")
        ),
    };
    Ok((at, text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_kinds_of_answers_are_read() {
        let data = json!({"resultType": "vector", "result": [{"metric": {"__name__": "up"}, "value": [1.5, "2"]}]});
        let answer = Answer::read(&data).unwrap();
        assert_eq!((answer.series[0].name.as_str(), answer.instant), ("up", true));
        assert_eq!(answer.series[0].points, [(Millis(1500), "2".to_owned())]);
        let histogram = json!({"count": "1", "sum": "2"});
        let row = json!({"metric": {}, "values": [[2, "1"]], "histograms": [[1, histogram]]});
        let answer = Answer::read(&json!({"resultType": "matrix", "result": [row]})).unwrap();
        assert_eq!(answer.series[0].points[0].1, "count 1 sum 2");
        assert_eq!(
            Answer::read(&json!({"resultType": "scalar", "result": [4, "2"]}))
                .unwrap()
                .series
                .len(),
            1
        );
        assert!(Answer::read(&json!({"resultType": "x"})).is_err());
    }
}
