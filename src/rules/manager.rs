//! The manager: loads rule files all or nothing, runs their groups, and remembers over restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::alerting::Alerts;
use super::eager::{self, Inbox, Listener, Share};
use super::file::{AlertSpec, GroupSpec, NoData, OnError, RuleFile, RuleFileSource, RuleSpec, Source};
use super::group::GroupRuntime;
use super::journal::{self, Folded, RuleKey};
use super::metrics;
use super::runtime::RuleRuntime;
use super::view::{GroupView, RuleView};
use super::{Deps, Published, Settings};
use crate::io::Shutdown;
use crate::io::log::{LogError, Position};
use crate::model::Interval;
use crate::model::yaml::YamlError;

/// The rules that come with the server (`builtin:`): path and text.
pub const BUILTIN_RULES: &[(&str, &str)] = &[
    ("builtin:campanile.yaml", include_str!("../../rules/campanile.yaml")),
    ("builtin:host.yaml", include_str!("../../rules/host.yaml")),
];

/// How often what is left of removed rules is offered again, and the log looked at.
const HOUSEKEEPING: Interval = Interval::secs(1);
/// After how many records a snapshot lets the log be trimmed.
const SNAPSHOT_RECORDS: u64 = 10_000;

/// Why rules cannot be loaded or remembered.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Files with mistakes, each with its first one; nothing was changed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Load(Vec<LoadError>),
    /// The alert log cannot be read.
    #[error("cannot read the alert log")]
    Log(#[from] LogError),
}

/// A mistake in a rule file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct LoadError(#[from] pub YamlError);

/// Runs all rules.
pub struct Manager {
    deps: Arc<Deps>,
    share: Arc<Share>,
    inner: Mutex<Inner>,
    published: ArcSwap<Vec<Published>>,
    /// The lowest position of the alert log still needed.
    needed: AtomicU64,
    snapshot_at: AtomicU64,
}

struct Inner {
    groups: Vec<Group>,
    /// What is left of rules that are gone: alerts whose end nobody has taken yet.
    ended: Vec<GroupRuntime>,
    /// What the log remembered, until the first load.
    remembered: Option<Folded>,
    running: bool,
}

/// A group of the present files.
struct Group {
    file: String,
    spec: GroupSpec,
    keys: Vec<RuleKey>,
    inbox: Arc<Inbox>,
    published: Published,
    work: Work,
}

enum Work {
    /// Before [`Manager::run`].
    Idle(Box<GroupRuntime>),
    Task {
        stop: watch::Sender<bool>,
        task: JoinHandle<GroupRuntime>,
    },
}

impl Work {
    async fn halt(self) -> GroupRuntime {
        match self {
            Work::Idle(group) => *group,
            Work::Task { stop, task } => {
                stop.send_replace(true);
                task.await.expect("a group's task catches the panics of its rules")
            }
        }
    }
}

impl Manager {
    /// Reads the alert log; rules are loaded by [`Manager::load`] and evaluated from [`Manager::run`] on.
    ///
    /// # Errors
    /// [`RulesError::Log`] when the log cannot be read.
    pub fn new(deps: Deps) -> Result<Arc<Manager>, RulesError> {
        let recovered = journal::recover(&*deps.log)?;
        for warning in &recovered.warnings {
            tracing::error!(%warning, "states of alerts may be lost");
        }
        Ok(Arc::new(Manager {
            snapshot_at: AtomicU64::new(deps.log.bounds().next.0),
            share: Arc::new(Share::new(deps.settings.eager_cpu_share, deps.clock.mono())),
            deps: Arc::new(deps),
            inner: Mutex::new(Inner {
                groups: Vec::new(),
                ended: Vec::new(),
                remembered: Some(recovered.states),
                running: false,
            }),
            published: ArcSwap::default(),
            needed: AtomicU64::new(recovered.needed.0),
        }))
    }

    /// Replaces all rules by those of `files`, or none when one of the files has a mistake. Groups that did not change go on
    /// undisturbed; rules that did keep the state of those of the same name and labels; alerts of rules that are gone
    /// resolve at once.
    ///
    /// # Errors
    /// [`RulesError::Load`] with the first mistake of each file.
    pub async fn load(&self, files: Vec<RuleFileSource>) -> Result<(), RulesError> {
        let planned = plan(&files)?;
        let mut inner = self.inner.lock().await;
        let mut old = std::mem::take(&mut inner.groups);
        let mut pool: BTreeMap<RuleKey, RuleRuntime> = BTreeMap::new();
        let mut kept: Vec<Option<Group>> = Vec::new();
        for plan in &planned {
            let same = old
                .iter()
                .position(|group| group.file == plan.file && group.spec == plan.spec && group.keys == plan.keys);
            kept.push(same.map(|at| old.remove(at)));
        }
        for group in old {
            for rule in group.work.halt().await.rules {
                pool.insert(rule.key.clone(), rule);
            }
        }
        let first = inner.remembered.is_some();
        let mut remembered = inner.remembered.take().unwrap_or_default();
        for (plan, kept) in planned.into_iter().zip(kept) {
            let group = match kept {
                Some(group) => group,
                None => self.begin(plan, &mut pool, &mut remembered, inner.running),
            };
            inner.groups.push(group);
        }
        if first {
            for (key, rule) in remembered {
                let alerts = Alerts::restored(rule);
                pool.insert(key.clone(), RuleRuntime::new(key.clone(), departed(&key), alerts));
            }
        }
        self.end(&mut inner, pool).await;
        self.listen(&inner);
        self.published.store(Arc::new(
            inner.groups.iter().map(|group| group.published.clone()).collect(),
        ));
        let names: Vec<String> = inner.groups.iter().map(|group| group.spec.name.clone()).collect();
        metrics::RULES.retain(|labels| names.contains(&labels[0]));
        metrics::INTERVAL.retain(|labels| names.contains(&labels[0]));
        metrics::LAST_DURATION.retain(|labels| names.contains(&labels[0]));
        metrics::LAST_TIME.retain(|labels| names.contains(&labels[0]));
        metrics::LAST_SAMPLES.retain(|labels| names.contains(&labels[0]));
        Ok(())
    }

    /// Tells the store which series the alert rules want to hear of.
    fn listen(&self, inner: &Inner) {
        let Some(interest) = &self.deps.interest else { return };
        let offset = |spec: &GroupSpec| spec.query_offset.unwrap_or(self.deps.settings.query_offset);
        let on = self.deps.settings.eager_cpu_share > 0.0;
        let groups = inner
            .groups
            .iter()
            .filter(|group| on && group.spec.eager && offset(&group.spec) == Interval::ZERO);
        let (selectors, wake) = eager::registrations(groups.map(|group| Listener {
            spec: &group.spec,
            inbox: &group.inbox,
        }));
        interest.register(selectors, wake);
    }

    fn begin(
        &self,
        plan: Planned,
        pool: &mut BTreeMap<RuleKey, RuleRuntime>,
        remembered: &mut Folded,
        running: bool,
    ) -> Group {
        let rules = plan.spec.rules.iter().zip(&plan.keys).map(|(spec, key)| {
            let stored = remembered.remove(key).filter(|_| spec.is_alert());
            let alerts = Alerts::restored(stored.unwrap_or_default());
            let mut rule = RuleRuntime::new(key.clone(), spec.clone(), alerts);
            if let Some(old) = pool.remove(key) {
                if old.spec.is_alert() == spec.is_alert() {
                    rule.inherit(old);
                } else {
                    pool.insert(key.clone(), old);
                }
            }
            rule
        });
        let runtime = GroupRuntime::new(&plan.file, plan.spec.clone(), rules.collect(), &self.deps, &self.share);
        let inbox = Arc::clone(&runtime.inbox);
        let published = runtime.published();
        let work = if running {
            self.spawn(runtime)
        } else {
            Work::Idle(Box::new(runtime))
        };
        Group {
            file: plan.file,
            spec: plan.spec,
            keys: plan.keys,
            inbox,
            published,
            work,
        }
    }

    fn spawn(&self, runtime: GroupRuntime) -> Work {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(runtime.run(Arc::clone(&self.deps), stopped));
        Work::Task { stop, task }
    }

    /// Ends the rules in `pool`: they are in no file any more.
    async fn end(&self, inner: &mut Inner, pool: BTreeMap<RuleKey, RuleRuntime>) {
        if pool.is_empty() {
            return;
        }
        let spec = GroupSpec {
            name: "removed".to_owned(),
            interval: None,
            query_offset: None,
            limit: 0,
            labels: BTreeMap::new(),
            eager: false,
            rules: Vec::new(),
        };
        let mut group = GroupRuntime::new("", spec, pool.into_values().collect(), &self.deps, &self.share);
        group.end(&self.deps).await;
        if !group.is_spent() {
            inner.ended.push(group);
        }
    }

    /// Evaluates until `shutdown`; evaluations under way are finished, and all states are written as one snapshot.
    pub async fn run(&self, mut shutdown: Shutdown) {
        {
            let mut inner = self.inner.lock().await;
            inner.running = true;
            let idle = std::mem::take(&mut inner.groups);
            for group in idle {
                let work = match group.work {
                    Work::Idle(runtime) => self.spawn(*runtime),
                    task @ Work::Task { .. } => task,
                };
                inner.groups.push(Group { work, ..group });
            }
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                () = self.deps.clock.sleep(HOUSEKEEPING) => {}
            }
            self.offer_again().await;
            let since = self
                .deps
                .log
                .bounds()
                .next
                .0
                .saturating_sub(self.snapshot_at.load(Ordering::Relaxed));
            if since >= SNAPSHOT_RECORDS {
                self.snapshot().await;
            }
        }
        self.stop().await;
    }

    async fn stop(&self) {
        let mut inner = self.inner.lock().await;
        inner.running = false;
        let groups = std::mem::take(&mut inner.groups);
        for group in &groups {
            if let Work::Task { stop, .. } = &group.work {
                stop.send_replace(true);
            }
        }
        for group in groups {
            let runtime = group.work.halt().await;
            let work = Work::Idle(Box::new(runtime));
            inner.groups.push(Group { work, ..group });
        }
        drop(inner);
        self.snapshot().await;
    }

    async fn offer_again(&self) {
        let mut inner = self.inner.lock().await;
        let mut ended = std::mem::take(&mut inner.ended);
        for group in &mut ended {
            group.offer_again(&self.deps).await;
        }
        ended.retain(|group| !group.is_spent());
        inner.ended = ended;
    }

    /// Writes all states as one record, so that older ones are no longer needed.
    async fn snapshot(&self) {
        let from = self.deps.log.bounds().next;
        let inner = self.inner.lock().await;
        let mut rules = Vec::new();
        for published in inner.groups.iter().map(|group| &group.published) {
            rules.extend(published.states.load().iter().cloned());
        }
        for group in &inner.ended {
            rules.extend(group.rules.iter().map(RuleRuntime::snapshot));
        }
        if let Some(remembered) = &inner.remembered {
            rules.extend(remembered.iter().map(|(key, rule)| rule.to_changes(key)));
        }
        drop(inner);
        let record = journal::snapshot(self.deps.clock.now(), from, rules);
        match self.deps.log.append(record, None).await {
            Ok(appended) => {
                self.needed.store(from.0, Ordering::Relaxed);
                self.snapshot_at.store(appended.at.0, Ordering::Relaxed);
            }
            Err(error) => {
                metrics::LOG_FAILURES.inc();
                tracing::error!(%error, "no snapshot of alert states was written");
            }
        }
    }

    /// Returns the lowest position of the alert log that rules still need: older records may be trimmed.
    pub fn needed_from(&self) -> Position {
        Position(self.needed.load(Ordering::Relaxed))
    }

    /// Returns all groups as they were after their last evaluation, sorted by file and place in it.
    pub fn groups(&self) -> Vec<Arc<GroupView>> {
        self.published
            .load()
            .iter()
            .map(|published| published.view.load_full())
            .collect()
    }

    /// Returns how rules run.
    pub fn settings(&self) -> &Settings {
        &self.deps.settings
    }

    /// Returns the rules of this name, each with its group.
    pub fn rules_named(&self, name: &str) -> Vec<(Arc<GroupView>, Arc<RuleView>)> {
        let mut found = Vec::new();
        for group in self.groups() {
            for rule in group.rules.iter().filter(|rule| rule.name == name) {
                found.push((Arc::clone(&group), Arc::clone(rule)));
            }
        }
        found
    }
}

#[cfg(test)]
impl Manager {
    /// A manager without rules over a literal store, for tests of other modules.
    pub(crate) fn over(store: &crate::storage::LiteralStore) -> Arc<Manager> {
        struct Nobody;
        impl super::AlertSink for Nobody {
            fn send(&self, _: Vec<crate::model::Alert>) -> crate::io::BoxFuture<'_, Result<(), String>> {
                Box::pin(std::future::ready(Ok(())))
            }
        }
        let deps = Deps {
            clock: Arc::new(crate::io::SimClock::default()),
            engine: Arc::new(super::EngineOver {
                engine: crate::query::Engine,
                querier: Arc::new(store.clone()),
                options: crate::query::QueryOptions::default(),
            }),
            appender: Arc::new(store.clone()),
            log: Arc::new(crate::io::log::MemLog::new()),
            sink: Arc::new(Nobody),
            interest: None,
            settings: super::Settings::default(),
            seed: 1,
        };
        Manager::new(deps).expect("an empty log can be read")
    }
}

struct Planned {
    file: String,
    spec: GroupSpec,
    keys: Vec<RuleKey>,
}

fn plan(files: &[RuleFileSource]) -> Result<Vec<Planned>, RulesError> {
    let mut planned = Vec::new();
    let mut errors = Vec::new();
    let mut counts: BTreeMap<RuleKey, u32> = BTreeMap::new();
    for source in files {
        let file = match RuleFile::read(source) {
            Ok(file) => file,
            Err(error) => {
                errors.push(LoadError(error));
                continue;
            }
        };
        for spec in file.groups {
            let keys = spec.rules.iter().map(|rule| {
                let mut key = RuleKey {
                    group: spec.name.clone(),
                    rule: rule.name.clone(),
                    labels: rule
                        .labels
                        .iter()
                        .map(|(name, text)| (name.clone(), text.source.clone()))
                        .collect(),
                    nth: 0,
                };
                let count = counts.entry(key.clone()).or_default();
                key.nth = *count;
                *count += 1;
                key
            });
            planned.push(Planned {
                file: source.path.clone(),
                keys: keys.collect(),
                spec,
            });
        }
    }
    if errors.is_empty() {
        Ok(planned)
    } else {
        Err(RulesError::Load(errors))
    }
}

/// A stand-in for a rule that the log remembers and no file has.
fn departed(key: &RuleKey) -> RuleSpec {
    let query = "vector(0)".parse().expect("a query that never changes");
    RuleSpec {
        name: key.rule.clone(),
        source: Source::Expr(query),
        labels: BTreeMap::new(),
        alert: Some(AlertSpec {
            hold: Interval::ZERO,
            keep_firing: Interval::ZERO,
            annotations: BTreeMap::new(),
            recover: None,
            no_data: NoData::Ok,
            on_error: OnError::Keep,
        }),
    }
}
