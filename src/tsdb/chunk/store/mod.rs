//! The sealed chunks of all series: pages that fill one after the other, the newest in memory, older ones in files.
//!
//! A series keeps the address of its newest chunk; each chunk names the one before it. The files are a place to put bytes,
//! no promise: nothing is synced, and after a crash the log gives all of it again. A disk without room, or one that fails,
//! leaves pages in memory. Every chunk has a checksum that each reader verifies; a bad one is an error that names file
//! and bytes, and the next start reads the log instead.

mod files;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};

use super::open::CHUNK_SAMPLES_MAX;
use super::page::{self, Chunk, ChunkAt, PAGE_BYTES_MAX, Packed, PageWriter, Times};
use crate::io::disk::{Disk, DiskFile};
use crate::storage::StorageError;
use crate::tsdb::metrics;

pub use files::verify_chunk_files;

/// How many pages a file takes.
const FILE_PAGES: u64 = 64;

/// How much is where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkOptions {
    /// The size of a page; 1 MiB at most.
    pub(crate) page_bytes: usize,
    /// Full pages that are kept in memory, in bytes.
    pub(crate) memory_bytes: usize,
    /// Free space below which pages stay in memory; `None` is the larger of 64 MiB and 1 % of the disk.
    pub(crate) reserve_bytes: Option<u64>,
}

/// The sealed chunks of one series: a chain from the newest to the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) newest: Option<ChunkAt>,
    /// Chunks that begin before it are forgotten.
    pub(crate) oldest: i64,
    /// The newest chunk's last time.
    pub(crate) last: i64,
    /// How many there are.
    pub(crate) count: u32,
}

/// Where the pages of a finished page are.
enum Place {
    Memory(Arc<[u8]>),
    File { file: Arc<SpillFile>, offset: u64 },
}

struct Page {
    /// The largest first time of its chunks.
    newest: i64,
    used: u32,
    place: Place,
}

struct SpillFile {
    number: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

struct State {
    open: PageWriter,
    pages: BTreeMap<u64, Page>,
}

/// The file that pages are being written to.
#[derive(Default)]
struct Spilling {
    current: Option<(Arc<SpillFile>, u64)>,
    next_file: u64,
    made: bool,
}

/// All sealed chunks of the head.
pub(crate) struct ChunkStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: ChunkOptions,
    state: RwLock<State>,
    spilling: Mutex<Spilling>,
    damaged: AtomicBool,
}

/// A page as a snapshot of the head names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageRecord {
    pub(crate) number: u64,
    pub(crate) newest: i64,
    pub(crate) used: u32,
    pub(crate) file: u64,
    pub(crate) offset: u64,
}

impl ChunkStore {
    /// Returns an empty store. [`ChunkStore::clean`] comes before the first chunk.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, options: ChunkOptions) -> ChunkStore {
        assert!(options.page_bytes <= PAGE_BYTES_MAX, "offsets in a page have 20 bits");
        ChunkStore {
            state: RwLock::new(State {
                open: PageWriter::new(1, options.page_bytes),
                pages: BTreeMap::new(),
            }),
            disk,
            dir,
            options,
            spilling: Mutex::default(),
            damaged: AtomicBool::new(false),
        }
    }

    /// Packs samples of one series behind `chain`; there is at least one, and times rise.
    pub(crate) fn push(&self, chain: Chain, times: &[i64], values: &[f64]) -> Chain {
        let packed = Packed::new(times, values);
        let previous = chain.newest;
        let mut filled = false;
        let newest = {
            let mut state = self.state.write();
            match state.open.push(previous, &packed) {
                Some(at) => at,
                None => {
                    state.turn(self.options.page_bytes);
                    filled = true;
                    state
                        .open
                        .push(previous, &packed)
                        .expect("an empty page takes any chunk")
                }
            }
        };
        if filled {
            self.spill();
        }
        Chain {
            newest: Some(newest),
            oldest: if chain.count == 0 { times[0] } else { chain.oldest },
            last: times[times.len() - 1],
            count: chain.count + 1,
        }
    }

    /// Returns the chain without the samples in `min..=max`, each of whose times `gone` is told. Chunks are written anew;
    /// none goes beyond what `ends` says of its first time.
    pub(crate) fn delete(
        &self,
        chain: Chain,
        (min, max): (i64, i64),
        ends: &dyn Fn(i64) -> i64,
        gone: &mut dyn FnMut(i64),
    ) -> Result<Chain, StorageError> {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        self.read(chain, (min, max), &mut times, &mut values)?;
        if !times.iter().any(|at| (min..=max).contains(at)) {
            return Ok(chain);
        }
        times.clear();
        values.clear();
        self.read(chain, (i64::MIN, i64::MAX), &mut times, &mut values)?;
        let mut left = Chain::default();
        let (mut kept_times, mut kept_values, mut end) = (Vec::new(), Vec::new(), i64::MIN);
        for (at, value) in times.into_iter().zip(values) {
            if (min..=max).contains(&at) {
                gone(at);
                continue;
            }
            if !kept_times.is_empty() && (at >= end || kept_times.len() == CHUNK_SAMPLES_MAX as usize) {
                left = self.push(left, &kept_times, &kept_values);
                kept_times.clear();
                kept_values.clear();
            }
            if kept_times.is_empty() {
                end = ends(at);
            }
            kept_times.push(at);
            kept_values.push(value);
        }
        if !kept_times.is_empty() {
            left = self.push(left, &kept_times, &kept_values);
        }
        Ok(left)
    }

    /// Appends the samples of the chunks that overlap `min..=max` to the columns, in order.
    pub(crate) fn read(
        &self,
        chain: Chain,
        (min, max): (i64, i64),
        times: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), StorageError> {
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        self.walk(chain, &mut bytes, &mut |at, range, chunk| {
            if chunk.first <= max {
                found.push((at, range));
            }
            chunk.first > min
        })?;
        let mut shared = Vec::new();
        for (at, range) in found.into_iter().rev() {
            let payload = &bytes[range];
            let chunk = Chunk::read(at, payload).map_err(|error| self.corrupt(at, &error.to_string()))?;
            shared.clear();
            if let Times::Shared(beside) = chunk.times {
                let range = self.load(beside, &mut shared)?;
                let range = range.ok_or_else(|| self.corrupt(beside, "its page is gone"))?;
                shared.drain(..range.start);
            }
            let decoded = chunk.decode(&shared, times, values);
            decoded.map_err(|error| self.corrupt(at, &error.to_string()))?;
        }
        Ok(())
    }

    /// Returns how many chunks begin before `below`, and the first time of the oldest one that does not.
    pub(crate) fn split(&self, chain: Chain, below: i64) -> Result<(u32, Option<i64>), StorageError> {
        let (mut kept, mut oldest) = (0, None);
        self.walk(chain, &mut Vec::new(), &mut |_, _, chunk| {
            let stays = chunk.first >= below;
            if stays {
                kept += 1;
                oldest = Some(chunk.first);
            }
            stays
        })?;
        Ok((chain.count.saturating_sub(kept), oldest))
    }

    /// Visits the chunks of a chain from the newest to the oldest, until `visit` returns `false`.
    fn walk(
        &self,
        chain: Chain,
        bytes: &mut Vec<u8>,
        visit: &mut dyn FnMut(ChunkAt, std::ops::Range<usize>, &Chunk<'_>) -> bool,
    ) -> Result<(), StorageError> {
        let mut next = chain.newest.filter(|_| chain.count > 0);
        while let Some(at) = next {
            // A page that is gone held only what is forgotten.
            let Some(range) = self.load(at, bytes)? else { break };
            let chunk = Chunk::read(at, &bytes[range.clone()]).map_err(|error| self.corrupt(at, &error.to_string()))?;
            if chunk.first < chain.oldest || !visit(at, range, &chunk) || chunk.first == chain.oldest {
                break;
            }
            next = chunk.previous;
        }
        Ok(())
    }

    /// Appends the payload of a record to `out` and returns where it is there; `None` when its page is gone.
    fn load(&self, at: ChunkAt, out: &mut Vec<u8>) -> Result<Option<std::ops::Range<usize>>, StorageError> {
        let (from, start) = (at.offset(), out.len());
        let to = from + at.record_bytes();
        let take = |page: &[u8], out: &mut Vec<u8>| page.get(from..to).map(|record| out.extend_from_slice(record));
        let taken = {
            let state = self.state.read();
            if at.page() == state.open.number {
                take(&state.open.bytes, out)
            } else {
                match state.pages.get(&at.page()).map(|page| &page.place) {
                    None => return Ok(None),
                    Some(Place::Memory(bytes)) => take(bytes, out),
                    Some(Place::File { file, offset }) => {
                        let (file, offset) = (Arc::clone(file), offset + from as u64);
                        drop(state); // Nobody waits for the disk but who asked.
                        out.resize(start + to - from, 0);
                        let read = file.file.read_exact_at(&mut out[start..], offset);
                        read.map_err(|error| StorageError::Read {
                            file: file.path.display().to_string(),
                            reason: error.to_string(),
                        })?;
                        Some(())
                    }
                }
            }
        };
        let sound = taken.is_some() && page::payload(&out[start..]).is_some();
        if !sound {
            return Err(self.corrupt(at, "it fails its checksum"));
        }
        Ok(Some(start + page::RECORD_HEADER_BYTES..out.len()))
    }

    fn corrupt(&self, at: ChunkAt, reason: &str) -> StorageError {
        metrics::CHUNK_CORRUPTIONS.inc();
        self.damaged.store(true, Relaxed);
        let state = self.state.read();
        let (file, start) = match state.pages.get(&at.page()).map(|page| &page.place) {
            Some(Place::File { file, offset }) => (file.path.display().to_string(), *offset),
            _ => (format!("memory (page {} of the head)", at.page()), 0),
        };
        let offset = start + at.offset() as u64;
        let reason = format!(
            "the head chunk in bytes {offset}..{}: {reason}; a restart takes it from the log",
            offset + at.record_bytes() as u64
        );
        StorageError::Corrupt { file, offset, reason }
    }

    /// Returns the number of the page that is being filled: all chunks of earlier pages are there already.
    pub(crate) fn mark(&self) -> u64 {
        self.state.read().open.number
    }

    /// Removes pages before `mark` all of whose chunks begin before `below`.
    pub(crate) fn forget(&self, below: i64, mark: u64) {
        let (gone, left) = {
            let mut state = self.state.write();
            let gone: Vec<u64> = state
                .pages
                .range(..mark)
                .filter(|(_, page)| page.newest < below)
                .map(|(number, _)| *number)
                .collect();
            let gone: Vec<Page> = gone.iter().filter_map(|number| state.pages.remove(number)).collect();
            (files(gone.iter()), files(state.pages.values()))
        };
        let current = self.spilling.lock().current.as_ref().map(|(file, _)| file.number);
        for (number, path) in gone {
            if current != Some(number)
                && !left.contains_key(&number)
                && let Err(error) = self.disk.remove_file(&path)
            {
                tracing::warn!(%error, "a file of head chunks could not be removed");
            }
        }
    }

    /// The bytes of full pages in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let state = self.state.read();
        let bytes = state.pages.values().map(|page| match &page.place {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::File { .. } => 0,
        });
        bytes.sum()
    }
}

/// Returns the files that these pages are in.
fn files<'a>(pages: impl Iterator<Item = &'a Page>) -> BTreeMap<u64, PathBuf> {
    let file = |page: &'a Page| match &page.place {
        Place::File { file, .. } => Some((file.number, file.path.clone())),
        Place::Memory(_) => None,
    };
    pages.filter_map(file).collect()
}

impl State {
    /// Begins a new page.
    fn turn(&mut self, page_bytes: usize) {
        let next = PageWriter::new(self.open.number + 1, page_bytes);
        let full = std::mem::replace(&mut self.open, next);
        let (number, newest) = (full.number, full.newest);
        let bytes = full.finish();
        let page = Page {
            newest,
            used: bytes.len() as u32,
            place: Place::Memory(bytes.into()),
        };
        self.pages.insert(number, page);
    }
}
