//! Tombstones: "forget these series in this range", said once and kept until no block holds such a sample.
//!
//! ```text
//! id varint | min zigzag | max zigzag | matchers varint | ( name | operator u8 | value )*      texts with their length
//! ```
//! A tombstone stands for what was stored when it was said. Each block knows the newest tombstone that was applied when it
//! was written; younger ones are applied when it is read, and for good when it is compacted.

use super::block::wire::{Cursor, DecodeError, put_bytes, put_signed, put_varint};
use super::postings::Selector;
use crate::model::{Labels, MatchOp, Matcher, Millis, TimeRange};

const BROKEN: DecodeError = DecodeError::Malformed("tombstone");

/// One deletion.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// Rises by one with each deletion of a store; 0 is none.
    pub id: u64,
    /// The series meant; all must match.
    pub matchers: Vec<Matcher>,
    /// The samples meant.
    pub range: TimeRange,
}

/// Tombstones made ready to be asked about series.
pub struct Tombstones {
    ready: Vec<(Selector, TimeRange)>,
}

impl Tombstones {
    /// Makes those of `all` ready that came after `applied` and touch `range`.
    pub fn after(applied: u64, all: &[Tombstone], range: TimeRange) -> Tombstones {
        let ready = all
            .iter()
            .filter(|tombstone| tombstone.id > applied && tombstone.range.overlaps(&range))
            .map(|tombstone| (Selector::new(&tombstone.matchers), tombstone.range))
            .collect();
        Tombstones { ready }
    }

    /// Whether no series can be touched.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Returns the times of a series that are deleted, sorted and joined.
    pub fn of(&self, labels: &Labels) -> Vec<TimeRange> {
        let meant = self.ready.iter().filter(|(selector, _)| selector.matches(labels));
        let mut ranges: Vec<TimeRange> = meant.map(|(_, range)| *range).collect();
        ranges.sort_by_key(|range| range.min);
        let mut joined: Vec<TimeRange> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.min.0 <= last.max.0.saturating_add(1) => last.max = last.max.max(range.max),
                _ => joined.push(range),
            }
        }
        joined
    }
}

/// Appends the tombstone.
pub(crate) fn encode(tombstone: &Tombstone, out: &mut Vec<u8>) {
    put_varint(out, tombstone.id);
    put_signed(out, tombstone.range.min.0);
    put_signed(out, tombstone.range.max.0);
    put_varint(out, tombstone.matchers.len() as u64);
    for matcher in &tombstone.matchers {
        put_bytes(out, matcher.name.as_bytes());
        out.push(match matcher.op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        });
        put_bytes(out, matcher.value.as_bytes());
    }
}

/// Reads one tombstone: the reverse of [`encode`].
pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Tombstone, DecodeError> {
    let mut tombstone = Tombstone {
        id: cursor.varint()?,
        range: TimeRange {
            min: Millis(cursor.signed()?),
            max: Millis(cursor.signed()?),
        },
        matchers: Vec::new(),
    };
    for _ in 0..cursor.size()? {
        let name = text(cursor)?;
        let op = match cursor.byte()? {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return Err(BROKEN),
        };
        let matcher = Matcher::new(name, op, text(cursor)?).map_err(|_| BROKEN)?;
        tombstone.matchers.push(matcher);
    }
    Ok(tombstone)
}

fn text<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(cursor.bytes()?).map_err(|_| BROKEN)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tsdb::postings::tests::matcher;
    use proptest::prelude::*;

    pub(in crate::tsdb) fn tombstone() -> impl Strategy<Value = Tombstone> {
        let matchers = proptest::collection::vec(matcher(), 0..3);
        (1u64..9, matchers, any::<i64>(), any::<i64>()).prop_map(|(id, matchers, a, b)| Tombstone {
            id,
            matchers,
            range: TimeRange {
                min: Millis(a.min(b)),
                max: Millis(a.max(b)),
            },
        })
    }

    proptest! {
        #[test]
        fn a_tombstone_reads_back_and_no_prefix_does(tombstone in tombstone()) {
            let mut out = Vec::new();
            encode(&tombstone, &mut out);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(decode(&mut cursor).unwrap(), tombstone);
            prop_assert!(cursor.is_empty());
            for len in 0..out.len() {
                prop_assert!(decode(&mut Cursor::new(&out[..len])).is_err());
            }
        }
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let tombstone = |id, min, max| Tombstone {
            id,
            matchers: vec![Matcher::equal("a", "b")],
            range: TimeRange {
                min: Millis(min),
                max: Millis(max),
            },
        };
        let all = [
            tombstone(1, 0, 9),
            tombstone(2, 40, 50),
            tombstone(3, 10, 20),
            tombstone(4, 5, 12),
        ];
        let ready = Tombstones::after(0, &all, TimeRange::ALL);
        let found = ready.of(&Labels::from_pairs([("a", "b")]));
        let pairs: Vec<(i64, i64)> = found.iter().map(|range| (range.min.0, range.max.0)).collect();
        assert_eq!(pairs, [(0, 20), (40, 50)]);
        assert!(ready.of(&Labels::from_pairs([("a", "c")])).is_empty());
        assert!(Tombstones::after(4, &all, TimeRange::ALL).is_empty());
    }
}
