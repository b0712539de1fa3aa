//! What a stretch of a series' floats amounts to: the answer of `count_over_time` and its kin, without the samples.

use super::Columns;
use crate::model::{Millis, Sample};

/// Floats of one series within a range, none of them a marker, NaN or infinite, and no histogram among them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many there are, one at least.
    pub count: u64,
    /// The oldest.
    pub first: Sample,
    /// The newest.
    pub last: Sample,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// The sum in order of time, compensated (Neumaier). `None` when it was put together from parts: such a sum may differ
    /// in its last digit.
    pub sum: Option<f64>,
}

impl Summary {
    /// Looks at the samples themselves.
    pub fn of(columns: &Columns) -> Option<Summary> {
        let sample = |at: usize| Sample {
            at: Millis(columns.times[at]),
            value: columns.values[at],
        };
        let last = columns.values.len().checked_sub(1)?;
        if !columns.histograms.is_empty() || !columns.values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let (first, last) = (sample(0), sample(last));
        Some(Summary {
            count: columns.values.len() as u64,
            first,
            last,
            min: columns.values.iter().copied().fold(first.value, f64::min),
            max: columns.values.iter().copied().fold(first.value, f64::max),
            sum: None,
        })
    }

    /// Puts two stretches together, the older one first; `None` when they overlap.
    pub fn then(self, next: Summary) -> Option<Summary> {
        (self.last.at < next.first.at).then_some(Summary {
            count: self.count + next.count,
            first: self.first,
            last: next.last,
            min: self.min.min(next.min),
            max: self.max.max(next.max),
            sum: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(samples: &[(i64, f64)]) -> Columns {
        Columns {
            times: samples.iter().map(|sample| sample.0).collect(),
            values: samples.iter().map(|sample| sample.1).collect(),
            ..Columns::default()
        }
    }

    #[test]
    fn stretches_are_put_together_unless_they_overlap() {
        let old = Summary::of(&columns(&[(1, 4.0), (2, -1.0)])).unwrap();
        let new = Summary::of(&columns(&[(3, 9.0)])).unwrap();
        let both = old.then(new).unwrap();
        assert_eq!((both.count, both.min, both.max, both.sum), (3, -1.0, 9.0, None));
        assert_eq!((both.first.at, both.last.value), (Millis(1), 9.0));
        assert_eq!(new.then(old), None);
    }

    #[test]
    fn what_is_no_finite_number_is_left_to_the_samples() {
        assert_eq!(Summary::of(&columns(&[])), None);
        assert_eq!(
            Summary::of(&columns(&[(1, 1.0), (2, crate::model::stale_marker())])),
            None
        );
        assert_eq!(Summary::of(&columns(&[(1, f64::INFINITY)])), None);
    }
}
