//! Escaping for the place in an HTML document where a value lands, as `html/template` does it.
//!
//! Literal text of the template moves a small state machine; a value is escaped by the state it meets and never moves it
//! (but for the part of a URL), because escaped text cannot end the place it stands in.

use super::builtins::{escape_html, escape_js};
use super::fmt::sprint;
use super::number::quote;
use super::value::{Safe, Value};

/// What Go prints in place of a value that cannot be made safe.
const UNSAFE: &str = "ZgotmplZ";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After `<` or `</`, inside the element's name.
    ElementName,
    /// Inside a tag, between attributes.
    Tag,
    AttributeName,
    /// After an attribute's name, before `=`.
    AfterName,
    /// After `=`.
    BeforeValue,
    Attribute(Delimiter),
    Comment,
    /// Inside `<script>`, `<style>`, `<textarea>`, `<title>`.
    Raw(Content),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    Double,
    Single,
    Blank,
}

/// What a raw element or an attribute holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Content {
    #[default]
    Plain,
    Url,
    Script,
    Style,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UrlPart {
    #[default]
    Start,
    Path,
    Query,
}

/// Knows where in the document the output stands.
#[derive(Debug, Default)]
pub(super) struct Escaper {
    state: State,
    element: String,
    closing: bool,
    attribute: String,
    content: Content,
    url: UrlPart,
    /// The open quotation mark inside a script.
    script_quote: Option<char>,
}

impl Escaper {
    /// Takes note of literal text.
    pub(super) fn literal(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let taken = self.step(c, rest);
            rest = &rest[taken..];
        }
    }

    fn step(&mut self, c: char, rest: &str) -> usize {
        match self.state {
            State::Text => return self.in_text(c, rest),
            State::Comment if rest.starts_with("-->") => {
                self.state = State::Text;
                return 3;
            }
            State::Comment => {}
            State::ElementName if c.is_ascii_alphanumeric() || matches!(c, '-' | ':') => {
                self.element.push(c.to_ascii_lowercase());
            }
            State::ElementName | State::Tag => self.in_tag(c),
            State::AttributeName => match c {
                '=' => self.begin_value(),
                '>' => self.end_tag(),
                c if c.is_whitespace() => self.state = State::AfterName,
                '/' => self.state = State::Tag,
                c => self.attribute.push(c.to_ascii_lowercase()),
            },
            State::AfterName => match c {
                '=' => self.begin_value(),
                c if c.is_whitespace() => {}
                c => self.in_tag(c),
            },
            State::BeforeValue => match c {
                c if c.is_whitespace() => {}
                '"' => self.state = State::Attribute(Delimiter::Double),
                '\'' => self.state = State::Attribute(Delimiter::Single),
                '>' => self.end_tag(),
                c => {
                    self.state = State::Attribute(Delimiter::Blank);
                    self.in_value(c);
                }
            },
            State::Attribute(delimiter) => match (delimiter, c) {
                (Delimiter::Double, '"') | (Delimiter::Single, '\'') => self.state = State::Tag,
                (Delimiter::Blank, '>') => self.end_tag(),
                (Delimiter::Blank, c) if c.is_whitespace() => self.state = State::Tag,
                (_, c) => self.in_value(c),
            },
            State::Raw(content) => return self.in_raw(c, rest, content),
        }
        c.len_utf8()
    }

    fn in_text(&mut self, c: char, rest: &str) -> usize {
        if rest.starts_with("<!--") {
            self.state = State::Comment;
            return 4;
        }
        let name = rest.strip_prefix("</").or(rest.strip_prefix('<'));
        if name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic())) {
            self.closing = rest.starts_with("</");
            self.element.clear();
            self.state = State::ElementName;
            return if self.closing { 2 } else { 1 };
        }
        c.len_utf8()
    }

    fn in_tag(&mut self, c: char) {
        match c {
            '>' => self.end_tag(),
            c if c.is_whitespace() || c == '/' => self.state = State::Tag,
            c => {
                self.attribute.clear();
                self.attribute.push(c.to_ascii_lowercase());
                self.state = State::AttributeName;
            }
        }
    }

    fn end_tag(&mut self) {
        self.state = match (self.closing, self.element.as_str()) {
            (false, "script") => State::Raw(Content::Script),
            (false, "style") => State::Raw(Content::Style),
            (false, "textarea" | "title") => State::Raw(Content::Plain),
            _ => State::Text,
        };
        self.script_quote = None;
    }

    fn begin_value(&mut self) {
        self.state = State::BeforeValue;
        self.url = UrlPart::Start;
        self.script_quote = None;
        let name = self.attribute.strip_prefix("data-").unwrap_or(&self.attribute);
        self.content = match name {
            "style" => Content::Style,
            "href" | "src" | "action" | "formaction" | "cite" | "background" | "poster" | "data" | "manifest"
            | "longdesc" | "usemap" | "profile" | "codebase" | "classid" | "archive" | "icon" | "srcset" | "xmlns" => {
                Content::Url
            }
            name if name.starts_with("on") => Content::Script,
            name if name.contains("src") || name.contains("uri") || name.contains("url") => Content::Url,
            _ => Content::Plain,
        };
    }

    fn in_value(&mut self, c: char) {
        match (self.content, c) {
            (Content::Url, '?' | '#') => self.url = UrlPart::Query,
            (Content::Url, _) if self.url == UrlPart::Start => self.url = UrlPart::Path,
            (Content::Script, c) => self.in_script(c),
            _ => {}
        }
    }

    fn in_script(&mut self, c: char) {
        match (self.script_quote, c) {
            (None, '"' | '\'' | '`') => self.script_quote = Some(c),
            (Some(open), c) if open == c => self.script_quote = None,
            _ => {}
        }
    }

    fn in_raw(&mut self, c: char, rest: &str, content: Content) -> usize {
        let ends = rest
            .strip_prefix("</")
            .and_then(|name| name.get(..self.element.len()))
            .is_some_and(|name| name.eq_ignore_ascii_case(&self.element));
        if ends {
            self.closing = true;
            self.state = State::ElementName;
            let taken = 2 + self.element.len();
            return taken;
        }
        match content {
            Content::Script if c == '\\' && self.script_quote.is_some() => {
                return 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            }
            Content::Script => self.in_script(c),
            _ => {}
        }
        c.len_utf8()
    }

    /// Returns the value as text that is safe here.
    pub(super) fn escape(&mut self, value: &Value) -> String {
        let text = match value {
            Value::Nil => String::new(),
            value => sprint(std::slice::from_ref(value)),
        };
        let safe = match value {
            Value::Safe(safe, _) => Some(*safe),
            _ => None,
        };
        match self.state {
            State::Text if safe == Some(Safe::Html) => text,
            State::Text => escape_html(&text),
            State::Raw(Content::Script) => self.script_value(value, &text),
            State::Raw(Content::Style) => style_value(&text),
            State::Raw(_) => escape_html(&text),
            State::Comment => String::new(),
            State::BeforeValue => {
                self.state = State::Attribute(Delimiter::Blank);
                self.attribute_value(value, &text, safe, Delimiter::Blank)
            }
            State::Attribute(delimiter) => self.attribute_value(value, &text, safe, delimiter),
            State::ElementName | State::Tag | State::AttributeName | State::AfterName => {
                let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
                if plain { text } else { UNSAFE.to_owned() }
            }
        }
    }

    fn attribute_value(&mut self, value: &Value, text: &str, safe: Option<Safe>, delimiter: Delimiter) -> String {
        let text = match self.content {
            Content::Plain if safe == Some(Safe::Html) => strip_tags(text),
            Content::Plain => text.to_owned(),
            Content::Url => self.url_value(text, safe),
            Content::Script => self.script_value(value, text),
            Content::Style => style_value(text),
        };
        match delimiter {
            Delimiter::Double | Delimiter::Single => escape_html(&text),
            Delimiter::Blank if text.is_empty() => UNSAFE.to_owned(),
            Delimiter::Blank => escape_unquoted(&text),
        }
    }

    fn url_value(&mut self, text: &str, safe: Option<Safe>) -> String {
        match self.url {
            UrlPart::Query => percent(text, true),
            part => {
                self.url = UrlPart::Path;
                if part == UrlPart::Start && safe != Some(Safe::Url) && !is_safe_url(text) {
                    return format!("#{UNSAFE}");
                }
                percent(text, false)
            }
        }
    }

    fn script_value(&self, value: &Value, text: &str) -> String {
        if self.script_quote.is_some() {
            return escape_js(text).replace('`', "\\u0060").replace('/', "\\/");
        }
        match value {
            Value::Nil => " null ".to_owned(),
            Value::Bool(_) | Value::Int(_) => format!(" {text} "),
            Value::Float(float) if float.is_finite() => format!(" {text} "),
            _ => quote(text, false)
                .replace('<', "\\u003c")
                .replace('>', "\\u003e")
                .replace('&', "\\u0026")
                .replace('\u{2028}', "\\u2028")
                .replace('\u{2029}', "\\u2029"),
        }
    }
}

/// Whether the URL has no scheme, or a harmless one.
fn is_safe_url(text: &str) -> bool {
    match text.split_once(':') {
        Some((scheme, _)) if !scheme.contains(['/', '?', '#']) => ["http", "https", "mailto"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known)),
        _ => true,
    }
}

/// Percent-encodes what may not stand in a URL; with `all`, also what has a meaning there.
fn percent(text: &str, all: bool) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for (i, byte) in text.bytes().enumerate() {
        let kept = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => true,
            b'!' | b'#' | b'$' | b'&' | b'*' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?' | b'@' | b'[' | b']' => {
                !all
            }
            b'%' if !all => {
                let after = text.as_bytes().get(i + 1..i + 3);
                after.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
            }
            _ => false,
        };
        if kept {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

fn style_value(text: &str) -> String {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | ',' | '#' | '%' | '_' | '-' | '+'));
    if plain { text.to_owned() } else { UNSAFE.to_owned() }
}

fn escape_unquoted(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\x0b' | '\x0c' | '\r' | ' ' | '"' | '\'' | '+' | '=' | '`' | '<' | '>' | '&' => {
                out.push_str(&format!("&#{};", c as u32));
            }
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn strip_tags(html: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in html.chars() {
        match (inside, c) {
            (false, '<') => inside = true,
            (true, '>') => inside = false,
            (false, c) => out.push(c),
            (true, _) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(before: &str, value: impl Into<Value>) -> String {
        let mut escaper = Escaper::default();
        escaper.literal(before);
        escaper.escape(&value.into())
    }

    #[test]
    fn a_value_is_escaped_for_the_place_where_it_lands() {
        let nasty = "<a \"b\" 'c' & javascript:";
        for (before, value, expected) in [
            ("<p>", nasty, "&lt;a &#34;b&#34; &#39;c&#39; &amp; javascript:"),
            ("<p title=\"", nasty, "&lt;a &#34;b&#34; &#39;c&#39; &amp; javascript:"),
            ("<p title=", "a b", "a&#32;b"),
            ("<a href=\"", "javascript:alert(1)", "#ZgotmplZ"),
            ("<a href=\"", "https://x/?a=b&c d", "https://x/?a=b&amp;c%20d"),
            ("<a href=\"/q?x=", "a&b c/", "a%26b%20c%2f"),
            ("<a style=\"color: ", "red", "red"),
            ("<a style=\"", "expression(alert(1))", "ZgotmplZ"),
            ("<script>var x = ", "a</script>", "\"a\\u003c/script\\u003e\""),
            ("<script>var x = '", "a'b", "a\\'b"),
            ("<script>x</script><b>", "<", "&lt;"),
            ("<!-- ", "x", ""),
            ("<", "b onclick=x", "b onclick=x"),
        ] {
            assert_eq!(escaped(before, value), expected, "after {before}");
        }
    }

    #[test]
    fn safe_html_stays_as_it_is_in_text_only() {
        let bold = || Value::Safe(Safe::Html, "<b>x</b>".into());
        assert_eq!(escaped("<p>", bold()), "<b>x</b>");
        assert_eq!(escaped("<p title='", bold()), "x");
    }
}
