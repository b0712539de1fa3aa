//! Events in protobuf: the messages of `docs/events.proto`, with the names of the JSON fields.
//!
//! The list is walked by hand, event by event, so that a small body of empty messages cannot ask for much memory.

use std::borrow::Cow;
use std::collections::BTreeMap;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::{Batch, BodyError, Input, Sent, Value};
use crate::events::Field;

/// The field of the list in `Batch`.
const EVENTS: u32 = 1;
/// The field of the time of sending in `Batch`.
const SENT_AT: u32 = 2;

/// The message `Event`.
#[derive(Clone, PartialEq, Message)]
struct EventMessage {
    #[prost(string, optional, tag = "1")]
    event_id: Option<String>,
    #[prost(string, optional, tag = "2")]
    r#type: Option<String>,
    #[prost(int64, optional, tag = "3")]
    ts: Option<i64>,
    #[prost(int64, optional, tag = "4")]
    sent_at: Option<i64>,
    #[prost(int64, optional, tag = "5")]
    received_at: Option<i64>,
    #[prost(string, optional, tag = "6")]
    ad_id: Option<String>,
    #[prost(string, optional, tag = "7")]
    campaign_id: Option<String>,
    #[prost(string, optional, tag = "8")]
    advertiser_id: Option<String>,
    #[prost(string, optional, tag = "9")]
    publisher: Option<String>,
    #[prost(string, optional, tag = "10")]
    placement: Option<String>,
    #[prost(string, optional, tag = "11")]
    auction_id: Option<String>,
    #[prost(string, optional, tag = "12")]
    price: Option<String>,
    #[prost(string, optional, tag = "13")]
    revenue: Option<String>,
    #[prost(string, optional, tag = "14")]
    currency: Option<String>,
    #[prost(string, optional, tag = "15")]
    user_id: Option<String>,
    #[prost(string, optional, tag = "16")]
    ip: Option<String>,
    #[prost(string, optional, tag = "17")]
    ua: Option<String>,
    #[prost(string, optional, tag = "18")]
    country: Option<String>,
    #[prost(bool, optional, tag = "19")]
    webdriver: Option<bool>,
    #[prost(bool, optional, tag = "20")]
    consent: Option<bool>,
    #[prost(string, optional, tag = "21")]
    site: Option<String>,
    #[prost(string, optional, tag = "22")]
    url: Option<String>,
    #[prost(string, optional, tag = "23")]
    referrer: Option<String>,
    #[prost(string, optional, tag = "24")]
    title: Option<String>,
    #[prost(string, optional, tag = "25")]
    name: Option<String>,
    #[prost(btree_map = "string, string", tag = "26")]
    props: BTreeMap<String, String>,
    #[prost(string, optional, tag = "27")]
    screen: Option<String>,
    #[prost(string, optional, tag = "28")]
    lang: Option<String>,
}

impl EventMessage {
    fn into_sent(self) -> Sent<'static> {
        let mut sent = Sent::default();
        let texts = [
            (Input::Text(Field::EventId), self.event_id),
            (Input::Type, self.r#type),
            (Input::Text(Field::AdId), self.ad_id),
            (Input::Text(Field::CampaignId), self.campaign_id),
            (Input::Text(Field::AdvertiserId), self.advertiser_id),
            (Input::Text(Field::Publisher), self.publisher),
            (Input::Text(Field::Placement), self.placement),
            (Input::Text(Field::AuctionId), self.auction_id),
            (Input::Price, self.price),
            (Input::Revenue, self.revenue),
            (Input::Text(Field::Currency), self.currency),
            (Input::UserId, self.user_id),
            (Input::Ip, self.ip),
            (Input::Agent, self.ua),
            (Input::Text(Field::Country), self.country),
            (Input::Text(Field::Site), self.site),
            (Input::Text(Field::Url), self.url),
            (Input::Text(Field::Referrer), self.referrer),
            (Input::Text(Field::Title), self.title),
            (Input::Text(Field::Name), self.name),
            (Input::Text(Field::Screen), self.screen),
            (Input::Text(Field::Language), self.lang),
        ];
        for (input, text) in texts {
            sent.add(input, text.map_or(Value::Null, |text| Value::Text(Cow::Owned(text))));
        }
        for (input, number) in [
            (Input::Ts, self.ts),
            (Input::SentAt, self.sent_at),
            (Input::ReceivedAt, self.received_at),
        ] {
            sent.add(input, number.map_or(Value::Null, Value::Int));
        }
        for (input, flag) in [(Input::Webdriver, self.webdriver), (Input::Consent, self.consent)] {
            sent.add(input, flag.map_or(Value::Null, Value::Bool));
        }
        if !self.props.is_empty() {
            let text = serde_json::to_string(&self.props).expect("texts are always JSON");
            sent.add(Input::Text(Field::Props), Value::Object(Cow::Owned(text)));
        }
        sent
    }
}

/// Reads a `Batch`. An event whose bytes are no message is that event's flaw.
pub(super) fn decode(mut body: &[u8], max: usize) -> Result<Batch<'_>, BodyError> {
    let malformed = |what: &dyn std::fmt::Display| BodyError::Malformed(format!("malformed protobuf: {what}"));
    let mut batch = Batch::default();
    let mut sent = 0;
    while !body.is_empty() {
        let (tag, wire) = decode_key(&mut body).map_err(|error| malformed(&error))?;
        match (tag, wire) {
            (EVENTS, WireType::LengthDelimited) => {
                let len = decode_varint(&mut body).map_err(|error| malformed(&error))?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let bytes = body.split_off(..len).ok_or_else(|| malformed(&"an event is cut off"))?;
                sent += 1;
                if sent <= max {
                    let event = EventMessage::decode(bytes);
                    let flawed = |error| Sent::flawed(format!("malformed protobuf: {error}"));
                    batch.events.push(event.map_or_else(flawed, EventMessage::into_sent));
                }
            }
            (SENT_AT, WireType::Varint) => {
                let at = decode_varint(&mut body).map_err(|error| malformed(&error))?;
                batch.sent_at = Some(Value::Int(at.cast_signed()));
            }
            _ => return Err(malformed(&format_args!("field {tag} is none of a batch"))),
        }
    }
    if sent > max {
        return Err(BodyError::TooMany { max, sent });
    }
    Ok(batch)
}

/// Writes events as a `Batch`: the reverse of [`super::decode`] for inputs that protobuf has, for senders and tests.
/// Numbers that protobuf writes as text (price, revenue) become text.
pub fn encode(events: &[Sent<'_>], sent_at: Option<i64>) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        prost::encoding::message::encode(EVENTS, &message(event), &mut out);
    }
    if let Some(at) = sent_at {
        prost::encoding::int64::encode(SENT_AT, &at, &mut out);
    }
    out
}

fn message(event: &Sent<'_>) -> EventMessage {
    let text = |input| match event.get(input)? {
        Value::Text(text) | Value::Object(text) => Some(text.clone().into_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Other(_) => None,
    };
    let number = |input| match event.get(input)? {
        Value::Int(number) => Some(*number),
        _ => None,
    };
    let flag = |input| match event.get(input)? {
        Value::Bool(flag) => Some(*flag),
        _ => None,
    };
    let field = |field| text(Input::Text(field));
    let props = field(Field::Props).unwrap_or_default();
    EventMessage {
        event_id: field(Field::EventId),
        r#type: text(Input::Type),
        ts: number(Input::Ts),
        sent_at: number(Input::SentAt),
        received_at: number(Input::ReceivedAt),
        ad_id: field(Field::AdId),
        campaign_id: field(Field::CampaignId),
        advertiser_id: field(Field::AdvertiserId),
        publisher: field(Field::Publisher),
        placement: field(Field::Placement),
        auction_id: field(Field::AuctionId),
        price: text(Input::Price),
        revenue: text(Input::Revenue),
        currency: field(Field::Currency),
        user_id: text(Input::UserId),
        ip: text(Input::Ip),
        ua: text(Input::Agent),
        country: field(Field::Country),
        webdriver: flag(Input::Webdriver),
        consent: flag(Input::Consent),
        site: field(Field::Site),
        url: field(Field::Url),
        referrer: field(Field::Referrer),
        title: field(Field::Title),
        name: field(Field::Name),
        props: serde_json::from_str(&props).unwrap_or_default(),
        screen: field(Field::Screen),
        lang: field(Field::Language),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(ad: &str, ts: i64, webdriver: bool) -> Sent<'static> {
        let mut sent = Sent::default();
        sent.add(Input::Type, Value::Text("click".into()));
        sent.add(Input::Text(Field::AdId), Value::Text(ad.to_owned().into()));
        sent.add(Input::Price, Value::Text("0.25".into()));
        sent.add(Input::Ts, Value::Int(ts));
        sent.add(Input::Webdriver, Value::Bool(webdriver));
        sent.add(Input::Text(Field::Props), Value::Object(r#"{"a":"b"}"#.into()));
        sent
    }

    proptest! {
        #[test]
        fn batches_come_back(ads in proptest::collection::vec(("[a-z]{0,9}", any::<i64>(), any::<bool>()), 0..5)) {
            let events: Vec<Sent> = ads.iter().map(|(ad, ts, flag)| event(ad, *ts, *flag)).collect();
            let bytes = encode(&events, Some(-5));
            let batch = decode(&bytes, 10).unwrap();
            prop_assert_eq!(batch.sent_at, Some(Value::Int(-5)));
            prop_assert_eq!(batch.events, events);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, 10);
        }
    }

    #[test]
    fn cut_bytes_are_refused_and_a_bad_event_is_its_own() {
        let bytes = encode(&[event("x", 1, true)], None);
        for cut in 1..bytes.len() {
            assert!(decode(&bytes[..cut], 10).is_err(), "{cut}");
        }
        let batch = decode(&[0x0a, 0x02, 0x0a, 0x05, 0x0a, 0x00], 10).unwrap();
        assert!(batch.events[0].flaw.is_some() && batch.events[1].flaw.is_none());
        assert!(decode(&[0x1a, 0x00], 10).is_err());
    }

    #[test]
    fn many_empty_events_ask_for_no_memory() {
        let body = [0x0a, 0x00].repeat(1_000_000);
        let sent = 1_000_000;
        assert_eq!(decode(&body, 100), Err(BodyError::TooMany { max: 100, sent }));
    }
}
