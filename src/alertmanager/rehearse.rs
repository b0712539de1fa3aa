//! What people would have been told, had these alerts come in at these times: the very decisions of the alert manager, on a
//! clock that moves when told, with every message taken as delivered.

use std::sync::Arc;

use serde::Serialize;

use super::alert::{Origin, StoredAlert};
use super::config::Config;
use super::core::{Core, Now};
use super::nflog::Reason;
use super::record::{Event, Receipt, Send};
use super::service::AlertManager;
use super::state::State;
use crate::io::Mono;
use crate::model::{Alert, Fingerprint, Interval, Labels, Millis};

/// How long an alert that is over stays known.
const FORGET_AFTER: Interval = Interval::mins(1);

/// A message that would have gone out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RehearsedPage {
    /// When, in milliseconds since the epoch.
    pub at: Millis,
    /// To whom.
    pub receiver: String,
    /// By which kind of integration.
    pub kind: String,
    /// The labels that its alerts were grouped by.
    pub group: Labels,
    /// Why then.
    pub reason: Reason,
    /// The alerts that it tells as firing.
    pub firing: Vec<Labels>,
    /// The alerts that it tells as over.
    pub resolved: Vec<Labels>,
}

/// The alert manager without the world.
pub struct Rehearsal {
    core: Core,
    start: Millis,
    now: Millis,
    sent: u64,
    pages: Vec<RehearsedPage>,
}

impl AlertManager {
    /// Begins a rehearsal with the present configuration; there is no alert and no silence.
    pub fn rehearse(&self, start: Millis) -> Rehearsal {
        Rehearsal::with(Arc::clone(&self.core().config), start)
    }
}

impl Rehearsal {
    /// Begins with a configuration, and nothing else.
    pub fn new(config: Config, start: Millis) -> Rehearsal {
        Rehearsal::with(Arc::new(config), start)
    }

    fn with(config: Arc<Config>, start: Millis) -> Rehearsal {
        let now = Now {
            wall: start,
            mono: Mono(0),
        };
        Rehearsal {
            core: Core::new(config, State::default(), now),
            start,
            now: start,
            sent: 0,
            pages: Vec::new(),
        }
    }

    /// Takes alerts in at `at`, which does not go back; what was due before goes out before.
    pub fn receive(&mut self, at: Millis, alerts: Vec<Alert>) {
        self.advance(at);
        let now = self.present();
        let timeout = self.core.config.resolve_timeout;
        let stored = alerts
            .into_iter()
            .map(|alert| StoredAlert::take_in(alert, Origin::Rules, timeout, now.wall));
        for event in self.core.take_in(stored.collect(), now.wall) {
            self.core.apply(&event, now);
        }
        self.flush_due();
    }

    /// Lets time pass until `until`, and returns all pages.
    pub fn finish(mut self, until: Millis) -> Vec<RehearsedPage> {
        self.advance(until);
        self.pages
    }

    fn present(&self) -> Now {
        let elapsed = u64::try_from((self.now - self.start).0).unwrap_or(0);
        Now {
            wall: self.now,
            mono: Mono(elapsed * 1_000_000),
        }
    }

    fn wall(&self, mono: Mono) -> Millis {
        self.start + Interval(i64::try_from(mono.0.div_ceil(1_000_000)).unwrap_or(i64::MAX / 2))
    }

    fn advance(&mut self, until: Millis) {
        loop {
            let next = self.core.groups.values().map(|group| group.due).min();
            let Some(next) = next.map(|due| self.wall(due)).filter(|next| *next <= until) else {
                break;
            };
            self.now = self.now.max(next);
            self.flush_due();
        }
        self.now = self.now.max(until);
    }

    fn flush_due(&mut self) {
        let now = self.present();
        let mut due: Vec<(Mono, String)> = self
            .core
            .groups
            .iter()
            .filter(|(_, group)| group.due <= now.mono)
            .map(|(id, group)| (group.due, id.clone()))
            .collect();
        due.sort_unstable();
        for (_, id) in due {
            let sent = &mut self.sent;
            let mut new_id = || {
                *sent += 1;
                sent.to_string()
            };
            let flush = self.core.flush(&id, now.wall, &|_| false, &mut new_id);
            for event in &flush.events {
                self.core.apply(event, now);
                if let Event::Flushed { sends, .. } = event {
                    sends.iter().for_each(|send| self.deliver(send, now));
                }
            }
            self.core.drop_members(&id, &flush.gone, now.wall);
        }
        for event in self.core.garbage(FORGET_AFTER, now.wall) {
            self.core.apply(&event, now);
        }
    }

    fn deliver(&mut self, send: &Send, now: Now) {
        let labels = |over: bool| -> Vec<Labels> {
            let told = send.alerts.iter().filter(|(_, resolved)| *resolved == over);
            told.filter_map(|(fingerprint, _)| self.core.state.alerts.get(&Fingerprint(*fingerprint)))
                .map(|alert| alert.labels.clone())
                .collect()
        };
        let (firing, resolved) = (labels(false), labels(true));
        let receipt = Receipt {
            id: send.id.clone(),
            decided_at: now.wall,
            at: now.wall,
            attempts: 1,
            answer: String::new(),
            reason: send.reason,
            firing: firing.len(),
            resolved: resolved.len(),
            digest: None,
        };
        let delivered = Event::Delivered {
            key: send.key.clone(),
            receipt,
        };
        self.core.apply(&delivered, now);
        self.pages.push(RehearsedPage {
            at: now.wall,
            receiver: send.key.receiver.clone(),
            kind: send.key.kind.clone(),
            group: send.group_labels.clone(),
            reason: send.reason,
            firing,
            resolved,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::SimDisk;

    const CONFIG: &str = "route: {receiver: team, group_by: [alertname], group_wait: 30s, group_interval: 5m, repeat_interval: 4h}\nreceivers: [{name: team, webhook_configs: [{url: 'http://x/'}]}]\n";

    fn alert(name: &str, starts: i64, ends: i64) -> Alert {
        Alert {
            labels: Labels::from_pairs([("alertname", "A"), ("site", name)]),
            annotations: Labels::empty(),
            starts_at: Millis(starts),
            ends_at: Some(Millis(ends)),
            generator_url: String::new(),
            sample_at: None,
        }
    }

    #[test]
    fn pages_follow_routing_grouping_and_its_timers() {
        let disk = SimDisk::seeded(1);
        let config = Config::parse(&disk, "am.yml", CONFIG, std::path::Path::new("/")).unwrap();
        let start = 1_700_000_000_000;
        let mut rehearsal = Rehearsal::new(config, Millis(start));
        let minute = 60_000;
        rehearsal.receive(Millis(start), vec![alert("a", start, start + 60 * minute)]);
        rehearsal.receive(
            Millis(start + 10_000),
            vec![alert("b", start + 10_000, start + 60 * minute)],
        );
        rehearsal.receive(
            Millis(start + 2 * minute),
            vec![alert("c", start + 2 * minute, start + 60 * minute)],
        );
        rehearsal.receive(Millis(start + 7 * minute), vec![alert("a", start, start + 7 * minute)]);
        let pages = rehearsal.finish(Millis(start + 20 * minute));
        let shown: Vec<(i64, usize, usize)> = pages
            .iter()
            .map(|page| (page.at.0 - start, page.firing.len(), page.resolved.len()))
            .collect();
        assert_eq!(
            shown,
            [
                (30_000, 2, 0),
                (30_000 + 5 * minute, 3, 0),
                (30_000 + 10 * minute, 2, 1)
            ]
        );
        assert!(
            pages
                .iter()
                .all(|page| page.receiver == "team" && page.kind == "webhook")
        );
    }
}
