//! Prometheus's chunk of float histograms, as bits.
//!
//! ```text
//! count u16 | hint 2 bits of a byte (0 unknown, 1 no reset, 2 reset, 3 gauge) | layout | samples
//! layout    zero threshold | schema varbit | positive spans | negative spans | with custom buckets: bounds
//! spans     count uvarbit | ( length uvarbit | offset varbit )*
//! bounds    count uvarbit | ( thousandths + 1 uvarbit, or 0 and 64 bits )*
//! first     t varbit | count, zero count, sum, buckets: 64 bits each
//! then each t delta of delta varbit | the same numbers, each xor its last one as in the XOR chunk
//! ```
//! All histograms of a chunk have one layout; a chunk ends where it changes, and where a counter begins anew.

use super::xor::{Bits, Window};
use crate::model::{CounterResetHint, FloatHistogram, HistogramSample, Span, is_stale};

/// The schema with custom bounds.
const CUSTOM_BUCKETS: i32 = -53;
/// The largest bound in thousandths that is written as such.
const THOUSANDTHS_MAX: f64 = 33_554_430.0;

/// Returns how many of the samples fit into the first chunk.
pub(super) fn chunk_len(samples: &[HistogramSample], most: usize) -> usize {
    let Some(first) = samples.first() else { return 0 };
    let goes_on = |sample: &&HistogramSample| {
        let (layout, hint) = (&first.histogram, sample.histogram.counter_reset_hint);
        let continues = match layout.counter_reset_hint {
            CounterResetHint::Gauge => hint == CounterResetHint::Gauge,
            _ => hint == CounterResetHint::NotReset,
        };
        continues && has_layout(&sample.histogram, layout)
    };
    1 + samples[1..]
        .iter()
        .take(most.saturating_sub(1))
        .take_while(goes_on)
        .count()
}

fn has_layout(histogram: &FloatHistogram, layout: &FloatHistogram) -> bool {
    // A stale marker has no buckets, and stands in a chunk of its own.
    !is_stale(histogram.sum)
        && !is_stale(layout.sum)
        && histogram.schema == layout.schema
        && histogram.zero_threshold.to_bits() == layout.zero_threshold.to_bits()
        && histogram.positive_spans == layout.positive_spans
        && histogram.negative_spans == layout.negative_spans
        && histogram.custom_values == layout.custom_values
}

/// Encodes samples of one layout, at most 65,535.
pub(super) fn encode(samples: &[HistogramSample]) -> Vec<u8> {
    let Some(first) = samples.first() else {
        return Vec::new();
    };
    let mut bits = Bits::default();
    bits.push(samples.len() as u64, 16);
    let hint = match first.histogram.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::NotReset => 1,
        CounterResetHint::Reset => 2,
        CounterResetHint::Gauge => 3,
    };
    bits.push(hint << 6, 8);
    push_layout(&mut bits, &first.histogram);
    let mut cells: Vec<(f64, Window)> = Vec::new();
    let (mut last_time, mut last_delta) = (0i64, 0i64);
    for (index, sample) in samples.iter().enumerate() {
        let delta = sample.at.0.wrapping_sub(last_time);
        let numbers = numbers(&sample.histogram);
        if index == 0 {
            push_varbit(&mut bits, sample.at.0);
            for number in numbers {
                bits.push(number.to_bits(), 64);
                cells.push((number, Window::default()));
            }
        } else {
            push_varbit(&mut bits, delta.wrapping_sub(last_delta));
            last_delta = delta;
            for ((last, window), number) in cells.iter_mut().zip(numbers) {
                window.push(&mut bits, *last, number);
                *last = number;
            }
        }
        last_time = sample.at.0;
    }
    bits.bytes
}

fn numbers(histogram: &FloatHistogram) -> impl Iterator<Item = f64> {
    let totals = [histogram.count, histogram.zero_count, histogram.sum];
    let buckets = histogram.positive_buckets.iter().chain(&histogram.negative_buckets);
    totals.into_iter().chain(buckets.copied())
}

fn push_layout(bits: &mut Bits, histogram: &FloatHistogram) {
    push_zero_threshold(bits, histogram.zero_threshold);
    push_varbit(bits, i64::from(histogram.schema));
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        push_spans(bits, spans);
    }
    if histogram.schema == CUSTOM_BUCKETS {
        push_uvarbit(bits, histogram.custom_values.len() as u64);
        for bound in &histogram.custom_values {
            push_bound(bits, *bound);
        }
    }
}

fn push_spans(bits: &mut Bits, spans: &[Span]) {
    push_uvarbit(bits, spans.len() as u64);
    for span in spans {
        push_uvarbit(bits, u64::from(span.length));
        push_varbit(bits, i64::from(span.offset));
    }
}

/// A power of two between 2^-243 and 2^10 takes a byte, zero too; other thresholds nine.
fn push_zero_threshold(bits: &mut Bits, threshold: f64) {
    let exponent = (threshold.to_bits() >> 52) as i64 - 1022;
    let power_of_two = threshold.to_bits() & ((1 << 52) - 1) == 0;
    if threshold == 0.0 {
        bits.push(0, 8);
    } else if power_of_two && (-242..=11).contains(&exponent) {
        bits.push((exponent + 243) as u64, 8);
    } else {
        bits.push(255, 8);
        bits.push(threshold.to_bits(), 64);
    }
}

fn push_bound(bits: &mut Bits, bound: f64) {
    let thousandths = (bound * 1000.0).round();
    if (0.0..=THOUSANDTHS_MAX).contains(&thousandths) && thousandths / 1000.0 == bound {
        push_uvarbit(bits, thousandths as u64 + 1);
    } else {
        bits.push(0, 1);
        bits.push(bound.to_bits(), 64);
    }
}

/// The sizes of a number in varbit encoding; each is announced by one more 1.
const SIZES: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

fn push_varbit(bits: &mut Bits, value: i64) {
    let fits = |size: u32| {
        let half = 1i64 << (size - 1);
        -(half - 1) <= value && value <= half
    };
    push_sized(bits, value as u64, fits);
}

fn push_uvarbit(bits: &mut Bits, value: u64) {
    push_sized(bits, value, |size| value >> size == 0);
}

fn push_sized(bits: &mut Bits, value: u64, fits: impl Fn(u32) -> bool) {
    if value == 0 {
        bits.push(0, 1);
        return;
    }
    let Some(at) = SIZES.iter().position(|size| fits(*size)) else {
        bits.push(0xff, 8);
        bits.push(value, 64);
        return;
    };
    let ones = at as u32 + 1;
    bits.push(((1 << ones) - 1) << 1, ones + 1);
    bits.push(value, SIZES[at]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ingest::remote_read::xor::tests::Reader;
    use crate::model::Millis;

    fn read_sized(reader: &mut Reader<'_>, signed: bool) -> u64 {
        let mut ones = 0;
        while ones < 8 && reader.take(1) == 1 {
            ones += 1;
        }
        match ones {
            0 => 0,
            8 => reader.take(64),
            ones => {
                let size = SIZES[ones - 1];
                let bits = reader.take(size);
                let negative = signed && bits > 1 << (size - 1);
                if negative { bits.wrapping_sub(1 << size) } else { bits }
            }
        }
    }

    fn read_spans(reader: &mut Reader<'_>) -> Vec<Span> {
        let count = read_sized(reader, false);
        (0..count)
            .map(|_| {
                let length = read_sized(reader, false) as u32;
                let offset = read_sized(reader, true) as i64 as i32;
                Span { offset, length }
            })
            .collect()
    }

    /// Reads a chunk as Prometheus does.
    fn decode(bytes: &[u8]) -> Vec<HistogramSample> {
        let mut reader = Reader::new(bytes);
        let count = reader.take(16);
        let hint = match reader.take(8) >> 6 {
            0 => CounterResetHint::Unknown,
            1 => CounterResetHint::NotReset,
            2 => CounterResetHint::Reset,
            _ => CounterResetHint::Gauge,
        };
        let zero_threshold = match reader.take(8) {
            0 => 0.0,
            255 => f64::from_bits(reader.take(64)),
            exponent => 0.5 * 2f64.powi(exponent as i32 - 243),
        };
        let schema = read_sized(&mut reader, true) as i64 as i32;
        let (positive_spans, negative_spans) = (read_spans(&mut reader), read_spans(&mut reader));
        let bounds = match schema {
            CUSTOM_BUCKETS => read_sized(&mut reader, false),
            _ => 0,
        };
        let custom_values = (0..bounds).map(|_| match read_sized(&mut reader, false) {
            0 => f64::from_bits(reader.take(64)),
            thousandths => (thousandths - 1) as f64 / 1000.0,
        });
        let layout = FloatHistogram {
            counter_reset_hint: hint,
            schema,
            zero_threshold,
            custom_values: custom_values.collect(),
            positive_spans,
            negative_spans,
            ..FloatHistogram::default()
        };
        let length = |spans: &[Span]| spans.iter().map(|span| span.length as usize).sum::<usize>();
        let (positive, negative) = (length(&layout.positive_spans), length(&layout.negative_spans));
        let mut cells = vec![(0u64, 0u32, 0u32); 3 + positive + negative];
        let (mut time, mut delta) = (0i64, 0i64);
        let mut out = Vec::new();
        for index in 0..count {
            let read = read_sized(&mut reader, true) as i64;
            if index == 0 {
                time = read;
                cells.iter_mut().for_each(|cell| cell.0 = reader.take(64));
            } else {
                delta += read;
                time += delta;
                cells
                    .iter_mut()
                    .for_each(|(last, leading, trailing)| *last = reader.take_xor(*last, leading, trailing));
            }
            let numbers: Vec<f64> = cells.iter().map(|cell| f64::from_bits(cell.0)).collect();
            let mut histogram = FloatHistogram {
                count: numbers[0],
                zero_count: numbers[1],
                sum: numbers[2],
                positive_buckets: numbers[3..3 + positive].to_vec(),
                negative_buckets: numbers[3 + positive..].to_vec(),
                ..layout.clone()
            };
            if index > 0 && hint != CounterResetHint::Gauge {
                histogram.counter_reset_hint = CounterResetHint::NotReset;
            }
            out.push(HistogramSample {
                at: Millis(time),
                histogram: Arc::new(histogram),
            });
        }
        out
    }

    prop_compose! {
        fn histogram()(
            (schema, bounds) in prop_oneof![
                (-4i32..=8).prop_map(|schema| (schema, vec![])),
                prop::collection::vec(-1e6..1e6f64, 0..4).prop_map(|bounds| (CUSTOM_BUCKETS, bounds)),
                Just((CUSTOM_BUCKETS, vec![0.005, 1.0, 33_554.43, 33_554.431])),
            ],
            zero_threshold in prop_oneof![Just(0.0), Just(2f64.powi(-128)), Just(1e-3), Just(1024.0), Just(2048.0)],
            spans in prop::collection::vec((-300i32..300, 0u32..4), 0..3),
            hint in prop_oneof![
                Just(CounterResetHint::Unknown), Just(CounterResetHint::Reset),
                Just(CounterResetHint::NotReset), Just(CounterResetHint::Gauge),
            ],
        ) -> FloatHistogram {
            let spans: Vec<Span> = spans.into_iter().map(|(offset, length)| Span { offset, length }).collect();
            FloatHistogram {
                counter_reset_hint: hint,
                schema,
                zero_threshold,
                custom_values: bounds,
                negative_spans: spans.iter().rev().copied().collect(),
                positive_spans: spans,
                ..FloatHistogram::default()
            }
        }
    }

    proptest! {
        #[test]
        fn a_chunk_reads_back(
            layouts in prop::collection::vec(histogram(), 1..3),
            steps in prop::collection::vec((1i64..100_000, 0usize..3, prop::num::f64::NORMAL), 1..20),
        ) {
            let mut samples = Vec::new();
            let mut at = -50_000;
            for (step, layout, number) in steps {
                at += step;
                let mut histogram = layouts[layout % layouts.len()].clone();
                let length = |spans: &[Span]| spans.iter().map(|span| span.length as usize).sum::<usize>();
                histogram.count = number;
                histogram.sum = number / 3.0;
                histogram.positive_buckets = vec![number; length(&histogram.positive_spans)];
                histogram.negative_buckets = vec![number.trunc(); length(&histogram.negative_spans)];
                samples.push(HistogramSample { at: Millis(at), histogram: Arc::new(histogram) });
            }
            let mut rest = &samples[..];
            let mut read = Vec::new();
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(chunk_len(rest, 5));
                prop_assert!(chunk.len() <= 5);
                read.extend(decode(&encode(chunk)));
                rest = after;
            }
            prop_assert_eq!(read, samples);
        }
    }
}
