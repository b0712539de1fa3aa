//! Writes a block: series in, in the order of their labels; one file out, whole or not at all.
//!
//! Samples of one series at a time are in memory, besides the index (about 60 bytes a series and the distinct strings)
//! and one base column of times a source. The file is written under a temporary name, synced, linked to its own, and its
//! directory synced: a crash leaves either the block or garbage that nobody refers to.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::interning::{Base, SymbolSet, TimeColumns, source};
use super::meta::{BlockMeta, MAGIC, NewBlock, Section, Sections, put_footer};
use super::presence::Presence;
use super::series::{Entry, GROUP, Symbolic, Track, put_entry, put_group, put_table};
use super::stats::Stats;
use super::times::{TimeColumn, put_directory};
use super::wire::{put_bytes, put_varint};
use super::{histograms, index, ints, symbols, values};
use crate::io::disk::{Disk, DiskFile};
use crate::model::{Labels, Millis, TimeRange};
use crate::storage::{Columns, StorageError};

/// A page is written when its columns reach this many bytes. A column is never split.
const PAGE_BYTES: usize = 64 << 10;
/// Times encoded in no more bytes than this get a column of their own.
const GRID_BYTES_MAX: usize = 16;
/// Shorter records are not looked for among those before: what names a place costs nearly as much.
const SHARED_BYTES_MIN: usize = 48;
/// Ending of files under construction; whoever opens the directory removes them.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Why a block was not written. Nothing refers to what there is of it.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk failed or is full.
    #[error("cannot {action} {path}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The samples to be written could not be read.
    #[error(transparent)]
    Source(#[from] StorageError),
}

impl WriteError {
    pub(crate) fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
        let path = path.to_owned();
        move |source| WriteError::Disk { action, path, source }
    }

    /// Whether the disk is full: a state that passes, unlike a failed write.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, WriteError::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

/// One series with its samples, as a block takes it.
#[derive(Clone, Debug, Default)]
pub struct SeriesData {
    /// Its identity.
    pub labels: Labels,
    /// Its samples, times rising strictly within each column.
    pub columns: Columns,
}

/// Writes the series of `source`, sorted by labels, each once, as one block. Durable when this returns; `None` when there
/// is no sample.
///
/// # Errors
/// [`WriteError`]; what was written is then removed as far as the disk allows.
pub fn write_block(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    source: &mut dyn Iterator<Item = Result<SeriesData, StorageError>>,
    new: NewBlock,
) -> Result<Option<BlockMeta>, WriteError> {
    let mut writer = BlockWriter::create(disk, dir, new)?;
    for series in source {
        let series = series?;
        writer.push(&series.labels, &series.columns)?;
    }
    writer.finish()
}

/// A block under construction.
pub struct BlockWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    temporary: PathBuf,
    file: Arc<dyn DiskFile>,
    new: NewBlock,
    /// Bytes on the disk.
    written: u64,
    /// The page being filled.
    page: Vec<u8>,
    /// Length and checksum of each page.
    pages: Vec<(u32, u32)>,
    times: TimeColumns,
    symbols: SymbolSet,
    schemas: HashMap<Vec<u32>, u32>,
    /// Where each long record stands, by its hash.
    records: HashMap<u128, (u64, u32)>,
    entries: Vec<(Entry, Symbolic)>,
    last: Option<Labels>,
    floats: u64,
    histograms: u64,
    range: Option<TimeRange>,
    finished: bool,
}

impl BlockWriter {
    /// Opens the temporary file of a block in `dir`.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn create(disk: &Arc<dyn Disk>, dir: &Path, new: NewBlock) -> Result<BlockWriter, WriteError> {
        let temporary = dir.join(new.id.file_name() + TEMPORARY);
        match disk.remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(WriteError::disk("replace", &temporary)(error));
            }
            _ => {}
        }
        let file = disk
            .create(&temporary)
            .map_err(WriteError::disk("create", &temporary))?;
        Ok(BlockWriter {
            disk: disk.clone(),
            dir: dir.to_owned(),
            temporary,
            file,
            new,
            written: 0,
            page: MAGIC.to_vec(),
            pages: Vec::new(),
            times: TimeColumns::default(),
            symbols: SymbolSet::default(),
            schemas: HashMap::new(),
            records: HashMap::new(),
            entries: Vec::new(),
            last: None,
            floats: 0,
            histograms: 0,
            range: None,
            finished: false,
        })
    }

    /// Appends a series; one without samples is left out.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    ///
    /// # Panics
    /// When series do not come sorted by labels, or times do not rise: such a block would answer wrongly for ever.
    pub fn push(&mut self, labels: &Labels, columns: &Columns) -> Result<(), WriteError> {
        if columns.is_empty() {
            return Ok(());
        }
        assert!(
            self.last.as_ref().is_none_or(|last| last < labels),
            "series out of order: {labels} after {:?}",
            self.last
        );
        self.last = Some(labels.clone());
        let symbolic = self.symbolic(labels);
        let mut record = Vec::new();
        let histograms = self.put_histograms(labels, columns, &mut record)?;
        let (floats, constant, stats) = self.put_floats(labels, columns, &mut record)?;
        for track in [&floats, &histograms].into_iter().flatten() {
            self.range = Some(self.range.map_or(
                TimeRange {
                    min: track.first,
                    max: track.last,
                },
                |range| TimeRange {
                    min: range.min.min(track.first),
                    max: range.max.max(track.last),
                },
            ));
        }
        let (offset, len) = self.put_shared(&record)?;
        let entry = Entry {
            floats,
            constant,
            stats,
            histograms,
            offset,
            len,
        };
        self.entries.push((entry, symbolic));
        Ok(())
    }

    /// Writes the index, and gives the block its name. Durable when this returns.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn finish(mut self) -> Result<Option<BlockMeta>, WriteError> {
        let Some(range) = self.range else {
            return Ok(None);
        };
        self.put_page()?;
        let (tail, meta) = self.tail(range);
        let failed = |action| WriteError::disk(action, &self.temporary);
        self.file.write_all_at(&tail, self.written).map_err(failed("write"))?;
        self.file.sync().map_err(failed("sync"))?;
        let path = self.dir.join(meta.id.file_name());
        self.disk
            .hard_link(&self.temporary, &path)
            .map_err(WriteError::disk("name", &path))?;
        self.disk
            .sync_dir(&self.dir)
            .map_err(WriteError::disk("sync the directory of", &path))?;
        // The block is there under its name, whatever becomes of the other one.
        let _ = self.disk.remove_file(&self.temporary);
        self.finished = true;
        Ok(Some(meta))
    }

    fn symbolic(&mut self, labels: &Labels) -> Symbolic {
        let names: Vec<u32> = labels.iter().map(|(name, _)| self.symbols.intern(name)).collect();
        let values = labels.iter().map(|(_, value)| self.symbols.intern(value)).collect();
        let next = self.schemas.len() as u32;
        let schema = *self.schemas.entry(names).or_insert(next);
        Symbolic { schema, values }
    }

    /// Appends presence and start times of a track, and says what the table must know of it.
    fn put_track(
        &mut self,
        labels: &Labels,
        times: &[i64],
        starts: &[i64],
        record: &mut Vec<u8>,
    ) -> Result<Track, WriteError> {
        assert!(
            times.windows(2).all(|pair| pair[0] < pair[1]),
            "times of {labels} do not rise"
        );
        let (column, presence) = self.intern_times(labels, times)?;
        if let Some(presence) = &presence {
            presence.encode(self.times.columns[column as usize].count as usize, record);
        }
        let started = starts.iter().any(|start| *start != 0);
        if started {
            assert!(
                starts.len() == times.len(),
                "start times of {labels} are not one a sample"
            );
            let mut bytes = Vec::new();
            ints::encode(starts, &mut bytes);
            put_bytes(record, &bytes);
        }
        Ok(Track {
            times: column,
            count: times.len() as u32,
            thinned: presence.is_some(),
            started,
            first: Millis(times[0]),
            last: Millis(times[times.len() - 1]),
        })
    }

    fn put_histograms(
        &mut self,
        labels: &Labels,
        columns: &Columns,
        record: &mut Vec<u8>,
    ) -> Result<Option<Track>, WriteError> {
        if columns.histograms.is_empty() {
            return Ok(None);
        }
        let times: Vec<i64> = columns.histograms.iter().map(|sample| sample.at.0).collect();
        let track = self.put_track(labels, &times, &columns.histogram_start_times, record)?;
        let mut bytes = Vec::new();
        histograms::encode(&columns.histograms, &mut bytes);
        put_bytes(record, &bytes);
        self.histograms += times.len() as u64;
        Ok(Some(track))
    }

    fn put_floats(
        &mut self,
        labels: &Labels,
        columns: &Columns,
        record: &mut Vec<u8>,
    ) -> Result<(Option<Track>, bool, Option<Stats>), WriteError> {
        let Some(first) = columns.values.first() else {
            return Ok((None, false, None));
        };
        assert!(
            columns.times.len() == columns.values.len(),
            "{labels} has not one time a value"
        );
        let track = self.put_track(labels, &columns.times, &columns.start_times, record)?;
        let constant = columns.values.iter().all(|value| value.to_bits() == first.to_bits());
        if !constant {
            values::encode(&columns.values, record);
        }
        self.floats += columns.values.len() as u64;
        Ok((Some(track), constant, Some(Stats::of(&columns.values))))
    }

    /// Returns the column that has these times, and which of its times they are when not all.
    fn intern_times(&mut self, labels: &Labels, times: &[i64]) -> Result<(u32, Option<Presence>), WriteError> {
        let words: Vec<u8> = times.iter().flat_map(|at| at.to_le_bytes()).collect();
        let hash = xxhash_rust::xxh3::xxh3_128_with_seed(&words, self.new.seed);
        if let Some(column) = self.times.by_hash.get(&hash) {
            return Ok((*column, None));
        }
        let mut bytes = Vec::new();
        ints::encode(times, &mut bytes);
        let source = source(labels, self.new.seed);
        for key in [Some(source), self.times.longest].into_iter().flatten() {
            let Some(base) = self.times.bases.get(&key) else {
                continue;
            };
            // Times that take a few bytes are a grid of their own: a series scraped at half the rate.
            if bytes.len() > GRID_BYTES_MAX
                && let Some(presence) = base.presence(&self.times.columns, times)
            {
                return Ok((base.column, Some(presence)));
            }
        }
        let (offset, len) = self.put_record(&bytes)?;
        let id = self.times.columns.len() as u32;
        let column = TimeColumn {
            offset,
            len,
            count: times.len() as u32,
            first: Millis(times[0]),
            last: Millis(times[times.len() - 1]),
        };
        self.times.columns.push(column);
        self.times.by_hash.insert(hash, id);
        self.times.offer_base(source, Base { column: id, bytes });
        Ok((id, None))
    }

    /// Appends a series' record, unless the block has the same bytes already: some metrics are exported under two names.
    fn put_shared(&mut self, record: &[u8]) -> Result<(u64, u32), WriteError> {
        if record.len() < SHARED_BYTES_MIN {
            return self.put_record(record);
        }
        let hash = xxhash_rust::xxh3::xxh3_128_with_seed(record, self.new.seed);
        if let Some(place) = self.records.get(&hash) {
            return Ok(*place);
        }
        let place = self.put_record(record)?;
        self.records.insert(hash, place);
        Ok(place)
    }

    /// Appends bytes that are never split, and returns where they stand.
    fn put_record(&mut self, record: &[u8]) -> Result<(u64, u32), WriteError> {
        if self.page.len() + record.len() > PAGE_BYTES && !self.page.is_empty() {
            self.put_page()?;
        }
        let offset = self.written + self.page.len() as u64;
        self.page.extend_from_slice(record);
        Ok((offset, record.len() as u32))
    }

    fn put_page(&mut self) -> Result<(), WriteError> {
        if self.page.is_empty() {
            return Ok(());
        }
        self.file
            .write_all_at(&self.page, self.written)
            .map_err(WriteError::disk("write", &self.temporary))?;
        self.pages.push((self.page.len() as u32, crc32c::crc32c(&self.page)));
        self.written += self.page.len() as u64;
        self.page.clear();
        Ok(())
    }

    /// Returns all that follows the pages.
    fn tail(&self, range: TimeRange) -> (Vec<u8>, BlockMeta) {
        let mut tail = Vec::new();
        let (strings, ranks) = self.symbols.sorted();
        let mut section = |put: &mut dyn FnMut(&mut Vec<u8>)| {
            let start = tail.len();
            put(&mut tail);
            Section {
                offset: self.written + start as u64,
                len: (tail.len() - start) as u64,
                crc: crc32c::crc32c(&tail[start..]),
            }
        };
        let sections = Sections {
            pages: section(&mut |out| {
                for (len, crc) in &self.pages {
                    put_varint(out, u64::from(*len));
                    out.extend(crc.to_le_bytes());
                }
            }),
            times: section(&mut |out| put_directory(&self.times.columns, out)),
            symbols: section(&mut |out| symbols::encode(strings.iter().copied(), out)),
            series: section(&mut |out| self.put_series(&ranks, out)),
            index: section(&mut |out| index::encode(&self.postings(&ranks), out)),
        };
        let id = self.new.id;
        let mut meta = BlockMeta {
            id,
            level: self.new.level,
            range,
            series: self.entries.len() as u64,
            floats: self.floats,
            histograms: self.histograms,
            bytes: 0,
            covers: self.new.covers,
            replaces: self.new.replaces.clone(),
            tombstones: self.new.tombstones,
            writer: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let start = tail.len();
        put_footer(&sections, &meta, &mut tail);
        let (len, crc) = ((tail.len() - start) as u32, crc32c::crc32c(&tail[start..]));
        tail.extend(len.to_le_bytes());
        tail.extend(crc.to_le_bytes());
        tail.extend(MAGIC);
        meta.bytes = self.written + tail.len() as u64;
        (tail, meta)
    }

    /// The label names of each schema, as ids of the symbol set.
    fn schema_names(&self) -> Vec<&Vec<u32>> {
        let mut names: Vec<(&Vec<u32>, &u32)> = self.schemas.iter().collect();
        names.sort_unstable_by_key(|(_, id)| **id);
        names.into_iter().map(|(names, _)| names).collect()
    }

    fn put_series(&self, ranks: &[u32], out: &mut Vec<u8>) {
        let rank = |ids: &[u32]| -> Vec<u32> { ids.iter().map(|id| ranks[*id as usize]).collect() };
        let schemas: Vec<Vec<u32>> = self.schema_names().into_iter().map(|names| rank(names)).collect();
        let (mut groups, mut bodies) = (Vec::new(), Vec::new());
        for group in self.entries.chunks(GROUP as usize) {
            groups.push(bodies.len() as u32);
            let mut before = put_group(group[0].0.offset, &mut bodies);
            for (entry, symbolic) in group {
                let labels = Symbolic {
                    schema: symbolic.schema,
                    values: rank(&symbolic.values),
                };
                put_entry(entry, &self.times.columns, &labels, &mut before, &mut bodies);
            }
        }
        put_table(&schemas, self.entries.len() as u32, &groups, &bodies, out);
    }

    fn postings(&self, ranks: &[u32]) -> BTreeMap<u32, BTreeMap<u32, RoaringBitmap>> {
        let schemas = self.schema_names();
        let mut names: BTreeMap<u32, BTreeMap<u32, RoaringBitmap>> = BTreeMap::new();
        for ((_, labels), id) in self.entries.iter().zip(0..) {
            for (name, value) in schemas[labels.schema as usize].iter().zip(&labels.values) {
                let values = names.entry(ranks[*name as usize]).or_default();
                values.entry(ranks[*value as usize]).or_default().insert(id);
            }
        }
        names
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort: whoever opens the directory next removes what is left.
            let _ = self.disk.remove_file(&self.temporary);
        }
    }
}
