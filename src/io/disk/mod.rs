//! Files and directories, as the store may use them.
//!
//! The traits promise what POSIX promises and no more: a written byte is durable after [`DiskFile::sync`], a created,
//! linked, renamed or removed name after [`Disk::sync_dir`]. `SimDisk` holds callers to that.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

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

/// The room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What an ordinary process may still write.
    pub free: u64,
    /// The file system's size.
    pub total: u64,
}
