//! What a detector is told: a model's name and options, read into meaning once.
//!
//! ```text
//! anomaly_score("seasonal", q, "season=1w", "history=4w", "timezone=Europe/Berlin", "sensitivity=3", "min_change=20%")
//! ```

use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::Interval;
use crate::model::yaml::nearest;

const DAY: i64 = 86_400_000;
const WEEK: i64 = 7 * DAY;
const MINUTE: i64 = 60_000;
/// The head and blocks are cut at multiples of this: what lies before such a time comes to rest.
const REST: i64 = 2 * 3_600_000;
/// The most points of a history: what is kept of a series stays below 200 KiB.
const POINTS_MAX: i64 = 20_160;

/// How a series is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Model {
    /// The median of the same time of day or week, and how far the past strayed from it.
    Seasonal,
    /// Median and median absolute deviation of the latest history.
    Mad,
    /// Mean and standard deviation.
    Zscore,
    /// The quartiles and their distance (Tukey's fences).
    Iqr,
    /// An exponentially weighted mean and variance.
    Ewma,
    /// Triple exponential smoothing, additive.
    HoltWinters,
    /// Seasonal and trend decomposition by LOESS, several times over.
    Mstl,
    /// A detector for series without seasons that goes forward only.
    Stream,
}

impl Model {
    const ALL: [(&'static str, Model); 8] = [
        ("seasonal", Model::Seasonal),
        ("mad", Model::Mad),
        ("zscore", Model::Zscore),
        ("iqr", Model::Iqr),
        ("ewma", Model::Ewma),
        ("holt_winters", Model::HoltWinters),
        ("mstl", Model::Mstl),
        ("stream", Model::Stream),
    ];

    /// Whether it knows times of day or week.
    pub(crate) fn is_seasonal(self) -> bool {
        matches!(self, Model::Seasonal | Model::HoltWinters | Model::Mstl)
    }
}

/// Which side of the band matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Below,
    Above,
    Both,
}

/// How small a change never matters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MinChange {
    /// In units of the series.
    Absolute(f64),
    /// As a part of what is expected.
    Relative(f64),
}

/// A detector's settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) model: Model,
    /// The length of a season, in milliseconds.
    pub(crate) season: i64,
    /// What is learned from, in milliseconds: a multiple of the resolution.
    pub(crate) history: i64,
    /// The distance of the points that are learned from, in milliseconds.
    pub(crate) resolution: i64,
    pub(crate) direction: Direction,
    /// Half the band's width, in (robust) deviations.
    pub(crate) sensitivity: f64,
    pub(crate) min_change: MinChange,
    /// What lies outside is an anomaly always.
    pub(crate) range: (f64, f64),
    pub(crate) zone: TimeZone,
    /// Days that are like Sundays.
    pub(crate) holidays: Arc<[Date]>,
}

impl Settings {
    /// Reads a model's name and its options, each `key=value`.
    ///
    /// # Errors
    /// A sentence that says what is wrong, with the nearest word that would be right.
    pub(crate) fn read<'a>(model: &str, options: impl IntoIterator<Item = &'a str>) -> Result<Settings, String> {
        let known = || Model::ALL.iter().map(|(name, _)| *name);
        let Some((_, model)) = Model::ALL.iter().find(|(name, _)| *name == model) else {
            let hint = hint(model, known());
            return Err(format!("there is no model {model:?} ({hint})"));
        };
        let mut raw = Raw::default();
        for option in options {
            raw.set(option)?;
        }
        raw.settle(*model)
    }
}

fn hint(text: &str, known: impl Iterator<Item = &'static str> + Clone) -> String {
    match nearest(text, known.clone()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

const KEYS: [&str; 9] = [
    "season",
    "history",
    "resolution",
    "direction",
    "sensitivity",
    "min_change",
    "range",
    "timezone",
    "holidays",
];

#[derive(Default)]
struct Raw {
    season: Option<i64>,
    history: Option<i64>,
    resolution: Option<i64>,
    direction: Option<Direction>,
    sensitivity: Option<f64>,
    min_change: Option<MinChange>,
    range: Option<(f64, f64)>,
    zone: Option<TimeZone>,
    holidays: Vec<Date>,
}

impl Raw {
    fn set(&mut self, option: &str) -> Result<(), String> {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| format!("the option {option:?} is not written as key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        let bad = |what: &str| format!("{key}: {value:?} is no {what}");
        match key {
            "season" => self.season = Some(length(value).ok_or_else(|| bad("duration"))?),
            "history" => self.history = Some(length(value).ok_or_else(|| bad("duration"))?),
            "resolution" => self.resolution = Some(length(value).ok_or_else(|| bad("duration"))?),
            "direction" => {
                self.direction = Some(match value {
                    "below" => Direction::Below,
                    "above" => Direction::Above,
                    "both" => Direction::Both,
                    _ => return Err(bad("direction: write below, above or both")),
                });
            }
            "sensitivity" => {
                let number = value
                    .parse()
                    .ok()
                    .filter(|number: &f64| number.is_finite() && *number > 0.0);
                self.sensitivity = Some(number.ok_or_else(|| bad("positive number"))?);
            }
            "min_change" => self.min_change = Some(min_change(value).ok_or_else(|| bad("number or percentage"))?),
            "range" => self.range = Some(range(value).ok_or_else(|| bad("range: write for example [0, inf]"))?),
            "timezone" => {
                self.zone = Some(TimeZone::get(value).map_err(|_| bad("time zone: write for example Europe/Berlin"))?)
            }
            "holidays" => {
                for day in value.split(',').map(str::trim).filter(|day| !day.is_empty()) {
                    self.holidays.push(
                        day.parse()
                            .map_err(|_| format!("holidays: {day:?} is no date: write 2026-12-25"))?,
                    );
                }
            }
            _ => return Err(format!("there is no option {key:?} ({})", hint(key, KEYS.into_iter()))),
        }
        Ok(())
    }

    fn settle(self, model: Model) -> Result<Settings, String> {
        if !model.is_seasonal() && self.season.is_some() {
            return Err("season: this model knows no seasons".to_owned());
        }
        let season = self.season.unwrap_or(WEEK);
        let history = self
            .history
            .unwrap_or(if model.is_seasonal() { 4 * season } else { DAY });
        let resolution = self
            .resolution
            .unwrap_or_else(|| default_resolution(model, season, history));
        if resolution < 1000 || history < resolution {
            return Err("resolution: at least a second, and not more than the history".to_owned());
        }
        if history / resolution > POINTS_MAX {
            return Err(format!(
                "history: {} points, the limit is {POINTS_MAX}: learn from less, or set a longer resolution",
                history / resolution
            ));
        }
        if model.is_seasonal() {
            if season % resolution != 0 || season / resolution < 4 {
                return Err("season: must be a multiple of the resolution, and four of it at least".to_owned());
            }
            if history < 2 * season {
                return Err("history: at least two seasons are needed".to_owned());
            }
        }
        if self.holidays.len() > 1000 {
            return Err("holidays: at most 1000 days".to_owned());
        }
        if !self.holidays.is_empty() && season != WEEK {
            return Err("holidays: they need a season of one week".to_owned());
        }
        Ok(Settings {
            model,
            season,
            history: history - history % resolution,
            resolution,
            direction: self.direction.unwrap_or(Direction::Both),
            sensitivity: self.sensitivity.unwrap_or(3.0),
            min_change: self.min_change.unwrap_or(MinChange::Absolute(0.0)),
            range: self.range.unwrap_or((f64::NEG_INFINITY, f64::INFINITY)),
            zone: self.zone.unwrap_or(TimeZone::UTC),
            holidays: self.holidays.into(),
        })
    }
}

/// Slots of five minutes in a week and of a minute in a day; models whose cost grows faster get fewer.
fn default_resolution(model: Model, season: i64, history: i64) -> i64 {
    let parts = match model {
        Model::Seasonal => return (season / 2016).max(MINUTE) / MINUTE * MINUTE,
        Model::HoltWinters => 168,
        Model::Mstl => 336,
        _ => return (history / 1440).max(MINUTE) / MINUTE * MINUTE,
    };
    // The smallest length from the list that cuts the season into at most so many parts.
    let lengths = [1, 2, 3, 5, 6, 10, 15, 20, 30, 60, 120, 180, 240].map(|minutes| minutes * MINUTE);
    let fits = |length: &i64| season % length == 0 && season / length <= parts;
    lengths.into_iter().find(fits).unwrap_or((season / parts).max(1000))
}

fn length(text: &str) -> Option<i64> {
    text.parse::<Interval>()
        .ok()
        .map(|length| length.0)
        .filter(|length| *length > 0)
}

fn min_change(text: &str) -> Option<MinChange> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    match text.strip_suffix('%') {
        Some(percent) => number(percent).map(|percent| MinChange::Relative(percent / 100.0)),
        None => number(text).map(MinChange::Absolute),
    }
}

fn range(text: &str) -> Option<(f64, f64)> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let (low, high) = inner.split_once(',')?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| !number.is_nan());
    let (low, high) = (number(low)?, number(high)?);
    (low < high).then_some((low, high))
}

impl Settings {
    /// Returns the time at which what was learned ends, for a judgement at `at`: the same for a while, so that it is learned
    /// once, and a time before which the store is at rest.
    pub(crate) fn anchor(&self, at: i64) -> i64 {
        let every = match self.model {
            Model::Seasonal | Model::Mstl | Model::HoltWinters => (self.season / 28).div_euclid(REST).max(1) * REST,
            _ => REST,
        };
        at.div_euclid(every) * every
    }

    /// Returns how long before the judgement points are looked at besides those that were learned.
    pub(crate) fn recent(&self) -> i64 {
        match self.model {
            Model::Seasonal | Model::Mstl => DAY.min(self.season),
            Model::Mad | Model::Zscore | Model::Iqr => self.history,
            Model::Ewma | Model::HoltWinters | Model::Stream => 0,
        }
    }

    /// Whether something is learned up to the anchor.
    pub(crate) fn learns(&self) -> bool {
        !matches!(self.model, Model::Mad | Model::Zscore | Model::Iqr)
    }

    /// Words everything that what is learned depends on: the key of a cache.
    pub(crate) fn key(&self) -> String {
        format!(
            "{:?} {} {} {} {} {:?} {:?}",
            self.model,
            self.season,
            self.history,
            self.resolution,
            self.sensitivity,
            self.zone.iana_name(),
            self.holidays
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_four_weeks_in_five_minutes_or_a_day_in_minutes() {
        let settings = Settings::read("seasonal", []).unwrap();
        assert_eq!(
            (settings.season, settings.history, settings.resolution),
            (WEEK, 4 * WEEK, 5 * MINUTE)
        );
        let daily = Settings::read("seasonal", ["season=1d"]).unwrap();
        assert_eq!((daily.history, daily.resolution), (4 * DAY, MINUTE));
        let mad = Settings::read("mad", ["direction=above", "min_change=5%", "range=[0, inf]"]).unwrap();
        assert_eq!(
            (mad.history, mad.resolution, mad.direction),
            (DAY, MINUTE, Direction::Above)
        );
        assert_eq!((mad.min_change, mad.range.0), (MinChange::Relative(0.05), 0.0));
        assert_eq!(Settings::read("mstl", []).unwrap().resolution, 30 * MINUTE);
    }

    #[test]
    fn mistakes_are_told_with_what_would_be_right() {
        for (model, option, expected) in [
            ("sesonal", "season=1w", "did you mean \"seasonal\"?"),
            ("seasonal", "sensitivty=3", "did you mean \"sensitivity\"?"),
            ("seasonal", "season", "key=value"),
            ("seasonal", "season=soon", "no duration"),
            ("seasonal", "history=1w", "two seasons"),
            ("seasonal", "resolution=1s", "the limit is"),
            ("seasonal", "range=[5, 1]", "no range"),
            ("seasonal", "timezone=Mars/Base", "no time zone"),
            ("seasonal", "direction=up", "below, above or both"),
            ("mad", "season=1d", "no seasons"),
        ] {
            let error = Settings::read(model, [option]).unwrap_err();
            assert!(error.contains(expected), "{model} {option}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_option_makes_the_reader_panic(option in r"(season|history|range|min_change|holidays|timezone)=\PC{0,20}") {
            let _ = Settings::read("seasonal", [option.as_str()]);
        }
    }
}
