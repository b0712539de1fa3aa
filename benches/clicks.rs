//! A load of clicks against a real server: batches as senders make them, encoded beforehand so that the sender costs little,
//! and questions of dashboards beside them.
//!
//! ```text
//! cargo bench --bench clicks -- --url http://127.0.0.1:9490 [--seconds 30] [--rate 10000] [--batch 500] [--bytes 1024]
//!     [--ads 2000] [--hot 0] [--connections 4] [--questions 0] [--pid PID]
//! ```
//! `--rate` is events a second (0: as many as the server takes), `--bytes` the size of an event's JSON, `--hot` the per cent of
//! clicks on one ad, `--questions` mixed dashboard questions a second. Latencies are of whole requests, from the moment at which
//! the request was due: a server that stalls is not spared.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the command line says.
struct Arguments {
    host: String,
    seconds: u64,
    rate: u64,
    batch: u64,
    bytes: usize,
    ads: u64,
    hot: u64,
    connections: u64,
    questions: u64,
    pid: Option<u32>,
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let text = |name: &str| {
        words
            .iter()
            .position(|word| word == name)
            .and_then(|at| words.get(at + 1))
    };
    let number = |name: &str, default: u64| text(name).map_or(default, |text| text.parse().expect("a number"));
    let Some(url) = text("--url") else {
        println!("clicks: skipped, name a server with --url (see the head of benches/clicks.rs)");
        return;
    };
    let arguments = Arguments {
        host: url.trim_start_matches("http://").to_owned(),
        seconds: number("--seconds", 30),
        rate: number("--rate", 10_000),
        batch: number("--batch", 500),
        bytes: number("--bytes", 1024) as usize,
        ads: number("--ads", 2000),
        hot: number("--hot", 0),
        connections: number("--connections", 4),
        questions: number("--questions", 0),
        pid: text("--pid").map(|pid| pid.parse().expect("a process id")),
    };
    run(&arguments);
}

fn run(arguments: &Arguments) {
    let (sent, asked) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let before = arguments.pid.map(cpu_seconds);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for connection in 0..arguments.connections {
            let sent = &sent;
            scope.spawn(move || {
                let latencies = send(arguments, connection, begun);
                sent.lock()
                    .expect("no sender panics while it holds this")
                    .extend(latencies);
            });
        }
        // Four askers share the questions.
        for asker in 0..if arguments.questions > 0 { 4 } else { 0 } {
            let asked = &asked;
            scope.spawn(move || {
                let latencies = ask(arguments, asker, begun);
                asked
                    .lock()
                    .expect("no asker panics while it holds this")
                    .extend(latencies);
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let mut sent = sent.into_inner().expect("all senders are done");
    let events = sent.len() as u64 * arguments.batch;
    println!(
        "{events} events of {} bytes in {took:.1} s: {:.0} events/s in batches of {}",
        arguments.bytes,
        events as f64 / took,
        arguments.batch
    );
    println!("answers: {}", quantiles(&mut sent));
    let mut asked = asked.into_inner().expect("all askers are done");
    if !asked.is_empty() {
        println!(
            "{} questions, {:.0}/s: {}",
            asked.len(),
            asked.len() as f64 / took,
            quantiles(&mut asked)
        );
    }
    if let (Some(pid), Some(before)) = (arguments.pid, before) {
        let used = cpu_seconds(pid) - before;
        println!(
            "server: {used:.1} CPU s, {:.2} CPU s per million events, {} MiB resident",
            used * 1e6 / events as f64,
            resident_mib(pid)
        );
    }
}

/// Sends batches when they are due and returns how long each took.
fn send(arguments: &Arguments, connection: u64, begun: Instant) -> Vec<Duration> {
    let mut stream = connect(&arguments.host);
    let mut dice = Dice(connection + 1);
    let mut latencies = Vec::new();
    let every = arguments.batch as f64 * arguments.connections as f64 / arguments.rate.max(1) as f64;
    // As many bodies as are sent in two seconds are made up once; ids and times are filled in.
    let mut bodies: Vec<Vec<Event>> = (0..8).map(|_| batch(arguments, &mut dice)).collect();
    let count = bodies.len();
    for number in 0.. {
        let due =
            begun + Duration::from_secs_f64(every * (number as f64 + connection as f64 / arguments.connections as f64));
        if due.duration_since(begun).as_secs() >= arguments.seconds || begun.elapsed().as_secs() >= arguments.seconds {
            return latencies;
        }
        let body = fill(&mut bodies[number as usize % count], connection, number, &mut dice);
        let due = if arguments.rate == 0 { Instant::now() } else { due };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let head = format!(
            "POST /collect HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            arguments.host,
            body.len()
        );
        let answer = exchange(&mut stream, head.as_bytes(), &body);
        assert!(answer.contains("\"rejected\":0"), "{answer}");
        latencies.push(due.elapsed());
    }
    latencies
}

/// An event's JSON in three parts, between which id and time stand.
struct Event([String; 3]);

fn batch(arguments: &Arguments, dice: &mut Dice) -> Vec<Event> {
    let countries = ["DE", "US", "FR", "GB", "PL", "BR", "IN", "JP", "ES", "IT"];
    (0..arguments.batch)
        .map(|_| {
            let ad = if dice.below(100) < arguments.hot { 0 } else { dice.below(arguments.ads) };
            let kind = ["click", "impression", "click", "conversion"][dice.below(4) as usize];
            let tail = format!(
                "\",\"type\":\"{kind}\",\"ad_id\":\"ad-{ad:06}\",\"campaign_id\":\"c-{:04}\",\"advertiser_id\":\"adv-{:03}\",\
                 \"publisher\":\"p{}\",\"country\":\"{}\",\"price\":0.{:02},\"user_id\":\"u{}\",\"ip\":\"10.{}.{}.{}\",\"ts\":",
                ad / 20,
                ad / 200,
                dice.below(50),
                countries[dice.below(10) as usize],
                1 + dice.below(98),
                dice.below(1_000_000),
                dice.below(256),
                dice.below(256),
                dice.below(256),
            );
            let mut url = format!(",\"url\":\"https://shop.example/{}?", dice.below(1000));
            while tail.len() + url.len() + 70 < arguments.bytes {
                url.push_str(&format!("p{}={:x}&", dice.below(10), dice.below(u64::from(u32::MAX))));
            }
            url.push_str("\"}");
            Event(["{\"event_id\":\"".to_owned(), tail, url])
        })
        .collect()
}

fn fill(events: &mut [Event], connection: u64, number: u64, dice: &mut Dice) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("the clock is past 1970").as_millis() as u64;
    let mut body = b"{\"events\":[".to_vec();
    for (index, Event([head, tail, url])) in events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let at = now - dice.below(5000);
        let _ = write!(body, "{head}{now:x}-{connection}-{number}-{index}{tail}{at}{url}");
    }
    body.extend_from_slice(b"]}");
    body
}

/// Asks what dashboards ask and returns how long each answer took.
fn ask(arguments: &Arguments, asker: u64, begun: Instant) -> Vec<Duration> {
    let mut stream = connect(&arguments.host);
    let mut dice = Dice(asker + 100);
    let mut latencies = Vec::new();
    let every = 4.0 / arguments.questions as f64;
    for number in 0.. {
        let due = begun + Duration::from_secs_f64(every * number as f64);
        if due.duration_since(begun).as_secs() >= arguments.seconds || begun.elapsed().as_secs() >= arguments.seconds {
            return latencies;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let to = now.expect("the clock is past 1970").as_millis() as u64 / 60_000 * 60_000;
        let ad = dice.below(arguments.ads);
        let path = match dice.below(10) {
            0..6 => format!("/api/v1/ads/ad-{ad:06}/aggregated_count?from={}&to={to}", to - 600_000),
            6..8 => format!("/api/v1/ads/popular_ads?count=10&from={}&to={to}", to - 300_000),
            8 => format!(
                "/api/v1/ads/ad-{ad:06}/aggregated_count?from={}&to={to}&step=1m&country=DE",
                to - 3_600_000
            ),
            _ => format!(
                "/api/v1/query?query=sum(sum_over_time(ads_net_clicks_1m%7Bcampaign_id%3D%22c-{:04}%22%7D%5B5m%5D))",
                ad / 20
            ),
        };
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", arguments.host);
        let answer = exchange(&mut stream, head.as_bytes(), b"");
        assert!(answer.contains("\"success\""), "{path}: {answer}");
        latencies.push(due.elapsed());
    }
    latencies
}

fn connect(host: &str) -> TcpStream {
    let stream = TcpStream::connect(host).expect("the server listens");
    stream.set_nodelay(true).expect("a socket takes this");
    stream
}

/// Sends a request over a connection that stays, and returns the answer's body.
fn exchange(stream: &mut TcpStream, head: &[u8], body: &[u8]) -> String {
    let mut request = head.to_vec();
    request.extend_from_slice(body);
    stream.write_all(&request).expect("the server reads");
    let (mut answer, mut chunk) = (Vec::new(), [0; 65536]);
    loop {
        let read = stream.read(&mut chunk).expect("the server answers");
        assert!(read > 0, "the server closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..read]);
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length
            .and_then(|text| text.trim().parse().ok())
            .expect("answers have a length");
        if answer.len() >= end + 4 + length {
            assert!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(&answer));
            return String::from_utf8_lossy(&answer[end + 4..]).into_owned();
        }
    }
}

fn quantiles(latencies: &mut [Duration]) -> String {
    latencies.sort_unstable();
    let at = |quantile: f64| {
        let index = ((latencies.len() as f64 * quantile) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    format!(
        "p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0)
    )
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn resident_mib(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse::<u64>().ok());
    pages.unwrap_or(0) * 4 / 1024
}

/// A generator whose numbers are the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
