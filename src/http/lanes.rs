//! Writes and queries each have their own turns, so that a flood of the one never starves the other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::REFUSED;
use super::route::Scope;
use super::{ApiError, Limits};
use crate::io::Clock;
use crate::model::Interval;

/// The turns of the whole server.
pub(super) struct Lanes {
    writes: Lane,
    queries: Lane,
}

struct Lane {
    limit: &'static str,
    turns: Arc<Semaphore>,
    size: usize,
    wait: Interval,
}

/// Routes of scope `query` that read samples or series; the others only look at small states and never wait.
const HEAVY: [&str; 7] = [
    "/api/v1/query",
    "/api/v1/series",
    "/api/v1/label",
    "/api/v1/read",
    "/api/v1/export",
    "/api/v1/analytics",
    "/federate",
];

impl Lanes {
    pub(super) fn new(limits: &Limits) -> Lanes {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lane = |limit, size: usize, per_core: usize, wait| {
            let size = if size == 0 { per_core * cores } else { size };
            Lane {
                limit,
                turns: Arc::new(Semaphore::new(size)),
                size,
                wait,
            }
        };
        Lanes {
            writes: lane(
                "concurrent_writes",
                limits.concurrent_writes,
                4,
                limits.concurrent_writes_wait,
            ),
            queries: lane(
                "concurrent_queries",
                limits.concurrent_queries,
                2,
                limits.concurrent_queries_wait,
            ),
        }
    }

    /// Waits for a turn on the lane of a route; at once when the route has none. The turn ends when the permit is dropped.
    pub(super) async fn turn(
        &self,
        scope: Scope,
        path: &str,
        clock: &dyn Clock,
    ) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let lane = match scope {
            Scope::Write => &self.writes,
            Scope::Query if HEAVY.iter().any(|heavy| path.starts_with(heavy)) => &self.queries,
            _ => return Ok(None),
        };
        tokio::select! {
            biased;
            permit = Arc::clone(&lane.turns).acquire_owned() => Ok(permit.ok()),
            () = clock.sleep(lane.wait) => {
                REFUSED.inc(&[lane.limit]);
                let text = format!("{} is {}: no turn within {}, try again later", lane.limit, lane.size, lane.wait);
                Err(match scope {
                    Scope::Write => ApiError::Unavailable(text),
                    _ => ApiError::Overloaded(text),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SystemClock;

    #[tokio::test]
    async fn a_full_lane_refuses_after_its_wait_and_leaves_the_other_alone() {
        let clock = SystemClock::new();
        let lanes = Lanes::new(&Limits {
            concurrent_queries: 1,
            concurrent_queries_wait: Interval(1),
            ..Limits::default()
        });
        let held = lanes.turn(Scope::Query, "/api/v1/query", &*clock).await.unwrap();
        let refused = lanes
            .turn(Scope::Query, "/api/v1/query_range", &*clock)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("concurrent_queries is 1"), "{refused}");
        assert!(
            lanes
                .turn(Scope::Write, "/api/v1/write", &*clock)
                .await
                .unwrap()
                .is_some()
        );
        assert!(
            lanes
                .turn(Scope::Query, "/api/v1/rules", &*clock)
                .await
                .unwrap()
                .is_none()
        );
        drop(held);
        assert!(
            lanes
                .turn(Scope::Query, "/api/v1/query", &*clock)
                .await
                .unwrap()
                .is_some()
        );
    }
}
