//! Events in JSON: one document with a list, or one event a line.
//!
//! One pass, texts borrowed from the body where they have no escapes. A wrong type or an unknown field blames its event
//! only; broken syntax in a document blames all of it, in a line that line.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Batch, BodyError, Input, Sent, Value};
use crate::events::Field;

/// Reads `{"events": […], "sent_at": …}`.
pub(super) fn envelope(body: &[u8], max: usize) -> Result<Batch<'_>, BodyError> {
    let malformed = |error: serde_json::Error| BodyError::Malformed(format!("malformed JSON: {error}"));
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = (&mut reader)
        .deserialize_map(EnvelopeVisitor { max })
        .map_err(malformed)?;
    reader.end().map_err(malformed)?;
    if read.sent > max {
        return Err(BodyError::TooMany { max, sent: read.sent });
    }
    Ok(read.batch)
}

/// Reads one event a line; empty lines are nothing.
pub(super) fn lines(body: &[u8], max: usize) -> Result<Batch<'_>, BodyError> {
    let filled = || {
        let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty())
    };
    let sent = filled().count();
    if sent > max {
        return Err(BodyError::TooMany { max, sent });
    }
    let event =
        |line| serde_json::from_slice(line).unwrap_or_else(|error| Sent::flawed(format!("malformed JSON: {error}")));
    Ok(Batch {
        events: filled().map(event).collect(),
        sent_at: None,
    })
}

struct Read<'a> {
    batch: Batch<'a>,
    sent: usize,
}

struct EnvelopeVisitor {
    max: usize,
}

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Read<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list of events: {\"events\": [...]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read<'de>, A::Error> {
        let mut read = None;
        let mut sent_at = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "events" if read.is_none() => read = Some(map.next_value_seed(ListSeed { max: self.max })?),
                "sent_at" if sent_at.is_none() => sent_at = Some(map.next_value::<Value<'de>>()?),
                "events" | "sent_at" => return Err(A::Error::custom(format!("{key:?} is there twice"))),
                _ => {
                    return Err(A::Error::custom(format!(
                        "unknown key {key:?}: events and sent_at are known"
                    )));
                }
            }
        }
        let (events, sent) = read.ok_or_else(|| A::Error::missing_field("events"))?;
        let sent_at = sent_at.filter(|value| *value != Value::Null);
        Ok(Read {
            batch: Batch { events, sent_at },
            sent,
        })
    }
}

struct ListSeed {
    max: usize,
}

impl<'de> DeserializeSeed<'de> for ListSeed {
    type Value = (Vec<Sent<'de>>, usize);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListSeed {
    type Value = (Vec<Sent<'de>>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut events = Vec::new();
        while events.len() < self.max {
            match list.next_element()? {
                Some(event) => events.push(event),
                None => {
                    let sent = events.len();
                    return Ok((events, sent));
                }
            }
        }
        let mut sent = events.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            sent += 1;
        }
        Ok((events, sent))
    }
}

impl<'de> Deserialize<'de> for Sent<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sent<'de>, D::Error> {
        deserializer.deserialize_any(EventVisitor)
    }
}

struct EventVisitor;

impl EventVisitor {
    fn no_object<'a, E>(self) -> Result<Sent<'a>, E> {
        Ok(Sent::flawed("is no object"))
    }
}

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Sent<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sent<'de>, A::Error> {
        let mut sent = Sent::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match Input::from_name(&key) {
                Some(input @ Input::Text(Field::Props)) => {
                    let raw: &'de RawValue = map.next_value()?;
                    let value = match raw.get() {
                        "null" => Value::Null,
                        text if text.starts_with('{') => Value::Object(Cow::Borrowed(text)),
                        _ => Value::Other("no object"),
                    };
                    sent.add(input, value);
                }
                Some(input) => {
                    let value = map.next_value()?;
                    sent.add(input, value);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                    sent.blame(&key, "is no field of an event");
                }
            }
        }
        Ok(sent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sent<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        self.no_object()
    }

    fn visit_bool<E>(self, _: bool) -> Result<Sent<'de>, E> {
        self.no_object()
    }

    fn visit_i64<E>(self, _: i64) -> Result<Sent<'de>, E> {
        self.no_object()
    }

    fn visit_u64<E>(self, _: u64) -> Result<Sent<'de>, E> {
        self.no_object()
    }

    fn visit_f64<E>(self, _: f64) -> Result<Sent<'de>, E> {
        self.no_object()
    }

    fn visit_str<E>(self, _: &str) -> Result<Sent<'de>, E> {
        self.no_object()
    }

    fn visit_unit<E>(self) -> Result<Sent<'de>, E> {
        self.no_object()
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Int(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "beyond 63 bits it is no time and no price")]
    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Sent<'_> {
        let mut batch = lines(text.as_bytes(), 10).unwrap();
        assert_eq!(batch.events.len(), 1);
        batch.events.remove(0)
    }

    #[test]
    fn values_are_kept_as_they_are() {
        let sent =
            one(r#"{"type":"click","ts":1,"price":0.25,"ad_id":"a\"b","webdriver":true,"props":{"a": 1},"ip":null}"#);
        assert_eq!(sent.get(Input::Ts), Some(&Value::Int(1)));
        assert_eq!(sent.get(Input::Price), Some(&Value::Float(0.25)));
        assert_eq!(sent.get(Input::Text(Field::AdId)), Some(&Value::Text("a\"b".into())));
        assert_eq!(
            sent.get(Input::Text(Field::Props)),
            Some(&Value::Object("{\"a\": 1}".into()))
        );
        assert_eq!((sent.get(Input::Ip), &sent.flaw), (None, &None));
    }

    #[test]
    fn a_mistake_in_one_event_is_its_own() {
        let text =
            r#"{"events":[{"type":"click"},{"tpye":"click"},7,{"ts":1,"ts":2},{"ad_id":[1,[2]]},null],"sent_at":5}"#;
        let batch = envelope(text.as_bytes(), 10).unwrap();
        let flaws: Vec<_> = batch.events.iter().map(|event| event.flaw.clone()).collect();
        let flaw = |field: &str, reason: &str| Some((field.to_owned(), reason.to_owned()));
        assert_eq!(
            flaws,
            [
                None,
                flaw("tpye", "is no field of an event"),
                flaw("", "is no object"),
                flaw("ts", "is there twice"),
                None,
                flaw("", "is no object"),
            ]
        );
        assert_eq!(batch.sent_at, Some(Value::Int(5)));
        assert_eq!(
            batch.events[4].get(Input::Text(Field::AdId)),
            Some(&Value::Other("a list"))
        );
        let batch = lines(b"{\"type\":\"click\"}\n\n{\"type\":\n", 10).unwrap();
        assert!(batch.events[1].flaw.as_ref().unwrap().1.starts_with("malformed JSON"));
    }

    #[test]
    fn what_is_no_batch_is_refused_whole() {
        for (body, text) in [
            ("", "malformed JSON"),
            ("[]", "malformed JSON"),
            ("{}", "missing field `events`"),
            (r#"{"events":{}}"#, "a list of events"),
            (r#"{"events":[],"evnts":[]}"#, "unknown key \"evnts\""),
            (r#"{"events":[]} x"#, "trailing"),
            (r#"{"events":[{"a":1]}"#, "malformed JSON"),
        ] {
            let error = envelope(body.as_bytes(), 10).unwrap_err().to_string();
            assert!(error.contains(text), "{body}: {error}");
        }
        let deep = format!("{{\"events\":[{}{}]}}", "[".repeat(200_000), "]".repeat(200_000));
        let _ = envelope(deep.as_bytes(), 10);
    }

    #[test]
    fn more_events_than_allowed_are_counted_and_refused() {
        let text = r#"{"events":[{},{},{},{}]}"#;
        assert_eq!(
            envelope(text.as_bytes(), 3),
            Err(BodyError::TooMany { max: 3, sent: 4 })
        );
        assert_eq!(envelope(text.as_bytes(), 4).unwrap().events.len(), 4);
        assert_eq!(lines(b"{}\n{}\n{}", 2), Err(BodyError::TooMany { max: 2, sent: 3 }));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = envelope(&bytes, 10);
            let _ = lines(&bytes, 10);
        }

        #[test]
        fn every_prefix_of_a_document_is_refused(cut in 0_usize..77) {
            let text = r#"{"events":[{"type":"click","ts":1,"ad_id":"x","props":{"a":"b"}}],"sent_at":5}"#;
            prop_assert!(envelope(&text.as_bytes()[..cut], 10).is_err());
        }

        #[test]
        fn texts_survive(text in ".{0,60}") {
            let line = serde_json::json!({"ad_id": text}).to_string();
            let sent = one(&line).fields;
            prop_assert_eq!(&sent[0].1, &Value::Text(text.into()));
        }
    }
}
