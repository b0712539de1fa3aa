//! Queries against two servers side by side: the same data, the same questions, in alternation; answers must agree.
//!
//! ```text
//! cargo bench --bench compare -- --ours http://127.0.0.1:20200 --ours-pid PID --theirs http://127.0.0.1:20201 --theirs-pid PID \
//!     [--load] [--hours 10] [--runs 9] [--only TEXT]
//! ```
//! `--load` first sends both servers 4,000 series shaped as TSBS's devops data (100 hosts x 40: gauges, counters, a classic
//! histogram, an info metric), 15 s apart, ending now, through remote write 1.0, in the order of time: so the older part ends up
//! in blocks and the newest in the head, as in life. The wall time of a query is what the client waits until the last byte;
//! CPU is what all threads of the server spent meanwhile, from /proc. Both are medians, of `--runs` runs and of bursts of them.
//! Wants Prometheus with `--web.enable-remote-write-receiver`. Times of questions are such that no sample and no step of a
//! subquery lies on the edge of a window, where Prometheus 2 and 3 differ.

mod client;
mod data;
mod queries;

use std::time::{Duration, Instant};

use client::{Client, cpu_seconds};
use queries::{QUERIES, Query, Span};

fn main() {
    let arguments = Arguments::read();
    let (Some(ours), Some(theirs)) = (&arguments.ours, &arguments.theirs) else {
        // `cargo bench` without arguments runs every bench: this one needs two servers to be of use.
        println!(
            "compare: skipped, name two servers with --ours and --theirs (see the head of benches/compare/main.rs)"
        );
        return;
    };
    let servers = [ours, theirs];
    if arguments.load {
        data::load(servers, arguments.hours);
    }
    let mut clients = servers.map(|server| Client::connect(&server.url));
    let end = clients.each_mut().map(data::loaded_until);
    assert_eq!(
        end[0], end[1],
        "both servers must hold the data of one and the same --load"
    );
    let mut table = Table::default();
    for query in QUERIES
        .iter()
        .filter(|query| query.text.contains(&arguments.only) || query.about.contains(&arguments.only))
    {
        table.add(query, &measure(query, &mut clients, servers, end[0], arguments.runs));
    }
    table.total();
}

/// A server and its process.
struct Server {
    url: String,
    pid: u32,
}

struct Arguments {
    ours: Option<Server>,
    theirs: Option<Server>,
    load: bool,
    hours: usize,
    runs: usize,
    only: String,
}

impl Arguments {
    fn read() -> Arguments {
        let (mut urls, mut pids) = ([None, None], [None, None]);
        let (mut load, mut hours, mut runs, mut only) = (false, 10, 9, String::new());
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--ours" => urls[0] = Some(value()),
                "--theirs" => urls[1] = Some(value()),
                "--ours-pid" => pids[0] = Some(value().parse().expect("a process id")),
                "--theirs-pid" => pids[1] = Some(value().parse().expect("a process id")),
                "--load" => load = true,
                "--hours" => hours = value().parse().expect("a number of hours"),
                "--runs" => runs = value().parse().expect("a number of runs"),
                "--only" => only = value(),
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        let server = |url: Option<String>, pid: Option<u32>| Some(Server { url: url?, pid: pid? });
        let [ours, theirs] = urls;
        Arguments {
            ours: server(ours, pids[0]),
            theirs: server(theirs, pids[1]),
            load,
            hours,
            runs,
            only,
        }
    }
}

/// What one server needed.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall_ms: f64,
    cpu_ms: f64,
}

/// Runs of a query between two looks at a server's CPU time: a single one may cost less than what the clock resolves.
const BURST: usize = 3;

fn measure(query: &Query, clients: &mut [Client; 2], servers: [&Server; 2], end: i64, runs: usize) -> [Cost; 2] {
    let form = query.form(end);
    let path = query.path();
    let answers = clients.each_mut().map(|client| client.ask(path, &form));
    if let Err(difference) = client::agree(&answers[0], &answers[1]) {
        println!("DIFFERENT: {}: {difference}", query.text);
    }
    let (mut walls, mut cpus) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..runs.div_ceil(BURST) {
        for side in 0..2 {
            let before = cpu_seconds(servers[side].pid);
            for _ in 0..BURST {
                let started = Instant::now();
                clients[side].ask(path, &form);
                walls[side].push(started.elapsed().as_secs_f64() * 1e3);
            }
            // What is done after the answer (freeing memory) belongs to it.
            std::thread::sleep(Duration::from_millis(2));
            cpus[side].push((cpu_seconds(servers[side].pid) - before) * 1e3 / BURST as f64);
        }
    }
    [0, 1].map(|side| Cost {
        wall_ms: median(&mut walls[side]),
        cpu_ms: median(&mut cpus[side]),
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[derive(Default)]
struct Table {
    costs: Vec<[Cost; 2]>,
}

impl Table {
    fn add(&mut self, query: &Query, costs: &[Cost; 2]) {
        if self.costs.is_empty() {
            println!(
                "| query | over | ours ms | theirs ms | ratio | ours CPU ms | theirs CPU ms | ours ns per series and step | theirs |"
            );
            println!("|---|---|---|---|---|---|---|---|---|");
        }
        let [ours, theirs] = costs;
        let over = match query.span {
            Span::Instant => "instant".to_owned(),
            Span::Range { seconds, step } => format!("{}h/{step}s", seconds / 3600),
        };
        let steps = query.span.steps() as f64;
        let each = |cost: &Cost| cost.cpu_ms * 1e6 / (query.series as f64 * steps);
        println!(
            "| `{}` | {over} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} |",
            query.text.replace('|', "\\|"),
            ours.wall_ms,
            theirs.wall_ms,
            ours.wall_ms / theirs.wall_ms,
            ours.cpu_ms,
            theirs.cpu_ms,
            each(ours),
            each(theirs),
        );
        self.costs.push(*costs);
    }

    fn total(&self) {
        let sum = |of: &dyn Fn(&[Cost; 2]) -> f64| self.costs.iter().map(of).sum::<f64>();
        println!(
            "| {} queries | | {:.1} | {:.1} | | {:.1} | {:.1} | | |",
            self.costs.len(),
            sum(&|costs| costs[0].wall_ms),
            sum(&|costs| costs[1].wall_ms),
            sum(&|costs| costs[0].cpu_ms),
            sum(&|costs| costs[1].cpu_ms),
        );
        let slower = self.costs.iter().filter(|[ours, theirs]| ours.wall_ms > theirs.wall_ms);
        println!("{} queries are slower than theirs", slower.count());
    }
}
