//! Binary operators: the modifiers between the operands, and which types go together.

use super::{Parsed, Parser};
use crate::query::ast::{BinaryExpr, BinaryOp, Cardinality, Expr, ExprKind, Matching, Span};
use crate::query::lexer::{Keyword, TokenKind};
use crate::query::types::Type;

impl Parser<'_> {
    /// Reads the rest of a binary expression: the present token is the operator.
    pub(super) fn binary(&mut self, lhs: Expr, op: BinaryOp) -> Parsed<Expr> {
        let op_start = self.bump();
        let return_bool = self.bump_if_word(Keyword::Bool).is_some();
        let mut matching = self.matching()?;
        self.fill_values(&mut matching)?;
        let op_span = self.span_since(op_start);
        let rhs = if op.is_right_associative() {
            self.nested(|parser| parser.expr(op.precedence()))?
        } else {
            self.expr(op.precedence() + 1)?
        };
        let binary = BinaryExpr {
            op,
            lhs,
            rhs,
            return_bool,
            matching: None,
        };
        self.checked(binary, matching, op_span)
    }

    /// Reads `on (a)`, `ignoring (a) group_left (b)`.
    fn matching(&mut self) -> Parsed<Matching> {
        let mut matching = Matching::default();
        if self.bump_if_word(Keyword::On).is_some() {
            matching.on = true;
        } else if self.bump_if_word(Keyword::Ignoring).is_none() {
            return Ok(matching);
        }
        matching.labels = self.label_list()?;
        if self.bump_if_word(Keyword::GroupLeft).is_some() {
            matching.cardinality = Cardinality::ManyToOne;
        } else if self.bump_if_word(Keyword::GroupRight).is_some() {
            matching.cardinality = Cardinality::OneToMany;
        } else {
            return Ok(matching);
        }
        if self.kind() == &TokenKind::LeftParen {
            matching.include = self.label_list()?;
        }
        Ok(matching)
    }

    /// Reads `fill (1)`, or `fill_left (1) fill_right (2)` in any order. Without a parenthesis behind it the word is a metric.
    fn fill_values(&mut self, matching: &mut Matching) -> Parsed<()> {
        while self.next_kind() == &TokenKind::LeftParen {
            let TokenKind::Word(keyword) = *self.kind() else { break };
            let (left, right) = match keyword {
                Keyword::Fill => (true, true),
                Keyword::FillLeft => (true, false),
                Keyword::FillRight => (false, true),
                _ => break,
            };
            let taken = (left && matching.fill_left.is_some()) || (right && matching.fill_right.is_some());
            if taken {
                return Err(self.unexpected("", ""));
            }
            self.bump();
            self.bump();
            let value = self.signed_number("fill modifier")?;
            self.expect(&TokenKind::RightParen, "fill modifier", "\")\"")?;
            if left {
                matching.fill_left = Some(value);
            }
            if right {
                matching.fill_right = Some(value);
            }
        }
        Ok(())
    }

    /// Reads `5`, `-5`, `+1m`.
    pub(super) fn signed_number(&mut self, context: &str) -> Parsed<f64> {
        let negative = match self.sign() {
            Some(op) => {
                self.bump();
                op == crate::query::ast::UnaryOp::Minus
            }
            None => false,
        };
        if !matches!(self.kind(), TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected(context, "number"));
        }
        let (value, _, _) = self.number()?;
        Ok(if negative { -value } else { value })
    }

    /// Reads `(a, "b.c",)`.
    pub(super) fn label_list(&mut self) -> Parsed<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        self.expect(&TokenKind::LeftParen, CONTEXT, "\"(\"")?;
        let mut labels = Vec::new();
        while self.bump_if(&TokenKind::RightParen).is_none() {
            let label = match self.kind() {
                TokenKind::Word(_) => self.word().to_owned(),
                TokenKind::Operator(op) if op.is_set() || *op == BinaryOp::Atan2 => self.word().to_owned(),
                TokenKind::String => {
                    labels.push(self.string()?.0);
                    self.after_label(CONTEXT)?;
                    continue;
                }
                _ => return Err(self.unexpected(CONTEXT, "label")),
            };
            self.bump();
            labels.push(label);
            self.after_label(CONTEXT)?;
        }
        Ok(labels)
    }

    fn after_label(&mut self, context: &str) -> Parsed<()> {
        if self.kind() == &TokenKind::RightParen || self.bump_if(&TokenKind::Comma).is_some() {
            Ok(())
        } else {
            Err(self.unexpected(context, "\",\" or \")\""))
        }
    }

    /// Checks types and modifiers, and builds the node.
    fn checked(&mut self, mut binary: BinaryExpr, mut matching: Matching, op_span: Span) -> Parsed<Expr> {
        let span = binary.lhs.span.to(binary.rhs.span);
        let (left, right) = (binary.lhs.ty, binary.rhs.ty);
        if binary.return_bool && !binary.op.is_comparison() {
            self.complain(op_span, "bool modifier can only be used on comparison operators");
        }
        if binary.op.is_comparison() && !binary.return_bool && left == Type::Scalar && right == Type::Scalar {
            self.complain(op_span, "comparisons between scalars must use BOOL modifier");
        }
        if matching.on
            && let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
        {
            self.complain(
                op_span,
                format!("label {label:?} must not occur in ON and GROUP clause at once"),
            );
        }
        for operand in [&binary.lhs, &binary.rhs] {
            if !matches!(operand.ty, Type::Scalar | Type::InstantVector) {
                let reason = "binary expression must contain only scalar and instant vector types";
                let help = (operand.ty == Type::RangeVector)
                    .then(|| format!("reduce the range to one value first, as in last_over_time({operand})"));
                self.complain_with(super::ParseError::new(operand.span, reason).help(help));
            }
        }
        if left == Type::InstantVector && right == Type::InstantVector {
            if binary.op.is_set() {
                self.check_set_matching(binary.op, &mut matching, span);
            }
            binary.matching = Some(matching);
        } else {
            if !matching.labels.is_empty() {
                self.complain(span, "vector matching only allowed between instant vectors");
            }
            if binary.op.is_set() {
                let reason = format!(
                    "set operator {:?} not allowed in binary scalar expression",
                    binary.op.as_str()
                );
                self.complain(span, reason);
            }
        }
        let ty = if left == Type::Scalar && right == Type::Scalar {
            Type::Scalar
        } else {
            Type::InstantVector
        };
        self.node(ExprKind::Binary(binary), ty, span)
    }

    fn check_set_matching(&mut self, op: BinaryOp, matching: &mut Matching, span: Span) {
        if matching.cardinality != Cardinality::OneToOne {
            self.complain(span, format!("no grouping allowed for {:?} operation", op.as_str()));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            self.complain(span, "filling in missing series not allowed for set operators");
        }
        matching.cardinality = Cardinality::ManyToMany;
    }
}
