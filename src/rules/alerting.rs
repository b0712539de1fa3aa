//! One evaluation of one alert rule: from what was found to new states, samples and changes.

use std::collections::{BTreeMap, BTreeSet};

use super::Evaluate;
use super::expand::{Context, Element, Text};
use super::file::{AlertSpec, NoData, OnError, RuleSpec, Source};
use super::found::{Found, Subject, find, find_subject};
use super::journal::Remembered;
use super::state::{Change, State, Timing, step};
use crate::model::{Interval, Labels, LabelsBuilder, METRIC_NAME, Millis};
use crate::template::Value;

/// How long a label set that vanished is remembered by rules with `no_data`.
const SEEN_FOR: Interval = Interval::days(1);
/// How often it is written down again that a label set has data.
const SEEN_AGAIN: Interval = Interval::hours(1);

/// One alert of a rule.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) labels: Labels,
    /// The labels of the query's element, before the rule's own.
    pub(super) source: Labels,
    pub(super) annotations: Labels,
    pub(super) value: f64,
    pub(super) state: State,
    /// When the alert manager last took it in this state.
    pub(super) taken: Option<Millis>,
    /// When the newest sample came that the evaluation saw by which it began to fire.
    pub(super) sample_at: Option<Millis>,
}

/// A change to report.
#[derive(Clone, Debug)]
pub(super) struct Transition {
    pub(super) labels: Labels,
    pub(super) change: Change,
    pub(super) value: f64,
}

/// What an alert rule remembers from one evaluation to the next.
#[derive(Debug, Default)]
pub(super) struct Alerts {
    pub(super) instances: BTreeMap<Labels, Instance>,
    /// Label sets that had data, and when last: for `no_data`.
    seen: BTreeMap<Labels, Seen>,
}

/// When a label set had data.
#[derive(Clone, Copy, Debug)]
struct Seen {
    last: Millis,
    /// What the log says of it.
    logged: Millis,
}

/// What an evaluation changed.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) transitions: Vec<Transition>,
    /// Alerts that are gone from memory.
    pub(super) gone: Vec<Labels>,
    /// Label sets whose data is to be written down.
    pub(super) seen: Vec<(Labels, i64)>,
}

impl Applied {
    /// Whether there is nothing to log.
    pub(super) fn is_nothing(&self) -> bool {
        self.transitions.is_empty() && self.gone.is_empty() && self.seen.is_empty()
    }
}

/// An evaluation's answers, ready to be applied: computing them asks the store, applying them does not.
pub(super) struct Judgement {
    verdicts: Vec<Verdict>,
    seen: Vec<Labels>,
    /// Series to record: scores and bands.
    pub(super) recorded: Vec<(Labels, f64)>,
    /// Elements that a detector is still learning.
    pub(super) learning: Vec<Labels>,
}

struct Verdict {
    labels: Labels,
    source: Labels,
    annotations: Labels,
    value: f64,
    holds: bool,
}

/// What a rule is evaluated with.
pub(super) struct Scene<'a> {
    pub(super) rule: &'a RuleSpec,
    pub(super) alert: &'a AlertSpec,
    pub(super) engine: &'a dyn Evaluate,
    pub(super) context: &'a Context,
    /// The evaluation time.
    pub(super) now: Millis,
    /// The time that queries look at.
    pub(super) query_at: Millis,
    /// The group's limit; 0 is none.
    pub(super) limit: usize,
}

impl Alerts {
    pub(super) fn restored(remembered: Remembered) -> Alerts {
        let instances = remembered.alerts.into_values().map(|stored| {
            let instance = Instance {
                labels: stored.labels,
                source: stored.source,
                annotations: stored.annotations,
                value: stored.value,
                state: stored.state,
                taken: None,
                sample_at: None,
            };
            (instance.labels.clone(), instance)
        });
        Alerts {
            instances: instances.collect(),
            seen: remembered
                .seen
                .into_iter()
                .map(|(labels, at)| (labels, Seen { last: at, logged: at }))
                .collect(),
        }
    }

    /// Asks the rule's question and judges every alert: those found, and those that are known already.
    pub(super) fn judge(&self, scene: &Scene<'_>) -> Result<Judgement, String> {
        let found = match find(scene.rule, scene.engine, scene.query_at) {
            Ok(found) => found,
            Err(_) if scene.alert.on_error == OnError::Alert => return self.judge_failure(scene),
            Err(error) => return Err(error),
        };
        let subject = if self.needs_subject(scene.alert) {
            find_subject(scene.rule, scene.engine, scene.query_at)?
        } else {
            Subject::new()
        };
        let mut verdicts: BTreeMap<Labels, Verdict> = BTreeMap::new();
        let mut seen = Vec::new();
        let mut missing = Vec::new();
        let mut recorded = Vec::new();
        let mut learning = Vec::new();
        let several = matches!(&scene.rule.source, Source::Signals(signals) if signals.queries.len() > 1);
        for element in found {
            for (query, band) in &element.bands {
                let query = several.then_some(query.as_str());
                recorded.extend(band.recorded(&element.labels, &scene.rule.name, query));
            }
            if element.learning {
                learning.push(element.labels.clone());
            }
            if element.holds.is_none() {
                missing.push(element);
                continue;
            }
            seen.push(element.labels.clone());
            self.add(&mut verdicts, scene, &element)?;
        }
        seen.extend(subject.keys().cloned());
        self.judge_missing(&mut verdicts, scene, &missing, &seen)?;
        self.judge_known(&mut verdicts, scene, &subject);
        let judgement = Judgement {
            verdicts: verdicts.into_values().collect(),
            seen,
            recorded,
            learning,
        };
        self.check_limit(scene, &judgement)?;
        Ok(judgement)
    }

    /// The query failed and the rule wants to hear of it: one alert without labels of a series, all others unchanged.
    fn judge_failure(&self, scene: &Scene<'_>) -> Result<Judgement, String> {
        let mut verdicts = BTreeMap::new();
        self.add(&mut verdicts, scene, &Found::new(Labels::empty(), f64::NAN, Some(true)))?;
        for instance in self.instances.values().filter(|instance| instance.state.is_active()) {
            verdicts
                .entry(instance.labels.clone())
                .or_insert_with(|| unchanged(instance));
        }
        Ok(Judgement {
            verdicts: verdicts.into_values().collect(),
            seen: Vec::new(),
            recorded: Vec::new(),
            learning: Vec::new(),
        })
    }

    fn needs_subject(&self, alert: &AlertSpec) -> bool {
        let active = self.instances.values().any(|instance| instance.state.is_active());
        let asked = alert.recover.is_some() || mentions_recovery(alert);
        alert.no_data != NoData::Ok || (active && asked)
    }

    fn add(&self, verdicts: &mut BTreeMap<Labels, Verdict>, scene: &Scene<'_>, found: &Found) -> Result<(), String> {
        let verdict = self.verdict(scene, found);
        if let Some(verdict) = verdict
            && let Some(other) = verdicts.insert(verdict.labels.clone(), verdict)
        {
            return Err(format!(
                "vector contains metrics with the same labelset after applying alert labels: {} and {} both become {}",
                other.source, found.labels, other.labels
            ));
        }
        Ok(())
    }

    /// Judges one element; `None` when nothing holds and nothing is known of it.
    fn verdict(&self, scene: &Scene<'_>, found: &Found) -> Option<Verdict> {
        let probe = self.element(scene, found, scene.now);
        let labels = alert_labels(scene, &probe);
        let known = self
            .instances
            .get(&labels)
            .filter(|instance| instance.state.is_active());
        let mut holds = found.holds == Some(true);
        if known.is_none() && !holds {
            return None;
        }
        if let (Some(instance), false) = (known, holds) {
            holds = instance.state.is_firing() && !recovers(scene.alert, found);
        }
        let since = known.map_or(scene.now, |instance| instance.state.since());
        let element = self.element(scene, found, since);
        Some(Verdict {
            annotations: annotations(scene, &element),
            labels,
            source: found.labels.clone(),
            value: found.value,
            holds,
        })
    }

    fn element<'a>(&self, scene: &'a Scene<'_>, found: &'a Found, since: Millis) -> Element<'a> {
        Element {
            labels: &found.labels,
            value: found.shown.clone(),
            active_at: since,
            hold: scene.alert.hold,
            expr: scene_text(scene.rule),
            values: &found.values,
            band: found.bands.first().map(|(_, band)| *band),
            resolved_value: None,
        }
    }

    /// Judges label sets whose data is missing, as `no_data` says.
    fn judge_missing(
        &self,
        verdicts: &mut BTreeMap<Labels, Verdict>,
        scene: &Scene<'_>,
        missing: &[Found],
        seen: &[Labels],
    ) -> Result<(), String> {
        if scene.alert.no_data == NoData::Ok {
            return Ok(());
        }
        let present: BTreeSet<&Labels> = seen.iter().collect();
        let mut gone: BTreeMap<Labels, Found> = missing
            .iter()
            .map(|found| (found.labels.clone(), found.clone()))
            .collect();
        for labels in self.seen.keys() {
            gone.entry(labels.clone())
                .or_insert_with(|| Found::new(labels.clone(), f64::NAN, None));
        }
        for instance in self.instances.values().filter(|instance| instance.state.is_active()) {
            let source = &instance.source;
            gone.entry(source.clone())
                .or_insert_with(|| Found::new(source.clone(), instance.value, None));
        }
        gone.retain(|labels, _| !present.contains(labels));
        if present.is_empty() && gone.is_empty() {
            gone.insert(Labels::empty(), Found::new(Labels::empty(), f64::NAN, None));
        }
        // An alert about the whole rule is over as soon as there is any data.
        if !present.is_empty() {
            gone.remove(&Labels::empty());
        }
        for found in gone.into_values() {
            match scene.alert.no_data {
                NoData::Alert => {
                    let found = Found {
                        holds: Some(true),
                        ..found
                    };
                    self.add(verdicts, scene, &found)?;
                }
                NoData::Keep => {
                    let known = self.instances.values().find(|instance| instance.source == found.labels);
                    if let Some(instance) = known.filter(|instance| instance.state.is_active()) {
                        verdicts
                            .entry(instance.labels.clone())
                            .or_insert_with(|| unchanged(instance));
                    }
                }
                NoData::Ok => {}
            }
        }
        Ok(())
    }

    /// Judges active alerts that were not found: over, unless `recover` says otherwise.
    fn judge_known(&self, verdicts: &mut BTreeMap<Labels, Verdict>, scene: &Scene<'_>, subject: &Subject) {
        for instance in self.instances.values().filter(|instance| instance.state.is_active()) {
            if verdicts.contains_key(&instance.labels) {
                continue;
            }
            let judged = subject.get(&instance.source);
            let mut verdict = unchanged(instance);
            verdict.holds = match judged {
                Some(found) if instance.state.is_firing() && scene.alert.recover.is_some() => {
                    !recovers(scene.alert, found)
                }
                _ => false,
            };
            if let Some(found) = judged {
                if !verdict.holds && mentions_recovery(scene.alert) {
                    let element = Element {
                        value: Value::Float(instance.value),
                        resolved_value: Some(found.value),
                        ..self.element(scene, found, instance.state.since())
                    };
                    verdict.annotations = annotations(scene, &element);
                }
                if verdict.holds {
                    let element = self.element(scene, found, instance.state.since());
                    verdict.annotations = annotations(scene, &element);
                    verdict.value = found.value;
                }
            }
            verdicts.insert(instance.labels.clone(), verdict);
        }
    }

    fn check_limit(&self, scene: &Scene<'_>, judgement: &Judgement) -> Result<(), String> {
        let count = judgement.verdicts.iter().filter(|verdict| verdict.holds).count();
        if scene.limit > 0 && count > scene.limit {
            return Err(format!("exceeded limit of {} with {count} alerts", scene.limit));
        }
        Ok(())
    }

    /// Notes which label sets have data; returns those that the log should know of.
    fn see(&mut self, labels: Vec<Labels>, now: Millis) -> Vec<(Labels, i64)> {
        let mut news = Vec::new();
        for labels in labels {
            let logged = self.seen.get(&labels).map(|seen| seen.logged);
            let logged = logged.filter(|logged| now - *logged < SEEN_AGAIN).unwrap_or_else(|| {
                news.push((labels.clone(), now.0));
                now
            });
            self.seen.insert(labels, Seen { last: now, logged });
        }
        self.seen.retain(|_, seen| now - seen.last <= SEEN_FOR);
        news
    }

    /// Returns all label sets that had data lately, for a snapshot.
    pub(super) fn seen_snapshot(&self) -> Vec<(Labels, i64)> {
        self.seen
            .iter()
            .map(|(labels, seen)| (labels.clone(), seen.last.0))
            .collect()
    }

    /// Applies a judgement, and returns what changed.
    pub(super) fn apply(&mut self, alert: &AlertSpec, judgement: Judgement, now: Millis) -> Applied {
        let timing = Timing {
            hold: alert.hold,
            keep_firing: alert.keep_firing,
        };
        let seen = if alert.no_data == NoData::Ok {
            self.seen.clear();
            Vec::new()
        } else {
            self.see(judgement.seen, now)
        };
        let mut transitions = Vec::new();
        let mut gone = Vec::new();
        for verdict in judgement.verdicts {
            let state = self.instances.get(&verdict.labels).map(|instance| instance.state);
            let (next, change) = step(timing, state, verdict.holds, now);
            if let Some(change) = change {
                transitions.push(Transition {
                    labels: verdict.labels.clone(),
                    change,
                    value: verdict.value,
                });
            }
            let Some(next) = next else {
                if self.instances.remove(&verdict.labels).is_some() {
                    gone.push(verdict.labels);
                }
                continue;
            };
            let before = self.instances.get(&verdict.labels);
            let instance = Instance {
                taken: before.filter(|_| change.is_none()).and_then(|instance| instance.taken),
                sample_at: before
                    .filter(|_| change.is_none())
                    .and_then(|instance| instance.sample_at),
                // While `keep_firing_for` runs, the last words stay.
                annotations: verdict.annotations,
                value: verdict.value,
                labels: verdict.labels.clone(),
                source: verdict.source,
                state: next,
            };
            self.instances.insert(verdict.labels, instance);
        }
        Applied {
            transitions,
            gone,
            seen,
        }
    }

    /// Returns the samples that say which alerts are active.
    pub(super) fn samples(&self) -> Vec<(Labels, f64)> {
        let mut samples = Vec::new();
        for instance in self.instances.values().filter(|instance| instance.state.is_active()) {
            let mut labels = instance.labels.to_builder();
            labels.set(METRIC_NAME, "ALERTS_FOR_STATE").del("alertstate");
            #[expect(clippy::cast_precision_loss, reason = "whole seconds since the epoch")]
            let since = (instance.state.since().0.div_euclid(1000)) as f64;
            samples.push((labels.build(), since));
            labels
                .set(METRIC_NAME, "ALERTS")
                .set("alertstate", instance.state.as_str());
            samples.push((labels.build(), 1.0));
        }
        samples
    }

    /// Ends all alerts at once: their rule is gone. Those that nobody was told of are gone from memory, too.
    pub(super) fn end_all(&mut self, now: Millis) -> Applied {
        self.seen.clear();
        let mut transitions = Vec::new();
        let mut gone = Vec::new();
        for instance in self.instances.values_mut() {
            let change = match instance.state {
                State::Pending { .. } => Change::Inactive,
                State::Firing { since, fired, .. } => {
                    instance.state = State::Resolved { since, fired, at: now };
                    instance.taken = None;
                    Change::Resolved
                }
                State::Resolved { .. } => continue,
            };
            if change == Change::Inactive {
                gone.push(instance.labels.clone());
            }
            transitions.push(Transition {
                labels: instance.labels.clone(),
                change,
                value: instance.value,
            });
        }
        for labels in &gone {
            self.instances.remove(labels);
        }
        Applied {
            transitions,
            gone,
            seen: Vec::new(),
        }
    }
}

fn unchanged(instance: &Instance) -> Verdict {
    Verdict {
        labels: instance.labels.clone(),
        source: instance.source.clone(),
        annotations: instance.annotations.clone(),
        value: instance.value,
        holds: true,
    }
}

fn scene_text(rule: &RuleSpec) -> &str {
    match &rule.source {
        Source::Expr(query) => &query.text,
        Source::Signals(signals) => signals.condition.text(),
    }
}

fn recovers(alert: &AlertSpec, found: &Found) -> bool {
    let Some(recover) = &alert.recover else {
        return true;
    };
    let value_of = |name: &str| match found.values.iter().find(|(known, _)| known == name) {
        Some((_, value)) => Some(*value),
        None => (name == "value").then_some(found.value),
    };
    recover.holds(value_of) == Some(true)
}

fn mentions_recovery(alert: &AlertSpec) -> bool {
    alert
        .annotations
        .values()
        .any(|text: &Text| text.source.contains("$resolvedValue"))
}

fn alert_labels(scene: &Scene<'_>, element: &Element<'_>) -> Labels {
    let mut builder = element.labels.without_metric_name().to_builder();
    for (name, text) in &scene.rule.labels {
        builder.set(name, &scene.context.expand(text, element));
    }
    builder.set("alertname", &scene.rule.name);
    builder.build()
}

fn annotations(scene: &Scene<'_>, element: &Element<'_>) -> Labels {
    let mut builder = LabelsBuilder::default();
    for (name, text) in &scene.alert.annotations {
        builder.set(name, &scene.context.expand(text, element));
    }
    builder.build()
}
