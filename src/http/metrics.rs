//! What the door counts about itself.

use crate::telemetry::{Counter, CounterVec, Gauge, Histogram, Metric, SECONDS};

pub(super) static REQUESTS: CounterVec = CounterVec::new(
    "campanile_http_requests_total",
    "Requests answered, by route and status code.",
    &["handler", "code"],
);
pub(super) static REQUEST_SECONDS: Histogram = Histogram::new(
    "campanile_http_request_seconds",
    "Time from a request's headers to the headers of its answer.",
    SECONDS,
);
pub(super) static REFUSED: CounterVec = CounterVec::new(
    "campanile_limit_refused_total",
    "Requests and connections refused because of a limit, by the limit's name.",
    &["limit"],
);
pub(super) static REFUSED_CALLERS: CounterVec = CounterVec::new(
    "campanile_http_callers_refused_total",
    "Requests refused because of who sent them: no credential, a wrong one, an ended session, not the scope.",
    &["reason"],
);
pub(super) static TLS_FAILED: Counter = Counter::new(
    "campanile_http_tls_handshakes_failed_total",
    "Connections that ended before TLS was agreed on.",
);
pub(super) static CONNECTIONS: Gauge = Gauge::new("campanile_http_connections", "Open HTTP connections.");
pub(super) static ACCEPTED: Counter = Counter::new(
    "campanile_http_connections_accepted_total",
    "HTTP connections accepted.",
);

/// The door's metrics.
pub static METRICS: &[&dyn Metric] = &[
    &REQUESTS,
    &REQUEST_SECONDS,
    &REFUSED,
    &REFUSED_CALLERS,
    &TLS_FAILED,
    &CONNECTIONS,
    &ACCEPTED,
];
