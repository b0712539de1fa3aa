//! What must survive: alerts, silences, what was told, what waits to be told. A fold over the log.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::alert::StoredAlert;
use super::audit::Trail;
use super::record::{Event, NotifyKey, Receipt, Send, Told, Waiting, WaitingAlert};
use super::silence::Silences;
use crate::model::{Fingerprint, Millis};

/// How many receipts are kept to be shown.
pub(crate) const RECEIPTS_MAX: usize = 2_000;
/// How many alerts one record of a snapshot holds.
const SNAPSHOT_CHUNK: usize = 2_000;

/// The folded state.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) alerts: HashMap<Fingerprint, Arc<StoredAlert>>,
    pub(crate) silences: Silences,
    pub(crate) told: HashMap<NotifyKey, Told>,
    pub(crate) waiting: BTreeMap<NotifyKey, Arc<Waiting>>,
    /// When each group that has told something looks again.
    pub(crate) timers: HashMap<String, Millis>,
    pub(crate) receipts: VecDeque<(NotifyKey, Receipt)>,
    pub(crate) audit: Trail,
}

impl State {
    /// Applies one event: the only way for state to change.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.note(event);
        match event {
            Event::Alerts { alerts } => {
                for alert in alerts {
                    self.take(alert.clone());
                }
            }
            Event::Touched { at, ends } => {
                for (fingerprint, ends_at) in ends {
                    if let Some(alert) = self.alerts.get_mut(&Fingerprint(*fingerprint)) {
                        let alert = Arc::make_mut(alert);
                        alert.ends_at = *ends_at;
                        alert.updated_at = *at;
                    }
                }
            }
            Event::Forgot { alerts } => {
                for fingerprint in alerts {
                    self.alerts.remove(&Fingerprint(*fingerprint));
                }
            }
            Event::ForgotTold { keys } => {
                for key in keys {
                    self.told.remove(key);
                }
            }
            Event::Silenced { silence } => self.silences.set(silence.clone()),
            Event::ForgotSilences { ids } => ids.iter().for_each(|id| self.silences.remove(id)),
            Event::Flushed {
                at,
                group,
                next,
                sends,
                noted,
                cancelled,
            } => {
                self.timers.insert(group.clone(), *next);
                for key in cancelled {
                    self.waiting.remove(key);
                }
                for (key, told) in noted {
                    self.told.insert(key.clone(), told.clone());
                }
                for send in sends {
                    self.enqueue(send, *at);
                }
            }
            Event::Digested { messages, digest } => {
                for (key, id) in messages {
                    if let Some(waiting) = self.waiting.get_mut(key).filter(|waiting| waiting.id == *id) {
                        Arc::make_mut(waiting).digest = Some(digest.clone());
                    }
                }
            }
            Event::Ended { group } => {
                self.timers.remove(group);
            }
            Event::Delivered { key, receipt } => {
                if let Some(waiting) = self.take_waiting(key, &receipt.id) {
                    let mut told = told(&waiting);
                    if let Some(last) = self.told.get(key).filter(|_| key.stands_in()) {
                        told.remember_ends(last);
                    }
                    self.told.insert(key.clone(), told);
                }
                self.keep_receipt(key, receipt);
            }
            Event::GaveUp { key, receipt, fallback } => {
                self.take_waiting(key, &receipt.id);
                self.keep_receipt(key, receipt);
                for message in fallback {
                    self.waiting.insert(message.key.clone(), Arc::new(message.clone()));
                }
            }
            Event::Restored {
                told,
                waiting,
                timers,
                receipts,
                audit,
            } => {
                self.told.extend(told.iter().cloned());
                let entries = waiting
                    .iter()
                    .map(|waiting| (waiting.key.clone(), Arc::new(waiting.clone())));
                self.waiting.extend(entries);
                self.timers.extend(timers.iter().cloned());
                self.receipts.extend(receipts.iter().cloned());
                self.audit.restore(audit);
            }
            Event::Reset | Event::SnapshotDone => {}
        }
    }

    /// Writes into the audit trail what an event means to people; before it is applied, since what changes is what counts.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Alerts { alerts } => {
                for alert in alerts {
                    let old = self.alerts.get(&alert.fingerprint());
                    self.audit.alert(old.map(|old| &**old), alert);
                }
            }
            Event::Silenced { silence } => {
                let is_new = self.silences.get(&silence.id).is_none();
                self.audit.silence(silence, is_new);
            }
            Event::Flushed { at, sends, .. } => {
                for send in sends {
                    self.audit.decided(*at, send);
                }
            }
            Event::Delivered { key, receipt } => self.audit.receipt("delivered", key, receipt),
            Event::GaveUp { key, receipt, fallback } => {
                self.audit.receipt("given_up", key, receipt);
                for message in fallback {
                    self.audit.fallback(receipt.at, message);
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, alert: StoredAlert) {
        let fingerprint = alert.fingerprint();
        let merged = match self.alerts.get(&fingerprint) {
            Some(old) => StoredAlert::merge(old, alert),
            None => alert,
        };
        self.alerts.insert(fingerprint, Arc::new(merged));
    }

    fn enqueue(&mut self, send: &Send, at: Millis) {
        let old = self.waiting.get(&send.key).cloned();
        let kept = |fingerprint: Fingerprint| {
            let old = old.as_ref()?;
            old.alerts.iter().find(|item| item.alert.fingerprint() == fingerprint)
        };
        let alerts = send.alerts.iter().filter_map(|(fingerprint, resolved)| {
            let fingerprint = Fingerprint(*fingerprint);
            let known = self.alerts.get(&fingerprint).cloned();
            let alert = known.or_else(|| kept(fingerprint).map(|item| Arc::clone(&item.alert)))?;
            Some(WaitingAlert {
                alert,
                resolved: *resolved,
            })
        });
        let waiting = Waiting {
            id: send.id.clone(),
            key: send.key.clone(),
            route: send.route.clone(),
            group_labels: send.group_labels.clone(),
            reason: send.reason,
            alerts: alerts.collect(),
            thread: send.thread.clone(),
            at,
            since: old.as_ref().map_or(at, |old| old.since),
            note: old.as_ref().and_then(|old| old.note.clone()),
            digest: None,
        };
        self.waiting.insert(send.key.clone(), Arc::new(waiting));
    }

    fn take_waiting(&mut self, key: &NotifyKey, id: &str) -> Option<Arc<Waiting>> {
        if self.waiting.get(key).is_some_and(|waiting| waiting.id == id) {
            return self.waiting.remove(key);
        }
        None
    }

    fn keep_receipt(&mut self, key: &NotifyKey, receipt: &Receipt) {
        if self.receipts.len() == RECEIPTS_MAX {
            self.receipts.pop_front();
        }
        self.receipts.push_back((key.clone(), receipt.clone()));
    }

    /// Returns events that rebuild this state from nothing, in chunks to be written one after the other.
    pub(crate) fn snapshot(&self) -> Vec<Vec<Event>> {
        let mut records = vec![vec![Event::Reset]];
        let alerts: Vec<StoredAlert> = self.alerts.values().map(|alert| (**alert).clone()).collect();
        for chunk in alerts.chunks(SNAPSHOT_CHUNK) {
            records.push(vec![Event::Alerts { alerts: chunk.to_vec() }]);
        }
        let silences: Vec<Event> = self
            .silences
            .iter()
            .map(|silence| Event::Silenced {
                silence: silence.clone(),
            })
            .collect();
        records.extend(silences.chunks(SNAPSHOT_CHUNK).map(<[Event]>::to_vec));
        let told: Vec<(NotifyKey, Told)> = self
            .told
            .iter()
            .map(|(key, told)| (key.clone(), told.clone()))
            .collect();
        for chunk in told.chunks(SNAPSHOT_CHUNK) {
            records.push(vec![Event::Restored {
                told: chunk.to_vec(),
                waiting: Vec::new(),
                timers: Vec::new(),
                receipts: Vec::new(),
                audit: Vec::new(),
            }]);
        }
        for waiting in self.waiting.values() {
            records.push(vec![Event::Restored {
                told: Vec::new(),
                waiting: vec![(**waiting).clone()],
                timers: Vec::new(),
                receipts: Vec::new(),
                audit: Vec::new(),
            }]);
        }
        records.push(vec![
            Event::Restored {
                told: Vec::new(),
                waiting: Vec::new(),
                timers: self.timers.iter().map(|(group, at)| (group.clone(), *at)).collect(),
                receipts: self.receipts.iter().cloned().collect(),
                audit: self.audit.entries().cloned().collect(),
            },
            Event::SnapshotDone,
        ]);
        records
    }
}

/// What counts as told once this message has arrived.
fn told(waiting: &Waiting) -> Told {
    let with = |resolved: bool| {
        let mut fingerprints: Vec<u64> = waiting
            .alerts
            .iter()
            .filter(|item| item.resolved == resolved)
            .map(|item| item.alert.fingerprint().0)
            .collect();
        fingerprints.sort_unstable();
        fingerprints
    };
    Told {
        at: waiting.at,
        firing: with(false),
        resolved: with(true),
        thread: Some(waiting.thread.clone().unwrap_or_else(|| waiting.id.clone())),
    }
}
