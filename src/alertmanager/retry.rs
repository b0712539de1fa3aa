//! When a message that did not arrive is tried again.

use super::notify::http::Failure;
use crate::io::Mono;
use crate::model::Interval;

/// The shortest pause between two tries.
const PAUSE_MIN: Interval = Interval(500);
/// The longest pause between two tries while the failure may pass.
const PAUSE_MAX: Interval = Interval::secs(60);
/// The shortest pause after a refusal: nobody is hammered with what he does not want.
const REFUSED_PAUSE_MIN: Interval = Interval::secs(60);
/// The longest pause after a refusal.
const REFUSED_PAUSE_MAX: Interval = Interval::hours(1);
/// The longest pause that a receiver may ask for.
const ASKED_PAUSE_MAX: Interval = Interval::mins(15);
/// The tries of one message so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tries {
    /// How many there were.
    pub(super) attempts: u32,
    /// When the first one failed.
    first_failure: Option<Mono>,
    /// When the next one is due.
    pub(super) due: Mono,
}

impl Tries {
    /// Takes a failure in and sets the time of the next try.
    ///
    /// The pause is a sixth of the time already waited: a receiver that comes back after twelve seconds hears from us within
    /// two, and one that is gone for hours is asked once a minute.
    pub(super) fn failed(&mut self, failure: &Failure, now: Mono) {
        self.attempts += 1;
        let first = *self.first_failure.get_or_insert(now);
        let waited = i64::try_from(now.0.saturating_sub(first.0) / 1_000_000).unwrap_or(i64::MAX);
        let pause = match failure {
            Failure::Transient { retry_after, .. } => {
                let pause = (waited / 6).clamp(PAUSE_MIN.0, PAUSE_MAX.0);
                let asked = retry_after.map_or(0, |asked| asked.0.min(ASKED_PAUSE_MAX.0));
                pause.max(asked)
            }
            Failure::Permanent(_) => (waited / 2).clamp(REFUSED_PAUSE_MIN.0, REFUSED_PAUSE_MAX.0),
        };
        self.due = now.after(Interval(pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_outage() {
        let mut tries = Tries::default();
        let mut now = Mono(0);
        let failure = Failure::transient("down");
        let mut longest = 0;
        for _ in 0..200 {
            tries.failed(&failure, now);
            let pause = (tries.due.0 - now.0) / 1_000_000;
            assert!((500..=60_000).contains(&pause));
            if now.0 < 12_000_000_000 {
                assert!(pause <= 2_000, "{pause} ms after {} s", now.0 / 1_000_000_000);
            }
            assert!(pause >= longest);
            longest = pause;
            now = tries.due;
        }
        assert_eq!(longest, 60_000);
    }

    #[test]
    fn a_refusal_is_not_hammered_and_a_wish_is_honoured() {
        let mut tries = Tries::default();
        tries.failed(&Failure::Permanent("no".to_owned()), Mono(0));
        assert_eq!(tries.due, Mono(60_000_000_000));
        let mut tries = Tries::default();
        let busy = Failure::Transient {
            reason: "busy".to_owned(),
            retry_after: Some(Interval::secs(30)),
        };
        tries.failed(&busy, Mono(0));
        assert_eq!(tries.due, Mono(30_000_000_000));
    }
}
