//! Alerts as the manager keeps them, and how two accounts of one alert become one.

use serde::{Deserialize, Serialize};

use crate::model::{Alert, Fingerprint, Interval, Labels, Millis};

/// Who sent an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Our own rules: it fires until they say that it is over.
    Rules,
    /// Somebody outside, over the API: it fires until its end, and ends by itself when nobody repeats it.
    Api,
}

/// An alert as kept: what was last said about it, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAlert {
    /// Identity.
    pub labels: Labels,
    /// What to tell people.
    pub annotations: Labels,
    /// When it began to fire.
    pub starts_at: Millis,
    /// When it is over, or will be unless repeated. `None`: only its sender can end it.
    pub ends_at: Option<Millis>,
    /// Whether the end is only a guess of ours, because the sender named none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timeout: bool,
    /// When it was last sent.
    pub updated_at: Millis,
    /// A link to what raised it.
    pub generator_url: String,
    /// Who sent it.
    pub origin: Origin,
    /// When the newest sample came that made it fire, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_at: Option<Millis>,
}

impl StoredAlert {
    /// Takes an alert in at `now`. One from outside that names no end lasts `resolve_timeout`.
    pub(crate) fn take_in(alert: Alert, origin: Origin, resolve_timeout: Interval, now: Millis) -> StoredAlert {
        let timeout = alert.ends_at.is_none() && origin == Origin::Api;
        let ends_at = if timeout {
            Some(now + resolve_timeout)
        } else {
            alert.ends_at
        };
        StoredAlert {
            labels: alert.labels,
            annotations: alert.annotations,
            starts_at: alert.starts_at,
            ends_at,
            timeout,
            updated_at: now,
            generator_url: alert.generator_url,
            origin,
            sample_at: alert.sample_at,
        }
    }

    /// Returns the alert's identity.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.labels)
    }

    /// Whether the alert is over at `now`.
    pub fn is_resolved(&self, now: Millis) -> bool {
        self.ends_at.is_some_and(|ends_at| ends_at <= now)
    }

    /// Joins a new account of the alert to the old one, as Alertmanager does: while they are of one and the same firing, the
    /// earliest start counts, and an explicit end counts more than a guessed one.
    #[must_use]
    pub(crate) fn merge(old: &StoredAlert, new: StoredAlert) -> StoredAlert {
        if !overlap(old, &new) {
            return new;
        }
        let now = new.updated_at;
        let mut merged = new;
        merged.starts_at = merged.starts_at.min(old.starts_at);
        merged.sample_at = old.sample_at.or(merged.sample_at);
        if merged.is_resolved(now) {
            // The latest explicit end wins when both are over.
            if old.is_resolved(now) && old.ends_at > merged.ends_at {
                merged.ends_at = old.ends_at;
            }
        } else if !old.timeout && later(old.ends_at, merged.ends_at) && old.origin == merged.origin {
            merged.ends_at = old.ends_at;
            merged.timeout = false;
        }
        merged
    }

    /// Whether `new` says nothing but that the alert goes on: then its end is all there is to record.
    pub(crate) fn is_touch(old: &StoredAlert, new: &StoredAlert) -> bool {
        let now = new.updated_at;
        !old.is_resolved(now)
            && !new.is_resolved(now)
            && old.starts_at <= new.starts_at
            && old.timeout == new.timeout
            && old.origin == new.origin
            && old.annotations == new.annotations
            && old.generator_url == new.generator_url
    }
}

/// Whether one account's time reaches into the other's.
fn overlap(old: &StoredAlert, new: &StoredAlert) -> bool {
    let inside = |at: Option<Millis>, alert: &StoredAlert| {
        let Some(at) = at else { return alert.ends_at.is_none() };
        at >= alert.starts_at && alert.ends_at.is_none_or(|end| at <= end)
    };
    inside(new.ends_at, old) || inside(Some(new.starts_at), old) || inside(Some(old.starts_at), new)
}

fn later(a: Option<Millis>, b: Option<Millis>) -> bool {
    // Who had named no end and names one now has changed his mind.
    matches!((a, b), (Some(a), Some(b)) if a > b)
}

/// Orders alerts for a notification: by job, by instance, then by all labels.
pub(crate) fn by_labels(a: &Labels, b: &Labels) -> std::cmp::Ordering {
    let key = |labels: &Labels, name: &str| labels.value(name).to_owned();
    (key(a, "job"), key(a, "instance"))
        .cmp(&(key(b, "job"), key(b, "instance")))
        .then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(starts: i64, ends: Option<i64>, updated: i64) -> StoredAlert {
        StoredAlert {
            labels: Labels::from_pairs([("alertname", "A")]),
            annotations: Labels::empty(),
            starts_at: Millis(starts),
            ends_at: ends.map(Millis),
            timeout: false,
            updated_at: Millis(updated),
            generator_url: String::new(),
            origin: Origin::Api,
            sample_at: None,
        }
    }

    #[test]
    fn one_firing_keeps_its_earliest_start_and_takes_the_explicit_end() {
        let firing = alert(100, Some(500), 100);
        let resolved = StoredAlert::merge(&firing, alert(150, Some(200), 200));
        assert_eq!((resolved.starts_at, resolved.ends_at), (Millis(100), Some(Millis(200))));
        let longer = StoredAlert::merge(&firing, alert(120, Some(400), 150));
        assert_eq!(longer.ends_at, Some(Millis(500)));
    }

    #[test]
    fn a_new_firing_after_the_end_is_a_new_alert() {
        let over = alert(100, Some(200), 200);
        let again = StoredAlert::merge(&over, alert(300, Some(900), 300));
        assert_eq!(again.starts_at, Millis(300));
    }

    #[test]
    fn a_guessed_end_gives_way_to_a_new_one() {
        let guessed = StoredAlert {
            timeout: true,
            ..alert(100, Some(900), 100)
        };
        assert_eq!(
            StoredAlert::merge(&guessed, alert(100, Some(400), 200)).ends_at,
            Some(Millis(400))
        );
    }

    #[test]
    fn an_alert_of_our_rules_never_ends_by_itself() {
        let raw = Alert {
            labels: Labels::from_pairs([("alertname", "A")]),
            annotations: Labels::empty(),
            starts_at: Millis(1),
            ends_at: None,
            generator_url: String::new(),
            sample_at: None,
        };
        let ours = StoredAlert::take_in(raw.clone(), Origin::Rules, Interval::mins(5), Millis(1));
        let foreign = StoredAlert::take_in(raw, Origin::Api, Interval::mins(5), Millis(1));
        assert!(!ours.is_resolved(Millis::MAX) && ours.ends_at.is_none());
        assert!(foreign.is_resolved(Millis(1) + Interval::mins(5)) && foreign.timeout);
        let resolved = StoredAlert::merge(
            &ours,
            StoredAlert {
                ends_at: Some(Millis(50)),
                updated_at: Millis(50),
                ..ours.clone()
            },
        );
        assert!(resolved.is_resolved(Millis(50)));
    }
}
