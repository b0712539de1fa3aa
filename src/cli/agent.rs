//! `campanile agent`: the daemon on every host.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::agent::{Agent, AgentConfig, AgentFile, AgentParts, Authorization, RemoteWriteConfig, open_queues};
use crate::http::{LineSockets, serve_graphite, serve_statsd};
use crate::ingest::{IngestConfig, IngestLimits, Intake};
use crate::io::disk::{Disk, OsDisk};
use crate::io::http_client::ReqwestClient;
use crate::io::{OsRandom, Random, ShutdownHandle, SystemClock, files};
use crate::model::{Interval, yaml};
use crate::server::Logging;

/// Collect this host's metrics, scrape endpoints, and push to a server.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// The server to push to: its base URL, or the full URL of its remote write.
    #[arg(long, value_name = "URL", env = "CAMPANILE_PUSH")]
    push: Option<String>,
    /// Configuration: the agent's keys, or a Prometheus file with scrape_configs and remote_write.
    #[arg(long, env = "CAMPANILE_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// Where what is not pushed yet waits.
    #[arg(long, default_value = "./campanile-agent-data", env = "CAMPANILE_AGENT_DATA_DIR")]
    data_dir: PathBuf,
    /// How often to collect.
    #[arg(long, env = "CAMPANILE_AGENT_INTERVAL")]
    interval: Option<Interval>,
    /// A file with the token for --push.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// The host's file system, when it is not /.
    #[arg(long)]
    host_root: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,campanile::agent=debug.
    #[arg(long, alias = "log.level", value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

/// Runs until it is told to stop.
pub(crate) fn run(args: AgentArgs) -> ExitCode {
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campanile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &AgentArgs) -> Result<(), String> {
    let logging = Logging {
        json: false,
        filter: args.log_level.clone(),
    };
    logging.start()?;
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let (config, ingest) = config(args, &*disk)?;
    disk.create_dir_all(&args.data_dir)
        .map_err(|error| format!("{}: {error}", args.data_dir.display()))?;
    let _lock = disk
        .lock(&args.data_dir)
        .map_err(|error| format!("{}: {error}", args.data_dir.display()))?;
    super::block_on(async {
        let queues = open_queues(&disk, &args.data_dir.join("queue"), &config.remote_write)?;
        let parts = AgentParts {
            disk: Arc::clone(&disk),
            clock: SystemClock::new(),
            random: Arc::new(OsRandom),
            client: ReqwestClient::new(),
        };
        for remote in &config.remote_write {
            println!(
                "campanile agent: pushing to {} every {}",
                remote.label(),
                config.interval
            );
        }
        let clock = Arc::clone(&parts.clock);
        let agent = Agent::new(config, parts, queues)?;
        let intake = Intake::new(
            Arc::new(agent.forwarder()),
            Arc::clone(&clock),
            OsRandom.next_u64(),
            IngestLimits::default(),
        );
        let intake = Arc::new(intake.with(&ingest));
        let (handle, shutdown) = ShutdownHandle::new();
        let mut listeners = tokio::task::JoinSet::new();
        if let Some(graphite) = ingest.graphite {
            let sockets = LineSockets::bind("graphite", graphite.listen).await?;
            let (intake, clock) = (Arc::clone(&intake), Arc::clone(&clock));
            listeners.spawn(serve_graphite(sockets, graphite, intake, clock, shutdown.clone()));
        }
        if let Some(statsd) = ingest.statsd {
            let sockets = LineSockets::bind("statsd", statsd.listen).await?;
            listeners.spawn(serve_statsd(sockets, statsd, intake, clock, shutdown.clone()));
        }
        let running = tokio::spawn(agent.run(shutdown));
        told_to_stop()
            .await
            .map_err(|error| format!("cannot listen for signals: {error}"))?;
        handle.request();
        while listeners.join_next().await.is_some() {}
        running.await.map_err(|error| format!("the agent broke off: {error}"))
    })
}

/// Completes on Ctrl-C or SIGTERM.
async fn told_to_stop() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

/// Puts file and arguments together; arguments win.
fn config(args: &AgentArgs, disk: &dyn Disk) -> Result<(AgentConfig, IngestConfig), String> {
    let mut ingest = IngestConfig::default();
    let mut config = match &args.config {
        None => AgentConfig::default(),
        Some(path) => {
            let name = path.display().to_string();
            let text = files::read_text(disk, path).map_err(|error| format!("{name}: {error}"))?;
            let mut file: AgentFile = yaml::read(&name, &text).map_err(|error| error.with_snippet())?;
            ingest = file.take_ingest();
            ingest.check().map_err(|error| format!("{name}: ingest: {error}"))?;
            let mut config = AgentConfig::from(file);
            if let Some(folder) = path.parent() {
                config.resolve_paths(folder);
            }
            config.check().map_err(|error| format!("{name}: {error}"))?;
            config
        }
    };
    if let Some(interval) = args.interval {
        config.interval = interval;
    }
    if let Some(root) = &args.host_root {
        config.host_root.clone_from(root);
    }
    if let Some(url) = &args.push {
        let mut remote = RemoteWriteConfig::to(&write_url(url)?);
        remote.authorization = args
            .token_file
            .as_ref()
            .map(|file| Authorization::from_file(file.clone()));
        config.remote_write.push(remote);
    }
    if config.remote_write.is_empty() {
        return Err("nowhere to push to: give --push URL, or remote_write in the configuration".to_owned());
    }
    config.check()?;
    Ok((config, ingest))
}

/// A URL without a path is a server's; remote write has its own path there.
fn write_url(url: &str) -> Result<String, String> {
    let mut read = url::Url::parse(url).map_err(|error| format!("--push {url:?}: {error}"))?;
    if read.path() == "/" {
        read.set_path("/api/v1/write");
    }
    Ok(read.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::SimDisk;
    use clap::Parser;
    use std::path::Path;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AgentArgs,
    }

    fn read(words: &[&str]) -> Result<AgentConfig, String> {
        let disk = SimDisk::seeded(1);
        disk.create_dir_all(Path::new("/etc")).unwrap();
        let text = b"global: {scrape_interval: 30s, external_labels: {region: eu}}\nscrape_configs:\n- job_name: a\n";
        disk.create(Path::new("/etc/prometheus.yml"))
            .unwrap()
            .write_all_at(text, 0)
            .unwrap();
        let bad = b"scrape_configs:\n- job_nam: a\n";
        disk.create(Path::new("/etc/bad.yml"))
            .unwrap()
            .write_all_at(bad, 0)
            .unwrap();
        let line = Line::try_parse_from([&["agent"], words].concat()).unwrap();
        config(&line.args, &disk).map(|(config, _)| config)
    }

    #[test]
    fn a_base_url_is_enough() {
        let config = read(&["--push", "http://metrics:9490", "--interval", "5s"]).unwrap();
        assert_eq!(config.remote_write[0].url, "http://metrics:9490/api/v1/write");
        assert_eq!(config.interval, Interval::secs(5));
        let config = read(&["--push", "https://mimir/api/v1/push"]).unwrap();
        assert_eq!(config.remote_write[0].url, "https://mimir/api/v1/push");
    }

    #[test]
    fn a_prometheus_file_is_read_as_it_is() {
        let config = read(&["--config", "/etc/prometheus.yml", "--push", "http://m"]).unwrap();
        assert_eq!((config.interval, config.scrape_configs.len()), (Interval::secs(30), 1));
        assert_eq!(config.external_labels["region"], "eu");
    }

    #[test]
    fn a_mistake_is_told_before_anything_starts() {
        assert!(read(&[]).unwrap_err().contains("nowhere to push"));
        assert!(read(&["--push", "metrics"]).unwrap_err().contains("--push"));
        assert!(read(&["--config", "/etc/bad.yml"]).unwrap_err().contains("bad.yml:2:3"));
    }
}
