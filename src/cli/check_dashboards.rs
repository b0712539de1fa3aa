//! `campanile check dashboards`: do these files read, and does each of their queries?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::io::disk::OsDisk;
use crate::io::files;
use crate::ui::Dashboards;

/// Check dashboards: every key, every variable, every query.
#[derive(Debug, Args)]
pub(crate) struct DashboardsArgs {
    /// Files or patterns.
    #[arg(default_value = "dashboards/*.yaml")]
    files: Vec<PathBuf>,
}

/// Prints what is wrong with each file, with its place; exit code 0 when nothing is.
pub(crate) fn run(args: &DashboardsArgs) -> ExitCode {
    let disk = OsDisk;
    let (mut read, mut wrong) = (0, 0);
    for pattern in &args.files {
        let found = match files::glob(&disk, pattern) {
            Ok(found) => found,
            Err(error) => {
                eprintln!("campanile: cannot look for {}: {error}", pattern.display());
                return ExitCode::FAILURE;
            }
        };
        for file in found {
            read += 1;
            let name = file.display().to_string();
            let result = match files::read_text(&disk, &file) {
                Ok(text) => Dashboards::default()
                    .add(&name, &text)
                    .map_err(|error| error.with_snippet()),
                Err(error) => Err(format!("{name}: {error}")),
            };
            if let Err(reason) = result {
                wrong += 1;
                eprintln!("{reason}");
            }
        }
    }
    match (read, wrong) {
        (0, _) => {
            eprintln!("campanile: no file matches");
            ExitCode::FAILURE
        }
        (_, 0) => {
            println!("{read} dashboards are in order");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{wrong} of {read} dashboards have mistakes");
            ExitCode::FAILURE
        }
    }
}
