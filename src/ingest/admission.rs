//! What is left out of a batch by rule: relabelling, and the second sender of a pair.
//!
//! Both look at labels, which a batch spells out only when asked. So a verdict is kept for each series key, and labels are
//! read once; the store then reads them through the same rules when the series is new to it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::config::HaConfig;
use super::relabel::{RelabelConfig, relabel};
use crate::model::{
    BatchSeries, Interval, LabelError, LabelSource, Labels, METRIC_NAME, Millis, SeriesKey, WriteBatch,
};

/// Over this many verdicts the table begins anew.
const VERDICTS_MAX: usize = 2_000_000;

/// What was decided about a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// Keep it while this sender of this pair is the chosen one.
    Pair {
        cluster: u32,
        replica: u32,
    },
    Drop,
}

/// The rules, and what is known by them.
pub(super) struct Admission {
    rules: Arc<[RelabelConfig]>,
    ha: Option<HaConfig>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    verdicts: HashMap<SeriesKey, Verdict>,
    clusters: HashMap<String, u32>,
    replicas: HashMap<String, u32>,
    /// By cluster: who was chosen, and when it last sent.
    chosen: Vec<Option<(u32, Millis)>>,
}

/// How many samples were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// By `write_relabel_configs`.
    pub(super) relabelled: u64,
    /// Because the other sender of the pair is the chosen one.
    pub(super) replica: u64,
}

impl Admission {
    pub(super) fn new(rules: &[RelabelConfig], ha: Option<HaConfig>) -> Admission {
        Admission {
            rules: rules.into(),
            ha,
            state: Mutex::default(),
        }
    }

    /// Applies the rules. Costs nothing when there are none.
    pub(super) fn apply(&self, batch: &mut WriteBatch, now: Millis) -> LeftOut {
        let mut left_out = LeftOut::default();
        if self.rules.is_empty() && self.ha.is_none() {
            return left_out;
        }
        let mut state = self.state.lock();
        if state.verdicts.len() > VERDICTS_MAX {
            state.verdicts.clear();
        }
        let source = Arc::clone(&batch.labels);
        let mut keep = Vec::with_capacity(batch.series.len());
        for (index, series) in batch.series.iter().enumerate() {
            let verdict = match state.verdicts.get(&series.key) {
                Some(verdict) => *verdict,
                None => {
                    let verdict = self.judge(&mut state, &*source, index);
                    state.verdicts.insert(series.key, verdict);
                    verdict
                }
            };
            let many = (series.samples.len() + series.histograms.len()) as u64;
            keep.push(match verdict {
                Verdict::Keep => true,
                Verdict::Drop => {
                    left_out.relabelled += many;
                    false
                }
                Verdict::Pair { cluster, replica } => {
                    let chosen = self.is_chosen(&mut state, cluster, replica, now);
                    left_out.replica += if chosen { 0 } else { many };
                    chosen
                }
            });
        }
        drop(state);
        retain(batch, &keep);
        batch.labels = Arc::new(Rewritten {
            inner: Arc::clone(&batch.labels),
            rules: Arc::clone(&self.rules),
            ha: self.ha.clone(),
        });
        left_out
    }

    fn judge(&self, state: &mut State, source: &dyn LabelSource, index: usize) -> Verdict {
        // Bad labels are the store's to refuse, with their reason.
        let Ok(labels) = source.labels(index) else {
            return Verdict::Keep;
        };
        let mut builder = labels.to_builder();
        if !relabel(&self.rules, &mut builder) {
            return Verdict::Drop;
        }
        let Some(ha) = &self.ha else { return Verdict::Keep };
        let (cluster, replica) = (labels.value(&ha.cluster_label), labels.value(&ha.replica_label));
        if cluster.is_empty() || replica.is_empty() {
            return Verdict::Keep;
        }
        let number = |names: &mut HashMap<String, u32>, name: &str| {
            let next = names.len() as u32;
            *names.entry(name.to_owned()).or_insert(next)
        };
        let cluster = number(&mut state.clusters, cluster);
        let replica = number(&mut state.replicas, replica);
        state.chosen.resize(state.clusters.len(), None);
        Verdict::Pair { cluster, replica }
    }

    /// The first sender of a pair is chosen, and stays so until it has been silent for `failover`.
    fn is_chosen(&self, state: &mut State, cluster: u32, replica: u32, now: Millis) -> bool {
        let failover = self.ha.as_ref().map_or(Interval::ZERO, |ha| ha.failover);
        let chosen = &mut state.chosen[cluster as usize];
        match chosen {
            Some((who, last)) if *who == replica => {
                *last = now.max(*last);
                true
            }
            Some((_, last)) if now - *last < failover => false,
            _ => {
                *chosen = Some((replica, now));
                true
            }
        }
    }
}

/// Labels after the rules, replica taken off.
struct Rewritten {
    inner: Arc<dyn LabelSource>,
    rules: Arc<[RelabelConfig]>,
    ha: Option<HaConfig>,
}

impl LabelSource for Rewritten {
    fn labels(&self, index: usize) -> Result<Labels, LabelError> {
        let labels = self.inner.labels(index)?;
        let mut builder = labels.to_builder();
        relabel(&self.rules, &mut builder);
        if let Some(ha) = &self.ha
            && labels.get(&ha.cluster_label).is_some()
        {
            builder.del(&ha.replica_label);
        }
        if builder.get(METRIC_NAME).is_none() {
            return Err(LabelError {
                series: labels.to_string(),
                reason: "write_relabel_configs leave the series without a metric name".to_owned(),
            });
        }
        Ok(builder.build())
    }
}

/// Some series of a batch under their old numbers.
struct Picked {
    inner: Arc<dyn LabelSource>,
    indexes: Vec<u32>,
}

impl LabelSource for Picked {
    fn labels(&self, index: usize) -> Result<Labels, LabelError> {
        self.inner.labels(self.indexes[index] as usize)
    }
}

/// Keeps the series that `keep` says, with their samples.
pub(super) fn retain(batch: &mut WriteBatch, keep: &[bool]) {
    if keep.iter().all(|keep| *keep) {
        return;
    }
    let old = std::mem::replace(batch, WriteBatch::from_series(Vec::new(), 0));
    batch.metadata = old.metadata;
    let mut indexes = Vec::new();
    for (index, series) in old.series.into_iter().enumerate().filter(|(index, _)| keep[*index]) {
        let samples = series.samples.start as usize..series.samples.end as usize;
        let histograms = series.histograms.start as usize..series.histograms.end as usize;
        let exemplars = series.exemplars.start as usize..series.exemplars.end as usize;
        let from = (
            batch.samples.len() as u32,
            batch.histograms.len() as u32,
            batch.exemplars.len() as u32,
        );
        batch
            .start_times
            .extend(old.start_times.get(samples.clone()).unwrap_or_default());
        batch.samples.extend_from_slice(&old.samples[samples]);
        let starts = old.histogram_start_times.get(histograms.clone());
        batch.histogram_start_times.extend(starts.unwrap_or_default());
        batch.histograms.extend_from_slice(&old.histograms[histograms]);
        batch.exemplars.extend_from_slice(&old.exemplars[exemplars]);
        batch.series.push(BatchSeries {
            key: series.key,
            samples: from.0..batch.samples.len() as u32,
            histograms: from.1..batch.histograms.len() as u32,
            exemplars: from.2..batch.exemplars.len() as u32,
        });
        indexes.push(index as u32);
    }
    batch.labels = Arc::new(Picked {
        inner: old.labels,
        indexes,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OwnedSeries, Sample};

    fn batch(series: &[&[(&str, &str)]]) -> WriteBatch {
        let one = |labels: &&[(&str, &str)]| OwnedSeries {
            labels: Labels::from_pairs(labels.iter().copied()),
            samples: vec![Sample {
                at: Millis(1),
                value: 1.0,
            }],
        };
        WriteBatch::from_series(series.iter().map(one).collect(), 7)
    }

    fn shown(batch: &WriteBatch) -> Vec<String> {
        (0..batch.series.len())
            .map(|index| batch.labels.labels(index).unwrap().to_string())
            .collect()
    }

    #[test]
    fn rules_drop_and_rewrite_series() {
        let rules: Vec<RelabelConfig> = serde_yaml::from_str(
            "[{source_labels: [__name__], regex: noise, action: drop}, {regex: pod, action: labeldrop}]",
        )
        .unwrap();
        let admission = Admission::new(&rules, None);
        for _ in 0..2 {
            let mut some = batch(&[
                &[("__name__", "noise")],
                &[("__name__", "up"), ("pod", "x")],
                &[("__name__", "b")],
            ]);
            let left_out = admission.apply(&mut some, Millis(0));
            assert_eq!(
                (left_out.relabelled, shown(&some)),
                (1, vec!["up".to_owned(), "b".to_owned()])
            );
            assert_eq!(some.series[1].samples, 1..2);
        }
    }

    #[test]
    fn one_sender_of_a_pair_is_taken_until_it_falls_silent() {
        let admission = Admission::new(&[], Some(HaConfig::default()));
        let send = |replica: &str, now: i64| {
            let labels: &[(&str, &str)] = &[("__name__", "up"), ("cluster", "eu"), ("replica", replica)];
            let mut some = batch(&[labels]);
            let left_out = admission.apply(&mut some, Millis(now));
            (shown(&some), left_out.replica)
        };
        let taken = (vec![r#"up{cluster="eu"}"#.to_owned()], 0);
        let refused = (Vec::new(), 1);
        assert_eq!(send("a", 0), taken);
        assert_eq!(send("b", 10), refused);
        assert_eq!(send("a", 20_000), taken);
        assert_eq!(send("b", 49_999), refused);
        assert_eq!(send("b", 50_000), taken, "a has been silent for 30 s");
        assert_eq!(send("a", 50_001), refused);
    }
}
