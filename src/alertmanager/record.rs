//! What the alert manager writes to the alert log, and reads back.
//!
//! ```text
//! kind u8 = 64 | JSON {"v":1,"events":[…]}
//! ```
//! The log is shared: kinds 64 to 127 are ours. State is the fold of the events in order; live work and recovery call the
//! same `apply`. One record holds what must be true together: the alerts of one request, the outcome of one flush.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::alert::StoredAlert;
use super::audit::Entry;
use super::nflog::Reason;
use super::silence::Silence;
use crate::model::{Fingerprint, Labels, Millis};

/// The kind byte of our records.
pub(crate) const KIND: u8 = 64;
/// The first kind that belongs to the alert manager.
pub(crate) const KINDS_MIN: u8 = 64;
/// The last kind that belongs to the alert manager.
pub(crate) const KINDS_MAX: u8 = 127;
/// The version of the JSON inside.
const VERSION: u32 = 1;

/// Names what is told, and to whom: a group, a receiver, and one of its integrations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotifyKey {
    /// Alertmanager's group key.
    pub group_key: String,
    /// The receiver's name.
    pub receiver: String,
    /// The integration's kind.
    pub kind: String,
    /// Its number among those of its kind.
    pub index: usize,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Alerts came in, together.
    Alerts { alerts: Vec<StoredAlert> },
    /// Alerts go on: only their ends moved.
    Touched {
        at: Millis,
        ends: Vec<(u64, Option<Millis>)>,
    },
    /// Alerts that are over and of no use any more.
    Forgot { alerts: Vec<u64> },
    /// What was told long ago, or is over and told so: of no use any more.
    ForgotTold { keys: Vec<NotifyKey> },
    /// A silence was made or changed.
    Silenced { silence: Silence },
    /// Silences past their retention.
    ForgotSilences { ids: Vec<String> },
    /// A group looked for news, and decided what to tell.
    Flushed {
        at: Millis,
        group: String,
        /// When it looks again.
        next: Millis,
        /// Messages to send, each replacing what waits under its key.
        sends: Vec<Send>,
        /// What counts as told without a message.
        noted: Vec<(NotifyKey, Told)>,
        /// Messages that are not to be sent any more.
        cancelled: Vec<NotifyKey>,
    },
    /// Messages, by key and id, that go out as one: recorded before it is sent, so that after a crash the same digest is sent
    /// again under the same id.
    Digested {
        messages: Vec<(NotifyKey, String)>,
        digest: String,
    },
    /// A group is empty.
    Ended { group: String },
    /// A message arrived.
    Delivered { key: NotifyKey, receipt: Receipt },
    /// A message will not be tried again; the fallback's integrations are told instead.
    GaveUp {
        key: NotifyKey,
        receipt: Receipt,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fallback: Vec<Waiting>,
    },
    /// A snapshot begins: state starts anew.
    Reset,
    /// Part of a snapshot: what was told, and the messages that wait.
    Restored {
        told: Vec<(NotifyKey, Told)>,
        waiting: Vec<Waiting>,
        timers: Vec<(String, Millis)>,
        receipts: Vec<(NotifyKey, Receipt)>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        audit: Vec<Entry>,
    },
    /// The snapshot is whole: it counts from here.
    SnapshotDone,
}

/// A decision to send a message about alerts that the state knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Send {
    pub(crate) id: String,
    pub(crate) key: NotifyKey,
    /// The number of the route, for labels and times; checked against its key after a reload.
    pub(crate) route: String,
    pub(crate) group_labels: Labels,
    pub(crate) reason: Reason,
    /// Which alerts, and whether each is over.
    pub(crate) alerts: Vec<(u64, bool)>,
    /// The first message of the thread this one belongs to.
    pub(crate) thread: Option<String>,
}

/// A message on its way: complete, whatever becomes of the alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) id: String,
    pub(crate) key: NotifyKey,
    pub(crate) route: String,
    pub(crate) group_labels: Labels,
    pub(crate) reason: Reason,
    pub(crate) alerts: Vec<WaitingAlert>,
    pub(crate) thread: Option<String>,
    /// When it was decided.
    pub(crate) at: Millis,
    /// When the first message was decided that this one stands for.
    pub(crate) since: Millis,
    /// What is said about the message itself, in the place of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// The id of the digest as part of which it goes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
}

impl Waiting {
    /// Returns how many alerts it tells as firing, and how many as over.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let firing = self.alerts.iter().filter(|item| !item.resolved).count();
        (firing, self.alerts.len() - firing)
    }

    /// Returns the id of the digest of these messages: the same messages make the same digest.
    pub(crate) fn digest_id(messages: &[std::sync::Arc<Waiting>]) -> String {
        let mut ids: Vec<&str> = messages.iter().map(|message| message.id.as_str()).collect();
        ids.sort_unstable();
        let hash = xxhash_rust::xxh3::xxh3_128(ids.concat().as_bytes());
        format!("digest-{hash:032x}")
    }

    /// Returns one message in the place of several for the same integration.
    pub(crate) fn digest(messages: &[std::sync::Arc<Waiting>], note: String) -> Option<Waiting> {
        let first = messages.first()?;
        let mut alerts: std::collections::BTreeMap<Fingerprint, WaitingAlert> = std::collections::BTreeMap::new();
        for item in messages.iter().flat_map(|message| &message.alerts) {
            alerts.insert(item.alert.fingerprint(), item.clone());
        }
        let mut alerts: Vec<WaitingAlert> = alerts.into_values().collect();
        alerts.sort_by(|a, b| super::alert::by_labels(&a.alert.labels, &b.alert.labels));
        let shared = messages[1..]
            .iter()
            .fold(first.group_labels.clone(), |shared, message| {
                shared.filtered(|name| message.group_labels.get(name) == first.group_labels.get(name))
            });
        Some(Waiting {
            id: Waiting::digest_id(messages),
            key: NotifyKey {
                group_key: format!("digest:{shared}"),
                ..first.key.clone()
            },
            group_labels: shared,
            alerts,
            thread: None,
            since: messages.iter().map(|message| message.since).min()?,
            note: Some(note),
            ..(**first).clone()
        })
    }
}

/// An alert inside a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WaitingAlert {
    pub(crate) alert: std::sync::Arc<StoredAlert>,
    pub(crate) resolved: bool,
}

/// What a receiver was last told about a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// When.
    pub at: Millis,
    /// Fingerprints of the alerts told as firing, sorted.
    pub firing: Vec<u64>,
    /// Fingerprints of the alerts told as resolved, sorted.
    pub resolved: Vec<u64>,
    /// The first message of the thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The message's id: in the Message-ID, in the Idempotency-Key.
    pub id: String,
    /// When it was decided.
    pub decided_at: Millis,
    /// When this is from.
    pub at: Millis,
    /// How many tries it took.
    pub attempts: u32,
    /// The receiver's words: an SMTP reply with its queue id, an HTTP status; or the last error.
    pub answer: String,
    /// Why it was sent.
    pub reason: Reason,
    /// How many alerts it told as firing.
    pub firing: usize,
    /// How many alerts it told as resolved.
    pub resolved: usize,
    /// The id of the digest that it was part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

#[derive(Serialize)]
struct EnvelopeRef<'a> {
    v: u32,
    events: &'a [Event],
}

#[derive(Deserialize)]
struct Envelope {
    v: u32,
    events: Vec<Event>,
}

/// Writes events as one record.
pub(crate) fn encode(events: &[Event]) -> Bytes {
    let mut out = vec![KIND];
    serde_json::to_writer(&mut out, &EnvelopeRef { v: VERSION, events })
        .expect("events are plain data: writing them to memory cannot fail");
    Bytes::from(out)
}

/// Reads a record: `None` when it belongs to somebody else.
///
/// # Errors
/// A text, when it is ours and cannot be read.
pub(crate) fn decode(payload: &[u8]) -> Result<Option<Vec<Event>>, String> {
    match payload.split_first() {
        Some((&KIND, json)) => {
            let envelope: Envelope = serde_json::from_slice(json).map_err(|error| error.to_string())?;
            if envelope.v != VERSION {
                return Err(format!(
                    "record of version {}, this program reads {VERSION}",
                    envelope.v
                ));
            }
            Ok(Some(envelope.events))
        }
        Some((kind, _)) if (KINDS_MIN..=KINDS_MAX).contains(kind) => Err(format!("record of unknown kind {kind}")),
        _ => Ok(None),
    }
}

impl NotifyKey {
    /// What the group key of a fallback's message begins with, before all else about whom it stands in for.
    pub(crate) const STANDS_IN: &'static str = "fallback:";

    /// Whether a fallback is told under this key, in the place of another.
    pub(crate) fn stands_in(&self) -> bool {
        self.group_key.starts_with(NotifyKey::STANDS_IN)
    }
}

/// How many ends a fallback's memory holds.
const ENDS_MAX: usize = 10_000;

impl Told {
    /// Keeps in mind which alerts were told to be over before: a message given up later may speak of them again.
    pub(crate) fn remember_ends(&mut self, last: &Told) {
        if last.resolved.len() <= ENDS_MAX {
            self.resolved.extend(&last.resolved);
        }
        let firing = &self.firing;
        self.resolved.retain(|one| firing.binary_search(one).is_err());
        self.resolved.sort_unstable();
        self.resolved.dedup();
    }

    /// Whether it was told that this alert fires.
    pub(crate) fn is_firing(&self, fingerprint: Fingerprint) -> bool {
        self.firing.binary_search(&fingerprint.0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::alert::Origin;
    use super::*;
    use proptest::prelude::*;

    fn events() -> Vec<Event> {
        let alert = StoredAlert {
            labels: Labels::from_pairs([("alertname", "A"), ("ü", "\u{0}\"")]),
            annotations: Labels::from_pairs([("summary", "s")]),
            starts_at: Millis(1),
            ends_at: None,
            timeout: false,
            updated_at: Millis(2),
            generator_url: "http://x".to_owned(),
            origin: Origin::Rules,
            sample_at: None,
        };
        vec![
            Event::Alerts { alerts: vec![alert] },
            Event::Touched {
                at: Millis(3),
                ends: vec![(u64::MAX, None), (1, Some(Millis(-1)))],
            },
            Event::Ended {
                group: "{}:{}".to_owned(),
            },
            Event::SnapshotDone,
        ]
    }

    #[test]
    fn a_record_reads_back_what_was_written() {
        assert_eq!(decode(&encode(&events())).unwrap(), Some(events()));
        assert_eq!(decode(b"\x01{}").unwrap(), None);
        assert_eq!(decode(b"").unwrap(), None);
        assert!(decode(b"\x41{}").is_err());
        assert!(decode(b"\x40{\"v\":2,\"events\":[]}").is_err());
    }

    #[test]
    fn every_prefix_of_a_record_is_an_error() {
        let record = encode(&events());
        for end in 1..record.len() {
            assert!(decode(&record[..end]).is_err(), "the first {end} bytes were read");
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_makes_it_panic(at in 0usize..2000, bit in 0u8..8) {
            let mut record = encode(&events()).to_vec();
            let at = at % record.len();
            record[at] ^= 1 << bit;
            let _ = decode(&record);
        }
    }
}
