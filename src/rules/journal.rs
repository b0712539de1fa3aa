//! The states of alerts in the alert log: what is written at each change, and how it is folded back after a crash.
//!
//! ```text
//! kind u8 = 1 | JSON: a snapshot, true for all records from position `from` on
//! kind u8 = 2 | JSON: the alerts that changed, each with its whole new state, and the label sets that were seen to have data
//! ```
//! The log is shared with the alert manager, whose kinds begin at 64. Records say states, not differences, so that reading
//! one twice changes nothing: a snapshot may be taken while others append.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::state::State;
use crate::io::log::{Log, LogError, LogItem, Position};
use crate::model::{Labels, Millis};

const KIND_SNAPSHOT: u8 = 1;
const KIND_CHANGES: u8 = 2;
const VERSION: u32 = 1;

/// Which rule an alert belongs to. Files may move and queries change; name and labels are what people know a rule by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleKey {
    /// The group's name.
    pub group: String,
    /// The rule's name.
    pub rule: String,
    /// Its labels as written.
    pub labels: BTreeMap<String, String>,
    /// Which one, of several that agree in all that.
    #[serde(default)]
    pub nth: u32,
}

/// One alert as it is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) labels: Labels,
    /// The labels of the query's element, before the rule's own.
    pub(super) source: Labels,
    pub(super) annotations: Labels,
    #[serde(with = "float_text")]
    pub(super) value: f64,
    #[serde(flatten)]
    pub(super) state: State,
}

/// What changed in one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RuleChanges {
    pub(super) key: RuleKey,
    pub(super) set: Vec<Stored>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) gone: Vec<Labels>,
    /// Label sets that had data, and when: what rules with `no_data` miss once it is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) seen: Vec<(Labels, i64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    v: u32,
    at: i64,
    /// Of a snapshot: the position from which on other records add to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    rules: Vec<RuleChanges>,
}

/// What is remembered of one rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Remembered {
    pub(super) alerts: BTreeMap<Labels, Stored>,
    /// Label sets that had data, and when last.
    pub(super) seen: BTreeMap<Labels, Millis>,
}

impl Remembered {
    /// Says everything in one record.
    pub(super) fn to_changes(&self, key: &RuleKey) -> RuleChanges {
        RuleChanges {
            key: key.clone(),
            set: self.alerts.values().cloned().collect(),
            gone: Vec::new(),
            seen: self.seen.iter().map(|(labels, at)| (labels.clone(), at.0)).collect(),
        }
    }
}

/// All rules, as folded from the log.
pub(super) type Folded = BTreeMap<RuleKey, Remembered>;

/// Writes changes as one record.
pub(super) fn changes(at: Millis, rules: Vec<RuleChanges>) -> Bytes {
    encode(KIND_CHANGES, at, None, rules)
}

/// Writes everything that is remembered as one record.
pub(super) fn snapshot(at: Millis, from: Position, rules: Vec<RuleChanges>) -> Bytes {
    encode(KIND_SNAPSHOT, at, Some(from.0), rules)
}

fn encode(kind: u8, at: Millis, from: Option<u64>, rules: Vec<RuleChanges>) -> Bytes {
    let record = Record {
        v: VERSION,
        at: at.0,
        from,
        rules,
    };
    let mut bytes = vec![kind];
    serde_json::to_writer(&mut bytes, &record).expect("maps with text keys and texts become JSON");
    Bytes::from(bytes)
}

/// Reads a record of ours; `None` when it is somebody else's.
fn decode(payload: &[u8]) -> Option<Result<(u8, Record), String>> {
    let (&kind, json) = payload.split_first()?;
    if !(1..=63).contains(&kind) {
        return None;
    }
    Some(match kind {
        KIND_SNAPSHOT | KIND_CHANGES => match serde_json::from_slice::<Record>(json) {
            Ok(record) if record.v == VERSION => Ok((kind, record)),
            Ok(record) => Err(format!("version {} of rule states is not known", record.v)),
            Err(error) => Err(format!("a record of rule states is malformed: {error}")),
        },
        kind => Err(format!("record kind {kind} of rule states is not known")),
    })
}

/// What the log remembers.
pub(super) struct Recovered {
    pub(super) states: Folded,
    /// The lowest position still needed.
    pub(super) needed: Position,
    /// What could not be read, for the log.
    pub(super) warnings: Vec<String>,
}

/// Folds the log: the last snapshot, and all changes since it was begun.
pub(super) fn recover(log: &dyn Log) -> Result<Recovered, LogError> {
    let mut start = log.bounds().first;
    let mut base: Vec<RuleChanges> = Vec::new();
    let mut warnings = Vec::new();
    log.read(start, &mut |item| {
        match item {
            LogItem::Gap { from, to, reason } => {
                warnings.push(format!(
                    "records {} to {} of the alert log are lost: {reason}",
                    from.0, to.0
                ));
            }
            LogItem::Record { at, payload } => match decode(&payload) {
                Some(Ok((KIND_SNAPSHOT, record))) => {
                    start = Position(record.from.unwrap_or(at.0));
                    base = record.rules;
                }
                Some(Err(reason)) => warnings.push(format!("record {} of the alert log: {reason}", at.0)),
                Some(Ok(_)) | None => {}
            },
        }
        true
    })?;
    let mut states = Folded::new();
    apply(&mut states, base);
    log.read(start.max(log.bounds().first), &mut |item| {
        if let LogItem::Record { payload, .. } = item
            && let Some(Ok((KIND_CHANGES, record))) = decode(&payload)
        {
            apply(&mut states, record.rules);
        }
        true
    })?;
    states.retain(|_, rule| *rule != Remembered::default());
    Ok(Recovered {
        states,
        needed: start,
        warnings,
    })
}

fn apply(states: &mut Folded, rules: Vec<RuleChanges>) {
    for changed in rules {
        let rule = states.entry(changed.key).or_default();
        for labels in changed.gone {
            rule.alerts.remove(&labels);
        }
        for stored in changed.set {
            rule.alerts.insert(stored.labels.clone(), stored);
        }
        rule.seen
            .extend(changed.seen.into_iter().map(|(labels, at)| (labels, Millis(at))));
    }
}

/// JSON has no NaN: values travel as text.
mod float_text {
    pub(super) fn serialize<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::log::MemLog;
    use proptest::prelude::*;

    fn key(rule: &str) -> RuleKey {
        RuleKey {
            group: "g".into(),
            rule: rule.into(),
            labels: BTreeMap::new(),
            nth: 0,
        }
    }

    fn stored(name: &str, since: i64) -> Stored {
        Stored {
            labels: Labels::from_pairs([("alertname", name)]),
            source: Labels::empty(),
            annotations: Labels::from_pairs([("summary", "é\n")]),
            value: f64::INFINITY,
            state: State::Pending { since: Millis(since) },
        }
    }

    async fn put(log: &MemLog, bytes: Bytes) {
        log.append(bytes, None).await.unwrap();
    }

    fn set(rule: &str, since: i64) -> Vec<RuleChanges> {
        vec![RuleChanges {
            key: key(rule),
            set: vec![stored(rule, since)],
            gone: Vec::new(),
            seen: Vec::new(),
        }]
    }

    #[tokio::test]
    async fn states_are_the_last_snapshot_and_what_came_after_it_began() {
        let log = MemLog::new();
        put(&log, changes(Millis(1), set("old", 1))).await;
        put(&log, Bytes::from_static(b"\x40not ours")).await;
        let from = log.bounds().next;
        // This one is appended between the beginning of the snapshot and its record.
        put(&log, changes(Millis(2), set("between", 2))).await;
        put(&log, snapshot(Millis(3), from, set("old", 1))).await;
        put(&log, changes(Millis(4), set("after", 4))).await;
        put(
            &log,
            changes(
                Millis(5),
                vec![RuleChanges {
                    key: key("old"),
                    set: vec![],
                    gone: vec![stored("old", 1).labels],
                    seen: vec![],
                }],
            ),
        )
        .await;
        let recovered = recover(&log).unwrap();
        let names: Vec<&str> = recovered.states.keys().map(|key| key.rule.as_str()).collect();
        assert_eq!((names, recovered.needed), (vec!["after", "between"], from));
        assert_eq!(
            recovered.states[&key("after")].alerts.values().next(),
            Some(&stored("after", 4))
        );
    }

    #[tokio::test]
    async fn a_record_that_is_lost_or_malformed_is_reported_and_the_rest_goes_on() {
        let log = MemLog::new();
        put(&log, changes(Millis(1), set("a", 1))).await;
        put(&log, Bytes::from_static(b"\x02{\"v\":9,\"at\":1,\"rules\":[]}")).await;
        put(&log, Bytes::from_static(b"\x03")).await;
        put(&log, changes(Millis(1), set("b", 1))).await;
        log.lose(Position(0));
        let recovered = recover(&log).unwrap();
        assert_eq!(
            (recovered.states.len(), recovered.warnings.len()),
            (1, 3),
            "{:?}",
            recovered.warnings
        );
    }

    #[test]
    fn the_format_is_pinned() {
        let bytes = changes(Millis(7), set("a", 3));
        assert_eq!(
            std::str::from_utf8(&bytes[1..]).unwrap(),
            r#"{"v":1,"at":7,"rules":[{"key":{"group":"g","rule":"a","labels":{},"nth":0},"set":[{"labels":{"alertname":"a"},"source":{},"annotations":{"summary":"é\n"},"value":"inf","state":"pending","since":3}]}]}"#
        );
    }

    proptest! {
        #[test]
        fn prefixes_and_flipped_bits_never_panic(cut in 0_usize..200, bit in 0_usize..1600) {
            let bytes = changes(Millis(7), set("a", 3));
            prop_assert!(!matches!(decode(&bytes[..cut.min(bytes.len() - 1)]), Some(Ok(_))));
            let mut flipped = bytes.to_vec();
            let at = (bit / 8) % flipped.len();
            flipped[at] ^= 1 << (bit % 8);
            let _ = decode(&flipped);
        }
    }
}
