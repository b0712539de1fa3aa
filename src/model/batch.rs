//! What a sender sends: a batch of series with samples, as `ingest` decodes it and `storage::Appender` takes it.
//!
//! The batch is columnar and its labels stay in the sender's bytes: most series are known already, so a batch carries a
//! 128-bit key per series and a [`LabelSource`] that spells the labels out for the few that are new.

use std::ops::Range;
use std::sync::Arc;

use super::{FloatHistogram, Labels, Millis};

/// One value of one series at one time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was true.
    pub at: Millis,
    /// The value; a NaN keeps its payload, because one payload is the stale marker.
    pub value: f64,
}

impl PartialEq for Sample {
    /// Bit for bit, so that a stale marker equals itself.
    fn eq(&self, other: &Sample) -> bool {
        self.at == other.at && self.value.to_bits() == other.value.to_bits()
    }
}

/// The bits of the NaN that ends a series (Prometheus's `value.StaleNaN`).
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Returns the value that says "this series ends here".
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// Whether `value` is the stale marker (and not just any NaN).
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// A native histogram at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    /// When it was true.
    pub at: Millis,
    /// The histogram; its `sum` is the stale marker when the series ends here.
    pub histogram: Arc<FloatHistogram>,
}

/// A traced example of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Its own labels, such as `trace_id`.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// When it was observed.
    pub at: Millis,
}

/// What kind of metric a name stands for, as its sender says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are OpenMetrics's own")]
pub enum MetricKind {
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricKind {
    /// Returns the word used in JSON and in the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Unknown => "unknown",
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
        }
    }
}

/// Kind, help and unit of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetricMetadata {
    /// The metric's name.
    pub metric: String,
    /// Its kind.
    pub kind: MetricKind,
    /// What it says, for people.
    pub help: String,
    /// Its unit, when the sender names one.
    pub unit: String,
}

/// A key for a series as one sender spells it: equal keys mean equal labels (up to a 128-bit collision under a secret
/// per-process seed), unequal keys mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey(pub u128);

/// Why a series' labels cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: series {series}")]
pub struct LabelError {
    /// The labels as far as they could be read.
    pub series: String,
    /// What is wrong: names the label and the limit.
    pub reason: String,
}

/// Spells out the labels of a batch's series. Called only for series that the store does not know by key.
pub trait LabelSource: Send + Sync {
    /// Returns the labels of the series at `index`, validated (UTF-8, sorted, unique names, within limits).
    ///
    /// # Errors
    /// [`LabelError`] says what is wrong with them.
    fn labels(&self, index: usize) -> Result<Labels, LabelError>;
}

/// One series of a [`WriteBatch`]: ranges into the batch's columns.
#[derive(Clone, Debug)]
pub struct BatchSeries {
    /// The key under which the store may know it.
    pub key: SeriesKey,
    /// Its part of [`WriteBatch::samples`].
    pub samples: Range<u32>,
    /// Its part of [`WriteBatch::histograms`].
    pub histograms: Range<u32>,
    /// Its part of [`WriteBatch::exemplars`].
    pub exemplars: Range<u32>,
}

/// A request's worth of samples, decoded but not yet looked up.
#[derive(Clone)]
pub struct WriteBatch {
    /// The series, in the request's order.
    pub series: Vec<BatchSeries>,
    /// Float samples of all series.
    pub samples: Vec<Sample>,
    /// When each float sample's counter began to count: empty, or one for each sample (0 = unknown).
    pub start_times: Vec<Millis>,
    /// Histogram samples of all series.
    pub histograms: Vec<HistogramSample>,
    /// When each histogram began to count: empty, or one for each histogram (0 = unknown).
    pub histogram_start_times: Vec<Millis>,
    /// Exemplars of all series.
    pub exemplars: Vec<Exemplar>,
    /// What the sender says about metrics.
    pub metadata: Vec<MetricMetadata>,
    /// Spells out labels.
    pub labels: Arc<dyn LabelSource>,
}

/// A series with its labels written out: what rules, tests and the slower push formats have in hand.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedSeries {
    /// Its identity.
    pub labels: Labels,
    /// Its samples, oldest first.
    pub samples: Vec<Sample>,
}

impl WriteBatch {
    /// Builds a batch of series whose labels are known, keyed under `seed` (the process's own, `io::Random`).
    pub fn from_series(series: Vec<OwnedSeries>, seed: u64) -> WriteBatch {
        let mut batch = WriteBatch {
            series: Vec::with_capacity(series.len()),
            samples: Vec::new(),
            start_times: Vec::new(),
            histograms: Vec::new(),
            histogram_start_times: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
            labels: Arc::new(OwnedLabels(Vec::new())),
        };
        let mut labels = Vec::with_capacity(series.len());
        for one in series {
            let start = batch.samples.len() as u32;
            batch.samples.extend_from_slice(&one.samples);
            batch.series.push(BatchSeries {
                key: SeriesKey(one.labels.hash128(seed)),
                samples: start..batch.samples.len() as u32,
                histograms: 0..0,
                exemplars: 0..0,
            });
            labels.push(one.labels);
        }
        batch.labels = Arc::new(OwnedLabels(labels));
        batch
    }
}

struct OwnedLabels(Vec<Labels>);

impl LabelSource for OwnedLabels {
    fn labels(&self, index: usize) -> Result<Labels, LabelError> {
        Ok(self.0[index].clone())
    }
}
