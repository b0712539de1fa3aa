//! The decisions: which group an alert belongs to, when the group looks for news, and what is then told to whom.
//!
//! Pure: state and time come in, events go out, and nothing is sent from here. Groups are derived from alerts and routes and
//! are never written down; only their timers are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::alert::{StoredAlert, by_labels};
use super::config::{Config, Integration, Receiver, Route};
use super::inhibit::Inhibitor;
use super::nflog::{Manner, Picture, Reason, why_notify};
use super::record::{Event, NotifyKey, Send, Told, Waiting};
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
            if resolved && !self.groups.contains_key(&id) && !self.believes(&key, route, fingerprint) {
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

    /// Whether some integration of the route's receiver was told, or is about to be told, that this alert fires.
    fn believes(&self, key: &str, route: &Route, fingerprint: Fingerprint) -> bool {
        let Some(receiver) = self.config.receiver(&route.receiver) else {
            return false;
        };
        receiver.integrations.iter().any(|integration| {
            let key = notify_key(key, receiver, integration);
            let told = self
                .state
                .told
                .get(&key)
                .is_some_and(|told| told.is_firing(fingerprint));
            let waiting = || {
                let waiting = self.state.waiting.get(&key)?;
                let item = waiting
                    .alerts
                    .iter()
                    .find(|item| item.alert.fingerprint() == fingerprint)?;
                (!item.resolved).then_some(())
            };
            told || waiting().is_some()
        })
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

    /// Decides what a group tells now. `busy` are the integrations that are being told something this very moment: they
    /// are asked again at the next tick. `new_id` names messages.
    pub(crate) fn flush(
        &self,
        id: &str,
        now: Millis,
        busy: &dyn Fn(&NotifyKey) -> bool,
        new_id: &mut dyn FnMut() -> String,
    ) -> Flush {
        let Some(group) = self.groups.get(id) else {
            return Flush::default();
        };
        let route = &self.config.routes.routes()[group.route];
        let seen = self.look(group, route, now);
        let mut flush = Flush {
            gone: seen.resolved_members.clone(),
            ..Flush::default()
        };
        let (mut sends, mut noted, mut cancelled) = (Vec::new(), Vec::new(), Vec::new());
        let receiver = self.config.receiver(&route.receiver);
        for (receiver, integration) in receiver
            .iter()
            .flat_map(|receiver| receiver.integrations.iter().map(move |one| (*receiver, one)))
        {
            let key = notify_key(&group.key, receiver, integration);
            if busy(&key) {
                // What is over stays a member until everybody could be told.
                flush.gone.clear();
                continue;
            }
            let manner = Manner {
                send_resolved: integration.send_resolved,
                repeat_interval: route.repeat_interval,
                slack: Interval((route.group_interval.0 / 10).min(1000)),
            };
            let with_silenced = receiver
                .send_silenced_resolved
                .then(|| self.with_silenced_ends(&key, &seen));
            let verdict = self.tell(&key, with_silenced.as_ref().unwrap_or(&seen), manner, now);
            match verdict {
                Verdict::Nothing => {}
                Verdict::Cancel => cancelled.push(key),
                Verdict::Note(told) => noted.push((key, told)),
                Verdict::Tell(reason, alerts) => {
                    let thread = match reason {
                        Reason::First => None,
                        _ => self.state.told.get(&key).and_then(|told| told.thread.clone()),
                    };
                    sends.push(Send {
                        id: new_id(),
                        key,
                        route: route.id.clone(),
                        group_labels: group.labels.clone(),
                        reason,
                        alerts,
                        thread,
                    });
                }
            }
        }
        flush.events.push(Event::Flushed {
            at: now,
            group: id.to_owned(),
            next: now + route.group_interval,
            sends,
            noted,
            cancelled,
        });
        if flush.gone.len() == group.members.len() {
            flush.events.push(Event::Ended { group: id.to_owned() });
        }
        flush
    }

    /// What a group shows at `now`: silenced, inhibited and, at mute times, all members left out.
    fn look<'a>(&'a self, group: &Group, route: &Route, now: Millis) -> Seen<'a> {
        let muted_time = !self.config.muted_by(route, now).is_empty();
        let mut seen = Seen::default();
        for fingerprint in &group.members {
            let Some(alert) = self.state.alerts.get(fingerprint) else {
                seen.resolved_members.push(*fingerprint);
                continue;
            };
            let resolved = alert.is_resolved(now);
            if resolved {
                seen.resolved_members.push(*fingerprint);
            }
            if muted_time || self.muted(&alert.labels, now).is_muted() {
                seen.hidden.push((*fingerprint, resolved));
            } else {
                seen.alerts.push((*fingerprint, alert, resolved));
            }
        }
        seen.alerts
            .sort_by(|(_, a, _), (_, b, _)| by_labels(&a.labels, &b.labels));
        seen
    }

    /// Shows the ends of alerts that were told as firing and are silenced by now: who asks for that is not left believing.
    fn with_silenced_ends<'a>(&'a self, key: &NotifyKey, seen: &Seen<'a>) -> Seen<'a> {
        let told = self.state.told.get(key);
        let waiting = self.state.waiting.get(key);
        let believed = |fingerprint: &Fingerprint| {
            told.is_some_and(|told| told.is_firing(*fingerprint))
                || waiting.is_some_and(|waiting| {
                    let alerts = waiting.alerts.iter();
                    alerts
                        .filter(|item| !item.resolved)
                        .any(|item| item.alert.fingerprint() == *fingerprint)
                })
        };
        let mut shown = seen.clone();
        let ends = |(fingerprint, over): &(Fingerprint, bool)| *over && believed(fingerprint);
        let ended: Vec<_> = seen.hidden.iter().copied().filter(ends).collect();
        shown.hidden.retain(|item| !ends(item));
        for (fingerprint, over) in ended {
            if let Some(alert) = self.state.alerts.get(&fingerprint) {
                shown.alerts.push((fingerprint, alert, over));
            }
        }
        shown
            .alerts
            .sort_by(|(_, a, _), (_, b, _)| by_labels(&a.labels, &b.labels));
        shown
    }

    /// Decides for one integration.
    fn tell(&self, key: &NotifyKey, seen: &Seen<'_>, manner: Manner, now: Millis) -> Verdict {
        let last = self.state.told.get(key);
        if let Some(waiting) = self.state.waiting.get(key) {
            return self.retell(waiting, seen, manner, now);
        }
        let picture = seen.picture();
        let all_hidden = seen.alerts.is_empty() && !seen.hidden.is_empty();
        let reason = if all_hidden {
            None
        } else {
            why_notify(last, &picture, manner, now)
        };
        let Some(reason) = reason else {
            return seen.forget_hidden(last);
        };
        let told: Vec<(u64, bool)> = seen
            .alerts
            .iter()
            .filter(|(_, _, resolved)| manner.send_resolved || !resolved)
            .map(|(fingerprint, _, resolved)| (fingerprint.0, *resolved))
            .collect();
        if told.is_empty() {
            return Verdict::Note(Told {
                at: now,
                firing: picture.firing,
                resolved: picture.resolved,
                thread: last.and_then(|last| last.thread.clone()),
            });
        }
        Verdict::Tell(reason, told)
    }

    /// Decides about a message that has not arrived yet: it takes in what happened since, so that one message says all.
    fn retell(&self, waiting: &Waiting, seen: &Seen<'_>, manner: Manner, now: Millis) -> Verdict {
        let mut alerts: Vec<(u64, bool)> = Vec::new();
        for item in &waiting.alerts {
            let fingerprint = item.alert.fingerprint();
            if seen.hidden.iter().any(|(hidden, _)| *hidden == fingerprint) {
                continue;
            }
            let over = match self.state.alerts.get(&fingerprint) {
                Some(alert) => alert.is_resolved(now),
                None => true,
            };
            // Who is not told of ends is still told that it fired.
            alerts.push((fingerprint.0, over && (manner.send_resolved || item.resolved)));
        }
        for (fingerprint, _, resolved) in &seen.alerts {
            let known = alerts.iter().any(|(known, _)| *known == fingerprint.0);
            let believed = || {
                self.state
                    .told
                    .get(&waiting.key)
                    .is_some_and(|told| told.is_firing(*fingerprint))
            };
            if !known && (!resolved || (manner.send_resolved && believed())) {
                alerts.push((fingerprint.0, *resolved));
            }
        }
        if alerts.is_empty() {
            return Verdict::Cancel;
        }
        let same = alerts.len() == waiting.alerts.len()
            && alerts.iter().zip(&waiting.alerts).all(|((fingerprint, over), item)| {
                item.alert.fingerprint().0 == *fingerprint && item.resolved == *over
            });
        if same {
            return Verdict::Nothing;
        }
        let reason = if alerts.iter().all(|(_, over)| *over) {
            Reason::AllResolved
        } else {
            waiting.reason
        };
        Verdict::Tell(reason, alerts)
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
        let live: HashSet<&str> = self.groups.values().map(|group| group.key.as_str()).collect();
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

/// What came out of a flush.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    /// To be written, then applied.
    pub(crate) events: Vec<Event>,
    /// Members to drop afterwards.
    pub(crate) gone: Vec<Fingerprint>,
}

enum Verdict {
    Nothing,
    Note(Told),
    Cancel,
    Tell(Reason, Vec<(u64, bool)>),
}

/// A group as it shows itself.
#[derive(Clone, Default)]
struct Seen<'a> {
    alerts: Vec<(Fingerprint, &'a Arc<StoredAlert>, bool)>,
    hidden: Vec<(Fingerprint, bool)>,
    resolved_members: Vec<Fingerprint>,
}

impl Seen<'_> {
    fn picture(&self) -> Picture {
        let mut picture = Picture::default();
        for (fingerprint, _, resolved) in &self.alerts {
            let side = if *resolved {
                &mut picture.resolved
            } else {
                &mut picture.firing
            };
            side.push(fingerprint.0);
        }
        picture.firing.sort_unstable();
        picture.resolved.sort_unstable();
        picture
    }

    /// An alert that went while it was hidden is not told to be over; but when it fires again, that is news.
    fn forget_hidden(&self, last: Option<&Told>) -> Verdict {
        let Some(last) = last else { return Verdict::Nothing };
        let went = |fingerprint: &u64| {
            self.hidden
                .iter()
                .any(|(hidden, over)| *over && hidden.0 == *fingerprint)
        };
        if !last.firing.iter().any(went) {
            return Verdict::Nothing;
        }
        let mut told = last.clone();
        told.firing.retain(|fingerprint| !went(fingerprint));
        Verdict::Note(told)
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
