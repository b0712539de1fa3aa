//! `prometheus.WriteRequest`, decoded in place.
//!
//! ```text
//! WriteRequest { 1: TimeSeries*  3: MetricMetadata* }        TimeSeries { 1: Label*  2: Sample*  3: Exemplar*  4: Histogram* }
//! Label { 1: name  2: value }   Sample { 1: double  2: int64 ms }   Exemplar { 1: Label*  2: double  3: int64 ms }
//! ```
//! Two encodings of one label set have two keys, which is allowed; one key never stands for two label sets, because the
//! hash covers all label bytes.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::columns::{Columns, exemplar_labels, metric_kind, read_sample};
use super::encode::Metadata;
use super::histogram::Histogram;
use crate::ingest::wire::{Cursor, Field};
use crate::ingest::{DecodeError, Decoded, IngestLimits, LabelCheck, check_labels};
use crate::model::{Exemplar, LabelError, LabelSource, Labels, MetricMetadata, Millis, SeriesKey};

/// Keys of different spellings must not meet: each format hashes under a seed of its own.
const SEED_OFFSET: u64 = 1;
/// Key of a `Label` field in a `TimeSeries`, of a `Sample` field, of a `TimeSeries` field.
const LABEL_TAG: u8 = 0x0a;
const SAMPLE_TAG: u8 = 0x12;

/// Decodes an uncompressed body.
///
/// # Errors
/// [`DecodeError`] when it is no such message or over a limit; bad labels surface later, series by series.
pub fn decode(body: Bytes, seed: u64, limits: &IngestLimits) -> Result<Decoded, DecodeError> {
    let seed = seed.wrapping_add(SEED_OFFSET);
    let check = LabelCheck::from(limits);
    let mut columns = Columns::new(limits, body.len());
    let mut places = Vec::with_capacity((body.len() / 128).min(limits.series_per_request_max));
    let mut request = Cursor::new(&body, 0, body.len());
    while let Some(field) = request.next()? {
        match field {
            Field::Bytes(1, from, to) => {
                series(&body, from, to, seed, &check, &mut columns)?;
                places.push((from as u32, to as u32));
            }
            Field::Bytes(3, from, to) => columns.metadata.push(metadata(&body[from..to], &request)?),
            Field::Varint(1 | 3, _) | Field::Fixed64(1 | 3, _) | Field::Fixed32(1 | 3) => {
                return Err(request.malformed("a series has the wrong type"));
            }
            _ => {} // A field of a later version.
        }
    }
    let labels = Arc::new(RawLabels {
        body: body.clone(),
        places,
        check,
    });
    Ok(columns.finish(labels))
}

fn series(
    body: &[u8],
    from: usize,
    to: usize,
    seed: u64,
    check: &LabelCheck,
    columns: &mut Columns,
) -> Result<(), DecodeError> {
    let mark = columns.mark();
    let mut cursor = Cursor::new(body, from, to);
    while cursor.bytes_if(LABEL_TAG)?.is_some() {}
    let labels_end = cursor.at();
    let mut late_labels = false;
    loop {
        if let Some((from, to)) = cursor.bytes_if(SAMPLE_TAG)? {
            columns.sample(read_sample(body, from, to)?.0);
            continue;
        }
        let named = || shown(body, (from, to), check);
        match cursor.next()? {
            None => break,
            Some(Field::Bytes(1, ..)) => late_labels = true,
            Some(Field::Bytes(3, from, to)) => columns.exemplar(exemplar(&body[from..to]), named),
            Some(Field::Bytes(4, from, to)) => {
                let wire = Histogram::decode(&body[from..to])
                    .map_err(|error| cursor.malformed(&format!("a histogram cannot be read: {error}")))?;
                columns.histogram(wire, 0, named);
            }
            Some(Field::Varint(1..=4, _) | Field::Fixed64(1..=4, _) | Field::Fixed32(1..=4)) => {
                return Err(cursor.malformed("a field of a series has the wrong type"));
            }
            Some(_) => {} // A field of a later version.
        }
    }
    let hash = if late_labels {
        xxh3_128_with_seed(&gathered_labels(body, from, to)?, seed)
    } else {
        xxh3_128_with_seed(&body[from..labels_end], seed)
    };
    columns.series(SeriesKey(hash), mark)
}

/// Returns the label fields of a series whose labels do not stand together, as if they did.
#[cold]
fn gathered_labels(body: &[u8], from: usize, to: usize) -> Result<Vec<u8>, DecodeError> {
    let mut gathered = Vec::new();
    let mut cursor = Cursor::new(body, from, to);
    let mut start = cursor.at();
    while let Some(field) = cursor.next()? {
        if matches!(field, Field::Bytes(1, ..)) {
            gathered.extend_from_slice(&body[start..cursor.at()]);
        }
        start = cursor.at();
    }
    Ok(gathered)
}

fn shown(body: &[u8], place: (usize, usize), check: &LabelCheck) -> String {
    match read_labels(body, place, check) {
        Ok(labels) => labels.to_string(),
        Err(error) => error.series,
    }
}

/// Keeps the body, and spells out the labels of the few series that are new.
struct RawLabels {
    body: Bytes,
    places: Vec<(u32, u32)>,
    check: LabelCheck,
}

impl LabelSource for RawLabels {
    fn labels(&self, index: usize) -> Result<Labels, LabelError> {
        let (from, to) = self.places[index];
        read_labels(&self.body, (from as usize, to as usize), &self.check)
    }
}

fn read_labels(body: &[u8], (from, to): (usize, usize), check: &LabelCheck) -> Result<Labels, LabelError> {
    let broken = |error: DecodeError| LabelError {
        series: String::new(),
        reason: error.to_string(),
    };
    let mut pairs = Vec::with_capacity(16);
    let mut cursor = Cursor::new(body, from, to);
    while let Some(field) = cursor.next().map_err(broken)? {
        if let Field::Bytes(1, from, to) = field
            && pairs.len() <= check.labels_max.saturating_mul(4)
        {
            pairs.push(read_label(body, from, to).map_err(broken)?);
        }
    }
    check_labels(pairs.iter().copied(), check)
}

fn read_label(body: &[u8], from: usize, to: usize) -> Result<(&[u8], &[u8]), DecodeError> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut cursor = Cursor::new(body, from, to);
    while let Some(field) = cursor.next()? {
        match field {
            Field::Bytes(1, from, to) => name = &body[from..to],
            Field::Bytes(2, from, to) => value = &body[from..to],
            Field::Varint(1 | 2, _) | Field::Fixed64(1 | 2, _) | Field::Fixed32(1 | 2) => {
                return Err(cursor.malformed("a label's field has the wrong type"));
            }
            _ => {}
        }
    }
    Ok((name, value))
}

fn exemplar(body: &[u8]) -> Result<Exemplar, String> {
    let text = |error: DecodeError| error.to_string();
    let (mut pairs, mut value, mut at) = (Vec::new(), 0.0, Millis(0));
    let mut cursor = Cursor::new(body, 0, body.len());
    while let Some(field) = cursor.next().map_err(text)? {
        match field {
            Field::Bytes(1, from, to) => pairs.push(read_label(body, from, to).map_err(text)?),
            Field::Fixed64(2, bits) => value = f64::from_bits(bits),
            Field::Varint(3, millis) => at = Millis(millis as i64),
            _ => {}
        }
    }
    let labels = exemplar_labels(pairs.into_iter())?;
    Ok(Exemplar { labels, value, at })
}

fn metadata(body: &[u8], place: &Cursor) -> Result<MetricMetadata, DecodeError> {
    let wire = Metadata::decode(body).map_err(|error| place.malformed(&format!("metadata cannot be read: {error}")))?;
    Ok(MetricMetadata {
        metric: wire.metric,
        kind: metric_kind(wire.kind),
        help: wire.help,
        unit: wire.unit,
    })
}

#[cfg(test)]
mod tests {
    use super::super::encode::{self, Label, TimeSeries, WriteRequest};
    use super::super::histogram::{BucketSpan, Count};
    use super::*;
    use proptest::prelude::*;

    const SEED: u64 = 11;

    fn read(body: Vec<u8>) -> Result<Decoded, DecodeError> {
        decode(Bytes::from(body), SEED, &IngestLimits::default())
    }

    fn text() -> impl Strategy<Value = String> {
        "[a-z]{1,6}"
    }

    fn any_series() -> impl Strategy<Value = TimeSeries> {
        let labels = proptest::collection::btree_map(text(), ".{0,12}", 0..5);
        let sample =
            (any::<Option<f64>>(), any::<i64>()).prop_map(|(value, timestamp)| encode::Sample { value, timestamp });
        let histogram = (1..5u32, any::<i64>()).prop_map(|(length, timestamp)| Histogram {
            count: Some(Count::Float(1.0)),
            positive_spans: vec![BucketSpan { offset: -2, length }],
            positive_counts: vec![0.5; length as usize],
            timestamp,
            ..Histogram::default()
        });
        let exemplar = (text(), any::<i64>()).prop_map(|(value, timestamp)| encode::Exemplar {
            labels: vec![Label {
                name: "trace_id".to_owned(),
                value,
            }],
            value: 1.0,
            timestamp,
        });
        let columns = (
            proptest::collection::vec(sample, 0..5),
            proptest::collection::vec(histogram, 0..2),
            proptest::collection::vec(exemplar, 0..2),
        );
        (labels, columns).prop_map(|(labels, (samples, histograms, exemplars))| TimeSeries {
            labels: std::iter::once(("__name__".to_owned(), "m".to_owned()))
                .chain(labels)
                .map(|(name, value)| Label { name, value })
                .collect(),
            samples,
            exemplars,
            histograms,
        })
    }

    fn any_request() -> impl Strategy<Value = WriteRequest> {
        let kind = (0..8i32, text()).prop_map(|(kind, metric)| encode::Metadata {
            kind,
            metric,
            help: "Help.".to_owned(),
            unit: String::new(),
        });
        let series = proptest::collection::vec(any_series(), 0..8);
        (series, proptest::collection::vec(kind, 0..2))
            .prop_map(|(timeseries, metadata)| WriteRequest { timeseries, metadata })
    }

    proptest! {
        #[test]
        fn the_hand_decoder_reads_what_prost_reads(request in any_request()) {
            let decoded = read(request.encode_to_vec()).unwrap();
            let batch = &decoded.batch;
            prop_assert_eq!(batch.series.len(), request.timeseries.len());
            prop_assert_eq!(batch.metadata.len(), request.metadata.len());
            for (index, expected) in request.timeseries.iter().enumerate() {
                let series = &batch.series[index];
                let labels = Labels::from_pairs(expected.labels.iter().map(|label| (&label.name, &label.value)));
                prop_assert_eq!(batch.labels.labels(index).unwrap(), labels);
                let samples = &batch.samples[series.samples.start as usize..series.samples.end as usize];
                prop_assert_eq!(samples.len(), expected.samples.len());
                for (sample, expected) in samples.iter().zip(&expected.samples) {
                    prop_assert_eq!(sample.at.0, expected.timestamp);
                    prop_assert_eq!(sample.value.to_bits(), expected.value.unwrap_or(0.0).to_bits());
                }
                let histograms = &batch.histograms[series.histograms.start as usize..series.histograms.end as usize];
                prop_assert_eq!(histograms.len(), expected.histograms.len());
                prop_assert_eq!(series.exemplars.len(), expected.exemplars.len());
                let twin = request.timeseries.iter().position(|other| other.labels == expected.labels).unwrap();
                prop_assert_eq!(batch.series[twin].key, series.key);
            }
        }

        #[test]
        fn a_prefix_is_an_error_or_whole_series(request in any_request(), cut in any::<prop::sample::Index>()) {
            let body = request.encode_to_vec();
            if let Ok(decoded) = read(body[..cut.index(body.len() + 1)].to_vec()) {
                let series = decoded.batch.series.len();
                let prefix = WriteRequest { timeseries: request.timeseries[..series].to_vec(), metadata: Vec::new() };
                prop_assert_eq!(decoded.batch.samples.len(), read(prefix.encode_to_vec()).unwrap().batch.samples.len());
            }
        }

        #[test]
        fn flipped_bits_never_panic(request in any_request(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut body = request.encode_to_vec();
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] ^= 1u8 << bit;
            }
            if let Ok(decoded) = read(body) {
                for index in 0..decoded.batch.series.len() {
                    let _ = decoded.batch.labels.labels(index);
                }
            }
        }

        #[test]
        fn unequal_labels_have_unequal_keys(first in any_series(), second in any_series()) {
            let same = first.labels == second.labels;
            let request = WriteRequest { timeseries: vec![first, second], metadata: Vec::new() };
            let series = read(request.encode_to_vec()).unwrap().batch.series;
            prop_assert_eq!(series[0].key == series[1].key, same);
        }
    }

    #[test]
    fn labels_that_stand_apart_count_all_the_same() {
        let label = |name: &str, value: &str| Label {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let part = |labels: Vec<Label>, samples: Vec<encode::Sample>| {
            TimeSeries {
                labels,
                samples,
                ..TimeSeries::default()
            }
            .encode_to_vec()
        };
        let sample = vec![encode::Sample {
            value: Some(2.0),
            timestamp: 5,
        }];
        let whole = part(vec![label("__name__", "m"), label("a", "1")], sample.clone());
        let apart = [
            part(vec![label("__name__", "m")], sample),
            part(vec![label("a", "1")], Vec::new()),
        ]
        .concat();
        let mut body = Vec::new();
        for series in [whole, apart] {
            body.push(LABEL_TAG);
            body.push(series.len() as u8);
            body.extend(series);
        }
        let batch = read(body).unwrap().batch;
        assert_eq!(batch.series[0].key, batch.series[1].key);
        assert_eq!(batch.labels.labels(1).unwrap().to_string(), r#"m{a="1"}"#);
    }

    #[test]
    fn a_body_over_the_series_limit_is_refused_as_a_whole() {
        let limits = IngestLimits {
            series_per_request_max: 3,
            ..IngestLimits::default()
        };
        let error = decode(Bytes::from([LABEL_TAG, 0].repeat(4)), SEED, &limits)
            .err()
            .unwrap();
        assert!(error.to_string().contains("series_per_request_max = 3"), "{error}");
    }

    #[test]
    fn the_format_is_pinned() {
        let golden = include_str!("../../../tests/golden/ingest/remote_write_1.hex");
        let hex: String = golden
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(str::split_whitespace)
            .collect();
        let body: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let batch = read(body.clone()).unwrap().batch;
        assert_eq!(batch.labels.labels(0).unwrap().to_string(), r#"up{job="api"}"#);
        let expected = [(1_700_000_000_000, 1.0), (-5, 0.0)];
        let samples: Vec<(i64, f64)> = batch.samples.iter().map(|sample| (sample.at.0, sample.value)).collect();
        assert_eq!(samples, expected);
        let series = crate::model::OwnedSeries {
            labels: batch.labels.labels(0).unwrap(),
            samples: batch.samples,
        };
        assert_eq!(
            super::super::encode_v1(&[series], &[]),
            body,
            "the encoder writes the same bytes"
        );
    }
}
