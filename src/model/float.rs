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
        // Knuth's two-sum finds the same error as asking which of the two is larger, without a branch to mispredict.
        let total = self.sum + value;
        let added = total - self.sum;
        let lost = self.lost + ((self.sum - (total - added)) + (value - added));
        self.lost = if total.is_infinite() { 0.0 } else { lost };
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

/// `N` sums that run beside each other: each as [`FloatSum`] has it, together in about the time of one.
#[derive(Clone, Copy, Debug)]
pub struct FloatSums<const N: usize> {
    sum: [f64; N],
    lost: [f64; N],
}

impl<const N: usize> Default for FloatSums<N> {
    fn default() -> FloatSums<N> {
        FloatSums {
            sum: [0.0; N],
            lost: [0.0; N],
        }
    }
}

impl<const N: usize> FloatSums<N> {
    /// Adds a number to each. Plain arithmetic on whole arrays, of which the compiler makes vectors: once a sum is infinite,
    /// its correction is NaN, unlike [`FloatSum`]'s.
    #[inline]
    pub fn add(&mut self, values: [f64; N]) {
        use std::array::from_fn;
        let total: [f64; N] = from_fn(|at| self.sum[at] + values[at]);
        let added: [f64; N] = from_fn(|at| total[at] - self.sum[at]);
        let kept: [f64; N] = from_fn(|at| self.sum[at] - (total[at] - added[at]));
        let lost: [f64; N] = from_fn(|at| values[at] - added[at]);
        self.lost = from_fn(|at| self.lost[at] + (kept[at] + lost[at]));
        self.sum = total;
    }

    /// Returns the sums, corrected; `None` when one is infinite or no number.
    #[inline]
    pub fn values(self) -> Option<[f64; N]> {
        let values: [f64; N] = std::array::from_fn(|at| self.sum[at] + self.lost[at]);
        values.iter().all(|value| value.is_finite()).then_some(values)
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

    proptest::proptest! {
        #[test]
        fn a_sum_has_the_digits_of_the_way_with_a_branch(values in proptest::collection::vec(proptest::num::f64::ANY, 0..20)) {
            let (mut sum, mut expected) = (FloatSum::default(), FloatSum::default());
            for value in values.iter().map(|value| value / 64.0) {
                sum.add(value);
                let total = expected.sum + value;
                expected.lost = match expected.sum.abs() >= value.abs() {
                    _ if total.is_infinite() => 0.0,
                    true => expected.lost + ((expected.sum - total) + value),
                    false => expected.lost + ((value - total) + expected.sum),
                };
                expected.sum = total;
            }
            let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
            proptest::prop_assert!(same(sum.sum, expected.sum) && same(sum.lost, expected.lost), "{sum:?} {expected:?}");
        }
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
