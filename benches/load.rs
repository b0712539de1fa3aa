//! A load run against a real server: bodies of any push format, encoded beforehand so that the sender costs little.
//!
//! ```text
//! cargo bench --bench load -- --url http://127.0.0.1:9490 --pid PID --data devops [--protocol v1|v2|otlp|influx] [--ticks 250] [--connections 4] [--rate 50000]
//! ```
//! Works with any server that takes remote write, so that peers are measured on the same bodies. `--pid` names the server's process:
//! its CPU time and memory are read from /proc around the run. Data sets: `devops` (4,000 series: 100 hosts × 40 gauges and counters as
//! TSBS shapes them), `clicks` (20,000 counters), `wide` (100,000 series), `million` (1,000,000 series). Samples are 10 s apart and end now.

#[path = "load/protocol.rs"]
mod protocol;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::{Point, Protocol};

/// Samples in one request: what Prometheus sends by default.
const REQUEST_SAMPLES: usize = 2_000;
/// Time between two samples of a series, in milliseconds.
const STEP_MS: i64 = 10_000;

fn main() {
    let arguments = Arguments::read();
    if arguments.url.is_empty() {
        // `cargo bench` without arguments runs every bench: this one needs a server to be of use.
        println!("load: skipped, name a server with --url (see the head of benches/load.rs)");
        return;
    }
    let series = series_of(&arguments.data);
    let started = Instant::now();
    let bodies = encode(&series, arguments.ticks, arguments.protocol);
    let samples = series.len() * arguments.ticks;
    println!(
        "data {} by {:?}: {} series, {} samples, {} requests, {:.1} bytes/sample on the wire, encoded in {:.1} s",
        arguments.data,
        arguments.protocol,
        series.len(),
        samples,
        bodies.len(),
        bodies.iter().map(Vec::len).sum::<usize>() as f64 / samples as f64,
        started.elapsed().as_secs_f64()
    );
    let before = arguments.pid.map(Usage::of);
    let (wall, mut latencies) = send(&arguments, &bodies);
    latencies.sort_unstable();
    let quantile = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    println!(
        "wall {:.2} s, {:.0} samples/s, request p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        wall.as_secs_f64(),
        samples as f64 / wall.as_secs_f64(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
    if let (Some(before), Some(pid)) = (before, arguments.pid) {
        let after = Usage::of(pid);
        let cpu = after.cpu_seconds - before.cpu_seconds;
        println!(
            "server: {cpu:.2} CPU-s, {:.3} CPU-s per million samples, RSS {} MB (peak {} MB)",
            cpu / samples as f64 * 1e6,
            after.rss_kb / 1024,
            after.peak_kb / 1024
        );
    }
}

struct Arguments {
    url: String,
    pid: Option<u32>,
    data: String,
    protocol: Protocol,
    ticks: usize,
    connections: usize,
    /// Samples per second; 0 = as fast as it goes.
    rate: usize,
}

impl Arguments {
    fn read() -> Arguments {
        let mut arguments = Arguments {
            url: String::new(),
            pid: None,
            data: "devops".into(),
            protocol: Protocol::V1,
            ticks: 250,
            connections: 4,
            rate: 0,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--url" => arguments.url = value(),
                "--pid" => arguments.pid = Some(value().parse().expect("a process id")),
                "--data" => arguments.data = value(),
                "--protocol" => arguments.protocol = Protocol::of(&value()),
                "--ticks" => arguments.ticks = value().parse().expect("a number of samples per series"),
                "--connections" => arguments.connections = value().parse().expect("a number of connections"),
                "--rate" => arguments.rate = value().parse().expect("samples per second"),
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        arguments
    }
}

/// One series: its sorted labels, and how its value moves.
struct Series {
    labels: Vec<(String, String)>,
    state: u64,
    value: f64,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Usage in percent: a random walk of integers between 0 and 100.
    Walk,
    /// A counter that grows by up to a thousand.
    Counter,
    /// A float that moves a little, with two decimals.
    Decimal,
    /// Clicks: mostly nothing, sometimes a few.
    Clicks,
    /// Never moves.
    Constant,
}

fn series_of(data: &str) -> Vec<Series> {
    let make = |index: usize, labels: &[(&str, String)], kind: Kind| {
        let mut sorted: Vec<(String, String)> = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        sorted.sort();
        let state = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Series {
            labels: sorted,
            state,
            value: (index % 97) as f64,
            kind,
        }
    };
    let hosts = |hosts: usize, metrics: usize| {
        (0..hosts * metrics)
            .map(|index| {
                let (host, metric) = (index / metrics, index % metrics);
                let kind = [Kind::Walk, Kind::Counter, Kind::Walk, Kind::Decimal, Kind::Constant][metric % 5];
                let labels = [
                    ("__name__", format!("host_metric_{metric}")),
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
                make(index, &labels, kind)
            })
            .collect()
    };
    match data {
        "devops" => hosts(100, 40),
        "wide" => hosts(1_000, 100),
        "million" => hosts(10_000, 100),
        "clicks" => (0..20_000)
            .map(|ad| {
                let labels = [
                    ("__name__", "ad_clicks_total".to_owned()),
                    ("ad", format!("ad-{ad}")),
                    ("campaign", format!("campaign-{}", ad % 400)),
                    ("instance", format!("collector-{}:8080", ad % 4)),
                    ("job", "clicks".to_owned()),
                ];
                make(ad, &labels, Kind::Clicks)
            })
            .collect(),
        other => panic!("unknown data set {other}: devops, clicks, wide, million"),
    }
}

impl Series {
    fn next(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let random = self.state >> 11;
        match self.kind {
            Kind::Walk => self.value = (self.value + (random % 3) as f64 - 1.0).clamp(0.0, 100.0),
            Kind::Counter => self.value += (random % 1000) as f64,
            Kind::Decimal => self.value = ((self.value * 100.0).round() + (random % 21) as f64 - 10.0) / 100.0,
            Kind::Clicks if random.is_multiple_of(8) => self.value += (random >> 8) as f64 % 5.0,
            Kind::Clicks | Kind::Constant => {}
        }
        self.value
    }
}

/// Encodes all requests in the order of time: each tick holds one sample of every series.
fn encode(series: &[Series], ticks: usize, protocol: Protocol) -> Vec<Vec<u8>> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_millis() as i64;
    let first = now - ticks as i64 * STEP_MS;
    let mut series: Vec<Series> = series
        .iter()
        .map(|one| Series {
            labels: one.labels.clone(),
            ..*one
        })
        .collect();
    let mut bodies = Vec::new();
    for tick in 0..ticks {
        let at = first + tick as i64 * STEP_MS;
        for chunk in series.chunks_mut(REQUEST_SAMPLES) {
            let points = chunk.iter_mut().map(|one| Point {
                value: one.next(),
                labels: &one.labels,
                at,
            });
            bodies.push(protocol.encode(&points.collect::<Vec<Point>>()));
        }
    }
    bodies
}

fn send(arguments: &Arguments, bodies: &[Vec<u8>]) -> (Duration, Vec<Duration>) {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.connections)
            .map(|_| scope.spawn(|| worker(arguments, bodies, &next, started)))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker ends"))
            .collect()
    });
    (started.elapsed(), latencies)
}

fn worker(arguments: &Arguments, bodies: &[Vec<u8>], next: &AtomicUsize, started: Instant) -> Vec<Duration> {
    let host = arguments
        .url
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    let mut stream = TcpStream::connect(&host).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP option");
    let mut latencies = Vec::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(body) = bodies.get(index) else {
            return latencies;
        };
        if arguments.rate > 0 {
            let due = started + Duration::from_secs_f64((index * REQUEST_SAMPLES) as f64 / arguments.rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let (path, headers) = arguments.protocol.head();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let sent = Instant::now();
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body))
            .expect("the server reads");
        let (status, text) = read_answer(&mut stream);
        latencies.push(sent.elapsed());
        assert!(status == 204 || status == 200, "status {status}: {text}");
    }
}

fn read_answer(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).expect("the server answers");
        assert!(read > 0, "the server closed the connection");
        bytes.extend_from_slice(&buffer[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status line");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if bytes.len() >= end + 4 + length.unwrap_or(0) {
            return (status, String::from_utf8_lossy(&bytes[end + 4..]).into_owned());
        }
    }
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

/// What a process has used, from /proc.
struct Usage {
    cpu_seconds: f64,
    rss_kb: u64,
    peak_kb: u64,
}

impl Usage {
    fn of(pid: u32) -> Usage {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
        let fields: Vec<&str> = stat[stat.rfind(')').expect("a process name") + 2..]
            .split(' ')
            .collect();
        let ticks: u64 =
            fields[11].parse::<u64>().expect("user time") + fields[12].parse::<u64>().expect("system time");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
        let kilobytes = |key: &str| {
            let line = status
                .lines()
                .find(|line| line.starts_with(key))
                .expect("a line of /proc/PID/status");
            line.split_whitespace()
                .nth(1)
                .and_then(|number| number.parse().ok())
                .expect("kilobytes")
        };
        // USER_HZ is 100 on every Linux there is.
        Usage {
            cpu_seconds: ticks as f64 / 100.0,
            rss_kb: kilobytes("VmRSS:"),
            peak_kb: kilobytes("VmHWM:"),
        }
    }
}
