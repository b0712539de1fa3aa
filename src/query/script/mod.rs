//! Scripts that test queries, in the language of Prometheus's own: `load` series, `eval` queries, compare what comes out.
//!
//! A script is a list of [`Command`]s. Time begins at the Unix epoch. [`run`] loads a fresh `LiteralStore` and asks an evaluator
//! it is given; each instant query is also asked as a range query around its time, and with its selectors pinned by `@` at
//! other times: all must agree.

mod command;
mod compare;
mod histogram;
mod judge;
mod load;
mod pin;
mod series;

use super::{Expr, QueryError, QueryOutput};
use crate::model::{Interval, Millis};
use crate::storage::LiteralStore;

pub use command::{Annotation, Command, Eval, Expected, Load, parse_script};
pub use series::{SeriesValue, parse_series_line, parse_values};

/// When a query is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Once.
    Instant(Millis),
    /// At each step.
    Range {
        /// The first step.
        start: Millis,
        /// The last step is not after this.
        end: Millis,
        /// From step to step.
        step: Interval,
    },
}

/// Answers queries over a store: the engine.
pub type Evaluator<'a> = dyn Fn(&LiteralStore, &Expr, When) -> Result<QueryOutput, QueryError> + 'a;

/// One evaluation of a script that did not give what the script says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The line of the `eval`; the first line is 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// What was expected and what came.
    pub reason: String,
}

/// What became of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many evaluations the script has.
    pub evals: usize,
    /// Those that failed.
    pub failures: Vec<Failure>,
}

/// Why a text is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ScriptError {
    /// The line; the first one is 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Runs a script.
///
/// # Errors
/// [`ScriptError`] when the text is no script; an evaluation that fails is in the report.
pub fn run(text: &str, evaluator: &Evaluator<'_>) -> Result<Report, ScriptError> {
    let mut report = Report::default();
    let mut store = LiteralStore::new();
    for command in parse_script(text)? {
        match command {
            Command::Clear => store = LiteralStore::new(),
            Command::Load(load) => load.put(&store),
            Command::Eval(eval) => {
                report.evals += 1;
                if let Err(reason) = judge::judge(&eval, &store, evaluator) {
                    report.failures.push(Failure {
                        line: eval.line,
                        query: eval.query,
                        reason,
                    });
                }
            }
        }
    }
    Ok(report)
}
