//! What an operator makes of two numbers, or of two elements.

use std::sync::Arc;

use super::matrix::Value;
use super::notes::{Notes, Operation};
use crate::model::{CounterResetHint, FloatHistogram, Keep};
use crate::query::ast::{BinaryOp, Span};

/// Computes with two numbers; comparisons give 0 or 1.
#[inline]
pub(super) fn scalar_binary(op: BinaryOp, a: f64, b: f64) -> f64 {
    match arithmetic(op) {
        Some(compute) => compute(a, b),
        None => f64::from(u8::from(compare(op, a, b))),
    }
}

/// Returns the function of an arithmetic operator, `None` for all others.
#[inline]
pub(super) fn arithmetic(op: BinaryOp) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        BinaryOp::Add => |a, b| a + b,
        BinaryOp::Sub => |a, b| a - b,
        BinaryOp::Mul => |a, b| a * b,
        BinaryOp::Div => |a, b| a / b,
        BinaryOp::Mod => |a, b| a % b,
        BinaryOp::Pow => f64::powf,
        BinaryOp::Atan2 => f64::atan2,
        _ => return None,
    })
}

/// Whether a comparison holds; operators that do not compare never do.
#[inline]
pub(super) fn compare(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Equal => a == b,
        BinaryOp::NotEqual => a != b,
        BinaryOp::Less => a < b,
        BinaryOp::LessEqual => a <= b,
        BinaryOp::Greater => a > b,
        BinaryOp::GreaterEqual => a >= b,
        _ => false,
    }
}

/// Whether an operator changes what a value means, so that the metric's name no longer fits.
pub(super) fn changes_meaning(op: BinaryOp) -> bool {
    arithmetic(op).is_some()
}

/// What came of two elements.
pub(super) struct Outcome {
    /// The value; of a comparison, the left one.
    pub(super) value: Value,
    /// Whether a comparison holds; true for all other operators.
    pub(super) keep: bool,
}

fn kept(value: Value) -> Option<Outcome> {
    Some(Outcome { value, keep: true })
}

fn histogram(histogram: FloatHistogram) -> Option<Outcome> {
    kept(Value::Histogram(Arc::new(histogram)))
}

/// Computes with two elements; `None` when the operator cannot take them, which is noted.
pub(super) fn elements(op: BinaryOp, lhs: &Value, rhs: &Value, span: Span, notes: &mut Notes) -> Option<Outcome> {
    match (lhs, rhs) {
        (Value::Float(a), Value::Float(b)) => {
            if let Some(compute) = arithmetic(op) {
                return kept(Value::Float(compute(*a, *b)));
            }
            if op.is_comparison() {
                return Some(Outcome {
                    value: Value::Float(*a),
                    keep: compare(op, *a, *b),
                });
            }
            notes.incompatible_types("float", op.as_str(), "float", span);
            None
        }
        (Value::Float(a), Value::Histogram(b)) => {
            if op == BinaryOp::Mul {
                return histogram(changed(b, |b| b.scale(*a)));
            }
            notes.incompatible_types("float", op.as_str(), "histogram", span);
            None
        }
        (Value::Histogram(a), Value::Float(b)) => match op {
            BinaryOp::Mul => histogram(changed(a, |a| a.scale(*b))),
            BinaryOp::Div => histogram(changed(a, |a| a.divide(*b))),
            BinaryOp::TrimUpper => histogram(changed(a, |a| a.trim(*b, Keep::Below))),
            BinaryOp::TrimLower => histogram(changed(a, |a| a.trim(*b, Keep::Above))),
            _ => {
                notes.incompatible_types("histogram", op.as_str(), "float", span);
                None
            }
        },
        (Value::Histogram(a), Value::Histogram(b)) => histograms(op, a, b, span, notes),
    }
}

fn changed(histogram: &FloatHistogram, change: impl FnOnce(&mut FloatHistogram)) -> FloatHistogram {
    let mut copy = histogram.clone();
    change(&mut copy);
    copy.compact();
    copy
}

fn histograms(
    op: BinaryOp,
    a: &Arc<FloatHistogram>,
    b: &Arc<FloatHistogram>,
    span: Span,
    notes: &mut Notes,
) -> Option<Outcome> {
    let operation = match op {
        BinaryOp::Add => Operation::Addition,
        BinaryOp::Sub => Operation::Subtraction,
        BinaryOp::Equal | BinaryOp::NotEqual => {
            return Some(Outcome {
                value: Value::Histogram(Arc::clone(a)),
                keep: a.same_data(b) == (op == BinaryOp::Equal),
            });
        }
        _ => {
            notes.incompatible_types("histogram", op.as_str(), "histogram", span);
            return None;
        }
    };
    let mut result = (**a).clone();
    let combined = if op == BinaryOp::Add {
        result.add(b)
    } else {
        result.sub(b)
    };
    let Ok(reconciled) = combined else {
        notes.incompatible_buckets(op.as_str(), span);
        return None;
    };
    if op == BinaryOp::Sub {
        result.counter_reset_hint = CounterResetHint::Gauge;
    }
    if reconciled.bounds_differ {
        notes.bounds_differ(operation, span);
    }
    if reconciled.resets_collide {
        // Two counters that contradict each other have no sum.
        notes.resets_collide(operation, span);
        return None;
    }
    histogram(result)
}
