//! `campanile test promql`: do queries answer what scripts say?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::io::disk::OsDisk;
use crate::io::files;
use crate::query::script::{self, Evaluator, When};
use crate::query::{Engine, QueryOptions};

/// Run scripts that load series and compare the answers of queries, in the language of Prometheus's own test scripts.
#[derive(Debug, Args)]
pub(crate) struct TestPromqlArgs {
    /// Script files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Show at most this many failures of each file.
    #[arg(long, default_value_t = 10)]
    show: usize,
}

/// Runs the scripts; exit code 0 when all of them pass.
pub(crate) fn run(args: &TestPromqlArgs) -> ExitCode {
    let options = QueryOptions::default();
    let evaluator: &Evaluator<'_> = &|store, expr, when| match when {
        When::Instant(at) => Engine.instant(store, expr, at, &options),
        When::Range { start, end, step } => Engine.range(store, expr, start, end, step, &options),
    };
    let mut all_passed = true;
    for file in &args.files {
        let name = file.display();
        let text = match files::read_text(&OsDisk, file) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("campanile: cannot read {name}: {error}");
                all_passed = false;
                continue;
            }
        };
        let report = match script::run(&text, evaluator) {
            Ok(report) => report,
            Err(error) => {
                println!("{name}:{}: {}", error.line, error.reason);
                all_passed = false;
                continue;
            }
        };
        println!(
            "{name}: {} of {} passed",
            report.evals - report.failures.len(),
            report.evals
        );
        for failure in report.failures.iter().take(args.show) {
            println!("{name}:{}: {}\n    {}", failure.line, failure.query, failure.reason);
        }
        all_passed &= report.failures.is_empty();
    }
    if all_passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
