//! Reading segments without owning them.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use super::super::Position;
use super::super::frame::{Found, Scan};
use super::{Damage, HEADER_BYTES, LogFile, MAGIC, Record, Replay, VERSION, first_of};
use crate::io::disk::Disk;

/// Reads the records of one segment; `visit` returns whether to go on. Damage has been reported by `SegmentLog::open`
/// when it is old, and is reported again here.
///
/// # Errors
/// The operating system's.
pub fn read_file(disk: &dyn Disk, file: &LogFile, visit: &mut dyn FnMut(Replay<'_>) -> bool) -> io::Result<bool> {
    let mut bytes = vec![0; file.used as usize];
    disk.open_read(&file.path)?.read_exact_at(&mut bytes, 0)?;
    let bytes = Bytes::from(bytes);
    for found in Scan::new(&bytes, HEADER_BYTES as usize, file.first) {
        let on = match found {
            Found::Frame { seq, kind, payload } => visit(Replay::Record(Record {
                at: Position(seq),
                kind,
                payload: bytes.slice(payload),
                segment: Position(file.first),
            })),
            Found::Hole { bytes: hole, lost } => visit(Replay::Damage(&Damage {
                file: file.path.display().to_string(),
                bytes: hole.start as u64..hole.end as u64,
                lost,
                reason: "corrupt: no checksum fits".to_owned(),
            })),
            Found::End { .. } => true,
        };
        if !on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads every segment in `dir` without changing anything, and returns how many records are sound and one line for each
/// stretch that is not. The tail of the newest segment may look torn while its owner is writing.
///
/// # Errors
/// The operating system's.
pub fn verify_log(disk: &dyn Disk, dir: &Path) -> io::Result<(u64, Vec<String>)> {
    let (mut sound, mut problems) = (0, Vec::new());
    let entries = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        entries => entries?,
    };
    let mut next = None;
    for (entry, first) in entries.iter().filter_map(|entry| Some((entry, first_of(&entry.name)?))) {
        let path = dir.join(&entry.name);
        let bytes = disk.map(&path)?;
        let mut problem = |range: Range<usize>, reason: &str| {
            problems.push(format!(
                "{}: bytes {}..{}: {reason}",
                path.display(),
                range.start,
                range.end
            ));
        };
        if next.is_some_and(|next| next < first) {
            problem(0..0, "records before this file are missing");
        }
        let size = read_header(&bytes).unwrap_or_else(|reason| {
            problem(0..bytes.len().min(HEADER_BYTES as usize), &reason);
            bytes.len() as u64
        });
        if (bytes.len() as u64) < size {
            problem(bytes.len()..size as usize, "the file is shorter than it was");
        }
        next = Some(next.unwrap_or(first).max(first));
        for found in Scan::new(&bytes, HEADER_BYTES as usize, first) {
            match found {
                Found::Frame { seq, .. } => {
                    sound += 1;
                    next = Some(seq + 1);
                }
                Found::Hole { bytes, .. } => problem(bytes, "no checksum fits"),
                Found::End { dirty, .. } if dirty.is_empty() => {}
                Found::End { dirty, .. } => problem(dirty, "torn or corrupt at the end"),
            }
        }
    }
    Ok((sound, problems))
}

/// Takes any bytes as a segment, for fuzzing: whatever they are, no panic and no more frames than fit.
pub fn decode_any(bytes: &[u8]) {
    let _ = read_header(bytes);
    for start in [0, HEADER_BYTES as usize] {
        if start <= bytes.len() {
            let bytes = Bytes::copy_from_slice(bytes);
            let found = Scan::new(&bytes, start, 0).count();
            assert!(found <= bytes.len() + 2, "{found} findings in {} bytes", bytes.len());
        }
    }
}

/// Returns the size that the segment was made with.
pub(super) fn read_header(bytes: &[u8]) -> Result<u64, String> {
    let Some(found) = bytes.first_chunk::<{ HEADER_BYTES as usize }>() else {
        return Err("truncated: the file ends within its header".to_owned());
    };
    let mut zeroed = *found;
    zeroed[12..16].fill(0);
    let crc = u32::from_le_bytes([found[12], found[13], found[14], found[15]]);
    if crc32c::crc32c(&zeroed) != crc || &found[..8] != MAGIC {
        return Err("corrupt: the header fails its checksum".to_owned());
    }
    let version = u32::from_le_bytes([found[8], found[9], found[10], found[11]]);
    if version != VERSION {
        return Err(format!("format version {version}, this program reads {VERSION}"));
    }
    let mut size = [0; 8];
    size.copy_from_slice(&found[24..32]);
    Ok(u64::from_le_bytes(size))
}
