//! Immutable objects under names: created whole, read in part, listed, deleted; never changed, never renamed.
//!
//! Blocks are shipped to such a store when one machine is not enough. [`DirStore`] keeps objects in a directory: each is written
//! under a temporary name, synced, and linked to its own, so that a name stands for a whole object or for none.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use super::disk::Disk;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// Where half-written objects wait; not a valid object name.
const TEMPORARY: &str = ".tmp";

/// Why an object store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The name is taken: objects do not change.
    #[error("object {0} exists already")]
    Exists(String),
    /// There is no such object.
    #[error("object {0} does not exist")]
    NotFound(String),
    /// Not a relative path of plain parts.
    #[error("{0:?} is no object name: parts of letters, digits, '-', '_', '=' and '.' joined by '/' are")]
    Name(String),
    /// The range asked for reaches beyond the object.
    #[error("object {name} has {len} bytes, asked for {asked}")]
    Range {
        /// The object.
        name: String,
        /// Its length in bytes.
        len: u64,
        /// The end of the range asked for.
        asked: u64,
    },
    /// The medium failed.
    #[error("object store: {0}")]
    Io(#[from] io::Error),
}

/// An object's name and length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The name.
    pub name: String,
    /// The length in bytes.
    pub len: u64,
}

/// Keeps immutable objects. All methods block.
pub trait ObjectStore: Send + Sync {
    /// Stores an object. Whole and durable when this returns.
    ///
    /// # Errors
    /// [`ObjectError::Exists`] when the name is taken; nothing changed then.
    fn create(&self, name: &str, bytes: &Bytes) -> Result<(), ObjectError>;

    /// Returns `len` bytes from `offset` on.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`], [`ObjectError::Range`].
    fn read(&self, name: &str, offset: u64, len: u64) -> Result<Bytes, ObjectError>;

    /// Returns an object's length in bytes.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`].
    fn size(&self, name: &str) -> Result<u64, ObjectError>;

    /// Returns at most `limit` objects whose names come after `after` (all when empty), sorted by name.
    ///
    /// # Errors
    /// [`ObjectError::Io`].
    fn list(&self, after: &str, limit: usize) -> Result<Vec<ObjectInfo>, ObjectError>;

    /// Deletes an object; one that is not there is fine, so that a retry changes nothing.
    ///
    /// # Errors
    /// [`ObjectError::Io`].
    fn delete(&self, name: &str) -> Result<(), ObjectError>;
}

fn check(name: &str) -> Result<(), ObjectError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '.');
    let part_is_fine = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
    let fine = name.len() <= NAME_BYTES_MAX && name.split('/').all(part_is_fine);
    if fine {
        Ok(())
    } else {
        Err(ObjectError::Name(name.to_owned()))
    }
}

/// Objects as files below a directory.
pub struct DirStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    next_temporary: AtomicU64,
    /// Folders whose names are known to be durable.
    folders: RwLock<BTreeSet<PathBuf>>,
}

impl DirStore {
    /// Opens a store in `dir`, creating it; what a crash left half-written is removed.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<DirStore, ObjectError> {
        let temporary = dir.join(TEMPORARY);
        disk.create_dir_all(&temporary)?;
        for left in disk.list(&temporary)? {
            disk.remove_file(&temporary.join(left.name))?;
        }
        Ok(DirStore {
            disk,
            dir: dir.to_owned(),
            next_temporary: AtomicU64::new(0),
            folders: RwLock::default(),
        })
    }

    /// Creates a folder durably; one that is there may be what a failed attempt left, and its name is made durable, too.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if self.folders.read().contains(folder) {
            return Ok(());
        }
        self.disk.create_dir_all(folder)?;
        for above in folder
            .ancestors()
            .skip(1)
            .take_while(|above| above.starts_with(&self.dir))
        {
            self.disk.sync_dir(above)?;
        }
        self.folders.write().insert(folder.to_owned());
        Ok(())
    }

    fn walk(&self, below: &str, found: &mut Vec<ObjectInfo>) -> io::Result<()> {
        for entry in self.disk.list(&self.dir.join(below))? {
            if entry.name.starts_with('.') {
                continue;
            }
            let name = if below.is_empty() {
                entry.name
            } else {
                format!("{below}/{}", entry.name)
            };
            if entry.is_dir {
                self.walk(&name, found)?;
            } else {
                found.push(ObjectInfo { name, len: entry.len });
            }
        }
        Ok(())
    }
}

fn not_found(error: io::Error, name: &str) -> ObjectError {
    match error.kind() {
        io::ErrorKind::NotFound => ObjectError::NotFound(name.to_owned()),
        _ => ObjectError::Io(error),
    }
}

impl ObjectStore for DirStore {
    fn create(&self, name: &str, bytes: &Bytes) -> Result<(), ObjectError> {
        check(name)?;
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(TEMPORARY).join(number.to_string());
        let path = self.dir.join(name);
        let folder = path.parent().unwrap_or(&self.dir);
        let written = (|| {
            let file = self.disk.create(&temporary)?;
            file.write_all_at(bytes, 0)?;
            file.sync()?;
            self.make_folder(folder)?;
            self.disk.hard_link(&temporary, &path)?;
            self.disk.sync_dir(folder)
        })();
        let _ = self.disk.remove_file(&temporary);
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ObjectError::Exists(name.to_owned()),
            _ => ObjectError::Io(error),
        })
    }

    fn read(&self, name: &str, offset: u64, len: u64) -> Result<Bytes, ObjectError> {
        check(name)?;
        let file = self
            .disk
            .open_read(&self.dir.join(name))
            .map_err(|error| not_found(error, name))?;
        let (whole, asked) = (file.len()?, offset.saturating_add(len));
        if asked > whole {
            return Err(ObjectError::Range {
                name: name.to_owned(),
                len: whole,
                asked,
            });
        }
        let mut buffer = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut buffer, offset)?;
        Ok(Bytes::from(buffer))
    }

    fn size(&self, name: &str) -> Result<u64, ObjectError> {
        check(name)?;
        let file = self
            .disk
            .open_read(&self.dir.join(name))
            .map_err(|error| not_found(error, name))?;
        Ok(file.len()?)
    }

    fn list(&self, after: &str, limit: usize) -> Result<Vec<ObjectInfo>, ObjectError> {
        let mut found = Vec::new();
        self.walk("", &mut found)?;
        found.retain(|info| info.name.as_str() > after);
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.truncate(limit);
        Ok(found)
    }

    fn delete(&self, name: &str) -> Result<(), ObjectError> {
        check(name)?;
        let path = self.dir.join(name);
        match self.disk.remove_file(&path) {
            Ok(()) => Ok(self.disk.sync_dir(path.parent().unwrap_or(&self.dir))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Objects in memory: the simulated twin.
#[derive(Clone, Default)]
pub struct MemStore {
    objects: Arc<RwLock<BTreeMap<String, Bytes>>>,
}

impl ObjectStore for MemStore {
    fn create(&self, name: &str, bytes: &Bytes) -> Result<(), ObjectError> {
        check(name)?;
        let mut objects = self.objects.write();
        if objects.contains_key(name) {
            return Err(ObjectError::Exists(name.to_owned()));
        }
        objects.insert(name.to_owned(), bytes.clone());
        Ok(())
    }

    fn read(&self, name: &str, offset: u64, len: u64) -> Result<Bytes, ObjectError> {
        check(name)?;
        let objects = self.objects.read();
        let object = objects
            .get(name)
            .ok_or_else(|| ObjectError::NotFound(name.to_owned()))?;
        let asked = offset.saturating_add(len);
        if asked > object.len() as u64 {
            return Err(ObjectError::Range {
                name: name.to_owned(),
                len: object.len() as u64,
                asked,
            });
        }
        let range =
            usize::try_from(offset).map_err(io::Error::other)?..usize::try_from(asked).map_err(io::Error::other)?;
        Ok(object.slice(range))
    }

    fn size(&self, name: &str) -> Result<u64, ObjectError> {
        check(name)?;
        let objects = self.objects.read();
        objects
            .get(name)
            .map(|object| object.len() as u64)
            .ok_or_else(|| ObjectError::NotFound(name.to_owned()))
    }

    fn list(&self, after: &str, limit: usize) -> Result<Vec<ObjectInfo>, ObjectError> {
        let objects = self.objects.read();
        let infos = objects.iter().filter(|(name, _)| name.as_str() > after);
        Ok(infos
            .take(limit)
            .map(|(name, object)| ObjectInfo {
                name: name.clone(),
                len: object.len() as u64,
            })
            .collect())
    }

    fn delete(&self, name: &str) -> Result<(), ObjectError> {
        check(name)?;
        self.objects.write().remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::{OsDisk, SimDisk};

    fn keeps_the_contract(store: &dyn ObjectStore) {
        let bytes = Bytes::from_static(b"0123456789");
        store.create("blocks/b-2", &bytes).unwrap();
        store.create("blocks/a", &Bytes::new()).unwrap();
        assert!(matches!(
            store.create("blocks/b-2", &Bytes::new()),
            Err(ObjectError::Exists(_))
        ));
        assert_eq!(store.read("blocks/b-2", 3, 4).unwrap(), &b"3456"[..]);
        assert!(matches!(
            store.read("blocks/b-2", 8, 3),
            Err(ObjectError::Range { len: 10, asked: 11, .. })
        ));
        assert!(matches!(store.read("blocks/none", 0, 1), Err(ObjectError::NotFound(_))));
        assert_eq!(
            (store.size("blocks/b-2").unwrap(), store.size("blocks/a").unwrap()),
            (10, 0)
        );
        let names = |after, limit| -> Vec<String> {
            store
                .list(after, limit)
                .unwrap()
                .into_iter()
                .map(|info| info.name)
                .collect()
        };
        assert_eq!(names("", 9), ["blocks/a", "blocks/b-2"]);
        assert_eq!(
            (names("blocks/a", 9), names("", 1)),
            (vec!["blocks/b-2".into()], vec!["blocks/a".into()])
        );
        store.delete("blocks/a").unwrap();
        store.delete("blocks/a").unwrap();
        assert_eq!(names("", 9), ["blocks/b-2"]);
        for bad in ["", "/etc/passwd", "a/../b", ".tmp/1", "a//b", "a b"] {
            assert!(
                matches!(store.create(bad, &bytes), Err(ObjectError::Name(_))),
                "{bad:?} was taken"
            );
        }
    }

    #[test]
    fn every_store_keeps_the_contract() {
        keeps_the_contract(&MemStore::default());
        let folder = tempfile::tempdir().unwrap();
        keeps_the_contract(&DirStore::open(Arc::new(OsDisk), folder.path()).unwrap());
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::seeded(1));
        keeps_the_contract(&DirStore::open(disk, Path::new("/objects")).unwrap());
    }
}
