//! A batch under construction whose labels are owned: what the slower formats build, line by line.

use super::{DecodeError, Decoded, IngestLimits, LabelCheck, Rejections, check_labels};
use crate::model::{BatchSeries, Exemplar, Labels, Millis, OwnedSeries, Sample, WriteBatch};
use crate::storage::RefusalReason;

/// A batch of series whose labels are owned: what the slower formats build.
pub(super) struct OwnedBatch<'a> {
    limits: &'a IngestLimits,
    check: LabelCheck,
    series: Vec<OwnedSeries>,
    exemplars: Vec<(usize, Exemplar)>,
    rejections: Rejections,
}

impl<'a> OwnedBatch<'a> {
    pub(super) fn new(limits: &'a IngestLimits) -> OwnedBatch<'a> {
        OwnedBatch {
            limits,
            check: LabelCheck::from(limits),
            series: Vec::new(),
            exemplars: Vec::new(),
            rejections: Rejections::default(),
        }
    }

    /// Adds samples under their own labels, and under those of `extra` that they have not.
    pub(super) fn add<'p>(
        &mut self,
        pairs: impl Iterator<Item = (&'p str, &'p str)> + Clone,
        extra: &Labels,
        samples: &[Sample],
        exemplar: Option<Exemplar>,
    ) -> Result<(), DecodeError> {
        let own: Vec<(&[u8], &[u8])> = pairs.map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let missing = extra.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let missing = missing.filter(|(name, _)| !own.iter().any(|(found, _)| found == name));
        match check_labels(own.iter().copied().chain(missing.clone()), &self.check) {
            Ok(labels) => self.push(labels, samples, exemplar),
            Err(error) => {
                self.refuse(samples.len() as u64, error.series, error.reason);
                Ok(())
            }
        }
    }

    /// Adds samples of a checked series; those of one series that stand together share it.
    pub(super) fn push(
        &mut self,
        labels: Labels,
        samples: &[Sample],
        exemplar: Option<Exemplar>,
    ) -> Result<(), DecodeError> {
        if self.series.last().is_none_or(|last| last.labels != labels) {
            let max = self.limits.series_per_request_max;
            if self.series.len() == max {
                return Err(DecodeError::over("series_per_request_max", max, "more were sent"));
            }
            self.series.push(OwnedSeries {
                labels,
                samples: Vec::new(),
            });
        }
        let index = self.series.len() - 1;
        if let Some(mut exemplar) = exemplar {
            if exemplar.at == Millis(0) {
                exemplar.at = samples.last().map_or(Millis(0), |sample| sample.at);
            }
            self.exemplars.push((index, exemplar));
        }
        self.series[index].samples.extend_from_slice(samples);
        Ok(())
    }

    /// Notes samples that are left out.
    pub(super) fn refuse(&mut self, samples: u64, series: String, reason: String) {
        self.rejections
            .add(samples, || series, None, RefusalReason::InvalidLabels(reason));
    }

    pub(super) fn finish(self, seed: u64) -> Decoded {
        let mut batch = WriteBatch::from_series(self.series, seed);
        let mut exemplars = self.exemplars.into_iter().peekable();
        for (index, series) in batch.series.iter_mut().enumerate() {
            let from = batch.exemplars.len() as u32;
            while let Some((_, exemplar)) = exemplars.next_if(|(of, _)| *of == index) {
                batch.exemplars.push(exemplar);
            }
            let BatchSeries { exemplars: range, .. } = series;
            *range = from..batch.exemplars.len() as u32;
        }
        Decoded {
            batch,
            rejections: self.rejections,
        }
    }
}
