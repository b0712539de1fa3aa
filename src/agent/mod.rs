//! The daemon on a host: collect → queue (a log) → remote write. The mirror image of `ingest`.
//!
//! It collects the machine's own metrics and scrapes Prometheus endpoints, puts finished remote-write bodies into one
//! durable queue for each server, and pushes them until each is taken. The one inside `serve` and `campanile agent` are
//! the same code, and both go through the server's HTTP door.

mod collect;
mod config;
mod credentials;
mod daemon;
mod file;
mod jobs;
mod metrics;
mod outlet;
mod push;
mod queue;
mod remote;
mod rounds;
mod scrape;
mod target;
mod targets;

pub use collect::{Gathered, Host};
pub use config::{AgentConfig, Bytes, FileSdConfig, HttpSdConfig, ScrapeConfig, ScrapeProtocol, StaticConfig};
pub use credentials::{Authorization, BasicAuth, TlsConfig};
pub use daemon::{Agent, AgentParts, Forwarder};
pub use file::AgentFile;
pub use metrics::METRICS;
pub use outlet::{RemoteQueue, open_queues};
pub use remote::{QueueConfig, RemoteWriteConfig};
pub use targets::{TargetState, Targets};
