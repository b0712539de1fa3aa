//! A directory of log segments: append, sync, rotate, trim, and what is found when it is opened again.
//!
//! ```text
//! {first seq, 20 digits}.log =  magic "CAMPLOG1" | version u32 = 1 | crc32c u32 | first seq u64 | bytes u64 |
//!                               zeroes to 64 | frames | zeroes to `bytes`                           little-endian
//! ```
//! A segment is written full of zeroes and synced before it gets its name, so an append changes no size and a file that
//! is shorter than it says was cut. Nothing is thrown away in silence: bytes that are no frame are copied to `quarantine/`
//! and reported as [`Damage`]; only then is a torn tail overwritten.
//!
//! This is the blocking, single-owner layer: [`super::FileLog`] and the time-series store's log each put a committer in
//! front of it.

mod read;
mod recover;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::frame;
use super::{LogError, Position};
use crate::io::disk::{Disk, DiskFile};

pub use read::{decode_any, read_file, verify_log};

const MAGIC: &[u8; 8] = b"CAMPLOG1";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 64;
/// How much of the next segment is zeroed at a time.
const PREPARE_BYTES: u64 = 1 << 20;
/// The smallest segment made when the disk is nearly full.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// The size of a log's first segment; each further one is twice as large, up to the configured size, so that a quiet log
/// stays small and a busy one rotates rarely.
const SEGMENT_BYTES_FIRST: u64 = 4 << 20;
const SPARE: &str = "spare.new";
/// Where bytes go that nobody can read.
const QUARANTINE: &str = "quarantine";

/// How a log uses its disk.
#[derive(Clone, Copy, Debug)]
pub struct SegmentOptions {
    /// The size of a segment; less on a nearly full disk, more for a record that needs it.
    pub segment_bytes: u64,
    /// Free space below which nothing is taken; `None` is the larger of 64 MiB and 1 % of the disk.
    pub reserve_bytes: Option<u64>,
}

impl Default for SegmentOptions {
    fn default() -> SegmentOptions {
        SegmentOptions {
            segment_bytes: 64 << 20,
            reserve_bytes: None,
        }
    }
}

/// A record as it is found when the log is opened or read.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its position.
    pub at: Position,
    /// What kind of record it is: the owner's own numbers.
    pub kind: u8,
    /// Its payload, checksum verified.
    pub payload: Bytes,
    /// The first position of its segment: records that share it stand in one file.
    pub segment: Position,
}

/// Bytes of a log that are no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Which bytes of it.
    pub bytes: Range<u64>,
    /// The positions that were lost; empty when it cannot be known whether there were any.
    pub lost: Range<u64>,
    /// What is wrong with them, and where a copy is.
    pub reason: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Damage {
            file,
            bytes,
            lost,
            reason,
        } = self;
        write!(f, "{file}: bytes {}..{}: {reason}", bytes.start, bytes.end)?;
        match lost.end - lost.start {
            0 => Ok(()),
            count => write!(f, "; {count} records lost, from {} on", lost.start),
        }
    }
}

/// What [`SegmentLog::open`] hands over, in order.
pub enum Replay<'a> {
    /// A file begins: the `index`-th of `count`.
    Segment {
        /// From 0 on.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A whole record.
    Record(Record),
    /// A stretch that cannot be read.
    Damage(&'a Damage),
}

struct Segment {
    path: PathBuf,
    first: u64,
    /// Where its frames end.
    used: u64,
}

struct Current {
    file: Arc<dyn DiskFile>,
    segment: Segment,
    bytes: u64,
}

struct Spare {
    file: Arc<dyn DiskFile>,
    bytes: u64,
    zeroed: u64,
}

/// A log's files, owned by one committer.
pub struct SegmentLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: SegmentOptions,
    older: Vec<Segment>,
    current: Option<Current>,
    spare: Option<Spare>,
    buffer: Vec<u8>,
    /// The position of the next record, buffered ones counted.
    next: u64,
    /// The position after the last record in the file.
    written: u64,
    unsynced: bool,
    closed: Option<String>,
}

impl SegmentLog {
    /// Returns the position of the next record.
    pub fn next(&self) -> Position {
        Position(self.next)
    }

    /// Returns the oldest position that the files may hold.
    pub fn first(&self) -> Position {
        let first = self.older.first().map(|segment| segment.first);
        Position(first.or(self.current_first()).unwrap_or(self.written))
    }

    /// Returns the first position of the segment that is written to, when there is one.
    pub fn segment(&self) -> Option<Position> {
        self.current_first().map(Position)
    }

    fn current_first(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.segment.first)
    }

    /// Appends nothing more to the present segment: the next record begins a new one.
    pub fn seal(&mut self) {
        self.older.extend(self.current.take().map(|current| current.segment));
    }

    /// Whether records with these payload lengths still fit into the present segment, behind what is buffered.
    pub fn has_room(&self, payload_bytes: impl IntoIterator<Item = usize>) -> bool {
        let needed: usize = payload_bytes.into_iter().map(frame::frame_bytes).sum();
        let Some(current) = &self.current else { return false };
        current.segment.used + (self.buffer.len() + needed) as u64 <= current.bytes
    }

    /// Buffers a record and returns its position. Not durable before [`SegmentLog::commit`].
    pub fn push(&mut self, kind: u8, payload: &[u8]) -> Position {
        frame::encode(self.next, kind, payload, &mut self.buffer);
        self.next += 1;
        Position(self.next - 1)
    }

    /// Says whether the log may take records now.
    ///
    /// # Errors
    /// [`LogError::Closed`] after a failed write, [`LogError::DiskFull`] while less than the reserve is free.
    pub fn check(&self) -> Result<(), LogError> {
        if let Some(reason) = &self.closed {
            return Err(LogError::Closed(reason.clone()));
        }
        let Ok(space) = self.disk.space(&self.dir) else {
            return Ok(());
        };
        let reserve = self
            .options
            .reserve_bytes
            .unwrap_or_else(|| (space.total / 100).max(64 << 20));
        if space.free < reserve {
            let text = format!(
                "{} bytes are free, the reserve is {reserve}; writes resume when there is more",
                space.free
            );
            return Err(LogError::DiskFull(text));
        }
        Ok(())
    }

    /// Writes what is buffered and makes it durable: one write, one sync.
    ///
    /// # Errors
    /// As [`SegmentLog::write`] and [`SegmentLog::sync`].
    pub fn commit(&mut self) -> Result<(), LogError> {
        self.write()?;
        self.sync()
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// [`LogError::Closed`], for ever: a sync that failed once proves nothing when it succeeds.
    pub fn sync(&mut self) -> Result<(), LogError> {
        let Some(current) = self.current.as_ref().filter(|_| self.unsynced) else {
            return Ok(());
        };
        if let Err(error) = current.file.sync() {
            return Err(self.close(&format!("sync failed: {error}")));
        }
        self.unsynced = false;
        Ok(())
    }

    /// Writes what is buffered: safe from a crash of this process, but not of the machine.
    ///
    /// # Errors
    /// [`LogError::DiskFull`], and the log is as it was; [`LogError::Closed`] after any other failure, for ever.
    ///
    /// # Panics
    /// When records were pushed that do not fit: the caller asks [`SegmentLog::has_room`] and rotates.
    pub fn write(&mut self) -> Result<(), LogError> {
        if let Some(reason) = &self.closed {
            return Err(LogError::Closed(reason.clone()));
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        let current = self
            .current
            .as_mut()
            .expect("records are pushed after `rotate` made a segment");
        assert!(
            current.segment.used + self.buffer.len() as u64 <= current.bytes,
            "records beyond the segment's end"
        );
        let at = current.segment.used;
        if let Err(error) = current.file.write_all_at(&self.buffer, at) {
            if error.kind() == io::ErrorKind::StorageFull {
                // Frames that nobody was promised must not turn up behind shorter ones.
                let zeroes = vec![0; self.buffer.len()];
                let wiped = current
                    .file
                    .write_all_at(&zeroes, at)
                    .and_then(|()| current.file.sync());
                if wiped.is_ok() {
                    self.next = self.written;
                    self.buffer.clear();
                    return Err(LogError::DiskFull(error.to_string()));
                }
            }
            return Err(self.close(&format!("write failed: {error}")));
        }
        self.unsynced = true;
        current.segment.used += self.buffer.len() as u64;
        self.written = self.next;
        self.buffer.clear();
        self.buffer.shrink_to(4 << 20);
        Ok(())
    }

    fn close(&mut self, reason: &str) -> LogError {
        let reason = format!("{}: {reason}", self.dir.display());
        self.closed = Some(reason.clone());
        self.buffer.clear();
        self.next = self.written;
        LogError::Closed(reason)
    }

    /// Starts a new segment, with room for `payload_bytes` at least. What was buffered must be committed.
    ///
    /// # Errors
    /// As [`SegmentLog::commit`].
    pub fn rotate(&mut self, payload_bytes: impl IntoIterator<Item = usize>) -> Result<(), LogError> {
        assert!(self.buffer.is_empty(), "rotated with records in the buffer");
        self.sync()?;
        if let Some(reason) = &self.closed {
            return Err(LogError::Closed(reason.clone()));
        }
        let needed: usize = payload_bytes.into_iter().map(frame::frame_bytes).sum();
        match self.new_segment(HEADER_BYTES + needed as u64) {
            Ok(current) => {
                self.older
                    .extend(self.current.replace(current).map(|current| current.segment));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.spare = None;
                let _ = self.disk.remove_file(&self.dir.join(SPARE));
                Err(LogError::DiskFull(format!("no room for a new log segment: {error}")))
            }
            Err(error) => Err(self.close(&format!("cannot start a segment: {error}"))),
        }
    }

    fn new_segment(&mut self, bytes_min: u64) -> io::Result<Current> {
        while self
            .spare
            .as_ref()
            .is_none_or(|spare| spare.zeroed < spare.bytes || spare.bytes < bytes_min)
        {
            self.zero_some(bytes_min)?;
        }
        let spare = self.spare.take().expect("the loop above made one");
        let path = self.dir.join(file_name(self.next));
        self.make_way(&path)?;
        spare.file.write_all_at(&header(self.next, spare.bytes), 0)?;
        spare.file.sync()?;
        self.disk.rename(&self.dir.join(SPARE), &path)?;
        self.disk.sync_dir(&self.dir)?;
        let segment = Segment {
            path,
            first: self.next,
            used: HEADER_BYTES,
        };
        Ok(Current {
            file: spare.file,
            segment,
            bytes: spare.bytes,
        })
    }

    /// Moves a segment away whose name is needed again: one without a single record that can be read.
    fn make_way(&mut self, path: &Path) -> io::Result<()> {
        if self.disk.open_read(path).is_err() {
            return Ok(());
        }
        let dir = self.dir.join(QUARANTINE);
        self.disk.create_dir_all(&dir)?;
        let name = format!("{}.{}", file_name(self.next), self.disk.list(&dir)?.len());
        self.disk.rename(path, &dir.join(name))?;
        self.disk.sync_dir(&dir)?;
        self.older.retain(|segment| segment.path != path);
        self.current.take_if(|current| current.segment.path == path);
        Ok(())
    }

    /// Brings the next segment one step closer, durably, so that rotating does not wait for it.
    fn zero_some(&mut self, bytes_min: u64) -> io::Result<()> {
        let wanted = self.segment_bytes().max(bytes_min);
        if self.spare.as_ref().is_some_and(|spare| spare.bytes < bytes_min) {
            self.spare = None;
            self.disk.remove_file(&self.dir.join(SPARE))?;
        }
        if self.spare.is_none() {
            let path = self.dir.join(SPARE);
            if self.disk.open_read(&path).is_ok() {
                self.disk.remove_file(&path)?;
            }
            let file = self.disk.create(&path)?;
            self.spare = Some(Spare {
                file,
                bytes: wanted,
                zeroed: 0,
            });
        }
        let spare = self.spare.as_mut().expect("made above");
        let step = PREPARE_BYTES.min(spare.bytes - spare.zeroed);
        spare.file.write_all_at(&vec![0; step as usize], spare.zeroed)?;
        spare.file.sync()?;
        spare.zeroed += step;
        Ok(())
    }

    /// The size of the next segment: twice the present one, at most as configured, and at most a sixteenth of what is free
    /// above the reserve.
    fn segment_bytes(&self) -> u64 {
        let twice = self
            .current
            .as_ref()
            .map_or(SEGMENT_BYTES_FIRST, |current| current.bytes * 2);
        let wanted = self.options.segment_bytes.min(twice.max(SEGMENT_BYTES_FIRST));
        let Ok(space) = self.disk.space(&self.dir) else {
            return wanted;
        };
        let reserve = self
            .options
            .reserve_bytes
            .unwrap_or_else(|| (space.total / 100).max(64 << 20));
        wanted.min((space.free.saturating_sub(reserve) / 16).max(SEGMENT_BYTES_MIN))
    }

    /// Does a little of the work that the next rotation needs, once the present segment is a quarter full.
    ///
    /// # Errors
    /// [`LogError::Closed`] when the disk fails; a full disk is not an error here.
    pub fn prepare(&mut self) -> Result<(), LogError> {
        let Some(current) = &self.current else { return Ok(()) };
        let ready = self.spare.as_ref().is_some_and(|spare| spare.zeroed == spare.bytes);
        if ready || self.closed.is_some() || current.segment.used < current.bytes / 4 {
            return Ok(());
        }
        match self.zero_some(0) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            Err(error) => Err(self.close(&format!("cannot prepare a segment: {error}"))),
        }
    }

    /// Removes segments that hold only records below `below`.
    ///
    /// # Errors
    /// [`LogError::Closed`] when the disk fails.
    pub fn trim(&mut self, below: Position) -> Result<(), LogError> {
        let ends: Vec<u64> = self.older.iter().skip(1).map(|segment| segment.first).collect();
        let last_end = self.current_first().unwrap_or(self.written);
        let ends = ends.into_iter().chain([last_end]);
        let gone = ends.take_while(|end| *end <= below.0).count().min(self.older.len());
        for segment in self.older.drain(..gone).collect::<Vec<_>>() {
            if let Err(error) = self.disk.remove_file(&segment.path) {
                return Err(self.close(&format!("cannot remove {}: {error}", segment.path.display())));
            }
        }
        if gone > 0
            && let Err(error) = self.disk.sync_dir(&self.dir)
        {
            return Err(self.close(&format!("cannot sync: {error}")));
        }
        Ok(())
    }

    /// Returns the files with durable records and the bytes used in each, oldest first, for [`read_file`].
    pub fn files(&self) -> Vec<LogFile> {
        let current = self.current.iter().map(|current| &current.segment);
        self.older
            .iter()
            .chain(current)
            .map(|segment| LogFile {
                path: segment.path.clone(),
                first: segment.first,
                used: segment.used,
            })
            .collect()
    }

    /// Returns the bytes of all segments' records.
    pub fn bytes(&self) -> u64 {
        self.files().iter().map(|file| file.used).sum()
    }
}

/// A segment as it was when it was asked for.
#[derive(Clone, Debug)]
pub struct LogFile {
    path: PathBuf,
    first: u64,
    used: u64,
}

impl LogFile {
    /// Returns the position of its first record.
    pub fn first(&self) -> Position {
        Position(self.first)
    }

    /// Returns how many of its bytes are used.
    pub fn used(&self) -> u64 {
        self.used
    }
}

fn file_name(first: u64) -> String {
    format!("{first:020}.log")
}

fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

fn header(first: u64, bytes: u64) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&first.to_le_bytes());
    header[24..32].copy_from_slice(&bytes.to_le_bytes());
    let crc = crc32c::crc32c(&header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    header
}
