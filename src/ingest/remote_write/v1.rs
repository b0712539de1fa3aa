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
use super::wire::{Cursor, Field};
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
