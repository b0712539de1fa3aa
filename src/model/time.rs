//! Time with its unit in the type: points ([`Millis`]), lengths ([`Interval`]) and windows ([`TimeRange`]).
//!
//! Durations are read and written in Prometheus's spelling (`1h30m`, `250ms`), which config files, rule files and
//! the query language share.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

/// Milliseconds since the Unix epoch, UTC: the only timestamp inside the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

/// A length of time in milliseconds. `Millis - Millis` gives one; adding two `Millis` does not compile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(pub i64);

impl Millis {
    /// The earliest representable point.
    pub const MIN: Millis = Millis(i64::MIN);
    /// The latest representable point.
    pub const MAX: Millis = Millis(i64::MAX);

    /// Returns the time in seconds, with its fraction, as Prometheus's JSON shows it.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a double holds milliseconds exactly for 285,000 years"
    )]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Returns `self + length`, stopping at the ends of time instead of wrapping.
    #[must_use]
    pub fn saturating_add(self, length: Interval) -> Millis {
        Millis(self.0.saturating_add(length.0))
    }

    /// Returns `self - length`, stopping at the ends of time instead of wrapping.
    #[must_use]
    pub fn saturating_sub(self, length: Interval) -> Millis {
        Millis(self.0.saturating_sub(length.0))
    }
}

impl fmt::Display for Millis {
    /// RFC 3339 in UTC with milliseconds; the bare number when the calendar cannot hold it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl Interval {
    /// No time at all.
    pub const ZERO: Interval = Interval(0);

    /// A length of `n` seconds.
    pub const fn secs(n: i64) -> Interval {
        Interval(n * 1000)
    }

    /// A length of `n` minutes.
    pub const fn mins(n: i64) -> Interval {
        Interval(n * 60_000)
    }

    /// A length of `n` hours.
    pub const fn hours(n: i64) -> Interval {
        Interval(n * 3_600_000)
    }

    /// A length of `n` days of 24 hours.
    pub const fn days(n: i64) -> Interval {
        Interval(n * 86_400_000)
    }

    /// Returns the length in seconds, with its fraction.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a double holds milliseconds exactly for 285,000 years"
    )]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Returns the length for the standard library; a negative one becomes zero.
    pub fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

/// The units of a duration, largest first, with their milliseconds. A year is 365 days and a week seven, as in Prometheus.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing, or nothing but spaces.
    #[error("empty duration string")]
    Empty,
    /// Not a sequence of numbers with units in falling order.
    #[error("not a valid duration string: {0:?} (write it like 1h30m; units are ms s m h d w y)")]
    Malformed(String),
    /// More than 292 million years.
    #[error("duration out of range: {0:?}")]
    OutOfRange(String),
}

impl FromStr for Interval {
    type Err = DurationError;

    /// Reads `1h30m`, `10s53ms`, `0`. Units fall and occur once; no sign, no fraction (Prometheus's `model.ParseDuration`).
    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text.is_empty() {
            return Err(DurationError::Empty);
        }
        if text == "0" {
            return Ok(Interval::ZERO);
        }
        let malformed = || DurationError::Malformed(text.to_owned());
        let out_of_range = || DurationError::OutOfRange(text.to_owned());
        let mut rest = text;
        let mut next_unit = 0;
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return Err(malformed());
            }
            let number: i64 = rest[..digits].parse().map_err(|_| out_of_range())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = UNITS
                .iter()
                .position(|(name, _)| *name == &rest[..letters])
                .ok_or_else(malformed)?;
            if unit < next_unit {
                return Err(malformed());
            }
            next_unit = unit + 1;
            rest = &rest[letters..];
            let part = number.checked_mul(UNITS[unit].1).ok_or_else(out_of_range)?;
            total = total.checked_add(part).ok_or_else(out_of_range)?;
        }
        Ok(Interval(total))
    }
}

impl fmt::Display for Interval {
    /// Prometheus's spelling: `1h30m`, `0s`; years, weeks and days only when they divide the whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        for (name, millis) in UNITS {
            let millis = millis.unsigned_abs();
            let only_exact = matches!(name, "y" | "w" | "d");
            if only_exact && !rest.is_multiple_of(millis) {
                continue;
            }
            if rest >= millis {
                write!(f, "{}{name}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl Sub for Millis {
    type Output = Interval;
    fn sub(self, earlier: Millis) -> Interval {
        Interval(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Interval> for Millis {
    type Output = Millis;
    fn add(self, length: Interval) -> Millis {
        self.saturating_add(length)
    }
}

impl Sub<Interval> for Millis {
    type Output = Millis;
    fn sub(self, length: Interval) -> Millis {
        self.saturating_sub(length)
    }
}

impl AddAssign<Interval> for Millis {
    fn add_assign(&mut self, length: Interval) {
        *self = *self + length;
    }
}

/// A window of time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// The first instant inside.
    pub min: Millis,
    /// The last instant inside.
    pub max: Millis,
}

impl TimeRange {
    /// All of time.
    pub const ALL: TimeRange = TimeRange {
        min: Millis::MIN,
        max: Millis::MAX,
    };

    /// Whether `at` lies inside.
    pub fn contains(&self, at: Millis) -> bool {
        self.min <= at && at <= self.max
    }

    /// Whether the two windows share an instant.
    pub fn overlaps(&self, other: &TimeRange) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                super::yaml::from_text(deserializer)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
serde_as_text!(Interval);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_in_prometheus() {
        for (text, millis, printed) in [
            ("0", 0, "0s"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("10s53ms", 10_053, "10s53ms"),
            ("100y", 100 * 365 * 86_400_000, "100y"),
            ("14d", 14 * 86_400_000, "2w"),
            ("15d", 15 * 86_400_000, "15d"),
            ("25h", 25 * 3_600_000, "25h"),
        ] {
            let interval: Interval = text.parse().unwrap();
            assert_eq!((interval.0, interval.to_string().as_str()), (millis, printed), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for text in ["", "1", "m", "5m1h", "1m1m", "-1s", "1.5h", "1x", "99999999999y"] {
            assert!(text.parse::<Interval>().is_err(), "{text} was read");
        }
    }

    #[test]
    fn a_point_in_time_prints_as_rfc_3339() {
        assert_eq!(Millis(1_500).to_string(), "1970-01-01T00:00:01.500Z");
        assert_eq!(Millis::MAX.to_string(), i64::MAX.to_string());
    }
}
