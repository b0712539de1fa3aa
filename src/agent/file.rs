//! The agent's own configuration file: its keys, or those of a Prometheus file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::config::{AgentConfig, ScrapeConfig};
use super::remote::RemoteWriteConfig;
use crate::ingest::IngestConfig;
use crate::model::Interval;

/// A file for the agent alone: its own keys, or those of a Prometheus file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentFile {
    global: Global,
    host: bool,
    heartbeat: bool,
    textfile_directory: Option<PathBuf>,
    host_root: PathBuf,
    ingest: IngestConfig,
    interval: Option<Interval>,
    external_labels: BTreeMap<String, String>,
    scrape_configs: Vec<ScrapeConfig>,
    remote_write: Vec<RemoteWriteConfig>,
}

impl Default for AgentFile {
    fn default() -> AgentFile {
        let AgentConfig {
            host,
            host_root,
            heartbeat,
            ..
        } = AgentConfig::default();
        AgentFile {
            global: Global::default(),
            host,
            heartbeat,
            textfile_directory: None,
            ingest: IngestConfig::default(),
            host_root,
            interval: None,
            external_labels: BTreeMap::new(),
            scrape_configs: Vec::new(),
            remote_write: Vec::new(),
        }
    }
}

/// Prometheus's `global`, as far as it concerns an agent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Global {
    scrape_interval: Option<Interval>,
    scrape_timeout: Option<Interval>,
    /// Rules are the server's; Prometheus's agent mode passes over this key too.
    #[serde(rename = "evaluation_interval")]
    _evaluation_interval: Option<Interval>,
    external_labels: BTreeMap<String, String>,
}

impl From<AgentFile> for AgentConfig {
    fn from(file: AgentFile) -> AgentConfig {
        let mut external_labels = file.global.external_labels;
        external_labels.extend(file.external_labels);
        let mut scrape_configs = file.scrape_configs;
        for config in &mut scrape_configs {
            config.scrape_timeout = config.scrape_timeout.or(file.global.scrape_timeout);
        }
        let interval = file.interval.or(file.global.scrape_interval);
        let default = AgentConfig::default();
        AgentConfig {
            enabled: true,
            host: file.host,
            heartbeat: file.heartbeat,
            textfile_directory: file.textfile_directory,
            host_root: file.host_root,
            interval: interval.unwrap_or(default.interval),
            external_labels,
            scrape_configs,
            remote_write: file.remote_write,
        }
    }
}

impl AgentFile {
    /// Takes out what is received from programs on the host: the line listeners.
    pub fn take_ingest(&mut self) -> IngestConfig {
        std::mem::take(&mut self.ingest)
    }
}
