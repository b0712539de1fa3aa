//! Rules over a literal store, moved on by hand: rule tests and trials, through the very code that runs live.

use std::sync::Arc;

use super::alerting::Alerts;
use super::eager::Share;
use super::group::GroupRuntime;
use super::journal::RuleKey;
use super::runtime::RuleRuntime;
use super::view::{ActiveAlert, TransitionView};
use super::{AlertSink, Deps, EngineOver, Evaluate, GroupSpec, Settings};
use crate::io::log::MemLog;
use crate::io::{BoxFuture, Mono, SimClock};
use crate::model::{Alert, Millis};
use crate::query::{Engine, QueryOptions};
use crate::storage::{Appender, LiteralStore};

/// Groups of rules that are evaluated when told, at a time that is told.
pub struct Replay {
    clock: SimClock,
    deps: Arc<Deps>,
    groups: Vec<GroupRuntime>,
}

struct Nobody;

impl AlertSink for Nobody {
    fn send(&self, _: Vec<Alert>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Replay {
    /// Prepares the groups, in the order of evaluation, over `store`; the first evaluation will be at `start`.
    pub fn new(
        groups: Vec<(String, GroupSpec)>,
        store: &LiteralStore,
        options: QueryOptions,
        settings: Settings,
        start: Millis,
    ) -> Replay {
        let engine = EngineOver {
            engine: Engine,
            querier: Arc::new(store.clone()),
            options,
        };
        Replay::over(
            groups,
            Arc::new(engine),
            Arc::new(store.clone()),
            Arc::new(Nobody),
            settings,
            start,
        )
    }

    /// Prepares the groups over any store.
    pub(super) fn over(
        groups: Vec<(String, GroupSpec)>,
        engine: Arc<dyn Evaluate>,
        appender: Arc<dyn Appender>,
        sink: Arc<dyn AlertSink>,
        settings: Settings,
        start: Millis,
    ) -> Replay {
        let clock = SimClock::at(start);
        let deps = Arc::new(Deps {
            clock: Arc::new(clock.clone()),
            engine,
            appender,
            log: Arc::new(MemLog::new()),
            sink,
            interest: None,
            settings,
            seed: 0,
        });
        let share = Arc::new(Share::new(0.0, Mono::default()));
        let groups = groups.into_iter().map(|(file, spec)| {
            let rules = spec.rules.iter().enumerate().map(|(nth, rule)| {
                let key = RuleKey {
                    group: spec.name.clone(),
                    rule: rule.name.clone(),
                    labels: std::collections::BTreeMap::new(),
                    nth: u32::try_from(nth).unwrap_or(u32::MAX),
                };
                RuleRuntime::new(key, rule.clone(), Alerts::default())
            });
            let rules = rules.collect();
            GroupRuntime::new(&file, spec, rules, &deps, &share)
        });
        Replay {
            clock,
            groups: groups.collect(),
            deps,
        }
    }

    /// Evaluates all groups at `at`, which is not before the last evaluation.
    pub async fn evaluate(&mut self, at: Millis) {
        self.advance(at);
        for group in &mut self.groups {
            group.evaluate(&self.deps).await;
        }
    }

    /// Evaluates one group at `at`, which is not before the last evaluation of any.
    pub(super) async fn evaluate_group(&mut self, group: usize, at: Millis) {
        self.advance(at);
        self.groups[group].evaluate(&self.deps).await;
    }

    fn advance(&self, at: Millis) {
        use crate::io::Clock as _;
        self.clock.advance(at - self.clock.now());
    }

    /// Returns what changed in a group's alerts at `at`, each with its group and rule.
    pub(super) fn transitions_at(&self, group: usize, at: Millis) -> Vec<(String, String, TransitionView)> {
        let group = &self.groups[group];
        let rules = group.rules.iter().flat_map(|rule| {
            let latest = rule
                .transitions
                .iter()
                .rev()
                .take_while(|transition| transition.at == at);
            latest.map(|transition| (group.spec.name.clone(), rule.spec.name.clone(), transition.clone()))
        });
        let mut found: Vec<_> = rules.collect();
        found.reverse();
        found
    }

    /// Returns the errors of a group's rules at its last evaluation, each led by its rule.
    pub(super) fn errors_of(&self, group: usize) -> Vec<String> {
        errors_of(&self.groups[group])
    }

    /// Returns the alerts that fire under this name, with the errors of its rules.
    pub fn firing(&self, name: &str) -> (Vec<ActiveAlert>, Vec<String>) {
        let mut alerts = Vec::new();
        let mut errors = Vec::new();
        for group in &self.groups {
            let view = group.published().view.load_full();
            for rule in view.rules.iter().filter(|rule| rule.name == name) {
                let active = rule.alert.iter().flat_map(|alert| alert.active.iter());
                alerts.extend(active.filter(|alert| alert.state.is_firing()).cloned());
                if let super::Health::Err(error) = &rule.health {
                    errors.push(error.clone());
                }
            }
        }
        (alerts, errors)
    }

    /// Returns the errors of all rules at the last evaluation, each led by its rule.
    pub fn errors(&self) -> Vec<String> {
        self.groups.iter().flat_map(errors_of).collect()
    }
}

fn errors_of(group: &GroupRuntime) -> Vec<String> {
    let view = group.published().view.load_full();
    let errors = view.rules.iter().filter_map(|rule| match &rule.health {
        super::Health::Err(error) => Some(format!("rule {}: {error}", rule.name)),
        super::Health::Ok | super::Health::Unknown => None,
    });
    errors.collect()
}
