//! Bit-packing: blocks of 32 numbers, each block with the width of its largest.
//!
//! ```text
//! ( width byte | ceil(count * width / 8) bytes, lowest bits first )*      count is 32, in the last block the rest
//! ```
//! About 1 ns a number to read. The writer keeps it where pco's tables would cost more than they save.

use super::wire::{Cursor, DecodeError};

/// How many numbers share a width.
const BLOCK: usize = 32;

/// Appends the numbers.
pub(crate) fn pack(values: &[u64], out: &mut Vec<u8>) {
    for block in values.chunks(BLOCK) {
        let width = 64 - block.iter().fold(0, |all, value| all | value).leading_zeros();
        out.push(width as u8);
        let (mut held, mut bits) = (0u128, 0);
        for value in block {
            held |= u128::from(*value) << bits;
            bits += width;
            while bits >= 8 {
                out.push(held as u8);
                held >>= 8;
                bits -= 8;
            }
        }
        if bits > 0 {
            out.push(held as u8);
        }
    }
}

/// Reads `n` numbers to the end of `out`.
pub(crate) fn unpack(cursor: &mut Cursor<'_>, n: usize, out: &mut Vec<u64>) -> Result<(), DecodeError> {
    let mut left = n;
    while left > 0 {
        let count = left.min(BLOCK);
        let width = u32::from(cursor.byte()?);
        if width > 64 {
            return Err(DecodeError::Malformed("bit width"));
        }
        let bytes = cursor.take((count * width as usize).div_ceil(8))?;
        if width == 0 {
            out.resize(out.len() + count, 0);
        } else {
            unpack_block(bytes, width, count, out);
        }
        left -= count;
    }
    Ok(())
}

fn unpack_block(bytes: &[u8], width: u32, count: usize, out: &mut Vec<u64>) {
    // A block of 32 numbers of 64 bits is 256 bytes; the spare ones let every number be read as 16 whole bytes.
    let mut padded = [0u8; BLOCK * 8 + 16];
    padded[..bytes.len()].copy_from_slice(bytes);
    let mask = u64::MAX >> (64 - width);
    out.extend((0..count).map(|i| {
        let bit = i * width as usize;
        let word: [u8; 16] = padded[bit / 8..bit / 8 + 16]
            .try_into()
            .expect("the slice has 16 bytes");
        (u128::from_le_bytes(word) >> (bit % 8)) as u64 & mask
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_of_every_width_read_back(
            values in proptest::collection::vec((any::<u64>(), 0u32..64), 0..150),
        ) {
            let values: Vec<u64> = values.into_iter().map(|(value, shift)| value >> shift).collect();
            let mut out = Vec::new();
            pack(&values, &mut out);
            let mut read = Vec::new();
            let mut cursor = Cursor::new(&out);
            unpack(&mut cursor, values.len(), &mut read).unwrap();
            prop_assert_eq!(&read, &values);
            prop_assert!(cursor.is_empty());
            for len in 0..out.len() {
                prop_assert!(unpack(&mut Cursor::new(&out[..len]), values.len(), &mut Vec::new()).is_err());
            }
        }
    }
}
