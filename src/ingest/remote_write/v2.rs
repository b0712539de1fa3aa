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
use super::wire::{Cursor, Field};
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

/// Resolves references to names and values.
fn pairs<'a>(refs: &[u32], symbol: impl Fn(u32) -> Option<&'a [u8]>) -> Result<Vec<(&'a [u8], &'a [u8])>, String> {
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
