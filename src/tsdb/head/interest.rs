//! Who wants to know when series move: selectors registered by rules, matched once when a series is created.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::RwLock;

use super::series::Series;
use super::table::Inner;
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher};
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
    /// Those that name their metric, by it.
    by_metric: HashMap<String, Vec<(u64, Selector)>>,
    /// All others.
    selectors: Vec<(u64, Selector)>,
    tokens: HashMap<SeriesRef, Vec<u64>>,
    wake: Option<Wake>,
}

impl Watchers {
    /// Replaces all registrations.
    pub(crate) fn register(&self, selectors: Vec<(u64, Vec<Matcher>)>, wake: Wake, table: &Inner) {
        let mut state = State {
            wake: Some(wake),
            ..State::default()
        };
        for (token, matchers) in selectors {
            let metric = matchers
                .iter()
                .find(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal)
                .map(|matcher| matcher.value.clone());
            let chosen = match metric {
                Some(metric) => state.by_metric.entry(metric).or_default(),
                None => &mut state.selectors,
            };
            chosen.push((token, Selector::new(&matchers)));
        }
        let mut shared = self.state.write();
        *shared = state;
        for series in table.iter() {
            let tokens = shared.choose(&table.labels(series));
            shared.watch(series, tokens);
        }
    }

    /// Flags a new series when somebody chose it.
    pub(crate) fn created(&self, series: &Series, labels: &Labels) {
        let tokens = self.state.read().choose(labels);
        if !tokens.is_empty() {
            self.state.write().watch(series, tokens);
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
    /// Returns who chose a series with these labels.
    fn choose(&self, labels: &Labels) -> Vec<u64> {
        let named = self.by_metric.get(labels.metric_name().unwrap_or_default());
        let chosen = named.into_iter().flatten().chain(&self.selectors);
        chosen
            .filter(|(_, selector)| selector.matches(labels))
            .map(|(token, _)| *token)
            .collect()
    }

    fn watch(&mut self, series: &Series, tokens: Vec<u64>) {
        series.watched.store(!tokens.is_empty(), Relaxed);
        if !tokens.is_empty() {
            self.tokens.insert(series.id, tokens);
        }
    }
}
