//! Statistics of a series' floats, as the series table has them.
//!
//! ```text
//! stats   first | [last] | [min] | [max] | [sum]            each left out when a flag says that it equals another
//! number  decimal exponent u8 | integer zigzag, or 255 | bits u64
//! ```

use super::series::FLOATS_CONST;
use super::values;
use super::wire::{Cursor, DecodeError, put_signed};

const STATS_INEXACT: u64 = 1 << 7;
const LAST_IS_MAX: u64 = 1 << 8;
const LAST_IS_MIN: u64 = 1 << 9;
const FIRST_IS_MAX: u64 = 1 << 10;
const FIRST_IS_MIN: u64 = 1 << 11;
const SUM_IS_PRODUCT: u64 = 1 << 12;

/// What is known of a series' floats without decoding them.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// The oldest value, which may be a stale marker or NaN.
    pub first: f64,
    /// The newest value, likewise.
    pub last: f64,
    /// The smallest finite number; `first` when there is none.
    pub min: f64,
    /// The largest finite number; `first` when there is none.
    pub max: f64,
    /// The sum of the finite numbers in order of time, compensated (Neumaier), as `sum_over_time` computes it.
    pub sum: f64,
    /// Whether all samples are finite numbers: only then do `min`, `max` and `sum` stand for all of them.
    pub exact: bool,
}

impl Stats {
    /// Computes the statistics of at least one value.
    pub(crate) fn of(values: &[f64]) -> Stats {
        let mut stats = Stats {
            first: values[0],
            last: values[values.len() - 1],
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            exact: true,
        };
        let mut lost = 0.0;
        for &value in values {
            if !value.is_finite() {
                stats.exact = false;
                continue;
            }
            stats.min = stats.min.min(value);
            stats.max = stats.max.max(value);
            let sum = stats.sum + value;
            lost += if stats.sum.abs() >= value.abs() {
                stats.sum - sum + value
            } else {
                value - sum + stats.sum
            };
            stats.sum = sum;
        }
        stats.sum += lost;
        if stats.min > stats.max {
            (stats.min, stats.max) = (stats.first, stats.first);
        }
        stats
    }
}

/// Returns the flags of an entry that say what is left out.
pub(super) fn flags_of(stats: &Stats, count: u32) -> u64 {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    let flag = |is: bool, flag: u64| u64::from(is) * flag;
    flag(!stats.exact, STATS_INEXACT)
        | flag(same(stats.last, stats.max), LAST_IS_MAX)
        | flag(same(stats.last, stats.min), LAST_IS_MIN)
        | flag(same(stats.first, stats.max), FIRST_IS_MAX)
        | flag(same(stats.first, stats.min), FIRST_IS_MIN)
        | flag(same(stats.first * f64::from(count), stats.sum), SUM_IS_PRODUCT)
}

/// Appends what the flags do not say.
pub(super) fn put(stats: &Stats, flags: u64, out: &mut Vec<u8>) {
    put_number(stats.first, out);
    if flags & FLOATS_CONST == 0 {
        put_number(stats.last, out);
    }
    if flags & (LAST_IS_MIN | FIRST_IS_MIN) == 0 {
        put_number(stats.min, out);
    }
    if flags & (LAST_IS_MAX | FIRST_IS_MAX) == 0 {
        put_number(stats.max, out);
    }
    if flags & SUM_IS_PRODUCT == 0 {
        put_number(stats.sum, out);
    }
}

/// Reads statistics: the reverse of [`put`].
pub(super) fn take(cursor: &mut Cursor<'_>, flags: u64, count: u32) -> Result<Stats, DecodeError> {
    let first = take_number(cursor)?;
    let last = if flags & FLOATS_CONST == 0 {
        take_number(cursor)?
    } else {
        first
    };
    let mut bound = |is_last: u64, is_first: u64| {
        if flags & is_last != 0 {
            Ok(last)
        } else if flags & is_first != 0 {
            Ok(first)
        } else {
            take_number(cursor)
        }
    };
    let min = bound(LAST_IS_MIN, FIRST_IS_MIN)?;
    let max = bound(LAST_IS_MAX, FIRST_IS_MAX)?;
    let sum = if flags & SUM_IS_PRODUCT == 0 {
        take_number(cursor)?
    } else {
        first * f64::from(count)
    };
    let exact = flags & STATS_INEXACT == 0;
    Ok(Stats {
        first,
        last,
        min,
        max,
        sum,
        exact,
    })
}

/// Appends a double: decimals of few digits in few bytes (`exponent | integer zigzag`), else `255 | bits`.
fn put_number(value: f64, out: &mut Vec<u8>) {
    match values::to_decimal(value) {
        Some((exponent, integer)) if integer.unsigned_abs() < 1 << 55 => {
            out.push(exponent);
            put_signed(out, integer);
        }
        _ => {
            out.push(255);
            out.extend(value.to_bits().to_le_bytes());
        }
    }
}

fn take_number(cursor: &mut Cursor<'_>) -> Result<f64, DecodeError> {
    match cursor.byte()? {
        255 => Ok(f64::from_bits(cursor.u64()?)),
        exponent => values::from_decimal(exponent, cursor.signed()?).ok_or(DecodeError::Malformed("number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sum_is_compensated_and_markers_are_left_out() {
        let stats = Stats::of(&[1.0, 1e100, 1.0, -1e100]);
        assert!((stats.sum, stats.min, stats.max, stats.exact) == (2.0, -1e100, 1e100, true));
        let stats = Stats::of(&[1.0, crate::model::stale_marker()]);
        assert!(!stats.exact && stats.last.is_nan() && stats.sum == 1.0);
    }

    proptest! {
        #[test]
        fn numbers_read_back_bit_for_bit(bits in any::<u64>(), cents in any::<i32>()) {
            for value in [f64::from_bits(bits), f64::from(cents) / 100.0, f64::from(cents)] {
                let mut out = Vec::new();
                put_number(value, &mut out);
                let mut cursor = Cursor::new(&out);
                prop_assert_eq!(take_number(&mut cursor).unwrap().to_bits(), value.to_bits());
                prop_assert!(cursor.is_empty());
            }

        }
    }
}
