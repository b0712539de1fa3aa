//! The records of the store's log, as bytes and back. Pure: no I/O, no clock. Framing (length, checksum, number) is
//! `io::log`'s: a record is whole by the time it gets here.
//!
//! ```text
//! every payload is one snappy block of (little-endian; v = varint, z = zigzag varint):
//! 1 SERIES      ( ref v | newest: 0 or 1 + kind, z time, bits u64 | labels: v bytes, text )*
//! 2 SAMPLES     flags v (1: start times) | series v | ( z ref − previous ref | samples v )* | ( z time − previous )* |
//!               ( bits u64 )* | flags & 1: ( z time − start, 0 = unknown as z 0 | 1 + … )*
//! 3 HISTOGRAMS  ( ref v | z time | z start | histogram )*
//! 4 EXEMPLARS   ( ref v | z time | bits u64 | labels )*
//! 5 METADATA    ( kind u8 | metric, help, unit: v bytes, text )*
//! 6 FORGOTTEN   ( ref v )*                   series that left the head with their last sample
//! 7 TOMBSTONE   as `tombstone` has it         samples before it in the log that it means are forgotten
//! 8 OUT OF ORDER  reserved
//! ```
//! A SERIES record stands before the first sample of its series in each segment, so that a segment can be read by itself;
//! it carries the newest sample, so that replay decides about late samples as the live head did.

mod histogram;
#[cfg(test)]
mod tests;

use crate::model::{Exemplar, HistogramSample, Labels, MetricKind, MetricMetadata, Millis, Sample};
use crate::tsdb::block::wire::{Cursor, DecodeError, put_bytes, put_signed, put_varint};
use crate::tsdb::tombstone::{self, Tombstone};

pub(crate) use histogram::{put_histogram, take_histogram};

pub(crate) const SERIES: u8 = 1;
pub(crate) const SAMPLES: u8 = 2;
pub(crate) const HISTOGRAMS: u8 = 3;
pub(crate) const EXEMPLARS: u8 = 4;
pub(crate) const METADATA: u8 = 5;
pub(crate) const FORGOTTEN: u8 = 6;
pub(crate) const TOMBSTONE: u8 = 7;

/// The largest record after decompression: a request is 32 MiB at most.
const RECORD_BYTES_MAX: usize = 256 << 20;
const FLAG_STARTS: u64 = 1;

/// A series' number inside this process (and, in the log, inside its segment).
pub(crate) type SeriesRef = u32;

/// A series' newest sample: decides what is late, what a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    /// Its time.
    pub(crate) at: i64,
    /// The value's bits; of a histogram, its sum's.
    pub(crate) bits: u64,
    /// Whether it is a histogram.
    pub(crate) histogram: bool,
}

/// Declares a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeriesRecord {
    pub(crate) series: SeriesRef,
    pub(crate) newest: Option<Newest>,
    pub(crate) labels: Labels,
}

/// Float samples of many series.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SamplesRecord {
    /// Each series with how many of the samples are its own, in order.
    pub(crate) series: Vec<(SeriesRef, u32)>,
    pub(crate) samples: Vec<Sample>,
    /// Empty, or one for each sample (0 = unknown).
    pub(crate) starts: Vec<Millis>,
}

/// One histogram of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HistogramRecord {
    pub(crate) series: SeriesRef,
    pub(crate) start: Millis,
    pub(crate) sample: HistogramSample,
}

/// One exemplar of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExemplarRecord {
    pub(crate) series: SeriesRef,
    pub(crate) exemplar: Exemplar,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Series(Vec<SeriesRecord>),
    Samples(SamplesRecord),
    Histograms(Vec<HistogramRecord>),
    Exemplars(Vec<ExemplarRecord>),
    Metadata(Vec<MetricMetadata>),
    Forgotten(Vec<SeriesRef>),
    Tombstone(Tombstone),
}

impl Record {
    /// Reads a record of this kind.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no such record, or the kind is none that this version knows.
    pub(crate) fn decode(kind: u8, payload: &[u8]) -> Result<Record, DecodeError> {
        let len = snap::raw::decompress_len(payload).map_err(|_| DecodeError::Malformed("compressed length"))?;
        if payload.is_empty() || len > RECORD_BYTES_MAX || len / 64 > payload.len() {
            return Err(DecodeError::Malformed("compressed length")); // Snappy never gains more than a factor of 64.
        }
        let bytes = snap::raw::Decoder::new().decompress_vec(payload);
        let bytes = bytes.map_err(|_| DecodeError::Malformed("compression"))?;
        let mut cursor = Cursor::new(&bytes);
        let cursor = &mut cursor;
        Ok(match kind {
            SERIES => Record::Series(list(cursor, take_series)?),
            SAMPLES => Record::Samples(take_samples(cursor)?),
            HISTOGRAMS => Record::Histograms(list(cursor, take_histogram)?),
            EXEMPLARS => Record::Exemplars(list(cursor, take_exemplar)?),
            METADATA => Record::Metadata(list(cursor, take_metadata)?),
            FORGOTTEN => Record::Forgotten(list(cursor, |cursor| cursor.id())?),
            TOMBSTONE => {
                let tombstone = tombstone::decode(cursor)?;
                cursor.finish("tombstone")?;
                Record::Tombstone(tombstone)
            }
            _ => return Err(DecodeError::Malformed("kind of record")),
        })
    }

    /// Returns the record's kind and payload. Series are numbered from `base` on in the log.
    pub(crate) fn encode(&self, base: SeriesRef) -> (u8, Vec<u8>) {
        let mut out = Vec::new();
        let kind = match self {
            Record::Series(records) => {
                let put = |record: &SeriesRecord| {
                    put_series(
                        record.series.wrapping_add(base),
                        record.newest,
                        &record.labels,
                        &mut out,
                    )
                };
                records.iter().for_each(put);
                SERIES
            }
            Record::Samples(samples) => return (SAMPLES, encode_samples(samples, base)),
            Record::Histograms(records) => {
                records.iter().for_each(|record| put_histogram(record, base, &mut out));
                HISTOGRAMS
            }
            Record::Exemplars(records) => {
                records.iter().for_each(|record| put_exemplar(record, base, &mut out));
                EXEMPLARS
            }
            Record::Metadata(records) => {
                records.iter().for_each(|record| put_metadata(record, &mut out));
                METADATA
            }
            Record::Forgotten(refs) => {
                refs.iter()
                    .for_each(|series| put_varint(&mut out, u64::from(series.wrapping_add(base))));
                FORGOTTEN
            }
            Record::Tombstone(one) => {
                tombstone::encode(one, &mut out);
                TOMBSTONE
            }
        };
        (kind, compress(&out))
    }
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new()
        .compress_vec(bytes)
        .expect("a record is far below snappy's limit of 4 GiB")
}

fn list<T>(
    cursor: &mut Cursor<'_>,
    take: impl Fn(&mut Cursor<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut all = Vec::new();
    while !cursor.is_empty() {
        all.push(take(cursor)?);
    }
    Ok(all)
}

/// Appends one declaration to an uncompressed SERIES record.
pub(crate) fn put_series(series: SeriesRef, newest: Option<Newest>, labels: &Labels, out: &mut Vec<u8>) {
    put_varint(out, u64::from(series));
    put_newest(newest, out);
    put_labels(labels, out);
}

pub(crate) fn put_newest(newest: Option<Newest>, out: &mut Vec<u8>) {
    match newest {
        None => out.push(0),
        Some(newest) => {
            out.push(1 + u8::from(newest.histogram));
            put_signed(out, newest.at);
            out.extend(newest.bits.to_le_bytes());
        }
    }
}

pub(crate) fn take_newest(cursor: &mut Cursor<'_>) -> Result<Option<Newest>, DecodeError> {
    Ok(match cursor.byte()? {
        0 => None,
        kind @ (1 | 2) => Some(Newest {
            at: cursor.signed()?,
            bits: cursor.u64()?,
            histogram: kind == 2,
        }),
        _ => return Err(DecodeError::Malformed("kind of sample")),
    })
}

/// Compresses an uncompressed SERIES record.
pub(crate) fn finish_series(uncompressed: &[u8]) -> Vec<u8> {
    compress(uncompressed)
}

fn take_series(cursor: &mut Cursor<'_>) -> Result<SeriesRecord, DecodeError> {
    let series = cursor.id()?;
    let newest = take_newest(cursor)?;
    let labels = take_labels(cursor)?;
    Ok(SeriesRecord { series, newest, labels })
}

fn put_labels(labels: &Labels, out: &mut Vec<u8>) {
    put_bytes(out, labels.as_encoded().as_bytes());
}

pub(crate) fn take_labels(cursor: &mut Cursor<'_>) -> Result<Labels, DecodeError> {
    Labels::from_encoded(take_text(cursor)?).ok_or(DecodeError::Malformed("labels"))
}

fn take_text<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(cursor.bytes()?).map_err(|_| DecodeError::Malformed("text"))
}

/// Returns the payload of a SAMPLES record.
pub(crate) fn encode_samples(record: &SamplesRecord, base: SeriesRef) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.samples.len() * 12 + record.series.len() * 3 + 16);
    put_varint(&mut out, if record.starts.is_empty() { 0 } else { FLAG_STARTS });
    put_varint(&mut out, record.series.len() as u64);
    let mut last = 0;
    for (series, count) in &record.series {
        let series = i64::from(series.wrapping_add(base));
        put_signed(&mut out, series - last);
        put_varint(&mut out, u64::from(*count));
        last = series;
    }
    let mut last = 0i64;
    for sample in &record.samples {
        put_signed(&mut out, sample.at.0.wrapping_sub(last));
        last = sample.at.0;
    }
    for sample in &record.samples {
        out.extend(sample.value.to_bits().to_le_bytes());
    }
    for (start, sample) in record.starts.iter().zip(&record.samples) {
        match start.0 {
            0 => put_varint(&mut out, 0),
            start => {
                put_varint(&mut out, 1);
                put_signed(&mut out, sample.at.0.wrapping_sub(start));
            }
        }
    }
    compress(&out)
}

fn take_samples(cursor: &mut Cursor<'_>) -> Result<SamplesRecord, DecodeError> {
    let flags = cursor.varint()?;
    if flags & !FLAG_STARTS != 0 {
        return Err(DecodeError::Malformed("flags of samples"));
    }
    let count = cursor.size()?;
    let mut record = SamplesRecord::default();
    let (mut last, mut total) = (0i64, 0usize);
    for _ in 0..count {
        last = last.wrapping_add(cursor.signed()?);
        let series = SeriesRef::try_from(last).map_err(|_| DecodeError::Malformed("series number"))?;
        let samples = cursor.id()?;
        total += samples as usize;
        if total > cursor.rest().len() {
            return Err(DecodeError::Malformed("count of samples")); // Each takes nine bytes at least.
        }
        record.series.push((series, samples));
    }
    record.samples.reserve_exact(total);
    let mut at = 0i64;
    for _ in 0..total {
        at = at.wrapping_add(cursor.signed()?);
        record.samples.push(Sample {
            at: Millis(at),
            value: 0.0,
        });
    }
    let values = cursor.take(total * 8)?;
    for (sample, bits) in record.samples.iter_mut().zip(values.chunks_exact(8)) {
        sample.value = f64::from_bits(u64::from_le_bytes(bits.try_into().expect("a chunk of eight bytes")));
    }
    if flags & FLAG_STARTS != 0 {
        for sample in &record.samples {
            let start = match cursor.byte()? {
                0 => 0,
                1 => sample.at.0.wrapping_sub(cursor.signed()?),
                _ => return Err(DecodeError::Malformed("start time")),
            };
            record.starts.push(Millis(start));
        }
    }
    if cursor.is_empty() {
        Ok(record)
    } else {
        Err(DecodeError::Malformed("length of samples"))
    }
}

fn put_exemplar(record: &ExemplarRecord, base: SeriesRef, out: &mut Vec<u8>) {
    put_varint(out, u64::from(record.series.wrapping_add(base)));
    put_signed(out, record.exemplar.at.0);
    out.extend(record.exemplar.value.to_bits().to_le_bytes());
    put_labels(&record.exemplar.labels, out);
}

fn take_exemplar(cursor: &mut Cursor<'_>) -> Result<ExemplarRecord, DecodeError> {
    let series = cursor.id()?;
    let (at, value) = (Millis(cursor.signed()?), f64::from_bits(cursor.u64()?));
    let labels = take_labels(cursor)?;
    let exemplar = Exemplar { labels, value, at };
    Ok(ExemplarRecord { series, exemplar })
}

const KINDS: [MetricKind; 8] = [
    MetricKind::Unknown,
    MetricKind::Counter,
    MetricKind::Gauge,
    MetricKind::Histogram,
    MetricKind::GaugeHistogram,
    MetricKind::Summary,
    MetricKind::Info,
    MetricKind::StateSet,
];

fn put_metadata(metadata: &MetricMetadata, out: &mut Vec<u8>) {
    let kind = KINDS
        .iter()
        .position(|kind| *kind == metadata.kind)
        .expect("the table lists every kind");
    out.push(kind as u8);
    for text in [&metadata.metric, &metadata.help, &metadata.unit] {
        put_bytes(out, text.as_bytes());
    }
}

fn take_metadata(cursor: &mut Cursor<'_>) -> Result<MetricMetadata, DecodeError> {
    let kind = *KINDS
        .get(usize::from(cursor.byte()?))
        .ok_or(DecodeError::Malformed("kind of metric"))?;
    let mut text = || take_text(cursor).map(str::to_owned);
    Ok(MetricMetadata {
        metric: text()?,
        kind,
        help: text()?,
        unit: text()?,
    })
}

/// Takes any bytes as a record of any kind, compressed or not, for fuzzing: whatever they are, no panic.
pub(super) fn decode_any(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else {
        return;
    };
    let _ = Record::decode(*kind, payload);
    if let Ok(compressed) = snap::raw::Encoder::new().compress_vec(payload) {
        let _ = Record::decode(*kind, &compressed);
    }
}
