//! The section `ingest`: what happens to samples on their way in, and which doors are open beside HTTP.

use std::net::SocketAddr;

use serde::Deserialize;

use super::mapping::MappingRule;
use super::otlp::OtlpConfig;
use super::relabel::RelabelConfig;
use crate::model::Interval;

/// Everything about the intake but its limits, which stand under `limits`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// Rules over every pushed series, in Prometheus's own form; what they drop is counted and no error.
    pub write_relabel_configs: Vec<RelabelConfig>,
    /// Two senders of the same series: only one of each pair is taken. Absent = all are.
    pub ha: Option<HaConfig>,
    /// How OpenTelemetry's names become ours.
    pub otlp: OtlpConfig,
    /// The Pushgateway's groups.
    pub pushgateway: PushgatewayConfig,
    /// Graphite's lines. Absent = no listener.
    pub graphite: Option<GraphiteConfig>,
    /// StatsD's lines. Absent = no listener.
    pub statsd: Option<StatsdConfig>,
}

impl IngestConfig {
    /// Checks what the single values cannot know.
    ///
    /// # Errors
    /// The section and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        self.otlp.check().map_err(|error| format!("otlp: {error}"))?;
        if let Some(ha) = &self.ha
            && (ha.cluster_label.is_empty() || ha.replica_label.is_empty() || ha.failover <= Interval::ZERO)
        {
            return Err("ha: cluster_label, replica_label and failover must not be empty".to_owned());
        }
        if self.pushgateway.interval <= Interval::ZERO {
            return Err("pushgateway: interval must be more than 0s".to_owned());
        }
        if let Some(statsd) = &self.statsd
            && statsd.flush_interval <= Interval::ZERO
        {
            return Err("statsd: flush_interval must be more than 0s".to_owned());
        }
        let graphite = self.graphite.as_ref();
        let statsd = self.statsd.as_ref();
        let listeners = [
            graphite.map(|graphite| ("graphite", graphite.listen, graphite.open_to_network)),
            statsd.map(|statsd| ("statsd", statsd.listen, statsd.open_to_network)),
        ];
        for (name, listen, open) in listeners.into_iter().flatten() {
            if !listen.ip().is_loopback() && !open {
                return Err(format!(
                    "{name}: {listen} is reachable from outside and its lines carry no token; listen on 127.0.0.1, or set open_to_network"
                ));
            }
        }
        Ok(())
    }
}

/// Pairs of senders (Prometheus servers that scrape the same targets), told apart by two labels.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HaConfig {
    /// The label that names the pair.
    pub cluster_label: String,
    /// The label that names the sender; it is taken off.
    pub replica_label: String,
    /// After this long without a sample from the chosen sender another one is chosen.
    pub failover: Interval,
}

impl Default for HaConfig {
    fn default() -> HaConfig {
        HaConfig {
            cluster_label: "cluster".to_owned(),
            replica_label: "replica".to_owned(),
            failover: Interval::secs(30),
        }
    }
}

/// The Pushgateway's doors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushgatewayConfig {
    /// How often pushed groups are sampled again.
    pub interval: Interval,
    /// A group that is not pushed again for this long is deleted; 0 keeps it until it is deleted.
    pub ttl: Interval,
    /// The most groups.
    pub groups_max: usize,
    /// Whether `PUT /api/v1/admin/wipe` is answered.
    pub enable_admin_api: bool,
}

impl Default for PushgatewayConfig {
    fn default() -> PushgatewayConfig {
        PushgatewayConfig {
            interval: Interval::secs(15),
            ttl: Interval::ZERO,
            groups_max: 10_000,
            enable_admin_api: false,
        }
    }
}

/// The listener for Graphite's plaintext lines, TCP and UDP on one address.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphiteConfig {
    /// Address and port, `127.0.0.1:2003`.
    pub listen: SocketAddr,
    /// Whether it may listen where other machines reach it: lines carry no token.
    #[serde(default)]
    pub open_to_network: bool,
    /// Rules from dotted paths to names and labels; a path that none matches gets underscores for its dots.
    #[serde(default)]
    pub mappings: Vec<MappingRule>,
}

/// The listener for StatsD's lines, TCP and UDP on one address.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsdConfig {
    /// Address and port, `127.0.0.1:8125`.
    pub listen: SocketAddr,
    /// Whether it may listen where other machines reach it: lines carry no token.
    #[serde(default)]
    pub open_to_network: bool,
    /// How often what was counted becomes samples.
    #[serde(default = "ten_seconds")]
    pub flush_interval: Interval,
    /// A series without news for this long is forgotten.
    #[serde(default = "an_hour")]
    pub ttl: Interval,
    /// The most series kept.
    #[serde(default = "statsd_series_max")]
    pub series_max: usize,
    /// Rules from dotted names to names and labels.
    #[serde(default)]
    pub mappings: Vec<MappingRule>,
}

impl StatsdConfig {
    /// Returns a listener on an address, everything else as by default.
    pub fn on(listen: SocketAddr) -> StatsdConfig {
        StatsdConfig {
            listen,
            open_to_network: false,
            flush_interval: ten_seconds(),
            ttl: an_hour(),
            series_max: statsd_series_max(),
            mappings: Vec::new(),
        }
    }
}

fn ten_seconds() -> Interval {
    Interval::secs(10)
}

fn an_hour() -> Interval {
    Interval::mins(60)
}

fn statsd_series_max() -> usize {
    100_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::yaml;

    fn read(text: &str) -> Result<IngestConfig, String> {
        let config: IngestConfig = yaml::read("c.yaml", text).map_err(|error| error.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn each_part_has_its_defaults() {
        let config = read("ha: {}\nstatsd: {listen: '127.0.0.1:8125'}\n").unwrap();
        assert_eq!(config.ha.unwrap().replica_label, "replica");
        assert_eq!(config.statsd.unwrap().flush_interval, Interval::secs(10));
        assert!(read("").unwrap().graphite.is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("statsd: {listen: '0.0.0.0:8125'}", "reachable from outside"),
            ("graphite: {listen: nowhere}", "c.yaml:1"),
            ("pushgateway: {interval: 0s}", "interval"),
            ("ha: {cluster_label: ''}", "ha:"),
            ("otlp: {ignore_resource_attributes: [a]}", "otlp:"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(read("statsd: {listen: '0.0.0.0:8125', open_to_network: true}").is_ok());
    }
}
