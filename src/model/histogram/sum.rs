//! Adding and subtracting histograms whose buckets need not agree.
//!
//! The sum takes the coarser schema, the wider zero bucket (widened further where its edge would cut through a populated
//! bucket), or the custom bounds that both have. Every count is summed without losing digits.

use super::buckets::{Cell, bound, cells, index_in, spans_of};
use super::{CounterResetHint, FloatHistogram, MixedSchemas};
use crate::model::FloatSum;

/// What had to be reconciled when two histograms met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// One said that its counter was reset, the other that it was not.
    pub resets_collide: bool,
    /// Their custom bounds differ; only the common ones are left.
    pub bounds_differ: bool,
}

/// A histogram that others are added to.
#[derive(Clone, Debug)]
pub struct HistogramSum {
    hint: CounterResetHint,
    schema: i32,
    zero_threshold: f64,
    zero: FloatSum,
    count: FloatSum,
    sum: FloatSum,
    positive: Vec<Cell>,
    negative: Vec<Cell>,
    custom_values: Vec<f64>,
}

impl HistogramSum {
    /// Begins with one histogram.
    pub fn of(histogram: &FloatHistogram) -> HistogramSum {
        let schema = histogram.schema;
        HistogramSum {
            hint: histogram.counter_reset_hint,
            schema,
            zero_threshold: histogram.zero_threshold,
            zero: FloatSum::of(histogram.zero_count),
            count: FloatSum::of(histogram.count),
            sum: FloatSum::of(histogram.sum),
            positive: cells(&histogram.positive_spans, &histogram.positive_buckets, schema, schema),
            negative: cells(&histogram.negative_spans, &histogram.negative_buckets, schema, schema),
            custom_values: histogram.custom_values.clone(),
        }
    }

    /// Returns the sum, compacted.
    pub fn value(&self) -> FloatHistogram {
        let (positive_spans, positive_buckets) = spans_of(&self.positive);
        let (negative_spans, negative_buckets) = spans_of(&self.negative);
        FloatHistogram {
            counter_reset_hint: self.hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero.value(),
            count: self.count.value(),
            sum: self.sum.value(),
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: self.custom_values.clone(),
        }
    }

    /// Adds a histogram.
    ///
    /// # Errors
    /// [`MixedSchemas`] when only one of the two has custom buckets; the sum is then unchanged.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Reconciled, MixedSchemas> {
        self.merge(other, 1.0)
    }

    /// Subtracts a histogram.
    ///
    /// # Errors
    /// As [`HistogramSum::add`].
    pub fn sub(&mut self, other: &FloatHistogram) -> Result<Reconciled, MixedSchemas> {
        self.merge(other, -1.0)
    }

    /// Multiplies all counts and the sum.
    pub fn scale(&mut self, factor: f64) {
        self.zero = self.zero.scaled(factor);
        self.count = self.count.scaled(factor);
        self.sum = self.sum.scaled(factor);
        for cell in self.positive.iter_mut().chain(&mut self.negative) {
            cell.count = cell.count.scaled(factor);
        }
    }

    /// Returns the sum divided by `divisor`, compacted.
    pub fn divided(&self, divisor: f64) -> FloatHistogram {
        let mut sums = self.clone();
        let parts = sums
            .positive
            .iter_mut()
            .chain(&mut sums.negative)
            .map(|cell| &mut cell.count);
        for part in parts.chain([&mut sums.zero, &mut sums.count, &mut sums.sum]) {
            *part = FloatSum {
                sum: part.sum / divisor,
                lost: part.lost / divisor,
            };
        }
        sums.value()
    }

    /// Whether a count or the sum has become infinite.
    pub fn overflows(&self) -> bool {
        let counts = self.positive.iter().chain(&self.negative).map(|cell| cell.count);
        [self.zero, self.count, self.sum]
            .into_iter()
            .chain(counts)
            .any(|sum| sum.sum.is_infinite())
    }

    fn merge(&mut self, other: &FloatHistogram, sign: f64) -> Result<Reconciled, MixedSchemas> {
        let custom = other.has_custom_buckets();
        if custom != (self.schema == super::SCHEMA_CUSTOM) {
            return Err(MixedSchemas);
        }
        let mut reconciled = Reconciled {
            resets_collide: self.merge_hint(other.counter_reset_hint),
            bounds_differ: false,
        };
        self.count.add(sign * other.count);
        self.sum.add(sign * other.sum);
        let buckets = |spans, buckets, to| cells(spans, buckets, other.schema, to);
        if custom {
            let mut theirs = buckets(&other.positive_spans, &other.positive_buckets, other.schema);
            if self.custom_values != other.custom_values {
                reconciled.bounds_differ = true;
                let common = common_bounds(&self.custom_values, &other.custom_values);
                self.positive = in_bounds(&self.positive, &self.custom_values, &common);
                theirs = in_bounds(&theirs, &other.custom_values, &common);
                self.custom_values = common;
            }
            merge_cells(&mut self.positive, &theirs, sign);
            return Ok(reconciled);
        }
        let zero = self.reconcile_zero(other);
        self.zero.add_sum(zero.scaled(sign));
        let schema = self.schema.min(other.schema);
        if schema < self.schema {
            coarsen(&mut self.positive, self.schema, schema);
            coarsen(&mut self.negative, self.schema, schema);
            self.schema = schema;
        }
        // What lies inside the zero bucket has been counted there. It is left out in its own schema: a coarser bucket may reach
        // beyond the zero bucket.
        let outside_zero = |spans, buckets| {
            let mut cells = cells(spans, buckets, other.schema, other.schema);
            let inside = cells.partition_point(|cell| bound(cell.index, other.schema, &[]) <= self.zero_threshold);
            cells.drain(..inside);
            coarsen(&mut cells, other.schema, schema);
            cells
        };
        let positive = outside_zero(&other.positive_spans, &other.positive_buckets);
        let negative = outside_zero(&other.negative_spans, &other.negative_buckets);
        merge_cells(&mut self.positive, &positive, sign);
        merge_cells(&mut self.negative, &negative, sign);
        Ok(reconciled)
    }

    /// Gauges win, then ignorance; two counters that contradict each other become unknown, which is reported.
    fn merge_hint(&mut self, other: CounterResetHint) -> bool {
        use CounterResetHint::{Gauge, Unknown};
        match (self.hint, other) {
            (mine, theirs) if mine == theirs => false,
            (Gauge, _) | (_, Gauge) => {
                self.hint = Gauge;
                false
            }
            (Unknown, _) | (_, Unknown) => {
                self.hint = Unknown;
                false
            }
            _ => {
                self.hint = Unknown;
                true
            }
        }
    }

    /// Widens the zero bucket until it holds that of `other` and cuts through no populated bucket of either; returns what
    /// `other` then has in it.
    fn reconcile_zero(&mut self, other: &FloatHistogram) -> FloatSum {
        let mut theirs = ZeroBucket {
            threshold: other.zero_threshold,
            count: FloatSum::of(other.zero_count),
        };
        if other.zero_threshold == self.zero_threshold || self.zero_threshold.is_nan() || other.zero_threshold.is_nan()
        {
            return theirs.count;
        }
        let cells_of = |spans, buckets| cells(spans, buckets, other.schema, other.schema);
        let positive = cells_of(&other.positive_spans, &other.positive_buckets);
        let negative = cells_of(&other.negative_spans, &other.negative_buckets);
        let count = theirs.count;
        while theirs.threshold != self.zero_threshold {
            if self.zero_threshold > theirs.threshold {
                theirs = widened(count, self.zero_threshold, other.schema, &positive, &negative);
            }
            if theirs.threshold > self.zero_threshold {
                let mine = widened(self.zero, theirs.threshold, self.schema, &self.positive, &self.negative);
                (self.zero, self.zero_threshold) = (mine.count, mine.threshold);
                let (schema, threshold) = (self.schema, self.zero_threshold);
                let outside = |cell: &Cell| bound(cell.index.wrapping_sub(1), schema, &[]) >= threshold;
                self.positive.retain(outside);
                self.negative.retain(outside);
            }
        }
        theirs.count
    }
}

#[derive(Clone, Copy)]
pub(super) struct ZeroBucket {
    pub(super) threshold: f64,
    pub(super) count: FloatSum,
}

/// Returns the zero bucket that a histogram has with a wider threshold; wider still, when that would fall inside a bucket.
pub(super) fn widened(
    zero: FloatSum,
    mut threshold: f64,
    schema: i32,
    positive: &[Cell],
    negative: &[Cell],
) -> ZeroBucket {
    loop {
        let before = threshold;
        let mut count = zero;
        for side in [positive, negative] {
            for cell in side {
                if bound(cell.index.wrapping_sub(1), schema, &[]) >= threshold {
                    break;
                }
                count.add_sum(cell.count);
                let upper = bound(cell.index, schema, &[]);
                if upper > threshold {
                    threshold = upper;
                    break;
                }
            }
        }
        if threshold == before {
            return ZeroBucket { threshold, count };
        }
    }
}

fn coarsen(cells: &mut Vec<Cell>, from: i32, to: i32) {
    for cell in cells.iter_mut() {
        cell.index = index_in(cell.index, from, to);
    }
    cells.dedup_by(|next, kept| {
        let same = next.index == kept.index;
        if same {
            kept.count.add_sum(next.count);
        }
        same
    });
}

/// Adds `theirs` to `mine`; both are sorted by index.
fn merge_cells(mine: &mut Vec<Cell>, theirs: &[Cell], sign: f64) {
    let same_layout = mine.len() == theirs.len() && mine.iter().zip(theirs).all(|(a, b)| a.index == b.index);
    if same_layout {
        for (mine, theirs) in mine.iter_mut().zip(theirs) {
            mine.count.add_sum(theirs.count.scaled(sign));
        }
        return;
    }
    let mut merged = Vec::with_capacity(mine.len() + theirs.len());
    let mut rest = theirs;
    for mut cell in mine.drain(..) {
        let before = rest.partition_point(|other| other.index < cell.index);
        merged.extend(rest[..before].iter().map(|other| other.scaled(sign)));
        rest = &rest[before..];
        if let [other, after @ ..] = rest
            && other.index == cell.index
        {
            cell.count.add_sum(other.count.scaled(sign));
            rest = after;
        }
        merged.push(cell);
    }
    merged.extend(rest.iter().map(|other| other.scaled(sign)));
    *mine = merged;
}

impl Cell {
    fn scaled(self, factor: f64) -> Cell {
        Cell {
            count: self.count.scaled(factor),
            ..self
        }
    }
}

/// Returns the bounds that occur in both lists.
pub(super) fn common_bounds(mine: &[f64], theirs: &[f64]) -> Vec<f64> {
    let mut rest = theirs;
    let mut common = Vec::new();
    for value in mine {
        let before = rest.partition_point(|other| other < value);
        rest = &rest[before..];
        if rest.first() == Some(value) {
            common.push(*value);
        }
    }
    common
}

/// Returns the cells as they are under `to`, a part of the bounds `from`.
pub(super) fn in_bounds(cells: &[Cell], from: &[f64], to: &[f64]) -> Vec<Cell> {
    let mut moved: Vec<Cell> = Vec::with_capacity(cells.len());
    for cell in cells {
        let upper = bound(cell.index, super::SCHEMA_CUSTOM, from);
        let index = to.partition_point(|bound| *bound < upper) as i32;
        match moved.last_mut() {
            Some(last) if last.index == index => last.count.add_sum(cell.count),
            _ => moved.push(Cell { index, ..*cell }),
        }
    }
    moved
}

impl FloatHistogram {
    /// Adds a histogram. To add many, use a [`HistogramSum`].
    ///
    /// # Errors
    /// [`MixedSchemas`] when only one of the two has custom buckets.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Reconciled, MixedSchemas> {
        let mut sum = HistogramSum::of(self);
        let reconciled = sum.add(other)?;
        *self = sum.value();
        Ok(reconciled)
    }

    /// Subtracts a histogram.
    ///
    /// # Errors
    /// As [`FloatHistogram::add`].
    pub fn sub(&mut self, other: &FloatHistogram) -> Result<Reconciled, MixedSchemas> {
        let mut sum = HistogramSum::of(self);
        let reconciled = sum.sub(other)?;
        *self = sum.value();
        Ok(reconciled)
    }

    /// Multiplies all counts and the sum; a negative factor makes a gauge.
    pub fn scale(&mut self, factor: f64) {
        self.each_count(|count| count * factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    /// Divides all counts and the sum; a negative divisor makes a gauge, and zero leaves no bucket.
    pub fn divide(&mut self, divisor: f64) {
        self.each_count(|count| count / divisor);
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.positive_buckets.clear();
            self.negative_spans.clear();
            self.negative_buckets.clear();
        } else if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    fn each_count(&mut self, change: impl Fn(f64) -> f64) {
        let buckets = self.positive_buckets.iter_mut().chain(&mut self.negative_buckets);
        for count in buckets.chain([&mut self.zero_count, &mut self.count, &mut self.sum]) {
            *count = change(*count);
        }
    }
}
