//! A log: the one thing that must survive. State is what you get by folding it.

mod file;
mod frame;
mod mem;
mod segments;

use bytes::Bytes;

pub use file::FileLog;
pub use mem::MemLog;
pub use segments::{Damage, LogFile, Record, Replay, SegmentLog, SegmentOptions, decode_any, read_file, verify_log};

use super::BoxFuture;

/// Where a record stands in a log; positions rise by one record after the other, without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A sender's own name for a record: appending the same id again within the log's memory changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordId(pub String);

/// What [`Log::append`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where the record stands.
    pub at: Position,
    /// Whether a record with the same id was there before; nothing was written then.
    pub duplicate: bool,
}

/// What [`Log::read`] finds, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum LogItem {
    /// A whole record, checksum verified.
    Record {
        /// Its position.
        at: Position,
        /// Its payload.
        payload: Bytes,
    },
    /// Records that cannot be read: reported, never skipped in silence.
    Gap {
        /// The first position lost.
        from: Position,
        /// The first position after the gap.
        to: Position,
        /// File, byte range and reason.
        reason: String,
    },
}

/// The positions a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest record kept.
    pub first: Position,
    /// Where the next record will stand.
    pub next: Position,
}

/// Why a log cannot take or give records.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// A configured size was reached; nothing was written.
    #[error("the log is full: {0}")]
    Full(String),
    /// The disk is (nearly) full; nothing was written.
    #[error("disk full: {0}")]
    DiskFull(String),
    /// A write or fsync failed; the log takes nothing more until it is opened again.
    #[error("the log is closed: {0}")]
    Closed(String),
    /// Reading failed.
    #[error("cannot read the log: {0}")]
    Read(String),
}

/// An append-only sequence of records.
pub trait Log: Send + Sync {
    /// Appends a record. Durable when this resolves: a crash right after keeps it.
    ///
    /// # Errors
    /// [`LogError`]; the record may then be in the log or not, and is not acknowledged.
    fn append(&self, record: Bytes, id: Option<RecordId>) -> BoxFuture<'_, Result<Appended, LogError>>;

    /// Calls `visit` with what stands at `from` and after it, until the end or until `visit` returns `false`. Blocks.
    ///
    /// # Errors
    /// [`LogError::Read`] when the medium fails; damaged records are a [`LogItem::Gap`], not an error.
    fn read(&self, from: Position, visit: &mut dyn FnMut(LogItem) -> bool) -> Result<(), LogError>;

    /// Returns what the log holds.
    fn bounds(&self) -> Bounds;

    /// Allows the log to forget records below `below`. May keep some of them.
    ///
    /// # Errors
    /// [`LogError::Closed`] when the medium fails.
    fn trim(&self, below: Position) -> Result<(), LogError>;
}

#[cfg(test)]
mod tests {
    //! What the trait promises, asked of each implementation; and what `FileLog` does when its disk fails it.

    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::io::disk::{Disk, SimDisk};

    const DIR: &str = "/log";
    const SMALL: SegmentOptions = SegmentOptions {
        segment_bytes: 1024,
        reserve_bytes: Some(0),
    };

    fn open(disk: &SimDisk) -> (FileLog, Vec<Damage>) {
        FileLog::open(Arc::new(disk.clone()), Path::new(DIR), SMALL).unwrap()
    }

    fn payload(n: u64) -> Bytes {
        Bytes::from(format!("record {n} {}", "x".repeat((n % 7) as usize * 10)))
    }

    fn records(log: &dyn Log, from: u64) -> Vec<(u64, Bytes)> {
        let mut found = Vec::new();
        log.read(Position(from), &mut |item| {
            if let LogItem::Record { at, payload } = item {
                found.push((at.0, payload));
            }
            true
        })
        .unwrap();
        found
    }

    fn expected(range: std::ops::Range<u64>) -> Vec<(u64, Bytes)> {
        range.map(|n| (n, payload(n))).collect()
    }

    async fn each_log(check: impl AsyncFn(&dyn Log)) {
        check(&MemLog::new()).await;
        check(&open(&SimDisk::seeded(1)).0).await;
    }

    #[tokio::test]
    async fn records_come_back_in_order_from_any_position() {
        each_log(async |log| {
            assert_eq!(records(log, 0), []);
            for n in 0..50 {
                let appended = log.append(payload(n), None).await.unwrap();
                assert_eq!(
                    appended,
                    Appended {
                        at: Position(n),
                        duplicate: false
                    }
                );
            }
            assert_eq!(records(log, 0), expected(0..50));
            assert_eq!(records(log, 23), expected(23..50));
            assert_eq!(
                log.bounds(),
                Bounds {
                    first: Position(0),
                    next: Position(50)
                }
            );
            let mut seen = 0;
            log.read(Position(0), &mut |_| {
                seen += 1;
                seen < 3
            })
            .unwrap();
            assert_eq!(seen, 3);
        })
        .await;
    }

    #[tokio::test]
    async fn an_id_is_taken_once() {
        each_log(async |log| {
            let id = || Some(RecordId("a".to_owned()));
            log.append(payload(0), None).await.unwrap();
            let first = log.append(payload(1), id()).await.unwrap();
            let again = log.append(payload(1), id()).await.unwrap();
            assert_eq!(
                again,
                Appended {
                    duplicate: true,
                    ..first
                }
            );
            assert_eq!(records(log, 0), expected(0..2));
        })
        .await;
    }

    #[tokio::test]
    async fn trimming_forgets_only_what_is_below() {
        each_log(async |log| {
            for n in 0..50 {
                log.append(payload(n), None).await.unwrap();
            }
            log.trim(Position(30)).unwrap();
            let first = log.bounds().first.0;
            assert!(first > 0 && first <= 30, "first is {first}");
            assert_eq!(records(log, 0), expected(first..50));
            log.append(payload(50), None).await.unwrap();
            assert_eq!(log.bounds().next, Position(51));
        })
        .await;
    }

    #[tokio::test]
    async fn a_file_log_goes_on_where_it_stopped() {
        let disk = SimDisk::seeded(1);
        for round in 0..5 {
            let (log, damage) = open(&disk);
            assert_eq!(damage, []);
            for n in round * 10..round * 10 + 10 {
                let id = RecordId(n.to_string());
                log.append(payload(n), Some(id)).await.unwrap();
            }
            let known = log.append(payload(0), Some(RecordId("0".to_owned()))).await.unwrap();
            assert!(known.duplicate);
            assert_eq!(records(&log, 0), expected(0..round * 10 + 10));
        }
    }

    #[tokio::test]
    async fn acknowledged_records_survive_a_crash_at_every_disk_operation() {
        for seed in 0..8 {
            for crash_at in 0.. {
                let disk = SimDisk::seeded(seed).crash_at(crash_at);
                let mut acknowledged = 0;
                if let Ok((log, _)) = FileLog::open(Arc::new(disk.clone()), Path::new(DIR), SMALL) {
                    while acknowledged < 40 && log.append(payload(acknowledged), None).await.is_ok() {
                        acknowledged += 1;
                    }
                }
                let (log, _) = open(&disk.after_crash());
                let found = records(&log, 0);
                let kept = expected(0..found.len() as u64);
                assert_eq!(found, kept, "seed {seed}, crash at {crash_at}");
                assert!(
                    found.len() as u64 >= acknowledged,
                    "lost: seed {seed}, crash at {crash_at}"
                );
                log.append(payload(99), None).await.unwrap();
                assert_eq!(
                    records(&log, 0).len(),
                    found.len() + 1,
                    "seed {seed}, crash at {crash_at}"
                );
                if !disk.crashed() {
                    break; // The workload ran to its end: every crash point has been tried.
                }
            }
        }
    }

    #[tokio::test]
    async fn after_a_failed_write_or_sync_nothing_more_is_acknowledged() {
        for fail_at in 0..60 {
            let disk = SimDisk::seeded(3).fail_at(fail_at, std::io::ErrorKind::Other);
            let Ok((log, _)) = FileLog::open(Arc::new(disk.clone()), Path::new(DIR), SMALL) else {
                continue;
            };
            let mut acknowledged = Vec::new();
            let mut failed = false;
            for n in 0..40 {
                let ok = log.append(payload(n), None).await.is_ok();
                assert!(!(ok && failed), "acknowledged after the failure at operation {fail_at}");
                failed |= !ok;
                if ok {
                    acknowledged.push(payload(n));
                }
            }
            drop(log);
            let found: Vec<Bytes> = records(&open(&disk.after_crash()).0, 0)
                .into_iter()
                .map(|r| r.1)
                .collect();
            assert!(found.starts_with(&acknowledged), "lost: failure at operation {fail_at}");
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_costs_its_record_and_says_so() {
        let disk = SimDisk::seeded(1);
        let (log, _) = open(&disk);
        for n in 0..30 {
            log.append(payload(n), None).await.unwrap();
        }
        drop(log);
        let files = disk.list(Path::new(DIR)).unwrap();
        let victim = Path::new(DIR).join(&files[0].name);
        disk.flip_bit(&victim, 300, 3).unwrap();
        let (log, damage) = open(&disk);
        assert_eq!(
            (damage.len(), damage[0].lost.end - damage[0].lost.start),
            (1, 1),
            "{damage:?}"
        );
        assert!(damage[0].to_string().contains(&files[0].name) && damage[0].reason.contains("quarantine"));
        let lost = damage[0].lost.start;
        let all: Vec<_> = expected(0..30).into_iter().filter(|record| record.0 != lost).collect();
        assert_eq!(records(&log, 0), all);
        let mut gaps = Vec::new();
        log.read(Position(0), &mut |item| {
            if let LogItem::Gap { from, to, .. } = item {
                gaps.push((from.0, to.0));
            }
            true
        })
        .unwrap();
        assert_eq!(gaps, [(lost, lost + 1)]);
    }

    #[tokio::test]
    async fn a_lost_header_or_file_costs_no_more_than_itself() {
        let disk = SimDisk::seeded(1);
        let (log, _) = open(&disk);
        for n in 0..60 {
            log.append(payload(n), None).await.unwrap();
        }
        drop(log);
        let names: Vec<String> = disk
            .list(Path::new(DIR))
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        disk.flip_bit(&Path::new(DIR).join(&names[0]), 3, 1).unwrap();
        disk.remove_file(&Path::new(DIR).join(&names[1])).unwrap();
        let (log, damage) = open(&disk);
        assert_eq!(damage.len(), 2, "{damage:?}");
        let lost = damage[1].lost.clone();
        let all: Vec<_> = expected(0..60)
            .into_iter()
            .filter(|record| !lost.contains(&record.0))
            .collect();
        assert_eq!(records(&log, 0), all);
    }

    #[tokio::test]
    async fn a_file_without_a_readable_record_is_kept_when_its_name_is_needed_again() {
        let disk = SimDisk::seeded(1);
        let (log, _) = open(&disk);
        log.append(payload(0), None).await.unwrap();
        drop(log);
        let name = disk.list(Path::new(DIR)).unwrap().remove(0).name;
        disk.flip_bit(&Path::new(DIR).join(&name), 3, 1).unwrap();
        disk.flip_bit(&Path::new(DIR).join(&name), 70, 1).unwrap();
        let (log, damage) = open(&disk);
        assert_eq!(damage.len(), 2, "{damage:?}");
        log.append(payload(1), None).await.unwrap();
        assert_eq!(records(&log, 0), [(0, payload(1))]);
        let kept = disk.list(&Path::new(DIR).join("quarantine")).unwrap();
        assert_eq!(kept.len(), 2, "the bad bytes, and the file: {kept:?}");
    }

    #[tokio::test]
    async fn a_full_disk_is_a_state_and_ends_by_itself() {
        let disk = SimDisk::seeded(1);
        let options = SegmentOptions {
            segment_bytes: 1024,
            reserve_bytes: Some(10_000),
        };
        let (log, _) = FileLog::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
        log.append(payload(0), None).await.unwrap();
        disk.set_total(11_000);
        let full = log.append(payload(1), None).await.unwrap_err();
        assert!(matches!(full, LogError::DiskFull(_)), "{full}");
        assert_eq!(records(&log, 0), expected(0..1));
        disk.set_total(100_000);
        log.append(payload(1), None).await.unwrap();
        assert_eq!(records(&log, 0), expected(0..2));
    }

    #[tokio::test]
    async fn a_record_larger_than_a_segment_gets_its_own() {
        let disk = SimDisk::seeded(1);
        let (log, _) = open(&disk);
        let large = Bytes::from(vec![7; 5000]);
        log.append(payload(0), None).await.unwrap();
        log.append(large.clone(), None).await.unwrap();
        log.append(payload(2), None).await.unwrap();
        drop(log);
        let found = records(&open(&disk).0, 0);
        assert_eq!(found, [(0, payload(0)), (1, large), (2, payload(2))]);
    }
}
