//! Backtests: rules over what is stored, through the very code that runs live.
//!
//! Groups are evaluated at their intervals from a given moment on. What they record is kept beside the store, and what the
//! store has under the same names is hidden meanwhile, so that rules see what they would have seen. Alerts are handed over as
//! live ones are; who pages is not decided here.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::anomaly::RECORDED;
use super::replay::Replay;
use super::view::TransitionView;
use super::{AlertSink, EngineOver, GroupSpec, Settings};
use crate::io::BoxFuture;
use crate::model::{
    Alert, Labels, METRIC_NAME, MatchOp, Matcher, MetricMetadata, Millis, Sample, TimeRange, WriteBatch,
};
use crate::query::{Engine, QueryOptions};
use crate::storage::{
    AppendError, AppendReport, Appender, Columns, ExemplarSeries, LiteralStore, Querier, Select, Selection,
    StorageError,
};

/// The most evaluations of groups in one backtest.
const EVALUATIONS_MAX: i64 = 1_000_000;

/// What a backtest is asked.
pub struct Backtest {
    /// The groups, each with its file.
    pub groups: Vec<(String, GroupSpec)>,
    /// What is stored.
    pub querier: Arc<dyn Querier>,
    /// Limits of each query; the interrupt ends the whole.
    pub options: QueryOptions,
    /// Intervals, labels, address.
    pub settings: Settings,
    /// The first evaluation of every group.
    pub from: Millis,
    /// No evaluation is later.
    pub to: Millis,
}

/// What would have happened.
#[derive(Clone, Debug, Default)]
pub struct Backtested {
    /// What became of alerts, in order of time.
    pub transitions: Vec<BacktestedTransition>,
    /// What was handed over, and when.
    pub handed: Vec<(Millis, Vec<Alert>)>,
    /// What was recorded, by series.
    pub recorded: Vec<(Labels, Vec<Sample>)>,
    /// Errors of rules, each once.
    pub errors: Vec<String>,
    /// How many times groups were evaluated.
    pub evaluations: u64,
}

/// A change of an alert.
#[derive(Clone, Debug)]
pub struct BacktestedTransition {
    /// The group.
    pub group: String,
    /// The alert's name.
    pub rule: String,
    /// What changed.
    pub transition: TransitionView,
}

impl Backtest {
    /// Runs it. Evaluations block their own threads.
    ///
    /// # Errors
    /// A sentence: nothing to do, too much to do, or ended from outside.
    pub async fn run(self) -> Result<Backtested, String> {
        let interval = |group: &GroupSpec| group.interval.unwrap_or(self.settings.interval);
        if self.from > self.to {
            return Err("the backtest ends before it begins".to_owned());
        }
        let steps = self
            .groups
            .iter()
            .map(|(_, group)| (self.to - self.from).0 / interval(group).0.max(1) + 1);
        let steps: i64 = steps.sum();
        if steps > EVALUATIONS_MAX {
            return Err(format!(
                "{steps} evaluations of groups, the limit is {EVALUATIONS_MAX}: take a shorter time or longer intervals"
            ));
        }
        let store = Arc::new(Beside::new(Arc::clone(&self.querier), hidden(&self.groups)));
        let sink = Arc::new(Collected::default());
        let mut next: Vec<Millis> = vec![self.from; self.groups.len()];
        let intervals: Vec<_> = self.groups.iter().map(|(_, group)| interval(group)).collect();
        let interrupt = self.options.interrupt.clone();
        let engine = EngineOver {
            engine: Engine,
            querier: Arc::clone(&store) as Arc<dyn Querier>,
            options: self.options,
        };
        let mut replay = Replay::over(
            self.groups,
            Arc::new(engine),
            Arc::clone(&store) as Arc<dyn Appender>,
            Arc::clone(&sink) as Arc<dyn AlertSink>,
            self.settings,
            self.from,
        );
        let mut done = Backtested::default();
        while let Some((group, at)) = next.iter().copied().enumerate().min_by_key(|(group, at)| (*at, *group)) {
            if at > self.to {
                break;
            }
            if let Some(why) = interrupt.asked() {
                return Err(format!("ended at {at} after {} evaluations: {why:?}", done.evaluations).to_lowercase());
            }
            next[group] = at + intervals[group];
            *sink.now.lock() = at;
            replay.evaluate_group(group, at).await;
            done.evaluations += 1;
            for error in replay.errors_of(group) {
                if !done.errors.contains(&error) {
                    done.errors.push(error);
                }
            }
            let changes = replay.transitions_at(group, at);
            done.transitions.extend(
                changes
                    .into_iter()
                    .map(|(group, rule, transition)| BacktestedTransition {
                        group,
                        rule,
                        transition,
                    }),
            );
        }
        done.handed = std::mem::take(&mut *sink.handed.lock());
        done.recorded = store.recorded();
        Ok(done)
    }
}

/// Returns the metrics that the groups write themselves.
fn hidden(groups: &[(String, GroupSpec)]) -> BTreeSet<String> {
    let rules = groups.iter().flat_map(|(_, group)| &group.rules);
    let mut hidden: BTreeSet<String> = rules
        .clone()
        .filter(|rule| !rule.is_alert())
        .map(|rule| rule.name.clone())
        .collect();
    if rules.into_iter().any(super::RuleSpec::is_alert) {
        hidden.extend(["ALERTS", "ALERTS_FOR_STATE"].map(str::to_owned));
        hidden.extend(RECORDED.map(str::to_owned));
    }
    hidden
}

#[derive(Default)]
struct Collected {
    now: Mutex<Millis>,
    handed: Mutex<Vec<(Millis, Vec<Alert>)>>,
}

impl AlertSink for Collected {
    fn send(&self, alerts: Vec<Alert>) -> BoxFuture<'_, Result<(), String>> {
        self.handed.lock().push((*self.now.lock(), alerts));
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A store, and what is recorded beside it.
struct Beside {
    base: Arc<dyn Querier>,
    hidden: BTreeSet<String>,
    own: LiteralStore,
    /// When what was recorded is from: rising.
    times: Mutex<Vec<i64>>,
}

impl Beside {
    fn new(base: Arc<dyn Querier>, hidden: BTreeSet<String>) -> Beside {
        Beside {
            base,
            hidden,
            own: LiteralStore::new(),
            times: Mutex::default(),
        }
    }

    fn shows(&self, labels: &Labels) -> bool {
        !self.hidden.contains(labels.metric_name().unwrap_or_default())
    }

    fn recorded(&self) -> Vec<(Labels, Vec<Sample>)> {
        let select = Select {
            matchers: Vec::new(),
            range: TimeRange::ALL,
            hints: crate::storage::Hints::default(),
        };
        let Ok(selection) = self.own.select(&select) else {
            return Vec::new();
        };
        let mut columns = Columns::default();
        let series = selection.series.iter().map(|series| {
            let read = series.columns(TimeRange::ALL, &mut columns).is_ok();
            let samples = columns.times.iter().zip(&columns.values).filter(|_| read);
            let samples = samples.map(|(at, value)| Sample {
                at: Millis(*at),
                value: *value,
            });
            (series.labels(), samples.collect())
        });
        series.collect()
    }
}

impl Querier for Beside {
    fn select(&self, select: &Select) -> Result<Selection, StorageError> {
        let name = select
            .matchers
            .iter()
            .find(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal);
        match name {
            Some(name) if self.hidden.contains(&name.value) => return self.own.select(select),
            Some(_) => return self.base.select(select),
            None => {}
        }
        let mut found = self.base.select(select)?;
        found.series.retain(|series| self.shows(&series.labels()));
        found.series.extend(self.own.select(select)?.series);
        found.series.sort_by_cached_key(|series| series.labels());
        Ok(found)
    }

    fn series(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<Labels>, StorageError> {
        let mut found = self.base.series(sets, range)?;
        found.retain(|labels| self.shows(labels));
        found.extend(self.own.series(sets, range)?);
        found.sort();
        Ok(found)
    }

    fn label_names(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError> {
        self.base.label_names(sets, range)
    }

    fn label_values(&self, name: &str, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError> {
        self.base.label_values(name, sets, range)
    }

    fn metadata(&self) -> Vec<MetricMetadata> {
        self.base.metadata()
    }

    fn exemplars(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<ExemplarSeries>, StorageError> {
        self.base.exemplars(sets, range)
    }

    fn complete_until(&self) -> Millis {
        self.base.complete_until()
    }

    fn complete_for(&self, matchers: &[Matcher]) -> Millis {
        self.base.complete_for(matchers)
    }

    fn version(&self, range: TimeRange) -> u64 {
        let recorded = self.times.lock().partition_point(|at| *at <= range.max.0) as u64;
        self.base.version(range).wrapping_mul(1 << 20).wrapping_add(recorded)
    }
}

impl Appender for Beside {
    fn append(&self, batch: WriteBatch) -> BoxFuture<'_, Result<AppendReport, AppendError>> {
        let mut times = self.times.lock();
        times.extend(batch.samples.iter().map(|sample| sample.at.0));
        // Groups with different offsets write at different times.
        times.sort_unstable();
        drop(times);
        self.own.append(batch)
    }
}
