//! A log in files: [`SegmentLog`] behind one committer thread that groups what arrives.
//!
//! The committer takes what is there, writes once, syncs once and answers all; the sync under way is the batching window,
//! so there is no artificial delay and an idle log answers after one sync.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::segments::{self, Damage, Record, Replay, SegmentLog, SegmentOptions};
use super::{Appended, Bounds, Log, LogError, LogItem, Position, RecordId};
use crate::io::BoxFuture;
use crate::io::disk::Disk;

/// A record without an id.
const KIND_PLAIN: u8 = 1;
/// A record behind its id: `id bytes u16 | id | payload`.
const KIND_WITH_ID: u8 = 2;
/// How many ids are remembered.
const IDS_MAX: usize = 100_000;
/// Bytes that may wait for the committer.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// A durable log in a directory of its own.
pub struct FileLog {
    shared: Arc<Shared>,
    committer: Option<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    log: Mutex<SegmentLog>,
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    bytes: usize,
    stop: bool,
}

struct Waiting {
    record: Bytes,
    id: Option<RecordId>,
    answer: oneshot::Sender<Result<Appended, LogError>>,
}

/// The ids seen last, with their positions.
#[derive(Default)]
struct Ids {
    positions: HashMap<RecordId, Position>,
    order: VecDeque<RecordId>,
}

impl Ids {
    fn remember(&mut self, id: RecordId, at: Position) {
        if self.order.len() >= IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.positions.remove(&oldest);
        }
        self.order.push_back(id.clone());
        self.positions.insert(id, at);
    }
}

impl FileLog {
    /// Opens the log in `dir`, creating it, and starts its committer. Returns what was found damaged, too.
    ///
    /// # Errors
    /// [`LogError::Read`] when the files cannot be read.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: SegmentOptions) -> Result<(FileLog, Vec<Damage>), LogError> {
        let (mut ids, mut damage) = (Ids::default(), Vec::new());
        let log = SegmentLog::open(Arc::clone(&disk), dir, options, &mut |found| match found {
            Replay::Record(record) => {
                if let (at, Some((Some(id), _))) = (record.at, split(&record)) {
                    ids.remember(id, at);
                }
            }
            Replay::Damage(found) => damage.push(found.clone()),
            Replay::Segment { .. } => {}
        })?;
        let shared = Arc::new(Shared {
            disk,
            log: Mutex::new(log),
            queue: Mutex::new(Queue::default()),
            arrived: Condvar::new(),
        });
        let committer = std::thread::Builder::new().name("log".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(ids)
        });
        let committer = Some(committer.map_err(|error| LogError::Read(format!("no thread for the log: {error}")))?);
        Ok((FileLog { shared, committer }, damage))
    }
}

impl Drop for FileLog {
    /// Commits what is waiting, then stops.
    fn drop(&mut self) {
        self.shared.queue.lock().stop = true;
        self.shared.arrived.notify_one();
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

impl Shared {
    fn run(&self, mut ids: Ids) {
        loop {
            let waiting = {
                let mut queue = self.queue.lock();
                while queue.waiting.is_empty() && !queue.stop {
                    self.arrived.wait(&mut queue);
                }
                if queue.waiting.is_empty() {
                    return;
                }
                queue.bytes = 0;
                std::mem::take(&mut queue.waiting)
            };
            let mut log = self.log.lock();
            let mut group = Group::default();
            for Waiting { record, id, answer } in waiting {
                match group.push(&mut log, &mut ids, &record, id) {
                    Ok(appended) => group.answers.push((answer, appended)),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            group.settle(&mut log, &mut ids);
            let _ = log.prepare(); // A failure closes the log, and the next append says so.
        }
    }
}

/// Records that were buffered and wait for one sync.
#[derive(Default)]
struct Group {
    answers: Vec<(oneshot::Sender<Result<Appended, LogError>>, Appended)>,
}

impl Group {
    fn push(
        &mut self,
        log: &mut SegmentLog,
        ids: &mut Ids,
        record: &Bytes,
        id: Option<RecordId>,
    ) -> Result<Appended, LogError> {
        if let Some(at) = id.as_ref().and_then(|id| ids.positions.get(id)) {
            return Ok(Appended {
                at: *at,
                duplicate: true,
            });
        }
        log.check()?;
        let joined;
        let (kind, payload) = match &id {
            None => (KIND_PLAIN, &record[..]),
            Some(id) => {
                joined = join(id, record)?;
                (KIND_WITH_ID, &joined[..])
            }
        };
        if !log.has_room([payload.len()]) {
            self.settle(log, ids);
            log.rotate([payload.len()])?;
        }
        let at = log.push(kind, payload);
        if let Some(id) = id {
            ids.remember(id, at);
        }
        Ok(Appended { at, duplicate: false })
    }

    /// Makes the buffered records durable and answers for them.
    fn settle(&mut self, log: &mut SegmentLog, ids: &mut Ids) {
        let result = log.commit();
        if result.is_err() {
            let next = log.next();
            ids.positions.retain(|_, at| *at < next);
        }
        for (answer, appended) in self.answers.drain(..) {
            let _ = answer.send(result.clone().map(|()| appended)); // A caller that left needs no answer.
        }
    }
}

fn join(id: &RecordId, record: &[u8]) -> Result<Vec<u8>, LogError> {
    let Ok(len) = u16::try_from(id.0.len()) else {
        return Err(LogError::Full(format!(
            "a record id of {} bytes, the limit is {}",
            id.0.len(),
            u16::MAX
        )));
    };
    let mut joined = Vec::with_capacity(2 + id.0.len() + record.len());
    joined.extend(len.to_le_bytes());
    joined.extend(id.0.as_bytes());
    joined.extend_from_slice(record);
    Ok(joined)
}

/// Takes a stored record apart; `None` when it is none of ours.
fn split(record: &Record) -> Option<(Option<RecordId>, Bytes)> {
    let payload = &record.payload;
    match record.kind {
        KIND_PLAIN => Some((None, payload.clone())),
        KIND_WITH_ID => {
            let (len, rest) = payload.split_first_chunk::<2>()?;
            let len = usize::from(u16::from_le_bytes(*len));
            let id = std::str::from_utf8(rest.get(..len)?).ok()?;
            Some((Some(RecordId(id.to_owned())), payload.slice(2 + len..)))
        }
        _ => None,
    }
}

impl Log for FileLog {
    fn append(&self, record: Bytes, id: Option<RecordId>) -> BoxFuture<'_, Result<Appended, LogError>> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            if queue.bytes + record.len() > QUEUE_BYTES_MAX && !queue.waiting.is_empty() {
                let text = format!(
                    "{} bytes wait for the disk, the limit is {QUEUE_BYTES_MAX}",
                    queue.bytes
                );
                return Box::pin(std::future::ready(Err(LogError::Full(text))));
            }
            queue.bytes += record.len();
            queue.waiting.push(Waiting { record, id, answer });
        }
        self.shared.arrived.notify_one();
        Box::pin(async move {
            let gone = |_| Err(LogError::Closed("the committer has ended".to_owned()));
            answered.await.unwrap_or_else(gone)
        })
    }

    fn read(&self, from: Position, visit: &mut dyn FnMut(LogItem) -> bool) -> Result<(), LogError> {
        let files = self.shared.log.lock().files();
        let mut expected = from.0;
        let starts: Vec<u64> = files.iter().map(|file| file.first().0).collect();
        for (index, file) in files.iter().enumerate() {
            if starts.get(index + 1).is_some_and(|next| *next <= from.0) {
                continue;
            }
            if file.first().0 > expected {
                let reason = format!("records before {} are missing", file.first().0);
                let (from, to) = (Position(expected), file.first());
                if expected >= starts[0] && !visit(LogItem::Gap { from, to, reason }) {
                    return Ok(());
                }
                expected = file.first().0;
            }
            let read = segments::read_file(&*self.shared.disk, file, &mut |found| {
                let Some(item) = item_of(found) else { return true };
                match &item {
                    LogItem::Record { at, .. } if at.0 < from.0 => return true,
                    LogItem::Gap { to, .. } if to.0 <= from.0 => return true,
                    LogItem::Record { at, .. } => expected = at.0 + 1,
                    LogItem::Gap { to, .. } => expected = to.0,
                }
                visit(item)
            });
            match read {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // Trimmed since the list was made.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(LogError::Read(error.to_string())),
            }
        }
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        let log = self.shared.log.lock();
        Bounds {
            first: log.first(),
            next: log.next(),
        }
    }

    fn trim(&self, below: Position) -> Result<(), LogError> {
        self.shared.log.lock().trim(below)
    }
}

/// Returns what a reader sees of it, if anything.
fn item_of(found: Replay<'_>) -> Option<LogItem> {
    Some(match found {
        Replay::Record(record) => match split(&record) {
            Some((_, payload)) => LogItem::Record { at: record.at, payload },
            None => LogItem::Gap {
                from: record.at,
                to: Position(record.at.0 + 1),
                reason: format!("a record of unknown kind {}", record.kind),
            },
        },
        Replay::Damage(damage) => LogItem::Gap {
            from: Position(damage.lost.start),
            to: Position(damage.lost.end),
            reason: damage.to_string(),
        },
        Replay::Segment { .. } => return None,
    })
}
