//! The command line: one file a subcommand; each calls the modules, prints, and decides nothing.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Metrics, alerting and click counting in one durable binary.
#[derive(Debug, Parser)]
#[command(name = "campanile", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the licence of Campanile.
    Licence,
}

/// Reads the arguments of the process and carries the command out.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Licence => {
            print!("{}", include_str!("../../LICENSE"));
            ExitCode::SUCCESS
        }
    }
}
