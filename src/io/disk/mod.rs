//! Files and directories, as the store may use them.
//!
//! The traits promise what POSIX promises and no more: a written byte is durable after [`DiskFile::sync`], a created,
//! linked, renamed or removed name after [`Disk::sync_dir`]. `SimDisk` holds callers to that.

mod map;
mod os;
mod sim;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use os::OsDisk;
pub use sim::SimDisk;

/// A file system. All methods block.
pub trait Disk: Send + Sync {
    /// Creates a directory and its parents, durably; one that exists is fine.
    ///
    /// # Errors
    /// The operating system's.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Lists a directory, sorted by name.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is none.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Creates a file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading only.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is none.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, replacing the target.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the name is taken: the way to create a whole file or none.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is none.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all in it.
    ///
    /// # Errors
    /// The operating system's.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The operating system's; after one, nothing about the directory's names is known.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Returns the bytes that may still be written to the file system that holds `path`, and its whole size.
    ///
    /// # Errors
    /// The operating system's.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Returns all that `statvfs` says about the file system that holds `path`.
    ///
    /// # Errors
    /// The operating system's.
    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        let Space { free, total } = self.space(path)?;
        Ok(FileSystem {
            size: total,
            free,
            available: free,
            ..FileSystem::default()
        })
    }

    /// Returns the whole file as bytes: mapped where that is possible. The file must not change while they live.
    ///
    /// # Errors
    /// The operating system's.
    fn map(&self, path: &Path) -> io::Result<Bytes>;

    /// Takes the directory for this process until the lock is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process has it; the message names its process id.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// Held while a directory is ours.
pub trait DirLock: Send + Sync {}

/// An open file. Positioned reads and writes, so that many threads may share it.
pub trait DiskFile: Send + Sync {
    /// Reads exactly `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file is shorter.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Reads some bytes at `offset`, 0 at the end: also of files that have no length of their own, such as `/proc`'s.
    ///
    /// # Errors
    /// The operating system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        self.read_exact_at(&mut buffer[..length], offset)?;
        Ok(length)
    }

    /// Writes all of `bytes` at `offset`. Durable only after [`DiskFile::sync`].
    ///
    /// # Errors
    /// The operating system's; the range then holds anything.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable (`fdatasync`).
    ///
    /// # Errors
    /// After one, what was written since the last success may be lost, and syncing again proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Returns the file's length in bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// The operating system's.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or extends it with zeroes.
    ///
    /// # Errors
    /// The operating system's.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// A file's length in bytes.
    pub len: u64,
}

/// What `statvfs` says about a file system: bytes, and counts of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Its size in bytes.
    pub size: u64,
    /// Unused bytes, those reserved for root included.
    pub free: u64,
    /// Bytes that an ordinary process may still write.
    pub available: u64,
    /// How many files it can hold.
    pub files: u64,
    /// How many more files it can take.
    pub files_free: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// The room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What an ordinary process may still write.
    pub free: u64,
    /// The file system's size.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    //! What the traits promise, asked of both twins.

    use super::*;

    fn each_disk(check: impl Fn(&dyn Disk, &Path)) {
        let dir = tempfile::tempdir().unwrap();
        check(&OsDisk, dir.path());
        let disk = SimDisk::seeded(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        check(&disk, Path::new("/data"));
    }

    fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
        result.err().expect("an error was expected").kind()
    }

    #[test]
    fn what_is_written_is_read_back() {
        each_disk(|disk, dir| {
            let path = dir.join("a");
            let file = disk.create(&path).unwrap();
            assert!(file.is_empty().unwrap());
            file.write_all_at(b"hello", 3).unwrap();
            file.sync().unwrap();
            let mut bytes = [1; 8];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(&bytes, b"\0\0\0hello");
            assert_eq!(kind(file.read_exact_at(&mut bytes, 1)), io::ErrorKind::UnexpectedEof);
            assert_eq!(&disk.map(&path).unwrap()[..], b"\0\0\0hello");
            file.set_len(4).unwrap();
            assert_eq!(disk.open_read(&path).unwrap().len().unwrap(), 4);
            file.set_len(6).unwrap();
            assert_eq!(&disk.map(&path).unwrap()[..], b"\0\0\0h\0\0");
            assert!(disk.open_read(&path).unwrap().write_all_at(b"x", 0).is_err());
        });
    }

    #[test]
    fn an_empty_file_maps_to_no_bytes() {
        each_disk(|disk, dir| {
            disk.create(&dir.join("empty")).unwrap();
            assert!(disk.map(&dir.join("empty")).unwrap().is_empty());
        });
    }

    #[test]
    fn names_behave_as_posix_says() {
        each_disk(|disk, dir| {
            let (a, b) = (dir.join("a"), dir.join("b"));
            disk.create(&a).unwrap().write_all_at(b"1", 0).unwrap();
            assert_eq!(kind(disk.create(&a)), io::ErrorKind::AlreadyExists);
            disk.hard_link(&a, &b).unwrap();
            assert_eq!(kind(disk.hard_link(&a, &b)), io::ErrorKind::AlreadyExists);
            disk.remove_file(&a).unwrap();
            assert_eq!(kind(disk.open(&a)), io::ErrorKind::NotFound);
            disk.create(&a).unwrap();
            disk.rename(&b, &a).unwrap();
            assert_eq!(&disk.map(&a).unwrap()[..], b"1");
            assert_eq!(kind(disk.remove_file(&b)), io::ErrorKind::NotFound);
            assert_eq!(kind(disk.list(&dir.join("none"))), io::ErrorKind::NotFound);
            assert_eq!(kind(disk.create(&dir.join("none/x"))), io::ErrorKind::NotFound);
            assert_eq!(kind(disk.sync_dir(&dir.join("none"))), io::ErrorKind::NotFound);
        });
    }

    #[test]
    fn a_directory_lists_its_names_in_order_and_goes_away_whole() {
        each_disk(|disk, dir| {
            disk.create_dir_all(&dir.join("d/e")).unwrap();
            disk.create_dir_all(&dir.join("d/e")).unwrap();
            disk.create(&dir.join("d/z")).unwrap();
            disk.create(&dir.join("d/b")).unwrap().write_all_at(b"123", 0).unwrap();
            let entry = |name: &str, is_dir, len| DirEntry {
                name: name.to_owned(),
                is_dir,
                len,
            };
            let listed = disk.list(&dir.join("d")).unwrap();
            let expected = [entry("b", false, 3), entry("e", true, 0), entry("z", false, 0)];
            assert_eq!(listed, expected);
            disk.sync_dir(&dir.join("d")).unwrap();
            disk.remove_dir_all(&dir.join("d")).unwrap();
            assert_eq!(kind(disk.list(&dir.join("d"))), io::ErrorKind::NotFound);
            let space = disk.space(dir).unwrap();
            assert!(space.free > 0 && space.free <= space.total);
        });
    }

    #[test]
    fn a_directory_has_one_owner_and_the_second_is_told_who() {
        each_disk(|disk, dir| {
            let held = disk.lock(dir).unwrap();
            let refused = disk.lock(dir).err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
            assert!(
                refused.to_string().contains(&std::process::id().to_string()),
                "{refused}"
            );
            drop(held);
            drop(disk.lock(dir).unwrap());
        });
    }
}
