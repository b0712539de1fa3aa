//! Calls and aggregations: their arguments, counted and typed by the function table.

use super::{Parsed, Parser};
use crate::query::ast::{AggregateExpr, AggregateOp, Expr, ExprKind, Span};
use crate::query::detect;
use crate::query::functions::{self, Body, FUNCTIONS, Function, Special};
use crate::query::lexer::{Keyword, TokenKind};
use crate::query::parse_error::{ParseError, nearest};
use crate::query::types::Type;

impl Parser<'_> {
    /// Reads `name(args)`: the present token is the name, the next one the parenthesis.
    pub(super) fn call(&mut self) -> Parsed<Expr> {
        let name = self.word();
        let start = self.bump();
        let function = functions::find(name);
        let args = self.args(function.is_some_and(|function| function.name == "info"))?;
        let span = self.span_since(start);
        let Some(function) = function else {
            let known = FUNCTIONS.iter().map(|function| function.name);
            let help = nearest(name, known.chain(AggregateOp::ALL.iter().map(|op| op.as_str())));
            let reason = format!("unknown function with name {name:?}");
            return Err(ParseError::new(start, reason).help(help));
        };
        self.check_call(function, &args, span);
        self.node(ExprKind::Call { function, args }, function.returns, span)
    }

    /// Reads `(a, b)`. The second argument of `info` may be a selector that matches everything.
    fn args(&mut self, of_info: bool) -> Parsed<Vec<Expr>> {
        self.expect(&TokenKind::LeftParen, "", "")?;
        let mut args = Vec::new();
        if self.bump_if(&TokenKind::RightParen).is_some() {
            return Ok(args);
        }
        loop {
            self.any_series_allowed = of_info && args.len() == 1;
            args.push(self.nested(|parser| parser.expr(0))?);
            self.any_series_allowed = false;
            if self.bump_if(&TokenKind::RightParen).is_some() {
                return Ok(args);
            }
            self.expect(&TokenKind::Comma, "", "")?;
            if self.kind() == &TokenKind::RightParen {
                return Err(self.error_here("trailing commas not allowed in function call args"));
            }
        }
    }

    fn check_call(&mut self, function: &'static Function, args: &[Expr], span: Span) {
        let (min, max) = (function.args_min(), function.args_max());
        let count = if max == Some(min) && args.len() != min {
            Some(format!("expected {min}"))
        } else if args.len() < min {
            Some(format!("expected at least {min}"))
        } else {
            max.filter(|&max| args.len() > max)
                .map(|max| format!("expected at most {max}"))
        };
        if let Some(count) = count {
            let reason = format!("{count} argument(s) in call to {:?}, got {}", function.name, args.len());
            let help = Some(format!("for example: {}", function.example));
            self.complain_with(ParseError::new(span, reason).help(help));
        }
        for (index, arg) in args.iter().enumerate() {
            if let Some(wanted) = function.arg_type(index) {
                self.expect_type(arg, wanted, &format!("call to function {:?}", function.name));
            }
        }
        if let Body::Special(Special::Detect(detect)) = function.body {
            let texts: Option<Vec<&str>> = args
                .iter()
                .filter(|arg| arg.ty == Type::String)
                .map(Expr::as_string)
                .collect();
            if let Some(Err(reason)) = texts.map(|texts| detect::check(detect, &texts)) {
                self.complain(span, format!("{}: {reason}", function.name));
            }
        }
        if function.name == "info"
            && let Some(labels) = args.get(1).filter(|arg| arg.ty == Type::InstantVector)
            && !matches!(&*labels.kind, ExprKind::Vector(selector) if selector.name.is_none())
        {
            self.complain(
                labels.span,
                "expected label selectors only, got vector selector instead",
            );
        }
    }

    fn expect_type(&mut self, expr: &Expr, wanted: Type, context: &str) {
        if expr.ty == wanted {
            return;
        }
        let help = match (wanted, expr.ty) {
            (Type::RangeVector, Type::InstantVector) if matches!(*expr.kind, ExprKind::Vector(_)) => {
                Some(format!("select a window: {expr}[5m]"))
            }
            (Type::RangeVector, Type::InstantVector) => Some(format!("evaluate it over a window: {expr}[5m:]")),
            (Type::InstantVector, Type::RangeVector) => {
                Some("reduce the window to one value first, as rate or last_over_time do".to_owned())
            }
            (Type::InstantVector, Type::Scalar) => Some(format!("make it a vector: vector({expr})")),
            (Type::Scalar, Type::InstantVector) => Some(format!("make it a scalar: scalar({expr})")),
            _ => None,
        };
        let reason = format!("expected type {wanted} in {context}, got {}", expr.ty);
        self.complain_with(ParseError::new(expr.span, reason).help(help));
    }

    /// Reads `sum by (a) (b)` or `topk(3, b) without (a)`: the present token is the operator.
    pub(super) fn aggregate(&mut self, op: AggregateOp) -> Parsed<Expr> {
        let start = self.bump();
        let mut grouping = self.grouping()?;
        if self.kind() != &TokenKind::LeftParen {
            return Err(self.unexpected("aggregation", ""));
        }
        let args = self.args(false)?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let span = self.span_since(start);
        let wanted = if op.takes_param() { 2 } else { 1 };
        if args.is_empty() {
            return Err(ParseError::new(span, "no arguments for aggregate expression provided"));
        }
        if args.len() != wanted {
            let reason = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return Err(ParseError::new(span, reason));
        }
        let (without, grouping) = grouping.unwrap_or_default();
        let mut args = args.into_iter();
        let param = if op.takes_param() { args.next() } else { None };
        let expr = args.next().expect("the arguments were counted");
        self.expect_type(&expr, Type::InstantVector, "aggregation expression");
        if let Some(param) = &param {
            let wanted = if op == AggregateOp::CountValues {
                Type::String
            } else {
                Type::Scalar
            };
            self.expect_type(param, wanted, "aggregation parameter");
        }
        let aggregate = AggregateExpr {
            op,
            expr,
            param,
            grouping,
            without,
        };
        self.node(ExprKind::Aggregate(aggregate), Type::InstantVector, span)
    }

    /// Reads `by (a)` or `without (a)`; says whether it was `without`.
    fn grouping(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let without = match self.kind() {
            TokenKind::Word(Keyword::By) => false,
            TokenKind::Word(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.bump();
        Ok(Some((without, self.label_list()?)))
    }
}
