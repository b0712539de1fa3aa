//! Queries over 4,000 series × 10 h at 15 s, as dashboards and rules ask them.
//!
//! The store is columns in memory: what is measured is the engine. Ids read `query/<what>/<kind>`; throughput is in samples that
//! the query's windows cover at least once.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use campanile::model::{Interval, Labels, Matcher, MetricMetadata, Millis, Sample, TimeRange};
use campanile::query::{Engine, QueryOptions, parse};
use campanile::storage::{Columns, ExemplarSeries, Point, Querier, Select, Selection, Series, StorageError};
use criterion::{Criterion, criterion_group, criterion_main};

const SERIES: usize = 4_000;
const SCRAPE: i64 = 15_000;
const END: i64 = 10 * 3_600_000;

/// Series as plain columns.
struct ColumnStore {
    by_name: BTreeMap<String, Vec<Arc<Stored>>>,
}

struct Stored {
    labels: Labels,
    times: Arc<Vec<i64>>,
    values: Vec<f64>,
}

struct Found(Arc<Stored>);

impl Series for Found {
    fn labels(&self) -> Labels {
        self.0.labels.clone()
    }

    fn columns(&self, range: TimeRange, columns: &mut Columns) -> Result<(), StorageError> {
        columns.clear();
        let from = self.0.times.partition_point(|at| *at < range.min.0);
        let to = self.0.times.partition_point(|at| *at <= range.max.0);
        columns.times.extend_from_slice(&self.0.times[from..to]);
        columns.values.extend_from_slice(&self.0.values[from..to]);
        Ok(())
    }

    fn latest(&self, range: TimeRange) -> Result<Option<Point>, StorageError> {
        let to = self.0.times.partition_point(|at| *at <= range.max.0);
        let at = to.checked_sub(1).filter(|at| self.0.times[*at] >= range.min.0);
        Ok(at.map(|at| {
            Point::Float(Sample {
                at: Millis(self.0.times[at]),
                value: self.0.values[at],
            })
        }))
    }
}

impl Querier for ColumnStore {
    fn select(&self, select: &Select) -> Result<Selection, StorageError> {
        let name = select.matchers.iter().find(|matcher| matcher.name == "__name__");
        let named = name.and_then(|matcher| self.by_name.get(&matcher.value));
        let rest: Vec<&Matcher> = select
            .matchers
            .iter()
            .filter(|matcher| matcher.name != "__name__")
            .collect();
        let fits = |stored: &&Arc<Stored>| {
            rest.iter()
                .all(|matcher| matcher.matches(stored.labels.value(&matcher.name)))
        };
        let series = named.into_iter().flatten().filter(fits);
        Ok(Selection {
            series: series
                .map(|stored| Box::new(Found(Arc::clone(stored))) as Box<dyn Series>)
                .collect(),
            warnings: Vec::new(),
        })
    }

    fn series(&self, _: &[Vec<Matcher>], _: TimeRange) -> Result<Vec<Labels>, StorageError> {
        Ok(Vec::new())
    }

    fn label_names(&self, _: &[Vec<Matcher>], _: TimeRange) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Vec<Matcher>], _: TimeRange) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }

    fn metadata(&self) -> Vec<MetricMetadata> {
        Vec::new()
    }

    fn exemplars(&self, _: &[Vec<Matcher>], _: TimeRange) -> Result<Vec<ExemplarSeries>, StorageError> {
        Ok(Vec::new())
    }

    fn complete_until(&self) -> Millis {
        Millis(END)
    }

    fn version(&self, _: TimeRange) -> u64 {
        0
    }
}

/// A seeded generator: the same data at each run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// 3,000 counters, 500 gauges and 50 classic histograms with ten buckets, over 50 hosts.
fn store() -> ColumnStore {
    let times: Arc<Vec<i64>> = Arc::new((0..=END / SCRAPE).map(|at| at * SCRAPE).collect());
    let mut noise = Noise(7);
    let mut all: Vec<Stored> = Vec::new();
    for index in 0..SERIES {
        let host = format!("host-{}", index % 50);
        let mut labels = vec![("instance", host), ("job", format!("job-{}", index % 5))];
        let mut value = 0.0;
        let values = match index {
            0..3_000 => {
                labels.push(("__name__", "requests_total".to_owned()));
                labels.push(("path", format!("/p{}", index / 50)));
                labels.push(("code", if index % 7 == 0 { "500" } else { "200" }.to_owned()));
                let step = |_: &i64| {
                    value = if noise.below(5_000) == 0 {
                        0.0
                    } else {
                        value + noise.below(40) as f64
                    };
                    value
                };
                times.iter().map(step).collect()
            }
            3_000..3_500 => {
                labels.push(("__name__", "load".to_owned()));
                labels.push(("cpu", (index / 50).to_string()));
                times.iter().map(|_| noise.below(1_000) as f64 / 100.0).collect()
            }
            _ => {
                let bucket = index % 10;
                labels.push(("__name__", "latency_bucket".to_owned()));
                labels.push(("handler", format!("h{}", (index - 3_500) / 10)));
                labels[0].1 = format!("host-{}", (index - 3_500) / 10 % 50);
                labels[1].1 = "job-1".to_owned();
                let bound = if bucket == 9 {
                    "+Inf".to_owned()
                } else {
                    format!("0.{bucket}5")
                };
                labels.push(("le", bound));
                let step = |_: &i64| {
                    value += (noise.below(5) * (bucket as u64 + 1)) as f64;
                    value
                };
                times.iter().map(step).collect()
            }
        };
        let labels = Labels::from_pairs(labels);
        let times = Arc::clone(&times);
        all.push(Stored { labels, times, values });
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut by_name: BTreeMap<String, Vec<Arc<Stored>>> = BTreeMap::new();
    for stored in all {
        let name = stored.labels.metric_name().unwrap_or_default().to_owned();
        by_name.entry(name).or_default().push(Arc::new(stored));
    }
    ColumnStore { by_name }
}

/// The set: name, query, and the range of the query in hours (0: an instant).
const QUERIES: [(&str, &str, i64); 22] = [
    (
        "groupby-1-1-1",
        r#"max by (cpu) (max_over_time(load{instance="host-1",cpu="60"}[1m]))"#,
        1,
    ),
    (
        "groupby-1-8-1",
        r#"max by (instance) (max_over_time(load{instance=~"host-1|host-2|host-3|host-4|host-5|host-6|host-7|host-8"}[1m]))"#,
        1,
    ),
    ("groupby-all-10", "avg by (instance) (avg_over_time(load[5m]))", 10),
    ("lastpoint", "requests_total", 0),
    ("count", "count(requests_total)", 0),
    ("topk", "topk(5, sum by (path) (rate(requests_total[5m])))", 1),
    ("topk-series", "topk(10, rate(requests_total[5m]))", 10),
    ("rate-1h", "sum by (job) (rate(requests_total[5m]))", 1),
    ("rate-all", "sum(rate(requests_total[5m]))", 10),
    ("rate-series", "rate(requests_total[5m])", 1),
    ("increase-1h-window", "sum by (path) (increase(requests_total[1h]))", 10),
    (
        "errors",
        r#"sum(rate(requests_total{code=~"5.."}[5m])) / sum(rate(requests_total[5m]))"#,
        10,
    ),
    (
        "shared",
        "sum by (job) (rate(requests_total[5m])) / count by (job) (rate(requests_total[5m]))",
        10,
    ),
    ("quantile-over-time", "max(quantile_over_time(0.9, load[10m]))", 10),
    ("quantile", "quantile by (job) (0.95, load)", 10),
    ("stddev", "stddev by (job) (load)", 10),
    (
        "histogram",
        "histogram_quantile(0.95, sum by (le) (rate(latency_bucket[5m])))",
        10,
    ),
    (
        "histogram-by",
        "histogram_quantile(0.95, sum by (le, handler) (rate(latency_bucket[5m])))",
        10,
    ),
    (
        "regex",
        r#"sum(rate(requests_total{path=~"/p[1-3].*",code!~"5.."}[5m]))"#,
        10,
    ),
    ("subquery", "max_over_time(sum(rate(requests_total[5m]))[1h:1m])", 1),
    (
        "join",
        "load * on (instance, job) group_left () sum by (instance, job) (rate(requests_total[5m]))",
        10,
    ),
    ("cheap", r#"load{instance="host-1",cpu="60"}"#, 0),
];

fn queries(criterion: &mut Criterion) {
    let store = store();
    let options = QueryOptions::default();
    let mut group = criterion.benchmark_group("query");
    group.sample_size(10);
    for (name, text, hours) in QUERIES {
        let expr = parse(text).expect("the set's queries parse");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let output = match hours {
                    0 => Engine.instant(&store, &expr, Millis(END), &options),
                    _ => Engine.range(
                        &store,
                        &expr,
                        Millis(END - hours * 3_600_000),
                        Millis(END),
                        Interval::mins(1),
                        &options,
                    ),
                };
                black_box(output.expect("the set's queries have answers"))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
