//! A `prometheus.yml` read as our configuration: what it scrapes, which rules it loads, whom it alerts, where it forwards.
//!
//! What Prometheus knows and we do not is refused by name, never ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::{Alerting, Config, NotYet};
use crate::agent::{RemoteWriteConfig, ScrapeConfig};
use crate::ingest::otlp::OtlpConfig;
use crate::model::Interval;

/// The keys by which a Prometheus file is recognised.
const TELLING: [&str; 4] = ["global", "scrape_configs", "rule_files", "remote_write"];

/// Whether a document is a Prometheus configuration rather than ours.
pub(super) fn is_prometheus(document: &Value) -> bool {
    TELLING.iter().any(|key| document.get(key).is_some())
}

/// A `prometheus.yml` (Prometheus 3).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PrometheusFile {
    global: Global,
    rule_files: Vec<String>,
    scrape_configs: Vec<ScrapeConfig>,
    alerting: Alerting,
    remote_write: Vec<RemoteWriteConfig>,
    storage: Storage,
    remote_read: Option<NotYet>,
    scrape_config_files: Option<NotYet>,
    tracing: Option<NotYet>,
    runtime: Option<NotYet>,
    otlp: OtlpConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Global {
    scrape_interval: Option<Interval>,
    scrape_timeout: Option<Interval>,
    evaluation_interval: Option<Interval>,
    rule_query_offset: Option<Interval>,
    external_labels: BTreeMap<String, String>,
    query_log_file: Option<NotYet>,
    scrape_failure_log_file: Option<NotYet>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Storage {
    tsdb: Tsdb,
    exemplars: Option<NotYet>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tsdb {
    out_of_order_time_window: Option<Interval>,
}

/// Prometheus's own default of `scrape_interval` and `evaluation_interval`.
const INTERVAL: Interval = Interval::mins(1);

impl PrometheusFile {
    /// Returns the file as our configuration.
    pub(super) fn into_config(self) -> Config {
        let mut config = Config {
            external_labels: self.global.external_labels,
            evaluation_interval: self.global.evaluation_interval.unwrap_or(INTERVAL),
            rule_query_offset: self.global.rule_query_offset.unwrap_or(Interval::ZERO),
            rules: Some(self.rule_files),
            alerting: self.alerting,
            ..Config::default()
        };
        let every = self.global.scrape_interval.unwrap_or(INTERVAL);
        config.agent.interval = every;
        config.agent.scrape_configs = self.scrape_configs;
        for scrape in &mut config.agent.scrape_configs {
            scrape.scrape_timeout = scrape.scrape_timeout.or(self.global.scrape_timeout);
        }
        config.agent.remote_write = self.remote_write;
        config.ingest.otlp = self.otlp;
        if let Some(window) = self.storage.tsdb.out_of_order_time_window {
            config.storage.out_of_order_window = window;
        }
        config
    }
}
