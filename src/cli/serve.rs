//! `campanile serve`: the server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::{Flags, Listen};
use crate::model::Interval;
use crate::server;
use crate::tsdb::ByteSize;

/// Run the server: store, rules, alert manager, agent and web pages in one process.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file: campanile.yaml, or a prometheus.yml.
    #[arg(long, alias = "config.file", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where everything durable lives [default: ./campanile-data].
    #[arg(long, alias = "storage.tsdb.path", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Address and port to listen on [default: 127.0.0.1:9490].
    #[arg(long, alias = "web.listen-address", value_name = "ADDRESS")]
    listen: Option<Listen>,

    /// The URL under which people reach this server; links in pages begin with it.
    #[arg(long, alias = "web.external-url", value_name = "URL")]
    external_url: Option<String>,

    /// TLS, basic auth and headers, in exporter-toolkit's format.
    #[arg(long, alias = "web.config.file", value_name = "FILE")]
    web_config: Option<PathBuf>,

    /// Listen on an address that others reach although nobody has to say who they are.
    #[arg(long)]
    i_know_this_is_open: bool,

    /// How long samples are kept, such as 30d [default: 30d].
    #[arg(long, alias = "storage.tsdb.retention.time", value_name = "DURATION")]
    retention: Option<Interval>,

    /// How many bytes of blocks are kept, such as 50GB; 0 = no limit [default: 0].
    #[arg(long, alias = "storage.tsdb.retention.size", value_name = "SIZE")]
    retention_size: Option<ByteSize>,

    /// Serve the web pages from this directory instead of the embedded ones, while working on them.
    #[arg(long, value_name = "DIR")]
    ui_dir: Option<PathBuf>,

    /// How the log is written: text or json.
    #[arg(long, alias = "log.format", value_name = "FORMAT", default_value = "text", value_parser = ["text", "logfmt", "json"])]
    log_format: String,

    /// What is logged: error, warn, info, debug, trace, or a filter such as info,campanile::rules=debug.
    #[arg(long, alias = "log.level", value_name = "LEVEL", default_value = "info")]
    log_level: String,

    // Prometheus asks to be allowed what is always on here.
    #[arg(long = "web.enable-remote-write-receiver", hide = true)]
    enable_remote_write_receiver: bool,
    #[arg(long = "web.enable-lifecycle", hide = true)]
    enable_lifecycle: bool,
}

/// Runs the server until it is told to stop.
pub(crate) fn run(args: ServeArgs) -> ExitCode {
    let flags = Flags {
        config: args.config,
        data_dir: args.data_dir,
        listen: args.listen,
        external_url: args.external_url,
        web_config: args.web_config,
        open_to_all: args.i_know_this_is_open,
        retention: args.retention,
        retention_size: args.retention_size,
    };
    let logging = server::Logging {
        json: args.log_format == "json",
        filter: args.log_level,
    };
    let options = server::Options {
        flags,
        ui_dir: args.ui_dir,
        logging,
        variables: std::env::vars().collect(),
    };
    match server::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campanile: {error}");
            ExitCode::FAILURE
        }
    }
}
