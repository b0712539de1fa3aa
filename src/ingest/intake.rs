//! The intake itself: from a decoded body to durable samples, and a count of everything that was turned away.
//!
//! A bad series never disturbs a good one: what is too far ahead of the clock is taken out here, what has bad labels or
//! comes too late is refused by the store, and the answer lists both. Only a body that cannot be read at all, or is over
//! a limit as a whole, is refused as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::admission::{Admission, retain};
use super::config::IngestConfig;
use super::metrics::{IN_FLIGHT, LEFT_OUT, LIMIT_REFUSED, REJECTED, SAMPLES, SKIPPED, reason_word};
use super::otlp::Otlp;
use super::sources::{Entry, Source, SourceReport, Sources};
use super::{DecodeError, IngestLimits, Protocol};
use crate::io::Clock;
use crate::model::{LabelSource, Millis, WriteBatch};
use crate::storage::{AppendError, AppendReport, Appender, REFUSALS_MAX, Refusal, RefusalReason};

/// A body as its format's decoder leaves it.
pub struct Decoded {
    /// What can be stored.
    pub batch: WriteBatch,
    /// What the decoder had to leave out.
    pub rejections: Rejections,
}

/// Samples turned away before the store: how many, and the first few in full.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rejections {
    /// Samples and histograms turned away.
    pub total: u64,
    /// The first of them, at most [`REFUSALS_MAX`].
    pub first: Vec<Refusal>,
    /// How many for each reason's word.
    by_reason: Vec<(&'static str, u64)>,
}

impl Rejections {
    /// Adds a refusal that cost `samples` samples; `series` is spelled out only for the first few.
    pub fn add(&mut self, samples: u64, series: impl FnOnce() -> String, at: Option<Millis>, reason: RefusalReason) {
        self.total += samples;
        let word = reason_word(&reason);
        match self.by_reason.iter_mut().find(|(found, _)| *found == word) {
            Some((_, count)) => *count += samples.max(1),
            None => self.by_reason.push((word, samples.max(1))),
        }
        if self.first.len() < REFUSALS_MAX {
            let series = series();
            self.first.push(Refusal { series, at, reason });
        }
    }

    fn merge_into(self, report: &mut AppendReport) {
        report.refused += self.total;
        let mut refusals = self.first;
        refusals.append(&mut report.refusals);
        refusals.truncate(REFUSALS_MAX);
        report.refusals = refusals;
    }
}

/// What became of a request's samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// What is durable, and what was refused.
    pub report: AppendReport,
    /// Samples that the other sender of a pair has sent, or will: not stored, and no error.
    pub deduplicated: u64,
    /// Samples that `write_relabel_configs` leave out.
    pub relabelled: u64,
}

/// Where every push format goes in.
pub struct Intake {
    appender: Arc<dyn Appender>,
    clock: Arc<dyn Clock>,
    seed: u64,
    limits: IngestLimits,
    in_flight_bytes: AtomicUsize,
    admission: Admission,
    otlp: Otlp,
    sources: Sources,
}

impl Intake {
    /// Builds the intake of `appender`; `seed` is the process's secret seed for series keys.
    pub fn new(appender: Arc<dyn Appender>, clock: Arc<dyn Clock>, seed: u64, limits: IngestLimits) -> Intake {
        Intake {
            appender,
            clock,
            seed,
            limits,
            in_flight_bytes: AtomicUsize::new(0),
            admission: Admission::new(&[], None),
            otlp: Otlp::new(super::otlp::OtlpConfig::default()),
            sources: Sources::default(),
        }
    }

    /// Puts the rules of `config` into force.
    #[must_use]
    pub fn with(self, config: &IngestConfig) -> Intake {
        Intake {
            admission: Admission::new(&config.write_relabel_configs, config.ha.clone()),
            otlp: Otlp::new(config.otlp.clone()),
            ..self
        }
    }

    /// Returns what is kept between OTLP requests.
    pub fn otlp(&self) -> &Otlp {
        &self.otlp
    }

    /// Returns who sends how much, the busiest first.
    pub fn sources(&self) -> Vec<SourceReport> {
        self.sources.report()
    }

    /// Returns the limits.
    pub fn limits(&self) -> &IngestLimits {
        &self.limits
    }

    /// Returns the process's seed for series keys.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the server's wall time: the time of samples that bring none.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Takes `bytes` of the budget for decoding until the reservation is dropped.
    ///
    /// # Errors
    /// [`DecodeError::Busy`] when the budget is used up: the sender should come back soon.
    pub fn reserve(self: &Arc<Intake>, bytes: usize) -> Result<Reservation, DecodeError> {
        let max = self.limits.in_flight_bytes_max;
        let before = self.in_flight_bytes.fetch_add(bytes, Relaxed);
        let reservation = Reservation {
            intake: Arc::clone(self),
            bytes,
        };
        IN_FLIGHT.set((before + bytes) as f64);
        // One request alone always fits: its own size is limited elsewhere.
        if before > 0 && before.saturating_add(bytes) > max {
            return Err(DecodeError::Busy(format!(
                "over the limit in_flight_bytes_max = {max}: {before} bytes are being decoded, this request takes {bytes}"
            )));
        }
        Ok(reservation)
    }

    /// Counts a request that was refused as a whole.
    pub fn count_refused(&self, protocol: Protocol, source: &Source, error: &DecodeError) {
        REJECTED.inc(&[protocol.as_str(), error.reason()]);
        match error {
            DecodeError::TooLarge { limit, .. } => LIMIT_REFUSED.inc(&[limit]),
            DecodeError::Busy(_) => LIMIT_REFUSED.inc(&["in_flight_bytes_max"]),
            DecodeError::Malformed(_) | DecodeError::Unsupported(_) => {}
        }
        let entry = Entry {
            refused: vec![(error.reason(), 1)],
            error: Some(error.to_string()),
            ..Entry::default()
        };
        self.sources.enter(source, protocol, entry, self.clock.now());
    }

    /// Counts parts of a request that are no samples.
    pub fn count_skipped(&self, protocol: Protocol, what: &str, many: u64) {
        SKIPPED.add(&[protocol.as_str(), what], many);
    }

    /// Notes lines whose sender gets no answer: how many were taken, how many were not and why.
    pub fn count_lines(
        &self,
        protocol: Protocol,
        source: &Source,
        taken: u64,
        refused: Vec<(&'static str, u64)>,
        error: Option<String>,
    ) {
        for (reason, many) in &refused {
            REJECTED.add(&[protocol.as_str(), reason], *many);
        }
        let entry = Entry {
            samples: taken,
            refused,
            error,
            ..Entry::default()
        };
        self.sources.enter(source, protocol, entry, self.clock.now());
    }

    /// Stores what was decoded. Durable when this resolves; the report lists what was refused and why.
    ///
    /// # Errors
    /// [`AppendError`] when nothing can be promised and a retry may help.
    pub async fn take(&self, protocol: Protocol, source: &Source, decoded: Decoded) -> Result<Taken, AppendError> {
        let Decoded {
            mut batch,
            mut rejections,
        } = decoded;
        let now = self.clock.now();
        leave_out_future(&mut batch, now, &self.limits, &mut rejections);
        let left_out = self.admission.apply(&mut batch, now);
        self.leave_out_beyond(&mut batch, protocol, source, &mut rejections);
        let mut report = self.appender.append(batch).await?;
        let word = protocol.as_str();
        SAMPLES.add(&[word], report.samples + report.histograms);
        LEFT_OUT.add(&[word, "relabelled"], left_out.relabelled);
        LEFT_OUT.add(&[word, "replica"], left_out.replica);
        let refused = count(word, &rejections, &report);
        rejections.merge_into(&mut report);
        let first = report.refusals.first();
        let entry = Entry {
            samples: report.samples + report.histograms,
            left_out: left_out.relabelled + left_out.replica,
            refused,
            error: first.map(|first| format!("{}: series {}", first.reason, first.series)),
        };
        self.sources.enter(source, protocol, entry, now);
        Ok(Taken {
            report,
            deduplicated: left_out.replica,
            relabelled: left_out.relabelled,
        })
    }

    /// Counts the source's series, and takes those out that are beyond its limit.
    fn leave_out_beyond(
        &self,
        batch: &mut WriteBatch,
        protocol: Protocol,
        source: &Source,
        rejections: &mut Rejections,
    ) {
        let keys = batch.series.iter().map(|series| series.key);
        let beyond = self
            .sources
            .count_series(source, protocol, keys, &self.limits, self.clock.now());
        if !beyond.contains(&true) {
            return;
        }
        let max = self.limits.source_series_max;
        for (index, series) in batch.series.iter().enumerate().filter(|(index, _)| beyond[*index]) {
            let many = (series.samples.len() + series.histograms.len()) as u64;
            let text = format!(
                "over the limit source_series_max = {max}: source {:?} sends that many series already",
                source.name
            );
            rejections.add(many, || shown(&*batch.labels, index), None, RefusalReason::Limit(text));
            LIMIT_REFUSED.add(&["source_series_max"], many);
        }
        let keep: Vec<bool> = beyond.iter().map(|beyond| !beyond).collect();
        retain(batch, &keep);
    }
}

/// The store spells out only its first refusals; the rest are counted without a reason.
/// Returns how many of each reason there were.
fn count(protocol: &str, rejections: &Rejections, report: &AppendReport) -> Vec<(&'static str, u64)> {
    let mut refused = rejections.by_reason.clone();
    refused.extend(report.refusals.iter().map(|refusal| (reason_word(&refusal.reason), 1)));
    let full =
        |refusal: &&Refusal| matches!(&refusal.reason, RefusalReason::Limit(text) if text.contains("active_series is"));
    LIMIT_REFUSED.add(&["active_series"], report.refusals.iter().filter(full).count() as u64);
    let unlisted = report.refused.saturating_sub(report.refusals.len() as u64);
    if unlisted > 0 {
        refused.push(("unlisted", unlisted));
    }
    for (word, samples) in &refused {
        REJECTED.add(&[protocol, word], *samples);
        if *word == "too_far_ahead" {
            LIMIT_REFUSED.add(&["future_max"], *samples);
        }
    }
    refused
}

/// A part of the decoding budget; given back when dropped.
pub struct Reservation {
    intake: Arc<Intake>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let before = self.intake.in_flight_bytes.fetch_sub(self.bytes, Relaxed);
        IN_FLIGHT.set(before.saturating_sub(self.bytes) as f64);
    }
}

/// Takes samples beyond `now + future_max` out of the batch; the others of their series stay.
fn leave_out_future(batch: &mut WriteBatch, now: Millis, limits: &IngestLimits, rejections: &mut Rejections) {
    let latest = now + limits.future_max;
    let floats_fine = batch.samples.iter().all(|sample| sample.at <= latest);
    if floats_fine && batch.histograms.iter().all(|sample| sample.at <= latest) {
        return;
    }
    let labels = Arc::clone(&batch.labels);
    let (mut samples, mut starts) = (Vec::new(), Vec::new());
    let (mut histograms, mut histogram_starts) = (Vec::new(), Vec::new());
    for (index, series) in batch.series.iter_mut().enumerate() {
        let mut refuse = |at: Millis| {
            let reason = RefusalReason::TooFarAhead {
                ahead: at - now,
                limit: limits.future_max,
            };
            rejections.add(1, || shown(&*labels, index), Some(at), reason);
        };
        let from = samples.len() as u32;
        for i in series.samples.start as usize..series.samples.end as usize {
            if batch.samples[i].at > latest {
                refuse(batch.samples[i].at);
                continue;
            }
            samples.push(batch.samples[i]);
            starts.extend(batch.start_times.get(i));
        }
        series.samples = from..samples.len() as u32;
        let from = histograms.len() as u32;
        for i in series.histograms.start as usize..series.histograms.end as usize {
            if batch.histograms[i].at > latest {
                refuse(batch.histograms[i].at);
                continue;
            }
            histograms.push(batch.histograms[i].clone());
            histogram_starts.extend(batch.histogram_start_times.get(i));
        }
        series.histograms = from..histograms.len() as u32;
    }
    (batch.samples, batch.start_times) = (samples, starts);
    (batch.histograms, batch.histogram_start_times) = (histograms, histogram_starts);
}

fn shown(labels: &dyn LabelSource, index: usize) -> String {
    match labels.labels(index) {
        Ok(labels) => labels.to_string(),
        Err(error) => error.series,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimClock;
    use crate::model::{Interval, Labels, OwnedSeries, Sample, TimeRange};
    use crate::storage::{LiteralStore, Querier};

    fn intake(store: &LiteralStore, limits: IngestLimits) -> Arc<Intake> {
        let clock = SimClock::at(Millis(1_000_000));
        Arc::new(Intake::new(Arc::new(store.clone()), Arc::new(clock), 7, limits))
    }

    fn decoded(name: &str, times: &[i64]) -> Decoded {
        let samples = times
            .iter()
            .map(|at| Sample {
                at: Millis(*at),
                value: 1.0,
            })
            .collect();
        let labels = Labels::from_pairs([("__name__", name)]);
        Decoded {
            batch: WriteBatch::from_series(vec![OwnedSeries { labels, samples }], 7),
            rejections: Rejections::default(),
        }
    }

    #[tokio::test]
    async fn a_sample_from_the_future_is_refused_and_the_rest_kept() {
        let store = LiteralStore::new();
        let intake = intake(&store, IngestLimits::default());
        let report = intake
            .take(
                Protocol::RemoteWrite1,
                &Source::ourselves(),
                decoded("up", &[1, 1_600_000, 1_600_001, 2]),
            )
            .await
            .unwrap()
            .report;
        assert_eq!((report.samples, report.refused), (3, 1));
        let refusal = &report.refusals[0];
        assert_eq!((refusal.series.as_str(), refusal.at), ("up", Some(Millis(1_600_001))));
        assert_eq!(
            refusal.reason.to_string(),
            "10m1ms ahead of the server's clock, the limit is 10m"
        );
        assert_eq!(store.series(&[], TimeRange::ALL).unwrap().len(), 1);
    }

    #[test]
    fn the_decoding_budget_is_given_back() {
        let limits = IngestLimits {
            in_flight_bytes_max: 100,
            future_max: Interval(0),
            ..IngestLimits::default()
        };
        let intake = intake(&LiteralStore::new(), limits);
        let first = intake.reserve(200).unwrap();
        assert!(matches!(intake.reserve(1), Err(DecodeError::Busy(_))));
        drop(first);
        assert!(intake.reserve(60).is_ok() && intake.reserve(100).is_ok());
    }
}
