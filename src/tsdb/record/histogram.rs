//! Native histograms in records.
//!
//! ```text
//! ref v | z time | z start | hint u8 | z schema | zero threshold, zero count, count, sum: bits u64 each |
//! positive spans, negative spans: v ( z offset | length v )* | positive, negative buckets, custom values: v ( bits u64 )*
//! ```

use std::sync::Arc;

use super::{HistogramRecord, SeriesRef};
use crate::model::{CounterResetHint, FloatHistogram, HistogramSample, Millis, Span};
use crate::tsdb::block::wire::{Cursor, DecodeError, put_signed, put_varint};

/// Appends a histogram with the number of its series.
pub(crate) fn put_histogram(record: &HistogramRecord, base: SeriesRef, out: &mut Vec<u8>) {
    let HistogramRecord { series, start, sample } = record;
    put_varint(out, u64::from(series.wrapping_add(base)));
    put_signed(out, sample.at.0);
    put_signed(out, start.0);
    let histogram = &sample.histogram;
    out.push(match histogram.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    });
    put_signed(out, i64::from(histogram.schema));
    let singles = [
        histogram.zero_threshold,
        histogram.zero_count,
        histogram.count,
        histogram.sum,
    ];
    for value in singles {
        out.extend(value.to_bits().to_le_bytes());
    }
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        put_varint(out, spans.len() as u64);
        for span in spans {
            put_signed(out, i64::from(span.offset));
            put_varint(out, u64::from(span.length));
        }
    }
    for values in [
        &histogram.positive_buckets,
        &histogram.negative_buckets,
        &histogram.custom_values,
    ] {
        put_varint(out, values.len() as u64);
        for value in values {
            out.extend(value.to_bits().to_le_bytes());
        }
    }
}

/// Reads what [`put_histogram`] wrote.
pub(crate) fn take_histogram(cursor: &mut Cursor<'_>) -> Result<HistogramRecord, DecodeError> {
    let series = cursor.id()?;
    let (at, start) = (Millis(cursor.signed()?), Millis(cursor.signed()?));
    let counter_reset_hint = match cursor.byte()? {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => return Err(DecodeError::Malformed("counter reset hint")),
    };
    let schema = narrow(cursor.signed()?)?;
    let mut float = || Ok(f64::from_bits(cursor.u64()?));
    let (zero_threshold, zero_count, count, sum) = (float()?, float()?, float()?, float()?);
    let (positive_spans, negative_spans) = (take_spans(cursor)?, take_spans(cursor)?);
    let (positive_buckets, negative_buckets) = (take_floats(cursor)?, take_floats(cursor)?);
    let histogram = Arc::new(FloatHistogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        negative_spans,
        positive_buckets,
        negative_buckets,
        custom_values: take_floats(cursor)?,
    });
    let sample = HistogramSample { at, histogram };
    Ok(HistogramRecord { series, start, sample })
}

fn narrow(number: i64) -> Result<i32, DecodeError> {
    i32::try_from(number).map_err(|_| DecodeError::Malformed("number beyond 32 bits"))
}

fn take_spans(cursor: &mut Cursor<'_>) -> Result<Vec<Span>, DecodeError> {
    let count = cursor.size()?;
    let span = |_| {
        let (offset, length) = (narrow(cursor.signed()?)?, cursor.id()?);
        Ok(Span { offset, length })
    };
    (0..count).map(span).collect()
}

fn take_floats(cursor: &mut Cursor<'_>) -> Result<Vec<f64>, DecodeError> {
    let count = cursor.size()?;
    (0..count).map(|_| Ok(f64::from_bits(cursor.u64()?))).collect()
}
