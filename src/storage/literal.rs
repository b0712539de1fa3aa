//! A store that is a list: the simulated twin of the engine's stores, for tests and for replayed rule tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;

use super::{
    AppendError, AppendReport, Appender, BoxFuture, Columns, ExemplarSeries, NewestBy, Querier, Refusal, RefusalReason,
    Select, Selection, Series, StorageError,
};
use crate::model::{HistogramSample, Labels, Matcher, MetricMetadata, Millis, TimeRange, WriteBatch};

/// An in-memory store that keeps everything, in order, and takes any time.
#[derive(Clone, Default)]
pub struct LiteralStore {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Default)]
struct Inner {
    series: BTreeMap<Labels, BTreeMap<i64, Stored>>,
    metadata: BTreeMap<String, MetricMetadata>,
    version: u64,
}

#[derive(Clone)]
struct Stored {
    start: i64,
    value: StoredValue,
}

#[derive(Clone)]
enum StoredValue {
    Float(f64),
    Histogram(HistogramSample),
}

impl LiteralStore {
    /// Returns an empty store.
    pub fn new() -> LiteralStore {
        LiteralStore::default()
    }

    /// Returns a store with the same samples that goes its own way from now on.
    #[cfg(test)]
    pub(crate) fn deep_copy(&self) -> LiteralStore {
        let copy = LiteralStore::new();
        copy.inner.write().series = self.inner.read().series.clone();
        copy
    }

    /// Takes a float, replacing what was there.
    pub fn put(&self, labels: &Labels, at: Millis, value: f64) {
        self.put_with_start(labels, at, value, 0);
    }

    /// Takes a float whose counter began at `start` (0 = unknown).
    pub fn put_with_start(&self, labels: &Labels, at: Millis, value: f64, start: i64) {
        self.insert(
            labels,
            at.0,
            Stored {
                start,
                value: StoredValue::Float(value),
            },
        );
    }

    /// Takes a histogram that began to count at `start` (0 = unknown).
    pub fn put_histogram(&self, labels: &Labels, sample: HistogramSample, start: i64) {
        self.insert(
            labels,
            sample.at.0,
            Stored {
                start,
                value: StoredValue::Histogram(sample),
            },
        );
    }

    /// Takes metadata of a metric.
    pub fn put_metadata(&self, metadata: MetricMetadata) {
        self.inner.write().metadata.insert(metadata.metric.clone(), metadata);
    }

    fn insert(&self, labels: &Labels, at: i64, stored: Stored) {
        let mut inner = self.inner.write();
        inner.version += 1;
        inner.series.entry(labels.clone()).or_default().insert(at, stored);
    }

    fn matching(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Vec<Labels> {
        let inner = self.inner.read();
        let in_range = |samples: &BTreeMap<i64, Stored>| {
            range.min <= range.max && samples.range(range.min.0..=range.max.0).next().is_some()
        };
        let found = inner.series.iter().filter(|(labels, samples)| {
            (sets.is_empty() || sets.iter().any(|set| matches(labels, set))) && in_range(samples)
        });
        found.map(|(labels, _)| labels.clone()).collect()
    }
}

fn matches(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers
        .iter()
        .all(|matcher| matcher.matches(labels.value(&matcher.name)))
}

struct LiteralSeries {
    store: LiteralStore,
    labels: Labels,
}

impl Series for LiteralSeries {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn columns(&self, range: TimeRange, columns: &mut Columns) -> Result<(), StorageError> {
        columns.clear();
        let inner = self.store.inner.read();
        let Some(samples) = inner.series.get(&self.labels).filter(|_| range.min <= range.max) else {
            return Ok(());
        };
        let (mut started, mut histogram_started) = (false, false);
        for (at, stored) in samples.range(range.min.0..=range.max.0) {
            match &stored.value {
                StoredValue::Float(value) => {
                    columns.times.push(*at);
                    columns.values.push(*value);
                    columns.start_times.push(stored.start);
                    started |= stored.start != 0;
                }
                StoredValue::Histogram(sample) => {
                    columns.histograms.push(sample.clone());
                    columns.histogram_start_times.push(stored.start);
                    histogram_started |= stored.start != 0;
                }
            }
        }
        if !started {
            columns.start_times.clear();
        }
        if !histogram_started {
            columns.histogram_start_times.clear();
        }
        Ok(())
    }
}

impl Querier for LiteralStore {
    fn select(&self, select: &Select) -> Result<Selection, StorageError> {
        let found = self.matching(std::slice::from_ref(&select.matchers), select.range);
        let series = found
            .into_iter()
            .map(|labels| {
                Box::new(LiteralSeries {
                    store: self.clone(),
                    labels,
                }) as Box<dyn Series>
            })
            .collect();
        Ok(Selection {
            series,
            warnings: Vec::new(),
        })
    }

    fn newest_by(&self, select: &Select, names: &[String]) -> Result<Option<NewestBy>, StorageError> {
        NewestBy::of(&self.select(select)?.series, select.range, names)
    }

    fn series(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<Labels>, StorageError> {
        Ok(self.matching(sets, range))
    }

    fn label_names(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError> {
        let found = self.matching(sets, range);
        let names: BTreeSet<&str> = found
            .iter()
            .flat_map(|labels| labels.iter().map(|(name, _)| name))
            .collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn label_values(&self, name: &str, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError> {
        let found = self.matching(sets, range);
        let values: BTreeSet<&str> = found.iter().filter_map(|labels| labels.get(name)).collect();
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    fn metadata(&self) -> Vec<MetricMetadata> {
        self.inner.read().metadata.values().cloned().collect()
    }

    fn exemplars(&self, _sets: &[Vec<Matcher>], _range: TimeRange) -> Result<Vec<ExemplarSeries>, StorageError> {
        Ok(Vec::new())
    }

    fn complete_until(&self) -> Millis {
        Millis::MAX
    }

    fn version(&self, _range: TimeRange) -> u64 {
        self.inner.read().version
    }
}

impl Appender for LiteralStore {
    fn append(&self, batch: WriteBatch) -> BoxFuture<'_, Result<AppendReport, AppendError>> {
        let mut report = AppendReport::default();
        for (index, series) in batch.series.iter().enumerate() {
            let samples = series.samples.start as usize..series.samples.end as usize;
            let histograms = series.histograms.start as usize..series.histograms.end as usize;
            let labels = match batch.labels.labels(index) {
                Ok(labels) => labels,
                Err(error) => {
                    report.refused += (samples.len() + histograms.len()) as u64;
                    let reason = RefusalReason::InvalidLabels(error.reason);
                    report.refusals.push(Refusal {
                        series: error.series,
                        at: None,
                        reason,
                    });
                    continue;
                }
            };
            for at in samples {
                let start = batch.start_times.get(at).map_or(0, |start| start.0);
                self.put_with_start(&labels, batch.samples[at].at, batch.samples[at].value, start);
                report.samples += 1;
            }
            for at in histograms {
                let start = batch.histogram_start_times.get(at).map_or(0, |start| start.0);
                self.put_histogram(&labels, batch.histograms[at].clone(), start);
                report.histograms += 1;
            }
        }
        for metadata in batch.metadata {
            self.put_metadata(metadata);
        }
        Box::pin(std::future::ready(Ok(report)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OwnedSeries, Sample};
    use crate::storage::Hints;

    #[tokio::test]
    async fn a_list_answers_what_was_appended() {
        let store = LiteralStore::new();
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "api")]);
        let samples = (0..5)
            .map(|i| Sample {
                at: Millis(i * 10),
                value: i as f64,
            })
            .collect();
        let batch = WriteBatch::from_series(
            vec![OwnedSeries {
                labels: labels.clone(),
                samples,
            }],
            1,
        );
        assert_eq!(store.append(batch).await.unwrap().samples, 5);
        let range = TimeRange {
            min: Millis(10),
            max: Millis(30),
        };
        let matchers = vec![Matcher::equal("job", "api")];
        let found = store
            .select(&Select {
                matchers,
                range,
                hints: Hints::default(),
            })
            .unwrap();
        let mut columns = Columns::default();
        found.series[0].columns(range, &mut columns).unwrap();
        assert_eq!((columns.times, columns.values), (vec![10, 20, 30], vec![1.0, 2.0, 3.0]));
        assert_eq!(store.label_values("job", &[], TimeRange::ALL).unwrap(), ["api"]);
    }
}
