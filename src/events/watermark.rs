//! The watermark: minutes that end at or before it are closed.
//!
//! Each shard has come as far as its newest event, less the time that stragglers get; a shard without events follows the wall
//! clock at a distance. The watermark is the least of them and never goes back, whatever the clock does: what a reader was
//! told to be closed stays closed, and an event that comes for it is late.

use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

use super::{Event, Reason, SHARDS};
use crate::model::{Interval, Millis};

/// How far the shards have come.
#[derive(Debug)]
pub(crate) struct Watermark {
    /// How far behind the newest event a minute stays open.
    lateness: Interval,
    /// How far behind the wall clock a shard without events is.
    idle: Interval,
    shards: [AtomicI64; SHARDS],
    told: Mutex<Told>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    /// What readers were told.
    told: i64,
    /// While requests are on their way to the disk, what was decided about them holds for readers, too.
    held: i64,
}

impl Watermark {
    /// Goes on where a checkpoint stopped.
    pub(crate) fn new(lateness: Interval, idle: Interval, shards: &[i64], told: i64) -> Watermark {
        let at = |shard: usize| AtomicI64::new(shards.get(shard).copied().unwrap_or(i64::MIN));
        Watermark {
            lateness,
            idle,
            shards: std::array::from_fn(at),
            told: Mutex::new(Told { told, held: i64::MAX }),
        }
    }

    /// Takes note of an event. A corrected time proves nothing about others.
    pub(crate) fn saw(&self, event: &Event) {
        if !event.reasons.has(Reason::ClockCorrected) {
            let shard = &self.shards[usize::from(event.id.shard().0)];
            shard.fetch_max(event.at.0.saturating_sub(self.lateness.0), Ordering::Relaxed);
        }
    }

    /// Takes note that readers were told this already.
    pub(crate) fn was(&self, closed: i64) {
        let mut told = self.told.lock();
        told.told = told.told.max(closed);
    }

    /// Returns the watermark, and moves it.
    pub(crate) fn now(&self, now: Millis) -> Millis {
        self.advance(&mut self.told.lock(), now)
    }

    /// Returns the watermark by which requests are judged, and holds it there until [`Watermark::release`]: a minute that
    /// they found open must not be told to be closed before they are counted.
    pub(crate) fn hold(&self, now: Millis) -> Millis {
        let mut told = self.told.lock();
        told.held = i64::MAX;
        let at = self.advance(&mut told, now);
        told.held = at.0;
        at
    }

    /// Lets the watermark move again.
    pub(crate) fn release(&self) {
        self.told.lock().held = i64::MAX;
    }

    fn advance(&self, told: &mut Told, now: Millis) -> Millis {
        let idle = now.0.saturating_sub(self.idle.0);
        let shards = self.shards.iter().map(|shard| shard.load(Ordering::Relaxed).max(idle));
        let least = shards.min().unwrap_or(idle);
        told.told = told.told.max(least.min(told.held));
        Millis(told.told)
    }

    /// Returns how far each shard has come, without the wall clock's part.
    pub(crate) fn shards(&self) -> Vec<i64> {
        self.shards.iter().map(|shard| shard.load(Ordering::Relaxed)).collect()
    }

    #[cfg(test)]
    pub(crate) fn told(&self) -> i64 {
        self.told.lock().told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::testing;

    const LATENESS: Interval = Interval(60_000);
    const IDLE: Interval = Interval(120_000);

    fn new() -> Watermark {
        Watermark::new(LATENESS, IDLE, &[], i64::MIN)
    }

    #[test]
    fn a_busy_stream_closes_minutes_by_its_own_time_and_an_idle_one_by_the_clock() {
        let watermark = new();
        assert_eq!(watermark.now(Millis(1_000_000)), Millis(880_000));
        for n in 0..2000 {
            watermark.saw(&testing::click(&n.to_string(), "a", 999_000));
        }
        assert_eq!(watermark.now(Millis(1_000_000)), Millis(939_000));
    }

    #[test]
    fn it_stands_still_while_requests_are_on_their_way() {
        let watermark = new();
        let judged = watermark.hold(Millis(1_000_000));
        assert_eq!(watermark.now(Millis(2_000_000)), judged);
        watermark.release();
        assert_eq!(watermark.now(Millis(2_000_000)), Millis(1_880_000));
    }

    #[test]
    fn it_never_goes_back_and_corrected_times_do_not_move_it() {
        let watermark = new();
        for n in 0..2000 {
            let mut event = testing::click(&n.to_string(), "a", 5_000_000);
            event.reasons = Reason::ClockCorrected.into();
            watermark.saw(&event);
        }
        assert_eq!(watermark.now(Millis(1_000_000)), Millis(880_000));
        assert_eq!(watermark.now(Millis(500_000)), Millis(880_000));
        let again = Watermark::new(LATENESS, IDLE, &watermark.shards(), watermark.told());
        assert_eq!(again.now(Millis(0)), Millis(880_000));
    }
}
