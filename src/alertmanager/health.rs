//! How a receiver's integration fares, and the circuit breaker that follows from it: while it does not answer, one message at a
//! time asks whether it does again, and the others wait for the answer.

use crate::io::Mono;
use crate::model::{Interval, Millis};

/// How many tries in a row must fail before the others wait for one that succeeds.
const OPEN_AFTER: u32 = 3;
/// The shortest and the longest pause between two questions to a receiver that does not answer.
const PROBE_MIN: Interval = Interval(500);
const PROBE_MAX: Interval = Interval::secs(30);

/// What is known of one integration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Health {
    /// Tries in a row that failed without a word about the message itself.
    pub(crate) failures: u32,
    /// When the first of them failed.
    pub(crate) failing_since: Option<Millis>,
    /// What the last failure was.
    pub(crate) last_error: Option<String>,
    /// When a message arrived last.
    pub(crate) last_success: Option<Millis>,
    first_failure: Option<Mono>,
    probe_at: Mono,
}

impl Health {
    /// Whether messages wait for one that succeeds.
    pub(crate) fn is_open(&self) -> bool {
        self.failures >= OPEN_AFTER
    }

    /// When the next message may ask whether the receiver answers again.
    pub(super) fn probe_at(&self) -> Mono {
        self.probe_at
    }

    /// Returns the state in one word.
    pub(crate) fn as_str(&self) -> &'static str {
        match self.failures {
            0 => "ok",
            _ if self.is_open() => "open",
            _ => "failing",
        }
    }

    /// A message arrived. Returns whether others waited for that.
    pub(super) fn succeeded(&mut self, now: Millis) -> bool {
        let was_open = self.is_open();
        *self = Health {
            last_success: Some(now),
            ..Health::default()
        };
        was_open
    }

    /// A refusal: the receiver answers, so nobody need wait.
    pub(super) fn refused(&mut self, reason: &str) -> bool {
        let was_open = self.is_open();
        self.failures = 0;
        self.failing_since = None;
        self.first_failure = None;
        self.last_error = Some(reason.to_owned());
        was_open
    }

    /// No answer, or one that says "later".
    pub(super) fn failed(&mut self, reason: &str, now: Mono, wall: Millis) {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(reason.to_owned());
        self.failing_since.get_or_insert(wall);
        let first = *self.first_failure.get_or_insert(now);
        let waited = i64::try_from(now.0.saturating_sub(first.0) / 1_000_000).unwrap_or(i64::MAX);
        self.probe_at = now.after(Interval((waited / 6).clamp(PROBE_MIN.0, PROBE_MAX.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_open_it_and_one_success_closes_it() {
        let mut health = Health::default();
        for n in 1..=3 {
            assert!(!health.is_open(), "before failure {n}");
            health.failed("down", Mono(0), Millis(7));
        }
        assert_eq!((health.as_str(), health.failing_since), ("open", Some(Millis(7))));
        assert_eq!(health.probe_at(), Mono(0).after(PROBE_MIN));
        health.failed("down", Mono(0).after(Interval::mins(1)), Millis(8));
        assert_eq!(health.probe_at(), Mono(0).after(Interval::secs(70)));
        assert!(health.succeeded(Millis(9)));
        assert_eq!((health.as_str(), health.last_success), ("ok", Some(Millis(9))));
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let mut health = Health::default();
        health.failed("down", Mono(0), Millis(1));
        health.refused("403");
        health.failed("down", Mono(0), Millis(1));
        health.failed("down", Mono(0), Millis(1));
        assert_eq!(
            (health.as_str(), health.last_error.as_deref()),
            ("failing", Some("down"))
        );
    }
}
