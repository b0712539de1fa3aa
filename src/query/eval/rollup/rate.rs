//! Increase over a window: restarts, extrapolation to the window's ends, and the boundary modifiers.

use std::sync::Arc;

use super::{Job, Series, View, start_of};
use crate::model::{CounterResetHint, FloatHistogram, HistogramSample, HistogramSum};
use crate::query::ast::Boundary;
use crate::query::eval::matrix::Value;
use crate::query::eval::notes::{Notes, Operation};

/// Whether a counter began anew between two samples, each given as `[start, time]`; an unknown start is 0.
pub(super) fn restarted([before_start, before]: [i64; 2], [start, time]: [i64; 2]) -> bool {
    if start == 0 || start >= time || start < before {
        return false;
    }
    if start > before {
        return true;
    }
    // It began exactly where the sample before was taken: so do the points of a delta series, but so do also
    // cumulative points whose start is unknown. The start of the one before tells them apart.
    before_start <= before && before_start != 0 && before_start != before
}

/// Whether a sample claims to have begun before the sample before it was taken, though that one began elsewhere.
fn overlaps([before_start, before]: [i64; 2], start: i64) -> bool {
    start != 0 && start < before && start != before_start
}

/// What the factor depends on by which an increase between samples becomes one over the whole window.
pub(super) struct Extrapolation {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) samples: usize,
    /// For a counter, its first value and its increase: it is not extrapolated to below zero.
    pub(super) zero_from: Option<(f64, f64)>,
    /// When the counter is known to have begun inside the window: it was zero then, and nothing is extrapolated before.
    pub(super) began: Option<i64>,
    pub(super) range: i64,
    pub(super) per_second: bool,
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// Series are taken to go on to an end of the window when a sample would not have been due before it (a tenth of the mean
/// interval later at most); otherwise to end half an interval beyond the sample.
#[inline]
pub(super) fn factor(window: &Extrapolation) -> f64 {
    let mut to_start = seconds(window.first.saturating_sub(window.start));
    let mut to_end = seconds(window.end.saturating_sub(window.last));
    let mut sampled = seconds(window.last.saturating_sub(window.first));
    let interval = match window.samples {
        0 | 1 => 0.0,
        samples => sampled / (samples - 1) as f64,
    };
    let threshold = interval * 1.1;
    if let Some(began) = window.began {
        to_start = 0.0;
        sampled = seconds(window.last.saturating_sub(began));
    } else {
        if to_start >= threshold {
            to_start = interval / 2.0;
        }
        if let Some((first, increase)) = window.zero_from {
            let mut to_zero = to_start;
            if increase > 0.0 && first >= 0.0 {
                to_zero = sampled * (first / increase);
            }
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
    }
    if to_end >= threshold {
        to_end = interval / 2.0;
    }
    let mut factor = 1.0;
    if sampled != 0.0 {
        factor = (sampled + to_start + to_end) / sampled;
    }
    if window.per_second {
        factor /= seconds(window.range);
    }
    factor
}

/// What is asked for: `rate`, `increase` or `delta`.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) counter: bool,
    pub(super) per_second: bool,
}

/// Computes `rate`, `increase` or `delta`.
pub(super) fn rate(
    job: &Job<'_>,
    series: &Series<'_>,
    view: &View<'_>,
    kind: Kind,
    notes: &mut Notes,
) -> Option<Value> {
    if !view.times.is_empty() && !view.histograms.is_empty() {
        notes.mixed_range(series.metric, job.span);
        return None;
    }
    if let Some(boundary) = job.selector.boundary {
        let smoothed = boundary == Boundary::Smoothed;
        return match view.histograms.is_empty() {
            true => bounded(job, view, kind, smoothed).map(Value::Float),
            false => bounded_histograms(job, series, view, kind, smoothed, notes).map(histogram),
        };
    }
    match view.histograms.is_empty() {
        true => floats(job, series, view, kind, notes).map(Value::Float),
        false => histograms(job, series, view, kind, notes).map(histogram),
    }
}

fn histogram(histogram: FloatHistogram) -> Value {
    Value::Histogram(Arc::new(histogram))
}

/// Returns when the counter began, when that is inside the window and before its first sample.
fn began_inside(view: &View<'_>, kind: Kind, starts: &[i64], first: i64) -> Option<i64> {
    let start = start_of(starts, 0);
    (kind.counter && start != 0 && start > view.start && start < first).then_some(start)
}

fn floats(job: &Job<'_>, series: &Series<'_>, view: &View<'_>, kind: Kind, notes: &mut Notes) -> Option<f64> {
    let View {
        times, values, starts, ..
    } = *view;
    let last = values.len() - 1;
    let mut increase = values[last] - values[0];
    if kind.counter {
        let mut overlap = false;
        for at in 1..values.len() {
            let before = [start_of(starts, at - 1), times[at - 1]];
            let now = [start_of(starts, at), times[at]];
            overlap |= overlaps(before, now[0]);
            if values[at] < values[at - 1] || restarted(before, now) {
                increase += values[at - 1];
            }
        }
        if overlap {
            notes.start_overlap(series.metric, job.span);
        }
    }
    let began = began_inside(view, kind, starts, times[0]);
    if began.is_some() {
        increase += values[0];
    } else if last == 0 {
        return None;
    }
    let factor = factor(&Extrapolation {
        start: view.start,
        end: view.end,
        first: times[0],
        last: times[last],
        samples: values.len(),
        zero_from: kind.counter.then_some((values[0], increase)),
        began,
        range: job.range,
        per_second: kind.per_second,
    });
    Some(increase * factor)
}

fn histograms(
    job: &Job<'_>,
    series: &Series<'_>,
    view: &View<'_>,
    kind: Kind,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let points = view.histograms;
    let last = points.len() - 1;
    let began = began_inside(view, kind, view.histogram_starts, points[0].at.0);
    let mut increase = match last {
        0 => None,
        _ => Some(increase_of_histograms(job, series, view, kind, notes)?),
    };
    if began.is_some() {
        let first = &points[0].histogram;
        match &mut increase {
            None => increase = Some((**first).clone()),
            Some(increase) => add(increase, first, job, series, notes)?,
        }
    }
    let mut increase = increase?;
    let factor = factor(&Extrapolation {
        start: view.start,
        end: view.end,
        first: points[0].at.0,
        last: points[last].at.0,
        samples: points.len(),
        zero_from: kind.counter.then_some((points[0].histogram.count, increase.count)),
        began,
        range: job.range,
        per_second: kind.per_second,
    });
    increase.scale(factor);
    Some(increase)
}

fn add(
    base: &mut FloatHistogram,
    other: &FloatHistogram,
    job: &Job<'_>,
    series: &Series<'_>,
    notes: &mut Notes,
) -> Option<()> {
    let Ok(reconciled) = base.add(other) else {
        notes.exponential_and_custom(series.metric, job.span);
        return None;
    };
    if reconciled.bounds_differ {
        notes.bounds_differ(Operation::Addition, job.span);
    }
    Some(())
}

/// The last histogram minus the first, plus what was reached before each reset. At least two points.
fn increase_of_histograms(
    job: &Job<'_>,
    series: &Series<'_>,
    view: &View<'_>,
    kind: Kind,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let points = view.histograms;
    let (first, last) = (&points[0].histogram, &points[points.len() - 1].histogram);
    let is_gauge = |point: &HistogramSample| point.histogram.counter_reset_hint == CounterResetHint::Gauge;
    if kind.counter {
        if points.iter().any(is_gauge) {
            notes.not_a_counter(series.metric, job.span);
        }
    } else if !is_gauge(&points[0]) || !is_gauge(&points[points.len() - 1]) {
        notes.not_a_gauge(series.metric, job.span);
    }
    // When the second point follows a reset, the first does not matter, nor does its layout.
    let skip_first = kind.counter && view.resets[1];
    let considered = if skip_first { &points[1..] } else { points };
    let custom = last.has_custom_buckets();
    let mixed = match kind.counter {
        true => considered
            .iter()
            .any(|point| point.histogram.has_custom_buckets() != custom),
        false => first.has_custom_buckets() != custom,
    };
    if mixed {
        notes.exponential_and_custom(series.metric, job.span);
        return None;
    }
    let schemas = considered.iter().map(|point| point.histogram.schema);
    let schema = match kind.counter {
        true => schemas.min().unwrap_or(last.schema),
        false => first.schema.min(last.schema),
    };
    let mut increase = HistogramSum::of(&last.in_schema(schema));
    if !skip_first {
        let reconciled = increase.sub(first).ok()?;
        if reconciled.bounds_differ {
            notes.bounds_differ(Operation::Subtraction, job.span);
        }
    }
    if kind.counter {
        let from = if skip_first { 2 } else { 1 };
        let mut overlap = false;
        for at in 1..points.len() {
            let before = [start_of(view.histogram_starts, at - 1), points[at - 1].at.0];
            overlap |= overlaps(before, start_of(view.histogram_starts, at));
            if at >= from && view.resets[at] {
                let reconciled = increase.add(&points[at - 1].histogram).ok()?;
                if reconciled.bounds_differ {
                    notes.bounds_differ(Operation::Addition, job.span);
                }
            }
        }
        if overlap {
            notes.start_overlap(series.metric, job.span);
        }
    }
    let mut increase = increase.value();
    increase.counter_reset_hint = CounterResetHint::Gauge;
    Some(increase)
}

/// Which samples of a window with a boundary modifier stand at its ends.
struct Ends {
    first: usize,
    last: usize,
}

/// `None` when there is nothing in the window to measure.
fn ends<T>(samples: &[T], view: &View<'_>, smoothed: bool, time: impl Fn(&T) -> i64) -> Option<Ends> {
    let mut last = samples.len() - 1;
    let first = samples[..last]
        .partition_point(|sample| time(sample) <= view.start)
        .saturating_sub(1);
    if smoothed {
        last = samples[..last].partition_point(|sample| time(sample) < view.end);
    }
    let nothing = time(&samples[last]) <= view.start || smoothed && time(&samples[first]) > view.end;
    (!nothing).then_some(Ends { first, last })
}

/// The value at `time` on the line between two samples; a counter that fell began at zero.
pub(in crate::query::eval) fn interpolate(before: (i64, f64), after: (i64, f64), time: i64, counter: bool) -> f64 {
    let from = if counter && after.1 < before.1 { 0.0 } else { before.1 };
    let (passed, between) = (time.saturating_sub(before.0), after.0.saturating_sub(before.0));
    from + (after.1 - from) * passed as f64 / between as f64
}

fn bounded(job: &Job<'_>, view: &View<'_>, kind: Kind, smoothed: bool) -> Option<f64> {
    let Ends { mut first, last } = ends(view.times, view, smoothed, |time| *time)?;
    let sample = |at: usize| (view.times[at], view.values[at]);
    let left = match smoothed && view.times[first] < view.start {
        true => interpolate(sample(first), sample(first + 1), view.start, kind.counter),
        false => view.values[first],
    };
    let right = match smoothed && last > 0 && view.times[last] > view.end {
        true => interpolate(sample(last - 1), sample(last), view.end, kind.counter),
        false => view.values[last],
    };
    let mut increase = right - left;
    if kind.counter {
        // The interpolation has accounted for a reset across an end.
        if view.times[first] <= view.start {
            first += 1;
        }
        let end = if view.times[last] >= view.end { last } else { last + 1 };
        let mut before = left;
        for value in view.values.get(first..end).unwrap_or(&[]).iter().chain([&right]) {
            if *value < before {
                increase += before;
            }
            before = *value;
        }
    }
    if kind.per_second {
        increase /= seconds(job.range);
    }
    Some(increase)
}

/// The histogram at `time` between two samples; a counter that was reset began at zero. `None` when they cannot be combined.
pub(in crate::query::eval) fn interpolate_histograms(
    before: &HistogramSample,
    after: &HistogramSample,
    time: i64,
    counter: bool,
    mut reconciled: impl FnMut(Operation),
) -> Option<FloatHistogram> {
    if time == before.at.0 {
        return Some((*before.histogram).clone());
    }
    let mut result = (*after.histogram).clone();
    if time == after.at.0 {
        return Some(result);
    }
    let fraction = time.saturating_sub(before.at.0) as f64 / after.at.0.saturating_sub(before.at.0) as f64;
    if counter && after.histogram.is_reset_since(&before.histogram) {
        result.scale(fraction);
        return Some(result);
    }
    if result.sub(&before.histogram).ok()?.bounds_differ {
        reconciled(Operation::Subtraction);
    }
    result.scale(fraction);
    if result.add(&before.histogram).ok()?.bounds_differ {
        reconciled(Operation::Addition);
    }
    Some(result)
}

fn bounded_histograms(
    job: &Job<'_>,
    series: &Series<'_>,
    view: &View<'_>,
    kind: Kind,
    smoothed: bool,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let points = view.histograms;
    let Ends { first, last } = ends(points, view, smoothed, |point| point.at.0)?;
    let custom = points[first].histogram.has_custom_buckets();
    for point in &points[first..=last] {
        if point.histogram.has_custom_buckets() != custom {
            notes.exponential_and_custom(series.metric, job.span);
            return None;
        }
        if kind.counter && point.histogram.counter_reset_hint == CounterResetHint::Gauge {
            notes.not_a_counter(series.metric, job.span);
        }
    }
    let between = |before: usize, time: i64, notes: &mut Notes| {
        let noted = |operation| notes.bounds_differ(operation, job.span);
        interpolate_histograms(&points[before], &points[before + 1], time, kind.counter, noted)
    };
    let left = match smoothed && points[first].at.0 < view.start {
        true => between(first, view.start, notes)?,
        false => (*points[first].histogram).clone(),
    };
    let right = match smoothed && last > 0 && points[last].at.0 > view.end {
        true => between(last - 1, view.end, notes)?,
        false => (*points[last].histogram).clone(),
    };
    let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset_hint == CounterResetHint::Gauge;
    if !kind.counter && !(is_gauge(&left) && is_gauge(&right)) {
        notes.not_a_gauge(series.metric, job.span);
    }
    let mut increase = right.clone();
    match increase.sub(&left) {
        Ok(reconciled) if reconciled.bounds_differ => notes.bounds_differ(Operation::Subtraction, job.span),
        Ok(_) => {}
        Err(_) => {
            notes.exponential_and_custom(series.metric, job.span);
            return None;
        }
    }
    if kind.counter {
        // Both ends are `left` and `right`; a reset that the left interpolation went across is accounted for.
        let mut next = first + 1;
        let mut before = &left;
        if smoothed
            && points[first].at.0 < view.start
            && points[next].histogram.is_reset_since(&points[first].histogram)
        {
            before = &points[next].histogram;
            next += 1;
        }
        if next <= last {
            for now in points[next..last].iter().map(|point| &*point.histogram).chain([&right]) {
                if now.is_reset_since(before) {
                    add(&mut increase, before, job, series, notes)?;
                }
                before = now;
            }
        }
    }
    if kind.per_second {
        increase.divide(seconds(job.range));
    }
    increase.counter_reset_hint = CounterResetHint::Gauge;
    increase.compact();
    Some(increase)
}
