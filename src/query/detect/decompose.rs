//! Seasonal and trend decomposition by LOESS (Cleveland 1990), and the detector that rests on it.

use augurs_mstl::stlrs::{self, MstlParams};

use super::Points;
use super::calendar::Calendar;
use super::robust::{MAD_TO_SIGMA, median};
use super::seasonal::{Profile, has_seasons};
use super::settings::Settings;

/// A part of a decomposed series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Trend,
    Seasonal,
    Remainder,
}

/// A series taken apart: each column as long as the series.
pub(crate) struct Parts {
    pub(crate) trend: Vec<f64>,
    pub(crate) seasonal: Vec<f64>,
    pub(crate) remainder: Vec<f64>,
}

/// Takes a regular series apart; `None` when it is shorter than two periods.
pub(crate) fn take_apart(values: &[f64], period: usize, robust: bool) -> Option<Parts> {
    with(stlrs::params().robust(robust), values, period)
}

pub(super) fn with(params: &stlrs::StlParams, values: &[f64], period: usize) -> Option<Parts> {
    let fit = params.fit(values, period).ok()?;
    Some(Parts {
        trend: fit.trend().to_vec(),
        seasonal: fit.seasonal().to_vec(),
        remainder: fit.remainder().to_vec(),
    })
}

/// Puts points onto every step of the resolution up to `end`, which is left out; short gaps are drawn straight. Returns what
/// remains when the gap at the beginning is cut off; `None` when more than half is missing.
pub(super) fn regular(points: Points<'_>, end: i64, resolution: i64) -> Option<Vec<f64>> {
    let first = *points.times.first()?;
    let count = usize::try_from((end - first + resolution - 1) / resolution).ok()?;
    if points.len() * 2 < count {
        return None;
    }
    let mut values = Vec::with_capacity(count);
    let mut next = 0;
    for step in 0..count {
        let at = first + resolution * i64::try_from(step).ok()?;
        while next + 1 < points.len() && points.times[next + 1] <= at {
            next += 1;
        }
        let (left, value) = (points.times[next], points.values[next]);
        values.push(match (points.times.get(next + 1), points.values.get(next + 1)) {
            (Some(right), Some(after)) if at > left => {
                value + (after - value) * (at - left) as f64 / (right - left) as f64
            }
            _ => value,
        });
    }
    Some(values)
}

/// Takes the points before `end` apart and returns the part at the last of them.
pub(crate) fn decompose(points: Points<'_>, end: i64, part: Part, settings: &Settings) -> Option<f64> {
    let period = usize::try_from(settings.season / settings.resolution).ok()?;
    let points = points.between(end - settings.history, end);
    let values = regular(points, end, settings.resolution)?;
    if values.len() < 2 * period {
        return None;
    }
    let parts = take_apart(&values, period, true)?;
    let column = match part {
        Part::Trend => parts.trend,
        Part::Seasonal => parts.seasonal,
        Part::Remainder => parts.remainder,
    };
    column.last().copied()
}

/// Draws a profile by decomposition: of a day and a week when the season is a week.
pub(super) fn profile(points: Points<'_>, anchor: i64, settings: &Settings, calendar: &Calendar) -> Option<Profile> {
    if !has_seasons(points, anchor, settings) {
        return None;
    }
    let values = regular(points, anchor, settings.resolution)?;
    let period = calendar.slots();
    let periods: Vec<usize> = match period.is_multiple_of(7) && period / 7 >= 4 && settings.season == 7 * 86_400_000 {
        true => vec![period / 7, period],
        false => vec![period],
    };
    let mut params = MstlParams::new();
    params.stl_params(stlrs::params().robust(true).clone());
    let fit = params.fit(&values, &periods).ok()?;
    let level = *fit.trend().last()?;
    let mut center = vec![f64::NAN; period];
    let first = anchor - settings.resolution * i64::try_from(values.len()).ok()?;
    for back in 1..=period.min(values.len()) {
        let index = values.len() - back;
        let at = first + settings.resolution * i64::try_from(index).ok()?;
        let seasonal: f64 = fit.seasonal().iter().map(|season| season[index]).sum();
        center[calendar.slot(at)] = level + seasonal;
    }
    let mut distances: Vec<f64> = fit.remainder().iter().map(|value| value.abs()).collect();
    let spread = MAD_TO_SIGMA * median(&mut distances);
    Some(Profile {
        spread: vec![spread; period],
        center,
        proportional: false,
    })
}
