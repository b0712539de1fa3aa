//! What the server says about itself: `/api/v1/status/*` and the process's own metrics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde_yaml::Value;

use super::reload::Reloader;
use crate::http;
use crate::io::disk::{Disk, OsDisk};
use crate::io::files;
use crate::model::Millis;
use crate::telemetry::{Gauge, GaugeVec, Metric};
use crate::tsdb::{self, Db, ReplayProgress};

pub(super) static READY: Gauge = Gauge::new("campanile_server_ready", "Whether start-up is over.");
pub(super) static RELOADED: Gauge = Gauge::new(
    "campanile_server_config_last_reload_successful",
    "Whether the last reload of the configuration succeeded.",
);
static BUILD: GaugeVec = GaugeVec::new("campanile_build_info", "The running version.", &["version"]);
/// Metrics of the process as a whole, under the names that every Prometheus client exposes.
pub(super) static METRICS: &[&dyn Metric] = &[
    &READY,
    &RELOADED,
    &BUILD,
    &Process::Cpu,
    &Process::Memory,
    &Process::Descriptors,
];

/// Numbers that the kernel keeps about this process.
enum Process {
    Cpu,
    Memory,
    Descriptors,
}

impl Metric for Process {
    fn describe(&self) -> crate::telemetry::Description {
        let (name, kind, help) = match self {
            Process::Cpu => (
                "process_cpu_seconds_total",
                "counter",
                "Processor time used, user and system.",
            ),
            Process::Memory => ("process_resident_memory_bytes", "gauge", "Memory that is resident."),
            Process::Descriptors => ("process_open_fds", "gauge", "Open file descriptors."),
        };
        crate::telemetry::Description { name, kind, help }
    }

    fn write(&self, out: &mut String) {
        let value = match self {
            Process::Cpu => cpu_seconds(),
            Process::Memory => resident_bytes(),
            Process::Descriptors => OsDisk
                .list(Path::new("/proc/self/fd"))
                .ok()
                .map(|entries| entries.len() as f64),
        };
        if let Some(value) = value {
            out.push_str(&format!("{} {value}\n", self.describe().name));
        }
    }
}

/// Files of `/proc` have no length: they are read to their end.
fn proc_text(path: &str) -> Option<String> {
    String::from_utf8(files::read_stream(&OsDisk, Path::new(path)).ok()?).ok()
}

/// The kernel counts processor time in hundredths of a second (USER_HZ) on every Linux.
fn cpu_seconds() -> Option<f64> {
    let stat = proc_text("/proc/self/stat")?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

fn resident_bytes() -> Option<f64> {
    let status = proc_text("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
}

/// Returns how far the replay is, for people.
pub(super) fn progress_text(progress: &ReplayProgress) -> String {
    let (current, last) = (
        progress.segment_current.load(Relaxed),
        progress.segment_max.load(Relaxed),
    );
    format!(
        "segment {current} of {last}, {} samples",
        progress.samples.load(Relaxed)
    )
}

/// The facts behind `/api/v1/status/*`.
pub(super) struct Status {
    db: Arc<Db>,
    started: Millis,
    reloader: Arc<Reloader>,
}

impl Status {
    pub(super) fn new(db: Arc<Db>, started: Millis, reloader: Arc<Reloader>) -> Status {
        BUILD.set(&[env!("CARGO_PKG_VERSION")], 1.0);
        Status { db, started, reloader }
    }
}

impl http::Status for Status {
    fn config_yaml(&self) -> String {
        without_secrets(&self.reloader.config().text)
    }

    fn flags(&self) -> BTreeMap<String, String> {
        let config = self.reloader.config();
        let file = config
            .source
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        [
            ("config.file", file),
            ("storage.tsdb.path", config.data_dir.display().to_string()),
            ("storage.tsdb.retention.time", config.storage.retention.to_string()),
            ("storage.tsdb.retention.size", config.storage.retention_size.to_string()),
            ("web.listen-address", config.listen.0.to_string()),
            ("web.external-url", config.url()),
            ("query.lookback-delta", config.query.lookback.to_string()),
            ("query.timeout", config.limits.query.query_time.to_string()),
            ("query.max-samples", config.limits.query.query_samples.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn limits(&self) -> BTreeMap<String, String> {
        self.reloader.config().limits.table()
    }

    fn runtime(&self) -> http::RuntimeInfo {
        let config = self.reloader.config();
        let directory = std::env::current_dir()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        let hostname = proc_text("/proc/sys/kernel/hostname").unwrap_or_default();
        let size = config.storage.retention_size;
        let retention = match size.0 {
            0 => config.storage.retention.to_string(),
            _ => format!("{} or {size}", config.storage.retention),
        };
        http::RuntimeInfo {
            started: self.started,
            working_directory: directory,
            hostname: hostname.trim().to_owned(),
            reload_ok: RELOADED.get() == 1.0,
            last_reload: self.reloader.loaded_at(),
            corruptions: tsdb::corruptions(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            retention,
        }
    }

    fn tsdb(&self, limit: usize) -> http::TsdbStatus {
        let found = self.db.status(limit);
        let rows = |list: Vec<tsdb::Count>| list.into_iter().map(|row| (row.name, row.value)).collect();
        http::TsdbStatus {
            series: found.head_stats.num_series,
            chunks: found.head_stats.chunk_count,
            label_pairs: found.head_stats.num_label_pairs,
            min_time: Millis(found.head_stats.min_time),
            max_time: Millis(found.head_stats.max_time),
            damage: found.damage,
            series_by_metric: rows(found.series_count_by_metric_name),
            values_by_label: rows(found.label_value_count_by_label_name),
            bytes_by_label: rows(found.memory_in_bytes_by_label_name),
            series_by_pair: rows(found.series_count_by_label_value_pair),
        }
    }
}

/// Keys whose values nobody may read over the network.
const SECRET_KEYS: [&str; 9] = [
    "password",
    "credentials",
    "client_secret",
    "secret",
    "token",
    "bearer_token",
    "api_key",
    "secret_key",
    "authorization_header",
];

/// Returns a document with secret values masked, in keys known for them and in the user part of URLs.
fn without_secrets(text: &str) -> String {
    let mut document: Value = serde_yaml::from_str(text).unwrap_or(Value::Null);
    if document.is_null() {
        return String::new();
    }
    mask(&mut document);
    serde_yaml::to_string(&document).unwrap_or_default()
}

fn mask(value: &mut Value) {
    match value {
        Value::Mapping(mapping) => {
            for (key, value) in mapping.iter_mut() {
                let key = key.as_str().unwrap_or_default();
                if SECRET_KEYS.contains(&key) && !value.is_mapping() {
                    *value = Value::from("<secret>");
                } else if key == "headers" {
                    mask_all(value);
                } else {
                    mask(value);
                }
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(mask),
        Value::String(text) => {
            if let Ok(mut url) = url::Url::parse(text)
                && url.has_host()
                && (url.password().is_some() || url.query().is_some())
            {
                if url.password().is_some() {
                    let _ = url.set_password(Some("<secret>"));
                }
                if url.query().is_some() {
                    url.set_query(Some("<secret>"));
                }
                *text = url.to_string().replace("%3Csecret%3E", "<secret>");
            }
        }
        _ => {}
    }
}

fn mask_all(value: &mut Value) {
    match value {
        Value::Mapping(mapping) => mapping.iter_mut().for_each(|(_, value)| mask_all(value)),
        Value::Sequence(items) => items.iter_mut().for_each(mask_all),
        other => *other = Value::from("<secret>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_configuration_holds_no_secret() {
        let text = "
agent:
  remote_write:
  - url: http://me:hunter2@host/path?token=hunter2
    basic_auth: {username: me, password: hunter2}
    headers: {X-Key: hunter2}
    authorization: {credentials: hunter2}
";
        let shown = without_secrets(text);
        assert!(
            !shown.contains("hunter2") && shown.contains("username: me") && shown.contains("<secret>"),
            "{shown}"
        );
        assert_eq!(without_secrets(""), "");
    }

    #[test]
    fn the_process_knows_its_own_use() {
        assert!(cpu_seconds().is_some() && resident_bytes().is_some_and(|bytes| bytes > 1e6));
    }
}
