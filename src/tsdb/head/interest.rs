//! Who wants to know when series move: selectors registered by rules, matched once when a series is created.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::RwLock;

use super::series::Series;
use super::table::Inner;
use crate::model::{Labels, Matcher};
use crate::tsdb::postings::Selector;
use crate::tsdb::record::SeriesRef;

type Wake = Arc<dyn Fn(&[u64]) + Send + Sync>;

/// The registrations and which series they chose.
#[derive(Default)]
pub(crate) struct Watchers {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    selectors: Vec<(u64, Selector)>,
    tokens: HashMap<SeriesRef, Vec<u64>>,
    wake: Option<Wake>,
}

impl Watchers {
    /// Replaces all registrations.
    pub(crate) fn register(&self, selectors: Vec<(u64, Vec<Matcher>)>, wake: Wake, table: &Inner) {
        let mut state = self.state.write();
        let selectors = selectors
            .into_iter()
            .map(|(token, matchers)| (token, Selector::new(&matchers)));
        *state = State {
            selectors: selectors.collect(),
            tokens: HashMap::new(),
            wake: Some(wake),
        };
        for series in table.iter() {
            state.watch(series, &table.labels(series));
        }
    }

    /// Flags a new series when somebody chose it.
    pub(crate) fn created(&self, series: &Series, labels: &Labels) {
        let watched = !self.state.read().selectors.is_empty();
        if watched {
            self.state.write().watch(series, labels);
        }
    }

    /// Forgets series that are gone.
    pub(crate) fn removed(&self, gone: &[SeriesRef]) {
        let mut state = self.state.write();
        for id in gone {
            state.tokens.remove(id);
        }
    }

    /// Wakes whoever chose one of these series.
    pub(crate) fn moved(&self, series: &[SeriesRef]) {
        if series.is_empty() {
            return;
        }
        let (tokens, wake) = {
            let state = self.state.read();
            let tokens: BTreeSet<u64> = series
                .iter()
                .filter_map(|id| state.tokens.get(id))
                .flatten()
                .copied()
                .collect();
            (tokens, state.wake.clone())
        };
        if let Some(wake) = wake.filter(|_| !tokens.is_empty()) {
            wake(&tokens.into_iter().collect::<Vec<_>>());
        }
    }
}

impl State {
    fn watch(&mut self, series: &Series, labels: &Labels) {
        let chosen = self.selectors.iter().filter(|(_, selector)| selector.matches(labels));
        let tokens: Vec<u64> = chosen.map(|(token, _)| *token).collect();
        series.watched.store(!tokens.is_empty(), Relaxed);
        if !tokens.is_empty() {
            self.tokens.insert(series.id, tokens);
        }
    }
}
