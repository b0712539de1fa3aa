//! A log: the one thing that must survive. State is what you get by folding it.

mod mem;

use bytes::Bytes;

pub use mem::MemLog;

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
