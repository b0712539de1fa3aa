//! `campanile check alertmanager`: is this `alertmanager.yml` one that the server would take?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::alertmanager::{Config, ConfigError};
use crate::io::disk::OsDisk;

/// Check Alertmanager configuration files, their templates included: exit code 0 when all are in order.
#[derive(Debug, Args)]
pub(crate) struct CheckAlertmanagerArgs {
    /// The files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Runs the check.
pub(crate) fn run(args: &CheckAlertmanagerArgs) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in &args.files {
        match Config::load(&OsDisk, file) {
            Ok(config) => {
                let found = config.summary();
                println!("Checking '{}'  SUCCESS", file.display());
                println!("Found:");
                println!(" - route with {} routes", found.routes);
                println!(" - {} receivers", found.receivers);
                println!(" - {} inhibit rules", found.inhibit_rules);
                println!(" - {} time intervals", found.time_intervals);
            }
            Err(error) => {
                println!("Checking '{}'  FAILED", file.display());
                match error {
                    ConfigError::Yaml(error) => eprintln!("{}", error.with_snippet()),
                    error => eprintln!("{error}"),
                }
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
