//! The default model: what is usual at this time of day or week, and how far from it is still usual.
//!
//! A profile holds for each slot of the season the median over the past seasons and their deviation. Series that are never
//! negative move in proportion (a busier week is busier at all hours), others by a shift; the level of today is measured over
//! the latest day. What strayed beyond the band once is left out and the profile drawn again: an incident is not learned,
//! neither into the profile nor into the level, unless it becomes the majority.

use super::calendar::Calendar;
use super::robust::{MAD_TO_SIGMA, median, quantile};
use super::settings::Settings;
use super::{Band, Points};

/// How many slots to each side are usual for a slot, too.
const CENTER_REACH: usize = 2;
/// How many slots to each side tell of the deviation in a slot.
const SPREAD_REACH: usize = 6;
/// Of noise without wild points, the deviation below which 95 of 100 are.
const NORMAL_95: f64 = 1.959_964;
const NORMAL_90: f64 = 1.644_854;
/// The narrowest deviation, as a part of what is expected: measured values are no better.
const SPREAD_MIN: f64 = 0.01;
/// How much more a deviation from a few dozen points must be taken for, so that a band of three really holds.
const SMALL_SAMPLE: f64 = 1.1;
/// The fewest points of the latest day that tell today's level.
const LEVEL_POINTS_MIN: usize = 12;

/// What is usual in each slot of a season.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Profile {
    pub(super) center: Vec<f64>,
    pub(super) spread: Vec<f64>,
    /// Whether levels are factors; else they are shifts.
    pub(super) proportional: bool,
}

impl Profile {
    /// Draws the profile of the seasons before `anchor`; `None` while there are not two of them, or too few points.
    pub(super) fn draw(points: Points<'_>, anchor: i64, settings: &Settings, calendar: &Calendar) -> Option<Profile> {
        if !has_seasons(points, anchor, settings) {
            return None;
        }
        let slots = calendar.slots();
        let mut pool = Pool::new(points, slots, calendar);
        let proportional = is_proportional(points.values);
        let rough = pool.centers(CENTER_REACH);
        pool.level_seasons(&rough, anchor, settings.season, proportional);
        let center = pool.centers(CENTER_REACH);
        let usual = pool.usual_spread(&center, proportional);
        let excluded = pool.exclude(&center, &usual, settings.sensitivity);
        let center = if excluded { pool.centers(CENTER_REACH) } else { center };
        let spread = pool.spreads(&center);
        Some(Profile {
            center,
            spread,
            proportional,
        })
    }

    /// Judges a value by the slot's profile at the level of the latest points.
    pub(super) fn judge(&self, level: f64, slot: usize, settings: &Settings) -> Option<(f64, f64)> {
        let (center, spread) = (self.center[slot], self.spread[slot]);
        if center.is_nan() {
            return None;
        }
        let (expected, spread) = match self.proportional {
            true => (center * level, spread * level),
            false => (center + level, spread),
        };
        Some((expected, settings.sensitivity * spread.max(floor(expected))))
    }

    /// Measures the level of the latest points: how they stand to the profile, those beyond the band left out.
    pub(super) fn level(&self, points: Points<'_>, settings: &Settings, calendar: &Calendar) -> f64 {
        let neutral = if self.proportional { 1.0 } else { 0.0 };
        let mut levels: Vec<(f64, f64, f64)> = Vec::with_capacity(points.len());
        for (at, value) in points.iter() {
            let slot = calendar.slot(at);
            let (center, spread) = (self.center[slot], self.spread[slot]);
            if center.is_nan() || (self.proportional && center <= 0.0) {
                continue;
            }
            match self.proportional {
                true => levels.push((value / center, spread / center, 1.0)),
                false => levels.push((value - center, spread, 0.0)),
            }
        }
        if levels.len() < LEVEL_POINTS_MIN {
            return neutral;
        }
        let mut all: Vec<f64> = levels.iter().map(|(level, ..)| *level).collect();
        let first = median(&mut all);
        // Most of the latest day gives the level; what strays from that is an incident, not a level.
        let scale = if self.proportional { first.max(0.0) } else { 1.0 };
        let mut kept: Vec<f64> = levels
            .iter()
            .filter(|(level, spread, floor)| {
                let band = settings.sensitivity * spread.max(SPREAD_MIN * floor) * scale;
                (level - first).abs() <= band.max(f64::MIN_POSITIVE)
            })
            .map(|(level, ..)| *level)
            .collect();
        let level = if kept.is_empty() { first } else { median(&mut kept) };
        if self.proportional { level.max(0.0) } else { level }
    }
}

fn floor(expected: f64) -> f64 {
    (SPREAD_MIN * expected.abs()).max(1e-9)
}

/// Two whole seasons, but for the time between two drawings of the profile; half of their points at least.
pub(super) fn has_seasons(points: Points<'_>, anchor: i64, settings: &Settings) -> bool {
    let tolerance = settings.season / 14;
    let Some(first) = points.times.first() else {
        return false;
    };
    let wanted = usize::try_from(settings.season / settings.resolution).unwrap_or(usize::MAX);
    anchor - first >= 2 * settings.season - tolerance && points.len() >= wanted
}

/// Counts, rates, sizes and durations: nothing below zero, and not only zeros.
pub(super) fn is_proportional(values: &[f64]) -> bool {
    values.iter().all(|value| *value >= 0.0) && values.iter().any(|value| *value > 0.0)
}

/// The points of the history, by slot.
struct Pool {
    /// Where each slot's points begin; one more at the end.
    starts: Vec<usize>,
    /// Times of the points, in the order of their slots.
    times: Vec<i64>,
    /// Values, leveled; NaN once left out.
    values: Vec<f64>,
    scratch: Vec<f64>,
}

impl Pool {
    fn new(points: Points<'_>, slots: usize, calendar: &Calendar) -> Pool {
        let places: Vec<usize> = points
            .times
            .iter()
            .map(|at| {
                if calendar.is_holiday(*at) {
                    usize::MAX
                } else {
                    calendar.slot(*at)
                }
            })
            .collect();
        let mut starts = vec![0; slots + 1];
        for place in places.iter().filter(|place| **place < slots) {
            starts[place + 1] += 1;
        }
        for slot in 0..slots {
            starts[slot + 1] += starts[slot];
        }
        let mut next = starts.clone();
        let mut times = vec![0; starts[slots]];
        let mut values = vec![0.0; starts[slots]];
        for ((at, value), place) in points.iter().zip(&places).filter(|(_, place)| **place < slots) {
            times[next[*place]] = at;
            values[next[*place]] = value;
            next[*place] += 1;
        }
        Pool {
            starts,
            times,
            values,
            scratch: Vec::new(),
        }
    }

    fn slots(&self) -> usize {
        self.starts.len() - 1
    }

    /// Gathers `of(slot, value)` of all points that are not left out, from `reach` slots on both sides.
    fn gather(&mut self, slot: usize, reach: usize, of: impl Fn(usize, f64) -> f64) {
        self.scratch.clear();
        let slots = self.slots();
        let reach = reach.min((slots - 1) / 2);
        for step in 0..=2 * reach {
            let near = (slot + slots + step - reach) % slots;
            let values = &self.values[self.starts[near]..self.starts[near + 1]];
            self.scratch.extend(
                values
                    .iter()
                    .filter(|value| !value.is_nan())
                    .map(|value| of(near, *value)),
            );
        }
    }

    /// Returns the median of each slot and its neighbours; a slot without points takes from further away.
    fn centers(&mut self, reach: usize) -> Vec<f64> {
        (0..self.slots())
            .map(|slot| {
                self.gather(slot, reach, |_, value| value);
                if self.scratch.is_empty() {
                    self.gather(slot, 2 * SPREAD_REACH, |_, value| value);
                }
                median(&mut self.scratch)
            })
            .collect()
    }

    /// Brings all seasons to one level, so that growth from week to week does not count as deviation.
    fn level_seasons(&mut self, rough: &[f64], anchor: i64, season: i64, proportional: bool) {
        let seasons_ago = |at: i64| usize::try_from((anchor - 1 - at).div_euclid(season)).unwrap_or(0);
        let mut by_season: Vec<Vec<f64>> = Vec::new();
        for slot in 0..self.slots() {
            let center = rough[slot];
            if center.is_nan() || (proportional && center <= 0.0) {
                continue;
            }
            for index in self.starts[slot]..self.starts[slot + 1] {
                let ago = seasons_ago(self.times[index]);
                if by_season.len() <= ago {
                    by_season.resize_with(ago + 1, Vec::new);
                }
                let value = self.values[index];
                by_season[ago].push(if proportional { value / center } else { value - center });
            }
        }
        let levels: Vec<f64> = by_season.iter_mut().map(|levels| median(levels)).collect();
        for (value, at) in self.values.iter_mut().zip(&self.times) {
            match levels.get(seasons_ago(*at)) {
                Some(level) if proportional && *level > 0.0 => *value /= level,
                Some(level) if !proportional && level.is_finite() => *value -= level,
                _ => {}
            }
        }
    }

    /// Returns a deviation for each slot that no incident can have widened: the slot's own median deviation, but no less than
    /// what nine in ten of all points keep.
    fn usual_spread(&mut self, center: &[f64], proportional: bool) -> Vec<f64> {
        let present: Vec<f64> = center.iter().copied().filter(|center| !center.is_nan()).collect();
        let mean = present.iter().sum::<f64>() / present.len().max(1) as f64;
        // Of what is small at night, a larger part is noise.
        let size = |center: f64| if proportional { center + 0.05 * mean } else { 1.0 };
        let mut relative: Vec<f64> = Vec::with_capacity(self.values.len());
        for slot in 0..self.slots() {
            let values = &self.values[self.starts[slot]..self.starts[slot + 1]];
            let place = center[slot];
            relative.extend(values.iter().map(|value| (value - place).abs() / size(place)));
        }
        relative.retain(|value| value.is_finite());
        let common = quantile(&mut relative, 0.9) / NORMAL_90;
        let common = if common.is_finite() { common } else { 0.0 };
        (0..self.slots())
            .map(|slot| {
                self.gather(slot, SPREAD_REACH, |near, value| (value - center[near]).abs());
                let own = MAD_TO_SIGMA * median(&mut self.scratch);
                own.max(common * size(center[slot])).max(floor(center[slot]))
            })
            .collect()
    }

    /// Leaves out the points beyond the band; says whether there were any. A slot keeps at least half of its points.
    fn exclude(&mut self, center: &[f64], spread: &[f64], sensitivity: f64) -> bool {
        let mut any = false;
        for slot in 0..self.slots() {
            let band = sensitivity * spread[slot];
            let values = &mut self.values[self.starts[slot]..self.starts[slot + 1]];
            let beyond = values
                .iter()
                .filter(|value| (**value - center[slot]).abs() > band)
                .count();
            if beyond == 0 || 2 * beyond > values.len() {
                continue;
            }
            for value in values.iter_mut().filter(|value| (**value - center[slot]).abs() > band) {
                *value = f64::NAN;
            }
            any = true;
        }
        any
    }

    /// Returns the deviation in each slot: of noise with heavy tails, what 95 of 100 points keep.
    fn spreads(&mut self, center: &[f64]) -> Vec<f64> {
        (0..self.slots())
            .map(|slot| {
                self.gather(slot, SPREAD_REACH, |near, value| (value - center[near]).abs());
                if self.scratch.is_empty() {
                    return f64::NAN;
                }
                let tail = quantile(&mut self.scratch, 0.95) / NORMAL_95;
                let usual = MAD_TO_SIGMA * median(&mut self.scratch);
                SMALL_SAMPLE * usual.max(tail)
            })
            .collect()
    }
}

/// Judges a value: the seasonal models share this.
pub(super) fn band(
    profile: &Profile,
    recent: Points<'_>,
    at: i64,
    value: f64,
    settings: &Settings,
    calendar: &Calendar,
) -> Option<Band> {
    let level = profile.level(recent, settings, calendar);
    let (expected, half) = profile.judge(level, calendar.slot(at), settings)?;
    Some(Band::around(value, expected, half, settings))
}
