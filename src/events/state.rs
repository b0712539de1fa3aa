//! What is counted at this moment: memory since the last checkpoint, what a checkpoint under way is writing, and files.
//!
//! One lock covers all three, and changes of them are swaps under it: whoever looks sees every event exactly once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use super::cells::{Cube, Memory};
use super::dedup::{self, IdFileError, IdFiles, Ids};
use super::manifest::{Grain, Manifest};
use super::record::{Counted, Header};
use super::tables::Table;
use super::{Answer, Event, IdempotencyKey};
use crate::model::{Interval, Millis};

/// How long an answer is kept for a retry.
pub(crate) const ANSWERS_KEPT: Interval = Interval::hours(24);
/// How many answers are kept.
const ANSWERS_MAX: usize = 200_000;

/// What the log's records since the last checkpoint amount to.
pub(crate) struct Fresh {
    pub(crate) memory: Memory,
    pub(crate) ids: Ids,
    /// Requests with an idempotency key.
    pub(crate) answered: Vec<Header>,
}

impl Fresh {
    pub(crate) fn new(cubes: &[Cube]) -> Fresh {
        Fresh {
            memory: Memory::new(cubes),
            ids: Ids::default(),
            answered: Vec::new(),
        }
    }

    /// Whether a checkpoint would write nothing of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.answered.is_empty()
    }
}

/// The files that count.
pub(crate) struct Files {
    pub(crate) manifest: Manifest,
    /// By grain and first minute.
    pub(crate) cells: BTreeMap<(Grain, i64), Vec<Arc<Table>>>,
    pub(crate) ids: IdFiles,
}

/// All of it.
pub(crate) struct State {
    pub(crate) fresh: Fresh,
    /// What a checkpoint is writing.
    pub(crate) frozen: Option<Arc<Fresh>>,
    pub(crate) files: Arc<Files>,
    /// The log's position after the last record applied.
    pub(crate) position: u64,
    /// Rises with every record.
    pub(crate) change: u64,
    pub(crate) counted: Counted,
    pub(crate) late: u64,
}

impl State {
    /// Folds a record into what is counted. The only way in, for live writes and for replay.
    pub(crate) fn apply(&mut self, at: u64, header: &Header, events: &[Event]) {
        self.position = at + 1;
        self.change += 1;
        self.counted.add(&header.counted);
        let applied = self.fresh.memory.apply(header, events, self.change);
        self.late += applied.late;
        events.iter().for_each(|event| self.fresh.ids.insert(event));
        if header.keyed.is_some() {
            self.fresh.answered.push(header.clone());
        }
    }

    /// Returns whether an event was counted.
    ///
    /// # Errors
    /// [`IdFileError`] when a damaged file may hold it.
    pub(crate) fn is_known(&self, event: &Event) -> Result<bool, IdFileError> {
        match &self.frozen {
            Some(frozen) => dedup::is_known(event, &[&self.fresh.ids, &frozen.ids], &self.files.ids),
            None => dedup::is_known(event, &[&self.fresh.ids], &self.files.ids),
        }
    }

    /// Returns the number of the newest change to minutes `from..to` since the files were written.
    pub(crate) fn touched(&self, from: i64, to: i64) -> u64 {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.memory.touched(from, to));
        self.fresh.memory.touched(from, to).max(frozen)
    }
}

/// The state behind its lock.
pub(crate) type Shared = RwLock<State>;

/// Answers to requests with an idempotency key, for their retries.
#[derive(Default)]
pub(crate) struct Answers {
    inner: Mutex<AnswersInner>,
}

#[derive(Default)]
struct AnswersInner {
    by_key: HashMap<IdempotencyKey, (Millis, Answer)>,
    order: VecDeque<(Millis, IdempotencyKey)>,
}

impl Answers {
    /// Returns what a request was answered.
    pub(crate) fn get(&self, key: &IdempotencyKey) -> Option<Answer> {
        let inner = self.inner.lock();
        inner.by_key.get(key).map(|(_, answer)| answer.clone())
    }

    /// Keeps the answer that a durable record stands for.
    pub(crate) fn keep(&self, header: &Header) {
        let Some(keyed) = &header.keyed else { return };
        let answer = answer_of(header);
        let mut inner = self.inner.lock();
        let horizon = header.received.saturating_sub(ANSWERS_KEPT);
        while let Some((received, _)) = inner.order.front()
            && (*received < horizon || inner.order.len() >= ANSWERS_MAX)
        {
            let (received, key) = inner.order.pop_front().expect("it was just looked at");
            if inner.by_key.get(&key).is_some_and(|(own, _)| *own == received) {
                inner.by_key.remove(&key);
            }
        }
        inner.order.push_back((header.received, keyed.key.clone()));
        inner.by_key.insert(keyed.key.clone(), (header.received, answer));
    }
}

/// Returns the answer that a record stands for.
pub(crate) fn answer_of(header: &Header) -> Answer {
    let Counted {
        accepted,
        duplicate,
        rejected,
        marked,
    } = header.counted;
    let errors = header.keyed.as_ref().map(|keyed| keyed.errors.clone());
    Answer {
        accepted,
        duplicate,
        rejected,
        bot: marked,
        errors: errors.unwrap_or_default(),
        watermark: Millis(header.closed * super::cells::MINUTE),
    }
}
