//! Operators between vectors, and between a vector and a scalar.
//!
//! Two vectors are joined once for the whole grid: rows of both sides are put into match groups by their labels, and each group is
//! then computed column by column.

use hashbrown::HashMap;

use super::info::braces;
use super::matrix::{ABSENT, Grid, Matrix, Row, Scalars, Value, is_absent};
use super::notes::Notes;
use super::operators::{self, arithmetic, changes_meaning, compare};
use super::plan::Binary;
use super::{Evaluator, Sink, labels, without_metadata};
use crate::model::{Labels, METRIC_NAME};
use crate::query::QueryError;
use crate::query::ast::{BinaryOp, Cardinality, Matching, Span};
use crate::query::types::Type;

impl Evaluator<'_> {
    /// Evaluates an operation that yields an instant vector.
    pub(super) fn stream_binary(
        &self,
        binary: &Binary,
        span: Span,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let scalar_left = binary.lhs.ty == Type::Scalar;
        if scalar_left || binary.rhs.ty == Type::Scalar {
            return self.stream_with_scalar(binary, scalar_left, span, grid, notes, sink);
        }
        let lhs = self.vector(&binary.lhs, grid, notes)?;
        let rhs = self.vector(&binary.rhs, grid, notes)?;
        let mut held = self.budget.hold(0)?;
        let rows = match binary.op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => self.set(binary, lhs, rhs, grid)?,
            _ => {
                let join = Join::new(self, binary, span, grid);
                join.run(&lhs.rows, &rhs.rows, notes)?
            }
        };
        held.grow(rows.iter().map(Row::bytes).sum())?;
        sink(rows)
    }

    fn stream_with_scalar(
        &self,
        binary: &Binary,
        scalar_left: bool,
        span: Span,
        grid: Grid,
        notes: &mut Notes,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let (vector, scalar) = match scalar_left {
            true => (&binary.rhs, &binary.lhs),
            false => (&binary.lhs, &binary.rhs),
        };
        let mut said = Notes::default();
        // Left before right, so that of equal annotations the right one's place is shown.
        let scalars = if scalar_left {
            Some(self.scalars(scalar, grid, notes)?)
        } else {
            None
        };
        let scalars = match scalars {
            Some(scalars) => scalars,
            None => self.scalars(scalar, grid, notes)?,
        };
        self.stream(vector, grid, notes, &mut |mut rows| {
            for row in &mut rows {
                row.drop_name |= changes_meaning(binary.op) || binary.return_bool;
                apply_scalar(binary, row, &scalars, scalar_left, span, &mut said);
            }
            rows.retain(|row| !row.is_blank());
            if rows.is_empty() { Ok(()) } else { sink(rows) }
        })?;
        notes.merge(said);
        Ok(())
    }

    /// `and`, `or`, `unless`.
    fn set(&self, binary: &Binary, lhs: Matrix, rhs: Matrix, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let signatures = Signatures::new(&binary.matching);
        // Whether a match group has an element on the deciding side, by step.
        let mut present: HashMap<Labels, Vec<bool>> = HashMap::new();
        let deciding = if binary.op == BinaryOp::Or { &lhs } else { &rhs };
        let mut held = self.budget.hold(0)?;
        for row in &deciding.rows {
            self.budget.check()?;
            let steps = present.entry(signatures.of(&row.labels)).or_default();
            if steps.is_empty() {
                held.grow(grid.count)?;
                steps.resize(grid.count, false);
            }
            for (step, slot) in steps.iter_mut().enumerate() {
                *slot |= row.is_present(step);
            }
        }
        let filter = |rows: Vec<Row>, keep: bool| -> Result<Vec<Row>, QueryError> {
            let mut kept = Vec::with_capacity(rows.len());
            for mut row in rows {
                self.budget.check()?;
                match present.get(&signatures.of(&row.labels)) {
                    None if keep => continue,
                    None => {}
                    Some(steps) => {
                        for (step, _) in steps.iter().enumerate().filter(|(_, present)| **present != keep) {
                            row.clear(step);
                        }
                    }
                }
                if !row.is_blank() {
                    kept.push(row);
                }
            }
            Ok(kept)
        };
        match binary.op {
            BinaryOp::And => filter(lhs.rows, true),
            BinaryOp::Unless => filter(lhs.rows, false),
            _ => {
                let rest = filter(rhs.rows, false)?;
                let mut rows = lhs.rows;
                rows.extend(rest);
                if grid.count == 1 { Ok(rows) } else { labels::join(rows) }
            }
        }
    }
}

/// Applies an operation with a scalar to a row.
fn apply_scalar(binary: &Binary, row: &mut Row, scalars: &Scalars, scalar_left: bool, span: Span, notes: &mut Notes) {
    let op = binary.op;
    let ordered = |value: f64, scalar: f64| if scalar_left { (scalar, value) } else { (value, scalar) };
    if let Some(compute) = arithmetic(op) {
        for (step, value) in row
            .floats
            .iter_mut()
            .enumerate()
            .filter(|(_, value)| !is_absent(**value))
        {
            let (a, b) = ordered(*value, scalars.at(step));
            *value = compute(a, b);
        }
    } else if op.is_comparison() {
        for (step, value) in row
            .floats
            .iter_mut()
            .enumerate()
            .filter(|(_, value)| !is_absent(**value))
        {
            let (a, b) = ordered(*value, scalars.at(step));
            let holds = compare(op, a, b);
            if binary.return_bool {
                *value = f64::from(u8::from(holds));
            } else if !holds {
                *value = ABSENT;
            }
        }
    } else {
        for value in row.floats.iter_mut().filter(|value| !is_absent(**value)) {
            notes.incompatible_types("float", op.as_str(), "float", span);
            *value = ABSENT;
        }
    }
    for step in 0..row.histograms.len() {
        let Some(histogram) = row.histograms[step].take() else {
            continue;
        };
        let element = Value::Histogram(histogram);
        let scalar = Value::Float(scalars.at(step));
        let (lhs, rhs) = if scalar_left {
            (&scalar, &element)
        } else {
            (&element, &scalar)
        };
        let Some(outcome) = operators::elements(op, lhs, rhs, span, notes) else {
            continue;
        };
        if binary.return_bool {
            row.floats[step] = f64::from(u8::from(outcome.keep));
        } else if outcome.keep {
            row.set(step, outcome.value);
        }
    }
}

/// What elements must share in order to meet.
struct Signatures<'a> {
    matching: &'a Matching,
}

impl<'a> Signatures<'a> {
    fn new(matching: &'a Matching) -> Signatures<'a> {
        Signatures { matching }
    }

    fn of(&self, labels: &Labels) -> Labels {
        let named = |name: &str| self.matching.labels.iter().any(|label| label == name);
        match self.matching.on {
            true => labels.filtered(named),
            false => labels.filtered(|name| name != METRIC_NAME && !named(name)),
        }
    }

    /// The labels that an error message or a filled element shows.
    fn shown(&self, labels: &Labels) -> Labels {
        self.of(labels)
    }
}

/// A match group: which rows of each side are in it.
#[derive(Default)]
struct Group {
    many: Vec<usize>,
    one: Vec<usize>,
}

/// A join of two vectors. The sides are called `many` and `one`; of a one-to-one match, `many` is the left one.
struct Join<'a, 'e> {
    evaluator: &'a Evaluator<'e>,
    binary: &'a Binary,
    span: Span,
    grid: Grid,
    /// The left side is the `one`.
    swapped: bool,
    signatures: Signatures<'a>,
}

/// A result under construction.
struct Output {
    row: Row,
    /// Where elements met, whether the operation kept them or not; only for results that several pairs lead to.
    met: Vec<bool>,
}

impl<'a, 'e> Join<'a, 'e> {
    fn new(evaluator: &'a Evaluator<'e>, binary: &'a Binary, span: Span, grid: Grid) -> Join<'a, 'e> {
        Join {
            evaluator,
            binary,
            span,
            grid,
            swapped: binary.matching.cardinality == Cardinality::OneToMany,
            signatures: Signatures::new(&binary.matching),
        }
    }

    fn run(&self, lhs: &[Row], rhs: &[Row], notes: &mut Notes) -> Result<Vec<Row>, QueryError> {
        let (many, one) = if self.swapped { (rhs, lhs) } else { (lhs, rhs) };
        // What stands in for a missing element of either side. With `group_right` the names say the opposite of what they do:
        // so it is in Prometheus, and its scripts hold it fixed.
        let Matching {
            fill_left: fill_many,
            fill_right: fill_one,
            ..
        } = self.binary.matching;
        let mut index: HashMap<Labels, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of = |row: &Row, groups: &mut Vec<Group>| {
            *index.entry(self.signatures.of(&row.labels)).or_insert_with(|| {
                groups.push(Group::default());
                groups.len() - 1
            })
        };
        for (at, row) in one.iter().enumerate() {
            let group = group_of(row, &mut groups);
            groups[group].one.push(at);
        }
        for (at, row) in many.iter().enumerate() {
            let group = group_of(row, &mut groups);
            groups[group].many.push(at);
        }
        self.check_one(&groups, many, one, fill_many.is_some() || fill_one.is_some())?;
        let mut held = self.evaluator.budget.hold(0)?;
        let mut results: Vec<Row> = Vec::new();
        for group in &groups {
            self.evaluator.budget.check()?;
            let work = Work {
                join: self,
                many,
                one,
                group,
                fill_many,
                fill_one,
            };
            for row in work.run(notes)? {
                held.grow(row.bytes())?;
                results.push(row);
            }
        }
        results.retain(|row| !row.is_blank());
        if self.grid.count == 1 {
            Ok(results)
        } else {
            labels::join(results)
        }
    }

    /// The `one` side must have at most one element in each match group, at each step at which the other side has any at all.
    fn check_one(&self, groups: &[Group], many: &[Row], one: &[Row], fills: bool) -> Result<(), QueryError> {
        let mut first: Option<(usize, usize, usize)> = None;
        let mut asked_at: Vec<bool> = Vec::new();
        for group in groups.iter().filter(|group| group.one.len() > 1) {
            let mut owner: Vec<Option<usize>> = vec![None; self.grid.count];
            for row in &group.one {
                self.evaluator.budget.check()?;
                for (step, owner) in owner.iter_mut().enumerate() {
                    if !one[*row].is_present(step) {
                        continue;
                    }
                    match *owner {
                        None => *owner = Some(*row),
                        Some(other) => {
                            if asked_at.is_empty() {
                                let any = |step| fills || many.iter().any(|row| row.is_present(step));
                                asked_at = (0..self.grid.count).map(any).collect();
                            }
                            if asked_at[step] && first.is_none_or(|(known, _, at)| (step, *row) < (known, at)) {
                                first = Some((step, other, *row));
                            }
                        }
                    }
                }
            }
        }
        let Some((_, a, b)) = first else { return Ok(()) };
        let side = if self.swapped { "left" } else { "right" };
        let group = braces(&self.signatures.shown(&one[b].labels));
        let (mut a, mut b) = (braces(&one[a].labels), braces(&one[b].labels));
        if a > b {
            std::mem::swap(&mut a, &mut b);
        }
        Err(QueryError::Execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{a}, {b}];\
             many-to-many matching not allowed: matching labels must be unique on one side"
        )))
    }

    /// Returns the labels of a result.
    fn labels(&self, many: &Labels, one: &Labels) -> Labels {
        let matching = &self.binary.matching;
        let mut result = match changes_meaning(self.binary.op) {
            true => without_metadata(many),
            false => many.clone(),
        };
        if matching.cardinality == Cardinality::OneToOne {
            let named = |name: &str| matching.labels.iter().any(|label| label == name);
            result = result.filtered(|name| named(name) == matching.on);
        }
        if matching.include.is_empty() {
            return result;
        }
        let mut builder = result.to_builder();
        for name in &matching.include {
            builder.set(name, one.value(name));
        }
        builder.build()
    }
}

/// The computation of one match group.
struct Work<'w, 'a, 'e> {
    join: &'w Join<'a, 'e>,
    many: &'w [Row],
    one: &'w [Row],
    group: &'w Group,
    fill_many: Option<f64>,
    fill_one: Option<f64>,
}

impl Work<'_, '_, '_> {
    fn run(&self, notes: &mut Notes) -> Result<Vec<Row>, QueryError> {
        let Group { many, one } = self.group;
        if many.is_empty() && self.fill_many.is_none() || one.is_empty() && self.fill_one.is_none() {
            return Ok(Vec::new());
        }
        let steps = self.join.grid.count;
        // Which row of the `one` side is there, by step.
        let mut owners: Vec<Option<usize>> = vec![None; if one.len() > 1 { steps } else { 0 }];
        for row in one {
            for (step, owner) in owners.iter_mut().enumerate() {
                if self.one[*row].is_present(step) {
                    *owner = Some(*row);
                }
            }
        }
        let owner = |step: usize| match one[..] {
            [only] => self.one[only].is_present(step).then_some(only),
            _ => owners.get(step).copied().flatten(),
        };
        let single = match one[..] {
            [only] => Some(&self.one[only]),
            _ => None,
        };
        let mut outputs = Outputs::default();
        let mut matched = vec![false; steps];
        let one_to_one = self.join.binary.matching.cardinality == Cardinality::OneToOne;
        let no_labels = Labels::empty();
        for at in many {
            self.join.evaluator.budget.check()?;
            let row = &self.many[*at];
            if let Some(single) = single
                && many.len() == 1
                && self.fill_one.is_none()
                && self.fill_many.is_none()
                && row.histograms.is_empty()
                && single.histograms.is_empty()
                && !matches!(self.join.binary.op, BinaryOp::TrimLower | BinaryOp::TrimUpper)
            {
                return Ok(vec![self.columns(row, single)]);
            }
            let filled_labels = match self.fill_one {
                Some(_) => self.join.signatures.shown(&row.labels),
                None => no_labels.clone(),
            };
            for step in 0..steps {
                let Some(left) = row.value(step) else { continue };
                let found = owner(step).map(|at| &self.one[at]);
                let (value, labels) = match (found.and_then(|row| row.value(step)), self.fill_one) {
                    (Some(value), _) => (value, found.map_or(&no_labels, |row| &row.labels)),
                    (None, Some(fill)) => (Value::Float(fill), &filled_labels),
                    (None, None) => continue,
                };
                let met = outputs.put(self.join, &row.labels, labels, step, (left, value), notes)?;
                if met && one_to_one && matched[step] {
                    return Err(QueryError::Execution(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                            .to_owned(),
                    ));
                }
                matched[step] |= met;
            }
        }
        if let Some(fill) = self.fill_many {
            for at in one {
                let row = &self.one[*at];
                let filled = self.join.signatures.shown(&row.labels);
                for step in (0..steps).filter(|step| !matched[*step]) {
                    let Some(value) = row.value(step) else { continue };
                    outputs.put(
                        self.join,
                        &filled,
                        &row.labels,
                        step,
                        (Value::Float(fill), value),
                        notes,
                    )?;
                }
            }
        }
        Ok(outputs.list.into_iter().map(|output| output.row).collect())
    }

    /// One row of floats meets one other: the common case, without a look at each element.
    fn columns(&self, many: &Row, one: &Row) -> Row {
        let binary = self.join.binary;
        let labels = self.join.labels(&many.labels, &one.labels);
        let ordered = |a: f64, b: f64| if self.join.swapped { (b, a) } else { (a, b) };
        let pairs = many.floats.iter().zip(&one.floats).map(|(a, b)| ordered(*a, *b));
        let present = |a: f64, b: f64| !is_absent(a) && !is_absent(b);
        let floats: Vec<f64> = match arithmetic(binary.op) {
            Some(compute) => pairs
                .map(|(a, b)| if present(a, b) { compute(a, b) } else { ABSENT })
                .collect(),
            None => pairs
                .map(|(a, b)| match (present(a, b), compare(binary.op, a, b)) {
                    (false, _) => ABSENT,
                    (true, holds) if binary.return_bool => f64::from(u8::from(holds)),
                    (true, true) => a,
                    (true, false) => ABSENT,
                })
                .collect(),
        };
        Row::of_floats(labels, binary.return_bool, floats)
    }
}

/// The results of one match group.
#[derive(Default)]
struct Outputs {
    list: Vec<Output>,
    index: HashMap<Labels, usize>,
    /// The pair of label sets that came last, and where its results go.
    last: Option<(Labels, Labels, usize)>,
}

impl Outputs {
    /// Computes with two elements and puts the result where it belongs; returns whether they could meet at all.
    fn put(
        &mut self,
        join: &Join<'_, '_>,
        many: &Labels,
        one: &Labels,
        step: usize,
        (left, right): (Value, Value),
        notes: &mut Notes,
    ) -> Result<bool, QueryError> {
        let (lhs, rhs) = if join.swapped { (&right, &left) } else { (&left, &right) };
        let Some(outcome) = operators::elements(join.binary.op, lhs, rhs, join.span, notes) else {
            return Ok(false);
        };
        let at = self.output(join, many, one);
        let output = &mut self.list[at];
        let one_to_one = join.binary.matching.cardinality == Cardinality::OneToOne;
        if !one_to_one && output.met[step] {
            return Err(QueryError::Execution(
                "multiple matches for labels: grouping labels must ensure unique matches".to_owned(),
            ));
        }
        let met_before = std::mem::replace(&mut output.met[step], true);
        if join.binary.return_bool {
            output.row.floats[step] = f64::from(u8::from(outcome.keep));
        } else if outcome.keep && !met_before {
            output.row.set(step, outcome.value);
        }
        Ok(true)
    }

    fn output(&mut self, join: &Join<'_, '_>, many: &Labels, one: &Labels) -> usize {
        if let Some((last_many, last_one, at)) = &self.last
            && last_many == many
            && last_one == one
        {
            return *at;
        }
        let labels = join.labels(many, one);
        let at = *self.index.entry(labels.clone()).or_insert_with(|| {
            self.list.push(Output {
                row: Row::empty(labels, join.binary.return_bool, join.grid.count),
                met: vec![false; join.grid.count],
            });
            self.list.len() - 1
        });
        self.last = Some((many.clone(), one.clone(), at));
        at
    }
}
