//! What is scraped: addresses and their labels, after relabelling, and how to reach them.

use std::path::Path;

use base64::Engine as _;

use super::config::{ScrapeConfig, StaticConfig};
use super::credentials::{Authorization, BasicAuth, TlsConfig};
use crate::ingest::relabel::relabel;
use crate::io::disk::Disk;
use crate::io::files;
use crate::io::http_client::HttpOptions;
use crate::model::{Interval, Labels, LabelsBuilder, Secret};

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// The labels of all its series.
    pub(super) labels: Labels,
    /// What is fetched.
    pub(super) url: String,
}

/// What discovery gave, and the target it became; none when relabelling dropped it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) discovered: Labels,
    pub(super) target: Option<Target>,
}

/// How often and for how long at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) interval: Interval,
    pub(super) timeout: Interval,
}

impl Pace {
    /// Fills in the defaults.
    pub(super) fn of(config: &ScrapeConfig, interval: Interval) -> Pace {
        let interval = config.scrape_interval.unwrap_or(interval);
        let timeout = config
            .scrape_timeout
            .unwrap_or(interval.min(super::config::DEFAULT_TIMEOUT));
        Pace { interval, timeout }
    }
}

/// Returns the targets of a group, those that relabelling drops too.
pub(super) fn targets(config: &ScrapeConfig, group: &StaticConfig, pace: Pace) -> Vec<Found> {
    let of = |address: &String| target(config, group, pace, address);
    group.targets.iter().map(of).collect()
}

fn target(config: &ScrapeConfig, group: &StaticConfig, pace: Pace, address: &str) -> Found {
    let mut labels = LabelsBuilder::default();
    for (name, value) in &group.labels {
        labels.set(name, value);
    }
    for (name, value) in [
        ("job", config.job_name.as_str()),
        ("__scheme__", &config.scheme),
        ("__metrics_path__", &config.metrics_path),
        ("__scrape_interval__", &pace.interval.to_string()),
        ("__scrape_timeout__", &pace.timeout.to_string()),
    ] {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    }
    labels.set("__address__", address);
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            labels.set(&format!("__param_{name}"), first);
        }
    }
    let discovered = labels.build();
    let kept = relabel(&config.relabel_configs, &mut labels);
    let target = kept.then(|| finished(config, labels)).flatten();
    Found { discovered, target }
}

fn finished(config: &ScrapeConfig, mut labels: LabelsBuilder) -> Option<Target> {
    let address = labels.get("__address__")?.to_owned();
    let url = url(config, &labels, &address);
    if labels.get("instance").is_none() {
        labels.set("instance", &address);
    }
    labels.retain(|name, _| !name.starts_with("__"));
    Some(Target {
        labels: labels.build(),
        url,
    })
}

fn url(config: &ScrapeConfig, labels: &LabelsBuilder, address: &str) -> String {
    let scheme = labels.get("__scheme__").unwrap_or("http");
    let path = labels.get("__metrics_path__").unwrap_or("/metrics");
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    // Relabelling may change the first value of a parameter, and add parameters.
    let built = labels.build();
    for (name, value) in built.iter() {
        if let Some(name) = name.strip_prefix("__param_") {
            query.append_pair(name, value);
            let further = config.params.get(name).into_iter().flatten().skip(1);
            query.extend_pairs(further.map(|value| (name, value)));
        }
    }
    let query = query.finish();
    let slash = if path.starts_with('/') { "" } else { "/" };
    match query.as_str() {
        "" => format!("{scheme}://{address}{slash}{path}"),
        query => format!("{scheme}://{address}{slash}{path}?{query}"),
    }
}

/// Who we say we are.
pub(super) struct Credentials<'a> {
    pub(super) basic: Option<&'a BasicAuth>,
    pub(super) token: Option<&'a Authorization>,
}

impl Credentials<'_> {
    /// Returns the header to send; secrets in files are read now. Blocks.
    ///
    /// # Errors
    /// The file that cannot be read.
    pub(super) fn header(&self, disk: &dyn Disk) -> Result<Option<(String, String)>, String> {
        let value = match (self.basic, self.token) {
            (Some(basic), _) => {
                let password = secret(disk, &basic.password, basic.password_file.as_deref())?;
                let pair = format!("{}:{password}", basic.username);
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
            (None, Some(token)) => {
                let credentials = secret(disk, &token.credentials, token.credentials_file.as_deref())?;
                format!("{} {credentials}", token.scheme)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(("Authorization".to_owned(), value)))
    }
}

fn secret(disk: &dyn Disk, literal: &Secret, file: Option<&Path>) -> Result<String, String> {
    match file {
        Some(file) => {
            let text = files::read_text(disk, file).map_err(|error| format!("{}: {error}", file.display()))?;
            Ok(text.trim().to_owned())
        }
        None => Ok(literal.expose().to_owned()),
    }
}

/// Reads the files of a `tls_config`. Blocks.
///
/// # Errors
/// The file that cannot be read, or that has no counterpart.
pub(super) fn options(tls: &TlsConfig, follow_redirects: bool, disk: &dyn Disk) -> Result<HttpOptions, String> {
    let read = |path: &Path| files::read(disk, path).map_err(|error| format!("{}: {error}", path.display()));
    let identity_pem = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => Some([read(cert)?, b"\n".to_vec(), read(key)?].concat()),
        (None, None) => None,
        _ => return Err("tls_config: cert_file and key_file belong together".to_owned()),
    };
    Ok(HttpOptions {
        follow_redirects,
        ca_pem: tls.ca_file.as_deref().map(read).transpose()?,
        identity_pem,
        server_name: tls.server_name.clone(),
        insecure_skip_verify: tls.insecure_skip_verify,
        ..HttpOptions::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::SimDisk;

    const PACE: Pace = Pace {
        interval: Interval(15_000),
        timeout: Interval(10_000),
    };

    fn all(yaml: &str) -> Vec<(String, String)> {
        let config: ScrapeConfig = serde_yaml::from_str(yaml).unwrap();
        let found = targets(&config, &config.static_configs[0], PACE);
        found
            .into_iter()
            .filter_map(|found| found.target)
            .map(|target| (target.labels.to_string(), target.url))
            .collect()
    }

    #[test]
    fn a_target_has_its_jobs_labels_and_its_address() {
        let found =
            all("{job_name: api, params: {module: [a, b c]}, static_configs: [{targets: ['h:1'], labels: {env: x}}]}");
        let labels = r#"{env="x", instance="h:1", job="api"}"#.to_owned();
        assert_eq!(found, [(labels, "http://h:1/metrics?module=a&module=b+c".to_owned())]);
    }

    #[test]
    fn relabelling_moves_renames_and_drops_targets() {
        let found = all(
            "{job_name: probe, metrics_path: /probe, static_configs: [{targets: ['http://x', 'drop']}], relabel_configs: [\
             {source_labels: [__address__], regex: drop, action: drop},\
             {source_labels: [__address__], target_label: __param_target},\
             {source_labels: [__param_target], target_label: instance},\
             {target_label: __address__, replacement: 'exporter:9115'}]}",
        );
        let labels = r#"{instance="http://x", job="probe"}"#.to_owned();
        assert_eq!(
            found,
            [(labels, "http://exporter:9115/probe?target=http%3A%2F%2Fx".to_owned())]
        );
    }

    #[test]
    fn credentials_come_from_text_or_file() {
        let disk = SimDisk::seeded(1);
        disk.create_dir_all(Path::new("/s")).unwrap();
        disk.create(Path::new("/s/token"))
            .unwrap()
            .write_all_at(b"abc\n", 0)
            .unwrap();
        let header = |yaml: &str| {
            let config: ScrapeConfig = serde_yaml::from_str(&format!("{{job_name: a, {yaml}}}")).unwrap();
            let credentials = Credentials {
                basic: config.basic_auth.as_ref(),
                token: config.authorization.as_ref(),
            };
            credentials.header(&disk)
        };
        let value = |header: Result<Option<(String, String)>, String>| header.unwrap().unwrap().1;
        assert_eq!(value(header("basic_auth: {username: u, password: p}")), "Basic dTpw");
        assert_eq!(
            value(header("authorization: {credentials_file: /s/token}")),
            "Bearer abc"
        );
        assert!(
            header("authorization: {credentials_file: /s/none}")
                .unwrap_err()
                .contains("/s/none")
        );
    }
}
