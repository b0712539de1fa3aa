//! Reading what people wrote: at the start, and again on SIGHUP or `POST /-/reload`. All of it is in force, or nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::{Options, status};
use crate::alertmanager::{self, AlertManager};
use crate::config::{BUILTIN, Config};
use crate::events::Edge;
use crate::http::{Access, Door, Reload};
use crate::io::disk::Disk;
use crate::io::{BoxFuture, Clock, files};
use crate::model::Millis;
use crate::rules::{BUILTIN_RULES, Manager, RuleFile, RuleFileSource};
use crate::ui::Dashboards;

/// The files that a configuration names, read and found good.
pub(super) struct Loaded {
    /// Rule files.
    pub(super) rules: Vec<RuleFileSource>,
    /// Routing and receivers.
    pub(super) alertmanager: alertmanager::Config,
    /// Dashboards.
    pub(super) dashboards: Dashboards,
    /// Who may do what.
    pub(super) access: Access,
}

impl Loaded {
    /// Reads them all. Blocks.
    ///
    /// # Errors
    /// Every file that is wrong, a line each.
    pub(super) fn read(disk: &Arc<dyn Disk>, config: &Config) -> Result<Loaded, String> {
        let mut wrong = Vec::new();
        let rules = keep(&mut wrong, read_rules(&**disk, config));
        let alertmanager = match &config.alertmanager {
            Some(path) => keep(
                &mut wrong,
                alertmanager::Config::load(&**disk, path).map_err(|error| error.to_string()),
            ),
            None => Some(alertmanager::Config::pages_nobody()),
        };
        let dashboards = keep(&mut wrong, read_dashboards(&**disk, config));
        let access = keep(&mut wrong, config.access(&**disk));
        match (rules, alertmanager, dashboards, access) {
            (Some(rules), Some(alertmanager), Some(dashboards), Some(access)) => Ok(Loaded {
                rules,
                alertmanager,
                dashboards,
                access,
            }),
            _ => Err(wrong.join("\n")),
        }
    }
}

fn keep<T>(wrong: &mut Vec<String>, read: Result<T, String>) -> Option<T> {
    read.map_err(|error| wrong.push(error)).ok()
}

/// Returns the rule files: the shipped ones when the configuration names none.
pub(crate) fn read_rules(disk: &dyn Disk, config: &Config) -> Result<Vec<RuleFileSource>, String> {
    let builtin = || {
        BUILTIN_RULES.iter().map(|(path, text)| RuleFileSource {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        })
    };
    let Some(patterns) = &config.rules else {
        return Ok(builtin().collect());
    };
    let mut sources = Vec::new();
    let mut wrong = Vec::new();
    for pattern in patterns {
        if pattern == BUILTIN {
            sources.extend(builtin());
            continue;
        }
        for path in matching(disk, pattern)? {
            match read_text(disk, &path) {
                Ok(text) => sources.push(RuleFileSource {
                    path: path.display().to_string(),
                    text,
                }),
                Err(error) => wrong.push(error),
            }
        }
    }
    let mistakes = sources.iter().filter_map(|source| RuleFile::read(source).err());
    wrong.extend(mistakes.map(|error| error.with_snippet()));
    if wrong.is_empty() {
        Ok(sources)
    } else {
        Err(wrong.join("\n"))
    }
}

/// Returns the dashboards: the shipped ones when the configuration names none.
pub(crate) fn read_dashboards(disk: &dyn Disk, config: &Config) -> Result<Dashboards, String> {
    let shipped = [BUILTIN.to_owned()];
    let named = config.dashboards.as_deref().unwrap_or(&shipped);
    let written = config
        .dashboards_folder
        .iter()
        .map(|folder| folder.join("*.yaml").display().to_string());
    let patterns: Vec<String> = named.iter().cloned().chain(written).collect();
    let has_builtin = patterns.iter().any(|pattern| pattern == BUILTIN);
    let mut dashboards = if has_builtin {
        Dashboards::builtin()
    } else {
        Dashboards::default()
    };
    let mut wrong = Vec::new();
    for pattern in patterns.iter().filter(|pattern| *pattern != BUILTIN) {
        for path in matching(disk, pattern)? {
            let added = read_text(disk, &path).and_then(|text| {
                dashboards
                    .add(&path.display().to_string(), &text)
                    .map_err(|error| error.with_snippet())
            });
            wrong.extend(added.err());
        }
    }
    if wrong.is_empty() {
        Ok(dashboards)
    } else {
        Err(wrong.join("\n"))
    }
}

fn matching(disk: &dyn Disk, pattern: &str) -> Result<Vec<PathBuf>, String> {
    files::glob(disk, Path::new(pattern)).map_err(|error| format!("{pattern}: {error}"))
}

fn read_text(disk: &dyn Disk, path: &Path) -> Result<String, String> {
    files::read_text(disk, path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Puts a new configuration into force.
pub(super) struct Reloader {
    pub(super) disk: Arc<dyn Disk>,
    options: Options,
    pub(super) dashboards: Arc<ArcSwap<Dashboards>>,
    parts: OnceLock<(Arc<Manager>, Arc<AlertManager>)>,
    door: OnceLock<Arc<Door>>,
    edge: OnceLock<Arc<Edge>>,
    clock: Arc<dyn Clock>,
    /// What is in force, and since when: its text is what `/api/v1/status/config` shows.
    current: ArcSwap<(Config, Millis)>,
}

impl Reloader {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        config: Config,
        dashboards: Arc<ArcSwap<Dashboards>>,
        clock: Arc<dyn Clock>,
    ) -> Reloader {
        status::RELOADED.set(1.0);
        let current = ArcSwap::from_pointee((config, clock.now()));
        Reloader {
            disk,
            options,
            dashboards,
            parts: OnceLock::new(),
            door: OnceLock::new(),
            edge: OnceLock::new(),
            clock,
            current,
        }
    }

    /// Tells the reloader whom to reload, once they are there.
    pub(super) fn connect(&self, rules: Arc<Manager>, alerts: Arc<AlertManager>) {
        let _ = self.parts.set((rules, alerts));
    }

    /// Tells the reloader where events come in.
    pub(super) fn checks(&self, edge: Arc<Edge>) {
        let _ = self.edge.set(edge);
    }

    /// Tells the reloader whose callers it decides about.
    pub(super) fn guards(&self, door: Arc<Door>) {
        let _ = self.door.set(door);
    }

    /// Brings the alert manager's gauges up to date, once it is there.
    pub(super) fn observe(&self) {
        if let Some((_, alerts)) = self.parts.get() {
            alerts.observe();
        }
    }

    /// Returns the configuration in force.
    pub(super) fn config(&self) -> Config {
        self.current.load().0.clone()
    }

    /// Returns when the configuration in force was loaded.
    pub(super) fn loaded_at(&self) -> Millis {
        self.current.load().1
    }

    async fn put_into_force(&self) -> Result<(), String> {
        let Some((rules, alerts)) = self.parts.get() else {
            return Err("the server is still starting".to_owned());
        };
        let (disk, options) = (Arc::clone(&self.disk), self.options.clone());
        let edge = self.edge.get().cloned();
        let read = tokio::task::spawn_blocking(move || {
            let config = Config::load(&*disk, &options.flags, &options.variables)?;
            let loaded = Loaded::read(&disk, &config)?;
            let checks = edge
                .map(|edge| edge.prepare(&*disk, config.events.clone()))
                .transpose()?;
            Ok::<_, String>((config, loaded, checks))
        });
        let (config, loaded, checks) = read.await.map_err(|error| format!("reading failed: {error}"))??;
        // The rules are the last that can refuse; whatever follows cannot.
        rules.load(loaded.rules).await.map_err(|error| error.to_string())?;
        alerts.reload(loaded.alertmanager).await;
        self.dashboards.store(Arc::new(loaded.dashboards));
        if let (Some(edge), Some(checks)) = (self.edge.get(), checks) {
            edge.put_into_force(checks);
        }
        if let Some(door) = self.door.get() {
            door.set_access(loaded.access);
        }
        let late = needs_restart(&self.current.load().0, &config);
        if !late.is_empty() {
            tracing::warn!(
                keys = late.join(", "),
                "these keys changed and take effect after a restart"
            );
        }
        self.current.store(Arc::new((config, self.clock.now())));
        Ok(())
    }
}

impl Reload for Reloader {
    fn reload(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let reloaded = self.put_into_force().await;
            status::RELOADED.set(f64::from(u8::from(reloaded.is_ok())));
            match &reloaded {
                Ok(()) => tracing::info!("the configuration was reloaded"),
                Err(error) => {
                    tracing::error!(%error, "the configuration was not reloaded");
                    if let Some((_, alerts)) = self.parts.get() {
                        alerts.reload_failed();
                    }
                }
            }
            reloaded
        })
    }
}

/// Returns the top-level keys whose change a running server does not follow.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let shown = |config: &Config| {
        [
            ("data_dir", format!("{:?}", config.data_dir)),
            ("events", config.events.fixed()),
            ("external_url", format!("{:?}", config.external_url)),
            ("external_labels", format!("{:?}", config.external_labels)),
            ("evaluation_interval", format!("{:?}", config.evaluation_interval)),
            ("rule_query_offset", format!("{:?}", config.rule_query_offset)),
            ("eager_cpu_share", format!("{:?}", config.eager_cpu_share)),
            ("alerting", format!("{:?}", config.alerting)),
            ("query", format!("{:?}", config.query)),
            (
                "storage",
                format!(
                    "{:?}",
                    (
                        config.storage.retention,
                        config.storage.retention_size,
                        config.storage.out_of_order_window,
                        config.storage.durability
                    )
                ),
            ),
            ("agent", format!("{:?}", config.agent)),
            ("limits", format!("{:?}", config.limits)),
        ]
    };
    let pairs = shown(old).into_iter().zip(shown(new));
    pairs
        .filter(|(old, new)| old.1 != new.1)
        .map(|(old, _)| old.0)
        .collect()
}
