//! Detectors: what a series should be, how far from that it is, and what it will be.
//!
//! Pure functions of points: what is learned from a stretch of history ([`Fit`]) and how a value is judged by it ([`Band`]).
//! There is no hidden state: the same points give the same answer, live and years later. Only this module names `augurs`.

mod cache;
mod calendar;
mod call;
mod changepoint;
mod decompose;
mod forecast;
#[cfg(test)]
mod nab_tests;
#[cfg(test)]
mod quality;
mod robust;
mod seasonal;
mod settings;
mod smooth;
mod stream;
mod windowed;

pub use cache::Fits;
pub(crate) use cache::Fitted;
pub(crate) use calendar::Calendar;
pub(crate) use call::{check, forecast_settings};
pub(crate) use changepoint::last_change;
pub(crate) use decompose::{Part, decompose};
pub(crate) use forecast::forecast;
pub(crate) use settings::Settings;
use settings::{Direction, MinChange, Model};

use seasonal::Profile;
use smooth::{Ewma, HoltWinters};
use stream::Stream;

/// The highest score: beyond it, more does not say more.
const SCORE_MAX: f64 = 1000.0;
/// What a value outside the allowed range scores at least.
const SCORE_OUTSIDE: f64 = 2.0;

/// Points of one series: times rise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Points<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) values: &'a [f64],
}

impl<'a> Points<'a> {
    /// How many there are.
    pub(crate) fn len(self) -> usize {
        self.times.len()
    }

    fn iter(self) -> impl Iterator<Item = (i64, f64)> + 'a {
        self.times.iter().copied().zip(self.values.iter().copied())
    }

    /// Returns those from `from` on and before `to`.
    pub(crate) fn between(self, from: i64, to: i64) -> Points<'a> {
        let start = self.times.partition_point(|at| *at < from);
        let end = self.times.partition_point(|at| *at < to).max(start);
        Points {
            times: &self.times[start..end],
            values: &self.values[start..end],
        }
    }
}

/// What is expected of a value, and how far it is from that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Band {
    pub(crate) expected: f64,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    /// 0 as expected, 1 on the band, above 1 anomalous.
    pub(crate) score: f64,
}

impl Band {
    /// Scores a value by its distance from what is expected, in halves of the band.
    fn around(value: f64, expected: f64, half: f64, settings: &Settings) -> Band {
        let smallest = least_change(expected, settings);
        let half = half.max(smallest);
        let score = (value - expected).abs() / half.max(f64::MIN_POSITIVE);
        Band::scored(value, expected, half, score, settings)
    }

    /// Fits a score to direction, least change and range.
    fn scored(value: f64, expected: f64, half: f64, score: f64, settings: &Settings) -> Band {
        let (low, high) = settings.range;
        let change = value - expected;
        let wrong_way = match settings.direction {
            Direction::Below => change > 0.0,
            Direction::Above => change < 0.0,
            Direction::Both => false,
        };
        let small = change.abs() < least_change(expected, settings);
        let mut score = if wrong_way || small || change == 0.0 {
            0.0
        } else {
            score.min(SCORE_MAX)
        };
        if value < low || value > high {
            score = score.max(SCORE_OUTSIDE);
        }
        Band {
            expected,
            lower: (expected - half).clamp(low, high),
            upper: (expected + half).clamp(low, high),
            score,
        }
    }
}

fn least_change(expected: f64, settings: &Settings) -> f64 {
    match settings.min_change {
        MinChange::Absolute(least) => least,
        MinChange::Relative(part) => part * expected.abs(),
    }
}

/// What was learned up to an anchor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fit {
    Profile(Profile),
    Ewma(Ewma),
    HoltWinters(HoltWinters),
    Stream(Stream),
}

impl Fit {
    /// Learns the points before `anchor`; `None` while they are too few, or when the model learns nothing beforehand.
    pub(crate) fn learn(points: Points<'_>, anchor: i64, settings: &Settings, calendar: &Calendar) -> Option<Fit> {
        let points = points.between(anchor - settings.history, anchor);
        match settings.model {
            Model::Seasonal => Profile::draw(points, anchor, settings, calendar).map(Fit::Profile),
            Model::Mstl => decompose::profile(points, anchor, settings, calendar).map(Fit::Profile),
            Model::HoltWinters => HoltWinters::learn(points, anchor, settings, calendar).map(Fit::HoltWinters),
            Model::Ewma => {
                let mut model = Ewma::default();
                points.values.iter().for_each(|value| model.take(*value, settings));
                (points.len() > 0).then_some(Fit::Ewma(model))
            }
            Model::Stream => {
                let mut model = Stream::default();
                points.values.iter().for_each(|value| model.take(*value));
                (points.len() > 0).then_some(Fit::Stream(model))
            }
            Model::Mad | Model::Zscore | Model::Iqr => None,
        }
    }

    /// Returns about how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let held = match self {
            Fit::Profile(profile) => 2 * profile.center.len(),
            Fit::HoltWinters(_) => 168,
            Fit::Ewma(_) | Fit::Stream(_) => 64,
        };
        size_of::<Fit>() + 8 * held
    }
}

/// Judges the values of one series, going forward in time from an anchor.
pub(crate) struct Judge<'a> {
    settings: &'a Settings,
    calendar: &'a Calendar,
    points: Points<'a>,
    /// A model that goes forward has taken all points before this time.
    taken: i64,
    known: Known<'a>,
}

/// What a judge goes by.
enum Known<'a> {
    /// The points before each judgement, and nothing else.
    Window,
    /// It is learning.
    Nothing,
    Profile(&'a Profile),
    Ewma(Ewma),
    HoltWinters(HoltWinters),
    Stream(Stream),
}

impl<'a> Judge<'a> {
    /// Begins at `anchor` with what was learned up to it. `points` are those of the resolution, before and after.
    pub(crate) fn new(
        settings: &'a Settings,
        calendar: &'a Calendar,
        points: Points<'a>,
        anchor: i64,
        fit: Option<&'a Fit>,
    ) -> Judge<'a> {
        let known = match fit {
            None if settings.learns() => Known::Nothing,
            None => Known::Window,
            Some(Fit::Profile(profile)) => Known::Profile(profile),
            Some(Fit::Ewma(model)) => Known::Ewma(model.clone()),
            Some(Fit::HoltWinters(model)) => Known::HoltWinters(model.clone()),
            Some(Fit::Stream(model)) => Known::Stream(model.clone()),
        };
        Judge {
            settings,
            calendar,
            points,
            taken: anchor,
            known,
        }
    }

    /// Judges the value at `at`, which does not go back in time; `None` while the model is learning.
    pub(crate) fn judge(&mut self, at: i64, value: f64) -> Option<Band> {
        if value.is_nan() {
            return None;
        }
        let settings = self.settings;
        // Points that lie no later than the last whole step: the same ones for all judgements within the step.
        let now = at.div_euclid(settings.resolution) * settings.resolution;
        let fresh = self.points.between(self.taken, now);
        self.taken = self.taken.max(now);
        let recent = |span: i64| self.points.between(now - span, now);
        match &mut self.known {
            Known::Nothing => None,
            Known::Window => windowed::band(recent(settings.recent()), value, settings),
            Known::Profile(profile) => {
                seasonal::band(profile, recent(settings.recent()), at, value, settings, self.calendar)
            }
            Known::Ewma(model) => {
                fresh.values.iter().for_each(|value| model.take(*value, settings));
                model.judge(value, settings)
            }
            Known::Stream(model) => {
                fresh.values.iter().for_each(|value| model.take(*value));
                model.judge(value, settings)
            }
            Known::HoltWinters(model) => {
                fresh
                    .iter()
                    .for_each(|(at, value)| model.take(at, value, settings, self.calendar));
                Some(model.judge(at, value, settings, self.calendar))
            }
        }
    }
}

#[cfg(test)]
mod tests;
