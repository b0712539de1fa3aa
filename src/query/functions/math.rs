//! Arithmetic of single numbers and dates.

/// A moment of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    year: i64,
    month: u32,
    day: u32,
    /// Days since the epoch.
    days: i64,
    second_of_day: i64,
}

impl Civil {
    /// Reads Unix time. Proleptic Gregorian calendar, without leap seconds.
    pub(crate) fn of_unix(seconds: i64) -> Civil {
        let days = seconds.div_euclid(86_400);
        // Counted in eras of 400 years that begin in March, so that leap days come last.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        Civil {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u32,
            day: day as u32,
            days,
            second_of_day: seconds.rem_euclid(86_400),
        }
    }

    fn is_leap(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }
}

pub(super) fn year(at: Civil) -> f64 {
    at.year as f64
}

pub(super) fn month(at: Civil) -> f64 {
    f64::from(at.month)
}

pub(super) fn day_of_month(at: Civil) -> f64 {
    f64::from(at.day)
}

/// The epoch was a Thursday.
pub(super) fn day_of_week(at: Civil) -> f64 {
    (at.days + 4).rem_euclid(7) as f64
}

pub(super) fn day_of_year(at: Civil) -> f64 {
    const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap_day = u32::from(at.is_leap() && at.month > 2);
    f64::from(BEFORE[at.month as usize - 1] + leap_day + at.day)
}

pub(super) fn days_in_month(at: Civil) -> f64 {
    match at.month {
        2 if at.is_leap() => 29.0,
        2 => 28.0,
        4 | 6 | 9 | 11 => 30.0,
        _ => 31.0,
    }
}

pub(super) fn hour(at: Civil) -> f64 {
    (at.second_of_day / 3_600) as f64
}

pub(super) fn minute(at: Civil) -> f64 {
    (at.second_of_day / 60 % 60) as f64
}

pub(super) fn sgn(value: f64) -> f64 {
    match value {
        _ if value < 0.0 => -1.0,
        _ if value > 0.0 => 1.0,
        _ => value,
    }
}

pub(super) fn rad(degrees: f64) -> f64 {
    degrees * std::f64::consts::PI / 180.0
}

pub(super) fn deg(radians: f64) -> f64 {
    radians * 180.0 / std::f64::consts::PI
}

/// NaN wins over all but infinity, unlike `f64::max`.
pub(super) fn max_of(a: f64, b: f64) -> f64 {
    match (a, b) {
        (f64::INFINITY, _) | (_, f64::INFINITY) => f64::INFINITY,
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        _ => a.max(b),
    }
}

/// NaN wins over all but negative infinity, unlike `f64::min`.
pub(super) fn min_of(a: f64, b: f64) -> f64 {
    match (a, b) {
        (f64::NEG_INFINITY, _) | (_, f64::NEG_INFINITY) => f64::NEG_INFINITY,
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        _ => a.min(b),
    }
}

pub(super) fn clamp(value: f64, bounds: &[f64]) -> Option<f64> {
    let (low, high) = (bounds[0], bounds[1]);
    (!(high < low)).then(|| max_of(low, min_of(high, value)))
}

pub(super) fn clamp_max(value: f64, bounds: &[f64]) -> Option<f64> {
    clamp(value, &[f64::NEG_INFINITY, bounds[0]])
}

pub(super) fn clamp_min(value: f64, bounds: &[f64]) -> Option<f64> {
    clamp(value, &[bounds[0], f64::INFINITY])
}

/// Multiplies by the inverse: fewer values miss their neighbour by rounding.
pub(super) fn round(value: f64, to: &[f64]) -> Option<f64> {
    let inverse = 1.0 / to.first().copied().unwrap_or(1.0);
    Some((value * inverse + 0.5).floor() / inverse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn leap_days_are_days() {
        let at = Civil::of_unix(951_782_400 + 3_723); // 29 February 2000, 01:02:03
        assert_eq!((year(at), month(at), day_of_month(at)), (2000.0, 2.0, 29.0));
        assert_eq!((day_of_week(at), day_of_year(at), days_in_month(at)), (2.0, 60.0, 29.0));
        assert_eq!((hour(at), minute(at)), (1.0, 2.0));
    }

    proptest! {
        #[test]
        fn the_calendar_agrees_with_the_time_zone_library(seconds in -62_000_000_000i64..250_000_000_000) {
            let at = Civil::of_unix(seconds);
            let expected = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            prop_assert_eq!((at.year, at.month), (i64::from(expected.year()), expected.month() as u32));
            prop_assert_eq!((at.day, hour(at)), (expected.day() as u32, f64::from(expected.hour())));
            prop_assert_eq!(day_of_year(at), f64::from(expected.day_of_year()));
            prop_assert_eq!(days_in_month(at), f64::from(expected.days_in_month()));
        }

        #[test]
        fn no_number_breaks_the_calendar(seconds in any::<i64>()) {
            let at = Civil::of_unix(seconds);
            prop_assert!((1..=12).contains(&at.month) && (1..=31).contains(&at.day));
        }
    }
}
