//! What the server says about itself, in Prometheus's shapes. The facts come from `server` through [`Status`].

use std::collections::BTreeMap;

use axum::response::Response;
use serde_json::{Value, json};

use crate::http::params::Params;
use crate::http::{ApiError, Call, view};
use crate::model::Millis;

/// The version that clients gate features by: Prometheus's numbering, then our own.
const VERSION: &str = concat!("3.14.0-campanile.", env!("CARGO_PKG_VERSION"));

/// Facts about the running server.
pub trait Status: Send + Sync {
    /// The configuration in force, as YAML, without secrets.
    fn config_yaml(&self) -> String;

    /// Command-line flags by Prometheus's names, with their values in force.
    fn flags(&self) -> BTreeMap<String, String>;

    /// Limits by their names in the configuration, with their values in force.
    fn limits(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The state of the process.
    fn runtime(&self) -> RuntimeInfo;

    /// What is in the head, its largest families first, at most `limit` of each list.
    fn tsdb(&self, limit: usize) -> TsdbStatus;
}

/// The state of the process.
#[derive(Clone, Debug)]
pub struct RuntimeInfo {
    /// When it started.
    pub started: Millis,
    /// The working directory.
    pub working_directory: String,
    /// The host's name.
    pub hostname: String,
    /// Whether the last reload of the configuration succeeded.
    pub reload_ok: bool,
    /// When the configuration in force was loaded.
    pub last_reload: Millis,
    /// Corruptions found so far.
    pub corruptions: u64,
    /// Threads that compute.
    pub threads: usize,
    /// How long samples are kept, as configured: `30d`, `30d or 10GiB`.
    pub retention: String,
}

/// What is in the head.
#[derive(Clone, Debug, Default)]
pub struct TsdbStatus {
    /// Series in the head.
    pub series: u64,
    /// Chunks in the head.
    pub chunks: u64,
    /// Distinct pairs of label name and value.
    pub label_pairs: u64,
    /// The oldest sample in the head.
    pub min_time: Millis,
    /// The newest sample in the head.
    pub max_time: Millis,
    /// Metric names by how many series they have.
    pub series_by_metric: Vec<(String, u64)>,
    /// Label names by how many values they have.
    pub values_by_label: Vec<(String, u64)>,
    /// Label names by the bytes of their values.
    pub bytes_by_label: Vec<(String, u64)>,
    /// `name=value` pairs by how many series have them.
    pub series_by_pair: Vec<(String, u64)>,
    /// Blocks that are lost and places in blocks that are damaged, in words.
    pub damage: Vec<String>,
}

pub(super) async fn config(call: Call) -> Result<Response, ApiError> {
    Ok(view::success(&json!({"yaml": call.app.status.config_yaml()}), &[]))
}

/// Every limit by its name in the configuration. What each refused is `campanile_limit_refused_total`.
pub(super) async fn limits(call: Call) -> Result<Response, ApiError> {
    Ok(view::success(&json!(call.app.status.limits()), &[]))
}

pub(super) async fn flags(call: Call) -> Result<Response, ApiError> {
    Ok(view::success(&json!(call.app.status.flags()), &[]))
}

pub(super) async fn runtime(call: Call) -> Result<Response, ApiError> {
    let info = call.app.status.runtime();
    let data = json!({
        "startTime": info.started.to_string(),
        "CWD": info.working_directory,
        "hostname": info.hostname,
        "serverTime": call.app.clock.now().to_string(),
        "reloadConfigSuccess": info.reload_ok,
        "lastConfigTime": info.last_reload.to_string(),
        "corruptionCount": info.corruptions,
        "goroutineCount": info.threads,
        "GOMAXPROCS": info.threads,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": info.retention,
    });
    Ok(view::success(&data, &[]))
}

/// No `features` here: Grafana would take the server for Mimir.
pub(super) async fn build(_: Call) -> Result<Response, ApiError> {
    let data = json!({
        "version": VERSION,
        "revision": env!("CARGO_PKG_VERSION"),
        "branch": "campanile",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    });
    Ok(view::success(&data, &[]))
}

pub(super) async fn tsdb(mut call: Call) -> Result<Response, ApiError> {
    const LIMIT: usize = 10;
    let params = Params::read(&mut call).await?;
    let limit = match params.limit("limit")? {
        usize::MAX => LIMIT,
        limit => limit,
    };
    let status = call.app.status.tsdb(limit);
    let rows = |list: &[(String, u64)]| -> Value {
        let rows = list.iter().take(limit);
        rows.map(|(name, value)| json!({"name": name, "value": value}))
            .collect()
    };
    let data = json!({
        "headStats": {
            "numSeries": status.series,
            "numLabelPairs": status.label_pairs,
            "chunkCount": status.chunks,
            "minTime": status.min_time.0,
            "maxTime": status.max_time.0,
        },
        "seriesCountByMetricName": rows(&status.series_by_metric),
        "labelValueCountByLabelName": rows(&status.values_by_label),
        "memoryInBytesByLabelName": rows(&status.bytes_by_label),
        "seriesCountByLabelValuePair": rows(&status.series_by_pair),
        "damage": status.damage,
    });
    Ok(view::success(&data, &[]))
}

/// The door answers no request of this table before the log is replayed, so that the replay is always over here.
pub(super) async fn wal_replay(_: Call) -> Result<Response, ApiError> {
    Ok(view::success(
        &json!({"min": 0, "max": 0, "current": 0, "state": "done"}),
        &[],
    ))
}

/// What this server can do, by Prometheus's names.
pub(super) async fn features(_: Call) -> Result<Response, ApiError> {
    let functions: BTreeMap<&str, bool> = crate::query::functions::FUNCTIONS
        .iter()
        .map(|function| (function.name, true))
        .collect();
    let operators: BTreeMap<&str, bool> = crate::query::ast::BinaryOp::ALL
        .iter()
        .map(|op| (op.as_str(), true))
        .collect();
    let aggregations: BTreeMap<&str, bool> = crate::query::ast::AggregateOp::ALL
        .iter()
        .map(|op| (op.as_str(), true))
        .collect();
    let data = json!({
        "api": {
            "exclude_alerts": true,
            "label_values_match": true,
            "lifecycle": true,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": true,
            "otlp_write_receiver": true,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "promql": {
            "anchored": true,
            "at_modifier": true,
            "bool": true,
            "by": true,
            "duration_expr": true,
            "experimental_functions": true,
            "fill": true,
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "per_step_stats": true,
            "smoothed": true,
            "subqueries": true,
            "delayed_name_removal": true,
            "without": true,
        },
        "promql_functions": functions,
        "promql_operators": operators,
        "promql_aggregations": aggregations,
    });
    Ok(view::success(&data, &[]))
}

#[cfg(test)]
pub(in crate::http) mod tests {
    use super::*;

    /// A server with nothing to say.
    pub(in crate::http) struct NoStatus;

    impl Status for NoStatus {
        fn config_yaml(&self) -> String {
            String::new()
        }

        fn flags(&self) -> BTreeMap<String, String> {
            [("web.listen-address".to_owned(), "127.0.0.1:0".to_owned())].into()
        }

        fn runtime(&self) -> RuntimeInfo {
            RuntimeInfo {
                started: Millis(0),
                working_directory: "/".to_owned(),
                hostname: "test".to_owned(),
                reload_ok: true,
                last_reload: Millis(0),
                corruptions: 0,
                threads: 1,
                retention: "30d".to_owned(),
            }
        }

        fn tsdb(&self, _: usize) -> TsdbStatus {
            TsdbStatus::default()
        }
    }
}
