//! The words of the trade: time, labels, samples, batches, alerts. No I/O, no async, no clock.
//!
//! Every other module speaks in these types, so that a unit or an identity is never a matter of opinion.

mod alert;
mod batch;
mod float;
mod histogram;
mod labels;
mod matcher;
mod secret;
mod time;
pub(crate) mod wire;
pub mod yaml;

pub use alert::{Alert, Fingerprint};
pub use batch::{
    BatchSeries, Exemplar, HistogramSample, LabelError, LabelSource, MetricKind, MetricMetadata, OwnedSeries, Sample,
    SeriesKey, WriteBatch, is_stale, stale_marker,
};
pub use float::{FloatSum, FloatSums, format_g, format_plain};
pub use histogram::{
    Bucket, CounterResetHint, Estimate, FloatHistogram, HistogramError, HistogramSum, Keep, MixedSchemas,
    NanObservations, Reconciled, SCHEMA_CUSTOM, SCHEMA_MAX, SCHEMA_MIN, Span,
};
pub use labels::{Labels, LabelsBuilder, METRIC_NAME, is_valid_label_name, is_valid_metric_name};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use secret::Secret;
pub use time::{DurationError, Interval, Millis, TimeRange};
