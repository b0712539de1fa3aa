//! Durations in brackets and behind `offset`.

use super::{Parsed, Parser};
use crate::query::ast::duration::SECONDS_MAX;
use crate::query::ast::{BinaryOp, DurationExpr, DurationKind, DurationOp, HEIGHT_MAX, Span, UnaryOp};
use crate::query::lexer::{Keyword, TokenKind};
use crate::query::parse_error::ParseError;

const WANTED: &str = "number, duration, step(), or range()";

impl Parser<'_> {
    /// Reads the range or step of a selector or subquery; a literal must be greater than zero.
    pub(super) fn positive_duration(&mut self) -> Parsed<DurationExpr> {
        let expr = self.duration(0)?;
        if expr.as_literal().is_some_and(|seconds| seconds <= 0.0) {
            return Err(ParseError::new(expr.span, "duration must be greater than 0"));
        }
        Ok(expr)
    }

    /// Reads what may stand behind `offset`: one value, with a sign or not; more only in parentheses.
    pub(super) fn offset_duration(&mut self) -> Parsed<DurationExpr> {
        let Some(sign) = self.sign() else {
            return self.duration_value("offset");
        };
        let start = self.bump();
        let value = self.duration_value("offset")?;
        self.signed(sign, value, start)
    }

    fn duration(&mut self, binding_min: u8) -> Parsed<DurationExpr> {
        let mut lhs = match self.sign() {
            Some(sign) => {
                let start = self.bump();
                let operand = self.nested(|parser| parser.duration(super::SIGN_OPERAND))?;
                self.signed(sign, operand, start)?
            }
            None => self.duration_value("subquery or range selector")?,
        };
        while let TokenKind::Operator(sign) = *self.kind() {
            let Some(op) = duration_op(sign).filter(|_| sign.precedence() >= binding_min) else {
                break;
            };
            self.bump();
            let rhs = if sign.is_right_associative() {
                self.nested(|parser| parser.duration(sign.precedence()))?
            } else {
                self.duration(sign.precedence() + 1)?
            };
            lhs = self.duration_binary(op, lhs, rhs)?;
        }
        Ok(lhs)
    }

    fn duration_binary(&self, op: DurationOp, lhs: DurationExpr, rhs: DurationExpr) -> Parsed<DurationExpr> {
        let by_zero = rhs.as_literal() == Some(0.0);
        match op {
            DurationOp::Div if by_zero => return Err(ParseError::new(rhs.span, "division by zero")),
            DurationOp::Mod if by_zero => return Err(ParseError::new(rhs.span, "modulo by zero")),
            _ => {}
        }
        let span = lhs.span.to(rhs.span);
        self.duration_node(DurationKind::Binary { op, lhs, rhs }, span)
    }

    /// A sign before a literal becomes part of it; a plus is dropped.
    fn signed(&self, sign: UnaryOp, operand: DurationExpr, start: Span) -> Parsed<DurationExpr> {
        let span = start.to(operand.span);
        match (sign, &*operand.kind) {
            (UnaryOp::Plus, _) => Ok(operand),
            (UnaryOp::Minus, &DurationKind::Literal { seconds, duration }) => {
                let kind = DurationKind::Literal {
                    seconds: -seconds,
                    duration,
                };
                self.duration_node(kind, span)
            }
            (UnaryOp::Minus, _) => {
                let kind = DurationKind::Sign {
                    minus: true,
                    expr: operand,
                };
                self.duration_node(kind, span)
            }
        }
    }

    fn duration_value(&mut self, context: &str) -> Parsed<DurationExpr> {
        let start = self.span_here();
        let kind = match *self.kind() {
            TokenKind::Number | TokenKind::Duration => {
                let (seconds, duration, span) = self.number()?;
                if seconds.is_nan() || seconds.abs() > SECONDS_MAX {
                    return Err(ParseError::new(span, "duration out of range"));
                }
                DurationKind::Literal { seconds, duration }
            }
            TokenKind::LeftParen => {
                self.bump();
                let inner = self.nested(|parser| parser.duration(0))?;
                self.expect(&TokenKind::RightParen, "duration expression", "\")\"")?;
                DurationKind::Paren(inner)
            }
            TokenKind::Word(keyword @ (Keyword::Step | Keyword::Range)) => {
                self.bump();
                self.expect(&TokenKind::LeftParen, "duration expression", "\"(\"")?;
                self.expect(&TokenKind::RightParen, "duration expression", "\")\"")?;
                if keyword == Keyword::Step {
                    DurationKind::Step
                } else {
                    DurationKind::Range
                }
            }
            TokenKind::Word(keyword @ (Keyword::MinOf | Keyword::MaxOf)) => {
                self.bump();
                let (a, b) = self.duration_pair()?;
                if keyword == Keyword::MinOf {
                    DurationKind::MinOf(a, b)
                } else {
                    DurationKind::MaxOf(a, b)
                }
            }
            _ => return Err(self.unexpected(context, WANTED)),
        };
        self.duration_node(kind, self.span_since(start))
    }

    fn duration_pair(&mut self) -> Parsed<(DurationExpr, DurationExpr)> {
        const CONTEXT: &str = "duration expression";
        self.expect(&TokenKind::LeftParen, CONTEXT, "\"(\"")?;
        let a = self.nested(|parser| parser.duration(0))?;
        self.expect(&TokenKind::Comma, CONTEXT, "\",\"")?;
        let b = self.nested(|parser| parser.duration(0))?;
        self.expect(&TokenKind::RightParen, CONTEXT, "\")\"")?;
        Ok((a, b))
    }

    fn duration_node(&self, kind: DurationKind, span: Span) -> Parsed<DurationExpr> {
        let expr = DurationExpr::new(kind, span);
        if expr.height > HEIGHT_MAX {
            let reason = format!("the duration has too many parts in a row, the limit is {HEIGHT_MAX}");
            return Err(ParseError::new(span, reason));
        }
        Ok(expr)
    }
}

fn duration_op(op: BinaryOp) -> Option<DurationOp> {
    Some(match op {
        BinaryOp::Add => DurationOp::Add,
        BinaryOp::Sub => DurationOp::Sub,
        BinaryOp::Mul => DurationOp::Mul,
        BinaryOp::Div => DurationOp::Div,
        BinaryOp::Mod => DurationOp::Mod,
        BinaryOp::Pow => DurationOp::Pow,
        _ => return None,
    })
}
