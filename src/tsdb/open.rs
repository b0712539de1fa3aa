//! Opening the store: blocks, then the head from a snapshot or from the whole log.
//!
//! A snapshot saves time and proves nothing: it is used only when its checksum fits, its chunks are there, no block is
//! lost and the log goes on where it ends; and only once. Otherwise the whole log is read, as after a crash.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::block::BlockCache;
use super::block_set::{BlockSet, BlockSetConfig};
use super::chunk::{ChunkOptions, ChunkStore};
use super::commit::Committer;
use super::config::DbConfig;
use super::cut::Cutting;
use super::db::Db;
use super::head::{BLOCK_MILLIS, Head};
use super::record::{Record, SeriesRef};
use super::recovery::{Covered, Recovery, RecoveryReport};
use super::snapshot::{self, SavedLog, Snapshot, SnapshotWriter};
use super::tombstone::Tombstone;
use crate::io::disk::Disk;
use crate::io::log::{Position, SegmentLog, SegmentOptions};
use crate::io::{Clock, Random};
use crate::model::Interval;

/// Where things are, inside the store's directory.
const LOG_DIR: &str = "wal";
const BLOCKS_DIR: &str = "blocks";
const CHUNKS_DIR: &str = "chunks";
const QUARANTINE_DIR: &str = "quarantine";

/// A segment of the log in which more numbers of series are used is not continued.
const NUMBERS_USED_MAX: u64 = 1 << 31;
/// How much of a snapshot's series is one section.
const SECTION_BYTES: usize = 1 << 20;

/// Why a store cannot be opened. Damaged data is no reason: it is reported and left out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory; the text names it.
    #[error("{0}")]
    Locked(String),
    /// The directory cannot be made or read.
    #[error("cannot open the store in {dir}: {reason}")]
    Unreadable {
        /// The store's directory.
        dir: String,
        /// The operating system's words.
        reason: String,
    },
}

/// A head with its log, as they are found.
struct Found {
    head: Arc<Head>,
    log: SegmentLog,
    /// The newest time in each segment.
    newest: BTreeMap<u64, i64>,
    /// Where new numbers of series begin in the log.
    base: SeriesRef,
    report: RecoveryReport,
    /// Deletions that the log knows of.
    tombstones: Vec<Tombstone>,
}

/// What finding the head needs.
struct Finding<'a> {
    config: &'a DbConfig,
    disk: &'a Arc<dyn Disk>,
    random: &'a dyn Random,
    covered: &'a [Covered],
}

impl Db {
    /// Opens the store, creating it, and its head. Blocks for as long as that takes: about 0.1 µs for each sample in the
    /// log, or 2 µs a series after a stop in order; `config.progress` tells how far it is.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is taken or cannot be used.
    pub fn open(
        config: DbConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<(Arc<Db>, RecoveryReport), OpenError> {
        let started = clock.mono();
        let unreadable = |reason: String| OpenError::Unreadable {
            dir: config.dir.display().to_string(),
            reason,
        };
        disk.create_dir_all(&config.dir)
            .map_err(|error| unreadable(error.to_string()))?;
        let lock = disk.lock(&config.dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked(error.to_string()),
            _ => unreadable(error.to_string()),
        })?;
        let block_config = BlockSetConfig {
            dir: config.dir.join(BLOCKS_DIR),
            quarantine: config.dir.join(QUARANTINE_DIR),
            seed: random.next_u64(),
        };
        let opened = BlockSet::open(&disk, block_config, Arc::new(BlockCache::new()));
        let (blocks, opened) = opened.map_err(|error| unreadable(error.to_string()))?;
        let covered = covered(&blocks);
        let below = covered.iter().map(|covered| covered.range.max.0).max();
        let finding = Finding {
            config: &config,
            disk: &disk,
            random: random.as_ref(),
            covered: &covered,
        };
        let blocks_sound = opened.lost.is_empty() && opened.problems.is_empty();
        let found = finding.find(blocks_sound).map_err(unreadable)?;
        let Found {
            head,
            log,
            newest,
            base,
            mut report,
            tombstones,
        } = found;
        let resumed = blocks.resume(tombstones);
        let committer = Committer::start(
            Arc::clone(&head),
            log,
            newest,
            base,
            config.durability,
            Arc::clone(&clock),
        );
        let committer = committer.map_err(|error| unreadable(error.to_string()))?;
        report.blocks = blocks.snapshot().blocks.len() as u64;
        let lost = opened
            .lost
            .iter()
            .map(|lost| format!("block {} is lost: {}", lost.id, lost.reason));
        report.damage.extend(lost.chain(opened.problems));
        let incomplete = resumed.err();
        let incomplete = incomplete.map(|error| format!("a deletion is not complete: {error}"));
        report.damage.extend(incomplete);
        report.took = Interval((clock.mono().seconds_since(started) * 1000.0) as i64);
        for damage in &report.damage {
            tracing::warn!(damage, "corrupt data was found and left out");
        }
        let cutting = Cutting {
            below: below.map_or(i64::MIN, |max| {
                max.saturating_sub(max.rem_euclid(BLOCK_MILLIS)) + BLOCK_MILLIS
            }),
            pending: None,
        };
        let db = Db {
            config,
            clock,
            head,
            committer,
            blocks,
            cutting: Mutex::new(cutting),
            readers: Mutex::default(),
            disk,
            _lock: lock,
        };
        db.measure();
        Ok((Arc::new(db), report))
    }

    /// Writes a snapshot of the head. The committer has ended.
    pub(super) fn save_snapshot(&self) -> io::Result<()> {
        if let Err(error) = self.committer.check() {
            return Err(io::Error::other(error.to_string())); // What the log has then, only reading it tells.
        }
        let log = self.committer.log_state();
        let mut writer = SnapshotWriter::create(self.disk.as_ref(), &self.config.dir)?;
        writer.section(snapshot::LOG, &log.encode())?;
        let mut section = Vec::with_capacity(SECTION_BYTES + 4096);
        self.head.save_series(&mut |series| {
            series.put(&mut section);
            if section.len() >= SECTION_BYTES {
                writer.section(snapshot::SERIES, &section)?;
                section.clear();
            }
            Ok(())
        })?;
        writer.section(snapshot::SERIES, &section)?;
        let metadata = Record::Metadata(self.head.metadata());
        writer.section(snapshot::METADATA, &metadata.encode(0).1)?;
        let exemplars = snapshot::encode_exemplars(&self.head.exemplars.all());
        writer.section(snapshot::EXEMPLARS, &exemplars)?;
        writer.section(snapshot::PAGES, &snapshot::encode_pages(&self.head.chunks.save()?))?;
        writer.finish()
    }
}

impl Finding<'_> {
    /// Finds the head: by its snapshot when there is a sound one, else by the log.
    fn find(&self, blocks_sound: bool) -> Result<Found, String> {
        let path = snapshot::path(&self.config.dir);
        let bytes = match self.disk.map(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.read_log(self.new_head(), None),
            Err(error) => {
                tracing::warn!(%error, "the snapshot of the head cannot be read: the whole log is");
                return self.read_log(self.new_head(), None);
            }
        };
        let found = if blocks_sound {
            self.load(bytes)
        } else {
            Err("blocks were lost, of which the log may have the samples".to_owned())
        };
        let found = match found {
            Ok(found) => found,
            Err(reason) => {
                tracing::warn!(reason, "the snapshot of the head is of no use: the whole log is read");
                self.read_log(self.new_head(), None)?
            }
        };
        if let Err(error) = remove(self.disk.as_ref(), &path, &self.config.dir) {
            return Err(format!("cannot remove {}: {error}", path.display()));
        }
        Ok(found)
    }

    fn new_head(&self) -> Arc<Head> {
        let config = self.config;
        let options = ChunkOptions {
            page_bytes: config.chunk_page_bytes,
            memory_bytes: config.chunk_memory_bytes,
            reserve_bytes: config.reserve_bytes,
        };
        let chunks = ChunkStore::new(Arc::clone(self.disk), config.dir.join(CHUNKS_DIR), options);
        let seed = self.random.next_u64();
        Arc::new(Head::new(seed, config.series_max, config.out_of_order_window, chunks))
    }

    /// Makes the head of a snapshot and of what the log has behind it.
    fn load(&self, bytes: bytes::Bytes) -> Result<Found, String> {
        let snapshot = Snapshot::read(bytes).map_err(|error| error.to_string())?;
        let head = self.new_head();
        let loaded = head.chunks.load_pages(&snapshot.pages);
        loaded.map_err(|error| error.to_string())?;
        let mut restored = Ok(());
        let read = snapshot.series(&mut |series| {
            if let Err(error) = head.table.restore(series) {
                restored = Err(format!("{error:?}"));
            }
            Ok(())
        });
        read.map_err(|error| error.to_string())?;
        restored?;
        head.restore(snapshot.metadata.as_ref(), snapshot.exemplars);
        self.read_log(head, Some(snapshot.log))
    }

    /// Reads the log into the head, from the snapshot's position on when there is one.
    fn read_log(&self, head: Arc<Head>, saved: Option<SavedLog>) -> Result<Found, String> {
        head.chunks.clean();
        let from = saved.as_ref().map_or(Position(0), |saved| saved.upto);
        let mut recovery = Recovery::new(&head, self.covered.to_vec(), from, &self.config.progress);
        let options = SegmentOptions {
            segment_bytes: self.config.segment_bytes,
            reserve_bytes: self.config.reserve_bytes,
        };
        let dir = self.config.dir.join(LOG_DIR);
        let log = SegmentLog::open(Arc::clone(self.disk), &dir, options, &mut |found| recovery.visit(found));
        let mut log = log.map_err(|error| error.to_string())?;
        let tombstones = recovery.tombstones();
        let (mut report, mut newest, next_ref) = recovery.finish();
        let mut base = next_ref as SeriesRef;
        if let Some(saved) = saved {
            if log.next() < from {
                return Err(format!(
                    "the log ends at {}, before the snapshot at {}",
                    log.next().0,
                    from.0
                ));
            }
            newest.extend(saved.newest);
            report.snapshot = true;
        }
        if report.snapshot || next_ref > NUMBERS_USED_MAX {
            // The numbers in it are nearly used up, or nobody knows them: a new segment begins anew.
            log.seal();
            base = 0;
        }
        Ok(Found {
            head,
            log,
            newest,
            base,
            report,
            tombstones,
        })
    }
}

fn remove(disk: &dyn Disk, path: &Path, dir: &Path) -> io::Result<()> {
    disk.remove_file(path)?;
    disk.sync_dir(dir)
}

/// Returns what blocks spare the log's reader. Blocks that a manifest no longer vouches for spare nothing.
fn covered(blocks: &BlockSet) -> Vec<Covered> {
    let snapshot = blocks.snapshot();
    let metas = snapshot.metas().into_iter();
    let covers = metas.filter_map(|meta| Some((meta.covers?.to.min(snapshot.covered), meta.range)));
    covers.map(|(upto, range)| Covered { upto, range }).collect()
}
