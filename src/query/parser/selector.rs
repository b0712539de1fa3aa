//! Selectors: a name, conditions in braces.

use super::{Parsed, Parser};
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher};
use crate::query::ast::{BinaryOp, Expr, ExprKind, Span, VectorSelector};
use crate::query::lexer::TokenKind;
use crate::query::parse_error::ParseError;
use crate::query::types::Type;

const CONTEXT: &str = "label matching";

impl Parser<'_> {
    /// Reads `name`, `name{…}` or `{…}`.
    pub(super) fn selector(&mut self) -> Parsed<Expr> {
        let start = self.span_here();
        let selector = self.plain_selector()?;
        let span = self.span_since(start);
        self.node(ExprKind::Vector(selector), Type::InstantVector, span)
    }

    pub(super) fn plain_selector(&mut self) -> Parsed<VectorSelector> {
        let start = self.span_here();
        let name = match self.kind() {
            TokenKind::Word(keyword) if !keyword.is_reserved() => Some(self.word().to_owned()),
            TokenKind::Operator(op) if op.is_set() => Some(self.word().to_owned()),
            TokenKind::LeftBrace => None,
            _ => return Err(self.unexpected("", "")),
        };
        if name.is_some() {
            self.bump();
        }
        let mut matchers = Vec::new();
        if self.bump_if(&TokenKind::LeftBrace).is_some() {
            self.matchers(&mut matchers)?;
        }
        let span = self.span_since(start);
        self.check_matchers(name.as_deref(), &matchers, span);
        if let Some(name) = &name {
            matchers.push(Matcher::equal(METRIC_NAME, name.clone()));
        }
        Ok(VectorSelector {
            name,
            matchers,
            offset: None,
            at: None,
            boundary: None,
        })
    }

    /// Reads `a="b", "c.d"=~"e", "metric name"}`.
    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Parsed<()> {
        while self.bump_if(&TokenKind::RightBrace).is_none() {
            let matcher = self.matcher()?;
            matchers.push(matcher);
            if self.kind() != &TokenKind::RightBrace {
                self.expect(&TokenKind::Comma, CONTEXT, "\",\" or \"}\"")?;
            }
        }
        Ok(())
    }

    fn matcher(&mut self) -> Parsed<Matcher> {
        let quoted = self.kind() == &TokenKind::String;
        let name = match self.kind() {
            TokenKind::Word(_) => {
                let name = self.word().to_owned();
                self.bump();
                name
            }
            TokenKind::String => self.string()?.0,
            _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
        };
        let op = match self.kind() {
            TokenKind::Equal => MatchOp::Equal,
            TokenKind::Operator(BinaryOp::NotEqual) => MatchOp::NotEqual,
            TokenKind::EqualRegex => MatchOp::Regex,
            TokenKind::NotEqualRegex => MatchOp::NotRegex,
            TokenKind::Comma | TokenKind::RightBrace if quoted => return Ok(Matcher::equal(METRIC_NAME, name)),
            _ if quoted => return Err(self.unexpected(CONTEXT, "\",\" or \"}\"")),
            _ => return Err(self.unexpected(CONTEXT, "label matching operator")),
        };
        self.bump();
        if self.kind() != &TokenKind::String {
            return Err(self.unexpected(CONTEXT, "string"));
        }
        let (value, span) = self.string()?;
        Matcher::new(name, op, value).map_err(|error| ParseError::new(span, error.to_string()))
    }

    fn check_matchers(&mut self, name: Option<&str>, matchers: &[Matcher], span: Span) {
        let any_series_allowed = std::mem::take(&mut self.any_series_allowed);
        if let Some(name) = name {
            if let Some(second) = matchers.iter().find(|matcher| matcher.name == METRIC_NAME) {
                let reason = format!("metric name must not be set twice: {name:?} or {:?}", second.value);
                self.complain(span, reason);
            }
        } else if !any_series_allowed && matchers.iter().all(Matcher::matches_empty) {
            let help = Some("it would select every series; to mean that, write {__name__!=\"\"}".to_owned());
            let reason = "vector selector must contain at least one non-empty matcher";
            self.complain_with(ParseError::new(span, reason).help(help));
        }
    }

    /// Reads a series: a selector of equality matchers only. Returns its labels and the byte after it.
    pub(super) fn series(&mut self) -> Parsed<(Labels, usize)> {
        let start = self.span_here();
        self.any_series_allowed = true;
        let selector = self.plain_selector()?;
        let span = self.span_since(start);
        if let Some(complaint) = self.complaint.take() {
            return Err(complaint);
        }
        if selector.matchers.iter().any(|matcher| matcher.op != MatchOp::Equal) {
            return Err(ParseError::new(span, "a series has only equality matchers"));
        }
        let pairs = selector.matchers.iter().map(|matcher| (&matcher.name, &matcher.value));
        Ok((Labels::from_pairs(pairs), span.end as usize))
    }
}
