//! Writing a file of cells.

use bytes::Bytes;

use super::{FOOT_BYTES, HEAD_BYTES, MAGIC, PAGE_ROWS, VERSION, ZSTD_LEVEL};
use crate::events::cells::{CELL_METRICS, Counts, Cube};
use crate::model::wire::{put_bytes, put_signed, put_varint};

/// Takes sorted rows and gives the file's bytes.
pub(crate) struct TableWriter {
    cubes: Vec<Cube>,
    out: Vec<u8>,
    /// The index entries of the pages so far.
    pages: Vec<u8>,
    page_count: usize,
    page: PageRows,
    /// The last row, to check the order.
    last: Option<(usize, Vec<u8>, i64)>,
}

/// The rows of the page that is being filled.
#[derive(Default)]
struct PageRows {
    cube: usize,
    first_key: Vec<u8>,
    /// `shared | rest` of each run, with its rows.
    runs: Vec<(usize, Vec<u8>, usize)>,
    key: Vec<u8>,
    buckets: Vec<i64>,
    numbers: Vec<Counts>,
    people: Vec<u8>,
    has_people: bool,
}

impl TableWriter {
    /// Begins a file that covers these cubes, with rows or without.
    pub(crate) fn new(cubes: Vec<Cube>) -> TableWriter {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        debug_assert_eq!(out.len(), HEAD_BYTES);
        TableWriter {
            cubes,
            out,
            pages: Vec::new(),
            page_count: 0,
            page: PageRows::default(),
            last: None,
        }
    }

    /// Appends a row.
    ///
    /// # Panics
    /// When rows do not rise by cube, key and bucket.
    pub(crate) fn push(&mut self, cube: usize, key: &[u8], bucket: i64, counts: &Counts, people: &[u8]) {
        if let Some((last_cube, last_key, last_bucket)) = &self.last {
            assert!(
                (*last_cube, last_key.as_slice(), *last_bucket) < (cube, key, bucket),
                "cells out of order"
            );
        }
        if self.page.cube != cube || self.page.buckets.len() >= PAGE_ROWS {
            self.end_page();
        }
        let last = self.last.get_or_insert_default();
        (last.0, last.2) = (cube, bucket);
        last.1.clear();
        last.1.extend_from_slice(key);
        self.page.cube = cube;
        self.page.push(key, bucket, counts, people);
    }

    fn end_page(&mut self) {
        if self.page.buckets.is_empty() {
            return;
        }
        let page = std::mem::take(&mut self.page);
        let numbers = pack(&page.encode());
        let people = if page.has_people {
            pack(&page.people)
        } else {
            Vec::new()
        };
        let min = page.buckets.iter().min().copied().unwrap_or(0);
        let max = page.buckets.iter().max().copied().unwrap_or(0);
        let entry = &mut self.pages;
        put_varint(entry, page.cube as u64);
        put_varint(entry, page.buckets.len() as u64);
        put_bytes(entry, &page.first_key);
        put_signed(entry, min);
        put_signed(entry, max - min);
        put_varint(entry, self.out.len() as u64);
        for part in [&numbers, &people] {
            put_varint(entry, part.len() as u64);
            entry.extend_from_slice(&crc32c::crc32c(part).to_le_bytes());
            self.out.extend_from_slice(part);
        }
        self.page_count += 1;
    }

    /// Ends the file and returns it.
    pub(crate) fn finish(mut self) -> Bytes {
        self.end_page();
        let mut index = Vec::new();
        put_varint(&mut index, self.cubes.len() as u64);
        for cube in &self.cubes {
            index.push(cube.domain as u8);
            index.push(u8::from(cube.people));
            put_varint(&mut index, cube.fields.len() as u64);
            index.extend(cube.fields.iter().map(|field| *field as u8));
        }
        put_varint(&mut index, self.page_count as u64);
        index.extend_from_slice(&self.pages);
        let packed = pack(&index);
        let offset = self.out.len();
        self.out.extend_from_slice(&packed);
        let from = self.out.len();
        self.out.extend_from_slice(&(offset as u64).to_le_bytes());
        let length = u32::try_from(packed.len()).expect("an index takes a few bytes a page");
        self.out.extend_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c(&self.out[offset..]);
        self.out.extend_from_slice(&crc.to_le_bytes());
        self.out.extend_from_slice(MAGIC);
        debug_assert_eq!(self.out.len() - from, FOOT_BYTES);
        self.out.into()
    }
}

impl PageRows {
    fn push(&mut self, key: &[u8], bucket: i64, counts: &Counts, people: &[u8]) {
        if self.buckets.is_empty() {
            self.first_key = key.to_vec();
        }
        match self.runs.last_mut() {
            Some(run) if self.key == key => run.2 += 1,
            _ => {
                let shared = self.key.iter().zip(key).take_while(|(a, b)| a == b).count();
                self.runs.push((shared, key[shared..].to_vec(), 1));
                self.key.clear();
                self.key.extend_from_slice(key);
            }
        }
        self.buckets.push(bucket);
        self.numbers.push(*counts);
        put_bytes(&mut self.people, people);
        self.has_people |= !people.is_empty();
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.runs.len() as u64);
        for (shared, rest, rows) in &self.runs {
            put_varint(&mut out, *shared as u64);
            put_bytes(&mut out, rest);
            put_varint(&mut out, *rows as u64);
        }
        let mut before = 0i64;
        for bucket in &self.buckets {
            put_signed(&mut out, bucket.wrapping_sub(before));
            before = *bucket;
        }
        for metric in 0..CELL_METRICS {
            if self.numbers.iter().all(|counts| counts.0[metric] == 0) {
                out.push(0);
                continue;
            }
            out.push(1);
            self.numbers
                .iter()
                .for_each(|counts| put_signed(&mut out, counts.0[metric]));
        }
        out
    }
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, ZSTD_LEVEL).expect("compressing memory into memory has no way to fail")
}
