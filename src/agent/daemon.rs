//! The agent at work: one task for the host, one for each target, one for each server.
//!
//! The first collection is made at once, then one every interval. All samples of a collection bear the time it was due:
//! regular times compress best, and rates over them are exact.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::collect::Host;
use super::config::{AgentConfig, RemoteWriteConfig, ScrapeConfig, StaticConfig};
use super::metrics::{DROPPED, SCRAPES};
use super::push::Sender;
use super::queue::Queue;
use super::scrape::{self, Round, Tracker};
use super::target::{self, Credentials, Pace, Target};
use crate::ingest::relabel::relabel;
use crate::ingest::remote_write::encode_v1;
use crate::io::disk::Disk;
use crate::io::http_client::HttpClient;
use crate::io::log::{FileLog, Log, SegmentOptions};
use crate::io::{Clock, Mono, Random, Shutdown, ShutdownHandle, files};
use crate::model::{Interval, Labels, MetricMetadata, Millis, OwnedSeries};

/// Small segments, so that what was sent is soon forgotten on the disk too.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Files of targets are read again this often at least.
const FILE_SD_EVERY_MAX: Interval = Interval(30_000);

/// The world outside.
#[derive(Clone)]
pub struct AgentParts {
    /// Files: `/proc`, secrets, target lists.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance, for backoff.
    pub random: Arc<dyn Random>,
    /// HTTP, for scrapes and pushes.
    pub client: Arc<dyn HttpClient>,
}

/// A server and the log in which requests to it wait.
pub struct RemoteQueue {
    /// The server.
    pub config: RemoteWriteConfig,
    /// The queue's log.
    pub log: Arc<dyn Log>,
}

/// Opens a log below `dir` for each server. Blocks.
///
/// # Errors
/// The queue that cannot be opened.
pub fn open_queues(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    remotes: &[RemoteWriteConfig],
) -> Result<Vec<RemoteQueue>, String> {
    let options = SegmentOptions {
        segment_bytes: SEGMENT_BYTES,
        ..SegmentOptions::default()
    };
    let open = |remote: &RemoteWriteConfig| {
        let path = dir.join(remote.label());
        let (log, damage) = FileLog::open(Arc::clone(disk), &path, options)
            .map_err(|error| format!("queue {}: {error}", path.display()))?;
        for damage in damage {
            tracing::error!(?damage, "the agent's queue is damaged: the rest goes on");
        }
        Ok(RemoteQueue {
            config: remote.clone(),
            log: Arc::new(log),
        })
    };
    remotes.iter().map(open).collect()
}

/// The agent, ready to run.
pub struct Agent {
    config: AgentConfig,
    parts: AgentParts,
    outlet: Arc<Outlet>,
    senders: Vec<Sender>,
}

impl Agent {
    /// Opens the queues. Blocks.
    ///
    /// # Errors
    /// The section of the configuration, the file or the queue that is wrong.
    pub fn new(config: AgentConfig, parts: AgentParts, queues: Vec<RemoteQueue>) -> Result<Agent, String> {
        config.check()?;
        let mut senders: Vec<Sender> = Vec::new();
        for RemoteQueue { config, log } in queues {
            let label = config.label();
            if senders.iter().any(|sender| sender.label == label) {
                return Err(format!(
                    "remote_write: two servers are named {label:?}, give one a name"
                ));
            }
            let limits = &config.queue_config;
            let queue = Queue::open(label.clone(), log, limits.queue_bytes_max, limits.sample_age_limit);
            senders.push(Sender {
                queue: Arc::new(queue.map_err(|error| format!("queue {label}: {error}"))?),
                label,
                client: Arc::clone(&parts.client),
                disk: Arc::clone(&parts.disk),
                clock: Arc::clone(&parts.clock),
                random: Arc::clone(&parts.random),
                options: target::options(&config.tls_config, false, &*parts.disk)?,
                config,
            });
        }
        let remotes = senders.iter().map(|sender| Remote {
            config: sender.config.clone(),
            label: sender.label.clone(),
            queue: Arc::clone(&sender.queue),
        });
        let outlet = Arc::new(Outlet {
            remotes: remotes.collect(),
            external: Labels::from_pairs(&config.external_labels),
            clock: Arc::clone(&parts.clock),
        });
        Ok(Agent {
            config,
            parts,
            outlet,
            senders,
        })
    }

    /// Runs until `shutdown`; what is not pushed by then stays in the queue.
    pub async fn run(self, shutdown: Shutdown) {
        let mut tasks = JoinSet::new();
        for sender in self.senders {
            tasks.spawn(sender.run(shutdown.clone()));
        }
        if self.config.host {
            let host = Host::new(
                Arc::clone(&self.parts.disk),
                Arc::clone(&self.parts.clock),
                &self.config.host_root,
            );
            let clock = Arc::clone(&self.parts.clock);
            let outlet = Arc::clone(&self.outlet);
            tasks.spawn(run_host(host, clock, outlet, self.config.interval, shutdown.clone()));
        }
        for config in self.config.scrape_configs {
            let job = Job {
                pace: Pace::of(&config, self.config.interval),
                config: Arc::new(config),
                parts: self.parts.clone(),
                outlet: Arc::clone(&self.outlet),
            };
            tasks.spawn(job.run(shutdown.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// Where collected series go: into the queue of each server.
struct Outlet {
    remotes: Vec<Remote>,
    external: Labels,
    clock: Arc<dyn Clock>,
}

struct Remote {
    config: RemoteWriteConfig,
    label: String,
    queue: Arc<Queue>,
}

impl Outlet {
    async fn put(&self, series: Vec<OwnedSeries>, metadata: &[MetricMetadata]) {
        for remote in &self.remotes {
            let sent = self.labelled(remote, &series);
            let mut metadata = metadata;
            for chunk in sent.chunks(remote.config.queue_config.max_samples_per_send.max(1)) {
                let plain = encode_v1(chunk, metadata);
                metadata = &[];
                let body = snap::raw::Encoder::new().compress_vec(&plain);
                let samples = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
                let put = match body {
                    Ok(body) => {
                        let put = remote.queue.put(self.clock.now(), samples, &body).await;
                        put.map_err(|error| error.to_string())
                    }
                    Err(error) => Err(error.to_string()),
                };
                if let Err(error) = put {
                    DROPPED.add(&[&remote.label, "queue_failed"], u64::from(samples));
                    tracing::error!(remote = remote.label, samples, error, "the queue takes no samples");
                }
            }
        }
    }

    /// Puts external labels on and applies the server's own rules.
    fn labelled(&self, remote: &Remote, series: &[OwnedSeries]) -> Vec<OwnedSeries> {
        let rules = &remote.config.write_relabel_configs;
        if rules.is_empty() && self.external.is_empty() {
            return series.to_vec();
        }
        let change = |one: &OwnedSeries| {
            let mut labels = one.labels.to_builder();
            for (name, value) in self.external.iter() {
                if labels.get(name).is_none() {
                    labels.set(name, value);
                }
            }
            relabel(rules, &mut labels).then(|| OwnedSeries {
                labels: labels.build(),
                samples: one.samples.clone(),
            })
        };
        series.iter().filter_map(change).collect()
    }
}

/// Regular times: when the next round is due, and which time its samples bear.
struct Ticks {
    interval: Interval,
    start: Mono,
    wall: Millis,
    count: i64,
}

impl Ticks {
    fn new(clock: &dyn Clock, interval: Interval) -> Ticks {
        Ticks {
            interval,
            start: clock.mono(),
            wall: clock.now(),
            count: 0,
        }
    }

    fn due(&self) -> Mono {
        self.start.after(Interval(self.interval.0.saturating_mul(self.count)))
    }

    /// Returns the time of the round that is due now: the planned one, unless the clock has gone elsewhere.
    fn stamp(&mut self, now: Millis) -> Millis {
        let planned = self.wall + Interval(self.interval.0.saturating_mul(self.count));
        if (now - planned).0.abs() <= self.interval.0 / 100 {
            return planned;
        }
        self.wall = now - Interval(self.interval.0.saturating_mul(self.count));
        now
    }

    /// Goes on to the next round that is still to come.
    fn next(&mut self, now: Mono) {
        self.count += 1;
        while self.due() <= now {
            self.count += 1;
        }
    }
}

async fn run_host(host: Host, clock: Arc<dyn Clock>, outlet: Arc<Outlet>, interval: Interval, mut shutdown: Shutdown) {
    let host = Arc::new(host);
    let labels = Labels::from_pairs([("job", "node"), ("instance", host.name().as_str())]);
    let mut tracker = Tracker::new(labels.clone());
    let mut ticks = Ticks::new(&*clock, interval);
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = clock.sleep_until(ticks.due()) => {}
        }
        let (at, before) = (ticks.stamp(clock.now()), clock.mono());
        let collector = Arc::clone(&host);
        let gathered = tokio::task::spawn_blocking(move || collector.collect()).await;
        let round = gathered.map(|gathered| Round {
            scraped: gathered.samples.len(),
            samples: gathered
                .samples
                .into_iter()
                .map(|(own, value)| (with(&labels, &own), value, None))
                .collect(),
            metadata: gathered.metadata,
        });
        finish_round(
            &mut tracker,
            &outlet,
            &clock,
            at,
            before,
            "node",
            round.map_err(|error| error.to_string()),
        )
        .await;
        ticks.next(clock.mono());
    }
}

fn with(target: &Labels, own: &Labels) -> Labels {
    let mut labels = own.to_builder();
    for (name, value) in target.iter() {
        labels.set(name, value);
    }
    labels.build()
}

async fn finish_round(
    tracker: &mut Tracker,
    outlet: &Outlet,
    clock: &Arc<dyn Clock>,
    at: Millis,
    before: Mono,
    job: &str,
    round: Result<Round, String>,
) {
    let seconds = clock.mono().seconds_since(before);
    SCRAPES.inc(&[job, if round.is_ok() { "success" } else { "failure" }]);
    if let Err(error) = &round {
        tracing::debug!(job, error, "scrape failed");
    }
    let series = tracker.round(at, seconds, round.as_ref().map_err(|_| ()));
    let news = round.map_or_else(|_| Vec::new(), |round| tracker.news(at, &round.metadata));
    outlet.put(series, &news).await;
}

/// One scrape config: keeps a task for each of its targets.
struct Job {
    config: Arc<ScrapeConfig>,
    pace: Pace,
    parts: AgentParts,
    outlet: Arc<Outlet>,
}

impl Job {
    async fn run(self, mut shutdown: Shutdown) {
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Target, ShutdownHandle> = HashMap::new();
        let mut files_seen: HashMap<PathBuf, Vec<StaticConfig>> = HashMap::new();
        let refresh = self.config.file_sd_configs.iter().map(|sd| sd.refresh_interval).min();
        loop {
            let wanted = self.targets(&mut files_seen);
            // Dropping its handle tells a target that it is gone.
            running.retain(|target, _| wanted.contains(target));
            for target in wanted {
                if let Entry::Vacant(place) = running.entry(target) {
                    let (handle, gone) = ShutdownHandle::new();
                    tasks.spawn(self.scraper(place.key()).run(gone, shutdown.clone()));
                    place.insert(handle);
                }
            }
            let again = async {
                match refresh {
                    Some(every) => self.parts.clock.sleep(every.min(FILE_SD_EVERY_MAX)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                () = again => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    fn scraper(&self, target: &Target) -> Scraper {
        Scraper {
            target: target.clone(),
            config: Arc::clone(&self.config),
            pace: self.pace,
            parts: self.parts.clone(),
            outlet: Arc::clone(&self.outlet),
        }
    }

    /// Returns the targets of now; a file that cannot be read keeps those it had.
    fn targets(&self, seen: &mut HashMap<PathBuf, Vec<StaticConfig>>) -> Vec<Target> {
        let mut found: Vec<Target> = Vec::new();
        let mut add = |group: &StaticConfig| {
            for target in target::targets(&self.config, group, self.pace) {
                if !found.contains(&target) {
                    found.push(target);
                }
            }
        };
        self.config.static_configs.iter().for_each(&mut add);
        let patterns = self.config.file_sd_configs.iter().flat_map(|sd| &sd.files);
        let mut present = Vec::new();
        for pattern in patterns {
            match files::glob(&*self.parts.disk, Path::new(pattern)) {
                Ok(paths) => present.extend(paths),
                Err(error) => tracing::warn!(pattern, %error, "file_sd_configs: cannot list"),
            }
        }
        for path in present {
            match self.read_targets(&path) {
                Ok(groups) => drop(seen.insert(path.clone(), groups)),
                Err(error) => tracing::warn!(error, "file_sd_configs: the file keeps the targets it had"),
            }
            seen.get(&path).into_iter().flatten().for_each(&mut add);
        }
        found
    }

    fn read_targets(&self, path: &Path) -> Result<Vec<StaticConfig>, String> {
        let name = path.display().to_string();
        let text = files::read_text(&*self.parts.disk, path).map_err(|error| format!("{name}: {error}"))?;
        // JSON is YAML.
        crate::model::yaml::read(&name, &text).map_err(|error| error.to_string())
    }
}

/// One target.
struct Scraper {
    target: Target,
    config: Arc<ScrapeConfig>,
    pace: Pace,
    parts: AgentParts,
    outlet: Arc<Outlet>,
}

impl Scraper {
    async fn run(self, mut gone: Shutdown, mut shutdown: Shutdown) {
        let clock = &self.parts.clock;
        let mut tracker = Tracker::new(self.target.labels.clone());
        let mut ticks = Ticks::new(&**clock, self.pace.interval);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = gone.requested() => {
                    self.outlet.put(tracker.end(clock.now()), &[]).await;
                    return;
                }
                () = clock.sleep_until(ticks.due()) => {}
            }
            let (at, before) = (ticks.stamp(clock.now()), clock.mono());
            let round = tokio::select! {
                biased;
                () = shutdown.requested() => return,
                round = self.scrape() => round,
            };
            let job = &self.config.job_name;
            finish_round(&mut tracker, &self.outlet, clock, at, before, job, round).await;
            ticks.next(clock.mono());
        }
    }

    async fn scrape(&self) -> Result<Round, String> {
        let credentials = Credentials {
            basic: self.config.basic_auth.as_ref(),
            token: self.config.authorization.as_ref(),
        };
        let auth = credentials.header(&*self.parts.disk)?;
        let options = target::options(&self.config.tls_config, self.config.follow_redirects, &*self.parts.disk)?;
        let client = &*self.parts.client;
        let page = scrape::fetch(client, &self.target.url, auth, &self.config, options, self.pace.timeout);
        let (page, format) = page.await?;
        scrape::read_page(&page, format, &self.target.labels, &self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::remote_write::decode_v1;
    use crate::ingest::{Encoding, IngestLimits, decompress};
    use crate::io::disk::SimDisk;
    use crate::io::http_client::{HttpError, HttpOutbox, HttpResponse};
    use crate::io::log::MemLog;
    use crate::io::{SeededRandom, SimClock};

    struct World {
        clock: SimClock,
        client: Arc<HttpOutbox>,
        disk: SimDisk,
        log: Arc<MemLog>,
    }

    impl World {
        fn new() -> World {
            let clock = SimClock::at(Millis(1_000_000));
            World {
                client: HttpOutbox::new(Arc::new(clock.clone())),
                disk: SimDisk::seeded(1),
                log: Arc::new(MemLog::new()),
                clock,
            }
        }

        fn start(&self, yaml: &str) -> (ShutdownHandle, tokio::task::JoinHandle<()>) {
            let config: AgentConfig = serde_yaml::from_str(yaml).unwrap();
            let parts = AgentParts {
                disk: Arc::new(self.disk.clone()),
                clock: Arc::new(self.clock.clone()),
                random: Arc::new(SeededRandom::new(1)),
                client: self.client.clone(),
            };
            let queue = RemoteQueue {
                config: RemoteWriteConfig::to("http://server/api/v1/write"),
                log: self.log.clone(),
            };
            let agent = Agent::new(config, parts, vec![queue]).unwrap();
            let (handle, shutdown) = ShutdownHandle::new();
            (handle, tokio::spawn(agent.run(shutdown)))
        }

        fn page(&self, text: &str) {
            let body = bytes::Bytes::copy_from_slice(text.as_bytes());
            let response = HttpResponse {
                status: 200,
                body,
                ..HttpResponse::default()
            };
            self.client.script("h:1/metrics", Ok(response));
        }

        /// What arrived at the server, line by line, once `pushes` requests did.
        async fn pushed(&self, pushes: usize) -> Vec<String> {
            for _ in 0..1_000_000 {
                let sent = self.client.sent();
                let bodies: Vec<_> = sent.iter().filter(|sent| sent.request.method == "POST").collect();
                if bodies.len() < pushes {
                    tokio::task::yield_now().await;
                    continue;
                }
                return lines(&bodies[pushes - 1].request.body);
            }
            panic!("{pushes} requests never arrived");
        }

        /// Lets the tasks come to rest: everybody sleeps.
        async fn settle(&self) {
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn lines(body: &bytes::Bytes) -> Vec<String> {
        let plain = decompress(Encoding::Snappy, body.clone(), 1 << 20).unwrap();
        let batch = decode_v1(plain, 1, &IngestLimits::default()).unwrap().batch;
        let line = |(index, series): (usize, &crate::model::BatchSeries)| {
            let sample = batch.samples[series.samples.start as usize];
            let value = if crate::model::is_stale(sample.value) {
                "stale".to_owned()
            } else {
                sample.value.to_string()
            };
            format!("{} {value} {}", batch.labels.labels(index).unwrap(), sample.at.0)
        };
        batch.series.iter().enumerate().map(line).collect()
    }

    const ONE_TARGET: &str = "{host: false, scrape_configs: [{job_name: api, static_configs: [{targets: ['h:1']}]}]}";

    #[tokio::test]
    async fn a_target_is_scraped_at_once_and_then_at_regular_times() {
        let world = World::new();
        world.page("x 1\n");
        world.page("x 2\n");
        let (handle, task) = world.start(ONE_TARGET);
        let first = world.pushed(1).await;
        assert_eq!(first[0], r#"x{instance="h:1", job="api"} 1 1000000"#);
        assert_eq!(first[1], r#"up{instance="h:1", job="api"} 1 1000000"#);
        world.settle().await;
        world.clock.jump_wall(Millis(1_000_040));
        world.clock.advance(Interval(15_000));
        assert_eq!(world.pushed(2).await[0], r#"x{instance="h:1", job="api"} 2 1015000"#);
        handle.request();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_target_that_fails_is_down_and_its_series_end() {
        let world = World::new();
        world.page("x 1\n");
        world
            .client
            .script("h:1/metrics", Err(HttpError::Connect("refused".to_owned())));
        let (handle, task) = world.start(ONE_TARGET);
        world.pushed(1).await;
        world.settle().await;
        world.clock.advance(Interval(15_000));
        let second = world.pushed(2).await;
        assert_eq!(second[0], r#"x{instance="h:1", job="api"} stale 1015000"#);
        assert_eq!(second[1], r#"up{instance="h:1", job="api"} 0 1015000"#);
        handle.request();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn what_the_server_does_not_take_is_sent_again_and_survives_a_restart() {
        let world = World::new();
        world.page("x 1\n");
        world.client.script_status("api/v1/write", 503);
        let (handle, task) = world.start(ONE_TARGET);
        let first = world.pushed(1).await;
        handle.request();
        task.await.unwrap();
        world.client.script_status("api/v1/write", 500);
        let (handle, task) = world.start("{host: false}");
        assert_eq!(world.pushed(2).await, first, "the queue goes on after a restart");
        world.settle().await;
        world.clock.advance(Interval(10_000));
        assert_eq!(world.pushed(3).await, first);
        world.settle().await;
        world.clock.advance(Interval(60_000));
        world.settle().await;
        let posts = world
            .client
            .sent()
            .iter()
            .filter(|sent| sent.request.method == "POST")
            .count();
        assert_eq!(posts, 3, "what was taken is not sent again");
        handle.request();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn targets_in_files_come_and_go() {
        let world = World::new();
        let path = Path::new("/targets/a.json");
        world.disk.create_dir_all(Path::new("/targets")).unwrap();
        let put = |text: &str| {
            let file = world.disk.open(path).or_else(|_| world.disk.create(path)).unwrap();
            file.set_len(0).unwrap();
            file.write_all_at(text.as_bytes(), 0).unwrap();
        };
        put(r#"[{"targets": ["h:1"]}]"#);
        world.page("x 1\n");
        let yaml = "{host: false, interval: 1h, scrape_configs: [{job_name: api, file_sd_configs: [{files: ['/targets/*.json'], \
             refresh_interval: 10s}]}]}";
        let (handle, task) = world.start(yaml);
        world.pushed(1).await;
        put("[]");
        world.settle().await;
        world.clock.advance(Interval(10_000));
        let gone = world.pushed(2).await;
        assert_eq!(gone[0], r#"x{instance="h:1", job="api"} stale 1010000"#);
        assert!(
            gone[1].starts_with("up{") && gone[1].ends_with("stale 1010000"),
            "{gone:?}"
        );
        handle.request();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn the_host_is_collected_under_its_name() {
        let world = World::new();
        for (path, text) in [
            ("/proc/loadavg", "1 2 3 1/2 3\n"),
            ("/proc/sys/kernel/hostname", "web-1\n"),
        ] {
            world.disk.create_dir_all(Path::new(path).parent().unwrap()).unwrap();
            world
                .disk
                .create(Path::new(path))
                .unwrap()
                .write_all_at(text.as_bytes(), 0)
                .unwrap();
        }
        let (handle, task) = world.start("{external_labels: {region: eu}}");
        let mut seen = Vec::new();
        for _ in 0..1_000_000 {
            if let Some(sent) = world.client.sent().first() {
                seen = lines(&sent.request.body);
                break;
            }
            tokio::task::yield_now().await;
        }
        let load = r#"node_load15{instance="web-1", job="node", region="eu"} 3 1000000"#;
        assert!(seen.iter().any(|line| line == load), "{seen:?}");
        assert!(
            seen.iter()
                .any(|line| line.starts_with(r#"up{instance="web-1", job="node", region="eu"} 1"#))
        );
        handle.request();
        task.await.unwrap();
    }
}
