//! An answer against what the script says. Floats may differ in the last digits; reset hints of histograms are not compared,
//! because a store may know more about resets than a script does.

use std::sync::Arc;

use super::{Eval, Expected, SeriesValue, When};
use crate::model::{FloatHistogram, Interval, Labels, Millis, is_stale};
use crate::query::{MatrixSeries, QueryValue, VectorSample};
use crate::storage::Point;

type Series = [(Labels, Vec<Option<SeriesValue>>)];

/// How far two floats may lie apart, relative to their size.
const EPSILON: f64 = 1e-6;

pub(super) fn compare(eval: &Eval, value: &QueryValue, when: When) -> Result<(), String> {
    match (&eval.expected, value) {
        (Expected::Scalar(wanted), QueryValue::Scalar(got)) => float(*wanted, got.value),
        (Expected::Scalar(wanted), QueryValue::Vector(samples)) if is_from_scalar(eval, samples, when) => {
            match &samples[0].point {
                Point::Float(got) => float(*wanted, got.value),
                Point::Histogram(_) => Err("expected a scalar, got a histogram".to_owned()),
            }
        }
        (Expected::String(wanted), QueryValue::String(_, got)) if wanted == got => Ok(()),
        (Expected::Series(wanted), QueryValue::Vector(samples)) => vector(wanted, samples, eval.ordered),
        (Expected::Series(wanted), QueryValue::Matrix(got)) => {
            let (start, step) = match eval.when {
                When::Range { start, step, .. } => (start, step),
                When::Instant(at) => (at, Interval::ZERO),
            };
            matrix(wanted, got, start, step)
        }
        (Expected::RangeVector { start, step, series }, QueryValue::Matrix(got)) => matrix(series, got, *start, *step),
        (wanted, got) => Err(format!("expected {wanted:?}, got {got:?}")),
    }
}

/// Whether the one sample stands for a scalar: the query is asked as a range query, whose answer is always a matrix.
fn is_from_scalar(eval: &Eval, samples: &[VectorSample], when: When) -> bool {
    matches!((eval.when, when), (When::Instant(_), When::Instant(_)))
        && samples.len() == 1
        && samples[0].labels.is_empty()
}

fn vector(wanted: &Series, got: &[VectorSample], ordered: bool) -> Result<(), String> {
    for (index, sample) in got.iter().enumerate() {
        let labels = &sample.labels;
        let Some(at) = wanted.iter().rposition(|(wanted, _)| wanted == labels) else {
            return Err(format!("unexpected series {labels} = {:?}", sample.point));
        };
        if ordered && at != index {
            return Err(format!("{labels} is at position {}, expected at {}", index + 1, at + 1));
        }
        let first = wanted[at].1.first().and_then(Option::as_ref);
        let same = match (first, &sample.point) {
            (Some(SeriesValue::Float(wanted)), Point::Float(got)) => float(*wanted, got.value),
            (Some(SeriesValue::Histogram(wanted)), Point::Histogram(got)) => histogram(wanted, &got.histogram),
            (wanted, got) => Err(format!("expected {wanted:?}, got {got:?}")),
        };
        same.map_err(|reason| format!("{labels}: {reason}"))?;
    }
    let missing = wanted
        .iter()
        .find(|(wanted, _)| !got.iter().any(|sample| sample.labels == *wanted));
    missing.map_or(Ok(()), |(labels, values)| {
        Err(format!("{labels} = {:?} is missing", values.first()))
    })
}

fn matrix(wanted: &Series, got: &[MatrixSeries], start: Millis, step: Interval) -> Result<(), String> {
    for series in got {
        let labels = &series.labels;
        let Some((_, values)) = wanted.iter().rfind(|(wanted, _)| wanted == labels) else {
            return Err(format!(
                "unexpected series {labels}: {:?} {:?}",
                series.floats, series.histograms
            ));
        };
        points(values, series, start, step).map_err(|reason| format!("{labels}: {reason}"))?;
    }
    let missing = wanted
        .iter()
        .find(|(wanted, _)| !got.iter().any(|series| series.labels == *wanted));
    missing.map_or(Ok(()), |(labels, _)| Err(format!("{labels} is missing")))
}

fn points(wanted: &[Option<SeriesValue>], got: &MatrixSeries, start: Millis, step: Interval) -> Result<(), String> {
    let mut floats = Vec::new();
    let mut histograms: Vec<(Millis, &Arc<FloatHistogram>)> = Vec::new();
    let mut at = start;
    for value in wanted {
        match value {
            Some(SeriesValue::Float(value)) => floats.push((at, *value)),
            Some(SeriesValue::Histogram(value)) => histograms.push((at, value)),
            None => {}
        }
        at += step;
    }
    if floats.len() != got.floats.len() || histograms.len() != got.histograms.len() {
        return Err(format!(
            "expected {} floats and {} histograms, got {:?} and {:?}",
            floats.len(),
            histograms.len(),
            got.floats,
            got.histograms
        ));
    }
    for ((at, wanted), got) in floats.into_iter().zip(&got.floats) {
        same_time(at, got.at)?;
        float(wanted, got.value).map_err(|reason| format!("at {} ms: {reason}", at.0))?;
    }
    for ((at, wanted), got) in histograms.into_iter().zip(&got.histograms) {
        same_time(at, got.at)?;
        histogram(wanted, &got.histogram).map_err(|reason| format!("at {} ms: {reason}", at.0))?;
    }
    Ok(())
}

fn same_time(wanted: Millis, got: Millis) -> Result<(), String> {
    if wanted == got {
        return Ok(());
    }
    Err(format!("expected a sample at {} ms, got one at {} ms", wanted.0, got.0))
}

fn float(wanted: f64, got: f64) -> Result<(), String> {
    if is_stale(wanted) || !almost(wanted, got) {
        return Err(format!("expected {wanted}, got {got}"));
    }
    Ok(())
}

fn almost(a: f64, b: f64) -> bool {
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (size, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || size < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / size.min(f64::MAX) < EPSILON
}

fn histogram(wanted: &FloatHistogram, got: &FloatHistogram) -> Result<(), String> {
    let compacted = |histogram: &FloatHistogram| {
        let mut compacted = histogram.clone();
        compacted.compact();
        compacted
    };
    let (wanted, got) = (compacted(wanted), compacted(got));
    let all_almost = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| almost(*a, *b));
    let same = wanted.schema == got.schema
        && almost(wanted.count, got.count)
        && almost(wanted.sum, got.sum)
        && almost(wanted.zero_threshold, got.zero_threshold)
        && almost(wanted.zero_count, got.zero_count)
        && wanted.positive_spans == got.positive_spans
        && wanted.negative_spans == got.negative_spans
        && all_almost(&wanted.positive_buckets, &got.positive_buckets)
        && all_almost(&wanted.negative_buckets, &got.negative_buckets)
        && all_almost(&wanted.custom_values, &got.custom_values);
    if same {
        return Ok(());
    }
    Err(format!("expected {wanted:?}, got {got:?}"))
}
