//! Asking the store: what a selector needs on a grid, its series in batches, in parallel and in order.

use rayon::prelude::*;

use super::matrix::{Grid, Row};
use super::notes::Notes;
use super::plan::Selector;
use super::{Evaluator, Sink};
use crate::model::{Interval, Millis, TimeRange};
use crate::query::QueryError;
use crate::query::ast::Boundary;
use crate::storage::{Columns, Hints, Select, Series};

/// How many values a batch of rows holds, about: a fixed number, so that nothing depends on the number of threads.
const BATCH_VALUES: usize = 1 << 19;
/// The most rows in a batch.
const BATCH_ROWS_MAX: usize = 4096;
/// Below this many steps, all series together, threads cost more than they save.
pub(super) const PARALLEL_STEPS_MIN: usize = 1 << 12;

/// Returns how many rows a batch holds.
pub(super) fn batch_rows(steps: usize) -> usize {
    (BATCH_VALUES / steps.max(1)).clamp(8, BATCH_ROWS_MAX)
}

/// What became of one series.
pub(super) type Loaded = Result<(Option<Row>, Notes), QueryError>;

impl Evaluator<'_> {
    /// Asks the store for the series that a selector needs on a grid.
    pub(super) fn select(
        &self,
        selector: &Selector,
        window: i64,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<(Vec<Box<dyn Series>>, TimeRange), QueryError> {
        let select = self.what(selector, window, grid);
        let selection = self.querier.select(&select)?;
        for warning in selection.warnings {
            notes.storage_warning(warning);
        }
        self.budget.series(selection.series.len())?;
        Ok((selection.series, select.range))
    }

    /// Returns what a selector needs on a grid.
    pub(super) fn what(&self, selector: &Selector, window: i64, grid: Grid) -> Select {
        let (before, after) = self.reach(selector, window);
        let first = selector.reference(grid.start).saturating_sub(before);
        let last = selector.reference(grid.last()).saturating_add(after);
        let range = TimeRange {
            // The window is left-open. For finding resets, a sample at its very beginning is looked at nevertheless.
            min: Millis(first.saturating_add(if selector.totals_only { 0 } else { 1 })),
            max: Millis(last),
        };
        Select {
            matchers: selector.matchers.clone(),
            range,
            hints: Hints {
                func: selector.func.to_owned(),
                window: Interval(window),
                step: Interval(if grid.count > 1 { grid.step } else { 0 }),
                grouping: selector.grouping.clone(),
                aggregation: selector.aggregation.clone(),
            },
        }
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
    pub(super) fn stream_series(
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
}
