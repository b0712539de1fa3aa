//! Opening a log: what its files hold, and what is wrong with them.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::super::frame::{Found, Scan};
use super::super::{LogError, Position};
use super::read::read_header;
use super::{
    Current, Damage, HEADER_BYTES, QUARANTINE, Record, Replay, SPARE, Segment, SegmentLog, SegmentOptions, file_name,
    first_of,
};
use crate::io::disk::Disk;

impl SegmentLog {
    /// Opens the log in `dir`, creating it, and hands every record and every damaged stretch to `visit`.
    ///
    /// # Errors
    /// [`LogError::Read`] when a file cannot be read or the directory not be made; damage is reported, not an error.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: SegmentOptions,
        visit: &mut dyn FnMut(Replay<'_>),
    ) -> Result<SegmentLog, LogError> {
        let read = |error: io::Error| LogError::Read(format!("{}: {error}", dir.display()));
        disk.create_dir_all(dir).map_err(read)?;
        let mut log = SegmentLog {
            disk,
            dir: dir.to_owned(),
            options,
            older: Vec::new(),
            current: None,
            spare: None,
            buffer: Vec::new(),
            next: 0,
            written: 0,
            unsynced: false,
            closed: None,
        };
        let mut firsts = Vec::new();
        for entry in log.disk.list(dir).map_err(read)? {
            if entry.name == SPARE {
                log.disk.remove_file(&dir.join(SPARE)).map_err(read)?;
            } else if let Some(first) = first_of(&entry.name) {
                firsts.push(first);
            }
        }
        let last = firsts.last().copied();
        log.next = firsts.first().copied().unwrap_or(0);
        let count = firsts.len();
        for (index, first) in firsts.into_iter().enumerate() {
            visit(Replay::Segment { index, count });
            log.recover(first, last == Some(first), visit)?;
        }
        log.written = log.next;
        Ok(log)
    }

    /// Reads one segment; the last one is made fit for appending again when it can be.
    fn recover(&mut self, first: u64, last: bool, visit: &mut dyn FnMut(Replay<'_>)) -> Result<(), LogError> {
        let path = self.dir.join(file_name(first));
        let bytes = self.disk.map(&path).map_err(|error| read_error(&path, &error))?;
        let file = path.display().to_string();
        if first > self.next {
            let (lost, reason) = (self.next..first, "records before this file are missing".to_owned());
            let damage = Damage {
                file: file.clone(),
                bytes: 0..0,
                lost,
                reason,
            };
            visit(Replay::Damage(&damage));
        }
        self.next = self.next.max(first);
        let header = read_header(&bytes);
        let mut sound = true;
        if let Err(reason) = &header {
            sound = false;
            let bytes = 0..HEADER_BYTES.min(bytes.len() as u64);
            let damage = Damage {
                file: file.clone(),
                bytes,
                lost: 0..0,
                reason: reason.clone(),
            };
            visit(Replay::Damage(&damage));
        }
        let size = header.unwrap_or(bytes.len() as u64);
        if (bytes.len() as u64) < size {
            sound = false;
            let reason = format!("truncated: the file was {size} bytes long, records at its end may be lost");
            let damage = Damage {
                file: file.clone(),
                bytes: bytes.len() as u64..size,
                lost: 0..0,
                reason,
            };
            visit(Replay::Damage(&damage));
        }
        let segment = Position(first);
        let mut used = HEADER_BYTES;
        for found in Scan::new(&bytes, HEADER_BYTES as usize, first) {
            match found {
                Found::Frame { seq, kind, payload } => {
                    used = payload.end.next_multiple_of(8) as u64;
                    self.next = seq + 1;
                    let payload = bytes.slice(payload);
                    visit(Replay::Record(Record {
                        at: Position(seq),
                        kind,
                        payload,
                        segment,
                    }));
                }
                Found::Hole { bytes: hole, lost } => {
                    let kept = self.quarantine(&path, &bytes, &hole);
                    let reason = format!("corrupt: no checksum fits{}", kept.text());
                    let bytes = hole.start as u64..hole.end as u64;
                    visit(Replay::Damage(&Damage {
                        file: file.clone(),
                        bytes,
                        lost,
                        reason,
                    }));
                }
                Found::End { dirty, .. } if dirty.is_empty() => {}
                Found::End { dirty, .. } => {
                    let kept = self.quarantine(&path, &bytes, &dirty);
                    sound &= last && matches!(kept, Kept::In(_)) && self.wipe(&path, &dirty);
                    let reason = format!("torn or corrupt at the end of the log's file{}", kept.text());
                    let bytes = dirty.start as u64..dirty.end as u64;
                    visit(Replay::Damage(&Damage {
                        file: file.clone(),
                        bytes,
                        lost: 0..0,
                        reason,
                    }));
                }
            }
        }
        drop(bytes);
        let segment = Segment { path, first, used };
        if last && sound {
            let file = self.disk.open(&segment.path);
            let file = file.map_err(|error| read_error(&segment.path, &error))?;
            self.current = Some(Current {
                file,
                segment,
                bytes: size,
            });
        } else {
            self.older.push(segment);
        }
        Ok(())
    }

    /// Copies bad bytes away. A disk that has no room for it keeps them where they are.
    fn quarantine(&self, path: &Path, bytes: &Bytes, bad: &Range<usize>) -> Kept {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let dir = self.dir.join(QUARANTINE);
        let target = dir.join(format!("{name}.{}-{}", bad.start, bad.end));
        let copy = || -> io::Result<()> {
            self.disk.create_dir_all(&dir)?;
            match self.disk.create(&target) {
                Ok(file) => {
                    file.write_all_at(&bytes[bad.clone()], 0)?;
                    file.sync()?;
                    self.disk.sync_dir(&dir)
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error),
            }
        };
        match copy() {
            Ok(()) => Kept::In(target),
            Err(error) => Kept::Nowhere(error.to_string()),
        }
    }

    /// Overwrites a torn tail with zeroes, durably.
    fn wipe(&self, path: &Path, dirty: &Range<usize>) -> bool {
        let wipe = || -> io::Result<()> {
            let file = self.disk.open(path)?;
            file.write_all_at(&vec![0; dirty.len()], dirty.start as u64)?;
            file.sync()
        };
        wipe().is_ok()
    }
}

enum Kept {
    In(PathBuf),
    Nowhere(String),
}

impl Kept {
    fn text(&self) -> String {
        match self {
            Kept::In(path) => format!(", kept in {}", path.display()),
            Kept::Nowhere(error) => format!(", left in place ({error})"),
        }
    }
}

fn read_error(path: &Path, error: &io::Error) -> LogError {
    LogError::Read(format!("{}: {error}", path.display()))
}
