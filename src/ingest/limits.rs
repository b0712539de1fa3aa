//! What the intake takes at most, and how it says no to a whole request.

use crate::model::Interval;

/// Limits of every push format. Each is a config key of the same name under `limits`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestLimits {
    /// The most bytes of a body after decompression; a declared length is checked before anything is reserved.
    pub decoded_bytes_max: usize,
    /// The most bytes that all requests together may have in decoding at once.
    pub in_flight_bytes_max: usize,
    /// The most series (or lines) in one request.
    pub series_per_request_max: usize,
    /// The most labels of a series, the metric name included.
    pub labels_per_series_max: usize,
    /// The most bytes of a label's name.
    pub label_name_bytes_max: usize,
    /// The most bytes of a label's value.
    pub label_value_bytes_max: usize,
    /// How far ahead of the server's clock a sample may be.
    pub future_max: Interval,
    /// The most series of one source and format; 0 is no limit. Over it, new ones are refused and known ones go on.
    pub source_series_max: usize,
}

impl Default for IngestLimits {
    fn default() -> IngestLimits {
        IngestLimits {
            decoded_bytes_max: 32 << 20,
            in_flight_bytes_max: 256 << 20,
            series_per_request_max: 100_000,
            labels_per_series_max: 64,
            label_name_bytes_max: 256,
            label_value_bytes_max: 4096,
            future_max: Interval(10 * 60 * 1000),
            source_series_max: 0,
        }
    }
}

/// Why nothing of a body can be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not of the format they claim: the text says what and where.
    #[error("{0}")]
    Malformed(String),
    /// Over a limit on sizes or counts: the text names the limit, its value and what was sent.
    #[error("{message}")]
    TooLarge {
        /// The limit's name.
        limit: &'static str,
        /// Limit, value, what was sent.
        message: String,
    },
    /// The content type or encoding is not spoken here.
    #[error("{0}")]
    Unsupported(String),
    /// Too much is being decoded already: try again soon.
    #[error("{0}")]
    Busy(String),
}

impl DecodeError {
    /// Returns the error for going over `limit`.
    pub(crate) fn over(limit: &'static str, max: usize, sent: impl std::fmt::Display) -> DecodeError {
        DecodeError::TooLarge {
            limit,
            message: format!("over the limit {limit} = {max}: {sent}"),
        }
    }

    /// Returns the reason's word in `campanile_ingest_rejected_total`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            DecodeError::Malformed(_) => "malformed",
            DecodeError::TooLarge { .. } => "too_large",
            DecodeError::Unsupported(_) => "unsupported",
            DecodeError::Busy(_) => "busy",
        }
    }
}
