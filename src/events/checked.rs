//! What passes between the door and the core: checked batches in, answers out.

use super::{Event, Field};
use crate::io::BoxFuture;
use crate::model::Millis;

/// A request's events after all checks, in the order they were sent, and those that were refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// What is to be counted.
    pub events: Vec<Event>,
    /// What is not.
    pub rejected: Vec<Rejection>,
}

/// Why one event of a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rejection {
    /// Its place in the request, from 0.
    pub index: usize,
    /// The field that is to blame; empty when it is the event as a whole.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a request was answered, and is answered again when its idempotency key comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Events counted now, marked ones included.
    pub accepted: u64,
    /// Events that were durable before.
    pub duplicate: u64,
    /// Events refused.
    pub rejected: u64,
    /// Of the accepted ones, those that do not count as net.
    pub bot: u64,
    /// Why events were refused.
    pub errors: Vec<Rejection>,
    /// Minutes that end at or before this are closed.
    pub watermark: Millis,
}

/// Names a request of one sender, so that a retry gets its first answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// The token or site that the request came by; keys of others are others.
    pub sender: String,
    /// The header's value.
    pub key: String,
}

/// Why nothing of a request was counted. A retry is safe after each of them.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Too much is waiting for the disk.
    #[error("{0}")]
    Overloaded(String),
    /// The disk is full.
    #[error("{0}")]
    DiskFull(String),
    /// A write failed, or the server stops: nothing more is taken.
    #[error("{0}")]
    Closed(String),
}

/// Counts events exactly once: what the door hands batches to.
pub trait Counting: Send + Sync {
    /// Counts a batch and answers when every event of it is durable.
    ///
    /// # Errors
    /// [`CollectError`]; some of the events may be durable all the same, a retry finds them duplicate.
    fn collect(&self, batch: Checked, key: Option<IdempotencyKey>) -> BoxFuture<'_, Result<Answer, CollectError>>;
}

impl Rejection {
    /// Blames a field.
    pub fn of(index: usize, field: Field, reason: impl Into<String>) -> Rejection {
        Rejection::named(index, field.name(), reason)
    }

    /// Blames an input that is no text of the event.
    pub fn named(index: usize, field: &str, reason: impl Into<String>) -> Rejection {
        Rejection {
            index,
            field: field.to_owned(),
            reason: reason.into(),
        }
    }
}
