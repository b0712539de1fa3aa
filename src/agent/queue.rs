//! The durable queue of one server: finished bodies in a log, and how far they were taken.
//!
//! ```text
//! record = 1 u8 | queued at i64 ms | samples u32 | snappy body           a request to send
//!        | 2 u8 | position u64                                         everything below is done       little-endian
//! ```
//! The log is folded when it is opened: the last "done" is where sending goes on. A request may be sent twice after a
//! crash, never lost; the server stores the same sample once.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::metrics::{DROPPED, PENDING};
use crate::io::log::{Log, LogError, LogItem, Position};
use crate::model::{Interval, Millis};

const KIND_BODY: u8 = 1;
const KIND_DONE: u8 = 2;
const HEADER_BYTES: usize = 1 + 8 + 4;

/// A request waiting to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queued {
    pub(super) at: Position,
    pub(super) queued_at: Millis,
    pub(super) samples: u32,
    pub(super) body: Bytes,
}

/// A record, read.
#[derive(Clone, Debug, PartialEq)]
enum Record {
    Body {
        queued_at: Millis,
        samples: u32,
        body: Bytes,
    },
    Done(Position),
}

fn encode_body(queued_at: Millis, samples: u32, body: &[u8]) -> Bytes {
    let mut record = BytesMut::with_capacity(HEADER_BYTES + body.len());
    record.put_u8(KIND_BODY);
    record.put_i64_le(queued_at.0);
    record.put_u32_le(samples);
    record.put_slice(body);
    record.freeze()
}

fn encode_done(below: Position) -> Bytes {
    let mut record = BytesMut::with_capacity(9);
    record.put_u8(KIND_DONE);
    record.put_u64_le(below.0);
    record.freeze()
}

fn decode(record: &Bytes) -> Option<Record> {
    let (kind, rest) = record.split_first()?;
    match *kind {
        KIND_BODY => {
            let (queued_at, rest) = rest.split_first_chunk::<8>()?;
            let (samples, _) = rest.split_first_chunk::<4>()?;
            Some(Record::Body {
                queued_at: Millis(i64::from_le_bytes(*queued_at)),
                samples: u32::from_le_bytes(*samples),
                body: record.slice(HEADER_BYTES..),
            })
        }
        KIND_DONE => Some(Record::Done(Position(u64::from_le_bytes(rest.try_into().ok()?)))),
        _ => None,
    }
}

/// One server's queue.
pub(super) struct Queue {
    label: String,
    log: Arc<dyn Log>,
    bytes_max: u64,
    age_max: Interval,
    state: Mutex<State>,
    arrived: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The first record that is not done.
    next: Position,
    /// Position, samples and bytes of what waits: the oldest first.
    waiting: std::collections::VecDeque<Waiting>,
    bytes: u64,
    samples: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    at: Position,
    queued_at: Millis,
    samples: u32,
    bytes: u64,
}

impl State {
    fn push(&mut self, one: Waiting) {
        self.bytes += one.bytes;
        self.samples += u64::from(one.samples);
        self.waiting.push_back(one);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let one = self.waiting.pop_front()?;
        self.bytes -= one.bytes;
        self.samples -= u64::from(one.samples);
        self.next = Position(one.at.0 + 1);
        Some(one)
    }
}

impl Queue {
    /// Folds the log of `label`. Blocks.
    pub(super) fn open(label: String, log: Arc<dyn Log>, bytes_max: u64, age_max: Interval) -> Result<Queue, LogError> {
        let mut all = Vec::new();
        let mut next = log.bounds().first;
        log.read(log.bounds().first, &mut |item| {
            match item {
                LogItem::Record { at, payload } => match decode(&payload) {
                    Some(Record::Done(below)) => next = next.max(below),
                    Some(Record::Body {
                        queued_at,
                        samples,
                        body,
                    }) => all.push(Waiting {
                        at,
                        queued_at,
                        samples,
                        bytes: body.len() as u64,
                    }),
                    None => tracing::warn!(remote = label, position = at.0, "unknown record in the queue: left out"),
                },
                LogItem::Gap { from, to, reason } => {
                    tracing::error!(
                        remote = label,
                        from = from.0,
                        to = to.0,
                        reason,
                        "the queue lost records"
                    );
                    DROPPED.add(&[&label, "corrupt"], to.0.saturating_sub(from.0));
                }
            }
            true
        })?;
        let mut state = State {
            next,
            ..State::default()
        };
        for one in all.into_iter().filter(|one| one.at >= next) {
            state.push(one);
        }
        PENDING.set(&[&label], state.samples as f64);
        Ok(Queue {
            label,
            log,
            bytes_max,
            age_max,
            state: Mutex::new(state),
            arrived: tokio::sync::Notify::new(),
        })
    }

    /// Puts a request at the end, durably; the oldest are given up while the queue is over its size.
    pub(super) async fn put(&self, now: Millis, samples: u32, body: &[u8]) -> Result<(), LogError> {
        let record = encode_body(now, samples, body);
        let appended = self.log.append(record, None).await?;
        let given_up = {
            let mut state = self.state.lock();
            state.push(Waiting {
                at: appended.at,
                queued_at: now,
                samples,
                bytes: body.len() as u64,
            });
            let mut given_up = 0;
            while state.bytes > self.bytes_max && state.waiting.len() > 1 {
                given_up += state.pop().map_or(0, |one| u64::from(one.samples));
            }
            PENDING.set(&[&self.label], state.samples as f64);
            given_up
        };
        if given_up > 0 {
            DROPPED.add(&[&self.label, "queue_full"], given_up);
            tracing::error!(
                remote = self.label,
                samples = given_up,
                "the queue is full: the oldest samples are given up"
            );
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Completes when something may wait.
    pub(super) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Returns the oldest request, without taking it out; those beyond their age are given up. Blocks.
    pub(super) fn oldest(&self, now: Millis) -> Result<Option<Queued>, LogError> {
        loop {
            let Some(one) = self.oldest_young_enough(now) else {
                return Ok(None);
            };
            let mut found = None;
            self.log.read(one.at, &mut |item| {
                if let LogItem::Record { at, payload } = item
                    && at == one.at
                    && let Some(Record::Body {
                        queued_at,
                        samples,
                        body,
                    }) = decode(&payload)
                {
                    found = Some(Queued {
                        at,
                        queued_at,
                        samples,
                        body,
                    });
                }
                false
            })?;
            if found.is_some() {
                return Ok(found);
            }
            self.give_up(one.at, "corrupt");
        }
    }

    fn oldest_young_enough(&self, now: Millis) -> Option<Waiting> {
        loop {
            let one = self.state.lock().waiting.front().copied()?;
            if self.age_max == Interval(0) || now - one.queued_at <= self.age_max {
                return Some(one);
            }
            self.give_up(one.at, "too_old");
        }
    }

    /// Takes the request at `at` out without its having been sent.
    pub(super) fn give_up(&self, at: Position, reason: &str) {
        if let Some(one) = self.take_out(at) {
            DROPPED.add(&[&self.label, reason], u64::from(one.samples));
        }
    }

    /// Takes the request at `at` out of memory; [`Queue::remember`] makes that durable.
    pub(super) fn done(&self, at: Position) {
        self.take_out(at);
    }

    fn take_out(&self, at: Position) -> Option<Waiting> {
        let mut state = self.state.lock();
        if state.waiting.front().is_none_or(|front| front.at != at) {
            return None; // Pushed out of a full queue meanwhile.
        }
        let one = state.pop();
        PENDING.set(&[&self.label], state.samples as f64);
        one
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().waiting.is_empty()
    }

    /// Makes durable how far the queue is done, and lets the log forget it.
    pub(super) async fn remember(&self) -> Result<(), LogError> {
        let next = self.state.lock().next;
        self.log.append(encode_done(next), None).await?;
        self.log.trim(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::log::MemLog;
    use proptest::prelude::*;

    fn open(log: &Arc<MemLog>) -> Queue {
        Queue::open("test".to_owned(), log.clone(), 100, Interval(1000)).unwrap()
    }

    fn bodies(queue: &Queue) -> Vec<Bytes> {
        let mut found = Vec::new();
        while let Some(one) = queue.oldest(Millis(0)).unwrap() {
            queue.done(one.at);
            found.push(one.body);
        }
        found
    }

    #[tokio::test]
    async fn a_queue_goes_on_where_it_stood() {
        let log = Arc::new(MemLog::new());
        let queue = open(&log);
        for body in ["a", "b", "c"] {
            queue.put(Millis(0), 1, body.as_bytes()).await.unwrap();
        }
        let first = queue.oldest(Millis(0)).unwrap().unwrap();
        queue.done(first.at);
        queue.remember().await.unwrap();
        queue.put(Millis(0), 1, b"d").await.unwrap();
        drop(queue);
        let queue = open(&log);
        assert_eq!(bodies(&queue), ["b", "c", "d"]);
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn the_oldest_give_way_when_the_queue_is_full_or_they_are_too_old() {
        let log = Arc::new(MemLog::new());
        let queue = open(&log);
        for (at, body) in [(0, [1; 60]), (10, [2; 60])] {
            queue.put(Millis(at), 1, &body).await.unwrap();
        }
        assert_eq!(queue.oldest(Millis(0)).unwrap().unwrap().body[0], 2);
        assert_eq!(queue.oldest(Millis(2000)).unwrap(), None);
    }

    #[tokio::test]
    async fn a_record_lost_on_the_disk_does_not_stop_the_others() {
        let log = Arc::new(MemLog::new());
        let queue = open(&log);
        queue.put(Millis(0), 1, b"a").await.unwrap();
        queue.put(Millis(0), 1, b"b").await.unwrap();
        log.lose(Position(0));
        assert_eq!(bodies(&queue), ["b"]);
    }

    #[tokio::test]
    async fn a_log_that_refuses_is_told() {
        let log = Arc::new(MemLog::new());
        let queue = open(&log);
        log.refuse(Some(LogError::DiskFull("no room".to_owned())));
        assert!(queue.put(Millis(0), 1, b"a").await.is_err() && queue.is_empty());
    }

    #[test]
    fn the_format_is_pinned() {
        let body = encode_body(Millis(1), 2, b"xy");
        assert_eq!(&body[..], [1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'x', b'y']);
        assert_eq!(&encode_done(Position(258))[..], [2, 2, 1, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn a_record_reads_back_and_its_header_cannot_be_cut(at in any::<i64>(), samples in any::<u32>(), body in any::<Vec<u8>>()) {
            let record = encode_body(Millis(at), samples, &body);
            let read = Record::Body { queued_at: Millis(at), samples, body: Bytes::from(body) };
            prop_assert_eq!(decode(&record), Some(read));
            for cut in 0..HEADER_BYTES {
                prop_assert_eq!(decode(&record.slice(..cut)), None);
            }
            let done = encode_done(Position(at as u64));
            for cut in 0..done.len() {
                prop_assert_eq!(decode(&done.slice(..cut)), None);
            }
        }

        #[test]
        fn foreign_records_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = decode(&Bytes::from(bytes));
        }
    }
}
