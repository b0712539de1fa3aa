//! Datadog's series, as its agent and libraries post them: JSON of versions 1 and 2, protobuf of version 2.
//!
//! ```text
//! v1 {"series":[{"metric":"a.b","points":[[1700000000,1.5]],"host":"h","device":"d","tags":["env:prod"]}]}
//! v2 {"series":[{"metric":"a.b","type":3,"points":[{"timestamp":1700000000,"value":1.5}],"resources":[{"type":"host","name":"h"}],"tags":[…]}]}
//! ```
//! Names become ours with underscores; a tag `name:value` becomes a label, one without a value says `true`. Counts stay what
//! they were, one sample for each interval: `sum_over_time` adds them up.

use std::collections::BTreeMap;

use prost::Message;
use serde::Deserialize;

use super::batch::OwnedBatch;
use super::mapping::{plain_label, plain_name};
use super::{DecodeError, Decoded, IngestLimits};
use crate::model::{Labels, METRIC_NAME, Millis, Sample};

#[derive(Deserialize)]
struct V1 {
    series: Vec<SeriesV1>,
}

#[derive(Deserialize)]
struct SeriesV1 {
    metric: String,
    points: Vec<(f64, Option<f64>)>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct V2 {
    #[prost(message, repeated, tag = "1")]
    series: Vec<SeriesV2>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct SeriesV2 {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
    #[prost(string, tag = "2")]
    metric: String,
    #[prost(string, repeated, tag = "3")]
    tags: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    points: Vec<PointV2>,
}

#[derive(Clone, PartialEq, Eq, prost::Message, Deserialize)]
#[serde(default)]
struct Resource {
    #[prost(string, tag = "1")]
    #[serde(rename = "type")]
    kind: String,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct PointV2 {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

fn malformed(what: &str, error: &dyn std::fmt::Display) -> DecodeError {
    DecodeError::Malformed(format!("malformed {what} body: {error}"))
}

/// Decodes the JSON of `/api/v1/series`.
///
/// # Errors
/// [`DecodeError`] when it is no such JSON or over a limit.
pub fn decode_v1(body: &[u8], seed: u64, limits: &IngestLimits) -> Result<Decoded, DecodeError> {
    let V1 { series } = serde_json::from_slice(body).map_err(|error| malformed("JSON", &error))?;
    let mut gathered = OwnedBatch::new(limits);
    for one in series {
        let samples = one.points.iter().filter_map(|(at, value)| {
            Some(Sample {
                at: seconds(*at),
                value: (*value)?,
            })
        });
        let own = [("host", one.host), ("device", one.device)];
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        add(
            &mut gathered,
            &one.metric,
            own.collect(),
            one.tags.unwrap_or_default(),
            samples.collect(),
        )?;
    }
    Ok(gathered.finish(seed))
}

/// Decodes `/api/v2/series`, JSON or protobuf.
///
/// # Errors
/// As [`decode_v1`].
pub fn decode_v2(body: &[u8], json: bool, seed: u64, limits: &IngestLimits) -> Result<Decoded, DecodeError> {
    let V2 { series } = if json {
        serde_json::from_slice(body).map_err(|error| malformed("JSON", &error))?
    } else {
        V2::decode(body).map_err(|error| malformed("protobuf", &error))?
    };
    let mut gathered = OwnedBatch::new(limits);
    for one in series {
        let samples = one.points.iter().map(|point| Sample {
            at: Millis(point.timestamp.saturating_mul(1000)),
            value: point.value,
        });
        let own = one
            .resources
            .into_iter()
            .map(|resource| (plain_label(&resource.kind), resource.name));
        add(&mut gathered, &one.metric, own.collect(), one.tags, samples.collect())?;
    }
    Ok(gathered.finish(seed))
}

#[expect(clippy::cast_possible_truncation, reason = "a cast of a double saturates")]
fn seconds(at: f64) -> Millis {
    Millis((at * 1000.0) as i64)
}

fn add(
    gathered: &mut OwnedBatch,
    metric: &str,
    own: Vec<(String, String)>,
    tags: Vec<String>,
    samples: Vec<Sample>,
) -> Result<(), DecodeError> {
    if metric.is_empty() {
        gathered.refuse(samples.len() as u64, String::new(), "a series has no metric".to_owned());
        return Ok(());
    }
    let mut pairs: BTreeMap<String, String> = BTreeMap::new();
    let tags = tags.iter().map(|tag| {
        let (name, value) = tag.split_once(':').unwrap_or((tag, "true"));
        (plain_label(name), value.to_owned())
    });
    for (name, value) in own.into_iter().chain(tags).filter(|(name, _)| !name.is_empty()) {
        // A tag may have several values.
        pairs
            .entry(name)
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert_with(|| value.clone());
    }
    pairs.insert(METRIC_NAME.to_owned(), plain_name(metric));
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    gathered.add(pairs, &Labels::empty(), &samples, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(decoded: &Decoded) -> Vec<String> {
        let batch = &decoded.batch;
        let line = |(index, series): (usize, &crate::model::BatchSeries)| {
            let samples = &batch.samples[series.samples.start as usize..series.samples.end as usize];
            let points: Vec<String> = samples
                .iter()
                .map(|one| format!("{}@{}", one.value, one.at.0))
                .collect();
            format!("{} {}", batch.labels.labels(index).unwrap(), points.join(" "))
        };
        batch.series.iter().enumerate().map(line).collect()
    }

    const EXPECTED: &str = r#"system_load_1{env="a,b", gpu="true", host="web-1"} 0.5@1700000000000 1@1700000010000"#;

    #[test]
    fn all_three_forms_say_the_same() {
        let v1 = br#"{"series":[{"metric":"system.load.1","points":[[1700000000,0.5],[1700000010,1]],"type":"gauge","interval":10,
            "host":"web-1","tags":["env:a","gpu","env:b"]}]}"#;
        let v2 = br#"{"series":[{"metric":"system.load.1","type":3,"points":[{"timestamp":1700000000,"value":0.5},
            {"timestamp":1700000010,"value":1}],"resources":[{"type":"host","name":"web-1"}],"tags":["env:a","gpu","env:b"]}]}"#;
        let limits = IngestLimits::default();
        assert_eq!(shown(&decode_v1(v1, 1, &limits).unwrap()), [EXPECTED]);
        assert_eq!(shown(&decode_v2(v2, true, 1, &limits).unwrap()), [EXPECTED]);
        let wire = serde_json::from_slice::<V2>(v2).unwrap().encode_to_vec();
        assert_eq!(shown(&decode_v2(&wire, false, 1, &limits).unwrap()), [EXPECTED]);
        for cut in 1..wire.len() {
            assert!(decode_v2(&wire[..cut], false, 1, &limits).is_err());
        }
        let refused = decode_v1(b"{\"series\":7}", 1, &limits).err().unwrap();
        assert!(refused.to_string().contains("malformed JSON"));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_v2(&bytes, false, 1, &IngestLimits::default());
            let _ = decode_v1(&bytes, 1, &IngestLimits::default());
        }
    }
}
