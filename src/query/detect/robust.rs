//! Medians and deviations that a few wild points cannot move.

/// The standard deviation of normal noise whose median absolute deviation is 1.
pub(super) const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;

/// Returns the median; the mean of the middle two when there is an even number. NaN when there is none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    let count = values.len();
    if count == 0 {
        return f64::NAN;
    }
    let (below, middle, _) = values.select_nth_unstable_by(count / 2, f64::total_cmp);
    if count % 2 == 1 {
        return *middle;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    f64::midpoint(lower, *middle)
}

/// Returns the quantile, interpolated between the nearest two (type 7).
pub(super) fn quantile(values: &mut [f64], part: f64) -> f64 {
    let count = values.len();
    if count == 0 {
        return f64::NAN;
    }
    let rank = part.clamp(0.0, 1.0) * (count - 1) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank below the count"
    )]
    let at = rank.floor() as usize;
    let (_, low, above) = values.select_nth_unstable_by(at, f64::total_cmp);
    let low = *low;
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    if high.is_finite() {
        low + (high - low) * (rank - at as f64)
    } else {
        low
    }
}

/// Returns the median of the distances from `center`, as a standard deviation.
pub(super) fn deviation(values: &mut [f64], center: f64) -> f64 {
    values.iter_mut().for_each(|value| *value = (*value - center).abs());
    MAD_TO_SIGMA * median(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles_are_those_of_the_textbook() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(quantile(&mut [1.0, 2.0, 3.0, 4.0], 0.25), 1.75);
        assert_eq!(quantile(&mut [1.0, 2.0, 3.0, 4.0], 1.0), 4.0);
        assert!((deviation(&mut [1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0], 2.0) - MAD_TO_SIGMA).abs() < 1e-12);
        assert!(median(&mut []).is_nan());
    }
}
