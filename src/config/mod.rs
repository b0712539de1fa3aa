//! The configuration: composes each module's own section, reads file, environment and flags, in this order of weight.
//!
//! `campanile.yaml` with all keys optional; a `prometheus.yml` is recognised and read as such. A mistake names file, line and
//! column. What is a key of the design but not built yet is refused with a text that says so.

mod env;
mod limits;
mod prometheus;

pub use limits::Limits;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::agent::AgentConfig;
use crate::events::EventsConfig;
use crate::http::{Access, AuthConfig};
use crate::ingest::IngestConfig;
use crate::ingest::relabel::RelabelConfig;
use crate::io::disk::Disk;
use crate::io::files;
use crate::model::{Interval, yaml};
use crate::query::QueryOptions;
use crate::rules::AlertmanagersConfig;
use crate::tsdb::{ByteSize, DbConfig};

/// The whole configuration, defaults filled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port of the one listener.
    #[serde(deserialize_with = "yaml::from_text")]
    pub listen: Listen,
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// The URL under which people reach this server; links in pages begin with it.
    pub external_url: Option<String>,
    /// Labels added to what leaves this server: alerts and forwarded samples.
    pub external_labels: BTreeMap<String, String>,
    /// How often rule groups without an interval of their own are evaluated.
    pub evaluation_interval: Interval,
    /// How far in the past rules are evaluated, so that late samples are in.
    pub rule_query_offset: Interval,
    /// What evaluating alert rules at the moment a sample lands may cost, in CPU seconds a second; 0 is not at all.
    pub eager_cpu_share: f64,
    /// Rule files by pattern; `builtin:` stands for the shipped ones. Absent = the shipped ones.
    pub rules: Option<Vec<String>>,
    /// Alertmanager's own file. Absent = alerts show in the UI and page nobody.
    pub alertmanager: Option<PathBuf>,
    /// Alertmanagers elsewhere that get our alerts too.
    pub alerting: Alerting,
    /// Reload when this file or one that it names has changed. Default false: SIGHUP and `POST /-/reload` do it. Certificates,
    /// users and tokens are followed in any case.
    pub reload_on_change: bool,
    /// Dashboard files by pattern; `builtin:` stands for the shipped ones. Absent = the shipped ones.
    pub dashboards: Option<Vec<String>>,
    /// Where dashboards that are written in the browser are saved; those in it are shown beside the others, and instead of
    /// one of the same name. Absent = the browser saves none.
    pub dashboards_folder: Option<PathBuf>,
    /// How queries are evaluated.
    pub query: QueryConfig,
    /// The store.
    pub storage: DbConfig,
    /// The built-in agent.
    pub agent: AgentConfig,
    /// What happens to samples on their way in, and which doors are open beside HTTP.
    pub ingest: IngestConfig,
    /// Every limit of the HTTP door and of queries.
    pub limits: Limits,
    oncall: Option<NotYet>,
    /// Clicks and page views.
    pub events: EventsConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// exporter-toolkit's file: TLS, basic auth, headers.
    pub web_config: Option<PathBuf>,
    /// Listen on an address that others reach although nobody has to say who they are: a switch of the command line only.
    #[serde(skip)]
    pub open_to_all: bool,
    /// The file this was read from, for messages and relative paths.
    #[serde(skip)]
    pub source: Option<PathBuf>,
    /// The file's text, for `/api/v1/status/config`.
    #[serde(skip)]
    pub text: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: Listen::default(),
            data_dir: PathBuf::from("./campanile-data"),
            external_url: None,
            external_labels: BTreeMap::new(),
            evaluation_interval: Interval::secs(15),
            rule_query_offset: Interval::ZERO,
            eager_cpu_share: 0.25,
            rules: None,
            alertmanager: None,
            alerting: Alerting::default(),
            reload_on_change: false,
            dashboards: None,
            dashboards_folder: None,
            query: QueryConfig::default(),
            storage: DbConfig::default(),
            agent: AgentConfig::default(),
            ingest: IngestConfig::default(),
            limits: Limits::default(),
            oncall: None,
            events: EventsConfig::default(),
            auth: AuthConfig::default(),
            web_config: None,
            open_to_all: false,
            source: None,
            text: String::new(),
        }
    }
}

/// Prometheus's own `alerting` section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerting {
    /// Alertmanagers elsewhere.
    pub alertmanagers: Vec<AlertmanagersConfig>,
    /// Changes alerts before they are sent elsewhere; ours gets them as the rules made them.
    pub alert_relabel_configs: Vec<RelabelConfig>,
}

/// How queries are evaluated.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryConfig {
    /// The step of subqueries that name none.
    pub subquery_step: Interval,
    /// How far an instant selector looks back.
    pub lookback: Interval,
    fragments: Option<NotYet>,
}

impl Default for QueryConfig {
    fn default() -> QueryConfig {
        let QueryOptions {
            subquery_step,
            lookback,
            ..
        } = QueryOptions::default();
        QueryConfig {
            subquery_step,
            lookback,
            fragments: None,
        }
    }
}

/// An address to listen on: `127.0.0.1:9490`, `[::1]:9490`, `localhost:9490`, or `:9490` for all interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Default for Listen {
    fn default() -> Listen {
        Listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9490))
    }
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        let spelled = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None if text.starts_with(':') => format!("0.0.0.0{text}"),
            None => text.to_owned(),
        };
        spelled
            .parse()
            .map(Listen)
            .map_err(|_| format!("not an address to listen on: {text:?} (write 127.0.0.1:9490)"))
    }
}

/// A key of the design whose part is not built yet: any value but nothing is refused.
#[derive(Clone, Debug)]
pub(crate) struct NotYet;

impl<'de> Deserialize<'de> for NotYet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<NotYet, D::Error> {
        // The refusal comes from inside the parser, so that it bears the place of the value.
        deserializer.deserialize_any(RefuseAll)
    }
}

struct RefuseAll;

impl RefuseAll {
    fn refuse<E: serde::de::Error>() -> Result<NotYet, E> {
        Err(E::custom("this key is not supported yet; remove it"))
    }
}

impl<'de> serde::de::Visitor<'de> for RefuseAll {
    type Value = NotYet;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing: this key is not supported yet")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<NotYet, E> {
        RefuseAll::refuse()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<NotYet, E> {
        RefuseAll::refuse()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<NotYet, E> {
        RefuseAll::refuse()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<NotYet, E> {
        RefuseAll::refuse()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<NotYet, E> {
        RefuseAll::refuse()
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _: A) -> Result<NotYet, A::Error> {
        RefuseAll::refuse()
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, _: A) -> Result<NotYet, A::Error> {
        RefuseAll::refuse()
    }
}

/// What the command line sets, over file and environment.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<Listen>,
    /// `--external-url`
    pub external_url: Option<String>,
    /// `--web.config.file`
    pub web_config: Option<PathBuf>,
    /// `--i-know-this-is-open`
    pub open_to_all: bool,
    /// `--storage.tsdb.retention.time`
    pub retention: Option<Interval>,
    /// `--storage.tsdb.retention.size`, in bytes
    pub retention_size: Option<ByteSize>,
}

impl Config {
    /// Reads the configuration: the file (if one is named), then the environment, then the flags.
    ///
    /// # Errors
    /// A text for the operator that names file, line and column, or the variable.
    pub fn load(disk: &dyn Disk, flags: &Flags, variables: &[(String, String)]) -> Result<Config, String> {
        let (name, text) = match &flags.config {
            Some(path) => {
                let name = path.display().to_string();
                let text = files::read_text(disk, path).map_err(|error| format!("cannot read {name}: {error}"))?;
                (name, text)
            }
            None => ("defaults".to_owned(), String::new()),
        };
        let mut config = Config::parse(&name, &text, variables)?;
        config.source.clone_from(&flags.config);
        config.resolve_paths();
        if let Some(data_dir) = &flags.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        config.listen = flags.listen.unwrap_or(config.listen);
        config.web_config = flags.web_config.clone().or(config.web_config);
        config.open_to_all = flags.open_to_all;
        config.external_url = flags.external_url.clone().or(config.external_url);
        config.storage.retention = flags.retention.unwrap_or(config.storage.retention);
        config.storage.retention_size = flags.retention_size.unwrap_or(config.storage.retention_size);
        config.check()?;
        Ok(config)
    }

    fn parse(name: &str, text: &str, variables: &[(String, String)]) -> Result<Config, String> {
        let plain = Config::read(name, text)?;
        let overrides = env::overrides(variables);
        if overrides.is_empty() {
            return Ok(plain);
        }
        // The file is good by itself, so a mistake from here on is a variable's.
        let mut document = serde_yaml::from_str(text).unwrap_or(serde_yaml::Value::Null);
        let names: Vec<&str> = overrides.iter().map(|change| change.variable.as_str()).collect();
        let from_prometheus = prometheus::is_prometheus(&document);
        if from_prometheus {
            return Err(format!(
                "{}: environment variables do not go with a Prometheus file",
                names.join(", ")
            ));
        }
        for change in &overrides {
            env::apply(&mut document, change)?;
        }
        let config: Config =
            serde_yaml::from_value(document).map_err(|error| format!("{}: {error}", names.join(", ")))?;
        Ok(Config {
            text: plain.text,
            ..config
        })
    }

    fn read(name: &str, text: &str) -> Result<Config, String> {
        let document = serde_yaml::from_str(text).unwrap_or(serde_yaml::Value::Null);
        let read = if prometheus::is_prometheus(&document) {
            yaml::read::<prometheus::PrometheusFile>(name, text).map(prometheus::PrometheusFile::into_config)
        } else {
            yaml::read::<Config>(name, text)
        };
        let config = read.map_err(|error| error.with_snippet())?;
        Ok(Config {
            text: text.to_owned(),
            ..config
        })
    }

    /// Paths in a file are relative to the file.
    fn resolve_paths(&mut self) {
        let Some(folder) = self.source.as_deref().and_then(Path::parent) else {
            return;
        };
        let absolute = |path: &mut PathBuf| *path = folder.join(&path);
        self.alertmanager.iter_mut().for_each(absolute);
        self.web_config.iter_mut().for_each(absolute);
        self.dashboards_folder.iter_mut().for_each(absolute);
        self.auth.resolve_paths(folder);
        for pattern in self.rules.iter_mut().chain(&mut self.dashboards).flatten() {
            if pattern != BUILTIN {
                *pattern = folder.join(&pattern).display().to_string();
            }
        }
        self.agent.resolve_paths(folder);
        self.events.resolve_paths(folder);
        for alertmanager in &mut self.alerting.alertmanagers {
            alertmanager.resolve_paths(folder);
        }
    }

    fn check(&self) -> Result<(), String> {
        self.agent.check().map_err(|error| format!("agent: {error}"))?;
        self.ingest.check().map_err(|error| format!("ingest: {error}"))?;
        self.events.check().map_err(|error| format!("events: {error}"))?;
        if let Some(text) = &self.external_url {
            let parsed = url::Url::parse(text).map_err(|error| format!("external_url: {text:?}: {error}"))?;
            if !matches!(parsed.scheme(), "http" | "https") {
                return Err(format!("external_url: {text:?} is neither http nor https"));
            }
        }
        if self.evaluation_interval <= Interval::ZERO {
            return Err("evaluation_interval: must be more than 0s".to_owned());
        }
        if !(0.0..=64.0).contains(&self.eager_cpu_share) {
            return Err("eager_cpu_share: must lie between 0 (off) and 64 cores".to_owned());
        }
        Ok(())
    }

    /// Reads who may do what. Blocks.
    ///
    /// # Errors
    /// What is wrong with `auth` or `web_config`; an address that others reach while nobody has to say who they are.
    pub fn access(&self, disk: &dyn Disk) -> Result<Access, String> {
        let access = Access::load(disk, &self.auth, self.web_config.as_deref())?;
        let listen = self.listen.0;
        if listen.ip().is_loopback() || access.is_closed() || self.open_to_all {
            return Ok(access);
        }
        Err(format!(
            "listen: {listen} is reachable from outside and everybody would have every right there; \
             configure auth or web_config, listen on 127.0.0.1, or say --i-know-this-is-open"
        ))
    }

    /// Returns the URL that links begin with, without a slash at the end.
    pub fn url(&self) -> String {
        let listened = || format!("http://{}", self.listen.0);
        self.external_url
            .clone()
            .unwrap_or_else(listened)
            .trim_end_matches('/')
            .to_owned()
    }
}

/// Stands for the shipped files in `rules` and `dashboards`.
pub const BUILTIN: &str = "builtin:";

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = Config::parse("c.yaml", "", &[]).unwrap();
        assert_eq!(config.listen.0.to_string(), "127.0.0.1:9490");
        assert_eq!(
            (config.evaluation_interval, config.storage.retention),
            (Interval::secs(15), Interval::days(30))
        );
    }

    #[test]
    fn an_unknown_key_and_an_unbuilt_one_are_refused_at_their_place() {
        let error = Config::parse("c.yaml", "storage:\n  retenton: 3d\n", &[]).unwrap_err();
        assert!(
            error.starts_with("c.yaml:2:3: storage: unknown field \"retenton\"") && error.contains("\"retention\"")
        );
        let error = Config::parse("c.yaml", "listen: 127.0.0.1:1\noncall: {users: {}}\n", &[]).unwrap_err();
        assert!(
            error.starts_with("c.yaml:2:") && error.contains("this key is not supported yet"),
            "{error}"
        );
    }

    #[test]
    fn every_scalar_can_come_from_the_environment() {
        for path in env::SCALARS {
            let value = match path.last().copied().unwrap_or_default() {
                "listen" => "127.0.0.1:1234",
                "data_dir" | "alertmanager" => "/some/where",
                "external_url" => "http://a.example",
                "retention_size" => "0",
                "durability" => "fsync",
                "enabled" => "false",
                "eager_cpu_share" => "0.5",
                _ => "7m",
            };
            let name = format!("CAMPANILE_{}", path.join("_").to_uppercase());
            let config = Config::parse("c.yaml", "", &variables(&[(&name, value)]));
            assert!(config.is_ok(), "{name}: {config:?}");
        }
        let config = Config::parse("c.yaml", "", &variables(&[("CAMPANILE_STORAGE_RETENTION", "7m")])).unwrap();
        assert_eq!(config.storage.retention, Interval::mins(7));
        let error = Config::parse("c.yaml", "", &variables(&[("CAMPANILE_LISTEN", "nowhere")])).unwrap_err();
        assert!(
            error.contains("CAMPANILE_LISTEN") && error.contains("nowhere"),
            "{error}"
        );
    }

    #[test]
    fn a_prometheus_file_is_read_as_such() {
        let text = "
global:
  scrape_interval: 5s
  external_labels: {region: eu}
rule_files: [rules/*.yml]
scrape_configs:
- job_name: node
  static_configs: [{targets: ['localhost:9100']}]
";
        let config = Config::parse("prometheus.yml", text, &[]).unwrap();
        assert_eq!(
            (config.agent.interval, config.evaluation_interval),
            (Interval::secs(5), Interval::mins(1))
        );
        assert_eq!(config.rules.as_deref(), Some(&["rules/*.yml".to_owned()][..]));
        let error = Config::parse("prometheus.yml", "global: {}\nremote_read: [{url: 'http://a'}]\n", &[]).unwrap_err();
        assert!(
            error.contains("prometheus.yml:2:") && error.contains("this key is not supported yet"),
            "{error}"
        );
    }

    #[test]
    fn an_address_that_others_can_reach_is_refused() {
        let disk = crate::io::disk::SimDisk::seeded(1);
        let mut config = Config {
            listen: "0.0.0.0:9490".parse().unwrap(),
            ..Config::default()
        };
        let refused = config.access(&disk).err().unwrap();
        assert!(
            refused.contains("0.0.0.0:9490") && refused.contains("auth"),
            "{refused}"
        );
        config.open_to_all = true;
        assert!(config.access(&disk).is_ok());
        let token = "auth: {tokens: [{name: a, scopes: [query], sha256: 0000000000000000000000000000000000000000000000000000000000000000}]}";
        let mut config = Config::parse("c.yaml", token, &[]).unwrap();
        config.listen = "0.0.0.0:9490".parse().unwrap();
        assert!(config.access(&disk).unwrap().is_closed());
        assert_eq!(":9490".parse::<Listen>().unwrap().0.to_string(), "0.0.0.0:9490");
    }
}
