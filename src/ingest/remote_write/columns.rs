//! The columns of a batch under construction, shared by both versions.

use std::ops::Range;
use std::sync::Arc;

use super::histogram::{self, Histogram};
use crate::ingest::intake::Rejections;
use crate::ingest::{DecodeError, Decoded, IngestLimits};
use crate::model::{
    BatchSeries, Exemplar, HistogramSample, LabelSource, Labels, MetricKind, MetricMetadata, Millis, Sample, SeriesKey,
    WriteBatch,
};
use crate::storage::RefusalReason;

/// The most samples of one request: an empty sample costs the sender two bytes and us sixteen.
const SAMPLES_MAX: usize = 4_000_000;
/// The most characters in an exemplar's labels, all together (OpenMetrics).
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Grows series by series; finished by [`Columns::finish`].
pub(super) struct Columns<'a> {
    limits: &'a IngestLimits,
    series: Vec<BatchSeries>,
    samples: Vec<Sample>,
    start_times: Vec<Millis>,
    histograms: Vec<HistogramSample>,
    histogram_start_times: Vec<Millis>,
    exemplars: Vec<Exemplar>,
    pub(super) metadata: Vec<MetricMetadata>,
    rejections: Rejections,
}

/// Where the columns stood before a series.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    samples: usize,
    histograms: usize,
    exemplars: usize,
}

impl<'a> Columns<'a> {
    /// Starts empty; `body_bytes` have arrived and bound what is reserved.
    pub(super) fn new(limits: &'a IngestLimits, body_bytes: usize) -> Columns<'a> {
        Columns {
            limits,
            series: Vec::with_capacity((body_bytes / 128).min(limits.series_per_request_max)),
            samples: Vec::with_capacity((body_bytes / 64).min(SAMPLES_MAX)),
            start_times: Vec::new(),
            histograms: Vec::new(),
            histogram_start_times: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
            rejections: Rejections::default(),
        }
    }

    #[inline]
    pub(super) fn mark(&self) -> Mark {
        Mark {
            samples: self.samples.len(),
            histograms: self.histograms.len(),
            exemplars: self.exemplars.len(),
        }
    }

    #[inline]
    pub(super) fn sample(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Takes a sample whose counter began at `start` (0 = unknown).
    #[inline]
    pub(super) fn sample_since(&mut self, sample: Sample, start: i64) {
        if start != 0 {
            self.start_times.resize(self.samples.len(), Millis(0));
            self.start_times.push(Millis(start));
        }
        self.samples.push(sample);
    }

    /// Takes a histogram, or notes why not; `labels` spells out the series for the note.
    pub(super) fn histogram(&mut self, wire: Histogram, series_start: i64, labels: impl FnOnce() -> String) {
        let at = Millis(wire.timestamp);
        let start = if wire.start_timestamp != 0 {
            wire.start_timestamp
        } else {
            series_start
        };
        match histogram::to_sample(wire) {
            Ok(sample) => {
                if start != 0 {
                    self.histogram_start_times.resize(self.histograms.len(), Millis(0));
                    self.histogram_start_times.push(Millis(start));
                }
                self.histograms.push(sample);
            }
            Err(reason) => {
                let reason = RefusalReason::InvalidValue(format!("histogram: {reason}"));
                self.rejections.add(1, labels, Some(at), reason);
            }
        }
    }

    /// Takes an exemplar, or notes why not.
    pub(super) fn exemplar(&mut self, exemplar: Result<Exemplar, String>, labels: impl FnOnce() -> String) {
        match exemplar {
            Ok(exemplar) => self.exemplars.push(exemplar),
            Err(reason) => {
                let reason = RefusalReason::InvalidValue(format!("exemplar: {reason}"));
                self.rejections.add(0, labels, None, reason);
            }
        }
    }

    /// Closes the series that began at `mark`.
    #[inline]
    pub(super) fn series(&mut self, key: SeriesKey, mark: Mark) -> Result<(), DecodeError> {
        if self.series.len() == self.limits.series_per_request_max {
            let max = self.limits.series_per_request_max;
            return Err(DecodeError::over("series_per_request_max", max, "more were sent"));
        }
        if self.samples.len() > SAMPLES_MAX {
            return Err(DecodeError::over(
                "samples_per_request_max",
                SAMPLES_MAX,
                "more were sent",
            ));
        }
        self.series.push(BatchSeries {
            key,
            samples: range(mark.samples, self.samples.len()),
            histograms: range(mark.histograms, self.histograms.len()),
            exemplars: range(mark.exemplars, self.exemplars.len()),
        });
        Ok(())
    }

    /// Returns the batch.
    pub(super) fn finish(mut self, labels: Arc<dyn LabelSource>) -> Decoded {
        if !self.start_times.is_empty() {
            self.start_times.resize(self.samples.len(), Millis(0));
        }
        if !self.histogram_start_times.is_empty() {
            self.histogram_start_times.resize(self.histograms.len(), Millis(0));
        }
        Decoded {
            batch: WriteBatch {
                series: self.series,
                samples: self.samples,
                start_times: self.start_times,
                histograms: self.histograms,
                histogram_start_times: self.histogram_start_times,
                exemplars: self.exemplars,
                metadata: self.metadata,
                labels,
            },
            rejections: self.rejections,
        }
    }
}

fn range(from: usize, to: usize) -> Range<u32> {
    let narrow = |at: usize| u32::try_from(at).expect("a body of 32 MiB holds less than 2^32 of anything");
    narrow(from)..narrow(to)
}

/// Checks the labels of an exemplar.
///
/// # Errors
/// The text says what is wrong.
pub(super) fn exemplar_labels<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<Labels, String> {
    let mut texts = Vec::new();
    let mut chars = 0;
    for (name, value) in pairs {
        let name = std::str::from_utf8(name).map_err(|_| "a label name is not UTF-8".to_owned())?;
        let value = std::str::from_utf8(value).map_err(|_| format!("label {name:?} is not UTF-8"))?;
        chars += name.chars().count() + value.chars().count();
        if name.is_empty() || chars > EXEMPLAR_CHARS_MAX {
            return Err(format!(
                "labels have an empty name or more than {EXEMPLAR_CHARS_MAX} characters"
            ));
        }
        texts.push((name, value));
    }
    Ok(Labels::from_pairs(texts))
}

/// Reads the number of a metric's kind, the same in both versions.
pub(super) fn metric_kind(number: i32) -> MetricKind {
    match number {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::StateSet,
        _ => MetricKind::Unknown,
    }
}

/// The reverse of [`metric_kind`].
pub(super) fn metric_kind_number(kind: MetricKind) -> i32 {
    match kind {
        MetricKind::Unknown => 0,
        MetricKind::Counter => 1,
        MetricKind::Gauge => 2,
        MetricKind::Histogram => 3,
        MetricKind::GaugeHistogram => 4,
        MetricKind::Summary => 5,
        MetricKind::Info => 6,
        MetricKind::StateSet => 7,
    }
}

/// Reads `double value = 1; int64 timestamp = 2; int64 start_timestamp = 3`, in that usual order at a glance.
#[inline]
pub(super) fn read_sample(body: &[u8], from: usize, to: usize) -> Result<(Sample, i64), DecodeError> {
    let message = &body[from..to];
    if let Some((head, varint)) = message.split_first_chunk::<10>()
        && head[0] == 0x09
        && head[9] == 0x10
        && let Some(at) = whole_varint(varint)
    {
        let value = f64::from_le_bytes([head[1], head[2], head[3], head[4], head[5], head[6], head[7], head[8]]);
        return Ok((
            Sample {
                at: Millis(at as i64),
                value,
            },
            0,
        ));
    }
    read_sample_slowly(body, from, to)
}

/// Returns the varint that fills `bytes` exactly.
#[inline]
fn whole_varint(bytes: &[u8]) -> Option<u64> {
    let (last, rest) = bytes.split_last()?;
    if rest.len() > 8 || *last >= 0x80 {
        return None; // Ten bytes (negative times) take the slow way.
    }
    let mut value = u64::from(*last);
    for byte in rest.iter().rev() {
        if *byte < 0x80 {
            return None;
        }
        value = value << 7 | u64::from(byte & 0x7f);
    }
    Some(value)
}

fn read_sample_slowly(body: &[u8], from: usize, to: usize) -> Result<(Sample, i64), DecodeError> {
    use crate::ingest::wire::{Cursor, Field};
    let mut cursor = Cursor::new(body, from, to);
    let (mut at, mut value, mut start) = (0, 0.0, 0);
    while let Some(field) = cursor.next()? {
        match field {
            Field::Fixed64(1, bits) => value = f64::from_bits(bits),
            Field::Varint(2, millis) => at = millis as i64,
            Field::Varint(3, millis) => start = millis as i64,
            Field::Varint(1, _) | Field::Bytes(1 | 2, ..) | Field::Fixed64(2, _) | Field::Fixed32(1 | 2) => {
                return Err(cursor.malformed("a sample's field has the wrong type"));
            }
            _ => {} // A field of a later version.
        }
    }
    Ok((Sample { at: Millis(at), value }, start))
}
