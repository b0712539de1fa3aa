//! The words of all series' labels, each kept once: a series of ten labels takes 44 bytes for them instead of 240.
//!
//! A series has a schema (the sorted names of its labels, shared by all series that have the same names) and a symbol for each value.
//! Words are counted, so that those of series that left go as well.

use std::cmp::Ordering;
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};

use crate::model::Labels;

/// A series' labels, spelled by the [`Symbols`] that made them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LabelRefs {
    schema: u32,
    values: Box<[u32]>,
}

/// Things that are kept once and counted.
struct Pool<T: ?Sized> {
    entries: Vec<Option<(Arc<T>, u32)>>,
    by_hash: HashTable<u32>,
    free: Vec<u32>,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool {
            entries: Vec::new(),
            by_hash: HashTable::new(),
            free: Vec::new(),
        }
    }
}

impl<T: ?Sized + Eq> Pool<T> {
    fn get(&self, id: u32) -> &T {
        let entry = self.entries[id as usize].as_ref();
        &entry.expect("a counted word is there").0
    }

    /// Returns the number of `item`, with one more use, and whether it is new.
    fn add(&mut self, item: &T, hash: impl Fn(&T) -> u64, make: impl Fn(&T) -> Arc<T>) -> (u32, bool) {
        let Pool { entries, by_hash, free } = self;
        let at = |id: u32| &entries[id as usize].as_ref().expect("a counted word is there").0;
        let key = hash(item);
        if let Some(id) = by_hash.find(key, |id| **at(*id) == *item).copied() {
            let entry = entries[id as usize].as_mut().expect("it was just found");
            entry.1 += 1;
            return (id, false);
        }
        let id = free.pop().unwrap_or(entries.len() as u32);
        if id as usize == entries.len() {
            entries.push(None);
        }
        entries[id as usize] = Some((make(item), 1));
        let at = |id: u32| &entries[id as usize].as_ref().expect("a counted word is there").0;
        by_hash.insert_unique(key, id, |id| hash(at(*id)));
        (id, true)
    }

    /// Takes one use back; returns what has none left.
    fn release(&mut self, id: u32, hash: impl Fn(&T) -> u64) -> Option<Arc<T>> {
        let entry = self.entries[id as usize].as_mut().expect("a counted word is there");
        entry.1 -= 1;
        if entry.1 > 0 {
            return None;
        }
        let (item, _) = self.entries[id as usize].take().expect("it was just counted");
        if let Ok(found) = self.by_hash.find_entry(hash(&item), |other| *other == id) {
            found.remove();
        }
        self.free.push(id);
        Some(item)
    }
}

/// The words and schemas of a table of series.
#[derive(Default)]
pub(super) struct Symbols {
    words: Pool<str>,
    schemas: Pool<[u32]>,
}

fn hash_word(word: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(word.as_bytes())
}

fn hash_schema(names: &[u32]) -> u64 {
    names.iter().fold(names.len() as u64, |hash, name| {
        (hash ^ u64::from(*name))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    })
}

impl Symbols {
    /// Spells a set of labels; [`Symbols::release`] takes it back.
    pub(super) fn intern(&mut self, labels: &Labels) -> LabelRefs {
        let mut word = |word: &str| self.words.add(word, hash_word, |word| Arc::from(word)).0;
        let (names, values): (Vec<u32>, Vec<u32>) =
            labels.iter().map(|(name, value)| (word(name), word(value))).unzip();
        let (schema, new) = self.schemas.add(&names[..], hash_schema, |names| Arc::from(names));
        if !new {
            names.iter().for_each(|name| drop(self.words.release(*name, hash_word))); // A schema counts its names once.
        }
        LabelRefs {
            schema,
            values: values.into_boxed_slice(),
        }
    }

    /// Takes the words of a series back that nobody will ask about any more.
    pub(super) fn release(&mut self, labels: &LabelRefs) {
        for value in &labels.values {
            self.words.release(*value, hash_word);
        }
        if let Some(names) = self.schemas.release(labels.schema, hash_schema) {
            names.iter().for_each(|name| drop(self.words.release(*name, hash_word)));
        }
    }

    fn pairs<'a>(&'a self, labels: &'a LabelRefs) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        let names = self.schemas.get(labels.schema).iter();
        names
            .zip(&labels.values)
            .map(|(name, value)| (self.words.get(*name), self.words.get(*value)))
    }

    /// Returns the labels.
    pub(super) fn labels(&self, labels: &LabelRefs) -> Labels {
        Labels::from_sorted(self.pairs(labels))
    }

    /// Whether these are those.
    pub(super) fn is(&self, refs: &LabelRefs, labels: &Labels) -> bool {
        self.pairs(refs).eq(labels.iter())
    }

    /// Returns all words as they are now, for those who cannot hold the table meanwhile.
    pub(super) fn snapshot(&self) -> Spelling {
        let words = self.words.entries.iter();
        let schemas = self.schemas.entries.iter();
        Spelling {
            words: words
                .map(|entry| entry.as_ref().map(|entry| Arc::clone(&entry.0)))
                .collect(),
            schemas: schemas
                .map(|entry| entry.as_ref().map(|entry| Arc::clone(&entry.0)))
                .collect(),
        }
    }
}

/// Tells series apart by some of their labels only.
pub(super) struct Groups<'a> {
    symbols: &'a Symbols,
    /// The labels that count; sorted.
    names: &'a [String],
    /// For each schema met, where in it the names are.
    places: HashMap<u32, Vec<Option<usize>>>,
    index: HashMap<Vec<u32>, u32>,
    labels: Vec<Labels>,
    key: Vec<u32>,
}

/// No word: the series has no such label.
const ABSENT: u32 = u32::MAX;

impl<'a> Groups<'a> {
    pub(super) fn new(symbols: &'a Symbols, names: &'a [String]) -> Groups<'a> {
        Groups {
            symbols,
            names,
            places: HashMap::new(),
            index: HashMap::new(),
            labels: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Returns the number of the group that a series belongs to.
    pub(super) fn of(&mut self, refs: &LabelRefs) -> u32 {
        self.key.clear();
        if !self.names.is_empty() {
            let places = self.places.entry(refs.schema).or_insert_with(|| {
                let schema = self.symbols.schemas.get(refs.schema);
                let place = |name: &String| schema.iter().position(|word| self.symbols.words.get(*word) == name);
                self.names.iter().map(place).collect()
            });
            let word = |place: &Option<usize>| place.map_or(ABSENT, |place| refs.values[place]);
            self.key.extend(places.iter().map(word));
        } else if !self.labels.is_empty() {
            return 0;
        }
        if let Some(group) = self.index.get(&self.key) {
            return *group;
        }
        let group = self.labels.len() as u32; // There are no more groups than series.
        let pairs = self.names.iter().zip(&self.key).filter(|(_, word)| **word != ABSENT);
        let pairs = pairs.map(|(name, word)| (name.as_str(), self.symbols.words.get(*word)));
        self.labels.push(Labels::from_sorted(pairs));
        self.index.insert(self.key.clone(), group);
        group
    }

    /// Returns the groups' labels, by number.
    pub(super) fn into_labels(self) -> Vec<Labels> {
        self.labels
    }
}

/// The words of a table at one moment.
pub(crate) struct Spelling {
    words: Vec<Option<Arc<str>>>,
    schemas: Vec<Option<Arc<[u32]>>>,
}

impl Spelling {
    fn word(&self, id: u32) -> &str {
        self.words[id as usize]
            .as_deref()
            .expect("the series was there when the words were taken")
    }

    fn pairs<'a>(&'a self, labels: &'a LabelRefs) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        let names = self.schemas[labels.schema as usize].as_deref();
        let names = names.expect("the series was there when the words were taken").iter();
        names
            .zip(&labels.values)
            .map(|(name, value)| (self.word(*name), self.word(*value)))
    }

    /// Returns the labels of a series that was there when the words were taken.
    pub(crate) fn labels(&self, series: &super::Series) -> Labels {
        Labels::from_sorted(self.pairs(&series.labels))
    }

    /// Orders two such series as their labels are ordered.
    pub(crate) fn compare(&self, a: &super::Series, b: &super::Series) -> Ordering {
        let (a, b) = (&a.labels, &b.labels);
        if a.schema == b.schema {
            // The same names: the first value that differs decides.
            let differs = a.values.iter().zip(&b.values).find(|(a, b)| a != b);
            return differs.map_or(Ordering::Equal, |(a, b)| self.word(*a).cmp(self.word(*b)));
        }
        self.pairs(a).cmp(self.pairs(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_word_is_kept_once_and_goes_with_its_last_series() {
        let mut symbols = Symbols::default();
        let sets = [
            Labels::from_pairs([("a", "x"), ("b", "x")]),
            Labels::from_pairs([("a", "b"), ("b", "y")]),
            Labels::empty(),
        ];
        let refs: Vec<LabelRefs> = sets.iter().map(|labels| symbols.intern(labels)).collect();
        assert_eq!(symbols.words.by_hash.len(), 4, "a, b, x and y");
        assert_eq!(symbols.schemas.by_hash.len(), 2);
        assert!(
            sets.iter()
                .zip(&refs)
                .all(|(labels, refs)| symbols.labels(refs) == *labels)
        );
        symbols.release(&refs[0]);
        assert_eq!(symbols.words.by_hash.len(), 3);
        assert_eq!(symbols.labels(&refs[1]), sets[1]);
        symbols.release(&refs[1]);
        symbols.release(&refs[2]);
        assert_eq!((symbols.words.by_hash.len(), symbols.schemas.by_hash.len()), (0, 0));
        let again = symbols.intern(&sets[0]);
        assert!(symbols.is(&again, &sets[0]) && !symbols.is(&again, &sets[1]));
        assert_eq!(symbols.words.entries.len(), 4, "numbers are used again");
    }

    proptest! {
        #[test]
        fn series_are_ordered_as_their_labels(
            sets in proptest::collection::vec(
                proptest::collection::vec(("[a-c]{1,2}", "[a-z]{1,3}"), 0..4), 1..20,
            ),
        ) {
            let mut symbols = Symbols::default();
            let sets: Vec<Labels> = sets.into_iter().map(Labels::from_pairs).collect();
            let series: Vec<_> = sets
                .iter()
                .map(|labels| super::super::Series::new(0, labels, symbols.intern(labels), None))
                .collect();
            let spelling = symbols.snapshot();
            for (a, own) in series.iter().zip(&sets) {
                prop_assert_eq!(&spelling.labels(a), own);
                for (b, other) in series.iter().zip(&sets) {
                    prop_assert_eq!(spelling.compare(a, b), own.cmp(other));
                }
            }
        }
    }
}
