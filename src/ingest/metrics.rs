//! What the intake counts: who sent how much, and who was refused and why.

use crate::storage::RefusalReason;
use crate::telemetry::{CounterVec, Gauge, GaugeVec, Metric};

/// A push format, as the label `protocol` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the formats' own")]
pub enum Protocol {
    RemoteWrite1,
    RemoteWrite2,
    PrometheusText,
    JsonLines,
    Influx,
    Otlp,
    Pushgateway,
    Graphite,
    Statsd,
    Datadog,
}

impl Protocol {
    /// Returns the label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::RemoteWrite1 => "remote_write_1",
            Protocol::RemoteWrite2 => "remote_write_2",
            Protocol::PrometheusText => "prometheus_text",
            Protocol::JsonLines => "json_lines",
            Protocol::Influx => "influx",
            Protocol::Otlp => "otlp",
            Protocol::Pushgateway => "pushgateway",
            Protocol::Graphite => "graphite",
            Protocol::Statsd => "statsd",
            Protocol::Datadog => "datadog",
        }
    }
}

/// Returns the word for a refusal in `campanile_ingest_rejected_total`.
pub(super) fn reason_word(reason: &RefusalReason) -> &'static str {
    match reason {
        RefusalReason::InvalidLabels(_) => "labels",
        RefusalReason::TooOld { .. } => "out_of_order",
        RefusalReason::BeyondRetention { .. } => "beyond_retention",
        RefusalReason::TooFarAhead { .. } => "too_far_ahead",
        RefusalReason::Conflict => "conflict",
        RefusalReason::Limit(_) => "limit",
        RefusalReason::InvalidValue(_) => "value",
    }
}

pub(super) static SAMPLES: CounterVec = CounterVec::new(
    "campanile_ingest_samples_total",
    "Samples and histograms that were taken and are durable.",
    &["protocol"],
);
pub(super) static REJECTED: CounterVec = CounterVec::new(
    "campanile_ingest_rejected_total",
    "Samples refused one by one, and whole requests refused (reasons malformed, too_large, unsupported, busy).",
    &["protocol", "reason"],
);
pub(super) static SKIPPED: CounterVec = CounterVec::new(
    "campanile_ingest_skipped_total",
    "Parts of requests that are no samples and left out by rule: text fields of the line protocol.",
    &["protocol", "what"],
);
pub(super) static LIMIT_REFUSED: CounterVec = CounterVec::new(
    "campanile_limit_refused_total",
    "Requests, samples or series refused because of a limit.",
    &["limit"],
);
pub(super) static IN_FLIGHT: Gauge = Gauge::new(
    "campanile_ingest_in_flight_bytes",
    "Bytes that requests in decoding may take.",
);

pub(super) static LEFT_OUT: CounterVec = CounterVec::new(
    "campanile_ingest_left_out_total",
    "Samples left out by rule and answered as taken: relabelled away, or sent by the other replica of a pair.",
    &["protocol", "rule"],
);
pub(super) static SOURCE_SAMPLES: CounterVec = CounterVec::new(
    "campanile_ingest_source_samples_total",
    "Samples taken from each sender.",
    &["source", "protocol"],
);
pub(super) static SOURCE_REFUSED: CounterVec = CounterVec::new(
    "campanile_ingest_source_refused_total",
    "Samples and whole requests of each sender that were refused.",
    &["source", "protocol", "reason"],
);
pub(super) static SOURCE_SERIES: GaugeVec = GaugeVec::new(
    "campanile_ingest_source_series",
    "Series that each sender wrote in the last half hour to hour, about.",
    &["source", "protocol"],
);

/// The intake's metrics.
pub static METRICS: &[&dyn Metric] = &[
    &SAMPLES,
    &REJECTED,
    &SKIPPED,
    &LEFT_OUT,
    &LIMIT_REFUSED,
    &IN_FLIGHT,
    &SOURCE_SAMPLES,
    &SOURCE_REFUSED,
    &SOURCE_SERIES,
];
