//! What the API and the UI may see: snapshots, taken under a short lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::alert::StoredAlert;
use super::core::Muted;
use super::metrics;
use super::record::{NotifyKey, Receipt};
use super::runner::usize_f64;
use super::service::AlertManager;
use super::silence::{Silence, SilenceState};
use crate::model::{Interval, Labels, Millis};

/// An alert, and what becomes of it.
#[derive(Clone, Debug)]
pub struct AlertView {
    /// The alert.
    pub alert: Arc<StoredAlert>,
    /// Its receivers, in the order of their routes.
    pub receivers: Vec<String>,
    /// What mutes it.
    pub muted: Muted,
}

/// A group of alerts that are told together.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// The labels that name it.
    pub labels: Labels,
    /// Its receiver.
    pub receiver: String,
    /// Alertmanager's key.
    pub key: String,
    /// The route's labels, rendered.
    pub route_labels: BTreeMap<String, String>,
    /// Names of the time intervals that mute it now.
    pub muted_by: Vec<String>,
    /// Its alerts that are not over.
    pub alerts: Vec<AlertView>,
    /// When it looks for news next.
    pub next_flush: Millis,
}

/// A receiver.
#[derive(Clone, Debug)]
pub struct ReceiverView {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its integrations: kind and number.
    pub integrations: Vec<(&'static str, usize)>,
}

impl AlertManager {
    /// Returns the alerts that are not over, sorted by fingerprint.
    pub fn alerts(&self) -> Vec<AlertView> {
        let now = self.shared.deps.clock.now();
        let core = self.core();
        let mut views: Vec<AlertView> = core
            .state
            .alerts
            .values()
            .filter(|alert| !alert.is_resolved(now))
            .map(|alert| AlertView {
                alert: Arc::clone(alert),
                receivers: receivers(&core, &alert.labels),
                muted: core.muted(&alert.labels, now),
            })
            .collect();
        views.sort_by_key(|view| view.alert.fingerprint());
        views
    }

    /// Returns the groups that have alerts which are not over, sorted by labels and receiver.
    pub fn groups(&self) -> Vec<GroupView> {
        let now = self.shared.deps.clock.now();
        let mono = self.shared.deps.clock.mono();
        let core = self.core();
        let mut views = Vec::new();
        for group in core.groups.values() {
            let route = &core.config.routes.routes()[group.route];
            let mut alerts: Vec<AlertView> = group
                .members
                .iter()
                .filter_map(|fingerprint| core.state.alerts.get(fingerprint))
                .filter(|alert| !alert.is_resolved(now))
                .map(|alert| AlertView {
                    alert: Arc::clone(alert),
                    receivers: vec![route.receiver.clone()],
                    muted: core.muted(&alert.labels, now),
                })
                .collect();
            if alerts.is_empty() {
                continue;
            }
            alerts.sort_by(|a, b| super::alert::by_labels(&a.alert.labels, &b.alert.labels));
            let left = group.due.0.saturating_sub(mono.0) / 1_000_000;
            views.push(GroupView {
                labels: group.labels.clone(),
                receiver: route.receiver.clone(),
                key: group.key.clone(),
                route_labels: rendered_labels(&core, group, route, &self.shared.deps.external_url, now),
                muted_by: core.config.muted_by(route, now),
                alerts,
                next_flush: now + Interval(i64::try_from(left).unwrap_or(0)),
            });
        }
        views.sort_by(|a, b| (&a.labels, &a.receiver).cmp(&(&b.labels, &b.receiver)));
        views
    }

    /// Returns all silences that are kept, with their states now.
    pub fn silences(&self) -> Vec<(Silence, SilenceState)> {
        let now = self.shared.deps.clock.now();
        let core = self.core();
        core.state
            .silences
            .iter()
            .map(|silence| (silence.clone(), silence.state(now)))
            .collect()
    }

    /// Returns one silence, with its state now.
    pub fn silence(&self, id: &str) -> Option<(Silence, SilenceState)> {
        let now = self.shared.deps.clock.now();
        let core = self.core();
        core.state
            .silences
            .get(id)
            .map(|silence| (silence.clone(), silence.state(now)))
    }

    /// Returns the receivers, in the order of the file.
    pub fn receivers(&self) -> Vec<ReceiverView> {
        self.core()
            .config
            .receivers
            .iter()
            .map(|receiver| ReceiverView {
                name: receiver.name.clone(),
                labels: receiver.labels.clone(),
                integrations: receiver.integrations.iter().map(|one| (one.kind, one.index)).collect(),
            })
            .collect()
    }

    /// Returns the configuration's text without its secrets.
    pub fn config_text(&self) -> String {
        self.core().config.original.clone()
    }

    /// Returns how long an alert lasts whose sender names no end.
    pub fn resolve_timeout(&self) -> Interval {
        self.core().config.resolve_timeout
    }

    /// Returns when the manager was opened.
    pub fn opened_at(&self) -> Millis {
        self.shared.opened_at
    }

    /// Returns what became of the last messages, oldest first.
    pub fn receipts(&self) -> Vec<(NotifyKey, Receipt)> {
        self.core().state.receipts.iter().cloned().collect()
    }

    /// Returns the audit trail from entry `after` on, oldest first.
    pub fn audit(&self, after: u64) -> Vec<super::audit::Entry> {
        let core = self.core();
        let entries = core.state.audit.entries().filter(|entry| entry.seq > after);
        entries.cloned().collect()
    }

    /// Brings the gauges up to date: call it before a scrape.
    pub fn observe(&self) {
        let mut by_state = BTreeMap::from([("active", 0), ("suppressed", 0), ("unprocessed", 0)]);
        for view in self.alerts() {
            let state = if view.muted.is_muted() { "suppressed" } else { "active" };
            *by_state.entry(state).or_insert(0) += 1;
        }
        for (state, count) in by_state {
            metrics::ALERTS.set(&[state], usize_f64(count));
        }
        let silences = self.silences();
        for state in [SilenceState::Active, SilenceState::Pending, SilenceState::Expired] {
            let count = silences.iter().filter(|(_, found)| *found == state).count();
            metrics::SILENCES.set(&[state.as_str()], usize_f64(count));
        }
    }
}

/// The route's labels as a message would show them; one that fails is shown as written.
fn rendered_labels(
    core: &super::core::Core,
    group: &super::core::Group,
    route: &super::config::Route,
    external_url: &str,
    now: Millis,
) -> BTreeMap<String, String> {
    if route.labels.is_empty() {
        return BTreeMap::new();
    }
    let alerts = group
        .members
        .iter()
        .filter_map(|fingerprint| core.state.alerts.get(fingerprint));
    let message = super::preview::message(route, group, alerts.cloned(), now);
    let data = super::notify::data::Data::of(&message, BTreeMap::new(), external_url, now);
    let rendered = core.config.templates.route_labels(&route.labels, &data, now);
    rendered.unwrap_or_else(|_| route.labels.clone())
}

fn receivers(core: &super::core::Core, labels: &Labels) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for number in core.config.routes.matching(labels) {
        let name = &core.config.routes.routes()[number].receiver;
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}
