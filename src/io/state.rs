//! Small states under keys, changed only by who knows their latest revision: settings, leases.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::BoxFuture;
use super::log::{Log, LogError, LogItem, Position};

/// The number of a change, rising over the whole store; 0 = the key has never been set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// Why a state did not change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Somebody else was first.
    #[error("{key} is at revision {now}, not at {expected}", now = .now.0, expected = .expected.0)]
    Conflict {
        /// The key.
        key: String,
        /// What the caller thought.
        expected: Revision,
        /// What it is.
        now: Revision,
    },
    /// The store cannot be reached, or failed.
    #[error("state store: {0}")]
    Unavailable(String),
}

/// A state with the revision that made it.
pub type Stored = Option<(Revision, Bytes)>;

/// Keeps small states with compare-and-set.
pub trait StateStore: Send + Sync {
    /// Returns a state and its revision; `None` when there is none.
    ///
    /// # Errors
    /// [`StateError::Unavailable`].
    fn get(&self, key: &str) -> Result<Stored, StateError>;

    /// Sets a state when it is still at `expected` ([`Revision`] 0: when there is none). Durable when this returns.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when it is not; nothing changed then.
    fn put_if<'a>(
        &'a self,
        key: &'a str,
        expected: Revision,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Revision, StateError>>;

    /// Deletes a state when it is still at `expected`. Durable when this returns.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when it is not; nothing changed then.
    fn delete_if<'a>(&'a self, key: &'a str, expected: Revision) -> BoxFuture<'a, Result<(), StateError>>;

    /// Returns a receiver that always holds the newest revision of the whole store: it changes when any state does.
    fn watch(&self) -> watch::Receiver<Revision>;
}

/// What is known: states, and who waits for changes.
struct States {
    states: BTreeMap<String, (Revision, Bytes)>,
    announce: watch::Sender<Revision>,
}

impl States {
    fn new() -> States {
        States {
            states: BTreeMap::new(),
            announce: watch::Sender::new(Revision(0)),
        }
    }

    fn expect(&self, key: &str, expected: Revision) -> Result<(), StateError> {
        let now = self.states.get(key).map_or(Revision(0), |(revision, _)| *revision);
        if now == expected {
            Ok(())
        } else {
            Err(StateError::Conflict {
                key: key.to_owned(),
                expected,
                now,
            })
        }
    }

    /// Applies a change; `None` deletes.
    fn apply(&mut self, key: &str, value: Option<Bytes>, revision: Revision) {
        match value {
            Some(value) => drop(self.states.insert(key.to_owned(), (revision, value))),
            None => drop(self.states.remove(key)),
        }
        self.announce.send_replace(revision);
    }
}

/// States in memory: the simulated twin.
#[derive(Clone)]
pub struct MemState {
    states: Arc<Mutex<States>>,
}

impl Default for MemState {
    fn default() -> MemState {
        MemState {
            states: Arc::new(Mutex::new(States::new())),
        }
    }
}

impl MemState {
    fn change(&self, key: &str, expected: Revision, value: Option<Bytes>) -> Result<Revision, StateError> {
        let mut states = self.states.lock();
        states.expect(key, expected)?;
        let revision = Revision(states.announce.borrow().0 + 1);
        states.apply(key, value, revision);
        Ok(revision)
    }
}

impl StateStore for MemState {
    fn get(&self, key: &str) -> Result<Stored, StateError> {
        Ok(self.states.lock().states.get(key).cloned())
    }

    fn put_if<'a>(
        &'a self,
        key: &'a str,
        expected: Revision,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Revision, StateError>> {
        Box::pin(std::future::ready(self.change(key, expected, Some(value))))
    }

    fn delete_if<'a>(&'a self, key: &'a str, expected: Revision) -> BoxFuture<'a, Result<(), StateError>> {
        Box::pin(std::future::ready(self.change(key, expected, None).map(|_| ())))
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.states.lock().announce.subscribe()
    }
}

/// States folded from a log: each change is a record, and its position (from 1) the revision.
///
/// ```text
/// kind u8: 1 put, 2 delete | key length u32 | key | value (put only)     little-endian
/// ```
pub struct LogState {
    log: Arc<dyn Log>,
    states: Mutex<States>,
    /// Held from the comparison to the append, so that no other change comes between.
    turn: tokio::sync::Mutex<()>,
}

const PUT: u8 = 1;
const DELETE: u8 = 2;

impl LogState {
    /// Folds the log. Blocks while reading.
    ///
    /// # Errors
    /// [`StateError::Unavailable`] when the log cannot be read, has a gap, or holds something else: a state that may be stale is
    /// no state.
    pub fn open(log: Arc<dyn Log>) -> Result<LogState, StateError> {
        let mut states = States::new();
        let mut wrong = None;
        let read = log.read(log.bounds().first, &mut |item| {
            let applied = match item {
                LogItem::Record { at, payload } => fold(&mut states, at, &payload),
                LogItem::Gap { reason, .. } => Err(reason),
            };
            wrong = applied.err();
            wrong.is_none()
        });
        read.map_err(unavailable)?;
        match wrong {
            Some(reason) => Err(StateError::Unavailable(reason)),
            None => Ok(LogState {
                log,
                states: Mutex::new(states),
                turn: tokio::sync::Mutex::new(()),
            }),
        }
    }

    async fn change(&self, key: &str, expected: Revision, value: Option<Bytes>) -> Result<Revision, StateError> {
        let _turn = self.turn.lock().await;
        self.states.lock().expect(key, expected)?;
        let appended = self
            .log
            .append(encode(key, value.as_ref()), None)
            .await
            .map_err(unavailable)?;
        let revision = Revision(appended.at.0 + 1);
        self.states.lock().apply(key, value, revision);
        Ok(revision)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unavailable(error: LogError) -> StateError {
    StateError::Unavailable(error.to_string())
}

fn encode(key: &str, value: Option<&Bytes>) -> Bytes {
    let mut record = vec![if value.is_some() { PUT } else { DELETE }];
    record.extend((key.len() as u32).to_le_bytes());
    record.extend(key.as_bytes());
    record.extend(value.map_or(&[][..], |value| value));
    Bytes::from(record)
}

fn fold(states: &mut States, at: Position, record: &Bytes) -> Result<(), String> {
    let malformed = || format!("the record at {} is no state", at.0);
    let (kind, rest) = record.split_first().ok_or_else(malformed)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
    let (key, value) = rest
        .split_at_checked(u32::from_le_bytes(*length) as usize)
        .ok_or_else(malformed)?;
    let key = std::str::from_utf8(key).map_err(|_| malformed())?;
    let value = match (*kind, value) {
        (PUT, value) => Some(Bytes::copy_from_slice(value)),
        (DELETE, []) => None,
        _ => return Err(malformed()),
    };
    states.apply(key, value, Revision(at.0 + 1));
    Ok(())
}

impl StateStore for LogState {
    fn get(&self, key: &str) -> Result<Stored, StateError> {
        Ok(self.states.lock().states.get(key).cloned())
    }

    fn put_if<'a>(
        &'a self,
        key: &'a str,
        expected: Revision,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Revision, StateError>> {
        Box::pin(self.change(key, expected, Some(value)))
    }

    fn delete_if<'a>(&'a self, key: &'a str, expected: Revision) -> BoxFuture<'a, Result<(), StateError>> {
        Box::pin(async move { self.change(key, expected, None).await.map(|_| ()) })
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.states.lock().announce.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::log::MemLog;
    use proptest::prelude::*;

    async fn keeps_the_contract(store: &dyn StateStore) {
        let mut watcher = store.watch();
        let first = store
            .put_if("lease", Revision(0), Bytes::from_static(b"a"))
            .await
            .unwrap();
        assert_eq!(*watcher.borrow_and_update(), first);
        let late = store.put_if("lease", Revision(0), Bytes::from_static(b"b")).await;
        assert_eq!(
            late,
            Err(StateError::Conflict {
                key: "lease".into(),
                expected: Revision(0),
                now: first
            })
        );
        assert_eq!(store.get("lease").unwrap(), Some((first, Bytes::from_static(b"a"))));
        assert!(!watcher.has_changed().unwrap(), "what was refused is no change");
        let second = store.put_if("lease", first, Bytes::from_static(b"b")).await.unwrap();
        assert!(second > first && store.delete_if("lease", first).await.is_err());
        store.delete_if("lease", second).await.unwrap();
        assert_eq!(store.get("lease").unwrap(), None);
        store.put_if("other", Revision(0), Bytes::new()).await.unwrap();
    }

    #[tokio::test]
    async fn every_store_keeps_the_contract_and_a_log_brings_it_back() {
        keeps_the_contract(&MemState::default()).await;
        let log: Arc<dyn Log> = Arc::new(MemLog::new());
        let store = LogState::open(Arc::clone(&log)).unwrap();
        keeps_the_contract(&store).await;
        let again = LogState::open(log).unwrap();
        assert_eq!(again.get("other").unwrap(), store.get("other").unwrap());
        assert!(again.get("other").unwrap().is_some() && again.get("lease").unwrap().is_none());
    }

    #[tokio::test]
    async fn a_change_that_the_log_refused_is_no_change() {
        let log = Arc::new(MemLog::new());
        let store = LogState::open(Arc::clone(&log) as Arc<dyn Log>).unwrap();
        log.refuse(Some(LogError::Closed("broken".into())));
        assert!(store.put_if("a", Revision(0), Bytes::new()).await.is_err());
        assert_eq!(store.get("a").unwrap(), None);
    }

    proptest! {
        #[test]
        fn a_record_reads_back_and_its_prefixes_do_not(key in ".{0,20}", value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let value = Bytes::from(value);
            let record = encode(&key, Some(&value));
            let mut states = States::new();
            fold(&mut states, Position(6), &record).unwrap();
            prop_assert_eq!(states.states.get(&key), Some(&(Revision(7), value)));
            for end in 0..5 + key.len() {
                prop_assert!(fold(&mut States::new(), Position(0), &record.slice(..end)).is_err());
            }
        }
    }
}
