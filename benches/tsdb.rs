//! The store alone, on a real disk with fsync: what a sample costs to append, to replay and to keep.
//!
//! ```text
//! cargo bench --bench tsdb [-- devops|clicks|wide|million …]
//! ```
//! Batches of 2,000 samples are built beforehand; four are under way at a time, as from four connections. CPU time is the
//! whole process's, from /proc; a child process opens the store again and tells how long that took and what it weighs.
//! The arithmetic to beat: at 4 bytes a sample in the log and 2,000 samples a sync, a disk of 200 µs a sync allows
//! 40 M samples/s from four connections, so CPU decides.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use campanile::io::disk::OsDisk;
use campanile::io::{OsRandom, SystemClock};
use campanile::model::{Labels, Millis, OwnedSeries, Sample, WriteBatch};
use campanile::storage::{Appender, Columns, Hints, Querier, Select};
use campanile::tsdb::{Db, DbConfig};

const BATCH_SERIES: usize = 2_000;
const STEP_MILLIS: i64 = 10_000;
const UNDER_WAY: usize = 4;

struct Data {
    name: &'static str,
    series: usize,
    ticks: usize,
}

const DATA: [Data; 4] = [
    Data {
        name: "devops",
        series: 4_000,
        ticks: 500,
    },
    Data {
        name: "clicks",
        series: 20_000,
        ticks: 100,
    },
    Data {
        name: "wide",
        series: 100_000,
        ticks: 20,
    },
    Data {
        name: "million",
        series: 1_000_000,
        ticks: 5,
    },
];

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if let Some(("--reopen", dir)) = arguments
        .first()
        .zip(arguments.get(1))
        .map(|(a, b)| (a.as_str(), b.as_str()))
    {
        return reopen(Path::new(dir));
    }
    for data in DATA {
        let asked = if arguments.is_empty() {
            data.name != "million"
        } else {
            arguments.iter().any(|name| name == data.name)
        };
        if asked {
            run(&data);
        }
    }
}

fn open(dir: &Path) -> (Arc<Db>, f64) {
    let started = Instant::now();
    let config = DbConfig {
        dir: dir.to_owned(),
        ..DbConfig::default()
    };
    let (db, _) = Db::open(config, Arc::new(OsDisk), SystemClock::new(), Arc::new(OsRandom)).expect("the store opens");
    (db, started.elapsed().as_secs_f64())
}

/// Ten labels a series, as hosts have them.
fn labels(data: &Data) -> Vec<Labels> {
    (0..data.series)
        .map(|n| {
            let (host, metric) = (n / 40, n % 40);
            Labels::from_pairs([
                ("__name__", format!("{}_metric_{metric}", data.name)),
                ("hostname", format!("host_{host}")),
                ("region", format!("region-{}", host % 9)),
                ("datacenter", format!("dc-{}", host % 27)),
                ("rack", format!("{}", host % 100)),
                ("os", "Ubuntu22.04LTS".to_owned()),
                ("arch", "x86_64".to_owned()),
                ("team", format!("team-{}", host % 5)),
                ("service", format!("service-{}", host % 20)),
                ("instance", format!("10.0.{}.{}:9100", host / 256, host % 256)),
            ])
        })
        .collect()
}

/// A third constant, a third counters, a third noisy gauges.
fn value(n: usize, tick: usize) -> f64 {
    let noise = (n.wrapping_mul(2_654_435_761) ^ tick.wrapping_mul(40_503)) % 1000;
    match n % 3 {
        0 => n as f64,
        1 => (tick * (n % 97 + 1) + noise / 500) as f64,
        _ => noise as f64 / 10.0,
    }
}

fn batches(data: &Data) -> Vec<WriteBatch> {
    let labels = labels(data);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_millis() as i64;
    let start = now - data.ticks as i64 * STEP_MILLIS;
    let mut batches = Vec::new();
    for tick in 0..data.ticks {
        let at = Millis(start + tick as i64 * STEP_MILLIS);
        for first in (0..data.series).step_by(BATCH_SERIES) {
            let series = (first..(first + BATCH_SERIES).min(data.series)).map(|n| OwnedSeries {
                labels: labels[n].clone(),
                samples: vec![Sample {
                    at,
                    value: value(n, tick),
                }],
            });
            batches.push(WriteBatch::from_series(series.collect(), 1));
        }
    }
    batches
}

fn run(data: &Data) {
    let dir = std::env::temp_dir().join(format!("campanile-bench-{}-{}", data.name, std::process::id()));
    let batches = batches(data);
    let samples = data.series * data.ticks;
    let (db, _) = open(&dir);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    let (cpu, started) = (cpu_seconds(), Instant::now());
    let mut slowest = 0.0f64;
    runtime.block_on(async {
        let queue = Arc::new(std::sync::Mutex::new(batches.into_iter()));
        let tasks: Vec<_> = (0..UNDER_WAY)
            .map(|_| {
                let (db, queue) = (Arc::clone(&db), Arc::clone(&queue));
                tokio::spawn(async move {
                    let mut slowest = 0.0f64;
                    loop {
                        let next = queue.lock().expect("no one panics").next();
                        let Some(batch) = next else { return slowest };
                        let sent = Instant::now();
                        let report = db.append(batch).await.expect("the store takes it");
                        assert_eq!(report.refused, 0, "{report:?}");
                        slowest = slowest.max(sent.elapsed().as_secs_f64());
                    }
                })
            })
            .collect();
        for task in tasks {
            slowest = slowest.max(task.await.expect("no one panics"));
        }
    });
    let (cpu, wall) = (cpu_seconds() - cpu, started.elapsed().as_secs_f64());
    let millions = samples as f64 / 1e6;
    println!(
        "tsdb/append/{}: {samples} samples, {:.3} CPU-s per million, {:.2} M samples/s, slowest batch {:.1} ms",
        data.name,
        cpu / millions,
        millions / wall,
        slowest * 1e3
    );
    let (cpu, started) = (cpu_seconds(), Instant::now());
    let read = read_all(&db);
    let (cpu, wall) = (cpu_seconds() - cpu, started.elapsed().as_secs_f64());
    assert_eq!(read, samples);
    println!(
        "tsdb/read/{}: {:.1} ns CPU a sample, {:.2} s",
        data.name,
        cpu / read as f64 * 1e9,
        wall
    );
    drop(db);
    let child = std::process::Command::new(std::env::current_exe().expect("this program has a path"))
        .args([PathBuf::from("--reopen"), dir.clone()])
        .status();
    assert!(child.expect("a child starts").success());
    std::fs::remove_dir_all(&dir).expect("the bench's own directory");
}

fn read_all(db: &Db) -> usize {
    let range = campanile::model::TimeRange::ALL;
    let select = Select {
        matchers: Vec::new(),
        range,
        hints: Hints::default(),
    };
    let mut columns = Columns::default();
    let selection = db.select(&select).expect("the store answers");
    let mut count = |series: &dyn campanile::storage::Series| {
        series.columns(range, &mut columns).expect("the series decodes");
        columns.len()
    };
    selection.series.iter().map(|series| count(&**series)).sum()
}

fn reopen(dir: &Path) {
    let before = resident_bytes();
    let (db, took) = open(dir);
    let series = db.status(1).head_stats.num_series as f64;
    println!(
        "tsdb/replay: ready in {took:.2} s, {:.0} MB resident, {:.0} bytes a series",
        resident_bytes() / 1e6,
        (resident_bytes() - before) / series
    );
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0.0);
    pages * 4096.0
}
