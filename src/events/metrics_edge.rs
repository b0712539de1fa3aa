//! What the edge counts about itself.

use crate::telemetry::{Counter, CounterVec, Metric};

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

/// The edge's metrics.
pub static EDGE_METRICS: &[&dyn Metric] = &[&QUARANTINED, &QUARANTINE_LOST, &CLICKS_LOST];
