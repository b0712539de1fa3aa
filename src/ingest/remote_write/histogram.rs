//! Native histograms of both remote-write versions: integer or float on the wire, [`FloatHistogram`] inside.
//!
//! The checks are Prometheus's (`model/histogram`): spans fit their buckets, counts are not negative, an integer
//! histogram's buckets add up to its count. A float histogram's need not: rules produce such ones.

use std::sync::Arc;

use crate::model::{CounterResetHint, FloatHistogram, HistogramSample, Millis, SCHEMA_CUSTOM, Span, is_stale};

/// The wire form; version 2.0 adds the last field.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Histogram {
    #[prost(oneof = "Count", tags = "1, 2")]
    pub(super) count: Option<Count>,
    #[prost(double, tag = "3")]
    pub(super) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(super) schema: i32,
    #[prost(double, tag = "5")]
    pub(super) zero_threshold: f64,
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub(super) zero_count: Option<ZeroCount>,
    #[prost(message, repeated, tag = "8")]
    pub(super) negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    pub(super) negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub(super) negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub(super) positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub(super) positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub(super) positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub(super) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(super) timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub(super) custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    pub(super) start_timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(super) enum Count {
    #[prost(uint64, tag = "1")]
    Int(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(super) enum ZeroCount {
    #[prost(uint64, tag = "6")]
    Int(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
}

/// Turns the wire form into ours.
///
/// # Errors
/// The text says which rule it breaks.
pub(super) fn to_sample(wire: Histogram) -> Result<HistogramSample, String> {
    let at = Millis(wire.timestamp);
    let integer = !matches!(wire.count, Some(Count::Float(_)));
    let histogram = to_float(wire)?;
    if !is_stale(histogram.sum) {
        validate(&histogram)?;
        if integer {
            adds_up(&histogram)?;
        }
    }
    Ok(HistogramSample {
        at,
        histogram: Arc::new(histogram),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 lose their last bits, as in Prometheus"
)]
fn to_float(wire: Histogram) -> Result<FloatHistogram, String> {
    let integer = !matches!(wire.count, Some(Count::Float(_)));
    if integer && !(wire.positive_counts.is_empty() && wire.negative_counts.is_empty()) {
        return Err("an integer histogram has float buckets".to_owned());
    }
    if !integer && !(wire.positive_deltas.is_empty() && wire.negative_deltas.is_empty()) {
        return Err("a float histogram has integer buckets".to_owned());
    }
    let buckets = |deltas: &[i64], counts: Vec<f64>| if integer { absolute(deltas) } else { Ok(counts) };
    Ok(FloatHistogram {
        counter_reset_hint: match wire.reset_hint {
            1 => CounterResetHint::Reset,
            2 => CounterResetHint::NotReset,
            3 => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        },
        schema: wire.schema,
        zero_threshold: wire.zero_threshold,
        zero_count: match wire.zero_count {
            Some(ZeroCount::Int(count)) => count as f64,
            Some(ZeroCount::Float(count)) => count,
            None => 0.0,
        },
        count: match wire.count {
            Some(Count::Int(count)) => count as f64,
            Some(Count::Float(count)) => count,
            None => 0.0,
        },
        sum: wire.sum,
        positive_buckets: buckets(&wire.positive_deltas, wire.positive_counts)?,
        negative_buckets: buckets(&wire.negative_deltas, wire.negative_counts)?,
        positive_spans: spans(&wire.positive_spans),
        negative_spans: spans(&wire.negative_spans),
        custom_values: wire.custom_values,
    })
}

/// The reverse of [`to_sample`], as a float histogram.
pub(super) fn from_sample(sample: &HistogramSample) -> Histogram {
    let histogram = &sample.histogram;
    let spans = |spans: &[Span]| -> Vec<BucketSpan> {
        let wire = |span: &Span| BucketSpan {
            offset: span.offset,
            length: span.length,
        };
        spans.iter().map(wire).collect()
    };
    Histogram {
        count: Some(Count::Float(histogram.count)),
        sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: Some(ZeroCount::Float(histogram.zero_count)),
        negative_spans: spans(&histogram.negative_spans),
        negative_counts: histogram.negative_buckets.clone(),
        positive_spans: spans(&histogram.positive_spans),
        positive_counts: histogram.positive_buckets.clone(),
        reset_hint: match histogram.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        },
        timestamp: sample.at.0,
        custom_values: histogram.custom_values.clone(),
        ..Histogram::default()
    }
}

fn spans(wire: &[BucketSpan]) -> Vec<Span> {
    let ours = |span: &BucketSpan| Span {
        offset: span.offset,
        length: span.length,
    };
    wire.iter().map(ours).collect()
}

/// Integer buckets are sent as differences to the bucket before.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 lose their last bits, as in Prometheus"
)]
fn absolute(deltas: &[i64]) -> Result<Vec<f64>, String> {
    let mut count = 0i64;
    let mut next = |delta: &i64| {
        count = count.checked_add(*delta)?;
        Some(count as f64)
    };
    let counts: Option<Vec<f64>> = deltas.iter().map(&mut next).collect();
    counts.ok_or_else(|| "a bucket's count overflows 64 bits".to_owned())
}

fn validate(histogram: &FloatHistogram) -> Result<(), String> {
    let custom = histogram.schema == SCHEMA_CUSTOM;
    if custom {
        custom_bounds(histogram)?;
    } else if !(-4..=8).contains(&histogram.schema) {
        return Err(format!(
            "schema {} is neither -4…8 nor {SCHEMA_CUSTOM}",
            histogram.schema
        ));
    } else if !histogram.custom_values.is_empty() {
        return Err("an exponential histogram has custom bounds".to_owned());
    }
    if histogram.count < 0.0 || histogram.zero_count < 0.0 {
        return Err("a count is negative".to_owned());
    }
    if histogram.zero_threshold.is_nan() || histogram.zero_threshold < 0.0 {
        return Err(format!("zero threshold {} is not a width", histogram.zero_threshold));
    }
    side("positive", &histogram.positive_spans, &histogram.positive_buckets)?;
    side("negative", &histogram.negative_spans, &histogram.negative_buckets)
}

fn side(name: &str, spans: &[Span], buckets: &[f64]) -> Result<(), String> {
    let mut end = 0i64;
    let mut covered = 0u64;
    for (i, span) in spans.iter().enumerate() {
        if i > 0 && span.offset < 0 {
            return Err(format!("{name} span {} has the negative offset {}", i + 1, span.offset));
        }
        end += i64::from(span.offset) + i64::from(span.length);
        covered += u64::from(span.length);
        if i32::try_from(end).is_err() {
            return Err(format!("{name} span {} ends at bucket {end}, beyond 32 bits", i + 1));
        }
    }
    if covered != buckets.len() as u64 {
        return Err(format!(
            "{name} spans cover {covered} buckets, {} were sent",
            buckets.len()
        ));
    }
    match buckets.iter().position(|count| *count < 0.0) {
        Some(bucket) => Err(format!("{name} bucket {} has a negative count", bucket + 1)),
        None => Ok(()),
    }
}

fn custom_bounds(histogram: &FloatHistogram) -> Result<(), String> {
    if !histogram.negative_spans.is_empty() || !histogram.negative_buckets.is_empty() {
        return Err("a histogram with custom bounds has negative buckets".to_owned());
    }
    if histogram.zero_count != 0.0 || histogram.zero_threshold != 0.0 {
        return Err("a histogram with custom bounds has a zero bucket".to_owned());
    }
    let bounds = &histogram.custom_values;
    if bounds.iter().any(|bound| bound.is_nan()) || bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("custom bounds do not rise".to_owned());
    }
    if bounds.last() == Some(&f64::INFINITY) {
        return Err("custom bounds name +Inf, which is always there".to_owned());
    }
    let mut end = 0i64;
    for span in &histogram.positive_spans {
        end += i64::from(span.offset) + i64::from(span.length);
        if span.offset < 0 || end > bounds.len() as i64 + 1 {
            return Err(format!("a span ends at bucket {end} of {} custom bounds", bounds.len()));
        }
    }
    Ok(())
}

/// An integer histogram counts every observation once; NaN ones are in no bucket.
fn adds_up(histogram: &FloatHistogram) -> Result<(), String> {
    let buckets: f64 = histogram
        .positive_buckets
        .iter()
        .chain(&histogram.negative_buckets)
        .sum();
    let total = buckets + histogram.zero_count;
    let fits = if histogram.sum.is_nan() {
        total <= histogram.count
    } else {
        total == histogram.count
    };
    if fits {
        Ok(())
    } else {
        Err(format!("{total} observations in buckets, {} in count", histogram.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_marker;

    fn integer() -> Histogram {
        Histogram {
            count: Some(Count::Int(12)),
            sum: 18.4,
            schema: 1,
            zero_threshold: 0.001,
            zero_count: Some(ZeroCount::Int(2)),
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 2 }],
            positive_deltas: vec![1, 1, -1, 0],
            negative_spans: vec![BucketSpan { offset: -3, length: 2 }],
            negative_deltas: vec![2, 1],
            timestamp: 7,
            ..Histogram::default()
        }
    }

    #[test]
    fn integer_buckets_become_absolute_counts() {
        let sample = to_sample(integer()).unwrap();
        assert_eq!(sample.at, Millis(7));
        assert_eq!(sample.histogram.positive_buckets, [1.0, 2.0, 1.0, 1.0]);
        assert_eq!(sample.histogram.negative_buckets, [2.0, 3.0]);
        assert_eq!((sample.histogram.count, sample.histogram.zero_count), (12.0, 2.0));
    }

    #[test]
    fn a_float_histogram_need_not_add_up() {
        let mut wire = integer();
        wire.count = Some(Count::Float(1.5));
        wire.positive_counts = vec![1.0, 2.5, 1.0, 1.0];
        wire.negative_counts = vec![2.0, 3.0];
        (wire.positive_deltas, wire.negative_deltas) = (Vec::new(), Vec::new());
        assert_eq!(to_sample(wire).unwrap().histogram.count, 1.5);
    }

    #[test]
    fn a_stale_histogram_passes_whatever_else_it_says() {
        let stale = Histogram {
            sum: stale_marker(),
            ..Histogram::default()
        };
        assert!(is_stale(to_sample(stale).unwrap().histogram.sum));
    }

    #[test]
    fn each_broken_rule_is_named() {
        type Break = fn(&mut Histogram);
        let cases: [(Break, &str); 9] = [
            (
                |h| h.count = Some(Count::Int(13)),
                "12 observations in buckets, 13 in count",
            ),
            (|h| h.schema = 9, "schema 9"),
            (
                |h| h.positive_deltas = vec![1, -2, 1, 0],
                "bucket 2 has a negative count",
            ),
            (|h| h.positive_deltas = vec![1], "cover 4 buckets, 1 were sent"),
            (|h| h.positive_spans[1].offset = -1, "span 2 has the negative offset"),
            (|h| h.positive_spans[0].offset = i32::MAX, "beyond 32 bits"),
            (|h| h.custom_values = vec![1.0], "custom bounds"),
            (|h| h.positive_counts = vec![1.0], "float buckets"),
            (|h| h.positive_deltas = vec![i64::MAX, 1, 0, 0], "overflows"),
        ];
        for (spoil, expected) in cases {
            let mut wire = integer();
            spoil(&mut wire);
            let error = to_sample(wire).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn custom_bounds_rise_and_hold_the_buckets() {
        let custom = |bounds: Vec<f64>, length: u32| {
            to_sample(Histogram {
                count: Some(Count::Float(3.0)),
                schema: SCHEMA_CUSTOM,
                positive_spans: vec![BucketSpan { offset: 0, length }],
                positive_counts: vec![1.0; length as usize],
                custom_values: bounds,
                ..Histogram::default()
            })
        };
        assert_eq!(custom(vec![5.0, 10.0], 3).unwrap().histogram.custom_values, [5.0, 10.0]);
        assert!(custom(vec![5.0, 10.0], 4).unwrap_err().contains("ends at bucket 4"));
        assert!(custom(vec![5.0, 5.0], 2).unwrap_err().contains("do not rise"));
        assert!(custom(vec![5.0, f64::INFINITY], 2).unwrap_err().contains("+Inf"));
    }
}
