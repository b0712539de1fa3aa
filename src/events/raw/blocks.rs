//! A file read in ranges, every byte of it checked: the body in blocks of 64 KiB, the footer as a whole.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::io::ObjectStore;

/// Bytes of a block.
const BLOCK: usize = 64 << 10;
/// Bytes read at once when a reader reads on.
const AHEAD: usize = 256 << 10;

/// Returns the checksums of a file's body, eight hexadecimal digits a block.
pub(super) fn checksums(body: &[u8]) -> String {
    body.chunks(BLOCK)
        .map(|block| format!("{:08x}", crc32c::crc32c(block)))
        .collect()
}

/// Reads such checksums.
pub(super) fn parse(text: &str) -> Option<Vec<u32>> {
    let sums = text.as_bytes().chunks(8);
    let sum = |digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    sums.map(sum).collect()
}

/// A file on an object store.
#[derive(Clone)]
pub(super) struct Checked {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) name: Arc<str>,
    pub(super) len: u64,
    /// The footer's bytes, checked already, and where they begin.
    pub(super) footer: Bytes,
    pub(super) body_len: u64,
    pub(super) sums: Arc<[u32]>,
    pub(super) read: Arc<AtomicU64>,
}

impl Checked {
    fn body(&self, start: u64, len: usize) -> Result<Bytes> {
        let block = BLOCK as u64;
        let first = start / block * block;
        let end = (start + len as u64).div_ceil(block) * block;
        let end = end.min(self.body_len);
        let bytes = self.objects.read(&self.name, first, end - first);
        let bytes = bytes.map_err(|error| ParquetError::General(error.to_string()))?;
        self.read.fetch_add(end - first, Ordering::Relaxed);
        for (number, part) in bytes.chunks(BLOCK).enumerate() {
            let index = first / block + number as u64;
            let sum = usize::try_from(index).ok().and_then(|index| self.sums.get(index));
            if sum != Some(&crc32c::crc32c(part)) {
                let text = format!("the block at byte {} fails its checksum", index * block);
                return Err(ParquetError::General(text));
            }
        }
        let skip = usize::try_from(start - first).expect("less than a block");
        Ok(bytes.slice(skip..skip + len))
    }
}

impl Length for Checked {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Checked {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Box<dyn Read>> {
        Ok(Box::new(Reading {
            file: self.clone(),
            at: start,
            ahead: Bytes::new(),
        }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.len);
        let end = end.ok_or_else(|| ParquetError::EOF(format!("{length} bytes from {start} on are not there")))?;
        if start >= self.body_len {
            let skip = usize::try_from(start - self.body_len).expect("a footer fits into memory");
            return Ok(self.footer.slice(skip..skip + length));
        }
        if end > self.body_len {
            return Err(ParquetError::General("a page reaches into the footer".to_owned()));
        }
        self.body(start, length)
    }
}

struct Reading {
    file: Checked,
    at: u64,
    ahead: Bytes,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.ahead.is_empty() {
            let end = if self.at < self.file.body_len {
                self.file.body_len
            } else {
                self.file.len
            };
            let left = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
            let bytes = self.file.get_bytes(self.at, left.min(AHEAD));
            self.ahead = bytes.map_err(|error| std::io::Error::other(error.to_string()))?;
        }
        let count = buffer.len().min(self.ahead.len());
        self.ahead.copy_to_slice(&mut buffer[..count]);
        self.at += count as u64;
        Ok(count)
    }
}
