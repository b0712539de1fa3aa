//! A disk in memory that keeps only what POSIX makes it keep, and fails where it is told to.
//!
//! Names and data are separate, as in a real file system: a crash keeps what was synced, and of the rest an arbitrary part
//! chosen by the seed: some of the unsynced writes, one of them torn at a sector, some of the unsynced names. Every
//! operation that changes something has a number, so that a test can crash or fail at each of them in turn.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{DirEntry, DirLock, Disk, DiskFile, Space};
use crate::io::{Random, SeededRandom};

/// A torn write is torn between two of these.
const SECTOR_BYTES: usize = 512;
/// The room on a disk that was told nothing else.
const SPACE_BYTES: u64 = 1 << 40;

/// A simulated disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    seed: u64,
    random: SeededRandom,
    files: BTreeMap<u64, FileState>,
    next_file: u64,
    /// What a program sees.
    names: BTreeMap<PathBuf, Node>,
    /// What a crash leaves for certain.
    durable_names: BTreeMap<PathBuf, Node>,
    /// Changes of names since their directory was synced.
    pending_names: Vec<NameChange>,
    locks: Vec<PathBuf>,
    operations: u64,
    crash_at: Option<u64>,
    crashed: bool,
    faults: BTreeMap<u64, io::ErrorKind>,
    total: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

#[derive(Clone)]
struct NameChange {
    dir: PathBuf,
    /// Names with what they stand for afterwards; a rename is two that happen together.
    set: Vec<(PathBuf, Option<Node>)>,
}

#[derive(Default)]
struct FileState {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

#[derive(Clone)]
enum Write {
    At(u64, Vec<u8>),
    Len(u64),
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Write::At(offset, data) => {
                let end = *offset as usize + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset as usize..end].copy_from_slice(data);
            }
            Write::Len(len) => bytes.resize(*len as usize, 0),
        }
    }
}

fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}

impl SimDisk {
    /// Returns an empty disk whose faults are decided by `seed`.
    pub fn seeded(seed: u64) -> SimDisk {
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Dir)]);
        SimDisk {
            state: Arc::new(Mutex::new(State {
                seed,
                random: SeededRandom::new(seed),
                files: BTreeMap::new(),
                next_file: 0,
                names: root.clone(),
                durable_names: root,
                pending_names: Vec::new(),
                locks: Vec::new(),
                operations: 0,
                crash_at: None,
                crashed: false,
                faults: BTreeMap::new(),
                total: SPACE_BYTES,
            })),
        }
    }

    /// Stops the machine at the `operation`-th change from the beginning (0 is the first): it happens in part or not at
    /// all, it fails, and so does everything after it.
    #[must_use]
    pub fn crash_at(self, operation: u64) -> SimDisk {
        self.state.lock().crash_at = Some(operation);
        self
    }

    /// Lets the `operation`-th change fail, once. A failed sync loses what it was to keep.
    #[must_use]
    pub fn fail_at(self, operation: u64, kind: io::ErrorKind) -> SimDisk {
        self.state.lock().faults.insert(operation, kind);
        self
    }

    /// Sets the size of the disk in bytes: writes beyond it fail with [`io::ErrorKind::StorageFull`].
    pub fn set_total(&self, bytes: u64) {
        self.state.lock().total = bytes;
    }

    /// Returns how many changes were asked for so far.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Whether the machine stopped.
    pub fn crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// Flips one bit of a file, behind everybody's back and durably.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such file, [`io::ErrorKind::UnexpectedEof`] when it is shorter.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.file(path)?;
        let file = state.file_mut(id);
        let at = offset as usize;
        let byte = file
            .seen
            .get_mut(at)
            .ok_or_else(|| error(io::ErrorKind::UnexpectedEof, path))?;
        *byte ^= 1 << (bit & 7);
        if let Some(byte) = file.durable.get_mut(at) {
            *byte ^= 1 << (bit & 7);
        }
        Ok(())
    }

    /// Returns the disk as the machine finds it when it starts again, with no fault planned.
    #[must_use]
    pub fn after_crash(&self) -> SimDisk {
        let state = self.state.lock();
        let mut names = state.durable_names.clone();
        for change in &state.pending_names {
            if state.random.below(2) == 0 {
                apply_names(&mut names, &change.set);
            }
        }
        // A name whose directory was lost is lost with it.
        let dirs: Vec<PathBuf> = names
            .iter()
            .filter(|(_, node)| **node == Node::Dir)
            .map(|(path, _)| path.clone())
            .collect();
        names.retain(|path, _| {
            path.ancestors()
                .skip(1)
                .all(|dir| dirs.iter().any(|found| found == dir))
        });
        let mut files = BTreeMap::new();
        for node in names.values() {
            if let Node::File(id) = node {
                let kept = files.entry(*id).or_insert_with(|| state.surviving(*id));
                debug_assert!(kept.pending.is_empty());
            }
        }
        SimDisk {
            state: Arc::new(Mutex::new(State {
                seed: state.seed,
                random: SeededRandom::new(state.random.next_u64()),
                files,
                next_file: state.next_file,
                durable_names: names.clone(),
                names,
                pending_names: Vec::new(),
                locks: Vec::new(),
                operations: 0,
                crash_at: None,
                crashed: false,
                faults: BTreeMap::new(),
                total: state.total,
            })),
        }
    }
}

fn apply_names(names: &mut BTreeMap<PathBuf, Node>, set: &[(PathBuf, Option<Node>)]) {
    for (path, node) in set {
        match node {
            Some(node) => names.insert(path.clone(), *node),
            None => names.remove(path),
        };
    }
}

/// What an operation that changes something may do now.
enum Turn {
    Whole,
    /// It is the one that fails: part of it may happen.
    Partly(io::Error),
}

impl State {
    /// Counts a change and says whether it happens.
    fn turn(&mut self, path: &Path) -> io::Result<Turn> {
        if self.crashed {
            return Err(io::Error::other(format!("{}: the machine has stopped", path.display())));
        }
        let number = self.operations;
        self.operations += 1;
        if self.crash_at == Some(number) {
            self.crashed = true;
            let text = format!("{}: crash at operation {number} (seed {})", path.display(), self.seed);
            return Ok(Turn::Partly(io::Error::other(text)));
        }
        Ok(match self.faults.remove(&number) {
            Some(kind) => Turn::Partly(error(kind, path)),
            None => Turn::Whole,
        })
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(id)) => Ok(*id),
            Some(Node::Dir) => Err(error(io::ErrorKind::IsADirectory, path)),
            None => Err(error(io::ErrorKind::NotFound, path)),
        }
    }

    fn file_mut(&mut self, id: u64) -> &mut FileState {
        self.files.get_mut(&id).expect("a file lives as long as this disk")
    }

    fn dir_of(&self, path: &Path) -> io::Result<PathBuf> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        match self.names.get(dir) {
            Some(Node::Dir) => Ok(dir.to_owned()),
            _ => Err(error(io::ErrorKind::NotFound, path)),
        }
    }

    /// Changes names: seen at once, durable when the directory is synced.
    fn rename_all(&mut self, path: &Path, set: Vec<(PathBuf, Option<Node>)>) -> io::Result<()> {
        let dir = self.dir_of(path)?;
        let turn = self.turn(path)?;
        let happens = matches!(turn, Turn::Whole) || (self.crashed && self.random.below(2) == 0);
        if happens {
            apply_names(&mut self.names, &set);
            self.pending_names.push(NameChange { dir, set });
        }
        match turn {
            Turn::Whole => Ok(()),
            Turn::Partly(error) => Err(error),
        }
    }

    fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|node| match node {
            Node::File(id) => Some(*id),
            Node::Dir => None,
        });
        let ids: std::collections::BTreeSet<u64> = named.collect();
        ids.iter().map(|id| self.files[id].seen.len() as u64).sum()
    }

    fn write(&mut self, id: u64, path: &Path, write: Write) -> io::Result<()> {
        let len = self.files[&id].seen.len() as u64;
        let end = match &write {
            Write::At(offset, data) => offset + data.len() as u64,
            Write::Len(len) => *len,
        };
        let turn = self.turn(path)?;
        if end > len && self.used() + (end - len) > self.total {
            return Err(error(io::ErrorKind::StorageFull, path));
        }
        let (write, result) = match turn {
            Turn::Whole => (Some(write), Ok(())),
            Turn::Partly(error) => (self.torn(&write), Err(error)),
        };
        if let Some(write) = write {
            let file = self.file_mut(id);
            write.apply(&mut file.seen);
            file.pending.push(write);
        }
        result
    }

    /// Returns what a write that did not finish left: nothing, or its first sectors.
    fn torn(&self, write: &Write) -> Option<Write> {
        match write {
            Write::At(offset, data) => {
                let sectors = data.len().div_ceil(SECTOR_BYTES) as u64;
                let kept = (self.random.below(sectors + 1) as usize * SECTOR_BYTES).min(data.len());
                (kept > 0).then(|| Write::At(*offset, data[..kept].to_vec()))
            }
            Write::Len(_) => (self.random.below(2) == 0).then(|| write.clone()),
        }
    }

    fn sync(&mut self, id: u64, path: &Path) -> io::Result<()> {
        let turn = self.turn(path)?;
        let survivor = self.surviving(id);
        let file = self.file_mut(id);
        file.pending.clear();
        match turn {
            Turn::Whole => {
                file.durable = file.seen.clone();
                Ok(())
            }
            Turn::Partly(error) => {
                // The kernel forgets what it could not write: part of it is on the disk, and no later sync will add the rest.
                file.durable = survivor.durable;
                Err(error)
            }
        }
    }

    /// Returns a file as a crash leaves it: synced bytes, and any part of the writes since.
    fn surviving(&self, id: u64) -> FileState {
        let file = &self.files[&id];
        let mut bytes = file.durable.clone();
        for write in &file.pending {
            match self.random.below(3) {
                0 => {}
                1 => write.apply(&mut bytes),
                _ => {
                    if let Some(torn) = self.torn(write) {
                        torn.apply(&mut bytes);
                    }
                }
            }
        }
        FileState {
            seen: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
        }
    }

    fn open(&self, disk: &SimDisk, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SimFile {
            disk: disk.clone(),
            id: self.file(path)?,
            path: path.to_owned(),
            writable,
        }))
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
    path: PathBuf,
    writable: bool,
}

impl SimFile {
    fn change(&self, write: Write) -> io::Result<()> {
        if !self.writable {
            return Err(error(io::ErrorKind::PermissionDenied, &self.path));
        }
        self.disk.state.lock().write(self.id, &self.path, write)
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state.lock();
        let bytes = &state.files[&self.id].seen;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = start.checked_add(buffer.len()).and_then(|end| bytes.get(start..end));
        buffer.copy_from_slice(found.ok_or_else(|| error(io::ErrorKind::UnexpectedEof, &self.path))?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Write::At(offset, bytes.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state.lock().sync(self.id, &self.path)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state.lock().files[&self.id].seen.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Write::Len(len))
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let missing: Vec<&Path> = path
            .ancestors()
            .filter(|dir| !state.names.contains_key(*dir) && !dir.as_os_str().is_empty())
            .collect();
        for dir in missing.into_iter().rev() {
            if let Turn::Partly(error) = state.turn(dir)? {
                return Err(error);
            }
            state.names.insert(dir.to_owned(), Node::Dir);
            state.durable_names.insert(dir.to_owned(), Node::Dir);
        }
        match state.names.get(path) {
            Some(Node::Dir) => Ok(()),
            _ => Err(error(io::ErrorKind::NotADirectory, path)),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state.lock();
        if state.names.get(path) != Some(&Node::Dir) {
            return Err(error(io::ErrorKind::NotFound, path));
        }
        let inside = state.names.iter().filter(|(found, _)| found.parent() == Some(path));
        let mut entries: Vec<DirEntry> = inside
            .map(|(found, node)| DirEntry {
                name: found.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                is_dir: *node == Node::Dir,
                len: match node {
                    Node::Dir => 0,
                    Node::File(id) => state.files[id].seen.len() as u64,
                },
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.dir_of(path)?;
        if state.names.contains_key(path) {
            return Err(error(io::ErrorKind::AlreadyExists, path));
        }
        let id = state.next_file;
        state.next_file += 1;
        state.files.insert(id, FileState::default());
        state.rename_all(path, vec![(path.to_owned(), Some(Node::File(id)))])?;
        state.open(self, path, true)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.state.lock().open(self, path, true)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.state.lock().open(self, path, false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.dir_of(to)?;
        let node = *state
            .names
            .get(from)
            .ok_or_else(|| error(io::ErrorKind::NotFound, from))?;
        if node == Node::Dir && state.names.contains_key(to) {
            return Err(error(io::ErrorKind::AlreadyExists, to));
        }
        let mut set = vec![(from.to_owned(), None), (to.to_owned(), Some(node))];
        if node == Node::Dir {
            let inside = state
                .names
                .iter()
                .filter(|(path, _)| path.starts_with(from) && *path != from);
            let moved: Vec<(PathBuf, Node)> = inside.map(|(path, node)| (path.clone(), *node)).collect();
            for (path, node) in moved {
                let rest = path.strip_prefix(from).expect("it starts with it");
                set.push((to.join(rest), Some(node)));
                set.push((path, None));
            }
        }
        state.rename_all(to, set)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.file(from)?;
        if state.names.contains_key(to) {
            return Err(error(io::ErrorKind::AlreadyExists, to));
        }
        state.rename_all(to, vec![(to.to_owned(), Some(Node::File(id)))])
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.file(path)?;
        state.rename_all(path, vec![(path.to_owned(), None)])
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.names.contains_key(path) {
            return Err(error(io::ErrorKind::NotFound, path));
        }
        let inside = state.names.keys().filter(|found| found.starts_with(path));
        let names: Vec<PathBuf> = inside.rev().cloned().collect();
        for name in names {
            state.rename_all(&name, vec![(name.clone(), None)])?; // One by one: a crash leaves some of them.
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.names.get(path) != Some(&Node::Dir) {
            return Err(error(io::ErrorKind::NotFound, path));
        }
        if let Turn::Partly(error) = state.turn(path)? {
            return Err(error);
        }
        // Changes elsewhere that came before stay pending; order between directories is nobody's promise.
        let pending = std::mem::take(&mut state.pending_names);
        let (here, elsewhere) = pending.into_iter().partition(|change| change.dir == path);
        state.pending_names = elsewhere;
        let here: Vec<NameChange> = here;
        for change in &here {
            apply_names(&mut state.durable_names, &change.set);
        }
        Ok(())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.state.lock();
        Ok(Space {
            free: state.total.saturating_sub(state.used()),
            total: state.total,
        })
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let state = self.state.lock();
        let id = state.file(path)?;
        Ok(Bytes::from(state.files[&id].seen.clone()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut state = self.state.lock();
        if state.locks.iter().any(|held| held == path) {
            let text = format!("{} is in use by process {}", path.display(), std::process::id());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        state.locks.push(path.to_owned());
        Ok(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.retain(|held| *held != self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/a";

    #[test]
    fn a_crash_keeps_what_was_synced_and_may_lose_the_rest() {
        let (mut kept_names, mut kept_tails) = (0, 0);
        for seed in 0..200 {
            let disk = SimDisk::seeded(seed);
            let file = disk.create(Path::new(FILE)).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            file.write_all_at(&[1; 1000], 0).unwrap();
            file.sync().unwrap();
            file.write_all_at(&[2; 1000], 1000).unwrap();
            disk.create(Path::new("/b")).unwrap();
            let after = disk.after_crash();
            let bytes = after.map(Path::new(FILE)).unwrap();
            assert_eq!(&bytes[..1000], &[1; 1000], "seed {seed}");
            assert!(
                [1000, 1512, 2000].contains(&bytes.len()),
                "seed {seed}: {}",
                bytes.len()
            );
            kept_tails += u32::from(bytes.len() > 1000);
            kept_names += u32::from(after.open(Path::new("/b")).is_ok());
        }
        assert!((20..180).contains(&kept_names) && (20..180).contains(&kept_tails));
    }

    #[test]
    fn after_the_crash_point_nothing_works_any_more() {
        let disk = SimDisk::seeded(1).crash_at(1);
        let file = disk.create(Path::new(FILE)).unwrap();
        assert!(file.write_all_at(b"x", 0).is_err() && disk.crashed());
        assert!(file.sync().is_err() && disk.create(Path::new("/b")).is_err());
        assert!(!disk.after_crash().crashed());
    }

    #[test]
    fn a_failed_sync_loses_data_and_the_next_one_does_not_bring_it_back() {
        let lost = (0..50).filter(|seed| {
            let disk = SimDisk::seeded(*seed).fail_at(3, io::ErrorKind::Other);
            let file = disk.create(Path::new(FILE)).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            file.write_all_at(b"x", 0).unwrap();
            assert!(file.sync().is_err());
            disk.after_crash().map(Path::new(FILE)).unwrap().is_empty()
        });
        assert!(lost.count() > 5);
    }

    #[test]
    fn a_full_disk_refuses_growth_and_takes_overwrites() {
        let disk = SimDisk::seeded(1);
        disk.set_total(10);
        let file = disk.create(Path::new(FILE)).unwrap();
        file.write_all_at(&[0; 10], 0).unwrap();
        let full = file.write_all_at(b"x", 10).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        file.write_all_at(b"x", 3).unwrap();
        assert_eq!(disk.space(Path::new("/")).unwrap().free, 0);
    }
}
