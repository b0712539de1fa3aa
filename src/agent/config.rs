//! What the agent collects and where it sends it: Prometheus's own keys, so that a Prometheus file's sections fit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::credentials::{Authorization, BasicAuth, TlsConfig, resolve};
use super::remote::RemoteWriteConfig;
use crate::ingest::relabel::RelabelConfig;
use crate::model::Interval;

/// The agent's section.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// Whether `serve` runs one.
    pub enabled: bool,
    /// Whether this machine's own metrics are collected, as `job="node"`.
    pub host: bool,
    /// Whether a sign of life is sent every interval, so that a silent agent can be told from a value that dropped.
    pub heartbeat: bool,
    /// A folder of `*.prom` files whose metrics are collected with the machine's: what cron jobs leave there.
    pub textfile_directory: Option<PathBuf>,
    /// Where the machine's `/proc`, `/sys` and mount points are: `/`, or `/host` inside a container.
    pub host_root: PathBuf,
    /// How often, where a scrape config does not say.
    pub interval: Interval,
    /// Labels that every series sent gets, unless it has them.
    pub external_labels: BTreeMap<String, String>,
    /// Endpoints to scrape.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Servers to push to; inside `serve` none means the server itself.
    pub remote_write: Vec<RemoteWriteConfig>,
}

impl Default for AgentConfig {
    fn default() -> AgentConfig {
        AgentConfig {
            enabled: true,
            host: true,
            heartbeat: true,
            textfile_directory: None,
            host_root: PathBuf::from("/"),
            interval: Interval(15_000),
            external_labels: BTreeMap::new(),
            scrape_configs: Vec::new(),
            remote_write: Vec::new(),
        }
    }
}

impl AgentConfig {
    /// Makes paths that are relative to the configuration file absolute: `folder` is where the file lies.
    pub fn resolve_paths(&mut self, folder: &Path) {
        self.textfile_directory
            .iter_mut()
            .for_each(|path| *path = folder.join(&*path));
        for scrape in &mut self.scrape_configs {
            for sd in &mut scrape.http_sd_configs {
                resolve(folder, &mut sd.basic_auth, &mut sd.authorization, &mut sd.tls_config);
            }
            let files = scrape.file_sd_configs.iter_mut().flat_map(|config| &mut config.files);
            files.for_each(|pattern| *pattern = folder.join(&*pattern).display().to_string());
            resolve(
                folder,
                &mut scrape.basic_auth,
                &mut scrape.authorization,
                &mut scrape.tls_config,
            );
        }
        for remote in &mut self.remote_write {
            resolve(
                folder,
                &mut remote.basic_auth,
                &mut remote.authorization,
                &mut remote.tls_config,
            );
        }
    }

    /// Checks what the single values cannot know.
    ///
    /// # Errors
    /// The text names the section and what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.interval.0 < INTERVAL_MIN {
            return Err(format!("interval {} is under a tenth of a second", self.interval));
        }
        let mut names = std::collections::BTreeSet::new();
        for config in &self.scrape_configs {
            let name = &config.job_name;
            if !names.insert(name) {
                return Err(format!("scrape_configs: job_name {name:?} occurs twice"));
            }
            let interval = config.scrape_interval.unwrap_or(self.interval);
            let timeout = config.scrape_timeout.unwrap_or(interval.min(DEFAULT_TIMEOUT));
            if interval.0 < INTERVAL_MIN || timeout.0 <= 0 {
                return Err(format!("scrape_configs: job {name:?} has no interval or timeout"));
            }
            if timeout > interval {
                return Err(format!(
                    "scrape_configs: job {name:?} has a scrape_timeout of {timeout}, over its interval of {interval}"
                ));
            }
            if !matches!(config.scheme.as_str(), "http" | "https") {
                return Err(format!(
                    "scrape_configs: job {name:?} has the scheme {:?}",
                    config.scheme
                ));
            }
            if config.basic_auth.is_some() && config.authorization.is_some() {
                return Err(format!(
                    "scrape_configs: job {name:?} has both basic_auth and authorization"
                ));
            }
        }
        for remote in &self.remote_write {
            let url =
                url::Url::parse(&remote.url).map_err(|error| format!("remote_write: {:?}: {error}", remote.url))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(format!("remote_write: {:?} is neither http nor https", remote.url));
            }
            if remote.basic_auth.is_some() && remote.authorization.is_some() {
                return Err(format!(
                    "remote_write: {:?} has both basic_auth and authorization",
                    remote.url
                ));
            }
        }
        Ok(())
    }
}

/// The shortest interval, in milliseconds.
const INTERVAL_MIN: i64 = 100;
/// Prometheus's default, cut to the interval.
pub(super) const DEFAULT_TIMEOUT: Interval = Interval(10_000);

/// Targets written out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StaticConfig {
    /// Addresses, `host:port`.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: BTreeMap<String, String>,
}

/// Targets in files of `StaticConfig`s, JSON or YAML, read again regularly.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSdConfig {
    /// Patterns of file names.
    pub files: Vec<String>,
    /// How often they are read again.
    #[serde(default = "five_minutes")]
    pub refresh_interval: Interval,
}

fn five_minutes() -> Interval {
    Interval(300_000)
}

/// Targets that a web server lists: Prometheus's `http_sd_config`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSdConfig {
    /// What is asked.
    pub url: String,
    /// How often.
    #[serde(default = "a_minute")]
    pub refresh_interval: Interval,
    /// User and password.
    #[serde(default)]
    pub basic_auth: Option<BasicAuth>,
    /// A token.
    #[serde(default)]
    pub authorization: Option<Authorization>,
    /// TLS.
    #[serde(default)]
    pub tls_config: TlsConfig,
}

fn a_minute() -> Interval {
    Interval::mins(1)
}

/// A number of bytes as Prometheus writes it: `10MB`, `1GiB`, `512`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_yaml::Value")]
pub struct Bytes(pub u64);

impl TryFrom<serde_yaml::Value> for Bytes {
    type Error = String;

    fn try_from(value: serde_yaml::Value) -> Result<Bytes, String> {
        if let Some(bytes) = value.as_u64() {
            return Ok(Bytes(bytes));
        }
        let text = value.as_str().unwrap_or_default().trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor: Option<u64> = match &text[digits.len()..] {
            "" | "B" => Some(1),
            "KB" | "KiB" => Some(1 << 10),
            "MB" | "MiB" => Some(1 << 20),
            "GB" | "GiB" => Some(1 << 30),
            _ => None,
        };
        let number: Option<u64> = digits.parse().ok();
        let bytes = number
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor));
        bytes
            .map(Bytes)
            .ok_or_else(|| format!("{text:?} is not a number of bytes such as 10MB"))
    }
}

/// A form of the exposition, under Prometheus's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are Prometheus's own")]
pub enum ScrapeProtocol {
    PrometheusProto,
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText1,
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText0,
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText0,
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText1,
}

/// One job: Prometheus's `scrape_config`. A key that is not here is refused when the file is read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrapeConfig {
    /// The label `job`.
    pub job_name: String,
    /// How often; the agent's interval by default.
    #[serde(default)]
    pub scrape_interval: Option<Interval>,
    /// How long one may take; 10 s, or the interval if that is less.
    #[serde(default)]
    pub scrape_timeout: Option<Interval>,
    /// The path.
    #[serde(default = "metrics_path")]
    pub metrics_path: String,
    /// `http` or `https`.
    #[serde(default = "http")]
    pub scheme: String,
    /// Query parameters.
    #[serde(default)]
    pub params: BTreeMap<String, Vec<String>>,
    /// Targets written out.
    #[serde(default)]
    pub static_configs: Vec<StaticConfig>,
    /// Targets in files.
    #[serde(default)]
    pub file_sd_configs: Vec<FileSdConfig>,
    /// Targets that a web server lists.
    #[serde(default)]
    pub http_sd_configs: Vec<HttpSdConfig>,
    /// Whether the target's own labels win over ours.
    #[serde(default)]
    pub honor_labels: bool,
    /// Whether the target's own timestamps are kept.
    #[serde(default = "yes")]
    pub honor_timestamps: bool,
    /// Rules over targets.
    #[serde(default)]
    pub relabel_configs: Vec<RelabelConfig>,
    /// Rules over scraped series.
    #[serde(default)]
    pub metric_relabel_configs: Vec<RelabelConfig>,
    /// User and password.
    #[serde(default)]
    pub basic_auth: Option<BasicAuth>,
    /// A token.
    #[serde(default)]
    pub authorization: Option<Authorization>,
    /// TLS.
    #[serde(default)]
    pub tls_config: TlsConfig,
    /// Follow redirects within a host.
    #[serde(default = "yes")]
    pub follow_redirects: bool,
    /// Ask for compressed answers.
    #[serde(default = "yes")]
    pub enable_compression: bool,
    /// The most samples of one scrape, after relabelling; 0 is no limit. Over it the whole scrape fails.
    #[serde(default)]
    pub sample_limit: usize,
    /// The most labels of a series; 0 is no limit. Over it the whole scrape fails.
    #[serde(default)]
    pub label_limit: usize,
    /// The most bytes of a label's name; 0 is no limit. Over it the whole scrape fails.
    #[serde(default)]
    pub label_name_length_limit: usize,
    /// The most bytes of a label's value; 0 is no limit. Over it the whole scrape fails.
    #[serde(default)]
    pub label_value_length_limit: usize,
    /// The most targets; 0 is no limit. Over it none is scraped.
    #[serde(default)]
    pub target_limit: usize,
    /// The most bytes of a page after decompression; 0 is the agent's own limit of 64 MiB.
    #[serde(default)]
    pub body_size_limit: Bytes,
    /// Forms to ask for; protobuf among them brings native histograms.
    #[serde(default)]
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// Whether native histograms are asked for.
    #[serde(default)]
    pub scrape_native_histograms: bool,
    /// Whether classic buckets are kept beside native ones.
    #[serde(default)]
    pub always_scrape_classic_histograms: bool,
}

fn metrics_path() -> String {
    "/metrics".to_owned()
}

fn http() -> String {
    "http".to_owned()
}

fn yes() -> bool {
    true
}

impl ScrapeConfig {
    /// Whether the target is asked for the form that has native histograms.
    pub(super) fn wants_native(&self) -> bool {
        self.scrape_native_histograms || self.scrape_protocols.contains(&ScrapeProtocol::PrometheusProto)
    }

    /// Returns the job that scrapes one endpoint, everything else as by default.
    pub fn of(job_name: &str, target: &str) -> ScrapeConfig {
        ScrapeConfig {
            job_name: job_name.to_owned(),
            scrape_interval: None,
            scrape_timeout: None,
            metrics_path: metrics_path(),
            scheme: http(),
            params: BTreeMap::new(),
            static_configs: vec![StaticConfig {
                targets: vec![target.to_owned()],
                labels: BTreeMap::new(),
            }],
            file_sd_configs: Vec::new(),
            http_sd_configs: Vec::new(),
            honor_labels: false,
            honor_timestamps: true,
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            basic_auth: None,
            authorization: None,
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            enable_compression: true,
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
            body_size_limit: Bytes(0),
            scrape_protocols: Vec::new(),
            scrape_native_histograms: false,
            always_scrape_classic_histograms: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::yaml;

    fn read(text: &str) -> Result<AgentConfig, String> {
        let config: AgentConfig = yaml::read("agent.yaml", text).map_err(|error| error.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn prometheus_sections_are_read_as_they_are() {
        let config = read(
            "scrape_configs:\n- job_name: api\n  scrape_interval: 5s\n  scrape_timeout: 2s\n  params: {module: [x]}\n  \
             static_configs:\n  - targets: ['a:1', 'b:1']\n    labels: {env: prod}\n  basic_auth: {username: u, password: p}\n  \
             relabel_configs:\n  - {source_labels: [__address__], target_label: host}\n\
             remote_write:\n- url: https://metrics.example.com/api/v1/write\n  authorization: {credentials: t}\n",
        )
        .unwrap();
        assert_eq!(config.scrape_configs[0].static_configs[0].targets, ["a:1", "b:1"]);
        assert_eq!(config.remote_write[0].label(), "metrics.example.com");
        assert!(!format!("{config:?}").contains("\"p\""), "a password is shown");
    }

    #[test]
    fn what_is_not_done_is_refused_with_its_place() {
        for (text, expected) in [
            (
                "scrape_configs:\n- job_name: a\n  kubernetes_sd_configs: []\n",
                "agent.yaml:3:3",
            ),
            ("scrape_configs:\n- job_name: a\n- job_name: a\n", "occurs twice"),
            (
                "scrape_configs:\n- job_name: a\n  scrape_timeout: 20s\n",
                "over its interval",
            ),
            ("scrape_configs:\n- job_name: a\n  scheme: ftp\n", "scheme \"ftp\""),
            ("remote_write:\n- url: 'example.com'\n", "remote_write"),
            (
                "remote_write:\n- {url: 'http://x', basic_auth: {}, authorization: {}}\n",
                "both",
            ),
            (
                "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - {action: hashmod, target_label: a}\n",
                "modulus",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
