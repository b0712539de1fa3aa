//! The audit trail: what fired and ended, who silenced what, what was decided, what arrived, how often it was tried.
//!
//! It is a fold over the same events as everything else, so that it survives what they survive. The last [`ENTRIES_MAX`]
//! entries are kept; each has a number, so that whoever copies them elsewhere knows where to go on.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::alert::{Origin, StoredAlert};
use super::record::{NotifyKey, Receipt, Send, Waiting};
use super::silence::Silence;
use crate::model::{Labels, Millis};

/// How many entries are kept.
pub(crate) const ENTRIES_MAX: usize = 10_000;

/// One thing that people may ask about later. What does not apply is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Numbered from 1, without gaps.
    pub seq: u64,
    /// When.
    #[serde(with = "time_text")]
    pub at: Millis,
    /// What: `firing`, `resolved`, `silence_created`, `silence_changed`, `decided`, `delivered`, `given_up`, `fallback`.
    pub event: String,
    /// The alert's labels, the group's, or what a silence matches.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Who is told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub receiver: String,
    /// By which means: kind and number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub integration: String,
    /// The group's key.
    #[serde(default, skip_serializing_if = "String::is_empty", rename = "groupKey")]
    pub group_key: String,
    /// The id of the message or of the silence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Why, in words: the reason of a message, the comment of a silence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Who: the author of a silence, the sender of an alert.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// The receiver's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// How many tries it took.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// How many alerts were told as firing.
    #[serde(default, skip_serializing_if = "is_zero_usize")]
    pub firing: usize,
    /// How many alerts were told as resolved.
    #[serde(default, skip_serializing_if = "is_zero_usize")]
    pub resolved: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero_usize(count: &usize) -> bool {
    *count == 0
}

/// The last entries, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    entries: VecDeque<Entry>,
    next: u64,
}

impl Trail {
    /// Returns all entries that are kept.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Takes over what a snapshot remembers.
    pub(crate) fn restore(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.next = self.next.max(entry.seq);
            self.entries.push_back(entry.clone());
        }
    }

    fn add(&mut self, entry: Entry) {
        self.next += 1;
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            seq: self.next,
            ..entry
        });
    }

    /// An alert came in: only its beginning and its end are worth an entry.
    pub(crate) fn alert(&mut self, old: Option<&StoredAlert>, new: &StoredAlert) {
        let now = new.updated_at;
        let fired = old.is_some_and(|old| !old.is_resolved(now));
        let fires = !new.is_resolved(now);
        if fired == fires {
            return;
        }
        self.add(Entry {
            at: now,
            event: if fires { "firing" } else { "resolved" }.to_owned(),
            labels: new.labels.clone(),
            by: match new.origin {
                Origin::Rules => "rules",
                Origin::Api => "api",
            }
            .to_owned(),
            ..Entry::default()
        });
    }

    /// Somebody made or changed a silence.
    pub(crate) fn silence(&mut self, silence: &Silence, is_new: bool) {
        let event = if is_new {
            "silence_created"
        } else if silence.ends_at <= silence.updated_at {
            "silence_expired"
        } else {
            "silence_changed"
        };
        let matchers = silence.matchers.iter();
        self.add(Entry {
            at: silence.updated_at,
            event: event.to_owned(),
            labels: Labels::from_pairs(matchers.map(|matcher| (matcher.name.as_str(), matcher.value.as_str()))),
            id: silence.id.clone(),
            by: silence.created_by.clone(),
            why: silence.comment.clone(),
            ..Entry::default()
        });
    }

    /// A message was decided.
    pub(crate) fn decided(&mut self, at: Millis, send: &Send) {
        self.add(Entry {
            labels: send.group_labels.clone(),
            id: send.id.clone(),
            why: send.reason.as_str().to_owned(),
            firing: send.alerts.iter().filter(|(_, over)| !over).count(),
            resolved: send.alerts.iter().filter(|(_, over)| *over).count(),
            ..about("decided", at, &send.key)
        });
    }

    /// A message's tries are over.
    pub(crate) fn receipt(&mut self, event: &str, key: &NotifyKey, receipt: &Receipt) {
        self.add(Entry {
            id: receipt.id.clone(),
            why: receipt.reason.as_str().to_owned(),
            answer: receipt.answer.clone(),
            attempts: receipt.attempts,
            firing: receipt.firing,
            resolved: receipt.resolved,
            ..about(event, receipt.at, key)
        });
    }

    /// The fallback is told instead.
    pub(crate) fn fallback(&mut self, at: Millis, message: &Waiting) {
        let (firing, resolved) = message.counts();
        self.add(Entry {
            labels: message.group_labels.clone(),
            id: message.id.clone(),
            why: message.note.clone().unwrap_or_default(),
            firing,
            resolved,
            ..about("fallback", at, &message.key)
        });
    }
}

fn about(event: &str, at: Millis, key: &NotifyKey) -> Entry {
    Entry {
        at,
        event: event.to_owned(),
        receiver: key.receiver.clone(),
        integration: format!("{}[{}]", key.kind, key.index),
        group_key: key.group_key.clone(),
        ..Entry::default()
    }
}

/// Times are written for people.
mod time_text {
    use crate::model::Millis;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
    pub(super) fn serialize<S: serde::Serializer>(at: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        let at: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Millis(at.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(ends_at: Option<i64>, updated_at: i64) -> StoredAlert {
        StoredAlert {
            labels: Labels::from_pairs([("alertname", "A")]),
            annotations: Labels::empty(),
            starts_at: Millis(1),
            ends_at: ends_at.map(Millis),
            timeout: false,
            updated_at: Millis(updated_at),
            generator_url: String::new(),
            origin: Origin::Rules,
            sample_at: None,
        }
    }

    #[test]
    fn only_beginnings_and_ends_are_entries_and_their_numbers_go_on() {
        let mut trail = Trail::default();
        let (fires, again, over) = (alert(None, 2), alert(None, 3), alert(Some(4), 4));
        trail.alert(None, &fires);
        trail.alert(Some(&fires), &again);
        trail.alert(Some(&again), &over);
        trail.alert(Some(&over), &over);
        let events: Vec<_> = trail.entries().map(|entry| (entry.seq, entry.event.as_str())).collect();
        assert_eq!(events, [(1, "firing"), (2, "resolved")]);
        let json = serde_json::to_string(trail.entries().next().unwrap()).unwrap();
        assert_eq!(
            json,
            r#"{"seq":1,"at":"1970-01-01T00:00:00.002Z","event":"firing","labels":{"alertname":"A"},"by":"rules"}"#
        );
        let entry: Entry = serde_json::from_str(&json).unwrap();
        assert_eq!(Some(&entry), trail.entries().next());
        let mut restored = Trail::default();
        restored.restore(&trail.entries().cloned().collect::<Vec<_>>());
        restored.alert(None, &fires);
        assert_eq!(restored.entries().last().unwrap().seq, 3);
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let mut trail = Trail::default();
        for _ in 0..ENTRIES_MAX + 5 {
            trail.alert(None, &alert(None, 1));
        }
        assert_eq!(
            (trail.entries().count(), trail.entries().next().unwrap().seq),
            (ENTRIES_MAX, 6)
        );
    }
}
