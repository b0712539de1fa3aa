//! Aggregations: rows are folded into groups as they come, so that memory follows the groups and not the series.
//!
//! Rows are folded in the order of their labels, whatever the number of threads: sums are the same at each run.

mod accumulate;
mod count_values;
pub(super) mod mean;
mod newest;
mod top;

use hashbrown::HashMap;

pub(super) use mean::HistogramMean;

use super::Evaluator;
use super::budget::Held;
use super::matrix::{Grid, Matrix, Row, Scalars};
use super::notes::Notes;
use super::plan::Aggregate;
use crate::model::{Labels, METRIC_NAME};
use crate::query::QueryError;
use crate::query::ast::{AggregateOp, Span};
use accumulate::Accumulator;

/// The groups of an aggregation, in the order in which they appear.
pub(super) struct Groups<'a> {
    names: &'a [String],
    without: bool,
    index: HashMap<Vec<u8>, usize>,
    labels: Vec<Labels>,
    key: Vec<u8>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(names: &'a [String], without: bool) -> Groups<'a> {
        Groups {
            names,
            without,
            index: HashMap::new(),
            labels: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Returns the index of the group that a series belongs to.
    pub(super) fn of(&mut self, labels: &Labels) -> usize {
        self.key.clear();
        if self.names.is_empty() && !self.without && !self.labels.is_empty() {
            return 0;
        }
        for (name, value) in labels.iter().filter(|(name, _)| keeps(self.names, self.without, name)) {
            for part in [name, value] {
                self.key.extend_from_slice(&(part.len() as u32).to_le_bytes());
                self.key.extend_from_slice(part.as_bytes());
            }
        }
        if let Some(index) = self.index.get(&self.key) {
            return *index;
        }
        let index = self.labels.len();
        self.labels
            .push(labels.filtered(|name| keeps(self.names, self.without, name)));
        self.index.insert(self.key.clone(), index);
        index
    }
}

fn keeps(names: &[String], without: bool, name: &str) -> bool {
    let named = names.binary_search_by(|probe| probe.as_str().cmp(name)).is_ok();
    if without { !named && name != METRIC_NAME } else { named }
}

impl Evaluator<'_> {
    /// Evaluates an aggregation.
    pub(super) fn aggregate(
        &self,
        aggregate: &Aggregate,
        span: Span,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<Matrix, QueryError> {
        if aggregate.op == AggregateOp::CountValues {
            return self.count_values(aggregate, grid, notes);
        }
        let param = match &aggregate.param {
            Some(param) => self.scalars(param, grid, notes)?,
            None => Scalars::Constant(0.0),
        };
        match aggregate.op {
            AggregateOp::TopK | AggregateOp::BottomK => self.top(aggregate, &param, span, grid, notes),
            AggregateOp::LimitK => self.limit(aggregate, &param, grid, notes),
            AggregateOp::LimitRatio => self.limit_ratio(aggregate, &param, grid, notes),
            _ => self.fold(aggregate, &param, grid, notes),
        }
    }

    fn fold(
        &self,
        aggregate: &Aggregate,
        param: &Scalars,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<Matrix, QueryError> {
        let about = About {
            op: aggregate.op,
            span: aggregate.expr.span,
        };
        let mut folding = Folding {
            groups: Groups::new(&aggregate.grouping, aggregate.without),
            accumulators: Vec::new(),
            held: self.budget.hold(0)?,
            said: Notes::default(),
            about,
            grid,
        };
        match self.newest_by(aggregate, grid)? {
            Some(newest) => self.fold_newest(&newest, &mut folding)?,
            None => self.stream(&aggregate.expr, grid, notes, &mut |rows| {
                self.budget.check()?;
                rows.iter().try_for_each(|row| {
                    let group = folding.group(&row.labels)?;
                    folding.add(group, row)
                })
            })?,
        }
        let Folding {
            groups,
            accumulators,
            mut held,
            said,
            ..
        } = folding;
        notes.merge(said);
        if aggregate.op == AggregateOp::Quantile {
            note_bad_quantiles(aggregate, param, grid, notes);
        }
        held.grow(accumulators.len() * grid.count * size_of::<f64>())?;
        let mut rows = Vec::with_capacity(accumulators.len());
        for (labels, accumulator) in groups.labels.into_iter().zip(accumulators) {
            self.budget.check()?;
            let row = accumulator.finish(labels, param, about, notes, &self.budget)?;
            if !row.is_blank() {
                rows.push(row);
            }
        }
        Ok(Matrix { rows, held })
    }
}

/// An aggregation under way.
pub(super) struct Folding<'a> {
    groups: Groups<'a>,
    accumulators: Vec<Accumulator>,
    held: Held,
    said: Notes,
    about: About,
    grid: Grid,
}

impl Folding<'_> {
    /// Returns the index of the group that a series belongs to.
    pub(super) fn group(&mut self, labels: &Labels) -> Result<usize, QueryError> {
        let group = self.groups.of(labels);
        if group == self.accumulators.len() {
            self.held.grow(Accumulator::bytes(self.about.op, self.grid.count))?;
            self.accumulators.push(Accumulator::new(self.about.op, self.grid.count));
        }
        Ok(group)
    }

    /// Adds a row to a group.
    pub(super) fn add(&mut self, group: usize, row: &Row) -> Result<(), QueryError> {
        self.accumulators[group].fold(row, self.about, &mut self.said, &mut self.held)
    }
}

/// What an annotation of an aggregation says and where it points.
#[derive(Clone, Copy)]
pub(super) struct About {
    op: AggregateOp,
    span: Span,
}

fn note_bad_quantiles(aggregate: &Aggregate, param: &Scalars, grid: Grid, notes: &mut Notes) {
    let span = aggregate.param.as_ref().map_or(aggregate.expr.span, |param| param.span);
    let values = || (0..grid.count).map(|step| param.at(step));
    if values().any(f64::is_nan) {
        notes.bad_quantile(f64::NAN, span);
    }
    let largest = values().fold(f64::NEG_INFINITY, f64::max);
    if largest > 1.0 {
        notes.bad_quantile(largest, span);
    }
    let smallest = values().fold(f64::INFINITY, f64::min);
    if smallest < 0.0 {
        notes.bad_quantile(smallest, span);
    }
}

/// Adds a row's bytes to what is set aside.
pub(super) fn hold_row(held: &mut Held, row: &Row) -> Result<(), QueryError> {
    held.grow(row.bytes())
}
