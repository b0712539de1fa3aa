//! Aggregations that pick elements: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use super::Groups;
use crate::model::Labels;
use crate::query::QueryError;
use crate::query::ast::{AggregateOp, Span};
use crate::query::eval::Evaluator;
use crate::query::eval::budget::Held;
use crate::query::eval::matrix::{Grid, Matrix, Row, Scalars, Value, is_absent};
use crate::query::eval::notes::Notes;
use crate::query::eval::plan::Aggregate;

/// Checks a `k`; returns whether any step asks for at least one element.
fn check_k(param: &Scalars, grid: Grid) -> Result<bool, QueryError> {
    let values = || (0..grid.count).map(|step| param.at(step));
    let fail = |text: String| Err(QueryError::Execution(text));
    if values().any(f64::is_nan) {
        return fail("Parameter value is NaN".to_owned());
    }
    let largest = values().fold(f64::NEG_INFINITY, f64::max);
    if largest < 1.0 {
        return Ok(false);
    }
    let smallest = values().fold(f64::INFINITY, f64::min);
    let limit = i64::MAX as f64;
    if smallest <= -limit {
        return fail(format!(
            "Scalar value {} underflows int64",
            crate::model::format_g(smallest)
        ));
    }
    if largest >= limit {
        return fail(format!(
            "Scalar value {} overflows int64",
            crate::model::format_g(largest)
        ));
    }
    Ok(true)
}

/// A candidate: which series, and its value.
#[derive(Clone, Copy)]
struct Candidate {
    row: u32,
    value: f64,
}

/// The best `k` candidates so far, the worst of them first: a binary heap, so that ties are kept or dropped as Prometheus does.
#[derive(Default)]
struct Heap(Vec<Candidate>);

impl Heap {
    fn offer(&mut self, k: usize, new: Candidate, worse: &impl Fn(f64, f64) -> bool) {
        if self.0.len() < k {
            self.0.push(new);
            self.up(self.0.len() - 1, worse);
        } else if let Some(worst) = self.0.first_mut()
            && (!worst.value.is_nan() && worse(worst.value, new.value) || worst.value.is_nan() && !new.value.is_nan())
        {
            *worst = new;
            self.down(worse);
        }
    }

    fn up(&mut self, mut at: usize, worse: &impl Fn(f64, f64) -> bool) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !worse(self.0[at].value, self.0[parent].value) {
                break;
            }
            self.0.swap(at, parent);
            at = parent;
        }
    }

    fn down(&mut self, worse: &impl Fn(f64, f64) -> bool) {
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= self.0.len() {
                break;
            }
            if child + 1 < self.0.len() && worse(self.0[child + 1].value, self.0[child].value) {
                child += 1;
            }
            if !worse(self.0[child].value, self.0[at].value) {
                break;
            }
            self.0.swap(at, child);
            at = child;
        }
    }
}

/// The rows that were picked from, by index, and what is picked of them.
struct Picked {
    /// The labels of every row seen, and whether its name goes.
    seen: Vec<(Labels, bool)>,
    rows: Vec<Option<Box<Row>>>,
    /// The picked rows in the order in which they were first picked.
    order: Vec<u32>,
    steps: usize,
    held: Held,
}

impl Picked {
    fn set(&mut self, row: u32, step: usize, value: Value) -> Result<(), QueryError> {
        let index = row as usize;
        if self.rows[index].is_none() {
            let (labels, drop_name) = self.seen[index].clone();
            let new = Row::empty(labels, drop_name, self.steps);
            self.held.grow(new.bytes())?;
            self.rows[index] = Some(Box::new(new));
            self.order.push(row);
        }
        if let Some(row) = &mut self.rows[index] {
            row.set(step, value);
        }
        Ok(())
    }

    fn finish(mut self) -> Matrix {
        let rows = self
            .order
            .iter()
            .filter_map(|row| self.rows[*row as usize].take())
            .map(|row| *row);
        Matrix {
            rows: rows.collect(),
            held: self.held,
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn top(
        &self,
        aggregate: &Aggregate,
        param: &Scalars,
        span: Span,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<Matrix, QueryError> {
        let mut held = self.budget.hold(0)?;
        let mut groups = Groups::new(&aggregate.grouping, aggregate.without);
        let any = check_k(param, grid)?;
        let largest = aggregate.op == AggregateOp::TopK;
        let worse = move |a: f64, b: f64| a.is_nan() || if largest { a < b } else { a > b };
        let mut seen: Vec<(Labels, bool)> = Vec::new();
        let mut heaps: Vec<Vec<Heap>> = Vec::new();
        let mut said = Notes::default();
        self.stream(&aggregate.expr, grid, notes, &mut |rows| {
            self.budget.check()?;
            if !any {
                return Ok(());
            }
            for row in rows {
                let group = groups.of(&row.labels);
                if group == heaps.len() {
                    held.grow(grid.count * size_of::<Heap>())?;
                    heaps.push((0..grid.count).map(|_| Heap::default()).collect());
                }
                let index = seen.len() as u32;
                held.grow(size_of::<(Labels, bool)>())?;
                seen.push((row.labels.clone(), row.drop_name));
                for (step, value) in row.floats.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
                    let k = param.at(step);
                    if k >= 1.0 {
                        let candidate = Candidate {
                            row: index,
                            value: *value,
                        };
                        heaps[group][step].offer(k as usize, candidate, &worse);
                    }
                }
                if row.histograms.iter().any(Option::is_some) {
                    said.ignored_in_aggregation(aggregate.op.as_str(), span);
                }
            }
            Ok(())
        })?;
        notes.merge(said);
        let mut picked = Picked {
            rows: (0..seen.len()).map(|_| None).collect(),
            seen,
            order: Vec::new(),
            steps: grid.count,
            held,
        };
        for group in &mut heaps {
            for (step, heap) in group.iter_mut().enumerate() {
                // Best first; among equals the order of the heap stays, NaN comes last.
                heap.0.sort_by(|a, b| match (a.value.is_nan(), b.value.is_nan()) {
                    (false, false) if largest => b.value.partial_cmp(&a.value).unwrap_or(std::cmp::Ordering::Equal),
                    (false, false) => a.value.partial_cmp(&b.value).unwrap_or(std::cmp::Ordering::Equal),
                    (a_nan, b_nan) => a_nan.cmp(&b_nan),
                });
                for candidate in &heap.0 {
                    picked.set(candidate.row, step, Value::Float(candidate.value))?;
                }
            }
            self.budget.check()?;
        }
        Ok(picked.finish())
    }

    pub(super) fn limit(
        &self,
        aggregate: &Aggregate,
        param: &Scalars,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<Matrix, QueryError> {
        let mut held = self.budget.hold(0)?;
        let any = check_k(param, grid)?;
        let mut groups = Groups::new(&aggregate.grouping, aggregate.without);
        let mut taken: Vec<Vec<u64>> = Vec::new();
        let mut kept: Vec<Row> = Vec::new();
        self.stream(&aggregate.expr, grid, notes, &mut |rows| {
            self.budget.check()?;
            for mut row in rows.into_iter().filter(|_| any) {
                let group = groups.of(&row.labels);
                if group == taken.len() {
                    held.grow(grid.count * size_of::<u64>())?;
                    taken.push(vec![0; grid.count]);
                }
                for step in 0..grid.count {
                    if !row.is_present(step) {
                        continue;
                    }
                    let k = param.at(step);
                    if k >= 1.0 && taken[group][step] < k as u64 {
                        taken[group][step] += 1;
                    } else {
                        row.clear(step);
                    }
                }
                if !row.is_blank() {
                    held.grow(row.bytes())?;
                    kept.push(row);
                }
            }
            Ok(())
        })?;
        Ok(Matrix { rows: kept, held })
    }

    pub(super) fn limit_ratio(
        &self,
        aggregate: &Aggregate,
        param: &Scalars,
        grid: Grid,
        notes: &mut Notes,
    ) -> Result<Matrix, QueryError> {
        let values = || (0..grid.count).map(|step| param.at(step));
        let largest = values().fold(f64::NEG_INFINITY, f64::max);
        let smallest = values().fold(f64::INFINITY, f64::min);
        let mut held = self.budget.hold(0)?;
        let mut kept: Vec<Row> = Vec::new();
        if values().any(f64::is_nan) {
            return Err(QueryError::Execution("Ratio value is NaN".to_owned()));
        }
        let none = largest == 0.0 && smallest == 0.0;
        if !none {
            let span = aggregate.param.as_ref().map_or(aggregate.expr.span, |param| param.span);
            if largest > 1.0 {
                notes.bad_ratio(largest, 1.0, span);
            }
            if smallest < -1.0 {
                notes.bad_ratio(smallest, -1.0, span);
            }
        }
        self.stream(&aggregate.expr, grid, notes, &mut |rows| {
            self.budget.check()?;
            for mut row in rows.into_iter().filter(|_| !none) {
                let place = sampling_place(&row.labels);
                for step in 0..grid.count {
                    let ratio = param.at(step).clamp(-1.0, 1.0);
                    let inside = ratio >= 0.0 && place < ratio || ratio < 0.0 && place >= 1.0 + ratio;
                    if !inside {
                        row.clear(step);
                    }
                }
                if !row.is_blank() {
                    held.grow(row.bytes())?;
                    kept.push(row);
                }
            }
            Ok(())
        })?;
        Ok(Matrix { rows: kept, held })
    }
}

/// Where a label set lies between 0 and 1: XXH64 of Prometheus's own encoding, so that both pick the same series.
fn sampling_place(labels: &Labels) -> f64 {
    let mut bytes = Vec::with_capacity(128);
    for part in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(part.len()) {
            Ok(length @ 0..=254) => bytes.push(length),
            _ => {
                bytes.push(255);
                bytes.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(part.as_bytes());
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0) as f64 / u64::MAX as f64
}
