//! `io.prometheus.write.v2.Request`, decoded in place.
//!
//! ```text
//! Request { 4: symbol string*  5: TimeSeries* }
//! TimeSeries { 1: packed uint32 refs (name, value, …)  2: Sample*  3: Histogram*  4: Exemplar*  5: Metadata  6: int64 created }
//! Sample { 1: double  2: int64 ms  3: int64 start ms }   Exemplar { 1: packed refs  2: double  3: int64 ms }
//! Metadata { 1: kind  3: help ref  4: unit ref }
//! ```
//! References mean nothing beyond their request, so a series' key is a hash of its symbols' hashes: each symbol is hashed
//! once a request, however many series use it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::columns::{Columns, exemplar_labels, metric_kind, read_sample};
use super::histogram::Histogram;
use crate::ingest::wire::{Cursor, Field};
use crate::ingest::{DecodeError, Decoded, IngestLimits, LabelCheck, check_labels};
use crate::model::{Exemplar, LabelError, LabelSource, Labels, METRIC_NAME, MetricMetadata, Millis, SeriesKey};

/// Keys of different spellings must not meet: each format hashes under a seed of its own.
const SEED_OFFSET: u64 = 2;
/// The most symbols of a request: an empty one costs the sender two bytes and us twenty-four.
const SYMBOLS_MAX: usize = 1 << 20;
const REFS_TAG: u8 = 0x0a;
const SAMPLE_TAG: u8 = 0x12;

/// Decodes an uncompressed body.
///
/// # Errors
/// [`DecodeError`] when it is no such message or over a limit; bad labels surface later, series by series.
pub fn decode(body: Bytes, seed: u64, limits: &IngestLimits) -> Result<Decoded, DecodeError> {
    let mut reader = Reader {
        body: &body,
        symbols: Symbols::read(&body, seed.wrapping_add(SEED_OFFSET))?,
        columns: Columns::new(limits, body.len()),
        scratch: Vec::new(),
        told: HashSet::new(),
        check: LabelCheck::from(limits),
        places: Vec::new(),
    };
    let mut request = Cursor::new(&body, 0, body.len());
    while let Some(field) = request.next()? {
        match field {
            Field::Bytes(5, from, to) => reader.series(from, to)?,
            Field::Bytes(1..=3, ..) => {
                return Err(DecodeError::Unsupported(
                    "the body is a remote write 1.0 message under the content type of 2.0".to_owned(),
                ));
            }
            _ => {} // Symbols were read before; others are of a later version.
        }
    }
    let Reader {
        symbols,
        columns,
        check,
        places,
        ..
    } = reader;
    let labels = Arc::new(SymbolLabels {
        body: body.clone(),
        symbols: symbols.places,
        places,
        check,
    });
    Ok(columns.finish(labels))
}

/// The request's strings: where they are, and their hashes.
struct Symbols {
    places: Vec<(u32, u32)>,
    hashes: Vec<u128>,
    seed: u64,
    /// Which of them is `__name__`.
    metric_name: Option<u32>,
}

impl Symbols {
    fn read(body: &[u8], seed: u64) -> Result<Symbols, DecodeError> {
        let mut symbols = Symbols {
            places: Vec::new(),
            hashes: Vec::new(),
            seed,
            metric_name: None,
        };
        let mut request = Cursor::new(body, 0, body.len());
        while let Some(field) = request.next()? {
            let Field::Bytes(4, from, to) = field else { continue };
            if symbols.places.len() == SYMBOLS_MAX {
                return Err(DecodeError::over(
                    "symbols_per_request_max",
                    SYMBOLS_MAX,
                    "more were sent",
                ));
            }
            if &body[from..to] == METRIC_NAME.as_bytes() && symbols.metric_name.is_none() {
                symbols.metric_name = Some(symbols.places.len() as u32);
            }
            symbols.places.push((from as u32, to as u32));
            symbols.hashes.push(xxh3_128_with_seed(&body[from..to], seed));
        }
        if symbols.places.first().is_some_and(|(from, to)| from != to) {
            return Err(DecodeError::Malformed(
                "malformed request: the first symbol is not empty".to_owned(),
            ));
        }
        Ok(symbols)
    }

    fn get<'a>(&self, body: &'a [u8], reference: u32) -> Option<&'a [u8]> {
        let (from, to) = *self.places.get(reference as usize)?;
        Some(&body[from as usize..to as usize])
    }
}

struct Reader<'a> {
    body: &'a [u8],
    symbols: Symbols,
    columns: Columns<'a>,
    /// The symbol hashes of one series, as bytes.
    scratch: Vec<u8>,
    /// Metadata already taken from this request: name, kind, help, unit.
    told: HashSet<(u32, u32, u32, u32)>,
    check: LabelCheck,
    places: Vec<(u32, u32)>,
}

impl Reader<'_> {
    fn series(&mut self, from: usize, to: usize) -> Result<(), DecodeError> {
        let body = self.body;
        let mark = self.columns.mark();
        self.scratch.clear();
        let mut name = None;
        let mut cursor = Cursor::new(body, from, to);
        let created = created(cursor)?;
        if let Some((from, to)) = cursor.bytes_if(REFS_TAG)? {
            self.refs(from, to, &mut name)?;
        }
        loop {
            if let Some((from, to)) = cursor.bytes_if(SAMPLE_TAG)? {
                let (sample, start) = read_sample(body, from, to)?;
                self.columns
                    .sample_since(sample, if start == 0 { created } else { start });
                continue;
            }
            match cursor.next()? {
                None => break,
                Some(Field::Bytes(1, from, to)) => self.refs(from, to, &mut name)?,
                Some(Field::Varint(1, reference)) => self.reference(&cursor, reference, &mut name)?,
                Some(Field::Bytes(3, at, end)) => {
                    let wire = Histogram::decode(&body[at..end])
                        .map_err(|error| cursor.malformed(&format!("a histogram cannot be read: {error}")))?;
                    let (symbols, check) = (&self.symbols, &self.check);
                    self.columns
                        .histogram(wire, created, || shown(body, symbols, (from, to), check));
                }
                Some(Field::Bytes(4, at, end)) => {
                    let exemplar = exemplar(body, at, end, &self.symbols);
                    let (symbols, check) = (&self.symbols, &self.check);
                    self.columns
                        .exemplar(exemplar, || shown(body, symbols, (from, to), check));
                }
                Some(Field::Bytes(5, from, to)) => self.metadata(from, to, name)?,
                Some(Field::Varint(2..=5, _) | Field::Fixed64(1..=6, _) | Field::Fixed32(1..=6)) => {
                    return Err(cursor.malformed("a field of a series has the wrong type"));
                }
                Some(_) => {} // The start time was read before; others are of a later version.
            }
        }
        let key = SeriesKey(xxh3_128_with_seed(&self.scratch, self.symbols.seed));
        self.columns.series(key, mark)?;
        self.places.push((from as u32, to as u32));
        Ok(())
    }

    fn refs(&mut self, from: usize, to: usize, name: &mut Option<u32>) -> Result<(), DecodeError> {
        let mut packed = Cursor::new(self.body, from, to);
        while packed.at() < to {
            let reference = packed.varint()?;
            self.reference(&packed, reference, name)?;
        }
        Ok(())
    }

    fn reference(&mut self, place: &Cursor, reference: u64, name: &mut Option<u32>) -> Result<(), DecodeError> {
        let hash = usize::try_from(reference)
            .ok()
            .and_then(|at| self.symbols.hashes.get(at));
        let Some(hash) = hash else {
            let count = self.symbols.hashes.len();
            return Err(place.malformed(&format!("label reference {reference} of {count} symbols")));
        };
        // The value that follows the first `__name__` in a name's place.
        let index = self.scratch.len() / 16;
        if index % 2 == 1 && name.is_none() {
            let before = self.scratch.last_chunk::<16>().map(|bytes| u128::from_le_bytes(*bytes));
            let is_name = self.symbols.metric_name.map(|at| self.symbols.hashes[at as usize]);
            if before.is_some() && before == is_name {
                *name = Some(reference as u32);
            }
        }
        self.scratch.extend_from_slice(&hash.to_le_bytes());
        Ok(())
    }

    /// Takes what the series says about its metric, once a request.
    fn metadata(&mut self, from: usize, to: usize, name: Option<u32>) -> Result<(), DecodeError> {
        let mut cursor = Cursor::new(self.body, from, to);
        let (mut kind, mut help, mut unit) = (0, 0, 0);
        while let Some(field) = cursor.next()? {
            match field {
                Field::Varint(1, value) => kind = value as u32,
                Field::Varint(3, value) => help = u32::try_from(value).unwrap_or(u32::MAX),
                Field::Varint(4, value) => unit = u32::try_from(value).unwrap_or(u32::MAX),
                _ => {}
            }
        }
        let Some(name) = name else { return Ok(()) };
        let says_nothing = (kind, help, unit) == (0, 0, 0);
        if says_nothing || !self.told.insert((name, kind, help, unit)) {
            return Ok(());
        }
        let text = |reference: u32| match self.symbols.get(self.body, reference) {
            Some(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            None => Err(cursor.malformed(&format!("metadata refers to symbol {reference}"))),
        };
        let metadata = MetricMetadata {
            metric: text(name)?,
            kind: metric_kind(kind as i32),
            help: text(help)?,
            unit: text(unit)?,
        };
        self.columns.metadata.push(metadata);
        Ok(())
    }
}

/// Returns the start time that older senders give once a series (field 6, after the samples), 0 when there is none.
fn created(mut cursor: Cursor) -> Result<i64, DecodeError> {
    let mut created = 0;
    while let Some(field) = cursor.next()? {
        if let Field::Varint(6, millis) = field {
            created = millis as i64;
        }
    }
    Ok(created)
}

fn exemplar(body: &[u8], from: usize, to: usize, symbols: &Symbols) -> Result<Exemplar, String> {
    let text = |error: DecodeError| error.to_string();
    let (mut refs, mut value, mut at) = (Vec::new(), 0.0, Millis(0));
    let mut cursor = Cursor::new(body, from, to);
    while let Some(field) = cursor.next().map_err(text)? {
        match field {
            Field::Bytes(1, from, to) => packed_refs(body, from, to, &mut refs).map_err(text)?,
            Field::Varint(1, reference) => refs.push(reference as u32),
            Field::Fixed64(2, bits) => value = f64::from_bits(bits),
            Field::Varint(3, millis) => at = Millis(millis as i64),
            _ => {}
        }
    }
    let pairs = pairs(&refs, |reference| symbols.get(body, reference))?;
    let labels = exemplar_labels(pairs.into_iter())?;
    Ok(Exemplar { labels, value, at })
}

fn packed_refs(body: &[u8], from: usize, to: usize, refs: &mut Vec<u32>) -> Result<(), DecodeError> {
    let mut packed = Cursor::new(body, from, to);
    while packed.at() < to {
        refs.push(u32::try_from(packed.varint()?).unwrap_or(u32::MAX));
    }
    Ok(())
}

/// A label's name and value, as bytes of the message.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Resolves references to names and values.
fn pairs<'a>(refs: &[u32], symbol: impl Fn(u32) -> Option<&'a [u8]>) -> Result<Vec<Pair<'a>>, String> {
    if !refs.len().is_multiple_of(2) {
        return Err(format!("{} label references: a name has no value", refs.len()));
    }
    let resolve = |reference: u32| symbol(reference).ok_or_else(|| format!("no symbol {reference}"));
    let resolved = refs
        .chunks_exact(2)
        .map(|pair| Ok((resolve(pair[0])?, resolve(pair[1])?)));
    resolved.collect()
}

fn shown(body: &[u8], symbols: &Symbols, place: (usize, usize), check: &LabelCheck) -> String {
    match read_labels(body, &symbols.places, place, check) {
        Ok(labels) => labels.to_string(),
        Err(error) => error.series,
    }
}

/// Keeps the body, and spells out the labels of the few series that are new.
struct SymbolLabels {
    body: Bytes,
    symbols: Vec<(u32, u32)>,
    places: Vec<(u32, u32)>,
    check: LabelCheck,
}

impl LabelSource for SymbolLabels {
    fn labels(&self, index: usize) -> Result<Labels, LabelError> {
        let (from, to) = self.places[index];
        read_labels(&self.body, &self.symbols, (from as usize, to as usize), &self.check)
    }
}

fn read_labels(
    body: &[u8],
    symbols: &[(u32, u32)],
    (from, to): (usize, usize),
    check: &LabelCheck,
) -> Result<Labels, LabelError> {
    let broken = |reason: String| LabelError {
        series: String::new(),
        reason,
    };
    let mut refs = Vec::with_capacity(32);
    let mut cursor = Cursor::new(body, from, to);
    while let Some(field) = cursor.next().map_err(|error| broken(error.to_string()))? {
        match field {
            Field::Bytes(1, from, to) => {
                packed_refs(body, from, to, &mut refs).map_err(|error| broken(error.to_string()))?;
            }
            Field::Varint(1, reference) => refs.push(u32::try_from(reference).unwrap_or(u32::MAX)),
            _ => {}
        }
    }
    let symbol = |reference: u32| {
        let (from, to) = *symbols.get(reference as usize)?;
        Some(&body[from as usize..to as usize])
    };
    let pairs = pairs(&refs, symbol).map_err(broken)?;
    check_labels(pairs.iter().copied(), check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::remote_write::histogram::{BucketSpan, Count};
    use proptest::prelude::*;

    const SEED: u64 = 11;

    /// The oracle: the message as `prost` derives it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Request {
        #[prost(string, repeated, tag = "4")]
        symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        timeseries: Vec<Series>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Series {
        #[prost(uint32, repeated, tag = "1")]
        labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        histograms: Vec<Histogram>,
        #[prost(message, repeated, tag = "4")]
        exemplars: Vec<WireExemplar>,
        #[prost(message, optional, tag = "5")]
        metadata: Option<Metadata>,
        #[prost(int64, tag = "6")]
        created: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    struct Sample {
        #[prost(double, optional, tag = "1")]
        value: Option<f64>,
        #[prost(int64, tag = "2")]
        timestamp: i64,
        #[prost(int64, tag = "3")]
        start: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct WireExemplar {
        #[prost(uint32, repeated, tag = "1")]
        labels_refs: Vec<u32>,
        #[prost(double, tag = "2")]
        value: f64,
        #[prost(int64, tag = "3")]
        timestamp: i64,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    struct Metadata {
        #[prost(int32, tag = "1")]
        kind: i32,
        #[prost(uint32, tag = "3")]
        help: u32,
        #[prost(uint32, tag = "4")]
        unit: u32,
    }

    fn read(request: &Request) -> Result<Decoded, DecodeError> {
        decode(Bytes::from(request.encode_to_vec()), SEED, &IngestLimits::default())
    }

    fn symbols(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// Symbols 1 and 2 are the metric name's; the names follow, then the values.
    fn any_request() -> impl Strategy<Value = Request> {
        let sample = (any::<Option<f64>>(), any::<i64>(), prop_oneof![Just(0), any::<i64>()]).prop_map(
            |(value, timestamp, start)| Sample {
                value,
                timestamp,
                start,
            },
        );
        let series = (
            proptest::collection::btree_map(3..6u32, 6..9u32, 0..3),
            proptest::collection::vec(sample, 0..4),
            any::<bool>(),
            prop_oneof![Just(0), 1..9i64],
        )
            .prop_map(|(labels, samples, rich, created)| Series {
                labels_refs: [1, 2]
                    .into_iter()
                    .chain(labels.into_iter().flat_map(|(n, v)| [n, v]))
                    .collect(),
                samples,
                histograms: Vec::from_iter(rich.then(|| Histogram {
                    count: Some(Count::Float(1.0)),
                    positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
                    positive_counts: vec![1.0],
                    ..Histogram::default()
                })),
                exemplars: Vec::from_iter(rich.then(|| WireExemplar {
                    labels_refs: vec![3, 6],
                    value: 1.0,
                    timestamp: 5,
                })),
                metadata: rich.then_some(Metadata {
                    kind: 1,
                    help: 7,
                    unit: 0,
                }),
                created,
            });
        proptest::collection::vec(series, 0..6).prop_map(|timeseries| Request {
            symbols: symbols(&["", "__name__", "m", "a", "b", "c", "x", "y", "z"]),
            timeseries,
        })
    }

    proptest! {
        #[test]
        fn the_hand_decoder_reads_what_prost_reads(request in any_request()) {
            let batch = read(&request).unwrap().batch;
            prop_assert_eq!(batch.series.len(), request.timeseries.len());
            let text = |reference: u32| request.symbols[reference as usize].as_str();
            for (index, (series, expected)) in batch.series.iter().zip(&request.timeseries).enumerate() {
                let labels = Labels::from_pairs(expected.labels_refs.chunks(2).map(|pair| (text(pair[0]), text(pair[1]))));
                prop_assert_eq!(batch.labels.labels(index).unwrap(), labels);
                prop_assert_eq!(series.samples.len(), expected.samples.len());
                for (at, sample) in (series.samples.start as usize..).zip(&expected.samples) {
                    prop_assert_eq!(batch.samples[at].at.0, sample.timestamp);
                    prop_assert_eq!(batch.samples[at].value.to_bits(), sample.value.unwrap_or(0.0).to_bits());
                    let start = batch.start_times.get(at).map_or(0, |start| start.0);
                    prop_assert_eq!(start, if sample.start == 0 { expected.created } else { sample.start });
                }
                prop_assert_eq!(series.histograms.len(), expected.histograms.len());
                prop_assert_eq!(series.exemplars.len(), expected.exemplars.len());
                let twin = request.timeseries.iter().position(|other| other.labels_refs == expected.labels_refs).unwrap();
                prop_assert_eq!(batch.series[twin].key, series.key);
            }
            let says = request.timeseries.iter().any(|series| series.metadata.is_some());
            prop_assert_eq!(batch.metadata.len(), usize::from(says), "metadata is told once a request");
        }

        #[test]
        fn keys_do_not_depend_on_the_order_of_symbols(value in "[a-z]{1,9}") {
            let one = |symbols: Vec<String>, labels_refs| Request {
                symbols,
                timeseries: vec![Series { labels_refs, ..Series::default() }],
            };
            let first = read(&one(symbols(&["", "__name__", &value]), vec![1, 2])).unwrap();
            let second = read(&one(symbols(&["", "other", &value, "__name__"]), vec![3, 2])).unwrap();
            prop_assert_eq!(first.batch.series[0].key, second.batch.series[0].key);
        }

        #[test]
        fn flipped_bits_and_prefixes_never_panic(
            request in any_request(),
            at in any::<prop::sample::Index>(),
            bit in 0..8,
            cut in any::<prop::sample::Index>(),
        ) {
            let mut body = request.encode_to_vec();
            let index = at.index(body.len());
            body[index] ^= 1u8 << bit;
            body.truncate(cut.index(body.len() + 1));
            if let Ok(decoded) = decode(Bytes::from(body), SEED, &IngestLimits::default()) {
                for index in 0..decoded.batch.series.len() {
                    let _ = decoded.batch.labels.labels(index);
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_is_said() {
        let series = |labels_refs: Vec<u32>| Series {
            labels_refs,
            ..Series::default()
        };
        let request = |texts: &[&str], refs: Vec<u32>| Request {
            symbols: symbols(texts),
            timeseries: vec![series(refs)],
        };
        let error = |request: &Request| read(request).err().unwrap().to_string();
        assert!(error(&request(&["x"], vec![])).contains("first symbol is not empty"));
        assert!(error(&request(&["", "__name__", "m"], vec![1, 3])).contains("label reference 3 of 3 symbols"));
        let odd = read(&request(&["", "__name__", "m"], vec![1, 2, 1])).unwrap().batch;
        assert!(odd.labels.labels(0).unwrap_err().reason.contains("a name has no value"));
        let v1 = crate::ingest::remote_write::encode_v1(
            &[crate::model::OwnedSeries {
                labels: Labels::from_pairs([("__name__", "m")]),
                samples: Vec::new(),
            }],
            &[],
        );
        let error = decode(Bytes::from(v1), SEED, &IngestLimits::default()).err().unwrap();
        assert!(matches!(error, DecodeError::Unsupported(_)), "{error}");
    }

    #[test]
    fn the_format_is_pinned() {
        let golden = include_str!("../../../tests/golden/ingest/remote_write_2.hex");
        let hex: String = golden
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(str::split_whitespace)
            .collect();
        let body: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let batch = decode(Bytes::from(body), SEED, &IngestLimits::default()).unwrap().batch;
        assert_eq!(
            batch.labels.labels(0).unwrap().to_string(),
            r#"http_requests_total{job="api"}"#
        );
        let sample = (batch.samples[0].at.0, batch.samples[0].value, batch.start_times[0].0);
        assert_eq!(sample, (1_700_000_000_000, 3.0, 1_600_000_000_000));
        let exemplar = &batch.exemplars[0];
        assert_eq!(
            (exemplar.labels.to_string().as_str(), exemplar.value),
            (r#"{job="api"}"#, 0.5)
        );
        let metadata = &batch.metadata[0];
        assert_eq!(
            (metadata.metric.as_str(), metadata.help.as_str()),
            ("http_requests_total", "Requests.")
        );
        assert_eq!(metadata.kind, crate::model::MetricKind::Counter);
    }
}
