//! The servers that are pushed to: Prometheus's `remote_write`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::credentials::{Authorization, BasicAuth, TlsConfig};
use crate::ingest::relabel::RelabelConfig;
use crate::model::{Interval, Secret};

/// One server to push to: Prometheus's `remote_write`, version 1.0 of the protocol.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteWriteConfig {
    /// Where to.
    pub url: String,
    /// Its name in metrics and in the queue's folder; made from the URL by default.
    #[serde(default)]
    pub name: Option<String>,
    /// How long one request may take.
    #[serde(default = "thirty_seconds")]
    pub remote_timeout: Interval,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Rules over what is sent.
    #[serde(default)]
    pub write_relabel_configs: Vec<RelabelConfig>,
    /// User and password.
    #[serde(default)]
    pub basic_auth: Option<BasicAuth>,
    /// A token.
    #[serde(default)]
    pub authorization: Option<Authorization>,
    /// TLS.
    #[serde(default)]
    pub tls_config: TlsConfig,
    /// Batches and backoff.
    #[serde(default)]
    pub queue_config: QueueConfig,
}

fn thirty_seconds() -> Interval {
    Interval(30_000)
}

impl RemoteWriteConfig {
    /// Returns the way to `url`, everything else as by default.
    pub fn to(url: &str) -> RemoteWriteConfig {
        RemoteWriteConfig {
            url: url.to_owned(),
            name: None,
            remote_timeout: thirty_seconds(),
            headers: BTreeMap::new(),
            write_relabel_configs: Vec::new(),
            basic_auth: None,
            authorization: None,
            tls_config: TlsConfig::default(),
            queue_config: QueueConfig::default(),
        }
    }

    /// Returns the name in metrics, logs and the queue's folder: no credentials, no path.
    pub fn label(&self) -> String {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') {
                c
            } else {
                '_'
            }
        };
        let host = || {
            let url = url::Url::parse(&self.url).ok()?;
            let port = url.port().map_or_else(String::new, |port| format!("_{port}"));
            Some(format!("{}{port}", url.host_str()?))
        };
        let label = self.name.clone().or_else(host).unwrap_or_else(|| "server".to_owned());
        label.chars().map(safe).collect()
    }
}

/// How a queue is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// The most samples of one request.
    pub max_samples_per_send: usize,
    /// The first wait after a failure.
    pub min_backoff: Interval,
    /// The longest wait.
    pub max_backoff: Interval,
    /// Samples older than this are given up; 0 keeps them whatever their age.
    pub sample_age_limit: Interval,
    /// The most bytes kept; over it the oldest are given up.
    pub queue_bytes_max: u64,
}

impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig {
            max_samples_per_send: 2000,
            min_backoff: Interval(100),
            max_backoff: Interval(10_000),
            sample_age_limit: Interval(0),
            queue_bytes_max: 1 << 30,
        }
    }
}
