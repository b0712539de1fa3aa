//! A page of sealed chunks, as bytes and back. Pure: no I/O.
//!
//! ```text
//! file:   "CAMPCHNK" | version u32 = 1 | page size u32 | crc32c u32 of the 16 before | zeroes to 64 | pages, a page size apart
//! page:   number u64 | used bytes u32 | crc32c u32 of the 12 before | records
//! record: length u16 | crc32c u32 of the payload | payload
//! chunk:  0 | previous u64 | count v | first z | 0, step z  or  1, offset u32, length u16 | values
//! times:  1 | first z | step z | packed                                             little-endian
//! ```
//! A chunk names the one before it of the same series. Series that are scraped together share their times: a column that
//! stands on no grid is a record of its own, once in each page. What `values` and `packed` are, `sealed` says.

use std::collections::HashMap;
use std::num::NonZeroU64;

use super::open::CHUNK_SAMPLES_MAX;
use super::sealed::{decode_times, decode_values, encode_times, encode_values};
use crate::tsdb::block::wire::{Cursor, DecodeError, put_signed, put_varint};

pub(super) const FILE_HEADER_BYTES: usize = 64;
pub(super) const PAGE_HEADER_BYTES: usize = 16;
pub(super) const RECORD_HEADER_BYTES: usize = 6;
/// Offsets have 20 bits.
pub(super) const PAGE_BYTES_MAX: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"CAMPCHNK";
const VERSION: u32 = 1;
const CHUNK: u8 = 0;
const TIMES: u8 = 1;
const GRID: u8 = 0;
const SHARED: u8 = 1;

/// Where a chunk is: page (28 bits), offset (20 bits) and length of its payload (16 bits). Later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChunkAt(NonZeroU64);

impl ChunkAt {
    fn new(page: u64, offset: usize, len: usize) -> ChunkAt {
        let word = (page << 36) | ((offset as u64) << 16) | len as u64;
        ChunkAt(NonZeroU64::new(word).expect("no payload is empty"))
    }

    pub(crate) fn from_u64(word: u64) -> Option<ChunkAt> {
        NonZeroU64::new(word).map(ChunkAt)
    }

    pub(crate) fn to_u64(self) -> u64 {
        self.0.get()
    }

    pub(super) fn page(self) -> u64 {
        self.0.get() >> 36
    }

    /// Where its record begins in the page.
    pub(super) fn offset(self) -> usize {
        (self.0.get() >> 16) as usize & (PAGE_BYTES_MAX - 1)
    }

    /// The length of the whole record.
    pub(super) fn record_bytes(self) -> usize {
        RECORD_HEADER_BYTES + (self.0.get() & 0xffff) as usize
    }

    /// Another record of the same page.
    fn beside(self, offset: u32, len: u16) -> ChunkAt {
        ChunkAt::new(
            self.page(),
            offset as usize & (PAGE_BYTES_MAX - 1),
            usize::from(len.max(1)),
        )
    }
}

/// A chunk, packed outside of any lock.
pub(super) struct Packed {
    first: i64,
    count: u32,
    times: Vec<u8>,
    on_grid: bool,
    values: Vec<u8>,
}

impl Packed {
    /// Packs samples; there is at least one, and times rise.
    pub(super) fn new(times: &[i64], values: &[f64]) -> Packed {
        assert!(!times.is_empty() && times.len() <= CHUNK_SAMPLES_MAX as usize);
        let (mut column, mut packed) = (vec![TIMES], Vec::with_capacity(128));
        let on_grid = encode_times(times, &mut column);
        encode_values(values, &mut packed);
        Packed {
            first: times[0],
            count: times.len() as u32,
            times: column,
            on_grid,
            values: packed,
        }
    }
}

/// The page that chunks are appended to.
pub(super) struct PageWriter {
    pub(super) number: u64,
    size: usize,
    pub(super) bytes: Vec<u8>,
    /// The columns of times in this page, by their hash.
    times: HashMap<u64, (u32, u16)>,
    /// The largest first time of its chunks.
    pub(super) newest: i64,
}

impl PageWriter {
    pub(super) fn new(number: u64, size: usize) -> PageWriter {
        let mut bytes = Vec::with_capacity(size);
        bytes.resize(PAGE_HEADER_BYTES, 0);
        PageWriter {
            number,
            size,
            bytes,
            times: HashMap::new(),
            newest: i64::MIN,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == PAGE_HEADER_BYTES
    }

    /// Appends a chunk; `None` when the page has no room for it.
    pub(super) fn push(&mut self, previous: Option<ChunkAt>, chunk: &Packed) -> Option<ChunkAt> {
        // Kind, address, count, first time and times take 35 bytes at most.
        let needed = 2 * RECORD_HEADER_BYTES + chunk.times.len() + 35 + chunk.values.len();
        if self.bytes.len() + needed > self.size && !self.is_empty() {
            return None;
        }
        let shared = (!chunk.on_grid).then(|| self.share(&chunk.times));
        let mut payload = Vec::with_capacity(35 + chunk.values.len());
        payload.push(CHUNK);
        payload.extend(previous.map_or(0, ChunkAt::to_u64).to_le_bytes());
        put_varint(&mut payload, u64::from(chunk.count));
        match shared {
            None => {
                let mut times = Cursor::new(&chunk.times[1..]);
                let grid = times.signed().and_then(|first| Ok((first, times.signed()?)));
                let (first, step) = grid.expect("the column was just written");
                put_signed(&mut payload, first);
                payload.push(GRID);
                put_signed(&mut payload, step);
            }
            Some((offset, len)) => {
                put_signed(&mut payload, chunk.first);
                payload.push(SHARED);
                payload.extend(offset.to_le_bytes());
                payload.extend(len.to_le_bytes());
            }
        }
        payload.extend_from_slice(&chunk.values);
        self.newest = self.newest.max(chunk.first);
        let offset = self.record(&payload);
        Some(ChunkAt::new(self.number, offset, payload.len()))
    }

    /// Returns where this column of times is, writing it when it is new.
    fn share(&mut self, column: &[u8]) -> (u32, u16) {
        let key = xxhash_rust::xxh3::xxh3_64(column);
        if let Some((offset, len)) = self.times.get(&key) {
            let start = *offset as usize + RECORD_HEADER_BYTES;
            if self.bytes[start..start + usize::from(*len)] == *column {
                return (*offset, *len);
            }
        }
        let place = (self.record(column) as u32, column.len() as u16);
        self.times.insert(key, place);
        place
    }

    fn record(&mut self, payload: &[u8]) -> usize {
        let offset = self.bytes.len();
        let len = u16::try_from(payload.len()).expect("120 samples take less than 64 KiB");
        self.bytes.extend(len.to_le_bytes());
        self.bytes.extend(crc32c::crc32c(payload).to_le_bytes());
        self.bytes.extend_from_slice(payload);
        offset
    }

    /// Ends the page: its bytes as the file has them.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let used = self.bytes.len() as u32;
        self.bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&used.to_le_bytes());
        let crc = crc32c::crc32c(&self.bytes[..12]);
        self.bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        self.bytes.shrink_to_fit();
        self.bytes
    }
}

/// Returns a record's payload; `None` when length or checksum do not fit.
pub(super) fn payload(record: &[u8]) -> Option<&[u8]> {
    let (header, payload) = record.split_first_chunk::<RECORD_HEADER_BYTES>()?;
    let len = u16::from_le_bytes([header[0], header[1]]);
    let crc = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
    (payload.len() == usize::from(len) && crc32c::crc32c(payload) == crc).then_some(payload)
}

/// Where a chunk's times are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Times {
    Grid { step: i64 },
    Shared(ChunkAt),
}

/// A chunk before its columns are decoded.
#[derive(Debug)]
pub(super) struct Chunk<'a> {
    pub(super) previous: Option<ChunkAt>,
    pub(super) first: i64,
    pub(super) times: Times,
    count: usize,
    values: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Reads the payload of the record at `at`.
    pub(super) fn read(at: ChunkAt, payload: &'a [u8]) -> Result<Chunk<'a>, DecodeError> {
        let mut cursor = Cursor::new(payload);
        if cursor.byte()? != CHUNK {
            return Err(DecodeError::Malformed("kind of record"));
        }
        let previous = ChunkAt::from_u64(cursor.u64()?);
        if previous.is_some_and(|previous| previous >= at) {
            return Err(DecodeError::Malformed("previous chunk"));
        }
        let (count, first) = (cursor.size()?, cursor.signed()?);
        if count == 0 || count > CHUNK_SAMPLES_MAX as usize {
            return Err(DecodeError::Malformed("count of samples"));
        }
        let times = match cursor.byte()? {
            GRID => Times::Grid { step: cursor.signed()? },
            SHARED => {
                let offset = cursor.u32()?;
                Times::Shared(at.beside(offset, u16::from_le_bytes(cursor.array()?)))
            }
            _ => return Err(DecodeError::Malformed("form of times")),
        };
        Ok(Chunk {
            previous,
            first,
            times,
            count,
            values: cursor.rest(),
        })
    }

    /// Appends times and values to the columns; `shared` is the payload that [`Chunk::times`] points to.
    pub(super) fn decode(&self, shared: &[u8], times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), DecodeError> {
        match self.times {
            Times::Grid { step } => {
                let grid = |at: usize| self.first.wrapping_add(step.wrapping_mul(at as i64));
                times.extend((0..self.count).map(grid));
            }
            Times::Shared(_) => match shared.split_first() {
                Some((&TIMES, column)) => decode_times(column, self.count, times)?,
                _ => return Err(DecodeError::Malformed("kind of record")),
            },
        }
        decode_values(self.values, self.count, values)
    }
}

/// Returns the header of a file with pages of this size.
pub(super) fn file_header(page_bytes: usize) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&(page_bytes as u32).to_le_bytes());
    let crc = crc32c::crc32c(&header[..16]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Walks through a whole file and calls `problem` with each range of bytes that is not as it was written. Returns how many
/// records are sound.
pub(crate) fn scan_file(bytes: &[u8], problem: &mut dyn FnMut(std::ops::Range<usize>, &str)) -> u64 {
    let Some(size) = page_size(bytes) else {
        problem(0..FILE_HEADER_BYTES.min(bytes.len()), "the header fails its checksum");
        return 0;
    };
    let mut sound = 0;
    for start in (FILE_HEADER_BYTES..bytes.len()).step_by(size) {
        let page = &bytes[start..bytes.len().min(start + size)];
        let Some(used) = page_used(page) else {
            problem(start..start + page.len(), "the page's header fails its checksum");
            continue;
        };
        let mut at = PAGE_HEADER_BYTES;
        while at < used {
            let len = page
                .get(at..at + 2)
                .map_or(0, |len| u16::from_le_bytes([len[0], len[1]]));
            let end = at + RECORD_HEADER_BYTES + usize::from(len);
            let Some(record) = page.get(at..end).filter(|_| end <= used) else {
                problem(start + at..start + used, "a record's length is wrong");
                break;
            };
            match payload(record) {
                Some(payload) if is_sound(start, at, payload) => sound += 1,
                Some(_) => problem(start + at..start + end, "a record cannot be decoded"),
                None => problem(start + at..start + end, "a record fails its checksum"),
            }
            at = end;
        }
    }
    sound
}

fn page_size(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..FILE_HEADER_BYTES)?;
    let size = u32::from_le_bytes([header[12], header[13], header[14], header[15]]) as usize;
    let sizes = PAGE_HEADER_BYTES + 1..=PAGE_BYTES_MAX;
    (sizes.contains(&size) && header == file_header(size)).then_some(size)
}

fn page_used(page: &[u8]) -> Option<usize> {
    let mut cursor = Cursor::new(page.get(..PAGE_HEADER_BYTES)?);
    cursor.take(8).ok()?;
    let (used, crc) = (cursor.u32().ok()? as usize, cursor.u32().ok()?);
    (crc32c::crc32c(&page[..12]) == crc && used >= PAGE_HEADER_BYTES && used <= page.len()).then_some(used)
}

/// Whether a record that fits its checksum is one that this program could have written, as far as it shows by itself.
fn is_sound(page: usize, offset: usize, payload: &[u8]) -> bool {
    match payload.first() {
        Some(&TIMES) => payload.len() > 1,
        Some(&CHUNK) => {
            let at = ChunkAt::new(
                (1 << 28) - 1,
                (page + offset) & (PAGE_BYTES_MAX - 1),
                payload.len() & 0xffff,
            );
            Chunk::read(at, payload)
                .is_ok_and(|chunk| decode_values(chunk.values, chunk.count, &mut Vec::new()).is_ok())
        }
        _ => false,
    }
}

/// Takes any bytes as a file of chunks, for fuzzing: whatever they are, no panic.
pub(super) fn decode_any(bytes: &[u8]) {
    scan_file(bytes, &mut |_, _| {});
    let at = ChunkAt::new(1, 1, 1);
    if let Ok(chunk) = Chunk::read(at, bytes) {
        let _ = chunk.decode(bytes.get(20..).unwrap_or_default(), &mut Vec::new(), &mut Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(pages: Vec<Vec<u8>>, size: usize) -> Vec<u8> {
        let mut bytes = file_header(size).to_vec();
        for page in pages {
            bytes.extend(&page);
            bytes.resize(bytes.len() + size - page.len(), 0);
        }
        bytes
    }

    fn sample_file() -> Vec<u8> {
        let mut writer = PageWriter::new(7, 512);
        let jittered = [0, 15_003, 29_999, 45_001];
        let a = writer.push(None, &Packed::new(&[1000, 2000, 3000], &[10.5, 11.5, f64::NAN]));
        let b = writer.push(a, &Packed::new(&jittered, &[1.0, 2.0, 4.0, 8.0]));
        writer
            .push(b, &Packed::new(&jittered, &[0.1, 0.2, 1e300, 7.0]))
            .unwrap();
        file(vec![writer.finish()], 512)
    }

    #[test]
    fn the_format_is_pinned() {
        let hex: String = sample_file().iter().map(|byte| format!("{byte:02x}")).collect();
        crate::tsdb::testing::golden("chunk_file.txt", &format!("{}\n", hex.trim_end_matches('0')));
    }

    #[test]
    fn equal_times_are_kept_once_in_a_page() {
        let mut writer = PageWriter::new(1, 4096);
        let times: Vec<i64> = (0..100).map(|i| i * 15_000 + i % 3).collect();
        let mut push = |value: f64| {
            let before = writer.bytes.len();
            writer.push(None, &Packed::new(&times, &[value; 100])).unwrap();
            writer.bytes.len() - before
        };
        let (first, second) = (push(1.0), push(2.0));
        assert!(second < 40 && first > second + 40, "{first} bytes, then {second}");
    }

    #[test]
    fn a_flipped_bit_is_found_and_named() {
        let sound = sample_file();
        let mut problems = 0;
        assert_eq!((scan_file(&sound, &mut |_, _| problems += 1), problems), (4, 0));
        let used = FILE_HEADER_BYTES + page_used(&sound[FILE_HEADER_BYTES..]).unwrap();
        for bit in 0..used * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut found = Vec::new();
            scan_file(&bytes, &mut |range, _| found.push(range));
            assert!(
                found.iter().any(|range| range.contains(&(bit / 8))),
                "bit {bit}: {found:?}"
            );
        }
        for len in 0..used {
            let mut found = 0;
            scan_file(&sound[..len], &mut |_, _| found += 1);
            assert!(found > 0 || len == FILE_HEADER_BYTES, "{len} bytes pass for all");
        }
    }

    proptest! {
        #[test]
        fn chunks_read_back(
            chunks in proptest::collection::vec(
                proptest::collection::vec((1..100_000i64, any::<u64>().prop_map(f64::from_bits)), 1..120),
                1..8,
            ),
        ) {
            let mut writer = PageWriter::new(3, PAGE_BYTES_MAX);
            let mut written: Vec<(ChunkAt, Vec<i64>, Vec<f64>)> = Vec::new();
            for samples in &chunks {
                let mut last = -50_000;
                let times: Vec<i64> = samples.iter().map(|(step, _)| { last += step; last }).collect();
                let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
                let previous = written.last().map(|(at, ..)| *at);
                let at = writer.push(previous, &Packed::new(&times, &values)).unwrap();
                written.push((at, times, values));
            }
            let page = writer.finish();
            let record = |at: ChunkAt| payload(&page[at.offset()..at.offset() + at.record_bytes()]).unwrap();
            let mut previous = None;
            for (at, times, values) in written {
                let chunk = Chunk::read(at, record(at)).unwrap();
                prop_assert_eq!(chunk.previous, previous);
                let shared = match chunk.times { Times::Shared(at) => record(at), Times::Grid { .. } => &[] };
                let (mut read_times, mut read_values) = (Vec::new(), Vec::new());
                chunk.decode(shared, &mut read_times, &mut read_values).unwrap();
                prop_assert_eq!(read_times, times);
                let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&read_values), bits(&values));
                previous = Some(at);
            }
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), damage in any::<u16>()) {
            decode_any(&bytes);
            let mut file = sample_file();
            let at = usize::from(damage) % file.len();
            file.truncate(at + 1);
            file.extend(&bytes);
            decode_any(&file);
        }
    }
}
