//! The data of the load run: synthetic series, or what was scraped from a real exporter.

use super::protocol::{Point, Protocol};
use super::{Arguments, REQUEST_SAMPLES};

/// Where samples come from.
pub(super) enum Source {
    Synthetic(Vec<Series>),
    /// One file for each tick.
    Scrapes {
        files: Vec<std::path::PathBuf>,
        instances: usize,
    },
}

impl Source {
    pub(super) fn of(arguments: &Arguments) -> Source {
        if arguments.data != "node" {
            return Source::Synthetic(series_of(&arguments.data));
        }
        let entries = std::fs::read_dir(&arguments.capture).expect("--capture names a directory of scrapes");
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("a readable directory").path())
            .collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "prom"));
        files.sort();
        assert!(!files.is_empty(), "no .prom files in {}", arguments.capture);
        Source::Scrapes {
            files,
            instances: arguments.instances,
        }
    }

    /// How many ticks there are: as asked for, or as were scraped.
    pub(super) fn ticks(&self, asked: usize) -> usize {
        match self {
            Source::Synthetic(_) => asked,
            Source::Scrapes { files, .. } => asked.min(files.len()),
        }
    }

    /// Appends the bodies of one tick, one sample of every series; returns how many samples.
    pub(super) fn encode(&mut self, tick: usize, at: i64, protocol: Protocol, bodies: &mut Vec<Vec<u8>>) -> usize {
        match self {
            Source::Synthetic(series) => {
                for chunk in series.chunks_mut(REQUEST_SAMPLES) {
                    let points = chunk.iter_mut().map(|one| Point {
                        value: one.next(),
                        labels: &one.labels,
                        at,
                    });
                    bodies.push(protocol.encode(&points.collect::<Vec<Point>>()));
                }
                series.len()
            }
            Source::Scrapes { files, instances } => {
                let text = std::fs::read_to_string(&files[tick]).expect("a scrape");
                let lines: Vec<Line> = text.lines().filter_map(parse_line).collect();
                let samples =
                    (0..*instances).flat_map(|instance| lines.iter().map(move |line| relabelled(line, instance)));
                let samples: Vec<Line> = samples.collect();
                for chunk in samples.chunks(REQUEST_SAMPLES) {
                    let points = chunk.iter().map(|(labels, value)| Point {
                        value: *value,
                        labels,
                        at,
                    });
                    bodies.push(protocol.encode(&points.collect::<Vec<Point>>()));
                }
                samples.len()
            }
        }
    }
}

/// A line of a scrape: its labels and its value.
type Line = (Vec<(String, String)>, f64);

/// Reads one line of the exposition format; `None` for comments. Escapes in label values stay as they are.
fn parse_line(line: &str) -> Option<Line> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series
        .split_once('{')
        .map_or((series, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    let mut rest = labels;
    while let Some((label, after)) = rest.split_once("=\"") {
        let end = after
            .char_indices()
            .find(|(at, c)| *c == '"' && !after[..*at].ends_with('\\'))?
            .0;
        if end > 0 {
            pairs.push((label.trim_start_matches(',').to_owned(), after[..end].to_owned()));
        }
        rest = &after[end + 1..];
    }
    Some((pairs, value.parse().ok()?))
}

fn relabelled((pairs, value): &Line, instance: usize) -> Line {
    let mut pairs = pairs.clone();
    pairs.push(("instance".to_owned(), format!("host-{instance}:9100")));
    pairs.push(("job".to_owned(), "node".to_owned()));
    pairs.sort();
    (pairs, *value)
}

/// One series: its sorted labels, and how its value moves.
pub(super) struct Series {
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
    /// A counter of bytes: it grows by up to a megabyte.
    Bytes,
    /// Bytes in use: a walk in steps of pages.
    Level,
    /// A float that moves a little, with two decimals.
    Decimal,
    /// Clicks: mostly nothing, sometimes a few.
    Clicks,
    /// Never moves.
    Constant,
}

/// TSBS's devops fields: cpu, diskio, disk, mem, net.
const FIELDS: [(&str, Kind); 40] = [
    ("cpu_usage_user", Kind::Walk),
    ("cpu_usage_system", Kind::Walk),
    ("cpu_usage_idle", Kind::Walk),
    ("cpu_usage_nice", Kind::Walk),
    ("cpu_usage_iowait", Kind::Walk),
    ("cpu_usage_irq", Kind::Walk),
    ("cpu_usage_softirq", Kind::Walk),
    ("cpu_usage_steal", Kind::Walk),
    ("cpu_usage_guest", Kind::Walk),
    ("cpu_usage_guest_nice", Kind::Walk),
    ("diskio_reads", Kind::Counter),
    ("diskio_writes", Kind::Counter),
    ("diskio_read_bytes", Kind::Bytes),
    ("diskio_write_bytes", Kind::Bytes),
    ("diskio_read_time", Kind::Counter),
    ("diskio_write_time", Kind::Counter),
    ("diskio_io_time", Kind::Counter),
    ("disk_total", Kind::Constant),
    ("disk_free", Kind::Level),
    ("disk_used", Kind::Level),
    ("disk_used_percent", Kind::Decimal),
    ("disk_inodes_total", Kind::Constant),
    ("disk_inodes_free", Kind::Level),
    ("disk_inodes_used", Kind::Level),
    ("mem_total", Kind::Constant),
    ("mem_available", Kind::Level),
    ("mem_used", Kind::Level),
    ("mem_free", Kind::Level),
    ("mem_cached", Kind::Level),
    ("mem_buffered", Kind::Level),
    ("mem_used_percent", Kind::Decimal),
    ("mem_available_percent", Kind::Decimal),
    ("net_bytes_sent", Kind::Bytes),
    ("net_bytes_recv", Kind::Bytes),
    ("net_packets_sent", Kind::Counter),
    ("net_packets_recv", Kind::Counter),
    ("net_err_in", Kind::Clicks),
    ("net_err_out", Kind::Clicks),
    ("net_drop_in", Kind::Clicks),
    ("net_drop_out", Kind::Clicks),
];

/// Tells apart the copies of a field on one host.
fn suffix(copy: usize) -> String {
    if copy == 0 { String::new() } else { format!("_{copy}") }
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
                let (name, kind) = FIELDS[metric % FIELDS.len()];
                let labels = [
                    ("__name__", format!("{name}{}", suffix(metric / FIELDS.len()))),
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
        other => panic!("unknown data set {other}: devops, clicks, wide, million, node"),
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
            Kind::Bytes => self.value += (random % 1_000_000) as f64,
            Kind::Level => self.value = (self.value + ((random % 2001) as f64 - 1000.0) * 4096.0).clamp(0.0, 1e12),
            Kind::Decimal => self.value = ((self.value * 100.0).round() + (random % 21) as f64 - 10.0) / 100.0,
            Kind::Clicks if random.is_multiple_of(8) => self.value += (random >> 8) as f64 % 5.0,
            Kind::Clicks | Kind::Constant => {}
        }
        self.value
    }
}
