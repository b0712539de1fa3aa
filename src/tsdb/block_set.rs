//! The blocks of a store: which are live, and how that changes.
//!
//! Readers take a [`Snapshot`]; writers [`BlockSet::commit`] a change: new blocks in, others out, in one manifest, durable
//! when it returns. A damaged block is moved to the quarantine, told, and the rest goes on. Files are removed only when two
//! manifests say that they are not needed.
//!
//! When no manifest can be read at all, or only an old one, nothing is removed: every block that can be read is taken, and
//! what it says of the log is not believed. Samples that are then there twice are merged away.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::warn;

use super::block::{Block, BlockCache, BlockId, BlockMeta, BlockWriter, NewBlock, PAGES_CORRUPT, WriteError};
use super::block_set_open::Opening;
use super::compact::{COMPACTIONS, COMPACTIONS_FAILED};
use super::manifest::{self, Lost, Manifest};
use super::postings::Selector;
use super::tombstone::{Tombstone, Tombstones};
use crate::io::disk::Disk;
use crate::io::log::Position;
use crate::model::{Matcher, TimeRange};
use crate::storage::{Series, StorageError};
use crate::telemetry::{Counter, Gauge, Metric};

/// What blocks tell about themselves; blocks and compactions under the names that public dashboards watch.
pub static BLOCK_METRICS: &[&dyn Metric] = &[
    &BLOCKS,
    &BLOCKS_BYTES,
    &QUARANTINED,
    &PAGES_CORRUPT,
    &COMPACTIONS,
    &COMPACTIONS_FAILED,
];

static BLOCKS: Gauge = Gauge::new("prometheus_tsdb_blocks_loaded", "Live blocks.");
static BLOCKS_BYTES: Gauge = Gauge::new("prometheus_tsdb_storage_blocks_bytes", "Bytes of the live blocks.");
pub(super) static QUARANTINED: Counter = Counter::new(
    "campanile_tsdb_blocks_quarantined_total",
    "Blocks and manifests that were damaged and set aside.",
);

/// Where a set lives and what it needs.
#[derive(Clone)]
pub struct BlockSetConfig {
    /// The directory of blocks and manifests.
    pub dir: PathBuf,
    /// Where damaged files are moved.
    pub quarantine: PathBuf,
    /// Seeds the hash that finds equal timestamp vectors; random and secret.
    pub seed: u64,
}

/// The blocks of a store. Cheap to read, one change at a time.
pub struct BlockSet {
    disk: Arc<dyn Disk>,
    config: BlockSetConfig,
    cache: Arc<BlockCache>,
    snapshot: ArcSwap<Snapshot>,
    ledger: Mutex<Ledger>,
    next_block: AtomicU64,
}

/// The live blocks at one moment. Holding one keeps their files readable.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Rises with every change.
    pub version: u64,
    /// The blocks, by id: where two disagree, the older one counts.
    pub blocks: Vec<Arc<Block>>,
    /// Deletions that some block does not contain yet, by id.
    pub tombstones: Vec<Tombstone>,
    /// What was lost to damage.
    pub lost: Vec<Lost>,
    /// Log records before this one are in blocks, or were in blocks that are dropped by now.
    pub covered: Position,
}

/// A change of the set.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Blocks that were written and are to be live.
    pub added: Vec<BlockMeta>,
    /// Blocks that are live no longer.
    pub dropped: Vec<BlockId>,
    /// Log records before this one are in blocks now.
    pub covered: Option<Position>,
}

/// The side of the set that changes.
struct Ledger {
    manifest: Manifest,
    /// Manifests on the disk, oldest first.
    numbers: Vec<u64>,
    /// Blocks whose files are to be removed.
    garbage: Vec<BlockId>,
}

impl Ledger {
    fn next_number(&mut self) -> u64 {
        let next = self.numbers.last().copied().unwrap_or(0).max(self.manifest.number) + 1;
        self.numbers.push(next);
        next
    }
}

/// What was found wrong when a set was opened: for the log and for the status page.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Blocks that were lost, now or earlier.
    pub lost: Vec<Lost>,
    /// Everything else out of order, in words.
    pub problems: Vec<String>,
}

impl BlockSet {
    /// Opens the set of a directory, which is created when there is none.
    ///
    /// # Errors
    /// [`WriteError::Disk`] when the directory cannot be read. Damaged blocks and manifests are no error.
    pub fn open(
        disk: &Arc<dyn Disk>,
        config: BlockSetConfig,
        cache: Arc<BlockCache>,
    ) -> Result<(BlockSet, Opened), WriteError> {
        let dir = &config.dir;
        disk.create_dir_all(dir).map_err(WriteError::disk("create", dir))?;
        let mut opening = Opening {
            disk: &**disk,
            config: &config,
            cache: &cache,
            problems: Vec::new(),
            changed: false,
        };
        let found = manifest::load(&**disk, dir)?;
        let trusted = found.unreadable.is_empty() && found.newest.is_some();
        opening.set_aside_manifests(&found.unreadable);
        let mut manifest = found.newest.unwrap_or_default();
        let mut blocks = opening.open_listed(&mut manifest);
        let files = opening.files()?;
        let highest = files.last().map_or(0, |id| id.0 + 1);
        let strays = files
            .into_iter()
            .filter(|id| !blocks.contains_key(id) && !manifest.lists(*id));
        let strays: Vec<BlockId> = strays.collect();
        if trusted {
            opening.remove_garbage(&strays);
        } else {
            opening.adopt(&strays, &mut manifest, &mut blocks);
        }
        manifest.next_block = manifest.next_block.max(highest).max(1);
        let (problems, changed) = (opening.problems, opening.changed);
        let opened = Opened {
            lost: manifest.lost.clone(),
            problems,
        };
        let set = BlockSet {
            disk: disk.clone(),
            cache,
            snapshot: ArcSwap::from_pointee(snapshot(&manifest, blocks)),
            next_block: AtomicU64::new(manifest.next_block),
            ledger: Mutex::new(Ledger {
                manifest,
                numbers: found.numbers,
                garbage: Vec::new(),
            }),
            config,
        };
        if changed {
            let mut ledger = set.ledger.lock();
            // On a full disk the set still opens; what was found is then found again next time.
            match set.publish(&mut ledger, |_| {}) {
                Ok(()) => set.settle(&mut ledger),
                Err(error) => warn!(%error, "cannot write down what was found at opening"),
            }
        }
        set.watch();
        Ok((set, opened))
    }

    /// Returns the live blocks.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Returns the terms of a new block, with an id of its own.
    pub fn new_block(&self) -> NewBlock {
        let id = BlockId(self.next_block.fetch_add(1, Ordering::Relaxed));
        let mut new = NewBlock::cut(id, None, self.config.seed);
        new.tombstones = self.ledger.lock().manifest.next_tombstone.saturating_sub(1);
        new
    }

    /// Opens a writer for a new block. The block is garbage until it is committed.
    ///
    /// # Errors
    /// [`WriteError::Disk`].
    pub fn create(&self, new: NewBlock) -> Result<BlockWriter, WriteError> {
        BlockWriter::create(&self.disk, &self.config.dir, new)
    }

    /// Makes a change, durably, and shows it to readers. Files of dropped blocks are removed afterwards.
    ///
    /// # Errors
    /// [`WriteError`]; readers then see no change, and the added blocks are garbage. After a crash the change may have
    /// happened all the same.
    pub fn commit(&self, change: Change) -> Result<(), WriteError> {
        let mut ledger = self.ledger.lock();
        let mut blocks = self.snapshot().by_id();
        blocks.retain(|id, _| !change.dropped.contains(id));
        for meta in &change.added {
            let path = self.config.dir.join(meta.id.file_name());
            match Block::open(&*self.disk, &path, self.cache.clone()) {
                Ok(block) => blocks.insert(meta.id, block),
                Err(error) => {
                    ledger.garbage.extend(change.added.iter().map(|meta| meta.id));
                    return Err(error.into());
                }
            };
        }
        let next_block = self.next_block.load(Ordering::Relaxed);
        let live: Vec<Arc<Block>> = blocks.values().cloned().collect();
        let published = self.publish(&mut ledger, |manifest| {
            manifest.blocks.retain(|block| !change.dropped.contains(&block.id));
            manifest.blocks.extend(change.added.iter().cloned());
            manifest.blocks.sort_by_key(|block| block.id);
            manifest.next_block = next_block;
            manifest.covered = manifest.covered.max(change.covered.unwrap_or_default());
            let tombstones = std::mem::take(&mut manifest.tombstones);
            manifest.tombstones = tombstones
                .into_iter()
                .filter(|one| live.iter().any(|block| touches(block, one)))
                .collect();
        });
        if let Err(error) = published {
            ledger.garbage.extend(change.added.iter().map(|meta| meta.id));
            return Err(error);
        }
        self.show(&ledger, blocks);
        ledger.garbage.extend(&change.dropped);
        self.settle(&mut ledger);
        self.watch();
        Ok(())
    }

    /// Forgets the samples in `range` of the series that match: hidden when this returns, removed by compaction.
    ///
    /// # Errors
    /// [`WriteError::Disk`]; nothing is then forgotten.
    pub fn delete(&self, matchers: Vec<Matcher>, range: TimeRange) -> Result<Tombstone, WriteError> {
        let mut ledger = self.ledger.lock();
        let tombstone = Tombstone {
            id: ledger.manifest.next_tombstone.max(1),
            matchers,
            range,
        };
        self.publish(&mut ledger, |manifest| {
            manifest.next_tombstone = tombstone.id + 1;
            manifest.tombstones.push(tombstone.clone());
        })?;
        self.show(&ledger, self.snapshot().by_id());
        self.settle(&mut ledger);
        Ok(tombstone)
    }

    /// Returns the id that the next deletion gets.
    pub(crate) fn next_tombstone(&self) -> u64 {
        self.ledger.lock().manifest.next_tombstone.max(1)
    }

    /// Takes up deletions that the log knows of and a manifest perhaps does not: a crash came in between, or the manifest
    /// that knew them is lost. One that is known, or that means no sample of a block, changes nothing.
    ///
    /// # Errors
    /// [`WriteError::Disk`]; what they mean is then shown until the next start.
    pub(crate) fn resume(&self, tombstones: Vec<Tombstone>) -> Result<(), WriteError> {
        let mut ledger = self.ledger.lock();
        let snapshot = self.snapshot();
        let known: Vec<u64> = ledger.manifest.tombstones.iter().map(|one| one.id).collect();
        let fresh: Vec<Tombstone> = tombstones.into_iter().filter(|one| !known.contains(&one.id)).collect();
        let next = fresh.iter().map(|one| one.id.saturating_add(1)).max().unwrap_or(0);
        let missing: Vec<Tombstone> = fresh
            .into_iter()
            .filter(|one| snapshot.blocks.iter().any(|block| touches(block, one)))
            .collect();
        if missing.is_empty() && next <= ledger.manifest.next_tombstone {
            return Ok(());
        }
        self.publish(&mut ledger, |manifest| {
            manifest.next_tombstone = manifest.next_tombstone.max(next);
            manifest.tombstones.extend(missing);
            manifest.tombstones.sort_by_key(|one| one.id);
        })?;
        self.show(&ledger, snapshot.by_id());
        self.settle(&mut ledger);
        Ok(())
    }

    /// Says that blocks under construction will not be committed.
    pub(crate) fn abandon(&self, ids: impl IntoIterator<Item = BlockId>) {
        self.ledger.lock().garbage.extend(ids);
    }

    /// Returns what may be compacted: a block with a damaged page stays as it is, and answers for its other pages.
    pub fn compactable(&self) -> Vec<BlockMeta> {
        let snapshot = self.snapshot();
        let whole = snapshot.blocks.iter().filter(|block| block.damage().is_empty());
        whole.map(|block| block.meta().clone()).collect()
    }

    /// Returns what is lost, and what was found damaged in live blocks since the store was opened: one line each.
    pub fn damage(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        let damaged = snapshot.blocks.iter().flat_map(|block| block.damage());
        snapshot.warnings(TimeRange::ALL).into_iter().chain(damaged).collect()
    }

    /// Returns the blocks with samples that a tombstone takes out.
    pub fn touched(&self) -> Vec<BlockId> {
        let snapshot = self.snapshot();
        let blocks = snapshot.blocks.iter();
        blocks
            .filter(|block| snapshot.tombstones.iter().any(|tombstone| touches(block, tombstone)))
            .map(|block| block.meta().id)
            .collect()
    }

    /// Shows readers what the manifest now says.
    fn show(&self, ledger: &Ledger, blocks: BTreeMap<BlockId, Arc<Block>>) {
        self.snapshot.store(Arc::new(snapshot(&ledger.manifest, blocks)));
    }

    /// Writes the next manifest and makes it the present one.
    fn publish(&self, ledger: &mut Ledger, change: impl FnOnce(&mut Manifest)) -> Result<(), WriteError> {
        let mut next = ledger.manifest.clone();
        change(&mut next);
        next.number = ledger.next_number();
        manifest::publish(&*self.disk, &self.config.dir, &next)?;
        ledger.manifest = next;
        Ok(())
    }

    /// Publishes the present state once more, and then removes what neither copy needs.
    fn settle(&self, ledger: &mut Ledger) {
        if let Err(error) = self.publish(ledger, |_| {}) {
            warn!(%error, "old blocks stay until a manifest can be written");
            return;
        }
        for id in std::mem::take(&mut ledger.garbage) {
            let path = self.config.dir.join(id.file_name());
            match self.disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(%error, path = %path.display(), "cannot remove a dropped block");
                    ledger.garbage.push(id);
                }
                _ => {}
            }
        }
        manifest::remove_old(&*self.disk, &self.config.dir, &mut ledger.numbers);
    }

    fn watch(&self) {
        let snapshot = self.snapshot();
        BLOCKS.set(snapshot.blocks.len() as f64);
        BLOCKS_BYTES.set(snapshot.blocks.iter().map(|block| block.meta().bytes as f64).sum());
    }
}

fn snapshot(manifest: &Manifest, blocks: BTreeMap<BlockId, Arc<Block>>) -> Snapshot {
    Snapshot {
        version: manifest.number,
        blocks: blocks.into_values().collect(),
        tombstones: manifest.tombstones.clone(),
        lost: manifest.lost.clone(),
        covered: manifest.covered,
    }
}

/// Whether a tombstone takes out samples of a block. A block that cannot tell is said to be touched.
fn touches(block: &Block, tombstone: &Tombstone) -> bool {
    let meta = block.meta();
    meta.tombstones < tombstone.id
        && meta.range.overlaps(&tombstone.range)
        && Selector::new(&tombstone.matchers)
            .find(block)
            .map_or(true, |found| !found.is_empty())
}

impl Snapshot {
    fn by_id(&self) -> BTreeMap<BlockId, Arc<Block>> {
        let blocks = self.blocks.iter();
        blocks.map(|block| (block.meta().id, block.clone())).collect()
    }

    /// Returns the matching series of each block that touches `range`, the older block first; deletions are applied.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn find(&self, selector: &Selector, range: TimeRange) -> Result<Vec<Vec<Box<dyn Series>>>, StorageError> {
        let mut found = Vec::new();
        for block in self.blocks.iter().filter(|block| block.meta().range.overlaps(&range)) {
            let deleted = Tombstones::after(block.meta().tombstones, &self.tombstones, range);
            let series = block.find(selector, range)?.into_iter().map(|series| {
                let ranges = if deleted.is_empty() {
                    Vec::new()
                } else {
                    deleted.of(&series.labels())
                };
                let series = if ranges.is_empty() {
                    series
                } else {
                    series.without(ranges.into())
                };
                Box::new(series) as Box<dyn Series>
            });
            found.push(series.collect());
        }
        Ok(found)
    }

    /// Says what of `range` was lost, for the answer's warnings.
    pub fn warnings(&self, range: TimeRange) -> Vec<String> {
        let lost = self.lost.iter().filter(|lost| lost.range.overlaps(&range));
        lost.map(|lost| {
            format!(
                "block {} was lost, samples between {} and {} may be missing: {}",
                lost.id, lost.range.min, lost.range.max, lost.reason
            )
        })
        .collect()
    }

    /// Returns what all blocks say about themselves.
    pub fn metas(&self) -> Vec<BlockMeta> {
        self.blocks.iter().map(|block| block.meta().clone()).collect()
    }
}
