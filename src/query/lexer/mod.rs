//! Text → tokens. Never fails as a whole: what cannot be read becomes an error token, and the parser says so when it gets there.
//!
//! Inside braces every word is a label name; inside brackets a colon stands alone; elsewhere a colon belongs to a name.

mod literal;
mod token;

use super::ast::BinaryOp;

pub(super) use literal::{parse_number, unquote, unquote_bytes};
pub(super) use token::{Keyword, Token, TokenKind};

/// Reads all tokens; the last one is the end of input or an error.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        text,
        at: 0,
        parens: 0,
        in_braces: false,
        in_brackets: false,
        colon_seen: false,
    };
    let mut tokens = Vec::with_capacity(text.len() / 4 + 2);
    loop {
        let start = lexer.skip_blanks();
        let kind = lexer.next_kind().unwrap_or_else(TokenKind::Error);
        let last = matches!(kind, TokenKind::End | TokenKind::Error(_));
        tokens.push(Token {
            kind,
            start,
            end: lexer.at,
        });
        if last {
            return tokens;
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    parens: u32,
    in_braces: bool,
    in_brackets: bool,
    colon_seen: bool,
}

impl Lexer<'_> {
    /// Skips spaces and comments; returns where the next token begins.
    fn skip_blanks(&mut self) -> usize {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'#' => {
                    while bytes.get(self.at).is_some_and(|&byte| byte != b'\n' && byte != b'\r') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
        self.at
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let found = self.peek()?;
        self.at += found.len_utf8();
        Some(found)
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn next_kind(&mut self) -> Result<TokenKind, String> {
        let Some(first) = self.take() else {
            return self.end();
        };
        match first {
            '"' | '\'' | '`' => self.string(first),
            _ if self.in_braces => self.inside_braces(first),
            'a'..='z' | 'A'..='Z' | '_' => Ok(self.word()),
            ':' if self.in_brackets => self.colon(),
            ':' => Ok(self.word()),
            '0'..='9' => self.number(),
            '.' if self.peek().is_some_and(|next| next.is_ascii_digit()) => self.number(),
            _ => self.punctuation(first),
        }
    }

    fn end(&self) -> Result<TokenKind, String> {
        if self.in_braces {
            Err("unexpected end of input inside braces".to_owned())
        } else if self.in_brackets {
            Err("unexpected end of input in duration expression".to_owned())
        } else if self.parens > 0 {
            Err("unclosed left parenthesis".to_owned())
        } else {
            Ok(TokenKind::End)
        }
    }

    fn string(&mut self, quote: char) -> Result<TokenKind, String> {
        if self.in_brackets {
            return Err(format!("unexpected character in duration expression: {quote:?}"));
        }
        let start = self.at - 1;
        self.at = start + literal::string_end(&self.text[start..])?;
        Ok(TokenKind::String)
    }

    fn inside_braces(&mut self, first: char) -> Result<TokenKind, String> {
        match first {
            ',' => Ok(TokenKind::Comma),
            '=' if self.take_if('~') => Ok(TokenKind::EqualRegex),
            '=' => Ok(TokenKind::Equal),
            '!' if self.take_if('~') => Ok(TokenKind::NotEqualRegex),
            '!' if self.take_if('=') => Ok(TokenKind::Operator(BinaryOp::NotEqual)),
            '!' => Err(self.bad_after('!')),
            '{' => Err("unexpected left brace '{'".to_owned()),
            '}' => {
                self.in_braces = false;
                Ok(TokenKind::RightBrace)
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                    self.at += 1;
                }
                Ok(TokenKind::Word(Keyword::None))
            }
            other => Err(format!("unexpected character inside braces: {other:?}")),
        }
    }

    fn word(&mut self) -> TokenKind {
        let start = self.at - 1;
        let colons = !self.in_brackets;
        while self
            .peek()
            .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':'))
        {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        // `Inf` and `NaN` are numbers, in any case.
        if word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("nan") {
            return TokenKind::Number;
        }
        token::operator_word(word).map_or_else(|| TokenKind::Word(Keyword::of(word)), TokenKind::Operator)
    }

    fn colon(&mut self) -> Result<TokenKind, String> {
        if self.colon_seen {
            return Err("unexpected colon ':'".to_owned());
        }
        self.colon_seen = true;
        Ok(TokenKind::Colon)
    }

    fn number(&mut self) -> Result<TokenKind, String> {
        let start = self.at - 1;
        let (kind, length) = literal::scan_number(&self.text[start..]);
        self.at = start + length;
        kind.ok_or_else(|| {
            format!(
                "bad number or duration syntax: {}",
                crate::query::print::quote(&self.text[start..self.at])
            )
        })
    }

    fn punctuation(&mut self, first: char) -> Result<TokenKind, String> {
        let operator = |op| Ok(TokenKind::Operator(op));
        match first {
            ',' => Ok(TokenKind::Comma),
            '@' => Ok(TokenKind::At),
            '+' => operator(BinaryOp::Add),
            '-' => operator(BinaryOp::Sub),
            '*' => operator(BinaryOp::Mul),
            '/' => operator(BinaryOp::Div),
            '%' => operator(BinaryOp::Mod),
            '^' => operator(BinaryOp::Pow),
            '=' if self.take_if('=') => operator(BinaryOp::Equal),
            '=' if self.peek() == Some('~') => Err(self.bad_after('=')),
            '=' => Ok(TokenKind::Equal),
            '!' if self.take_if('=') => operator(BinaryOp::NotEqual),
            '!' => Err(self.bad_after('!')),
            '<' if self.take_if('=') => operator(BinaryOp::LessEqual),
            '<' if self.take_if('/') => operator(BinaryOp::TrimUpper),
            '<' => operator(BinaryOp::Less),
            '>' if self.take_if('=') => operator(BinaryOp::GreaterEqual),
            '>' if self.take_if('/') => operator(BinaryOp::TrimLower),
            '>' => operator(BinaryOp::Greater),
            _ => self.bracket(first),
        }
    }

    fn bracket(&mut self, first: char) -> Result<TokenKind, String> {
        match first {
            '(' => {
                self.parens += 1;
                Ok(TokenKind::LeftParen)
            }
            ')' if self.parens == 0 => Err("unexpected right parenthesis ')'".to_owned()),
            ')' => {
                self.parens -= 1;
                Ok(TokenKind::RightParen)
            }
            '{' if !self.in_brackets => {
                self.in_braces = true;
                Ok(TokenKind::LeftBrace)
            }
            '[' if self.in_brackets => Err("unexpected left bracket '['".to_owned()),
            '[' => {
                (self.in_brackets, self.colon_seen) = (true, false);
                Ok(TokenKind::LeftBracket)
            }
            ']' if !self.in_brackets => Err("unexpected right bracket ']'".to_owned()),
            ']' => {
                self.in_brackets = false;
                Ok(TokenKind::RightBracket)
            }
            other if self.in_brackets => Err(format!("unexpected character in duration expression: {other:?}")),
            other => Err(format!("unexpected character: {other:?}")),
        }
    }

    fn bad_after(&self, first: char) -> String {
        match self.peek() {
            Some(next) => format!("unexpected character after {first:?}: {next:?}"),
            None => format!("unexpected end of input after {first:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        tokens(text).into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn a_word_is_a_keyword_only_outside_braces() {
        use TokenKind::{End, Equal, LeftBrace, RightBrace, String, Word};
        assert_eq!(kinds("Offset"), [Word(Keyword::Offset), End]);
        assert_eq!(
            kinds("a:b{offset='x'}"),
            [
                Word(Keyword::None),
                LeftBrace,
                Word(Keyword::None),
                Equal,
                String,
                RightBrace,
                End
            ]
        );
    }

    #[test]
    fn a_colon_in_brackets_stands_alone() {
        use TokenKind::{Colon, Duration, End, LeftBracket, RightBracket, Word};
        assert_eq!(
            kinds("a[1h:5m] # comment"),
            [
                Word(Keyword::None),
                LeftBracket,
                Duration,
                Colon,
                Duration,
                RightBracket,
                End
            ]
        );
        assert!(matches!(kinds("a[1h::]").last(), Some(TokenKind::Error(_))));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_token_with_prometheus_words() {
        for (text, message) in [
            ("0deadbeef", "bad number or duration syntax: \"0de\""),
            ("2.5.", "bad number or duration syntax: \"2.5.\""),
            ("a }", "unexpected character: '}'"),
            ("(1", "unclosed left parenthesis"),
            ("a{", "unexpected end of input inside braces"),
            ("a{1}", "unexpected character inside braces: '1'"),
            ("1 !~ 1", "unexpected character after '!': '~'"),
            ("\"x", "unterminated quoted string"),
        ] {
            let last = kinds(text).pop().expect("there is always a last token");
            assert_eq!(last, TokenKind::Error(message.to_owned()), "{text}");
        }
    }
}
