//! Why a receiver is told, or not: the decision that says everything once.

use serde::{Deserialize, Serialize};

use super::record::Told;
use crate::model::{Interval, Millis};

/// Why a message is sent. The words are Alertmanager's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The group was not told before, or was told to be over.
    First,
    /// An alert joined the group.
    NewAlerts,
    /// Some alerts are over.
    SomeResolved,
    /// All alerts are over.
    AllResolved,
    /// Nothing is new, but it was long ago.
    Repeat,
}

impl Reason {
    /// Returns the words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::First => "first notification",
            Reason::NewAlerts => "new alerts added",
            Reason::SomeResolved => "some alerts resolved",
            Reason::AllResolved => "all alerts resolved",
            Reason::Repeat => "repeat interval elapsed",
        }
    }
}

/// What a group looks like to one integration: sorted fingerprints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) firing: Vec<u64>,
    pub(crate) resolved: Vec<u64>,
}

/// How an integration wants to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) send_resolved: bool,
    pub(crate) repeat_interval: Interval,
    /// A repetition may come this much early, so that a tick a hair short of the interval does not cost a whole further one.
    pub(crate) slack: Interval,
}

/// Decides whether the receiver is to be told now, and why.
pub(crate) fn why_notify(last: Option<&Told>, now: &Picture, manner: Manner, at: Millis) -> Option<Reason> {
    let Some(last) = last else {
        return (!now.firing.is_empty()).then_some(Reason::First);
    };
    if !is_subset(&now.firing, &last.firing) {
        let over = last.firing.is_empty();
        return Some(if over { Reason::First } else { Reason::NewAlerts });
    }
    if now.firing.is_empty() {
        // What fired and went within one interval was never told, and need not be.
        return (!last.firing.is_empty()).then_some(Reason::AllResolved);
    }
    if manner.send_resolved && !is_subset(&now.resolved, &last.resolved) {
        return Some(Reason::SomeResolved);
    }
    let waited = at - last.at;
    (waited.0 >= manner.repeat_interval.0 - manner.slack.0).then_some(Reason::Repeat)
}

fn is_subset(part: &[u64], whole: &[u64]) -> bool {
    part.iter().all(|item| whole.binary_search(item).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(firing: &[u64], resolved: &[u64]) -> Told {
        Told {
            at: Millis(0),
            firing: firing.to_vec(),
            resolved: resolved.to_vec(),
            thread: None,
        }
    }

    fn why(last: Option<Told>, firing: &[u64], resolved: &[u64], send_resolved: bool, at: i64) -> Option<Reason> {
        let picture = Picture {
            firing: firing.to_vec(),
            resolved: resolved.to_vec(),
        };
        let manner = Manner {
            send_resolved,
            repeat_interval: Interval(1000),
            slack: Interval(10),
        };
        why_notify(last.as_ref(), &picture, manner, Millis(at))
    }

    #[test]
    fn everything_is_said_once() {
        assert_eq!(why(None, &[1], &[], true, 0), Some(Reason::First));
        assert_eq!(why(None, &[], &[1], true, 0), None);
        assert_eq!(why(Some(told(&[1], &[])), &[1], &[], true, 500), None);
        assert_eq!(
            why(Some(told(&[1], &[])), &[1, 2], &[], true, 500),
            Some(Reason::NewAlerts)
        );
        assert_eq!(
            why(Some(told(&[1, 2], &[])), &[1], &[2], true, 500),
            Some(Reason::SomeResolved)
        );
        assert_eq!(why(Some(told(&[1, 2], &[])), &[1], &[2], false, 500), None);
        assert_eq!(why(Some(told(&[1], &[2])), &[1], &[2], true, 500), None);
        assert_eq!(
            why(Some(told(&[1], &[])), &[], &[1], false, 500),
            Some(Reason::AllResolved)
        );
        assert_eq!(why(Some(told(&[], &[1])), &[], &[1], true, 5000), None);
        assert_eq!(why(Some(told(&[], &[1])), &[1], &[], true, 500), Some(Reason::First));
    }

    #[test]
    fn the_same_is_repeated_after_the_interval_and_not_before() {
        assert_eq!(why(Some(told(&[1], &[])), &[1], &[], true, 989), None);
        assert_eq!(why(Some(told(&[1], &[])), &[1], &[], true, 990), Some(Reason::Repeat));
    }
}
