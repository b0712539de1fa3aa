//! How counting is watched.

use crate::telemetry::{Counter, CounterVec, Gauge, Histogram, Metric};

pub(super) static EVENTS: CounterVec = CounterVec::new(
    "campanile_events_total",
    "Events by what became of them; marked ones are accepted, too.",
    &["result"],
);
pub(super) static LATE: Counter = Counter::new(
    "campanile_events_late_total",
    "Events that came after their minute was closed and corrected it.",
);
pub(super) static SYNC: Histogram = Histogram::new(
    "campanile_events_wal_fsync_seconds",
    "How long writing and syncing a group of requests took.",
    &[0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0],
);
pub(super) static LOOKUPS: CounterVec = CounterVec::new(
    "campanile_events_dedup_lookups_total",
    "Looks for an event id, by where the answer came from: memory, filter (not there), file (there).",
    &["tier"],
);
pub(super) static PAGES: CounterVec = CounterVec::new(
    "campanile_events_pages_total",
    "Pages of cells that questions needed, by where they came from.",
    &["from"],
);
pub(super) static WATERMARK: Gauge = Gauge::new(
    "campanile_events_watermark_seconds",
    "Minutes that end at or before this Unix time are closed.",
);
pub(super) static PENDING: Gauge = Gauge::new(
    "campanile_events_pending",
    "Events that were received and are not durable yet.",
);
pub(super) static MEMORY: Gauge = Gauge::new(
    "campanile_events_memory_bytes",
    "Memory of cells since the last checkpoint, about.",
);
pub(super) static CHECKPOINTS: CounterVec = CounterVec::new(
    "campanile_events_checkpoints_total",
    "Checkpoints by outcome.",
    &["outcome"],
);
pub(super) static CHECKPOINT: Histogram = Histogram::new(
    "campanile_events_checkpoint_seconds",
    "How long a checkpoint took.",
    &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0],
);
pub(super) static MERGES: Counter = Counter::new("campanile_events_merges_total", "Merges of files of cells or ids.");
pub(super) static LOG_BYTES: Gauge = Gauge::new("campanile_events_log_bytes", "Bytes of the log's records.");

/// All metrics of the core.
pub static METRICS: &[&dyn Metric] = &[
    &EVENTS,
    &LATE,
    &SYNC,
    &LOOKUPS,
    &PAGES,
    &WATERMARK,
    &PENDING,
    &MEMORY,
    &CHECKPOINTS,
    &CHECKPOINT,
    &MERGES,
    &LOG_BYTES,
];
