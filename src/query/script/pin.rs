//! Pins a query to a time: every selector gets an `@`, so that the answer no longer depends on when it is evaluated.

use std::sync::Arc;

use crate::model::Millis;
use crate::query::ast::{At, Expr, ExprKind};
use crate::query::functions::{Body, Special};

/// Functions whose answer depends on the evaluation's time whatever the selectors say.
const OF_TIME: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

/// Returns the query pinned at `at`; `None` when that cannot be.
pub(super) fn pinned(expr: &Expr, at: Millis) -> Option<Expr> {
    let mut of_time = false;
    expr.walk(&mut |expr| {
        if let ExprKind::Call { function, .. } = &*expr.kind {
            // A detector asks for the past of its argument, not for the argument once more.
            of_time |= OF_TIME.contains(&function.name) || matches!(function.body, Body::Special(Special::Detect(_)));
        }
    });
    (!of_time).then(|| pin(expr, at))
}

fn pin(expr: &Expr, at: Millis) -> Expr {
    let fixed = |present: Option<At>| match present {
        Some(At::Time(time)) => Some(At::Time(time)),
        _ => Some(At::Time(at)),
    };
    let mut kind = ExprKind::clone(&expr.kind);
    match &mut kind {
        ExprKind::Number { .. } | ExprKind::String(_) => {}
        ExprKind::Vector(selector) | ExprKind::Matrix { selector, .. } => selector.at = fixed(selector.at),
        // What is inside a subquery follows the subquery.
        ExprKind::Subquery(subquery) => subquery.at = fixed(subquery.at),
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => *expr = pin(expr, at),
        ExprKind::Binary(binary) => {
            binary.lhs = pin(&binary.lhs, at);
            binary.rhs = pin(&binary.rhs, at);
        }
        ExprKind::Aggregate(aggregate) => {
            aggregate.expr = pin(&aggregate.expr, at);
            aggregate.param = aggregate.param.as_ref().map(|param| pin(param, at));
        }
        ExprKind::Call { args, .. } => args.iter_mut().for_each(|arg| *arg = pin(arg, at)),
    }
    Expr {
        kind: Arc::new(kind),
        ..expr.clone()
    }
}
