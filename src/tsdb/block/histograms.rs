//! A column of native histograms, exact in every bit: exponential and custom buckets alike.
//!
//! ```text
//! column   runs varint | run*
//! run      histograms varint | layout | hints | zero counts | counts | sums | one column for each bucket
//! layout   schema zigzag | zero threshold bits u64 | spans positive | spans negative | custom bounds
//! spans    count varint | ( offset zigzag | length varint )*
//! custom   count varint | bits u64*
//! hints    one byte (all alike), or 255 and a byte each
//! ```
//! Histograms in a row with the same buckets are a run; within it each count is a `values` column over time, since a
//! bucket of a counter histogram is nothing but a counter.

use std::sync::Arc;

use super::values;
use super::wire::{Cursor, DecodeError, put_signed, put_varint};
use crate::model::{CounterResetHint, FloatHistogram, HistogramSample, Millis, Span};

const MIXED_HINTS: u8 = 255;
const BROKEN: DecodeError = DecodeError::Malformed("histogram column");
/// More buckets than any sender may have (`ingest` admits 4,096 at most).
const BUCKETS_MAX: usize = 1 << 20;

/// Appends the histograms, without their times.
pub(crate) fn encode(samples: &[HistogramSample], out: &mut Vec<u8>) {
    let runs: Vec<&[HistogramSample]> = samples
        .chunk_by(|a, b| same_layout(&a.histogram, &b.histogram))
        .collect();
    put_varint(out, runs.len() as u64);
    for run in runs {
        let first = &run[0].histogram;
        put_varint(out, run.len() as u64);
        put_layout(first, out);
        put_hints(run, out);
        let mut column = Vec::with_capacity(run.len());
        let mut put = |of: &dyn Fn(&FloatHistogram) -> f64| {
            column.clear();
            column.extend(run.iter().map(|sample| of(&sample.histogram)));
            values::encode(&column, out);
        };
        put(&|histogram| histogram.zero_count);
        put(&|histogram| histogram.count);
        put(&|histogram| histogram.sum);
        for bucket in 0..first.positive_buckets.len() {
            put(&|histogram| histogram.positive_buckets[bucket]);
        }
        for bucket in 0..first.negative_buckets.len() {
            put(&|histogram| histogram.negative_buckets[bucket]);
        }
    }
}

/// Reads the histograms at `times` to the end of `out`: the reverse of [`encode`].
pub(crate) fn decode(
    cursor: &mut Cursor<'_>,
    times: &[i64],
    out: &mut Vec<HistogramSample>,
) -> Result<(), DecodeError> {
    let mut left = times;
    let mut column = Vec::new();
    for _ in 0..cursor.size()? {
        let count = cursor.size()?;
        let (now, later) = left.split_at_checked(count).filter(|_| count > 0).ok_or(BROKEN)?;
        left = later;
        let layout = take_layout(cursor)?;
        let hints = take_hints(cursor, count)?;
        let mut histograms: Vec<FloatHistogram> = hints
            .map(|hint| FloatHistogram {
                counter_reset_hint: hint,
                ..layout.histogram.clone()
            })
            .collect();
        let mut take = |put: &mut dyn FnMut(&mut FloatHistogram, f64)| {
            values::decode_all(cursor, count, &mut column)?;
            histograms
                .iter_mut()
                .zip(&column)
                .for_each(|(histogram, value)| put(histogram, *value));
            Ok(())
        };
        take(&mut |histogram, value| histogram.zero_count = value)?;
        take(&mut |histogram, value| histogram.count = value)?;
        take(&mut |histogram, value| histogram.sum = value)?;
        for _ in 0..layout.positive {
            take(&mut |histogram, value| histogram.positive_buckets.push(value))?;
        }
        for _ in 0..layout.negative {
            take(&mut |histogram, value| histogram.negative_buckets.push(value))?;
        }
        out.extend(now.iter().zip(histograms).map(|(at, histogram)| HistogramSample {
            at: Millis(*at),
            histogram: Arc::new(histogram),
        }));
    }
    if left.is_empty() { Ok(()) } else { Err(BROKEN) }
}

fn same_layout(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive_buckets.len() == b.positive_buckets.len()
        && a.negative_buckets.len() == b.negative_buckets.len()
        && a.custom_values.len() == b.custom_values.len()
        && a.custom_values
            .iter()
            .zip(&b.custom_values)
            .all(|(a, b)| a.to_bits() == b.to_bits())
}

fn put_layout(histogram: &FloatHistogram, out: &mut Vec<u8>) {
    put_signed(out, i64::from(histogram.schema));
    out.extend(histogram.zero_threshold.to_bits().to_le_bytes());
    for (spans, buckets) in [
        (&histogram.positive_spans, &histogram.positive_buckets),
        (&histogram.negative_spans, &histogram.negative_buckets),
    ] {
        put_varint(out, spans.len() as u64);
        for span in spans {
            put_signed(out, i64::from(span.offset));
            put_varint(out, u64::from(span.length));
        }
        put_varint(out, buckets.len() as u64);
    }
    put_varint(out, histogram.custom_values.len() as u64);
    for bound in &histogram.custom_values {
        out.extend(bound.to_bits().to_le_bytes());
    }
}

/// What the histograms of a run have in common, and how many buckets follow.
struct Layout {
    histogram: FloatHistogram,
    positive: usize,
    negative: usize,
}

fn take_layout(cursor: &mut Cursor<'_>) -> Result<Layout, DecodeError> {
    let mut histogram = FloatHistogram {
        schema: i32::try_from(cursor.signed()?).map_err(|_| BROKEN)?,
        zero_threshold: f64::from_bits(cursor.u64()?),
        ..FloatHistogram::default()
    };
    let (positive_spans, positive) = take_spans(cursor)?;
    let (negative_spans, negative) = take_spans(cursor)?;
    for _ in 0..cursor.size()? {
        histogram.custom_values.push(f64::from_bits(cursor.u64()?));
    }
    histogram.positive_spans = positive_spans;
    histogram.negative_spans = negative_spans;
    Ok(Layout {
        histogram,
        positive,
        negative,
    })
}

fn take_spans(cursor: &mut Cursor<'_>) -> Result<(Vec<Span>, usize), DecodeError> {
    let mut spans = Vec::new();
    for _ in 0..cursor.size()? {
        spans.push(Span {
            offset: i32::try_from(cursor.signed()?).map_err(|_| BROKEN)?,
            length: cursor.id()?,
        });
    }
    let buckets = cursor.size()?;
    if buckets > BUCKETS_MAX {
        return Err(BROKEN);
    }
    Ok((spans, buckets))
}

fn put_hints(run: &[HistogramSample], out: &mut Vec<u8>) {
    let hint = |sample: &HistogramSample| match sample.histogram.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    };
    let first = hint(&run[0]);
    if run.iter().all(|sample| hint(sample) == first) {
        out.push(first);
    } else {
        out.push(MIXED_HINTS);
        out.extend(run.iter().map(hint));
    }
}

fn take_hints(cursor: &mut Cursor<'_>, count: usize) -> Result<impl Iterator<Item = CounterResetHint>, DecodeError> {
    let codes = match cursor.byte()? {
        MIXED_HINTS => cursor.take(count)?.to_vec(),
        code => vec![code; count],
    };
    if codes.iter().any(|code| *code > 3) {
        return Err(BROKEN);
    }
    Ok(codes.into_iter().map(|code| match code {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        _ => CounterResetHint::Gauge,
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Histograms of a few layouts, so that runs form and break.
    pub(crate) fn histogram() -> impl Strategy<Value = FloatHistogram> {
        let hint = prop_oneof![
            Just(CounterResetHint::Unknown),
            Just(CounterResetHint::Reset),
            Just(CounterResetHint::NotReset),
            Just(CounterResetHint::Gauge)
        ];
        let counts = proptest::collection::vec(0u32..1000, 6);
        let sum = prop_oneof![Just(crate::model::stale_marker()), any::<f64>(), Just(1.5)];
        (hint, counts, sum, 0..3usize).prop_map(|(counter_reset_hint, counts, sum, shape)| {
            let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
            let spans = |length| vec![Span { offset: -2, length }];
            let mut histogram = FloatHistogram {
                counter_reset_hint,
                schema: 3,
                zero_threshold: 1e-128,
                zero_count: counts[4],
                count: counts.iter().sum(),
                sum,
                ..FloatHistogram::default()
            };
            match shape {
                0 => {
                    histogram.positive_spans = spans(3);
                    histogram.positive_buckets = counts[..3].to_vec();
                    histogram.negative_spans = spans(1);
                    histogram.negative_buckets = counts[3..4].to_vec();
                }
                1 => {
                    histogram.schema = crate::model::SCHEMA_CUSTOM;
                    histogram.custom_values = vec![0.1, 1.0];
                    histogram.positive_spans = spans(3);
                    histogram.positive_buckets = counts[..3].to_vec();
                }
                _ => {}
            }
            histogram
        })
    }

    fn samples() -> impl Strategy<Value = Vec<HistogramSample>> {
        let run = (histogram(), 1usize..5);
        proptest::collection::vec(run, 1..8).prop_map(|runs| {
            let histograms = runs
                .into_iter()
                .flat_map(|(histogram, n)| std::iter::repeat_n(Arc::new(histogram), n));
            histograms
                .zip(0..)
                .map(|(histogram, i)| HistogramSample {
                    at: Millis(i * 15),
                    histogram,
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn histograms_read_back_bit_for_bit_and_no_prefix_does(samples in samples(), at in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            encode(&samples, &mut out);
            let times: Vec<i64> = samples.iter().map(|sample| sample.at.0).collect();
            let mut read = Vec::new();
            let mut cursor = Cursor::new(&out);
            decode(&mut cursor, &times, &mut read).unwrap();
            prop_assert_eq!(&read, &samples);
            prop_assert!(cursor.is_empty());
            out.truncate(at.index(out.len()));
            prop_assert!(decode(&mut Cursor::new(&out), &times, &mut Vec::new()).is_err());
        }

        #[test]
        fn flipped_bits_never_panic(samples in samples(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut out = Vec::new();
            encode(&samples, &mut out);
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            let times: Vec<i64> = samples.iter().map(|sample| sample.at.0).collect();
            let _ = decode(&mut Cursor::new(&out), &times, &mut Vec::new());
        }
    }
}
