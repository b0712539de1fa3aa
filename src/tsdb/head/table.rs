//! The table of series: from a sender's key to a number, from labels to a number, from matchers to numbers.
//!
//! A request is looked up as a whole: all keys first, so that cache misses overlap; labels are spelled out and validated
//! only for keys never seen. Several keys may stand for one series, because senders spell the same labels differently.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use parking_lot::RwLock;

use super::series::Series;
use super::symbols::{Groups, Spelling, Symbols};
use crate::model::{LabelError, Labels, SeriesKey, WriteBatch};
use crate::tsdb::postings::PostingsIndex;
use crate::tsdb::record::{Newest, SeriesRef};
use crate::tsdb::snapshot::SavedSeries;

/// Keys are spread over this many maps with a lock each.
const SHARDS: usize = 32;
/// Keys per series that are remembered on average, beyond a floor; a sender that spells one series in endless ways must
/// not fill the memory.
const KEYS_PER_SERIES_MAX: usize = 8;
const KEYS_FLOOR: usize = 1 << 16;

/// A series that was refused has this number.
pub(crate) const NONE: SeriesRef = SeriesRef::MAX;

/// Keys are hashes already.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is written as one word")
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

/// Four words instead of one `u128`, whose alignment would waste a third of the map.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key([u32; 4]);

impl Key {
    fn new(key: SeriesKey) -> Key {
        Key([
            key.0 as u32,
            (key.0 >> 32) as u32,
            (key.0 >> 64) as u32,
            (key.0 >> 96) as u32,
        ])
    }

    fn shard(self) -> usize {
        self.0[2] as usize % SHARDS
    }
}

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[0]) | u64::from(self.0[1]) << 32);
    }
}

type Shard = HashMap<Key, SeriesRef, BuildHasherDefault<KeyHasher>>;

/// All series of the head.
pub(crate) struct Table {
    shards: Vec<RwLock<Shard>>,
    inner: RwLock<Inner>,
    seed: u64,
    series_max: usize,
}

/// What is behind the table's lock.
#[derive(Default)]
pub(crate) struct Inner {
    slots: Vec<Option<Arc<Series>>>,
    /// With half the hash of the labels, so that growing needs no labels.
    by_labels: HashTable<(u32, SeriesRef)>,
    live: usize,
    symbols: Symbols,
    /// From matchers to series.
    pub(crate) postings: PostingsIndex,
}

impl Inner {
    /// Returns a series; `None` when it left the head.
    pub(crate) fn get(&self, id: SeriesRef) -> Option<&Arc<Series>> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// Iterates over all series.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Series>> {
        self.slots.iter().flatten()
    }

    /// Iterates over the series with this number or a higher one, by number.
    pub(super) fn from(&self, id: usize) -> impl Iterator<Item = &Arc<Series>> {
        self.slots.iter().skip(id).flatten()
    }

    /// How many numbers were given, to series that left as well.
    pub(super) fn numbered(&self) -> usize {
        self.slots.len()
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Returns the labels of one of the table's series.
    pub(crate) fn labels(&self, series: &Series) -> Labels {
        self.symbols.labels(&series.labels)
    }

    /// Returns what tells series apart by these labels only; sorted.
    pub(super) fn groups<'a>(&'a self, names: &'a [String]) -> Groups<'a> {
        Groups::new(&self.symbols, names)
    }

    /// Returns all words of labels as they are now.
    pub(crate) fn spelling(&self) -> Spelling {
        self.symbols.snapshot()
    }

    fn find(&self, hash: u32, labels: &Labels) -> Option<SeriesRef> {
        let same = |(other, id): &(u32, SeriesRef)| {
            *other == hash
                && self
                    .get(*id)
                    .is_some_and(|series| self.symbols.is(&series.labels, labels))
        };
        self.by_labels.find(spread(hash), same).map(|(_, id)| *id)
    }
}

/// Makes the hash of a table of half a hash.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Why a series was not taken.
#[derive(Clone, Debug)]
pub(crate) enum NoSeries {
    Labels(LabelError),
    /// The table is full: the labels, and a text that names the limit.
    Limit(Labels, String),
}

impl Table {
    pub(crate) fn new(seed: u64, series_max: usize) -> Table {
        Table {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            inner: RwLock::default(),
            seed,
            series_max,
        }
    }

    /// Grants reading.
    pub(crate) fn read(&self) -> parking_lot::RwLockReadGuard<'_, Inner> {
        self.inner.read()
    }

    /// Returns the number of each of the batch's series ([`NONE`] when it cannot be taken), and why some were not.
    /// `created` sees each new series before others do.
    pub(crate) fn look_up(
        &self,
        batch: &WriteBatch,
        created: &mut dyn FnMut(&Series, &Labels),
    ) -> (Vec<SeriesRef>, Vec<(usize, NoSeries)>) {
        let mut refs = Vec::with_capacity(batch.series.len());
        let mut missing = Vec::new();
        {
            let shards: Vec<_> = self.shards.iter().map(RwLock::read).collect();
            for (index, series) in batch.series.iter().enumerate() {
                let key = Key::new(series.key);
                let found = shards[key.shard()].get(&key).copied().unwrap_or(NONE);
                if found == NONE {
                    missing.push(index);
                }
                refs.push(found);
            }
        }
        let refused = if missing.is_empty() {
            Vec::new()
        } else {
            self.create(batch, &missing, &mut refs, created)
        };
        (refs, refused)
    }

    fn create(
        &self,
        batch: &WriteBatch,
        missing: &[usize],
        refs: &mut [SeriesRef],
        created: &mut dyn FnMut(&Series, &Labels),
    ) -> Vec<(usize, NoSeries)> {
        let mut refused = Vec::new();
        let labels: Vec<_> = missing.iter().map(|index| batch.labels.labels(*index)).collect();
        {
            let mut inner = self.inner.write();
            for (index, labels) in missing.iter().zip(labels) {
                match labels {
                    Ok(labels) => match self.get_or_create(&mut inner, labels, None, self.series_max, created) {
                        Ok(id) => refs[*index] = id,
                        Err(error) => refused.push((*index, error)),
                    },
                    Err(error) => refused.push((*index, NoSeries::Labels(error))),
                }
            }
        }
        let keys_max = self.read().len().saturating_mul(KEYS_PER_SERIES_MAX).max(KEYS_FLOOR) / SHARDS;
        for index in missing.iter().filter(|index| refs[**index] != NONE) {
            let key = Key::new(batch.series[*index].key);
            let mut shard = self.shards[key.shard()].write();
            if shard.len() >= keys_max {
                shard.clear(); // They are a cache: the labels find the series again.
            }
            shard.insert(key, refs[*index]);
        }
        refused
    }

    /// Returns the series with these labels, as replay declares it. The limit is for newcomers, not for what was taken.
    pub(crate) fn declare(
        &self,
        labels: Labels,
        newest: Option<Newest>,
        created: &mut dyn FnMut(&Series, &Labels),
    ) -> Result<SeriesRef, NoSeries> {
        self.get_or_create(&mut self.inner.write(), labels, newest, usize::MAX, created)
    }

    /// Takes a series that an earlier process saved.
    pub(crate) fn restore(&self, saved: SavedSeries) -> Result<(), NoSeries> {
        let mut inner = self.inner.write();
        let labels = saved.labels.clone();
        let id = self.get_or_create(&mut inner, labels, None, usize::MAX, &mut |_, _| {})?;
        if let Some(series) = inner.get(id) {
            series.restore(saved);
        }
        Ok(())
    }

    fn get_or_create(
        &self,
        inner: &mut Inner,
        labels: Labels,
        newest: Option<Newest>,
        series_max: usize,
        created: &mut dyn FnMut(&Series, &Labels),
    ) -> Result<SeriesRef, NoSeries> {
        let hash = labels.hash128(self.seed) as u32;
        if let Some(id) = inner.find(hash, &labels) {
            return Ok(id);
        }
        if inner.live >= series_max {
            let text = format!("the store holds {} series, active_series is {series_max}", inner.live);
            return Err(NoSeries::Limit(labels, text));
        }
        let id = SeriesRef::try_from(inner.slots.len()).ok().filter(|id| *id != NONE);
        let Some(id) = id else {
            let text = "this process has numbered 2^32 series and must be restarted".to_owned();
            return Err(NoSeries::Limit(labels, text));
        };
        let refs = inner.symbols.intern(&labels);
        let series = Arc::new(Series::new(id, &labels, refs, newest));
        created(&series, &labels);
        inner.postings.add(id, &labels);
        inner.slots.push(Some(series));
        inner.live += 1;
        inner
            .by_labels
            .insert_unique(spread(hash), (hash, id), |(hash, _)| spread(*hash));
        Ok(id)
    }

    /// Removes series that hold no sample any more. Nobody may be about to append to them.
    pub(crate) fn remove(&self, gone: &[SeriesRef]) {
        let mut inner = self.inner.write();
        for id in gone {
            let Some(series) = inner.slots.get_mut(*id as usize).and_then(Option::take) else {
                continue;
            };
            let labels = inner.labels(&series);
            inner.postings.remove(*id, &labels);
            inner.symbols.release(&series.labels);
            let hash = labels.hash128(self.seed) as u32;
            if let Ok(entry) = inner.by_labels.find_entry(spread(hash), |(_, other)| other == id) {
                entry.remove();
            }
            inner.live -= 1;
        }
        for shard in &self.shards {
            shard.write().retain(|_, id| inner.get(*id).is_some());
        }
    }
}
