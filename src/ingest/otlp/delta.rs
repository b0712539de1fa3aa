//! Deltas made cumulative: a running total for each series whose sender counts anew in every interval.
//!
//! The totals are kept in memory; after a restart they begin again, which `rate` sees as the restart of a counter. A point
//! sent again (a retry after a lost answer) gives the same total again: it changes nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::model::{FloatHistogram, Interval, Millis, SeriesKey};

/// A series that was silent for this long begins again.
const FORGET_AFTER: Interval = Interval::mins(60);

/// What is added up.
#[derive(Clone, Debug)]
pub(super) enum Amount {
    /// A sum.
    Number(f64),
    /// A histogram with its own bounds.
    Explicit {
        /// Observations and their sum.
        count: f64,
        sum: f64,
        /// Upper bounds, without +Inf.
        bounds: Vec<f64>,
        /// Observations of each bucket.
        buckets: Vec<f64>,
    },
    /// A native histogram.
    Native(Box<FloatHistogram>),
}

impl Amount {
    /// Adds `more`; one of another shape begins anew.
    fn add(&mut self, more: Amount) {
        match (&mut *self, more) {
            (Amount::Number(total), Amount::Number(more)) => *total += more,
            (
                Amount::Explicit {
                    count,
                    sum,
                    bounds,
                    buckets,
                },
                Amount::Explicit {
                    count: more,
                    sum: more_sum,
                    bounds: same,
                    buckets: each,
                },
            ) if *bounds == same => {
                *count += more;
                *sum += more_sum;
                buckets.iter_mut().zip(each).for_each(|(total, more)| *total += more);
            }
            (Amount::Native(total), Amount::Native(more)) => {
                if total.add(&more).is_err() {
                    *total = more;
                }
            }
            (this, other) => *this = other,
        }
    }
}

#[derive(Debug)]
struct Running {
    start: Millis,
    at: Millis,
    total: Amount,
    touched: Millis,
}

/// A delta's time and amount.
pub(super) struct Delta {
    /// When its interval began (0 = unknown).
    pub(super) start: Millis,
    /// When it ended.
    pub(super) at: Millis,
    /// How much came in it.
    pub(super) amount: Amount,
}

/// All running totals.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    running: HashMap<SeriesKey, Running>,
    swept: Millis,
}

impl Deltas {
    /// Adds a delta; returns since when the total counts, and the total.
    ///
    /// # Errors
    /// What is wrong with it: older than what was added already, or one series too many.
    pub(super) fn add(
        &mut self,
        key: SeriesKey,
        delta: Delta,
        now: Millis,
        series_max: usize,
    ) -> Result<(Millis, Amount), String> {
        self.sweep(now);
        let many = self.running.len();
        match self.running.entry(key) {
            Entry::Occupied(mut place) => {
                let running = place.get_mut();
                running.touched = now;
                if delta.at < running.at {
                    return Err(format!(
                        "a delta ends at {}, before the newest one at {}: deltas must come in order",
                        delta.at, running.at
                    ));
                }
                if delta.at > running.at {
                    running.at = delta.at;
                    running.total.add(delta.amount);
                }
                Ok((running.start, running.total.clone()))
            }
            Entry::Vacant(_) if many >= series_max => Err(format!(
                "over the limit otlp_delta_series_max = {series_max}: no further series with deltas are kept"
            )),
            Entry::Vacant(place) => {
                let start = if delta.start == Millis(0) {
                    delta.at
                } else {
                    delta.start
                };
                let running = place.insert(Running {
                    start,
                    at: delta.at,
                    total: delta.amount,
                    touched: now,
                });
                Ok((start, running.total.clone()))
            }
        }
    }

    fn sweep(&mut self, now: Millis) {
        if now - self.swept < Interval::mins(1) {
            return;
        }
        self.swept = now;
        self.running.retain(|_, running| now - running.touched < FORGET_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(deltas: &mut Deltas, at: i64, value: f64) -> Result<f64, String> {
        let delta = Delta {
            start: Millis(at - 10),
            at: Millis(at),
            amount: Amount::Number(value),
        };
        let (start, total) = deltas.add(SeriesKey(1), delta, Millis(at), 1)?;
        assert_eq!(start, Millis(90));
        let Amount::Number(total) = total else {
            panic!("a number stays one")
        };
        Ok(total)
    }

    #[test]
    fn deltas_add_up_once_and_in_order() {
        let mut deltas = Deltas::default();
        assert_eq!(number(&mut deltas, 100, 5.0), Ok(5.0));
        assert_eq!(number(&mut deltas, 110, 2.0), Ok(7.0));
        assert_eq!(number(&mut deltas, 110, 2.0), Ok(7.0), "a retry changes nothing");
        assert!(number(&mut deltas, 105, 1.0).unwrap_err().contains("in order"));
    }

    #[test]
    fn totals_are_bounded_and_forgotten() {
        let mut deltas = Deltas::default();
        let delta = |at: i64| Delta {
            start: Millis(0),
            at: Millis(at),
            amount: Amount::Number(1.0),
        };
        deltas.add(SeriesKey(1), delta(1), Millis(1), 1).unwrap();
        let error = deltas.add(SeriesKey(2), delta(1), Millis(1), 1).unwrap_err();
        assert!(error.contains("otlp_delta_series_max"), "{error}");
        let later = Millis(1) + Interval::mins(61);
        assert!(deltas.add(SeriesKey(2), delta(later.0), later, 1).is_ok());
    }

    #[test]
    fn a_histogram_with_other_bounds_begins_anew() {
        let mut total = Amount::Explicit {
            count: 3.0,
            sum: 1.0,
            bounds: vec![1.0],
            buckets: vec![1.0, 2.0],
        };
        total.add(total.clone());
        let Amount::Explicit { count, buckets, .. } = &total else {
            panic!()
        };
        assert_eq!((*count, buckets.as_slice()), (6.0, &[2.0, 4.0][..]));
        total.add(Amount::Explicit {
            count: 1.0,
            sum: 1.0,
            bounds: vec![2.0],
            buckets: vec![1.0, 0.0],
        });
        assert!(matches!(total, Amount::Explicit { count: 1.0, .. }));
    }
}
