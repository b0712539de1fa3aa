//! What the core asks of the store of raw events: write these as a file, read those files.
//!
//! The core decides when a file is written and names it in its manifest; what is in the file is the store's affair.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Event, Field, PersonHash};
use crate::model::Millis;

/// A file of raw events, as the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawFile {
    /// The object's name.
    pub name: String,
    /// The hour of the events' times, in hours since the epoch.
    pub hour: i64,
    /// How many events it holds.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// The first log record whose events of the hour it holds.
    pub from: u64,
    /// The log record after the last.
    pub to: u64,
}

/// Which events are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawQuestion {
    /// Events from then on.
    pub from: Millis,
    /// Events before then.
    pub to: Millis,
    /// Fields with the value they must have; empty stands for absent.
    pub fields: Vec<(Field, String)>,
    /// When not empty, the user must be one of these (the same name under the keys of several months).
    pub users: Vec<PersonHash>,
    /// When not empty, the address must be one of these.
    pub ips: Vec<PersonHash>,
    /// Texts that the caller will look at, beside those of `fields`; numbers and hashes are always there.
    pub texts: Vec<Field>,
}

impl RawQuestion {
    /// Wants all events with all their texts.
    pub fn everything() -> RawQuestion {
        RawQuestion {
            from: Millis::MIN,
            to: Millis::MAX,
            fields: Vec::new(),
            users: Vec::new(),
            ips: Vec::new(),
            texts: Field::ALL.to_vec(),
        }
    }

    /// Whether an event is wanted.
    pub fn wants(&self, event: &Event) -> bool {
        let one_of = |hashes: &[PersonHash], own: Option<PersonHash>| {
            hashes.is_empty() || own.is_some_and(|own| hashes.contains(&own))
        };
        (self.from..self.to).contains(&event.at)
            && self.fields.iter().all(|(field, value)| event.text(*field) == value)
            && one_of(&self.users, event.user)
            && one_of(&self.ips, event.ip)
    }
}

/// Why raw events cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// The object store failed.
    #[error(transparent)]
    Objects(#[from] crate::io::ObjectError),
    /// A file's bytes are damaged.
    #[error("raw events in {file}: {reason}")]
    Corrupt {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The question would read more than is allowed; the text names limit and amount.
    #[error("{0}")]
    Limit(String),
}

/// Keeps raw events in files.
pub trait RawStore: Send + Sync {
    /// Writes the events of one hour from log records `log`, durably. The same call twice writes the same file once.
    ///
    /// # Errors
    /// [`RawError`]; the call is repeated later, perhaps with more records.
    fn write(&self, hour: i64, log: Range<u64>, events: &[Event]) -> Result<RawFile, RawError>;

    /// Calls `visit` with every wanted event in `files`, in no order, until it returns `false`. Returns the bytes read.
    ///
    /// # Errors
    /// [`RawError`]: never an answer that lacks some.
    fn scan(
        &self,
        files: &[RawFile],
        question: &RawQuestion,
        visit: &mut dyn FnMut(Event) -> bool,
    ) -> Result<u64, RawError>;
}
