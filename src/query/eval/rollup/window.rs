//! Functions that look at their whole window.

use std::sync::Arc;

use super::rate::{self, Kind};
use super::{Job, Series, View, start_of};
use crate::model::{CounterResetHint, FloatHistogram, FloatSum, FloatSums, HistogramSample, HistogramSum};
use crate::query::ast::Boundary;
use crate::query::detect::last_change;
use crate::query::eval::aggregate::HistogramMean;
use crate::query::eval::aggregate::mean::FloatMean;
use crate::query::eval::matrix::Value;
use crate::query::eval::notes::{Notes, Operation};
use crate::query::eval::quantile;
use crate::query::functions::Rollup;

/// Computes the function for one window, which is not empty.
pub(super) fn compute(job: &Job<'_>, series: &Series<'_>, view: &View<'_>, notes: &mut Notes) -> Option<Value> {
    let param = |index: usize| job.params[index].at(view.step);
    let kind = |counter, per_second| Kind { counter, per_second };
    let float = match job.rollup {
        Rollup::Rate => return rate::rate(job, series, view, kind(true, true), notes),
        Rollup::Increase => return rate::rate(job, series, view, kind(true, false), notes),
        Rollup::Delta => return rate::rate(job, series, view, kind(false, false), notes),
        Rollup::Irate => return instant_rate(job, series, view, true, notes),
        Rollup::Idelta => return instant_rate(job, series, view, false, notes),
        Rollup::First => return Some(first(view)),
        Rollup::Last => return Some(last(view)),
        Rollup::Sum | Rollup::Avg => return sum_or_avg(job, series, view, notes),
        Rollup::Changes => changes(job, view)?,
        Rollup::Resets => resets(job, view)?,
        Rollup::Count => (view.values.len() + view.histograms.len()) as f64,
        Rollup::Present => 1.0,
        Rollup::TsOfFirst => seconds(first_time(view)),
        Rollup::TsOfLast => seconds(last_time(view)),
        Rollup::Deriv => {
            let slope = regression(job, series, view, view.times.first().copied()?, notes)?.0;
            return Some(Value::Float(slope));
        }
        Rollup::PredictLinear => {
            let (slope, intercept) = regression(job, series, view, view.at, notes)?;
            return Some(Value::Float(slope * param(0) + intercept));
        }
        Rollup::ChangePoint => {
            note_ignored(job, series, view, notes);
            seconds(view.times[last_change(view.values)?])
        }
        Rollup::ZScore => {
            note_ignored(job, series, view, notes);
            zscore(view.values)?
        }
        Rollup::DoubleExponentialSmoothing => {
            let enough = view.values.len() >= 2;
            note_ignored(job, series, view, notes);
            if !enough {
                return None;
            }
            smoothed(view.values, param(0), param(1))
        }
        Rollup::Max
        | Rollup::Min
        | Rollup::TsOfMax
        | Rollup::TsOfMin
        | Rollup::Stddev
        | Rollup::Stdvar
        | Rollup::Mad
        | Rollup::Quantile => {
            if view.values.is_empty() {
                return None;
            }
            if job.rollup == Rollup::Quantile && !(0.0..=1.0).contains(&param(0)) {
                notes.bad_quantile(param(0), job.span);
            }
            note_ignored(job, series, view, notes);
            of_floats(job, view, || param(0))
        }
    };
    Some(Value::Float(float))
}

/// Notes histograms that a function of floats passes over; without any float there is nothing to say.
fn note_ignored(job: &Job<'_>, series: &Series<'_>, view: &View<'_>, notes: &mut Notes) {
    if !view.histograms.is_empty() && !view.values.is_empty() {
        notes.ignored_in_range(series.metric, job.span);
    }
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

fn of_floats(job: &Job<'_>, view: &View<'_>, param: impl Fn() -> f64) -> f64 {
    let values = view.values;
    match job.rollup {
        Rollup::Max => values[extreme(values, |new, old| new > old)],
        Rollup::Min => values[extreme(values, |new, old| new < old)],
        Rollup::TsOfMax => seconds(view.times[extreme(values, |new, old| new >= old)]),
        Rollup::TsOfMin => seconds(view.times[extreme(values, |new, old| new <= old)]),
        Rollup::Stdvar => variance(values),
        Rollup::Stddev => variance(values).sqrt(),
        Rollup::Mad => deviation(values),
        _ => quantile::of_values(param(), &mut values.to_vec()),
    }
}

/// Where the best value is; NaN only when there is nothing else.
fn extreme(values: &[f64], better: impl Fn(f64, f64) -> bool) -> usize {
    (0..values.len()).fold(0, |best, at| {
        match better(values[at], values[best]) || values[best].is_nan() {
            true => at,
            false => best,
        }
    })
}

/// The last value's distance from the mean, in deviations.
fn zscore(values: &[f64]) -> Option<f64> {
    let last = values.last()?;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let deviation = variance(values).sqrt();
    (deviation > 0.0).then(|| (last - mean) / deviation)
}

fn variance(values: &[f64]) -> f64 {
    let mut count = 0.0;
    let (mut mean, mut squares) = (FloatSum::default(), FloatSum::default());
    for value in values {
        count += 1.0;
        let delta = value - (mean.sum + mean.lost);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.lost)));
    }
    (squares.sum + squares.lost) / count
}

/// The median distance from the median.
fn deviation(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let mut values = values.to_vec();
    let median = quantile::of_values(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    quantile::of_values(0.5, &mut values)
}

fn first_time(view: &View<'_>) -> i64 {
    let float = view.times.first().copied().unwrap_or(i64::MAX);
    let histogram = view.histograms.first().map_or(i64::MAX, |sample| sample.at.0);
    float.min(histogram)
}

fn last_time(view: &View<'_>) -> i64 {
    let float = view.times.last().copied().unwrap_or(i64::MIN);
    let histogram = view.histograms.last().map_or(i64::MIN, |sample| sample.at.0);
    float.max(histogram)
}

fn first(view: &View<'_>) -> Value {
    match (view.times.first(), view.histograms.first()) {
        (Some(time), Some(sample)) if *time >= sample.at.0 => Value::Histogram(Arc::clone(&sample.histogram)),
        (None, Some(sample)) => Value::Histogram(Arc::clone(&sample.histogram)),
        _ => Value::Float(view.values[0]),
    }
}

fn last(view: &View<'_>) -> Value {
    match (view.times.last(), view.histograms.last()) {
        (Some(time), Some(sample)) if *time <= sample.at.0 => Value::Histogram(Arc::clone(&sample.histogram)),
        (None, Some(sample)) => Value::Histogram(Arc::clone(&sample.histogram)),
        _ => Value::Float(view.values[view.values.len() - 1]),
    }
}

fn sum_or_avg(job: &Job<'_>, series: &Series<'_>, view: &View<'_>, notes: &mut Notes) -> Option<Value> {
    let avg = job.rollup == Rollup::Avg;
    if !view.values.is_empty() && !view.histograms.is_empty() {
        notes.mixed_range(series.metric, job.span);
        return None;
    }
    if view.histograms.is_empty() {
        let mut mean = FloatMean::default();
        let mut sum = FloatSum::default();
        for value in view.values {
            if avg {
                mean.add(*value);
            } else {
                sum.add(*value);
            }
        }
        return Some(Value::Float(if avg { mean.value() } else { sum.value() }));
    }
    let result = match avg {
        true => mean_of_histograms(view.histograms),
        false => sum_of_histograms(view.histograms),
    };
    let Some((histogram, bounds_differ)) = result else {
        notes.exponential_and_custom(series.metric, job.span);
        return None;
    };
    if bounds_differ {
        notes.bounds_differ(Operation::Aggregation, job.span);
    }
    let says = |hint| {
        view.histograms
            .iter()
            .any(|sample| sample.histogram.counter_reset_hint == hint)
    };
    if says(CounterResetHint::Reset) && says(CounterResetHint::NotReset) {
        notes.resets_collide(Operation::Aggregation, job.span);
    }
    Some(Value::Histogram(Arc::new(histogram)))
}

fn sum_of_histograms(samples: &[HistogramSample]) -> Option<(FloatHistogram, bool)> {
    let mut sum = HistogramSum::of(&samples[0].histogram);
    let mut bounds_differ = false;
    for sample in &samples[1..] {
        bounds_differ |= sum.add(&sample.histogram).ok()?.bounds_differ;
    }
    Some((sum.value(), bounds_differ))
}

fn mean_of_histograms(samples: &[HistogramSample]) -> Option<(FloatHistogram, bool)> {
    let mut mean = HistogramMean::of(&samples[0].histogram);
    let mut bounds_differ = false;
    for sample in &samples[1..] {
        bounds_differ |= mean.add(&sample.histogram).ok()?.bounds_differ;
    }
    Some((mean.value(), bounds_differ))
}

/// A float or a histogram with its times.
#[derive(Clone, Copy)]
struct Point<'a> {
    start: i64,
    time: i64,
    value: f64,
    histogram: Option<&'a FloatHistogram>,
    /// The histogram follows a reset (against the histogram before it).
    reset: bool,
}

/// The points of both kinds in the order of time, from the given indexes on.
fn points<'a>(view: &View<'a>, mut float: usize, mut histogram: usize) -> impl Iterator<Item = Point<'a>> {
    let view = *view;
    std::iter::from_fn(move || {
        let next_float = view.times.get(float).copied();
        let next_histogram = view.histograms.get(histogram);
        let takes_float = match (next_float, next_histogram) {
            (Some(time), Some(sample)) => time <= sample.at.0,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return None,
        };
        if takes_float {
            float += 1;
            return Some(Point {
                start: start_of(view.starts, float - 1),
                time: view.times[float - 1],
                value: view.values[float - 1],
                histogram: None,
                reset: false,
            });
        }
        histogram += 1;
        let sample = &view.histograms[histogram - 1];
        Some(Point {
            start: start_of(view.histogram_starts, histogram - 1),
            time: sample.at.0,
            value: 0.0,
            histogram: Some(&sample.histogram),
            reset: view.resets.get(histogram - 1).copied().unwrap_or(false),
        })
    })
}

/// Where counting begins: with `anchored`, at the last sample at or before the window, of whichever kind. `None` when no sample
/// is inside the window.
fn first_indexes(job: &Job<'_>, view: &View<'_>) -> Option<(usize, usize)> {
    if job.selector.boundary != Some(Boundary::Anchored) {
        return Some((0, 0));
    }
    let floats = view.times.partition_point(|time| *time <= view.start);
    let histograms = view.histograms.partition_point(|sample| sample.at.0 <= view.start);
    if floats >= view.times.len() && histograms >= view.histograms.len() {
        return None;
    }
    let before = |count: usize| count.checked_sub(1);
    Some(match (before(floats), before(histograms)) {
        (None, None) => (0, 0),
        (Some(float), Some(histogram)) if view.times[float] < view.histograms[histogram].at.0 => (floats, histogram),
        (Some(float), _) => (float, histograms),
        (None, Some(histogram)) => (floats, histogram),
    })
}

fn changes(job: &Job<'_>, view: &View<'_>) -> Option<f64> {
    let (float, histogram) = first_indexes(job, view)?;
    let mut before: Option<Point<'_>> = None;
    let mut changes = 0.0;
    for now in points(view, float, histogram) {
        let changed = before.is_some_and(|before| match (before.histogram, now.histogram) {
            (None, None) => now.value != before.value && !(now.value.is_nan() && before.value.is_nan()),
            (Some(before), Some(now)) => !now.same_data(before),
            _ => true,
        });
        changes += f64::from(u8::from(changed));
        before = Some(now);
    }
    Some(changes)
}

fn resets(job: &Job<'_>, view: &View<'_>) -> Option<f64> {
    let (float, histogram) = first_indexes(job, view)?;
    let mut before: Option<Point<'_>> = None;
    let mut resets = 0.0;
    for now in points(view, float, histogram) {
        let reset = before.is_some_and(|before| {
            let restarted = || rate::restarted([before.start, before.time], [now.start, now.time]);
            match (before.histogram, now.histogram) {
                (None, None) => now.value < before.value || restarted(),
                (Some(_), Some(_)) => now.reset,
                _ => true,
            }
        });
        resets += f64::from(u8::from(reset));
        before = Some(now);
    }
    Some(resets)
}

/// `irate` and `idelta`: the last two points of either kind.
fn instant_rate(
    job: &Job<'_>,
    series: &Series<'_>,
    view: &View<'_>,
    counter: bool,
    notes: &mut Notes,
) -> Option<Value> {
    let floats = view.times.len().saturating_sub(2);
    let histograms = view.histograms.len().saturating_sub(2);
    let candidates: Vec<Point<'_>> = points(view, floats, histograms).collect();
    let [.., before, now] = candidates[..] else {
        return None;
    };
    let interval = now.time.saturating_sub(before.time);
    if interval == 0 {
        return None;
    }
    let restarted = counter && rate::restarted([before.start, before.time], [now.start, now.time]);
    let interval = seconds(interval);
    match (before.histogram, now.histogram) {
        (None, None) => {
            let fell = counter && (now.value < before.value || restarted);
            let value = if fell { now.value } else { now.value - before.value };
            Some(Value::Float(if counter { value / interval } else { value }))
        }
        (Some(before), Some(after)) => {
            let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset_hint == CounterResetHint::Gauge;
            if counter && (is_gauge(before) || is_gauge(after)) {
                notes.not_a_counter(series.metric, job.span);
            }
            if !counter && !(is_gauge(before) && is_gauge(after)) {
                notes.not_a_gauge(series.metric, job.span);
            }
            let mut result = after.clone();
            if !counter || !(restarted || after.is_reset_since(before)) {
                let Ok(reconciled) = result.sub(before) else {
                    notes.exponential_and_custom(series.metric, job.span);
                    return None;
                };
                if reconciled.bounds_differ {
                    notes.bounds_differ(Operation::Subtraction, job.span);
                }
            }
            result.counter_reset_hint = CounterResetHint::Gauge;
            result.compact();
            if counter {
                result.divide(interval);
            }
            Some(Value::Histogram(Arc::new(result)))
        }
        _ => {
            notes.mixed_range(series.metric, job.span);
            None
        }
    }
}

/// Returns slope (per second) and value at `origin` of the line that fits the floats best.
fn regression(
    job: &Job<'_>,
    series: &Series<'_>,
    view: &View<'_>,
    origin: i64,
    notes: &mut Notes,
) -> Option<(f64, f64)> {
    note_ignored(job, series, view, notes);
    if view.values.len() < 2 {
        return None;
    }
    let first = view.values[0];
    if view.values.iter().all(|value| *value == first) {
        return Some(if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        });
    }
    let terms = view.times.iter().zip(view.values).map(|(time, value)| {
        let x = time.saturating_sub(origin) as f64 / 1e3;
        [x, *value, x * value, x * x]
    });
    let mut sums = FloatSums::default();
    terms.clone().for_each(|terms| sums.add(terms));
    let [x, y, xy, xx] = sums.values().unwrap_or_else(|| one_by_one(terms));
    let n = view.values.len() as f64;
    let slope = (xy - x * y / n) / (xx - x * x / n);
    Some((slope, y / n - slope * x / n))
}

/// Sums that may become infinite.
fn one_by_one(terms: impl Iterator<Item = [f64; 4]>) -> [f64; 4] {
    let mut sums = [FloatSum::default(); 4];
    for terms in terms {
        sums.iter_mut().zip(terms).for_each(|(sum, term)| sum.add(term));
    }
    sums.map(|sum| sum.sum + sum.lost)
}

/// Holt's double exponential smoothing; at least two values.
fn smoothed(values: &[f64], smoothing: f64, trend_factor: f64) -> f64 {
    let mut before = 0.0;
    let mut now = values[0];
    let mut trend = values[1] - values[0];
    for (at, value) in values.iter().enumerate().skip(1) {
        if at > 1 {
            trend = trend_factor * (now - before) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing * value + (1.0 - smoothing) * (now + trend);
        (before, now) = (now, next);
    }
    now
}
