//! What a block says about itself: its footer, and the names of its sections.
//!
//! ```text
//! file     magic 8 | pages | sections | footer | footer length u32 | footer crc32c u32 | magic 8
//! footer   ( section offset varint | length varint | crc32c u32 )* 5 | id | level | min zigzag | max zigzag | series
//!          | floats | histograms | covered from, to (0 0: none) | tombstones | replaces count, id*
//!          | writer's version: length, text                              varints where nothing else is said
//! ```
//! Every byte of the file is under a checksum, the checksum stands apart from what it guards, and the magic carries the
//! format's version.

use std::fmt;

use super::wire::{Cursor, DecodeError, put_bytes, put_signed, put_varint};
use crate::io::log::Position;
use crate::model::{Millis, TimeRange};

/// First and last bytes of a block; the last byte is the version of the format. Version 2 may page columns and share records.
pub(crate) const MAGIC: [u8; 8] = *b"CAMPBLK\x02";
/// Version 1, which is still read: all that it says means the same in version 2.
pub(crate) const MAGIC_1: [u8; 8] = *b"CAMPBLK\x01";
/// Footer length, footer checksum, magic.
pub(crate) const TRAILER_LEN: usize = 16;
/// A footer is a few hundred bytes; one that says more is not a footer.
pub(crate) const FOOTER_LEN_MAX: usize = 16 << 20;

/// Names a block within a store; never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u64);

impl fmt::Display for BlockId {
    /// As in file names: sixteen digits, so that names order as ids do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}", self.0)
    }
}

impl BlockId {
    /// Returns the name of the block's file.
    pub fn file_name(self) -> String {
        format!("{self}.block")
    }

    /// Reads what [`BlockId::file_name`] gave.
    pub fn from_file_name(name: &str) -> Option<BlockId> {
        let id = BlockId(name.strip_suffix(".block")?.parse().ok()?);
        (id.file_name() == name).then_some(id)
    }
}

/// Log records that a block makes dispensable: from the first, up to but without the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covers {
    /// The oldest record whose samples are in the block.
    pub from: Position,
    /// The first record after those.
    pub to: Position,
}

/// What the writer of a block decides before it is written.
#[derive(Clone, Debug)]
pub struct NewBlock {
    /// Its name.
    pub id: BlockId,
    /// How often its samples were compacted: 0 for a block cut from the head.
    pub level: u8,
    /// Which log records it makes dispensable.
    pub covers: Option<Covers>,
    /// The blocks whose samples it took over.
    pub replaces: Vec<BlockId>,
    /// The newest tombstone that was applied to its samples (0: none).
    pub tombstones: u64,
    /// Seeds the hash that finds equal timestamp vectors; random and secret, so that nobody can make two collide.
    pub seed: u64,
}

impl NewBlock {
    /// A block cut from the head.
    pub fn cut(id: BlockId, covers: Option<Covers>, seed: u64) -> NewBlock {
        NewBlock {
            id,
            level: 0,
            covers,
            replaces: Vec::new(),
            tombstones: 0,
            seed,
        }
    }
}

/// What a block says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockMeta {
    /// Its name.
    pub id: BlockId,
    /// How often its samples were compacted.
    pub level: u8,
    /// From its oldest sample to its newest.
    pub range: TimeRange,
    /// How many series it holds.
    pub series: u64,
    /// How many floats.
    pub floats: u64,
    /// How many histograms.
    pub histograms: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Which log records it makes dispensable.
    pub covers: Option<Covers>,
    /// The blocks whose samples it took over.
    pub replaces: Vec<BlockId>,
    /// The newest tombstone that was applied to its samples.
    pub tombstones: u64,
    /// The version of the program that wrote it.
    pub writer: String,
}

impl BlockMeta {
    /// Returns how many samples of both kinds the block holds.
    pub fn samples(&self) -> u64 {
        self.floats + self.histograms
    }
}

/// Where a section stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

/// The sections of a block, in the order of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sections {
    pub(crate) pages: Section,
    pub(crate) times: Section,
    pub(crate) symbols: Section,
    pub(crate) series: Section,
    pub(crate) index: Section,
}

impl Sections {
    pub(crate) fn all(&self) -> [(&'static str, Section); 5] {
        [
            ("page directory", self.pages),
            ("time directory", self.times),
            ("symbol table", self.symbols),
            ("series table", self.series),
            ("label index", self.index),
        ]
    }
}

/// Appends the footer.
pub(crate) fn put_footer(sections: &Sections, meta: &BlockMeta, out: &mut Vec<u8>) {
    for (_, section) in sections.all() {
        put_varint(out, section.offset);
        put_varint(out, section.len);
        out.extend(section.crc.to_le_bytes());
    }
    put_meta(meta, out);
}

/// Appends what a block says about itself, but for the length of its file.
pub(crate) fn put_meta(meta: &BlockMeta, out: &mut Vec<u8>) {
    put_varint(out, meta.id.0);
    out.push(meta.level);
    put_signed(out, meta.range.min.0);
    put_signed(out, meta.range.max.0);
    put_varint(out, meta.series);
    put_varint(out, meta.floats);
    put_varint(out, meta.histograms);
    let (from, to) = meta.covers.map_or((0, 0), |covers| (covers.from.0, covers.to.0));
    put_varint(out, from);
    put_varint(out, to);
    put_varint(out, meta.tombstones);
    put_varint(out, meta.replaces.len() as u64);
    meta.replaces.iter().for_each(|id| put_varint(out, id.0));
    put_bytes(out, meta.writer.as_bytes());
}

/// Reads the footer of a file of `bytes` length: the reverse of [`put_footer`].
pub(crate) fn take_footer(footer: &[u8], bytes: u64) -> Result<(Sections, BlockMeta), DecodeError> {
    let mut cursor = Cursor::new(footer);
    let mut section = || {
        Ok::<_, DecodeError>(Section {
            offset: cursor.varint()?,
            len: cursor.varint()?,
            crc: cursor.u32()?,
        })
    };
    let sections = Sections {
        pages: section()?,
        times: section()?,
        symbols: section()?,
        series: section()?,
        index: section()?,
    };
    let meta = take_meta(&mut cursor, bytes)?;
    cursor.finish("footer")?;
    Ok((sections, meta))
}

/// Reads what [`put_meta`] wrote, of a file of `bytes` length.
pub(crate) fn take_meta(cursor: &mut Cursor<'_>, bytes: u64) -> Result<BlockMeta, DecodeError> {
    let mut meta = BlockMeta {
        id: BlockId(cursor.varint()?),
        level: cursor.byte()?,
        range: TimeRange {
            min: Millis(cursor.signed()?),
            max: Millis(cursor.signed()?),
        },
        series: cursor.varint()?,
        floats: cursor.varint()?,
        histograms: cursor.varint()?,
        bytes,
        covers: None,
        replaces: Vec::new(),
        tombstones: 0,
        writer: String::new(),
    };
    let (from, to) = (Position(cursor.varint()?), Position(cursor.varint()?));
    meta.covers = (from < to).then_some(Covers { from, to });
    meta.tombstones = cursor.varint()?;
    for _ in 0..cursor.size()? {
        meta.replaces.push(BlockId(cursor.varint()?));
    }
    meta.writer = String::from_utf8_lossy(cursor.bytes()?).into_owned();
    Ok(meta)
}
