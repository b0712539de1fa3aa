//! What an alert can be, and how one evaluation changes it: a pure function.

use serde::{Deserialize, Serialize};

use crate::model::{Interval, Millis};

/// The two clocks of an alert rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `for`: how long the condition must hold before the alert fires.
    pub hold: Interval,
    /// `keep_firing_for`: how long it fires on once the condition has ceased.
    pub keep_firing: Interval,
}

/// What an alert is. One that is not active has no state at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// The condition holds, but not yet for long enough.
    Pending {
        /// Since when it holds.
        #[serde(with = "millis")]
        since: Millis,
    },
    /// People should know.
    Firing {
        /// Since when the condition holds.
        #[serde(with = "millis")]
        since: Millis,
        /// When it began to fire.
        #[serde(with = "millis")]
        fired: Millis,
        /// Since when the condition no longer holds, while `keep_firing_for` runs.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "millis_option")]
        ceased: Option<Millis>,
    },
    /// It is over, and not everybody who was told of it may know.
    Resolved {
        /// Since when the condition held.
        #[serde(with = "millis")]
        since: Millis,
        /// When it began to fire.
        #[serde(with = "millis")]
        fired: Millis,
        /// When it ended.
        #[serde(with = "millis")]
        at: Millis,
    },
}

/// What changed by a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The condition began to hold.
    Pending,
    /// It began to fire.
    Firing,
    /// It ended after it had fired.
    Resolved,
    /// It ended before it fired.
    Inactive,
}

/// One evaluation of one alert: `holds` says whether its condition does, `None` as the state is "not active".
///
/// A resolved alert whose condition holds again begins anew; whoever remembers the old one hears of the new one instead.
pub fn step(timing: Timing, state: Option<State>, holds: bool, now: Millis) -> (Option<State>, Option<Change>) {
    match (state, holds) {
        (None | Some(State::Resolved { .. }), true) if timing.hold > Interval::ZERO => {
            (Some(State::Pending { since: now }), Some(Change::Pending))
        }
        (None | Some(State::Resolved { .. }), true) => (Some(fire(now, now)), Some(Change::Firing)),
        (Some(State::Pending { since }), true) if now - since >= timing.hold => {
            (Some(fire(since, now)), Some(Change::Firing))
        }
        (Some(State::Pending { .. }), false) => (None, Some(Change::Inactive)),
        (Some(State::Firing { since, fired, .. }), true) => (
            Some(State::Firing {
                since,
                fired,
                ceased: None,
            }),
            None,
        ),
        (Some(State::Firing { since, fired, ceased }), false) => {
            let ceased = ceased.unwrap_or(now);
            if now - ceased < timing.keep_firing {
                let ceased = Some(ceased);
                return (Some(State::Firing { since, fired, ceased }), None);
            }
            (Some(State::Resolved { since, fired, at: now }), Some(Change::Resolved))
        }
        (unchanged, _) => (unchanged, None),
    }
}

fn fire(since: Millis, fired: Millis) -> State {
    State::Firing {
        since,
        fired,
        ceased: None,
    }
}

impl State {
    /// Returns since when the condition holds or held.
    pub fn since(self) -> Millis {
        match self {
            State::Pending { since } | State::Firing { since, .. } | State::Resolved { since, .. } => since,
        }
    }

    /// Returns the word of the API and of the `alertstate` label.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending { .. } => "pending",
            State::Firing { .. } => "firing",
            State::Resolved { .. } => "inactive",
        }
    }

    /// Whether it is pending or firing.
    pub fn is_active(self) -> bool {
        !matches!(self, State::Resolved { .. })
    }

    /// Whether it fires.
    pub fn is_firing(self) -> bool {
        matches!(self, State::Firing { .. })
    }

    /// Moves the running clocks by `by`: the wall clock jumped, and neither `for` nor `keep_firing_for` may notice.
    #[must_use]
    pub fn shifted(self, by: Interval) -> State {
        match self {
            State::Pending { since } => State::Pending { since: since + by },
            State::Firing { since, fired, ceased } => State::Firing {
                since,
                fired,
                ceased: ceased.map(|ceased| ceased + by),
            },
            resolved @ State::Resolved { .. } => resolved,
        }
    }
}

mod millis {
    use super::Millis;

    pub(super) fn serialize<S: serde::Serializer>(at: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(at.0)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
        serde::Deserialize::deserialize(deserializer).map(Millis)
    }
}

mod millis_option {
    use super::Millis;

    pub(super) fn serialize<S: serde::Serializer>(at: &Option<Millis>, serializer: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&at.map(|at| at.0), serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Millis>, D::Error> {
        Ok(<Option<i64> as serde::Deserialize>::deserialize(deserializer)?.map(Millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timeline(text: &str) {
        let mut lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        let timing = Timing {
            hold: head[1].parse().unwrap(),
            keep_firing: head[3].parse().unwrap(),
        };
        let mut state = None;
        for line in lines {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let now = Millis(columns[0].parse::<Interval>().unwrap().0);
            let (next, change) = step(timing, state, columns[1] == "yes", now);
            let shown = next.map_or("-", State::as_str);
            let changed = change.map_or("-".to_owned(), |change| format!("{change:?}").to_lowercase());
            assert_eq!(
                (shown, changed.as_str()),
                (columns[2], columns[3]),
                "at {line:?} of\n{text}"
            );
            state = next;
        }
    }

    #[test]
    fn every_timeline_runs_as_written() {
        for text in [
            include_str!("../../tests/golden/rules/hold.timeline"),
            include_str!("../../tests/golden/rules/keep_firing.timeline"),
            include_str!("../../tests/golden/rules/at_once.timeline"),
        ] {
            timeline(text);
        }
    }

    proptest! {
        #[test]
        fn nothing_fires_before_its_time_and_never_twice_without_an_end(
            hold in 0_i64..5_000, keep in 0_i64..5_000, inputs in proptest::collection::vec((1_i64..2_000, any::<bool>()), 1..80)
        ) {
            let timing = Timing { hold: Interval(hold), keep_firing: Interval(keep) };
            let (mut state, mut now, mut held_since, mut firing) = (None, Millis(0), None, false);
            for (gap, holds) in inputs {
                now += Interval(gap);
                held_since = if holds { held_since.or(Some(now)) } else { None };
                let (next, change) = step(timing, state, holds, now);
                match change {
                    Some(Change::Firing) => {
                        prop_assert!(!firing, "fired twice without an end");
                        prop_assert!(now - held_since.unwrap() >= timing.hold, "fired before its time");
                        firing = true;
                    }
                    Some(Change::Resolved) => {
                        prop_assert!(firing && !holds, "resolved what did not fire");
                        firing = false;
                    }
                    Some(Change::Inactive) => prop_assert!(!firing),
                    Some(Change::Pending) | None => {}
                }
                prop_assert_eq!(next.is_some_and(State::is_firing), firing);
                state = next;
            }
        }
    }
}
