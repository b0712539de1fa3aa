//! A request on its way in: checked against the clock, looked up as a whole, encoded; then the committer has it.

use tokio::sync::oneshot;

use super::commit::Submission;
use super::db::Db;
use super::head::{Applied, NONE, NoSeries, Series};
use super::metrics;
use super::record::{ExemplarRecord, HistogramRecord, Record, SamplesRecord};
use crate::io::log::LogError;
use crate::model::{Interval, Labels, Millis, WriteBatch};
use crate::storage::{AppendError, AppendReport, Appender, BoxFuture, REFUSALS_MAX, Refusal, RefusalReason};

/// How far ahead of the server's clock a sample may be.
const AHEAD_MAX: Interval = Interval(10 * 60_000);

/// The times that are taken now.
struct Bounds {
    now: Millis,
    min: Millis,
    max: Millis,
    retention: Interval,
}

impl Bounds {
    fn refuse(&self, at: Millis) -> Option<RefusalReason> {
        if at > self.max {
            let ahead = Interval(at.0.saturating_sub(self.now.0));
            return Some(RefusalReason::TooFarAhead {
                ahead,
                limit: AHEAD_MAX,
            });
        }
        (at < self.min).then_some(RefusalReason::BeyondRetention {
            retention: self.retention,
        })
    }
}

impl Appender for Db {
    fn append(&self, batch: WriteBatch) -> BoxFuture<'_, Result<AppendReport, AppendError>> {
        Box::pin(async move {
            let (mut report, answered) = self.enqueue(batch)?;
            let Some(answered) = answered else { return Ok(report) };
            let applied = match answered.await {
                Ok(Ok(applied)) => applied,
                Ok(Err(error)) => return Err(append_error(error)),
                Err(_) => return Err(AppendError::Closed("the store is shutting down".to_owned())),
            };
            add(&mut report, applied);
            Ok(report)
        })
    }
}

pub(super) fn append_error(error: LogError) -> AppendError {
    match error {
        LogError::DiskFull(text) => AppendError::DiskFull(text),
        LogError::Full(text) => AppendError::Overloaded(text),
        LogError::Closed(text) | LogError::Read(text) => AppendError::Closed(text),
    }
}

fn add(report: &mut AppendReport, applied: Applied) {
    report.samples += applied.samples;
    report.histograms += applied.histograms;
    report.exemplars += applied.exemplars;
    report.duplicates += applied.duplicates;
    report.refused += applied.refused;
    report.refusals.extend(applied.refusals);
    report.refusals.truncate(REFUSALS_MAX);
}

type Answer = oneshot::Receiver<Result<Applied, LogError>>;

impl Db {
    fn bounds(&self) -> Bounds {
        let now = self.clock.now();
        let retention = self.config.retention;
        let keeps_all = retention == Interval::ZERO;
        Bounds {
            now,
            min: if keeps_all {
                Millis::MIN
            } else {
                now.saturating_sub(retention)
            },
            max: now.saturating_add(AHEAD_MAX),
            retention,
        }
    }

    /// Looks the batch up and queues it. What is refused already stands in the report; no answer comes when nothing is left.
    fn enqueue(&self, batch: WriteBatch) -> Result<(AppendReport, Option<Answer>), AppendError> {
        let mut report = AppendReport::default();
        let bounds = self.bounds();
        let _entered = self.committer.enter();
        let mut created = |series: &Series, labels: &Labels| {
            metrics::SERIES_CREATED.inc();
            self.head.watchers.created(series, labels);
        };
        let (mut refs, refused) = self.head.table.look_up(&batch, &mut created);
        for (index, reason) in refused {
            let series = &batch.series[index];
            report.refused += (series.samples.len() + series.histograms.len()) as u64;
            let (series, reason) = match reason {
                NoSeries::Labels(error) => (error.series, RefusalReason::InvalidLabels(error.reason)),
                NoSeries::Limit(labels, text) => (labels.to_string(), RefusalReason::Limit(text)),
            };
            refuse(&mut report, series, None, reason);
        }
        let outside = |at: Millis| at < bounds.min || at > bounds.max;
        let any_outside = batch.samples.iter().any(|sample| outside(sample.at));
        let contiguous = is_contiguous(&batch, &refs);
        let metadata = self.head.new_metadata(batch.metadata.clone());
        let others = self.others(&batch, &mut refs, &bounds, &mut report, metadata);
        let samples = if contiguous && !any_outside {
            let series = batch
                .series
                .iter()
                .zip(&refs)
                .filter(|(series, _)| !series.samples.is_empty());
            SamplesRecord {
                series: series.map(|(series, id)| (*id, series.samples.len() as u32)).collect(),
                samples: batch.samples,
                starts: batch.start_times,
            }
        } else {
            self.pick(&batch, &refs, &bounds, &mut report)
        };
        if samples.samples.is_empty() && others.is_empty() {
            metrics::REFUSED.add(report.refused);
            return Ok((report, None));
        }
        metrics::REFUSED.add(report.refused);
        let base = self.committer.base();
        let mut frames = Vec::with_capacity(1 + others.len());
        if !samples.samples.is_empty() {
            frames.push((super::record::SAMPLES, super::record::encode_samples(&samples, base)));
        }
        frames.extend(others.iter().map(|record| record.encode(base)));
        let (answer, answered) = oneshot::channel();
        let submission = Submission {
            samples,
            others,
            frames,
            answer,
        };
        self.committer.submit(submission).map_err(append_error)?;
        Ok((report, Some(answered)))
    }

    /// Picks the samples that are taken out of a batch of which some are not.
    fn pick(&self, batch: &WriteBatch, refs: &[u32], bounds: &Bounds, report: &mut AppendReport) -> SamplesRecord {
        let mut record = SamplesRecord::default();
        for (series, id) in batch.series.iter().zip(refs).filter(|(_, id)| **id != NONE) {
            let before = record.samples.len();
            for index in series.samples.start as usize..series.samples.end as usize {
                let sample = batch.samples[index];
                match bounds.refuse(sample.at) {
                    Some(reason) => {
                        report.refused += 1;
                        refuse(report, self.name(*id), Some(sample.at), reason);
                    }
                    None => {
                        record.samples.push(sample);
                        record.starts.extend(batch.start_times.get(index));
                    }
                }
            }
            let taken = (record.samples.len() - before) as u32;
            if taken > 0 {
                record.series.push((*id, taken));
            }
        }
        record
    }

    /// Collects what is no float sample.
    fn others(
        &self,
        batch: &WriteBatch,
        refs: &mut [u32],
        bounds: &Bounds,
        report: &mut AppendReport,
        metadata: Vec<crate::model::MetricMetadata>,
    ) -> Vec<Record> {
        let (mut histograms, mut exemplars) = (Vec::new(), Vec::new());
        if !batch.histograms.is_empty() || !batch.exemplars.is_empty() {
            for (series, id) in batch.series.iter().zip(refs.iter()).filter(|(_, id)| **id != NONE) {
                for index in series.histograms.start as usize..series.histograms.end as usize {
                    let sample = &batch.histograms[index];
                    if let Some(reason) = bounds.refuse(sample.at) {
                        report.refused += 1;
                        refuse(report, self.name(*id), Some(sample.at), reason);
                        continue;
                    }
                    let start = batch.histogram_start_times.get(index).copied().unwrap_or_default();
                    histograms.push(HistogramRecord {
                        series: *id,
                        start,
                        sample: sample.clone(),
                    });
                }
                for exemplar in &batch.exemplars[series.exemplars.start as usize..series.exemplars.end as usize] {
                    if bounds.refuse(exemplar.at).is_none() {
                        exemplars.push(ExemplarRecord {
                            series: *id,
                            exemplar: exemplar.clone(),
                        });
                    }
                }
            }
        }
        let mut records = Vec::new();
        if !histograms.is_empty() {
            records.push(Record::Histograms(histograms));
        }
        if !exemplars.is_empty() {
            records.push(Record::Exemplars(exemplars));
        }
        if !metadata.is_empty() {
            records.push(Record::Metadata(metadata));
        }
        records
    }

    fn name(&self, id: u32) -> String {
        let table = self.head.table.read();
        table
            .get(id)
            .map_or_else(String::new, |series| table.labels(series).to_string())
    }
}

fn refuse(report: &mut AppendReport, series: String, at: Option<Millis>, reason: RefusalReason) {
    if report.refusals.len() < REFUSALS_MAX {
        report.refusals.push(Refusal { series, at, reason });
    }
}

/// Whether the batch's samples stand in the order of its series, all of which are taken: then they need no copying.
fn is_contiguous(batch: &WriteBatch, refs: &[u32]) -> bool {
    let mut next = 0;
    let in_order = batch.series.iter().zip(refs).all(|(series, id)| {
        let follows = *id != NONE && (series.samples.is_empty() || series.samples.start == next);
        next = if series.samples.is_empty() {
            next
        } else {
            series.samples.end
        };
        follows
    });
    in_order && next as usize == batch.samples.len()
}
