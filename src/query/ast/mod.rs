//! The syntax tree: what a query says, where in the text it says so, and of which type each part is.
//!
//! Nodes are shared (`Arc`), so that cloning a tree or a part of it is a reference count. The parser bounds the height of a
//! tree ([`HEIGHT_MAX`]): recursion over it, dropping included, is safe on any thread.

pub(super) mod duration;
mod operator;
mod selector;

use std::sync::Arc;

use super::functions::Function;
use super::types::Type;

pub use duration::{DurationExpr, DurationKind, DurationOp};
pub use operator::{AggregateOp, BinaryOp, Cardinality, Matching, UnaryOp};
pub use selector::{At, Boundary, VectorSelector};

/// The most nodes on a path from a tree's root to a leaf.
pub const HEIGHT_MAX: u32 = 250;

/// A place in a query's text: bytes, and the line and column of the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// The line of the first byte; the first line is 1.
    pub line: u32,
    /// The column of the first byte, counted in bytes; the first column is 1.
    pub column: u32,
}

impl Span {
    /// Returns the span from the beginning of `self` to the end of `last`.
    #[must_use]
    pub fn to(self, last: Span) -> Span {
        Span { end: last.end, ..self }
    }
}

impl std::fmt::Display for Span {
    /// `line:column`, as errors and annotations name a place.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A query, or a part of one. Equal trees may come from different texts: spans do not count.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it says.
    pub kind: Arc<ExprKind>,
    /// The type of its value.
    pub ty: Type,
    /// Where it says so.
    pub span: Span,
    /// The longest path down to a leaf, this node included.
    pub(super) height: u32,
}

/// The forms of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `1`, `0x8f`, `Inf`, `5m`.
    Number {
        /// The value; of a duration, in seconds.
        value: f64,
        /// Whether it was written as a duration.
        duration: bool,
    },
    /// `"text"`, its escapes resolved.
    String(Text),
    /// `-x`, `+x`.
    Unary {
        /// The sign.
        op: UnaryOp,
        /// A scalar or an instant vector.
        expr: Expr,
    },
    /// `a + b`, `a and on (x) b`.
    Binary(BinaryExpr),
    /// `sum by (x) (a)`, `topk(3, a)`.
    Aggregate(AggregateExpr),
    /// `rate(a[5m])`.
    Call {
        /// The function's row in the table.
        function: &'static Function,
        /// The arguments as written: optional ones may be missing.
        args: Vec<Expr>,
    },
    /// `a{b="c"} offset 5m @ 10`.
    Vector(VectorSelector),
    /// `a{b="c"}[5m] offset 5m @ 10`.
    Matrix {
        /// What is selected; offset, `@` and boundary are the selector's own.
        selector: VectorSelector,
        /// Where the selector stands, without brackets and modifiers.
        selector_span: Span,
        /// How far back the window reaches.
        range: DurationExpr,
    },
    /// `a[1h:5m] offset 5m @ 10`.
    Subquery(SubqueryExpr),
    /// `(a)`.
    Paren(Expr),
}

/// What a string literal stands for. Its escapes may name bytes that are no UTF-8: values show U+FFFD for them, and printing
/// keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    shown: Arc<str>,
    /// The bytes, when `shown` does not say them all.
    bytes: Option<Arc<[u8]>>,
}

impl Text {
    /// Takes the bytes that a literal stands for.
    pub fn new(bytes: Vec<u8>) -> Text {
        match String::from_utf8(bytes) {
            Ok(text) => Text {
                shown: Arc::from(text),
                bytes: None,
            },
            Err(error) => Text {
                shown: Arc::from(String::from_utf8_lossy(error.as_bytes())),
                bytes: Some(Arc::from(error.as_bytes())),
            },
        }
    }

    /// Returns the text.
    pub fn shown(&self) -> &Arc<str> {
        &self.shown
    }

    /// Returns the bytes as they were written.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.shown.as_bytes())
    }
}

/// Two operands and what stands between them.
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryExpr {
    /// The operator.
    pub op: BinaryOp,
    /// The left operand.
    pub lhs: Expr,
    /// The right operand.
    pub rhs: Expr,
    /// `bool`: a comparison answers 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// How elements find each other: set exactly when both operands are instant vectors.
    pub matching: Option<Matching>,
}

/// An aggregation of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateExpr {
    /// The operator.
    pub op: AggregateOp,
    /// The vector.
    pub expr: Expr,
    /// The `k`, `φ`, ratio or label of the operators that take one.
    pub param: Option<Expr>,
    /// The labels in `by (…)` or `without (…)`.
    pub grouping: Vec<String>,
    /// Whether `grouping` is dropped rather than kept.
    pub without: bool,
}

/// An instant vector, evaluated again and again over a window.
#[derive(Clone, Debug, PartialEq)]
pub struct SubqueryExpr {
    /// What is evaluated.
    pub expr: Expr,
    /// How far back the window reaches.
    pub range: DurationExpr,
    /// The step; `None` is the server's default.
    pub step: Option<DurationExpr>,
    /// How far the window is moved into the past.
    pub offset: Option<DurationExpr>,
    /// Where the window is pinned.
    pub at: Option<At>,
}

impl Expr {
    /// Builds a node; its height follows from its children.
    pub fn new(kind: ExprKind, ty: Type, span: Span) -> Expr {
        let mut height = 0;
        kind.for_each_child(|child| height = height.max(child.height));
        Expr {
            kind: Arc::new(kind),
            ty,
            span,
            height: height + 1,
        }
    }

    /// Returns the expression inside all parentheses around it.
    pub fn without_parens(&self) -> &Expr {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &*expr.kind {
            expr = inner;
        }
        expr
    }

    /// Returns the value when this is a number literal, in parentheses or not.
    pub fn as_number(&self) -> Option<f64> {
        match &*self.without_parens().kind {
            ExprKind::Number { value, .. } => Some(*value),
            _ => None,
        }
    }

    /// Returns the text when this is a string literal, in parentheses or not.
    pub fn as_string(&self) -> Option<&str> {
        match &*self.without_parens().kind {
            ExprKind::String(text) => Some(text.shown()),
            _ => None,
        }
    }

    /// Calls `visit` for this node and all nodes below it, parents first, in the order of the text.
    pub fn walk(&self, visit: &mut dyn FnMut(&Expr)) {
        visit(self);
        self.kind.for_each_child(|child| child.walk(visit));
    }

    /// Returns all selectors, instant and range ones, in the order of the text.
    pub fn selectors(&self) -> Vec<VectorSelector> {
        let mut found = Vec::new();
        self.walk(&mut |expr| match &*expr.kind {
            ExprKind::Vector(selector) | ExprKind::Matrix { selector, .. } => found.push(selector.clone()),
            _ => {}
        });
        found
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        Arc::ptr_eq(&self.kind, &other.kind) || self.kind == other.kind
    }
}

impl ExprKind {
    /// Calls `visit` for each direct child, in the order of the text.
    pub fn for_each_child(&self, mut visit: impl FnMut(&Expr)) {
        match self {
            ExprKind::Number { .. } | ExprKind::String(_) | ExprKind::Vector(_) | ExprKind::Matrix { .. } => {}
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => visit(expr),
            ExprKind::Binary(binary) => {
                visit(&binary.lhs);
                visit(&binary.rhs);
            }
            ExprKind::Aggregate(aggregate) => {
                if let Some(param) = &aggregate.param {
                    visit(param);
                }
                visit(&aggregate.expr);
            }
            ExprKind::Call { args, .. } => args.iter().for_each(visit),
            ExprKind::Subquery(subquery) => visit(&subquery.expr),
        }
    }
}
