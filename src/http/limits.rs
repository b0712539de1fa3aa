//! What one client may ask of the listener before anybody has looked at its request.

use serde::Deserialize;

use crate::model::Interval;

/// The door's limits. Each default is documented at its field; going over one is counted in
/// `campanile_limit_refused_total` under the field's name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections; over it the oldest idle one is closed. Default 4096.
    pub http_connections: usize,
    /// Open connections from one address; over it that address's oldest idle one is closed. Default 512.
    pub http_connections_per_address: usize,
    /// Bytes of request line and headers; 431 beyond. Default 32768.
    pub http_header_bytes: usize,
    /// From the first byte of a request to the end of its headers; 408 beyond. Default 5s.
    pub http_header_time: Interval,
    /// From the headers to the end of the body; 408 beyond. Default 30s.
    pub http_body_time: Interval,
    /// The slowest a body may come, in bytes per second, after a grace of 5 s; 408 below. Default 1024.
    pub http_body_rate: u64,
    /// Bytes of request bodies in memory, all requests together; 429 beyond. Default 268435456 (256 MiB).
    pub http_body_bytes_total: u64,
    /// A connection without a request is closed after this. Default 60s.
    pub http_idle_time: Interval,
    /// A client that takes nothing of its answer for this long is cut off. Default 30s.
    pub http_write_time: Interval,
    /// How long requests under way may go on after a stop was asked for. Default 10s.
    pub http_stop_time: Interval,
    /// Writes carried out at once; 0 = four for each core. Others wait for `concurrent_writes_wait`. Default 0.
    pub concurrent_writes: usize,
    /// How long a write waits for its turn; 503 beyond. Default 1s.
    pub concurrent_writes_wait: Interval,
    /// Queries carried out at once; 0 = two for each core. Others wait for `concurrent_queries_wait`. Default 0.
    pub concurrent_queries: usize,
    /// How long a query waits for its turn; 429 beyond. Default 5s.
    pub concurrent_queries_wait: Interval,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            http_connections: 4096,
            http_connections_per_address: 512,
            http_header_bytes: 32 << 10,
            http_header_time: Interval::secs(5),
            http_body_time: Interval::secs(30),
            http_body_rate: 1024,
            http_body_bytes_total: 256 << 20,
            http_idle_time: Interval::secs(60),
            http_write_time: Interval::secs(30),
            http_stop_time: Interval::secs(10),
            concurrent_writes: 0,
            concurrent_writes_wait: Interval::secs(1),
            concurrent_queries: 0,
            concurrent_queries_wait: Interval::secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_limit_is_refused_and_the_rest_keeps_its_default() {
        let limits: Limits = serde_yaml::from_str("http_idle_time: 2m\nhttp_connections: 10").unwrap();
        assert_eq!(limits.http_idle_time, Interval::mins(2));
        assert_eq!(limits.http_header_bytes, Limits::default().http_header_bytes);
        let error = serde_yaml::from_str::<Limits>("http_conections: 10")
            .unwrap_err()
            .to_string();
        assert!(error.contains("http_conections"), "{error}");
    }
}
