//! A detector for series without seasons: it goes forward only, and asks whether a value lies unusually far from the latest
//! few hundred.
//!
//! Each value's distance from the median of the latest window is measured in deviations of that window. It is compared with
//! all distances before: a distance that is usual for this series is no anomaly, however large. What lies outside everything
//! ever seen counts more. The numbers are one setting for all files of the Numenta Anomaly Benchmark (`nab`).

use super::Band;
use super::robust::{deviation, median};
use super::settings::Settings;

/// How many values the median is taken of.
const WINDOW: usize = 200;
/// The fewest distances before a judgement.
const DISTANCES_MIN: u32 = 60;
/// The weight of a new distance among all: about the last twenty thousand count.
const MEMORY: f64 = 1.0 / 20_000.0;
/// A distance counts no more than this, so that one wild value does not rule what is usual.
const DISTANCE_MAX: f64 = 200.0;
/// The narrowest deviation, as a part of the median and of the whole range seen.
const SPREAD_MIN: f64 = 0.05;
/// What a value outside the range seen adds, in deviations of the distance; the more, the further outside.
const OUTSIDE: f64 = 8.0;
const FURTHER: f64 = 10.0;
/// How many deviations of the distance make one of the sensitivity.
const DEVIATIONS: f64 = 3.4;

/// What the detector remembers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stream {
    window: Vec<f64>,
    next: usize,
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
            count: 0,
            mean: 0.0,
            variance: 0.0,
            lowest: f64::INFINITY,
            highest: f64::NEG_INFINITY,
        }
    }
}

/// A value against the window.
struct Measured {
    center: f64,
    spread: f64,
    distance: f64,
}

impl Stream {
    fn measure(&self, value: f64) -> Measured {
        let mut scratch = self.window.clone();
        let center = median(&mut scratch);
        let spread = deviation(&mut scratch, center);
        let range = self.highest - self.lowest;
        let spread = spread.max(SPREAD_MIN * center.abs()).max(SPREAD_MIN * range).max(1e-9);
        let distance = ((value - center).abs() / spread).min(DISTANCE_MAX);
        Measured {
            center,
            spread,
            distance,
        }
    }

    fn usual(&self) -> f64 {
        self.variance.sqrt().max(0.1)
    }

    /// Takes a value.
    pub(super) fn take(&mut self, value: f64) {
        if self.window.len() == WINDOW {
            let distance = self.measure(value).distance;
            self.count = self.count.saturating_add(1);
            let weight = MEMORY.max(1.0 / f64::from(self.count));
            let delta = distance - self.mean;
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

    /// Judges a value before it is taken.
    pub(super) fn judge(&self, value: f64, settings: &Settings) -> Option<Band> {
        if self.window.len() < WINDOW || self.count < DISTANCES_MIN {
            return None;
        }
        let Measured {
            center,
            spread,
            distance,
        } = self.measure(value);
        let mut unusual = ((distance - self.mean) / self.usual()).max(0.0);
        let range = (self.highest - self.lowest).max(1e-9);
        let outside = (value - self.highest).max(self.lowest - value) / range;
        if outside > 0.0 {
            unusual += OUTSIDE * (1.0 + FURTHER * outside.min(2.0));
        }
        let limit = DEVIATIONS * settings.sensitivity;
        let half = spread * (self.mean + limit * self.usual());
        Some(Band::scored(value, center, half, unusual / limit, settings))
    }
}
