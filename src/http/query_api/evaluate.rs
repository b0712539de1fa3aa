//! Runs blocking work for a request: on a thread that may block, until its deadline passes or its client leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::http::{ApiError, App};
use crate::io::Clock;
use crate::model::Interval;
use crate::query::{Interrupt, Interruption, QueryError};

/// Sets its flag when dropped: the server drops a handler whose client left.
struct Presence(Arc<AtomicBool>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns a question for the loops of a query (go on?), which is answered with no once `timeout` has passed.
fn interrupt(clock: &Arc<dyn Clock>, timeout: Interval, left: Arc<AtomicBool>) -> Interrupt {
    let clock = Arc::clone(clock);
    let deadline = clock.mono().after(timeout);
    Interrupt::new(move || {
        if left.load(Ordering::Relaxed) {
            Some(Interruption::Cancelled)
        } else if clock.mono() >= deadline {
            Some(Interruption::Timeout)
        } else {
            None
        }
    })
}

/// Returns a question that is answered with no once `timeout` has passed, whoever is there.
pub(in crate::http) fn until(clock: &Arc<dyn Clock>, timeout: Interval) -> Interrupt {
    interrupt(clock, timeout, Arc::default())
}

/// Runs `work` on a thread that may block.
///
/// # Errors
/// Those of `work`; [`ApiError::Internal`] when it panicked.
pub(super) async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    timeout: Interval,
    work: impl FnOnce(Arc<App>, Interrupt) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let left = Arc::new(AtomicBool::new(false));
    let interrupt = interrupt(&app.clock, timeout, Arc::clone(&left));
    let presence = Presence(left);
    let app = Arc::clone(app);
    let joined = tokio::task::spawn_blocking(move || work(app, interrupt)).await;
    drop(presence);
    joined.map_err(|error| ApiError::Internal(format!("the query was cut short: {error}")))?
}

/// Turns an interruption into the error of a query that was ended by it.
pub(super) fn check(interrupt: &Interrupt) -> Result<(), QueryError> {
    match interrupt.asked() {
        None => Ok(()),
        Some(Interruption::Timeout) => Err(QueryError::Timeout),
        Some(Interruption::Cancelled) => Err(QueryError::Cancelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimClock;

    #[tokio::test]
    async fn work_is_told_when_its_time_is_over() {
        let clock = Arc::new(SimClock::default());
        let app = Arc::new(App {
            clock: clock.clone(),
            ..App::test()
        });
        let work = move |_: Arc<App>, interrupt: Interrupt| {
            assert_eq!(interrupt.asked(), None);
            clock.advance(Interval::secs(2));
            check(&interrupt).map_err(ApiError::from)
        };
        let ended = blocking(&app, Interval::secs(1), work).await;
        assert!(matches!(ended, Err(ApiError::Query(QueryError::Timeout))), "{ended:?}");
    }

    #[test]
    fn work_is_told_when_its_client_left() {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::default());
        let left = Arc::new(AtomicBool::new(false));
        let interrupt = interrupt(&clock, Interval::secs(1), Arc::clone(&left));
        drop(Presence(left));
        assert_eq!(interrupt.asked(), Some(Interruption::Cancelled));
    }
}
