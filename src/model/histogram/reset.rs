//! Whether a counter began anew between two histograms.

use super::buckets::{Cell, bound, cells};
use super::sum::{common_bounds, in_bounds, widened};
use super::{CounterResetHint, FloatHistogram};
use crate::model::FloatSum;

impl FloatHistogram {
    /// Whether the counter was reset between `previous` and this histogram: its hint says so or, when the hint knows nothing,
    /// some count went down, the resolution went up or the zero bucket shrank.
    pub fn is_reset_since(&self, previous: &FloatHistogram) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => return true,
            CounterResetHint::NotReset => return false,
            // A gauge has no resets, but whoever asks treats it as a counter.
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        let custom = self.has_custom_buckets();
        if custom != previous.has_custom_buckets() || self.schema > previous.schema {
            return true;
        }
        let cells_of = |spans, buckets, from| cells(spans, buckets, from, self.schema);
        let mine = cells_of(&self.positive_spans, &self.positive_buckets, self.schema);
        let before = cells_of(&previous.positive_spans, &previous.positive_buckets, previous.schema);
        if custom {
            if self.custom_values == previous.custom_values {
                return any_smaller(&mine, &before, |_| true);
            }
            let common = common_bounds(&self.custom_values, &previous.custom_values);
            return any_smaller(
                &in_bounds(&mine, &self.custom_values, &common),
                &in_bounds(&before, &previous.custom_values, &common),
                |_| true,
            );
        }
        if self.zero_is_reset_since(previous) {
            return true;
        }
        let counted = |index| bound(index, self.schema, &[]) > self.zero_threshold || self.zero_threshold == 0.0;
        let negative = cells_of(&self.negative_spans, &self.negative_buckets, self.schema);
        let negative_before = cells_of(&previous.negative_spans, &previous.negative_buckets, previous.schema);
        any_smaller(&mine, &before, counted) || any_smaller(&negative, &negative_before, counted)
    }

    fn zero_is_reset_since(&self, previous: &FloatHistogram) -> bool {
        if self.zero_threshold == previous.zero_threshold {
            return self.zero_count < previous.zero_count;
        }
        if self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let cells_of = |spans, buckets| cells(spans, buckets, previous.schema, previous.schema);
        let before = widened(
            FloatSum::of(previous.zero_count),
            self.zero_threshold,
            previous.schema,
            &cells_of(&previous.positive_spans, &previous.positive_buckets),
            &cells_of(&previous.negative_spans, &previous.negative_buckets),
        );
        before.threshold != self.zero_threshold || self.zero_count < before.count.sum
    }
}

/// Whether a bucket of `before` is larger than the same bucket of `now`; both are sorted by index.
fn any_smaller(now: &[Cell], before: &[Cell], counted: impl Fn(i32) -> bool) -> bool {
    let mut rest = now;
    before.iter().filter(|cell| counted(cell.index)).any(|cell| {
        rest = &rest[rest.partition_point(|other| other.index < cell.index)..];
        match rest.first() {
            Some(other) if other.index == cell.index => other.count.sum < cell.count.sum,
            _ => cell.count.sum != 0.0,
        }
    })
}
