//! The agent from end to end: pages in, bodies out, under a simulated clock.

use std::path::Path;

use super::*;
use crate::agent::remote::RemoteWriteConfig;
use crate::ingest::remote_write::decode_v1;
use crate::ingest::{Encoding, IngestLimits, decompress};
use crate::io::ShutdownHandle;
use crate::io::disk::SimDisk;
use crate::io::http_client::{HttpError, HttpOutbox, HttpResponse};
use crate::io::log::MemLog;
use crate::io::{SeededRandom, SimClock};
use crate::model::{Interval, Millis};

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

    fn agent(&self, yaml: &str) -> Agent {
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
        Agent::new(config, parts, vec![queue]).unwrap()
    }

    fn start(&self, yaml: &str) -> (ShutdownHandle, tokio::task::JoinHandle<()>) {
        let (handle, shutdown) = ShutdownHandle::new();
        (handle, tokio::spawn(self.agent(yaml).run(shutdown)))
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
    let with_samples = batch
        .series
        .iter()
        .enumerate()
        .filter(|(_, series)| !series.samples.is_empty());
    with_samples.map(line).collect()
}

const ONE_TARGET: &str =
    "{host: false, heartbeat: false, scrape_configs: [{job_name: api, static_configs: [{targets: ['h:1']}]}]}";

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
    let (handle, task) = world.start("{host: false, heartbeat: false}");
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
    let yaml = "{host: false, heartbeat: false, interval: 1h, scrape_configs: [{job_name: api, file_sd_configs: [{files: ['/targets/*.json'], \
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
    let (handle, task) = world.start("{heartbeat: false, external_labels: {region: eu}}");
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

#[tokio::test]
async fn targets_of_an_http_list_are_scraped_and_shown() {
    let world = World::new();
    let list = HttpResponse {
        status: 200,
        body: bytes::Bytes::from_static(br#"[{"targets": ["h:1"], "labels": {"env": "x"}}, {"targets": ["drop:1"]}]"#),
        ..HttpResponse::default()
    };
    world.client.script("sd:1/list", Ok(list));
    world.page("x 1\n");
    let yaml = "{host: false, heartbeat: false, scrape_configs: [{job_name: api, http_sd_configs: [{url: 'http://sd:1/list'}], \
         relabel_configs: [{source_labels: [__address__], regex: 'drop.*', action: drop}]}]}";
    let targets: Arc<Targets> = Arc::default();
    let agent = world.agent(yaml).with_targets(Arc::clone(&targets));
    let (handle, shutdown) = ShutdownHandle::new();
    let task = tokio::spawn(agent.run(shutdown));
    assert_eq!(
        world.pushed(1).await[0],
        r#"x{env="x", instance="h:1", job="api"} 1 1000000"#
    );
    let view = targets.view(crate::agent::TargetState::Any, None);
    assert_eq!(
        (&view["activeTargets"][0]["health"], &view["droppedTargetCounts"]["api"]),
        (&"up".into(), &1.into())
    );
    assert_eq!(
        view["activeTargets"][0]["discoveredLabels"]["__meta_url"],
        "http://sd:1/list"
    );
    handle.request();
    task.await.unwrap();
}

#[tokio::test]
async fn what_was_received_is_queued_with_its_histograms() {
    let world = World::new();
    let agent = world.agent("{host: false, heartbeat: false}");
    let mut counted =
        crate::ingest::statsd::Aggregator::new(crate::ingest::StatsdConfig::on(([127, 0, 0, 1], 1).into()));
    counted.take(b"took:250|ms", Millis(1));
    let report = agent
        .forwarder()
        .append(counted.flush(Millis(1_000_000), 1))
        .await
        .unwrap();
    assert_eq!((report.samples, report.histograms), (2, 1));
    let (handle, shutdown) = ShutdownHandle::new();
    let task = tokio::spawn(agent.run(shutdown));
    // Samples and histograms go apart, in either order.
    let mut pushed = world.pushed(1).await;
    pushed.extend(world.pushed(2).await);
    assert_eq!(pushed, ["took_count 1 1000000", "took_sum 0.25 1000000"]);
    let sent = world.client.sent();
    let batches = sent.iter().map(|sent| {
        let plain = decompress(Encoding::Snappy, sent.request.body.clone(), 1 << 20).unwrap();
        decode_v1(plain, 1, &IngestLimits::default()).unwrap().batch
    });
    let counts: Vec<f64> = batches
        .flat_map(|batch| batch.histograms)
        .map(|found| found.histogram.count)
        .collect();
    assert_eq!(counts, [1.0]);
    handle.request();
    task.await.unwrap();
}

#[tokio::test]
async fn a_sign_of_life_comes_every_interval() {
    let world = World::new();
    let (handle, task) = world.start("{host: false}");
    let beat = r#"campanile_agent_heartbeat_seconds{instance="localhost", job="campanile_agent"}"#;
    assert_eq!(world.pushed(1).await, [format!("{beat} 1000 1000000")]);
    world.settle().await;
    world.clock.advance(Interval(15_000));
    assert_eq!(world.pushed(2).await, [format!("{beat} 1015 1015000")]);
    handle.request();
    task.await.unwrap();
}
