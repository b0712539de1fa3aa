//! E-mail: headers that cannot be injected into, text and html side by side, threads by real Message-IDs.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::tz::TimeZone;

use super::super::config::EmailConfig;
use super::data::Data;
use super::http::{Failure, identity_pem};
use super::templates::Renderer;
use crate::io::disk::Disk;
use crate::io::mailer::{Mail, MailAuth, MailTls, Smarthost, TlsMode};
use crate::model::{Interval, Millis};

/// The most bytes of one body part; what is longer is cut, and says so.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest line of base64, as RFC 2045 wants it.
const BASE64_LINE: usize = 76;

/// Returns where the mail goes, with secrets read anew.
///
/// # Errors
/// [`Failure::Transient`] when a file cannot be read.
pub(crate) fn smarthost(config: &EmailConfig, disk: &dyn Disk, timeout: Interval) -> Result<Smarthost, Failure> {
    let read = |source: Option<&super::super::config::SecretSource>| match source {
        None => Ok(None),
        Some(source) => source
            .read(disk)
            .map(|secret| Some(secret.expose().to_owned()))
            .map_err(Failure::transient),
    };
    let auth = if config.auth_username.is_empty() {
        None
    } else {
        Some(MailAuth {
            username: config.auth_username.clone(),
            password: read(config.auth_password.as_ref())?,
            secret: read(config.auth_secret.as_ref())?,
            identity: config.auth_identity.clone(),
        })
    };
    let mode = match (config.implicit_tls, config.require_tls) {
        (true, _) => TlsMode::Implicit,
        (false, true) => TlsMode::Required,
        (false, false) => TlsMode::None,
    };
    Ok(Smarthost {
        host: config.host.clone(),
        port: config.port,
        hello: config.hello.clone(),
        tls: MailTls {
            mode,
            ca_pem: read(config.tls.ca().as_ref())?.map(String::into_bytes),
            identity_pem: identity_pem(&config.tls, disk).map_err(Failure::transient)?,
            server_name: config.tls.server_name.clone(),
            insecure_skip_verify: config.tls.insecure_skip_verify,
            tls13_only: config.tls.min_version.as_deref() == Some("TLS13"),
        },
        auth,
        timeout,
    })
}

/// Builds the message `id`; `thread` is the id of the first one of its thread.
///
/// # Errors
/// [`Failure::Permanent`] when a template fails or an address is none.
pub(crate) fn mail(
    config: &EmailConfig,
    data: &Data,
    renderer: &Renderer<'_>,
    id: &str,
    thread: Option<&str>,
) -> Result<Mail, Failure> {
    let render = |what: &str, text: &str| {
        renderer
            .text(text)
            .map_err(|reason| Failure::Permanent(format!("{what}: {reason}")))
    };
    let from_text = render("from", &config.from)?;
    let to_text = render("to", &config.to)?;
    let from = addresses(&from_text).map_err(|reason| Failure::Permanent(format!("from: {reason}")))?;
    let to = addresses(&to_text).map_err(|reason| Failure::Permanent(format!("to: {reason}")))?;
    let [sender] = from.as_slice() else {
        return Err(Failure::Permanent("from: expected one address".to_owned()));
    };
    let domain = sender
        .mailbox
        .rsplit_once('@')
        .map_or("localhost", |(_, domain)| domain);
    let mut headers = Headers::default();
    let named = |name: &str| {
        config
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    let subject = named("Subject").map_or(r#"{{ template "email.default.subject" . }}"#, |(_, text)| text);
    headers.add("Subject", &render("headers.Subject", subject)?);
    headers.add_addresses("To", &to);
    headers.add_addresses("From", &from);
    for (name, text) in &config.headers {
        match name.to_ascii_lowercase().as_str() {
            "subject" => {}
            "to" | "from" | "cc" | "bcc" | "reply-to" | "sender" => {
                let text = render(&format!("headers.{name}"), text)?;
                match addresses(&text) {
                    Ok(list) => headers.set_addresses(name, &list),
                    Err(_) => headers.set(name, &text),
                }
            }
            _ => headers.set(name, &render(&format!("headers.{name}"), text)?),
        }
    }
    if named("Message-Id").is_none() {
        headers.raw("Message-Id", &format!("<{id}@{domain}>"));
    }
    if let Some(parent) = parent(config, data, id, thread, domain) {
        headers.raw("In-Reply-To", &parent);
        headers.raw("References", &parent);
    }
    headers.raw("Date", &date(data.now));
    headers.raw("MIME-Version", "1.0");
    let text = render("text", &config.text)?;
    let html = renderer
        .html(&config.html)
        .map_err(|reason| Failure::Permanent(format!("html: {reason}")))?;
    let boundary = format!("campanile-{id}");
    headers.raw(
        "Content-Type",
        &format!("multipart/alternative; boundary=\"{boundary}\""),
    );
    let mut message = headers.text;
    message.push_str("\r\n");
    for (kind, body) in [("text/plain", &text), ("text/html", &html)] {
        if !body.is_empty() {
            part(&mut message, &boundary, kind, body);
        }
    }
    let _ = write!(message, "--{boundary}--\r\n");
    Ok(Mail {
        from: sender.mailbox.clone(),
        to: to.into_iter().map(|address| address.mailbox).collect(),
        message: message.into_bytes(),
    })
}

/// Returns the Message-ID that this mail refers to: of the first mail of its thread; or, when threads end with the day, one
/// that stands for group and day.
fn parent(config: &EmailConfig, data: &Data, id: &str, thread: Option<&str>, domain: &str) -> Option<String> {
    if !config.threading {
        return None;
    }
    if config.thread_daily {
        let day = date(data.now).split(' ').skip(1).take(3).collect::<Vec<_>>().join("-");
        let group = xxhash_rust::xxh3::xxh3_64(data.group_key.as_bytes());
        return Some(format!("<alert-{group:016x}-{day}@{domain}>"));
    }
    thread
        .filter(|thread| *thread != id)
        .map(|thread| format!("<{thread}@{domain}>"))
}

fn part(message: &mut String, boundary: &str, kind: &str, body: &str) {
    let _ = write!(
        message,
        "--{boundary}\r\nContent-Type: {kind}; charset=UTF-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    );
    let body = cut(body);
    let encoded = STANDARD.encode(body.as_bytes());
    for line in encoded.as_bytes().chunks(BASE64_LINE) {
        message.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        message.push_str("\r\n");
    }
}

/// Cuts a body that no client would show at a character's edge.
fn cut(body: &str) -> std::borrow::Cow<'_, str> {
    if body.len() <= BODY_BYTES_MAX {
        return body.into();
    }
    let mut end = BODY_BYTES_MAX;
    while !body.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}\n\n[{} more bytes were cut]\n", &body[..end], body.len() - end).into()
}

/// A header block under construction.
#[derive(Default)]
struct Headers {
    text: String,
}

impl Headers {
    /// Adds a header whose value is ours and plain.
    fn raw(&mut self, name: &str, value: &str) {
        let _ = write!(self.text, "{name}: {value}\r\n");
    }

    /// Adds a header of any text: line breaks become spaces, what is not ASCII is encoded.
    fn add(&mut self, name: &str, value: &str) {
        let encoded = encode_words(value, name.len() + 2);
        self.raw(name, &encoded);
    }

    /// Replaces a header.
    fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.add(name, value);
    }

    fn add_addresses(&mut self, name: &str, list: &[Address]) {
        let texts: Vec<String> = list.iter().map(Address::header).collect();
        self.raw(name, &texts.join(",\r\n "));
    }

    fn set_addresses(&mut self, name: &str, list: &[Address]) {
        self.remove(name);
        self.add_addresses(name, list);
    }

    fn remove(&mut self, name: &str) {
        let mut kept = String::with_capacity(self.text.len());
        let mut dropping = false;
        for line in self.text.split_inclusive("\r\n") {
            if !line.starts_with(' ') {
                dropping = line
                    .split(':')
                    .next()
                    .is_some_and(|known| known.eq_ignore_ascii_case(name));
            }
            if !dropping {
                kept.push_str(line);
            }
        }
        self.text = kept;
    }
}

/// RFC 2047: plain ASCII stays, anything else becomes encoded words of at most 75 characters, folded.
fn encode_words(value: &str, used: usize) -> String {
    let clean: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.trim();
    let plain = clean.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && !clean.contains("=?");
    if plain {
        return fold(clean, used);
    }
    // 45 bytes of text become 60 of base64: with the frame, 72 characters.
    let mut words = Vec::new();
    let mut chunk = String::new();
    for c in clean.chars() {
        if chunk.len() + c.len_utf8() > 45 {
            words.push(std::mem::take(&mut chunk));
        }
        chunk.push(c);
    }
    words.push(chunk);
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("=?utf-8?b?{}?=", STANDARD.encode(word)))
        .collect();
    words.join("\r\n ")
}

/// Breaks a long plain header at spaces. A line without any is broken by force: SMTP allows 998 characters.
fn fold(text: &str, used: usize) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut column = used;
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            if column + 1 + word.len() > 78 && !word.is_empty() && column > 1 {
                out.push_str("\r\n ");
                column = 1;
            } else {
                out.push(' ');
                column += 1;
            }
        }
        for (number, piece) in word.as_bytes().chunks(900).enumerate() {
            if number > 0 {
                out.push_str("\r\n ");
                column = 1;
            }
            out.push_str(std::str::from_utf8(piece).expect("the text is ASCII"));
            column += piece.len();
        }
    }
    out
}

/// A mailbox, perhaps with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    name: String,
    mailbox: String,
}

impl Address {
    fn header(&self) -> String {
        if self.name.is_empty() {
            return self.mailbox.clone();
        }
        let ascii = self.name.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if ascii {
            let escaped = self.name.replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{escaped}\" <{}>", self.mailbox)
        } else {
            format!("{} <{}>", encode_words(&self.name, 0), self.mailbox)
        }
    }
}

/// Reads a list of addresses: `a@b`, `Name <a@b>`, `"Na, me" <a@b>`, separated by commas.
fn addresses(text: &str) -> Result<Vec<Address>, String> {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut list = Vec::new();
    for part in split_outside_quotes(&text) {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let (name, mailbox) = match (part.rfind('<'), part.ends_with('>')) {
            (Some(at), true) => (part[..at].trim(), &part[at + 1..part.len() - 1]),
            (None, false) => ("", part),
            _ => return Err(format!("{part:?} is not an address")),
        };
        let mailbox = mailbox.trim();
        let well_formed = mailbox.rsplit_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !mailbox.contains([' ', '<', '>', ',', ';', '"'])
        });
        if !well_formed {
            return Err(format!("{mailbox:?} is not an address"));
        }
        let unquoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
        let name = unquoted.map_or_else(
            || name.to_owned(),
            |name| name.replace("\\\"", "\"").replace("\\\\", "\\"),
        );
        list.push(Address {
            name,
            mailbox: mailbox.to_owned(),
        });
    }
    if list.is_empty() {
        return Err("no address".to_owned());
    }
    Ok(list)
}

fn split_outside_quotes(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// RFC 5322, in UTC.
fn date(at: Millis) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    jiff::fmt::rfc2822::to_string(&timestamp.to_zoned(TimeZone::UTC)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_with_and_without_names() {
        let read = addresses(r#"a@b.c, "Doe, Jane" <jane@x.y>,  Ops <ops@z>"#).unwrap();
        let shown: Vec<(&str, &str)> = read.iter().map(|a| (a.name.as_str(), a.mailbox.as_str())).collect();
        assert_eq!(shown, [("", "a@b.c"), ("Doe, Jane", "jane@x.y"), ("Ops", "ops@z")]);
        assert_eq!(read[1].header(), r#""Doe, Jane" <jane@x.y>"#);
        for text in ["", "nobody", "a@b c@d", "<a@b", "a@b>\r\nBcc: x@y"] {
            assert!(addresses(text).is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn a_date_is_written_as_mail_wants_it() {
        assert_eq!(date(Millis(1_700_000_000_000)), "Tue, 14 Nov 2023 22:13:20 +0000");
    }

    #[test]
    fn a_header_is_replaced_with_its_continuation_lines() {
        let mut headers = Headers::default();
        headers.raw("To", "a@b,\r\n c@d");
        headers.raw("From", "x@y");
        headers.set("to", "other");
        assert_eq!(headers.text, "From: x@y\r\nto: other\r\n");
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_header(value in "(.|\r|\n){0,400}") {
            let encoded = encode_words(&value, 9);
            for line in encoded.split("\r\n").skip(1) {
                prop_assert!(line.starts_with(' '), "{encoded:?}");
            }
            prop_assert!(encoded.split("\r\n").all(|line| line.len() < 998));
            prop_assert!(encoded.is_ascii() && !encoded.replace("\r\n", "").contains(['\r', '\n']));
        }

        #[test]
        fn no_text_makes_the_address_reader_panic(text in "(.|\r|\n){0,80}") {
            if let Ok(list) = addresses(&text) {
                prop_assert!(list.iter().all(|address| !address.header().replace("\r\n ", "").contains(['\r', '\n'])));
            }
        }
    }
}
