//! Chunks: a stretch of one series' samples, open (being written, `tsz`) or sealed (packed, immutable, checksummed).
//!
//! `tsz` carries every sample's first landing because it encodes in about 10 ns and may be read while it is written.
//! Sealed chunks are integers wherever the numbers are whole or short decimals, which takes a third of the bytes; they
//! live in pages that leave memory when there are many.

mod open;
mod page;
mod sealed;
mod store;
#[cfg(test)]
mod store_tests;

pub(crate) use open::OpenChunk;
pub(crate) use page::ChunkAt;
pub use store::verify_chunk_files;
pub(crate) use store::{Chain, ChunkOptions, ChunkStore, PageRecord};

/// Takes any bytes as a file of head chunks, for fuzzing.
pub(super) fn decode_any(bytes: &[u8]) {
    page::decode_any(bytes);
}
