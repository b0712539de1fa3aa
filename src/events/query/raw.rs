//! Counting raw events: for what no cube knows, and for the parts of minutes at a range's ends.

use super::{Question, QuestionError};
use crate::events::cells::{Counts, MINUTE, domain_of, minute_of};
use crate::events::people::{People, person_of};
use crate::events::{Domain, Event, Events, EventsError, Field, Kind, RawError, RawQuestion};
use crate::io::ObjectError;
use crate::io::log::Position;
use crate::model::Millis;

/// How often a scan begins again when files were replaced under it.
const ATTEMPTS: usize = 3;

impl Events {
    /// Calls `visit` with every event asked about, in no order. Returns the bytes of raw files that were read.
    ///
    /// # Errors
    /// [`QuestionError`].
    pub fn scan(
        &self,
        question: &Question,
        texts: &[Field],
        visit: &mut dyn FnMut(&Event),
    ) -> Result<u64, QuestionError> {
        if question.from >= question.to {
            return Ok(0);
        }
        let asked = RawQuestion {
            from: question.from,
            to: question.to,
            fields: question.fields.clone(),
            users: question.users.clone(),
            ips: question.ips.clone(),
            texts: texts.to_vec(),
        };
        // The log stays whole while we look.
        let reader = format!("scan {:p} {}", &asked, self.clock.mono().0);
        self.hold_log(&reader, Some(Position(0)));
        let scanned = self.scan_held(question.domain, &asked, visit);
        self.hold_log(&reader, None);
        scanned
    }

    fn scan_held(
        &self,
        domain: Domain,
        asked: &RawQuestion,
        visit: &mut dyn FnMut(&Event),
    ) -> Result<u64, QuestionError> {
        let oldest = self.clock.now().saturating_sub(self.config.retention.raw);
        if asked.to <= oldest {
            return Err(QuestionError::Unanswerable(format!(
                "only raw events could tell, and those before {oldest} are gone by retention"
            )));
        }
        for attempt in 0.. {
            let (files, raw_position, position) = {
                let state = self.state.read();
                let manifest = &state.files.manifest;
                let (first, last) = (hour(asked.from.0), hour(asked.to.0 - 1));
                let files = manifest.raw.iter().filter(|file| (first..=last).contains(&file.hour));
                (
                    files.cloned().collect::<Vec<_>>(),
                    manifest.raw_position,
                    state.position,
                )
            };
            // Events are visited once it is certain that all of them can be.
            let mut found = Vec::new();
            let mut take = |event: Event| {
                if domain_of(&event) == domain {
                    found.push(event);
                }
                true
            };
            let bytes = match &self.raw {
                Some(raw) => match raw.scan(&files, asked, &mut take) {
                    Err(RawError::Objects(ObjectError::NotFound(_))) if attempt + 1 < ATTEMPTS => continue,
                    scanned => scanned.map_err(EventsError::from)?,
                },
                None if self.is_complete_without_files(asked.from) => 0,
                None => {
                    return Err(QuestionError::Unanswerable(
                        "only raw events could tell, and this server keeps none".to_owned(),
                    ));
                }
            };
            self.read_log(raw_position, position, &mut |_, _, events| {
                for event in events {
                    if domain_of(&event) == domain && asked.wants(&event) {
                        visit(&event);
                    }
                }
            })?;
            found.iter().for_each(&mut *visit);
            return Ok(bytes);
        }
        unreachable!("the last attempt returns")
    }

    /// Whether the log alone has all events from `from` on.
    fn is_complete_without_files(&self, _from: Millis) -> bool {
        let state = self.state.read();
        state.files.manifest.raw_position == 0
    }

    /// Calls `each` with minute and numbers of every event asked about.
    pub(super) fn count_raw(
        &self,
        question: &Question,
        each: &mut dyn FnMut(i64, &Counts),
    ) -> Result<u64, QuestionError> {
        self.scan(question, &[], &mut |event| {
            each(minute_of(event.at.0), &Counts::of(event, false));
        })
    }

    /// Calls `each` with the field's value and the numbers of every event asked about.
    pub(super) fn group_raw(
        &self,
        question: &Question,
        field: Field,
        each: &mut dyn FnMut(&str, &Counts),
    ) -> Result<u64, QuestionError> {
        self.scan(question, &[field], &mut |event| {
            each(event.text(field), &Counts::of(event, false));
        })
    }

    pub(super) fn people_raw(&self, question: &Question, people: &mut People) -> Result<u64, QuestionError> {
        self.scan(question, &[], &mut |event| {
            let counts = event.is_net() && (event.kind == Kind::Click || domain_of(event) == Domain::Web);
            if let Some(person) = person_of(event).filter(|_| counts) {
                people.extend(&[person]);
            }
        })
    }

    pub(super) fn count_edges(
        &self,
        question: &Question,
        each: &mut dyn FnMut(i64, &Counts),
    ) -> Result<u64, QuestionError> {
        let mut bytes = 0;
        for edge in edges(question) {
            bytes += self.count_raw(&edge, each)?;
        }
        Ok(bytes)
    }

    pub(super) fn group_edges(
        &self,
        question: &Question,
        field: Field,
        each: &mut dyn FnMut(&str, &Counts),
    ) -> Result<u64, QuestionError> {
        let mut bytes = 0;
        for edge in edges(question) {
            bytes += self.group_raw(&edge, field, each)?;
        }
        Ok(bytes)
    }

    pub(super) fn people_edges(&self, question: &Question, people: &mut People) -> Result<u64, QuestionError> {
        let mut bytes = 0;
        for edge in edges(question) {
            bytes += self.people_raw(&edge, people)?;
        }
        Ok(bytes)
    }
}

fn hour(at: i64) -> i64 {
    crate::events::dedup::hour_of(at)
}

/// Returns the parts of minutes at the ends of a question's range.
fn edges(question: &Question) -> Vec<Question> {
    let (from, to) = (question.from.0, question.to.0);
    let first = super::minute_up(from) * MINUTE;
    let last = minute_of(to) * MINUTE;
    let part = |from: i64, to: i64| Question {
        from: Millis(from),
        to: Millis(to),
        ..question.clone()
    };
    if first > last {
        return vec![part(from, to)]; // Within one minute.
    }
    let parts = [(from, first), (last, to)].into_iter();
    parts
        .filter(|(from, to)| from < to)
        .map(|(from, to)| part(from, to))
        .collect()
}
