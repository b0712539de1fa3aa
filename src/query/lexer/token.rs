//! Tokens and keywords.

use crate::query::ast::{AggregateOp, BinaryOp};
use crate::query::print::quote;

/// A word or sign of the text.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::query) struct Token {
    pub(in crate::query) kind: TokenKind,
    /// The first byte.
    pub(in crate::query) start: usize,
    /// One past the last byte.
    pub(in crate::query) end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::query) enum TokenKind {
    End,
    /// What is wrong with the text here.
    Error(String),
    /// A name, which may be a keyword where the grammar wants one.
    Word(Keyword),
    Number,
    Duration,
    String,
    Operator(BinaryOp),
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    At,
    Equal,
    EqualRegex,
    NotEqualRegex,
}

/// What a word means where a keyword may stand; anywhere else it is a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::query) enum Keyword {
    None,
    Aggregate(AggregateOp),
    Offset,
    Anchored,
    Smoothed,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

const KEYWORDS: [(&str, Keyword); 19] = [
    ("offset", Keyword::Offset),
    ("anchored", Keyword::Anchored),
    ("smoothed", Keyword::Smoothed),
    ("by", Keyword::By),
    ("without", Keyword::Without),
    ("on", Keyword::On),
    ("ignoring", Keyword::Ignoring),
    ("group_left", Keyword::GroupLeft),
    ("group_right", Keyword::GroupRight),
    ("fill", Keyword::Fill),
    ("fill_left", Keyword::FillLeft),
    ("fill_right", Keyword::FillRight),
    ("bool", Keyword::Bool),
    ("start", Keyword::Start),
    ("end", Keyword::End),
    ("step", Keyword::Step),
    ("range", Keyword::Range),
    ("min_of", Keyword::MinOf),
    ("max_of", Keyword::MaxOf),
];

impl Keyword {
    /// Keywords and aggregations do not care about case.
    pub(super) fn of(word: &str) -> Keyword {
        let aggregate = AggregateOp::ALL
            .iter()
            .find(|op| op.as_str().eq_ignore_ascii_case(word));
        if let Some(op) = aggregate {
            return Keyword::Aggregate(*op);
        }
        let found = KEYWORDS.iter().find(|(text, _)| text.eq_ignore_ascii_case(word));
        found.map_or(Keyword::None, |(_, keyword)| *keyword)
    }

    /// Whether the word cannot name a metric.
    pub(in crate::query) fn is_reserved(self) -> bool {
        matches!(
            self,
            Keyword::Bool | Keyword::On | Keyword::Ignoring | Keyword::GroupLeft | Keyword::GroupRight
        )
    }
}

/// Returns the operator that a word stands for: `and`, `OR`.
pub(super) fn operator_word(word: &str) -> Option<BinaryOp> {
    [BinaryOp::And, BinaryOp::Or, BinaryOp::Unless, BinaryOp::Atan2]
        .into_iter()
        .find(|op| op.as_str().eq_ignore_ascii_case(word))
}

/// How many characters of a token an error shows.
const SHOWN_MAX: usize = 10;

impl Token {
    /// Returns the token as Prometheus's errors name it: `identifier "x"`, `<op:+>`, `end of input`.
    pub(in crate::query) fn describe(&self, text: &str) -> String {
        let word = &text[self.start..self.end];
        match &self.kind {
            TokenKind::End => "end of input".to_owned(),
            TokenKind::Error(message) => message.clone(),
            TokenKind::Word(Keyword::None) if word.contains(':') => format!("metric identifier {}", quote(word)),
            TokenKind::Word(Keyword::None) => format!("identifier {}", quote(word)),
            TokenKind::Word(Keyword::Aggregate(_)) => format!("<aggr:{word}>"),
            TokenKind::Word(_) => format!("<{word}>"),
            TokenKind::Operator(_) => format!("<op:{word}>"),
            TokenKind::Number => format!("number {}", shown(word)),
            TokenKind::Duration => format!("duration {}", shown(word)),
            TokenKind::String => format!("string {}", shown(word)),
            _ => quote(word),
        }
    }
}

fn shown(word: &str) -> String {
    match word.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", quote(&word[..end])),
        None => quote(word),
    }
}
