//! The fallback: who is told when a receiver cannot be, and what it has a right to hear afterwards.
//!
//! It is told under a key of its own, made from the key of the message that was given up. So what it was told is remembered
//! like everything that is told: the same is not told again before `repeat_interval`, and the end of an alert reaches it
//! whatever becomes of the receiver for which it stood in.

use std::collections::HashSet;

use super::config::{Integration, Receiver};
use super::core::{Core, notify_key};
use super::record::{NotifyKey, Waiting, WaitingAlert};
use super::tell::Ear;
use crate::model::Millis;

impl Core {
    /// Returns all that may be told in the place of this integration: its receiver's fallback, the fallback's own, and so on.
    pub(super) fn stand_ins(&self, key: &NotifyKey) -> Vec<Ear<'_>> {
        let mut found = Vec::new();
        let mut next = vec![key.clone()];
        // The configuration is refused when receivers fall back on each other, so this ends.
        while let Some(key) = next.pop() {
            for ear in self.fallbacks(&key) {
                next.push(ear.key.clone());
                found.push(ear);
            }
        }
        found
    }

    /// Returns the integrations that are told when this one is given up.
    fn fallbacks(&self, key: &NotifyKey) -> Vec<Ear<'_>> {
        let receiver = self.config.receiver(&key.receiver);
        let Some(fallback) = receiver.and_then(|receiver| self.config.receiver(receiver.fallback.as_ref()?)) else {
            return Vec::new();
        };
        let ears = fallback.integrations.iter().map(|integration| Ear {
            key: stand_in_key(key, fallback, integration),
            receiver: fallback,
            integration,
            stands_in: true,
        });
        ears.collect()
    }

    /// Whether anything was told under this key, or is about to be.
    pub(super) fn has_heard(&self, key: &NotifyKey) -> bool {
        self.state.told.contains_key(key) || self.state.waiting.contains_key(key)
    }

    /// Whether one of those that would be told instead is being told something this very moment.
    pub(super) fn fallback_is_busy(&self, key: &NotifyKey, busy: &dyn Fn(&NotifyKey) -> bool) -> bool {
        self.fallbacks(key).iter().any(|ear| busy(&ear.key))
    }

    /// Words the messages for the fallback of a message that is given up. Whoever knows all of it already gets none.
    pub(super) fn fall_back(
        &self,
        message: &Waiting,
        reason: &str,
        now: Millis,
        new_id: &mut dyn FnMut() -> String,
    ) -> Vec<Waiting> {
        let note = format!(
            "fallback: {} ({}) could not be told since {}: {reason}",
            message.key.receiver, message.key.kind, message.since,
        );
        let ears = self.fallbacks(&message.key).into_iter();
        ears.filter(|ear| self.is_news(&ear.key, message, now))
            .map(|ear| {
                let waiting = self.state.waiting.get(&ear.key);
                Waiting {
                    id: new_id(),
                    thread: self.state.told.get(&ear.key).and_then(|told| told.thread.clone()),
                    alerts: joined(waiting.map(|waiting| waiting.alerts.as_slice()), &message.alerts),
                    at: now,
                    since: waiting.map_or(now, |waiting| waiting.since),
                    note: Some(note.clone()),
                    digest: None,
                    key: ear.key,
                    ..message.clone()
                }
            })
            .collect()
    }

    /// Whether a message says anything that was not told under `key`, or said it too long ago.
    fn is_news(&self, key: &NotifyKey, message: &Waiting, now: Millis) -> bool {
        let Some(told) = self.state.told.get(key) else {
            return true;
        };
        let routes = self.config.routes.routes();
        let route = routes.iter().find(|route| route.id == message.route);
        let is_old = route.is_none_or(|route| (now - told.at).0 >= route.repeat_interval.0 - route.slack().0);
        message.alerts.iter().any(|item| {
            let fingerprint = item.alert.fingerprint();
            if !item.resolved {
                return is_old || !told.is_firing(fingerprint);
            }
            let told_over = told.resolved.binary_search(&fingerprint.0).is_ok();
            !told_over || item.alert.starts_at > told.at
        })
    }

    /// Returns the group keys under which somebody is told, or may be: of groups that live, and of messages that wait.
    pub(super) fn live_keys(&self) -> HashSet<String> {
        let mut live: HashSet<String> = self.groups.values().map(|group| group.key.clone()).collect();
        for group in self.groups.values() {
            let route = &self.config.routes.routes()[group.route];
            let Some(receiver) = self
                .config
                .receiver(&route.receiver)
                .filter(|one| one.fallback.is_some())
            else {
                continue;
            };
            for integration in &receiver.integrations {
                let key = notify_key(&group.key, receiver, integration);
                live.extend(self.stand_ins(&key).into_iter().map(|ear| ear.key.group_key));
            }
        }
        for key in self.state.waiting.keys() {
            live.extend(self.stand_ins(key).into_iter().map(|ear| ear.key.group_key));
        }
        live
    }
}

fn stand_in_key(of: &NotifyKey, fallback: &Receiver, integration: &Integration) -> NotifyKey {
    NotifyKey {
        group_key: format!(
            "{}{}/{}[{}]:{}",
            NotifyKey::STANDS_IN,
            of.receiver,
            of.kind,
            of.index,
            of.group_key
        ),
        receiver: fallback.name.clone(),
        kind: integration.kind.to_owned(),
        index: integration.index,
    }
}

/// Joins what waits already with what is given up now: of an alert in both, the newer word counts.
fn joined(waiting: Option<&[WaitingAlert]>, news: &[WaitingAlert]) -> Vec<WaitingAlert> {
    let is_in_news = |item: &&WaitingAlert| {
        let fingerprint = item.alert.fingerprint();
        news.iter().any(|new| new.alert.fingerprint() == fingerprint)
    };
    let old = waiting.unwrap_or_default().iter().filter(|item| !is_in_news(item));
    old.chain(news).cloned().collect()
}
