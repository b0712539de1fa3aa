//! Functions over windows: one series' samples in, at most one value a step out.
//!
//! Both ends of the window move forward only, so that finding all windows is one pass over the samples. The functions that can
//! be continued from step to step without changing a digit are (`incremental`); all others look at their window (`window`).

mod incremental;
mod rate;
mod window;

pub(super) use rate::{interpolate, interpolate_histograms};

use super::budget::Budget;
use super::matrix::{Grid, Row, Scalars};
use super::notes::Notes;
use super::plan::Selector;
use std::sync::Arc;

use crate::model::{CounterResetHint, FloatHistogram, HistogramSample, is_stale};
use crate::query::QueryError;
use crate::query::ast::{Boundary, Span};
use crate::query::functions::Rollup;
use crate::storage::Columns;

/// A function over windows, and the windows.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) rollup: Rollup,
    pub(super) selector: &'a Selector,
    pub(super) range: i64,
    pub(super) lookback: i64,
    /// The scalar arguments.
    pub(super) params: &'a [Scalars],
    pub(super) grid: Grid,
    /// Where annotations point: the function's first argument.
    pub(super) span: Span,
    pub(super) budget: &'a Budget,
}

/// How many samples are looked at between two looks at the budget.
const CHECK_SAMPLES: u64 = 1 << 16;

/// A window of samples, and what is known about it.
#[derive(Clone, Copy)]
struct View<'a> {
    times: &'a [i64],
    values: &'a [f64],
    /// Empty, or one for each float.
    starts: &'a [i64],
    histograms: &'a [HistogramSample],
    /// Empty, or one for each histogram.
    histogram_starts: &'a [i64],
    /// Empty, or for each histogram whether its counter was reset since the one before.
    resets: &'a [bool],
    /// The window is `(start, end]`; with a boundary modifier samples beyond it are there too.
    start: i64,
    end: i64,
    /// The evaluation time.
    at: i64,
    step: usize,
}

/// The samples of one series for a whole grid.
struct Series<'a> {
    columns: &'a Columns,
    resets: Vec<bool>,
    metric: &'a str,
}

/// Fills `row` with the function's values; returns how many samples the windows held, all steps together.
///
/// # Errors
/// When the query is to end.
pub(super) fn roll(
    job: &Job<'_>,
    columns: &Columns,
    row: &mut Row,
    metric: &str,
    notes: &mut Notes,
) -> Result<u64, QueryError> {
    let plain = columns.histograms.is_empty() && columns.start_times.is_empty() && job.selector.boundary.is_none();
    if plain && let Some(looked_at) = incremental::roll(job, columns, &mut row.floats)? {
        return Ok(looked_at);
    }
    in_windows(job, columns, row, metric, notes)
}

/// The plain way: each window by itself.
fn in_windows(
    job: &Job<'_>,
    columns: &Columns,
    row: &mut Row,
    metric: &str,
    notes: &mut Notes,
) -> Result<u64, QueryError> {
    let series = Series {
        columns,
        resets: resets_of(job.rollup, columns),
        metric,
    };
    let (mut looked_at, mut checked_at) = (0, 0);
    let mut windows = Windows::new(job);
    for step in 0..job.grid.count {
        let view = windows.next(step, &series);
        let held = view.times.len() + view.histograms.len();
        if held == 0 {
            continue;
        }
        looked_at += held as u64;
        if looked_at - checked_at > CHECK_SAMPLES {
            job.budget.check()?;
            checked_at = looked_at;
        }
        if let Some(value) = window::compute(job, &series, &view, notes) {
            row.set(step, value);
        }
    }
    Ok(looked_at)
}

/// Says how many samples the windows hold, step by step: for statistics.
pub(super) fn count_windows(job: &Job<'_>, columns: &Columns) {
    let series = Series {
        columns,
        resets: Vec::new(),
        metric: "",
    };
    let mut windows = Windows::new(job);
    for step in 0..job.grid.count {
        let view = windows.next(step, &series);
        let held = view.times.len() + view.histograms.len();
        job.budget.looked_at_in(job.grid, step, held as u64);
    }
}

/// Removes stale markers: a window does not see them.
pub(super) fn drop_stale(columns: &mut Columns) {
    if columns.values.iter().any(|value| is_stale(*value)) {
        let keep: Vec<bool> = columns.values.iter().map(|value| !is_stale(*value)).collect();
        retain(&mut columns.times, &keep);
        retain(&mut columns.values, &keep);
        retain(&mut columns.start_times, &keep);
    }
    if columns.histograms.iter().any(|sample| is_stale(sample.histogram.sum)) {
        let keep: Vec<bool> = columns
            .histograms
            .iter()
            .map(|sample| !is_stale(sample.histogram.sum))
            .collect();
        retain(&mut columns.histograms, &keep);
        retain(&mut columns.histogram_start_times, &keep);
    }
}

/// Leaves only count and sum of histograms. What the buckets say about resets is first written into the hints.
pub(super) fn totals_only(columns: &mut Columns) {
    let mut before: Option<Arc<FloatHistogram>> = None;
    for sample in &mut columns.histograms {
        let whole = Arc::clone(&sample.histogram);
        let stale = is_stale(whole.sum);
        let hint = match (whole.counter_reset_hint, &before) {
            (CounterResetHint::Unknown, Some(before)) if !stale => match whole.is_reset_since(before) {
                true => CounterResetHint::Reset,
                false => CounterResetHint::NotReset,
            },
            (hint, _) => hint,
        };
        sample.histogram = Arc::new(FloatHistogram {
            counter_reset_hint: hint,
            schema: whole.schema,
            count: whole.count,
            sum: whole.sum,
            ..FloatHistogram::default()
        });
        if !stale {
            before = Some(whole);
        }
    }
}

fn retain<T>(list: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    list.retain(|_| *keep.next().unwrap_or(&true));
}

/// Whether each histogram follows a reset: a pair is compared once, however many windows hold it.
fn resets_of(rollup: Rollup, columns: &Columns) -> Vec<bool> {
    if !matches!(rollup, Rollup::Rate | Rollup::Increase | Rollup::Irate | Rollup::Resets) {
        return Vec::new();
    }
    let histograms = &columns.histograms;
    let starts = &columns.histogram_start_times;
    (0..histograms.len())
        .map(|at| {
            at > 0
                && (rate::restarted(
                    [start_of(starts, at - 1), histograms[at - 1].at.0],
                    [start_of(starts, at), histograms[at].at.0],
                ) || histograms[at].histogram.is_reset_since(&histograms[at - 1].histogram))
        })
        .collect()
}

fn start_of(starts: &[i64], at: usize) -> i64 {
    starts.get(at).copied().unwrap_or(0)
}

/// Two pointers into each column, moving forward.
struct Windows<'a> {
    selector: &'a Selector,
    grid: Grid,
    range: i64,
    before: i64,
    after: i64,
    floats: (usize, usize),
    histograms: (usize, usize),
}

impl<'a> Windows<'a> {
    fn new(job: &Job<'a>) -> Windows<'a> {
        let (before, after) = match job.selector.boundary {
            None => (0, 0),
            Some(Boundary::Anchored) => (job.lookback, 0),
            Some(Boundary::Smoothed) => (job.lookback, job.lookback),
        };
        Windows {
            selector: job.selector,
            grid: job.grid,
            range: job.range,
            before,
            after,
            floats: (0, 0),
            histograms: (0, 0),
        }
    }

    fn next<'s>(&mut self, step: usize, series: &'s Series<'_>) -> View<'s> {
        let columns = series.columns;
        let at = self.grid.at(step);
        let end = self.selector.reference(at);
        let start = end.saturating_sub(self.range);
        let (low, high) = (start.saturating_sub(self.before), end.saturating_add(self.after));
        advance(&mut self.floats, &columns.times, low, high, |time| *time);
        advance(&mut self.histograms, &columns.histograms, low, high, |sample| {
            sample.at.0
        });
        let (from, to) = self.floats;
        let (histograms_from, histograms_to) = self.histograms;
        View {
            times: &columns.times[from..to],
            values: &columns.values[from..to],
            starts: columns.start_times.get(from..to).unwrap_or(&[]),
            histograms: &columns.histograms[histograms_from..histograms_to],
            histogram_starts: columns
                .histogram_start_times
                .get(histograms_from..histograms_to)
                .unwrap_or(&[]),
            resets: series.resets.get(histograms_from..histograms_to).unwrap_or(&[]),
            start,
            end,
            at,
            step,
        }
    }
}

/// Moves `(from, to)` so that it spans the samples in `(low, high]`.
#[inline]
fn advance<T>(bounds: &mut (usize, usize), samples: &[T], low: i64, high: i64, time: impl Fn(&T) -> i64) {
    let (mut from, mut to) = *bounds;
    while to < samples.len() && time(&samples[to]) <= high {
        to += 1;
    }
    while from < to && time(&samples[from]) <= low {
        from += 1;
    }
    *bounds = (from, to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use crate::query::QueryOptions;
    use proptest::prelude::*;

    const SHORTCUTS: [Rollup; 15] = [
        Rollup::Rate,
        Rollup::Increase,
        Rollup::Delta,
        Rollup::Count,
        Rollup::Present,
        Rollup::First,
        Rollup::Last,
        Rollup::TsOfFirst,
        Rollup::TsOfLast,
        Rollup::Max,
        Rollup::Min,
        Rollup::Changes,
        Rollup::Resets,
        Rollup::Sum,
        Rollup::Avg,
    ];

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => (0i32..30).prop_map(f64::from),
            1 => -5.0..5.0f64,
            1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(9e15)],
        ]
    }

    proptest! {
        #[test]
        fn shortcuts_give_the_digits_of_the_plain_way(
            samples in prop::collection::vec((1i64..40, value()), 0..60),
            range in 1i64..200,
            step in 1i64..80,
            offset in -50i64..50,
        ) {
            let mut columns = Columns::default();
            let mut time = 0;
            for (gap, value) in samples {
                time += gap;
                columns.times.push(time);
                columns.values.push(value);
            }
            let selector = Selector {
                matchers: Vec::new(),
                offset,
                at: None,
                boundary: None,
                totals_only: false,
                func: "",
                grouping: None,
                aggregation: None,
            };
            let budget = Budget::new(&QueryOptions::default(), Grid::instant(0));
            for rollup in SHORTCUTS {
                let job = Job {
                    rollup,
                    selector: &selector,
                    range,
                    lookback: 300,
                    params: &[],
                    grid: Grid::range(0, 1500, step),
                    span: Span::default(),
                    budget: &budget,
                };
                let mut short = Row::empty(Labels::empty(), false, job.grid.count);
                let mut plain = short.clone();
                let mut notes = Notes::default();
                let looked_at = roll(&job, &columns, &mut short, "m", &mut notes).unwrap();
                let expected = in_windows(&job, &columns, &mut plain, "m", &mut notes).unwrap();
                prop_assert!(looked_at == expected, "{:?} looked at {} of {}", rollup, looked_at, expected);
                for (step, (short, plain)) in short.floats.iter().zip(&plain.floats).enumerate() {
                    let same = short.to_bits() == plain.to_bits() || short.is_nan() && plain.is_nan();
                    prop_assert!(same, "{:?} at step {}: {} instead of {}", rollup, step, short, plain);
                }
            }
        }
    }
}
