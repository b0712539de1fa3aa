//! The readable page: lines of at most 100 characters where that is possible, operators on lines of their own, as Prometheus's
//! `format_query` lays it out.

use super::canonical::{aggregate_head, operator, subquery_suffix};
use crate::query::ast::{Expr, ExprKind};

/// A part that fits into this many characters stays on one line.
const LINE_CHARS_MAX: usize = 100;

/// Returns the query laid out over as many lines as it needs.
pub fn format(expr: &Expr) -> String {
    let mut out = String::new();
    push(&mut out, expr, 0);
    out
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

fn push(out: &mut String, expr: &Expr, level: usize) {
    if !matches!(*expr.kind, ExprKind::Unary { .. }) {
        let line = expr.to_string();
        if line.len() <= LINE_CHARS_MAX {
            indent(out, level);
            out.push_str(&line);
            return;
        }
    }
    match &*expr.kind {
        ExprKind::Aggregate(aggregate) => {
            indent(out, level);
            out.push_str(&aggregate_head(aggregate));
            let args: Vec<&Expr> = aggregate.param.iter().chain([&aggregate.expr]).collect();
            push_args(out, &args, level);
        }
        ExprKind::Call { function, args } if !args.is_empty() => {
            indent(out, level);
            out.push_str(function.name);
            push_args(out, &args.iter().collect::<Vec<_>>(), level);
        }
        ExprKind::Paren(inner) => {
            indent(out, level);
            push_args(out, &[inner], level);
        }
        ExprKind::Binary(binary) => {
            push(out, &binary.lhs, level + 1);
            out.push('\n');
            indent(out, level);
            out.push_str(&operator(binary));
            out.push('\n');
            push(out, &binary.rhs, level + 1);
        }
        ExprKind::Subquery(subquery) => {
            push(out, &subquery.expr, level);
            out.push_str(&subquery_suffix(subquery));
        }
        ExprKind::Unary { op, expr } => {
            indent(out, level);
            out.push_str(op.as_str());
            let mut operand = String::new();
            push(&mut operand, expr, level);
            out.push_str(operand.trim_start());
        }
        ExprKind::Number { .. }
        | ExprKind::String(_)
        | ExprKind::Vector(_)
        | ExprKind::Matrix { .. }
        | ExprKind::Call { .. } => {
            indent(out, level);
            out.push_str(&expr.to_string());
        }
    }
}

/// Writes `(`, each argument on a line of its own, and `)`.
fn push_args(out: &mut String, args: &[&Expr], level: usize) {
    out.push_str("(\n");
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            out.push_str(",\n");
        }
        push(out, arg, level + 1);
    }
    out.push('\n');
    indent(out, level);
    out.push(')');
}
