//! Floats: summing them without losing digits, and writing them as Prometheus does.

/// A running sum with the rounding errors kept aside (Kahan's summation with Neumaier's improvement).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FloatSum {
    /// The sum as far as a double holds it.
    pub sum: f64,
    /// What rounding has lost so far.
    pub lost: f64,
}

impl FloatSum {
    /// A sum of one number.
    pub const fn of(value: f64) -> FloatSum {
        FloatSum { sum: value, lost: 0.0 }
    }

    /// Adds a number.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    /// Adds all of another sum.
    pub fn add_sum(&mut self, other: FloatSum) {
        self.add(other.sum);
        if other.lost != 0.0 {
            self.add(other.lost);
        }
    }

    /// Multiplies the sum.
    #[must_use]
    pub fn scaled(self, factor: f64) -> FloatSum {
        FloatSum {
            sum: self.sum * factor,
            lost: self.lost * factor,
        }
    }

    /// Returns the sum, corrected.
    #[inline]
    pub fn value(self) -> f64 {
        if self.sum.is_infinite() {
            self.sum
        } else {
            self.sum + self.lost
        }
    }
}

/// Writes a float with the fewest digits that read back as the same number; with an exponent below 1e-4 and from 1e6 on
/// as Go's `%g` and Prometheus's messages have it.
pub fn format_g(value: f64) -> String {
    if let Some(text) = not_finite(value) {
        return text.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if (-4..EXPONENT_MIN).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// The power of ten from which on [`format_g`] writes an exponent.
const EXPONENT_MIN: i32 = 6;

/// Writes a float in plain digits, never with an exponent: how `count_values` spells a value.
pub fn format_plain(value: f64) -> String {
    not_finite(value).map_or_else(|| format!("{value}"), str::to_owned)
}

fn not_finite(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_keeps_what_rounding_drops() {
        let mut sum = FloatSum::default();
        for value in [1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert!((sum.value() - 1.0).abs() < f64::EPSILON);
        sum.add(f64::INFINITY);
        assert!(sum.value().is_infinite());
    }

    #[test]
    fn floats_are_written_as_in_messages() {
        for (value, text) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (1_000_000.0, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e21, "1e+21"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(format_g(value), text);
        }
        assert_eq!(format_plain(1e21), "1000000000000000000000");
    }
}
