//! Where in its season a moment lies, by the clock on the wall: when clocks change, the same hour of the week stays the same.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use super::settings::Settings;

const DAY: i64 = 86_400_000;
/// 1970-01-01 was a Thursday: three days after a Monday.
const THURSDAY: i64 = 3;

/// The slots of a season over a span of time, with the clock changes in it looked up once.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    season: i64,
    resolution: i64,
    /// From when on local time is ahead of UTC by how much, in milliseconds; the first holds for all before, too.
    offsets: Vec<(i64, i64)>,
    /// Local days (since 1970) that count as Sundays, sorted.
    holidays: Vec<i64>,
}

impl Calendar {
    /// Prepares the slots between two times.
    pub(crate) fn new(settings: &Settings, from: i64, to: i64) -> Calendar {
        let mut holidays: Vec<i64> = settings
            .holidays
            .iter()
            .filter_map(|date| date.to_zoned(TimeZone::UTC).ok())
            .map(|midnight| midnight.timestamp().as_millisecond().div_euclid(DAY))
            .collect();
        holidays.sort_unstable();
        Calendar {
            season: settings.season,
            resolution: settings.resolution,
            offsets: offsets(&settings.zone, from, to),
            holidays,
        }
    }

    /// Returns how many slots a season has.
    pub(crate) fn slots(&self) -> usize {
        usize::try_from(self.season / self.resolution).unwrap_or(1).max(1)
    }

    /// Returns the slot of a moment.
    pub(crate) fn slot(&self, at: i64) -> usize {
        let later = self.offsets.partition_point(|(from, _)| *from <= at);
        let offset = self
            .offsets
            .get(later.saturating_sub(1))
            .map_or(0, |(_, offset)| *offset);
        let mut local = at.saturating_add(offset);
        let day = local.div_euclid(DAY);
        if !self.holidays.is_empty() && self.holidays.binary_search(&day).is_ok() {
            // Sunday is the last day of a week that begins on Monday.
            let weekday = (day + THURSDAY).rem_euclid(7);
            local += (i64::from(Weekday::Sunday.to_monday_zero_offset()) - weekday) * DAY;
        }
        usize::try_from(local.rem_euclid(self.season) / self.resolution).unwrap_or(0)
    }

    /// Whether a moment lies on a holiday.
    pub(crate) fn is_holiday(&self, at: i64) -> bool {
        if self.holidays.is_empty() {
            return false;
        }
        let later = self.offsets.partition_point(|(from, _)| *from <= at);
        let offset = self
            .offsets
            .get(later.saturating_sub(1))
            .map_or(0, |(_, offset)| *offset);
        self.holidays
            .binary_search(&at.saturating_add(offset).div_euclid(DAY))
            .is_ok()
    }
}

fn offsets(zone: &TimeZone, from: i64, to: i64) -> Vec<(i64, i64)> {
    let Ok(start) = Timestamp::from_millisecond(from) else {
        return Vec::new();
    };
    let offset_at = |at: Timestamp| i64::from(zone.to_offset(at).seconds()) * 1000;
    let mut offsets = vec![(from, offset_at(start))];
    for change in zone.following(start) {
        let at = change.timestamp();
        if at.as_millisecond() > to {
            break;
        }
        offsets.push((at.as_millisecond(), offset_at(at)));
    }
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn an_hour_of_the_week_stays_the_same_when_clocks_change() {
        let settings = Settings::read("seasonal", ["timezone=Europe/Berlin"]).unwrap();
        let calendar = Calendar::new(&settings, at("2026-03-01T00:00:00Z"), at("2026-11-30T00:00:00Z"));
        // Nine o'clock in Berlin, on the Monday before and after each change.
        let spring = (at("2026-03-23T08:00:00Z"), at("2026-03-30T07:00:00Z"));
        let autumn = (at("2026-10-19T07:00:00Z"), at("2026-10-26T08:00:00Z"));
        let slot = calendar.slot(spring.0);
        assert_eq!([spring.1, autumn.0, autumn.1].map(|at| calendar.slot(at)), [slot; 3]);
        assert_ne!(calendar.slot(at("2026-03-30T08:00:00Z")), slot);
        assert_eq!(calendar.slots(), 2016);
    }

    #[test]
    fn a_holiday_is_a_sunday() {
        let settings = Settings::read("seasonal", ["holidays=2026-12-25"]).unwrap();
        let calendar = Calendar::new(&settings, at("2026-12-01T00:00:00Z"), at("2026-12-31T00:00:00Z"));
        let (friday, sunday) = (at("2026-12-25T10:00:00Z"), at("2026-12-27T10:00:00Z"));
        assert_eq!(calendar.slot(friday), calendar.slot(sunday));
        assert!(calendar.is_holiday(friday) && !calendar.is_holiday(sunday));
        assert_ne!(calendar.slot(at("2026-12-18T10:00:00Z")), calendar.slot(sunday));
    }
}
