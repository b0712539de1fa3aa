//! Chunks: a stretch of one series' samples, open (being written, `tsz`) or sealed (packed, immutable, checksummed).
//!
//! `tsz` carries every sample's first landing because it encodes in about 10 ns and may be read while it is written.
//! Sealed chunks are integers wherever the numbers are whole or short decimals, which takes a third of the bytes.

mod open;
mod sealed;

pub(crate) use open::OpenChunk;
pub(crate) use sealed::{SealedChunk, TimesPool};
