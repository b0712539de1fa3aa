//! Counts under examination: recount by today's rules, reconcile by an independent path, prove to anybody with SQL, and forget
//! a person without losing a count. All of it reads raw events; what it changes, it changes by one manifest.

mod erase;
mod prove;
mod recalc;
mod reconcile;
mod report;
#[cfg(test)]
mod tests;

pub use erase::{Erasure, Person, PersonError, erase, export, finish_erasures, receipts};
pub use prove::{Proof, prove};
pub use recalc::{Difference, Recalculation, Request, recalculate, roll_back};
pub use reconcile::{Gap, Reconciler, Reconciliation, reconcile, reconciliations};
pub use report::{Report, ReportQuestion, report};

use super::{Event, Events, EventsError, RawError, RawQuestion};
use crate::model::Millis;

/// Milliseconds in an hour.
const HOUR: i64 = 3_600_000;
/// Events held in memory at once; an hour with more is read in several slices of time.
const SLICE_EVENTS_MAX: u64 = 2_000_000;

/// Why an examination cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// What was asked makes no sense; the text says why.
    #[error("{0}")]
    Asked(String),
    /// Another one is under way.
    #[error("another recalculation, reconciliation or erasure is under way")]
    Busy,
    /// Raw events cannot be read.
    #[error(transparent)]
    Raw(#[from] RawError),
    /// The event store failed.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// Counts cannot be asked for.
    #[error(transparent)]
    Question(#[from] super::QuestionError),
    /// What changed meanwhile makes the result wrong: ask again.
    #[error("raw files of the range were replaced meanwhile; ask again")]
    Moved,
}

/// Whole hours, half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hours {
    /// The first, in hours since the epoch.
    pub first: i64,
    /// The one after the last.
    pub end: i64,
}

impl Hours {
    /// Returns the hours of a range.
    ///
    /// # Errors
    /// [`AuditError::Asked`] when it does not begin and end on an hour, or is empty.
    pub fn of(from: Millis, to: Millis) -> Result<Hours, AuditError> {
        if from.0.rem_euclid(HOUR) != 0 || to.0.rem_euclid(HOUR) != 0 || from >= to {
            return Err(AuditError::Asked(format!(
                "{from} to {to}: from and to are full hours (UTC), and from is the earlier"
            )));
        }
        Ok(Hours {
            first: from.0.div_euclid(HOUR),
            end: to.0.div_euclid(HOUR),
        })
    }

    fn from(self) -> Millis {
        Millis(self.first * HOUR)
    }

    fn to(self) -> Millis {
        Millis(self.end * HOUR)
    }
}

/// Returns the slices of an hour that hold few enough events each, were they spread evenly.
fn slices(hour: i64, events: u64) -> impl Iterator<Item = (Millis, Millis)> {
    let count = i64::try_from(events.div_ceil(SLICE_EVENTS_MAX))
        .unwrap_or(1)
        .clamp(1, 3600);
    let edge = move |number: i64| Millis(hour * HOUR + HOUR * number / count);
    (0..count).map(move |number| (edge(number), edge(number + 1)))
}

/// Returns the events of raw files in a stretch of time, in the order they happened.
fn read_slice(
    events: &Events,
    files: &[super::RawFile],
    (from, to): (Millis, Millis),
) -> Result<Vec<Event>, AuditError> {
    let question = RawQuestion {
        from,
        to,
        ..RawQuestion::everything()
    };
    let mut found = Vec::new();
    raw(events)?.scan(files, &question, &mut |event| {
        found.push(event);
        true
    })?;
    found.sort_unstable_by_key(|event| (event.at, event.id));
    Ok(found)
}

fn raw(events: &Events) -> Result<&dyn super::RawStore, AuditError> {
    let missing = || AuditError::Asked("this server keeps no raw events".to_owned());
    events.raw.as_deref().ok_or_else(missing)
}
