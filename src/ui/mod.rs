//! The web UI: the model of dashboards, and the files of the page, which asks the HTTP API and owns no data.

mod assets;
mod dashboard;
mod dashboards;

pub use assets::{Assets, File};
pub use dashboard::{Dashboard, Level, Panel, PanelKind, Query, Row, Thresholds, Variable};
pub use dashboards::{Dashboards, Summary};
