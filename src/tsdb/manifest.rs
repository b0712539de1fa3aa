//! The manifest: which blocks are live, which deletions are outstanding, what was lost.
//!
//! ```text
//! magic 8 | number | next block | next tombstone | covered | blocks varint, ( length of file | meta )*
//!         | tombstones varint, tombstone* | lost varint, ( id | min | max | from, to | reason )* | crc32c u32
//! ```
//! Manifests are numbered and never overwritten: a new one is written under a temporary name, synced, linked to its number
//! and the directory synced. The newest readable one counts. Every change is published twice in a row before a file is
//! removed because of it, so that either of the two newest can rot without harm.

use std::io;
use std::path::{Path, PathBuf};

use super::block::wire::{Cursor, DecodeError, put_bytes, put_signed, put_varint};
use super::block::{BlockId, BlockMeta, Covers, WriteError, put_meta, take_meta};
use super::tombstone::{self, Tombstone};
use crate::io::disk::Disk;
use crate::io::log::Position;
use crate::model::{Millis, TimeRange};

const MAGIC: [u8; 8] = *b"CAMPMAN\x01";
const PREFIX: &str = "manifest-";
/// Manifests kept: the one that counts, and the one before it.
const KEPT: usize = 2;

/// A block that is gone without having been dropped: its samples in this range may be missing from answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Lost {
    /// Which block.
    pub id: BlockId,
    /// The range it held.
    pub range: TimeRange,
    /// The log records it made dispensable: what the log still has of them can be replayed.
    pub covers: Option<Covers>,
    /// File, place and reason, for people.
    pub reason: String,
}

/// One state of a set of blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Rises with every change.
    pub number: u64,
    /// No block with this id or a higher one was ever part of the set.
    pub next_block: u64,
    /// The id of the next tombstone.
    pub next_tombstone: u64,
    /// Log records before this one are in blocks, or were in blocks that are dropped by now.
    pub covered: Position,
    /// The live blocks, by id.
    pub blocks: Vec<BlockMeta>,
    /// Deletions that some block does not contain yet.
    pub tombstones: Vec<Tombstone>,
    /// What was lost to damage.
    pub lost: Vec<Lost>,
}

impl Manifest {
    /// Whether the block is live.
    pub(crate) fn lists(&self, id: BlockId) -> bool {
        self.blocks.iter().any(|block| block.id == id)
    }
}

/// What a directory of manifests holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The newest that can be read.
    pub(crate) newest: Option<Manifest>,
    /// Newer or older ones that cannot, with the reason.
    pub(crate) unreadable: Vec<(PathBuf, String)>,
    /// All numbers in use.
    pub(crate) numbers: Vec<u64>,
}

impl Manifest {
    /// Reads the newest manifest of a directory of blocks that can be read, with what is wrong with newer ones. Changes
    /// nothing, and needs no lock.
    ///
    /// # Errors
    /// [`WriteError::Disk`] when there is no such directory.
    pub fn newest(disk: &dyn Disk, dir: &Path) -> Result<(Option<Manifest>, Vec<String>), WriteError> {
        let found = load(disk, dir)?;
        let unreadable = found.unreadable.iter();
        let problems = unreadable
            .map(|(path, reason)| format!("{}: {reason}", path.display()))
            .collect();
        Ok((found.newest, problems))
    }
}

/// Reads the manifests of a directory, newest first, until one is whole.
pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Found, WriteError> {
    let mut found = Found::default();
    let names = disk.list(dir).map_err(WriteError::disk("list", dir))?;
    found.numbers = names.iter().filter_map(|entry| number_of(&entry.name)).collect();
    found.numbers.sort_unstable();
    for number in found.numbers.iter().rev() {
        let path = path_of(dir, *number);
        match read(disk, &path) {
            Ok(manifest) if manifest.number == *number => {
                found.newest = Some(manifest);
                break;
            }
            Ok(other) => found
                .unreadable
                .push((path, format!("it says that its number is {}", other.number))),
            Err(reason) => found.unreadable.push((path, reason)),
        }
    }
    Ok(found)
}

/// Publishes a manifest: durable when this returns.
pub(crate) fn publish(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<(), WriteError> {
    let path = path_of(dir, manifest.number);
    let temporary = path.with_extension("tmp");
    match disk.remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(WriteError::disk("replace", &temporary)(error));
        }
        _ => {}
    }
    let mut bytes = Vec::new();
    encode(manifest, &mut bytes);
    let file = disk
        .create(&temporary)
        .map_err(WriteError::disk("create", &temporary))?;
    file.write_all_at(&bytes, 0)
        .map_err(WriteError::disk("write", &temporary))?;
    file.sync().map_err(WriteError::disk("sync", &temporary))?;
    disk.hard_link(&temporary, &path)
        .map_err(WriteError::disk("name", &path))?;
    disk.sync_dir(dir)
        .map_err(WriteError::disk("sync the directory of", &path))?;
    let _ = disk.remove_file(&temporary);
    Ok(())
}

/// Removes all but the newest manifests, as far as the disk allows.
pub(crate) fn remove_old(disk: &dyn Disk, dir: &Path, numbers: &mut Vec<u64>) {
    while numbers.len() > KEPT {
        let _ = disk.remove_file(&path_of(dir, numbers.remove(0)));
    }
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:016}"))
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    (digits.len() == 16).then(|| digits.parse().ok()).flatten()
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Manifest, String> {
    let text = |error: io::Error| error.to_string();
    let file = disk.open_read(path).map_err(text)?;
    let mut bytes = vec![0; usize::try_from(file.len().map_err(text)?).map_err(|error| error.to_string())?];
    file.read_exact_at(&mut bytes, 0).map_err(text)?;
    decode(&bytes).map_err(|error| error.to_string())
}

/// Appends the manifest.
fn encode(manifest: &Manifest, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend(MAGIC);
    put_varint(out, manifest.number);
    put_varint(out, manifest.next_block);
    put_varint(out, manifest.next_tombstone);
    put_varint(out, manifest.covered.0);
    put_varint(out, manifest.blocks.len() as u64);
    for block in &manifest.blocks {
        put_varint(out, block.bytes);
        put_meta(block, out);
    }
    put_varint(out, manifest.tombstones.len() as u64);
    manifest.tombstones.iter().for_each(|one| tombstone::encode(one, out));
    put_varint(out, manifest.lost.len() as u64);
    for lost in &manifest.lost {
        put_varint(out, lost.id.0);
        put_signed(out, lost.range.min.0);
        put_signed(out, lost.range.max.0);
        let (from, to) = lost.covers.map_or((0, 0), |covers| (covers.from.0, covers.to.0));
        put_varint(out, from);
        put_varint(out, to);
        put_bytes(out, lost.reason.as_bytes());
    }
    out.extend(crc32c::crc32c(&out[start..]).to_le_bytes());
}

/// Reads a manifest: the reverse of [`encode`].
fn decode(bytes: &[u8]) -> Result<Manifest, DecodeError> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(DecodeError::Truncated)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(DecodeError::Malformed("manifest: it fails its checksum"));
    }
    let mut cursor = Cursor::new(body);
    if cursor.array()? != MAGIC {
        return Err(DecodeError::Malformed("manifest: not of this version"));
    }
    let mut manifest = Manifest {
        number: cursor.varint()?,
        next_block: cursor.varint()?,
        next_tombstone: cursor.varint()?,
        covered: Position(cursor.varint()?),
        ..Manifest::default()
    };
    for _ in 0..cursor.size()? {
        let len = cursor.varint()?;
        manifest.blocks.push(take_meta(&mut cursor, len)?);
    }
    for _ in 0..cursor.size()? {
        manifest.tombstones.push(tombstone::decode(&mut cursor)?);
    }
    for _ in 0..cursor.size()? {
        let id = BlockId(cursor.varint()?);
        let range = TimeRange {
            min: Millis(cursor.signed()?),
            max: Millis(cursor.signed()?),
        };
        let (from, to) = (Position(cursor.varint()?), Position(cursor.varint()?));
        manifest.lost.push(Lost {
            id,
            range,
            covers: (from < to).then_some(Covers { from, to }),
            reason: String::from_utf8_lossy(cursor.bytes()?).into_owned(),
        });
    }
    cursor.finish("manifest")?;
    Ok(manifest)
}

/// Takes any bytes as a manifest, and as one whose magic and checksum fit, for fuzzing: whatever they are, no panic.
#[doc(hidden)]
pub fn decode_any(bytes: &[u8]) {
    drop(decode(bytes));
    let mut framed = [&MAGIC[..], bytes].concat();
    framed.extend(crc32c::crc32c(&framed).to_le_bytes());
    drop(decode(&framed));
}

#[cfg(test)]
mod tests {
    use super::super::tombstone::tests::tombstone;
    use super::*;
    use crate::io::disk::{OsDisk, SimDisk};
    use crate::model::{MatchOp, Matcher};
    use proptest::prelude::*;

    fn manifest() -> impl Strategy<Value = Manifest> {
        let block = (1u64..99, 0u8..4, any::<i64>(), 0i64..1000, any::<u32>());
        let blocks = proptest::collection::vec(block, 0..4);
        (blocks, proptest::collection::vec(tombstone(), 0..3), 1u64..50).prop_map(|(blocks, tombstones, number)| {
            let blocks = blocks.into_iter().map(|(id, level, min, len, bytes)| BlockMeta {
                id: BlockId(id),
                level,
                range: TimeRange {
                    min: Millis(min),
                    max: Millis(min.saturating_add(len)),
                },
                series: 3,
                floats: 4,
                histograms: 5,
                bytes: u64::from(bytes),
                covers: (id % 2 == 0).then_some(Covers {
                    from: Position(id),
                    to: Position(id + 7),
                }),
                replaces: vec![BlockId(1), BlockId(2)],
                tombstones: 3,
                writer: "0.1.0".to_owned(),
            });
            let lost = vec![Lost {
                id: BlockId(9),
                range: TimeRange::ALL,
                covers: None,
                reason: "rot".to_owned(),
            }];
            Manifest {
                number,
                next_block: 100,
                next_tombstone: 10,
                covered: Position(77),
                blocks: blocks.collect(),
                tombstones,
                lost,
            }
        })
    }

    /// A manifest with one of everything.
    fn specimen() -> Manifest {
        let range = TimeRange {
            min: Millis(1_700_000_000_000),
            max: Millis(1_700_007_199_999),
        };
        let matchers = [("job", MatchOp::Equal, "api"), ("instance", MatchOp::NotRegex, "a.*")];
        let matchers = matchers.map(|(name, op, value)| Matcher::new(name, op, value).unwrap());
        Manifest {
            number: 12,
            next_block: 8,
            next_tombstone: 3,
            covered: Position(4711),
            blocks: vec![BlockMeta {
                id: BlockId(7),
                level: 2,
                range,
                series: 500,
                floats: 240_000,
                histograms: 12,
                bytes: 123_456,
                covers: Some(Covers {
                    from: Position(0),
                    to: Position(4711),
                }),
                replaces: vec![BlockId(5), BlockId(6)],
                tombstones: 1,
                writer: "0.1.0".to_owned(),
            }],
            tombstones: vec![Tombstone {
                id: 2,
                matchers: matchers.into(),
                range,
            }],
            lost: vec![Lost {
                id: BlockId(4),
                range,
                covers: None,
                reason: "rot".to_owned(),
            }],
        }
    }

    #[test]
    fn the_format_of_a_manifest_stays_as_it_is() {
        let mut out = Vec::new();
        encode(&specimen(), &mut out);
        let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        crate::tsdb::testing::golden("manifest-v1.hex", &out.chunks(32).map(line).collect::<String>());
        assert_eq!(decode(&out).unwrap(), specimen());
    }

    #[test]
    fn the_fuzzing_corpus_is_decoded_without_a_panic() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/manifest");
        let entries = OsDisk.list(&folder).unwrap();
        assert!(!entries.is_empty());
        for entry in entries {
            decode_any(&crate::io::files::read(&OsDisk, &folder.join(&entry.name)).unwrap());
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            decode_any(&bytes);
        }

        #[test]
        fn a_manifest_reads_back_and_no_other_bytes_do(
            manifest in manifest(), at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let mut out = Vec::new();
            encode(&manifest, &mut out);
            prop_assert_eq!(decode(&out).unwrap(), manifest);
            let at = at.index(out.len());
            prop_assert!(decode(&out[..at]).is_err());
            out[at] ^= 1 << bit;
            prop_assert!(decode(&out).is_err());
        }
    }

    #[test]
    fn the_newest_readable_manifest_counts_and_two_are_kept() {
        let disk = SimDisk::seeded(1);
        let dir = Path::new("/blocks");
        disk.create_dir_all(dir).unwrap();
        let mut numbers = Vec::new();
        for number in 1..=4 {
            let manifest = Manifest {
                number,
                next_block: number * 10,
                ..Manifest::default()
            };
            publish(&disk, dir, &manifest).unwrap();
            numbers.push(number);
            remove_old(&disk, dir, &mut numbers);
        }
        assert_eq!(load(&disk, dir).unwrap().numbers, [3, 4]);
        disk.flip_bit(&path_of(dir, 4), 11, 3).unwrap();
        let found = load(&disk, dir).unwrap();
        assert_eq!(found.newest.unwrap().next_block, 30);
        assert!(found.unreadable[0].1.contains("checksum"));
    }
}
