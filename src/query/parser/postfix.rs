//! What stands behind an expression: brackets, `offset`, `@`, `anchored`, `smoothed`. All bind tighter than any operator.

use std::sync::Arc;

use super::{Parsed, Parser};
use crate::model::Millis;
use crate::query::ast::{At, Boundary, DurationExpr, Expr, ExprKind, Span, SubqueryExpr};
use crate::query::lexer::{Keyword, TokenKind};
use crate::query::parse_error::ParseError;
use crate::query::types::Type;

/// What an `offset` or `@` may stand behind.
const PLACES: &str = "must be preceded by an instant vector selector or range vector selector or a subquery";

impl Parser<'_> {
    pub(super) fn postfix(&mut self, mut expr: Expr) -> Parsed<Expr> {
        loop {
            expr = match self.kind() {
                TokenKind::LeftBracket => self.brackets(expr)?,
                TokenKind::At => self.at_modifier(expr)?,
                TokenKind::Word(Keyword::Offset) => self.offset_modifier(expr)?,
                TokenKind::Word(Keyword::Anchored) => self.boundary(expr, Boundary::Anchored)?,
                TokenKind::Word(Keyword::Smoothed) => self.boundary(expr, Boundary::Smoothed)?,
                _ => return Ok(expr),
            };
        }
    }

    fn brackets(&mut self, expr: Expr) -> Parsed<Expr> {
        let start = self.bump();
        let range = self.positive_duration()?;
        if self.bump_if(&TokenKind::Colon).is_none() {
            self.expect(&TokenKind::RightBracket, "subquery or range selector", "\":\" or \"]\"")?;
            return self.matrix(expr, range, start);
        }
        let step = match self.kind() {
            TokenKind::RightBracket => None,
            _ => Some(self.positive_duration()?),
        };
        self.expect(&TokenKind::RightBracket, "subquery selector", "\"]\"")?;
        if expr.ty != Type::InstantVector {
            let reason = format!(
                "subquery is only allowed on instant vector, got {} instead",
                expr.ty.api_name()
            );
            self.complain(expr.span, reason);
        }
        let span = self.span_since(expr.span);
        let subquery = SubqueryExpr {
            expr,
            range,
            step,
            offset: None,
            at: None,
        };
        self.node(ExprKind::Subquery(subquery), Type::RangeVector, span)
    }

    fn matrix(&mut self, expr: Expr, range: DurationExpr, brackets: Span) -> Parsed<Expr> {
        let (span, brackets) = (self.span_since(expr.span), self.span_since(brackets));
        let ExprKind::Vector(selector) = &*expr.kind else {
            let help =
                (expr.ty == Type::InstantVector).then(|| format!("for a subquery, add a colon: {expr}[{range}:]"));
            let error = ParseError::new(brackets, "ranges only allowed for vector selectors").help(help);
            return Err(error);
        };
        if selector.offset.is_some() {
            self.complain(brackets, "no offset modifiers allowed before range");
        } else if selector.at.is_some() {
            self.complain(brackets, "no @ modifiers allowed before range");
        }
        let kind = ExprKind::Matrix {
            selector: selector.clone(),
            selector_span: expr.span,
            range,
        };
        self.node(kind, Type::RangeVector, span)
    }

    fn offset_modifier(&mut self, expr: Expr) -> Parsed<Expr> {
        let start = self.bump();
        let offset = self.offset_duration()?;
        let span = self.span_since(start);
        self.modify(expr, span, "offset modifier", |slot| match slot {
            (place @ None, _) => {
                *place = Some(offset);
                Ok(())
            }
            _ => Err("offset may not be set multiple times"),
        })
    }

    fn at_modifier(&mut self, expr: Expr) -> Parsed<Expr> {
        let start = self.bump();
        let at = self.at_time()?;
        let span = self.span_since(start);
        self.modify(expr, span, "@ modifier", |slot| match slot {
            (_, place @ None) => {
                *place = Some(at);
                Ok(())
            }
            _ => Err("@ <timestamp> may not be set multiple times"),
        })
    }

    fn at_time(&mut self) -> Parsed<At> {
        for (keyword, at) in [(Keyword::Start, At::Start), (Keyword::End, At::End)] {
            if self.bump_if_word(keyword).is_some() {
                self.expect(&TokenKind::LeftParen, "@ modifier", "\"(\"")?;
                self.expect(&TokenKind::RightParen, "@ modifier", "\")\"")?;
                return Ok(at);
            }
        }
        let start = self.span_here();
        let seconds = self.signed_number("@ modifier")?;
        let millis = (seconds * 1000.0).round();
        if millis.is_nan() || millis.abs() >= MILLIS_BOUND {
            let reason = format!(
                "timestamp out of bounds for @ modifier: {}",
                crate::query::float::go_float(seconds)
            );
            return Err(ParseError::new(self.span_since(start), reason));
        }
        #[expect(clippy::cast_possible_truncation, reason = "the bound was checked above")]
        Ok(At::Time(Millis(millis as i64)))
    }

    /// Sets a modifier of a selector or subquery, and stretches the expression's span over it.
    fn modify(
        &mut self,
        expr: Expr,
        modifier: Span,
        name: &str,
        set: impl FnOnce((&mut Option<DurationExpr>, &mut Option<At>)) -> Result<(), &'static str>,
    ) -> Parsed<Expr> {
        let (ty, start) = (expr.ty, expr.span);
        let span = self.span_since(start);
        let mut kind = Arc::unwrap_or_clone(expr.kind);
        let done = match &mut kind {
            ExprKind::Vector(selector) | ExprKind::Matrix { selector, .. } => {
                set((&mut selector.offset, &mut selector.at))
            }
            ExprKind::Subquery(subquery) => set((&mut subquery.offset, &mut subquery.at)),
            _ => {
                self.complain(start, format!("{name} {PLACES}"));
                Ok(())
            }
        };
        if let Err(reason) = done {
            self.complain(modifier, reason);
        }
        self.node(kind, ty, span)
    }

    fn boundary(&mut self, expr: Expr, boundary: Boundary) -> Parsed<Expr> {
        self.bump();
        let (ty, start) = (expr.ty, expr.span);
        let span = self.span_since(start);
        let word = boundary.as_str();
        let mut kind = Arc::unwrap_or_clone(expr.kind);
        match &mut kind {
            ExprKind::Vector(selector) | ExprKind::Matrix { selector, .. } => match selector.boundary {
                Some(other) if other != boundary => {
                    self.complain(start, "anchored and smoothed modifiers cannot be used together");
                }
                _ => selector.boundary = Some(boundary),
            },
            ExprKind::Subquery(_) => self.complain(start, format!("{word} modifier is not supported for subqueries")),
            _ => {
                let reason = format!("{word} modifier must be preceded by an instant or range vector selector");
                self.complain(start, reason);
            }
        }
        self.node(kind, ty, span)
    }
}

/// Milliseconds beyond this do not fit into a timestamp.
const MILLIS_BOUND: f64 = i64::MAX as f64;
