//! Which of `n` slots are taken: the scrapes a series was present at, the samples that are exceptions of their column.
//!
//! ```text
//! varint runs * 2     then runs x ( gap varint | length − 1 varint )      gap counts from the end of the last run
//! varint 1            then ceil(n / 8) bytes, slot 0 in the lowest bit    when that is shorter
//! ```

use std::ops::Range;

use super::wire::{Cursor, DecodeError, put_varint};

/// Taken slots as runs: sorted, not empty, not touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Presence {
    runs: Vec<Range<u32>>,
}

impl Presence {
    /// Takes the next slot; slots come in rising order.
    pub(crate) fn push(&mut self, slot: u32) {
        match self.runs.last_mut() {
            Some(last) if last.end == slot => last.end += 1,
            _ => self.runs.push(slot..slot + 1),
        }
    }

    pub(crate) fn runs(&self) -> &[Range<u32>] {
        &self.runs
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns how many slots are taken.
    pub(crate) fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }

    /// Appends the slots, which are all below `n`.
    pub(crate) fn encode(&self, n: usize, out: &mut Vec<u8>) {
        let start = out.len();
        put_varint(out, self.runs.len() as u64 * 2);
        let mut end = 0;
        for run in &self.runs {
            put_varint(out, u64::from(run.start - end));
            put_varint(out, u64::from(run.end - run.start - 1));
            end = run.end;
        }
        let bitmap_len = n.div_ceil(8);
        if out.len() - start > 1 + bitmap_len {
            out.truncate(start);
            out.push(1);
            let at = out.len();
            out.resize(at + bitmap_len, 0);
            for slot in self.runs.iter().flat_map(Clone::clone) {
                out[at + slot as usize / 8] |= 1 << (slot % 8);
            }
        }
    }

    /// Reads slots below `n`: the reverse of [`Presence::encode`].
    pub(crate) fn decode(cursor: &mut Cursor<'_>, n: usize) -> Result<Presence, DecodeError> {
        let head = cursor.varint()?;
        let mut presence = Presence::default();
        if head == 1 {
            for (at, byte) in cursor.take(n.div_ceil(8))?.iter().enumerate() {
                for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                    presence.push((at * 8 + bit) as u32);
                }
            }
        } else if head % 2 == 0 {
            let mut end = 0u64;
            for run in 0..head / 2 {
                let gap = cursor.varint()?;
                let start = end.checked_add(gap).ok_or(DecodeError::Malformed("run"))?;
                end = cursor
                    .varint()?
                    .checked_add(1)
                    .and_then(|len| start.checked_add(len))
                    .filter(|end| *end <= n as u64 && (run == 0 || gap > 0))
                    .ok_or(DecodeError::Malformed("run"))?;
                presence.runs.push(start as u32..end as u32);
            }
        } else {
            return Err(DecodeError::Malformed("presence"));
        }
        match presence.runs.last() {
            Some(last) if last.end as usize > n => Err(DecodeError::Malformed("presence")),
            _ => Ok(presence),
        }
    }
}

impl FromIterator<u32> for Presence {
    fn from_iter<I: IntoIterator<Item = u32>>(slots: I) -> Presence {
        let mut presence = Presence::default();
        slots.into_iter().for_each(|slot| presence.push(slot));
        presence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slots_read_back_and_never_take_much_more_than_a_bitmap(
            slots in proptest::collection::btree_set(0u32..500, 0..400), spare in 0usize..20,
        ) {
            let n = slots.last().map_or(0, |last| *last as usize + 1) + spare;
            let presence: Presence = slots.iter().copied().collect();
            prop_assert_eq!(presence.len(), slots.len());
            let mut out = Vec::new();
            presence.encode(n, &mut out);
            prop_assert!(out.len() <= 1 + n.div_ceil(8));
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(Presence::decode(&mut cursor, n), Ok(presence));
            prop_assert!(cursor.is_empty());
            for len in 0..out.len() {
                prop_assert!(Presence::decode(&mut Cursor::new(&out[..len]), n).is_err());
            }
        }

        #[test]
        fn foreign_bytes_are_refused_or_stay_below_n(bytes in proptest::collection::vec(any::<u8>(), 0..40), n in 0usize..300) {
            if let Ok(presence) = Presence::decode(&mut Cursor::new(&bytes), n) {
                prop_assert!(presence.runs().last().is_none_or(|run| run.end as usize <= n));
            }
        }
    }
}
