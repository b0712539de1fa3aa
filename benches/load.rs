//! A load run against a real server: bodies of any push format, encoded beforehand so that the sender costs little.
//!
//! ```text
//! cargo bench --bench load -- --url http://127.0.0.1:9490 --pid PID --data devops [--protocol v1|v2|otlp|influx] [--ticks 250] [--connections 4] [--rate 50000]
//!     [--block-ticks 10] [--data node --capture DIR --instances 8]
//! ```
//! Works with any server that takes remote write, so that peers are measured on the same bodies. `--pid` names the server's process:
//! its CPU time and memory are read from /proc around the run. Samples are 10 s apart and end now. `--block-ticks` encodes and
//! sends so many ticks at a time, for runs whose bodies do not fit into memory; the clock stands while it encodes.
//!
//! Data sets: `devops` (4,000 series: 100 hosts × the 40 fields of TSBS's cpu, diskio, disk, mem and net), `clicks` (20,000 counters),
//! `wide` (100,000 series), `million` (1,000,000 series), `node` (what `benches/capture_node.sh` scraped, as so many instances).

#[path = "load/data.rs"]
mod data;
#[path = "load/protocol.rs"]
mod protocol;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use data::Source;
use protocol::Protocol;

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
    let mut source = Source::of(&arguments);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("the clock is past 1970").as_millis() as i64;
    let ticks = source.ticks(arguments.ticks);
    let first = now - ticks as i64 * STEP_MS;
    let before = arguments.pid.map(Usage::of);
    let (mut wall, mut latencies, mut samples, mut bytes) = (Duration::ZERO, Vec::new(), 0, 0);
    for from in (0..ticks).step_by(arguments.block_ticks.max(1)) {
        let mut bodies = Vec::new();
        for tick in from..ticks.min(from.saturating_add(arguments.block_ticks.max(1))) {
            let at = first + tick as i64 * STEP_MS;
            samples += source.encode(tick, at, arguments.protocol, &mut bodies);
        }
        bytes += bodies.iter().map(Vec::len).sum::<usize>();
        let (took, found) = send(&arguments, &bodies);
        wall += took;
        latencies.extend(found);
    }
    println!(
        "data {} by {:?}: {samples} samples in {ticks} ticks, {} requests, {:.1} bytes/sample on the wire",
        arguments.data,
        arguments.protocol,
        latencies.len(),
        bytes as f64 / samples as f64,
    );
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
    /// Ticks that are encoded at a time.
    block_ticks: usize,
    /// Where scrapes are, for `node`.
    capture: String,
    /// As how many instances they are sent.
    instances: usize,
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
            block_ticks: usize::MAX,
            capture: String::new(),
            instances: 8,
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
                "--block-ticks" => arguments.block_ticks = value().parse().expect("a number of ticks"),
                "--capture" => arguments.capture = value(),
                "--instances" => arguments.instances = value().parse().expect("a number of instances"),
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        arguments
    }
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
