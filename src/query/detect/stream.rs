//! A detector for series without seasons: it goes forward only, and asks whether the latest few values lie unusually far
//! from the latest few dozen.
//!
//! Each value's distance from the median of the latest window is measured in deviations of that window. The mean of the
//! latest distances is compared with all distances before: a distance that is usual for this series is no anomaly, however
//! large. A value outside everything ever seen is one in any case.

use super::Band;
use super::robust::{deviation, median};
use super::settings::Settings;

/// How many values the median is taken of.
const WINDOW: usize = 30;
/// How many distances are averaged.
const SHORT: usize = 10;
/// The fewest values before a judgement.
const POINTS_MIN: u32 = 60;
/// The weight of a new distance among all: about the last few thousand count.
const MEMORY: f64 = 1.0 / 4000.0;
/// A distance counts no more than this, so that one wild value does not rule what is usual.
const DISTANCE_MAX: f64 = 50.0;

/// What the detector remembers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stream {
    window: Vec<f64>,
    next: usize,
    distances: [f64; SHORT],
    count: u32,
    mean: f64,
    variance: f64,
    lowest: f64,
    highest: f64,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream {
            window: Vec::with_capacity(WINDOW),
            next: 0,
            distances: [0.0; SHORT],
            count: 0,
            mean: 0.0,
            variance: 0.0,
            lowest: f64::INFINITY,
            highest: f64::NEG_INFINITY,
        }
    }
}

impl Stream {
    /// Measures a value against the window: center, deviation, distance.
    fn measure(&self, value: f64) -> (f64, f64, f64) {
        let mut scratch = self.window.clone();
        let center = median(&mut scratch);
        let spread = deviation(&mut scratch, center);
        let range = self.highest - self.lowest;
        let spread = spread.max(0.01 * center.abs()).max(0.01 * range).max(1e-9);
        let distance = ((value - center).abs() / spread).min(DISTANCE_MAX);
        (center, spread, distance)
    }

    /// Takes a value.
    pub(super) fn take(&mut self, value: f64) {
        if self.window.len() == WINDOW {
            let (_, _, distance) = self.measure(value);
            let slot = self.count as usize % SHORT;
            self.distances[slot] = distance;
            self.count = self.count.saturating_add(1);
            let short = self.short(None);
            let weight = MEMORY.max(1.0 / f64::from(self.count));
            let delta = short - self.mean;
            self.mean += weight * delta;
            self.variance = (1.0 - weight) * (self.variance + weight * delta * delta);
            self.window[self.next] = value;
        } else {
            self.window.push(value);
        }
        self.next = (self.next + 1) % WINDOW;
        self.lowest = self.lowest.min(value);
        self.highest = self.highest.max(value);
    }

    /// Returns the mean of the latest distances; with `new` in place of the oldest.
    fn short(&self, new: Option<f64>) -> f64 {
        let held = (self.count as usize).min(SHORT);
        let Some(new) = new else {
            return self.distances[..held].iter().sum::<f64>() / held.max(1) as f64;
        };
        let replaced = if held == SHORT {
            self.distances[self.count as usize % SHORT]
        } else {
            0.0
        };
        let sum = self.distances[..held].iter().sum::<f64>() - replaced + new;
        sum / if held == SHORT { held } else { held + 1 } as f64
    }

    /// Judges a value before it is taken.
    pub(super) fn judge(&self, value: f64, settings: &Settings) -> Option<Band> {
        if self.window.len() < WINDOW || self.count < POINTS_MIN {
            return None;
        }
        let (center, spread, distance) = self.measure(value);
        let usual = self.variance.sqrt().max(0.1);
        let unusual = (self.short(Some(distance)) - self.mean) / usual;
        let range = (self.highest - self.lowest).max(1e-9);
        let outside = (value - self.highest).max(self.lowest - value) / range;
        let mut score = (unusual / settings.sensitivity).max(0.0);
        if outside > 0.0 {
            score = score.max(1.0 + outside.min(10.0)) + 0.5;
        }
        let half = settings.sensitivity * spread * (1.0 + self.mean);
        Some(Band::scored(value, center, half, score, settings))
    }
}
