//! Tokens → tree: a Pratt parser for the whole language, with types checked on the way.
//!
//! Two kinds of errors: an unexpected token ends the parse; a complaint about meaning (types, modifiers in the wrong place)
//! waits, so that a later unexpected token goes first, as in Prometheus. Length, nesting and tree height are limited, so that
//! no text makes the parser slow or its recursion deep.

mod call;
mod duration;
mod operator;
mod postfix;
mod selector;

use super::QueryError;
use super::ast::{Expr, ExprKind, HEIGHT_MAX, Span, Text, UnaryOp};
use super::lexer::{self, Keyword, Token, TokenKind};
use super::parse_error::{ParseError, nearest};
use super::types::Type;
use crate::model::{Interval, Labels, Matcher};

/// The longest query in bytes.
pub const QUERY_BYTES_MAX: usize = 64 << 10;
/// The most parentheses, calls and signs around any part of a query.
pub const DEPTH_MAX: u32 = 100;

/// Binds tighter than everything but `^` and what stands behind a selector.
const SIGN_OPERAND: u8 = 6;

type Parsed<T> = Result<T, ParseError>;

/// Reads a query.
///
/// # Errors
/// [`QueryError::Parse`] with line and column in Prometheus's words, a snippet and, where there is one, a suggestion.
pub fn parse(text: &str) -> Result<Expr, QueryError> {
    Parser::run(text, |parser| {
        if parser.kind() == &TokenKind::End {
            return Err(parser.error_here("no expression found in input"));
        }
        parser.expr(0)
    })
}

/// Reads a selector without range and modifiers, as `match[]` takes it, and returns its matchers. It must exclude something:
/// one matcher at least does not match the empty text.
///
/// # Errors
/// As [`parse`].
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
    Parser::run(text, |parser| parser.plain_selector().map(|selector| selector.matchers))
}

/// Reads the series at the beginning of `text` (`up{job="api"} 1 2 3`), and returns its labels with the byte after it.
///
/// # Errors
/// As [`parse`]; matchers other than `=` are refused.
pub fn parse_series(text: &str) -> Result<(Labels, usize), QueryError> {
    let mut parser = Parser::new(text).map_err(|error| error.into_query_error(text))?;
    parser.series().map_err(|error| error.into_query_error(text))
}

/// Returns what the string literal `text` stands for.
///
/// # Errors
/// A text that says why it is none.
pub fn parse_string(text: &str) -> Result<String, String> {
    lexer::unquote(text)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    /// Where each line begins.
    lines: Vec<usize>,
    depth: u32,
    /// The first complaint about meaning.
    complaint: Option<ParseError>,
    /// Whether the next selector may match everything (the second argument of `info`).
    any_series_allowed: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parsed<Parser<'a>> {
        if text.len() > QUERY_BYTES_MAX {
            let reason = format!("the query is {} bytes long, the limit is {QUERY_BYTES_MAX}", text.len());
            let start = Span {
                line: 1,
                column: 1,
                ..Span::default()
            };
            return Err(ParseError::new(start, reason));
        }
        Ok(Parser {
            text,
            tokens: lexer::tokens(text),
            at: 0,
            lines: std::iter::once(0)
                .chain(text.match_indices('\n').map(|(at, _)| at + 1))
                .collect(),
            depth: 0,
            complaint: None,
            any_series_allowed: false,
        })
    }

    fn run<T>(text: &'a str, parse: impl FnOnce(&mut Parser<'a>) -> Parsed<T>) -> Result<T, QueryError> {
        let whole = || {
            let mut parser = Parser::new(text)?;
            let found = parse(&mut parser)?;
            if parser.kind() != &TokenKind::End {
                return Err(parser.unexpected("", ""));
            }
            parser.complaint.map_or(Ok(found), Err)
        };
        whole().map_err(|error: ParseError| error.into_query_error(text))
    }

    // -- tokens

    fn token(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn kind(&self) -> &TokenKind {
        &self.token().kind
    }

    fn next_kind(&self) -> &TokenKind {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    /// Steps over the present token and returns its span; the last token stays.
    fn bump(&mut self) -> Span {
        let span = self.span_here();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        span
    }

    fn bump_if(&mut self, kind: &TokenKind) -> Option<Span> {
        (self.kind() == kind).then(|| self.bump())
    }

    fn bump_if_word(&mut self, keyword: Keyword) -> Option<Span> {
        self.bump_if(&TokenKind::Word(keyword))
    }

    fn expect(&mut self, kind: &TokenKind, context: &str, wanted: &str) -> Parsed<Span> {
        self.bump_if(kind).ok_or_else(|| self.unexpected(context, wanted))
    }

    /// Returns the present token's text.
    fn word(&self) -> &'a str {
        let token = self.token();
        &self.text[token.start..token.end]
    }

    // -- places

    #[expect(clippy::cast_possible_truncation, reason = "a query is at most 64 KiB long")]
    fn span(&self, start: usize, end: usize) -> Span {
        let line = self.lines.partition_point(|&begin| begin <= start);
        Span {
            start: start as u32,
            end: end as u32,
            line: line as u32,
            column: (start - self.lines[line - 1] + 1) as u32,
        }
    }

    fn span_here(&self) -> Span {
        self.span(self.token().start, self.token().end)
    }

    /// Returns the span from `start` to the last token stepped over.
    fn span_since(&self, start: Span) -> Span {
        let end = self.tokens[self.at.saturating_sub(1)].end;
        self.span(start.start as usize, end.max(start.end as usize))
    }

    // -- errors

    fn error_here(&self, reason: &str) -> ParseError {
        ParseError::new(self.span_here(), reason)
    }

    /// Words the present token as unexpected; an error of the lexer speaks for itself.
    fn unexpected(&self, context: &str, wanted: &str) -> ParseError {
        let token = self.token();
        if let TokenKind::Error(message) = &token.kind {
            return self.error_here(message).help(self.lexer_help());
        }
        let mut reason = format!("unexpected {}", token.describe(self.text));
        if !context.is_empty() {
            reason.push_str(&format!(" in {context}"));
        }
        if !wanted.is_empty() {
            reason.push_str(&format!(", expected {wanted}"));
        }
        ParseError::new(self.span_here(), reason).help(self.unexpected_help())
    }

    fn lexer_help(&self) -> Option<String> {
        let token = self.token();
        let before = self.at.checked_sub(1).map(|at| &self.tokens[at])?;
        let joined = before.end == token.start && matches!(before.kind, TokenKind::Word(_));
        let odd = self.text[token.start..].starts_with(['.', '-', '/', '$']);
        (joined && odd && !self.text[token.start..].starts_with("${")).then(|| {
            let rest = self.text[token.start..].find([' ', '{', '[', '(', ')', ',']);
            let end = rest.map_or(self.text.len(), |at| token.start + at);
            let name = &self.text[before.start..end];
            format!(
                "a name with other characters than letters, digits, _ and : goes into quotes and braces: {{{name:?}}}"
            )
        })
    }

    fn unexpected_help(&self) -> Option<String> {
        let TokenKind::Word(_) = self.kind() else {
            return None;
        };
        let before = &self.tokens[self.at.checked_sub(1)?];
        match before.kind {
            TokenKind::Word(Keyword::Aggregate(op)) => Some(format!("write {op}({}) with parentheses", self.word())),
            TokenKind::Word(_) => nearest(self.word(), OPERATOR_WORDS.into_iter()),
            _ => None,
        }
    }

    /// Remembers the first complaint about meaning, and goes on.
    fn complain(&mut self, span: Span, reason: impl Into<String>) {
        self.complain_with(ParseError::new(span, reason));
    }

    fn complain_with(&mut self, error: ParseError) {
        self.complaint.get_or_insert(error);
    }

    // -- expressions

    /// Reads an expression whose operators all bind at least as tightly as `binding_min`.
    fn expr(&mut self, binding_min: u8) -> Parsed<Expr> {
        let mut lhs = self.prefix()?;
        while let TokenKind::Operator(op) = *self.kind() {
            if op.precedence() < binding_min {
                break;
            }
            lhs = self.binary(lhs, op)?;
        }
        Ok(lhs)
    }

    /// Runs `parse` one level of nesting deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error_here(&format!("nested too deeply, the limit is {DEPTH_MAX} levels")));
        }
        let found = parse(self);
        self.depth -= 1;
        found
    }

    fn prefix(&mut self) -> Parsed<Expr> {
        let Some(op) = self.sign() else {
            let primary = self.primary()?;
            return self.postfix(primary);
        };
        let start = self.bump();
        let operand = self.nested(|parser| parser.expr(SIGN_OPERAND))?;
        let span = start.to(operand.span);
        if let ExprKind::Number { value, duration } = *operand.kind {
            let value = if op == UnaryOp::Minus { -value } else { value };
            return self.node(ExprKind::Number { value, duration }, Type::Scalar, span);
        }
        if !matches!(operand.ty, Type::Scalar | Type::InstantVector) {
            let reason = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                operand.ty.as_str()
            );
            self.complain(operand.span, reason);
        }
        let ty = operand.ty;
        self.node(ExprKind::Unary { op, expr: operand }, ty, span)
    }

    fn sign(&self) -> Option<UnaryOp> {
        match self.kind() {
            TokenKind::Operator(super::ast::BinaryOp::Add) => Some(UnaryOp::Plus),
            TokenKind::Operator(super::ast::BinaryOp::Sub) => Some(UnaryOp::Minus),
            _ => None,
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        match self.kind() {
            TokenKind::Number | TokenKind::Duration => {
                let (value, duration, span) = self.number()?;
                self.node(ExprKind::Number { value, duration }, Type::Scalar, span)
            }
            TokenKind::String => {
                let bytes = lexer::unquote_bytes(self.word()).map_err(|reason| self.error_here(&reason))?;
                let span = self.bump();
                self.node(ExprKind::String(Text::new(bytes)), Type::String, span)
            }
            TokenKind::LeftParen => {
                let start = self.bump();
                let inner = self.nested(|parser| parser.expr(0))?;
                self.expect(&TokenKind::RightParen, "", "")?;
                let (ty, span) = (inner.ty, self.span_since(start));
                self.node(ExprKind::Paren(inner), ty, span)
            }
            TokenKind::LeftBrace => self.selector(),
            TokenKind::Word(keyword) => self.named(*keyword),
            TokenKind::Operator(op) if op.is_set() => self.selector(),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// Reads what begins with a word: an aggregation, a call or a selector.
    fn named(&mut self, keyword: Keyword) -> Parsed<Expr> {
        use Keyword::{Aggregate, By, End, MaxOf, MinOf, None, Range, Start, Step, Without};
        let next = self.next_kind();
        match (keyword, next) {
            (Aggregate(op), TokenKind::LeftParen | TokenKind::Word(By | Without)) => self.aggregate(op),
            (None | Start | End | Step | Range | MinOf | MaxOf, TokenKind::LeftParen) => self.call(),
            _ if keyword.is_reserved() => Err(self.unexpected("", "")),
            _ => self.selector(),
        }
    }

    /// Reads a number or a duration, and returns its value (in seconds) and whether it is a duration.
    fn number(&mut self) -> Parsed<(f64, bool, Span)> {
        let word = self.word();
        let duration = self.kind() == &TokenKind::Duration;
        let value = if duration {
            let interval: Interval = word
                .parse()
                .map_err(|_| self.error_here(&format!("not a valid duration string: {word:?}")))?;
            interval.as_secs_f64()
        } else {
            lexer::parse_number(word).ok_or_else(|| self.error_here(&format!("error parsing number: {word:?}")))?
        };
        Ok((value, duration, self.bump()))
    }

    fn string(&mut self) -> Parsed<(String, Span)> {
        let text = lexer::unquote(self.word()).map_err(|reason| self.error_here(&reason))?;
        Ok((text, self.bump()))
    }

    fn node(&self, kind: ExprKind, ty: Type, span: Span) -> Parsed<Expr> {
        let expr = Expr::new(kind, ty, span);
        if expr.height > HEIGHT_MAX {
            let reason = format!("the expression has too many parts in a row, the limit is {HEIGHT_MAX}");
            return Err(ParseError::new(span, reason));
        }
        Ok(expr)
    }
}

const OPERATOR_WORDS: [&str; 13] = [
    "and",
    "or",
    "unless",
    "atan2",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "fill",
];

impl TryFrom<String> for Expr {
    type Error = QueryError;

    fn try_from(text: String) -> Result<Expr, QueryError> {
        parse(&text)
    }
}

impl std::str::FromStr for Expr {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Expr, QueryError> {
        parse(text)
    }
}

impl<'de> serde::Deserialize<'de> for Expr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Expr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests;
