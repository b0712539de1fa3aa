//! A column of whole numbers: timestamps, start times, and values that are integers or exact decimals.
//!
//! ```text
//! 0 const    value zigzag
//! 1 linear   first zigzag | step zigzag                                          a regular grid costs a few bytes
//! 2 steps    first zigzag | ( run − 1 varint | change zigzag )* | last run − 1   rare changes: run-length
//! 3 packed   base zigzag | gcd varint | order | first deltas | blocks of 32: width byte, bits
//! 4 pco16, 5 pco32, 6 pco64
//!            base zigzag | gcd varint | short `pco_column`                       of (value − base) / gcd, narrowest type
//! 7 pco16, 8 pco32, 9 pco64
//!            the same of more than 8,192 numbers: paged `pco_column`
//! ```
//! How many numbers there are is known to the reader. Arithmetic wraps, so every `i64` round-trips. Dividing by the
//! greatest common divisor is the largest single gain on real data (memory gauges are multiples of the page size), and
//! the narrowest type halves pco's own tables, which dominate short columns.

use std::ops::Range;

use pco::{ChunkConfig, DeltaSpec, ModeSpec};

use super::wire::{Cursor, DecodeError, put_signed, put_varint};
use super::{bits, pco_column};

const CONST: u8 = 0;
const LINEAR: u8 = 1;
const STEPS: u8 = 2;
const PACKED: u8 = 3;
const PCO16: u8 = 4;
const PCO32: u8 = 5;
const PCO64: u8 = 6;
/// What is added to a form when its column is paged.
const PAGED: u8 = 3;
const PCO64_PAGED: u8 = PCO64 + PAGED;

/// pco's own default: the study found nothing to gain above it.
const PCO_LEVEL: usize = 8;
/// Below this many numbers pco's tables cost more than they save.
const PCO_COUNT_MIN: usize = 24;
/// How often differences are taken at most.
const ORDER_MAX: usize = 2;
/// When two estimates are closer than this, both are tried.
const DOUBT_BITS: f32 = 0.4;
/// pco's limit for one chunk; longer columns are split by the writer long before.
pub(crate) const COUNT_MAX: usize = 1 << 24;

/// Appends the numbers in the smallest of the forms above. There is at least one.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) {
    let first = values[0];
    let step = values.get(1).map_or(0, |second| second.wrapping_sub(first));
    let changes = changes(values);
    if changes == 0 {
        out.push(CONST);
        put_signed(out, first);
        return;
    }
    if values.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step) {
        out.push(LINEAR);
        put_signed(out, first);
        put_signed(out, step);
        return;
    }
    let start = out.len();
    if changes <= values.len() / 4 {
        encode_steps(values, out);
    }
    let reduced = Reduced::new(values);
    let mut candidate = Vec::new();
    reduced.encode_packed(&mut candidate);
    keep_smaller(out, start, &candidate);
    // What has become tiny cannot become smaller by pco, whose header alone takes a dozen bytes.
    if values.len() >= PCO_COUNT_MIN && out.len() - start > 16 {
        for order in reduced.orders.iter().copied() {
            candidate.clear();
            reduced.encode_pco(order, &mut candidate);
            keep_smaller(out, start, &candidate);
        }
    }
}

/// Reads all numbers of a column of `n` into `out`, which is cleared first.
pub(crate) fn decode_all(cursor: &mut Cursor<'_>, n: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    decode(cursor, n, 0..n, out).map(|_| ())
}

/// Reads the numbers `want` of a column of `n`, and as many before and behind them as cost nothing more, into `out`, which
/// is cleared first. Returns which of the column is the first of `out`.
pub(crate) fn decode(
    cursor: &mut Cursor<'_>,
    n: usize,
    want: Range<usize>,
    out: &mut Vec<i64>,
) -> Result<usize, DecodeError> {
    out.clear();
    if n == 0 || n > COUNT_MAX {
        return Err(DecodeError::Malformed("column length"));
    }
    match cursor.byte()? {
        CONST => out.resize(n, cursor.signed()?),
        LINEAR => {
            let (first, step) = (cursor.signed()?, cursor.signed()?);
            out.extend((0..n as i64).map(|i| first.wrapping_add(step.wrapping_mul(i))));
        }
        STEPS => decode_steps(cursor, n, out)?,
        PACKED => decode_packed(cursor, n, out)?,
        form @ PCO16..=PCO64_PAGED => {
            let paged = form > PCO64;
            return match if paged { form - PAGED } else { form } {
                PCO16 => decode_pco::<u16>(cursor, n, want, paged, out, u64::from),
                PCO32 => decode_pco::<u32>(cursor, n, want, paged, out, u64::from),
                _ => decode_pco::<u64>(cursor, n, want, paged, out, |value| value),
            };
        }
        _ => return Err(DecodeError::Malformed("integer column")),
    }
    Ok(0)
}

fn changes(values: &[i64]) -> usize {
    values.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

fn keep_smaller(out: &mut Vec<u8>, start: usize, candidate: &[u8]) {
    if out.len() == start || candidate.len() < out.len() - start {
        out.truncate(start);
        out.extend_from_slice(candidate);
    }
}

fn encode_steps(values: &[i64], out: &mut Vec<u8>) {
    out.push(STEPS);
    put_signed(out, values[0]);
    let mut last = values[0];
    for run in values.chunk_by(|a, b| a == b) {
        if run[0] != last {
            put_signed(out, run[0].wrapping_sub(last));
            last = run[0];
        }
        put_varint(out, run.len() as u64 - 1);
    }
}

fn decode_steps(cursor: &mut Cursor<'_>, n: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    let mut value = cursor.signed()?;
    loop {
        let run = cursor.size()?;
        if run >= n - out.len() {
            return Err(DecodeError::Malformed("run"));
        }
        out.resize(out.len() + run + 1, value);
        if out.len() == n {
            return Ok(());
        }
        value = value.wrapping_add(cursor.signed()?);
    }
}

/// The numbers less the smallest, divided by what they have in common.
struct Reduced {
    base: i64,
    gcd: u64,
    values: Vec<u64>,
    /// How often to take differences: the likely best, and a second when the two are close.
    orders: Vec<usize>,
}

impl Reduced {
    fn new(values: &[i64]) -> Reduced {
        let base = values.iter().copied().min().unwrap_or(0);
        let mut gcd = 0;
        for value in values {
            gcd = greatest_common_divisor(value.wrapping_sub(base) as u64, gcd);
            if gcd == 1 {
                break;
            }
        }
        let gcd = gcd.max(1);
        let values: Vec<u64> = values
            .iter()
            .map(|value| value.wrapping_sub(base) as u64 / gcd)
            .collect();
        let orders = orders(&values);
        Reduced {
            base,
            gcd,
            values,
            orders,
        }
    }

    fn header(&self, tag: u8, out: &mut Vec<u8>) {
        out.push(tag);
        put_signed(out, self.base);
        put_varint(out, self.gcd);
    }

    fn encode_packed(&self, out: &mut Vec<u8>) {
        self.header(PACKED, out);
        let order = self.orders[0];
        out.push(order as u8);
        let mut deltas = self.values.clone();
        for _ in 0..order.min(deltas.len()) {
            put_varint(out, deltas[0]);
            deltas = deltas.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        }
        if order > 0 {
            for delta in &mut deltas {
                *delta = super::wire::zigzag(*delta as i64);
            }
        }
        bits::pack(&deltas, out);
    }

    fn encode_pco(&self, order: usize, out: &mut Vec<u8>) {
        let widest = self.values.iter().copied().max().unwrap_or(0);
        if widest <= u64::from(u16::MAX) {
            let narrow: Vec<u16> = self.values.iter().map(|value| *value as u16).collect();
            self.put_pco(PCO16, &narrow, order, out);
        } else if widest <= u64::from(u32::MAX) {
            let narrow: Vec<u32> = self.values.iter().map(|value| *value as u32).collect();
            self.put_pco(PCO32, &narrow, order, out);
        } else {
            self.put_pco(PCO64, &self.values, order, out);
        }
    }

    fn put_pco<T: pco::data_types::Number>(&self, form: u8, values: &[T], order: usize, out: &mut Vec<u8>) {
        let config = ChunkConfig::default()
            .with_compression_level(PCO_LEVEL)
            .with_mode_spec(ModeSpec::Classic)
            .with_delta_spec(DeltaSpec::TryConsecutive(order));
        if values.len() > pco_column::PAGED_COUNT_MIN {
            self.header(form + PAGED, out);
            pco_column::put_paged(values, config, out);
        } else {
            self.header(form, out);
            pco_column::put(values, config, out);
        }
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Chooses how often to take differences: so that the results lie closest around their own middle, which is what an
/// entropy coder pays for. (Their plain magnitude misleads: the steps of a counter are never near zero.)
fn orders(values: &[u64]) -> Vec<usize> {
    let mut costs = Vec::new();
    let mut deltas: Vec<u64> = values.to_vec();
    for order in 0..=ORDER_MAX {
        costs.push((spread(&deltas), order));
        deltas = deltas.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        if deltas.len() < 2 {
            break;
        }
    }
    costs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let best = costs[0].0;
    costs
        .into_iter()
        .filter(|(cost, _)| *cost - best <= DOUBT_BITS)
        .map(|(_, order)| order)
        .collect()
}

/// Returns the mean number of bits that tell how far the numbers are from their median.
fn spread(values: &[u64]) -> f32 {
    let mut sorted: Vec<i64> = values.iter().map(|value| *value as i64).collect();
    let (_, &mut middle, _) = sorted.select_nth_unstable(values.len() / 2);
    let bits = |value: &u64| ((*value as i64).wrapping_sub(middle).unsigned_abs() as f32 + 0.5).log2();
    values.iter().map(bits).sum::<f32>() / values.len() as f32
}

fn decode_packed(cursor: &mut Cursor<'_>, n: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    let (base, gcd, order) = (cursor.signed()?, cursor.varint()?, usize::from(cursor.byte()?));
    if order > ORDER_MAX {
        return Err(DecodeError::Malformed("order of differences"));
    }
    let mut firsts = [0u64; 2];
    let heads = order.min(n);
    for first in &mut firsts[..heads] {
        *first = cursor.varint()?;
    }
    let mut packed = Vec::new();
    bits::unpack(cursor, n - heads, &mut packed)?;
    let finish = |value: u64| base.wrapping_add(value.wrapping_mul(gcd) as i64);
    match order {
        0 => out.extend(packed.into_iter().map(finish)),
        1 => {
            let mut value = firsts[0];
            out.push(finish(value));
            out.extend(packed.into_iter().map(|delta| {
                value = value.wrapping_add(super::wire::unzigzag(delta) as u64);
                finish(value)
            }));
        }
        _ => {
            let (mut value, mut delta) = (firsts[0], firsts[1]);
            out.push(finish(value));
            if n > 1 {
                value = value.wrapping_add(delta);
                out.push(finish(value));
            }
            out.extend(packed.into_iter().map(|change| {
                delta = delta.wrapping_add(super::wire::unzigzag(change) as u64);
                value = value.wrapping_add(delta);
                finish(value)
            }));
        }
    }
    Ok(())
}

fn decode_pco<T: pco::data_types::Number + Default>(
    cursor: &mut Cursor<'_>,
    n: usize,
    want: Range<usize>,
    paged: bool,
    out: &mut Vec<i64>,
    widen: impl Fn(T) -> u64,
) -> Result<usize, DecodeError> {
    let (base, gcd) = (cursor.signed()?, cursor.varint()?);
    let (values, first) = if paged {
        pco_column::take_paged::<T>(cursor, n, want)?
    } else {
        (pco_column::take::<T>(cursor, n, want.end)?, 0)
    };
    let values = values.into_iter();
    out.extend(values.map(|value| base.wrapping_add(widen(value).wrapping_mul(gcd) as i64)));
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut read = Vec::new();
        let mut cursor = Cursor::new(&out);
        decode_all(&mut cursor, values.len(), &mut read).unwrap();
        assert_eq!(read, values);
        assert!(cursor.is_empty(), "{} bytes left over", cursor.rest().len());
        out
    }

    #[test]
    fn regular_columns_take_a_few_bytes() {
        assert!(round_trip(&[7; 1000]).len() <= 2);
        let grid: Vec<i64> = (0..5760).map(|i| 1_700_000_000_000 + i * 15_000).collect();
        assert!(round_trip(&grid).len() <= 12);
        let steps: Vec<i64> = (0..1000).map(|i| i / 300 * 4096).collect();
        assert!(round_trip(&steps).len() <= 20);
    }

    #[test]
    fn a_common_factor_is_divided_out() {
        let walk = |factor: i64| -> Vec<i64> { (0..500i64).map(|i| (i * i * 7919 % 1000) * factor).collect() };
        let (plain, paged) = (round_trip(&walk(1)).len(), round_trip(&walk(4096)).len());
        assert!(paged <= plain + 2, "{paged} bytes with the factor, {plain} without");
    }

    #[test]
    fn the_ends_of_the_range_round_trip() {
        round_trip(&[i64::MIN, i64::MAX, 0, -1, i64::MIN, i64::MAX]);
        round_trip(&[i64::MAX]);
        let mut far: Vec<i64> = (0..300)
            .map(|i| if i % 2 == 0 { i64::MIN + i } else { i64::MAX - i })
            .collect();
        round_trip(&far);
        far.truncate(25);
        round_trip(&far);
    }

    #[test]
    fn a_prefix_is_decoded_without_the_rest() {
        let values: Vec<i64> = (0..5000i64).map(|i| i * i % 7919).collect();
        let mut out = Vec::new();
        encode(&values, &mut out);
        let mut read = Vec::new();
        decode(&mut Cursor::new(&out), values.len(), 0..300, &mut read).unwrap();
        assert_eq!(read, values[..512]);
    }

    #[test]
    fn the_end_of_a_long_column_is_decoded_without_its_beginning() {
        for factor in [1, 1 << 20, 1 << 40] {
            let values: Vec<i64> = (0..20_000i64).map(|i| (i * i % 7919) * factor + i % 3).collect();
            let out = round_trip(&values);
            let mut read = Vec::new();
            for want in [0..1, 4095..4097, 8000..9000, 19_990..20_000, 20_000..20_000, 0..20_000] {
                let mut cursor = Cursor::new(&out);
                let first = decode(&mut cursor, values.len(), want.clone(), &mut read).unwrap();
                assert!(cursor.is_empty() && first <= want.start && first + read.len() >= want.end);
                assert_eq!(read, values[first..first + read.len()]);
                assert!(
                    read.len() <= want.len() + 2 * 4096,
                    "{} numbers for {want:?}",
                    read.len()
                );
            }
            for len in (0..out.len()).step_by(97) {
                let _ = decode(&mut Cursor::new(&out[..len]), values.len(), 9000..9001, &mut read);
            }
        }
    }

    fn column() -> impl Strategy<Value = Vec<i64>> {
        let small = proptest::collection::vec(-50i64..50, 1..400);
        let walk = proptest::collection::vec(0i64..1000, 1..400).prop_map(|steps| {
            let mut at = 1_000_000;
            steps
                .into_iter()
                .map(|step| {
                    at += step;
                    at
                })
                .collect()
        });
        let wild = proptest::collection::vec(any::<i64>(), 1..100);
        prop_oneof![small, walk, wild]
    }

    proptest! {
        #[test]
        fn every_column_reads_back(values in column()) {
            round_trip(&values);
        }

        #[test]
        fn a_cut_column_is_an_error(values in column(), at in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            encode(&values, &mut out);
            out.truncate(at.index(out.len()));
            let mut read = Vec::new();
            // pco pads its reads, so a cut inside the last bytes may go unseen here; the page's checksum sees it.
            if let Ok(()) = decode_all(&mut Cursor::new(&out), values.len(), &mut read) {
                prop_assert_eq!(read.len(), values.len());
            }
        }

        #[test]
        fn flipped_bits_never_panic(values in column(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut out = Vec::new();
            encode(&values, &mut out);
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            let _ = decode_all(&mut Cursor::new(&out), values.len(), &mut Vec::new());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in 0usize..1000) {
            let _ = decode_all(&mut Cursor::new(&bytes), n, &mut Vec::new());
        }
    }
}
