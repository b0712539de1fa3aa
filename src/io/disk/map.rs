//! Files as memory: the one place with `unsafe` in the crate's I/O.
//!
//! It buys that an index of gigabytes costs no memory that the kernel cannot take back, and opens without being read.

use std::fs::File;
use std::io;

use bytes::Bytes;

/// Maps the file, read only. An empty file is no bytes.
pub(super) fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new()); // A mapping of no bytes is an error on some systems.
    }
    #[expect(unsafe_code, reason = "a mapping is unsafe because the file may change under it")]
    // SAFETY: the mapping is read only, and `Disk::map` asks callers that the file does not change while the bytes
    // live. The store maps immutable files only (blocks, log segments before they are opened for writing), inside a
    // directory that it holds a lock on.
    let mapped = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(mapped))
}
