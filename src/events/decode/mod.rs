//! From a request's bytes to events as they were sent: JSON, lines of JSON, protobuf. Says what is there, not what it means.
//!
//! A body that is none of these formats is an error as a whole; a mistake inside one event is that event's own
//! ([`Sent::flaw`]). Pure: no I/O, no clock. Counts are bounded before anything is kept.

mod json;
mod proto;

use std::borrow::Cow;

pub use proto::encode as encode_protobuf;

use super::Field;

/// The formats of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `{"events": [{…}, …]}`.
    Json,
    /// One event a line.
    Lines,
    /// The message `Batch` of `docs/events.proto`.
    Protobuf,
}

impl Format {
    /// Reads a `Content-Type`; browsers' beacons say `text/plain` and mean JSON.
    pub fn from_content_type(value: Option<&str>) -> Option<Format> {
        let kind = value.unwrap_or("application/json").split(';').next().unwrap_or("");
        match kind.trim().to_ascii_lowercase().as_str() {
            "application/json" | "text/plain" | "" => Some(Format::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/json-lines" => {
                Some(Format::Lines)
            }
            "application/x-protobuf" | "application/protobuf" => Some(Format::Protobuf),
            _ => None,
        }
    }
}

/// Why nothing of a body can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The bytes are not of the format.
    #[error("{0}")]
    Malformed(String),
    /// There are more events than the limit allows.
    #[error("over the limit events_per_request = {max}: {sent} were sent")]
    TooMany {
        /// The limit.
        max: usize,
        /// How many there are.
        sent: usize,
    },
}

/// A body's events as they were sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch<'a> {
    /// The events, in order.
    pub events: Vec<Sent<'a>>,
    /// When the body was sent, by the sender's clock, for events that do not say it themselves.
    pub sent_at: Option<Value<'a>>,
}

/// One event as it was sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sent<'a> {
    /// What it says, in the order it says it; every input at most once.
    pub fields: Vec<(Input, Value<'a>)>,
    /// What is wrong with its form: the field (empty = the event as a whole) and the reason.
    pub flaw: Option<(String, String)>,
    /// The bytes of its texts.
    pub bytes: usize,
}

/// A value as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing: as if the field were absent.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction, or beyond 64 bits.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// Properties: the text of a JSON object.
    Object(Cow<'a, str>),
    /// Something that no field takes: a list, an object.
    Other(&'static str),
}

/// What an event may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// What happened.
    Type,
    /// When it happened.
    Ts,
    /// When it was sent.
    SentAt,
    /// When another edge received it.
    ReceivedAt,
    /// What it costs.
    Price,
    /// What it earned.
    Revenue,
    /// Who.
    UserId,
    /// From which address.
    Ip,
    /// With which program.
    Agent,
    /// Whether a program drives the browser.
    Webdriver,
    /// Whether the person agreed to be followed.
    Consent,
    /// Any other text.
    Text(Field),
}

/// Texts that a sender may give; the others are found out by the server.
const SENT_TEXTS: [Field; 16] = [
    Field::EventId,
    Field::AdId,
    Field::CampaignId,
    Field::AdvertiserId,
    Field::Publisher,
    Field::Placement,
    Field::AuctionId,
    Field::Currency,
    Field::Site,
    Field::Url,
    Field::Referrer,
    Field::Title,
    Field::Name,
    Field::Props,
    Field::Screen,
    Field::Language,
];

impl Input {
    /// Returns the input of that name.
    pub fn from_name(name: &str) -> Option<Input> {
        Some(match name {
            "type" => Input::Type,
            "ts" => Input::Ts,
            "sent_at" => Input::SentAt,
            "received_at" => Input::ReceivedAt,
            "price" => Input::Price,
            "revenue" => Input::Revenue,
            "user_id" => Input::UserId,
            "ip" => Input::Ip,
            "ua" => Input::Agent,
            "webdriver" => Input::Webdriver,
            "consent" => Input::Consent,
            "country" => Input::Text(Field::Country),
            _ => {
                let field = SENT_TEXTS.into_iter().find(|field| field.name() == name)?;
                Input::Text(field)
            }
        })
    }

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Input::Type => "type",
            Input::Ts => "ts",
            Input::SentAt => "sent_at",
            Input::ReceivedAt => "received_at",
            Input::Price => "price",
            Input::Revenue => "revenue",
            Input::UserId => "user_id",
            Input::Ip => "ip",
            Input::Agent => "ua",
            Input::Webdriver => "webdriver",
            Input::Consent => "consent",
            Input::Text(field) => field.name(),
        }
    }
}

impl<'a> Sent<'a> {
    /// Adds what the event says; a second word on the same input is a flaw.
    pub fn add(&mut self, input: Input, value: Value<'a>) {
        if value == Value::Null {
            return;
        }
        if self.fields.iter().any(|(known, _)| *known == input) {
            self.blame(input.name(), "is there twice");
            return;
        }
        self.bytes += 8 + match &value {
            Value::Text(text) | Value::Object(text) => text.len(),
            _ => 0,
        };
        self.fields.push((input, value));
    }

    /// Returns what the event says about `input`.
    pub fn get(&self, input: Input) -> Option<&Value<'a>> {
        let found = self.fields.iter().find(|(known, _)| *known == input);
        found.map(|(_, value)| value)
    }

    fn blame(&mut self, field: &str, reason: impl Into<String>) {
        let name = field.chars().take(64).collect();
        self.flaw.get_or_insert_with(|| (name, reason.into()));
    }

    fn flawed(reason: impl Into<String>) -> Sent<'a> {
        let mut sent = Sent::default();
        sent.blame("", reason);
        sent
    }
}

/// Reads a body, at most `max` events of it.
///
/// # Errors
/// [`BodyError`]; nothing of the body counts then.
pub fn decode(format: Format, body: &[u8], max: usize) -> Result<Batch<'_>, BodyError> {
    match format {
        Format::Json => json::envelope(body, max),
        Format::Lines => json::lines(body, max),
        Format::Protobuf => proto::decode(body, max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_is_found_by_its_name_and_what_the_server_finds_out_is_none() {
        for name in [
            "type", "ts", "ip", "ua", "user_id", "country", "event_id", "props", "lang",
        ] {
            assert_eq!(Input::from_name(name).unwrap().name(), name);
        }
        for name in ["ip_prefix", "browser", "sender", "path", "id", ""] {
            assert_eq!(Input::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn content_types_are_told_apart() {
        for (value, format) in [
            (None, Some(Format::Json)),
            (Some("application/json; charset=utf-8"), Some(Format::Json)),
            (Some("text/plain;charset=UTF-8"), Some(Format::Json)),
            (Some("application/x-ndjson"), Some(Format::Lines)),
            (Some("application/x-protobuf"), Some(Format::Protobuf)),
            (Some("text/html"), None),
        ] {
            assert_eq!(Format::from_content_type(value), format, "{value:?}");
        }
    }
}
