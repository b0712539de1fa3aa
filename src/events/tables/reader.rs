//! Reading a file of cells.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{FOOT_BYTES, HEAD_BYTES, MAGIC, PAGE_ROWS, PageCache, VERSION};
use crate::events::Field;
use crate::events::cells::{CELL_METRICS, CellMetric, Counts, Cube};
use crate::events::record::Domain;
use crate::model::wire::{Cursor, DecodeError};

/// The most that a page or an index may unpack to, in bytes.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// Why a file of cells cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cells in {file}, byte {offset}: {reason}")]
pub(crate) struct TableError {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) reason: String,
}

/// An open file of cells.
pub(crate) struct Table {
    name: String,
    /// Names the table in the cache; never used twice by a process.
    id: u64,
    bytes: Bytes,
    cubes: Vec<Cube>,
    pages: Vec<PageMeta>,
}

struct PageMeta {
    cube: usize,
    rows: usize,
    first_key: Box<[u8]>,
    min: i64,
    max: i64,
    offset: u64,
    numbers: (u32, u32),
    people: (u32, u32),
}

/// A decoded page.
pub(crate) struct Page {
    keys: Vec<u8>,
    /// For each run, where its key ends in `keys` and where its rows end.
    runs: Vec<(u32, u32)>,
    buckets: Vec<i64>,
    columns: [Option<Vec<i64>>; CELL_METRICS],
}

impl Page {
    /// Returns a row's bucket.
    pub(crate) fn bucket(&self, row: usize) -> i64 {
        self.buckets[row]
    }

    /// Returns one number of a row.
    pub(crate) fn number(&self, metric: CellMetric, row: usize) -> i64 {
        self.columns[metric as usize].as_ref().map_or(0, |column| column[row])
    }

    /// Returns the sum of one number over rows.
    pub(crate) fn sum(&self, metric: CellMetric, rows: Range<usize>) -> i64 {
        let column = self.columns[metric as usize].as_ref();
        column.map_or(0, |column| column[rows].iter().sum())
    }

    /// Returns all numbers of a row.
    pub(crate) fn counts(&self, row: usize) -> Counts {
        let mut counts = Counts::default();
        for (number, column) in counts.0.iter_mut().zip(&self.columns) {
            *number = column.as_ref().map_or(0, |column| column[row]);
        }
        counts
    }

    /// Returns the runs: key and rows.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&[u8], Range<usize>)> {
        let mut start = (0, 0);
        self.runs.iter().map(move |&(key_end, row_end)| {
            let run = (
                &self.keys[start.0 as usize..key_end as usize],
                start.1 as usize..row_end as usize,
            );
            start = (key_end, row_end);
            run
        })
    }

    /// Returns about how many bytes the page takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let columns = self.columns.iter().flatten().count();
        self.keys.len() + self.runs.len() * 8 + self.buckets.len() * 8 * (1 + columns) + 256
    }
}

/// Called with a key and its rows of a page.
pub(crate) type VisitRows<'v> = dyn FnMut(&[u8], &Page, Range<usize>) + 'v;
/// Called with key, bucket and encoded people of a row.
pub(crate) type VisitEncoded<'v> = dyn FnMut(&[u8], i64, &[u8]) + 'v;

impl Table {
    /// Opens a file; pages are checked when they are read.
    ///
    /// # Errors
    /// [`TableError`] when index or frame are damaged.
    pub(crate) fn open(name: String, bytes: Bytes) -> Result<Table, TableError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let index = index_of(&bytes).map_err(|reason| TableError {
            file: name.clone(),
            offset: bytes.len().saturating_sub(FOOT_BYTES) as u64,
            reason,
        })?;
        let parsed = parse_index(&index).map_err(|error| TableError {
            file: name.clone(),
            offset: 0,
            reason: format!("index: {error}"),
        })?;
        Ok(Table {
            name,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            bytes,
            cubes: parsed.0,
            pages: parsed.1,
        })
    }

    /// Returns the object's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the cubes that the file covers.
    pub(crate) fn cubes(&self) -> &[Cube] {
        &self.cubes
    }

    /// Calls `visit` with key, page and rows of the cube's runs whose key begins with `prefix`, cut to buckets in
    /// `from..to`; in the order of keys. A key may come twice in a row, once from each of two pages.
    ///
    /// # Errors
    /// [`TableError`] when a page is damaged.
    pub(crate) fn visit(
        &self,
        cache: &PageCache,
        cube: &Cube,
        prefix: &[u8],
        from: i64,
        to: i64,
        visit: &mut VisitRows<'_>,
    ) -> Result<(), TableError> {
        for number in self.pages_of(cube, prefix, from, to) {
            let page = cache.get((self.id, number), || self.page(number))?;
            each_run(&page, prefix, from, to, &mut |key, rows| visit(key, &page, rows));
        }
        Ok(())
    }

    /// Calls `visit` with key, bucket and encoded people of the rows that have some.
    ///
    /// # Errors
    /// As [`Table::visit`].
    pub(crate) fn people(
        &self,
        cube: &Cube,
        prefix: &[u8],
        from: i64,
        to: i64,
        visit: &mut VisitEncoded<'_>,
    ) -> Result<(), TableError> {
        for number in self.pages_of(cube, prefix, from, to) {
            if self.pages[number].people.0 == 0 {
                continue;
            }
            let page = self.page(number)?;
            let people = self.people_of(number)?;
            each_run(&page, prefix, from, to, &mut |key, rows| {
                for row in rows.filter(|row| !people[*row].is_empty()) {
                    visit(key, page.bucket(row), &people[row]);
                }
            });
        }
        Ok(())
    }

    /// Returns the pages that may hold such rows.
    fn pages_of(&self, cube: &Cube, prefix: &[u8], from: i64, to: i64) -> impl Iterator<Item = usize> {
        let cube = self.cubes.iter().position(|own| own == cube);
        let first = cube.map_or(self.pages.len(), |cube| {
            let before = |page: &PageMeta| (page.cube, &*page.first_key) < (cube, prefix);
            self.pages.partition_point(before).saturating_sub(1)
        });
        let wanted = move |page: &PageMeta| {
            let beyond = &*page.first_key > prefix && !page.first_key.starts_with(prefix);
            Some(page.cube) == cube && !beyond
        };
        let pages = self.pages.iter().enumerate().skip(first);
        let pages = pages.take_while(move |(number, page)| *number == first || wanted(page));
        pages
            .filter(move |(_, page)| wanted(page) && page.min < to && page.max >= from)
            .map(|(number, _)| number)
    }

    /// Returns how many pages there are.
    pub(crate) fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Returns the cube of a page.
    pub(crate) fn page_cube(&self, number: usize) -> usize {
        self.pages[number].cube
    }

    /// Reads a page.
    ///
    /// # Errors
    /// [`TableError`] when it is damaged.
    pub(crate) fn page(&self, number: usize) -> Result<Arc<Page>, TableError> {
        let meta = &self.pages[number];
        let unpacked = self.block(meta.offset, meta.numbers)?;
        let page = parse_page(&unpacked, meta.rows).map_err(|error| self.damaged(meta.offset, &error.to_string()))?;
        Ok(Arc::new(page))
    }

    /// Reads the people of a page's rows; empty for rows (or pages) without.
    ///
    /// # Errors
    /// [`TableError`] when they are damaged.
    pub(crate) fn people_of(&self, number: usize) -> Result<Vec<Vec<u8>>, TableError> {
        let meta = &self.pages[number];
        if meta.people.0 == 0 {
            return Ok(vec![Vec::new(); meta.rows]);
        }
        let offset = meta.offset + u64::from(meta.numbers.0);
        let unpacked = self.block(offset, meta.people)?;
        let mut cursor = Cursor::new(&unpacked);
        let rows = (0..meta.rows).map(|_| cursor.bytes().map(<[u8]>::to_vec));
        rows.collect::<Result<_, _>>()
            .map_err(|error| self.damaged(offset, &error.to_string()))
    }

    fn block(&self, offset: u64, (length, crc): (u32, u32)) -> Result<Vec<u8>, TableError> {
        let range = offset as usize..(offset as usize).saturating_add(length as usize);
        let bytes = self
            .bytes
            .get(range)
            .ok_or_else(|| self.damaged(offset, "beyond the file's end"))?;
        if crc32c::crc32c(bytes) != crc {
            return Err(self.damaged(offset, "the page fails its checksum"));
        }
        unpack(bytes).map_err(|reason| self.damaged(offset, &reason))
    }

    fn damaged(&self, offset: u64, reason: &str) -> TableError {
        TableError {
            file: self.name.clone(),
            offset,
            reason: reason.to_owned(),
        }
    }
}

fn each_run(page: &Page, prefix: &[u8], from: i64, to: i64, visit: &mut dyn FnMut(&[u8], Range<usize>)) {
    for (key, rows) in page.runs() {
        if !key.starts_with(prefix) {
            if key > prefix {
                return;
            }
            continue;
        }
        let buckets = &page.buckets[rows.clone()];
        let start = rows.start + buckets.partition_point(|bucket| *bucket < from);
        let end = rows.start + buckets.partition_point(|bucket| *bucket < to);
        if start < end {
            visit(key, start..end);
        }
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let bound = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten();
    let bound = bound.filter(|bound| *bound <= UNPACKED_BYTES_MAX as u64);
    let bound = bound.ok_or("no length, or an absurd one")?;
    zstd::bulk::decompress(bytes, bound as usize).map_err(|error| error.to_string())
}

fn index_of(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let foot_at = bytes.len().checked_sub(FOOT_BYTES).filter(|at| *at >= HEAD_BYTES);
    let foot_at = foot_at.ok_or("shorter than head and foot")?;
    if &bytes[..8] != MAGIC || &bytes[bytes.len() - 8..] != MAGIC {
        return Err("not a file of cells, or cut".to_owned());
    }
    let mut head = Cursor::new(&bytes[8..HEAD_BYTES]);
    let version = head.u32().map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("format version {version}, this program reads {VERSION}"));
    }
    let mut foot = Cursor::new(&bytes[foot_at..]);
    let read = |cursor: &mut Cursor<'_>| Ok::<_, DecodeError>((cursor.u64()?, cursor.u32()?, cursor.u32()?));
    let (offset, length, crc) = read(&mut foot).map_err(|error| error.to_string())?;
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    if start.saturating_add(length as usize) != foot_at {
        return Err("the index is not where the foot says".to_owned());
    }
    if crc32c::crc32c(&bytes[start..foot_at + 12]) != crc {
        return Err("the index fails its checksum".to_owned());
    }
    unpack(&bytes[start..foot_at])
}

fn parse_index(bytes: &[u8]) -> Result<(Vec<Cube>, Vec<PageMeta>), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let mut cubes = Vec::new();
    for _ in 0..cursor.size()? {
        let domain = Domain::from_number(cursor.byte()?).ok_or(DecodeError::Malformed("domain"))?;
        let people = cursor.byte()? != 0;
        let mut fields = Vec::new();
        for _ in 0..cursor.size()? {
            let field = Field::ALL.get(usize::from(cursor.byte()?));
            fields.push(*field.ok_or(DecodeError::Malformed("field"))?);
        }
        cubes.push(Cube { domain, fields, people });
    }
    let mut pages = Vec::new();
    for _ in 0..cursor.size()? {
        let (cube, rows) = (cursor.size()?, cursor.size()?);
        if cube >= cubes.len() || rows > PAGE_ROWS {
            return Err(DecodeError::Malformed("page"));
        }
        let first_key = cursor.bytes()?.into();
        let min = cursor.signed()?;
        pages.push(PageMeta {
            cube,
            rows,
            first_key,
            min,
            max: min.saturating_add(cursor.signed()?),
            offset: cursor.varint()?,
            numbers: (cursor.id()?, cursor.u32()?),
            people: (cursor.id()?, cursor.u32()?),
        });
    }
    cursor.finish("index")?;
    Ok((cubes, pages))
}

fn parse_page(bytes: &[u8], rows: usize) -> Result<Page, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let (mut keys, mut runs) = (Vec::<u8>::new(), Vec::new());
    let (mut key_start, mut row_end) = (0, 0);
    for _ in 0..cursor.size()? {
        let shared = cursor.size()?;
        let before = keys.get(key_start..).filter(|key| shared <= key.len());
        let before = before.ok_or(DecodeError::Malformed("key"))?[..shared].to_vec();
        key_start = keys.len();
        keys.extend_from_slice(&before);
        keys.extend_from_slice(cursor.bytes()?);
        row_end += cursor.size()?;
        if row_end > rows {
            return Err(DecodeError::Malformed("rows"));
        }
        runs.push((keys.len() as u32, row_end as u32));
    }
    if row_end != rows {
        return Err(DecodeError::Malformed("rows"));
    }
    let mut buckets = Vec::with_capacity(rows);
    let mut before = 0i64;
    for _ in 0..rows {
        before = before.wrapping_add(cursor.signed()?);
        buckets.push(before);
    }
    let mut columns = [const { None }; CELL_METRICS];
    for column in &mut columns {
        if cursor.byte()? != 0 {
            *column = Some((0..rows).map(|_| cursor.signed()).collect::<Result<_, _>>()?);
        }
    }
    cursor.finish("page")?;
    Ok(Page {
        keys,
        runs,
        buckets,
        columns,
    })
}
