//! The data: made once, sent to both servers in the same bodies.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Server;
use super::client::{Client, cpu_seconds};

pub(crate) const HOSTS: usize = 100;
/// Milliseconds between two samples of a series.
const INTERVAL_MS: i64 = 15_000;
/// Samples in one request: what Prometheus sends by default.
const REQUEST_SAMPLES: usize = 2_000;

/// A metric of every host: its name, its own labels, and how it moves.
struct Metric {
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Percent, with two decimals.
    Decimal,
    /// Percent, in whole numbers.
    Walk,
    /// A counter that grows by up to so much, and sometimes starts anew.
    Counter(u64),
    /// Bytes that mostly grow.
    Bytes,
    /// A counter of seconds.
    Seconds,
    /// 1.
    Info,
}

const fn metric(name: &'static str, labels: &'static [(&'static str, &'static str)], kind: Kind) -> Metric {
    Metric { name, labels, kind }
}

macro_rules! requests {
    ($method:literal, $code:literal, $most:literal) => {
        metric(
            "http_requests_total",
            &[("method", $method), ("code", $code)],
            Kind::Counter($most),
        )
    };
}

macro_rules! bucket {
    ($le:literal, $most:literal) => {
        metric(
            "http_request_duration_seconds_bucket",
            &[("le", $le)],
            Kind::Counter($most),
        )
    };
}

/// The metrics of a host, 40 in all.
static METRICS: &[Metric] = &[
    metric("cpu_usage_user", &[], Kind::Decimal),
    metric("cpu_usage_system", &[], Kind::Walk),
    metric("cpu_usage_idle", &[], Kind::Decimal),
    metric("cpu_usage_nice", &[], Kind::Walk),
    metric("cpu_usage_iowait", &[], Kind::Decimal),
    metric("cpu_usage_irq", &[], Kind::Walk),
    metric("cpu_usage_softirq", &[], Kind::Decimal),
    metric("cpu_usage_steal", &[], Kind::Walk),
    metric("cpu_usage_guest", &[], Kind::Decimal),
    metric("cpu_usage_guest_nice", &[], Kind::Walk),
    requests!("get", "200", 1000),
    requests!("get", "304", 300),
    requests!("get", "404", 10),
    requests!("get", "500", 5),
    requests!("get", "503", 2),
    requests!("post", "200", 200),
    requests!("post", "304", 2),
    requests!("post", "404", 5),
    requests!("post", "500", 5),
    requests!("post", "503", 2),
    bucket!("0.005", 10),
    bucket!("0.01", 50),
    bucket!("0.025", 150),
    bucket!("0.05", 300),
    bucket!("0.1", 600),
    bucket!("0.25", 900),
    bucket!("0.5", 950),
    bucket!("1", 980),
    bucket!("2.5", 995),
    bucket!("+Inf", 1000),
    metric("http_request_duration_seconds_count", &[], Kind::Counter(1000)),
    metric("http_request_duration_seconds_sum", &[], Kind::Seconds),
    metric("disk_used_bytes", &[("device", "sda1")], Kind::Bytes),
    metric("disk_used_bytes", &[("device", "sda2")], Kind::Bytes),
    metric("disk_used_bytes", &[("device", "sdb1")], Kind::Bytes),
    metric("disk_used_bytes", &[("device", "sdb2")], Kind::Bytes),
    metric("mem_used_bytes", &[], Kind::Bytes),
    metric("mem_free_bytes", &[], Kind::Bytes),
    metric("mem_cached_bytes", &[], Kind::Bytes),
    metric("host_info", &[], Kind::Info),
];

struct Series {
    /// As protobuf fields.
    labels: Vec<u8>,
    kind: Kind,
    /// How far behind the tick the host is scraped.
    phase_ms: i64,
    value: f64,
    random: Random,
}

/// xorshift: the same data at each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}

fn series() -> Vec<Series> {
    let of_host = |host: usize| {
        METRICS.iter().enumerate().map(move |(index, metric)| {
            let mut labels = vec![
                ("__name__", metric.name.to_owned()),
                ("arch", ["x64", "x86"][host % 2].to_owned()),
                ("datacenter", format!("eu-west-1{}", ["a", "b", "c"][host % 3])),
                ("hostname", format!("host_{host}")),
                ("instance", format!("host_{host}:9100")),
                ("job", "devops".to_owned()),
                (
                    "os",
                    ["Ubuntu16.10", "Ubuntu15.10", "Ubuntu16.04LTS"][host % 3].to_owned(),
                ),
                ("region", "eu-west-1".to_owned()),
                ("service", (host % 20).to_string()),
                ("team", ["NYC", "SF", "LON", "CHI"][host % 4].to_owned()),
            ];
            labels.extend(metric.labels.iter().map(|(name, value)| (*name, (*value).to_owned())));
            if matches!(metric.kind, Kind::Info) {
                labels.push(("version", format!("6.{}", host % 5)));
            }
            labels.sort();
            let mut random = Random(((host * METRICS.len() + index + 1) as u64 * 0x9e37_79b9_7f4a_7c15) | 1);
            Series {
                labels: encoded(&labels),
                kind: metric.kind,
                phase_ms: (host as i64 * 151 + 3) % INTERVAL_MS,
                value: match metric.kind {
                    Kind::Info => 1.0,
                    Kind::Bytes => 1e9 + (random.next() % 1_000_000_000) as f64,
                    _ => (random.next() % 100) as f64,
                },
                random,
            }
        })
    };
    (0..HOSTS).flat_map(of_host).collect()
}

impl Series {
    fn next(&mut self) -> f64 {
        let random = self.random.next();
        match self.kind {
            Kind::Decimal => {
                let moved = (self.value * 100.0).round() + (random % 201) as f64 - 100.0;
                self.value = (moved / 100.0).clamp(0.0, 100.0);
            }
            Kind::Walk => self.value = (self.value + (random % 3) as f64 - 1.0).clamp(0.0, 100.0),
            Kind::Counter(_) | Kind::Seconds if random.is_multiple_of(5_003) => self.value = 0.0,
            Kind::Counter(most) => self.value += (random % most) as f64,
            Kind::Seconds => self.value += (random % 100_000) as f64 / 1e4,
            Kind::Bytes => self.value += ((random % 9) as f64 - 3.0) * 4096.0,
            Kind::Info => {}
        }
        self.value
    }
}

/// Sends all samples to both servers, each in the order of time, and then when they end.
pub(crate) fn load(servers: [&Server; 2], hours: usize) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    let end = now.as_millis() as i64 / 60_000 * 60_000;
    let ticks = hours as i64 * 3_600_000 / INTERVAL_MS;
    let mut series = series();
    let samples = series.len() as f64 * ticks as f64;
    println!("{} series, {samples} samples up to {}", series.len(), end / 1000);
    let mut clients = servers.map(|server| Client::connect(&server.url));
    let before = servers.map(|server| cpu_seconds(server.pid));
    let mut waited = [0.0; 2];
    for tick in 0..ticks {
        let at = end - (ticks - tick) * INTERVAL_MS;
        for part in series.chunks_mut(REQUEST_SAMPLES) {
            let body = body(
                part.iter_mut()
                    .map(|one| (one.labels.clone(), at + one.phase_ms, one.next())),
            );
            for side in 0..2 {
                let started = Instant::now();
                write(&mut clients[side], &body);
                waited[side] += started.elapsed().as_secs_f64();
            }
        }
    }
    for client in &mut clients {
        let labels = encoded(&[("__name__", MARK.to_owned())]);
        write(client, &body([(labels, end, (end / 1000) as f64)]));
    }
    for (side, name) in ["ours", "theirs"].into_iter().enumerate() {
        let cpu = cpu_seconds(servers[side].pid) - before[side];
        let each = cpu / samples * 1e6;
        println!(
            "loading {name}: {:.1} s waited, {cpu:.1} CPU-s, {each:.2} CPU-s per million samples",
            waited[side]
        );
    }
}

/// The series that says up to which second data was loaded.
const MARK: &str = "compare_loaded_until_seconds";

/// Returns up to when data was loaded, in seconds.
pub(crate) fn loaded_until(client: &mut Client) -> i64 {
    let form = format!("query=last_over_time({MARK}%5B30d%5D)");
    let answer: serde_json::Value = serde_json::from_slice(&client.ask("/api/v1/query", &form)).expect("JSON");
    let value = answer["data"]["result"][0]["value"][1].as_str();
    value
        .and_then(|value| value.parse().ok())
        .expect("the data must have been loaded with --load")
}

fn write(client: &mut Client, body: &[u8]) {
    let headers =
        "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0";
    let (status, text) = client.post("/api/v1/write", headers, body);
    assert!(
        status == 204 || status == 200,
        "{status}: {}",
        String::from_utf8_lossy(&text)
    );
}

/// A remote-write request with one sample a series.
fn body(samples: impl IntoIterator<Item = (Vec<u8>, i64, f64)>) -> Vec<u8> {
    let mut message = Vec::new();
    for (labels, at, value) in samples {
        let mut sample = vec![0x09];
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(0x10);
        varint(&mut sample, at as u64);
        message.push(0x0a);
        varint(&mut message, (labels.len() + 2 + sample.len()) as u64);
        message.extend_from_slice(&labels);
        field(&mut message, 2, &sample);
    }
    snap::raw::Encoder::new()
        .compress_vec(&message)
        .expect("snappy takes any bytes")
}

fn encoded(labels: &[(&str, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut bytes, 1, &label);
    }
    bytes
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
