//! Range selectors and subqueries: a window of samples at each step, and functions over it.

use std::sync::Arc;

use rayon::prelude::*;

use super::matrix::{Grid, Row, Scalars};
use super::notes::Notes;
use super::plan::{Node, Selector, Subquery, Window};
use super::rollup::{self, Job};
use super::select::{Loaded, PARALLEL_STEPS_MIN, batch_rows};
use super::{Evaluator, Kind, Sink, wrong_type};
use crate::model::{CounterResetHint, HistogramSample, Millis, Sample};
use crate::query::ast::{Boundary, Span};
use crate::query::functions::{Function, Rollup};
use crate::query::{MatrixSeries, QueryError};
use crate::storage::Columns;

impl Evaluator<'_> {
    /// A function over windows.
    pub(super) fn stream_rollup(
        &self,
        function: &'static Function,
        rollup: Rollup,
        args: &[Node],
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let mut params = Vec::new();
        let mut range_vector = None;
        for arg in args {
            match &arg.kind {
                Kind::Matrix(_) | Kind::Subquery(_) => range_vector = Some(arg),
                _ => params.push(self.scalars(arg, grid, notes)?),
            }
        }
        if rollup == Rollup::DoubleExponentialSmoothing {
            check_smoothing(&params, grid)?;
        }
        let Some(arg) = range_vector.or(args.first()) else {
            return Err(QueryError::Execution(format!("{} takes a range vector", function.name)));
        };
        let job = |selector, range| Job {
            rollup,
            selector,
            range,
            lookback: self.options.lookback.0,
            params: &params,
            grid,
            span: args[0].span,
            budget: &self.budget,
        };
        match &arg.kind {
            Kind::Matrix(window) => {
                check_boundary(function, rollup, window.selector.boundary)?;
                self.roll_selector(&job(&window.selector, window.range), notes, sink)
            }
            Kind::Subquery(subquery) => {
                let selector = Selector {
                    matchers: Vec::new(),
                    offset: subquery.offset,
                    at: subquery.at,
                    boundary: None,
                    totals_only: false,
                    func: "",
                    grouping: None,
                    aggregation: None,
                };
                self.roll_subquery(subquery, &job(&selector, subquery.range), notes, sink)
            }
            _ => Err(wrong_type(arg)),
        }
    }

    fn roll_selector(&self, job: &Job<'_>, notes: &mut Notes, sink: &mut Sink<'_>) -> Result<(), QueryError> {
        let (series, range) = self.select(job.selector, job.range, job.grid, notes)?;
        self.stream_series(&series, job.grid, notes, sink, |series, columns| {
            series.columns(range, columns)?;
            self.budget.samples(columns.len())?;
            rollup::drop_stale(columns);
            if job.selector.totals_only {
                rollup::totals_only(columns);
            }
            if !job.rollup.reads_start_times() {
                columns.start_times.clear();
                columns.histogram_start_times.clear();
            }
            self.roll(job, columns, series.labels(), false)
        })
    }

    /// The rows of the inner expression are the series.
    fn roll_subquery(
        &self,
        subquery: &Subquery,
        job: &Job<'_>,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let inner = subquery.grid(job.grid);
        let mut said = Notes::default();
        self.stream(&subquery.expr, inner, notes, &mut |rows| {
            self.budget.check()?;
            let work = |row: Row| {
                let columns = columns_of(&row, inner);
                self.roll(job, &columns, row.labels, row.drop_name)
            };
            let mut left = rows;
            while !left.is_empty() {
                let rest = left.split_off(left.len().min(batch_rows(job.grid.count)));
                let _held = self
                    .budget
                    .hold(left.len().saturating_mul(job.grid.count.saturating_mul(8)))?;
                let parallel = left.len() > 1 && left.len().saturating_mul(inner.count) > PARALLEL_STEPS_MIN;
                let rolled: Vec<Loaded> = match parallel {
                    true => left.into_par_iter().map(work).collect(),
                    false => left.into_iter().map(work).collect(),
                };
                let mut rows = Vec::with_capacity(rolled.len());
                for rolled in rolled {
                    let (row, more) = rolled?;
                    said.merge(more);
                    rows.extend(row);
                }
                sink(rows)?;
                left = rest;
            }
            Ok(())
        })?;
        notes.merge(said);
        Ok(())
    }

    fn roll(&self, job: &Job<'_>, columns: &Columns, labels: crate::model::Labels, drop_name: bool) -> Loaded {
        let mut row = Row::empty(labels, drop_name || !job.rollup.keeps_name(), job.grid.count);
        let mut said = Notes::default();
        let labels = row.labels.clone();
        let metric = labels.metric_name().unwrap_or_default();
        let looked_at = rollup::roll(job, columns, &mut row, metric, &mut said)?;
        self.budget.looked_at(looked_at);
        if self.budget.counts_steps() {
            rollup::count_windows(job, columns);
        }
        if matches!(job.rollup, Rollup::Rate | Rollup::Increase) {
            note_gauge(&row, metric, job.span, &mut said);
        }
        Ok(((!row.is_blank()).then_some(row), said))
    }

    /// A range selector by itself.
    pub(super) fn window_series(
        &self,
        window: &Window,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<Vec<MatrixSeries>, QueryError> {
        let selector = &window.selector;
        let (series, range) = self.select(selector, window.range, grid, notes)?;
        let end = selector.reference(grid.start);
        let start = end.saturating_sub(window.range);
        let mut found = Vec::with_capacity(series.len());
        let mut held = self.budget.hold(0)?;
        let mut columns = Columns::default();
        for series in &series {
            series.columns(range, &mut columns)?;
            self.budget.samples(columns.len())?;
            rollup::drop_stale(&mut columns);
            self.budget.looked_at(columns.len() as u64);
            self.budget.looked_at_in(grid, 0, columns.len() as u64);
            held.grow(columns.len() * size_of::<Sample>())?;
            if let Some(boundary) = selector.boundary {
                if !columns.histograms.is_empty() {
                    let modifier = boundary.as_str();
                    let text = format!("{modifier} modifier is not supported with histograms");
                    return Err(QueryError::Execution(text));
                }
                bound(&mut columns, start, end, boundary == Boundary::Smoothed);
            }
            let floats = columns.times.iter().zip(&columns.values);
            let floats = floats.map(|(at, value)| Sample {
                at: Millis(*at),
                value: *value,
            });
            found.push(MatrixSeries {
                labels: series.labels(),
                floats: floats.collect(),
                histograms: columns.histograms.clone(),
            });
        }
        Ok(found)
    }
}

/// Turns a row of a subquery into samples.
fn columns_of(row: &Row, grid: Grid) -> Columns {
    let mut columns = Columns::default();
    for (step, value) in row.floats.iter().enumerate() {
        if !super::is_absent(*value) {
            columns.times.push(grid.at(step));
            columns.values.push(*value);
        }
    }
    for (step, histogram) in row.histograms.iter().enumerate() {
        let Some(histogram) = histogram else { continue };
        // The steps of a subquery are not the samples: what a sample says about the one before it does not hold.
        let hint = histogram.counter_reset_hint;
        let histogram = match hint {
            CounterResetHint::Reset | CounterResetHint::NotReset => Arc::new(crate::model::FloatHistogram {
                counter_reset_hint: CounterResetHint::Unknown,
                ..(**histogram).clone()
            }),
            CounterResetHint::Unknown | CounterResetHint::Gauge => Arc::clone(histogram),
        };
        columns.histograms.push(HistogramSample {
            at: Millis(grid.at(step)),
            histogram,
        });
    }
    columns
}

fn note_gauge(row: &Row, metric: &str, span: Span, notes: &mut Notes) {
    if metric.is_empty() || row.floats.iter().all(|value| super::is_absent(*value)) {
        return;
    }
    match row.labels.get("__type__") {
        Some("counter" | "histogram") => {}
        Some(kind) => notes.counter_by_type(metric, kind, span),
        None => {
            let suffixes = ["_total", "_sum", "_count", "_bucket"];
            if !suffixes.iter().any(|suffix| metric.ends_with(suffix)) {
                notes.counter_by_name(metric, span);
            }
        }
    }
}

fn check_smoothing(params: &[Scalars], grid: Grid) -> Result<(), QueryError> {
    for (scalars, what) in params.iter().zip(["smoothing", "trend"]) {
        let short = if what == "smoothing" { "sf" } else { "tf" };
        if let Some(value) = (0..grid.count)
            .map(|step| scalars.at(step))
            .find(|value| *value <= 0.0 || *value >= 1.0)
        {
            let text = format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {value:.6}");
            return Err(QueryError::Execution(text));
        }
    }
    Ok(())
}

/// A boundary modifier changes which samples a window holds: few functions can work with that.
fn check_boundary(function: &Function, rollup: Rollup, boundary: Option<Boundary>) -> Result<(), QueryError> {
    let rate = matches!(rollup, Rollup::Rate | Rollup::Increase | Rollup::Delta);
    let counts = matches!(rollup, Rollup::Resets | Rollup::Changes);
    let (fits, names) = match boundary {
        None => return Ok(()),
        Some(Boundary::Anchored) => (rate || counts, "changes, delta, increase, rate, resets"),
        Some(Boundary::Smoothed) => (rate, "delta, increase, rate"),
    };
    if fits {
        return Ok(());
    }
    let modifier = boundary.map_or("", Boundary::as_str);
    let name = function.name;
    Err(QueryError::Execution(format!(
        "{modifier} modifier can only be used with: {names} - not with {name}"
    )))
}

/// Gives a window of floats values at both its ends.
fn bound(columns: &mut Columns, start: i64, end: i64, smoothed: bool) {
    let samples: Vec<(i64, f64)> = columns
        .times
        .iter()
        .copied()
        .zip(columns.values.iter().copied())
        .collect();
    columns.clear();
    let Some(newest) = samples.len().checked_sub(1) else {
        return;
    };
    let mut first = samples[..newest]
        .partition_point(|(time, _)| *time <= start)
        .saturating_sub(1);
    let last = match smoothed {
        true => samples[..newest].partition_point(|(time, _)| *time < end),
        false => newest,
    };
    if samples[last].0 <= start {
        return;
    }
    let left = match smoothed && samples[first].0 < start {
        true => rollup::interpolate(samples[first], samples[first + 1], start, false),
        false => samples[first].1,
    };
    let right = match smoothed && last > 0 && samples[last].0 > end {
        true => rollup::interpolate(samples[last - 1], samples[last], end, false),
        false => samples[last].1,
    };
    if samples[first].0 <= start {
        first += 1;
    }
    let stop = if samples[last].0 >= end { last } else { last + 1 };
    let inside = samples.get(first..stop).unwrap_or(&[]);
    for (time, value) in [(start, left)].iter().chain(inside).chain(&[(end, right)]) {
        columns.times.push(*time);
        columns.values.push(*value);
    }
}
