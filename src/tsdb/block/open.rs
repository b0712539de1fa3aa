//! What opening finds in a block's file: the footer, and every section of the index with its checksum verified.

use bytes::Bytes;

use super::index::Index;
use super::meta::{BlockMeta, FOOTER_LEN_MAX, MAGIC, MAGIC_1, Section, Sections, TRAILER_LEN, take_footer};
use super::series::SeriesTable;
use super::symbols::Symbols;
use super::times::{TimeColumn, take_directory};
use super::wire::{Cursor, DecodeError};

/// Where a page stands, and its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// What opening finds in a file.
pub(super) struct Parts {
    pub(super) meta: BlockMeta,
    pub(super) sections: Sections,
    pub(super) pages: Vec<Page>,
    pub(super) times: Vec<TimeColumn>,
    pub(super) symbols: Symbols,
    pub(super) series: SeriesTable,
    pub(super) index: Index,
}

/// Where the damage is, and what.
type Damage = (u64, String);

impl Parts {
    pub(super) fn of(bytes: &Bytes) -> Result<Parts, Damage> {
        let (sections, meta) = footer(bytes)?;
        let mut parts = [const { Bytes::new() }; 5];
        for ((name, section), part) in sections.all().into_iter().zip(&mut parts) {
            *part = verified(bytes, name, section)?;
        }
        let [pages, times, symbols, series, index] = parts;
        let at = |section: Section| move |error: DecodeError| (section.offset, error.to_string());
        let symbols = Symbols::new(symbols).map_err(at(sections.symbols))?;
        let parts = Parts {
            pages: take_pages(&pages).map_err(at(sections.pages))?,
            times: take_directory(&times).map_err(at(sections.times))?,
            series: SeriesTable::new(series).map_err(at(sections.series))?,
            index: Index::new(index, &symbols).map_err(at(sections.index))?,
            symbols,
            sections,
            meta,
        };
        parts.check(&sections)?;
        Ok(parts)
    }

    /// Compares the sections with each other.
    fn check(&self, sections: &Sections) -> Result<(), Damage> {
        let end = self.pages.last().map_or(0, |page| page.offset + u64::from(page.len));
        if end != sections.pages.offset {
            return Err((
                sections.pages.offset,
                "pages do not reach to the page directory".to_owned(),
            ));
        }
        if u64::from(self.series.len()) != self.meta.series {
            return Err((
                sections.series.offset,
                "another number of series than the footer says".to_owned(),
            ));
        }
        Ok(())
    }
}

fn footer(bytes: &[u8]) -> Result<(Sections, BlockMeta), Damage> {
    let refuse = |offset: usize, reason: &str| (offset as u64, reason.to_owned());
    if bytes.len() < MAGIC.len() + TRAILER_LEN {
        return Err(refuse(0, "too short for a block"));
    }
    let magic = &bytes[..MAGIC.len()];
    if *magic != MAGIC && *magic != MAGIC_1 {
        return Err(refuse(0, "does not begin as a block of this version"));
    }
    let (rest, trailer) = bytes.split_at(bytes.len() - TRAILER_LEN);
    let trailer_at = rest.len();
    let word = |at: usize| u32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
    if trailer[8..] != *magic {
        return Err(refuse(trailer_at, "does not end as a block of this version: cut off?"));
    }
    let len = word(0) as usize;
    if len > FOOTER_LEN_MAX || len > rest.len() {
        return Err(refuse(trailer_at, "the footer's length is impossible"));
    }
    let start = rest.len() - len;
    let footer = &rest[start..];
    if crc32c::crc32c(footer) != word(4) {
        return Err(refuse(start, "the footer fails its checksum"));
    }
    let (sections, meta) =
        take_footer(footer, bytes.len() as u64).map_err(|error| refuse(start, &error.to_string()))?;
    let end = sections.index.offset.checked_add(sections.index.len);
    if end != Some(start as u64) {
        return Err(refuse(start, "the sections do not reach to the footer"));
    }
    Ok((sections, meta))
}

fn verified(bytes: &Bytes, name: &str, section: Section) -> Result<Bytes, Damage> {
    let range = usize::try_from(section.offset)
        .ok()
        .zip(usize::try_from(section.len).ok());
    let range = range.and_then(|(start, len)| Some(start..start.checked_add(len)?));
    let Some(range) = range.filter(|range| range.end <= bytes.len()) else {
        return Err((section.offset, format!("the {name} lies outside of the file")));
    };
    let part = bytes.slice(range);
    if crc32c::crc32c(&part) != section.crc {
        let end = section.offset + section.len;
        return Err((
            section.offset,
            format!("the {name} up to byte {end} fails its checksum"),
        ));
    }
    Ok(part)
}

fn take_pages(bytes: &[u8]) -> Result<Vec<Page>, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let (mut pages, mut offset) = (Vec::new(), 0u64);
    while !cursor.is_empty() {
        let page = Page {
            offset,
            len: cursor.id()?,
            crc: cursor.u32()?,
        };
        offset = offset
            .checked_add(u64::from(page.len))
            .ok_or(DecodeError::Malformed("page"))?;
        pages.push(page);
    }
    Ok(pages)
}
