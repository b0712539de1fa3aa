//! VictoriaMetrics's JSON lines: one series a line, for imports and exports.
//!
//! ```text
//! {"metric":{"__name__":"up","job":"api"},"values":[1,0.5,null],"timestamps":[1700000000000,1700000015000,1700000030000]}
//! ```
//! Times are milliseconds. `null` and `"NaN"` are NaN; `"Infinity"` and `"-Infinity"` what they say.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::batch::OwnedBatch;
use super::{DecodeError, Decoded, IngestLimits};
use crate::model::{Labels, Millis, Sample};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    metric: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// As written: `serde_json` reads a double to the last bit but one.
    #[serde(borrow)]
    values: Vec<&'a RawValue>,
    timestamps: Vec<i64>,
}

/// Decodes a body; a line that cannot be read is left out and listed.
///
/// # Errors
/// [`DecodeError`] when it is not UTF-8 or over a limit.
pub fn decode(body: &[u8], extra: &Labels, seed: u64, limits: &IngestLimits) -> Result<Decoded, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        DecodeError::Malformed(format!("malformed JSON: not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let mut gathered = OwnedBatch::new(limits);
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match read_line(line) {
            Ok((pairs, samples)) => {
                let pairs = pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
                gathered.add(pairs, extra, &samples, None)?;
            }
            Err(error) => gathered.refuse(1, String::new(), format!("line {}: {error}", index + 1)),
        }
    }
    Ok(gathered.finish(seed))
}

type Pairs<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

fn read_line(line: &str) -> Result<(Pairs<'_>, Vec<Sample>), String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if line.values.len() != line.timestamps.len() {
        let (values, times) = (line.values.len(), line.timestamps.len());
        return Err(format!("{values} values and {times} timestamps"));
    }
    let sample = |(value, at): (&&RawValue, &i64)| {
        Ok(Sample {
            at: Millis(*at),
            value: number(value.get())?,
        })
    };
    let samples: Result<Vec<Sample>, String> = line.values.iter().zip(&line.timestamps).map(sample).collect();
    Ok((line.metric, samples?))
}

fn number(json: &str) -> Result<f64, String> {
    match json {
        "null" | "\"NaN\"" => Ok(f64::NAN),
        "\"Infinity\"" | "\"+Inf\"" | "\"Inf\"" => Ok(f64::INFINITY),
        "\"-Infinity\"" | "\"-Inf\"" => Ok(f64::NEG_INFINITY),
        json => json.parse().map_err(|_| format!("{json} is not a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Decoded {
        decode(text.as_bytes(), &Labels::empty(), 1, &IngestLimits::default()).unwrap()
    }

    #[test]
    fn the_format_is_pinned() {
        let text =
            r#"{"metric":{"__name__":"up","job":"a\"b"},"values":[1,null,"Infinity",-0.0],"timestamps":[1,2,3,-4]}"#;
        let batch = read(text).batch;
        assert_eq!(batch.labels.labels(0).unwrap().to_string(), r#"up{job="a\"b"}"#);
        let values: Vec<f64> = batch.samples.iter().map(|sample| sample.value).collect();
        assert!(values[1].is_nan() && values[2].is_infinite() && values[3].is_sign_negative());
        assert_eq!((batch.samples[0].value, batch.samples[3].at), (1.0, Millis(-4)));
    }

    #[test]
    fn bad_lines_are_listed_and_the_others_kept() {
        let good = r#"{"metric":{"__name__":"a"},"values":[1],"timestamps":[1]}"#;
        let bad = [
            "{",
            r#"{"metric":{"__name__":"a"},"values":[1],"timestamps":[]}"#,
            r#"{"metric":{"__name__":"a"},"values":["x"],"timestamps":[1]}"#,
            r#"{"metric":{"job":"a"},"values":[1,2],"timestamps":[1,2]}"#,
            r#"{"metric":{"__name__":"a"},"values":[],"timestamps":[],"more":1}"#,
        ];
        let decoded = read(&[&[good][..], &bad, &["", good]].concat().join("\n"));
        assert_eq!((decoded.batch.samples.len(), decoded.rejections.total), (2, 6));
        let reasons: Vec<String> = decoded
            .rejections
            .first
            .iter()
            .map(|first| first.reason.to_string())
            .collect();
        assert!(
            reasons[0].starts_with("line 2:") && reasons[1].contains("1 values and 0 timestamps"),
            "{reasons:?}"
        );
    }

    proptest! {
        #[test]
        fn every_double_survives(values in proptest::collection::vec(any::<f64>(), 1..20)) {
            let written: Vec<String> = values
                .iter()
                .map(|value| if value.is_finite() { format!("{value:?}") } else { "null".to_owned() })
                .collect();
            let times: Vec<String> = (0..values.len()).map(|at| at.to_string()).collect();
            let line = format!(
                r#"{{"metric":{{"__name__":"a"}},"values":[{}],"timestamps":[{}]}}"#,
                written.join(","),
                times.join(",")
            );
            for (sample, value) in read(&line).batch.samples.iter().zip(&values) {
                prop_assert!(sample.value.to_bits() == value.to_bits() || !value.is_finite() && sample.value.is_nan());
            }
            for cut in 1..line.len() {
                prop_assert_eq!(read(&line[..cut]).batch.samples.len(), 0);
            }
        }

        #[test]
        fn foreign_text_never_panics(text in ".{0,80}") {
            let _ = read(&text);
        }
    }
}
