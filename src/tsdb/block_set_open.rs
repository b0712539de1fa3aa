//! Opening a set of blocks: what its manifest lists, what else lies in the directory, and what of it is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::error;

use super::block::{Block, BlockCache, BlockId, BlockMeta, WriteError};
use super::block_set::{BlockSetConfig, QUARANTINED};
use super::manifest::{Lost, Manifest};
use crate::io::disk::Disk;
use crate::storage::StorageError;

/// What opening needs at hand.
pub(super) struct Opening<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) config: &'a BlockSetConfig,
    pub(super) cache: &'a Arc<BlockCache>,
    pub(super) problems: Vec<String>,
    /// Whether the manifest no longer says what is true.
    pub(super) changed: bool,
}

impl Opening<'_> {
    fn path(&self, id: BlockId) -> PathBuf {
        self.config.dir.join(id.file_name())
    }

    fn open(&self, id: BlockId) -> Result<Arc<Block>, StorageError> {
        let block = Block::open(self.disk, &self.path(id), self.cache.clone())?;
        if block.meta().id == id {
            return Ok(block);
        }
        Err(StorageError::Corrupt {
            file: self.path(id).display().to_string(),
            offset: 0,
            reason: format!("it says that it is block {}", block.meta().id),
        })
    }

    /// Moves a damaged file out of the way; nothing is deleted.
    fn quarantine(&mut self, path: &Path, reason: &str) {
        error!(file = %path.display(), reason, "damaged file set aside");
        QUARANTINED.inc();
        let name = path.file_name().unwrap_or_default();
        let moved = self
            .disk
            .create_dir_all(&self.config.quarantine)
            .and_then(|()| self.disk.rename(path, &self.config.quarantine.join(name)))
            .and_then(|()| self.disk.sync_dir(&self.config.quarantine))
            .and_then(|()| self.disk.sync_dir(&self.config.dir));
        if let Err(error) = moved {
            self.problems
                .push(format!("cannot set {} aside: {error}", path.display()));
        }
        self.changed = true;
    }

    pub(super) fn set_aside_manifests(&mut self, unreadable: &[(PathBuf, String)]) {
        for (path, reason) in unreadable {
            self.problems.push(format!(
                "manifest {} cannot be read ({reason}), an older one counts",
                path.display()
            ));
            self.quarantine(path, reason);
        }
    }

    /// Opens the blocks of the manifest; those that are damaged or gone move to its list of losses.
    pub(super) fn open_listed(&mut self, manifest: &mut Manifest) -> BTreeMap<BlockId, Arc<Block>> {
        let mut blocks = BTreeMap::new();
        let mut kept = Vec::new();
        for meta in std::mem::take(&mut manifest.blocks) {
            let path = self.path(meta.id);
            match self.open(meta.id) {
                Ok(block) => {
                    blocks.insert(meta.id, block);
                }
                Err(error @ StorageError::Corrupt { .. }) => {
                    self.quarantine(&path, &error.to_string());
                    manifest.lost.push(lost(&meta, error.to_string()));
                    continue;
                }
                Err(error) if matches!(self.disk.open_read(&path), Err(found) if found.kind() == io::ErrorKind::NotFound) =>
                {
                    error!(%error, block = %meta.id, "a block is missing");
                    manifest.lost.push(lost(&meta, error.to_string()));
                    self.changed = true;
                    continue;
                }
                // The file is there and the disk does not give it: perhaps it does next time.
                Err(error) => self.problems.push(error.to_string()),
            }
            kept.push(meta);
        }
        manifest.blocks = kept;
        blocks
    }

    /// Returns the blocks in the directory, sorted; removes what is left of unfinished files.
    pub(super) fn files(&mut self) -> Result<Vec<BlockId>, WriteError> {
        let dir = &self.config.dir;
        let mut ids = BTreeSet::new();
        for entry in self.disk.list(dir).map_err(WriteError::disk("list", dir))? {
            if entry.name.ends_with(".tmp") {
                let _ = self.disk.remove_file(&dir.join(&entry.name));
            }
            ids.extend(BlockId::from_file_name(&entry.name));
        }
        Ok(ids.into_iter().collect())
    }

    /// Removes blocks that were never committed, or dropped.
    pub(super) fn remove_garbage(&mut self, strays: &[BlockId]) {
        for id in strays {
            let _ = self.disk.remove_file(&self.path(*id));
        }
    }

    /// Takes whatever can be read, when no manifest says what counts.
    pub(super) fn adopt(
        &mut self,
        strays: &[BlockId],
        manifest: &mut Manifest,
        blocks: &mut BTreeMap<BlockId, Arc<Block>>,
    ) {
        for id in strays {
            match self.open(*id) {
                Ok(block) => {
                    self.problems
                        .push(format!("block {id} was in no readable manifest and was taken in"));
                    manifest.next_tombstone = manifest.next_tombstone.max(block.meta().tombstones + 1);
                    manifest.blocks.push(block.meta().clone());
                    blocks.insert(*id, block);
                }
                Err(error) => {
                    let path = self.path(*id);
                    self.quarantine(&path, &error.to_string());
                }
            }
            self.changed = true;
        }
        manifest.blocks.sort_by_key(|block| block.id);
    }
}

fn lost(meta: &BlockMeta, reason: String) -> Lost {
    Lost {
        id: meta.id,
        range: meta.range,
        covers: meta.covers,
        reason,
    }
}
