//! `histogram_quantile` and its relatives, which take classic and native histograms alike.

use hashbrown::HashMap;
use std::sync::Arc;

use super::matrix::{Grid, Matrix, Row, Scalars, is_absent};
use super::notes::{Monotonicity, Notes};
use super::plan::{Call, Node};
use super::quantile::{self, ClassicBucket};
use super::{Evaluator, labels};
use crate::model::{FloatHistogram, Labels, NanObservations};
use crate::query::QueryError;
use crate::query::ast::Span;

/// The label of a classic histogram's bucket.
const BUCKET: &str = "le";

/// One histogram, classic or native or (at different steps) both.
struct Member {
    /// Without the bucket label.
    labels: Labels,
    drop_name: bool,
    /// The rows of a classic histogram and their bounds.
    buckets: Vec<(f64, usize)>,
    native: Option<usize>,
}

/// What is at one step of a member.
enum Found<'a> {
    Native(&'a FloatHistogram),
    Classic(&'a mut Vec<ClassicBucket>),
}

/// A step of a member.
struct Place<'a> {
    metric: &'a str,
    step: usize,
    time: i64,
    span: Span,
}

impl Evaluator<'_> {
    pub(super) fn histogram_quantile(&self, call: &Call, grid: Grid, notes: &mut Notes) -> Result<Matrix, QueryError> {
        let [q, vector] = &call.args[..] else {
            return Err(arguments(call));
        };
        let qs = self.scalars(q, grid, notes)?;
        note_bad_quantiles(&qs, grid, q.span, notes);
        self.each_histogram(vector, grid, notes, |found, place, notes| {
            quantile_of(qs.at(place.step), found, place, notes)
        })
    }

    pub(super) fn histogram_quantiles(&self, call: &Call, grid: Grid, notes: &mut Notes) -> Result<Matrix, QueryError> {
        let [vector, label, quantiles @ ..] = &call.args[..] else {
            return Err(arguments(call));
        };
        let mut held = self.budget.hold(0)?;
        let mut rows: Vec<Row> = Vec::new();
        for q in quantiles {
            let qs = self.scalars(q, grid, notes)?;
            note_bad_quantiles(&qs, grid, q.span, notes);
            let matrix = self.each_histogram(vector, grid, notes, |found, place, notes| {
                quantile_of(qs.at(place.step), found, place, notes)
            })?;
            for row in matrix.rows {
                // The quantile may differ from step to step; each is a series of its own.
                let mut by_text: Vec<(String, Row)> = Vec::new();
                for step in 0..grid.count {
                    let Some(value) = row.value(step) else { continue };
                    let text = open_metrics_float(qs.at(step));
                    let at = match by_text.iter().position(|(known, _)| *known == text) {
                        Some(at) => at,
                        None => {
                            let mut labels = row.labels.to_builder();
                            labels.set(label.text(), &text);
                            let new = Row::empty(labels.build(), row.drop_name, grid.count);
                            held.grow(new.bytes())?;
                            by_text.push((text, new));
                            by_text.len() - 1
                        }
                    };
                    by_text[at].1.set(step, value);
                }
                rows.extend(by_text.into_iter().map(|(_, row)| row));
            }
        }
        if grid.count > 1 {
            rows = labels::join(rows)?;
        }
        Ok(Matrix { rows, held })
    }

    pub(super) fn histogram_fraction(&self, call: &Call, grid: Grid, notes: &mut Notes) -> Result<Matrix, QueryError> {
        let [lower, upper, vector] = &call.args[..] else {
            return Err(arguments(call));
        };
        let lowers = self.scalars(lower, grid, notes)?;
        let uppers = self.scalars(upper, grid, notes)?;
        self.each_histogram(vector, grid, notes, |found, place, notes| {
            let (lower, upper) = (lowers.at(place.step), uppers.at(place.step));
            match found {
                Found::Classic(buckets) => quantile::classic_fraction(lower, upper, buckets),
                Found::Native(histogram) => {
                    let estimate = histogram.fraction(lower, upper);
                    if estimate.nan != NanObservations::None {
                        notes.fraction_leaves_out_nan(place.metric, place.span);
                    }
                    estimate.value
                }
            }
        })
    }

    /// Calls `compute` with each histogram at each step.
    fn each_histogram(
        &self,
        vector: &Node,
        grid: Grid,
        notes: &mut Notes,
        compute: impl Fn(Found<'_>, &Place<'_>, &mut Notes) -> f64,
    ) -> Result<Matrix, QueryError> {
        let mut matrix = self.vector(vector, grid, notes)?;
        let members = members(&matrix.rows, vector.span, notes);
        let mut rows = Vec::with_capacity(members.len());
        let mut buckets: Vec<ClassicBucket> = Vec::new();
        for member in members {
            self.budget.check()?;
            let mut row = Row::empty(member.labels.clone(), true, grid.count);
            matrix.held.grow(row.bytes())?;
            let metric = member.labels.metric_name().unwrap_or_default();
            for step in 0..grid.count {
                let native = member.native.and_then(|native| matrix.rows[native].histogram(step));
                buckets.clear();
                for (upper, bucket) in &member.buckets {
                    let count = matrix.rows[*bucket].floats[step];
                    if !is_absent(count) {
                        buckets.push(ClassicBucket { upper: *upper, count });
                    }
                }
                let place = Place {
                    metric,
                    step,
                    time: grid.at(step),
                    span: vector.span,
                };
                row.floats[step] = match (native, buckets.is_empty()) {
                    (None, true) => continue,
                    (Some(_), false) => {
                        notes.classic_and_native(metric, vector.span);
                        continue;
                    }
                    (Some(native), true) => compute(Found::Native(native), &place, notes),
                    (None, false) => compute(Found::Classic(&mut buckets), &place, notes),
                };
            }
            if !row.is_blank() {
                rows.push(row);
            }
        }
        matrix.rows = rows;
        if grid.count > 1 {
            matrix.rows = labels::join(std::mem::take(&mut matrix.rows))?;
        }
        Ok(matrix)
    }
}

fn arguments(call: &Call) -> QueryError {
    QueryError::Execution(format!("wrong number of arguments for {}", call.function.name))
}

fn note_bad_quantiles(qs: &Scalars, grid: Grid, span: Span, notes: &mut Notes) {
    for step in 0..grid.count {
        let q = qs.at(step);
        if !(0.0..=1.0).contains(&q) {
            notes.bad_quantile(q, span);
        }
        if matches!(qs, Scalars::Constant(_)) {
            break;
        }
    }
}

fn quantile_of(q: f64, found: Found<'_>, place: &Place<'_>, notes: &mut Notes) -> f64 {
    match found {
        Found::Classic(buckets) => quantile::of_classic(q, buckets, |forced| {
            let forced = Monotonicity {
                first: place.time,
                last: place.time,
                ..forced
            };
            notes.forced_monotonicity(place.metric, forced, place.span);
        }),
        Found::Native(histogram) => {
            let estimate = histogram.quantile(q);
            match estimate.nan {
                NanObservations::None => {}
                NanObservations::Reached => notes.quantile_is_nan(place.metric, place.span),
                NanObservations::Skew => notes.quantile_is_skewed(place.metric, place.span),
            }
            estimate.value
        }
    }
}

/// Groups rows into histograms: the buckets of a classic one differ in their bound only.
fn members(rows: &[Row], span: Span, notes: &mut Notes) -> Vec<Member> {
    let mut index: HashMap<Arc<str>, usize> = HashMap::new();
    let mut members: Vec<Member> = Vec::new();
    let mut member_of = |labels: Labels, drop_name: bool, members: &mut Vec<Member>| {
        let key: Arc<str> = Arc::from(labels.as_encoded());
        *index.entry(key).or_insert_with(|| {
            members.push(Member {
                labels,
                drop_name,
                buckets: Vec::new(),
                native: None,
            });
            members.len() - 1
        })
    };
    for (at, row) in rows.iter().enumerate() {
        if row.histograms.iter().any(Option::is_some) {
            let member = member_of(row.labels.clone(), row.drop_name, &mut members);
            members[member].native = Some(at);
        }
        if row.floats.iter().all(|value| is_absent(*value)) {
            continue;
        }
        let bound = row.labels.value(BUCKET);
        let Some(upper) = parse_bound(bound) else {
            notes.bad_bucket_label(row.labels.metric_name().unwrap_or_default(), bound, span);
            continue;
        };
        let labels = row.labels.filtered(|name| name != BUCKET);
        let member = member_of(labels, row.drop_name, &mut members);
        members[member].buckets.push((upper, at));
        members[member].drop_name |= row.drop_name;
    }
    members
}

/// Reads a bound as Go does: decimal, `Inf` with a sign or without.
fn parse_bound(text: &str) -> Option<f64> {
    let (sign, unsigned) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (if text.starts_with('-') { -1.0 } else { 1.0 }, rest),
        None => (1.0, text),
    };
    if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
        return Some(sign * f64::INFINITY);
    }
    let digits = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let value: f64 = unsigned.parse().ok().filter(|_| digits)?;
    Some(sign * value)
}

/// Writes a float so that it shows it is one: `1.0`, `0.5`, `+Inf`.
fn open_metrics_float(value: f64) -> String {
    let text = crate::model::format_g(value);
    if value.is_finite() && !text.contains(['.', 'e']) {
        format!("{text}.0")
    } else {
        text
    }
}
