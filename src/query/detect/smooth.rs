//! Models that go forward point by point: an exponentially weighted mean, and triple exponential smoothing.

use super::calendar::Calendar;
use super::seasonal::has_seasons;
use super::settings::Settings;
use super::{Band, Points};

/// The weight of a new point in the weighted mean: about the last thirty points count.
const EWMA_WEIGHT: f64 = 2.0 / 31.0;
/// The fewest points before a judgement.
const EWMA_POINTS_MIN: u32 = 60;
/// So many points in a row beyond the band are no incident but a new level.
const NEW_LEVEL: u32 = 120;
/// The narrowest deviation, as a part of the level.
const SPREAD_MIN: f64 = 0.01;

/// An exponentially weighted mean and variance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ewma {
    mean: f64,
    variance: f64,
    count: u32,
    beyond: u32,
}

impl Ewma {
    /// Takes a point: one beyond the band is not learned, unless that goes on.
    pub(super) fn take(&mut self, value: f64, settings: &Settings) {
        if self.count >= EWMA_POINTS_MIN {
            let (mean, half) = self.band(settings);
            if (value - mean).abs() > half {
                self.beyond += 1;
                if self.beyond < NEW_LEVEL {
                    return;
                }
                *self = Ewma::default();
            } else {
                self.beyond = 0;
            }
        }
        self.count = self.count.saturating_add(1);
        // The first points weigh more, as in a plain mean.
        let weight = EWMA_WEIGHT.max(1.0 / f64::from(self.count));
        let delta = value - self.mean;
        self.mean += weight * delta;
        self.variance = (1.0 - weight) * (self.variance + weight * delta * delta);
    }

    fn band(&self, settings: &Settings) -> (f64, f64) {
        let spread = self.variance.sqrt().max(SPREAD_MIN * self.mean.abs()).max(1e-9);
        (self.mean, settings.sensitivity * spread)
    }

    pub(super) fn judge(&self, value: f64, settings: &Settings) -> Option<Band> {
        if self.count < EWMA_POINTS_MIN {
            return None;
        }
        let (mean, half) = self.band(settings);
        Some(Band::around(value, mean, half, settings))
    }
}

/// The three weights of triple exponential smoothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weights {
    pub(crate) level: f64,
    pub(crate) trend: f64,
    pub(crate) season: f64,
}

/// Triple exponential smoothing, additive: level, trend per point, and a value for each slot of the season.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HoltWinters {
    weights: Weights,
    level: f64,
    trend: f64,
    season: Vec<f64>,
    /// A weighted mean of the squared errors, one step ahead.
    variance: f64,
    /// When the last point came.
    at: i64,
    beyond: u32,
}

impl HoltWinters {
    /// The weights of the detector: levels follow within a few hours, seasons within a few weeks, and there is no trend.
    pub(super) const DETECTOR: Weights = Weights {
        level: 0.05,
        trend: 0.0,
        season: 0.25,
    };

    /// Begins with given states.
    pub(crate) fn new(weights: Weights, level: f64, trend: f64, season: Vec<f64>) -> HoltWinters {
        HoltWinters {
            weights,
            level,
            trend,
            season,
            variance: 0.0,
            at: i64::MIN,
            beyond: 0,
        }
    }

    /// Learns the history before `anchor`; `None` while it is too short.
    pub(super) fn learn(
        points: Points<'_>,
        anchor: i64,
        settings: &Settings,
        calendar: &Calendar,
    ) -> Option<HoltWinters> {
        if !has_seasons(points, anchor, settings) {
            return None;
        }
        let mut first: Vec<(f64, u32)> = vec![(0.0, 0); calendar.slots()];
        let end = points.times[0] + settings.season;
        let (mut sum, mut count) = (0.0, 0_u32);
        for (at, value) in points.iter().take_while(|(at, _)| *at < end) {
            let slot = &mut first[calendar.slot(at)];
            *slot = (slot.0 + value, slot.1 + 1);
            (sum, count) = (sum + value, count + 1);
        }
        let level = sum / f64::from(count.max(1));
        let season = first.into_iter().map(|(sum, count)| {
            if count == 0 {
                0.0
            } else {
                sum / f64::from(count) - level
            }
        });
        let mut model = HoltWinters::new(HoltWinters::DETECTOR, level, 0.0, season.collect());
        for (at, value) in points.iter().filter(|(at, _)| *at >= end) {
            model.take(at, value, settings, calendar);
        }
        Some(model)
    }

    /// Returns what is expected so many points ahead, in `slot`.
    pub(crate) fn expect(&self, ahead: f64, slot: usize) -> f64 {
        self.level + ahead * self.trend + self.season[slot]
    }

    /// Takes a point as the textbook has it; returns the error of the expectation.
    pub(crate) fn update(&mut self, slot: usize, value: f64) -> f64 {
        let error = value - self.expect(1.0, slot);
        let Weights { level, trend, season } = self.weights;
        self.level += self.trend + level * error;
        self.trend += level * trend * error;
        self.season[slot] += season * error;
        error
    }

    /// Takes a point of the detector: one beyond the band is not learned, unless that goes on.
    pub(super) fn take(&mut self, at: i64, value: f64, settings: &Settings, calendar: &Calendar) {
        let slot = calendar.slot(at);
        let error = value - self.expect(1.0, slot);
        let settled = self.variance > 0.0 && self.at != i64::MIN;
        self.at = at;
        if settled && error.abs() > self.half(settings) {
            self.beyond += 1;
            if self.beyond < NEW_LEVEL {
                // The squared error grows a little, so that a band that is far too narrow widens.
                self.variance *= 1.01;
                return;
            }
        }
        self.beyond = 0;
        let error = self.update(slot, value);
        let weight = if self.variance == 0.0 { 1.0 } else { 0.02 };
        self.variance = (1.0 - weight) * self.variance + weight * error * error;
    }

    fn half(&self, settings: &Settings) -> f64 {
        let spread = self.variance.sqrt().max(SPREAD_MIN * self.level.abs()).max(1e-9);
        settings.sensitivity * spread
    }

    pub(super) fn judge(&self, at: i64, value: f64, settings: &Settings, calendar: &Calendar) -> Band {
        let expected = self.expect(1.0, calendar.slot(at));
        Band::around(value, expected, self.half(settings), settings)
    }
}
