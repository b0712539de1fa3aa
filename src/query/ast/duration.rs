//! Durations that are computed: `[2 * step()]`, `offset (5m - range())`.
//!
//! They are resolved once per query, when its step and range are known.

use std::sync::Arc;

use super::Span;
use crate::model::Interval;
use crate::query::QueryError;

/// A duration, or arithmetic that yields one.
#[derive(Clone, Debug)]
pub struct DurationExpr {
    /// What it says.
    pub kind: Arc<DurationKind>,
    /// Where it says so.
    pub span: Span,
    /// The longest path down to a leaf, this node included.
    pub(in crate::query) height: u32,
}

/// The forms of a duration expression.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    /// `5m`, `300`.
    Literal {
        /// The length in seconds.
        seconds: f64,
        /// Whether it was written with units.
        duration: bool,
    },
    /// `step()`: the query's step; 0 for an instant query.
    Step,
    /// `range()`: from the query's first step to its last.
    Range,
    /// `-a`, `+a`.
    Sign {
        /// Whether the sign is a minus.
        minus: bool,
        /// What it applies to.
        expr: DurationExpr,
    },
    /// `a + b`.
    Binary {
        /// The operator.
        op: DurationOp,
        /// The left operand.
        lhs: DurationExpr,
        /// The right operand.
        rhs: DurationExpr,
    },
    /// `min_of(a, b)`.
    MinOf(DurationExpr, DurationExpr),
    /// `max_of(a, b)`.
    MaxOf(DurationExpr, DurationExpr),
    /// `(a)`.
    Paren(DurationExpr),
}

/// Arithmetic on durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "as_str spells each one out")]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

impl DurationOp {
    /// Returns the operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            DurationOp::Add => "+",
            DurationOp::Sub => "-",
            DurationOp::Mul => "*",
            DurationOp::Div => "/",
            DurationOp::Mod => "%",
            DurationOp::Pow => "^",
        }
    }
}

impl DurationExpr {
    /// Builds a node; its height follows from its children.
    pub fn new(kind: DurationKind, span: Span) -> DurationExpr {
        let height = 1 + match &kind {
            DurationKind::Literal { .. } | DurationKind::Step | DurationKind::Range => 0,
            DurationKind::Sign { expr, .. } | DurationKind::Paren(expr) => expr.height,
            DurationKind::MinOf(lhs, rhs) | DurationKind::MaxOf(lhs, rhs) | DurationKind::Binary { lhs, rhs, .. } => {
                lhs.height.max(rhs.height)
            }
        };
        DurationExpr {
            kind: Arc::new(kind),
            span,
            height,
        }
    }

    /// Returns the number of seconds when this is a literal.
    pub fn as_literal(&self) -> Option<f64> {
        match *self.kind {
            DurationKind::Literal { seconds, .. } => Some(seconds),
            _ => None,
        }
    }

    /// Computes a length that must be greater than zero: a range or a subquery's step.
    ///
    /// # Errors
    /// [`QueryError::Execution`] when it is zero, negative or out of range, or divides by zero; with the place.
    pub fn resolve_positive(&self, step: Interval, range: Interval) -> Result<Interval, QueryError> {
        let seconds = self.seconds(step, range)?;
        if seconds <= 0.0 {
            return Err(self.error("duration must be greater than 0"));
        }
        self.interval(seconds)
    }

    /// Computes a length of any sign: an offset.
    ///
    /// # Errors
    /// [`QueryError::Execution`] when it is out of range or divides by zero; with the place.
    pub fn resolve(&self, step: Interval, range: Interval) -> Result<Interval, QueryError> {
        let seconds = self.seconds(step, range)?;
        self.interval(seconds)
    }

    fn seconds(&self, step: Interval, range: Interval) -> Result<f64, QueryError> {
        let of = |expr: &DurationExpr| expr.seconds(step, range);
        Ok(match &*self.kind {
            DurationKind::Literal { seconds, .. } => *seconds,
            DurationKind::Step => step.as_secs_f64(),
            DurationKind::Range => range.as_secs_f64(),
            DurationKind::Sign { minus, expr } => {
                let value = of(expr)?;
                if *minus { -value } else { value }
            }
            DurationKind::Paren(expr) => of(expr)?,
            DurationKind::MinOf(lhs, rhs) => of(lhs)?.min(of(rhs)?),
            DurationKind::MaxOf(lhs, rhs) => of(lhs)?.max(of(rhs)?),
            DurationKind::Binary { op, lhs, rhs } => {
                let (left, right) = (of(lhs)?, of(rhs)?);
                match op {
                    DurationOp::Add => left + right,
                    DurationOp::Sub => left - right,
                    DurationOp::Mul => left * right,
                    DurationOp::Div if right == 0.0 => return Err(self.error("division by zero")),
                    DurationOp::Div => left / right,
                    DurationOp::Mod if right == 0.0 => return Err(self.error("modulo by zero")),
                    DurationOp::Mod => left % right,
                    DurationOp::Pow => left.powf(right),
                }
            }
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the value is within the bounds of a duration"
    )]
    fn interval(&self, seconds: f64) -> Result<Interval, QueryError> {
        if seconds.is_nan() || seconds.abs() > SECONDS_MAX {
            return Err(self.error("duration out of range"));
        }
        // As in Prometheus: what is written is rounded to nanoseconds, what is computed is cut off; both are then cut to milliseconds.
        if self.is_signed_literal() {
            return Ok(Interval((seconds * 1e9).round() as i64 / 1_000_000));
        }
        Ok(Interval((seconds * 1000.0) as i64))
    }

    fn is_signed_literal(&self) -> bool {
        match &*self.kind {
            DurationKind::Literal { .. } => true,
            DurationKind::Sign { expr, .. } => matches!(*expr.kind, DurationKind::Literal { .. }),
            _ => false,
        }
    }

    fn error(&self, reason: &str) -> QueryError {
        QueryError::Execution(format!("{}: {reason}", self.span))
    }
}

/// The longest duration in seconds: Prometheus counts them in nanoseconds of 63 bits, 292 years.
pub(in crate::query) const SECONDS_MAX: f64 = i64::MAX as f64 / 1e9;

impl PartialEq for DurationExpr {
    fn eq(&self, other: &DurationExpr) -> bool {
        self.kind == other.kind
    }
}
