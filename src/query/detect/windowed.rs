//! Models of a stationary series: what the latest history says without regard to the time of day.

use super::robust::{deviation, median, quantile};
use super::settings::{Model, Settings};
use super::{Band, Points};

/// The fewest points that tell anything.
const POINTS_MIN: usize = 30;
/// How often points beyond the band are taken out.
const ROUNDS: usize = 3;
/// The narrowest deviation, as a part of the center.
const SPREAD_MIN: f64 = 0.005;
/// The distance of the quartiles of normal noise with deviation 1.
const IQR_TO_SIGMA: f64 = 0.741_301_1;

/// Judges a value by the points before it; `None` while there are too few, or they span less than half the history.
pub(super) fn band(points: Points<'_>, value: f64, settings: &Settings) -> Option<Band> {
    let (first, last) = (points.times.first()?, points.times.last()?);
    if points.len() < POINTS_MIN || 2 * (last - first) < settings.history - settings.resolution {
        return None;
    }
    let mut kept = points.values.to_vec();
    let (mut center, mut half) = measure(&mut kept, settings);
    for _ in 0..ROUNDS {
        let before = kept.len();
        kept.retain(|value| (value - center).abs() <= half);
        if kept.len() == before || 2 * kept.len() < points.len() {
            break;
        }
        (center, half) = measure(&mut kept, settings);
    }
    Some(Band::around(value, center, half, settings))
}

/// Returns the center, and how far from it is still usual.
fn measure(values: &mut [f64], settings: &Settings) -> (f64, f64) {
    let (center, spread) = match settings.model {
        Model::Zscore => {
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
            (mean, variance.sqrt())
        }
        Model::Iqr => {
            let (low, high) = (quantile(values, 0.25), quantile(values, 0.75));
            (median(values), (high - low) * IQR_TO_SIGMA)
        }
        _ => {
            let center = median(values);
            (center, deviation(&mut values.to_vec(), center))
        }
    };
    (
        center,
        settings.sensitivity * spread.max(SPREAD_MIN * center.abs()).max(1e-9),
    )
}
