//! The columns of a sealed chunk: at most 120 samples, packed. Pure: framing and checksums are the chunk store's.
//!
//! ```text
//! values: form u8 (bit 7: exceptions follow)
//!         [ count varint | ( index − previous index varint | bits u64 )* ]        what is no plain number
//!         form 0 to 9: integers × 10^-form: base zigzag | gcd varint | packed
//!         form 30: one number, 8 bytes      form 31: tsz bits
//! times:  first zigzag | step zigzag | what they are off that grid, packed; nothing when all stand on it
//! packed: order u8 | ( width u8 | 32 numbers of that width )*                     little-endian
//! ```

use super::open::{decode_floats, encode_floats};
use crate::tsdb::block::bits;
use crate::tsdb::block::wire::{Cursor, DecodeError, put_signed, put_varint, unzigzag, zigzag};

const EXCEPTIONS: u8 = 0x80;
const CONST: u8 = 30;
const FLOATS: u8 = 31;
/// The largest decimal exponent tried.
const EXPONENT_MAX: u8 = 9;
const POWERS: [f64; EXPONENT_MAX as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Scaled numbers stay below this, where a double still holds every integer.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Replaces numbers by their differences, `order` times; the first number and first difference stay where they are.
fn difference(numbers: &mut [i64], order: u8) {
    for first in 0..usize::from(order) {
        for at in (first + 1..numbers.len()).rev() {
            numbers[at] = numbers[at].wrapping_sub(numbers[at - 1]);
        }
    }
}

fn integrate(numbers: &mut [i64], order: u8) {
    for first in (0..usize::from(order)).rev() {
        for at in first + 1..numbers.len() {
            numbers[at] = numbers[at].wrapping_add(numbers[at - 1]);
        }
    }
}

/// Returns the order of differences, 0 to 2, that seems to take the fewest bits.
fn best_order(numbers: &[i64]) -> u8 {
    let mut sizes = [0u32; 3];
    let (mut last, mut last_step) = (0i64, 0i64);
    for (at, number) in numbers.iter().enumerate() {
        let step = number.wrapping_sub(last);
        let size = |value: i64| 64 - zigzag(value).leading_zeros();
        sizes[0] += size(*number);
        sizes[1] += size(if at == 0 { *number } else { step });
        sizes[2] += size(if at < 2 { step } else { step.wrapping_sub(last_step) });
        (last, last_step) = (*number, step);
    }
    (0..3).min_by_key(|order| sizes[usize::from(*order)]).unwrap_or(0)
}

fn put_packed(mut numbers: Vec<i64>, out: &mut Vec<u8>) {
    let order = best_order(&numbers);
    difference(&mut numbers, order);
    out.push(order);
    let packed: Vec<u64> = numbers.into_iter().map(zigzag).collect();
    bits::pack(&packed, out);
}

fn take_packed(cursor: &mut Cursor<'_>, n: usize) -> Result<Vec<i64>, DecodeError> {
    let order = cursor.byte()?;
    if order > 2 {
        return Err(DecodeError::Malformed("order of differences"));
    }
    let mut packed = Vec::with_capacity(n);
    bits::unpack(cursor, n, &mut packed)?;
    let mut numbers: Vec<i64> = packed.into_iter().map(unzigzag).collect();
    integrate(&mut numbers, order);
    Ok(numbers)
}

/// Appends the times of a chunk; there is at least one. Returns whether they stand on a grid.
pub(super) fn encode_times(times: &[i64], out: &mut Vec<u8>) -> bool {
    let first = times[0];
    let step = times.get(1).map_or(0, |second| second.wrapping_sub(first));
    let grid = |at: usize| first.wrapping_add(step.wrapping_mul(at as i64));
    let off: Vec<i64> = (times.iter().enumerate())
        .map(|(at, time)| time.wrapping_sub(grid(at)))
        .collect();
    put_signed(out, first);
    put_signed(out, step);
    let on_grid = off.iter().all(|off| *off == 0);
    if !on_grid {
        put_packed(off, out);
    }
    on_grid
}

/// Reads `n` times that [`encode_times`] wrote.
pub(super) fn decode_times(column: &[u8], n: usize, times: &mut Vec<i64>) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(column);
    let (first, step) = (cursor.signed()?, cursor.signed()?);
    let grid = |at: usize| first.wrapping_add(step.wrapping_mul(at as i64));
    if cursor.is_empty() {
        times.extend((0..n).map(grid));
        return Ok(());
    }
    let off = take_packed(&mut cursor, n)?;
    times.extend(off.into_iter().enumerate().map(|(at, off)| grid(at).wrapping_add(off)));
    cursor.finish("times")
}

fn is_plain(value: f64) -> bool {
    value.is_finite() && value.to_bits() != (-0.0f64).to_bits()
}

fn to_integer(value: f64, exponent: u8) -> Option<i64> {
    let scaled = (value * POWERS[usize::from(exponent)]).round();
    if scaled.abs() > INTEGER_MAX {
        return None;
    }
    let integer = scaled as i64;
    (to_float(integer, exponent).to_bits() == value.to_bits()).then_some(integer)
}

fn to_float(integer: i64, exponent: u8) -> f64 {
    if exponent == 0 {
        return integer as f64;
    }
    integer as f64 / POWERS[usize::from(exponent)]
}

/// Returns the numbers as integers under one power of ten, when there is one.
fn to_integers(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    let mut exponent = 0;
    for value in values {
        while to_integer(*value, exponent).is_none() {
            exponent += 1;
            if exponent > EXPONENT_MAX {
                return None;
            }
        }
    }
    let integers: Option<Vec<i64>> = values.iter().map(|value| to_integer(*value, exponent)).collect();
    Some((exponent, integers?))
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Appends the values of a chunk.
pub(super) fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    let plain: Vec<f64> = values.iter().copied().filter(|value| is_plain(*value)).collect();
    let flag = if plain.len() < values.len() { EXCEPTIONS } else { 0 };
    let same = plain.iter().all(|value| value.to_bits() == plain[0].to_bits());
    let integers = if same { None } else { to_integers(&plain) };
    out.push(
        flag | integers
            .as_ref()
            .map_or(if same { CONST } else { FLOATS }, |(exponent, _)| *exponent),
    );
    if flag != 0 {
        put_varint(out, (values.len() - plain.len()) as u64);
        let mut last = 0;
        for (at, value) in values.iter().enumerate().filter(|(_, value)| !is_plain(**value)) {
            put_varint(out, (at - last) as u64);
            out.extend(value.to_bits().to_le_bytes());
            last = at;
        }
    }
    match integers {
        Some((_, integers)) => put_integers(&integers, out),
        None if same => out.extend(plain.first().copied().unwrap_or(0.0).to_bits().to_le_bytes()),
        None => encode_floats(&plain, out),
    }
}

fn put_integers(integers: &[i64], out: &mut Vec<u8>) {
    let base = integers.iter().copied().min().unwrap_or(0);
    let divisor = integers
        .iter()
        .fold(0, |divisor, integer| gcd(divisor, integer.wrapping_sub(base) as u64))
        .max(1);
    let reduced = integers
        .iter()
        .map(|integer| (integer.wrapping_sub(base) as u64 / divisor) as i64)
        .collect();
    put_signed(out, base);
    put_varint(out, divisor);
    put_packed(reduced, out);
}

/// Reads `n` values that [`encode_values`] wrote.
pub(super) fn decode_values(column: &[u8], n: usize, values: &mut Vec<f64>) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(column);
    let form = cursor.byte()?;
    let mut exceptions = Vec::new();
    if form & EXCEPTIONS != 0 {
        let (count, mut at) = (cursor.size()?, 0usize);
        for _ in 0..count {
            at = at.saturating_add(cursor.size()?);
            exceptions.push((at, f64::from_bits(cursor.u64()?)));
        }
    }
    let Some(plain) = n.checked_sub(exceptions.len()) else {
        return Err(DecodeError::Malformed("count of exceptions"));
    };
    let start = values.len();
    match form & !EXCEPTIONS {
        CONST => values.resize(start + plain, f64::from_bits(cursor.u64()?)),
        FLOATS => decode_floats(cursor.rest(), plain as u32, values).ok_or(DecodeError::Malformed("floats"))?,
        exponent if exponent <= EXPONENT_MAX => {
            let (base, divisor) = (cursor.signed()?, cursor.varint()?);
            let integers = take_packed(&mut cursor, plain)?;
            let whole = |reduced: i64| base.wrapping_add(reduced.wrapping_mul(divisor as i64));
            values.extend(integers.into_iter().map(|reduced| to_float(whole(reduced), exponent)));
        }
        _ => return Err(DecodeError::Malformed("form of values")),
    }
    for (at, value) in exceptions {
        if at > values.len() - start {
            return Err(DecodeError::Malformed("place of an exception"));
        }
        values.insert(start + at, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_marker;
    use proptest::prelude::*;

    fn packed(values: &[f64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_values(values, &mut bytes);
        bytes
    }

    #[test]
    fn a_stale_marker_leaves_integers_integers() {
        let mut values: Vec<f64> = (0..120).map(|at| f64::from(at * 7 % 50)).collect();
        let without = packed(&values).len();
        values[60] = stale_marker();
        let with = packed(&values).len();
        assert!(with <= without + 12, "{without} bytes became {with}");
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (-100_000..100_000i64).prop_map(|n| n as f64),
            (-100_000..100_000i64).prop_map(|n| n as f64 / 100.0),
            Just(stale_marker()),
        ]
    }

    proptest! {
        #[test]
        fn any_samples_read_back(
            start in any::<i64>(),
            steps in proptest::collection::vec(1..100_000i64, 1..120),
            floats in proptest::collection::vec(value(), 120),
            whole in any::<bool>(),
        ) {
            let times: Vec<i64> = steps.iter().scan(start >> 2, |at, step| { *at += step; Some(*at) }).collect();
            let values: Vec<f64> =
                floats.iter().take(times.len()).map(|v| if whole { (*v as i64) as f64 } else { *v }).collect();
            let (mut column, mut read_times, mut read_values) = (Vec::new(), Vec::new(), Vec::new());
            encode_times(&times, &mut column);
            decode_times(&column, times.len(), &mut read_times).unwrap();
            prop_assert_eq!(&read_times, &times);
            decode_values(&packed(&values), values.len(), &mut read_values).unwrap();
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&read_values), bits(&values));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), n in 1..120usize) {
            let _ = decode_values(&bytes, n, &mut Vec::new());
            let _ = decode_times(&bytes, n, &mut Vec::new());
        }
    }
}
