//! All inbound I/O: one port, one route table, one place that knows status codes.
//!
//! Each file of handlers lists its routes; `route::all` joins them, and the router, the limits and the test of the
//! table read nothing else. Handlers reach the rest of the server through [`App`], which `server` hands to the
//! [`Door`] once the log is replayed; until then the door alone answers: health, readiness, metrics, the UI's files.

mod alertmanager_api;
mod app;
mod auth;
mod backtest_api;
mod body;
mod connection;
mod dashboards_api;
mod datadog_api;
mod door;
mod error;
mod events_api;
mod gate;
mod head;
mod headers;
mod lanes;
mod limits;
mod lines;
mod local;
mod login;
mod metrics;
mod notify_api;
mod otlp_api;
mod params;
mod probes;
mod push_api;
mod pushgateway_api;
mod query_api;
mod registry;
mod route;
mod router;
mod rules_api;
mod serve;
mod sources_api;
mod targets_api;
mod ui;
mod view;
mod write_api;

pub use app::App;
pub use auth::{Access, AuthConfig, TokenConfig};
pub use dashboards_api::{DashboardFolder, NotSaved};
pub use door::{Door, DoorConfig, Exposition, Readiness, Reload};
pub use error::ApiError;
pub use limits::Limits;
pub use lines::{LineSockets, serve_graphite, serve_statsd};
pub use local::LocalClient;
pub use metrics::METRICS;
pub use query_api::{RuntimeInfo, Status, TsdbStatus};
pub use route::{Call, Route, Scope};
pub use serve::{HttpConfig, bind, serve};
pub use targets_api::TargetsView;
