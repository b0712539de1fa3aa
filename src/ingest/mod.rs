//! The intake: bytes that somebody pushed become a [`WriteBatch`](crate::model::WriteBatch), or an answer that says why not.
//!
//! Each format is a file of pure functions (body in, [`Decoded`] out); [`Intake`] holds what they share: limits, the budget
//! of bytes being decoded at once, time bounds, relabelling and the counters of who was refused and why.

mod batch;
mod compress;
pub mod fuzz;
pub mod influx;
mod intake;
pub mod json_lines;
mod labels;
mod limits;
mod md5;
mod metrics;
pub mod relabel;
pub mod remote_read;
pub mod remote_write;
pub mod text;

pub use compress::{Encoding, decompress};
pub use intake::{Decoded, Intake, Rejections, Reservation};
pub use labels::{LabelCheck, check_labels};
pub use limits::{DecodeError, IngestLimits};
pub use metrics::{METRICS, Protocol};
