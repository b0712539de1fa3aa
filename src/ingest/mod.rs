//! The intake: bytes that somebody pushed become a [`WriteBatch`](crate::model::WriteBatch), or an answer that says why not.
//!
//! Each format is a file of pure functions (body in, [`Decoded`] out); [`Intake`] holds what they share: limits, the budget
//! of bytes being decoded at once, time bounds, relabelling and the counters of who was refused and why.

mod admission;
mod batch;
mod compress;
mod config;
pub mod datadog;
pub mod exposition;
pub mod fuzz;
pub mod graphite;
pub mod influx;
mod intake;
pub mod json_lines;
mod labels;
mod limits;
mod mapping;
mod md5;
mod metrics;
pub mod otlp;
pub mod pushgateway;
pub mod relabel;
pub mod remote_read;
pub mod remote_write;
mod sources;
pub mod statsd;
pub mod text;
mod wire;

pub use compress::{Encoding, decompress};
pub use config::{GraphiteConfig, HaConfig, IngestConfig, PushgatewayConfig, StatsdConfig};
pub use intake::{Decoded, Intake, Rejections, Reservation, Taken};
pub use labels::{LabelCheck, check_labels};
pub use limits::{DecodeError, IngestLimits};
pub use mapping::{MappingAction, MappingRule};
pub use metrics::{METRICS, Protocol};
pub use sources::{Source, SourceReport};
