//! Matchers as Alertmanager writes them: `a="b"`, `{a=~"b|c", "ü d"!=e}`, `team=`; in files, in silences, in filters.
//!
//! Two grammars live side by side there: the new one knows UTF-8 names and Go's escapes, the classic one takes unquoted
//! values with nearly anything in them. What the new one refuses falls back to the classic one; so it is here.

use std::fmt::Write as _;

use crate::model::{MatchOp, Matcher};

/// Reads a list of matchers, with or without braces around it.
///
/// # Errors
/// A text that says what is wrong, quoting the input.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, String> {
    let trimmed = text.trim();
    let inner = match (trimmed.strip_prefix('{'), trimmed.ends_with('}')) {
        (Some(rest), true) => &rest[..rest.len() - 1],
        (None, _) => trimmed,
        (Some(_), false) => return Err(format!("bad matcher {text:?}: the opening brace is not closed")),
    };
    let mut matchers = Vec::new();
    for part in split(inner) {
        if part.trim().is_empty() {
            if matchers.is_empty() && inner.trim().is_empty() {
                break;
            }
            return Err(format!("bad matcher {text:?}: nothing between two commas"));
        }
        matchers.push(parse_one(part).map_err(|reason| format!("bad matcher {:?}: {reason}", part.trim()))?);
    }
    Ok(matchers)
}

/// Reads exactly one matcher.
///
/// # Errors
/// As [`parse_matchers`].
pub fn parse_matcher(text: &str) -> Result<Matcher, String> {
    match parse_matchers(text)?.as_slice() {
        [one] => Ok(one.clone()),
        many => Err(format!("expected one matcher in {text:?}, found {}", many.len())),
    }
}

/// Writes matchers as Alertmanager's group keys do: `{a="b",c=~"d"}`.
pub(crate) fn format_matchers(matchers: &[Matcher]) -> String {
    let mut out = String::from("{");
    for (index, matcher) in matchers.iter().enumerate() {
        let _ = write!(out, "{}{matcher}", if index > 0 { "," } else { "" });
    }
    out.push('}');
    out
}

/// Orders matchers as Alertmanager's keys do: by name, value, operator.
pub(crate) fn sort(matchers: &mut [Matcher]) {
    matchers.sort_by(|a, b| (&a.name, &a.value, a.op).cmp(&(&b.name, &b.value, b.op)));
}

/// Splits at commas outside double quotes. A single comma at the end is allowed.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if parts.is_empty() || !text[start..].trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn parse_one(text: &str) -> Result<Matcher, String> {
    let text = text.trim();
    let (name, rest) = match text.strip_prefix('"') {
        Some(rest) => {
            let end = closing_quote(rest).ok_or("the label name's quote is not closed")?;
            (unquote(&rest[..end]), &rest[end + 1..])
        }
        None => {
            let end = text
                .find(|c: char| c.is_whitespace() || "=!~{},\"'`\\".contains(c))
                .unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        }
    };
    if name.is_empty() {
        return Err("no label name".to_owned());
    }
    let rest = rest.trim_start();
    let (op, rest) = [
        ("=~", MatchOp::Regex),
        ("!~", MatchOp::NotRegex),
        ("!=", MatchOp::NotEqual),
        ("=", MatchOp::Equal),
    ]
    .into_iter()
    .find_map(|(sign, op)| Some((op, rest.strip_prefix(sign)?)))
    .ok_or("expected =, !=, =~ or !~ after the label name")?;
    let value = parse_value(rest.trim())?;
    Matcher::new(name, op, value).map_err(|error| error.to_string())
}

fn parse_value(text: &str) -> Result<String, String> {
    if let Some(rest) = text.strip_prefix('"') {
        let end = closing_quote(rest).ok_or("the value's quote is not closed")?;
        if !rest[end + 1..].trim().is_empty() {
            return Err(format!("unexpected {:?} after the value", rest[end + 1..].trim()));
        }
        return Ok(unquote(&rest[..end]));
    }
    if text.contains('"') {
        return Err("a quote inside an unquoted value".to_owned());
    }
    if text.starts_with(['=', '~', '!']) {
        return Err("an operator where the value should be".to_owned());
    }
    Ok(text.to_owned())
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices()
        .find(|(_, c)| {
            let closes = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        })
        .map(|(at, _)| at)
}

/// Undoes Go's escapes; when one of them is not Go's, only `\n`, `\"` and `\\` mean something, as in the classic grammar.
fn unquote(text: &str) -> String {
    unquote_go(text).unwrap_or_else(|| {
        let mut out = String::with_capacity(text.len());
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek()) {
                ('\\', Some('n')) => out.push('\n'),
                ('\\', Some('"')) => out.push('"'),
                ('\\', Some('\\')) => out.push('\\'),
                _ => {
                    out.push(c);
                    continue;
                }
            }
            chars.next();
        }
        out
    })
}

fn unquote_go(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next()?;
        rest = &rest[escape.len_utf8()..];
        let mut number = |digits: usize, radix: u32| {
            let taken = rest.get(..digits)?;
            rest = &rest[digits..];
            u32::from_str_radix(taken, radix).ok()
        };
        match escape {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' | '"' => bytes.push(escape as u8),
            'x' => bytes.push(u8::try_from(number(2, 16)?).ok()?),
            'u' => bytes.extend(char::from_u32(number(4, 16)?)?.encode_utf8(&mut [0; 4]).as_bytes()),
            'U' => bytes.extend(char::from_u32(number(8, 16)?)?.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_grammars_are_read() {
        for (text, expected) in [
            (r#"a="b""#, r#"{a="b"}"#),
            (r#"{a="b",c=~"d|e",}"#, r#"{a="b",c=~"d|e"}"#),
            ("a = b", r#"{a="b"}"#),
            ("team=", r#"{team=""}"#),
            ("a!=b, c!~d.+", r#"{a!="b",c!~"d.+"}"#),
            (r#"a="x,y",b="}""#, r#"{a="x,y",b="}"}"#),
            (r#"{"ü d"="é"}"#, r#"{"ü d"="é"}"#),
            (r#"a=~"\d+""#, r#"{a=~"\\d+"}"#),
            (r#"a="tab\there""#, r#"{a="tab\there"}"#),
            (r#"a="say \"hi\"\\""#, r#"{a="say \"hi\"\\"}"#),
            ("{}", "{}"),
            ("", "{}"),
        ] {
            let parsed = parse_matchers(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(format_matchers(&parsed), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_matcher_says_why() {
        for text in [
            "a", "=b", "{a=\"b\"", "a=\"b", "a=\"b\"c", "a=b\"", "a==b", "a=~\"(\"", "a=b,,c=d", "a>b",
        ] {
            assert!(parse_matchers(text).is_err(), "{text} was read");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(name in "[a-z_ü ]{1,8}", value in ".{0,20}") {
            let matcher = Matcher::equal(name.trim().to_owned() + "x", value);
            let text = format!("{{{}=\"{}\"}}", serde_json::to_string(&matcher.name).unwrap(),
                matcher.value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
            prop_assert_eq!(parse_matchers(&text).unwrap(), vec![matcher]);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _ = parse_matchers(&text);
        }
    }
}
