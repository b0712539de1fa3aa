//! Remote write 1.0 as the agent sends it: the mirror image of `v1`.

use prost::Message;

use super::histogram::Histogram;
use crate::model::{HistogramSample, Labels, MetricMetadata, OwnedSeries};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub(super) metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    pub(super) histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Sample {
    /// Optional because `prost` would leave out -0.0 with 0.0.
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub(super) value: f64,
    #[prost(int64, tag = "3")]
    pub(super) timestamp: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Metadata {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(string, tag = "2")]
    pub(super) metric: String,
    #[prost(string, tag = "4")]
    pub(super) help: String,
    #[prost(string, tag = "5")]
    pub(super) unit: String,
}

/// Returns the uncompressed body that carries `series` and `metadata`.
pub fn encode_v1(series: &[OwnedSeries], metadata: &[MetricMetadata]) -> Vec<u8> {
    let timeseries = series.iter().map(|one| TimeSeries {
        labels: one.labels.iter().map(label).collect(),
        samples: one.samples.iter().map(sample).collect(),
        ..TimeSeries::default()
    });
    let metadata = metadata.iter().map(|one| Metadata {
        kind: super::columns::metric_kind_number(one.kind),
        metric: one.metric.clone(),
        help: one.help.clone(),
        unit: one.unit.clone(),
    });
    let request = WriteRequest {
        timeseries: timeseries.collect(),
        metadata: metadata.collect(),
    };
    request.encode_to_vec()
}

/// Returns the uncompressed body that carries native histograms, as float ones.
pub fn encode_v1_histograms(histograms: &[(Labels, HistogramSample)]) -> Vec<u8> {
    let timeseries = histograms.iter().map(|(labels, sample)| TimeSeries {
        labels: labels.iter().map(label).collect(),
        histograms: vec![super::histogram::from_sample(sample)],
        ..TimeSeries::default()
    });
    let request = WriteRequest {
        timeseries: timeseries.collect(),
        metadata: Vec::new(),
    };
    request.encode_to_vec()
}

fn label((name, value): (&str, &str)) -> Label {
    Label {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn sample(sample: &crate::model::Sample) -> Sample {
    Sample {
        value: (sample.value.to_bits() != 0).then_some(sample.value),
        timestamp: sample.at.0,
    }
}
