//! What a query is about: its left side, once comparisons with thresholds are taken off.
//!
//! `rate(errors[5m]) > 5` answers nothing both when all is well and when there is no data; `rate(errors[5m])` tells the two
//! apart, and has the value by which an alert recovers.

use crate::query::Expr;
use crate::query::ast::{BinaryOp, ExprKind};
use crate::query::types::Type;

/// Returns the part of the query whose values it judges; the query itself when it judges nothing.
pub(super) fn subject(expr: &Expr) -> Expr {
    let inner = expr.without_parens();
    let ExprKind::Binary(binary) = &*inner.kind else {
        return expr.clone();
    };
    let filters = binary.op.is_comparison() && !binary.return_bool;
    let narrows = matches!(binary.op, BinaryOp::And | BinaryOp::Unless);
    if !filters && !narrows {
        return expr.clone();
    }
    if binary.lhs.ty == Type::InstantVector {
        subject(&binary.lhs)
    } else {
        subject(&binary.rhs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::parse;

    #[test]
    fn comparisons_and_conjunctions_are_taken_off() {
        for (query, expected) in [
            ("up == 0", "up"),
            ("0.5 < (rate(x[5m]) > 0.1)", "rate(x[5m])"),
            ("(a > 1) and on (job) b", "a"),
            ("a unless b", "a"),
            ("a > bool 1", "a > bool 1"),
            ("a > 1 or b > 1", "a > 1 or b > 1"),
            ("sum(a)", "sum(a)"),
        ] {
            assert_eq!(subject(&parse(query).unwrap()).to_string(), expected, "{query}");
        }
    }
}
