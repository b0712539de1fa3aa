//! The newest exemplars, a bounded number of them, in memory. The log has each for as long as it has the samples beside it, and
//! a snapshot has all of them: after a stop in order none is missing, after a crash those older than the log (two to
//! three hours) are. They point into traces, which are rarely kept longer.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::RwLock;

use crate::model::{Exemplar, Labels, Matcher, TimeRange};
use crate::storage::ExemplarSeries;
use crate::tsdb::postings::Selector;

/// How many exemplars are kept, over all series.
const EXEMPLARS_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct Exemplars {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    series: BTreeMap<Labels, VecDeque<Exemplar>>,
    /// The series of each exemplar, oldest first.
    order: VecDeque<Labels>,
}

impl Exemplars {
    /// Keeps an exemplar; `false` when the series' newest is the same or younger.
    pub(crate) fn add(&self, labels: &Labels, exemplar: Exemplar) -> bool {
        let mut state = self.state.write();
        let known = state.series.get(labels).and_then(VecDeque::back);
        if known.is_some_and(|known| *known == exemplar || known.at > exemplar.at) {
            return false;
        }
        state.series.entry(labels.clone()).or_default().push_back(exemplar);
        state.order.push_back(labels.clone());
        if state.order.len() > EXEMPLARS_MAX
            && let Some(oldest) = state.order.pop_front()
            && let Some(exemplars) = state.series.get_mut(&oldest)
        {
            exemplars.pop_front();
            if exemplars.is_empty() {
                state.series.remove(&oldest);
            }
        }
        true
    }

    /// Returns all, in an order in which [`Exemplars::add`] takes them again.
    pub(crate) fn all(&self) -> Vec<(Labels, Exemplar)> {
        let state = self.state.read();
        let mut taken: BTreeMap<&Labels, usize> = BTreeMap::new();
        let in_order = state.order.iter().filter_map(|labels| {
            let next = taken.entry(labels).or_default();
            *next += 1;
            let exemplar = state.series.get(labels)?.get(*next - 1)?;
            Some((labels.clone(), exemplar.clone()))
        });
        in_order.collect()
    }

    /// Returns the exemplars of series that match any of `sets` (all when there is none).
    pub(crate) fn find(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Vec<ExemplarSeries> {
        let selectors: Vec<Selector> = sets.iter().map(|set| Selector::new(set)).collect();
        let state = self.state.read();
        let chosen = state
            .series
            .iter()
            .filter(|(labels, _)| selectors.is_empty() || selectors.iter().any(|selector| selector.matches(labels)));
        chosen
            .map(|(labels, exemplars)| ExemplarSeries {
                labels: labels.clone(),
                exemplars: exemplars
                    .iter()
                    .filter(|exemplar| range.contains(exemplar.at))
                    .cloned()
                    .collect(),
            })
            .filter(|series| !series.exemplars.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Millis;

    #[test]
    fn the_oldest_exemplar_makes_room_and_none_is_kept_twice() {
        let exemplars = Exemplars::default();
        let labels = Labels::from_pairs([("__name__", "a")]);
        let exemplar = |at: i64| Exemplar {
            labels: Labels::empty(),
            value: 1.0,
            at: Millis(at),
        };
        for at in 0..=EXEMPLARS_MAX as i64 {
            assert!(exemplars.add(&labels, exemplar(at)));
        }
        assert!(!exemplars.add(&labels, exemplar(EXEMPLARS_MAX as i64)) && !exemplars.add(&labels, exemplar(5)));
        let found = exemplars.find(&[], TimeRange::ALL);
        assert_eq!((found.len(), found[0].exemplars.len()), (1, EXEMPLARS_MAX));
        assert_eq!(found[0].exemplars[0].at, Millis(1));
        let again = Exemplars::default();
        assert!(
            exemplars
                .all()
                .into_iter()
                .all(|(labels, exemplar)| again.add(&labels, exemplar))
        );
        assert_eq!(again.find(&[], TimeRange::ALL)[0].exemplars, found[0].exemplars);
        assert!(
            exemplars
                .find(&[vec![Matcher::equal("__name__", "b")]], TimeRange::ALL)
                .is_empty()
        );
    }
}
