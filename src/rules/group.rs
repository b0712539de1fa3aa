//! A group at work: ticks, stages, and what happens to the results: stored, logged, handed over, shown.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rayon::prelude::*;
use tokio::sync::watch;

use super::depend::stages;
use super::eager::{GATHER, Inbox, Share};
use super::file::GroupSpec;
use super::journal::{self, RuleChanges};
use super::metrics;
use super::runtime::{Occasion, Outcome, RuleRuntime, Tick};
use super::share::Shared;
use super::state::State;
use super::view::GroupView;
use super::{Deps, Published};
use crate::io::Mono;
use crate::model::{Alert, Interval, Labels, Millis, OwnedSeries, Sample, WriteBatch};

/// How long the alert manager may take before the batch counts as not taken.
const HAND_OVER_TIMEOUT: Interval = Interval::secs(10);
/// The widest spread of first evaluations: no group waits longer after a start.
const SPREAD_MAX_MILLIS: u64 = 1000;
/// The smallest step between wall and monotonic clock that counts as a jump.
const JUMP_MIN: Interval = Interval::secs(2);

/// A group between evaluations. Its task owns it; a reload takes it back.
pub(super) struct GroupRuntime {
    pub(super) spec: GroupSpec,
    pub(super) file: String,
    pub(super) rules: Vec<RuleRuntime>,
    /// Both clocks at the last evaluation, to notice when somebody set one.
    last: Option<(Millis, Mono)>,
    evaluation_secs: f64,
    stages: Vec<std::ops::Range<usize>>,
    view: Arc<ArcSwap<GroupView>>,
    states: Arc<ArcSwap<Vec<RuleChanges>>>,
    /// Rules that were touched by samples.
    pub(super) inbox: Arc<Inbox>,
    /// What evaluating these may cost, shared by all groups.
    share: Arc<Share>,
}

/// What ended a group's wait.
enum Woken {
    Stopped,
    Interval,
    Sample,
    /// What was touched has been gathered, or has rested.
    Rested,
}

impl GroupRuntime {
    pub(super) fn new(
        file: &str,
        spec: GroupSpec,
        rules: Vec<RuleRuntime>,
        deps: &Deps,
        share: &Arc<Share>,
    ) -> GroupRuntime {
        let group = GroupRuntime {
            stages: stages(&spec),
            states: Arc::default(),
            inbox: Arc::default(),
            share: Arc::clone(share),
            spec,
            file: file.to_owned(),
            rules,
            last: None,
            evaluation_secs: 0.0,
            view: Arc::new(ArcSwap::from_pointee(GroupView {
                name: String::new(),
                file: String::new(),
                interval: Interval::ZERO,
                query_offset: Interval::ZERO,
                limit: 0,
                last_evaluation: None,
                evaluation_secs: 0.0,
                rules: Vec::new(),
            })),
        };
        group.publish(deps);
        group.show_states();
        #[expect(clippy::cast_precision_loss, reason = "a count of rules")]
        metrics::RULES.set(&[&group.spec.name], group.rules.len() as f64);
        metrics::INTERVAL.set(&[&group.spec.name], group.interval(deps).as_secs_f64());
        group
    }

    pub(super) fn published(&self) -> Published {
        Published {
            view: Arc::clone(&self.view),
            states: Arc::clone(&self.states),
        }
    }

    pub(super) fn interval(&self, deps: &Deps) -> Interval {
        self.spec.interval.unwrap_or(deps.settings.interval)
    }

    /// Evaluates at each tick until `stop`, and gives the group back.
    pub(super) async fn run(mut self, deps: Arc<Deps>, mut stop: watch::Receiver<bool>) -> GroupRuntime {
        let interval = self.interval(&deps);
        let mut next = deps.clock.mono().after(self.spread(interval));
        let inbox = Arc::clone(&self.inbox);
        // When rules that were touched and rest may be looked at again.
        let mut again: Option<Mono> = None;
        loop {
            let woken = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Woken::Stopped,
                () = deps.clock.sleep_until(next) => Woken::Interval,
                () = deps.clock.sleep_until(again.unwrap_or_default()), if again.is_some() => Woken::Rested,
                () = inbox.arrived(), if again.is_none() => Woken::Sample,
            };
            match woken {
                Woken::Stopped => return self,
                Woken::Sample => {
                    again = Some(deps.clock.mono().after(GATHER));
                    continue;
                }
                Woken::Rested => {
                    again = self.evaluate_touched(&deps).await;
                    continue;
                }
                Woken::Interval => {}
            }
            self.evaluate(&deps).await;
            metrics::ITERATIONS.inc(&[&self.spec.name]);
            next = next.after(interval);
            let mut missed = 0;
            while next < deps.clock.mono() {
                next = next.after(interval);
                missed += 1;
            }
            if missed > 0 {
                metrics::ITERATIONS.add(&[&self.spec.name], missed);
                metrics::MISSED.add(&[&self.spec.name], missed);
                tracing::warn!(
                    group = self.spec.name,
                    missed,
                    "evaluations skipped: the one before took too long"
                );
            }
        }
    }

    /// Groups do not all begin at once; which one begins when follows from its name.
    fn spread(&self, interval: Interval) -> Interval {
        let hash = xxhash_rust::xxh3::xxh3_64(format!("{};{}", self.file, self.spec.name).as_bytes());
        let widest = u64::try_from(interval.0).unwrap_or(0).min(SPREAD_MAX_MILLIS);
        Interval(i64::try_from(hash % widest.max(1)).unwrap_or(0))
    }

    /// Evaluates all rules once.
    pub(super) async fn evaluate(&mut self, deps: &Arc<Deps>) {
        let began = deps.clock.mono();
        let now = deps.clock.now();
        self.notice_jump(now, began);
        let tick = Tick {
            now,
            offset: self.spec.query_offset.unwrap_or(deps.settings.query_offset),
            occasion: Occasion::Tick,
        };
        // What was touched until now is looked at now.
        self.inbox.take();
        let mut changes = Vec::new();
        let mut samples = 0;
        for stage in self.stages.clone() {
            let mut series = Vec::new();
            for outcome in self.evaluate_stage(stage, deps, tick).await {
                series.extend(outcome.samples);
                changes.extend(outcome.changes);
            }
            samples += series.len();
            append(deps, series).await;
        }
        self.log_changes(deps, now, changes).await;
        self.hand_over(deps, now).await;
        self.evaluation_secs = deps.clock.mono().seconds_since(began);
        metrics::LAST_DURATION.set(&[&self.spec.name], self.evaluation_secs);
        metrics::LAST_TIME.set(&[&self.spec.name], now.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a count of samples")]
        metrics::LAST_SAMPLES.set(&[&self.spec.name], samples as f64);
        self.publish(deps);
    }

    /// Evaluates the rules that samples touched, as far as the share goes; returns when to look again at those that rest.
    async fn evaluate_touched(&mut self, deps: &Arc<Deps>) -> Option<Mono> {
        self.last?; // The first evaluation is one of all rules, and it is near.
        let mono = deps.clock.mono();
        let touched = self.inbox.take();
        let (ready, resting): (Vec<usize>, Vec<usize>) = touched
            .into_iter()
            .filter(|rule| *rule < self.rules.len())
            .partition(|rule| self.rules[*rule].rest_until <= mono);
        let again = resting.iter().map(|rule| self.rules[*rule].rest_until).min();
        self.inbox.put_back(resting);
        if ready.is_empty() {
            return again;
        }
        if !self.share.allows(mono) {
            metrics::EAGER_DEFERRED.add(ready.len() as u64);
            return again;
        }
        metrics::EAGER.add(ready.len() as u64);
        let now = deps.clock.now();
        self.notice_jump(now, mono);
        let tick = Tick {
            now,
            offset: Interval::ZERO,
            occasion: Occasion::Arrival,
        };
        let outcomes = self.evaluate_some(&ready, deps, tick).await;
        self.share.spend(outcomes.iter().map(|outcome| outcome.secs).sum());
        let mut changes = Vec::new();
        let mut series = Vec::new();
        for outcome in outcomes {
            series.extend(outcome.samples);
            changes.extend(outcome.changes);
        }
        if !changes.is_empty() {
            self.log_changes(deps, now, changes).await;
            self.hand_over(deps, now).await;
            append(deps, series).await;
            self.publish(deps);
        }
        again
    }

    /// Evaluates the rules with these indices, which rise, off the async threads.
    async fn evaluate_some(&mut self, indices: &[usize], deps: &Arc<Deps>, tick: Tick) -> Vec<Outcome> {
        let mut rules: Vec<RuleRuntime> = Vec::with_capacity(indices.len());
        for index in indices.iter().rev() {
            rules.push(self.rules.remove(*index));
        }
        let (spec, deps) = (self.spec.clone_without_rules(), Arc::clone(deps));
        let work = tokio::task::spawn_blocking(move || {
            let outcomes: Vec<Outcome> = rules
                .iter_mut()
                .map(|rule| rule.evaluate(&spec, &deps, &*deps.engine, tick))
                .collect();
            (rules, outcomes)
        });
        let (rules, outcomes) = work.await.expect("an evaluation catches its own panics");
        for (index, rule) in indices.iter().zip(rules.into_iter().rev()) {
            self.rules.insert(*index, rule);
        }
        outcomes
    }

    /// Rules that do not read each other are evaluated in parallel, off the async threads.
    async fn evaluate_stage(&mut self, stage: std::ops::Range<usize>, deps: &Arc<Deps>, tick: Tick) -> Vec<Outcome> {
        let mut rules: Vec<RuleRuntime> = self.rules.drain(stage.clone()).collect();
        let (spec, deps) = (self.spec.clone_without_rules(), Arc::clone(deps));
        let work = tokio::task::spawn_blocking(move || {
            let outcomes: Vec<Outcome> = if rules.len() == 1 {
                vec![rules[0].evaluate(&spec, &deps, &*deps.engine, tick)]
            } else {
                let engine = Shared::between(&rules, &*deps.engine, tick.now - tick.offset);
                rules
                    .par_iter_mut()
                    .map(|rule| rule.evaluate(&spec, &deps, &engine, tick))
                    .collect()
            };
            (rules, outcomes)
        });
        let (rules, outcomes) = work.await.expect("an evaluation catches its own panics");
        self.rules.splice(stage.start..stage.start, rules);
        outcomes
    }

    /// A wall clock that was set must neither fire `for` early nor hold it up.
    fn notice_jump(&mut self, now: Millis, mono: Mono) {
        if let Some((last_wall, last_mono)) = self.last {
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds since the last evaluation")]
            let elapsed = Interval((mono.seconds_since(last_mono) * 1000.0) as i64);
            let jump = (now - last_wall).0 - elapsed.0;
            if jump.abs() >= JUMP_MIN.0 {
                tracing::warn!(group = self.spec.name, jump_millis = jump, "the wall clock was set");
                for instance in self
                    .rules
                    .iter_mut()
                    .flat_map(|rule| rule.alerts.instances.values_mut())
                {
                    instance.state = instance.state.shifted(Interval(jump));
                }
            }
        }
        self.last = Some((now, mono));
    }

    /// Offers every alert that the alert manager does not have yet, or should hear of again, as one batch.
    async fn hand_over(&mut self, deps: &Arc<Deps>, now: Millis) {
        let interval = self.interval(deps);
        let mut alerts = Vec::new();
        let mut offered: Vec<(usize, Labels)> = Vec::new();
        for (i, rule) in self.rules.iter().enumerate() {
            for instance in rule.alerts.instances.values() {
                let due = match (instance.state, instance.taken) {
                    (State::Pending { .. }, _) => false,
                    (_, None) => true,
                    (State::Firing { .. }, Some(at)) => now - at >= deps.settings.resend_delay,
                    (State::Resolved { .. }, Some(_)) => false,
                };
                if due {
                    alerts.push(outgoing(deps, rule, instance, now, interval));
                    offered.push((i, instance.labels.clone()));
                }
            }
        }
        if alerts.is_empty() || !send(deps, alerts).await {
            return;
        }
        let mut gone: Vec<RuleChanges> = Vec::new();
        for (i, labels) in offered {
            let rule = &mut self.rules[i];
            let Some(instance) = rule.alerts.instances.get_mut(&labels) else {
                continue;
            };
            instance.taken = Some(now);
            if !instance.state.is_active() {
                rule.alerts.instances.remove(&labels);
                gone.push(RuleChanges {
                    key: rule.key.clone(),
                    set: Vec::new(),
                    gone: vec![labels],
                    seen: Vec::new(),
                });
            }
        }
        self.log_changes(deps, now, gone).await;
    }

    /// Whether nothing is left to be told of its alerts.
    pub(super) fn is_spent(&self) -> bool {
        self.rules.iter().all(|rule| rule.alerts.instances.is_empty())
    }

    /// Ends all rules: their alerts resolve, their series stop.
    pub(super) async fn end(&mut self, deps: &Arc<Deps>) {
        let now = deps.clock.now();
        let mut series = Vec::new();
        let mut changes = Vec::new();
        for rule in &mut self.rules {
            let outcome = rule.end(now);
            series.extend(outcome.samples);
            changes.extend(outcome.changes);
        }
        append(deps, series).await;
        self.log_changes(deps, now, changes).await;
        self.hand_over(deps, now).await;
    }

    /// Offers once more what is left of rules that ended.
    pub(super) async fn offer_again(&mut self, deps: &Arc<Deps>) {
        self.hand_over(deps, deps.clock.now()).await;
    }

    /// Writes changes to the alert log. Failing that, the alerts go out all the same: a page that may come twice after a
    /// crash is better than none.
    ///
    /// The states are shown to snapshots first, so that no snapshot can miss a record that stands before it.
    async fn log_changes(&self, deps: &Arc<Deps>, now: Millis, changes: Vec<RuleChanges>) {
        if changes.is_empty() {
            return;
        }
        self.show_states();
        if let Err(error) = deps.log.append(journal::changes(now, changes), None).await {
            metrics::LOG_FAILURES.inc();
            tracing::error!(%error, "alert states are not on the disk");
        }
    }

    fn show_states(&self) {
        let states = self.rules.iter().map(RuleRuntime::snapshot);
        self.states.store(Arc::new(
            states
                .filter(|rule| !rule.set.is_empty() || !rule.seen.is_empty())
                .collect(),
        ));
    }

    fn publish(&self, deps: &Deps) {
        self.view.store(Arc::new(GroupView {
            name: self.spec.name.clone(),
            file: self.file.clone(),
            interval: self.interval(deps),
            query_offset: self.spec.query_offset.unwrap_or(deps.settings.query_offset),
            limit: self.spec.limit,
            last_evaluation: self.last.map(|(wall, _)| wall),
            evaluation_secs: self.evaluation_secs,
            rules: self.rules.iter().map(|rule| Arc::new(rule.view())).collect(),
        }));
    }
}

impl GroupSpec {
    /// What a rule needs to know of its group.
    fn clone_without_rules(&self) -> GroupSpec {
        GroupSpec {
            name: self.name.clone(),
            interval: self.interval,
            query_offset: self.query_offset,
            limit: self.limit,
            labels: self.labels.clone(),
            eager: self.eager,
            rules: Vec::new(),
        }
    }
}

/// Words an alert for the alert manager. A firing one ends by itself when it is not repeated four times in a row.
fn outgoing(
    deps: &Deps,
    rule: &RuleRuntime,
    instance: &super::alerting::Instance,
    now: Millis,
    interval: Interval,
) -> Alert {
    let mut labels = instance.labels.to_builder();
    for (name, value) in deps.settings.external_labels.iter() {
        if instance.labels.get(name).is_none() {
            labels.set(name, value);
        }
    }
    let lifetime = Interval(4 * interval.0.max(deps.settings.resend_delay.0));
    let (starts_at, ends_at) = match instance.state {
        State::Pending { since } => (since, now + lifetime),
        State::Firing { fired, .. } => (fired, now + lifetime),
        State::Resolved { fired, at, .. } => (fired, at),
    };
    let query = crate::template::query_escape(&rule.spec.query_text());
    Alert {
        labels: labels.build(),
        annotations: instance.annotations.clone(),
        starts_at,
        ends_at: Some(ends_at),
        sample_at: instance.sample_at,
        generator_url: format!(
            "{}/graph?g0.expr={query}&g0.tab=1",
            deps.settings.external_url.trim_end_matches('/')
        ),
    }
}

async fn send(deps: &Arc<Deps>, alerts: Vec<Alert>) -> bool {
    let count = alerts.len() as u64;
    let result = tokio::select! {
        result = deps.sink.send(alerts) => result,
        () = deps.clock.sleep(HAND_OVER_TIMEOUT) => Err(format!("no answer within {HAND_OVER_TIMEOUT}")),
    };
    match result {
        Ok(()) => {
            metrics::HANDED_OVER.add(count);
            true
        }
        Err(error) => {
            metrics::HAND_OVER_FAILURES.inc();
            tracing::warn!(%error, alerts = count, "the alert manager did not take alerts; they are offered again");
            false
        }
    }
}

async fn append(deps: &Arc<Deps>, series: Vec<(Labels, Sample)>) {
    if series.is_empty() {
        return;
    }
    let count = series.len() as u64;
    let owned = series.into_iter().map(|(labels, sample)| OwnedSeries {
        labels,
        samples: vec![sample],
    });
    let batch = WriteBatch::from_series(owned.collect(), deps.seed);
    match deps.appender.append(batch).await {
        Ok(report) => {
            metrics::SAMPLES.add(count - report.refused.min(count));
            if let Some(refusal) = report.refusals.first() {
                tracing::warn!(refused = report.refused, series = refusal.series, reason = %refusal.reason, "recorded samples were refused");
            }
        }
        Err(error) => {
            metrics::APPEND_FAILURES.inc();
            tracing::warn!(%error, samples = count, "recorded samples were not stored");
        }
    }
}
