//! What was read lately: verified pages, decoded columns of times, and labels; shared by all blocks of a store.
//!
//! A page serves some hundred neighbouring series, and a column of times all series of a target, so a query that walks a
//! metric reads each of them once; spelling out the labels of what it found would cost it more than the samples do. First in, first out: entries are cheap to get again, and a scan must not be able to
//! make bookkeeping expensive.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use super::series::Entry;
use crate::model::Labels;

/// Bytes of pages kept by default.
const PAGES_BYTES_MAX: usize = 16 << 20;
/// Bytes of times kept by default.
const TIMES_BYTES_MAX: usize = 16 << 20;

/// Bytes of labels kept by default: about 80,000 series.
const GROUPS_BYTES_MAX: usize = 32 << 20;

/// A series of a block, spelled out.
pub(super) type Described = (Labels, Entry);

/// Pages, times and labels by block.
pub struct BlockCache {
    pages: Fifo<Arc<[u8]>>,
    times: Fifo<Arc<[i64]>>,
    groups: Fifo<Arc<[Described]>>,
}

impl BlockCache {
    /// Returns an empty cache of the default size (16 MiB of pages, as much of times, 32 MiB of labels).
    pub fn new() -> BlockCache {
        BlockCache::with_bytes(PAGES_BYTES_MAX, TIMES_BYTES_MAX)
    }

    /// Returns an empty cache that keeps so many bytes of pages and times.
    pub fn with_bytes(pages_max: usize, times_max: usize) -> BlockCache {
        BlockCache {
            pages: Fifo::new(pages_max),
            times: Fifo::new(times_max),
            groups: Fifo::new(GROUPS_BYTES_MAX),
        }
    }

    /// Returns the page at an offset of a block, reading it with `read` when it is not here.
    pub(crate) fn page<E>(
        &self,
        block: u64,
        offset: u64,
        read: impl FnOnce() -> Result<Arc<[u8]>, E>,
    ) -> Result<Arc<[u8]>, E> {
        self.pages.get_or((block, offset), |page| page.len(), read)
    }

    /// Returns a column of times of a block, decoding it with `read` when it is not here.
    pub(crate) fn times<E>(
        &self,
        block: u64,
        column: u32,
        read: impl FnOnce() -> Result<Arc<[i64]>, E>,
    ) -> Result<Arc<[i64]>, E> {
        self.times
            .get_or((block, u64::from(column)), |times| times.len() * 8, read)
    }

    /// Returns the group of series of a block that begins with `start`, reading it with `read` when it is not here.
    pub(super) fn group<E>(
        &self,
        block: u64,
        start: u32,
        read: impl FnOnce() -> Result<Arc<[Described]>, E>,
    ) -> Result<Arc<[Described]>, E> {
        let bytes = |(labels, _): &Described| size_of::<Described>() + labels.as_encoded().len() + 16;
        self.groups
            .get_or((block, u64::from(start)), |group| group.iter().map(bytes).sum(), read)
    }
}

impl Default for BlockCache {
    fn default() -> BlockCache {
        BlockCache::new()
    }
}

/// A map that forgets its oldest entries beyond a number of bytes.
struct Fifo<V> {
    bytes_max: usize,
    inner: Mutex<Inner<(u64, u64), V>>,
}

struct Inner<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<(K, usize)>,
    bytes: usize,
}

impl<V: Clone> Fifo<V> {
    fn new(bytes_max: usize) -> Fifo<V> {
        Fifo {
            bytes_max,
            inner: Mutex::new(Inner {
                entries: HashMap::new(),
                order: VecDeque::new(),
                bytes: 0,
            }),
        }
    }

    fn get_or<E>(
        &self,
        key: (u64, u64),
        bytes: impl Fn(&V) -> usize,
        read: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        if let Some(value) = self.inner.lock().entries.get(&key) {
            return Ok(value.clone());
        }
        // Not under the lock: two threads may read the same page, and then one copy is kept.
        let value = read()?;
        self.inner
            .lock()
            .insert(key, value.clone(), bytes(&value), self.bytes_max);
        Ok(value)
    }
}

impl<K: Copy + Eq + Hash, V> Inner<K, V> {
    fn insert(&mut self, key: K, value: V, bytes: usize, bytes_max: usize) {
        if bytes > bytes_max || self.entries.insert(key, value).is_some() {
            return;
        }
        self.order.push_back((key, bytes));
        self.bytes += bytes;
        while self.bytes > bytes_max {
            let Some((oldest, bytes)) = self.order.pop_front() else {
                break;
            };
            self.entries.remove(&oldest);
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_make_room() {
        let cache = BlockCache::with_bytes(100, 0);
        let read = |len: usize| move || Ok::<_, ()>(Arc::from(vec![0u8; len]));
        for offset in 0..5 {
            cache.page(1, offset, read(40)).unwrap();
        }
        let kept = |offset| cache.page(1, offset, || Err(())).is_ok();
        assert!(!kept(2) && kept(3) && kept(4));
        cache.page(1, 9, read(101)).unwrap();
        assert!(!kept(9) && kept(3) && kept(4));
    }
}
