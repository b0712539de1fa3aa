//! One log record: what a request added, and what it was answered.
//!
//! ```text
//! version u8 = 1 | received ms signed | closed minute signed
//!                | keyed u8: 0, or 1 and sender, key, refusals varint, ( index varint | field | reason )*
//!                | accepted, duplicate, rejected, marked varint
//!                | duplicates varint, ( domain u8 | minute signed | count varint )*
//!                | events varint | bytes varint | snappy of ( event )*
//! event = id 16 bytes | kind u8 | present u8 | at − received signed | stamped − at signed
//!       | own received − received signed | reasons varint
//!       | price signed | revenue signed | rules varint | user 16? | ip 16? | visitor 8?
//!       | texts varint, ( field u8 | len varint | bytes )*                                            little-endian
//! ```
//! Framing (length, checksum, torn tail) is the log's. The closed minute makes lateness part of the record: a replay decides
//! as the first time.

use super::{Event, EventId, Field, IdempotencyKey, Kind, Micros, PersonHash, Reasons, Rejection, Texts, VisitorId};
use crate::model::Millis;
use crate::model::wire::{Cursor, DecodeError, put_bytes, put_signed, put_varint};

const VERSION: u8 = 1;
const HAS_USER: u8 = 1;
const HAS_IP: u8 = 2;
const HAS_VISITOR: u8 = 4;
/// The most that a record's events may unpack to, in bytes.
const EVENTS_BYTES_MAX: usize = 256 << 20;

/// What became of events: accepted, duplicate and rejected add up to what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counted {
    /// New, marked ones included.
    pub accepted: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Refused by the checks.
    pub rejected: u64,
    /// Of the accepted ones, those that do not count as net (bots, invalid clicks).
    pub marked: u64,
}

impl Counted {
    /// Returns how many events there were.
    pub fn received(&self) -> u64 {
        self.accepted + self.duplicate + self.rejected
    }

    pub(super) fn add(&mut self, other: &Counted) {
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
        self.marked += other.marked;
    }
}

/// What a cube is about: an event belongs to exactly one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Impressions, clicks and conversions.
    Ads = 0,
    /// Page views and what else happens on pages.
    Web = 1,
}

impl Domain {
    /// Both.
    pub const ALL: [Domain; 2] = [Domain::Ads, Domain::Web];

    /// Returns what an event of that kind is about.
    pub fn of(kind: Kind) -> Domain {
        if kind.is_ad() { Domain::Ads } else { Domain::Web }
    }

    /// Returns the domain with that number.
    pub(super) fn from_number(number: u8) -> Option<Domain> {
        Domain::ALL.into_iter().find(|domain| *domain as u8 == number)
    }
}

/// Duplicates that named the same minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duplicates {
    pub(crate) domain: Domain,
    pub(crate) minute: i64,
    pub(crate) count: u64,
}

/// All of a record but its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// When the request was received.
    pub(crate) received: Millis,
    /// The first minute that was not closed when its events were accepted: events of older ones are late.
    pub(crate) closed: i64,
    /// What a request with the same idempotency key is answered; `None` when it has none.
    pub(crate) keyed: Option<Keyed>,
    pub(crate) counted: Counted,
    pub(crate) duplicates: Vec<Duplicates>,
}

/// A request's name, and what its answer holds besides counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) key: IdempotencyKey,
    pub(crate) errors: Vec<Rejection>,
}

/// Appends an event, as a record takes it; `received` is the request's.
pub(crate) fn put_event(event: &Event, received: Millis, out: &mut Vec<u8>) {
    out.extend_from_slice(&event.id.0.to_le_bytes());
    out.push(event.kind as u8);
    let flag = |there: bool, bit: u8| if there { bit } else { 0 };
    out.push(
        flag(event.user.is_some(), HAS_USER)
            | flag(event.ip.is_some(), HAS_IP)
            | flag(event.visitor.is_some(), HAS_VISITOR),
    );
    put_signed(out, event.at.0.wrapping_sub(received.0));
    put_signed(out, event.stamped.0.wrapping_sub(event.at.0));
    put_signed(out, event.received.0.wrapping_sub(received.0));
    put_varint(out, u64::from(event.reasons.0));
    put_signed(out, event.price.0);
    put_signed(out, event.revenue.0);
    put_varint(out, u64::from(event.rules));
    for hash in [event.user, event.ip].into_iter().flatten() {
        out.extend_from_slice(&hash.0.to_le_bytes());
    }
    if let Some(visitor) = event.visitor {
        out.extend_from_slice(&visitor.0.to_le_bytes());
    }
    put_varint(out, event.texts.iter().count() as u64);
    for (field, text) in event.texts.iter() {
        out.push(field as u8);
        put_bytes(out, text.as_bytes());
    }
}

/// Reads an event: the reverse of [`put_event`].
pub(crate) fn take_event(cursor: &mut Cursor<'_>, received: Millis) -> Result<Event, DecodeError> {
    let id = EventId(u128::from_le_bytes(cursor.array()?));
    let kind = Kind::from_number(cursor.byte()?).ok_or(DecodeError::Malformed("kind of event"))?;
    let present = cursor.byte()?;
    let at = Millis(received.0.wrapping_add(cursor.signed()?));
    let stamped = Millis(at.0.wrapping_add(cursor.signed()?));
    let own_received = Millis(received.0.wrapping_add(cursor.signed()?));
    let reasons = Reasons(cursor.id()?);
    let price = Micros(cursor.signed()?);
    let revenue = Micros(cursor.signed()?);
    let rules = cursor.id()?;
    let mut hash = |bit: u8| -> Result<Option<PersonHash>, DecodeError> {
        let there = present & bit != 0;
        there
            .then(|| cursor.array().map(|bytes| PersonHash(u128::from_le_bytes(bytes))))
            .transpose()
    };
    let (user, ip) = (hash(HAS_USER)?, hash(HAS_IP)?);
    let visitor = match present & HAS_VISITOR {
        0 => None,
        _ => Some(VisitorId(cursor.u64()?)),
    };
    Ok(Event {
        id,
        kind,
        at,
        stamped,
        received: own_received,
        reasons,
        price,
        revenue,
        user,
        ip,
        visitor,
        rules,
        texts: take_texts(cursor)?,
    })
}

fn take_texts(cursor: &mut Cursor<'_>) -> Result<Texts, DecodeError> {
    let mut texts = [""; Field::ALL.len()];
    for _ in 0..cursor.size()? {
        let slot = texts.get_mut(usize::from(cursor.byte()?));
        let slot = slot.ok_or(DecodeError::Malformed("field of event"))?;
        *slot = std::str::from_utf8(cursor.bytes()?).map_err(|_| DecodeError::Malformed("text of event"))?;
    }
    Texts::join(|field| texts[field as usize]).map_err(|_| DecodeError::Malformed("length of texts"))
}

/// Appends the record of `count` events whose bytes are `events`.
pub(crate) fn encode(header: &Header, count: usize, events: &[u8], out: &mut Vec<u8>) {
    put_header(header, out);
    put_varint(out, count as u64);
    put_varint(out, events.len() as u64);
    let start = out.len();
    out.resize(start + snap::raw::max_compress_len(events.len()), 0);
    let written = snap::raw::Encoder::new().compress(events, &mut out[start..]);
    out.truncate(start + written.expect("the room was asked of snappy itself"));
}

/// Appends all of a record but its events.
pub(crate) fn put_header(header: &Header, out: &mut Vec<u8>) {
    out.push(VERSION);
    put_signed(out, header.received.0);
    put_signed(out, header.closed);
    out.push(u8::from(header.keyed.is_some()));
    if let Some(Keyed { key, errors }) = &header.keyed {
        put_bytes(out, key.sender.as_bytes());
        put_bytes(out, key.key.as_bytes());
        put_varint(out, errors.len() as u64);
        for error in errors {
            put_varint(out, error.index as u64);
            put_bytes(out, error.field.as_bytes());
            put_bytes(out, error.reason.as_bytes());
        }
    }
    let Counted {
        accepted,
        duplicate,
        rejected,
        marked,
    } = header.counted;
    for number in [accepted, duplicate, rejected, marked] {
        put_varint(out, number);
    }
    put_varint(out, header.duplicates.len() as u64);
    for duplicates in &header.duplicates {
        out.push(duplicates.domain as u8);
        put_signed(out, duplicates.minute);
        put_varint(out, duplicates.count);
    }
}

/// Reads a record: the reverse of [`encode`].
pub(crate) fn decode(bytes: &[u8]) -> Result<(Header, Vec<Event>), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let header = take_header(&mut cursor)?;
    let (count, length) = (cursor.size()?, cursor.size()?);
    if length > EVENTS_BYTES_MAX || snap::raw::decompress_len(cursor.rest()).ok() != Some(length) {
        return Err(DecodeError::Malformed("length of events"));
    }
    let unpacked = snap::raw::Decoder::new().decompress_vec(cursor.rest());
    let unpacked = unpacked.map_err(|_| DecodeError::Malformed("packed events"))?;
    let mut cursor = Cursor::new(&unpacked);
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(take_event(&mut cursor, header.received)?);
    }
    cursor.finish("events of record")?;
    Ok((header, events))
}

/// Reads what [`put_header`] wrote.
pub(crate) fn take_header(cursor: &mut Cursor<'_>) -> Result<Header, DecodeError> {
    if cursor.byte()? != VERSION {
        return Err(DecodeError::Malformed("version of record"));
    }
    let received = Millis(cursor.signed()?);
    let closed = cursor.signed()?;
    let keyed = match cursor.byte()? {
        0 => None,
        _ => Some(take_keyed(cursor)?),
    };
    let counted = Counted {
        accepted: cursor.varint()?,
        duplicate: cursor.varint()?,
        rejected: cursor.varint()?,
        marked: cursor.varint()?,
    };
    let mut duplicates = Vec::new();
    for _ in 0..cursor.size()? {
        duplicates.push(Duplicates {
            domain: Domain::from_number(cursor.byte()?).ok_or(DecodeError::Malformed("domain"))?,
            minute: cursor.signed()?,
            count: cursor.varint()?,
        });
    }
    Ok(Header {
        received,
        closed,
        keyed,
        counted,
        duplicates,
    })
}

fn take_keyed(cursor: &mut Cursor<'_>) -> Result<Keyed, DecodeError> {
    let key = IdempotencyKey {
        sender: take_text(cursor)?,
        key: take_text(cursor)?,
    };
    let mut errors = Vec::new();
    for _ in 0..cursor.size()? {
        errors.push(Rejection {
            index: cursor.size()?,
            field: take_text(cursor)?,
            reason: take_text(cursor)?,
        });
    }
    Ok(Keyed { key, errors })
}

fn take_text(cursor: &mut Cursor<'_>) -> Result<String, DecodeError> {
    let text = std::str::from_utf8(cursor.bytes()?);
    text.map(str::to_owned)
        .map_err(|_| DecodeError::Malformed("text of record"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::events::testing;

    fn sample() -> (Header, Vec<Event>) {
        let header = Header {
            received: Millis(1_700_000_000_123),
            closed: 28_333_331,
            keyed: Some(Keyed {
                key: IdempotencyKey {
                    sender: "shop".to_owned(),
                    key: "retry-1".to_owned(),
                },
                errors: vec![Rejection::named(3, "ts", "is missing")],
            }),
            counted: Counted {
                accepted: 2,
                duplicate: 1,
                rejected: 4,
                marked: 0,
            },
            duplicates: vec![Duplicates {
                domain: Domain::Ads,
                minute: 28_333_333,
                count: 1,
            }],
        };
        let mut second = testing::click("e2", "ad-2", 1_700_000_000_050);
        second.user = Some(PersonHash(7));
        second.visitor = Some(VisitorId(9));
        second.price = Micros(250_000);
        (header, vec![testing::click("e1", "ad-1", 1_700_000_000_000), second])
    }

    fn bytes_of(header: &Header, events: &[Event]) -> Vec<u8> {
        let (mut packed, mut out) = (Vec::new(), Vec::new());
        events
            .iter()
            .for_each(|event| put_event(event, header.received, &mut packed));
        encode(header, events.len(), &packed, &mut out);
        out
    }

    #[test]
    fn the_bytes_are_those_of_the_first_version() {
        let (header, events) = sample();
        let bytes = bytes_of(&header, &events);
        testing::golden("record.hex", &bytes);
        assert_eq!(decode(&bytes), Ok((header, events)));
    }

    #[test]
    fn every_prefix_is_an_error_and_a_flipped_bit_never_panics() {
        let (header, events) = sample();
        let bytes = bytes_of(&header, &events);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(&flipped);
        }
    }

    proptest! {
        #[test]
        fn any_event_comes_back(
            id in any::<u128>(), kind in 1u8..8, at in any::<i32>(), reasons in any::<u32>(), price in any::<i64>(),
            user in proptest::option::of(any::<u128>()), visitor in proptest::option::of(any::<u64>()),
            text in "\\PC{0,40}", field in 0usize..Field::ALL.len(),
        ) {
            let (header, mut events) = sample();
            let event = &mut events[0];
            event.id = EventId(id);
            event.kind = Kind::from_number(kind).unwrap();
            event.at = Millis(header.received.0 + i64::from(at));
            event.stamped = Millis(i64::from(at));
            event.reasons = Reasons(reasons);
            event.price = Micros(price);
            event.user = user.map(PersonHash);
            event.visitor = visitor.map(VisitorId);
            event.texts = event.texts.with(Field::ALL[field], &text).unwrap();
            let bytes = bytes_of(&header, &events);
            prop_assert_eq!(decode(&bytes), Ok((header, events)));
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
