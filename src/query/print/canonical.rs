//! One line, as Prometheus prints an expression (`Expr.String()`): in the rules API, in logs, as a cache key.

use std::fmt::{self, Display, Formatter, Write as _};

use super::{quote, quote_bytes};
use crate::model::{Interval, METRIC_NAME, Matcher, is_valid_label_name};
use crate::query::ast::{
    AggregateExpr, At, BinaryExpr, Cardinality, DurationExpr, DurationKind, Expr, ExprKind, Matching, SubqueryExpr,
    VectorSelector,
};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            ExprKind::Number { value, duration } => f.write_str(&number(*value, *duration)),
            ExprKind::String(text) => f.write_str(&quote_bytes(text.as_bytes())),
            ExprKind::Unary { op, expr } => write!(f, "{}{expr}", op.as_str()),
            ExprKind::Binary(binary) => write!(f, "{} {} {}", binary.lhs, operator(binary), binary.rhs),
            ExprKind::Aggregate(aggregate) => {
                f.write_str(&aggregate_head(aggregate))?;
                f.write_char('(')?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            ExprKind::Call { function, args } => {
                write!(f, "{}(", function.name)?;
                for (i, arg) in args.iter().enumerate() {
                    write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
                }
                f.write_char(')')
            }
            ExprKind::Vector(selector) => write!(f, "{}{}", series(selector), modifiers(selector)),
            ExprKind::Matrix { selector, range, .. } => {
                write!(f, "{}[{}]{}", series(selector), length(range), modifiers(selector))
            }
            ExprKind::Subquery(subquery) => write!(f, "{}{}", subquery.expr, subquery_suffix(subquery)),
            ExprKind::Paren(expr) => write!(f, "({expr})"),
        }
    }
}

/// Returns what stands between the operands: `+ on (a) group_left (b)`.
pub(super) fn operator(binary: &BinaryExpr) -> String {
    let mut out = binary.op.to_string();
    if binary.return_bool {
        out.push_str(" bool");
    }
    if let Some(matching) = &binary.matching {
        push_matching(&mut out, matching);
    }
    out
}

fn push_matching(out: &mut String, matching: &Matching) {
    let grouped = match matching.cardinality {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if !matching.labels.is_empty() || matching.on || grouped.is_some() {
        out.push_str(if matching.on { " on " } else { " ignoring " });
        out.push_str(&label_list(&matching.labels));
    }
    if let Some(side) = grouped {
        out.push_str(&format!(" {side} {}", label_list(&matching.include)));
    }
    let number = |value: f64| number(value, false);
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
            out.push_str(&format!(" fill ({})", number(left)));
        }
        (left, right) => {
            for (keyword, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    out.push_str(&format!(" {keyword} ({})", number(value)));
                }
            }
        }
    }
}

/// Returns `sum by (a) `, up to the parenthesis.
pub(super) fn aggregate_head(aggregate: &AggregateExpr) -> String {
    let op = aggregate.op.as_str();
    if aggregate.without {
        format!("{op} without {} ", label_list(&aggregate.grouping))
    } else if aggregate.grouping.is_empty() {
        op.to_owned()
    } else {
        format!("{op} by {} ", label_list(&aggregate.grouping))
    }
}

fn label_list(labels: &[String]) -> String {
    let labels: Vec<String> = labels.iter().map(|label| label_name(label)).collect();
    format!("({})", labels.join(", "))
}

fn label_name(name: &str) -> String {
    if is_valid_label_name(name) {
        name.to_owned()
    } else {
        quote(name)
    }
}

/// Returns `[5m:1m] @ 10.000 offset 5m`.
pub(super) fn subquery_suffix(subquery: &SubqueryExpr) -> String {
    let step = subquery.step.as_ref().map_or_else(String::new, length);
    format!(
        "[{}:{step}]{}{}",
        length(&subquery.range),
        at_modifier(subquery.at),
        offset_modifier(subquery.offset.as_ref())
    )
}

/// Returns `name{a="b",c!="d"}`, matchers sorted.
fn series(selector: &VectorSelector) -> String {
    let named = selector.name.is_some();
    let mut matchers: Vec<String> = selector
        .matchers
        .iter()
        .filter(|matcher| !(named && matcher.name == METRIC_NAME))
        .map(matcher_text)
        .collect();
    matchers.sort_unstable();
    let name = selector.name.as_deref().unwrap_or("");
    if matchers.is_empty() && named {
        name.to_owned()
    } else {
        format!("{name}{{{}}}", matchers.join(","))
    }
}

fn matcher_text(matcher: &Matcher) -> String {
    let name = label_name(&matcher.name);
    format!("{name}{}{}", matcher.op.as_str(), quote(&matcher.value))
}

fn modifiers(selector: &VectorSelector) -> String {
    let boundary = selector
        .boundary
        .map_or_else(String::new, |boundary| format!(" {}", boundary.as_str()));
    boundary + &at_modifier(selector.at) + &offset_modifier(selector.offset.as_ref())
}

fn at_modifier(at: Option<At>) -> String {
    match at {
        Some(At::Time(at)) => format!(" @ {:.3}", at.as_secs_f64()),
        Some(At::Start) => " @ start()".to_owned(),
        Some(At::End) => " @ end()".to_owned(),
        None => String::new(),
    }
}

fn offset_modifier(offset: Option<&DurationExpr>) -> String {
    match offset {
        Some(offset) if offset.as_literal() == Some(0.0) => String::new(),
        Some(offset) => format!(" offset {}", length(offset)),
        None => String::new(),
    }
}

/// A literal by itself is printed with units whatever way it was written; inside arithmetic it stays as it is.
pub(super) fn length(expr: &DurationExpr) -> String {
    match expr.as_literal() {
        Some(seconds) => number(seconds, true),
        None => expr.to_string(),
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            DurationKind::Literal { seconds, duration } => f.write_str(&number(*seconds, *duration)),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::Sign { minus, expr } => write!(f, "{}{expr}", if *minus { "-" } else { "+" }),
            DurationKind::Binary { op, lhs, rhs } => write!(f, "{lhs} {} {rhs}", op.as_str()),
            DurationKind::MinOf(a, b) => write!(f, "min_of({a}, {b})"),
            DurationKind::MaxOf(a, b) => write!(f, "max_of({a}, {b})"),
            DurationKind::Paren(expr) => write!(f, "({expr})"),
        }
    }
}

/// Returns a number without exponent (`+Inf`, `0.0055`), or as a duration.
fn number(value: f64, duration: bool) -> String {
    if duration && value.is_finite() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the parser keeps durations within the bounds of an interval"
        )]
        return Interval((value * 1000.0).round() as i64).to_string();
    }
    crate::query::float::go_float(value)
}
