//! An event on its way through the door: still with address and agent, which nothing behind the door sees.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::event::FIELDS;
use super::{
    Event, EventId, Field, Kind, Micros, PersonHash, Reason, Reasons, SiteConfig, Texts, TextsError, VisitorId,
};
use crate::model::Millis;

/// Who sent a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Sender {
    /// A token with the scope `events`; empty where no tokens are asked for.
    Token(String),
    /// A page of a listed site, without a token.
    Site(Arc<SiteConfig>),
    /// Somebody who followed a link `/c/{ad}`.
    Link,
}

impl Sender {
    /// Returns the token's or site's name.
    pub fn name(&self) -> &str {
        match self {
            Sender::Token(name) => name,
            Sender::Site(site) => &site.name,
            Sender::Link => "link",
        }
    }
}

/// What is known about a request beside its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// When it came.
    pub received: Millis,
    /// Who sent it.
    pub sender: Sender,
    /// The other end of the connection.
    pub ip: Option<IpAddr>,
    /// The header `User-Agent`.
    pub agent: String,
    /// Whether a header asks not to be followed (`Sec-GPC: 1`, `DNT: 1`).
    pub asks_privacy: bool,
    /// The header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// A checked event before enrichment and privacy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft<'a> {
    pub(super) kind: Kind,
    pub(super) at: Millis,
    pub(super) stamped: Millis,
    pub(super) received: Millis,
    pub(super) reasons: Reasons,
    pub(super) price: Option<Micros>,
    pub(super) revenue: Micros,
    pub(super) user_id: Cow<'a, str>,
    pub(super) ip: Option<IpAddr>,
    pub(super) agent: Cow<'a, str>,
    pub(super) webdriver: bool,
    pub(super) texts: [Cow<'a, str>; FIELDS],
}

/// What stands for a person in an event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Person {
    pub(super) user: Option<PersonHash>,
    pub(super) ip: Option<PersonHash>,
    pub(super) visitor: Option<VisitorId>,
}

impl<'a> Draft<'a> {
    pub(super) fn text(&self, field: Field) -> &str {
        &self.texts[field as usize]
    }

    pub(super) fn set(&mut self, field: Field, text: impl Into<Cow<'a, str>>) {
        self.texts[field as usize] = text.into();
    }

    /// Sets a text that the sender left empty.
    pub(super) fn fill(&mut self, field: Field, text: &str) {
        if self.text(field).is_empty() {
            self.set(field, text.to_owned());
        }
    }

    /// Whether the person asked not to be followed.
    pub(super) fn is_private(&self) -> bool {
        self.reasons.has(Reason::Private)
    }

    /// Makes the event that everything behind the door sees.
    ///
    /// # Errors
    /// [`TextsError`] when its texts are too long together.
    pub(super) fn seal(&self, person: Person, rules: u32) -> Result<Event, TextsError> {
        Ok(Event {
            id: EventId::of(self.text(Field::EventId)),
            kind: self.kind,
            at: self.at,
            stamped: self.stamped,
            received: self.received,
            reasons: self.reasons,
            price: self.price.unwrap_or_default(),
            revenue: self.revenue,
            user: person.user,
            ip: person.ip,
            visitor: person.visitor,
            rules,
            texts: Texts::join(|field| self.text(field))?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A click with an ad, sent by nobody.
    pub(in crate::events) fn draft() -> Draft<'static> {
        let mut draft = Draft {
            kind: Kind::Click,
            at: Millis(1_763_800_000_000),
            stamped: Millis(1_763_800_000_000),
            received: Millis(1_763_800_000_000),
            reasons: Reasons::NONE,
            price: None,
            revenue: Micros::ZERO,
            user_id: Cow::Borrowed(""),
            ip: None,
            agent: Cow::Borrowed(""),
            webdriver: false,
            texts: [const { Cow::Borrowed("") }; FIELDS],
        };
        draft.set(Field::AdId, "a");
        draft.set(Field::EventId, "e");
        draft
    }

    #[test]
    fn a_sealed_event_says_what_the_draft_said() {
        let event = draft().seal(Person::default(), 7).unwrap();
        assert_eq!(
            (event.text(Field::AdId), event.id, event.rules),
            ("a", EventId::of("e"), 7)
        );
    }
}
