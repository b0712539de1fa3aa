//! The decision of one group: what each of its integrations is told now, in the light of what it was told before.
//!
//! Pure, as all of [`super::core`]: events go out, to be written and then applied.

use std::sync::Arc;

use super::alert::{StoredAlert, by_labels};
use super::config::{Integration, Receiver, Route};
use super::core::{Core, Group, notify_key};
use super::nflog::{Manner, Picture, Reason, why_notify};
use super::record::{Event, NotifyKey, Send, Told, Waiting};
use crate::model::{Fingerprint, Interval, Millis};

impl Core {
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
        for ear in self.ears(group, route) {
            if busy(&ear.key) {
                // What is over stays a member until everybody could be told.
                flush.gone.clear();
                continue;
            }
            match self.verdict(&ear, &seen, route, now) {
                Verdict::Nothing => {}
                Verdict::Cancel => cancelled.push(ear.key),
                Verdict::Note(told) => noted.push((ear.key, told)),
                Verdict::Tell(reason, alerts) => {
                    let thread = match reason {
                        Reason::First => None,
                        _ => self.state.told.get(&ear.key).and_then(|told| told.thread.clone()),
                    };
                    sends.push(Send {
                        id: new_id(),
                        key: ear.key,
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

    /// Everybody to whom the group is told: the integrations of its route's receiver, and those that stood in for one of them.
    fn ears<'a>(&'a self, group: &Group, route: &Route) -> Vec<Ear<'a>> {
        let Some(receiver) = self.config.receiver(&route.receiver) else {
            return Vec::new();
        };
        let mut ears = Vec::new();
        for integration in &receiver.integrations {
            let key = notify_key(&group.key, receiver, integration);
            let stood_in = self.stand_ins(&key).into_iter().filter(|ear| self.has_heard(&ear.key));
            let stood_in: Vec<Ear<'_>> = stood_in.collect();
            ears.push(Ear {
                key,
                receiver,
                integration,
                stands_in: false,
            });
            ears.extend(stood_in);
        }
        ears
    }

    /// Decides for one of them.
    fn verdict(&self, ear: &Ear<'_>, seen: &Seen<'_>, route: &Route, now: Millis) -> Verdict {
        let mut manner = Manner {
            send_resolved: ear.integration.send_resolved,
            repeat_interval: route.repeat_interval,
            slack: route.slack(),
        };
        let mut shown = std::borrow::Cow::Borrowed(seen);
        if ear.receiver.send_silenced_resolved {
            shown = std::borrow::Cow::Owned(self.with_silenced_ends(&ear.key, &shown));
        }
        if ear.stands_in {
            // It hears what becomes of the alerts it was told of; what is new goes to whom it stands in for.
            shown = std::borrow::Cow::Owned(self.known_to(&ear.key, &shown));
            manner.repeat_interval = Interval(i64::MAX);
        }
        self.tell(&ear.key, &shown, manner, now)
    }

    /// Leaves only the alerts that this integration was told of as firing, or is about to be told of.
    fn known_to<'a>(&'a self, key: &NotifyKey, seen: &Seen<'a>) -> Seen<'a> {
        let mut known = seen.clone();
        known
            .alerts
            .retain(|(fingerprint, ..)| self.is_in_mind(key, *fingerprint));
        known
            .hidden
            .retain(|(fingerprint, _)| self.is_in_mind(key, *fingerprint));
        known
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
        let mut shown = seen.clone();
        let ends = |(fingerprint, over): &(Fingerprint, bool)| *over && self.believes(key, *fingerprint);
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

/// An integration that is told about a group.
pub(super) struct Ear<'a> {
    /// Under which name.
    pub(super) key: NotifyKey,
    /// Whose it is.
    pub(super) receiver: &'a Receiver,
    /// Which of the receiver's.
    pub(super) integration: &'a Integration,
    /// Whether it is a fallback, told in the place of another.
    pub(super) stands_in: bool,
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
