//! The engine: what rules, the API and tools ask.

use super::eval::{self, Question};
use super::types::Type;
use super::{Expr, QueryError, QueryOptions, QueryOutput};
use crate::model::{Interval, Millis};
use crate::storage::Querier;

/// Evaluates queries. Holds nothing: all it needs comes with the call, so that one serves all threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Engine;

impl Engine {
    /// Evaluates `expr` at one time. Blocks while the store reads.
    ///
    /// # Errors
    /// [`QueryError`], when the query makes no sense on this data, a limit or the deadline is reached, or the store fails.
    pub fn instant(
        &self,
        querier: &dyn Querier,
        expr: &Expr,
        at: Millis,
        options: &QueryOptions,
    ) -> Result<QueryOutput, QueryError> {
        eval::evaluate(querier, expr, &Question::Instant(at), options)
    }

    /// Evaluates `expr` at `start`, `start + step`, … up to `end`; the answer is a matrix. Blocks while the store reads.
    ///
    /// # Errors
    /// As [`Engine::instant`]; also when `expr` yields neither a scalar nor an instant vector, or `step` is not positive.
    pub fn range(
        &self,
        querier: &dyn Querier,
        expr: &Expr,
        start: Millis,
        end: Millis,
        step: Interval,
        options: &QueryOptions,
    ) -> Result<QueryOutput, QueryError> {
        let refuse = |message: String, hint: &str| {
            Err(QueryError::Parse {
                message,
                hint: hint.to_owned(),
            })
        };
        if !matches!(expr.ty, Type::Scalar | Type::InstantVector) {
            let ty = expr.ty;
            let message = format!(
                "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                ty.to_string()
            );
            return refuse(message, "wrap it in a function such as last_over_time or rate");
        }
        if step.0 <= 0 {
            return refuse(
                "zero or negative query resolution step widths are not accepted. Try a positive integer".to_owned(),
                "",
            );
        }
        eval::evaluate(querier, expr, &Question::Range { start, end, step }, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::script::{self, When};

    /// Runs all scripts in a folder.
    fn run_scripts(folder: &std::path::Path) {
        let mut failed = String::new();
        let (mut evals, mut failures) = (0, 0);
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for file in files
            .iter()
            .filter(|file| file.extension().is_some_and(|end| end == "test"))
        {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(file).unwrap();
            let report = script::run(&text, &|store, expr, when| {
                let options = QueryOptions::default();
                match when {
                    When::Instant(at) => Engine.instant(store, expr, at, &options),
                    When::Range { start, end, step } => Engine.range(store, expr, start, end, step, &options),
                }
            })
            .unwrap();
            evals += report.evals;
            failures += report.failures.len();
            for failure in report.failures {
                failed += &format!("{name}:{}: {}\n    {}\n", failure.line, failure.query, failure.reason);
            }
        }
        assert!(failed.is_empty(), "{failures} of {evals} evaluations failed\n{failed}");
    }

    #[test]
    fn our_own_scripts_pass() {
        run_scripts(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/query"));
    }

    /// Prometheus's own scripts are not ours to copy: they run where `PROMQL_SCRIPTS` names their folder.
    #[test]
    fn the_scripts_of_the_reference_pass() {
        if let Some(folder) = std::env::var_os("PROMQL_SCRIPTS") {
            run_scripts(std::path::Path::new(&folder));
        }
    }

    #[test]
    fn every_function_has_a_case() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/query");
        let cases = std::fs::read_to_string(folder.join("every_function.test")).unwrap();
        for function in crate::query::functions::FUNCTIONS {
            assert!(
                cases.contains(&format!(" {}(", function.name)),
                "{} has no case",
                function.name
            );
            assert!(
                crate::query::parse(function.example).is_ok(),
                "{}: its example is no query",
                function.name
            );
        }
    }
}
