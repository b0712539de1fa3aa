//! The committer: one thread that makes requests durable, then visible, in one order.
//!
//! It takes what is there, writes once, syncs once, applies all of it to the head and answers; the sync under way is the
//! batching window. Before the first sample of a series in a segment it declares the series there, so that a segment can
//! be read by itself. Nothing is applied before it is durable, and nothing else applies.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};
use tokio::sync::oneshot;

use super::config::Durability;
use super::delete::DeleteError;
use super::head::{Applied, Cut, Head, Series};
use super::metrics;
use super::record::{self, Record, SamplesRecord, SeriesRef};
use super::snapshot::SavedLog;
use super::tombstone::Tombstone;
use crate::io::log::{LogError, Position, SegmentLog};
use crate::io::{Clock, Mono};

/// Bytes that may wait for the committer.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// How long samples may stay unsynced under [`Durability::Interval`], in milliseconds.
const SYNC_EVERY: u64 = 1000;

/// A request, looked up and encoded.
pub(crate) struct Submission {
    /// What is applied.
    pub(crate) samples: SamplesRecord,
    pub(crate) others: Vec<Record>,
    /// The same, as the log takes it.
    pub(crate) frames: Vec<(u8, Vec<u8>)>,
    pub(crate) answer: oneshot::Sender<Result<Applied, LogError>>,
}

impl Submission {
    fn bytes(&self) -> usize {
        let frames: usize = self.frames.iter().map(|(_, payload)| payload.len()).sum();
        frames + self.samples.samples.len() * 16
    }

    fn series(&self) -> impl Iterator<Item = SeriesRef> {
        let others = self.others.iter().flat_map(|record| match record {
            Record::Histograms(records) => records.iter().map(|record| record.series).collect(),
            Record::Exemplars(records) => records.iter().map(|record| record.series).collect(),
            _ => Vec::new(),
        });
        self.samples.series.iter().map(|(series, _)| *series).chain(others)
    }

    fn newest(&self) -> i64 {
        let samples = self.samples.samples.iter().map(|sample| sample.at.0);
        let others = self.others.iter().flat_map(|record| match record {
            Record::Histograms(records) => records.iter().map(|record| record.sample.at.0).max(),
            _ => None,
        });
        samples.chain(others).max().unwrap_or(i64::MIN)
    }
}

/// What a cut took, to be forgotten by the head.
pub(crate) struct Taken {
    /// All samples before this time and up to this position are in a block.
    pub(crate) below: i64,
    pub(crate) upto: Position,
    /// The series, with what was taken of each.
    pub(crate) series: Vec<(Arc<Series>, Cut)>,
    /// The page of chunks that was being filled when it began.
    pub(crate) mark: u64,
}

enum Job {
    Append(Submission),
    Forget(Taken, mpsc::Sender<Result<(), LogError>>),
    Delete(Tombstone, mpsc::Sender<Result<(), DeleteError>>),
}

/// Requests on their way into the log and the head.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    head: Arc<Head>,
    clock: Arc<dyn Clock>,
    durability: Durability,
    /// What is added to a series' number in the log.
    base: SeriesRef,
    wal: Mutex<Wal>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// Held for reading from the look-up of a series to its place in the queue, so that no series leaves in between.
    gate: RwLock<()>,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    bytes: usize,
    stop: bool,
}

impl Queue {
    fn add(&mut self, job: Job) -> Result<(), LogError> {
        if self.stop {
            return Err(ended());
        }
        self.jobs.push(job);
        Ok(())
    }
}

fn ended() -> LogError {
    LogError::Closed("the store is shut down".to_owned())
}

struct Wal {
    log: SegmentLog,
    /// For each series, the segment in which it was last declared, plus one.
    declared: Vec<u64>,
    /// The newest time in each segment.
    newest: BTreeMap<u64, i64>,
    synced: Mono,
}

impl Committer {
    /// Starts the committer. `newest` is what replay found about the segments.
    pub(crate) fn start(
        head: Arc<Head>,
        log: SegmentLog,
        newest: BTreeMap<u64, i64>,
        base: SeriesRef,
        durability: Durability,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Committer> {
        let wal = Wal {
            log,
            declared: Vec::new(),
            newest,
            synced: clock.mono(),
        };
        let shared = Arc::new(Shared {
            head,
            clock,
            durability,
            base,
            wal: Mutex::new(wal),
            queue: Mutex::default(),
            arrived: Condvar::new(),
            gate: RwLock::new(()),
        });
        let thread = std::thread::Builder::new().name("tsdb-commit".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        })?;
        Ok(Committer {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Keeps series from leaving the head; held from a look-up until [`Committer::submit`] returns.
    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.shared.gate.read()
    }

    /// What the numbers of series in encoded frames begin with.
    pub(crate) fn base(&self) -> SeriesRef {
        self.shared.base
    }

    /// Queues a request; its answer comes when it is durable and applied.
    ///
    /// # Errors
    /// [`LogError::Full`] when too much is waiting, [`LogError::Closed`] after the end.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), LogError> {
        let bytes = submission.bytes();
        let mut queue = self.shared.queue.lock();
        if queue.bytes + bytes > QUEUE_BYTES_MAX && !queue.jobs.is_empty() {
            let text = format!(
                "{} bytes wait for the disk, the limit is {QUEUE_BYTES_MAX}",
                queue.bytes
            );
            return Err(LogError::Full(text));
        }
        queue.add(Job::Append(submission))?;
        queue.bytes += bytes;
        drop(queue);
        self.shared.arrived.notify_one();
        Ok(())
    }

    /// Lets the head forget what a block has now, and the log what is in blocks whole. Blocks.
    pub(crate) fn forget(&self, taken: Taken) -> Result<(), LogError> {
        let (answer, answered) = mpsc::channel();
        self.shared.queue.lock().add(Job::Forget(taken, answer))?;
        self.shared.arrived.notify_one();
        answered.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Makes a deletion durable and applies it to the head, after all that was queued before it. Blocks.
    pub(crate) fn delete(&self, tombstone: Tombstone) -> Result<(), DeleteError> {
        let (answer, answered) = mpsc::channel();
        self.shared.queue.lock().add(Job::Delete(tombstone, answer))?;
        self.shared.arrived.notify_one();
        answered.recv().unwrap_or_else(|_| Err(ended().into()))
    }

    /// The position after the last record that is durable and applied.
    pub(crate) fn position(&self) -> Position {
        self.shared.wal.lock().log.next()
    }

    /// Returns up to where the log is durable and applied, and the newest time in each segment.
    pub(crate) fn log_state(&self) -> SavedLog {
        let wal = self.shared.wal.lock();
        SavedLog {
            upto: wal.log.next(),
            newest: wal.newest.clone(),
        }
    }

    /// Says whether writes are possible.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        self.shared.wal.lock().log.check()
    }

    /// The bytes of the log's records.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.shared.wal.lock().log.bytes()
    }

    /// Commits what is waiting and ends.
    pub(crate) fn stop(&self) {
        self.shared.queue.lock().stop = true;
        self.shared.arrived.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join(); // A panic of the committer has been reported by itself.
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// However the committer ends, by a panic too, whoever waits for it is told.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.stop = true;
        queue.jobs.clear(); // Their senders go with them, which is an answer.
    }
}

impl Shared {
    fn run(&self) {
        let _ending = Ending(self);
        while let Some(jobs) = self.next_jobs() {
            let mut wal = self.wal.lock();
            let mut group = Vec::with_capacity(jobs.len());
            for job in jobs {
                match job {
                    Job::Append(submission) => match self.push(&mut wal, &mut group, &submission) {
                        Ok(()) => group.push(submission),
                        Err(error) => {
                            metrics::LOG_FAILED.inc();
                            let _ = submission.answer.send(Err(error)); // A sender that left needs no answer.
                        }
                    },
                    Job::Forget(taken, answer) => {
                        self.settle(&mut wal, &mut group);
                        let _ = answer.send(self.forget(&mut wal, &taken));
                    }
                    Job::Delete(tombstone, answer) => {
                        self.settle(&mut wal, &mut group);
                        let _ = answer.send(self.delete(&mut wal, tombstone));
                    }
                }
            }
            self.settle(&mut wal, &mut group);
            let _ = wal.log.prepare(); // A failure closes the log, and the next request is told.
        }
    }

    /// Waits for work; `None` when there is none left and never will be.
    fn next_jobs(&self) -> Option<Vec<Job>> {
        let mut queue = self.queue.lock();
        while queue.jobs.is_empty() {
            if queue.stop {
                drop(queue);
                let _ = self.wal.lock().log.sync();
                return None;
            }
            if self.durability == Durability::Fsync {
                self.arrived.wait(&mut queue);
            } else if self
                .arrived
                .wait_for(&mut queue, Duration::from_millis(SYNC_EVERY))
                .timed_out()
            {
                drop(queue);
                let _ = self.wal.lock().log.sync(); // A failure closes the log, and the next request is told.
                queue = self.queue.lock();
            }
        }
        queue.bytes = 0;
        Some(std::mem::take(&mut queue.jobs))
    }

    /// Buffers a request, with declarations of its series, in the present segment or a new one.
    fn push(&self, wal: &mut Wal, group: &mut Vec<Submission>, submission: &Submission) -> Result<(), LogError> {
        wal.log.check()?;
        let sizes = || submission.frames.iter().map(|(_, payload)| payload.len());
        let segment = wal.log.segment();
        let mut declarations = segment.and_then(|segment| self.declare(wal, segment, &mut submission.series()));
        if !wal.log.has_room(sizes().chain(declarations.iter().map(Vec::len))) {
            self.settle(wal, group);
            let segment = wal.log.next();
            declarations = self.declare(wal, segment, &mut submission.series());
            self.rotate(wal, sizes().chain(declarations.iter().map(Vec::len)))?;
        }
        if let Some(declarations) = declarations {
            wal.log.push(record::SERIES, &declarations);
        }
        for (kind, payload) in &submission.frames {
            wal.log.push(*kind, payload);
        }
        wal.note(submission.newest());
        Ok(())
    }

    /// Starts a segment with what is known about metrics, so that trimming the log forgets none of it.
    fn rotate(&self, wal: &mut Wal, sizes: impl Iterator<Item = usize>) -> Result<(), LogError> {
        let metadata = self.metadata();
        let rotated = wal
            .log
            .rotate(sizes.chain(metadata.iter().map(|(_, payload)| payload.len())));
        rotated.inspect_err(|_| wal.declared.clear())?;
        for (kind, payload) in &metadata {
            wal.log.push(*kind, payload);
        }
        Ok(())
    }

    fn metadata(&self) -> Vec<(u8, Vec<u8>)> {
        let metadata = self.head.metadata();
        if metadata.is_empty() {
            Vec::new()
        } else {
            vec![Record::Metadata(metadata).encode(self.base)]
        }
    }

    /// Returns a SERIES record of those series that `segment` does not know yet, and counts them as known.
    fn declare(
        &self,
        wal: &mut Wal,
        segment: Position,
        series: &mut dyn Iterator<Item = SeriesRef>,
    ) -> Option<Vec<u8>> {
        let mark = segment.0 + 1;
        let mut out = Vec::new();
        let mut table = None;
        for id in series {
            let index = id as usize;
            if wal.declared.get(index) == Some(&mark) {
                continue;
            }
            if wal.declared.len() <= index {
                wal.declared.resize(index + 1, 0);
            }
            wal.declared[index] = mark;
            let table = table.get_or_insert_with(|| self.head.table.read());
            if let Some(series) = table.get(id) {
                record::put_series(
                    id.wrapping_add(self.base),
                    series.newest(),
                    &table.labels(series),
                    &mut out,
                );
            }
        }
        (!out.is_empty()).then(|| record::finish_series(&out))
    }

    /// Makes the buffered requests durable, applies them in order and answers.
    fn settle(&self, wal: &mut Wal, group: &mut Vec<Submission>) {
        let started = self.clock.mono();
        let result = self.commit(wal);
        if !group.is_empty() {
            metrics::LOG_SYNC.observe(self.clock.mono().seconds_since(started));
            metrics::LOG_GROUP.inc();
        }
        if let Err(error) = result {
            wal.declared.clear(); // What was to declare them is not in the log.
            for submission in group.drain(..) {
                metrics::LOG_FAILED.inc();
                let _ = submission.answer.send(Err(error.clone()));
            }
            return;
        }
        let rules = self.head.rules(&[]);
        for submission in group.drain(..) {
            let mut applied = Applied::default();
            self.head.apply_samples(&submission.samples, &rules, &mut applied);
            for record in &submission.others {
                self.head.apply(record, &rules, &mut applied);
            }
            self.head.settle(&applied);
            let _ = submission.answer.send(Ok(applied));
        }
    }

    fn commit(&self, wal: &mut Wal) -> Result<(), LogError> {
        wal.log.write()?;
        let now = self.clock.mono();
        if self.durability == Durability::Fsync || now.0 - wal.synced.0 >= SYNC_EVERY * 1_000_000 {
            wal.log.sync()?;
            wal.synced = now;
        }
        Ok(())
    }

    /// Writes a deletion to the log and carries it out: replay does it at the same place.
    fn delete(&self, wal: &mut Wal, tombstone: Tombstone) -> Result<(), DeleteError> {
        wal.log.check()?;
        let record = Record::Tombstone(tombstone);
        let (kind, payload) = record.encode(self.base);
        if wal.log.segment().is_none() || !wal.log.has_room([payload.len()]) {
            self.rotate(wal, [payload.len()].into_iter())?;
        }
        wal.log.push(kind, &payload);
        wal.log.commit().inspect_err(|_| wal.declared.clear())?;
        if let Record::Tombstone(tombstone) = &record {
            self.head.delete(tombstone)?;
        }
        Ok(())
    }

    /// Removes what blocks have: first told to the log, then done, so that replay does it at the same place.
    fn forget(&self, wal: &mut Wal, taken: &Taken) -> Result<(), LogError> {
        for (series, cut) in &taken.series {
            series.forget(taken.below, *cut);
        }
        self.head.chunks.forget(taken.below, taken.mark);
        // From here on nobody is between looking a series up and queueing samples for it.
        let _closed = self.gate.write();
        let waiting: HashSet<SeriesRef> = {
            let queue = self.queue.lock();
            let appends = queue.jobs.iter().filter_map(|job| match job {
                Job::Append(submission) => Some(submission),
                Job::Forget(..) | Job::Delete(..) => None,
            });
            appends.flat_map(Submission::series).collect()
        };
        let gone: Vec<SeriesRef> = {
            let table = self.head.table.read();
            let empty = table
                .iter()
                .filter(|series| series.is_empty() && !waiting.contains(&series.id));
            empty.map(|series| series.id).collect()
        };
        if !gone.is_empty() {
            let (kind, payload) = Record::Forgotten(gone.clone()).encode(self.base);
            let mut segment = wal.log.segment().unwrap_or(wal.log.next());
            let mut declarations = self.declare(wal, segment, &mut gone.iter().copied());
            let sizes = |declarations: &Option<Vec<u8>>| -> Vec<usize> {
                declarations.iter().map(Vec::len).chain([payload.len()]).collect()
            };
            if !wal.log.has_room(sizes(&declarations)) {
                segment = wal.log.next();
                declarations = self.declare(wal, segment, &mut gone.iter().copied());
                self.rotate(wal, sizes(&declarations).into_iter())?;
            }
            if let Some(declarations) = declarations {
                wal.log.push(record::SERIES, &declarations);
            }
            wal.log.push(kind, &payload);
            wal.log.commit().inspect_err(|_| wal.declared.clear())?;
            self.head.table.remove(&gone);
            self.head.watchers.removed(&gone);
            metrics::SERIES_REMOVED.add(gone.len() as u64);
        }
        self.head.measure();
        wal.trim(taken)
    }
}

impl Wal {
    /// Remembers the newest time in the present segment.
    fn note(&mut self, newest: i64) {
        if let Some(segment) = self.log.segment() {
            let known = self.newest.entry(segment.0).or_insert(i64::MIN);
            *known = newest.max(*known);
        }
    }

    /// Removes the oldest segments, as far as blocks have all of them.
    fn trim(&mut self, taken: &Taken) -> Result<(), LogError> {
        let firsts: Vec<u64> = self.log.files().iter().map(|file| file.first().0).collect();
        let mut below = None;
        for pair in firsts.windows(2) {
            let newest = self.newest.get(&pair[0]).copied().unwrap_or(i64::MIN);
            if newest >= taken.below || pair[1] > taken.upto.0 {
                break;
            }
            below = Some(pair[1]);
        }
        let Some(below) = below else { return Ok(()) };
        self.newest = self.newest.split_off(&below);
        self.log.trim(Position(below))
    }
}
