//! A log in memory: the simulated twin of `FileLog`. Durable for as long as it lives.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Appended, Bounds, Log, LogError, LogItem, Position, RecordId};
use crate::io::BoxFuture;

/// Records in a list. Tests can fill it, close it and punch holes into it.
#[derive(Default)]
pub struct MemLog {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    first: u64,
    /// `None` is a record that was lost.
    records: VecDeque<Option<Bytes>>,
    ids: HashMap<RecordId, Position>,
    refuse: Option<LogError>,
}

impl MemLog {
    /// Returns an empty log.
    pub fn new() -> MemLog {
        MemLog::default()
    }

    /// Makes every append fail with `error`, or succeed again when there is none.
    pub fn refuse(&self, error: Option<LogError>) {
        self.state.lock().refuse = error;
    }

    /// Loses the record at `at`, as a bad sector would.
    pub fn lose(&self, at: Position) {
        let mut state = self.state.lock();
        let index =
            at.0.checked_sub(state.first)
                .and_then(|index| usize::try_from(index).ok());
        if let Some(record) = index.and_then(|index| state.records.get_mut(index)) {
            *record = None;
        }
    }
}

impl Log for MemLog {
    fn append(&self, record: Bytes, id: Option<RecordId>) -> BoxFuture<'_, Result<Appended, LogError>> {
        let mut state = self.state.lock();
        if let Some(error) = &state.refuse {
            return Box::pin(std::future::ready(Err(error.clone())));
        }
        let known = id.as_ref().and_then(|id| state.ids.get(id).copied());
        let appended = match known {
            Some(at) => Appended { at, duplicate: true },
            None => {
                let at = Position(state.first + state.records.len() as u64);
                state.records.push_back(Some(record));
                if let Some(id) = id {
                    state.ids.insert(id, at);
                }
                Appended { at, duplicate: false }
            }
        };
        Box::pin(std::future::ready(Ok(appended)))
    }

    fn read(&self, from: Position, visit: &mut dyn FnMut(LogItem) -> bool) -> Result<(), LogError> {
        let mut at = from.0;
        loop {
            // The lock is not held while `visit` runs: it may append.
            let item = {
                let state = self.state.lock();
                at = at.max(state.first);
                let next = state.first + state.records.len() as u64;
                if at >= next {
                    return Ok(());
                }
                let from_here = state.records.iter().skip((at - state.first) as usize);
                match &state.records[(at - state.first) as usize] {
                    Some(payload) => LogItem::Record {
                        at: Position(at),
                        payload: payload.clone(),
                    },
                    None => LogItem::Gap {
                        from: Position(at),
                        to: Position(at + from_here.take_while(|record| record.is_none()).count() as u64),
                        reason: "lost by the test".to_owned(),
                    },
                }
            };
            at = match &item {
                LogItem::Record { at, .. } => at.0 + 1,
                LogItem::Gap { to, .. } => to.0,
            };
            if !visit(item) {
                return Ok(());
            }
        }
    }

    fn bounds(&self) -> Bounds {
        let state = self.state.lock();
        Bounds {
            first: Position(state.first),
            next: Position(state.first + state.records.len() as u64),
        }
    }

    fn trim(&self, below: Position) -> Result<(), LogError> {
        let mut state = self.state.lock();
        while state.first < below.0 && !state.records.is_empty() {
            state.records.pop_front();
            state.first += 1;
        }
        let first = Position(state.first);
        state.ids.retain(|_, at| *at >= first);
        Ok(())
    }
}
