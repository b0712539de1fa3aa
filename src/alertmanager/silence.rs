//! Silences: alerts that match are told to nobody while they last.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::time_interval::TimeInterval;
use crate::model::{Interval, Labels, MatchOp, Matcher, Millis};

/// How long a silence is kept after its end, as Alertmanager's default `--data.retention`.
pub(crate) const RETENTION: Interval = Interval::hours(120);
/// A silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its name: a random UUID.
    pub id: String,
    /// All must match an alert.
    pub matchers: Vec<SilenceMatcher>,
    /// When it begins.
    pub starts_at: Millis,
    /// When it ends.
    pub ends_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
    /// Who made it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// More to say about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Between its start and its end, it silences only in these times: planned work that comes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar: Option<Calendar>,
}

/// A list of `time_interval`s, as written and as read.
#[derive(Clone)]
pub struct Calendar {
    written: serde_json::Value,
    intervals: Arc<Vec<TimeInterval>>,
}

impl Calendar {
    /// Reads what people write: the entries of Alertmanager's `time_intervals`, as JSON.
    ///
    /// # Errors
    /// A text that says what is no interval.
    pub fn read(written: serde_json::Value) -> Result<Calendar, String> {
        let intervals: Vec<TimeInterval> = serde_json::from_value(written.clone())
            .map_err(|error| format!("invalid silence: timeIntervals: {error}"))?;
        if intervals.is_empty() {
            return Err("invalid silence: timeIntervals: at least one is needed".to_owned());
        }
        Ok(Calendar {
            written,
            intervals: Arc::new(intervals),
        })
    }

    /// Returns it as written.
    pub fn written(&self) -> &serde_json::Value {
        &self.written
    }

    /// Whether it covers a moment.
    pub fn contains(&self, at: Millis) -> bool {
        self.intervals.iter().any(|interval| interval.contains(at))
    }
}

impl std::fmt::Debug for Calendar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.written)
    }
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Calendar) -> bool {
        self.written == other.written
    }
}

impl Eq for Calendar {}

impl Serialize for Calendar {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Calendar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Calendar, D::Error> {
        let written = serde_json::Value::deserialize(deserializer)?;
        Calendar::read(written).map_err(serde::de::Error::custom)
    }
}

/// One matcher of a silence, in the API's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SilenceMatcher {
    /// Label.
    pub name: String,
    /// Text or pattern.
    pub value: String,
    /// Whether the value is a pattern.
    pub is_regex: bool,
    /// Whether it must match, or must not.
    #[serde(default = "yes")]
    pub is_equal: bool,
}

const fn yes() -> bool {
    true
}

/// Where a silence stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceState {
    /// Not begun.
    Pending,
    /// Silences.
    Active,
    /// Over.
    Expired,
}

impl SilenceState {
    /// Returns the API's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            SilenceState::Pending => "pending",
            SilenceState::Active => "active",
            SilenceState::Expired => "expired",
        }
    }
}

impl SilenceMatcher {
    /// Builds the matcher.
    ///
    /// # Errors
    /// A text, when the value is no pattern or the name is empty.
    pub fn compile(&self) -> Result<Matcher, String> {
        if self.name.is_empty() {
            return Err("invalid label matcher: invalid label name \"\"".to_owned());
        }
        let op = match (self.is_regex, self.is_equal) {
            (false, true) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::Regex,
            (true, false) => MatchOp::NotRegex,
        };
        Matcher::new(&self.name, op, &self.value).map_err(|error| error.to_string())
    }
}

impl Silence {
    /// Returns where it stands at `now`; between the times of its calendar it is pending.
    pub fn state(&self, now: Millis) -> SilenceState {
        let is_off = || self.calendar.as_ref().is_some_and(|calendar| !calendar.contains(now));
        if now < self.starts_at || (now < self.ends_at && is_off()) {
            SilenceState::Pending
        } else if now < self.ends_at {
            SilenceState::Active
        } else {
            SilenceState::Expired
        }
    }

    /// Checks a silence that somebody wants.
    ///
    /// # Errors
    /// A text in Alertmanager's words.
    pub(crate) fn check(&self, now: Millis) -> Result<(), String> {
        if self.matchers.is_empty() {
            return Err("invalid silence: at least one matcher required".to_owned());
        }
        let mut all_empty = true;
        for matcher in &self.matchers {
            all_empty &= matcher
                .compile()
                .map_err(|reason| format!("invalid silence: {reason}"))?
                .matches_empty();
        }
        if all_empty {
            return Err("invalid silence: at least one matcher must not match the empty string".to_owned());
        }
        if self.ends_at <= self.starts_at {
            return Err("invalid silence: end time must not be before start time".to_owned());
        }
        if self.ends_at <= now {
            return Err("invalid silence: end time can't be in the past".to_owned());
        }
        Ok(())
    }

    /// Returns how many bytes its texts have.
    pub(crate) fn bytes(&self) -> usize {
        let matchers = self
            .matchers
            .iter()
            .map(|matcher| matcher.name.len() + matcher.value.len());
        let notes = self.annotations.iter().map(|(name, text)| name.len() + text.len());
        let calendar = self
            .calendar
            .as_ref()
            .map_or(0, |calendar| calendar.written.to_string().len());
        matchers.chain(notes).sum::<usize>() + calendar + self.comment.len() + self.created_by.len()
    }

    /// Whether `new` may take this one's place under the same id: as in Alertmanager, what has begun keeps its matchers and
    /// its start, and what is over stays over.
    pub(crate) fn can_become(&self, new: &Silence, now: Millis) -> bool {
        if self.matchers != new.matchers || self.calendar != new.calendar {
            return false;
        }
        let begun = now >= self.starts_at && now < self.ends_at;
        match self.state(now) {
            _ if begun => new.starts_at == self.starts_at && new.ends_at >= now,
            SilenceState::Active => new.starts_at == self.starts_at && new.ends_at >= now,
            SilenceState::Pending => new.starts_at >= now,
            SilenceState::Expired => false,
        }
    }
}

/// All silences, ready to be asked which of them match an alert.
#[derive(Default)]
pub(crate) struct Silences {
    by_id: BTreeMap<String, Entry>,
    index: MatcherIndex<String>,
}

struct Entry {
    silence: Silence,
    matchers: Vec<Matcher>,
}

impl Silences {
    /// Sets or replaces a silence.
    pub(crate) fn set(&mut self, silence: Silence) {
        self.remove(&silence.id);
        let matchers: Vec<Matcher> = silence
            .matchers
            .iter()
            .filter_map(|matcher| matcher.compile().ok())
            .collect();
        if matchers.len() != silence.matchers.len() {
            tracing::error!(
                id = silence.id,
                "a stored silence has a matcher that does not compile: it is left out"
            );
            return;
        }
        self.index.add(silence.id.clone(), &matchers);
        self.by_id.insert(silence.id.clone(), Entry { silence, matchers });
    }

    /// Forgets a silence.
    pub(crate) fn remove(&mut self, id: &str) {
        if let Some(entry) = self.by_id.remove(id) {
            self.index.remove(&id.to_owned(), &entry.matchers);
        }
    }

    /// Returns the silence of this id.
    pub(crate) fn get(&self, id: &str) -> Option<&Silence> {
        self.by_id.get(id).map(|entry| &entry.silence)
    }

    /// Iterates over all silences.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.by_id.values().map(|entry| &entry.silence)
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns the ids of the active silences that match, sorted.
    pub(crate) fn silencing(&self, labels: &Labels, now: Millis) -> Vec<String> {
        let mut ids: Vec<String> = self
            .index
            .candidates(labels)
            .filter(|id| {
                self.by_id.get(*id).is_some_and(|entry| {
                    entry.silence.state(now) == SilenceState::Active && all_match(&entry.matchers, labels)
                })
            })
            .cloned()
            .collect();
        ids.sort_unstable();
        ids
    }
}

/// Whether all matchers match; a missing label is empty.
pub(crate) fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers
        .iter()
        .all(|matcher| matcher.matches(labels.value(&matcher.name)))
}

/// Finds the few lists of matchers that can match a label set, by one `name="value"` that each of them demands.
pub(crate) struct MatcherIndex<K> {
    by_pair: HashMap<(String, String), Vec<K>>,
    rest: Vec<K>,
}

impl<K> Default for MatcherIndex<K> {
    fn default() -> MatcherIndex<K> {
        MatcherIndex {
            by_pair: HashMap::new(),
            rest: Vec::new(),
        }
    }
}

impl<K: PartialEq> MatcherIndex<K> {
    /// Adds a list under `key`.
    pub(crate) fn add(&mut self, key: K, matchers: &[Matcher]) {
        match demanded(matchers) {
            Some(pair) => self.by_pair.entry(pair).or_default().push(key),
            None => self.rest.push(key),
        }
    }

    /// Removes what was added under `key` with these matchers.
    pub(crate) fn remove(&mut self, key: &K, matchers: &[Matcher]) {
        match demanded(matchers) {
            Some(pair) => {
                if let Some(keys) = self.by_pair.get_mut(&pair) {
                    keys.retain(|known| known != key);
                    if keys.is_empty() {
                        self.by_pair.remove(&pair);
                    }
                }
            }
            None => self.rest.retain(|known| known != key),
        }
    }

    /// Iterates over the keys of the lists that may match.
    pub(crate) fn candidates<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a K> {
        let pairs = labels.iter().filter_map(|(name, value)| {
            if self.by_pair.is_empty() {
                return None;
            }
            self.by_pair.get(&(name.to_owned(), value.to_owned()))
        });
        pairs.flatten().chain(&self.rest)
    }
}

/// The pair that a list demands: the alert's name if it can, since that is the most telling one.
fn demanded(matchers: &[Matcher]) -> Option<(String, String)> {
    let equal = |matcher: &&Matcher| matcher.op == MatchOp::Equal && !matcher.value.is_empty();
    matchers
        .iter()
        .filter(equal)
        .max_by_key(|matcher| (matcher.name == "alertname", matcher.value.len()))
        .map(|matcher| (matcher.name.clone(), matcher.value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(name: &str, value: &str, is_regex: bool, is_equal: bool) -> SilenceMatcher {
        SilenceMatcher {
            name: name.to_owned(),
            value: value.to_owned(),
            is_regex,
            is_equal,
        }
    }

    fn silence(id: &str, matchers: Vec<SilenceMatcher>) -> Silence {
        Silence {
            id: id.to_owned(),
            matchers,
            starts_at: Millis(100),
            ends_at: Millis(200),
            updated_at: Millis(100),
            created_by: "me".to_owned(),
            comment: "why".to_owned(),
            annotations: BTreeMap::new(),
            calendar: None,
        }
    }

    #[test]
    fn a_silence_with_a_calendar_silences_in_its_times_only() {
        let written =
            serde_json::json!([{"weekdays": ["sunday"], "times": [{"start_time": "02:00", "end_time": "04:00"}]}]);
        let mut silences = Silences::default();
        let nightly = Silence {
            starts_at: Millis(0),
            ends_at: Millis(i64::MAX),
            calendar: Some(Calendar::read(written).unwrap()),
            ..silence("a", vec![matcher("alertname", "A", false, true)])
        };
        let json = serde_json::to_string(&nightly).unwrap();
        silences.set(serde_json::from_str(&json).unwrap());
        let labels = Labels::from_pairs([("alertname", "A")]);
        // 1970-01-04 was a Sunday.
        let hour = |day: i64, hour: i64| Millis(((day - 1) * 24 + hour) * 3_600_000);
        assert_eq!(silences.silencing(&labels, hour(4, 3)), ["a"]);
        assert!(silences.silencing(&labels, hour(4, 5)).is_empty());
        assert!(silences.silencing(&labels, hour(5, 3)).is_empty());
        assert_eq!(silences.silencing(&labels, hour(11, 2)), ["a"]);
        assert_eq!(nightly.state(hour(5, 3)), SilenceState::Pending);
        for bad in [
            serde_json::json!([]),
            serde_json::json!([{"weekdays": ["someday"]}]),
            serde_json::json!("x"),
        ] {
            assert!(Calendar::read(bad).is_err());
        }
    }

    #[test]
    fn only_active_silences_whose_matchers_all_match_count() {
        let mut silences = Silences::default();
        silences.set(silence(
            "a",
            vec![
                matcher("alertname", "A", false, true),
                matcher("env", "prod", false, false),
            ],
        ));
        silences.set(silence("b", vec![matcher("env", "d.*", true, true)]));
        let labels = Labels::from_pairs([("alertname", "A"), ("env", "dev")]);
        assert_eq!(silences.silencing(&labels, Millis(150)), ["a", "b"]);
        assert!(silences.silencing(&labels, Millis(99)).is_empty());
        assert!(silences.silencing(&labels, Millis(200)).is_empty());
        silences.remove("a");
        assert_eq!(silences.silencing(&labels, Millis(150)), ["b"]);
        assert!(
            silences
                .silencing(&Labels::from_pairs([("env", "prod")]), Millis(150))
                .is_empty()
        );
    }

    #[test]
    fn a_silence_that_matches_everything_or_nothing_is_refused() {
        let now = Millis(50);
        assert!(silence("a", vec![]).check(now).is_err());
        assert!(silence("a", vec![matcher("a", ".*", true, true)]).check(now).is_err());
        assert!(silence("a", vec![matcher("a", "(", true, true)]).check(now).is_err());
        assert!(
            silence("a", vec![matcher("a", "b", false, true)])
                .check(Millis(200))
                .is_err()
        );
        assert!(silence("a", vec![matcher("a", "b", false, true)]).check(now).is_ok());
    }

    #[test]
    fn what_has_begun_keeps_its_start_and_what_is_over_stays_over() {
        let old = silence("a", vec![matcher("a", "b", false, true)]);
        let longer = Silence {
            ends_at: Millis(900),
            ..old.clone()
        };
        let moved = Silence {
            starts_at: Millis(120),
            ..longer.clone()
        };
        let other = Silence {
            matchers: vec![matcher("a", "c", false, true)],
            ..longer.clone()
        };
        assert!(old.can_become(&longer, Millis(150)) && !old.can_become(&moved, Millis(150)));
        assert!(old.can_become(&moved, Millis(50)) && !old.can_become(&other, Millis(150)));
        assert!(!old.can_become(&longer, Millis(300)));
    }
}
