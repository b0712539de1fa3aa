//! Decoded pages, kept while there is room: the ones not used lately go first.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::{Page, TableError};
use crate::events::metrics;

/// Which page: table and number.
type PageId = (u64, usize);

/// A cache of decoded pages, shared by all tables.
pub(crate) struct PageCache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// With the turn of the last use.
    pages: HashMap<PageId, (Arc<Page>, u64)>,
    bytes: usize,
    turn: u64,
}

impl PageCache {
    /// Returns a cache for about that many bytes.
    pub(crate) fn new(bytes_max: usize) -> PageCache {
        PageCache {
            bytes_max,
            state: Mutex::default(),
        }
    }

    /// Returns a page, reading it when it is not there.
    pub(crate) fn get(
        &self,
        id: PageId,
        read: impl FnOnce() -> Result<Arc<Page>, TableError>,
    ) -> Result<Arc<Page>, TableError> {
        {
            let mut state = self.state.lock();
            state.turn += 1;
            let turn = state.turn;
            if let Some((page, used)) = state.pages.get_mut(&id) {
                *used = turn;
                metrics::PAGES.inc(&["cache"]);
                return Ok(Arc::clone(page));
            }
        }
        metrics::PAGES.inc(&["file"]);
        let page = read()?;
        let mut state = self.state.lock();
        let turn = state.turn;
        if state.pages.insert(id, (Arc::clone(&page), turn)).is_none() {
            state.bytes += page.bytes();
        }
        if state.bytes > self.bytes_max {
            state.shrink(self.bytes_max / 4 * 3);
        }
        Ok(page)
    }

    /// Returns how many pages are kept.
    #[cfg(test)]
    pub(crate) fn pages(&self) -> usize {
        self.state.lock().pages.len()
    }
}

impl State {
    /// Drops the longest unused pages: sorting all of them once pays for a quarter of the cache.
    fn shrink(&mut self, bytes: usize) {
        let mut turns: Vec<(u64, PageId)> = self.pages.iter().map(|(id, (_, used))| (*used, *id)).collect();
        turns.sort_unstable();
        for (_, id) in turns {
            if self.bytes <= bytes {
                return;
            }
            if let Some((page, _)) = self.pages.remove(&id) {
                self.bytes -= page.bytes();
            }
        }
    }
}
