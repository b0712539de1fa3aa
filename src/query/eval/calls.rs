//! Functions, by the form of their computation.

use super::matrix::{ABSENT, Grid, Matrix, Row, Scalars, is_absent};
use super::notes::Notes;
use super::plan::{Call, Kind, Node};
use super::{Evaluator, Sink};
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher, Millis};
use crate::query::QueryError;
use crate::query::ast::Span;
use crate::query::functions::{Body, Civil, Rollup, SampleTime, SortBy, Special};
use crate::query::types::Type;

impl Evaluator<'_> {
    /// Evaluates a call that yields an instant vector.
    pub(super) fn stream_call(
        &self,
        call: &Call,
        span: Span,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        match call.function.body {
            Body::Map(compute) => self.stream_floats(call, grid, notes, sink, |value, _| Some(compute(value))),
            Body::MapWith(compute) => self.stream_floats(call, grid, notes, sink, compute),
            Body::Date(compute) if call.args.is_empty() => {
                let floats = grid.times().map(|time| compute(Civil::of_unix(time.div_euclid(1000))));
                sink(vec![Row::of_floats(Labels::empty(), false, floats.collect())])
            }
            Body::Date(compute) => self.stream_floats(call, grid, notes, sink, |value, _| {
                #[expect(clippy::cast_possible_truncation, reason = "a time of day needs no fraction")]
                Some(compute(Civil::of_unix(value as i64)))
            }),
            Body::Histogram(compute) => self.stream(&call.args[0], grid, notes, &mut |mut rows| {
                for row in &mut rows {
                    row.drop_name = true;
                    for step in 0..grid.count {
                        row.floats[step] = row.histogram(step).map_or(ABSENT, |histogram| compute(histogram));
                    }
                    row.histograms = Vec::new();
                }
                pass(rows, sink)
            }),
            Body::OverTime(rollup) => self.stream_rollup(call.function, rollup, &call.args, grid, notes, sink),
            Body::SampleTime(which) => self.stream_times(call, which, grid, notes, sink),
            Body::Special(special) => self.stream_special(call, special, span, grid, notes, sink),
            Body::Constant(_) | Body::Scalars(_) => {
                let text = format!("{span}: {} yields a scalar", call.function.name);
                Err(QueryError::Execution(text))
            }
        }
    }

    /// Functions of each float by itself and of the scalar arguments.
    fn stream_floats(
        &self,
        call: &Call,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
        compute: impl Fn(f64, &[f64]) -> Option<f64>,
    ) -> Result<(), QueryError> {
        let params = call.args[1..]
            .iter()
            .map(|arg| self.scalars(arg, grid, notes))
            .collect::<Result<Vec<Scalars>, QueryError>>()?;
        let mut at_step = vec![0.0; params.len()];
        self.stream(&call.args[0], grid, notes, &mut |mut rows| {
            for row in &mut rows {
                row.drop_name = true;
                row.histograms = Vec::new();
                for (step, value) in row.floats.iter_mut().enumerate() {
                    if is_absent(*value) {
                        continue;
                    }
                    for (slot, param) in at_step.iter_mut().zip(&params) {
                        *slot = param.at(step);
                    }
                    *value = compute(*value, &at_step).unwrap_or(ABSENT);
                }
            }
            pass(rows, sink)
        })
    }

    /// Applied to a selector, these functions see the sample; applied to anything else, only the evaluation time.
    fn stream_times(
        &self,
        call: &Call,
        which: SampleTime,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        if let Kind::Vector(selector) = &call.args[0].kind {
            return self.stream_sample_times(selector, which, grid, notes, sink);
        }
        self.stream(&call.args[0], grid, notes, &mut |mut rows| {
            if which == SampleTime::Start {
                return Ok(());
            }
            for row in &mut rows {
                row.drop_name = true;
                for step in 0..grid.count {
                    if row.is_present(step) {
                        row.floats[step] = Millis(grid.at(step)).as_secs_f64();
                    }
                }
                row.histograms = Vec::new();
            }
            sink(rows)
        })
    }

    fn stream_special(
        &self,
        call: &Call,
        special: Special,
        span: Span,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let matrix: Matrix = match special {
            Special::Absent => return self.absent(call, None, grid, notes, sink),
            Special::AbsentOverTime => return self.absent(call, Some(Rollup::Present), grid, notes, sink),
            Special::Vector => {
                let value = self.scalars(&call.args[0], grid, notes)?;
                let floats = (0..grid.count).map(|step| value.at(step)).collect();
                return sink(vec![Row::of_floats(Labels::empty(), false, floats)]);
            }
            Special::HistogramQuantile => self.histogram_quantile(call, grid, notes)?,
            Special::HistogramQuantiles => self.histogram_quantiles(call, grid, notes)?,
            Special::HistogramFraction => self.histogram_fraction(call, grid, notes)?,
            Special::LabelReplace => self.label_replace(call, grid, notes)?,
            Special::LabelJoin => self.label_join(call, grid, notes)?,
            Special::Info => self.info(call, grid, notes)?,
            Special::Detect(detect) => return self.detect(call, detect, grid, notes, sink),
            Special::Sort { by, descending } => self.sort(call, by, descending, span, grid, notes)?,
            Special::Scalar | Special::Time => {
                let text = format!("{span}: {} yields a scalar", call.function.name);
                return Err(QueryError::Execution(text));
            }
        };
        sink(matrix.rows)
    }

    /// Evaluates a call that yields a scalar.
    pub(super) fn scalar_call(&self, call: &Call, grid: Grid, notes: &mut Notes) -> Result<Scalars, QueryError> {
        match call.function.body {
            Body::Special(Special::Time) => Ok(Scalars::Each(
                grid.times().map(|time| Millis(time).as_secs_f64()).collect(),
            )),
            Body::Special(Special::Scalar) => self.scalar(call, grid, notes),
            Body::Scalars(compute) => {
                let a = self.scalars(&call.args[0], grid, notes)?;
                let b = self.scalars(&call.args[1], grid, notes)?;
                Ok(a.zip(b, compute))
            }
            _ => Err(QueryError::Execution(format!(
                "{} yields no scalar",
                call.function.name
            ))),
        }
    }

    /// The only float at each step.
    fn scalar(&self, call: &Call, grid: Grid, notes: &mut Notes) -> Result<Scalars, QueryError> {
        let mut values = vec![ABSENT; grid.count];
        let mut several = vec![false; grid.count];
        self.stream(&call.args[0], grid, notes, &mut |rows| {
            for row in rows {
                for (step, value) in row.floats.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
                    several[step] |= !is_absent(values[step]);
                    values[step] = *value;
                }
            }
            Ok(())
        })?;
        for (value, several) in values.iter_mut().zip(several) {
            if several || is_absent(*value) {
                *value = f64::NAN;
            }
        }
        Ok(Scalars::Each(values))
    }

    fn absent(
        &self,
        call: &Call,
        over_time: Option<Rollup>,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let mut floats = vec![1.0; grid.count];
        let mut see = |rows: Vec<Row>| {
            for row in rows {
                for (step, slot) in floats.iter_mut().enumerate() {
                    if row.is_present(step) {
                        *slot = ABSENT;
                    }
                }
            }
            Ok(())
        };
        match over_time {
            None => self.stream(&call.args[0], grid, notes, &mut see)?,
            Some(rollup) => self.stream_rollup(call.function, rollup, &call.args, grid, notes, &mut see)?,
        }
        let row = Row::of_floats(labels_of_absent(&call.args[0]), over_time.is_some(), floats);
        if row.is_blank() { Ok(()) } else { sink(vec![row]) }
    }

    fn sort(
        &self,
        call: &Call,
        by: SortBy,
        descending: bool,
        span: Span,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<Matrix, QueryError> {
        if grid.count > 1 {
            notes.sort_in_range(span);
        }
        let mut matrix = self.vector(&call.args[0], grid, notes)?;
        if by == SortBy::Value {
            for row in &mut matrix.rows {
                row.histograms = Vec::new();
            }
            matrix.rows.retain(|row| !row.is_blank());
        }
        if grid.count != 1 {
            return Ok(matrix);
        }
        let names: Vec<&str> = call.args[1..].iter().map(Node::text).collect();
        matrix.rows.sort_by(|a, b| match by {
            SortBy::Value => {
                let (a, b) = (a.floats[0], b.floats[0]);
                // NaN comes last either way.
                let order = a.is_nan().cmp(&b.is_nan());
                let values = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
                order.then(if descending { values.reverse() } else { values })
            }
            SortBy::Label => {
                let differing = names
                    .iter()
                    .map(|name| natural(a.labels.value(name), b.labels.value(name)));
                let order = differing.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then);
                let order = order.then_with(|| a.labels.cmp(&b.labels));
                if descending { order.reverse() } else { order }
            }
        });
        Ok(matrix)
    }
}

/// Hands on what is not blank.
fn pass(mut rows: Vec<Row>, sink: &mut Sink<'_>) -> Result<(), QueryError> {
    rows.retain(|row| !row.is_blank());
    if rows.is_empty() { Ok(()) } else { sink(rows) }
}

/// Compares texts with the numbers in them by size: `node-2` comes before `node-10`.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut left, mut right) = (a, b);
    while !left.is_empty() && !right.is_empty() {
        let ((one, left_rest), (two, right_rest)) = (chunk(left), chunk(right));
        let order = match (one.parse::<u64>(), two.parse::<u64>()) {
            (Ok(one), Ok(two)) => one.cmp(&two),
            _ => one.cmp(two),
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// Splits off the leading run of digits or of other characters.
fn chunk(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

/// The labels that the selector's equality matchers name, each by one matcher only.
fn labels_of_absent(arg: &Node) -> Labels {
    debug_assert!(matches!(arg.ty, Type::InstantVector | Type::RangeVector));
    let matchers: &[Matcher] = match &arg.kind {
        Kind::Vector(selector) => &selector.matchers,
        Kind::Matrix(window) => &window.selector.matchers,
        _ => &[],
    };
    let mut labels = Labels::empty().to_builder();
    let mut set: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        if matcher.op == MatchOp::Equal && !set.contains(&matcher.name.as_str()) {
            labels.set(&matcher.name, &matcher.value);
            set.push(&matcher.name);
        } else {
            labels.del(&matcher.name);
        }
    }
    labels.build()
}
