//! When a series changed its level: pruned exact linear time (PELT), with a penalty by Schwarz's criterion.

use super::robust::{MAD_TO_SIGMA, median};

/// More values than this are averaged in groups first: the search takes their square at worst.
const VALUES_MAX: usize = 2000;
/// The shortest stretch between two changes, in values.
const SEGMENT_MIN: usize = 3;

/// Returns the index of the first value after the last change of level; `None` when there is none.
pub(crate) fn last_change(values: &[f64]) -> Option<usize> {
    let group = values.len().div_ceil(VALUES_MAX).max(1);
    let means: Vec<f64> = values
        .chunks(group)
        .map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64)
        .collect();
    if means.len() < 2 * SEGMENT_MIN || means.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let changes = changes(&means);
    changes.last().map(|change| change * group)
}

/// Returns where levels begin, but for the first, which minimize squares plus a penalty for each change.
fn changes(values: &[f64]) -> Vec<usize> {
    let count = values.len();
    let mean = values.iter().sum::<f64>() / count as f64;
    let mut sums = vec![(0.0, 0.0); count + 1];
    for (at, value) in values.iter().enumerate() {
        let value = value - mean;
        sums[at + 1] = (sums[at].0 + value, sums[at].1 + value * value);
    }
    let cost = |from: usize, to: usize| {
        let (sum, squares) = (sums[to].0 - sums[from].0, sums[to].1 - sums[from].1);
        (squares - sum * sum / (to - from) as f64).max(0.0)
    };
    let penalty = 3.0 * noise(values) * (count as f64).ln();
    if penalty <= 0.0 && cost(0, count) <= 0.0 {
        return Vec::new();
    }
    let mut best = vec![f64::INFINITY; count + 1];
    let mut before = vec![0; count + 1];
    best[0] = -penalty;
    let mut candidates = vec![0];
    for to in SEGMENT_MIN..=count {
        let total = |from: usize| best[from] + cost(from, to) + penalty;
        let chosen = candidates
            .iter()
            .copied()
            .min_by(|a, b| total(*a).total_cmp(&total(*b)));
        let Some(chosen) = chosen else { continue };
        (best[to], before[to]) = (total(chosen), chosen);
        let limit = best[to];
        candidates.retain(|from| best[*from] + cost(*from, to) <= limit);
        if to + 1 >= 2 * SEGMENT_MIN {
            candidates.push(to + 1 - SEGMENT_MIN);
        }
    }
    let mut found = Vec::new();
    let mut at = count;
    while before[at] > 0 {
        at = before[at];
        found.push(at);
    }
    found.reverse();
    found
}

/// Returns the variance of the noise, by the differences of neighbours, which a change of level hardly moves.
fn noise(values: &[f64]) -> f64 {
    let mut steps: Vec<f64> = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    let sigma = MAD_TO_SIGMA * median(&mut steps) / std::f64::consts::SQRT_2;
    let mean = values.iter().map(|value| value.abs()).sum::<f64>() / values.len() as f64;
    sigma.max(1e-6 * mean).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The yearly flow of the Nile at Aswan, 1871 to 1970: the level fell in 1898/99 (Cobb 1978; R's `changepoint` and
    /// `strucchange` find the first 28 years).
    const NILE: [f64; 100] = [
        1120.0, 1160.0, 963.0, 1210.0, 1160.0, 1160.0, 813.0, 1230.0, 1370.0, 1140.0, 995.0, 935.0, 1110.0, 994.0,
        1020.0, 960.0, 1180.0, 799.0, 958.0, 1140.0, 1100.0, 1210.0, 1150.0, 1250.0, 1260.0, 1220.0, 1030.0, 1100.0,
        774.0, 840.0, 874.0, 694.0, 940.0, 833.0, 701.0, 916.0, 692.0, 1020.0, 1050.0, 969.0, 831.0, 726.0, 456.0,
        824.0, 702.0, 1120.0, 1100.0, 832.0, 764.0, 821.0, 768.0, 845.0, 864.0, 862.0, 698.0, 845.0, 744.0, 796.0,
        1040.0, 759.0, 781.0, 865.0, 845.0, 944.0, 984.0, 897.0, 822.0, 1010.0, 771.0, 676.0, 649.0, 846.0, 812.0,
        742.0, 801.0, 1040.0, 860.0, 874.0, 848.0, 890.0, 744.0, 749.0, 838.0, 1050.0, 918.0, 986.0, 797.0, 923.0,
        975.0, 815.0, 1020.0, 906.0, 901.0, 1170.0, 912.0, 746.0, 919.0, 718.0, 714.0, 740.0,
    ];

    #[test]
    fn the_nile_changed_after_1898() {
        assert_eq!(last_change(&NILE), Some(28));
    }

    #[test]
    fn a_level_has_no_change_and_a_step_has_one() {
        assert_eq!(last_change(&[5.0; 50]), None);
        let noisy: Vec<f64> = (0..200).map(|i| f64::from((i * 7919) % 13)).collect();
        assert_eq!(last_change(&noisy), None);
        let mut step = noisy;
        step[120..].iter_mut().for_each(|value| *value += 40.0);
        assert_eq!(last_change(&step), Some(120));
        assert_eq!(last_change(&[1.0, 2.0]), None);
    }

    #[test]
    fn many_values_are_searched_in_groups() {
        let mut values: Vec<f64> = (0..10_000).map(|i| f64::from((i * 7919) % 13)).collect();
        values[6_000..].iter_mut().for_each(|value| *value += 10.0);
        assert_eq!(last_change(&values), Some(6_000));
    }
}
