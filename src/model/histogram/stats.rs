//! What can be estimated from buckets: quantiles, fractions, the spread.

use super::{Bucket, FloatHistogram};
use crate::model::FloatSum;

/// An estimate, and whether observations of NaN disturb it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// What observations of NaN did.
    pub nan: NanObservations,
}

/// What observations of NaN did to an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NanObservations {
    /// There are none, or they did not matter.
    None,
    /// The estimate itself fell among them.
    Reached,
    /// They count, but lie in no bucket: the estimate is off.
    Skew,
}

fn plain(value: f64) -> Estimate {
    Estimate {
        value,
        nan: NanObservations::None,
    }
}

impl FloatHistogram {
    /// Estimates the quantile `q`. Inside a bucket observations are taken as evenly spread: on a logarithmic scale for
    /// exponential buckets, linearly for custom ones and the zero bucket.
    pub fn quantile(&self, q: f64) -> Estimate {
        if q < 0.0 {
            return plain(f64::NEG_INFINITY);
        }
        if q > 1.0 {
            return plain(f64::INFINITY);
        }
        if self.count == 0.0 || q.is_nan() {
            return plain(f64::NAN);
        }
        // NaN observations count but lie in no bucket, so that ranks can only be counted from below.
        let has_nan = self.sum.is_nan();
        let forward = has_nan || q < 0.5;
        let mut rank = if forward { q } else { 1.0 - q } * self.count;
        let mut buckets = self.buckets();
        if !forward {
            buckets.reverse();
        }
        let mut seen = 0.0;
        let mut found = None;
        let mut rest = buckets.iter();
        for bucket in rest.by_ref().filter(|bucket| bucket.count != 0.0) {
            seen += bucket.count;
            found = Some(*bucket);
            if seen >= rank {
                break;
            }
        }
        // Without any bucket all observations were NaN, or the histogram is malformed.
        let mut bucket = found.unwrap_or(Bucket {
            lower: 0.0,
            upper: 0.0,
            lower_inclusive: true,
            upper_inclusive: true,
            count: 0.0,
        });
        if self.has_custom_buckets() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return plain(bucket.upper);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return plain(bucket.lower);
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            bucket = self.narrowed(bucket).0;
        }
        let seen = seen.min(self.count);
        if seen < rank {
            return match has_nan {
                true => Estimate {
                    value: f64::NAN,
                    nan: NanObservations::Reached,
                },
                false => plain(bucket.upper),
            };
        }
        rank = if forward {
            rank - (seen - bucket.count)
        } else {
            seen - rank
        };
        let all = seen + rest.map(|bucket| bucket.count).sum::<f64>();
        let nan = match has_nan && all < self.count {
            true => NanObservations::Skew,
            false => NanObservations::None,
        };
        let fraction = rank / bucket.count;
        let value = if self.has_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
            bucket.lower + (bucket.upper - bucket.lower) * fraction
        } else {
            let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
            match bucket.lower > 0.0 {
                true => (lower + (upper - lower) * fraction).exp2(),
                false => -(upper + (lower - upper) * (1.0 - fraction)).exp2(),
            }
        };
        Estimate { value, nan }
    }

    /// Estimates which part of all observations lies between the bounds; either may be infinite.
    pub fn fraction(&self, lower: f64, upper: f64) -> Estimate {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return plain(f64::NAN);
        }
        if lower >= upper {
            return plain(0.0);
        }
        let buckets = self.buckets();
        let mut rest = buckets.iter();
        let mut rank = 0.0;
        let mut seen = 0.0;
        let (mut lower_rank, mut upper_rank) = (None, None);
        for bucket in rest.by_ref() {
            seen += bucket.count;
            let (bucket, zero) = self.narrowed(*bucket);
            let linear = self.has_custom_buckets() || zero;
            let rank_of = |value: f64| match linear && bucket.lower == f64::NEG_INFINITY {
                true => bucket.count, // Nothing can be said inside a bucket without a beginning.
                false => rank + bucket.count * bucket.fraction_below(value, linear),
            };
            for (value, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
                if found.is_none() && bucket.lower >= value {
                    *found = Some(rank);
                } else if found.is_none() && bucket.lower < value && bucket.upper > value {
                    *found = Some(rank_of(value));
                }
            }
            if lower_rank.is_some() && upper_rank.is_some() {
                break;
            }
            rank += bucket.count;
        }
        let mut nan = NanObservations::None;
        let mut count = self.count;
        if self.sum.is_nan() {
            count = seen + rest.map(|bucket| bucket.count).sum::<f64>();
            if count < self.count {
                nan = NanObservations::Skew;
            }
        }
        let capped = |rank: Option<f64>| rank.filter(|rank| *rank <= count).unwrap_or(count);
        Estimate {
            value: (capped(upper_rank) - capped(lower_rank)) / self.count,
            nan,
        }
    }

    /// Estimates the population variance, each bucket's observations standing at its middle.
    pub fn variance(&self) -> f64 {
        let mean = self.sum / self.count;
        let mut squares = FloatSum::default();
        for bucket in self.buckets().iter().filter(|bucket| bucket.count != 0.0) {
            let middle = if self.has_custom_buckets() {
                (bucket.upper + bucket.lower) / 2.0
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else {
                (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
            };
            let delta = middle - mean;
            squares.add(bucket.count * delta * delta);
        }
        (squares.sum + squares.lost) / self.count
    }
}
