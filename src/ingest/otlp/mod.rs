//! OpenTelemetry's metrics over HTTP (OTLP), protobuf and JSON.
//!
//! The mapping is Prometheus's own: names by a translation strategy, `service.*` to `job` and `instance`, other resource
//! attributes to `target_info`, exponential histograms to native ones. Deltas are added up (see [`delta`]). Protobuf is
//! read in place; JSON becomes protobuf first, so that there is one reader.

mod delta;
mod labels;
mod names;
mod points;
mod proto;
mod reader;
#[cfg(test)]
mod tests;

pub use names::TranslationStrategy;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use serde::Deserialize;

use super::{DecodeError, Decoded, IngestLimits};
use crate::model::{Millis, SeriesKey};

/// `AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: u64 = 1;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// Prometheus's section `otlp`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// How names are spelled.
    pub translation_strategy: TranslationStrategy,
    /// Resource attributes that become labels of every series.
    pub promote_resource_attributes: Vec<String>,
    /// Whether all of them do.
    pub promote_all_resource_attributes: bool,
    /// With `promote_all_resource_attributes`: all but these.
    pub ignore_resource_attributes: Vec<String>,
    /// Whether `target_info` repeats `service.name`, `service.namespace` and `service.instance.id`.
    pub keep_identifying_resource_attributes: bool,
    /// Whether name, version, schema and attributes of the instrumentation scope become labels.
    pub promote_scope_metadata: bool,
}

impl OtlpConfig {
    fn promotes(&self, attribute: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|name| name == attribute);
        if self.promote_all_resource_attributes {
            return !listed(&self.ignore_resource_attributes);
        }
        listed(&self.promote_resource_attributes)
    }

    /// Checks what the single values cannot know.
    ///
    /// # Errors
    /// The keys that do not go together.
    pub fn check(&self) -> Result<(), String> {
        if self.promote_all_resource_attributes && !self.promote_resource_attributes.is_empty() {
            return Err(
                "promote_all_resource_attributes and promote_resource_attributes do not go together".to_owned(),
            );
        }
        if !self.promote_all_resource_attributes && !self.ignore_resource_attributes.is_empty() {
            return Err(
                "ignore_resource_attributes has a meaning only with promote_all_resource_attributes".to_owned(),
            );
        }
        Ok(())
    }
}

/// What outlives a request: settings, running totals of deltas, and which metadata was passed on.
#[derive(Debug)]
pub struct Otlp {
    config: OtlpConfig,
    delta_series_max: usize,
    deltas: Mutex<delta::Deltas>,
    told: Mutex<reader::Told>,
}

/// The most series whose deltas are added up.
const DELTA_SERIES_MAX: usize = 1_000_000;

impl Otlp {
    /// Starts with no totals.
    pub fn new(config: OtlpConfig) -> Otlp {
        Otlp {
            config,
            delta_series_max: DELTA_SERIES_MAX,
            deltas: Mutex::default(),
            told: Mutex::default(),
        }
    }

    fn add_delta(&self, key: SeriesKey, delta: delta::Delta, now: Millis) -> Result<(Millis, delta::Amount), String> {
        self.deltas.lock().add(key, delta, now, self.delta_series_max)
    }

    fn is_news(&self, hash: u128, now: Millis) -> bool {
        self.told.lock().is_news(hash, now)
    }

    /// Decodes an uncompressed protobuf body.
    ///
    /// # Errors
    /// [`DecodeError`] when it is no such message or over a limit; a bad point is left out and listed.
    pub fn decode(&self, body: Bytes, now: Millis, seed: u64, limits: &IngestLimits) -> Result<Decoded, DecodeError> {
        reader::decode(body, self, now, seed, limits)
    }

    /// Decodes a JSON body.
    ///
    /// # Errors
    /// As [`Otlp::decode`].
    pub fn decode_json(
        &self,
        body: &[u8],
        now: Millis,
        seed: u64,
        limits: &IngestLimits,
    ) -> Result<Decoded, DecodeError> {
        let request: proto::Request = serde_json::from_slice(body)
            .map_err(|error| DecodeError::Malformed(format!("malformed JSON body: {error}")))?;
        self.decode(Bytes::from(request.encode_to_vec()), now, seed, limits)
    }
}

/// Which of the two encodings a body has, and its answer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpEncoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

impl OtlpEncoding {
    /// Reads the header `Content-Type`.
    ///
    /// # Errors
    /// [`DecodeError::Unsupported`] when it is neither.
    pub fn from_content_type(value: Option<&str>) -> Result<OtlpEncoding, DecodeError> {
        let kind = value.unwrap_or("").split(';').next().unwrap_or("").trim();
        match kind.to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Ok(OtlpEncoding::Protobuf),
            "application/json" => Ok(OtlpEncoding::Json),
            other => Err(DecodeError::Unsupported(format!(
                "Content-Type {other:?} is not spoken here; OTLP is application/x-protobuf or application/json"
            ))),
        }
    }

    /// Returns the header `Content-Type` of answers.
    pub fn content_type(self) -> &'static str {
        match self {
            OtlpEncoding::Protobuf => "application/x-protobuf",
            OtlpEncoding::Json => "application/json",
        }
    }

    /// Returns the body of an answer to a request that was taken; `rejected` says how many points were not, and why.
    pub fn response(self, rejected: Option<(u64, String)>) -> Vec<u8> {
        match self {
            OtlpEncoding::Protobuf => {
                let partial_success = rejected.map(|(points, error_message)| proto::PartialSuccess {
                    rejected_data_points: i64::try_from(points).unwrap_or(i64::MAX),
                    error_message,
                });
                proto::Response { partial_success }.encode_to_vec()
            }
            OtlpEncoding::Json => match rejected {
                None => b"{}".to_vec(),
                Some((points, message)) => {
                    let partial =
                        serde_json::json!({"rejectedDataPoints": points.to_string(), "errorMessage": message});
                    serde_json::json!({ "partialSuccess": partial })
                        .to_string()
                        .into_bytes()
                }
            },
        }
    }

    /// Returns the body of a refusal: `google.rpc.Status`.
    pub fn status(self, message: &str) -> Vec<u8> {
        // 3 is INVALID_ARGUMENT; what a sender does depends on the HTTP status alone.
        match self {
            OtlpEncoding::Protobuf => proto::Status {
                code: 3,
                message: message.to_owned(),
            }
            .encode_to_vec(),
            OtlpEncoding::Json => serde_json::json!({"code": 3, "message": message})
                .to_string()
                .into_bytes(),
        }
    }
}
