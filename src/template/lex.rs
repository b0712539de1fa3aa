//! The tokens of a template: literal text, and what stands between `{{` and `}}`.

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// Literal text outside actions, trimmed.
    Text(&'a str),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// A run of blanks inside an action.
    Space,
    /// `name`
    Identifier(&'a str),
    /// `.name`, without the dot.
    Field(&'a str),
    /// `$name`, with the dollar sign.
    Variable(&'a str),
    /// `.` alone.
    Dot,
    /// A number as written.
    Number(&'a str),
    /// `'x'` as written.
    Char(&'a str),
    /// `"…"` as written.
    Str(&'a str),
    /// `` `…` `` as written.
    RawStr(&'a str),
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `|`
    Pipe,
    /// `,`
    Comma,
    /// `(`
    OpenParen,
    /// `)`
    CloseParen,
    /// The end of the text.
    End,
}

/// A token and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Lexeme<'a> {
    pub(super) token: Token<'a>,
    pub(super) at: usize,
}

/// What is wrong with the text, and where.
#[derive(Debug)]
pub(super) struct LexError {
    pub(super) at: usize,
    pub(super) reason: String,
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// Splits a template into tokens.
pub(super) fn lex(text: &str) -> Result<Vec<Lexeme<'_>>, LexError> {
    let mut lexer = Lexer {
        text,
        at: 0,
        out: Vec::new(),
        parens: 0,
        trim_next: false,
    };
    lexer.run()?;
    Ok(lexer.out)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    out: Vec<Lexeme<'a>>,
    parens: usize,
    trim_next: bool,
}

impl<'a> Lexer<'a> {
    fn push(&mut self, token: Token<'a>, length: usize) {
        self.out.push(Lexeme { token, at: self.at });
        self.at += length;
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, LexError> {
        Err(LexError {
            at: self.at,
            reason: reason.into(),
        })
    }

    fn run(&mut self) -> Result<(), LexError> {
        loop {
            let open = self.rest().find("{{");
            let mut literal = &self.rest()[..open.unwrap_or(self.rest().len())];
            let whole = literal.len();
            let mut start = self.at;
            if self.trim_next {
                let trimmed = literal.trim_start_matches(BLANKS);
                start += literal.len() - trimmed.len();
                literal = trimmed;
            }
            let trims = open.is_some_and(|open| is_left_trim(&self.rest()[open + 2..]));
            if trims {
                literal = literal.trim_end_matches(BLANKS);
            }
            if !literal.is_empty() {
                self.out.push(Lexeme {
                    token: Token::Text(literal),
                    at: start,
                });
            }
            self.at += whole;
            self.trim_next = false;
            if open.is_none() {
                self.push(Token::End, 0);
                return Ok(());
            }
            self.action(trims)?;
        }
    }

    fn action(&mut self, trims: bool) -> Result<(), LexError> {
        let marker = if trims { 2 } else { 0 };
        if self.rest()[2 + marker..].starts_with("/*") {
            return self.comment(2 + marker);
        }
        self.push(Token::Open, 2 + marker);
        self.parens = 0;
        loop {
            let rest = self.rest();
            if is_right_trim(rest) || rest.starts_with("}}") {
                if self.parens > 0 {
                    return self.fail("unclosed left paren");
                }
                let trims = !rest.starts_with("}}");
                if trims {
                    self.at += 2;
                }
                self.push(Token::Close, 2);
                self.trim_next = trims;
                return Ok(());
            }
            self.inside()?;
        }
    }

    fn comment(&mut self, opening: usize) -> Result<(), LexError> {
        let Some(end) = self.rest()[opening..].find("*/") else {
            return self.fail("unclosed comment");
        };
        let after = &self.rest()[opening + end + 2..];
        let trims = is_right_trim(after);
        if !trims && !after.starts_with("}}") {
            return self.fail("comment ends before closing delimiter");
        }
        self.at += opening + end + 2 + if trims { 4 } else { 2 };
        self.trim_next = trims;
        Ok(())
    }

    fn inside(&mut self) -> Result<(), LexError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return self.fail("unclosed action");
        };
        match first {
            ' ' | '\t' | '\r' | '\n' => {
                let mut length = rest.len() - rest.trim_start_matches(BLANKS).len();
                // The last blank of ` -}}` belongs to the trim marker.
                if is_right_trim(&rest[length - 1..]) {
                    length -= 1;
                    if length == 0 {
                        length = 1;
                    }
                }
                self.push(Token::Space, length);
                Ok(())
            }
            '=' => self.simple(Token::Assign, 1),
            ':' if rest.starts_with(":=") => self.simple(Token::Declare, 2),
            ':' => self.fail("expected :="),
            '|' => self.simple(Token::Pipe, 1),
            ',' => self.simple(Token::Comma, 1),
            '(' => {
                self.parens += 1;
                self.simple(Token::OpenParen, 1)
            }
            ')' if self.parens == 0 => self.fail("unexpected right paren"),
            ')' => {
                self.parens -= 1;
                self.simple(Token::CloseParen, 1)
            }
            '"' => self.quoted('"', "unterminated quoted string"),
            '\'' => self.quoted('\'', "unterminated character constant"),
            '`' => self.raw(),
            '$' => {
                let length = 1 + word_length(&rest[1..]);
                self.terminated(length)?;
                self.simple(Token::Variable(&rest[..length]), length)
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let length = 1 + word_length(&rest[1..]);
                self.terminated(length)?;
                let token = if length == 1 {
                    Token::Dot
                } else {
                    Token::Field(&rest[1..length])
                };
                self.simple(token, length)
            }
            '+' | '-' | '.' | '0'..='9' => self.number(),
            c if c == '_' || c.is_alphanumeric() => {
                let length = word_length(rest);
                self.terminated(length)?;
                self.simple(Token::Identifier(&rest[..length]), length)
            }
            c => self.fail(format!("unrecognized character in action: {}", code_point(c))),
        }
    }

    fn simple(&mut self, token: Token<'a>, length: usize) -> Result<(), LexError> {
        self.push(token, length);
        Ok(())
    }

    /// A name must end at something that may follow a name.
    fn terminated(&self, length: usize) -> Result<(), LexError> {
        let after = &self.rest()[length..];
        match after.chars().next() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
            Some(_) if after.starts_with("}}") => Ok(()),
            Some('=') => Ok(()),
            Some(c) => Err(LexError {
                at: self.at,
                reason: format!("bad character {}", code_point(c)),
            }),
        }
    }

    fn quoted(&mut self, mark: char, unterminated: &str) -> Result<(), LexError> {
        let rest = self.rest();
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == mark => {
                    let written = &rest[..=at];
                    let token = if mark == '"' {
                        Token::Str(written)
                    } else {
                        Token::Char(written)
                    };
                    return self.simple(token, at + 1);
                }
                _ => {}
            }
        }
        self.fail(unterminated)
    }

    fn raw(&mut self) -> Result<(), LexError> {
        let rest = self.rest();
        match rest[1..].find('`') {
            Some(end) => self.simple(Token::RawStr(&rest[..end + 2]), end + 2),
            None => self.fail("unterminated raw quoted string"),
        }
    }

    fn number(&mut self) -> Result<(), LexError> {
        let rest = self.rest();
        let mut length = 0;
        let mut last = ' ';
        let hex = rest
            .trim_start_matches(['+', '-'])
            .to_ascii_lowercase()
            .starts_with("0x");
        for c in rest.chars() {
            let sign = matches!(c, '+' | '-')
                && (length == 0 || (matches!(last, 'e' | 'E') && !hex) || matches!(last, 'p' | 'P'));
            if !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || sign) {
                break;
            }
            length += c.len_utf8();
            last = c;
        }
        if super::literal::parse_number(&rest[..length]).is_none() {
            return self.fail(format!(
                "bad number syntax: {}",
                super::number::quote(&rest[..length], false)
            ));
        }
        self.simple(Token::Number(&rest[..length]), length)
    }
}

fn is_left_trim(after_open: &str) -> bool {
    after_open.starts_with('-') && after_open[1..].starts_with(BLANKS)
}

fn is_right_trim(rest: &str) -> bool {
    rest.starts_with(BLANKS) && rest[1..].starts_with("-}}")
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c == '_' || c.is_alphanumeric()))
        .unwrap_or(text.len())
}

/// Writes a character as Go's `%#U`: `U+003F '?'`.
pub(super) fn code_point(c: char) -> String {
    if c.is_control() {
        format!("U+{:04X}", c as u32)
    } else {
        format!("U+{:04X} '{c}'", c as u32)
    }
}
