//! `campanile check`: is this file (or server) in order?

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::check_alertmanager::{self, CheckAlertmanagerArgs};
use crate::io::http_client::{HttpClient, HttpOptions, HttpRequest, ReqwestClient};
use crate::model::Interval;

/// Check files before they are used, or whether a server is ready.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Alertmanager(CheckAlertmanagerArgs),
    Dashboards(super::check_dashboards::DashboardsArgs),
    Ready(ReadyArgs),
    Rules(super::check_rules::CheckRulesArgs),
}

/// Ask a server whether it is ready: exit code 0 when it is.
#[derive(Debug, Args)]
struct ReadyArgs {
    /// The server's base URL.
    #[arg(long, default_value = "http://127.0.0.1:9490")]
    url: String,
}

/// Runs the check.
pub(crate) fn run(args: CheckArgs) -> ExitCode {
    match args.what {
        What::Dashboards(args) => super::check_dashboards::run(&args),
        What::Alertmanager(args) => check_alertmanager::run(&args),
        What::Ready(args) => ready(&args),
        What::Rules(args) => super::check_rules::run(&args),
    }
}

fn ready(args: &ReadyArgs) -> ExitCode {
    let request = HttpRequest {
        method: "GET".to_owned(),
        url: format!("{}/-/ready", args.url.trim_end_matches('/')),
        headers: Vec::new(),
        body: bytes::Bytes::new(),
        timeout: Interval::secs(5),
        options: HttpOptions::default(),
    };
    let answered = super::block_on(async { ReqwestClient::new().send(request).await });
    match answered {
        Ok(answer) => {
            print!("{}", String::from_utf8_lossy(&answer.body));
            if answer.status == 200 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("campanile: {error}");
            ExitCode::FAILURE
        }
    }
}
