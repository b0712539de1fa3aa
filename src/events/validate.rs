//! Checks: does an event say all it must, in a form that has one meaning. What is wrong is refused by field and reason,
//! nothing is guessed. Also corrects the time by what the sender's clock is off.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;

use super::decode::{Batch, Input, Sent, Value};
use super::draft::{Arrival, Draft, Sender};
use super::event::FIELDS;
use super::{DoNotTrack, EventId, EventsConfig, Field, Kind, Micros, Reason, Reasons, Rejection};
use crate::model::{Interval, Millis};

/// The earliest time that can be meant in milliseconds: before it, seconds were sent.
const MILLIS_MIN: u64 = 100_000_000_000;

/// Checks the events of a batch.
pub(super) struct Validator<'c> {
    pub(super) config: &'c EventsConfig,
    pub(super) arrival: &'c Arrival,
    /// When the batch was sent, for events that do not say it.
    sent_at: Result<Option<Millis>, String>,
    /// Whether the sender's token speaks for other edges.
    is_edge: bool,
}

impl<'c> Validator<'c> {
    pub(super) fn new(config: &'c EventsConfig, arrival: &'c Arrival, batch: &Batch<'_>) -> Validator<'c> {
        let is_edge = match &arrival.sender {
            Sender::Token(token) => config.key(token).is_some_and(|key| key.edge),
            Sender::Site(_) | Sender::Link => false,
        };
        Validator {
            config,
            arrival,
            sent_at: batch.sent_at.as_ref().map(time).transpose(),
            is_edge,
        }
    }

    /// Checks one event.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub(super) fn check<'a>(&self, index: usize, sent: &Sent<'a>) -> Result<Draft<'a>, Rejection> {
        let event = One { all: self, index, sent };
        if let Some((field, reason)) = &sent.flaw {
            return Err(event.wrong(field, reason.clone()));
        }
        let max = self.config.limits.event_bytes;
        if sent.bytes > max {
            return Err(event.wrong(
                "",
                format!("over the limit event_bytes = {max}: {} were sent", sent.bytes),
            ));
        }
        event.draft()
    }
}

/// One event under examination.
struct One<'v, 'c, 'a> {
    all: &'v Validator<'c>,
    index: usize,
    sent: &'v Sent<'a>,
}

impl<'a> One<'_, '_, 'a> {
    fn draft(&self) -> Result<Draft<'a>, Rejection> {
        let kind = self.kind()?;
        let (at, stamped, received, mut reasons) = self.times()?;
        let arrival = self.all.arrival;
        let from_token = matches!(arrival.sender, Sender::Token(_));
        if self.private()? {
            reasons |= Reason::Private.into();
        }
        let mut draft = Draft {
            kind,
            at,
            stamped,
            received,
            reasons,
            price: self.money(Input::Price)?,
            revenue: self.money(Input::Revenue)?.unwrap_or_default(),
            user_id: self.id(Input::UserId)?,
            ip: self.ip()?,
            agent: self.agent()?,
            webdriver: self.flag(Input::Webdriver)?.unwrap_or(false),
            texts: [const { Cow::Borrowed("") }; FIELDS],
        };
        for (input, _) in &self.sent.fields {
            if let Input::Text(field) = *input {
                draft.set(field, self.text_of(field)?);
            }
        }
        if !from_token {
            self.check_page(&draft)?;
        }
        if let Sender::Site(site) = &arrival.sender {
            draft.fill(Field::Site, &site.name);
        }
        if draft.text(Field::EventId).is_empty() {
            draft.set(Field::EventId, self.derived_id()?);
        }
        draft.set(Field::Sender, arrival.sender.name().to_owned());
        self.check_whole(&draft)?;
        Ok(draft)
    }

    fn wrong(&self, field: &str, reason: impl Into<String>) -> Rejection {
        Rejection::named(self.index, field, reason)
    }

    fn kind(&self) -> Result<Kind, Rejection> {
        let text = self.text(Input::Type)?;
        if text.is_empty() {
            return Err(self.wrong("type", "is missing"));
        }
        let known = || Kind::ALL.map(Kind::name).join(", ");
        Kind::from_name(&text).ok_or_else(|| self.wrong("type", format!("{text:?} is none of {}", known())))
    }

    /// Returns when it happened, when the sender says it did, when it was received, and whether the first differ.
    fn times(&self) -> Result<(Millis, Millis, Millis, Reasons), Rejection> {
        let limits = &self.all.config.limits;
        let stamped = self.time(Input::Ts)?.ok_or_else(|| self.wrong("ts", "is missing"))?;
        let received = match self.time(Input::ReceivedAt)? {
            Some(_) if !self.all.is_edge => {
                return Err(self.wrong(
                    "received_at",
                    "is believed only from a token that is configured as an edge",
                ));
            }
            Some(at) if at > self.all.arrival.received.saturating_add(limits.future) => {
                return Err(self.wrong("received_at", "is in the future"));
            }
            received => received.unwrap_or(self.all.arrival.received),
        };
        let sent_at = match self.time(Input::SentAt)? {
            Some(at) => Some(at),
            None => self
                .all
                .sent_at
                .clone()
                .map_err(|reason| self.wrong("sent_at", reason))?,
        };
        let skew = sent_at.map_or(Interval::ZERO, |sent_at| Interval(received.0.saturating_sub(sent_at.0)));
        let (at, reasons) = match skew.0.saturating_abs() > limits.clock_skew.0 {
            true => (stamped.saturating_add(skew), Reason::ClockCorrected.into()),
            false => (stamped, Reasons::NONE),
        };
        if at > received.saturating_add(limits.future) {
            let reason = format!(
                "is {} ahead of the server, {} are allowed",
                at - received,
                limits.future
            );
            return Err(self.wrong("ts", reason));
        }
        if at < received.saturating_sub(self.all.config.retention.raw) {
            let hint = match stamped.0.unsigned_abs() < MILLIS_MIN {
                true => "; it is in milliseconds, were seconds sent?",
                false => "",
            };
            let reason = format!("is older than retention.raw = {}{hint}", self.all.config.retention.raw);
            return Err(self.wrong("ts", reason));
        }
        Ok((at, stamped, received, reasons))
    }

    /// Whether the person asked not to be followed, and the site heeds it.
    fn private(&self) -> Result<bool, Rejection> {
        let refuses = self.flag(Input::Consent)? == Some(false);
        let asked = self.all.arrival.asks_privacy || refuses;
        match &self.all.arrival.sender {
            Sender::Token(_) => Ok(refuses),
            Sender::Link => Ok(asked),
            Sender::Site(site) => match site.do_not_track {
                DoNotTrack::Ignore => Ok(false),
                DoNotTrack::Drop if asked => Err(self.wrong("", "the visitor asked not to be followed")),
                DoNotTrack::Drop | DoNotTrack::Count => Ok(asked),
            },
        }
    }

    fn ip(&self) -> Result<Option<IpAddr>, Rejection> {
        let text = self.text(Input::Ip)?;
        match (&self.all.arrival.sender, text.is_empty()) {
            (Sender::Site(_) | Sender::Link, true) => Ok(self.all.arrival.ip),
            (Sender::Site(_) | Sender::Link, false) => Err(self.wrong("ip", "is believed only from a token")),
            (Sender::Token(_), true) => Ok(None),
            (Sender::Token(_), false) => {
                let ip: IpAddr = text.parse().map_err(|_| self.wrong("ip", "is no address"))?;
                Ok(Some(ip.to_canonical()))
            }
        }
    }

    fn agent(&self) -> Result<Cow<'a, str>, Rejection> {
        let text = self.limited(Input::Agent, self.all.config.limits.text_bytes)?;
        match (&self.all.arrival.sender, text.is_empty()) {
            (Sender::Site(_) | Sender::Link, true) => Ok(Cow::Owned(self.all.arrival.agent.clone())),
            (Sender::Site(_) | Sender::Link, false) => Err(self.wrong("ua", "is believed only from a token")),
            (Sender::Token(_), _) => Ok(text),
        }
    }

    /// What a page without a token may not say.
    fn check_page(&self, draft: &Draft<'_>) -> Result<(), Rejection> {
        let only = |field: &str| Err(self.wrong(field, "is believed only from a token"));
        if draft.kind == Kind::Conversion {
            return only("type");
        }
        if draft.price.is_some() {
            return only("price");
        }
        if draft.kind.is_ad() && draft.revenue != Micros::ZERO {
            return only("revenue");
        }
        if !draft.text(Field::Country).is_empty() {
            return only("country");
        }
        let site = draft.text(Field::Site);
        let own = match &self.all.arrival.sender {
            Sender::Site(own) => own.name.as_str(),
            Sender::Token(_) | Sender::Link => "",
        };
        if !site.is_empty() && site != own {
            return Err(self.wrong("site", "is not the site that the page's origin belongs to"));
        }
        Ok(())
    }

    /// What events of a kind must say.
    fn check_whole(&self, draft: &Draft<'_>) -> Result<(), Rejection> {
        let needs: &[Field] = match draft.kind {
            Kind::Impression | Kind::Click | Kind::Conversion => &[Field::AdId],
            Kind::Pageview => &[Field::Site, Field::Url],
            Kind::Custom => &[Field::Site, Field::Name],
            Kind::Engagement | Kind::Vitals => &[Field::Site, Field::Url],
        };
        if let Some(missing) = needs.iter().find(|field| draft.text(**field).is_empty()) {
            let reason = format!("is missing; an event of type {} has one", draft.kind.name());
            return Err(self.wrong(missing.name(), reason));
        }
        let currency = &self.all.config.currency.0;
        let said = draft.text(Field::Currency);
        if !said.is_empty() && said != currency {
            let reason = format!("is {said:?}, this server counts in {currency} (events.currency)");
            return Err(self.wrong("currency", reason));
        }
        Ok(())
    }

    /// The name of an event that has none of its own: its place in a request that has a name.
    fn derived_id(&self) -> Result<String, Rejection> {
        let arrival = self.all.arrival;
        let Some(key) = &arrival.idempotency_key else {
            let reason = "is missing; without it or a header Idempotency-Key a retry would count twice";
            return Err(self.wrong("event_id", reason));
        };
        let text = format!("{}\0{key}\0{}", arrival.sender.name(), self.index);
        Ok(format!("k-{}", EventId::of(&text)))
    }

    /// Returns a text field, in the form that is stored.
    fn text_of(&self, field: Field) -> Result<Cow<'a, str>, Rejection> {
        let limits = &self.all.config.limits;
        let input = Input::Text(field);
        match field {
            Field::EventId => self.named(input, limits.event_id_bytes),
            Field::Props => self.props(),
            Field::Country => {
                let text = self.text(input)?;
                let is_code = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
                match is_code || text.is_empty() {
                    true => Ok(Cow::Owned(text.to_ascii_uppercase())),
                    false => Err(self.wrong("country", "has two letters, as in ISO 3166")),
                }
            }
            Field::Url | Field::Title | Field::Referrer | Field::Name => self.limited(input, limits.text_bytes),
            _ => self.named(input, limits.id_bytes),
        }
    }

    /// Returns an identifier: a text without control characters and spaces around it.
    fn named(&self, input: Input, max: usize) -> Result<Cow<'a, str>, Rejection> {
        let text = self.limited(input, max)?;
        match text.trim() != text || text.chars().any(char::is_control) {
            true => Err(self.wrong(input.name(), "has spaces around it or control characters in it")),
            false => Ok(text),
        }
    }

    fn id(&self, input: Input) -> Result<Cow<'a, str>, Rejection> {
        self.named(input, self.all.config.limits.id_bytes)
    }

    fn limited(&self, input: Input, max: usize) -> Result<Cow<'a, str>, Rejection> {
        let text = self.text(input)?;
        match text.len() > max {
            true => Err(self.wrong(
                input.name(),
                format!("has {} bytes, at most {max} are taken", text.len()),
            )),
            false => Ok(text),
        }
    }

    /// Returns a text; empty when it is absent.
    fn text(&self, input: Input) -> Result<Cow<'a, str>, Rejection> {
        match self.sent.get(input) {
            None | Some(Value::Null) => Ok(Cow::Borrowed("")),
            Some(Value::Text(text)) => Ok(text.clone()),
            Some(other) => Err(self.wrong(input.name(), format!("is {}, not a text", what(other)))),
        }
    }

    fn flag(&self, input: Input) -> Result<Option<bool>, Rejection> {
        match self.sent.get(input) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(input.name(), format!("is {}, not true or false", what(other)))),
        }
    }

    fn time(&self, input: Input) -> Result<Option<Millis>, Rejection> {
        let value = self.sent.get(input);
        let time = value.filter(|value| **value != Value::Null).map(time).transpose();
        time.map_err(|reason| self.wrong(input.name(), reason))
    }

    fn money(&self, input: Input) -> Result<Option<Micros>, Rejection> {
        let text = match self.sent.get(input) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Int(number)) => number.to_string(),
            // The shortest digits that mean the double are the digits that were sent, up to fifteen of them.
            Some(Value::Float(number)) => number.to_string(),
            Some(Value::Text(text)) => text.clone().into_owned(),
            Some(other) => return Err(self.wrong(input.name(), format!("is {}, not a number", what(other)))),
        };
        let amount = text.parse::<Micros>();
        amount
            .map(Some)
            .map_err(|error| self.wrong(input.name(), error.to_string()))
    }

    /// Returns the properties, written tightly: an object of scalars.
    fn props(&self) -> Result<Cow<'a, str>, Rejection> {
        let limits = &self.all.config.limits;
        let text = match self.sent.get(Input::Text(Field::Props)) {
            None | Some(Value::Null) => return Ok(Cow::Borrowed("")),
            Some(Value::Object(text)) => text,
            Some(other) => return Err(self.wrong("props", format!("is {}, not an object", what(other)))),
        };
        if text.len() > limits.text_bytes {
            let reason = format!("has {} bytes, at most {} are taken", text.len(), limits.text_bytes);
            return Err(self.wrong("props", reason));
        }
        let props = Props::deserialize(&mut serde_json::Deserializer::from_str(text));
        let Props(props) = props.map_err(|error| self.wrong("props", format!("is no object of scalars: {error}")))?;
        if props.len() > limits.props {
            let reason = format!("has {} properties, at most {} are taken", props.len(), limits.props);
            return Err(self.wrong("props", reason));
        }
        Ok(Cow::Owned(
            serde_json::to_string(&props).expect("scalars are always JSON"),
        ))
    }
}

/// An object of scalars, sorted by name.
struct Props(std::collections::BTreeMap<String, serde_json::Value>);

impl<'de> Deserialize<'de> for Props {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Props, D::Error> {
        use serde::de::Error;
        let props: std::collections::BTreeMap<String, serde_json::Value> = Deserialize::deserialize(deserializer)?;
        match props.iter().find(|(_, value)| value.is_object() || value.is_array()) {
            Some((name, _)) => Err(D::Error::custom(format!("{name:?} is a list or an object"))),
            None => Ok(Props(props)),
        }
    }
}

/// Names a value's form.
fn what(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::Float(_) => "a number",
        Value::Text(_) => "a text",
        Value::Object(_) => "an object",
        Value::Other(what) => what,
    }
}

/// Reads a time: whole milliseconds since the epoch, or RFC 3339 with a zone.
fn time(value: &Value<'_>) -> Result<Millis, String> {
    match value {
        Value::Int(millis) => Ok(Millis(*millis)),
        Value::Text(text) => {
            let at: Result<jiff::Timestamp, _> = text.parse();
            at.map(|at| Millis(at.as_millisecond()))
                .map_err(|_| "is no time like 2026-11-22T07:00:00Z".to_owned())
        }
        other => Err(format!("is {}, not whole milliseconds or RFC 3339", what(other))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::decode::{Format, decode};
    use super::super::{SiteConfig, draft::Sender};
    use super::*;

    const NOW: i64 = 1_763_800_000_000;

    fn arrival(sender: Sender) -> Arrival {
        Arrival {
            received: Millis(NOW),
            sender,
            ip: Some("198.51.100.7".parse().unwrap()),
            agent: "Mozilla/5.0".to_owned(),
            asks_privacy: false,
            idempotency_key: None,
        }
    }

    fn token() -> Arrival {
        arrival(Sender::Token("backend".to_owned()))
    }

    fn site(do_not_track: DoNotTrack) -> Arrival {
        arrival(Sender::Site(Arc::new(SiteConfig {
            name: "shop".to_owned(),
            origins: vec!["https://shop.example".to_owned()],
            do_not_track,
        })))
    }

    fn check(arrival: &Arrival, line: &str) -> Result<Draft<'static>, String> {
        let config: EventsConfig = serde_yaml::from_str("keys: [{token: edge, edge: true}]").unwrap();
        let line: &'static str = line.replace("NOW", &NOW.to_string()).leak();
        let batch = decode(Format::Lines, line.as_bytes(), 10).unwrap();
        let checked = Validator::new(&config, arrival, &batch).check(3, &batch.events[0]);
        checked.map_err(|error| {
            assert_eq!(error.index, 3);
            format!("{}: {}", error.field, error.reason)
        })
    }

    #[test]
    fn a_click_of_a_backend_says_all_by_itself() {
        let line =
            r#"{"event_id":"e1","type":"click","ts":NOW,"ad_id":"a","price":0.25,"user_id":"u","ip":"203.0.113.9",
            "ua":"curl/8","country":"de","props":{"b":1,"a":"x"}}"#
                .replace('\n', " ");
        let draft = check(&token(), &line).unwrap();
        assert_eq!(
            (draft.kind, draft.at, draft.price),
            (Kind::Click, Millis(NOW), Some(Micros(250_000)))
        );
        assert_eq!(draft.ip, Some("203.0.113.9".parse().unwrap()));
        assert_eq!(
            (draft.text(Field::Country), draft.text(Field::Sender)),
            ("DE", "backend")
        );
        assert_eq!(draft.text(Field::Props), r#"{"a":"x","b":1}"#);
        let bare = check(&token(), r#"{"event_id":"e1","type":"click","ts":NOW,"ad_id":"a"}"#).unwrap();
        assert_eq!(
            (bare.ip, &*bare.agent),
            (None, ""),
            "the backend's own address is nobody's"
        );
    }

    #[test]
    fn a_page_is_believed_about_little() {
        let draft = check(
            &site(DoNotTrack::Count),
            r#"{"event_id":"e","type":"click","ts":NOW,"ad_id":"a"}"#,
        )
        .unwrap();
        assert_eq!((draft.text(Field::Site), &*draft.agent), ("shop", "Mozilla/5.0"));
        assert_eq!(draft.ip, Some("198.51.100.7".parse().unwrap()));
        for (rest, error) in [
            (r#""type":"conversion""#, "type: is believed only from a token"),
            (r#""type":"click","price":1"#, "price: is believed only from a token"),
            (
                r#""type":"click","revenue":1"#,
                "revenue: is believed only from a token",
            ),
            (r#""type":"click","ip":"1.1.1.1""#, "ip: is believed only from a token"),
            (
                r#""type":"click","country":"DE""#,
                "country: is believed only from a token",
            ),
            (r#""type":"click","site":"other""#, "site: is not the site"),
        ] {
            let line = format!(r#"{{"event_id":"e","ts":NOW,"ad_id":"a",{rest}}}"#);
            let found = check(&site(DoNotTrack::Count), &line).unwrap_err();
            assert!(found.starts_with(error), "{found}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_field() {
        for (line, error) in [
            (r#"{}"#, "type: is missing"),
            (r#"{"type":"klick"}"#, "type: \"klick\" is none of impression, click"),
            (r#"{"type":"click"}"#, "ts: is missing"),
            (
                r#"{"type":"click","ts":1.5}"#,
                "ts: is a number, not whole milliseconds",
            ),
            (r#"{"type":"click","ts":"yesterday"}"#, "ts: is no time"),
            (
                r#"{"type":"click","ts":1763800000}"#,
                "ts: is older than retention.raw = 30d; it is in milliseconds",
            ),
            (r#"{"type":"click","ts":9223372036854775807}"#, "ts: is "),
            (
                r#"{"type":"click","ts":-9223372036854775808,"sent_at":9223372036854775807}"#,
                "ts: is older",
            ),
            (
                r#"{"type":"click","ts":NOW,"ad_id":"a"}"#,
                "event_id: is missing; without it",
            ),
            (
                r#"{"type":"click","ts":NOW,"event_id":"e"}"#,
                "ad_id: is missing; an event of type click",
            ),
            (
                r#"{"type":"click","ts":NOW,"event_id":7}"#,
                "event_id: is a number, not a text",
            ),
            (
                r#"{"type":"click","ts":NOW,"event_id":"e","ad_id":" a"}"#,
                "ad_id: has spaces around",
            ),
            (
                r#"{"type":"pageview","ts":NOW,"event_id":"e","site":"s"}"#,
                "url: is missing",
            ),
            (
                r#"{"type":"event","ts":NOW,"event_id":"e","site":"s"}"#,
                "name: is missing",
            ),
            (r#"{"type":"click","ts":NOW,"price":-1}"#, "price: is negative"),
            (
                r#"{"type":"click","ts":NOW,"price":1e-9}"#,
                "price: has more than 6 decimal places",
            ),
            (
                r#"{"type":"click","ts":NOW,"price":1e300}"#,
                "price: is more than 10000000",
            ),
            (r#"{"type":"click","ts":NOW,"ip":"1.2.3"}"#, "ip: is no address"),
            (
                r#"{"type":"click","ts":NOW,"country":"DEU"}"#,
                "country: has two letters",
            ),
            (
                r#"{"type":"click","ts":NOW,"props":{"a":[]}}"#,
                "props: is no object of scalars",
            ),
            (
                r#"{"type":"click","ts":NOW,"webdriver":"no"}"#,
                "webdriver: is a text, not true or false",
            ),
            (
                r#"{"type":"click","ts":NOW,"received_at":5}"#,
                "received_at: is believed only",
            ),
            (
                r#"{"type":"click","ts":NOW,"event_id":"e","ad_id":"a","currency":"EUR"}"#,
                "currency: is \"EUR\"",
            ),
        ] {
            let found = check(&token(), line).unwrap_err();
            assert!(found.starts_with(error), "{line}: {found}");
        }
        let long = format!(r#"{{"type":"click","ts":NOW,"event_id":"{}"}}"#, "x".repeat(65));
        assert!(check(&token(), &long).unwrap_err().contains("has 65 bytes, at most 64"));
    }

    #[test]
    fn a_wrong_clock_is_corrected_by_the_time_of_sending() {
        let line = |ts: i64, sent: i64| {
            format!(
                r#"{{"event_id":"e","type":"click","ad_id":"a","ts":{},"sent_at":{}}}"#,
                NOW + ts,
                NOW + sent
            )
        };
        let draft = check(&token(), &line(-1000, -20_000)).unwrap();
        assert_eq!(
            (draft.at, draft.reasons),
            (Millis(NOW - 1000), Reasons::NONE),
            "20 s are a slow network"
        );
        let draft = check(&token(), &line(3_595_000, 3_600_000)).unwrap();
        assert_eq!((draft.at, draft.stamped), (Millis(NOW - 5000), Millis(NOW + 3_595_000)));
        assert!(draft.reasons.has(Reason::ClockCorrected));
        let error = check(&token(), &line(3_595_000, 0)).unwrap_err();
        assert!(error.starts_with("ts: is 59m55s ahead of the server, 1m"), "{error}");
    }

    #[test]
    fn an_edge_says_when_it_received_and_others_do_not() {
        let line = format!(
            r#"{{"event_id":"e","type":"click","ad_id":"a","ts":{0},"sent_at":{0},"received_at":{0}}}"#,
            NOW - 600_000
        );
        let edge = arrival(Sender::Token("edge".to_owned()));
        assert_eq!(check(&edge, &line).unwrap().at, Millis(NOW - 600_000));
        assert!(check(&token(), &line).unwrap_err().starts_with("received_at"));
    }

    #[test]
    fn a_named_request_names_its_events() {
        let named = Arrival {
            idempotency_key: Some("order-7".to_owned()),
            ..token()
        };
        let line = r#"{"type":"click","ts":NOW,"ad_id":"a"}"#;
        let id = check(&named, line).unwrap().text(Field::EventId).to_owned();
        assert!(id.starts_with("k-") && id.len() == 34);
        assert_eq!(check(&named, line).unwrap().text(Field::EventId), id);
    }

    #[test]
    fn a_wish_for_privacy_does_what_the_site_chose() {
        let line = r#"{"event_id":"e","type":"click","ts":NOW,"ad_id":"a"}"#;
        let asks = |policy| Arrival {
            asks_privacy: true,
            ..site(policy)
        };
        assert!(check(&asks(DoNotTrack::Count), line).unwrap().is_private());
        assert!(!check(&asks(DoNotTrack::Ignore), line).unwrap().is_private());
        assert!(
            check(&asks(DoNotTrack::Drop), line)
                .unwrap_err()
                .contains("asked not to be followed")
        );
        assert!(!check(&site(DoNotTrack::Drop), line).unwrap().is_private());
        let refused = r#"{"event_id":"e","type":"click","ts":NOW,"ad_id":"a","consent":false}"#;
        assert!(check(&token(), refused).unwrap().is_private());
    }
}
