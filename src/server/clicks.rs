//! Clicks and page views: opens what counts them and the doors they come by, and looks after both.

use std::sync::Arc;

use super::World;
use crate::config::Config;
use crate::events::{Edge, Event, Events, EventsParts, Listener, Mirror, ParquetStore, Reconciler};
use crate::http::Door;
use crate::io::log::{Position, SegmentOptions};
use crate::io::{Clock, DirStore, ObjectStore, Shutdown};
use crate::model::Interval;

/// How often the event store looks after itself.
const LOOK_AFTER: Interval = Interval::secs(1);
/// How often keys and quarantine are looked after, in rounds of that.
const TIDY_ROUNDS: u32 = 600;
/// How often erasures that wait for the log are looked at, in the same rounds.
const ERASE_ROUNDS: u32 = 30;

/// Shows counted events to who looks on.
struct Shown(Arc<Edge>);

impl Listener for Shown {
    fn counted(&self, _at: Position, events: &[Event]) {
        self.0.tail.show(events);
    }
}

/// Opens both on a thread that may block.
pub(super) async fn open(world: &World, config: &Config, door: &Arc<Door>) -> Result<(Arc<Events>, Arc<Edge>), String> {
    door.readiness().not_ready("replaying the log of events");
    let settings = config.events.clone();
    let dir = config.data_dir.join("events");
    let (disk, clock, random) = (
        Arc::clone(&world.disk),
        Arc::clone(&world.clock),
        Arc::clone(&world.random),
    );
    let opening = tokio::task::spawn_blocking(move || {
        let objects = DirStore::open(Arc::clone(&disk), &dir).map_err(|error| error.to_string())?;
        let objects: Arc<dyn ObjectStore> = Arc::new(objects);
        let parts = EventsParts {
            config: settings.clone(),
            dir: dir.clone(),
            disk: Arc::clone(&disk),
            objects: Arc::clone(&objects),
            clock,
            log: SegmentOptions::default(),
            raw: Some(Arc::new(ParquetStore::new(objects, settings.limits.scan_bytes))),
        };
        let (events, opened) = Events::open(parts).map_err(|error| error.to_string())?;
        tracing::info!(
            records = opened.records,
            events = opened.events,
            orphans = opened.orphans,
            damage = opened.damage.len(),
            "the event store is open"
        );
        let edge = Edge::open(&disk, &dir, Arc::new(settings), Arc::clone(&events) as _, random)?;
        let edge = Arc::new(edge);
        events.listen(Arc::new(Shown(Arc::clone(&edge))));
        Ok((events, edge))
    });
    let opened = opening
        .await
        .map_err(|error| error.to_string())
        .and_then(|opened| opened);
    opened.map_err(|error: String| format!("opening the event store failed: {error}"))
}

/// Opens what repeats events elsewhere, when that is configured; the log is held for it from now on.
pub(super) async fn open_mirror(
    world: &World,
    config: &Config,
    events: &Arc<Events>,
) -> Result<Option<Mirror>, String> {
    let Some(settings) = config.events.mirror.clone() else {
        return Ok(None);
    };
    let (events, disk) = (Arc::clone(events), Arc::clone(&world.disk));
    let (client, clock) = (Arc::clone(&world.client), Arc::clone(&world.clock));
    let opening = tokio::task::spawn_blocking(move || Mirror::new(&settings, events, &*disk, client, clock));
    opening.await.map_err(|error| error.to_string())?.map(Some)
}

/// Returns what reconciles the day before, once a day.
pub(super) fn reconciler(world: &World, config: &Config, events: &Arc<Events>) -> Reconciler {
    Reconciler::new(
        Arc::clone(events),
        Arc::new(config.events.clone()),
        Arc::clone(&world.clock),
    )
}

/// Makes checkpoints and merges, and drops what is over.
pub(super) async fn look_after(events: Arc<Events>, edge: Arc<Edge>, clock: Arc<dyn Clock>, mut shutdown: Shutdown) {
    for round in 0u32.. {
        let (store, doors, now) = (Arc::clone(&events), Arc::clone(&edge), clock.now());
        let step = tokio::task::spawn_blocking(move || {
            if let Err(error) = store.look_after() {
                tracing::error!(%error, "looking after the event store failed; it is tried again");
            }
            if round.is_multiple_of(ERASE_ROUNDS)
                && let Err(error) = crate::events::finish_erasures(&store, now)
            {
                tracing::warn!(%error, "an erasure waits");
            }
            if round.is_multiple_of(TIDY_ROUNDS)
                && let Err(error) = doors.tidy(now)
            {
                tracing::error!(%error, "tidying up events failed; it is tried again");
            }
        });
        if let Err(error) = step.await {
            tracing::error!(%error, "looking after the event store ended badly");
        }
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = clock.sleep(LOOK_AFTER) => {}
        }
    }
}
