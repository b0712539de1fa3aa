//! Prometheus's XOR chunk, as bits.
//!
//! ```text
//! count u16 | first: t varint, v 64 bits | second: delta uvarint, v xor
//! then each: delta of delta: 0 | 10 + 14 bits | 110 + 17 | 1110 + 20 | 1111 + 64; v xor
//! v xor: 0 same | 10 + bits within the last window | 11 + leading 5 bits + length 6 bits + bits
//! ```

/// Encodes at most 65,535 samples whose times rise.
pub(super) fn encode(times: &[i64], values: &[f64]) -> Vec<u8> {
    let count = u16::try_from(times.len()).expect("a chunk holds 120 samples");
    let mut bits = Bits::default();
    bits.push(u64::from(count), 16);
    let mut window = Window::default();
    let (mut last_time, mut last_delta, mut last_value) = (0i64, 0i64, 0f64);
    for (index, (&at, &value)) in times.iter().zip(values).enumerate() {
        let delta = at.wrapping_sub(last_time);
        match index {
            0 => {
                bits.push_varint(at);
                bits.push(value.to_bits(), 64);
            }
            1 => {
                bits.push_uvarint(delta as u64);
                window.push(&mut bits, last_value, value);
            }
            _ => {
                push_delta(&mut bits, delta.wrapping_sub(last_delta));
                window.push(&mut bits, last_value, value);
            }
        }
        last_delta = if index == 0 { 0 } else { delta };
        (last_time, last_value) = (at, value);
    }
    bits.bytes
}

fn push_delta(bits: &mut Bits, delta: i64) {
    match delta {
        0 => bits.push(0, 1),
        -8191..=8192 => {
            bits.push(0b10, 2);
            bits.push(delta as u64, 14);
        }
        -65_535..=65_536 => {
            bits.push(0b110, 3);
            bits.push(delta as u64, 17);
        }
        -524_287..=524_288 => {
            bits.push(0b1110, 4);
            bits.push(delta as u64, 20);
        }
        _ => {
            bits.push(0b1111, 4);
            bits.push(delta as u64, 64);
        }
    }
}

/// Which bits the last difference occupied.
#[derive(Default)]
pub(super) struct Window {
    leading: u32,
    trailing: u32,
    open: bool,
}

impl Window {
    pub(super) fn push(&mut self, bits: &mut Bits, last: f64, value: f64) {
        let difference = last.to_bits() ^ value.to_bits();
        if difference == 0 {
            bits.push(0, 1);
            return;
        }
        bits.push(1, 1);
        let leading = difference.leading_zeros().min(31);
        let trailing = difference.trailing_zeros();
        if self.open && leading >= self.leading && trailing >= self.trailing {
            bits.push(0, 1);
            bits.push(difference >> self.trailing, 64 - self.leading - self.trailing);
            return;
        }
        *self = Window {
            leading,
            trailing,
            open: true,
        };
        let length = 64 - leading - trailing;
        bits.push(1, 1);
        bits.push(u64::from(leading), 5);
        // 64 does not fit into six bits and is written as 0.
        bits.push(u64::from(length), 6);
        bits.push(difference >> trailing, length);
    }
}

/// A growing row of bits, the first one highest in its byte.
#[derive(Default)]
pub(super) struct Bits {
    pub(super) bytes: Vec<u8>,
    /// How many bits of the last byte are free.
    free: u32,
}

impl Bits {
    /// Appends the lowest `count` bits of `value`.
    pub(super) fn push(&mut self, value: u64, count: u32) {
        let mut rest = count;
        while rest > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let taken = rest.min(self.free);
            let bits = (value >> (rest - taken)) & ((1 << taken) - 1);
            self.free -= taken;
            rest -= taken;
            let last = self.bytes.len() - 1;
            self.bytes[last] |= (bits as u8) << self.free;
        }
    }

    fn push_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.push(value, 8);
    }

    /// Go's `binary.PutVarint`: zigzag, then as unsigned.
    fn push_varint(&mut self, value: i64) {
        self.push_uvarint(((value << 1) ^ (value >> 63)) as u64);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::ingest::remote_read) struct Reader<'a> {
        bytes: &'a [u8],
        at: usize,
    }

    impl<'a> Reader<'a> {
        pub(in crate::ingest::remote_read) fn new(bytes: &'a [u8]) -> Reader<'a> {
            Reader { bytes, at: 0 }
        }

        /// Reads what [`Window::push`] wrote.
        pub(in crate::ingest::remote_read) fn take_xor(
            &mut self,
            last: u64,
            leading: &mut u32,
            trailing: &mut u32,
        ) -> u64 {
            if self.take(1) == 0 {
                return last;
            }
            if self.take(1) == 1 {
                *leading = self.take(5) as u32;
                let length = match self.take(6) as u32 {
                    0 => 64,
                    length => length,
                };
                *trailing = 64 - *leading - length;
            }
            last ^ self.take(64 - *leading - *trailing) << *trailing
        }

        pub(in crate::ingest::remote_read) fn take(&mut self, count: u32) -> u64 {
            (0..count).fold(0, |value, _| {
                let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
                self.at += 1;
                value << 1 | u64::from(bit)
            })
        }

        fn signed(&mut self, count: u32) -> i64 {
            let value = self.take(count);
            // One more positive than negative value, as the encoder's ranges have it.
            if count < 64 && value > 1 << (count - 1) {
                value as i64 - (1 << count)
            } else {
                value as i64
            }
        }

        fn uvarint(&mut self) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = self.take(8);
                value |= (byte & 0x7f) << shift;
                if byte < 0x80 {
                    return value;
                }
                shift += 7;
            }
        }
    }

    fn decode(bytes: &[u8]) -> Vec<(i64, u64)> {
        let mut reader = Reader::new(bytes);
        let (mut at, mut delta, mut value) = (0i64, 0i64, 0u64);
        let (mut leading, mut trailing) = (0, 0);
        let mut out = Vec::new();
        for index in 0..reader.take(16) {
            match index {
                0 => {
                    let zigzag = reader.uvarint();
                    at = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                    value = reader.take(64);
                    out.push((at, value));
                    continue;
                }
                1 => delta = reader.uvarint() as i64,
                _ => {
                    let ones = (0..4).take_while(|_| reader.take(1) == 1).count();
                    delta = delta.wrapping_add(match ones {
                        0 => 0,
                        1 => reader.signed(14),
                        2 => reader.signed(17),
                        3 => reader.signed(20),
                        _ => reader.signed(64),
                    });
                }
            }
            at = at.wrapping_add(delta);
            value = reader.take_xor(value, &mut leading, &mut trailing);
            out.push((at, value));
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back(
            start in any::<i32>(),
            steps in proptest::collection::vec((1i64..2_000_000, any::<f64>()), 0..200),
        ) {
            let mut at = i64::from(start);
            let mut expected = Vec::new();
            for (step, value) in steps {
                at += step;
                expected.push((at, value.to_bits()));
            }
            let times: Vec<i64> = expected.iter().map(|(at, _)| *at).collect();
            let values: Vec<f64> = expected.iter().map(|(_, bits)| f64::from_bits(*bits)).collect();
            prop_assert_eq!(decode(&encode(&times, &values)), expected);
        }
    }

    #[test]
    fn a_chunk_has_the_bytes_that_prometheus_writes() {
        // 1000 -> varint d0 0f; 1.0 = 3ff0…; second: delta 1000 = e8 07, same value = 0; then delta of delta 0 and same = 00.
        let bytes = encode(&[1000, 2000, 3000], &[1.0, 1.0, 1.0]);
        assert_eq!(
            bytes,
            [0, 3, 0xd0, 0x0f, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xe8, 0x07, 0b0000_0000]
        );
    }
}
