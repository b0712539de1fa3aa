//! The table of series: from a sender's key to a number, from labels to a number, from matchers to numbers.
//!
//! A request is looked up as a whole: all keys first, so that cache misses overlap; labels are spelled out and validated
//! only for keys never seen. Several keys may stand for one series, because senders spell the same labels differently.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use parking_lot::RwLock;

use super::series::Series;
use crate::model::{LabelError, Labels, SeriesKey, WriteBatch};
use crate::tsdb::postings::PostingsIndex;
use crate::tsdb::record::{Newest, SeriesRef};

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
        unreachable!("keys are written as two words")
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(32) ^ word;
    }
}

/// Two words instead of one `u128`, whose alignment would waste a quarter of the map.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u64, u64);

impl Key {
    fn new(key: SeriesKey) -> Key {
        Key(key.0 as u64, (key.0 >> 64) as u64)
    }

    fn shard(self) -> usize {
        self.1 as usize % SHARDS
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
    by_labels: HashTable<SeriesRef>,
    live: usize,
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

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    fn find(&self, hash: u64, labels: &Labels) -> Option<SeriesRef> {
        let same = |id: &SeriesRef| self.get(*id).is_some_and(|series| series.labels == *labels);
        self.by_labels.find(hash, same).copied()
    }
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
        created: &mut dyn FnMut(&Arc<Series>),
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
        created: &mut dyn FnMut(&Arc<Series>),
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
        created: &mut dyn FnMut(&Arc<Series>),
    ) -> Result<SeriesRef, NoSeries> {
        self.get_or_create(&mut self.inner.write(), labels, newest, usize::MAX, created)
    }

    fn get_or_create(
        &self,
        inner: &mut Inner,
        labels: Labels,
        newest: Option<Newest>,
        series_max: usize,
        created: &mut dyn FnMut(&Arc<Series>),
    ) -> Result<SeriesRef, NoSeries> {
        let hash = labels.hash128(self.seed) as u64;
        if let Some(id) = inner.find(hash, &labels) {
            return Ok(id);
        }
        if inner.live >= series_max {
            let text = format!(
                "the store holds {} series, the limit (series) is {series_max}",
                inner.live
            );
            return Err(NoSeries::Limit(labels, text));
        }
        let id = SeriesRef::try_from(inner.slots.len()).ok().filter(|id| *id != NONE);
        let Some(id) = id else {
            let text = "this process has numbered 2^32 series and must be restarted".to_owned();
            return Err(NoSeries::Limit(labels, text));
        };
        let series = Arc::new(Series::new(id, labels, newest));
        created(&series);
        inner.postings.add(id, &series.labels);
        inner.slots.push(Some(series));
        inner.live += 1;
        let Inner { slots, by_labels, .. } = inner;
        let rehash = |id: &SeriesRef| {
            let series = slots[*id as usize].as_ref().expect("a numbered series is in its slot");
            series.labels.hash128(self.seed) as u64
        };
        by_labels.insert_unique(hash, id, rehash);
        Ok(id)
    }

    /// Removes series that hold no sample any more. Nobody may be about to append to them.
    pub(crate) fn remove(&self, gone: &[SeriesRef]) {
        let mut inner = self.inner.write();
        for id in gone {
            let Some(series) = inner.slots.get_mut(*id as usize).and_then(Option::take) else {
                continue;
            };
            inner.postings.remove(*id, &series.labels);
            let hash = series.labels.hash128(self.seed) as u64;
            if let Ok(entry) = inner.by_labels.find_entry(hash, |other| other == id) {
                entry.remove();
            }
            inner.live -= 1;
        }
        for shard in &self.shards {
            shard.write().retain(|_, id| inner.get(*id).is_some());
        }
    }
}
