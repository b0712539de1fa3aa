//! Time, as the rest of the server may ask for it.
//!
//! Wall time ([`Millis`]) is for stamps and calendars and may jump; monotonic time ([`Mono`]) is for waiting and never
//! does. They are different types, so that no timer hangs on a clock that an operator can set.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::BoxFuture;
use crate::model::{Interval, Millis};

/// A point on the monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Returns the point `length` later; a negative length counts as zero.
    #[must_use]
    pub fn after(self, length: Interval) -> Mono {
        Mono(
            self.0
                .saturating_add(u64::try_from(length.0).unwrap_or(0).saturating_mul(1_000_000)),
        )
    }

    /// Returns the seconds since `earlier`, zero when it is later.
    #[expect(clippy::cast_precision_loss, reason = "exact to a nanosecond for 104 days")]
    pub fn seconds_since(self, earlier: Mono) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e9
    }
}

/// What time is it, and wake me later.
pub trait Clock: Send + Sync {
    /// Returns the wall time.
    fn now(&self) -> Millis;

    /// Returns the monotonic time.
    fn mono(&self) -> Mono;

    /// Completes at `at` on the monotonic clock, at once when that has passed.
    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()>;

    /// Completes after `length`.
    fn sleep(&self, length: Interval) -> BoxFuture<'static, ()> {
        self.sleep_until(self.mono().after(length))
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// Starts the monotonic clock at zero.
    pub fn new() -> Arc<SystemClock> {
        Arc::new(SystemClock {
            start: std::time::Instant::now(),
        })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()> {
        let wake = self.start + std::time::Duration::from_nanos(at.0);
        Box::pin(async move { tokio::time::sleep_until(wake.into()).await })
    }
}

/// A clock that stands still until told to move; sleepers wake when it passes them.
#[derive(Clone, Default)]
pub struct SimClock {
    state: Arc<Mutex<SimState>>,
}

#[derive(Default)]
struct SimState {
    wall: Millis,
    mono: Mono,
    sleepers: BTreeMap<(Mono, u64), oneshot::Sender<()>>,
    next_sleeper: u64,
}

impl SimClock {
    /// Starts at `wall`, with the monotonic clock at zero.
    pub fn at(wall: Millis) -> SimClock {
        let clock = SimClock::default();
        clock.state.lock().wall = wall;
        clock
    }

    /// Moves both clocks on and wakes whoever slept until then.
    pub fn advance(&self, by: Interval) {
        let mut state = self.state.lock();
        state.wall += by;
        state.mono = state.mono.after(by);
        let now = state.mono;
        while let Some(sleeper) = state.sleepers.first_entry().filter(|sleeper| sleeper.key().0 <= now) {
            let _ = sleeper.remove().send(());
        }
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn jump_wall(&self, to: Millis) {
        self.state.lock().wall = to;
    }

    /// Returns the earliest time that anyone sleeps until.
    pub fn next_wake(&self) -> Option<Mono> {
        self.state.lock().sleepers.keys().next().map(|(at, _)| *at)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Millis {
        self.state.lock().wall
    }

    fn mono(&self) -> Mono {
        self.state.lock().mono
    }

    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()> {
        let mut state = self.state.lock();
        if at <= state.mono {
            return Box::pin(std::future::ready(()));
        }
        let (wake, woken) = oneshot::channel();
        let id = state.next_sleeper;
        state.next_sleeper += 1;
        state.sleepers.insert((at, id), wake);
        Box::pin(async move {
            let _ = woken.await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_simulated_sleep_ends_when_the_clock_passes_it() {
        let clock = SimClock::at(Millis(1_000));
        let sleep = clock.sleep(Interval(50));
        assert_eq!(clock.next_wake(), Some(Mono(50_000_000)));
        clock.advance(Interval(50));
        sleep.await;
        assert_eq!((clock.now(), clock.next_wake()), (Millis(1_050), None));
        clock.jump_wall(Millis(5));
        assert_eq!((clock.now(), clock.mono()), (Millis(5), Mono(50_000_000)));
    }

    #[tokio::test]
    async fn the_system_clock_moves_forward() {
        let clock = SystemClock::new();
        let before = clock.mono();
        clock.sleep(Interval(1)).await;
        assert!(clock.mono() > before && clock.now() > Millis(1_600_000_000_000));
    }
}
