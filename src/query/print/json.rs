//! Tree → JSON, in the shape of Prometheus's `parse_query`, which its tree view and editors read.

use serde_json::{Value, json};

use crate::model::Matcher;
use crate::query::ast::{At, Boundary, DurationExpr, Expr, ExprKind, VectorSelector};
use crate::query::float::go_float;
use crate::query::functions::{Function, Last};

/// Returns the tree as `parse_query` shows it. Durations are in milliseconds; those that only a query's step and range decide
/// are 0 and spelled out under `rangeExpr`, `offsetExpr`, `stepExpr`.
pub fn to_json(expr: &Expr) -> Value {
    match &*expr.kind {
        ExprKind::Number { value, .. } => json!({"type": "numberLiteral", "val": go_float(*value)}),
        ExprKind::String(text) => json!({"type": "stringLiteral", "val": &**text.shown()}),
        ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": to_json(inner)}),
        ExprKind::Unary { op, expr } => json!({"type": "unaryExpr", "op": op.as_str(), "expr": to_json(expr)}),
        ExprKind::Call { function, args } => json!({
            "type": "call",
            "func": function_json(function),
            "args": args.iter().map(to_json).collect::<Vec<_>>(),
        }),
        ExprKind::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.as_str(),
            "expr": to_json(&aggregate.expr),
            "param": aggregate.param.as_ref().map(to_json),
            "grouping": aggregate.grouping,
            "without": aggregate.without,
        }),
        ExprKind::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.as_str(),
            "lhs": to_json(&binary.lhs),
            "rhs": to_json(&binary.rhs),
            "matching": binary.matching.as_ref().map(|matching| json!({
                "card": matching.cardinality.as_str(),
                "labels": matching.labels,
                "on": matching.on,
                "include": matching.include,
                "fillValues": {
                    "lhs": matching.fill_left.map(go_float),
                    "rhs": matching.fill_right.map(go_float),
                },
            })),
            "bool": binary.return_bool,
        }),
        ExprKind::Vector(selector) => selector_json("vectorSelector", selector, None),
        ExprKind::Matrix { selector, range, .. } => selector_json("matrixSelector", selector, Some(range)),
        ExprKind::Subquery(subquery) => {
            let mut value = json!({
                "type": "subquery",
                "expr": to_json(&subquery.expr),
                "range": millis(Some(&subquery.range)),
                "offset": millis(subquery.offset.as_ref()),
                "step": millis(subquery.step.as_ref()),
                "timestamp": timestamp(subquery.at),
                "startOrEnd": start_or_end(subquery.at),
            });
            spell_out(&mut value, "rangeExpr", Some(&subquery.range));
            spell_out(&mut value, "offsetExpr", subquery.offset.as_ref());
            spell_out(&mut value, "stepExpr", subquery.step.as_ref());
            value
        }
    }
}

fn selector_json(kind: &str, selector: &VectorSelector, range: Option<&DurationExpr>) -> Value {
    let mut value = json!({"type": kind, "name": selector.name.as_deref().unwrap_or("")});
    if let Some(range) = range {
        value["range"] = json!(millis(Some(range)));
        spell_out(&mut value, "rangeExpr", Some(range));
    }
    value["offset"] = json!(millis(selector.offset.as_ref()));
    spell_out(&mut value, "offsetExpr", selector.offset.as_ref());
    value["matchers"] = selector.matchers.iter().map(matcher_json).collect();
    value["timestamp"] = timestamp(selector.at);
    value["startOrEnd"] = start_or_end(selector.at);
    value["anchored"] = json!(selector.boundary == Some(Boundary::Anchored));
    value["smoothed"] = json!(selector.boundary == Some(Boundary::Smoothed));
    value
}

fn matcher_json(matcher: &Matcher) -> Value {
    json!({"name": matcher.name, "value": matcher.value, "type": matcher.op.as_str()})
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the parser keeps durations within bounds"
)]
fn millis(expr: Option<&DurationExpr>) -> i64 {
    let seconds = expr.and_then(DurationExpr::as_literal).unwrap_or(0.0);
    (seconds * 1000.0).round() as i64
}

fn spell_out(value: &mut Value, key: &str, expr: Option<&DurationExpr>) {
    if let Some(expr) = expr.filter(|expr| expr.as_literal().is_none()) {
        value[key] = json!(expr.to_string());
    }
}

fn timestamp(at: Option<At>) -> Value {
    match at {
        Some(At::Time(at)) => json!(at.0),
        _ => Value::Null,
    }
}

fn start_or_end(at: Option<At>) -> Value {
    match at {
        Some(At::Start) => json!("start"),
        Some(At::End) => json!("end"),
        _ => Value::Null,
    }
}

fn function_json(function: &Function) -> Value {
    let types: Vec<&str> = function.args.iter().map(|ty| ty.api_name()).collect();
    json!({
        "name": function.name,
        "argTypes": types,
        "variadic": match function.last {
            Last::Once => 0,
            Last::UpTo(times) => i64::try_from(times).unwrap_or(i64::MAX),
            Last::Any => -1,
        },
        "returnType": function.returns.api_name(),
    })
}
