//! Tree → text: the canonical line (`Display`), the readable page ([`format()`]), and the JSON of `parse_query`.
//!
//! Printing and parsing again gives the same tree.

mod canonical;
mod json;
mod pretty;

pub use json::to_json;
pub use pretty::format;

/// Returns `text` in double quotes as Go's `%q` writes it.
pub fn quote(text: &str) -> String {
    quote_bytes(text.as_bytes())
}

/// As [`quote`]; bytes that are no UTF-8 become `\xff`.
pub(super) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        push_escaped(&mut out, chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            _ if is_printable(c) => out.push(c),
            c if u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
}

/// Letters, marks, numbers, signs and the plain space.
fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        _ if c.is_control() || c.is_whitespace() => false,
        _ if c.is_alphanumeric() => true,
        // The standard library escapes what has no picture, and marks that would join the quote before them.
        _ => c.escape_debug().len() == 1 || ('\u{300}'..='\u{36f}').contains(&c),
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quoting_follows_go() {
        assert_eq!(quote("a\"b\\\n\u{0}é☺\u{200b}"), r#""a\"b\\\n\x00é☺\u200b""#);
    }
}
