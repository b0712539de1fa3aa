//! The open chunk: a `tsz` stream over a buffer that others may read while it grows.
//!
//! The writer stores whole words into atomics, so a reader needs neither a lock nor a copy of the encoder: it takes the
//! buffer and the number of samples that were complete, and decodes exactly those. Words only gain bits.
//!
//! `tsz` is silently wrong on inputs that it does not expect, so they cannot reach it (each fence has a test below): the
//! stream starts at the first sample's time; time rises strictly; a gap above [`GAP_MAX`] opens a new chunk; negative
//! times are moved into the unsigned range in order; exactly the known number of samples is decoded.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use tsz::stream::{Error, Read, Write};
use tsz::{Bit, DataPoint, Decode, Encode, StdDecoder, StdEncoder};

/// A chunk is sealed at this many samples: half an hour at 15 s.
pub(crate) const CHUNK_SAMPLES_MAX: u32 = 120;
/// The longest gap inside a chunk, in milliseconds (12 days): its change must fit `tsz`'s 32 bits.
const GAP_MAX: i64 = 1 << 30;
/// Words in a piece of the buffer: with its header, its link and the allocator's word a piece is 128 bytes.
const PIECE_WORDS: usize = 10;
/// A chunk of true floats is sealed when it fills this many pieces (about 16 samples): memory for a series has a bound,
/// whatever its values. At a million series a third piece costs 40 bytes each.
const PIECES_MAX: u8 = 2;
/// Words that the largest sample may need: 4 + 32 bits of time, 2 + 12 + 64 of value.
const SAMPLE_WORDS_MAX: u32 = 2;

/// A piece of the buffer. Pieces form a list, so that growing moves nothing that a reader may look at.
#[derive(Default)]
struct Piece {
    words: [AtomicU64; PIECE_WORDS],
    /// The word that is being filled.
    word: AtomicU32,
    next: OnceLock<Arc<Piece>>,
}

/// `tsz`'s way into the buffer.
struct Writer {
    piece: Arc<Piece>,
    /// Bits of the word at `word` that are written, left-aligned.
    held: u64,
    used: u32,
    word: u32,
}

impl Writer {
    fn next_word(&mut self) {
        self.word += 1;
        if self.word as usize == PIECE_WORDS {
            let next = Arc::new(Piece::default());
            self.piece.next.get_or_init(|| Arc::clone(&next));
            self.piece = next;
            self.word = 0;
        }
        self.piece.word.store(self.word, Relaxed);
        self.held = 0;
        self.used = 0;
    }
}

impl Write for Writer {
    fn write_bit(&mut self, bit: Bit) {
        self.write_bits(bit.to_u64(), 1);
    }

    fn write_byte(&mut self, byte: u8) {
        self.write_bits(u64::from(byte), 8);
    }

    fn write_bits(&mut self, bits: u64, num: u32) {
        if num == 0 {
            return;
        }
        let bits = bits << (64 - num); // The lowest `num` bits, left-aligned; higher ones fall off.
        if self.used == 64 {
            self.next_word();
        }
        self.held |= bits >> self.used;
        self.piece.words[self.word as usize].store(self.held, Relaxed);
        let room = 64 - self.used;
        if num <= room {
            self.used += num;
        } else {
            self.next_word();
            self.held = bits << room;
            self.used = num - room;
            self.piece.words[self.word as usize].store(self.held, Relaxed);
        }
    }

    fn close(self) -> Box<[u8]> {
        Box::default() // Never asked for: a chunk ends by its count, not by a mark.
    }
}

/// A chunk that samples are appended to.
pub(crate) struct OpenChunk {
    encoder: StdEncoder<Writer>,
    bytes: Arc<Piece>,
    /// The piece that is being filled, or the one before it.
    tail: Arc<Piece>,
    pieces: u8,
    count: u32,
    /// The first sample's time.
    first: i64,
    /// Samples at or after this time belong into another chunk.
    end: i64,
}

/// Moves a time into the unsigned range, in order.
fn to_unsigned(at: i64) -> u64 {
    (at as u64) ^ (1 << 63)
}

fn to_signed(at: u64) -> i64 {
    (at ^ (1 << 63)) as i64
}

impl OpenChunk {
    /// Opens a chunk with its first sample; `end` is where its window ends.
    pub(crate) fn new(at: i64, value: f64, end: i64) -> OpenChunk {
        let bytes = Arc::new(Piece::default());
        let writer = Writer {
            piece: Arc::clone(&bytes),
            held: 0,
            used: 0,
            word: 0,
        };
        let mut encoder = StdEncoder::new(to_unsigned(at), writer);
        encoder.encode(DataPoint::new(to_unsigned(at), value));
        OpenChunk {
            encoder,
            tail: Arc::clone(&bytes),
            bytes,
            pieces: 1,
            count: 1,
            first: at,
            end,
        }
    }

    /// Appends a sample; `false` when it belongs into a new chunk. `last` is the time of the chunk's newest sample.
    pub(crate) fn append(&mut self, last: i64, at: i64, value: f64) -> bool {
        assert!(at > last, "time in an open chunk only grows: {at} after {last}");
        let fits = self.count < CHUNK_SAMPLES_MAX && at < self.end && at.wrapping_sub(last) as u64 <= GAP_MAX as u64;
        let fits = fits && self.has_room();
        if fits {
            self.encoder.encode(DataPoint::new(to_unsigned(at), value));
            self.count += 1;
        }
        fits
    }

    /// Whether the pieces that a chunk may have hold another sample, whatever its size.
    fn has_room(&mut self) -> bool {
        while let Some(next) = self.tail.next.get() {
            self.tail = Arc::clone(next);
            self.pieces += 1;
        }
        self.pieces < PIECES_MAX || self.tail.word.load(Relaxed) + SAMPLE_WORDS_MAX < PIECE_WORDS as u32
    }

    /// The first sample's time.
    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    /// How many samples there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Returns the samples so far, to be decoded without holding anything.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            bytes: Arc::clone(&self.bytes),
            count: self.count,
        }
    }
}

/// The samples that an open chunk had at one moment.
#[derive(Clone)]
pub(crate) struct Snapshot {
    bytes: Arc<Piece>,
    count: u32,
}

impl Snapshot {
    /// Appends times and values to the columns.
    pub(crate) fn decode(&self, times: &mut Vec<i64>, values: &mut Vec<f64>) {
        let mut words = Vec::with_capacity(4 * PIECE_WORDS);
        let mut piece = Some(&self.bytes);
        while let Some(found) = piece {
            words.extend(found.words.iter().map(|word| word.load(Relaxed)));
            piece = found.next.get();
        }
        let decoder = StdDecoder::new(Reader { words: &words, at: 0 });
        decode(decoder, self.count, |at, value| {
            times.push(at);
            values.push(value);
        })
        .expect("an open chunk holds as many samples as were written");
    }
}

/// `tsz`'s way out of a buffer.
struct Reader<'a> {
    words: &'a [u64],
    at: usize,
}

impl Read for Reader<'_> {
    fn read_bit(&mut self) -> Result<Bit, Error> {
        Ok(if self.read_bits(1)? == 0 { Bit::Zero } else { Bit::One })
    }

    fn read_byte(&mut self) -> Result<u8, Error> {
        Ok(self.read_bits(8)? as u8)
    }

    fn read_bits(&mut self, num: u32) -> Result<u64, Error> {
        let bits = self.peak_bits(num)?;
        self.at += num as usize;
        Ok(bits)
    }

    fn peak_bits(&mut self, num: u32) -> Result<u64, Error> {
        if num == 0 {
            return Ok(0);
        }
        if num > 64 {
            return Err(Error::EOF); // Only a stream that nobody wrote asks for it.
        }
        let (word, used) = (self.at / 64, (self.at % 64) as u32);
        let here = *self.words.get(word).ok_or(Error::EOF)? << used;
        if num <= 64 - used {
            return Ok(here >> (64 - num));
        }
        let missing = num - (64 - used);
        let next = *self.words.get(word + 1).ok_or(Error::EOF)?;
        Ok((here >> (64 - num)) | (next >> (64 - missing)))
    }
}

fn decode(
    mut decoder: StdDecoder<Reader<'_>>,
    count: u32,
    mut visit: impl FnMut(i64, f64),
) -> Result<(), tsz::decode::Error> {
    for _ in 0..count {
        let point = decoder.next()?;
        visit(to_signed(point.get_time()), point.get_value());
    }
    Ok(())
}

/// Appends true floats as `tsz` bits: what a sealed chunk keeps when its numbers are no integers.
pub(super) fn encode_floats(values: &[f64], out: &mut Vec<u8>) {
    let bytes = Arc::new(Piece::default());
    let writer = Writer {
        piece: Arc::clone(&bytes),
        held: 0,
        used: 0,
        word: 0,
    };
    let mut encoder = StdEncoder::new(0, writer);
    for (at, value) in values.iter().enumerate() {
        encoder.encode(DataPoint::new(at as u64, *value)); // A regular grid costs one bit a sample.
    }
    let mut piece = Some(&bytes);
    let start = out.len();
    while let Some(found) = piece {
        for word in &found.words {
            out.extend(word.load(Relaxed).to_be_bytes());
        }
        piece = found.next.get();
    }
    while out.len() > start && out.last() == Some(&0) {
        out.pop(); // The reader knows the count and sees zeroes beyond the end.
    }
}

/// Reads `count` floats that [`encode_floats`] wrote. `None` when the bits are no such stream; checksums come first.
pub(super) fn decode_floats(bytes: &[u8], count: u32, values: &mut Vec<f64>) -> Option<()> {
    let mut words: Vec<u64> = Vec::with_capacity(bytes.len() / 8 + 4);
    for word in bytes.chunks(8) {
        let mut whole = [0; 8];
        whole[..word.len()].copy_from_slice(word);
        words.push(u64::from_be_bytes(whole));
    }
    words.extend([0; 3]);
    decode(StdDecoder::new(Reader { words: &words, at: 0 }), count, |_, value| {
        values.push(value)
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Sample, stale_marker};
    use proptest::prelude::*;

    /// Appends through the fence as a series does, and reads everything back.
    fn round_trip(samples: &[(i64, f64)]) -> Vec<(i64, u64)> {
        let mut chunks = Vec::new();
        let mut last = None;
        for (at, value) in samples {
            let fits = match (chunks.last_mut(), last) {
                (Some(chunk), Some(last)) => OpenChunk::append(chunk, last, *at, *value),
                _ => false,
            };
            if !fits {
                chunks.push(OpenChunk::new(*at, *value, i64::MAX));
            }
            last = Some(*at);
        }
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in &chunks {
            chunk.snapshot().decode(&mut times, &mut values);
        }
        times.into_iter().zip(values.into_iter().map(f64::to_bits)).collect()
    }

    fn bits(samples: &[(i64, f64)]) -> Vec<(i64, u64)> {
        samples.iter().map(|(at, value)| (*at, value.to_bits())).collect()
    }

    #[test]
    fn the_traps_of_the_codec_cannot_be_stepped_into() {
        let day = 86_400_000;
        for times in [
            vec![0, 16_384, 16_385],                       // A first delta beyond 14 bits.
            vec![-5, -4, 0, 3],                            // Before the epoch.
            vec![i64::MIN, i64::MIN + 1, 0, i64::MAX - 1], // Gaps beyond everything.
            vec![0, 1, 25 * day, 25 * day + 1],            // A change beyond 32 bits.
            vec![0, 1 << 30, (1 << 30) + 1, (1 << 31) + 1],
            vec![0, 1, 1 + (1 << 30), 2 + (1 << 30)],
            vec![0, 1, (1 << 31) + 2, (1 << 32) + 3], // Changes that are multiples of 2^31 and 2^32.
            vec![0, 100, 100 + 100 + 2048, 100 + 100 + 2048 + 2148 - 2047], // Edges of the buckets.
        ] {
            let samples: Vec<(i64, f64)> = times.into_iter().map(|at| (at, 1.5)).collect();
            assert_eq!(round_trip(&samples), bits(&samples));
        }
    }

    #[test]
    fn a_snapshot_holds_what_was_complete_when_it_was_taken() {
        let mut chunk = OpenChunk::new(0, 0.1, i64::MAX);
        let early = chunk.snapshot();
        for i in 1..i64::from(CHUNK_SAMPLES_MAX) {
            assert!(chunk.append(i - 1, i, 1.5));
        }
        assert!(!chunk.append(119, 120, 0.0), "a full chunk takes no more");
        let (mut times, mut values) = (Vec::new(), Vec::new());
        early.decode(&mut times, &mut values);
        assert_eq!((times, values), (vec![0], vec![0.1]));
    }

    #[test]
    fn a_chunk_of_noise_ends_before_it_outgrows_its_pieces() {
        let noise = |i: i64| f64::from_bits((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut chunk = OpenChunk::new(0, noise(0), i64::MAX);
        let count = (1..200).take_while(|i| chunk.append(i - 1, *i, noise(*i))).count();
        assert!((12..CHUNK_SAMPLES_MAX as usize).contains(&count), "{count}");
        let mut pieces = vec![Arc::clone(&chunk.bytes)];
        while let Some(next) = pieces.last().and_then(|piece| piece.next.get()).cloned() {
            pieces.push(next);
        }
        assert_eq!(pieces.len(), usize::from(PIECES_MAX));
    }

    #[test]
    fn the_end_of_a_window_ends_the_chunk() {
        let mut chunk = OpenChunk::new(5, 1.0, 10);
        assert!(chunk.append(5, 9, 1.0) && !chunk.append(9, 10, 1.0));
        assert_eq!((chunk.first(), chunk.count()), (5, 2));
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (0..1000i32).prop_map(f64::from),
            Just(stale_marker()),
            Just(-0.0),
            Just(1.0),
        ]
    }

    /// Steps of all sizes, from one millisecond to centuries.
    fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
        let step = (0..46u32, any::<i64>()).prop_map(|(size, random)| 1 + (random & ((1 << size) - 1)));
        (any::<i32>(), proptest::collection::vec((step, value()), 1..400)).prop_map(|(start, steps)| {
            let mut at = i64::from(start);
            steps
                .into_iter()
                .map(|(step, value)| {
                    at += step;
                    (at, value)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn any_rising_times_and_any_bits_read_back(samples in samples()) {
            prop_assert_eq!(round_trip(&samples), bits(&samples));
        }

        #[test]
        fn floats_alone_read_back(values in proptest::collection::vec(value(), 1..120)) {
            let mut bytes = Vec::new();
            encode_floats(&values, &mut bytes);
            let mut read = Vec::new();
            decode_floats(&bytes, values.len() as u32, &mut read).unwrap();
            let sample = |value: &f64| Sample { at: crate::model::Millis(0), value: *value };
            prop_assert!(read.iter().map(sample).eq(values.iter().map(sample)));
        }
    }
}
