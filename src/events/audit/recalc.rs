//! Recalculation: raw events of a range through today's lists and filters, the difference by ad, minute, reason and money,
//! and, when that is what was wanted, the range's counts put right by one manifest. Each can be taken back.
//!
//! What the door decided by something that was not kept (a whole address, a dropped user agent) stays as it decided.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::{Checker, ClickFilters, Event, EventId, Events, Field, Micros, Reasons};
use super::{AuditError, HOUR, Hours, raw, read_slice, slices};
use crate::model::Millis;

/// The most rows of a difference; more are counted in its totals only.
const ROWS_MAX: usize = 10_000;
/// The most changed events that one application takes.
const CHANGED_MAX: usize = 2_000_000;
/// Milliseconds in a day.
const DAY: i64 = 86_400_000;
/// The note that lists recalculations.
const NOTE: &str = "recalculations";
/// How many are listed.
const LISTED_MAX: usize = 100;

/// What to recalculate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// From this full hour on.
    pub from: Millis,
    /// Up to this full hour.
    pub to: Millis,
    /// Whether the result is put into force. Default no: it is only shown.
    #[serde(default)]
    pub apply: bool,
}

/// Events of one ad and minute whose marks change in one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The ad; empty for pages.
    pub ad_id: String,
    /// The minute's beginning.
    pub minute: Millis,
    /// The marks they were counted by, with commas.
    pub before: String,
    /// The marks they would have today.
    pub after: String,
    /// How many.
    pub events: u64,
    /// What net spend changes by, in units.
    pub spend: f64,
}

/// What a recalculation found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recalculation {
    /// Names it, for taking it back; empty when it was only shown or nothing changes.
    pub id: String,
    /// From then on.
    pub from: Millis,
    /// Up to then.
    pub to: Millis,
    /// The version of lists and filters.
    pub rules: u32,
    /// Events that were looked at.
    pub events: u64,
    /// Events whose marks change.
    pub changed: u64,
    /// What net events change by.
    pub net: i64,
    /// What net spend changes by, in units.
    pub spend: f64,
    /// Whether it is in force now.
    pub applied: bool,
    /// Whether there are more differences than are listed.
    pub truncated: bool,
    /// The differences.
    pub difference: Vec<Difference>,
}

/// An event with the marks that it is to have, and those that it was counted by.
struct Changed {
    event: Event,
    before: Reasons,
    rules: u32,
}

/// One that is listed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Listed {
    id: String,
    hours: Hours,
    at: Millis,
    rules: u32,
    changed: u64,
    /// The one that this takes back.
    takes_back: Option<String>,
}

/// Decides the marks of events in the order they happened.
trait Judge {
    fn judge(&mut self, event: &Event) -> (Reasons, u32);
}

struct Today<'c> {
    checker: &'c Checker,
    filters: ClickFilters,
}

impl Judge for Today<'_> {
    fn judge(&mut self, event: &Event) -> (Reasons, u32) {
        let mut again = event.clone();
        again.reasons = self.checker.rejudge(event);
        again.reasons |= self.filters.judge(&again);
        (again.reasons, self.checker.version())
    }
}

/// The marks that events had before a recalculation.
struct Earlier(HashMap<EventId, (Reasons, u32)>);

impl Judge for Earlier {
    fn judge(&mut self, event: &Event) -> (Reasons, u32) {
        self.0.get(&event.id).copied().unwrap_or((event.reasons, event.rules))
    }
}

/// Recalculates by the checker's lists and filters. Blocks, for long when there is much.
///
/// # Errors
/// [`AuditError`]; nothing changed then.
pub fn recalculate(
    events: &Events,
    checker: &Checker,
    asked: Request,
    now: Millis,
) -> Result<Recalculation, AuditError> {
    let hours = Hours::of(asked.from, asked.to)?;
    if asked.from < now.saturating_sub(checker.config().retention.raw) {
        return Err(AuditError::Asked(format!(
            "raw events before {} are gone (events.retention.raw)",
            now.saturating_sub(checker.config().retention.raw)
        )));
    }
    let _turn = events.audit.try_lock().ok_or(AuditError::Busy)?;
    events.save()?;
    let mut today = Today {
        checker,
        filters: ClickFilters::new(checker.config().filters.clone()),
    };
    warm_up(events, &mut today, hours)?;
    let id = format!("{}-{}-{:08x}", hours.first, now.0, checker.version());
    run(
        events,
        &mut today,
        Job {
            hours,
            rules: checker.version(),
            now,
            id,
            apply: asked.apply,
            takes_back: None,
        },
    )
}

/// Takes a recalculation back: its events get the marks that they had before. Blocks.
///
/// # Errors
/// [`AuditError`]; nothing changed then.
pub fn roll_back(events: &Events, id: &str, now: Millis) -> Result<Recalculation, AuditError> {
    let _turn = events.audit.try_lock().ok_or(AuditError::Busy)?;
    let listed = listed(events).into_iter().find(|listed| listed.id == id);
    let listed = listed.ok_or_else(|| AuditError::Asked(format!("no recalculation is named {id:?}")))?;
    events.save()?;
    let mut earlier = Earlier(read_marks(events, id)?);
    let job = Job {
        hours: listed.hours,
        rules: listed.rules,
        now,
        id: format!("{}-{}-back", listed.hours.first, now.0),
        apply: true,
        takes_back: Some(id.to_owned()),
    };
    run(events, &mut earlier, job)
}

struct Job {
    hours: Hours,
    rules: u32,
    now: Millis,
    id: String,
    apply: bool,
    takes_back: Option<String>,
}

/// Shows the filters what happened before the range: from the beginning of its day on, and an hour at least.
fn warm_up(events: &Events, judge: &mut dyn Judge, hours: Hours) -> Result<(), AuditError> {
    let day = hours.from().0.div_euclid(DAY) * DAY / HOUR;
    let first = day.min(hours.first - 1);
    for hour in first..hours.first {
        let (from, to) = (Millis(hour * HOUR), Millis((hour + 1) * HOUR));
        let files = events.raw_files(from, to);
        for slice in slices(hour, files.iter().map(|file| file.rows).sum()) {
            for event in read_slice(events, &files, slice)? {
                judge.judge(&event);
            }
        }
    }
    Ok(())
}

fn run(events: &Events, judge: &mut dyn Judge, job: Job) -> Result<Recalculation, AuditError> {
    let mut found = Found::default();
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for hour in job.hours.first..job.hours.end {
        let files = events.raw_files(Millis(hour * HOUR), Millis((hour + 1) * HOUR));
        let rows = files.iter().map(|file| file.rows).sum();
        let log =
            files.iter().map(|file| file.from).min().unwrap_or(0)..files.iter().map(|file| file.to).max().unwrap_or(0);
        let (mut shadow, before) = (Vec::new(), found.changed.len());
        for slice in slices(hour, rows) {
            let mut all = read_slice(events, &files, slice)?;
            for event in &mut all {
                let (reasons, rules) = judge.judge(event);
                found.take(event, reasons, rules);
            }
            if found.changed.len() > CHANGED_MAX && job.apply {
                return Err(AuditError::Asked(format!(
                    "more than {CHANGED_MAX} events change; take a shorter range"
                )));
            }
            if job.apply && !all.is_empty() {
                shadow.push(raw(events)?.write(hour, log.clone(), &all)?);
            }
        }
        if found.changed.len() > before {
            old.extend(files.into_iter().map(|file| file.name));
            new.extend(shadow);
        } else {
            discard(events, &shadow, &files)?;
        }
        if !job.apply {
            found.changed.clear();
        }
    }
    let mut result = found.result(&job);
    if job.apply && result.changed > 0 {
        keep_marks(events, &job.id, &found.changed)?;
        let listed = Listed {
            id: job.id.clone(),
            hours: job.hours,
            at: job.now,
            rules: job.rules,
            changed: result.changed,
            takes_back: job.takes_back,
        };
        let note = note_with(events, listed);
        let mut before = found.changed.iter().map(|one| Event {
            reasons: one.before,
            ..one.event.clone()
        });
        let mut after = found.changed.iter().map(|one| one.event.clone());
        if !events.correct(&mut before, &mut after, (&old, new.clone()), (NOTE, note))? {
            discard(events, &new, &[])?;
            return Err(AuditError::Moved);
        }
        result.applied = true;
        result.id = job.id;
    }
    Ok(result)
}

/// Removes files that were written and are not needed, except those that are in `kept`.
fn discard(events: &Events, files: &[super::super::RawFile], kept: &[super::super::RawFile]) -> Result<(), AuditError> {
    for file in files
        .iter()
        .filter(|file| !kept.iter().any(|kept| kept.name == file.name))
    {
        events
            .objects
            .delete(&file.name)
            .map_err(super::super::EventsError::from)?;
    }
    Ok(())
}

#[derive(Default)]
struct Found {
    events: u64,
    count: u64,
    net: i64,
    spend: i64,
    truncated: bool,
    rows: BTreeMap<(String, Millis, Reasons, Reasons), (u64, i64)>,
    changed: Vec<Changed>,
}

impl Found {
    /// Gives an event its marks and notes the difference.
    fn take(&mut self, event: &mut Event, reasons: Reasons, rules: u32) {
        self.events += 1;
        let before = event.reasons;
        if before == reasons {
            return;
        }
        let net = i64::from(reasons.is_net()) - i64::from(before.is_net());
        let spend = if event.kind.is_ad() { net * event.price.0 } else { 0 };
        self.count += 1;
        self.net += net;
        self.spend += spend;
        let minute = Millis(event.at.0.div_euclid(60_000) * 60_000);
        let key = (event.text(Field::AdId).to_owned(), minute, before, reasons);
        if self.rows.len() < ROWS_MAX || self.rows.contains_key(&key) {
            let row = self.rows.entry(key).or_default();
            row.0 += 1;
            row.1 += spend;
        } else {
            self.truncated = true;
        }
        let counted_by = event.rules;
        event.reasons = reasons;
        event.rules = rules;
        self.changed.push(Changed {
            event: event.clone(),
            before,
            rules: counted_by,
        });
    }

    fn result(&self, job: &Job) -> Recalculation {
        let rows = self.rows.iter();
        Recalculation {
            id: String::new(),
            from: job.hours.from(),
            to: job.hours.to(),
            rules: job.rules,
            events: self.events,
            changed: self.count,
            net: self.net,
            spend: Micros(self.spend).as_units(),
            applied: false,
            truncated: self.truncated,
            difference: rows
                .map(|((ad_id, minute, before, after), (events, spend))| Difference {
                    ad_id: ad_id.clone(),
                    minute: *minute,
                    before: before.to_string(),
                    after: after.to_string(),
                    events: *events,
                    spend: Micros(*spend).as_units(),
                })
                .collect(),
        }
    }
}

fn listed(events: &Events) -> Vec<Listed> {
    let note = events.note(NOTE).unwrap_or_default();
    serde_json::from_value(note).unwrap_or_default()
}

fn note_with(events: &Events, one: Listed) -> serde_json::Value {
    let mut all = listed(events);
    all.push(one);
    let surplus = all.len().saturating_sub(LISTED_MAX);
    all.drain(..surplus);
    serde_json::to_value(all).expect("lists of texts and numbers are always JSON")
}

fn marks_name(id: &str) -> String {
    format!("recalc/{id}.marks")
}

/// Writes down the marks that events had: identity, marks, version, 24 bytes each, and a checksum at the end.
fn keep_marks(events: &Events, id: &str, changed: &[Changed]) -> Result<(), AuditError> {
    let mut bytes = Vec::with_capacity(changed.len() * 24 + 4);
    for one in changed {
        bytes.extend(one.event.id.0.to_le_bytes());
        bytes.extend(one.before.0.to_le_bytes());
        bytes.extend(one.rules.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    let created = events.objects.create(&marks_name(id), &Bytes::from(bytes));
    Ok(created.map_err(super::super::EventsError::from)?)
}

fn read_marks(events: &Events, id: &str) -> Result<HashMap<EventId, (Reasons, u32)>, AuditError> {
    let name = marks_name(id);
    let read = || {
        let len = events.objects.size(&name)?;
        events.objects.read(&name, 0, len)
    };
    let bytes = read().map_err(super::super::EventsError::from)?;
    let damaged = || AuditError::Asked(format!("{name} is damaged: the recalculation cannot be taken back"));
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) || !body.len().is_multiple_of(24) {
        return Err(damaged());
    }
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let mark = |row: &[u8]| {
        let id = u128::from_le_bytes(row[..16].try_into().expect("sixteen bytes"));
        (EventId(id), (Reasons(number(&row[16..20])), number(&row[20..])))
    };
    Ok(body.chunks_exact(24).map(mark).collect())
}
