//! The head as a file: written when the server stops in order, read when it starts again, so that the log need not be.
//!
//! ```text
//! head.snapshot: "CAMPHEAD" | version u32 = 1 | sections | 0 u8 | crc32c u32 over all before        little-endian
//! section:       kind u8 | length u32 | payload                                        v = varint, z = zigzag varint
//! 1 LOG          position u64 | ( first position of a segment v | newest time in it z )*
//! 2 PAGES        ( number v | newest z | used v | file v | offset v )*       where sealed chunks are
//! 3 SERIES       ( labels: v bytes | newest: 0 or 1 + kind, z time, bits u64 | newest chunk u64 | oldest z | last z | chunks v |
//!                  late: v ( z time | bits u64 | z start )* | starts: v ( z time | z start )* | histograms: v bytes )*
//! 4 METADATA     as the log's record        5 EXEMPLARS  ( series: v bytes | z time | bits u64 | labels: v bytes )*
//! ```
//! It stands for the log up to its position and for nothing else: it is removed once it was read. Whatever is wrong with
//! it, a bit, a missing file, a log that ends earlier, the whole log is read instead.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::wire::{Cursor, DecodeError, put_bytes, put_signed, put_varint};
use super::chunk::{Chain, ChunkAt, PageRecord};
use super::record::{self, HistogramRecord, Newest, Record};
use crate::io::disk::{Disk, DiskFile};
use crate::io::log::Position;
use crate::model::{Exemplar, Labels, Millis};

const MAGIC: &[u8; 8] = b"CAMPHEAD";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;
const NAME: &str = "head.snapshot";
const NEW_NAME: &str = "head.snapshot.new";
/// How much is written at a time.
const WRITE_BYTES: usize = 1 << 20;

const END: u8 = 0;
pub(super) const LOG: u8 = 1;
pub(super) const PAGES: u8 = 2;
pub(super) const SERIES: u8 = 3;
pub(super) const METADATA: u8 = 4;
pub(super) const EXEMPLARS: u8 = 5;

/// A sample that came out of order: its time, bits and start time.
pub(crate) type SavedLate = (i64, u64, i64);

/// A series as a snapshot has it: no chunk is open.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SavedSeries {
    pub(crate) labels: Labels,
    pub(crate) newest: Option<Newest>,
    pub(crate) sealed: Chain,
    pub(crate) late: Vec<SavedLate>,
    pub(crate) starts: Vec<(i64, i64)>,
    pub(crate) histograms: Vec<HistogramRecord>,
}

/// Up to where a snapshot stands for the log, and what is known about its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SavedLog {
    pub(super) upto: Position,
    pub(super) newest: BTreeMap<u64, i64>,
}

impl SavedSeries {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.labels.as_encoded().as_bytes());
        record::put_newest(self.newest, out);
        out.extend(self.sealed.newest.map_or(0, ChunkAt::to_u64).to_le_bytes());
        put_signed(out, self.sealed.oldest);
        put_signed(out, self.sealed.last);
        put_varint(out, u64::from(self.sealed.count));
        put_varint(out, self.late.len() as u64);
        for (at, bits, start) in &self.late {
            put_signed(out, *at);
            out.extend(bits.to_le_bytes());
            put_signed(out, *start);
        }
        put_varint(out, self.starts.len() as u64);
        for (at, start) in &self.starts {
            put_signed(out, *at);
            put_signed(out, *start);
        }
        let mut histograms = Vec::new();
        for histogram in &self.histograms {
            record::put_histogram(histogram, 0, &mut histograms);
        }
        put_bytes(out, &histograms);
    }

    pub(super) fn take(cursor: &mut Cursor<'_>) -> Result<SavedSeries, DecodeError> {
        let labels = record::take_labels(cursor)?;
        let newest = record::take_newest(cursor)?;
        let sealed = Chain {
            newest: ChunkAt::from_u64(cursor.u64()?),
            oldest: cursor.signed()?,
            last: cursor.signed()?,
            count: cursor.id()?,
        };
        let late = (0..cursor.size()?).map(|_| Ok((cursor.signed()?, cursor.u64()?, cursor.signed()?)));
        let late = late.collect::<Result<_, DecodeError>>()?;
        let starts = (0..cursor.size()?).map(|_| Ok((cursor.signed()?, cursor.signed()?)));
        let starts = starts.collect::<Result<_, DecodeError>>()?;
        let mut rest = Cursor::new(cursor.bytes()?);
        let mut histograms = Vec::new();
        while !rest.is_empty() {
            histograms.push(record::take_histogram(&mut rest)?);
        }
        Ok(SavedSeries {
            labels,
            newest,
            sealed,
            late,
            starts,
            histograms,
        })
    }
}

impl SavedLog {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.upto.0.to_le_bytes().to_vec();
        for (first, newest) in &self.newest {
            put_varint(&mut out, *first);
            put_signed(&mut out, *newest);
        }
        out
    }

    fn decode(payload: &[u8]) -> Result<SavedLog, DecodeError> {
        let mut cursor = Cursor::new(payload);
        let upto = Position(cursor.u64()?);
        let mut newest = BTreeMap::new();
        while !cursor.is_empty() {
            newest.insert(cursor.varint()?, cursor.signed()?);
        }
        Ok(SavedLog { upto, newest })
    }
}

pub(super) fn encode_pages(pages: &[PageRecord]) -> Vec<u8> {
    let mut out = Vec::new();
    for page in pages {
        put_varint(&mut out, page.number);
        put_signed(&mut out, page.newest);
        put_varint(&mut out, u64::from(page.used));
        put_varint(&mut out, page.file);
        put_varint(&mut out, page.offset);
    }
    out
}

fn decode_pages(payload: &[u8]) -> Result<Vec<PageRecord>, DecodeError> {
    let mut cursor = Cursor::new(payload);
    let mut pages = Vec::new();
    while !cursor.is_empty() {
        pages.push(PageRecord {
            number: cursor.varint()?,
            newest: cursor.signed()?,
            used: cursor.id()?,
            file: cursor.varint()?,
            offset: cursor.varint()?,
        });
    }
    Ok(pages)
}

pub(super) fn encode_exemplars(exemplars: &[(Labels, Exemplar)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (series, exemplar) in exemplars {
        put_bytes(&mut out, series.as_encoded().as_bytes());
        put_signed(&mut out, exemplar.at.0);
        out.extend(exemplar.value.to_bits().to_le_bytes());
        put_bytes(&mut out, exemplar.labels.as_encoded().as_bytes());
    }
    out
}

fn decode_exemplars(payload: &[u8]) -> Result<Vec<(Labels, Exemplar)>, DecodeError> {
    let mut cursor = Cursor::new(payload);
    let mut exemplars = Vec::new();
    while !cursor.is_empty() {
        let series = record::take_labels(&mut cursor)?;
        let (at, value) = (Millis(cursor.signed()?), f64::from_bits(cursor.u64()?));
        let labels = record::take_labels(&mut cursor)?;
        exemplars.push((series, Exemplar { labels, value, at }));
    }
    Ok(exemplars)
}

/// A snapshot that is being written.
pub(super) struct SnapshotWriter<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
    crc: u32,
}

impl<'a> SnapshotWriter<'a> {
    /// Begins a snapshot in `dir`; it has no name there before [`SnapshotWriter::finish`].
    pub(super) fn create(disk: &'a dyn Disk, dir: &'a Path) -> io::Result<SnapshotWriter<'a>> {
        let path = dir.join(NEW_NAME);
        match disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut buffer = MAGIC.to_vec();
        buffer.extend(VERSION.to_le_bytes());
        Ok(SnapshotWriter {
            disk,
            dir,
            file: disk.create(&path)?,
            buffer,
            written: 0,
            crc: 0,
        })
    }

    pub(super) fn section(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).map_err(|_| io::Error::other("a section beyond 4 GiB"))?;
        self.buffer.push(kind);
        self.buffer.extend(len.to_le_bytes());
        self.buffer.extend_from_slice(payload);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes the snapshot durable, then gives it its name.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.buffer.push(END);
        self.flush()?;
        self.file.write_all_at(&self.crc.to_le_bytes(), self.written)?;
        self.file.sync()?;
        self.disk.rename(&self.dir.join(NEW_NAME), &self.dir.join(NAME))?;
        self.disk.sync_dir(self.dir)
    }
}

/// Returns where the snapshot of the store in `dir` is, or would be.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// A snapshot whose checksum fits.
pub(super) struct Snapshot {
    pub(super) log: SavedLog,
    pub(super) pages: Vec<PageRecord>,
    pub(super) metadata: Option<Record>,
    pub(super) exemplars: Vec<(Labels, Exemplar)>,
    series: Vec<std::ops::Range<usize>>,
    bytes: bytes::Bytes,
}

impl Snapshot {
    /// Reads a snapshot but for its series.
    pub(super) fn read(bytes: bytes::Bytes) -> Result<Snapshot, DecodeError> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(DecodeError::Truncated)?;
        if body.len() <= HEADER_BYTES || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(DecodeError::Malformed("checksum"));
        }
        if &body[..8] != MAGIC || body[8..HEADER_BYTES] != VERSION.to_le_bytes() {
            return Err(DecodeError::Malformed("magic or version"));
        }
        let (mut log, mut pages, mut series) = (None, Vec::new(), Vec::new());
        let (mut metadata, mut exemplars) = (None, Vec::new());
        let mut cursor = Cursor::new(&body[HEADER_BYTES..]);
        loop {
            let kind = cursor.byte()?;
            if kind == END {
                break;
            }
            let len = cursor.u32()? as usize;
            let start = body.len() - cursor.rest().len();
            let payload = cursor.take(len)?;
            match kind {
                LOG => log = Some(SavedLog::decode(payload)?),
                PAGES => pages = decode_pages(payload)?,
                SERIES => series.push(start..start + len),
                METADATA => metadata = Some(Record::decode(record::METADATA, payload)?),
                EXEMPLARS => exemplars = decode_exemplars(payload)?,
                _ => return Err(DecodeError::Malformed("kind of section")),
            }
        }
        cursor.finish("end of the snapshot")?;
        Ok(Snapshot {
            log: log.ok_or(DecodeError::Malformed("snapshot without a position"))?,
            pages,
            metadata,
            exemplars,
            series,
            bytes,
        })
    }

    /// Hands over every series, in order.
    pub(super) fn series(
        &self,
        visit: &mut dyn FnMut(SavedSeries) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for range in &self.series {
            let mut cursor = Cursor::new(&self.bytes[range.clone()]);
            while !cursor.is_empty() {
                visit(SavedSeries::take(&mut cursor)?)?;
            }
        }
        Ok(())
    }
}

/// Takes any bytes as a snapshot, for fuzzing: whatever they are, no panic.
pub(super) fn decode_snapshot(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    sealed.extend(crc32c::crc32c(bytes).to_le_bytes()); // What a checksum lets pass must be no danger either.
    if let Ok(snapshot) = Snapshot::read(sealed.into()) {
        let _ = snapshot.series(&mut |_| Ok(()));
    }
    let _ = SavedSeries::take(&mut Cursor::new(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::SimDisk;
    use proptest::prelude::*;

    fn series() -> impl Strategy<Value = SavedSeries> {
        let newest = proptest::option::of(
            (any::<i64>(), any::<u64>(), any::<bool>()).prop_map(|(at, bits, histogram)| Newest {
                at,
                bits,
                histogram,
            }),
        );
        let sealed =
            (any::<u64>(), any::<i64>(), any::<i64>(), any::<u32>()).prop_map(|(at, oldest, last, count)| Chain {
                newest: ChunkAt::from_u64(at),
                oldest,
                last,
                count,
            });
        let late = proptest::collection::vec(any::<SavedLate>(), 0..3);
        let starts = proptest::collection::vec(any::<(i64, i64)>(), 0..3);
        (
            proptest::collection::vec(("[a-z]{1,4}", ".{1,4}"), 0..4),
            newest,
            sealed,
            late,
            starts,
        )
            .prop_map(|(labels, newest, sealed, late, starts)| SavedSeries {
                labels: Labels::from_pairs(labels),
                newest,
                sealed,
                late,
                starts,
                histograms: Vec::new(),
            })
    }

    fn file(all: &[SavedSeries]) -> bytes::Bytes {
        let disk = SimDisk::seeded(1);
        disk.create_dir_all(Path::new("/d")).unwrap();
        let mut writer = SnapshotWriter::create(&disk, Path::new("/d")).unwrap();
        let log = SavedLog {
            upto: Position(300),
            newest: BTreeMap::from([(0, 5), (100, -7)]),
        };
        writer.section(LOG, &log.encode()).unwrap();
        let page = PageRecord {
            number: 9,
            newest: 1000,
            used: 77,
            file: 2,
            offset: 64,
        };
        writer.section(PAGES, &encode_pages(&[page])).unwrap();
        writer.section(EXEMPLARS, &encode_exemplars(&[exemplar()])).unwrap();
        let mut out = Vec::new();
        all.iter().for_each(|series| series.put(&mut out));
        writer.section(SERIES, &out).unwrap();
        writer.finish().unwrap();
        disk.map(&path(Path::new("/d"))).unwrap()
    }

    fn exemplar() -> (Labels, Exemplar) {
        let exemplar = Exemplar {
            labels: Labels::from_pairs([("trace_id", "ab")]),
            value: 0.25,
            at: Millis(999),
        };
        (Labels::from_pairs([("__name__", "up")]), exemplar)
    }

    fn one() -> SavedSeries {
        SavedSeries {
            labels: Labels::from_pairs([("__name__", "up"), ("job", "api")]),
            newest: Some(Newest {
                at: 1000,
                bits: 1.0f64.to_bits(),
                histogram: false,
            }),
            sealed: Chain {
                newest: ChunkAt::from_u64(0x1000),
                oldest: 500,
                last: 900,
                count: 2,
            },
            late: vec![(700, 2.0f64.to_bits(), 0)],
            starts: vec![(500, 400)],
            histograms: vec![HistogramRecord {
                series: 0,
                start: Millis(3),
                sample: crate::model::HistogramSample {
                    at: Millis(4),
                    histogram: Arc::default(),
                },
            }],
        }
    }

    #[test]
    fn the_format_is_pinned_and_reads_back() {
        let bytes = file(&[one()]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        crate::tsdb::testing::golden("head_snapshot.txt", &format!("{hex}\n"));
        let snapshot = Snapshot::read(bytes).unwrap();
        assert_eq!((snapshot.log.upto, snapshot.log.newest[&100]), (Position(300), -7));
        assert_eq!((snapshot.pages.len(), snapshot.pages[0].used), (1, 77));
        assert_eq!(snapshot.exemplars, [exemplar()]);
        let mut read = Vec::new();
        snapshot
            .series(&mut |series| {
                read.push(series);
                Ok(())
            })
            .unwrap();
        assert_eq!(read, [one()]);
    }

    #[test]
    fn a_prefix_or_a_flipped_bit_is_no_snapshot() {
        let bytes = file(&[one()]);
        for len in 0..bytes.len() {
            assert!(Snapshot::read(bytes.slice(..len)).is_err(), "{len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Snapshot::read(changed.into()).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn series_read_back(all in proptest::collection::vec(series(), 0..5)) {
            let snapshot = Snapshot::read(file(&all)).unwrap();
            let mut read = Vec::new();
            snapshot.series(&mut |series| { read.push(series); Ok(()) }).unwrap();
            prop_assert_eq!(read, all);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode_snapshot(&bytes);
            let mut headed = MAGIC.to_vec();
            headed.extend(VERSION.to_le_bytes());
            headed.extend(&bytes);
            decode_snapshot(&headed);
        }
    }
}
