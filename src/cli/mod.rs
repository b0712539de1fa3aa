//! The command line: one file a subcommand; each calls the modules, prints, and decides nothing.

mod agent;
mod alert;
mod backfill;
mod backtest;
mod check;
mod check_alertmanager;
mod check_dashboards;
mod check_rules;
mod explain;
mod fmt;
mod prove;
mod push;
mod query;
mod recalc;
mod reconcile;
mod serve;
mod server;
mod silence;
mod test;
mod test_pages;
mod test_promql;
mod test_rules;
mod tsdb;

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
    Serve(Box<serve::ServeArgs>),
    Agent(agent::AgentArgs),
    Alert(alert::AlertArgs),
    Backfill(backfill::BackfillArgs),
    Backtest(backtest::BacktestArgs),
    Check(check::CheckArgs),
    Drill(explain::DrillArgs),
    Explain(explain::ExplainArgs),
    Preview(explain::PreviewArgs),
    Silence(silence::SilenceArgs),
    Prove(prove::ProveArgs),
    Push(push::PushArgs),
    Recalc(recalc::RecalcArgs),
    Reconcile(reconcile::ReconcileArgs),
    Fmt(fmt::FmtArgs),
    Query(query::QueryArgs),
    Test(test::TestArgs),
    Tsdb(tsdb::TsdbArgs),
    /// Print the licence of Campanile.
    Licence,
}

/// Reads the arguments of the process and carries the command out.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(*args),
        Command::Agent(args) => agent::run(args),
        Command::Backfill(args) => backfill::run(&args),
        Command::Backtest(args) => backtest::run(&args),
        Command::Alert(args) => alert::run(&args),
        Command::Check(args) => check::run(args),
        Command::Drill(args) => explain::run_drill(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Preview(args) => explain::run_preview(&args),
        Command::Silence(args) => silence::run(&args),
        Command::Prove(args) => prove::run(&args),
        Command::Push(args) => push::run(args),
        Command::Recalc(args) => recalc::run(&args),
        Command::Reconcile(args) => reconcile::run(&args),
        Command::Fmt(args) => fmt::run(args),
        Command::Query(args) => query::run(args),
        Command::Test(args) => test::run(args),
        Command::Tsdb(args) => tsdb::run(args),
        Command::Licence => {
            print!("{}", include_str!("../../LICENSE"));
            ExitCode::SUCCESS
        }
    }
}

/// Waits for a future on a runtime of its own, for commands that speak HTTP.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .expect("a runtime needs only memory and a few descriptors")
        .block_on(future)
}
