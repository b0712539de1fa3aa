//! From a question to the cells that answer it: which grain for which stretch of time, and steps of the calendar.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit, ZonedRound};

use crate::events::Grain;
use crate::events::cells::MINUTE;
use crate::model::Millis;

/// A stretch of minutes, half open, answered by cells of one grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stretch {
    pub(crate) grain: Grain,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// Splits minutes `from..to` into stretches of the coarsest grain that fits, up to `coarsest`: whole days by days, whole
/// hours by hours, the rest by minutes.
pub(crate) fn stretches(from: i64, to: i64, coarsest: Grain) -> Vec<Stretch> {
    let mut found = Vec::new();
    split(from, to, coarsest, &mut found);
    found
}

fn split(from: i64, to: i64, grain: Grain, found: &mut Vec<Stretch>) {
    if from >= to {
        return;
    }
    let finer = match grain {
        Grain::Minute => return found.push(Stretch { grain, from, to }),
        Grain::Hour => Grain::Minute,
        Grain::Day => Grain::Hour,
    };
    let bucket = grain.minutes();
    let first = from + (-from).rem_euclid(bucket);
    let last = to - to.rem_euclid(bucket);
    if first >= last {
        return split(from, to, finer, found);
    }
    split(from, first, finer, found);
    found.push(Stretch {
        grain,
        from: first,
        to: last,
    });
    split(last, to, finer, found);
}

/// How long a step of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many minutes, counted from the epoch.
    Minutes(i64),
    /// Calendar days.
    Day,
    /// Calendar weeks, from Monday on.
    Week,
    /// Calendar months.
    Month,
}

/// Why there are no such steps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// None of the known ones.
    #[error("step {0:?}: 1m, 5m, 15m, 30m, 1h, 2h, 3h, 4h, 6h, 8h, 12h, 1d, 1w or 1mo is meant")]
    Unknown(String),
    /// Too many.
    #[error("{0} steps, at most {STEPS_MAX} are answered: choose a longer step or a shorter range")]
    TooMany(i64),
    /// A time that the calendar does not have.
    #[error("{0} is no time of the calendar")]
    Time(Millis),
}

/// The most steps of one answer.
pub const STEPS_MAX: i64 = 50_000;

impl std::str::FromStr for Step {
    type Err = StepError;

    fn from_str(text: &str) -> Result<Step, StepError> {
        let steps: [(&str, i64); 11] = [
            ("1m", 1),
            ("5m", 5),
            ("15m", 15),
            ("30m", 30),
            ("1h", 60),
            ("2h", 120),
            ("3h", 180),
            ("4h", 240),
            ("6h", 360),
            ("8h", 480),
            ("12h", 720),
        ];
        match text {
            "1d" => Ok(Step::Day),
            "1w" => Ok(Step::Week),
            "1mo" => Ok(Step::Month),
            _ => {
                let found = steps.iter().find(|(name, _)| *name == text);
                let minutes = found.ok_or_else(|| StepError::Unknown(text.to_owned()))?.1;
                Ok(Step::Minutes(minutes))
            }
        }
    }
}

impl Step {
    /// Returns the starts of the steps that overlap `from..to`, and the end of the last, in minutes. The first may begin before
    /// `from`; a day in a zone with summer time has 23 or 25 hours when it should.
    ///
    /// # Errors
    /// [`StepError`].
    pub(crate) fn edges(self, from: i64, to: i64, zone: &TimeZone) -> Result<Vec<i64>, StepError> {
        let (mut edges, mut at) = (Vec::new(), self.floor(from, zone)?);
        loop {
            edges.push(at);
            if at >= to {
                return Ok(edges);
            }
            if edges.len() as i64 > STEPS_MAX {
                let length = (to - from) / (at - edges[0]).max(1) * edges.len() as i64;
                return Err(StepError::TooMany(length));
            }
            at = self.next(at, zone)?;
        }
    }

    fn floor(self, minute: i64, zone: &TimeZone) -> Result<i64, StepError> {
        let local = |minute: i64| zoned(minute, zone);
        let day = ZonedRound::new().smallest(Unit::Day).mode(jiff::RoundMode::Trunc);
        let wrong = |_| StepError::Time(Millis(minute * MINUTE));
        let start = match self {
            Step::Minutes(length) => return Ok(minute - minute.rem_euclid(length)),
            Step::Day => local(minute)?.round(day).map_err(wrong)?,
            Step::Week => {
                let today = local(minute)?.round(day).map_err(wrong)?;
                let back = i64::from(today.weekday().to_monday_zero_offset());
                today.checked_sub(back.days()).map_err(wrong)?
            }
            Step::Month => local(minute)?
                .first_of_month()
                .and_then(|first| first.round(day))
                .map_err(wrong)?,
        };
        Ok(start.timestamp().as_millisecond().div_euclid(MINUTE))
    }

    fn next(self, minute: i64, zone: &TimeZone) -> Result<i64, StepError> {
        let span: Span = match self {
            Step::Minutes(length) => return Ok(minute + length),
            Step::Day => 1.day(),
            Step::Week => 1.week(),
            Step::Month => 1.month(),
        };
        let next = zoned(minute, zone)?.checked_add(span);
        let next = next.map_err(|_| StepError::Time(Millis(minute * MINUTE)))?;
        Ok(next.timestamp().as_millisecond().div_euclid(MINUTE))
    }
}

fn zoned(minute: i64, zone: &TimeZone) -> Result<jiff::Zoned, StepError> {
    let timestamp = Timestamp::from_millisecond(minute.saturating_mul(MINUTE));
    let timestamp = timestamp.map_err(|_| StepError::Time(Millis(minute.saturating_mul(MINUTE))))?;
    Ok(timestamp.to_zoned(zone.clone()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 1440;

    #[test]
    fn a_long_range_is_days_with_hours_and_minutes_at_its_ends() {
        let found = stretches(DAY - 61, 3 * DAY + 1, Grain::Day);
        let text: Vec<String> = found
            .iter()
            .map(|stretch| format!("{:?} {}", stretch.grain, stretch.to - stretch.from))
            .collect();
        assert_eq!(text, ["Minute 1", "Hour 60", "Day 2880", "Minute 1"]);
        assert_eq!(stretches(0, DAY, Grain::Minute).len(), 1);
    }

    proptest! {
        #[test]
        fn stretches_follow_one_another_without_gap(from in -5000i64..5000, length in 0i64..9000) {
            let mut at = from;
            for stretch in stretches(from, from + length, Grain::Day) {
                prop_assert_eq!(stretch.from, at);
                prop_assert!(stretch.to > at);
                let bucket = stretch.grain.minutes();
                prop_assert!(stretch.from.rem_euclid(bucket) == 0 && stretch.to.rem_euclid(bucket) == 0);
                at = stretch.to;
            }
            prop_assert_eq!(at, from + length);
        }
    }

    #[test]
    fn a_day_in_new_york_has_23_or_25_hours_when_the_clock_changes() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let minute = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond() / MINUTE;
        let lengths = |from: &str, to: &str, step: Step| {
            let edges = step.edges(minute(from), minute(to), &zone).unwrap();
            edges
                .windows(2)
                .map(|pair| (pair[1] - pair[0]) / 60)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            lengths("2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z", Step::Day),
            [24, 23, 24]
        );
        assert_eq!(lengths("2026-11-01T12:00:00Z", "2026-11-02T04:59:00Z", Step::Day), [25]);
        assert_eq!(
            lengths("2026-11-01T12:00:00Z", "2026-11-02T12:00:00Z", Step::Month),
            [30 * 24 + 1]
        );
        let week = Step::Week.edges(minute("2026-11-22T12:00:00Z"), minute("2026-11-22T12:01:00Z"), &zone);
        assert_eq!(week.unwrap()[0], minute("2026-11-16T05:00:00Z"), "Monday");
    }

    #[test]
    fn steps_have_names_and_a_limit() {
        assert_eq!("15m".parse(), Ok(Step::Minutes(15)));
        assert_eq!("1mo".parse(), Ok(Step::Month));
        assert!("7m".parse::<Step>().unwrap_err().to_string().contains("1h"));
        let utc = TimeZone::UTC;
        assert!(matches!(
            Step::Minutes(1).edges(0, 90_000, &utc),
            Err(StepError::TooMany(_))
        ));
        assert_eq!(Step::Minutes(5).edges(3, 11, &utc), Ok(vec![0, 5, 10, 15]));
    }
}
