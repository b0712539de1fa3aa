//! Reading series: the newest sample at each step, or a window of samples.

use std::sync::Arc;

use rayon::prelude::*;

use super::matrix::{ABSENT, Grid, Matrix, Row, Scalars, Value};
use super::notes::Notes;
use super::plan::{Node, Selector, Subquery, Window};
use super::rollup::{self, Job};
use super::{Evaluator, Kind, Sink, wrong_type};
use crate::model::{CounterResetHint, HistogramSample, Interval, Millis, Sample, TimeRange, is_stale};
use crate::query::ast::{Boundary, Span};
use crate::query::functions::{Function, Rollup, SampleTime};
use crate::query::{MatrixSeries, QueryError};
use crate::storage::{Columns, Hints, Point, Select, Series};

/// How many values a batch of rows holds, about: a fixed number, so that nothing depends on the number of threads.
const BATCH_VALUES: usize = 1 << 19;
/// The most rows in a batch.
const BATCH_ROWS_MAX: usize = 4096;
/// Below this many steps, all series together, threads cost more than they save.
const PARALLEL_STEPS_MIN: usize = 1 << 12;

/// Returns how many rows a batch holds.
pub(super) fn batch_rows(steps: usize) -> usize {
    (BATCH_VALUES / steps.max(1)).clamp(8, BATCH_ROWS_MAX)
}

/// What became of one series.
type Loaded = Result<(Option<Row>, Notes), QueryError>;

impl Evaluator<'_> {
    /// Asks the store for the series that a selector needs on a grid.
    fn select(
        &self,
        selector: &Selector,
        window: i64,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<(Vec<Box<dyn Series>>, TimeRange), QueryError> {
        let (before, after) = self.reach(selector, window);
        let first = selector.reference(grid.start).saturating_sub(before);
        let last = selector.reference(grid.last()).saturating_add(after);
        let range = TimeRange {
            // The window is left-open. For finding resets, a sample at its very beginning is looked at nevertheless.
            min: Millis(first.saturating_add(if selector.totals_only { 0 } else { 1 })),
            max: Millis(last),
        };
        let select = Select {
            matchers: selector.matchers.clone(),
            range,
            hints: Hints {
                func: selector.func.to_owned(),
                window: Interval(window),
                step: Interval(if grid.count > 1 { grid.step } else { 0 }),
                grouping: selector.grouping.clone(),
            },
        };
        let selection = self.querier.select(&select)?;
        for warning in selection.warnings {
            notes.storage_warning(warning);
        }
        self.budget.series(selection.series.len())?;
        Ok((selection.series, range))
    }

    /// Returns how far before and after its reference time a selector looks.
    fn reach(&self, selector: &Selector, window: i64) -> (i64, i64) {
        let lookback = self.options.lookback.0;
        match (selector.boundary, window) {
            (None, 0) => (lookback, 0),
            (None, window) => (window, 0),
            (Some(Boundary::Anchored), window) => (window.saturating_add(lookback), 0),
            (Some(Boundary::Smoothed), window) => (window.saturating_add(lookback), lookback),
        }
    }

    /// Loads series in batches: in parallel inside a batch, handed on in order.
    fn stream_series(
        &self,
        series: &[Box<dyn Series>],
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
        load: impl Fn(&dyn Series, &mut Columns) -> Loaded + Sync,
    ) -> Result<(), QueryError> {
        for batch in series.chunks(batch_rows(grid.count)) {
            self.budget.check()?;
            let _held = self
                .budget
                .hold(batch.len().saturating_mul(grid.count.saturating_mul(8)))?;
            let parallel = batch.len() > 1 && series.len().saturating_mul(grid.count.max(16)) > PARALLEL_STEPS_MIN;
            let loaded: Vec<Loaded> = if parallel {
                batch
                    .par_iter()
                    .map_init(Columns::default, |columns, series| load(&**series, columns))
                    .collect()
            } else {
                let mut columns = Columns::default();
                batch.iter().map(|series| load(&**series, &mut columns)).collect()
            };
            let mut rows = Vec::with_capacity(loaded.len());
            for loaded in loaded {
                let (row, said) = loaded?;
                if !said.is_empty() {
                    notes.merge(said);
                }
                rows.extend(row);
            }
            if !rows.is_empty() {
                sink(rows)?;
            }
        }
        Ok(())
    }

    /// An instant selector.
    pub(super) fn stream_selector(
        &self,
        selector: &Selector,
        span: Span,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let (series, range) = self.select(selector, 0, grid, notes)?;
        let lookback = self.options.lookback.0;
        let smoothed = selector.boundary == Some(Boundary::Smoothed);
        let newest_only = grid.count == 1 && !smoothed && !selector.totals_only;
        self.stream_series(&series, grid, notes, sink, |series, columns| {
            if newest_only {
                let Some(point) = series.latest(range)?.filter(|point| !point.is_stale()) else {
                    return Ok((None, Notes::default()));
                };
                self.budget.samples(1)?;
                self.budget.looked_at(1);
                return Ok((Some(row_of_point(series, point)), Notes::default()));
            }
            series.columns(range, columns)?;
            self.budget.samples(columns.len())?;
            if selector.totals_only {
                rollup::totals_only(columns);
            }
            let mut row = Row::empty(series.labels(), false, grid.count);
            let mut said = Notes::default();
            if smoothed {
                rollup::drop_stale(columns);
                smooth(columns, selector, grid, lookback, &mut row, span, &mut said);
            } else {
                let found = fill_newest(columns, selector, grid, lookback, &mut row);
                self.budget.looked_at(found);
            }
            Ok(((!row.is_blank()).then_some(row), said))
        })
    }

    /// `timestamp` and `start_timestamp` of a selector: the sample's own times.
    pub(super) fn stream_sample_times(
        &self,
        selector: &Selector,
        which: SampleTime,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let (series, range) = self.select(selector, 0, grid, notes)?;
        let lookback = self.options.lookback.0;
        self.stream_series(&series, grid, notes, sink, |series, columns| {
            series.columns(range, columns)?;
            self.budget.samples(columns.len())?;
            let mut row = Row::empty(series.labels(), true, grid.count);
            let columns = &*columns;
            let mut cursor = Newest::new(columns);
            for step in 0..grid.count {
                let Some(found) = cursor.at(selector.reference(grid.at(step)), lookback) else {
                    continue;
                };
                let (time, start) = match found {
                    Found::Float(at) => (columns.times[at], columns.start_times.get(at)),
                    Found::Histogram(at) => (columns.histograms[at].at.0, columns.histogram_start_times.get(at)),
                };
                row.floats[step] = match which {
                    SampleTime::Sample => Millis(time).as_secs_f64(),
                    SampleTime::Start => Millis(start.copied().unwrap_or(0)).as_secs_f64(),
                };
            }
            Ok(((!row.is_blank()).then_some(row), Notes::default()))
        })
    }

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

    /// Evaluates a selector for its newest samples, keeping the time at which each was taken.
    pub(super) fn newest_times(
        &self,
        selector: &Selector,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<Matrix, QueryError> {
        let (series, range) = self.select(selector, 0, grid, notes)?;
        let lookback = self.options.lookback.0;
        let mut held = self.budget.hold(0)?;
        let mut rows = Vec::new();
        self.stream_series(
            &series,
            grid,
            notes,
            &mut |batch| {
                held.grow(batch.iter().map(Row::bytes).sum())?;
                rows.extend(batch);
                Ok(())
            },
            |series, columns| {
                series.columns(range, columns)?;
                self.budget.samples(columns.len())?;
                let mut row = Row::empty(series.labels(), false, grid.count);
                let mut cursor = Newest::new(columns);
                for step in 0..grid.count {
                    match cursor.at(selector.reference(grid.at(step)), lookback) {
                        None => {}
                        Some(Found::Float(at)) => row.floats[step] = columns.times[at] as f64,
                        Some(Found::Histogram(_)) => {
                            return Err(QueryError::Execution(format!(
                                "this should be an info metric, with float samples: {}",
                                row.labels
                            )));
                        }
                    }
                }
                Ok(((!row.is_blank()).then_some(row), Notes::default()))
            },
        )?;
        Ok(Matrix { rows, held })
    }
}

fn row_of_point(series: &dyn Series, point: Point) -> Row {
    let mut row = Row::of_floats(series.labels(), false, vec![ABSENT]);
    match point {
        Point::Float(sample) => row.floats[0] = sample.value,
        Point::Histogram(sample) => row.set(0, Value::Histogram(sample.histogram)),
    }
    row
}

/// Which sample is the newest.
enum Found {
    Float(usize),
    Histogram(usize),
}

/// Finds the newest sample at times that only grow.
struct Newest<'a> {
    columns: &'a Columns,
    floats: usize,
    histograms: usize,
}

impl<'a> Newest<'a> {
    fn new(columns: &'a Columns) -> Newest<'a> {
        Newest {
            columns,
            floats: 0,
            histograms: 0,
        }
    }

    /// Returns the newest sample in `(time - lookback, time]`; none when that is a stale marker.
    #[inline]
    fn at(&mut self, time: i64, lookback: i64) -> Option<Found> {
        let Columns { times, histograms, .. } = self.columns;
        while self.floats < times.len() && times[self.floats] <= time {
            self.floats += 1;
        }
        while self.histograms < histograms.len() && histograms[self.histograms].at.0 <= time {
            self.histograms += 1;
        }
        let oldest = time.saturating_sub(lookback);
        let float = self.floats.checked_sub(1).filter(|at| times[*at] > oldest);
        let histogram = self
            .histograms
            .checked_sub(1)
            .filter(|at| histograms[*at].at.0 > oldest);
        match (float, histogram) {
            (Some(float), Some(histogram)) if histograms[histogram].at.0 > times[float] => {
                self.live(None, Some(histogram))
            }
            (Some(float), _) => self.live(Some(float), None),
            (None, histogram) => self.live(None, histogram),
        }
    }

    fn live(&self, float: Option<usize>, histogram: Option<usize>) -> Option<Found> {
        if let Some(at) = float {
            return (!is_stale(self.columns.values[at])).then_some(Found::Float(at));
        }
        let at = histogram?;
        (!is_stale(self.columns.histograms[at].histogram.sum)).then_some(Found::Histogram(at))
    }
}

/// Puts the newest sample at each step into `row`; returns how many there are.
fn fill_newest(columns: &Columns, selector: &Selector, grid: Grid, lookback: i64, row: &mut Row) -> u64 {
    let mut cursor = Newest::new(columns);
    let mut found = 0;
    for step in 0..grid.count {
        match cursor.at(selector.reference(grid.at(step)), lookback) {
            None => continue,
            Some(Found::Float(at)) => row.floats[step] = columns.values[at],
            Some(Found::Histogram(at)) => {
                let histogram = Arc::clone(&columns.histograms[at].histogram);
                row.set(step, Value::Histogram(histogram));
            }
        }
        found += 1;
    }
    found
}

/// `smoothed`: interpolates between the samples around each step; after the last sample its value holds.
fn smooth(
    columns: &Columns,
    selector: &Selector,
    grid: Grid,
    lookback: i64,
    row: &mut Row,
    span: Span,
    notes: &mut Notes,
) {
    let labels = row.labels.clone();
    let metric = labels.metric_name().unwrap_or_default();
    for step in 0..grid.count {
        let time = selector.reference(grid.at(step));
        let (low, high) = (time.saturating_sub(lookback), time.saturating_add(lookback));
        let within = |times: &dyn Fn(usize) -> i64, length: usize| {
            let first = partition(length, |at| times(at) <= low);
            let last = partition(length, |at| times(at) <= high);
            let next = partition(length, |at| times(at) < time);
            (first, last, next)
        };
        let (first, last, next) = within(&|at| columns.times[at], columns.times.len());
        let histograms = &columns.histograms;
        let (first_h, last_h, next_h) = within(&|at| histograms[at].at.0, histograms.len());
        match (first < last, first_h < last_h) {
            (false, false) => {}
            (true, true) => notes.mixed_range(metric, span),
            (true, false) => {
                let sample = |at: usize| (columns.times[at], columns.values[at]);
                if next < last && columns.times[next] == time {
                    row.floats[step] = columns.values[next];
                } else if next > first && next < last {
                    row.floats[step] = rollup::interpolate(sample(next - 1), sample(next), time, false);
                } else if next > first {
                    row.floats[step] = columns.values[next - 1];
                }
            }
            (false, true) => {
                let value = if next_h < last_h && histograms[next_h].at.0 == time {
                    Some(Arc::clone(&histograms[next_h].histogram))
                } else if next_h > first_h && next_h < last_h {
                    between(&histograms[next_h - 1], &histograms[next_h], time, metric, span, notes)
                } else if next_h > first_h {
                    // The hint is about the samples before, not about the value.
                    let mut held = (*histograms[next_h - 1].histogram).clone();
                    held.counter_reset_hint = CounterResetHint::Unknown;
                    Some(Arc::new(held))
                } else {
                    None
                };
                if let Some(histogram) = value {
                    row.set(step, Value::Histogram(histogram));
                }
            }
        }
    }
}

fn partition(length: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = usize::midpoint(low, high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn between(
    before: &HistogramSample,
    after: &HistogramSample,
    time: i64,
    metric: &str,
    span: Span,
    notes: &mut Notes,
) -> Option<Arc<crate::model::FloatHistogram>> {
    let is_gauge = |sample: &HistogramSample| sample.histogram.counter_reset_hint == CounterResetHint::Gauge;
    let counter = !(is_gauge(before) && is_gauge(after));
    let mut reconciled = Vec::new();
    let found = rollup::interpolate_histograms(before, after, time, counter, |operation| reconciled.push(operation));
    for operation in reconciled {
        notes.bounds_differ(operation, span);
    }
    if found.is_none() {
        notes.exponential_and_custom(metric, span);
    }
    found.map(Arc::new)
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
