//! Sets of people that can be merged: exact while small, HyperLogLog in Apache DataSketches' own bytes when large.
//!
//! ```text
//! 0 | person u64 * (sorted)      up to 256 people, little-endian
//! 1 | an HLL sketch, lg k = 14, as the DataSketches libraries of all languages read it
//! ```
//! A person enters the sketch as a 64-bit integer, hashed as the libraries hash a `long`. The standard error is 0.8 %.

use datasketches::hll::{HllSketch, HllType, HllUnion};

use super::Event;

/// A set up to this size is a list.
const LIST_MAX: usize = 256;
/// The sketch's size: 2^14 registers.
const LG_K: u8 = 14;
const KIND_LIST: u8 = 0;
const KIND_SKETCH: u8 = 1;

/// Why bytes are no set of people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no set of people: {0}")]
pub(crate) struct PeopleError(String);

/// A set of people.
pub(crate) enum People {
    /// Sorted, each once.
    List(Vec<u64>),
    /// Too many for a list.
    Sketch(Box<HllUnion>),
}

impl Default for People {
    fn default() -> People {
        People::List(Vec::new())
    }
}

/// Returns 64 bits that stand for whom an event counts.
pub(crate) fn person_of(event: &Event) -> Option<u64> {
    event.person().map(|person| (person >> 64) as u64 ^ person as u64)
}

impl People {
    /// Adds people.
    pub(crate) fn extend(&mut self, people: &[u64]) {
        match self {
            People::List(list) => {
                list.extend_from_slice(people);
                if list.len() > LIST_MAX {
                    list.sort_unstable();
                    list.dedup();
                    self.grow();
                }
            }
            People::Sketch(union) => people.iter().for_each(|person| union.update_value(*person)),
        }
    }

    fn grow(&mut self) {
        if let People::List(list) = self
            && list.len() > LIST_MAX
        {
            let mut union = new_union();
            list.iter().for_each(|person| union.update_value(*person));
            *self = People::Sketch(Box::new(union));
        }
    }

    /// Adds a set that [`People::encode`] wrote.
    ///
    /// # Errors
    /// [`PeopleError`].
    pub(crate) fn merge(&mut self, bytes: &[u8]) -> Result<(), PeopleError> {
        match bytes.split_first() {
            None => Ok(()),
            Some((&KIND_LIST, list)) if list.len().is_multiple_of(8) && list.len() <= LIST_MAX * 8 => {
                let (people, _) = list.as_chunks::<8>();
                let people: Vec<u64> = people.iter().map(|person| u64::from_le_bytes(*person)).collect();
                self.extend(&people);
                Ok(())
            }
            Some((&KIND_SKETCH, sketch)) => {
                let sketch = HllSketch::deserialize(sketch).map_err(|error| PeopleError(error.to_string()))?;
                self.union().update(&sketch);
                Ok(())
            }
            Some((kind, _)) => Err(PeopleError(format!("kind {kind}, {} bytes", bytes.len()))),
        }
    }

    fn union(&mut self) -> &mut HllUnion {
        if let People::List(list) = self {
            let mut union = new_union();
            list.iter().for_each(|person| union.update_value(*person));
            *self = People::Sketch(Box::new(union));
        }
        match self {
            People::Sketch(union) => union,
            People::List(_) => unreachable!("it was just made a sketch"),
        }
    }

    /// Appends the set.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>) {
        match self {
            People::List(list) => {
                list.sort_unstable();
                list.dedup();
                if list.is_empty() {
                    return;
                }
                out.push(KIND_LIST);
                list.iter()
                    .for_each(|person| out.extend_from_slice(&person.to_le_bytes()));
            }
            People::Sketch(union) => {
                out.push(KIND_SKETCH);
                out.extend_from_slice(&union.to_sketch(HllType::Hll4).serialize());
            }
        }
    }

    /// Returns how many there are, and whether that is exact.
    pub(crate) fn count(&mut self) -> (f64, bool) {
        match self {
            People::List(list) => {
                list.sort_unstable();
                list.dedup();
                (list.len() as f64, true)
            }
            People::Sketch(union) => (union.estimate(), false),
        }
    }

    /// Returns the set as a sketch of the DataSketches family, for others to merge.
    pub(crate) fn sketch(&mut self) -> Vec<u8> {
        self.union().to_sketch(HllType::Hll4).serialize()
    }
}

fn new_union() -> HllUnion {
    HllUnion::new(LG_K).expect("14 is a valid size")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(people: &mut People) -> Vec<u8> {
        let mut bytes = Vec::new();
        people.encode(&mut bytes);
        bytes
    }

    fn set(range: std::ops::Range<u64>) -> People {
        let mut people = People::default();
        let hashed: Vec<u64> = range.map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        hashed.chunks(100).for_each(|chunk| people.extend(chunk));
        people
    }

    #[test]
    fn hundreds_are_exact_and_parts_that_overlap_count_once() {
        let mut all = set(0..150);
        all.merge(&encoded(&mut set(50..200))).unwrap();
        assert_eq!(all.count(), (200.0, true));
        let mut again = People::default();
        again.merge(&encoded(&mut all)).unwrap();
        assert_eq!(again.count(), (200.0, true));
    }

    #[test]
    fn a_merge_of_large_sets_errs_by_less_than_two_percent() {
        let mut all = set(0..60_000);
        all.merge(&encoded(&mut set(40_000..100_000))).unwrap();
        all.merge(&encoded(&mut set(0..100))).unwrap();
        let (count, exact) = all.count();
        assert!(!exact && (count - 100_000.0).abs() < 2_000.0, "{count}");
        let foreign = HllSketch::deserialize(&all.sketch()).unwrap();
        assert!(
            (foreign.estimate() - count).abs() < 500.0,
            "{} {count}",
            foreign.estimate()
        );
    }

    #[test]
    fn other_bytes_are_refused_and_never_panic() {
        assert!(People::default().merge(&[7, 1, 2]).is_err());
        assert!(People::default().merge(&[0, 1, 2]).is_err());
        assert!(People::default().merge(&[1, 1, 2]).is_err());
        let mut large = encoded(&mut set(0..5000));
        for at in 0..large.len().min(64) {
            large[at] ^= 0x55;
            let _ = People::default().merge(&large);
            large[at] ^= 0x55;
        }
    }
}
