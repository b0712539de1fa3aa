//! Forgetting a person: everything in raw events that speaks of them goes, the counts stay, and a receipt says what was done.
//!
//! The rows are not dropped but emptied of hashes, names, addresses, user agent, full address of the page and properties, so
//! that every count can still be proven; what counts are made of (ad, site, path, country, …) stays. What is only in the log so far is emptied when it gets into files, a few minutes later: until then the
//! receipt says `pending`. The log itself ages out within the hour.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::super::{Event, Events, Field, PeopleKeys, PersonHash, RawFile, RawQuestion, Reason};
use super::{AuditError, raw};
use crate::io::log::Position;
use crate::model::{Millis, TimeRange};

/// The note that keeps receipts.
const NOTE: &str = "erasures";
/// Texts of an event that speak of one person.
const PERSONAL: [Field; 13] = [
    Field::UserAgent,
    Field::IpPrefix,
    Field::Ip,
    Field::UserId,
    Field::Url,
    Field::Referrer,
    Field::Title,
    Field::Props,
    Field::Screen,
    Field::Language,
    Field::AuctionId,
    Field::UtmTerm,
    Field::ClickId,
];
/// The most rows of one export.
const EXPORTED_MAX: usize = 1_000_000;

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The user, by the name that senders use.
    #[serde(default)]
    pub user_id: Option<String>,
    /// The address; with it the days must be said, since addresses change hands.
    #[serde(default)]
    pub ip: Option<IpAddr>,
    /// From then on.
    #[serde(default)]
    pub from: Option<Millis>,
    /// Up to then.
    #[serde(default)]
    pub to: Option<Millis>,
}

/// Why nobody is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonError {
    /// Neither or both were named.
    #[error("name either user_id or ip")]
    One,
    /// An address without its time.
    #[error("with ip, say from and to as well: addresses change hands")]
    Time,
    /// An empty stretch of time.
    #[error("from must be before to")]
    Range,
}

/// What was done to forget somebody. It names nobody: hashes only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Names the receipt.
    pub id: String,
    /// When it was asked for.
    pub asked: Millis,
    /// When it was finished; `None` while the log holds events that are in no file.
    pub finished: Option<Millis>,
    /// Whether an address was meant, not a user.
    pub by_address: bool,
    /// The hashes that stood for the person.
    pub hashes: Vec<String>,
    /// From then on.
    pub from: Millis,
    /// Up to then.
    pub to: Millis,
    /// Rows that were emptied.
    pub rows: u64,
    /// Files that were written anew, by their old names.
    pub files: Vec<String>,
    /// Events up to this record of the log are covered.
    position: u64,
}

impl Person {
    /// Returns the hashes that stand for the person, and the time.
    fn question(&self, keys: &PeopleKeys) -> Result<(RawQuestion, bool), PersonError> {
        let range = TimeRange {
            min: self.from.unwrap_or(Millis::MIN),
            max: self.to.unwrap_or(Millis::MAX),
        };
        if range.min >= range.max {
            return Err(PersonError::Range);
        }
        let mut question = RawQuestion {
            from: range.min,
            to: range.max,
            ..RawQuestion::everything()
        };
        match (&self.user_id, self.ip) {
            (Some(user), None) => question.users = keys.users(user, range),
            (None, Some(ip)) if self.from.is_some() && self.to.is_some() => question.ips = keys.addresses(ip, range),
            (None, Some(_)) => return Err(PersonError::Time),
            _ => return Err(PersonError::One),
        }
        Ok((question, self.ip.is_some()))
    }
}

fn asked(error: &PersonError) -> AuditError {
    AuditError::Asked(error.to_string())
}

/// Returns a person's events, at most a million. Blocks.
///
/// # Errors
/// [`AuditError`].
pub fn export(events: &Events, keys: &PeopleKeys, person: &Person) -> Result<Vec<Json>, AuditError> {
    let (question, _) = person.question(keys).map_err(|error| asked(&error))?;
    if question.users.is_empty() && question.ips.is_empty() {
        return Ok(Vec::new());
    }
    events.save()?;
    let files = events.raw_files(question.from, question.to);
    let mut rows = Vec::new();
    raw(events)?.scan(&files, &question, &mut |event| {
        rows.push(row(&event));
        rows.len() < EXPORTED_MAX
    })?;
    Ok(rows)
}

fn row(event: &Event) -> Json {
    let mut all = Map::new();
    all.insert("type".to_owned(), event.kind.name().into());
    all.insert("ts".to_owned(), event.at.0.into());
    all.insert("received_at".to_owned(), event.received.0.into());
    all.insert("price".to_owned(), event.price.to_string().into());
    all.insert("revenue".to_owned(), event.revenue.to_string().into());
    let reasons: Vec<&str> = event.reasons.iter().map(Reason::name).collect();
    all.insert("reasons".to_owned(), reasons.into());
    for (field, text) in event.texts.iter() {
        all.insert(field.name().to_owned(), text.into());
    }
    Json::Object(all)
}

/// Forgets a person. Blocks.
///
/// # Errors
/// [`AuditError`]; what was done by then stays done, and asking again does the rest.
pub fn erase(events: &Events, keys: &PeopleKeys, person: &Person, now: Millis) -> Result<Erasure, AuditError> {
    let (question, by_address) = person.question(keys).map_err(|error| asked(&error))?;
    let hashes = if by_address { &question.ips } else { &question.users };
    let _turn = events.audit.try_lock().ok_or(AuditError::Busy)?;
    let mut receipt = Erasure {
        id: format!("erase-{}", now.0),
        asked: now,
        finished: None,
        by_address,
        hashes: hashes.iter().map(PersonHash::to_string).collect(),
        from: question.from,
        to: question.to,
        rows: 0,
        files: Vec::new(),
        position: events.position().0,
    };
    events.save()?;
    advance(events, &mut receipt, now)?;
    keep(events, &receipt)?;
    Ok(receipt)
}

/// Goes on with erasures that wait for the log. Blocks; called every minute or so.
///
/// # Errors
/// [`AuditError`]; the next call tries again.
pub fn finish_erasures(events: &Events, now: Millis) -> Result<(), AuditError> {
    let waiting = receipts(events)
        .into_iter()
        .filter(|receipt| receipt.finished.is_none());
    let waiting: Vec<Erasure> = waiting.collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let _turn = events.audit.try_lock().ok_or(AuditError::Busy)?;
    for mut receipt in waiting {
        advance(events, &mut receipt, now)?;
        keep(events, &receipt)?;
    }
    Ok(())
}

/// Returns all receipts.
pub fn receipts(events: &Events) -> Vec<Erasure> {
    let note = events.note(NOTE).unwrap_or_default();
    serde_json::from_value(note).unwrap_or_default()
}

fn keep(events: &Events, receipt: &Erasure) -> Result<(), AuditError> {
    let mut all = receipts(events);
    all.retain(|old| old.id != receipt.id);
    all.push(receipt.clone());
    let note = serde_json::to_value(all).expect("texts and numbers are always JSON");
    Ok(events.set_note(NOTE, Some(note))?)
}

/// Empties the person's rows in all files there are.
fn advance(events: &Events, receipt: &mut Erasure, now: Millis) -> Result<(), AuditError> {
    let covered = events.raw_position() >= Position(receipt.position);
    let hashes: Vec<PersonHash> = receipt
        .hashes
        .iter()
        .filter_map(|hash| u128::from_str_radix(hash, 16).ok().map(PersonHash))
        .collect();
    let mut question = RawQuestion {
        from: receipt.from,
        to: receipt.to,
        texts: Vec::new(),
        ..RawQuestion::everything()
    };
    match receipt.by_address {
        true => question.ips = hashes,
        false => question.users = hashes,
    }
    if !receipt.hashes.is_empty() {
        for file in events.raw_files(receipt.from, receipt.to) {
            let mut is_there = false;
            raw(events)?.scan(std::slice::from_ref(&file), &question, &mut |_| {
                is_there = true;
                false
            })?;
            if is_there {
                receipt.rows += rewrite(events, &file, &question)?;
                receipt.files.push(file.name);
            }
        }
    }
    if covered {
        receipt.finished = Some(now);
    }
    Ok(())
}

/// Writes a file anew with the wanted rows emptied; returns how many those are.
fn rewrite(events: &Events, file: &RawFile, question: &RawQuestion) -> Result<u64, AuditError> {
    let mut all = Vec::new();
    let mut emptied = 0;
    raw(events)?.scan(std::slice::from_ref(file), &RawQuestion::everything(), &mut |event| {
        let is_meant = question.wants(&event);
        emptied += u64::from(is_meant);
        all.push(if is_meant { empty(event) } else { event });
        true
    })?;
    let new = raw(events)?.write(file.hour, file.from..file.to, &all)?;
    match events.replace_raw(std::slice::from_ref(&file.name), vec![new])? {
        true => Ok(emptied),
        false => Err(AuditError::Moved),
    }
}

fn empty(event: Event) -> Event {
    let kept = |field: Field| {
        if PERSONAL.contains(&field) {
            ""
        } else {
            event.text(field)
        }
    };
    let texts = super::super::Texts::join(kept).expect("some of the texts are shorter than all of them");
    Event {
        user: None,
        ip: None,
        visitor: None,
        texts,
        ..event
    }
}
