//! What a series will be: exponential smoothing or drift, on the seasonally adjusted series when there are seasons.

use augurs_ets::AutoETS;
use augurs_mstl::TrendModel as _;

use super::Points;
use super::decompose::{regular, take_apart};
use super::settings::Settings;

/// The fewest points that a forecast is made from.
const POINTS_MIN: usize = 12;
/// The most points that exponential smoothing is fitted to: its search takes a few passes over each.
const ETS_POINTS_MAX: usize = 1_500;

/// How many seasons are held out at most to choose a way.
const ORIGINS: usize = 3;

/// A value to come, and between which bounds it lies with the wanted probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Forecast {
    pub(crate) point: f64,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
}

/// Forecasts the value `ahead` milliseconds after `end` from the points before `end`. `seasons` lets it look for them.
pub(crate) fn forecast(
    points: Points<'_>,
    end: i64,
    ahead: i64,
    level: f64,
    seasons: bool,
    settings: &Settings,
) -> Option<Forecast> {
    let points = points.between(end - settings.history, end);
    let values = regular(points, end, settings.resolution)?;
    let steps = usize::try_from((ahead.max(0) + settings.resolution - 1) / settings.resolution)
        .ok()?
        .max(1);
    let period = match seasons && settings.season % settings.resolution == 0 {
        true => usize::try_from(settings.season / settings.resolution).ok()?,
        false => 0,
    };
    let path = path(&values, period, steps, level)?;
    path.last().copied()
}

/// Forecasts the next `steps` values of a regular series; a period of zero, or one that does not fit twice, is none.
pub(crate) fn path(values: &[f64], period: usize, steps: usize, level: f64) -> Option<Vec<Forecast>> {
    if values.len() < POINTS_MIN || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    if period < 2 || values.len() < 2 * period {
        return smooth(values, steps, level);
    }
    let positive = values.iter().all(|value| *value > 0.0);
    let mut best = (
        f64::INFINITY,
        Way {
            log: false,
            drift: false,
        },
    );
    // The latest seasons are held out one after the other: the way that comes closest to them is taken for what is to come.
    let held_out = (values.len() / period).saturating_sub(2).min(ORIGINS);
    for way in Way::ALL
        .into_iter()
        .filter(|way| held_out > 0 && (positive || !way.log))
    {
        let errors = (1..=held_out).map(|back| {
            let (known, rest) = values.split_at(values.len() - back * period);
            let path = seasonal(known, period, rest.len(), level, way)?;
            let errors = path.iter().zip(rest).map(|(path, held)| (path.point - held).abs());
            Some(errors.sum::<f64>())
        });
        if let Some(error) = errors.sum::<Option<f64>>()
            && error < best.0
        {
            best = (error, way);
        }
    }
    seasonal(values, period, steps, level, best.1)
}

/// How a seasonal series is continued.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Seasons multiply.
    log: bool,
    /// What is left without the season goes on as it went on the whole; else it is smoothed.
    drift: bool,
}

impl Way {
    const ALL: [Way; 4] = [
        Way {
            log: false,
            drift: false,
        },
        Way {
            log: false,
            drift: true,
        },
        Way {
            log: true,
            drift: false,
        },
        Way { log: true, drift: true },
    ];
}

/// Adds the last season to what the rest becomes.
fn seasonal(values: &[f64], period: usize, steps: usize, level: f64, way: Way) -> Option<Vec<Forecast>> {
    let logged: Vec<f64>;
    let values = match way.log {
        true => {
            logged = values.iter().map(|value| value.ln()).collect();
            &logged
        }
        false => values,
    };
    let parts = take_apart(values, period, false)?;
    let adjusted: Vec<f64> = values
        .iter()
        .zip(&parts.seasonal)
        .map(|(value, season)| value - season)
        .collect();
    let rest = match way.drift {
        true => drift(&adjusted, steps, level),
        false => smooth(&adjusted, steps, level)?,
    };
    let last = &parts.seasonal[parts.seasonal.len() - period..];
    let back = |value: f64| if way.log { value.exp() } else { value };
    let path = rest
        .into_iter()
        .zip(last.iter().cycle())
        .map(|(rest, season)| Forecast {
            point: back(rest.point + season),
            lower: back(rest.lower + season),
            upper: back(rest.upper + season),
        });
    Some(path.collect())
}

/// A random walk that drifts as it did on the whole.
fn drift(values: &[f64], steps: usize, level: f64) -> Vec<Forecast> {
    let moves = (values.len() - 1) as f64;
    let (first, last) = (values[0], values[values.len() - 1]);
    let slope = (last - first) / moves;
    let squares = values.windows(2).map(|pair| (pair[1] - pair[0] - slope).powi(2));
    let sigma = (squares.sum::<f64>() / moves).sqrt();
    let z = normal_quantile(0.5 + level / 2.0);
    (1..=steps)
        .map(|step| {
            let step = step as f64;
            let half = z * sigma * (step * (1.0 + step / moves)).sqrt();
            let point = last + slope * step;
            Forecast {
                point,
                lower: point - half,
                upper: point + half,
            }
        })
        .collect()
}

/// The quantile of the normal distribution, by bisection of its series (Abramowitz and Stegun 26.2.17): 1e-6 is enough here.
fn normal_quantile(part: f64) -> f64 {
    let (mut low, mut high) = (-8.0_f64, 8.0_f64);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if normal(middle) < part {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

fn normal(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let series = [
        0.319_381_53,
        -0.356_563_782,
        1.781_477_937,
        -1.821_255_978,
        1.330_274_429,
    ];
    let sum = series.iter().rev().fold(0.0, |sum, factor| t * (factor + sum));
    let above = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum;
    if x >= 0.0 { 1.0 - above } else { above }
}

/// Exponential smoothing with error and trend chosen by the corrected information criterion.
fn smooth(values: &[f64], steps: usize, level: f64) -> Option<Vec<Forecast>> {
    let values = &values[values.len().saturating_sub(ETS_POINTS_MAX)..];
    let first = values[0];
    if values.iter().all(|value| *value == first) {
        let flat = Forecast {
            point: first,
            lower: first,
            upper: first,
        };
        return Some(vec![flat; steps]);
    }
    let fitted = AutoETS::new(1, "ZZN").ok()?.into_trend_model().fit(values).ok()?;
    let predicted = fitted.predict(steps, Some(level)).ok()?;
    let intervals = predicted.intervals?;
    let bounds = intervals.lower.iter().zip(&intervals.upper);
    let path = predicted
        .point
        .iter()
        .zip(bounds)
        .map(|(point, (lower, upper))| Forecast {
            point: *point,
            lower: *lower,
            upper: *upper,
        });
    let path: Vec<Forecast> = path.collect();
    path.iter().all(|step| step.point.is_finite()).then_some(path)
}

/// How strong the seasons of a regular series are, 0 to 1 (Wang, Smith and Hyndman 2006).
#[cfg(test)]
pub(crate) fn seasonal_strength(values: &[f64], period: usize) -> Option<f64> {
    let fit = augurs_mstl::stlrs::params().fit(values, period).ok()?;
    Some(fit.seasonal_strength())
}
