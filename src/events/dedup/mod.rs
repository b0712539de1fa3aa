//! Which events were counted: every id, exactly, by the hour of its event.
//!
//! A retry carries the time that its first copy was stamped with, so that an id is looked for in one hour. Ids since the last
//! checkpoint are a set in memory, older ones sorted files behind filters ([`IdFile`]): 30 ns a file for an id that is new.

mod file;

pub(crate) use file::{IdFile, IdFileError, encode};

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashSet;

use super::{Event, metrics};

/// Milliseconds of an hour.
pub(crate) const HOUR: i64 = 3_600_000;

/// The ids of one stretch of the log, by hour.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    hours: BTreeMap<i64, HashSet<u128>>,
}

/// Files by hour, as a checkpoint left them.
pub(crate) type IdFiles = BTreeMap<i64, Vec<Arc<IdFile>>>;

impl Ids {
    /// Adds an event.
    pub(crate) fn insert(&mut self, event: &Event) {
        self.hours
            .entry(hour_of(event.stamped.0))
            .or_default()
            .insert(event.id.0);
    }

    /// Returns whether an event is there.
    pub(crate) fn contains(&self, event: &Event) -> bool {
        let ids = self.hours.get(&hour_of(event.stamped.0));
        ids.is_some_and(|ids| ids.contains(&event.id.0))
    }

    /// Returns the ids of each hour.
    pub(crate) fn hours(&self) -> impl Iterator<Item = (i64, &HashSet<u128>)> {
        self.hours.iter().map(|(hour, ids)| (*hour, ids))
    }

    /// Returns how many ids there are.
    pub(crate) fn len(&self) -> usize {
        self.hours.values().map(HashSet::len).sum()
    }
}

/// Returns the hour that holds a time.
pub(crate) fn hour_of(at: i64) -> i64 {
    at.div_euclid(HOUR)
}

/// Returns whether an event was counted, as memory and files know it.
///
/// # Errors
/// [`IdFileError`] when a file that may hold it is damaged: then nobody knows.
pub(crate) fn is_known(event: &Event, memory: &[&Ids], files: &IdFiles) -> Result<bool, IdFileError> {
    if memory.iter().any(|ids| ids.contains(event)) {
        metrics::LOOKUPS.inc(&["memory"]);
        return Ok(true);
    }
    for file in files.get(&hour_of(event.stamped.0)).into_iter().flatten() {
        if file.contains(event.id.0)? {
            metrics::LOOKUPS.inc(&["file"]);
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::testing;
    use crate::model::Millis;

    #[test]
    fn an_id_is_found_by_its_stamp_in_memory_and_in_files() {
        let first = testing::click("e1", "a", 1000);
        let mut retry = first.clone();
        retry.at = Millis(HOUR + 2000); // Corrected to another hour: the stamp is what counts.
        let other = testing::click("e2", "a", 1000);
        let mut ids = Ids::default();
        ids.insert(&first);
        let none = IdFiles::new();
        assert_eq!(is_known(&retry, &[&ids], &none), Ok(true));
        assert_eq!(is_known(&other, &[&ids], &none), Ok(false));
        let bytes = encode(0, ids.hours.remove(&0).unwrap());
        let file = Arc::new(IdFile::open("ids".to_owned(), bytes).unwrap());
        let files = IdFiles::from([(0, vec![file])]);
        let empty = Ids::default();
        assert_eq!(is_known(&retry, &[&empty], &files), Ok(true));
        assert_eq!(is_known(&other, &[&empty], &files), Ok(false));
    }
}
