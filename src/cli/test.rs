//! `campanile test`: do rules and queries do what their tests say?

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Run tests of rules and of queries.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Promql(super::test_promql::TestPromqlArgs),
    Rules(super::test_rules::TestRulesArgs),
}

/// Runs the tests.
pub(crate) fn run(args: TestArgs) -> ExitCode {
    match args.what {
        What::Promql(args) => super::test_promql::run(&args),
        What::Rules(args) => super::test_rules::run(&args),
    }
}
