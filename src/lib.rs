//! Campanile: metrics, alerting and click counting in one durable binary.
//!
//! `ARCHITECTURE.md` beside this file says which module owns what and which may import which.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod agent;
pub mod alertmanager;
pub mod cli;
pub mod config;
pub mod events;
pub mod http;
pub mod ingest;
pub mod io;
pub mod model;
pub mod query;
pub mod rules;
pub mod server;
pub mod storage;
pub mod telemetry;
pub mod template;
pub mod tsdb;
pub mod ui;
