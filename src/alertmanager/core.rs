//! The decisions: which group an alert belongs to, when the group looks for news, and what is then told to whom.
//!
//! Pure: state and time come in, events go out, and nothing is sent from here. Groups are derived from alerts and routes and
//! are never written down; only their timers are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::alert::StoredAlert;
use super::config::{Config, Integration, Receiver, Route};
use super::inhibit::Inhibitor;

use super::record::{Event, NotifyKey, WaitingAlert};
use super::state::State;
use crate::io::{Clock, Mono};
use crate::model::{Fingerprint, Interval, Labels, Millis};

/// A moment on both clocks: stamps come from the wall, timers run on the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now {
    pub(crate) wall: Millis,
    pub(crate) mono: Mono,
}

impl Now {
    /// Asks a clock.
    pub(crate) fn of(clock: &dyn Clock) -> Now {
        Now {
            wall: clock.now(),
            mono: clock.mono(),
        }
    }
}

/// State, and what follows from it and the configuration.
pub(crate) struct Core {
    pub(crate) config: Arc<Config>,
    pub(crate) state: State,
    pub(crate) groups: HashMap<String, Group>,
    inhibitor: Inhibitor,
}

/// Alerts that are told together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The number of the route.
    pub(crate) route: usize,
    /// The labels that name the group.
    pub(crate) labels: Labels,
    /// Alertmanager's key, which receivers know it by.
    pub(crate) key: String,
    /// Its members, firing or not yet told to be over.
    pub(crate) members: BTreeSet<Fingerprint>,
    /// When it looks for news.
    pub(crate) due: Mono,
    /// Whether it has looked before.
    pub(crate) has_flushed: bool,
}

/// Why an alert is told to nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Muted {
    /// Alerts that inhibit it.
    pub inhibited_by: Vec<Fingerprint>,
    /// Silences that silence it.
    pub silenced_by: Vec<String>,
}

impl Muted {
    /// Whether anything mutes it.
    pub fn is_muted(&self) -> bool {
        !self.inhibited_by.is_empty() || !self.silenced_by.is_empty()
    }
}

impl Core {
    /// Derives groups from a state, as after a start or with a new configuration. Timers of groups that go on are kept.
    pub(crate) fn new(config: Arc<Config>, state: State, now: Now) -> Core {
        let mut core = Core {
            inhibitor: Inhibitor::new(&config.inhibit_rules),
            config,
            state,
            groups: HashMap::new(),
        };
        let alerts: Vec<Arc<StoredAlert>> = core.state.alerts.values().cloned().collect();
        for alert in alerts {
            core.inhibitor.add(alert.fingerprint(), &alert.labels);
            core.join_groups(&alert, now);
        }
        core
    }

    /// Applies an event that the log has, and keeps groups and inhibition in step.
    pub(crate) fn apply(&mut self, event: &Event, now: Now) {
        if let Event::Forgot { alerts } = event {
            for fingerprint in alerts {
                if let Some(alert) = self.state.alerts.get(&Fingerprint(*fingerprint)) {
                    self.inhibitor.remove(Fingerprint(*fingerprint), &alert.labels);
                }
            }
        }
        self.state.apply(event);
        match event {
            Event::Alerts { alerts } => {
                for alert in alerts {
                    let fingerprint = alert.fingerprint();
                    let Some(merged) = self.state.alerts.get(&fingerprint).cloned() else {
                        continue;
                    };
                    self.inhibitor.add(fingerprint, &merged.labels);
                    self.join_groups(&merged, now);
                }
            }
            Event::Flushed { at, group, next, .. } => {
                if let Some(group) = self.groups.get_mut(group) {
                    group.due = now.mono.after(*next - *at);
                    group.has_flushed = true;
                }
            }
            Event::Ended { group } => {
                self.groups.remove(group);
            }
            _ => {}
        }
    }

    /// Splits what came in into news and mere continuations, which are recorded in short.
    pub(crate) fn take_in(&self, alerts: Vec<StoredAlert>, now: Millis) -> Vec<Event> {
        let (mut news, mut ends) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for alert in alerts {
            let fingerprint = alert.fingerprint();
            let first = seen.insert(fingerprint);
            match self.state.alerts.get(&fingerprint) {
                Some(old)
                    if first && StoredAlert::is_touch(old, &alert) && self.is_member(fingerprint, &alert.labels) =>
                {
                    let merged = StoredAlert::merge(old, alert);
                    ends.push((fingerprint.0, merged.ends_at));
                }
                _ => news.push(alert),
            }
        }
        let mut events = Vec::new();
        if !news.is_empty() {
            events.push(Event::Alerts { alerts: news });
        }
        if !ends.is_empty() {
            events.push(Event::Touched { at: now, ends });
        }
        events
    }

    fn is_member(&self, fingerprint: Fingerprint, labels: &Labels) -> bool {
        self.groups_of(labels).all(|(_, id, _)| {
            self.groups
                .get(&id)
                .is_some_and(|group| group.members.contains(&fingerprint))
        })
    }

    fn groups_of(&self, labels: &Labels) -> impl Iterator<Item = (usize, String, Labels)> {
        self.config.routes.matching(labels).into_iter().map(|number| {
            let route = &self.config.routes.routes()[number];
            let group_labels = route.group_labels(labels);
            (number, format!("{}:{group_labels}", route.id), group_labels)
        })
    }

    /// Adds an alert to its groups; one that is over joins only those that still believe it fires.
    fn join_groups(&mut self, alert: &StoredAlert, now: Now) {
        let fingerprint = alert.fingerprint();
        let resolved = alert.is_resolved(now.wall);
        let places: Vec<_> = self.groups_of(&alert.labels).collect();
        for (number, id, labels) in places {
            let route = &self.config.routes.routes()[number];
            let key = format!("{}:{labels}", route.key);
            if resolved && !self.groups.contains_key(&id) && !self.is_believed(&key, route, fingerprint) {
                continue;
            }
            let timer = self.state.timers.get(&id).copied();
            // A wall clock that was set back must not make a group wait for longer than its interval.
            let left = timer.map(|timer| Interval((timer - now.wall).0.min(route.group_interval.0)));
            let group = self.groups.entry(id).or_insert_with(|| Group {
                route: number,
                labels,
                key,
                members: BTreeSet::new(),
                due: now.mono.after(left.unwrap_or(route.group_wait)),
                has_flushed: timer.is_some(),
            });
            if !resolved && route.is_urgent(&alert.labels) && !group.members.contains(&fingerprint) {
                group.due = group.due.min(now.mono);
            }
            // An alert that has fired for longer than the wait has waited enough.
            if !group.has_flushed && alert.starts_at + route.group_wait < now.wall {
                group.due = group.due.min(now.mono);
            }
            group.members.insert(fingerprint);
        }
    }

    /// Whether somebody was told, or is about to be told, that this alert of the group fires: an integration of the route's
    /// receiver, or one that stood in for it.
    fn is_believed(&self, group_key: &str, route: &Route, fingerprint: Fingerprint) -> bool {
        let Some(receiver) = self.config.receiver(&route.receiver) else {
            return false;
        };
        receiver.integrations.iter().any(|integration| {
            let key = notify_key(group_key, receiver, integration);
            let stand_ins = self.stand_ins(&key);
            self.believes(&key, fingerprint) || stand_ins.iter().any(|ear| self.believes(&ear.key, fingerprint))
        })
    }

    /// Whether this integration was told, or is about to be told, that the alert fires.
    pub(super) fn believes(&self, key: &NotifyKey, fingerprint: Fingerprint) -> bool {
        let told = self.state.told.get(key);
        told.is_some_and(|told| told.is_firing(fingerprint))
            || self.waiting_item(key, fingerprint).is_some_and(|item| !item.resolved)
    }

    /// Whether this integration believes that the alert fires, or is about to hear of it in any state.
    pub(super) fn is_in_mind(&self, key: &NotifyKey, fingerprint: Fingerprint) -> bool {
        self.believes(key, fingerprint) || self.waiting_item(key, fingerprint).is_some()
    }

    fn waiting_item(&self, key: &NotifyKey, fingerprint: Fingerprint) -> Option<&WaitingAlert> {
        let waiting = self.state.waiting.get(key)?;
        waiting
            .alerts
            .iter()
            .find(|item| item.alert.fingerprint() == fingerprint)
    }

    /// Returns what mutes an alert, whatever the time of day.
    pub(crate) fn muted(&self, labels: &Labels, now: Millis) -> Muted {
        let firing = |fingerprint| {
            let alert = self.state.alerts.get(&fingerprint)?;
            (!alert.is_resolved(now)).then_some(&alert.labels)
        };
        Muted {
            inhibited_by: self.inhibitor.inhibiting(labels, firing),
            silenced_by: self.state.silences.silencing(labels, now),
        }
    }

    /// Removes members that are over and have been told, or need not be.
    pub(crate) fn drop_members(&mut self, id: &str, gone: &[Fingerprint], now: Millis) {
        let Some(group) = self.groups.get_mut(id) else { return };
        for fingerprint in gone {
            let fires_again = self
                .state
                .alerts
                .get(fingerprint)
                .is_some_and(|alert| !alert.is_resolved(now));
            if !fires_again {
                group.members.remove(fingerprint);
            }
        }
    }

    /// Returns what may be forgotten: alerts that have been over for `after` and are in no group, what was told about groups
    /// that are gone, silences past retention.
    pub(crate) fn garbage(&self, after: Interval, now: Millis) -> Vec<Event> {
        let members: HashSet<Fingerprint> = self
            .groups
            .values()
            .flat_map(|group| group.members.iter().copied())
            .collect();
        let alerts: Vec<u64> = self
            .state
            .alerts
            .iter()
            .filter(|(fingerprint, alert)| alert.is_resolved(now - after) && !members.contains(fingerprint))
            .map(|(fingerprint, _)| fingerprint.0)
            .collect();
        let ids: Vec<String> = self
            .state
            .silences
            .iter()
            .filter(|silence| silence.ends_at + super::silence::RETENTION <= now)
            .map(|silence| silence.id.clone())
            .collect();
        let live = self.live_keys();
        let keys: Vec<NotifyKey> = self
            .state
            .told
            .iter()
            .filter(|(key, told)| {
                let old = told.firing.is_empty() || told.at + super::silence::RETENTION <= now;
                old && !live.contains(key.group_key.as_str())
            })
            .map(|(key, _)| key.clone())
            .collect();
        let mut events = Vec::new();
        if !alerts.is_empty() {
            events.push(Event::Forgot { alerts });
        }
        if !keys.is_empty() {
            events.push(Event::ForgotTold { keys });
        }
        if !ids.is_empty() {
            events.push(Event::ForgotSilences { ids });
        }
        events
    }
}

/// Names what an integration is told about a group.
pub(crate) fn notify_key(group_key: &str, receiver: &Receiver, integration: &Integration) -> NotifyKey {
    NotifyKey {
        group_key: group_key.to_owned(),
        receiver: receiver.name.clone(),
        kind: integration.kind.to_owned(),
        index: integration.index,
    }
}
