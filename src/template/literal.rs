//! Numbers, characters and texts as Go writes them, and tokens as Go's messages show them.

use super::lex::Token;
use super::node::Number;
use super::number::quote;

/// Writes a token as Go's messages show it: the text in angle brackets for actions' ends, quoted otherwise.
pub(super) fn show(token: &Token<'_>) -> String {
    match token {
        Token::End => "EOF".to_owned(),
        Token::Open => quote("{{", false),
        Token::Close => quote("}}", false),
        Token::Space => quote(" ", false),
        Token::Identifier(word) if is_keyword(word) => format!("<{word}>"),
        Token::Text(text) => {
            let short: String = text.chars().take(10).collect();
            if text.len() > 10 {
                format!("{}...", quote(&short, false))
            } else {
                quote(text, false)
            }
        }
        Token::Identifier(text)
        | Token::Variable(text)
        | Token::Number(text)
        | Token::Char(text)
        | Token::Str(text)
        | Token::RawStr(text) => quote(text, false),
        Token::Field(name) => quote(&format!(".{name}"), false),
        Token::Dot => "<.>".to_owned(),
        Token::Declare => quote(":=", false),
        Token::Assign => quote("=", false),
        Token::Pipe => quote("|", false),
        Token::Comma => quote(",", false),
        Token::OpenParen => quote("(", false),
        Token::CloseParen => quote(")", false),
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "with" | "range" | "else" | "end" | "template" | "block" | "define" | "break" | "continue" | "nil"
    )
}

pub(super) fn checked_number(text: &str) -> Result<Number, String> {
    match parse_number(text) {
        None => Err(format!("illegal number syntax: {}", quote(text, false))),
        Some(number) if number.int.is_none() && !number.float_syntax => {
            Err(format!("integer overflow: {}", quote(text, false)))
        }
        Some(number) => Ok(number),
    }
}

/// Reads a number as Go writes them: decimal, `0x`, `0b`, `0o`, floats, `_` between digits.
pub(super) fn parse_number(text: &str) -> Option<Number> {
    let plain = text.replace('_', "");
    let (negative, magnitude) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    if !magnitude.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let lower = magnitude.to_ascii_lowercase();
    let radix = match lower.get(..2) {
        Some("0x") => 16,
        Some("0b") => 2,
        Some("0o") => 8,
        _ => 10,
    };
    let (digits, radix) = match radix {
        10 if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit()) => {
            (&lower[1..], 8)
        }
        10 => (lower.as_str(), 10),
        _ => (&lower[2..], radix),
    };
    if let Ok(magnitude) = i128::from_str_radix(digits, radix) {
        let signed = if negative { -magnitude } else { magnitude };
        return Some(Number {
            int: i64::try_from(signed).ok(),
            float: signed as f64,
            float_syntax: false,
        });
    }
    if radix != 10 || lower.contains(['n', 'i']) {
        return None;
    }
    let float: f64 = lower.parse().ok().filter(|float: &f64| float.is_finite())?;
    let float = if negative { -float } else { float };
    let whole = float.fract() == 0.0 && float.abs() < 9.2e18;
    Some(Number {
        int: whole.then_some(float as i64),
        float,
        float_syntax: true,
    })
}

pub(super) fn unquote_char(written: &str) -> Option<Number> {
    let inside = written.strip_prefix('\'')?.strip_suffix('\'')?;
    let text = unescape(inside, '\'')?;
    let mut chars = text.chars();
    let (Some(c), None) = (chars.next(), chars.next()) else {
        return None;
    };
    Some(Number {
        int: Some(i64::from(u32::from(c))),
        float: f64::from(u32::from(c)),
        float_syntax: false,
    })
}

/// Reads a Go string literal, quoted or raw.
pub(super) fn unquote(written: &str) -> Option<String> {
    if let Some(raw) = written.strip_prefix('`') {
        return Some(raw.strip_suffix('`')?.replace('\r', ""));
    }
    unescape(written.strip_prefix('"')?.strip_suffix('"')?, '"')
}

fn unescape(inside: &str, mark: char) -> Option<String> {
    let mut bytes: Vec<u8> = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == mark {
            return None;
        }
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let kind = rest.chars().next()?;
        rest = &rest[kind.len_utf8()..];
        let simple = match kind {
            'a' => Some(0x07),
            'b' => Some(0x08),
            'f' => Some(0x0c),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(0x0b),
            '\\' => Some(b'\\'),
            c if c == mark => Some(mark as u8),
            _ => None,
        };
        if let Some(byte) = simple {
            bytes.push(byte);
            continue;
        }
        let (digits, radix, skip) = match kind {
            'x' => (2, 16, 0),
            'u' => (4, 16, 0),
            'U' => (8, 16, 0),
            '0'..='7' => (3, 8, 1),
            _ => return None,
        };
        // The first octal digit was read as the kind.
        let written: String = if skip == 1 {
            format!("{kind}{}", rest.get(..2)?)
        } else {
            rest.get(..digits)?.to_owned()
        };
        rest = &rest[digits - skip..];
        let code = u32::from_str_radix(&written, radix).ok()?;
        if matches!(kind, 'u' | 'U') {
            bytes.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            bytes.push(u8::try_from(code).ok()?);
        }
    }
    // Go strings may hold any bytes; ours are UTF-8, so that a lone byte becomes the replacement character.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
