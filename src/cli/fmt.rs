//! `campanile fmt`: lays a query out for reading.

use std::io::Read as _;
use std::process::ExitCode;

use clap::Args;

use crate::query::{QueryError, parse, print};

/// Lay a query out for reading, over as many lines as it needs.
#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// The query; without it, standard input is read.
    query: Option<String>,
    /// Print nothing: exit code 0 when the query is laid out already.
    #[arg(long)]
    check: bool,
}

/// Formats the query.
pub(crate) fn run(args: FmtArgs) -> ExitCode {
    let text = match args.query {
        Some(text) => text,
        None => {
            let mut text = String::new();
            if let Err(error) = std::io::stdin().read_to_string(&mut text) {
                eprintln!("campanile: cannot read standard input: {error}");
                return ExitCode::FAILURE;
            }
            text
        }
    };
    match parse(&text) {
        Ok(expr) => {
            let page = print::format(&expr);
            if args.check {
                return if page == text.trim_end() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                };
            }
            println!("{page}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            explain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error with its snippet.
pub(super) fn explain(error: &QueryError) {
    eprintln!("campanile: {error}");
    if let QueryError::Parse { hint, .. } = error {
        for line in hint.lines() {
            eprintln!("    {line}");
        }
    }
}
