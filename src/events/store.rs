//! The event store's façade: collect events, look after the files, say how things are. `open` opens it, `query` asks it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::cells::Cube;
use super::commit::Committer;
use super::dedup::IdFileError;
use super::manifest::{Lost, Manifest};
use super::state::Shared;
use super::tables::{PageCache, TableError};
use super::watermark::Watermark;
use super::{
    Answer, Checked, CollectError, Counted, Counting, Event, EventsConfig, IdempotencyKey, Listener, Maintained,
    RawError, RawFile, RawStore, metrics, record,
};
use crate::io::disk::{DirLock, Disk};
use crate::io::log::{Damage, LogError, Position, Replay, SegmentOptions, read_file};
use crate::io::{BoxFuture, Clock, Mono};
use crate::io::{ObjectError, ObjectStore};
use crate::model::{Interval, Millis};

/// Bytes of decoded pages that are kept.
pub(super) const PAGES_BYTES: usize = 96 << 20;
/// Raw files are written when this much of the log is in none …
pub(super) const RAW_BYTES: u64 = 96 << 20;
/// … or after this long.
pub(super) const RAW_EVERY: Interval = Interval::mins(2);

/// What the event store is made with.
pub struct EventsParts {
    /// Settings.
    pub config: EventsConfig,
    /// Where log and lock are.
    pub dir: std::path::PathBuf,
    /// The disk under `dir`.
    pub disk: Arc<dyn Disk>,
    /// Where immutable files go. Cells and ids are mapped, so that it must be a directory: `dir` itself.
    pub objects: Arc<dyn ObjectStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Keeps raw events; without one they are forgotten when they are counted.
    pub raw: Option<Arc<dyn RawStore>>,
    /// How the log uses the disk.
    pub log: SegmentOptions,
}

/// Why the event store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The files cannot be written or read.
    #[error("events: {0}")]
    Objects(#[from] ObjectError),
    /// The log failed.
    #[error("events: {0}")]
    Log(#[from] LogError),
    /// A file of cells is damaged.
    #[error("events: {0}")]
    Cells(String),
    /// Raw events cannot be written or read.
    #[error("events: {0}")]
    Raw(#[from] RawError),
    /// The operating system refused something.
    #[error("events: {0}")]
    Io(#[from] std::io::Error),
    /// What is on the disk cannot be opened as it is; the text says why and what to do.
    #[error("events: {0}")]
    Unusable(String),
}

impl From<TableError> for EventsError {
    fn from(error: TableError) -> EventsError {
        EventsError::Cells(error.to_string())
    }
}

impl From<IdFileError> for EventsError {
    fn from(error: IdFileError) -> EventsError {
        EventsError::Cells(error.to_string())
    }
}

/// What was found when the store was opened.
#[derive(Debug, Default)]
pub struct Opened {
    /// Log records that were replayed.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// Files that nobody named and that were removed: what a crash left.
    pub orphans: usize,
    /// Damage, as lines for people.
    pub damage: Vec<String>,
}

/// How things are.
#[derive(Clone, Debug)]
pub struct Status {
    /// Everything ever counted.
    pub counted: Counted,
    /// Events that came after their minute was closed.
    pub late: u64,
    /// Events that wait for the disk.
    pub pending: usize,
    /// Minutes that end at or before this are closed.
    pub watermark: Millis,
    /// How far each shard has come; `Millis::MIN` when it has seen nothing.
    pub shards: Vec<Millis>,
    /// Log records so far.
    pub position: u64,
    /// Log records before this are in files.
    pub checkpoint: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Memory of cells since the checkpoint, in bytes.
    pub memory_bytes: usize,
    /// Files of cells and of ids, and raw ones.
    pub files: [usize; 3],
    /// Bytes of raw files, and events in them.
    pub raw: (u64, u64),
    /// What can no longer be read.
    pub lost: Vec<Lost>,
    /// Why nothing is taken, when nothing is.
    pub refusing: Option<String>,
}

/// What looking after the files remembers.
#[derive(Debug, Default)]
pub(super) struct Busy {
    pub(super) next: Mono,
    pub(super) next_raw: Mono,
}

/// Clicks and page views, counted exactly once.
pub struct Events {
    pub(super) config: EventsConfig,
    pub(super) dir: std::path::PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) raw: Option<Arc<dyn RawStore>>,
    pub(super) cubes: Vec<Cube>,
    pub(super) state: Arc<Shared>,
    pub(super) watermark: Arc<Watermark>,
    pub(super) committer: Committer,
    pub(super) cache: PageCache,
    pub(super) merged: super::query::MergedCache,
    pub(super) maintenance: Mutex<Busy>,
    /// The manifest before the one that counts: its files are kept, too.
    pub(super) previous: Mutex<Manifest>,
    /// The manifest begun for what is frozen.
    pub(super) frozen_manifest: Mutex<Option<Manifest>>,
    /// The highest number of a manifest that was tried.
    pub(super) numbers: AtomicU64,
    pub(super) file_numbers: AtomicU64,
    /// Who still needs the log, and from where.
    pub(super) holds: Mutex<BTreeMap<String, u64>>,
    pub(super) raw_bytes_max: u64,
    pub(super) raw_every: Interval,
    pub(super) damage: Vec<Damage>,
    /// Held by the one recalculation, reconciliation or erasure under way.
    pub(super) audit: Mutex<()>,
    pub(super) _lock: Box<dyn DirLock>,
}

impl Counting for Events {
    fn collect(&self, batch: Checked, key: Option<IdempotencyKey>) -> BoxFuture<'_, Result<Answer, CollectError>> {
        Box::pin(async move {
            let answered = self.committer.submit(batch, key)?;
            let ended = || CollectError::Closed("the event store ended".to_owned());
            answered.await.unwrap_or_else(|_| Err(ended()))
        })
    }
}

impl Events {
    /// Says whether events can be taken.
    ///
    /// # Errors
    /// What a collect would answer.
    pub fn check(&self) -> Result<(), CollectError> {
        self.committer.check()
    }

    /// Makes checkpoints, writes raw files, merges and drops what is due. Blocks; called every second or so.
    ///
    /// # Errors
    /// [`EventsError`]; nothing is lost, and the next call tries again.
    pub fn look_after(&self) -> Result<Maintained, EventsError> {
        metrics::WATERMARK.set(self.watermark().as_secs_f64());
        self.maintain()
    }

    /// Commits what is waiting, takes nothing more, and writes all to files: the next start has no log to read.
    pub fn close(&self) {
        self.committer.stop();
        if let Err(error) = self.checkpoint_all() {
            tracing::warn!(%error, "no checkpoint of events: the next start reads the log");
        }
    }

    /// Makes a checkpoint now.
    ///
    /// # Errors
    /// [`EventsError`].
    pub fn save(&self) -> Result<(), EventsError> {
        self.checkpoint_all()
    }

    /// Returns the watermark: minutes that end at or before it are closed.
    pub fn watermark(&self) -> Millis {
        self.watermark.now(self.clock.now())
    }

    /// Calls `listener` with what is counted from now on, on the thread that counts: it must not wait.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        self.committer.listen(listener);
    }

    /// Keeps the log from `position` on for a reader of that name; `None` lets it go. Not remembered over a restart: the
    /// reader holds again before the first [`Events::look_after`].
    pub fn hold_log(&self, reader: &str, position: Option<Position>) {
        let mut holds = self.holds.lock();
        match position {
            Some(position) => holds.insert(reader.to_owned(), position.0),
            None => holds.remove(reader),
        };
    }

    /// Calls `visit` with the log's records `from..to`: position, when it was received, and its events. Blocks.
    ///
    /// # Errors
    /// [`EventsError`] when a file cannot be read or a record in it is damaged.
    pub fn replay(
        &self,
        from: Position,
        to: Position,
        visit: &mut dyn FnMut(Position, Millis, Vec<Event>),
    ) -> Result<(), EventsError> {
        self.read_log(from.0, to.0, &mut |at, header, events| {
            visit(Position(at), header.received, events);
        })
    }

    /// Returns the position after the last record that is counted.
    pub fn position(&self) -> Position {
        Position(self.state.read().position)
    }

    pub(super) fn read_log(
        &self,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(u64, record::Header, Vec<Event>),
    ) -> Result<(), EventsError> {
        let files = self.committer.with_log(|log| log.files());
        let ends: Vec<u64> = files.iter().skip(1).map(|file| file.first().0).collect();
        let mut problem = None;
        for (number, file) in files.iter().enumerate() {
            let end = ends.get(number).copied().unwrap_or(u64::MAX);
            if end <= from || file.first().0 >= to {
                continue;
            }
            read_file(&*self.disk, file, &mut |found| {
                let Replay::Record(record) = found else {
                    if let Replay::Damage(damage) = found {
                        tracing::warn!(%damage, "events were lost from the log");
                    }
                    return true;
                };
                if !(from..to).contains(&record.at.0) {
                    return record.at.0 < to;
                }
                match record::decode(&record.payload) {
                    Ok((header, events)) => visit(record.at.0, header, events),
                    Err(error) => problem = Some(format!("log record {}: {error}", record.at.0)),
                }
                problem.is_none()
            })?;
            if let Some(problem) = problem.take() {
                return Err(EventsError::Cells(problem));
            }
        }
        Ok(())
    }

    /// Returns the raw files that may hold events of `from..to`.
    pub fn raw_files(&self, from: Millis, to: Millis) -> Vec<RawFile> {
        let (first, last) = (
            super::dedup::hour_of(from.0),
            super::dedup::hour_of(to.0.saturating_sub(1)),
        );
        let files = Arc::clone(&self.state.read().files);
        let raw = files.manifest.raw.iter();
        raw.filter(|file| (first..=last).contains(&file.hour))
            .cloned()
            .collect()
    }

    /// Returns the log's first record whose events are in no raw file yet.
    pub fn raw_position(&self) -> Position {
        Position(self.state.read().files.manifest.raw_position)
    }

    /// Puts other raw files in the place of some, by one manifest: compaction, erasure. `false` when one of `old` is no longer
    /// there, and nothing changed.
    ///
    /// # Errors
    /// [`EventsError`].
    pub fn replace_raw(&self, old: &[String], new: Vec<RawFile>) -> Result<bool, EventsError> {
        let _busy = self.maintenance.lock();
        let mut next = self.next_manifest();
        if !old.iter().all(|name| next.raw.iter().any(|file| file.name == *name)) {
            return Ok(false);
        }
        next.raw.retain(|file| !old.contains(&file.name));
        next.raw.extend(new);
        self.publish(next, false)?;
        Ok(true)
    }

    /// Returns what somebody wrote down under a name.
    pub fn note(&self, name: &str) -> Option<serde_json::Value> {
        self.state.read().files.manifest.notes.get(name).cloned()
    }

    /// Writes something small down under a name (`None` forgets it), by one manifest.
    ///
    /// # Errors
    /// [`EventsError`].
    pub fn set_note(&self, name: &str, value: Option<serde_json::Value>) -> Result<(), EventsError> {
        let _busy = self.maintenance.lock();
        let mut next = self.next_manifest();
        match value {
            Some(value) => next.notes.insert(name.to_owned(), value),
            None => next.notes.remove(name),
        };
        self.publish(next, false)
    }

    /// Marks the minutes of `from..to` as reconciled.
    ///
    /// # Errors
    /// [`EventsError`].
    pub fn mark_reconciled(&self, from: Millis, to: Millis) -> Result<(), EventsError> {
        let _busy = self.maintenance.lock();
        let mut next = self.next_manifest();
        let minute = super::cells::minute_of;
        next.reconciled.push((minute(from.0), minute(to.0)));
        next.reconciled.sort_unstable();
        let mut joined: Vec<(i64, i64)> = Vec::new();
        for (from, to) in std::mem::take(&mut next.reconciled) {
            match joined.last_mut() {
                Some(last) if last.1 >= from => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        next.reconciled = joined;
        self.publish(next, false)
    }

    /// Returns how things are.
    pub fn status(&self) -> Status {
        let watermark = self.watermark();
        let log_bytes = self.committer.with_log(|log| log.bytes());
        let refusing = self.check().err().map(|error| error.to_string());
        let state = self.state.read();
        let manifest = &state.files.manifest;
        let raw = manifest.raw.iter();
        Status {
            counted: state.counted,
            late: state.late,
            pending: self.committer.pending(),
            watermark,
            shards: self.watermark.shards().into_iter().map(Millis).collect(),
            position: state.position,
            checkpoint: manifest.position,
            log_bytes,
            memory_bytes: state.fresh.memory.bytes(),
            files: [manifest.cells.len(), manifest.ids.len(), manifest.raw.len()],
            raw: raw.fold((0, 0), |sum, file| (sum.0 + file.bytes, sum.1 + file.rows)),
            lost: manifest.lost.clone(),
            refusing,
        }
    }

    /// Returns what was found damaged in the log when the store was opened.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Returns how long ids are kept: as long as configured, and as long as an event is taken at all, so that there is no
    /// time at which a copy is taken and its first one forgotten.
    pub(super) fn ids_kept(&self) -> Interval {
        let day = Interval::days(1);
        Interval(self.config.dedup.0.max(self.config.retention.raw.0 + day.0))
    }

    /// Returns a name that no file has.
    pub(super) fn new_name(&self, folder: &str) -> String {
        let number = self.file_numbers.fetch_add(1, Ordering::Relaxed);
        format!("{folder}/{number:012}")
    }

    pub(super) fn next_file(&self) -> u64 {
        self.file_numbers.load(Ordering::Relaxed)
    }
}
