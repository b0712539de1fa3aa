//! Columns that pco compresses, without pco's file framing: block and page already say what it would.
//!
//! ```text
//! short    chunk meta | one page
//! paged    numbers a page varint | meta length varint | chunk meta | page length varint * pages | page*
//! ```
//! A long column is cut into pages, so that the newest five minutes of a day of seconds cost one page and not the day.

use std::ops::Range;

use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, PagingSpec};

use super::ints::COUNT_MAX;
use super::wire::{Cursor, DecodeError, put_bytes, put_varint};

/// Columns of more numbers are paged.
pub(super) const PAGED_COUNT_MIN: usize = 8192;
/// Numbers a page, the last one fewer: a page begins with some ten bytes of its own.
const PAGE_COUNT: usize = 4096;
/// pco decodes in batches of this many.
const BATCH: usize = 256;
/// pco's format version, which its own header would carry: part of the block format's version.
const PCO_HEADER: [u8; 2] = [4, 1];
/// Why compressing cannot fail.
const WHY: &str = "a chunk of 1 to 2^24 numbers is within pco's limits, and a Vec takes every write";
const BROKEN: DecodeError = DecodeError::Malformed("paged column");

/// Appends a short column.
pub(super) fn put<T: pco::data_types::Number>(values: &[T], config: ChunkConfig, out: &mut Vec<u8>) {
    let config = config.with_paging_spec(PagingSpec::Exact(vec![values.len()]));
    let mut chunk = FileCompressor::default().chunk_compressor(values, &config).expect(WHY);
    chunk.write_meta(&mut *out).expect(WHY);
    chunk.write_page(0, &mut *out).expect(WHY);
}

/// Appends a paged column.
pub(super) fn put_paged<T: pco::data_types::Number>(values: &[T], config: ChunkConfig, out: &mut Vec<u8>) {
    let counts: Vec<usize> = values.chunks(PAGE_COUNT).map(<[T]>::len).collect();
    let pages = counts.len();
    let config = config.with_paging_spec(PagingSpec::Exact(counts));
    let mut chunk = FileCompressor::default().chunk_compressor(values, &config).expect(WHY);
    put_varint(out, PAGE_COUNT as u64);
    let mut meta = Vec::new();
    chunk.write_meta(&mut meta).expect(WHY);
    put_bytes(out, &meta);
    let mut bytes = Vec::new();
    for page in 0..pages {
        let start = bytes.len();
        chunk.write_page(page, &mut bytes).expect(WHY);
        put_varint(out, (bytes.len() - start) as u64);
    }
    out.extend_from_slice(&bytes);
}

fn refuse(error: pco::errors::PcoError) -> DecodeError {
    DecodeError::Column(error.to_string())
}

/// Reads the first `want` numbers of a short column of `n`, rounded up to whole batches.
pub(super) fn take<T: pco::data_types::Number + Default>(
    cursor: &mut Cursor<'_>,
    n: usize,
    want: usize,
) -> Result<Vec<T>, DecodeError> {
    let (file, _) = FileDecompressor::new(&PCO_HEADER[..]).map_err(refuse)?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(cursor.rest()).map_err(refuse)?;
    let mut page = chunk.page_decompressor(rest, n).map_err(refuse)?;
    let count = n.min(want.div_ceil(BATCH).max(1) * BATCH);
    let mut values = vec![T::default(); count];
    let progress = page.read(&mut values).map_err(refuse)?;
    if progress.n_processed != count {
        return Err(DecodeError::Truncated);
    }
    *cursor = Cursor::new(page.into_src());
    Ok(values)
}

/// Reads the pages of a paged column of `n` that hold `want`; returns the numbers and which of the column is the first.
pub(super) fn take_paged<T: pco::data_types::Number + Default>(
    cursor: &mut Cursor<'_>,
    n: usize,
    want: Range<usize>,
) -> Result<(Vec<T>, usize), DecodeError> {
    let page_count = cursor.size()?;
    if n == 0 || page_count == 0 || page_count > COUNT_MAX {
        return Err(BROKEN);
    }
    let meta = cursor.bytes()?;
    let mut lens = Vec::new();
    for _ in 0..n.div_ceil(page_count) {
        lens.push(cursor.size()?);
    }
    let first = want.start.min(n - 1) / page_count;
    let last = want.end.clamp(want.start.min(n - 1) + 1, n).div_ceil(page_count);
    let (file, _) = FileDecompressor::new(&PCO_HEADER[..]).map_err(refuse)?;
    let (mut chunk, _) = file.chunk_decompressor::<T, _>(meta).map_err(refuse)?;
    let mut values = Vec::new();
    for (index, len) in lens.into_iter().enumerate() {
        let bytes = cursor.take(len)?;
        if index < first || index >= last {
            continue;
        }
        let count = page_count.min(n - index * page_count);
        let mut page = chunk.page_decompressor(bytes, count).map_err(refuse)?;
        let start = values.len();
        values.resize(start + count, T::default());
        let progress = page.read(&mut values[start..]).map_err(refuse)?;
        if progress.n_processed != count {
            return Err(DecodeError::Truncated);
        }
    }
    Ok((values, first * page_count))
}
