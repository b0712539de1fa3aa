//! What the server carries between modules that must not know each other: alerts from the rules to the alert manager (and to
//! others), and the word that the rules have spoken once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::agent::{TargetState, Targets};
use crate::alertmanager::{AlertManager, Origin};
use crate::http::TargetsView;
use crate::io::log::Log;
use crate::io::{BoxFuture, Clock, Shutdown};
use crate::model::{Alert, Fingerprint, Interval, Labels};
use crate::rules::{AlertSink, External, Manager};

/// How often the alert log is offered for trimming.
const TRIM_EVERY: Interval = Interval::mins(1);
/// How often we look whether the rules have evaluated everything once.
const LOOK_EVERY: Interval = Interval(100);

/// Takes alerts from the rules: to our own alert manager, durably, and to the Alertmanagers of `alerting:`.
pub(super) struct Sink {
    pub(super) alerts: Arc<AlertManager>,
    pub(super) elsewhere: Arc<External>,
}

impl AlertSink for Sink {
    fn send(&self, alerts: Vec<Alert>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            self.elsewhere.offer(&alerts);
            self.alerts
                .receive(alerts, Origin::Rules)
                .await
                .map_err(|error| error.to_string())
        })
    }
}

/// Shows the agent's targets to whoever asks over HTTP.
pub(super) struct Scraped(pub(super) Arc<Targets>);

impl TargetsView for Scraped {
    fn targets(&self, state: &str, pool: Option<&str>) -> serde_json::Value {
        let state = match state {
            "active" => TargetState::Active,
            "dropped" => TargetState::Dropped,
            _ => TargetState::Any,
        };
        self.0.view(state, pool)
    }

    fn pools(&self) -> Vec<String> {
        self.0.pools()
    }

    fn relabel_steps(&self, pool: &str, labels: &BTreeMap<String, String>) -> Result<serde_json::Value, String> {
        self.0.relabel_steps(pool, labels)
    }
}

/// Tells the alert manager once that every group was evaluated: what it held back since the restart goes out.
pub(super) async fn first_word(
    rules: Arc<Manager>,
    alerts: Arc<AlertManager>,
    external_labels: Labels,
    clock: Arc<dyn Clock>,
    mut shutdown: Shutdown,
) {
    while rules.groups().iter().any(|group| group.last_evaluation.is_none()) {
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = clock.sleep(LOOK_EVERY) => {}
        }
    }
    alerts.evaluated(firing(&rules, &external_labels)).await;
}

/// Returns what fires, as the alert manager knows it.
fn firing(rules: &Manager, external_labels: &Labels) -> HashSet<Fingerprint> {
    let groups = rules.groups();
    let alerts = groups
        .iter()
        .flat_map(|group| &group.rules)
        .filter_map(|rule| rule.alert.as_ref());
    let active = alerts
        .flat_map(|alert| &alert.active)
        .filter(|active| active.state.is_firing());
    active
        .map(|active| Fingerprint::of(&with_external(&active.labels, external_labels)))
        .collect()
}

fn with_external(labels: &Labels, external_labels: &Labels) -> Labels {
    let mut all = external_labels.to_builder();
    for (name, value) in labels.iter() {
        all.set(name, value);
    }
    all.build()
}

/// Lets the alert log forget what neither rules nor alert manager need any more.
pub(super) async fn trim(
    log: Arc<dyn Log>,
    rules: Arc<Manager>,
    alerts: Arc<AlertManager>,
    clock: Arc<dyn Clock>,
    mut shutdown: Shutdown,
) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = clock.sleep(TRIM_EVERY) => {}
        }
        let below = rules.needed_from().min(alerts.log_needed_from());
        let log = Arc::clone(&log);
        let trimmed = tokio::task::spawn_blocking(move || log.trim(below)).await;
        if let Ok(Err(error)) = trimmed {
            tracing::warn!(%error, "the alert log was not trimmed");
        }
    }
}
