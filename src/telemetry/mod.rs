//! How every module is watched: counters, gauges and histograms as statics, written out in Prometheus's text format.
//!
//! A module lists its metrics in one `METRICS` table; `server` hands all tables to [`exposition`]. Label values come from
//! closed or configured sets (receivers, limits, handlers), never from requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Anything that can write itself into a scrape.
pub trait Metric: Sync {
    /// Returns name, type and help text.
    fn describe(&self) -> Description;
    /// Appends the samples, one line each.
    fn write(&self, out: &mut String);
}

/// What the `# HELP` and `# TYPE` lines say.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Full metric name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// One sentence that ends in a full stop.
    pub help: &'static str,
}

/// A number that only grows.
pub struct Counter {
    name: &'static str,
    help: &'static str,
    value: AtomicU64,
}

impl Counter {
    /// Declares a counter; the name ends in `_total`.
    pub const fn new(name: &'static str, help: &'static str) -> Counter {
        Counter {
            name,
            help,
            value: AtomicU64::new(0),
        }
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.value.fetch_add(n, Relaxed);
    }

    /// Returns the present value.
    pub fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

impl Metric for Counter {
    fn describe(&self) -> Description {
        Description {
            name: self.name,
            kind: "counter",
            help: self.help,
        }
    }

    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "{} {}", self.name, self.get());
    }
}

/// A number that goes up and down.
pub struct Gauge {
    name: &'static str,
    help: &'static str,
    bits: AtomicU64,
}

impl Gauge {
    /// Declares a gauge.
    pub const fn new(name: &'static str, help: &'static str) -> Gauge {
        Gauge {
            name,
            help,
            bits: AtomicU64::new(0),
        }
    }

    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Relaxed);
    }

    /// Adds `delta`, which may be negative.
    pub fn add(&self, delta: f64) {
        let _ = self
            .bits
            .fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + delta).to_bits()));
    }

    /// Returns the present value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.bits.load(Relaxed))
    }
}

impl Metric for Gauge {
    fn describe(&self) -> Description {
        Description {
            name: self.name,
            kind: "gauge",
            help: self.help,
        }
    }

    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "{} {}", self.name, self.get());
    }
}

/// A counter for each combination of label values.
pub struct CounterVec {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    values: Mutex<BTreeMap<Vec<String>, u64>>,
}

impl CounterVec {
    /// Declares a family of counters.
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> CounterVec {
        CounterVec {
            name,
            help,
            labels,
            values: Mutex::new(BTreeMap::new()),
        }
    }

    /// Adds `n` to the counter with these label values, creating it.
    pub fn add(&self, values: &[&str], n: u64) {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        let mut counters = self.values.lock();
        *counters
            .entry(values.iter().map(|value| (*value).to_owned()).collect())
            .or_insert(0) += n;
    }

    /// Adds one.
    pub fn inc(&self, values: &[&str]) {
        self.add(values, 1);
    }

    /// Returns the counter with these label values, 0 when it was never touched.
    pub fn get(&self, values: &[&str]) -> u64 {
        let key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        self.values.lock().get(&key).copied().unwrap_or(0)
    }
}

impl Metric for CounterVec {
    fn describe(&self) -> Description {
        Description {
            name: self.name,
            kind: "counter",
            help: self.help,
        }
    }

    fn write(&self, out: &mut String) {
        for (values, count) in self.values.lock().iter() {
            let _ = writeln!(out, "{}{} {count}", self.name, label_block(self.labels, values, None));
        }
    }
}

/// A gauge for each combination of label values.
pub struct GaugeVec {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    values: Mutex<BTreeMap<Vec<String>, f64>>,
}

impl GaugeVec {
    /// Declares a family of gauges.
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> GaugeVec {
        GaugeVec {
            name,
            help,
            labels,
            values: Mutex::new(BTreeMap::new()),
        }
    }

    /// Sets the gauge with these label values, creating it.
    pub fn set(&self, values: &[&str], to: f64) {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        self.values
            .lock()
            .insert(values.iter().map(|value| (*value).to_owned()).collect(), to);
    }

    /// Removes the gauges that `keep` refuses: a rule group or receiver that is gone leaves no line behind.
    pub fn retain(&self, mut keep: impl FnMut(&[String]) -> bool) {
        self.values.lock().retain(|values, _| keep(values));
    }
}

impl Metric for GaugeVec {
    fn describe(&self) -> Description {
        Description {
            name: self.name,
            kind: "gauge",
            help: self.help,
        }
    }

    fn write(&self, out: &mut String) {
        for (values, value) in self.values.lock().iter() {
            let _ = writeln!(out, "{}{} {value}", self.name, label_block(self.labels, values, None));
        }
    }
}

/// How many buckets a histogram may have.
const BUCKETS_MAX: usize = 24;

/// Observations counted by size, in base units (seconds, bytes).
pub struct Histogram {
    name: &'static str,
    help: &'static str,
    bounds: &'static [f64],
    /// One count for each bound, and the last for +Inf.
    counts: [AtomicU64; BUCKETS_MAX + 1],
    sum_bits: AtomicU64,
}

/// Bounds for latencies, in seconds: 100 µs to 10 s.
pub const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

impl Histogram {
    /// Declares a histogram over `bounds`, which rise.
    pub const fn new(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Histogram {
        assert!(bounds.len() <= BUCKETS_MAX);
        Histogram {
            name,
            help,
            bounds,
            counts: [const { AtomicU64::new(0) }; BUCKETS_MAX + 1],
            sum_bits: AtomicU64::new(0),
        }
    }

    /// Counts one observation.
    pub fn observe(&self, value: f64) {
        let bucket = self
            .bounds
            .iter()
            .position(|bound| value <= *bound)
            .unwrap_or(self.bounds.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        let _ = self
            .sum_bits
            .fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + value).to_bits()));
    }
}

impl Metric for Histogram {
    fn describe(&self) -> Description {
        Description {
            name: self.name,
            kind: "histogram",
            help: self.help,
        }
    }

    fn write(&self, out: &mut String) {
        let mut total = 0;
        for (bucket, count) in self.counts[..=self.bounds.len()].iter().enumerate() {
            total += count.load(Relaxed);
            let bound = self
                .bounds
                .get(bucket)
                .map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let _ = writeln!(out, "{}_bucket{{le=\"{bound}\"}} {total}", self.name);
        }
        let _ = writeln!(out, "{}_sum {}", self.name, f64::from_bits(self.sum_bits.load(Relaxed)));
        let _ = writeln!(out, "{}_count {total}", self.name);
    }
}

fn label_block(names: &[&str], values: &[String], extra: Option<(&str, &str)>) -> String {
    let mut block = String::from("{");
    let pairs = names
        .iter()
        .copied()
        .zip(values.iter().map(String::as_str))
        .chain(extra);
    for (i, (name, value)) in pairs.enumerate() {
        if i > 0 {
            block.push(',');
        }
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(block, "{name}=\"{escaped}\"");
    }
    block.push('}');
    block
}

/// Writes all metrics of all tables in the text format, sorted by name. Two statics of one name are one family.
pub fn exposition(tables: &[&[&dyn Metric]]) -> String {
    let mut metrics: Vec<&dyn Metric> = tables.iter().flat_map(|table| table.iter().copied()).collect();
    metrics.sort_by_key(|metric| metric.describe().name);
    let mut out = String::with_capacity(16 * 1024);
    let mut last = "";
    for metric in metrics {
        let Description { name, kind, help } = metric.describe();
        if name != last {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            last = name;
        }
        metric.write(&mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    static REQUESTS: CounterVec = CounterVec::new("test_requests_total", "Requests.", &["path"]);
    static LEVEL: Gauge = Gauge::new("test_level_bytes", "Level.");
    static WAIT: Histogram = Histogram::new("test_wait_seconds", "Waiting time.", &[0.1, 1.0]);

    #[test]
    fn a_scrape_shows_every_metric_in_the_text_format() {
        REQUESTS.add(&["a\"b\n"], 2);
        LEVEL.set(1.5);
        WAIT.observe(0.05);
        WAIT.observe(5.0);
        let expected = "# HELP test_level_bytes Level.\n# TYPE test_level_bytes gauge\ntest_level_bytes 1.5\n\
            # HELP test_requests_total Requests.\n# TYPE test_requests_total counter\n\
            test_requests_total{path=\"a\\\"b\\n\"} 2\n\
            # HELP test_wait_seconds Waiting time.\n# TYPE test_wait_seconds histogram\n\
            test_wait_seconds_bucket{le=\"0.1\"} 1\ntest_wait_seconds_bucket{le=\"1\"} 1\n\
            test_wait_seconds_bucket{le=\"+Inf\"} 2\ntest_wait_seconds_sum 5.05\ntest_wait_seconds_count 2\n";
        assert_eq!(exposition(&[&[&REQUESTS, &WAIT], &[&LEVEL]]), expected);
    }
}
