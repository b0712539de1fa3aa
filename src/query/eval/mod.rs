//! The evaluator: a plan, a store and a grid of steps in, rows out.
//!
//! Values are columns over the grid. What reads series does so one series at a time, in batches that are worked on in parallel
//! and handed on in the order of labels (`stream`); whoever needs all rows at once collects them (`vector`).

mod aggregate;
mod binary;
mod budget;
mod calls;
mod detect;
mod histograms;
mod info;
mod labels;
mod matrix;
mod newest;
mod notes;
mod operators;
mod plan;
#[cfg(test)]
mod property;
mod quantile;
mod rollup;
mod select;
mod windows;

use hashbrown::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{HistogramSample, Interval, Labels, Millis, Sample};
use crate::query::ast::{Expr, Span};
use crate::query::types::Type;
use crate::query::{MatrixSeries, QueryError, QueryOptions, QueryOutput, QueryValue, VectorSample};
use crate::storage::{Point, Querier};
use budget::Budget;
use labels::is_metadata;
use matrix::{Grid, Matrix, Row, Scalars, Value, is_absent};
use notes::Notes;
use plan::{Kind, Node, QueryTimes};

/// A batch of rows handed on by [`Evaluator::stream`].
type Sink<'s> = dyn FnMut(Vec<Row>) -> Result<(), QueryError> + 's;

/// One query under way.
struct Evaluator<'a> {
    querier: &'a dyn Querier,
    options: &'a QueryOptions,
    budget: Arc<Budget>,
    /// Values of nodes that occur more than once.
    shared: Mutex<HashMap<(usize, Grid), Arc<Shared>>>,
}

/// The value of a node that occurs more than once.
struct Shared {
    /// `None` when it was too large to keep: each occurrence is then evaluated.
    matrix: Option<Matrix>,
    notes: Notes,
    /// The occurrence that was evaluated.
    expr: Expr,
}

/// What is asked.
pub(super) enum Question {
    Instant(Millis),
    Range { start: Millis, end: Millis, step: Interval },
}

/// Evaluates `expr`.
///
/// # Errors
/// [`QueryError`], when the query makes no sense on this data, costs too much, is interrupted, or the store fails.
pub(super) fn evaluate(
    querier: &dyn Querier,
    expr: &Expr,
    question: &Question,
    options: &QueryOptions,
) -> Result<QueryOutput, QueryError> {
    let (grid, times) = match *question {
        Question::Instant(at) => (Grid::instant(at.0), (at, at, Interval::ZERO)),
        Question::Range { start, end, step } => (Grid::range(start.0, end.0, step.0), (start, end, step)),
    };
    let (start, end, step) = times;
    let plan = plan::plan(
        expr,
        QueryTimes {
            start,
            end,
            step,
            subquery_step: options.subquery_step,
        },
    )?;
    let budget = Budget::new(options, grid);
    let evaluator = Evaluator {
        querier,
        options,
        budget: Arc::clone(&budget),
        shared: Mutex::new(HashMap::new()),
    };
    budget.check()?;
    let _steps = budget.hold(grid.count.saturating_mul(size_of::<f64>()))?;
    let mut notes = Notes::default();
    let value = evaluator.answer(&plan, grid, question, &mut notes)?;
    let (warnings, infos) = notes.into_texts();
    Ok(QueryOutput {
        value,
        warnings,
        infos,
        stats: budget.stats(),
    })
}

impl Evaluator<'_> {
    fn answer(
        &self,
        plan: &Node,
        grid: Grid,
        question: &Question,
        notes: &mut Notes,
    ) -> Result<QueryValue, QueryError> {
        let instant = matches!(question, Question::Instant(_));
        Ok(match plan.ty {
            Type::String => QueryValue::String(Millis(grid.start), plan.text().to_owned()),
            Type::Scalar => {
                let scalars = self.scalars(plan, grid, notes)?;
                let sample = |step: usize| Sample {
                    at: Millis(grid.at(step)),
                    value: scalars.at(step),
                };
                if instant {
                    return Ok(QueryValue::Scalar(sample(0)));
                }
                let floats = (0..grid.count).map(sample).collect::<Vec<Sample>>();
                QueryValue::Matrix(vec![MatrixSeries {
                    labels: Labels::empty(),
                    floats,
                    histograms: Vec::new(),
                }])
            }
            Type::InstantVector => {
                let Matrix { rows, mut held } = self.vector(plan, grid, notes)?;
                held.grow(rows.iter().map(|row| row.floats.len() * size_of::<Sample>()).sum())?;
                let rows = labels::finish(rows)?;
                if instant {
                    return Ok(QueryValue::Vector(
                        rows.into_iter().filter_map(|row| sample_of(row, grid)).collect(),
                    ));
                }
                sorted(rows.into_iter().map(|row| series_of(row, grid)).collect())
            }
            Type::RangeVector => sorted(self.windows(plan, grid, notes)?),
        })
    }

    /// Evaluates a node that yields an instant vector.
    fn vector(&self, node: &Node, grid: Grid, notes: &mut Notes) -> Result<Matrix, QueryError> {
        let mut held = self.budget.hold(0)?;
        let mut all: Vec<Row> = Vec::new();
        self.stream(node, grid, notes, &mut |rows| {
            held.grow(rows.iter().map(Row::bytes).sum())?;
            all.extend(rows);
            Ok(())
        })?;
        Ok(Matrix { rows: all, held })
    }

    /// Evaluates a node that yields an instant vector, handing on its rows as they come. No row is blank.
    fn stream(&self, node: &Node, grid: Grid, notes: &mut Notes, sink: &mut Sink<'_>) -> Result<(), QueryError> {
        self.budget.column(grid.count)?;
        if grid.count == 0 {
            return Ok(());
        }
        if node.invariant && grid.count > 1 {
            let before = self.budget.looked_at_total();
            self.stream_invariant(node, grid, notes, sink)?;
            let each = self.budget.looked_at_total().wrapping_sub(before);
            // What is read once counts for every step, as if it had been read there.
            self.budget.looked_at(each.saturating_mul(grid.count as u64 - 1));
            if self.budget.counts_steps() {
                (1..grid.count).for_each(|step| self.budget.looked_at_in(grid, step, each));
            }
            return Ok(());
        }
        match node.shared {
            Some(key) => self.stream_shared(node, key, grid, notes, sink),
            None => self.stream_kind(node, grid, notes, sink),
        }
    }

    /// Evaluates a node whose value is the same at every step: once.
    fn stream_invariant(
        &self,
        node: &Node,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        self.stream(node, grid.first_step(), notes, &mut |mut rows| {
            while !rows.is_empty() {
                let rest = rows.split_off(rows.len().min(select::batch_rows(grid.count)));
                let _held = self
                    .budget
                    .hold(rows.len().saturating_mul(grid.count.saturating_mul(8)))?;
                sink(rows.into_iter().map(|row| row.repeated(grid.count)).collect())?;
                rows = rest;
            }
            Ok(())
        })
    }

    fn stream_kind(&self, node: &Node, grid: Grid, notes: &mut Notes, sink: &mut Sink<'_>) -> Result<(), QueryError> {
        match &node.kind {
            Kind::Vector(selector) => self.stream_selector(selector, node.span, grid, notes, sink),
            Kind::Call(call) => self.stream_call(call, node.span, grid, notes, sink),
            Kind::Negate(operand) => self.stream(operand, grid, notes, &mut |mut rows| {
                rows.iter_mut().for_each(negate);
                sink(rows)
            }),
            Kind::Binary(binary) => self.stream_binary(binary, node.span, grid, notes, sink),
            Kind::Aggregate(aggregate) => {
                let matrix = self.aggregate(aggregate, node.span, grid, notes)?;
                sink(matrix.rows)
            }
            Kind::Number(_) | Kind::Text(_) | Kind::Matrix(_) | Kind::Subquery(_) => Err(wrong_type(node)),
        }
    }

    /// Evaluates a node that occurs more than once: the first time for all.
    fn stream_shared(
        &self,
        node: &Node,
        key: usize,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let found = self.shared.lock().get(&(key, grid)).cloned();
        let shared = match found {
            Some(shared) => shared,
            None => {
                let shared = Arc::new(self.evaluate_shared(node, grid)?);
                self.shared.lock().insert((key, grid), Arc::clone(&shared));
                shared
            }
        };
        let Some(matrix) = &shared.matrix else {
            return self.stream_kind(node, grid, notes, sink);
        };
        let places = places(&shared.expr, &node.expr);
        notes.merge_moved(&shared.notes, |span| places.get(&span).copied().unwrap_or(span));
        sink(matrix.rows.clone())
    }

    /// Evaluates a node in order to keep its value, unless that takes a large part of the memory that is left.
    fn evaluate_shared(&self, node: &Node, grid: Grid) -> Result<Shared, QueryError> {
        let mut notes = Notes::default();
        let limit = self.budget.bytes_left() / SHARED_PART;
        let mut held = self.budget.hold(0)?;
        let mut all: Vec<Row> = Vec::new();
        let mut bytes = 0u64;
        let mut too_large = false;
        let done = self.stream_kind(node, grid, &mut notes, &mut |rows| {
            let more = rows.iter().map(Row::bytes).sum::<usize>();
            bytes += more as u64;
            if bytes > limit {
                too_large = true;
                return Err(QueryError::Limit(String::new()));
            }
            held.grow(more)?;
            all.extend(rows);
            Ok(())
        });
        if too_large {
            return Ok(Shared {
                matrix: None,
                notes: Notes::default(),
                expr: node.expr.clone(),
            });
        }
        done?;
        Ok(Shared {
            matrix: Some(Matrix { rows: all, held }),
            notes,
            expr: node.expr.clone(),
        })
    }

    /// Evaluates a node that yields a scalar.
    fn scalars(&self, node: &Node, grid: Grid, notes: &mut Notes) -> Result<Scalars, QueryError> {
        self.budget.column(grid.count)?;
        if node.invariant && grid.count > 1 {
            let value = self.scalars(node, grid.first_step(), notes)?;
            return Ok(Scalars::Constant(value.at(0)));
        }
        match &node.kind {
            Kind::Number(value) => Ok(Scalars::Constant(*value)),
            Kind::Negate(operand) => {
                let scalars = self.scalars(operand, grid, notes)?;
                Ok(scalars.zip(Scalars::Constant(0.0), |value, _| -value))
            }
            Kind::Binary(binary) => {
                let lhs = self.scalars(&binary.lhs, grid, notes)?;
                let rhs = self.scalars(&binary.rhs, grid, notes)?;
                Ok(lhs.zip(rhs, |a, b| operators::scalar_binary(binary.op, a, b)))
            }
            Kind::Call(call) => self.scalar_call(call, grid, notes),
            _ => Err(wrong_type(node)),
        }
    }

    /// Evaluates a range vector by itself: only an instant query may ask for one.
    fn windows(&self, node: &Node, grid: Grid, notes: &mut Notes) -> Result<Vec<MatrixSeries>, QueryError> {
        match &node.kind {
            Kind::Matrix(window) => self.window_series(window, grid, notes),
            Kind::Subquery(subquery) => {
                let inner = subquery.grid(grid);
                let matrix = self.vector(&subquery.expr, inner, notes)?;
                let rows = labels::finish(matrix.rows)?;
                Ok(rows.into_iter().map(|row| series_of(row, inner)).collect())
            }
            _ => Err(wrong_type(node)),
        }
    }
}

/// A value that occurs more than once is kept when it takes at most this part of the memory that is left.
const SHARED_PART: u64 = 4;

/// The parser's type check makes this impossible.
fn wrong_type(node: &Node) -> QueryError {
    QueryError::Execution(format!("{}: unexpected expression of type {}", node.span, node.ty))
}

/// Returns which place of `to` each place of `from` corresponds to; the two are equal.
fn places(from: &Expr, to: &Expr) -> HashMap<Span, Span> {
    let spans = |expr: &Expr| {
        let mut spans = Vec::new();
        expr.walk(&mut |expr| spans.push(expr.span));
        spans
    };
    spans(from).into_iter().zip(spans(to)).collect()
}

fn negate(row: &mut Row) {
    row.drop_name = true;
    for value in row.floats.iter_mut().filter(|value| !is_absent(**value)) {
        *value = -*value;
    }
    for histogram in row.histograms.iter_mut().flatten() {
        let mut negated = (**histogram).clone();
        negated.scale(-1.0);
        *histogram = Arc::new(negated);
    }
}

fn sample_of(row: Row, grid: Grid) -> Option<VectorSample> {
    let at = Millis(grid.start);
    let point = match row.value(0)? {
        Value::Float(value) => Point::Float(Sample { at, value }),
        Value::Histogram(histogram) => Point::Histogram(HistogramSample { at, histogram }),
    };
    Some(VectorSample {
        labels: row.labels,
        point,
    })
}

fn series_of(row: Row, grid: Grid) -> MatrixSeries {
    let floats = row.floats.iter().enumerate().filter(|(_, value)| !is_absent(**value));
    let floats = floats.map(|(step, value)| Sample {
        at: Millis(grid.at(step)),
        value: *value,
    });
    let floats = floats.collect();
    let histograms = row.histograms.into_iter().enumerate().filter_map(|(step, histogram)| {
        Some(HistogramSample {
            at: Millis(grid.at(step)),
            histogram: histogram?,
        })
    });
    MatrixSeries {
        labels: row.labels,
        floats,
        histograms: histograms.collect(),
    }
}

fn sorted(mut series: Vec<MatrixSeries>) -> QueryValue {
    series.retain(|series| !series.floats.is_empty() || !series.histograms.is_empty());
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    QueryValue::Matrix(series)
}

/// The metadata labels go with the name.
fn without_metadata(labels: &Labels) -> Labels {
    labels.filtered(|name| !is_metadata(name))
}
