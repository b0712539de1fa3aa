//! The plan: what an expression means for one query.
//!
//! Durations and `@ start()` have become numbers, constants are folded, parentheses are gone, and each node knows whether its
//! value is the same at every step and whether it occurs elsewhere, so that it is computed once.

mod share;

use std::sync::Arc;

use hashbrown::HashMap;

use super::matrix::Grid;
use super::operators::scalar_binary;
use crate::model::{Interval, Matcher, Millis};
use crate::query::QueryError;
use crate::query::ast::{
    AggregateExpr, AggregateOp, At, BinaryExpr, BinaryOp, Boundary, DurationExpr, Expr, ExprKind, Matching, Span,
    SubqueryExpr, UnaryOp, VectorSelector,
};
use crate::query::functions::{Body, Constant, Function};
use crate::query::types::Type;
use crate::storage::{Aggregation, Grouping};
use share::Seen;

/// A node of the plan.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) ty: Type,
    pub(super) span: Span,
    /// The value does not depend on the step.
    pub(super) invariant: bool,
    /// Of histograms below, only count and sum are looked at.
    pub(super) totals_only: bool,
    /// The nearest aggregation above, with nothing but functions in between.
    pub(super) aggregation: Option<Aggregation>,
    /// Set when an equal node is evaluated elsewhere over the same grid: the key of its value.
    pub(super) shared: Option<usize>,
    /// The expression, for telling where equal nodes differ in place.
    pub(super) expr: Expr,
}

#[derive(Debug)]
pub(super) enum Kind {
    Number(f64),
    Text(Arc<str>),
    Negate(Box<Node>),
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call(Call),
    Vector(Selector),
    Matrix(Window),
    Subquery(Box<Subquery>),
}

#[derive(Debug)]
pub(super) struct Binary {
    pub(super) op: BinaryOp,
    pub(super) lhs: Node,
    pub(super) rhs: Node,
    pub(super) return_bool: bool,
    pub(super) matching: Matching,
}

#[derive(Debug)]
pub(super) struct Aggregate {
    pub(super) op: AggregateOp,
    pub(super) expr: Node,
    pub(super) param: Option<Node>,
    /// Sorted, unique.
    pub(super) grouping: Vec<String>,
    pub(super) without: bool,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: &'static Function,
    pub(super) args: Vec<Node>,
}

/// A selector with its times resolved: at step `t` it looks at `at` (or `t`) minus `offset`.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) matchers: Vec<Matcher>,
    pub(super) offset: i64,
    pub(super) at: Option<i64>,
    pub(super) boundary: Option<Boundary>,
    /// Of histograms, only count and sum are looked at.
    pub(super) totals_only: bool,
    /// The function or aggregation above.
    pub(super) func: &'static str,
    pub(super) grouping: Option<Grouping>,
    /// The nearest aggregation above with nothing but functions in between.
    pub(super) aggregation: Option<Aggregation>,
}

impl Selector {
    /// Returns the time looked at in the step at `time`.
    #[inline]
    pub(super) fn reference(&self, time: i64) -> i64 {
        self.at.unwrap_or(time).saturating_sub(self.offset)
    }
}

/// A range selector.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) selector: Selector,
    pub(super) range: i64,
}

#[derive(Debug)]
pub(super) struct Subquery {
    pub(super) expr: Node,
    pub(super) range: i64,
    pub(super) step: i64,
    pub(super) offset: i64,
    pub(super) at: Option<i64>,
}

impl Subquery {
    /// Returns the grid of the inner evaluation that serves all steps of `outer`: multiples of the step, left-open.
    pub(super) fn grid(&self, outer: Grid) -> Grid {
        let reference = |time: i64| self.at.unwrap_or(time).saturating_sub(self.offset);
        let begin = reference(outer.start).saturating_sub(self.range);
        let first = begin.div_euclid(self.step).saturating_add(1).saturating_mul(self.step);
        Grid::range(first, reference(outer.last()), self.step)
    }
}

/// The times of a query that its text may refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryTimes {
    pub(super) start: Millis,
    pub(super) end: Millis,
    /// Zero for an instant query.
    pub(super) step: Interval,
    pub(super) subquery_step: Interval,
}

/// Builds the plan.
///
/// # Errors
/// [`QueryError::Execution`] when a computed duration makes no sense.
pub(super) fn plan(expr: &Expr, times: QueryTimes) -> Result<Node, QueryError> {
    let mut planner = Planner {
        times,
        seen: HashMap::new(),
        shared: 0,
    };
    let above = Above {
        func: "",
        grouping: None,
        aggregation: None,
        totals: Totals::default(),
    };
    let mut node = planner.node(expr, &above)?;
    planner.share(&mut node, 0);
    Ok(node)
}

struct Planner {
    times: QueryTimes,
    /// Nodes that select series, by hash and nesting of subqueries.
    seen: HashMap<(u64, usize), Vec<Seen>>,
    shared: usize,
}

/// What stands above a node.
struct Above<'a> {
    func: &'static str,
    grouping: Option<&'a Grouping>,
    aggregation: Option<&'a Aggregation>,
    totals: Totals,
}

/// Whether count and sum are all that is asked of histograms.
#[derive(Clone, Copy, Default)]
struct Totals {
    /// A function above reads nothing else.
    asked: bool,
    /// Something above needs the buckets, if only to find resets.
    needs_buckets: bool,
}

impl Totals {
    fn only(self) -> bool {
        self.asked && !self.needs_buckets
    }

    fn below(self, function: &Function) -> Totals {
        Totals {
            asked: self.asked || matches!(function.name, "histogram_count" | "histogram_sum" | "histogram_avg"),
            needs_buckets: self.needs_buckets
                || matches!(
                    function.name,
                    "histogram_quantile" | "histogram_quantiles" | "histogram_fraction"
                ),
        }
    }

    fn with_buckets(self) -> Totals {
        Totals {
            needs_buckets: true,
            ..self
        }
    }
}

impl<'a> Above<'a> {
    fn nothing(&self) -> Above<'static> {
        Above {
            func: "",
            grouping: None,
            aggregation: None,
            totals: self.totals,
        }
    }

    fn with_buckets(&self) -> Above<'static> {
        Above {
            totals: self.totals.with_buckets(),
            ..self.nothing()
        }
    }

    fn call(&self, function: &'static Function) -> Above<'a> {
        Above {
            func: function.name,
            grouping: None,
            aggregation: self.aggregation,
            totals: self.totals.below(function),
        }
    }
}

impl Planner {
    fn node(&mut self, expr: &Expr, above: &Above<'_>) -> Result<Node, QueryError> {
        let expr = expr.without_parens();
        let node = |kind, invariant| Node {
            kind,
            ty: expr.ty,
            span: expr.span,
            invariant,
            totals_only: above.totals.only(),
            aggregation: above.aggregation.cloned(),
            shared: None,
            expr: expr.clone(),
        };
        Ok(match &*expr.kind {
            ExprKind::Number { value, .. } => node(Kind::Number(*value), true),
            ExprKind::String(text) => node(Kind::Text(Arc::clone(text.shown())), true),
            ExprKind::Paren(inner) => self.node(inner, above)?,
            ExprKind::Unary {
                op: UnaryOp::Plus,
                expr,
            } => self.node(expr, above)?,
            ExprKind::Unary {
                op: UnaryOp::Minus,
                expr: operand,
            } => {
                let operand = self.node(operand, above)?;
                let invariant = operand.invariant;
                match operand.kind {
                    Kind::Number(value) => node(Kind::Number(-value), true),
                    _ => node(Kind::Negate(Box::new(operand)), invariant),
                }
            }
            ExprKind::Binary(binary) => {
                let (kind, invariant) = self.binary(binary, above)?;
                node(kind, invariant)
            }
            ExprKind::Aggregate(aggregate) => {
                let (kind, invariant) = self.aggregate(aggregate, above)?;
                node(kind, invariant)
            }
            ExprKind::Call { function, args } => {
                let (kind, invariant) = self.call(function, args, above)?;
                node(kind, invariant)
            }
            ExprKind::Vector(selector) => {
                let selector = self.selector(selector, above)?;
                let invariant = selector.at.is_some();
                node(Kind::Vector(selector), invariant)
            }
            ExprKind::Matrix { selector, range, .. } => {
                let selector = self.selector(selector, above)?;
                let range = self.positive(range)?;
                let invariant = selector.at.is_some();
                node(Kind::Matrix(Window { selector, range }), invariant)
            }
            ExprKind::Subquery(subquery) => {
                let subquery = self.subquery(subquery, above)?;
                let invariant = subquery.at.is_some();
                node(Kind::Subquery(Box::new(subquery)), invariant)
            }
        })
    }

    fn binary(&mut self, binary: &BinaryExpr, above: &Above<'_>) -> Result<(Kind, bool), QueryError> {
        let below = match binary.op {
            BinaryOp::TrimLower | BinaryOp::TrimUpper => above.with_buckets(),
            _ => above.nothing(),
        };
        let lhs = self.node(&binary.lhs, &below)?;
        let rhs = self.node(&binary.rhs, &below)?;
        if let (Kind::Number(a), Kind::Number(b)) = (&lhs.kind, &rhs.kind) {
            return Ok((Kind::Number(scalar_binary(binary.op, *a, *b)), true));
        }
        let invariant = lhs.invariant && rhs.invariant;
        let binary = Binary {
            op: binary.op,
            lhs,
            rhs,
            return_bool: binary.return_bool,
            matching: binary.matching.clone().unwrap_or_default(),
        };
        Ok((Kind::Binary(Box::new(binary)), invariant))
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr, above: &Above<'_>) -> Result<(Kind, bool), QueryError> {
        let mut labels = aggregate.grouping.clone();
        labels.sort_unstable();
        labels.dedup();
        let grouping = Grouping {
            labels: labels.clone(),
            without: aggregate.without,
        };
        let aggregation = Aggregation {
            op: aggregate.op.as_str(),
            grouping: grouping.clone(),
        };
        let below = Above {
            func: aggregate.op.as_str(),
            grouping: Some(&grouping),
            aggregation: Some(&aggregation),
            totals: above.totals,
        };
        let expr = self.node(&aggregate.expr, &below)?;
        let param = match &aggregate.param {
            Some(param) => Some(self.node(param, &above.nothing())?),
            None => None,
        };
        // The parameter does not count, as in Prometheus: with a pinned vector it is evaluated at the first step only.
        let invariant = expr.invariant;
        let aggregate = Aggregate {
            op: aggregate.op,
            expr,
            param,
            grouping: labels,
            without: aggregate.without,
        };
        Ok((Kind::Aggregate(Box::new(aggregate)), invariant))
    }

    fn call(
        &mut self,
        function: &'static Function,
        args: &[Expr],
        above: &Above<'_>,
    ) -> Result<(Kind, bool), QueryError> {
        if let Body::Constant(constant) = function.body {
            return Ok((Kind::Number(self.constant(constant)), true));
        }
        let below = above.call(function);
        let args = args
            .iter()
            .map(|arg| self.node(arg, &below))
            .collect::<Result<Vec<Node>, QueryError>>()?;
        if let (Body::Scalars(compute), [a, b]) = (function.body, &args[..])
            && let (Kind::Number(a), Kind::Number(b)) = (&a.kind, &b.kind)
        {
            return Ok((Kind::Number(compute(*a, *b)), true));
        }
        let pinned = args.iter().all(|arg| arg.invariant);
        let reads_sample_times = matches!(function.body, Body::SampleTime(_));
        let invariant = pinned
            && (!function.needs_step_time()
                || reads_sample_times && args.iter().all(|arg| matches!(arg.kind, Kind::Vector(_))));
        Ok((Kind::Call(Call { function, args }), invariant))
    }

    fn constant(&self, constant: Constant) -> f64 {
        let QueryTimes { start, end, step, .. } = self.times;
        match constant {
            Constant::Pi => std::f64::consts::PI,
            Constant::Start => start.as_secs_f64(),
            Constant::End => end.as_secs_f64(),
            Constant::Range => (end - start).as_secs_f64(),
            Constant::Step if start == end => 0.0,
            Constant::Step => step.as_secs_f64(),
        }
    }

    fn selector(&self, selector: &VectorSelector, above: &Above<'_>) -> Result<Selector, QueryError> {
        Ok(Selector {
            matchers: selector.matchers.clone(),
            offset: self.offset(selector.offset.as_ref())?,
            at: self.at(selector.at),
            boundary: selector.boundary,
            totals_only: above.totals.only(),
            func: above.func,
            grouping: above.grouping.cloned(),
            aggregation: above.aggregation.cloned(),
        })
    }

    fn subquery(&mut self, subquery: &SubqueryExpr, above: &Above<'_>) -> Result<Subquery, QueryError> {
        let step = match &subquery.step {
            Some(step) => self.positive(step)?,
            None => self.times.subquery_step.0.max(1),
        };
        Ok(Subquery {
            range: self.positive(&subquery.range)?,
            step: step.max(1),
            offset: self.offset(subquery.offset.as_ref())?,
            at: self.at(subquery.at),
            expr: self.node(&subquery.expr, &above.with_buckets())?,
        })
    }

    fn query_range(&self) -> Interval {
        self.times.end - self.times.start
    }

    fn positive(&self, duration: &DurationExpr) -> Result<i64, QueryError> {
        Ok(duration.resolve_positive(self.times.step, self.query_range())?.0)
    }

    fn offset(&self, duration: Option<&DurationExpr>) -> Result<i64, QueryError> {
        duration.map_or(Ok(0), |duration| {
            Ok(duration.resolve(self.times.step, self.query_range())?.0)
        })
    }

    fn at(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Time(time) => time.0,
            At::Start => self.times.start.0,
            At::End => self.times.end.0,
        })
    }
}

macro_rules! children {
    ($name:ident, $($mutable:tt)?) => {
        /// Calls `visit` for each child with the level it is evaluated on; a subquery opens a new one.
        pub(super) fn $name(
            &$($mutable)? self,
            level: usize,
            next_level: &mut usize,
            visit: &mut dyn FnMut(&$($mutable)? Node, usize, &mut usize),
        ) {
            match &$($mutable)? self.kind {
                Kind::Number(_) | Kind::Text(_) | Kind::Vector(_) | Kind::Matrix(_) => {}
                Kind::Negate(child) => visit(child, level, next_level),
                Kind::Binary(binary) => {
                    visit(&$($mutable)? binary.lhs, level, next_level);
                    visit(&$($mutable)? binary.rhs, level, next_level);
                }
                Kind::Aggregate(aggregate) => {
                    if let Some(param) = &$($mutable)? aggregate.param {
                        visit(param, level, next_level);
                    }
                    visit(&$($mutable)? aggregate.expr, level, next_level);
                }
                Kind::Call(call) => {
                    for arg in &$($mutable)? call.args {
                        visit(arg, level, next_level);
                    }
                }
                Kind::Subquery(subquery) => {
                    *next_level += 1;
                    let inner = *next_level;
                    visit(&$($mutable)? subquery.expr, inner, next_level);
                }
            }
        }
    };
}

impl Node {
    children!(for_each_child,);
    children!(for_each_child_mut, mut);

    /// Returns the text of a string argument.
    pub(super) fn text(&self) -> &str {
        match &self.kind {
            Kind::Text(text) => text,
            _ => "",
        }
    }
}
