//! Rules over a literal store, moved on by hand: rule tests and trials, through the very code that runs live.

use std::sync::Arc;

use super::alerting::Alerts;
use super::eager::Share;
use super::group::GroupRuntime;
use super::journal::RuleKey;
use super::runtime::RuleRuntime;
use super::view::ActiveAlert;
use super::{AlertSink, Deps, EngineOver, GroupSpec, Settings};
use crate::io::log::MemLog;
use crate::io::{BoxFuture, Mono, SimClock};
use crate::model::{Alert, Millis};
use crate::query::{Engine, QueryOptions};
use crate::storage::LiteralStore;

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
        let clock = SimClock::at(start);
        let deps = Arc::new(Deps {
            clock: Arc::new(clock.clone()),
            engine: Arc::new(EngineOver {
                engine: Engine,
                querier: Arc::new(store.clone()),
                options,
            }),
            appender: Arc::new(store.clone()),
            log: Arc::new(MemLog::new()),
            sink: Arc::new(Nobody),
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
        use crate::io::Clock as _;
        self.clock.advance(at - self.clock.now());
        for group in &mut self.groups {
            group.evaluate(&self.deps).await;
        }
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
        let mut errors = Vec::new();
        for group in &self.groups {
            for rule in &group.published().view.load().rules {
                if let super::Health::Err(error) = &rule.health {
                    errors.push(format!("rule {}: {error}", rule.name));
                }
            }
        }
        errors
    }
}
