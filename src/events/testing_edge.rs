//! For tests of the doors: an edge over a simulated disk that counts in memory.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Answer, Checked, Checker, CollectError, Counting, Edge, EventId, EventsConfig, IdempotencyKey, Links, PeopleKeys,
    Quarantine,
};
use crate::io::disk::{Disk, SimDisk};
use crate::io::{BoxFuture, SeededRandom};
use crate::model::Millis;

/// Counts identities in memory.
#[derive(Default)]
struct InMemory {
    seen: Mutex<HashSet<EventId>>,
}

impl Counting for InMemory {
    fn collect(&self, batch: Checked, _: Option<IdempotencyKey>) -> BoxFuture<'_, Result<Answer, CollectError>> {
        let mut answer = Answer {
            rejected: batch.rejected.len() as u64,
            errors: batch.rejected,
            watermark: Millis(i64::try_from(self.seen.lock().len()).unwrap_or(i64::MAX)),
            ..Answer::default()
        };
        let mut seen = self.seen.lock();
        for event in &batch.events {
            match seen.insert(event.id) {
                true => answer.accepted += 1,
                false => answer.duplicate += 1,
            }
        }
        answer.watermark = Millis(i64::try_from(seen.len()).unwrap_or(i64::MAX));
        drop(seen);
        Box::pin(async move { Ok(answer) })
    }
}

/// Returns how many events an edge of [`edge`] has counted: its watermark tells.
pub(crate) fn counted(edge: &Edge) -> i64 {
    let answer = edge.counting.collect(Checked::default(), None);
    let answer = futures_util::FutureExt::now_or_never(answer).expect("memory is always ready");
    answer.expect("memory never fails").watermark.0
}

/// An edge with this section of the configuration.
pub(crate) fn edge(yaml: &str) -> Edge {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::seeded(1));
    let config: EventsConfig = serde_yaml::from_str(yaml).expect("the test's section is good");
    config.check().expect("the test's section is good");
    let random = Arc::new(SeededRandom::new(1));
    let keys = PeopleKeys::open(Arc::clone(&disk), random.clone(), Path::new("/events/salts"));
    let keys = Arc::new(keys.expect("the simulated disk works"));
    let checker = Checker::new(&*disk, Arc::new(config), keys).expect("no files are named");
    let quarantine = Quarantine::open(Arc::clone(&disk), Path::new("/events/quarantine"));
    let quarantine = Arc::new(quarantine.expect("the simulated disk works"));
    Edge::new(
        checker,
        Links::new(Some("secret")),
        Arc::new(InMemory::default()),
        quarantine,
        random,
    )
}
