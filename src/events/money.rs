//! Money in millionths of a unit, as integers: sums of it are exact and do not depend on their order.

use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub};
use std::str::FromStr;

/// Millionths of one unit of the configured currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

/// The most that one event may say: ten million units, so that a sum over 900,000 such events still fits.
pub const MONEY_MAX: Micros = Micros(10_000_000 * UNIT);
/// Millionths in a unit.
const UNIT: i64 = 1_000_000;
/// Digits of a unit's fraction.
const DIGITS: usize = 6;

/// Why a text is no amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Something else than digits with at most one point, or an exponent.
    #[error("is not a decimal number like 0.25")]
    Malformed,
    /// A sign.
    #[error("is negative")]
    Negative,
    /// More digits after the point than a millionth has, so that it would have to be rounded.
    #[error("has more than 6 decimal places")]
    TooFine,
    /// More than [`MONEY_MAX`].
    #[error("is more than 10000000")]
    TooLarge,
}

impl Micros {
    /// Nothing.
    pub const ZERO: Micros = Micros(0);

    /// Returns the amount in units, for answers and series; exact up to nine billion units.
    #[expect(clippy::cast_precision_loss, reason = "2^53 millionths are nine billion units")]
    pub fn as_units(self) -> f64 {
        self.0 as f64 / UNIT as f64
    }

    /// Returns the sum, stopping at the ends instead of wrapping.
    #[must_use]
    pub fn saturating_add(self, other: Micros) -> Micros {
        Micros(self.0.saturating_add(other.0))
    }
}

impl FromStr for Micros {
    type Err = MoneyError;

    /// Reads `12`, `0.25`, `.5`, `7.`; trailing zeros beyond the sixth decimal are fine, other digits there are not.
    fn from_str(text: &str) -> Result<Micros, MoneyError> {
        if text.starts_with('-') {
            return Err(MoneyError::Negative);
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
            return Err(MoneyError::Malformed);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > DIGITS {
            return Err(MoneyError::TooFine);
        }
        let whole = whole.trim_start_matches('0');
        if whole.len() > 9 {
            return Err(MoneyError::TooLarge);
        }
        let number = |part: &str| {
            part.bytes()
                .fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'))
        };
        let scale = 10_i64.pow(u32::try_from(DIGITS - fraction.len()).expect("six at most"));
        let micros = Micros(number(whole) * UNIT + number(fraction) * scale);
        if micros > MONEY_MAX {
            return Err(MoneyError::TooLarge);
        }
        Ok(micros)
    }
}

impl fmt::Display for Micros {
    /// The shortest decimal: `0.25`, `12`, `-3.000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (self.0.unsigned_abs() / 1_000_000, self.0.unsigned_abs() % 1_000_000);
        write!(f, "{sign}{whole}")?;
        if rest == 0 {
            return Ok(());
        }
        let digits = format!("{rest:06}");
        write!(f, ".{}", digits.trim_end_matches('0'))
    }
}

impl Add for Micros {
    type Output = Micros;

    fn add(self, other: Micros) -> Micros {
        Micros(self.0 + other.0)
    }
}

impl AddAssign for Micros {
    fn add_assign(&mut self, other: Micros) {
        self.0 += other.0;
    }
}

impl Sub for Micros {
    type Output = Micros;

    fn sub(self, other: Micros) -> Micros {
        Micros(self.0 - other.0)
    }
}

impl Neg for Micros {
    type Output = Micros;

    fn neg(self) -> Micros {
        Micros(-self.0)
    }
}

impl std::iter::Sum for Micros {
    fn sum<I: Iterator<Item = Micros>>(amounts: I) -> Micros {
        amounts.fold(Micros::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_refused() {
        for (text, micros) in [
            ("0", 0),
            ("12", 12_000_000),
            ("0.25", 250_000),
            (".5", 500_000),
            ("7.", 7_000_000),
            ("0.000001", 1),
            ("0.10000000", 100_000),
            ("10000000", MONEY_MAX.0),
            ("00000000000001", 1_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Micros(micros)), "{text}");
        }
        for (text, error) in [
            ("", MoneyError::Malformed),
            (".", MoneyError::Malformed),
            ("1e3", MoneyError::Malformed),
            ("NaN", MoneyError::Malformed),
            ("1,5", MoneyError::Malformed),
            ("-1", MoneyError::Negative),
            ("0.0000001", MoneyError::TooFine),
            ("10000000.000001", MoneyError::TooLarge),
            ("99999999999999999999", MoneyError::TooLarge),
        ] {
            assert_eq!(text.parse::<Micros>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(micros in 0..=MONEY_MAX.0) {
            prop_assert_eq!(Micros(micros).to_string().parse(), Ok(Micros(micros)));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Micros>();
        }
    }
}
