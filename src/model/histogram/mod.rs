//! Native histograms, in their float form: the only form that the server computes with.
//!
//! Layout and semantics are Prometheus's `model/histogram.FloatHistogram`: buckets are stored sparsely as spans over
//! bucket indexes, with absolute counts. Integer histograms from the wire become floats when they are decoded.

mod buckets;
mod reset;
mod stats;
mod sum;
#[cfg(test)]
mod tests;
mod text;
mod trim;
mod validate;

pub use buckets::{Bucket, SCHEMA_MAX, SCHEMA_MIN};
pub use stats::{Estimate, NanObservations};
pub use sum::{HistogramSum, Reconciled};
pub use trim::Keep;
pub use validate::{HistogramError, MixedSchemas};

/// The schema of histograms with custom bucket bounds (NHCB).
pub const SCHEMA_CUSTOM: i32 = -53;

/// A run of populated buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Gap to the previous span, or (first span) the index of the first bucket.
    pub offset: i32,
    /// How many consecutive buckets.
    pub length: u32,
}

/// What the sender says about counter resets before this histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterResetHint {
    /// Look for yourself.
    #[default]
    Unknown,
    /// This histogram begins anew.
    Reset,
    /// Surely no reset since the one before.
    NotReset,
    /// A gauge: resets have no meaning.
    Gauge,
}

/// A native histogram with float counts.
#[derive(Clone, Debug, Default)]
pub struct FloatHistogram {
    /// See [`CounterResetHint`].
    pub counter_reset_hint: CounterResetHint,
    /// Exponential schemas −4…8 (bounds `2^(2^-schema)`), or [`SCHEMA_CUSTOM`].
    pub schema: i32,
    /// Half width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations, NaN ones included.
    pub count: f64,
    /// Sum of all observations; the stale marker ends a series.
    pub sum: f64,
    /// Where the positive buckets are.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets are.
    pub negative_spans: Vec<Span>,
    /// Absolute counts of the positive buckets.
    pub positive_buckets: Vec<f64>,
    /// Absolute counts of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, without +Inf; empty for exponential schemas.
    pub custom_values: Vec<f64>,
}

impl PartialEq for FloatHistogram {
    /// Bit for bit, so that NaN sums and stale markers equal themselves.
    fn eq(&self, other: &FloatHistogram) -> bool {
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        self.counter_reset_hint == other.counter_reset_hint
            && self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.zero_count.to_bits() == other.zero_count.to_bits()
            && self.count.to_bits() == other.count.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && bits(&self.positive_buckets) == bits(&other.positive_buckets)
            && bits(&self.negative_buckets) == bits(&other.negative_buckets)
            && bits(&self.custom_values) == bits(&other.custom_values)
    }
}

impl FloatHistogram {
    /// Whether both hold the same data: schema, bounds and all counts, bit for bit; the reset hint does not count, and how
    /// empty buckets are written does not either.
    pub fn same_data(&self, other: &FloatHistogram) -> bool {
        let compacted = |histogram: &FloatHistogram| {
            let mut compacted = FloatHistogram {
                counter_reset_hint: CounterResetHint::Unknown,
                ..histogram.clone()
            };
            compacted.compact();
            compacted
        };
        compacted(self) == compacted(other)
    }

    /// Returns how many bytes the histogram occupies, about.
    pub fn bytes(&self) -> usize {
        let spans = self.positive_spans.len() + self.negative_spans.len();
        let floats = self.positive_buckets.len() + self.negative_buckets.len() + self.custom_values.len();
        size_of::<FloatHistogram>() + spans * size_of::<Span>() + floats * size_of::<f64>()
    }
}
