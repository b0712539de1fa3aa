//! Quantiles of plain values and of classic histograms.

use super::notes::Monotonicity;

/// Returns the quantile `q` of `values`, which are sorted on the way (NaN first); between two values it is weighted.
pub(super) fn of_values(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    });
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor();
    let upper = (lower + 1.0).min((values.len() - 1) as f64);
    let weight = rank - lower;
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// A bucket of a classic histogram: how many observations are at or below `upper`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClassicBucket {
    pub(super) upper: f64,
    pub(super) count: f64,
}

/// Differences between neighbouring buckets below this part of their sum are rounding errors.
const SMALL_DIFFERENCE: f64 = 1e-12;

/// Sorts buckets and joins those with the same bound; `None` when the last bound is not infinite.
fn prepare(buckets: &mut Vec<ClassicBucket>) -> Option<()> {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last()?.upper != f64::INFINITY {
        return None;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
    Some(())
}

/// Estimates the quantile `q`, observations being evenly spread inside a bucket. `forced` is told when counts had to be made to
/// rise.
pub(super) fn of_classic(q: f64, buckets: &mut Vec<ClassicBucket>, mut forced: impl FnMut(Monotonicity)) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if prepare(buckets).is_none() {
        return f64::NAN;
    }
    if let Some(found) = force_rising(buckets) {
        forced(found);
    }
    let [below @ .., highest] = &buckets[..] else {
        return f64::NAN;
    };
    let Some(second_highest) = below.last().filter(|_| highest.count != 0.0) else {
        return f64::NAN;
    };
    let mut rank = q * highest.count;
    // Not a binary search by `<`: a NaN count must stop it as it stops Prometheus's.
    let at = below.partition_point(|bucket| !(bucket.count >= rank));
    if at == below.len() {
        return second_highest.upper;
    }
    let bucket = below[at];
    if at == 0 && bucket.upper <= 0.0 {
        return bucket.upper;
    }
    let (mut start, mut count) = (0.0, bucket.count);
    if at > 0 {
        start = below[at - 1].upper;
        count -= below[at - 1].count;
        rank -= below[at - 1].count;
    }
    start + (bucket.upper - start) * (rank / count)
}

/// Makes counts rise, tiny differences silently.
fn force_rising(buckets: &mut [ClassicBucket]) -> Option<Monotonicity> {
    let mut found: Option<Monotonicity> = None;
    let mut before = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == before {
            continue;
        }
        if almost_equal(before, count) {
            bucket.count = before;
        } else if count < before {
            bucket.count = before;
            let found = found.get_or_insert(Monotonicity {
                first: 0,
                last: 0,
                bucket_min: f64::INFINITY,
                bucket_max: f64::NEG_INFINITY,
                difference_max: 0.0,
                samples: 1,
            });
            found.bucket_min = found.bucket_min.min(bucket.upper);
            found.bucket_max = found.bucket_max.max(bucket.upper);
            found.difference_max = found.difference_max.max(before - count);
        } else {
            before = count;
        }
    }
    found
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() {
        return true;
    }
    let size = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || size < f64::MIN_POSITIVE {
        return difference < SMALL_DIFFERENCE * f64::MIN_POSITIVE;
    }
    difference / size.min(f64::MAX) < SMALL_DIFFERENCE
}

/// Estimates which part of the observations lies between the bounds.
pub(super) fn classic_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if prepare(buckets).is_none() {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank_of = |value: f64| {
        let mut rank = 0.0;
        let mut start = if buckets[0].upper > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        for bucket in buckets.iter() {
            if start >= value {
                return rank;
            }
            if bucket.upper > value {
                return match start == f64::NEG_INFINITY {
                    true => bucket.count,
                    false => rank + (bucket.count - rank) * (value - start) / (bucket.upper - start),
                };
            }
            rank = bucket.count;
            start = bucket.upper;
        }
        count
    };
    let capped = |rank: f64| if rank > count { count } else { rank };
    (capped(rank_of(upper)) - capped(rank_of(lower))) / count
}
