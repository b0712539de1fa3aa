//! What the agent counts about itself.

use crate::telemetry::{CounterVec, GaugeVec, Metric};

pub(super) static SENT: CounterVec = CounterVec::new(
    "campanile_agent_samples_sent_total",
    "Samples that a server has taken.",
    &["remote"],
);
pub(super) static DROPPED: CounterVec = CounterVec::new(
    "campanile_agent_samples_dropped_total",
    "Samples given up: refused by the server, too old, or pushed out of a full queue.",
    &["remote", "reason"],
);
pub(super) static RETRIES: CounterVec = CounterVec::new(
    "campanile_agent_retries_total",
    "Requests that will be tried again.",
    &["remote"],
);
pub(super) static PENDING: GaugeVec =
    GaugeVec::new("campanile_agent_pending_samples", "Samples in the queue.", &["remote"]);
pub(super) static SCRAPES: CounterVec = CounterVec::new(
    "campanile_agent_scrapes_total",
    "Scrapes and collections by job and outcome.",
    &["job", "outcome"],
);

/// The agent's metrics.
pub static METRICS: &[&dyn Metric] = &[&SENT, &DROPPED, &RETRIES, &PENDING, &SCRAPES];
