//! Named intervals of time, in which routes are mute or active: Alertmanager's `time_intervals`.
//!
//! Calendars are asked in local time of the interval's location, so that daylight saving moves nothing.

use std::ops::RangeInclusive;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::model::Millis;

/// One entry of a named interval: all fields given must hold.
#[derive(Clone, Debug)]
pub(crate) struct TimeInterval {
    /// Minutes of the day, the end excluded.
    times: Vec<(u16, u16)>,
    /// Sunday is 0.
    weekdays: Vec<RangeInclusive<i32>>,
    /// From 1; negative counts from the end of the month.
    days_of_month: Vec<(i32, i32)>,
    months: Vec<RangeInclusive<i32>>,
    years: Vec<RangeInclusive<i32>>,
    location: TimeZone,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    times: Option<Vec<RawTime>>,
    weekdays: Option<Vec<Scalar>>,
    days_of_month: Option<Vec<Scalar>>,
    months: Option<Vec<Scalar>>,
    years: Option<Vec<Scalar>>,
    location: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTime {
    start_time: String,
    end_time: String,
}

/// Ranges may be written as numbers: `years: [2026]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(i64),
    Text(String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Scalar::Number(number) => number.to_string(),
            Scalar::Text(text) => text.trim().to_lowercase(),
        }
    }
}

impl<'de> Deserialize<'de> for TimeInterval {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TimeInterval::build(&Raw::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl TimeInterval {
    fn build(raw: &Raw) -> Result<TimeInterval, String> {
        let location = match &raw.location {
            None => TimeZone::UTC,
            Some(name) if name.is_empty() || name == "UTC" => TimeZone::UTC,
            Some(name) if name == "Local" => TimeZone::system(),
            Some(name) => TimeZone::get(name).map_err(|_| format!("unknown time zone {name:?}"))?,
        };
        Ok(TimeInterval {
            times: each(raw.times.as_ref(), time_range)?,
            weekdays: each(raw.weekdays.as_ref(), |text| {
                range(&text.text(), "weekday", |word| position(&WEEKDAYS, word, 0))
            })?,
            days_of_month: each(raw.days_of_month.as_ref(), |text| days_range(&text.text()))?,
            months: each(raw.months.as_ref(), |text| {
                range(&text.text(), "month", |word| {
                    position(&MONTHS, word, 1).or_else(|| word.parse().ok().filter(|month| (1..=12).contains(month)))
                })
            })?,
            years: each(raw.years.as_ref(), |text| {
                range(&text.text(), "year", |word| word.parse().ok())
            })?,
            location,
        })
    }

    /// Whether `at` lies inside.
    pub(crate) fn contains(&self, at: Millis) -> bool {
        let Ok(timestamp) = jiff::Timestamp::from_millisecond(at.0) else {
            return false;
        };
        let local = timestamp.to_zoned(self.location.clone());
        let minute = minutes(local.time());
        let weekday = i32::from(local.weekday().to_sunday_zero_offset());
        let (day, last) = (i32::from(local.day()), i32::from(local.days_in_month()));
        any(&self.times, |(start, end)| (*start..*end).contains(&minute))
            && any(&self.weekdays, |days| days.contains(&weekday))
            && any(&self.days_of_month, |days| clamp(*days, last).contains(&day))
            && any(&self.months, |months| months.contains(&i32::from(local.month())))
            && any(&self.years, |years| years.contains(&i32::from(local.year())))
    }
}

const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn each<T, U>(items: Option<&Vec<T>>, read: impl Fn(&T) -> Result<U, String>) -> Result<Vec<U>, String> {
    items.map_or_else(|| Ok(Vec::new()), |items| items.iter().map(read).collect())
}

/// An empty list asks for nothing.
fn any<T>(items: &[T], holds: impl Fn(&T) -> bool) -> bool {
    items.is_empty() || items.iter().any(holds)
}

fn position(words: &[&str], word: &str, first: i32) -> Option<i32> {
    let at = words.iter().position(|known| *known == word)?;
    Some(first + i32::try_from(at).ok()?)
}

fn minutes(time: Time) -> u16 {
    u16::try_from(i32::from(time.hour()) * 60 + i32::from(time.minute())).expect("a day has 1440 minutes")
}

fn time_range(raw: &RawTime) -> Result<(u16, u16), String> {
    let (start, end) = (time_of_day(&raw.start_time)?, time_of_day(&raw.end_time)?);
    if start >= end {
        return Err(format!(
            "start_time {} is not before end_time {}: write a night as two ranges",
            raw.start_time, raw.end_time
        ));
    }
    Ok((start, end))
}

fn time_of_day(text: &str) -> Result<u16, String> {
    let bad = || format!("{text:?} is not a time of day: write HH:MM, from 00:00 to 24:00");
    let (hours, minutes) = text.split_once(':').ok_or_else(bad)?;
    if hours.len() != 2 || minutes.len() != 2 {
        return Err(bad());
    }
    let hours: u16 = hours.parse().map_err(|_| bad())?;
    let minutes: u16 = minutes.parse().map_err(|_| bad())?;
    if minutes > 59 || hours * 60 + minutes > 24 * 60 {
        return Err(bad());
    }
    Ok(hours * 60 + minutes)
}

fn range(text: &str, what: &str, read: impl Fn(&str) -> Option<i32>) -> Result<RangeInclusive<i32>, String> {
    let (start, end) = text.split_once(':').unwrap_or((text, text));
    let one = |word: &str| read(word.trim()).ok_or_else(|| format!("{word:?} is not a {what}"));
    let (start, end) = (one(start)?, one(end)?);
    if start > end {
        return Err(format!("the {what} range {text:?} ends before it starts"));
    }
    Ok(start..=end)
}

fn days_range(text: &str) -> Result<(i32, i32), String> {
    let (start, end) = text.split_once(':').unwrap_or((text, text));
    let one = |word: &str| {
        let day: i32 = word
            .trim()
            .parse()
            .map_err(|_| format!("{word:?} is not a day of the month"))?;
        if day == 0 || !(-31..=31).contains(&day) {
            return Err(format!(
                "{day} is not a day of the month: 1 to 31, or -31 to -1 from its end"
            ));
        }
        Ok(day)
    };
    let (start, end) = (one(start)?, one(end)?);
    if start < 0 && end > 0 {
        return Err(format!(
            "the range {text:?} ends in days from the start, but starts in days from the end"
        ));
    }
    if (start > 0) == (end > 0) && start > end {
        return Err(format!("the range {text:?} ends before it starts"));
    }
    Ok((start, end))
}

/// Days of this month: a month shorter than the range clamps it.
fn clamp((start, end): (i32, i32), last: i32) -> RangeInclusive<i32> {
    let real = |day: i32| if day < 0 { last + 1 + day } else { day };
    if real(start) > last {
        // The 30th of February: clamping would make it the 28th, and Alertmanager does not either.
        return RangeInclusive::new(1, 0);
    }
    real(start).max(1)..=real(end).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(yaml: &str) -> TimeInterval {
        serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
    }

    fn at(text: &str) -> Millis {
        Millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn every_field_given_must_hold() {
        let office = interval(
            "{times: [{start_time: '09:00', end_time: '17:00'}], weekdays: ['monday:friday'], location: Europe/Berlin}",
        );
        // 2026-03-27 is a Friday; Berlin is at UTC+1 until the 29th, at UTC+2 after it.
        for (time, inside) in [
            ("2026-03-27T07:59:59Z", false),
            ("2026-03-27T08:00:00Z", true),
            ("2026-03-27T16:00:00Z", false),
            ("2026-03-28T10:00:00Z", false),
            ("2026-03-30T07:00:00Z", true),
            ("2026-03-30T15:00:00Z", false),
        ] {
            assert_eq!(office.contains(at(time)), inside, "{time}");
        }
    }

    #[test]
    fn daylight_saving_neither_loses_nor_doubles_an_hour_of_the_wall_clock() {
        let small_hours = interval("{times: [{start_time: '02:00', end_time: '03:00'}], location: Europe/Berlin}");
        // On 2026-03-29 the clock goes from 02:00 to 03:00: nothing is inside. On 2026-10-25 the hour comes twice.
        let minutes_inside = |day: &str, hours: i64| {
            let start = at(day);
            (0..hours * 60)
                .filter(|minute| small_hours.contains(Millis(start.0 + minute * 60_000)))
                .count()
        };
        assert_eq!(minutes_inside("2026-03-28T23:00:00Z", 23), 0);
        assert_eq!(minutes_inside("2026-10-24T22:00:00Z", 25), 120);
        assert_eq!(minutes_inside("2026-06-01T22:00:00Z", 24), 60);
    }

    #[test]
    fn days_count_from_either_end_of_the_month_and_are_clamped() {
        let last = interval("{days_of_month: ['-1']}");
        assert!(last.contains(at("2026-02-28T12:00:00Z")) && !last.contains(at("2026-01-30T12:00:00Z")));
        let all = interval("{days_of_month: ['1:31'], months: ['january:3', december], years: [2026]}");
        assert!(all.contains(at("2026-02-28T12:00:00Z")) && !all.contains(at("2026-04-01T12:00:00Z")));
        assert!(!all.contains(at("2027-02-01T12:00:00Z")));
        assert!(!interval("{months: [february], days_of_month: ['30']}").contains(at("2026-02-28T12:00:00Z")));
        assert!(interval("{days_of_month: ['15:-1']}").contains(at("2026-02-28T12:00:00Z")));
    }

    #[test]
    fn what_is_no_interval_says_why() {
        for yaml in [
            "{times: [{start_time: '17:00', end_time: '09:00'}]}",
            "{times: [{start_time: '9:00', end_time: '24:01'}]}",
            "{weekdays: [someday]}",
            "{weekdays: ['friday:monday']}",
            "{days_of_month: ['0']}",
            "{days_of_month: ['-1:5']}",
            "{months: ['13']}",
            "{location: Atlantis/Capital}",
            "{day: [1]}",
        ] {
            assert!(serde_yaml::from_str::<TimeInterval>(yaml).is_err(), "{yaml} was read");
        }
    }
}
