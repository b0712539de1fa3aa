//! One frame of a log segment, as bytes and back; and the search for the next good frame behind a bad one. Pure.
//!
//! ```text
//! len u32 | crc32c u32 | seq u64 | kind u8 | payload (len bytes) | zeroes to a multiple of 8     little-endian
//! ```
//! The checksum covers `len`, `seq`, `kind` and the payload. Frames begin at multiples of 8 and number themselves, so a
//! reader finds the next good one behind any damage: its number must fit the distance, and its checksum must hold. A
//! segment is zeroed before it is written, so eight zero bytes where a frame should begin are the end.

use std::ops::Range;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 17;
/// Frames begin at multiples of this.
const ALIGN: usize = 8;
/// The least that a frame occupies.
const FRAME_BYTES_MIN: usize = HEADER_BYTES.next_multiple_of(ALIGN);

/// Returns how many bytes a frame with this payload occupies.
pub(super) const fn frame_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(ALIGN)
}

/// Appends a frame to `out`, whose length is a multiple of 8.
///
/// # Panics
/// When the payload is 4 GiB or longer.
pub(super) fn encode(seq: u64, kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert_eq!(out.len() % ALIGN, 0);
    let len = u32::try_from(payload.len()).expect("a frame's payload is shorter than 4 GiB");
    let start = out.len();
    out.extend(len.to_le_bytes());
    out.extend([0; 4]);
    out.extend(seq.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(payload);
    let crc = checksum(&out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + frame_bytes(payload.len()), 0);
}

/// The checksum of a frame that ends where `frame` does; its own field does not count.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..])
}

/// What stands in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Frame {
        seq: u64,
        kind: u8,
        payload: Range<usize>,
    },
    /// Bytes that are no frame, with good frames behind them.
    Hole {
        bytes: Range<usize>,
        /// The numbers of the frames that were there.
        lost: Range<u64>,
    },
    /// Nothing more: zeroes from `at`, or (`dirty` ends later than it begins) bytes that are no frame.
    End {
        at: usize,
        dirty: Range<usize>,
    },
}

/// Walks the frames of a segment from `at`, where the frame `expected` should stand.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    expected: u64,
    done: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize, expected: u64) -> Scan<'a> {
        Scan {
            bytes,
            at,
            expected,
            done: false,
        }
    }

    /// Reads the frame at `at` when it is whole and its number within `seqs`.
    fn frame_at(&self, at: usize, seqs: Range<u64>) -> Option<(u64, u8, Range<usize>)> {
        let header = self.bytes.get(at..at.checked_add(HEADER_BYTES)?)?;
        let len = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
        let seq = u64::from_le_bytes(header[8..16].try_into().ok()?);
        if !seqs.contains(&seq) {
            return None;
        }
        let payload = at + HEADER_BYTES..at.checked_add(HEADER_BYTES)?.checked_add(len)?;
        let frame = self.bytes.get(at..payload.end)?;
        let crc = u32::from_le_bytes(header[4..8].try_into().ok()?);
        (checksum(frame) == crc).then_some((seq, header[16], payload))
    }

    /// Finds the next good frame behind the bad one at `self.at`.
    fn resync(&mut self) -> Found {
        let bad = self.at;
        let mut dirty_end = bad;
        let mut at = bad;
        while at < self.bytes.len() {
            let word_end = (at + ALIGN).min(self.bytes.len());
            if let Some(last) = self.bytes[at..word_end].iter().rposition(|byte| *byte != 0) {
                dirty_end = at + last + 1;
                let lost_max = ((at - bad) / FRAME_BYTES_MIN) as u64;
                let seqs = self.expected..self.expected.saturating_add(lost_max + 1);
                if at > bad
                    && let Some((seq, ..)) = self.frame_at(at, seqs)
                {
                    let lost = self.expected..seq;
                    self.at = at;
                    self.expected = seq;
                    return Found::Hole { bytes: bad..at, lost };
                }
            }
            at += ALIGN;
        }
        self.done = true;
        Found::End {
            at: bad,
            dirty: bad..dirty_end,
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        if self.done {
            return None;
        }
        let only = self.expected..self.expected.saturating_add(1);
        if let Some((seq, kind, payload)) = self.frame_at(self.at, only) {
            self.at = payload.end.next_multiple_of(ALIGN);
            self.expected = seq + 1;
            return Some(Found::Frame { seq, kind, payload });
        }
        Some(self.resync())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            encode(10 + i as u64, 3, payload, &mut bytes);
        }
        bytes
    }

    fn payloads_of(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        Scan::new(bytes, 0, 10)
            .filter_map(|found| match found {
                Found::Frame { seq, payload, .. } => Some((seq, bytes[payload].to_vec())),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_format_is_pinned() {
        let mut bytes = Vec::new();
        encode(7, 2, b"abc", &mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "03000000c569952e07000000000000000261626300000000");
    }

    #[test]
    fn zeroes_are_a_clean_end() {
        let mut bytes = written(&[vec![1; 9]]);
        let at = bytes.len();
        bytes.resize(at + 100, 0);
        assert_eq!(Scan::new(&bytes, 0, 10).last(), Some(Found::End { at, dirty: at..at }));
    }

    proptest! {
        #[test]
        fn frames_read_back_and_a_prefix_ends_dirty(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..8),
            cut in any::<proptest::sample::Index>(),
        ) {
            let bytes = written(&payloads);
            let read = payloads_of(&bytes);
            prop_assert_eq!(read.iter().map(|(_, p)| p.clone()).collect::<Vec<_>>(), payloads.clone());
            let prefix = payloads_of(&bytes[..cut.index(bytes.len())]);
            prop_assert!(read.starts_with(&prefix));
        }

        #[test]
        fn one_flipped_bit_costs_one_frame_at_most(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 2..8),
            at in any::<proptest::sample::Index>(), bit in 0..8u8,
        ) {
            let whole = written(&payloads);
            let good = payloads_of(&whole);
            let mut bytes = whole.clone();
            bytes[at.index(whole.len())] ^= 1 << bit;
            let read = payloads_of(&bytes);
            prop_assert!(read.iter().all(|frame| good.contains(frame)));
            prop_assert!(read.len() + 1 >= good.len());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = payloads_of(&bytes);
        }
    }
}
