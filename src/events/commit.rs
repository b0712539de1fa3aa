//! The committer: one thread that makes requests durable, then counted, in one order.
//!
//! It takes what is there, decides for each event whether it is new, writes once, syncs once, applies and answers; the sync
//! under way is the batching window. A duplicate of an event in the same group is answered after the same sync, so that
//! nobody hears "duplicate" of something that may still be lost. Nothing is applied before it is durable.

use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::cells::{domain_of, minute_of};
use super::dedup::Ids;
use super::record::{self, Counted, Duplicates, Header, Keyed};
use super::state::{Answers, Shared, answer_of};
use super::watermark::Watermark;
use super::{Answer, Checked, CollectError, Event, IdempotencyKey, Rejection, metrics};
use crate::io::Clock;
use crate::io::log::{LogError, Position, SegmentLog};
use crate::model::Millis;

/// Bytes that may wait for the committer.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// The kind of our records in the log.
pub(crate) const KIND_EVENTS: u8 = 1;

/// Is told what was counted, in the order of the log; never blocks.
pub trait Listener: Send + Sync {
    /// These events are durable and counted; `at` is their record's position in the log.
    fn counted(&self, at: Position, events: &[Event]);
}

type Reply = oneshot::Sender<Result<Answer, CollectError>>;

/// A request, encoded.
struct Submission {
    events: Vec<Event>,
    /// All events as a record takes them, and where each ends.
    packed: Vec<u8>,
    ends: Vec<usize>,
    errors: Vec<Rejection>,
    key: Option<IdempotencyKey>,
    received: Millis,
    reply: Reply,
}

/// A request in the group that waits for its sync.
struct Prepared {
    at: Position,
    header: Header,
    events: Vec<Event>,
    errors: Vec<Rejection>,
    reply: Reply,
    /// Retries of the same request that came before it was answered.
    followers: Vec<Reply>,
}

/// Requests on their way into the log and the cells.
pub(crate) struct Committer {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    state: Arc<Shared>,
    answers: Arc<Answers>,
    watermark: Arc<Watermark>,
    clock: Arc<dyn Clock>,
    log: Mutex<SegmentLog>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    listeners: Mutex<Vec<Arc<dyn Listener>>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Submission>,
    bytes: usize,
    events: usize,
    stop: bool,
}

/// What the committer works on.
pub(crate) struct CommitDeps {
    pub(crate) state: Arc<Shared>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) watermark: Arc<Watermark>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: SegmentLog,
}

fn ended() -> CollectError {
    CollectError::Closed("the event store is shut down".to_owned())
}

fn collect_error(error: &LogError) -> CollectError {
    let text = error.to_string();
    match error {
        LogError::Full(_) => CollectError::Overloaded(text),
        LogError::DiskFull(_) => CollectError::DiskFull(text),
        LogError::Closed(_) | LogError::Read(_) => CollectError::Closed(text),
    }
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(deps: CommitDeps) -> std::io::Result<Committer> {
        let inner = Arc::new(Inner {
            state: deps.state,
            answers: deps.answers,
            watermark: deps.watermark,
            clock: deps.clock,
            log: Mutex::new(deps.log),
            queue: Mutex::default(),
            arrived: Condvar::new(),
            listeners: Mutex::default(),
        });
        let thread = std::thread::Builder::new().name("events-commit".to_owned()).spawn({
            let inner = Arc::clone(&inner);
            move || inner.run()
        })?;
        Ok(Committer {
            inner,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Encodes a request on the caller's thread and queues it.
    pub(crate) fn submit(
        &self,
        batch: Checked,
        key: Option<IdempotencyKey>,
    ) -> Result<oneshot::Receiver<Result<Answer, CollectError>>, CollectError> {
        let received = self.inner.clock.now();
        let (mut packed, mut ends) = (Vec::new(), Vec::with_capacity(batch.events.len()));
        for event in &batch.events {
            record::put_event(event, received, &mut packed);
            ends.push(packed.len());
        }
        let (reply, answered) = oneshot::channel();
        let submission = Submission {
            events: batch.events,
            packed,
            ends,
            errors: batch.rejected,
            key,
            received,
            reply,
        };
        let mut queue = self.inner.queue.lock();
        if queue.stop {
            return Err(ended());
        }
        let bytes = submission.packed.len();
        if queue.bytes + bytes > QUEUE_BYTES_MAX && !queue.waiting.is_empty() {
            return Err(CollectError::Overloaded(format!(
                "{} bytes of events wait for the disk, the limit is {QUEUE_BYTES_MAX}",
                queue.bytes
            )));
        }
        queue.bytes += bytes;
        queue.events += submission.events.len();
        metrics::PENDING.set(queue.events as f64);
        queue.waiting.push(submission);
        drop(queue);
        self.inner.arrived.notify_one();
        Ok(answered)
    }

    /// Returns how many events wait for the disk.
    pub(crate) fn pending(&self) -> usize {
        self.inner.queue.lock().events
    }

    /// Calls `listener` with what is counted from now on.
    pub(crate) fn listen(&self, listener: Arc<dyn Listener>) {
        self.inner.listeners.lock().push(listener);
    }

    /// Looks at the log between two groups.
    pub(crate) fn with_log<T>(&self, look: impl FnOnce(&mut SegmentLog) -> T) -> T {
        look(&mut self.inner.log.lock())
    }

    /// Says whether events can be taken.
    pub(crate) fn check(&self) -> Result<(), CollectError> {
        let checked = self.inner.log.lock().check();
        checked.map_err(|error| collect_error(&error))
    }

    /// Commits what is waiting and ends.
    pub(crate) fn stop(&self) {
        self.inner.queue.lock().stop = true;
        self.inner.arrived.notify_one();
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
struct Ending<'a>(&'a Inner);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.stop = true;
        queue.waiting.clear(); // Their senders go with them, which is an answer.
    }
}

impl Inner {
    fn run(&self) {
        let _ending = Ending(self);
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
            let events: usize = waiting.iter().map(|submission| submission.events.len()).sum();
            self.commit(waiting);
            let mut queue = self.queue.lock();
            queue.events = queue.events.saturating_sub(events);
            metrics::PENDING.set(queue.events as f64);
        }
    }

    /// Makes requests durable and answers them.
    fn commit(&self, waiting: Vec<Submission>) {
        let mut log = self.log.lock();
        if let Err(error) = log.check() {
            for submission in waiting {
                refuse(submission.reply, &error);
            }
            return;
        }
        let closed = self.watermark.hold(self.clock.now());
        let mut group = Group {
            open_minute: minute_of(closed.0),
            ..Group::default()
        };
        for submission in waiting {
            self.prepare(&mut log, &mut group, submission);
        }
        let _ = self.settle(&mut log, &mut group); // Whoever waited was told.
        let _ = log.prepare(); // A failure closes the log, and the next request says so.
    }

    /// Decides about a request and buffers its record; what need not be written is answered at once.
    fn prepare(&self, log: &mut SegmentLog, group: &mut Group, submission: Submission) {
        if let Some(key) = &submission.key {
            if let Some(answer) = self.answers.get(key) {
                let _ = submission.reply.send(Ok(answer)); // A sender that left needs no answer.
                return;
            }
            if let Some(first) = group.keyed(key) {
                first.followers.push(submission.reply);
                return;
            }
        }
        let decided = match self.decide(group, &submission) {
            Ok(decided) => decided,
            Err(reason) => {
                let _ = submission.reply.send(Err(CollectError::Closed(reason)));
                return;
            }
        };
        let mut header = decided.header;
        let (count, packed) = (decided.count, decided.packed);
        let mut payload = Vec::with_capacity(packed.len() / 2 + 128);
        record::encode(&header, count, &packed, &mut payload);
        if !log.has_room([payload.len()]) {
            let settled = self.settle(log, group);
            // The watermark may have moved meanwhile.
            group.open_minute = minute_of(self.watermark.hold(self.clock.now()).0);
            header.closed = group.open_minute;
            payload.clear();
            record::encode(&header, count, &packed, &mut payload);
            if let Err(error) = settled.and_then(|()| log.rotate([payload.len()])) {
                refuse(submission.reply, &error);
                return;
            }
        }
        let mut new = decided.new.into_iter();
        let mut events = submission.events;
        events.retain(|_| new.next().unwrap_or(false));
        events.iter().for_each(|event| group.ids.insert(event));
        group.requests.push(Prepared {
            at: log.push(KIND_EVENTS, &payload),
            header,
            events,
            errors: submission.errors,
            reply: submission.reply,
            followers: Vec::new(),
        });
    }

    /// Tells new events from known ones.
    fn decide(&self, group: &Group, submission: &Submission) -> Result<Decided, String> {
        let mut own = Ids::default();
        let mut counted = Counted {
            rejected: submission.errors.len() as u64,
            ..Counted::default()
        };
        let mut duplicates: Vec<Duplicates> = Vec::new();
        let (mut new, mut packed, mut start) = (Vec::with_capacity(submission.events.len()), Vec::new(), 0);
        let state = self.state.read();
        for (event, end) in submission.events.iter().zip(&submission.ends) {
            let known = own.contains(event) || group.ids.contains(event);
            let known = known || state.is_known(event).map_err(|error| error.to_string())?;
            new.push(!known);
            if known {
                counted.duplicate += 1;
                count_duplicate(&mut duplicates, event);
            } else {
                own.insert(event);
                counted.accepted += 1;
                counted.marked += u64::from(!event.is_net());
                packed.extend_from_slice(&submission.packed[start..*end]);
            }
            start = *end;
        }
        drop(state);
        let keyed = submission.key.clone().map(|key| Keyed {
            key,
            errors: submission.errors.clone(),
        });
        Ok(Decided {
            header: Header {
                received: submission.received,
                closed: group.open_minute,
                keyed,
                counted,
                duplicates,
            },
            count: own.len(),
            new,
            packed,
        })
    }

    /// Syncs the group's records, applies and answers them.
    fn settle(&self, log: &mut SegmentLog, group: &mut Group) -> Result<(), LogError> {
        let open_minute = group.open_minute;
        let group = std::mem::replace(
            group,
            Group {
                open_minute,
                ..Group::default()
            },
        );
        if group.requests.is_empty() {
            self.watermark.release();
            return Ok(());
        }
        let begun = self.clock.mono();
        if let Err(error) = log.commit() {
            self.watermark.release();
            for request in group.requests {
                request.followers.into_iter().for_each(|reply| refuse(reply, &error));
                refuse(request.reply, &error);
            }
            return Err(error);
        }
        metrics::SYNC.observe(self.clock.mono().seconds_since(begun));
        {
            let mut state = self.state.write();
            let late = state.late;
            for request in &group.requests {
                request.events.iter().for_each(|event| self.watermark.saw(event));
                state.apply(request.at.0, &request.header, &request.events);
                self.answers.keep(&request.header);
            }
            metrics::LATE.add(state.late - late);
            metrics::MEMORY.set(state.fresh.memory.bytes() as f64);
        }
        // Before anybody is answered: who was told of an event must see its minute close when its time comes.
        self.watermark.release();
        let listeners = self.listeners.lock().clone();
        for request in group.requests {
            for listener in &listeners {
                listener.counted(request.at, &request.events);
            }
            count(&request.header.counted);
            let answer = Answer {
                errors: request.errors,
                ..answer_of(&request.header)
            };
            for follower in request.followers {
                let _ = follower.send(Ok(answer.clone())); // A sender that left needs no answer.
            }
            let _ = request.reply.send(Ok(answer));
        }
        Ok(())
    }
}

/// What was decided about a request.
struct Decided {
    header: Header,
    count: usize,
    /// For each event, whether it is new.
    new: Vec<bool>,
    /// The new ones' bytes.
    packed: Vec<u8>,
}

/// Requests that were buffered and wait for one sync.
#[derive(Default)]
struct Group {
    /// The first minute that is open: events of older ones are late.
    open_minute: i64,
    requests: Vec<Prepared>,
    ids: Ids,
}

impl Group {
    /// Returns the request with that idempotency key.
    fn keyed(&mut self, key: &IdempotencyKey) -> Option<&mut Prepared> {
        let mut requests = self.requests.iter_mut();
        requests.find(|request| request.header.keyed.as_ref().is_some_and(|keyed| keyed.key == *key))
    }
}

fn count_duplicate(duplicates: &mut Vec<Duplicates>, event: &Event) {
    let (domain, minute) = (domain_of(event), minute_of(event.at.0));
    match duplicates
        .iter_mut()
        .find(|own| (own.domain, own.minute) == (domain, minute))
    {
        Some(own) => own.count += 1,
        None => duplicates.push(Duplicates {
            domain,
            minute,
            count: 1,
        }),
    }
}

fn count(counted: &Counted) {
    for (result, number) in [
        ("accepted", counted.accepted),
        ("duplicate", counted.duplicate),
        ("rejected", counted.rejected),
        ("marked", counted.marked),
    ] {
        if number > 0 {
            metrics::EVENTS.add(&[result], number);
        }
    }
}

fn refuse(reply: Reply, error: &LogError) {
    let _ = reply.send(Err(collect_error(error))); // A sender that left needs no answer.
}
