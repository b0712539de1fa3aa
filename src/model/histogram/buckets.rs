//! From spans to buckets: where each bucket lies, and back.

use std::sync::OnceLock;

use super::{FloatHistogram, SCHEMA_CUSTOM, Span};
use crate::model::FloatSum;

/// The coarsest exponential schema.
pub const SCHEMA_MIN: i32 = -4;
/// The finest exponential schema.
pub const SCHEMA_MAX: i32 = 8;

/// One bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Whether an observation at the lower bound is inside.
    pub lower_inclusive: bool,
    /// Whether an observation at the upper bound is inside.
    pub upper_inclusive: bool,
    /// How many observations.
    pub count: f64,
}

impl Bucket {
    /// Returns which part of the bucket's observations lies below `value`, which must be inside finite bounds: evenly spread
    /// when `linear`, otherwise evenly on a logarithmic scale.
    pub fn fraction_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper) = (self.lower.abs().log2(), self.upper.abs().log2());
        let at = value.abs().log2();
        if value > 0.0 {
            (at - lower) / (upper - lower)
        } else {
            1.0 - (at - upper) / (lower - upper)
        }
    }

    fn holds_zero(&self) -> bool {
        self.lower <= 0.0 && self.upper >= 0.0
    }
}

/// A bucket by its index within the schema, with a count that is being summed up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) index: i32,
    pub(super) count: FloatSum,
}

/// Returns the upper bound of the bucket at `index`; for custom buckets `-Inf` and `+Inf` beyond the ends.
pub(super) fn bound(index: i32, schema: i32, custom: &[f64]) -> f64 {
    if schema == SCHEMA_CUSTOM {
        return match usize::try_from(index) {
            Ok(index) => custom.get(index).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        };
    }
    exponential_bound(index, schema)
}

/// The last bucket of regular numbers ends at the largest of them, not at infinity: that is the next bucket's bound.
fn exponential_bound(index: i32, schema: i32) -> f64 {
    let schema = schema.clamp(SCHEMA_MIN, SCHEMA_MAX);
    if schema < 0 {
        let exponent = i64::from(index) << -schema;
        return if exponent == 1024 {
            f64::MAX
        } else {
            power_of_two(1.0, exponent)
        };
    }
    let steps = 1i64 << schema;
    let fraction = fractions(schema)[(i64::from(index) & (steps - 1)) as usize];
    let exponent = (i64::from(index) >> schema) + 1;
    if fraction == 0.5 && exponent == 1025 {
        return f64::MAX;
    }
    power_of_two(fraction, exponent)
}

/// `fraction * 2^exponent`, in two steps so that neither factor leaves the range of a double too early.
fn power_of_two(fraction: f64, exponent: i64) -> f64 {
    let exponent = exponent.clamp(-2200, 2200) as i32;
    let half = exponent / 2;
    fraction * f64::exp2(f64::from(half)) * f64::exp2(f64::from(exponent - half))
}

/// Returns the bounds between 0.5 and 1 of a schema, as fractions.
fn fractions(schema: i32) -> &'static [f64] {
    static TABLES: [OnceLock<Vec<f64>>; 9] = [const { OnceLock::new() }; 9];
    TABLES[schema as usize].get_or_init(|| {
        let steps = 1u32 << schema;
        (0..steps)
            .map(|step| 0.5 * (f64::from(step) / f64::from(steps)).exp2())
            .collect()
    })
}

/// Returns the index in the coarser schema `to` of the bucket that holds bucket `index` of schema `from`.
pub(super) fn index_in(index: i32, from: i32, to: i32) -> i32 {
    let shift = from.saturating_sub(to).clamp(0, 31);
    (index.wrapping_sub(1) >> shift).wrapping_add(1)
}

/// Spells out spans as indexes; tolerates spans and buckets that do not fit each other.
pub(super) fn indexed<'a>(spans: &'a [Span], buckets: &'a [f64]) -> impl DoubleEndedIterator<Item = (i32, f64)> + 'a {
    let mut next = 0i32;
    let indexes = spans.iter().flat_map(move |span| {
        let start = next.wrapping_add(span.offset);
        next = start.wrapping_add(span.length as i32);
        (0..span.length).map(move |at| start.wrapping_add(at as i32))
    });
    let indexes: Vec<i32> = indexes.take(buckets.len()).collect();
    indexes.into_iter().zip(buckets.iter().copied())
}

/// Returns the populated buckets as cells in schema `to`, which is no finer than `from`.
pub(super) fn cells(spans: &[Span], buckets: &[f64], from: i32, to: i32) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::with_capacity(buckets.len());
    for (index, count) in indexed(spans, buckets) {
        if count == 0.0 {
            continue;
        }
        let index = if from == to { index } else { index_in(index, from, to) };
        match cells.last_mut() {
            Some(last) if last.index == index => last.count.add(count),
            _ => cells.push(Cell {
                index,
                count: FloatSum::of(count),
            }),
        }
    }
    cells
}

/// Returns spans and counts of cells, empty ones left out.
pub(super) fn spans_of(cells: &[Cell]) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut buckets = Vec::with_capacity(cells.len());
    let mut next = 0i32;
    for cell in cells {
        let count = cell.count.value();
        if count == 0.0 {
            continue;
        }
        match spans.last_mut() {
            Some(span) if cell.index == next => span.length += 1,
            _ => spans.push(Span {
                offset: cell.index.wrapping_sub(if spans.is_empty() { 0 } else { next }),
                length: 1,
            }),
        }
        next = cell.index.wrapping_add(1);
        buckets.push(count);
    }
    (spans, buckets)
}

impl FloatHistogram {
    /// Whether the buckets have bounds of their own.
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == SCHEMA_CUSTOM
    }

    /// Returns the zero bucket.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// Returns the positive buckets, from the zero bucket up.
    pub fn positive(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        indexed(&self.positive_spans, &self.positive_buckets).map(|(index, count)| self.bucket_at(index, count, true))
    }

    /// Returns the negative buckets, from the zero bucket down.
    pub fn negative(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        indexed(&self.negative_spans, &self.negative_buckets).map(|(index, count)| self.bucket_at(index, count, false))
    }

    fn bucket_at(&self, index: i32, count: f64, positive: bool) -> Bucket {
        let far = bound(index, self.schema, &self.custom_values);
        let near = bound(index.wrapping_sub(1), self.schema, &self.custom_values);
        let (lower, upper) = if positive { (near, far) } else { (-far, -near) };
        let custom = self.has_custom_buckets();
        Bucket {
            lower,
            upper,
            lower_inclusive: if custom { index == 0 } else { lower < 0.0 },
            upper_inclusive: custom || upper > 0.0,
            count,
        }
    }

    /// Returns all buckets in rising order, the zero bucket (when populated) among them. Where a bucket overlaps the zero
    /// bucket, it begins where that one ends.
    pub fn buckets(&self) -> Vec<Bucket> {
        let clipped = |mut bucket: Bucket| {
            if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
                bucket.upper = -self.zero_threshold;
            } else if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
                bucket.lower = self.zero_threshold;
            }
            bucket
        };
        let mut buckets: Vec<Bucket> = self.negative().rev().map(clipped).collect();
        if self.zero_count > 0.0 && !self.has_custom_buckets() {
            buckets.push(self.zero_bucket());
        }
        buckets.extend(self.positive().map(clipped));
        buckets
    }

    /// Returns a bucket whose far end is moved to zero where the histogram shows that nothing lies beyond zero.
    pub(super) fn narrowed(&self, mut bucket: Bucket) -> (Bucket, bool) {
        let zero = bucket.holds_zero();
        if zero {
            if self.negative_buckets.is_empty() && !self.positive_buckets.is_empty() {
                bucket.lower = 0.0;
            } else if self.positive_buckets.is_empty() && !self.negative_buckets.is_empty() {
                bucket.upper = 0.0;
            }
        }
        (bucket, zero)
    }

    /// Leaves out empty buckets and joins adjacent spans.
    pub fn compact(&mut self) {
        let positive = cells(&self.positive_spans, &self.positive_buckets, self.schema, self.schema);
        (self.positive_spans, self.positive_buckets) = spans_of(&positive);
        let negative = cells(&self.negative_spans, &self.negative_buckets, self.schema, self.schema);
        (self.negative_spans, self.negative_buckets) = spans_of(&negative);
    }

    /// Returns the histogram in the coarser schema `to`; unchanged when it is no coarser or the buckets are custom ones.
    #[must_use]
    pub fn in_schema(&self, to: i32) -> FloatHistogram {
        if self.has_custom_buckets() || to >= self.schema || to < SCHEMA_MIN {
            return self.clone();
        }
        let positive = cells(&self.positive_spans, &self.positive_buckets, self.schema, to);
        let negative = cells(&self.negative_spans, &self.negative_buckets, self.schema, to);
        let (positive_spans, positive_buckets) = spans_of(&positive);
        let (negative_spans, negative_buckets) = spans_of(&negative);
        FloatHistogram {
            schema: to,
            positive_spans,
            positive_buckets,
            negative_spans,
            negative_buckets,
            ..self.clone()
        }
    }
}
