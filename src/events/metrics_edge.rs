//! What the edge counts about itself.

use crate::telemetry::{Counter, CounterVec, Gauge, Metric};

pub(super) static QUARANTINED: CounterVec = CounterVec::new(
    "campanile_events_refused_total",
    "Events refused by the checks, by the field that was to blame.",
    &["field"],
);
pub(super) static QUARANTINE_LOST: Counter = Counter::new(
    "campanile_events_quarantine_lost_total",
    "Refused events that could not be kept for inspection: no room, or the disk failed.",
);
/// Clicks that were led to their target although they could not be counted.
pub static CLICKS_LOST: Counter = Counter::new(
    "campanile_events_clicks_lost_total",
    "Clicks on /c/{ad} that were led to their target although they could not be counted.",
);

pub(super) static RECONCILE_DIFF: Gauge = Gauge::new(
    "campanile_events_reconcile_difference",
    "By how many events counts and raw events differed at the last reconciliation; 0 is right.",
);
pub(super) static RECONCILED_AT: Gauge = Gauge::new(
    "campanile_events_reconciled_until_seconds",
    "The end of the range that was reconciled last, in seconds since the epoch.",
);
pub(super) static MIRRORED: Counter = Counter::new(
    "campanile_events_mirrored_total",
    "Events that the mirror has confirmed; a repeated one counts again.",
);
pub(super) static MIRROR_FAILED: Counter = Counter::new(
    "campanile_events_mirror_failures_total",
    "Requests to the mirror that failed and are repeated.",
);

/// The edge's metrics.
pub static EDGE_METRICS: &[&dyn Metric] = &[
    &QUARANTINED,
    &QUARANTINE_LOST,
    &CLICKS_LOST,
    &RECONCILE_DIFF,
    &RECONCILED_AT,
    &MIRRORED,
    &MIRROR_FAILED,
];
