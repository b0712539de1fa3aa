//! One rule between evaluations: its alerts or series, its health, its history.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::alerting::{Alerts, Applied, Judgement, Scene};
use super::eager::rest;
use super::expand::Context;
use super::file::{GroupSpec, RuleSpec, Source};
use super::found::find;
use super::journal::{RuleChanges, RuleKey, Stored};
use super::metrics;
use super::view::{ActiveAlert, AlertView, EvaluationView, Health, RuleView, TransitionView};
use super::{Deps, Evaluate, vector};
use crate::io::Mono;
use crate::model::{Interval, Labels, METRIC_NAME, Millis, Sample, is_stale};
use crate::storage::Point;
use crate::template::QuerySample;

/// How many transitions of a rule are kept for the API.
const TRANSITIONS_MAX: usize = 200;
/// How many evaluations of a rule are kept for the API.
const EVALUATIONS_MAX: usize = 30;

/// When and how far back a group evaluates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tick {
    /// The evaluation time.
    pub(super) now: Millis,
    /// How far behind it the queries look.
    pub(super) offset: Interval,
    pub(super) occasion: Occasion,
}

/// Why a rule is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Its interval has passed.
    Tick,
    /// A sample that it asks for arrived: series are written only when something changed.
    Arrival,
}

/// A rule at work. One task owns it at any time.
pub(super) struct RuleRuntime {
    pub(super) key: RuleKey,
    pub(super) spec: RuleSpec,
    pub(super) alerts: Alerts,
    /// The series that the last evaluation wrote: those that do not come again are ended by a stale marker.
    pub(super) written: BTreeSet<Labels>,
    health: Health,
    last_evaluation: Option<Millis>,
    evaluation_secs: f64,
    pub(super) transitions: VecDeque<TransitionView>,
    evaluations: VecDeque<EvaluationView>,
    /// Elements that a detector is still learning.
    learning: Vec<Labels>,
    /// Until when it is not evaluated because of a sample.
    pub(super) rest_until: Mono,
}

/// What an evaluation leaves to be done.
#[derive(Default)]
pub(super) struct Outcome {
    /// Samples to store, stale markers among them.
    pub(super) samples: Vec<(Labels, Sample)>,
    /// Alert states to log.
    pub(super) changes: Option<RuleChanges>,
    /// How long it took.
    pub(super) secs: f64,
}

/// The answer of the store, before anything was changed.
enum Answer {
    Judged(Judgement),
    Recorded(Vec<(Labels, f64)>),
}

impl RuleRuntime {
    pub(super) fn new(key: RuleKey, spec: RuleSpec, alerts: Alerts) -> RuleRuntime {
        // After a restart, what was active is on record as series, too.
        let written = alerts.samples().into_iter().map(|(labels, _)| labels).collect();
        RuleRuntime {
            key,
            spec,
            alerts,
            written,
            health: Health::Unknown,
            last_evaluation: None,
            evaluation_secs: 0.0,
            transitions: VecDeque::new(),
            evaluations: VecDeque::new(),
            learning: Vec::new(),
            rest_until: Mono::default(),
        }
    }

    /// Evaluates the rule; `engine` answers its queries, and may know what others ask. Blocks while the store is asked.
    pub(super) fn evaluate(
        &mut self,
        group: &GroupSpec,
        deps: &Arc<Deps>,
        engine: &dyn Evaluate,
        tick: Tick,
    ) -> Outcome {
        let began = deps.clock.mono();
        let answer = catch_unwind(AssertUnwindSafe(|| self.ask(group, deps, engine, tick)))
            .unwrap_or_else(|_| Err("the evaluation panicked: this is a defect of the server".to_owned()));
        let mut outcome = Outcome::default();
        let query_at = self.query_at(deps, tick);
        let stored_at = query_at;
        let mut count = 0;
        let failure = match answer {
            Ok(Answer::Recorded(series)) => {
                count = series.len();
                self.write(series, stored_at, &mut outcome);
                None
            }
            Ok(Answer::Judged(mut judgement)) => {
                let alert = self.spec.alert.clone().expect("only alert rules are judged");
                let recorded = std::mem::take(&mut judgement.recorded);
                self.learning = std::mem::take(&mut judgement.learning);
                let applied = self.alerts.apply(&alert, judgement, tick.now);
                self.alerts.note_newest_samples(&applied, &self.spec, engine, stored_at);
                outcome.changes = self.note(tick.now, applied);
                let mut samples = self.alerts.samples();
                count = samples.len() / 2;
                samples.extend(recorded);
                if tick.occasion == Occasion::Tick || outcome.changes.is_some() {
                    self.write(samples, stored_at, &mut outcome);
                }
                None
            }
            Err(error) => {
                // What fires keeps firing, and its series go on.
                if self.spec.is_alert() && tick.occasion == Occasion::Tick {
                    let samples = self.alerts.samples();
                    self.write(samples, stored_at, &mut outcome);
                }
                Some(error)
            }
        };
        let secs = deps.clock.mono().seconds_since(began);
        self.count(group, secs, failure.is_some());
        self.rest_until = rest(deps.clock.mono(), secs);
        if tick.occasion == Occasion::Tick || outcome.changes.is_some() {
            self.remember(tick.now, secs, count, failure);
        }
        outcome.secs = secs;
        outcome
    }

    /// The time that the queries look at: while the data of a window may still come, the last time at which all was there.
    fn query_at(&self, deps: &Arc<Deps>, tick: Tick) -> Millis {
        let queries = self.spec.queries();
        // Where nothing is complete yet, the epoch is as good as any time.
        let complete = queries
            .iter()
            .map(|query| deps.engine.complete_until(&query.expr).max(Millis(0)));
        complete.fold(tick.now - tick.offset, Millis::min)
    }

    fn ask(&self, group: &GroupSpec, deps: &Arc<Deps>, engine: &dyn Evaluate, tick: Tick) -> Result<Answer, String> {
        let query_at = self.query_at(deps, tick);
        let Some(alert) = &self.spec.alert else {
            return self.record(group, engine, query_at).map(Answer::Recorded);
        };
        let context = context(&self.spec.name, deps, query_at);
        let scene = Scene {
            rule: &self.spec,
            alert,
            engine,
            context: &context,
            now: tick.now,
            query_at,
            limit: group.limit,
        };
        self.alerts.judge(&scene).map(Answer::Judged)
    }

    fn record(&self, group: &GroupSpec, engine: &dyn Evaluate, at: Millis) -> Result<Vec<(Labels, f64)>, String> {
        let found = find(&self.spec, engine, at)?;
        if group.limit > 0 && found.len() > group.limit {
            return Err(format!("exceeded limit of {} with {} series", group.limit, found.len()));
        }
        let mut series: Vec<(Labels, f64)> = Vec::with_capacity(found.len());
        let mut seen = std::collections::BTreeMap::new();
        for element in found {
            let labels = self.recorded_labels(&element.labels);
            if let Some(other) = seen.insert(labels.clone(), element.labels.clone()) {
                return Err(format!(
                    "vector contains metrics with the same labelset after applying rule labels: {other} and {} both become {labels}",
                    element.labels
                ));
            }
            series.push((labels, element.value));
        }
        Ok(series)
    }

    /// Labels of recording rules are no templates.
    fn recorded_labels(&self, found: &Labels) -> Labels {
        let mut builder = found.to_builder();
        builder.set(METRIC_NAME, &self.spec.name);
        for (name, text) in &self.spec.labels {
            builder.set(name, &text.source);
        }
        builder.build()
    }

    /// Stores the series, and ends those of last time that did not come again.
    fn write(&mut self, series: Vec<(Labels, f64)>, at: Millis, outcome: &mut Outcome) {
        let now_written: BTreeSet<Labels> = series.iter().map(|(labels, _)| labels.clone()).collect();
        let ended = self.written.difference(&now_written).cloned();
        outcome.samples.extend(ended.map(|labels| (labels, stale(at))));
        outcome
            .samples
            .extend(series.into_iter().map(|(labels, value)| (labels, Sample { at, value })));
        self.written = now_written;
    }

    /// Ends everything: the rule is gone.
    pub(super) fn end(&mut self, now: Millis) -> Outcome {
        let applied = self.alerts.end_all(now);
        let mut outcome = Outcome {
            changes: self.note(now, applied),
            ..Outcome::default()
        };
        self.write(Vec::new(), now, &mut outcome);
        outcome
    }

    /// Remembers transitions for the API, counts them, and words them for the log.
    fn note(&mut self, now: Millis, applied: Applied) -> Option<RuleChanges> {
        if applied.is_nothing() {
            return None;
        }
        let mut set = Vec::new();
        for transition in applied.transitions {
            let to = format!("{:?}", transition.change).to_lowercase();
            metrics::TRANSITIONS.inc(&[&to]);
            if let Some(instance) = self.alerts.instances.get(&transition.labels) {
                set.push(stored(instance));
            }
            if self.transitions.len() == TRANSITIONS_MAX {
                self.transitions.pop_front();
            }
            self.transitions.push_back(TransitionView {
                at: now,
                labels: transition.labels,
                change: transition.change,
                value: transition.value,
            });
        }
        Some(RuleChanges {
            key: self.key.clone(),
            set,
            gone: applied.gone,
            seen: applied.seen,
        })
    }

    fn count(&self, group: &GroupSpec, secs: f64, failed: bool) {
        metrics::EVALUATIONS.inc(&[&group.name]);
        metrics::FAILURES.add(&[&group.name], u64::from(failed));
        metrics::DURATION.observe(secs);
    }

    fn remember(&mut self, now: Millis, secs: f64, samples: usize, error: Option<String>) {
        if let Some(error) = &error {
            let is_news = !matches!(&self.health, Health::Err(known) if known == error);
            if is_news {
                tracing::warn!(rule = self.spec.name, group = self.key.group, %error, "rule failed");
            }
        }
        if self.evaluations.len() == EVALUATIONS_MAX {
            self.evaluations.pop_front();
        }
        self.health = error.clone().map_or(Health::Ok, Health::Err);
        self.last_evaluation = Some(now);
        self.evaluation_secs = secs;
        self.evaluations.push_back(EvaluationView {
            at: now,
            secs,
            samples,
            error,
        });
    }

    /// Returns everything that is remembered of its alerts, for a snapshot.
    pub(super) fn snapshot(&self) -> RuleChanges {
        RuleChanges {
            key: self.key.clone(),
            set: self.alerts.instances.values().map(stored).collect(),
            gone: Vec::new(),
            seen: self.alerts.seen_snapshot(),
        }
    }

    /// Takes over what another version of the rule knew.
    pub(super) fn inherit(&mut self, old: RuleRuntime) {
        self.alerts = old.alerts;
        self.written = old.written;
        self.transitions = old.transitions;
        self.evaluations = old.evaluations;
    }

    pub(super) fn view(&self) -> RuleView {
        let alert = self.spec.alert.as_ref().map(|alert| AlertView {
            hold: alert.hold,
            keep_firing: alert.keep_firing,
            annotations: sources(&alert.annotations),
            active: self.active(),
            learning: self.learning.clone(),
        });
        RuleView {
            name: self.spec.name.clone(),
            query: self.spec.query_text(),
            condition: match &self.spec.source {
                Source::Signals(signals) => Some(signals.condition.text().to_owned()),
                Source::Expr(_) => None,
            },
            labels: sources(&self.spec.labels),
            alert,
            health: self.health.clone(),
            last_evaluation: self.last_evaluation,
            evaluation_secs: self.evaluation_secs,
            transitions: self.transitions.iter().cloned().collect(),
            evaluations: self.evaluations.iter().cloned().collect(),
        }
    }

    fn active(&self) -> Vec<ActiveAlert> {
        let active = self
            .alerts
            .instances
            .values()
            .filter(|instance| instance.state.is_active());
        active
            .map(|instance| ActiveAlert {
                labels: instance.labels.clone(),
                annotations: instance.annotations.clone(),
                state: instance.state,
                value: instance.value,
            })
            .collect()
    }
}

fn sources(
    texts: &std::collections::BTreeMap<String, super::expand::Text>,
) -> std::collections::BTreeMap<String, String> {
    texts
        .iter()
        .map(|(name, text)| (name.clone(), text.source.clone()))
        .collect()
}

fn stored(instance: &super::alerting::Instance) -> Stored {
    Stored {
        labels: instance.labels.clone(),
        source: instance.source.clone(),
        annotations: instance.annotations.clone(),
        value: instance.value,
        state: instance.state,
    }
}

fn stale(at: Millis) -> Sample {
    let value = crate::model::stale_marker();
    debug_assert!(is_stale(value));
    Sample { at, value }
}

/// Builds what templates may ask: queries at the rule's own time.
pub(super) fn context(name: &str, deps: &Arc<Deps>, at: Millis) -> Context {
    let engine = Arc::clone(&deps.engine);
    let query = move |text: &str| -> Result<Vec<QuerySample>, String> {
        let expr = crate::query::parse(text).map_err(|error| error.to_string())?;
        let output = engine.instant(&expr, at).map_err(|error| error.to_string())?;
        let samples = vector(output.value)?.into_iter().map(|sample| QuerySample {
            labels: sample.labels,
            value: match sample.point {
                Point::Float(float) => float.value,
                Point::Histogram(_) => 0.0,
            },
        });
        Ok(samples.collect())
    };
    Context::new(
        name,
        at,
        &deps.settings.external_url,
        &deps.settings.external_labels,
        query,
    )
}
