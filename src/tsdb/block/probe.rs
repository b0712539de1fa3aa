//! One entrance to every decoder of the block format, for fuzzing: bytes in, and whatever they are, no panic.

use std::sync::Arc;

use super::presence::Presence;
use super::series::SeriesTable;
use super::symbols::Symbols;
use super::wire::Cursor;
use super::{Block, BlockCache, histograms, index, ints, meta, times, values};
use crate::io::disk::{Disk, SimDisk};

/// How many samples a column is said to have.
const COUNT: usize = 240;

/// Decodes `bytes`: the first says as what, the rest is what a checksum has let pass.
#[doc(hidden)]
pub fn decode_any(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let mut cursor = Cursor::new(rest);
    match kind % 9 {
        0 => drop(ints::decode(&mut cursor, COUNT, COUNT / 2..COUNT, &mut Vec::new())),
        1 => drop(values::decode(&mut cursor, COUNT, COUNT / 2..COUNT, &mut Vec::new())),
        2 => {
            let times: Vec<i64> = (0..COUNT as i64).collect();
            drop(histograms::decode(&mut cursor, &times, &mut Vec::new()));
        }
        3 => drop(Presence::decode(&mut cursor, COUNT)),
        4 => {
            if let Ok(symbols) = Symbols::new(rest.to_vec().into()) {
                drop(symbols.find("up"));
                drop(symbols.with_prefix("u"));
            }
        }
        5 => {
            let mut out = Vec::new();
            super::symbols::encode(["job", "up"].into_iter(), &mut out);
            let symbols = Symbols::new(out.into());
            if let Ok(index) = symbols.and_then(|symbols| index::Index::new(rest.to_vec().into(), &symbols)) {
                drop(index.values("job", None, |_| Ok(())));
                drop(index.having("up"));
            }
        }
        6 => {
            if let Ok(table) = SeriesTable::new(rest.to_vec().into())
                && let Ok(mut group) = table.group(0, &[])
            {
                while let Ok(Some(_)) = group.next() {}
            }
        }
        7 => {
            drop(times::take_directory(rest));
            drop(meta::take_footer(rest, 1 << 20));
        }
        _ => open(rest),
    }
}

/// Opens the bytes as a whole block, checksums and all.
fn open(bytes: &[u8]) {
    let disk = SimDisk::seeded(0);
    let path = std::path::Path::new("/fuzz.block");
    let written = disk.create(path).and_then(|file| file.write_all_at(bytes, 0));
    if written.is_ok()
        && let Ok(block) = Block::open(&disk, path, Arc::new(BlockCache::new()))
    {
        drop(block.verify());
    }
}
