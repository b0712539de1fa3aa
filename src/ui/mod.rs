//! The web UI: the model of dashboards, and the files of the page, which asks the HTTP API and owns no data.

mod assets;
mod dashboard;
mod dashboards;
mod grafana;
mod write;

pub use assets::{Assets, File};
pub use dashboard::{Annotation, Dashboard, Level, Panel, PanelKind, Query, Row, Thresholds, Variable};
pub use dashboards::{Dashboards, Entry, Summary, read_dashboard};
pub use write::to_yaml;
