//! One evaluation, asked in several ways that must agree.

use super::compare::compare;
use super::pin::pinned;
use super::{Annotation, Eval, Evaluator, Expected, When};
use crate::model::{Interval, Millis};
use crate::query::{Expr, QueryError, QueryOutput, QueryValue, VectorSample, parse};
use crate::storage::{LiteralStore, Point};

/// Calls whose answer depends on the query's own range: such a query means something else as a range query.
const OF_RANGE: [&str; 4] = ["start()", "end()", "range()", "step()"];

/// How far before and after its time an instant query is asked again as a range query.
const AROUND: Interval = Interval::mins(1);

pub(super) fn judge(eval: &Eval, store: &LiteralStore, evaluator: &Evaluator<'_>) -> Result<(), String> {
    let judge = Judge { eval, store, evaluator };
    let expr = match parse(&eval.query) {
        Ok(expr) => expr,
        Err(error) => return judge.check_error(&error),
    };
    let When::Instant(at) = eval.when else {
        return judge.ask(&expr, eval.when);
    };
    judge.ask(&expr, eval.when)?;
    judge.as_range(&expr, at)?;
    let Some(expr) = pinned(&expr, at) else {
        return Ok(());
    };
    let other_times = match at.0 {
        0 => [-1000, 0, 1000, 0, 0],
        at => [-10 * at, 0, at / 5, at, 10 * at],
    };
    for other in other_times.map(Millis) {
        let again = judge
            .ask(&expr, When::Instant(other))
            .and_then(|()| judge.as_range(&expr, other));
        again.map_err(|reason| format!("[{expr} at {} ms] {reason}", other.0))?;
    }
    Ok(())
}

struct Judge<'a> {
    eval: &'a Eval,
    store: &'a LiteralStore,
    evaluator: &'a Evaluator<'a>,
}

impl Judge<'_> {
    fn ask(&self, expr: &Expr, when: When) -> Result<(), String> {
        let output = match (self.evaluator)(self.store, expr, when) {
            Err(error) => return self.check_error(&error),
            Ok(_) if self.eval.fail.is_some() => return Err("expected an error, got a result".to_owned()),
            Ok(output) => output,
        };
        self.check_annotations(&output)?;
        if let (When::Instant(at), QueryValue::Vector(samples)) = (when, &output.value)
            && let Some(sample) = samples.iter().find(|sample| sample.point.at() != at)
        {
            return Err(format!("{} carries time {} ms", sample.labels, sample.point.at().0));
        }
        compare(self.eval, &output.value, when)
    }

    fn check_error(&self, error: &QueryError) -> Result<(), String> {
        match &self.eval.fail {
            None => Err(format!("the query failed: {error}")),
            Some(wanted) if wanted.matches(&error.to_string()) => Ok(()),
            Some(wanted) => Err(format!("expected the error {wanted:?}, got {error}")),
        }
    }

    fn check_annotations(&self, output: &QueryOutput) -> Result<(), String> {
        let eval = self.eval;
        for (kind, wanted, none, got) in [
            ("warning", &eval.warn, eval.no_warn, &output.warnings),
            ("info", &eval.info, eval.no_info, &output.infos),
        ] {
            if none && !got.is_empty() {
                return Err(format!("unexpected {kind}: {got:?}"));
            }
            if wanted.is_empty() {
                continue;
            }
            if let Some(missing) = wanted
                .iter()
                .find(|wanted| !got.iter().any(|text| wanted.matches(text)))
            {
                return Err(format!("no {kind} matches {missing:?}; got {got:?}"));
            }
            let known = |text: &String| wanted.iter().any(|wanted: &Annotation| wanted.matches(text));
            if let Some(text) = got.iter().find(|text| !known(text)) {
                return Err(format!("unexpected {kind}: {text}"));
            }
        }
        Ok(())
    }

    /// Asks an instant query as a range query around its time, and compares the step in the middle.
    fn as_range(&self, expr: &Expr, at: Millis) -> Result<(), String> {
        let eval = self.eval;
        let comparable = matches!(eval.expected, Expected::Scalar(_) | Expected::Series(_)) && eval.fail.is_none();
        if !comparable || OF_RANGE.iter().any(|call| eval.query.contains(call)) {
            return Ok(());
        }
        let when = When::Range {
            start: at - AROUND,
            end: at + AROUND,
            step: AROUND,
        };
        let output = (self.evaluator)(self.store, expr, when)
            .map_err(|error| format!("as a range query: it failed: {error}"))?;
        if eval.ordered {
            return Ok(());
        }
        let value = at_step(output.value, at)?;
        compare(eval, &value, When::Instant(at)).map_err(|reason| format!("as a range query: {reason}"))
    }
}

/// Returns the points of a matrix at one time, as a vector.
fn at_step(value: QueryValue, at: Millis) -> Result<QueryValue, String> {
    let QueryValue::Matrix(matrix) = value else {
        return Err("a range query must answer with a matrix".to_owned());
    };
    if let Some(pair) = matrix.windows(2).find(|pair| pair[0].labels >= pair[1].labels) {
        return Err(format!(
            "the matrix is not sorted: {} before {}",
            pair[0].labels, pair[1].labels
        ));
    }
    let mut samples = Vec::new();
    for series in matrix {
        let float = series.floats.iter().find(|sample| sample.at == at);
        let histogram = series.histograms.iter().find(|sample| sample.at == at);
        let point = float
            .map(|sample| Point::Float(*sample))
            .or_else(|| histogram.map(|sample| Point::Histogram(sample.clone())));
        if let Some(point) = point {
            let labels = series.labels;
            samples.push(VectorSample { labels, point });
        }
    }
    Ok(QueryValue::Vector(samples))
}
