//! Pushed groups, with the Pushgateway's semantics: what a job pushed before it ended stays, and is sampled again every
//! interval until it is pushed anew, deleted, or too old.
//!
//! Groups are a fold over a log: a push is durable before its answer. Their first samples are stored at once, so that a push
//! shows without waiting for the next interval.

mod group;
mod record;

pub use group::{Grouping, PushMode};

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use group::{Group, Sampled};
use parking_lot::RwLock;

use super::exposition::Family;
use super::{Decoded, Intake, Protocol, PushgatewayConfig, Rejections, Source};
use crate::io::log::{Log, LogError, LogItem, Position};
use crate::io::{Clock, Shutdown};
use crate::model::{Labels, Millis};
use crate::storage::AppendError;

/// Beyond this many records for each group the log is written anew.
const RECORDS_PER_GROUP_MAX: u64 = 8;
/// But not before it has so many.
const RECORDS_MIN: u64 = 1000;

/// Why a push is not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PushError {
    /// The push contradicts itself or another group: the text says how. The group remembers the failure.
    #[error("{0}")]
    Inconsistent(String),
    /// One group too many.
    #[error("{0}")]
    Limit(String),
    /// Not now: a retry may help.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The groups' log takes nothing: a retry may help.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// All groups.
pub struct Pushgateway {
    intake: Arc<Intake>,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    config: PushgatewayConfig,
    groups: RwLock<BTreeMap<Grouping, Group>>,
    /// Held over the log's append: records stand in the order in which groups change.
    writing: tokio::sync::Mutex<u64>,
}

impl Pushgateway {
    /// Folds the log. Blocks.
    ///
    /// # Errors
    /// [`LogError`] when the log cannot be read.
    pub fn open(
        intake: Arc<Intake>,
        log: Arc<dyn Log>,
        clock: Arc<dyn Clock>,
        config: PushgatewayConfig,
    ) -> Result<Pushgateway, LogError> {
        let mut groups = BTreeMap::new();
        let mut records = 0;
        log.read(Position(0), &mut |item| {
            records += 1;
            match item {
                LogItem::Record { payload, at } => {
                    if let Err(error) = record::apply(&payload, &mut groups) {
                        tracing::error!(position = at.0, error, "a record of the pushed groups cannot be read");
                    }
                }
                LogItem::Gap { reason, .. } => tracing::error!(reason, "pushed groups are lost"),
            }
            true
        })?;
        Ok(Pushgateway {
            intake,
            log,
            clock,
            config,
            groups: RwLock::new(groups),
            writing: tokio::sync::Mutex::new(records),
        })
    }

    /// Returns whether groups may be wiped through the API.
    pub fn has_admin_api(&self) -> bool {
        self.config.enable_admin_api
    }

    /// Takes a push: durable, and sampled once, when this resolves.
    ///
    /// # Errors
    /// [`PushError`].
    pub async fn push(
        &self,
        grouping: Grouping,
        mode: PushMode,
        families: Vec<Family>,
        source: &Source,
    ) -> Result<(), PushError> {
        let mut records = self.writing.lock().await;
        let now = self.clock.now();
        let before = self.groups.read().get(&grouping).cloned();
        if before.is_none() && self.groups.read().len() >= self.config.groups_max {
            return Err(PushError::Limit(format!(
                "over the limit pushgateway.groups_max = {}: there are that many groups",
                self.config.groups_max
            )));
        }
        let pushed = group::check(&grouping, families);
        let pushed = pushed.and_then(|pushed| self.fits_the_others(&grouping, &pushed).map(|()| pushed));
        let (after, refusal) = match pushed {
            Ok(pushed) => (before.clone().unwrap_or_default().pushed(mode, pushed, now), None),
            Err(error) => (before.clone().unwrap_or_default().failed(now), Some(error)),
        };
        self.log.append(record::put(&grouping, &after), None).await?;
        *records += 1;
        let mut samples = after.sample(&grouping, now);
        samples.end(before.as_ref().map(|before| before.labels(&grouping)), now);
        self.groups.write().insert(grouping, after);
        self.store(samples, source).await?;
        self.rewrite_if_long(&mut records).await?;
        refusal.map_or(Ok(()), |error| Err(PushError::Inconsistent(error)))
    }

    /// One metric has one kind, in all groups.
    fn fits_the_others(&self, grouping: &Grouping, pushed: &BTreeMap<String, group::Stored>) -> Result<(), String> {
        let groups = self.groups.read();
        for (other, group) in groups.iter().filter(|(other, _)| *other != grouping) {
            for (name, family) in pushed {
                if let Some(theirs) = group.families.get(name)
                    && theirs.kind != family.kind
                {
                    return Err(format!(
                        "pushed metrics are inconsistent: {name:?} is a {}, but a {} in group {other}",
                        family.kind.as_str(),
                        theirs.kind.as_str()
                    ));
                }
            }
        }
        Ok(())
    }

    /// Deletes a group, whether it is there or not; its series end.
    ///
    /// # Errors
    /// [`PushError`].
    pub async fn delete(&self, grouping: &Grouping, source: &Source) -> Result<(), PushError> {
        let mut records = self.writing.lock().await;
        self.remove(grouping, &mut records, source).await
    }

    /// Deletes all groups.
    ///
    /// # Errors
    /// [`PushError`]; some groups may be gone then.
    pub async fn wipe(&self, source: &Source) -> Result<(), PushError> {
        let mut records = self.writing.lock().await;
        let all: Vec<Grouping> = self.groups.read().keys().cloned().collect();
        for grouping in all {
            self.remove(&grouping, &mut records, source).await?;
        }
        Ok(())
    }

    async fn remove(&self, grouping: &Grouping, records: &mut u64, source: &Source) -> Result<(), PushError> {
        if !self.groups.read().contains_key(grouping) {
            return Ok(());
        }
        self.log.append(record::delete(grouping), None).await?;
        *records += 1;
        let Some(gone) = self.groups.write().remove(grouping) else {
            return Ok(());
        };
        let mut samples = Sampled::default();
        samples.end(Some(gone.labels(grouping)), self.clock.now());
        self.store(samples, source).await?;
        Ok(())
    }

    async fn store(&self, samples: Sampled, source: &Source) -> Result<(), AppendError> {
        let decoded = Decoded {
            batch: samples.batch(self.intake.seed()),
            rejections: Rejections::default(),
        };
        let taken = self.intake.take(Protocol::Pushgateway, source, decoded).await?;
        if let Some(first) = taken.report.refusals.first() {
            tracing::warn!(series = first.series, reason = %first.reason, refused = taken.report.refused, "pushed samples were refused");
        }
        Ok(())
    }

    /// Writes all groups anew, so that the log forgets what they were before.
    async fn rewrite_if_long(&self, records: &mut u64) -> Result<(), LogError> {
        let groups = self.groups.read().clone();
        if *records < RECORDS_MIN.max(groups.len() as u64 * RECORDS_PER_GROUP_MAX) {
            return Ok(());
        }
        let mut first = None;
        for (grouping, group) in &groups {
            let appended = self.log.append(record::put(grouping, group), None).await?;
            first.get_or_insert(appended.at);
        }
        *records = groups.len() as u64;
        self.log.trim(first.unwrap_or(self.log.bounds().next))
    }

    /// Samples all groups every interval, and deletes those that are too old, until `shutdown`.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = self.clock.sleep(self.config.interval) => {}
            }
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "pushed groups were not sampled; they are in the next round");
            }
        }
    }

    async fn round(&self) -> Result<(), PushError> {
        let now = self.clock.now();
        let ourselves = Source::ourselves();
        if self.config.ttl.0 > 0 {
            let old: Vec<Grouping> = {
                let groups = self.groups.read();
                let is_old = |group: &Group| now - group.touched() > self.config.ttl;
                groups
                    .iter()
                    .filter(|(_, group)| is_old(group))
                    .map(|(of, _)| of.clone())
                    .collect()
            };
            for grouping in old {
                tracing::info!(group = %grouping, ttl = %self.config.ttl, "a pushed group was not pushed again and is deleted");
                self.delete(&grouping, &ourselves).await?;
            }
        }
        let mut samples = Sampled::default();
        for (grouping, group) in self.groups.read().iter() {
            samples.merge(group.sample(grouping, now));
        }
        self.store(samples, &ourselves).await?;
        Ok(())
    }

    /// Returns all groups in the shape of the Pushgateway's own `GET /api/v1/metrics`.
    pub fn view(&self) -> serde_json::Value {
        self.groups
            .read()
            .iter()
            .map(|(grouping, group)| group.view(grouping))
            .collect()
    }

    /// Returns the labels of all series of all groups.
    pub fn labels(&self) -> HashSet<Labels> {
        let groups = self.groups.read();
        groups
            .iter()
            .flat_map(|(grouping, group)| group.labels(grouping))
            .collect()
    }

    /// Returns when a group was last pushed with success, `None` when there is no such group.
    pub fn pushed_at(&self, grouping: &Grouping) -> Option<Millis> {
        self.groups.read().get(grouping).map(|group| group.pushed_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::IngestLimits;
    use crate::ingest::exposition::decode_text;
    use crate::ingest::text::TextFormat;
    use crate::io::log::MemLog;
    use crate::io::{ShutdownHandle, SimClock};
    use crate::model::{Interval, TimeRange};
    use crate::storage::{Columns, LiteralStore, Querier, Select};

    struct World {
        store: LiteralStore,
        clock: SimClock,
        log: Arc<MemLog>,
        config: PushgatewayConfig,
    }

    impl World {
        fn new() -> World {
            World {
                store: LiteralStore::new(),
                clock: SimClock::at(Millis(1_000_000)),
                log: Arc::new(MemLog::new()),
                config: PushgatewayConfig::default(),
            }
        }

        fn open(&self) -> Arc<Pushgateway> {
            let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
            let limits = IngestLimits::default();
            let intake = Intake::new(Arc::new(self.store.clone()), Arc::clone(&clock), 7, limits);
            let opened = Pushgateway::open(Arc::new(intake), self.log.clone(), clock, self.config.clone());
            Arc::new(opened.unwrap())
        }

        /// Each series with its values; `stale` for an end.
        fn stored(&self) -> Vec<String> {
            let select = Select {
                matchers: Vec::new(),
                range: TimeRange::ALL,
                hints: Default::default(),
            };
            let mut lines = Vec::new();
            for series in self.store.select(&select).unwrap().series {
                let mut columns = Columns::default();
                series.columns(TimeRange::ALL, &mut columns).unwrap();
                let shown = |value: &f64| {
                    if crate::model::is_stale(*value) {
                        "stale".to_owned()
                    } else {
                        value.to_string()
                    }
                };
                let values: Vec<String> = columns.values.iter().map(shown).collect();
                let line = format!("{} {}", series.labels(), values.join(" "));
                lines.extend(Some(line).filter(|line| !line.starts_with("push_")));
            }
            lines
        }
    }

    fn group(text: &str) -> Grouping {
        Grouping::from_path("backup", text).unwrap()
    }

    fn families(text: &str) -> Vec<Family> {
        decode_text(text.as_bytes(), TextFormat::Prometheus).unwrap()
    }

    async fn push(gateway: &Pushgateway, mode: PushMode, text: &str) -> Result<(), PushError> {
        gateway
            .push(group("host/db-1"), mode, families(text), &Source::ourselves())
            .await
    }

    #[tokio::test]
    async fn put_replaces_the_group_and_post_only_metrics_of_the_same_name() {
        let world = World::new();
        let gateway = world.open();
        push(&gateway, PushMode::Replace, "a 1\nb{x=\"1\"} 1\nb{x=\"2\"} 1\n")
            .await
            .unwrap();
        world.clock.advance(Interval(1000));
        push(&gateway, PushMode::Merge, "b{x=\"3\"} 3\n").await.unwrap();
        world.clock.advance(Interval(1000));
        push(&gateway, PushMode::Replace, "b{x=\"3\",job=\"own\"} 4\n")
            .await
            .unwrap();
        let who = r#"host="db-1", job="backup""#;
        assert_eq!(
            world.stored(),
            [
                format!("a{{{who}}} 1 1 stale"),
                format!(r#"b{{{who}, x="1"}} 1 stale"#),
                format!(r#"b{{{who}, x="2"}} 1 stale"#),
                format!(r#"b{{{who}, x="3"}} 3 4"#),
            ]
        );
    }

    #[tokio::test]
    async fn a_group_is_sampled_again_until_it_is_deleted_and_survives_a_restart() {
        let world = World::new();
        let gateway = world.open();
        push(&gateway, PushMode::Replace, "a 1\n").await.unwrap();
        drop(gateway);
        let gateway = world.open();
        let (handle, shutdown) = ShutdownHandle::new();
        let running = tokio::spawn(Arc::clone(&gateway).run(shutdown));
        for round in 2..5 {
            while world.clock.next_wake().is_none() {
                tokio::task::yield_now().await;
            }
            world.clock.advance(Interval::secs(15));
            let expected = format!("a{{host=\"db-1\", job=\"backup\"}}{}", " 1".repeat(round));
            for _ in 0..10_000 {
                if world.stored() == [expected.clone()] {
                    break;
                }
                tokio::task::yield_now().await;
            }
            assert_eq!(world.stored(), [expected]);
        }
        gateway.delete(&group("host/db-1"), &Source::ourselves()).await.unwrap();
        handle.request();
        running.await.unwrap();
        assert_eq!(world.open().view(), serde_json::json!([]));
    }

    #[tokio::test]
    async fn a_push_that_contradicts_itself_is_refused_and_remembered() {
        let world = World::new();
        let gateway = world.open();
        push(&gateway, PushMode::Replace, "# TYPE a gauge\na 1\n")
            .await
            .unwrap();
        world.clock.advance(Interval(1));
        for (text, expected) in [("a 1 1000\n", "timestamp"), ("a{x=\"1\"} 1\na{x=\"1\"} 2\n", "twice")] {
            let error = push(&gateway, PushMode::Merge, text).await.unwrap_err();
            assert!(
                matches!(&error, PushError::Inconsistent(why) if why.contains(expected)),
                "{error}"
            );
        }
        let (families, ourselves) = (families("# TYPE a counter\na 1\n"), Source::ourselves());
        let other = gateway.push(group(""), PushMode::Merge, families, &ourselves).await;
        assert!(other.unwrap_err().to_string().contains("is a counter, but a gauge"));
        let view = gateway.view();
        assert_eq!(view[0]["last_push_successful"], false);
        let own = view
            .as_array()
            .unwrap()
            .iter()
            .find(|group| group["labels"]["host"] == "db-1")
            .unwrap();
        assert_eq!(own["a"]["metrics"][0]["value"], "1", "the good state stays");
    }

    #[tokio::test]
    async fn an_old_group_is_deleted_when_it_is_so_configured() {
        let mut world = World::new();
        world.config.ttl = Interval::secs(60);
        let gateway = world.open();
        push(&gateway, PushMode::Replace, "a 1\n").await.unwrap();
        world.clock.advance(Interval::secs(61));
        gateway.round().await.unwrap();
        assert!(
            gateway.labels().is_empty() && world.stored()[0].ends_with("1 stale"),
            "{:?}",
            world.stored()
        );
    }

    #[tokio::test]
    async fn a_long_log_is_written_anew() {
        let world = World::new();
        let gateway = world.open();
        for _ in 0..RECORDS_MIN + 5 {
            push(&gateway, PushMode::Replace, "a 1\n").await.unwrap();
            world.clock.advance(Interval(1));
        }
        assert!(
            world.log.bounds().first.0 >= RECORDS_MIN - 1,
            "{:?}",
            world.log.bounds()
        );
        assert_eq!(world.open().labels().len(), 3);
    }
}
