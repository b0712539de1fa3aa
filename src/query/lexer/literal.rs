//! Literals: where a number, duration or string ends, and what it stands for. Go's rules, which are Prometheus's.

use super::TokenKind;

/// Finds the number or duration at the beginning of `text`, which starts with a digit or a dot. Returns what it is (`None`:
/// neither) and how many bytes were looked at.
pub(super) fn scan_number(text: &str) -> (Option<TokenKind>, usize) {
    let mut scan = Scan {
        bytes: text.as_bytes(),
        at: 0,
    };
    if scan.number() {
        return (Some(TokenKind::Number), scan.at);
    }
    let duration = scan.rest_of_duration();
    (duration.then_some(TokenKind::Duration), scan.at)
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn is(&self, set: &[u8]) -> bool {
        self.bytes.get(self.at).is_some_and(|byte| set.contains(byte))
    }

    fn accept(&mut self, set: &[u8]) -> bool {
        let found = self.is(set);
        self.at += usize::from(found);
        found
    }

    fn ends_word(&self) -> bool {
        let next = self.bytes.get(self.at);
        !next.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    }

    /// `1`, `0x1F`, `1_000`, `.5`, `5.`, `1e-3`.
    fn number(&mut self) -> bool {
        let mut digits: &[u8] = b"0123456789";
        let hex = self.accept(b"0") && self.accept(b"xX");
        if hex {
            self.accept(b"_");
            digits = b"0123456789abcdefABCDEF";
        }
        let (mut dot_seen, mut exponent_seen) = (false, false);
        loop {
            if self.accept(digits) {
                continue;
            }
            if self.accept(b".") {
                if dot_seen || hex || self.accept(b"_.") {
                    return false;
                }
                dot_seen = true;
            } else if self.accept(b"eE") {
                if exponent_seen {
                    return false;
                }
                exponent_seen = true;
                self.accept(b"+-");
                if self.accept(b"._eE") || self.at == self.bytes.len() {
                    return false;
                }
            } else if self.accept(b"_") {
                if self.accept(b"._eE") || self.at == self.bytes.len() {
                    return false;
                }
            } else {
                break;
            }
        }
        self.ends_word()
    }

    /// The units and further parts of a duration, after its first digits. Whether they fall in order is checked later.
    fn rest_of_duration(&mut self) -> bool {
        if !self.accept(b"smhdwy") {
            return false;
        }
        self.accept(b"s");
        while self.accept(b"0123456789") {
            while self.accept(b"0123456789") {}
            if !self.accept(b"smhdw") {
                return false;
            }
            self.accept(b"s");
        }
        // The letter that spoils it is shown in the error.
        let ends = self.ends_word();
        self.at += usize::from(!ends);
        ends
    }
}

/// Returns the value of a number token: Go's integers first (`0755` is octal, `1_000` a thousand), then floats.
pub(in crate::query) fn parse_number(text: &str) -> Option<f64> {
    if text.eq_ignore_ascii_case("inf") {
        return Some(f64::INFINITY);
    }
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    if let Some(integer) = parse_integer(text) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "numbers of the language are doubles; Prometheus rounds the same way"
        )]
        return Some(integer as f64);
    }
    if text.contains('_') {
        return None;
    }
    text.parse().ok()
}

fn parse_integer(text: &str) -> Option<i64> {
    let plain = text.replace('_', "");
    if let Some(hex) = plain.strip_prefix("0x").or(plain.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok();
    }
    if !plain.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match plain.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => i64::from_str_radix(octal, 8).ok(),
        _ => plain.parse().ok(),
    }
}

/// Returns the length of the string literal, quotes included, at the beginning of `text`.
///
/// # Errors
/// When it does not end, or an escape makes no sense.
pub(super) fn string_end(text: &str) -> Result<usize, String> {
    let quote = text.as_bytes()[0];
    if quote == b'`' {
        let end = text[1..]
            .find('`')
            .ok_or_else(|| "unterminated raw string".to_owned())?;
        return Ok(end + 2);
    }
    let mut at = 1;
    loop {
        match text.as_bytes().get(at) {
            None | Some(b'\n') => return Err("unterminated quoted string".to_owned()),
            Some(&byte) if byte == quote => return Ok(at + 1),
            Some(b'\\') => at += unescape(&text[at..], quote)?.1,
            Some(_) => at += 1,
        }
    }
}

/// Returns the text that a literal stands for. Escapes may name bytes that are no UTF-8: those are shown as U+FFFD.
///
/// # Errors
/// As [`string_end`]; a literal that the lexer accepted has none.
pub(in crate::query) fn unquote(literal: &str) -> Result<String, String> {
    let bytes = unquote_bytes(literal)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// As [`unquote`], the bytes as they are.
///
/// # Errors
/// As [`unquote`].
pub(in crate::query) fn unquote_bytes(literal: &str) -> Result<Vec<u8>, String> {
    let quote = *literal.as_bytes().first().ok_or("empty string literal")?;
    if !b"\"'`".contains(&quote) || string_end(literal)? != literal.len() {
        return Err(format!("invalid string literal: {literal}"));
    }
    let body = &literal[1..literal.len() - 1];
    if quote == b'`' {
        return Ok(body.as_bytes().to_vec());
    }
    let mut bytes = Vec::with_capacity(body.len());
    let mut at = 0;
    while at < body.len() {
        if body.as_bytes()[at] == b'\\' {
            let (unit, length) = unescape(&body[at..], quote)?;
            match unit {
                Unit::Byte(byte) => bytes.push(byte),
                Unit::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            at += length;
        } else {
            bytes.push(body.as_bytes()[at]);
            at += 1;
        }
    }
    Ok(bytes)
}

enum Unit {
    Byte(u8),
    Char(char),
}

/// Reads the escape at the beginning of `text`, which is a backslash. Returns what it stands for and its length.
fn unescape(text: &str, quote: u8) -> Result<(Unit, usize), String> {
    let Some(kind) = text[1..].chars().next() else {
        return Err("escape sequence not terminated".to_owned());
    };
    let simple = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        _ if kind == char::from(quote) => quote,
        '0'..='7' => return digits(text, 1, 3, 8),
        'x' => return digits(text, 2, 2, 16),
        'u' => return digits(text, 2, 4, 16),
        'U' => return digits(text, 2, 8, 16),
        _ => {
            return Err(format!("unknown escape sequence U+{:04X} {kind:?}", u32::from(kind)));
        }
    };
    Ok((Unit::Byte(simple), 2))
}

/// Reads the `count` digits that follow the first `skip` bytes of an escape.
fn digits(text: &str, skip: usize, count: usize, radix: u32) -> Result<(Unit, usize), String> {
    let mut value = 0u32;
    let mut chars = text[skip..].chars();
    for _ in 0..count {
        let Some(c) = chars.next() else {
            return Err("escape sequence not terminated".to_owned());
        };
        let digit = c
            .to_digit(radix)
            .ok_or_else(|| format!("illegal character U+{:04X} {c:?} in escape sequence", u32::from(c)))?;
        // Eight hexadecimal digits fill 32 bits exactly.
        value = value.wrapping_mul(radix) | digit;
    }
    let bad = || "escape sequence is an invalid Unicode code point".to_owned();
    let unit = if count <= 3 {
        Unit::Byte(u8::try_from(value).map_err(|_| bad())?)
    } else {
        Unit::Char(char::from_u32(value).ok_or_else(bad)?)
    };
    Ok((unit, skip + count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_go() {
        for (text, value) in [
            ("0xc", 12.0),
            ("0755", 493.0),
            ("08", 8.0),
            ("1_000", 1000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("5.5e-3", 0.0055),
            ("iNf", f64::INFINITY),
        ] {
            assert_eq!(parse_number(text), Some(value), "{text}");
        }
        for text in ["1..2", "1_", "1e", "1e5e5", "0x1.5", "1__0", "5mm", "1a"] {
            assert_eq!(scan_number(text).0, None, "{text}");
        }
        assert_eq!(scan_number("1h30m)"), (Some(TokenKind::Duration), 5));
        assert_eq!(scan_number("1e3)"), (Some(TokenKind::Number), 3));
    }

    #[test]
    fn strings_follow_go() {
        assert_eq!(unquote(r#""a\n\x41\101\u00e9\"'""#).unwrap(), "a\nAAé\"'");
        assert_eq!(unquote(r"`a\n`").unwrap(), r"a\n");
        assert_eq!(unquote(r"'\'\xff'").unwrap(), "'\u{fffd}");
        for bad in [
            r"'\x4'",
            r"'\q'",
            r"'\",
            r"'\ud800'",
            r"'\400'",
            "'a\nb'",
            r#"'\"'"#,
            "",
            "a",
        ] {
            assert!(unquote(bad).is_err(), "{bad} was read");
        }
    }
}
