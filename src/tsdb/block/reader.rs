//! Reads a block: opened once with its index verified, then asked for series and their samples.
//!
//! Index sections are mapped and checked when the block is opened; pages are read by position and checked on every read,
//! so a rotten byte is an error that names the file and the place, never a number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::cache::{BlockCache, Described};
use super::index::Index;
use super::ints;
use super::meta::{BlockMeta, Sections};
use super::open::{Page, Parts};
use super::read_series::BlockSeries;
use super::series::{Entry, GROUP, SeriesTable, Symbolic};
use super::symbols::Symbols;
use super::times::TimeColumn;
use super::wire::{Cursor, DecodeError};
use crate::io::disk::{Disk, DiskFile};
use crate::model::{Labels, Matcher, TimeRange};
use crate::storage::{self, StorageError};
use crate::tsdb::postings::{LabelIndex, Selector};

/// An open block. Immutable; cheap to share.
pub struct Block {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    meta: BlockMeta,
    sections: Sections,
    pages: Vec<Page>,
    pub(super) times: Vec<TimeColumn>,
    symbols: Symbols,
    series: SeriesTable,
    index: Index,
    cache: Arc<BlockCache>,
    /// What was found damaged since the block was opened, by its place.
    damage: Mutex<BTreeMap<u64, String>>,
}

impl Block {
    /// Opens a block and verifies its index.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when header, footer or a section is damaged, [`StorageError::Read`] when the file cannot
    /// be read.
    pub fn open(disk: &dyn Disk, path: &Path, cache: Arc<BlockCache>) -> Result<Arc<Block>, StorageError> {
        let unreadable = |error: std::io::Error| StorageError::Read {
            file: path.display().to_string(),
            reason: error.to_string(),
        };
        let file = disk.open_read(path).map_err(unreadable)?;
        let bytes = disk.map(path).map_err(unreadable)?;
        let parts = Parts::of(&bytes).map_err(|(offset, reason)| corrupt(path, offset, reason))?;
        Ok(Arc::new(Block {
            path: path.to_owned(),
            file,
            meta: parts.meta,
            sections: parts.sections,
            pages: parts.pages,
            times: parts.times,
            symbols: parts.symbols,
            series: parts.series,
            index: parts.index,
            cache,
            damage: Mutex::default(),
        }))
    }

    /// Returns what the block says about itself.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Returns what was found damaged since the block was opened; what is whole still answers.
    pub fn damage(&self) -> Vec<String> {
        self.damage.lock().values().cloned().collect()
    }

    /// Returns the parts of the file with their lengths in bytes.
    pub fn layout(&self) -> Vec<(&'static str, u64)> {
        let pages = self.pages.iter().map(|page| u64::from(page.len)).sum::<u64>();
        let times = self.times.iter().map(|column| u64::from(column.len)).sum::<u64>();
        let sections = self.sections.all().map(|(name, section)| (name, section.len));
        [("value columns", pages.saturating_sub(times)), ("time columns", times)]
            .into_iter()
            .chain(sections)
            .collect()
    }

    /// Returns the block's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the matching series with samples in `range`, sorted by labels, undecoded.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn select(
        self: &Arc<Self>,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<Box<dyn storage::Series>>, StorageError> {
        let found = self.find(&Selector::new(matchers), range)?;
        Ok(found
            .into_iter()
            .map(|series| Box::new(series) as Box<dyn storage::Series>)
            .collect())
    }

    /// As [`Block::select`], with matchers that are ready, and keeping the type.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn find(self: &Arc<Self>, selector: &Selector, range: TimeRange) -> Result<Vec<BlockSeries>, StorageError> {
        if !self.meta.range.overlaps(&range) {
            return Ok(Vec::new());
        }
        let ids = selector.find(&**self)?;
        let mut ids = ids.iter().peekable();
        let mut found = Vec::new();
        while let Some(first) = ids.peek() {
            let start = first / GROUP * GROUP;
            let group = self.group(start)?;
            while let Some(id) = ids.next_if(|id| *id - start < GROUP) {
                let nothing = || self.rotten_index(&DecodeError::Malformed("label index: no such series"));
                let (labels, entry) = group.get((id - start) as usize).ok_or_else(nothing)?;
                if entry_overlaps(entry, range) {
                    found.push(BlockSeries::new(self.clone(), labels.clone(), *entry));
                }
            }
        }
        Ok(found)
    }

    /// Returns the group that begins with a series, from the cache if it is there: queries come again and again.
    fn group(&self, start: u32) -> Result<Arc<[Described]>, StorageError> {
        self.cache.group(self.meta.id.0, start, || {
            let end = start.saturating_add(GROUP).min(self.series.len());
            let mut group = Vec::with_capacity(GROUP as usize);
            self.visit(&(start..end).collect(), |_, labels, entry| {
                group.push((labels.build(self)?, *entry));
                Ok(())
            })?;
            Ok(Arc::from(group))
        })
    }

    /// Returns all series, sorted by labels: what compaction reads.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn all_series(self: &Arc<Self>) -> AllSeries {
        AllSeries {
            block: self.clone(),
            group: Vec::new().into_iter(),
            next: 0,
        }
    }

    /// Returns the label sets of the matching series with samples in `range`, sorted.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn series(&self, selector: &Selector, range: TimeRange) -> Result<Vec<Labels>, StorageError> {
        let ids = selector.find(self)?;
        let mut found = Vec::new();
        self.visit(&ids, |_, labels, entry| {
            if entry_overlaps(entry, range) {
                found.push(labels.build(self)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Returns the label names of the series that match, sorted. Looks at series, not at their samples' times.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn label_names(&self, selector: &Selector) -> Result<Vec<String>, StorageError> {
        let ids = selector.find(self)?;
        let mut names = Vec::new();
        for name in self.index.names() {
            if !self
                .index
                .having(name)
                .map_err(|error| self.rotten_index(&error))?
                .is_disjoint(&ids)
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Returns the values that `name` has in the series that match, sorted.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn label_values(&self, name: &str, selector: &Selector) -> Result<Vec<String>, StorageError> {
        let ids = selector.find(self)?;
        let only = (ids.len() < u64::from(self.series.len())).then_some(&ids);
        let mut values = Vec::new();
        self.index
            .values(name, only, |symbol| {
                let mut value = String::new();
                self.symbols.get(symbol, &mut value)?;
                values.push(value);
                Ok(())
            })
            .map_err(|error| self.rotten_index(&error))?;
        Ok(values)
    }

    /// Calls `visit` with each label name, its values and how many series have each: cardinality.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn cardinality(&self, mut visit: impl FnMut(&str, &str, u64)) -> Result<(), StorageError> {
        for name in self.index.names() {
            let mut value = String::new();
            self.index
                .count(name, |symbol, count| {
                    self.symbols.get(symbol, &mut value)?;
                    visit(name, &value, count);
                    Ok(())
                })
                .map_err(|error| self.rotten_index(&error))?;
        }
        Ok(())
    }

    /// Reads every page and every column, and compares with what the table says of them.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] with the first damage found.
    pub fn verify(self: &Arc<Self>) -> Result<(), StorageError> {
        for page in &self.pages {
            self.read_page(page)?;
        }
        let mut samples = 0;
        let mut columns = storage::Columns::default();
        for series in self.all_series() {
            samples += series?.verify(&mut columns)?;
        }
        if samples != self.meta.samples() {
            let reason = format!("{samples} samples, the footer says {}", self.meta.samples());
            return Err(self.damaged(0, &reason));
        }
        Ok(())
    }

    /// Returns the bytes of a record, and the page that holds them.
    pub(super) fn record(&self, offset: u64, len: u32) -> Result<Record, StorageError> {
        let outside = || self.damaged(offset, "a record lies outside of the pages");
        if len == 0 {
            return Ok(Record {
                page: Arc::from([]),
                range: 0..0,
            });
        }
        let at = self.pages.partition_point(|page| page.offset <= offset);
        let page = self.pages[..at].last().ok_or_else(outside)?;
        let start = usize::try_from(offset - page.offset).map_err(|_| outside())?;
        let end = start + len as usize;
        if end > page.len as usize {
            return Err(outside());
        }
        let page = self.cache.page(self.meta.id.0, page.offset, || self.read_page(page))?;
        Ok(Record {
            page,
            range: start..end,
        })
    }

    /// Returns a column of times.
    pub(super) fn times(&self, column: u32) -> Result<Arc<[i64]>, StorageError> {
        self.cache.times(self.meta.id.0, column, || {
            let described = self.times[column as usize];
            let record = self.record(described.offset, described.len)?;
            let (mut times, count) = (Vec::new(), described.count as usize);
            ints::decode_all(&mut Cursor::new(record.bytes()), count, &mut times)
                .map_err(|error| self.rotten(described.offset, &error))?;
            Ok(Arc::from(times))
        })
    }

    /// Says that what passed its checksum cannot be decoded: a fault of the writer, or of memory.
    pub(super) fn rotten(&self, offset: u64, error: &DecodeError) -> StorageError {
        self.damaged(offset, &error.to_string())
    }

    /// Makes the error, and tells it once: later readers of the place get the same answer.
    fn damaged(&self, offset: u64, reason: &str) -> StorageError {
        let range = self.meta.range;
        let reason = format!("{reason}; the block holds samples from {} to {}", range.min, range.max);
        let error = corrupt(&self.path, offset, reason);
        let told = self.damage.lock().insert(offset, error.to_string()).is_some();
        if !told {
            super::PAGES_CORRUPT.inc();
            tracing::error!(%error, "a block is damaged: queries that need this place fail, others go on");
        }
        error
    }

    fn rotten_index(&self, error: &DecodeError) -> StorageError {
        self.rotten(
            self.pages.last().map_or(0, |page| page.offset + u64::from(page.len)),
            error,
        )
    }

    fn read_page(&self, page: &Page) -> Result<Arc<[u8]>, StorageError> {
        let mut bytes = vec![0; page.len as usize];
        self.file
            .read_exact_at(&mut bytes, page.offset)
            .map_err(|error| StorageError::Read {
                file: self.path.display().to_string(),
                reason: format!("page at byte {}: {error}", page.offset),
            })?;
        if crc32c::crc32c(&bytes) != page.crc {
            let end = page.offset + u64::from(page.len);
            return Err(self.damaged(page.offset, &format!("the page up to byte {end} fails its checksum")));
        }
        Ok(Arc::from(bytes))
    }

    /// Calls `visit` with the entries of `ids`, in order, reading each group once.
    fn visit(
        &self,
        ids: &RoaringBitmap,
        mut visit: impl FnMut(u32, &mut LabelCursor, &Entry) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut labels = LabelCursor::default();
        let mut ids = ids.iter().peekable();
        while let Some(first) = ids.peek() {
            let rotten = |error: DecodeError| self.rotten_index(&error);
            let mut group = self.series.group(*first, &self.times).map_err(rotten)?;
            while let Some((id, entry)) = group.next().map_err(rotten)? {
                if ids.next_if_eq(&id).is_some() {
                    labels.symbolic.clone_from(&group.labels);
                    visit(id, &mut labels, &entry)?;
                }
            }
            if ids.peek().is_some_and(|id| *id >= self.series.len()) {
                return Err(self.rotten_index(&DecodeError::Malformed("label index: no such series")));
            }
        }
        Ok(())
    }
}

fn corrupt(path: &Path, offset: u64, reason: String) -> StorageError {
    StorageError::Corrupt {
        file: path.display().to_string(),
        offset,
        reason,
    }
}

fn entry_overlaps(entry: &Entry, range: TimeRange) -> bool {
    [entry.floats, entry.histograms]
        .into_iter()
        .flatten()
        .any(|track| track.first <= range.max && range.min <= track.last)
}

/// A record and the page that it is part of.
pub(super) struct Record {
    page: Arc<[u8]>,
    range: std::ops::Range<usize>,
}

impl Record {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.page[self.range.clone()]
    }
}

/// Turns symbols into labels, remembering the strings of the series before: neighbours differ in one or two.
#[derive(Default)]
struct LabelCursor {
    symbolic: Symbolic,
    known: Symbolic,
    names: Vec<String>,
    values: Vec<String>,
}

impl LabelCursor {
    fn build(&mut self, block: &Block) -> Result<Labels, StorageError> {
        self.resolve(block).map_err(|error| block.rotten_index(&error))?;
        let pairs = self
            .names
            .iter()
            .map(String::as_str)
            .zip(self.values.iter().map(String::as_str));
        Ok(Labels::from_sorted(pairs))
    }

    fn resolve(&mut self, block: &Block) -> Result<(), DecodeError> {
        let same_schema = self.known.schema == self.symbolic.schema && !self.names.is_empty();
        if !same_schema {
            let schema = &block.series.schemas[self.symbolic.schema as usize];
            self.names.resize(schema.len(), String::new());
            self.values.resize(schema.len(), String::new());
            for (name, symbol) in self.names.iter_mut().zip(schema) {
                block.symbols.get(*symbol, name)?;
            }
        }
        for (at, symbol) in self.symbolic.values.iter().enumerate() {
            if !same_schema || self.known.values[at] != *symbol {
                block.symbols.get(*symbol, &mut self.values[at])?;
            }
        }
        self.known.clone_from(&self.symbolic);
        Ok(())
    }
}

/// All series of a block in order.
pub struct AllSeries {
    block: Arc<Block>,
    group: std::vec::IntoIter<BlockSeries>,
    next: u32,
}

impl Iterator for AllSeries {
    type Item = Result<BlockSeries, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        /// Series whose labels are held at a time.
        const BATCH: u32 = 64 * super::series::GROUP;
        loop {
            if let Some(series) = self.group.next() {
                return Some(Ok(series));
            }
            let end = self.next.saturating_add(BATCH).min(self.block.series.len());
            if self.next >= end {
                return None;
            }
            let ids: RoaringBitmap = (self.next..end).collect();
            self.next = end;
            let mut found = Vec::with_capacity(ids.len() as usize);
            let visited = self.block.visit(&ids, |_, labels, entry| {
                found.push(BlockSeries::new(self.block.clone(), labels.build(&self.block)?, *entry));
                Ok(())
            });
            if let Err(error) = visited {
                self.next = u32::MAX;
                return Some(Err(error));
            }
            self.group = found.into_iter();
        }
    }
}

impl LabelIndex for Block {
    fn all(&self) -> Result<RoaringBitmap, StorageError> {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series.len());
        Ok(all)
    }

    fn having(&self, name: &str) -> Result<RoaringBitmap, StorageError> {
        self.index.having(name).map_err(|error| self.rotten_index(&error))
    }

    fn exact(&self, name: &str, value: &str) -> Result<RoaringBitmap, StorageError> {
        let found = self.symbols.find(value).and_then(|symbol| match symbol {
            Some(symbol) => self.index.exact(name, symbol),
            None => Ok(RoaringBitmap::new()),
        });
        found.map_err(|error| self.rotten_index(&error))
    }

    fn passing(
        &self,
        name: &str,
        prefix: &str,
        test: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, StorageError> {
        let mut value = String::new();
        let found = self.symbols.with_prefix(prefix).and_then(|symbols| {
            self.index.passing(name, symbols, |symbol| {
                self.symbols.get(symbol, &mut value)?;
                Ok(test(&value))
            })
        });
        found.map_err(|error| self.rotten_index(&error))
    }

    fn value_count(&self, name: &str) -> usize {
        self.index.value_count(name)
    }

    fn test_one(&self, id: u32, name: &str, test: &mut dyn FnMut(&str) -> bool) -> Option<Result<bool, StorageError>> {
        let mut passed = false;
        let visited = self.visit(&RoaringBitmap::from([id]), |_, labels, _| {
            passed = test(labels.build(self)?.value(name));
            Ok(())
        });
        Some(visited.map(|()| passed))
    }
}
