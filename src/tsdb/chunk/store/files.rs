//! Pages of sealed chunks on their way to files, and files from one process to the next.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::page::{self, FILE_HEADER_BYTES, PageWriter};
use super::{ChunkStore, FILE_PAGES, Page, PageRecord, Place, SpillFile, Spilling, State, files};
use crate::io::disk::Disk;
use crate::tsdb::metrics;

impl ChunkStore {
    /// Removes the files of an earlier process that no page is in: the log has what they had. New files are numbered
    /// after all that ever were; one that cannot be removed now is garbage until the next start.
    pub(crate) fn clean(&self) {
        let kept: Vec<u64> = files(self.state.read().pages.values()).into_keys().collect();
        let mut spilling = self.spilling.lock();
        for entry in self.disk.list(&self.dir).unwrap_or_default() {
            if let Some(number) = file_number(&entry.name) {
                spilling.next_file = spilling.next_file.max(number + 1);
                if !kept.contains(&number)
                    && let Err(error) = self.disk.remove_file(&self.dir.join(&entry.name))
                {
                    tracing::warn!(%error, file = entry.name, "an old file of head chunks could not be removed");
                }
            }
        }
    }

    /// Moves full pages beyond what memory may hold into files, oldest first. What cannot be written stays.
    pub(super) fn spill(&self) {
        let Some(mut spilling) = self.spilling.try_lock() else {
            return; // Somebody is at it.
        };
        while let Some((number, bytes)) = self.oldest_in_memory(self.options.memory_bytes) {
            if self.is_disk_full() {
                return;
            }
            if let Err(error) = self.spill_page(&mut spilling, number, &bytes) {
                metrics::SPILL_FAILURES.inc();
                tracing::warn!(%error, "head chunks could not be moved to a file and stay in memory");
                spilling.current = None;
                return;
            }
        }
    }

    /// Returns the oldest page in memory when more than `memory_bytes` are there.
    fn oldest_in_memory(&self, memory_bytes: usize) -> Option<(u64, Arc<[u8]>)> {
        let state = self.state.read();
        let (mut total, mut oldest) = (0, None);
        for (number, page) in state.pages.iter().rev() {
            let Place::Memory(bytes) = &page.place else { break };
            total += bytes.len();
            oldest = Some((*number, Arc::clone(bytes)));
        }
        oldest.filter(|_| total > memory_bytes)
    }

    fn is_disk_full(&self) -> bool {
        let Ok(space) = self.disk.space(&self.dir) else {
            return false;
        };
        let reserve = self.options.reserve_bytes;
        space.free < reserve.unwrap_or_else(|| (space.total / 100).max(64 << 20))
    }

    fn spill_page(&self, spilling: &mut Spilling, number: u64, bytes: &[u8]) -> std::io::Result<()> {
        if bytes.len() > self.options.page_bytes {
            return Err(std::io::Error::other("a chunk larger than a page"));
        }
        let (file, index) = match spilling.current.take() {
            Some((file, index)) if index < FILE_PAGES => (file, index),
            _ => (self.new_file(spilling)?, 0),
        };
        let offset = FILE_HEADER_BYTES as u64 + index * self.options.page_bytes as u64;
        file.file.write_all_at(bytes, offset)?;
        spilling.current = Some((Arc::clone(&file), index + 1));
        if let Some(page) = self.state.write().pages.get_mut(&number) {
            page.place = Place::File { file, offset };
        }
        metrics::SPILLED_BYTES.add(bytes.len() as u64);
        Ok(())
    }

    fn new_file(&self, spilling: &mut Spilling) -> std::io::Result<Arc<SpillFile>> {
        if !spilling.made {
            self.disk.create_dir_all(&self.dir)?;
            spilling.made = true;
        }
        let number = spilling.next_file;
        spilling.next_file += 1;
        let path = self.dir.join(file_name(number));
        let file = self.disk.create(&path)?;
        file.write_all_at(&page::file_header(self.options.page_bytes), 0)?;
        Ok(Arc::new(SpillFile { number, path, file }))
    }

    /// Writes all pages to files, durably, and returns where they are: nothing may be pushed any more.
    ///
    /// # Errors
    /// The disk's, or a chunk was found corrupt; the pages are then where they were.
    pub(crate) fn save(&self) -> std::io::Result<Vec<PageRecord>> {
        if self.is_disk_full() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        if self.damaged.load(Relaxed) {
            return Err(std::io::Error::other("a chunk is corrupt, the log has it whole"));
        }
        let mut spilling = self.spilling.lock();
        let mut state = self.state.write();
        if !state.open.is_empty() {
            state.turn(self.options.page_bytes);
        }
        drop(state);
        while let Some((number, bytes)) = self.oldest_in_memory(0) {
            self.spill_page(&mut spilling, number, &bytes)
                .inspect_err(|_| spilling.current = None)?;
        }
        spilling.current = None; // A later process writes files of its own.
        let state = self.state.read();
        let mut records = Vec::with_capacity(state.pages.len());
        let mut synced = Vec::new();
        for (number, page) in &state.pages {
            let Place::File { file, offset } = &page.place else {
                return Err(std::io::Error::other("a page is still in memory"));
            };
            if !synced.contains(&file.number) {
                file.file.sync()?;
                synced.push(file.number);
            }
            records.push(PageRecord {
                number: *number,
                newest: page.newest,
                used: page.used,
                file: file.number,
                offset: *offset,
            });
        }
        if !records.is_empty() {
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(records)
    }

    /// Takes the pages that [`ChunkStore::save`] returned in an earlier process, instead of none.
    ///
    /// # Errors
    /// When a file is missing or shorter than it was.
    pub(crate) fn load_pages(&self, records: &[PageRecord]) -> std::io::Result<()> {
        let mut open: BTreeMap<u64, Arc<SpillFile>> = BTreeMap::new();
        let mut pages = BTreeMap::new();
        for record in records {
            let file = match open.get(&record.file) {
                Some(file) => Arc::clone(file),
                None => {
                    let path = self.dir.join(file_name(record.file));
                    let file = self.disk.open_read(&path)?;
                    let number = record.file;
                    let file = Arc::new(SpillFile { number, path, file });
                    open.insert(number, Arc::clone(&file));
                    file
                }
            };
            if file.file.len()? < record.offset.saturating_add(u64::from(record.used)) {
                let text = format!("{} is shorter than it was", file.path.display());
                return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text));
            }
            let page = Page {
                newest: record.newest,
                used: record.used,
                place: Place::File {
                    file,
                    offset: record.offset,
                },
            };
            pages.insert(record.number, page);
        }
        let next = pages.keys().next_back().map_or(1, |number| number + 1);
        *self.state.write() = State {
            open: PageWriter::new(next, self.options.page_bytes),
            pages,
        };
        Ok(())
    }
}

fn file_name(number: u64) -> String {
    format!("{number:010}.chunks")
}

fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".chunks")?;
    (digits.len() == 10).then(|| digits.parse().ok()).flatten()
}

/// Reads every file of head chunks in `dir` and returns how many chunks and columns are sound, and one line for each
/// stretch that is not. Such files belong to a running store, or were left by one and will be made again from its log.
///
/// # Errors
/// The operating system's.
pub fn verify_chunk_files(disk: &dyn Disk, dir: &Path) -> std::io::Result<(u64, Vec<String>)> {
    let (mut sound, mut problems) = (0, Vec::new());
    let entries = match disk.list(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        entries => entries?,
    };
    for entry in entries.iter().filter(|entry| file_number(&entry.name).is_some()) {
        let path = dir.join(&entry.name);
        let bytes = disk.map(&path)?;
        sound += page::scan_file(&bytes, &mut |range, reason| {
            problems.push(format!(
                "{}: bytes {}..{}: {reason}",
                path.display(),
                range.start,
                range.end
            ));
        });
    }
    Ok((sound, problems))
}
