//! The daemon on a host: collect → queue (a log) → remote write. The mirror image of `ingest`.
//!
//! It collects the machine's own metrics and scrapes Prometheus endpoints, puts finished remote-write bodies into one
//! durable queue for each server, and pushes them until each is taken. The one inside `serve` and `campanile agent` are
//! the same code, and both go through the server's HTTP door.

mod collect;
mod config;
mod daemon;
mod metrics;
mod push;
mod queue;
mod scrape;
mod target;

pub use collect::{Gathered, Host};
pub use config::{
    AgentConfig, AgentFile, Authorization, BasicAuth, FileSdConfig, QueueConfig, RemoteWriteConfig, ScrapeConfig,
    Secret, StaticConfig, TlsConfig,
};
pub use daemon::{Agent, AgentParts, RemoteQueue, open_queues};
pub use metrics::METRICS;
