//! A column of doubles, exact in every bit.
//!
//! ```text
//! form u8    bit 7: exceptions stand first
//!            0 to 18: integers (`ints`) to be divided by 10^form
//!            19 to 27: integers to be multiplied by 10^(18 − form), 28: to be divided by 1000 twice
//!            29: there is nothing but exceptions   30: one number, 8 bytes   31: short, 32: paged `pco_column` of f64
//! exceptions `presence` of n | ( kind u8 | bits u64 when kind is 4 | run − 1 varint )*
//!            kind 0 stale marker, 1 +Inf, 2 −Inf, 3 −0, 4 any other bits
//! ```
//! Most metrics are integers or short decimals, and then a division brings back the very same double; exporters that
//! scale by another arithmetic (`ticks * 1e-9`, `usecs / 1e3 / 1e3`) leave doubles that only that arithmetic brings back.
//! Each number is tried before any of it is relied upon. What is no such number (a stale marker, NaN, infinities, −0, a stray full-precision
//! value) is an exception beside the column, so that one marker does not turn 5,000 integers into floats.

use std::ops::Range;

use pco::{ChunkConfig, DeltaSpec};

use super::presence::Presence;
use super::wire::{Cursor, DecodeError, put_varint};
use super::{ints, pco_column};
use crate::model::{is_stale, stale_marker};

const EXCEPTIONS: u8 = 0x80;
const NOTHING: u8 = 29;
const CONST: u8 = 30;
const PCO: u8 = 31;
const PCO_PAGED: u8 = 32;
/// The largest decimal exponent tried; with more digits than 2^53 holds nothing would fit.
const EXPONENT_MAX: u8 = 18;
/// The first form that multiplies, by 0.1.
const TIMES_TENTH: u8 = 19;
/// Microseconds that became seconds in two steps.
const TWICE_THOUSAND: u8 = 28;
/// Integers up to here are doubles, one and all.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// Powers of ten that are exact doubles, so that one rounding happens and not two.
const POWERS: [f64; EXPONENT_MAX as usize + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
];

/// What the forms that multiply multiply by: not powers of ten, but their nearest doubles.
const TENTHS: [f64; (TWICE_THOUSAND - TIMES_TENTH) as usize] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9];

/// Appends the numbers. There is at least one.
pub(crate) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let plain = if values.iter().all(|value| is_regular(*value)) {
        Plain::of(values)
    } else {
        let regular: Vec<f64> = values.iter().copied().filter(|value| is_regular(*value)).collect();
        Plain::of(&regular)
    };
    let is_exception = |value: f64| !is_regular(value) || plain.misfits && to_integer(value, plain.form).is_none();
    let exceptions: Presence = (0u32..)
        .zip(values)
        .filter(|(_, value)| is_exception(**value))
        .map(|(slot, _)| slot)
        .collect();
    if exceptions.is_empty() {
        out.push(plain.form);
        encode_plain(values, plain.form, out);
        return;
    }
    out.push(plain.form | EXCEPTIONS);
    exceptions.encode(values.len(), out);
    encode_exceptions(values, &exceptions, out);
    let rest: Vec<f64> = values.iter().copied().filter(|value| !is_exception(*value)).collect();
    encode_plain(&rest, plain.form, out);
}

/// Reads all numbers of a column of `n` into `out`, which is cleared first.
pub(crate) fn decode_all(cursor: &mut Cursor<'_>, n: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    decode(cursor, n, 0..n, out).map(|_| ())
}

/// Reads the numbers `want` of a column of `n`, and as many before and behind them as cost nothing more, into `out`, which
/// is cleared first. Returns which of the column is the first of `out`.
pub(crate) fn decode(
    cursor: &mut Cursor<'_>,
    n: usize,
    want: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<usize, DecodeError> {
    out.clear();
    if n == 0 || n > ints::COUNT_MAX {
        return Err(DecodeError::Malformed("column length"));
    }
    let form = cursor.byte()?;
    if form & EXCEPTIONS == 0 {
        return decode_plain(cursor, form, n, want, out);
    }
    let exceptions = Presence::decode(cursor, n)?;
    let odd = decode_exceptions(cursor, exceptions.len())?;
    let rest = n
        .checked_sub(exceptions.len())
        .ok_or(DecodeError::Malformed("exceptions"))?;
    decode_plain(cursor, form & !EXCEPTIONS, rest, 0..rest, out)?;
    spread(out, &exceptions, &odd, n);
    Ok(0)
}

/// Whether a number may stand in an integer or float column, rather than beside it.
fn is_regular(value: f64) -> bool {
    value.is_finite() && value.to_bits() != (-0.0f64).to_bits()
}

/// How the regular numbers of a column are stored.
struct Plain {
    form: u8,
    /// Whether some numbers do not fit the exponent, and become exceptions.
    misfits: bool,
}

impl Plain {
    /// Chooses for finite numbers without −0.
    fn of(values: &[f64]) -> Plain {
        let sure = |form| Plain { form, misfits: false };
        let Some(first) = values.first() else {
            return sure(NOTHING);
        };
        let form = integer_form(values);
        if form.is_none() && values.iter().all(|value| value.to_bits() == first.to_bits()) {
            return sure(CONST);
        }
        match form {
            Some((form, misfits)) => Plain {
                form,
                misfits: misfits > 0,
            },
            None if values.len() > pco_column::PAGED_COUNT_MIN => sure(PCO_PAGED),
            None => sure(PCO),
        }
    }
}

/// Returns the form that makes integers of (nearly) all numbers, and how many it does not.
fn integer_form(values: &[f64]) -> Option<(u8, usize)> {
    let misfits_max = values.len() / 32;
    let decimal = exponent(values, misfits_max);
    // Seconds counted in milli-, micro- or nanoseconds are what exporters scale by other arithmetic.
    let others = [
        TWICE_THOUSAND,
        TIMES_TENTH + 8,
        TIMES_TENTH + 5,
        TIMES_TENTH + 2,
        TIMES_TENTH + 1,
    ];
    let mut forms = decimal.into_iter().chain(others);
    forms.find_map(|form| Some((form, misfits(values, form, misfits_max)?)))
}

/// Returns how many numbers a form does not bring back, unless they are too many.
fn misfits(values: &[f64], form: u8, max: usize) -> Option<usize> {
    let mut misfits = 0;
    for value in values {
        misfits += usize::from(to_integer(*value, form).is_none());
        if misfits > max {
            return None;
        }
    }
    Some(misfits)
}

/// Returns the smallest power of ten that fits all numbers that any power fits.
fn exponent(values: &[f64], misfits_max: usize) -> Option<u8> {
    let (mut exponent, mut misfits) = (0, 0);
    for value in values {
        if to_integer(*value, exponent).is_none() {
            match (exponent + 1..=EXPONENT_MAX).find(|more| to_integer(*value, *more).is_some()) {
                Some(more) => exponent = more,
                None => misfits += 1,
            }
            if misfits > misfits_max {
                return None;
            }
        }
    }
    Some(exponent)
}

/// Returns the integer that [`to_float`] turns back into exactly this number.
fn to_integer(value: f64, form: u8) -> Option<i64> {
    if form == 0 {
        let integer = value as i64;
        return (value.abs() < 9.2e18 && (integer as f64).to_bits() == value.to_bits()).then_some(integer);
    }
    let scaled = match form {
        TWICE_THOUSAND => value * 1e6,
        exponent if exponent <= EXPONENT_MAX => value * POWERS[usize::from(exponent)],
        tenths => value / TENTHS[usize::from(tenths - TIMES_TENTH)],
    };
    let scaled = scaled.round();
    if scaled.abs() > INTEGER_MAX {
        return None;
    }
    let integer = scaled as i64;
    (to_float(integer, form).to_bits() == value.to_bits()).then_some(integer)
}

fn to_float(integer: i64, form: u8) -> f64 {
    match form {
        0 => integer as f64,
        TWICE_THOUSAND => integer as f64 / 1e3 / 1e3,
        exponent if exponent <= EXPONENT_MAX => integer as f64 / POWERS[usize::from(exponent)],
        tenths => integer as f64 * TENTHS[usize::from(tenths - TIMES_TENTH)],
    }
}

/// Returns the shortest decimal that is exactly this number: an exponent and an integer.
pub(super) fn to_decimal(value: f64) -> Option<(u8, i64)> {
    if !is_regular(value) {
        return None;
    }
    (0..=EXPONENT_MAX).find_map(|exponent| Some((exponent, to_integer(value, exponent)?)))
}

/// The reverse of [`to_decimal`]; `None` for an exponent that it never gives.
pub(super) fn from_decimal(exponent: u8, integer: i64) -> Option<f64> {
    (exponent <= EXPONENT_MAX).then(|| to_float(integer, exponent))
}

fn encode_plain(values: &[f64], form: u8, out: &mut Vec<u8>) {
    match form {
        NOTHING => {}
        CONST => out.extend(values[0].to_bits().to_le_bytes()),
        PCO => pco_column::put(values, float_config(), out),
        PCO_PAGED => pco_column::put_paged(values, float_config(), out),
        form => {
            let integers: Vec<i64> = values
                .iter()
                .map(|value| to_integer(*value, form).expect("numbers that do not fit are exceptions"))
                .collect();
            ints::encode(&integers, out);
        }
    }
}

fn float_config() -> ChunkConfig {
    ChunkConfig::default().with_delta_spec(DeltaSpec::Auto)
}

fn decode_plain(
    cursor: &mut Cursor<'_>,
    form: u8,
    n: usize,
    want: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<usize, DecodeError> {
    let mut first = 0;
    match form {
        NOTHING if n == 0 => {}
        CONST => out.resize(n, f64::from_bits(cursor.u64()?)),
        PCO if n > 0 => *out = pco_column::take(cursor, n, want.end)?,
        PCO_PAGED if n > 0 => (*out, first) = pco_column::take_paged(cursor, n, want)?,
        form if form <= TWICE_THOUSAND => {
            let mut integers = Vec::new();
            first = ints::decode(cursor, n, want, &mut integers)?;
            // One loop for each arithmetic, so that the compiler makes vectors of it.
            let integers = integers.into_iter();
            match form {
                0 => out.extend(integers.map(|integer| integer as f64)),
                TWICE_THOUSAND => out.extend(integers.map(|integer| to_float(integer, TWICE_THOUSAND))),
                form if form <= EXPONENT_MAX => {
                    let power = POWERS[usize::from(form)];
                    out.extend(integers.map(|integer| integer as f64 / power));
                }
                form => {
                    let tenth = TENTHS[usize::from(form - TIMES_TENTH)];
                    out.extend(integers.map(|integer| integer as f64 * tenth));
                }
            }
        }
        _ => return Err(DecodeError::Malformed("value column")),
    }
    Ok(first)
}

fn encode_exceptions(values: &[f64], exceptions: &Presence, out: &mut Vec<u8>) {
    let odd: Vec<u64> = exceptions
        .runs()
        .iter()
        .flat_map(|run| &values[run.start as usize..run.end as usize])
        .map(|value| value.to_bits())
        .collect();
    for run in odd.chunk_by(|a, b| a == b) {
        let value = f64::from_bits(run[0]);
        match value {
            _ if is_stale(value) => out.push(0),
            f64::INFINITY => out.push(1),
            f64::NEG_INFINITY => out.push(2),
            _ if run[0] == (-0.0f64).to_bits() => out.push(3),
            _ => {
                out.push(4);
                out.extend(run[0].to_le_bytes());
            }
        }
        put_varint(out, run.len() as u64 - 1);
    }
}

fn decode_exceptions(cursor: &mut Cursor<'_>, n: usize) -> Result<Vec<f64>, DecodeError> {
    let mut odd = Vec::new();
    while odd.len() < n {
        let value = match cursor.byte()? {
            0 => stale_marker(),
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            3 => -0.0,
            4 => f64::from_bits(cursor.u64()?),
            _ => return Err(DecodeError::Malformed("exception")),
        };
        let run = cursor.size()?;
        if run >= n - odd.len() {
            return Err(DecodeError::Malformed("run of exceptions"));
        }
        odd.resize(odd.len() + run + 1, value);
    }
    Ok(odd)
}

/// Moves the regular numbers apart and puts the exceptions between them.
fn spread(values: &mut Vec<f64>, exceptions: &Presence, odd: &[f64], n: usize) {
    let (mut regular, mut odd_left, mut end) = (values.len(), odd.len(), n);
    values.resize(n, 0.0);
    for run in exceptions.runs().iter().rev() {
        let (start, stop) = (run.start as usize, run.end as usize);
        let after = end - stop;
        values.copy_within(regular - after..regular, stop);
        regular -= after;
        values[start..stop].copy_from_slice(&odd[odd_left - run.len()..odd_left]);
        odd_left -= run.len();
        end = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[f64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut read = Vec::new();
        let mut cursor = Cursor::new(&out);
        decode_all(&mut cursor, values.len(), &mut read).unwrap();
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read), bits(values));
        assert!(cursor.is_empty(), "{} bytes left over", cursor.rest().len());
        out
    }

    fn counter() -> Vec<f64> {
        (0..480u64)
            .map(|i| (1_000_000 + i * 37 + i * i * 7919 % 23) as f64)
            .collect()
    }

    #[test]
    fn one_stale_marker_does_not_turn_integers_into_floats() {
        let clean = round_trip(&counter()).len();
        for odd in [stale_marker(), f64::NAN, f64::INFINITY, -0.0, 0.1 + 0.2] {
            let mut values = counter();
            values[200] = odd;
            let with = round_trip(&values).len();
            assert!(with <= clean + 32, "{odd} costs {} bytes", with - clean);
        }
    }

    #[test]
    fn decimals_become_integers_and_hard_cases_stay_exact() {
        let cents: Vec<f64> = (0..480).map(|i| f64::from(i * 7919 % 1000) / 100.0).collect();
        assert!(round_trip(&cents).len() < 700);
        round_trip(&[
            0.1,
            0.2,
            0.1 + 0.2,
            1e22,
            1e300,
            5e-324,
            -0.0,
            0.0,
            f64::MAX,
            f64::MIN_POSITIVE,
        ]);
        round_trip(&[9_007_199_254_740_993.0, 0.1, 9.2e18, -9.2e18, 1.8e19]);
        round_trip(&[f64::NAN; 7]);
        round_trip(&[
            f64::from_bits(0x7ff8_0000_0000_0001),
            f64::from_bits(0xfff0_0000_0000_0005),
            stale_marker(),
        ]);
        round_trip(&[1e22; 5]);
    }

    #[test]
    fn what_exporters_scale_in_their_own_way_stays_an_integer() {
        for scale in [
            |us: u32| f64::from(us) / 1e3 / 1e3,
            |us: u32| f64::from(us) * 1e-6,
            |us: u32| f64::from(us) * 1e-9,
        ] {
            let values: Vec<f64> = (0..480u32)
                .map(|i| scale(24_000_000 + i * 7_919 + i * i % 23))
                .collect();
            assert!(round_trip(&values).len() < 480, "{} bytes", round_trip(&values).len());
        }
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-1000i32..1000).prop_map(f64::from),
            4 => (-100_000i32..100_000).prop_map(|cents| f64::from(cents) / 100.0),
            1 => any::<f64>(),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => Just(stale_marker()),
        ]
    }

    fn column() -> impl Strategy<Value = Vec<f64>> {
        let mixed = proptest::collection::vec(number(), 1..300);
        let integers = proptest::collection::vec((0..100_000i64).prop_map(|value| value as f64), 1..300);
        let noise = proptest::collection::vec(0.0..1.0f64, 1..300);
        prop_oneof![mixed, integers, noise]
    }

    proptest! {
        #[test]
        fn every_column_reads_back_bit_for_bit(values in column()) {
            round_trip(&values);
        }

        #[test]
        fn a_wanted_stretch_is_the_stretch(
            values in column(), from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(),
        ) {
            let mut out = Vec::new();
            encode(&values, &mut out);
            let (from, to) = (from.index(values.len()), to.index(values.len()));
            let want = from.min(to)..from.max(to) + 1;
            let mut read = Vec::new();
            let first = decode(&mut Cursor::new(&out), values.len(), want.clone(), &mut read).unwrap();
            prop_assert!(first <= want.start && want.end <= first + read.len() && first + read.len() <= values.len());
            prop_assert!(read.iter().zip(&values[first..]).all(|(a, b)| a.to_bits() == b.to_bits()));
        }

        #[test]
        fn every_prefix_of_the_bytes_is_an_error(values in column(), at in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            encode(&values, &mut out);
            out.truncate(at.index(out.len()));
            prop_assert!(decode_all(&mut Cursor::new(&out), values.len(), &mut Vec::new()).is_err());
        }

        #[test]
        fn flipped_bits_never_panic(values in column(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut out = Vec::new();
            encode(&values, &mut out);
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            let _ = decode_all(&mut Cursor::new(&out), values.len(), &mut Vec::new());
        }
    }
}
