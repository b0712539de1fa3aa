//! How the store is watched: our own names, and beside them the Prometheus names that public dashboards and alerts use.

use crate::telemetry::{Counter, Gauge, Histogram, Metric, SECONDS};

pub(crate) static SAMPLES_APPENDED: Counter = Counter::new(
    "prometheus_tsdb_head_samples_appended_total",
    "Float samples made durable in the log and stored in the head.",
);
pub(crate) static HISTOGRAMS_APPENDED: Counter = Counter::new(
    "campanile_tsdb_histograms_appended_total",
    "Native histograms made durable in the log.",
);
pub(crate) static EXEMPLARS_APPENDED: Counter = Counter::new(
    "prometheus_tsdb_exemplar_exemplars_appended_total",
    "Exemplars that were kept.",
);
pub(crate) static DUPLICATES: Counter = Counter::new(
    "campanile_tsdb_duplicate_samples_total",
    "Samples that were there already, with the same value.",
);
pub(crate) static OUT_OF_ORDER: Counter = Counter::new(
    "campanile_tsdb_out_of_order_samples_total",
    "Samples stored although older than the newest of their series.",
);
pub(crate) static REFUSED: Counter = Counter::new(
    "campanile_tsdb_samples_refused_total",
    "Samples refused: too old, too far ahead, or in conflict with a stored one.",
);
pub(crate) static SERIES: Gauge = Gauge::new("prometheus_tsdb_head_series", "Series in the head.");
pub(crate) static SERIES_CREATED: Counter = Counter::new(
    "prometheus_tsdb_head_series_created_total",
    "Series that entered the head.",
);
pub(crate) static SERIES_REMOVED: Counter = Counter::new(
    "prometheus_tsdb_head_series_removed_total",
    "Series that left the head.",
);
pub(crate) static MIN_TIME: Gauge = Gauge::new(
    "prometheus_tsdb_head_min_time_seconds",
    "Time of the oldest sample in the head.",
);
pub(crate) static MAX_TIME: Gauge = Gauge::new(
    "prometheus_tsdb_head_max_time_seconds",
    "Time of the newest sample in the head.",
);
pub(crate) static LOG_CORRUPTIONS: Counter = Counter::new(
    "prometheus_tsdb_wal_corruptions_total",
    "Stretches of the log that could not be read; their bytes are in its quarantine.",
);
pub(crate) static LOG_BYTES: Gauge =
    Gauge::new("prometheus_tsdb_wal_storage_size_bytes", "Bytes of records in the log.");
pub(crate) static LOG_SYNC: Histogram = Histogram::new(
    "campanile_tsdb_log_commit_seconds",
    "Time to write a group of requests to the log and to sync it.",
    SECONDS,
);
pub(crate) static LOG_GROUP: Counter = Counter::new(
    "campanile_tsdb_log_commits_total",
    "Groups of requests that were written and synced together.",
);
pub(crate) static LOG_FAILED: Counter = Counter::new(
    "campanile_tsdb_log_failures_total",
    "Groups of requests that could not be made durable and were not acknowledged.",
);
pub(crate) static CUTS: Counter = Counter::new("campanile_tsdb_cuts_total", "Blocks cut from the head.");
pub(crate) static CUT_FAILURES: Counter = Counter::new(
    "campanile_tsdb_cut_failures_total",
    "Attempts to cut a block from the head that failed.",
);
pub(crate) static CHUNK_CORRUPTIONS: Counter = Counter::new(
    "campanile_tsdb_head_chunk_corruptions_total",
    "Reads of a sealed chunk of the head that failed its checksum; a restart takes it from the log.",
);
pub(crate) static SPILLED_BYTES: Counter = Counter::new(
    "campanile_tsdb_head_chunks_spilled_bytes_total",
    "Bytes of sealed chunks that were moved from memory to a file.",
);
pub(crate) static SPILL_FAILURES: Counter = Counter::new(
    "campanile_tsdb_head_chunks_spill_failures_total",
    "Attempts to move sealed chunks to a file that failed; the chunks stay in memory.",
);
pub(crate) static CHUNK_MEMORY: Gauge = Gauge::new(
    "campanile_tsdb_head_chunks_memory_bytes",
    "Bytes of sealed chunks in memory.",
);

/// All of the store's metrics.
pub static METRICS: &[&dyn Metric] = &[
    &SAMPLES_APPENDED,
    &HISTOGRAMS_APPENDED,
    &EXEMPLARS_APPENDED,
    &DUPLICATES,
    &OUT_OF_ORDER,
    &REFUSED,
    &SERIES,
    &SERIES_CREATED,
    &SERIES_REMOVED,
    &MIN_TIME,
    &MAX_TIME,
    &LOG_CORRUPTIONS,
    &LOG_BYTES,
    &LOG_SYNC,
    &LOG_GROUP,
    &LOG_FAILED,
    &CUTS,
    &CUT_FAILURES,
    &CHUNK_CORRUPTIONS,
    &SPILLED_BYTES,
    &SPILL_FAILURES,
    &CHUNK_MEMORY,
];
