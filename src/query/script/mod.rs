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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::query::{Engine, QueryOptions, parse};

    fn golden() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/query")
    }

    #[test]
    fn all_scripts_pass() {
        let options = QueryOptions::default();
        let evaluator: &Evaluator<'_> = &|store, expr, when| match when {
            When::Instant(at) => Engine.instant(store, expr, at, &options),
            When::Range { start, end, step } => Engine.range(store, expr, start, end, step, &options),
        };
        let mut wrong = String::new();
        let mut scripts = 0;
        for entry in std::fs::read_dir(golden()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "test") {
                continue;
            }
            scripts += 1;
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let report = run(&text, evaluator).unwrap_or_else(|error| panic!("{name}: {error}"));
            for failure in report.failures {
                wrong += &format!("{name}:{}: {}\n    {}\n", failure.line, failure.query, failure.reason);
            }
        }
        assert!(scripts > 0 && wrong.is_empty(), "{wrong}");
    }

    #[test]
    fn a_wrong_expectation_is_reported_with_its_line() {
        let options = QueryOptions::default();
        let evaluator: &Evaluator<'_> = &|store, expr, when| match when {
            When::Instant(at) => Engine.instant(store, expr, at, &options),
            When::Range { start, end, step } => Engine.range(store, expr, start, end, step, &options),
        };
        let report = run(
            "load 1m\n  up 1\n\neval instant at 0 up\n  up 2\n\neval instant at 0 1\n  1",
            evaluator,
        )
        .unwrap();
        assert_eq!(
            (report.evals, report.failures.len(), report.failures[0].line),
            (2, 1, 4)
        );
        assert!(
            report.failures[0].reason.contains("expected 2, got 1"),
            "{:?}",
            report.failures
        );
    }

    /// Each line: a query, a tab, and its canonical form; or `!line:column: reason`.
    #[test]
    fn queries_parse_and_print_as_written_down() {
        let path = golden().join("parse.tsv");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut rewritten = String::new();
        for line in text.lines() {
            let (query, _) = line.split_once('\t').expect("a tab between query and answer");
            let answer = match parse(query) {
                Ok(expr) => expr.to_string(),
                Err(error) => format!("!{}", error.to_string().replace(" parse error:", "")),
            };
            rewritten += &format!("{query}\t{answer}\n");
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &rewritten).unwrap();
        }
        assert_eq!(rewritten, text, "run with UPDATE_GOLDEN=1 and review the difference");
    }
}
