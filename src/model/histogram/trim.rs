//! Cutting a histogram off at a value: `h </ x` and `h >/ x`.

use super::FloatHistogram;
use super::buckets::Bucket;

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those below the value.
    Below,
    /// Those above the value.
    Above,
}

/// What is left of a bucket, and where its observations are taken to be.
#[derive(Clone, Copy)]
struct Kept {
    count: f64,
    middle: f64,
}

impl FloatHistogram {
    /// Removes the observations on the other side of `at`. A bucket that holds `at` keeps an estimated part. Count and sum are
    /// computed anew from what is left, unless nothing was cut.
    pub fn trim(&mut self, at: f64, keep: Keep) {
        let linear = self.has_custom_buckets();
        let (mut count, mut sum) = (0.0, 0.0);
        let mut cut = false;
        let mut sides = [false, false];
        for (side, positive) in [true, false].into_iter().enumerate() {
            let buckets: Vec<Bucket> = if positive {
                self.positive().collect()
            } else {
                self.negative().collect()
            };
            let counts = if positive {
                &mut self.positive_buckets
            } else {
                &mut self.negative_buckets
            };
            for (bucket, slot) in buckets.iter().zip(counts) {
                if bucket.count == 0.0 {
                    continue;
                }
                sides[side] = true;
                let kept = keep_of(bucket, at, keep, positive, linear);
                count += kept.count;
                sum += kept.middle * kept.count;
                cut |= *slot != kept.count;
                *slot = kept.count;
            }
        }
        if self.zero_count > 0.0 {
            let [positive, negative] = sides;
            let kept = keep_of_zero(self.zero_bucket(), at, keep, positive, negative);
            cut |= self.zero_count != kept.count;
            self.zero_count = kept.count;
            sum += kept.middle * kept.count;
            count += kept.count;
        }
        if cut {
            self.count = count;
            self.sum = sum;
            self.compact();
        }
    }
}

fn keep_of(bucket: &Bucket, at: f64, keep: Keep, positive: bool, linear: bool) -> Kept {
    let whole = match keep {
        Keep::Below => bucket.upper <= at,
        Keep::Above => bucket.lower >= at,
    };
    let partly = match keep {
        Keep::Below => bucket.lower < at,
        Keep::Above => bucket.upper > at,
    };
    if whole {
        let middle = middle(bucket.lower, bucket.upper, positive, linear);
        return Kept {
            count: bucket.count,
            middle,
        };
    }
    if !partly {
        return Kept {
            count: 0.0,
            middle: 0.0,
        };
    }
    if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        return keep_of_endless(bucket, at, keep);
    }
    let below = if at <= bucket.lower {
        0.0
    } else if at >= bucket.upper {
        bucket.count
    } else {
        bucket.count * bucket.fraction_below(at, linear)
    };
    match keep {
        Keep::Below => Kept {
            count: below,
            middle: middle(bucket.lower, at, positive, linear),
        },
        Keep::Above => Kept {
            count: bucket.count - below,
            middle: middle(at, bucket.upper, positive, linear),
        },
    }
}

/// A bucket without an end that holds `at`: how its observations are spread is unknown, so that it goes as a whole, unless
/// zero can be taken as its lower end or all of it lies on the right side.
fn keep_of_endless(bucket: &Bucket, at: f64, keep: Keep) -> Kept {
    let whole = |middle| Kept {
        count: bucket.count,
        middle,
    };
    let nothing = |middle: f64| Kept {
        count: 0.0,
        middle: if middle.is_infinite() { 0.0 } else { middle },
    };
    if bucket.lower == f64::NEG_INFINITY {
        let from_zero = bucket.upper > 0.0 && bucket.upper != f64::INFINITY;
        return match keep {
            Keep::Below if at >= bucket.upper => whole(0.0),
            Keep::Below if at > 0.0 && from_zero => Kept {
                count: bucket.count * at / bucket.upper,
                middle: at / 2.0,
            },
            Keep::Below if bucket.upper <= 0.0 => whole(at),
            Keep::Above if at <= bucket.lower => whole(0.0),
            Keep::Above if at >= 0.0 && bucket.upper > at && from_zero => Kept {
                count: bucket.count * (1.0 - at / bucket.upper),
                middle: f64::midpoint(at, bucket.upper),
            },
            Keep::Below | Keep::Above => nothing(bucket.upper),
        };
    }
    match keep {
        Keep::Above if at >= bucket.lower => whole(at),
        Keep::Above | Keep::Below => nothing(bucket.lower),
    }
}

fn keep_of_zero(bucket: Bucket, at: f64, keep: Keep, positive: bool, negative: bool) -> Kept {
    let lower = if positive && !negative { 0.0 } else { bucket.lower };
    let upper = if negative && !positive { 0.0 } else { bucket.upper };
    let part = |from: f64, to: f64| Kept {
        count: bucket.count * ((to - from) / (upper - lower)),
        middle: f64::midpoint(from, to),
    };
    let whole = Kept {
        count: bucket.count,
        middle: f64::midpoint(lower, upper),
    };
    let nothing = Kept {
        count: 0.0,
        middle: 0.0,
    };
    match keep {
        Keep::Below if at <= lower => nothing,
        Keep::Below if at >= upper => whole,
        Keep::Below => part(lower, at),
        Keep::Above if at <= lower => whole,
        Keep::Above if at >= upper => nothing,
        Keep::Above => part(at, upper),
    }
}

fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if linear => f64::midpoint(lower, upper),
        (false, false) => (lower * upper).abs().sqrt().copysign(if positive { 1.0 } else { -1.0 }),
    }
}
