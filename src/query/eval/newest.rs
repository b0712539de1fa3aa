//! Instant selectors: the newest sample at each step.

use std::sync::Arc;

use super::Evaluator;
use super::Sink;
use super::matrix::{ABSENT, Grid, Matrix, Row, Value};
use super::notes::Notes;
use super::plan::Selector;
use super::rollup;
use crate::model::{CounterResetHint, HistogramSample, Millis, is_stale};
use crate::query::QueryError;
use crate::query::ast::{Boundary, Span};
use crate::query::functions::SampleTime;
use crate::storage::{Columns, Point, Series};

impl Evaluator<'_> {
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
        let counted = &mut |rows: Vec<Row>| {
            if newest_only {
                // All at once: a look at the clock for each would take longer than the sample.
                self.budget.samples(rows.len())?;
                self.budget.looked_at(rows.len() as u64);
                self.budget.looked_at_in(grid, 0, rows.len() as u64);
            }
            sink(rows)
        };
        self.stream_series(&series, grid, notes, counted, |series, columns| {
            if newest_only {
                let Some(point) = series.latest(range)?.filter(|point| !point.is_stale()) else {
                    return Ok((None, Notes::default()));
                };
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
                if self.budget.counts_steps() {
                    let present = (0..grid.count).filter(|step| row.is_present(*step));
                    present.for_each(|step| self.budget.looked_at_in(grid, step, 1));
                }
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
