//! The wiring: builds the parts, owns the tasks, carries values across between modules that must not know each other, and
//! stops everything in reverse order.
//!
//! Start: the door listens first and answers "not ready"; the store replays its log; rules and alert manager fold the alert
//! log; then the door opens and the agent begins to push through it. Stop: agent, rules, alert manager, door, store.

mod carry;
mod clicks;
mod dashboards;
mod logging;
mod reload;
mod screen;
mod status;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

pub use logging::Logging;

use crate::agent::{self, Agent, AgentParts, RemoteWriteConfig, ScrapeConfig};
use crate::alertmanager::{self, AlertManager};
use crate::config::{Config, Flags};
use crate::events::{self, Events};
use crate::http::{self, Access, App, Door, DoorConfig, HttpConfig, LocalClient};
use crate::ingest::pushgateway::Pushgateway;
use crate::ingest::relabel::RelabelConfig;
use crate::ingest::{self, Intake};
use crate::io::disk::{Disk, OsDisk};
use crate::io::http_client::{HttpClient, ReqwestClient};
use crate::io::log::{FileLog, Log, SegmentOptions};
use crate::io::mailer::SmtpMailer;
use crate::io::process::{ServiceState, raise_file_limit, tell_service_manager};
use crate::io::{Clock, OsRandom, Random, Shutdown, ShutdownHandle, SystemClock};
use crate::model::{Interval, Labels};
use crate::query::{Engine, Fits, QueryOptions};
use crate::rules::{self, EngineOver, External, ExternalDeps, Manager, Settings};
use crate::storage::{Appender, Interest, Querier};
use crate::telemetry::Metric;
use crate::tsdb::{self, Db};
use crate::ui::Assets;

/// The most memory for what detectors learned: about 2,000 series with four weeks in steps of five minutes.
const FITS_BYTES_MAX: usize = 64 << 20;
/// How often the store looks after itself.
const MAINTENANCE: Interval = Interval::secs(10);

/// What `campanile serve` was called with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the command line sets.
    pub flags: Flags,
    /// Serve the web pages from here instead of the embedded ones.
    pub ui_dir: Option<PathBuf>,
    /// How to log.
    pub logging: Logging,
    /// The environment.
    pub variables: Vec<(String, String)>,
}

/// Every table of metrics in the process: what `/metrics` shows.
static TABLES: &[&[&dyn Metric]] = &[
    agent::METRICS,
    alertmanager::METRICS,
    events::METRICS,
    events::EDGE_METRICS,
    http::METRICS,
    ingest::METRICS,
    rules::METRICS,
    tsdb::METRICS,
    tsdb::BLOCK_METRICS,
    status::METRICS,
];

/// Runs the server until it is told to stop (SIGINT, SIGTERM).
///
/// # Errors
/// A text for the operator: what is wrong with configuration, directory or address.
pub fn run(options: Options) -> Result<(), String> {
    options.logging.start()?;
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let config = Config::load(&*disk, &options.flags, &options.variables)?;
    match raise_file_limit() {
        Ok(files) => tracing::debug!(?files, "files and connections that may be open"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays"),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    let stopped = runtime.block_on(serve(options, config, disk));
    // Blocking work that is left (a query nobody waits for) does not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    stopped
}

/// What the parts are made with.
struct World {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    client: Arc<dyn HttpClient>,
    seed: u64,
}

async fn serve(options: Options, config: Config, disk: Arc<dyn Disk>) -> Result<(), String> {
    let random: Arc<dyn Random> = Arc::new(OsRandom);
    let world = World {
        disk,
        clock: SystemClock::new(),
        seed: random.next_u64(),
        random,
        client: ReqwestClient::new(),
    };
    // Everything that can be wrong with what people wrote is found before anything is touched.
    let loaded = reload::Loaded::read(&world.disk, &config)?;
    let seen = watch::Seen::look(&*world.disk, &config, &loaded.access);
    let dashboards = Arc::new(ArcSwap::from_pointee(loaded.dashboards.clone()));
    let listener = http::bind(&HttpConfig {
        listen: config.listen.0,
    })
    .await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let mut config = config;
    config.listen = crate::config::Listen(address);
    if loaded.access.has_tls() && config.external_url.is_none() {
        config.external_url = Some(format!("https://{address}"));
    }

    let (door_stop, door_shutdown) = ShutdownHandle::new();
    let reloader = Arc::new(reload::Reloader::new(
        Arc::clone(&world.disk),
        options.clone(),
        config.clone(),
        Arc::clone(&dashboards),
        Arc::clone(&world.clock),
    ));
    let access = loaded.access.clone();
    let door = Door::new(door_config(&world, &options, &config, &reloader, dashboards, access));
    reloader.guards(Arc::clone(&door));
    let door_task = tokio::spawn(http::serve(listener, Arc::clone(&door), door_shutdown));

    let parts = match start_parts(&world, &config, loaded, seen, &door, &reloader).await {
        Ok(parts) => parts,
        Err(error) => {
            door_stop.request();
            let _ = door_task.await;
            return Err(error);
        }
    };
    status::READY.set(1.0);
    tracing::info!(address = %address, data_dir = %config.data_dir.display(), "ready");
    tell(ServiceState::Ready);
    println!("{}", screen::text(&config, address));
    wait_for_the_end(&reloader, &door, &parts.db).await;
    tell(ServiceState::Stopping);
    parts.stop(door_stop, door_task).await;
    Ok(())
}

fn tell(state: ServiceState) {
    if let Err(error) = tell_service_manager(state) {
        tracing::warn!(%error, ?state, "the service manager was not told");
    }
}

fn door_config(
    world: &World,
    options: &Options,
    config: &Config,
    reloader: &Arc<reload::Reloader>,
    dashboards: Arc<ArcSwap<crate::ui::Dashboards>>,
    access: Access,
) -> DoorConfig {
    let external = url::Url::parse(&config.url()).ok();
    let prefix = external
        .as_ref()
        .map_or("", |url| url.path())
        .trim_end_matches('/')
        .to_owned();
    let assets = match &options.ui_dir {
        Some(folder) => Assets::from_folder(&prefix, Arc::clone(&world.disk), folder.clone()),
        None => Assets::embedded(&prefix),
    };
    DoorConfig {
        clock: Arc::clone(&world.clock),
        random: Arc::clone(&world.random),
        limits: config.limits.http.clone(),
        is_https: access.has_tls() || external.as_ref().is_some_and(|url| url.scheme() == "https"),
        access,
        hosts: external
            .as_ref()
            .and_then(|url| url.host_str())
            .map(str::to_owned)
            .into_iter()
            .collect(),
        prefix,
        reload: Arc::clone(reloader) as Arc<dyn http::Reload>,
        exposition: exposition(reloader),
        assets,
        dashboards,
        dashboard_folder: Arc::clone(reloader) as Arc<dyn http::DashboardFolder>,
    }
}

/// What `/metrics` answers; numbers that nobody counts as they change are brought up to date first.
fn exposition(reloader: &Arc<reload::Reloader>) -> http::Exposition {
    let reloader = Arc::clone(reloader);
    Arc::new(move || {
        reloader.observe();
        crate::telemetry::exposition(TABLES)
    })
}

/// The running parts, and what stops them.
struct Parts {
    db: Arc<Db>,
    counts: Arc<Events>,
    /// In the order of starting; stopped the other way round.
    tasks: Vec<(&'static str, ShutdownHandle, JoinHandle<()>)>,
}

impl Parts {
    fn spawn<F: Future<Output = ()> + Send + 'static>(&mut self, name: &'static str, run: impl FnOnce(Shutdown) -> F) {
        let (handle, shutdown) = ShutdownHandle::new();
        self.tasks.push((name, handle, tokio::spawn(run(shutdown))));
    }

    async fn stop(self, door_stop: ShutdownHandle, door_task: JoinHandle<()>) {
        tracing::info!("stopping");
        // Requests under way are finished while the parts they need still run.
        door_stop.request();
        let _ = door_task.await;
        for (name, handle, task) in self.tasks.into_iter().rev() {
            handle.request();
            if let Err(error) = task.await {
                tracing::error!(task = name, %error, "a task ended badly");
            }
        }
        let (db, counts) = (self.db, self.counts);
        let closed = tokio::task::spawn_blocking(move || {
            counts.close();
            db.close();
        })
        .await;
        tracing::info!(clean = closed.is_ok(), "stopped");
    }
}

async fn start_parts(
    world: &World,
    config: &Config,
    loaded: reload::Loaded,
    seen: watch::Seen,
    door: &Arc<Door>,
    reloader: &Arc<reload::Reloader>,
) -> Result<Parts, String> {
    let db = open_store(world, config, door).await?;
    let (counts, edge) = clicks::open(world, config, door).await?;
    let querier: Arc<dyn Querier> = Arc::new(events::Both {
        samples: Arc::clone(&db) as Arc<dyn Querier>,
        events: Arc::clone(&counts),
    });
    let appender: Arc<dyn Appender> = Arc::clone(&db) as Arc<dyn Appender>;
    let options = query_options(config);
    let engine = Engine;

    door.readiness().not_ready("reading the alert log");
    let alert_log = open_alert_log(world, config).await?;
    let alerts = open_alert_manager(world, config, loaded.alertmanager, &alert_log).await?;
    let evaluate = Arc::new(EngineOver {
        engine,
        querier: Arc::clone(&querier),
        options: options.clone(),
    });
    let elsewhere = External::new(
        &config.alerting.alertmanagers,
        config.alerting.alert_relabel_configs.clone(),
        Settings::default().resend_delay,
        ExternalDeps {
            clock: Arc::clone(&world.clock),
            client: Arc::clone(&world.client),
            disk: Arc::clone(&world.disk),
        },
    );
    let deps = rules::Deps {
        clock: Arc::clone(&world.clock),
        engine: evaluate,
        appender: Arc::clone(&appender),
        log: Arc::clone(&alert_log),
        sink: Arc::new(carry::Sink {
            alerts: Arc::clone(&alerts),
            elsewhere: Arc::clone(&elsewhere),
        }),
        interest: Some(Arc::clone(&db) as Arc<dyn Interest>),
        settings: settings(config),
        seed: world.seed,
    };
    let manager = open_rules(deps, loaded.rules).await?;
    reloader.connect(Arc::clone(&manager), Arc::clone(&alerts));

    let intake = Intake::new(
        Arc::clone(&appender),
        Arc::clone(&world.clock),
        world.seed,
        config.limits.ingest.clone(),
    )
    .with(&config.ingest);
    let intake = Arc::new(intake);
    let targets: Arc<agent::Targets> = Arc::default();
    let pushgateway = open_pushgateway(world, config, &intake).await?;
    let listeners = open_listeners(world, config, &intake).await?;
    let app = App {
        clock: Arc::clone(&world.clock),
        intake,
        pushgateway: Arc::clone(&pushgateway),
        appender,
        querier,
        query_options: options,
        status: Arc::new(status::Status::new(
            Arc::clone(&db),
            world.clock.now(),
            Arc::clone(reloader),
        )),
        targets: Arc::new(carry::Scraped(Arc::clone(&targets))),
        alertmanager: Arc::clone(&alerts),
        rules: Arc::clone(&manager),
        events: Some(Arc::clone(&edge)),
        counts: Some(Arc::clone(&counts)),
        seed: world.seed,
    };
    let mut parts = Parts {
        db,
        counts: Arc::clone(&counts),
        tasks: Vec::new(),
    };
    if let Some(mirror) = clicks::open_mirror(world, config, &counts).await? {
        parts.spawn("mirror of events", |shutdown| mirror.run(shutdown));
    }
    let reconciler = clicks::reconciler(world, config, &counts);
    parts.spawn("reconciliation", |shutdown| reconciler.run(shutdown));
    reloader.checks(Arc::clone(&edge));
    let clock = Arc::clone(&world.clock);
    parts.spawn("events", |shutdown| clicks::look_after(counts, edge, clock, shutdown));
    parts.spawn("pushed groups", |shutdown| pushgateway.run(shutdown));
    let (store, clock) = (Arc::clone(&parts.db), Arc::clone(&world.clock));
    parts.spawn("store", |shutdown| maintain_store(store, clock, shutdown));
    let log = Arc::clone(&alert_log);
    let clock = Arc::clone(&world.clock);
    let (for_trim, alerts_for_trim) = (Arc::clone(&manager), Arc::clone(&alerts));
    parts.spawn("alert log", |shutdown| {
        carry::trim(log, for_trim, alerts_for_trim, clock, shutdown)
    });
    let running = Arc::clone(&alerts);
    parts.spawn("alert manager", |shutdown| async move { running.run(shutdown).await });
    parts.spawn("alertmanagers elsewhere", |shutdown| elsewhere.run(shutdown));
    let running = Arc::clone(&manager);
    parts.spawn("rules", |shutdown| async move { running.run(shutdown).await });
    let clock = Arc::clone(&world.clock);
    let external = Labels::from_pairs(&config.external_labels);
    parts.spawn("first word", |shutdown| {
        carry::first_word(manager, alerts, external, clock, shutdown)
    });
    let (followed, guarded) = (Arc::clone(reloader), Arc::clone(door));
    let (disk, clock) = (Arc::clone(&world.disk), Arc::clone(&world.clock));
    parts.spawn("file watch", |shutdown| {
        watch::follow(seen, followed, guarded, disk, clock, shutdown)
    });
    for (name, listener) in listeners {
        parts.spawn(name, listener);
    }
    door.open(Arc::new(app));
    if let Some(agent) = open_agent(world, config, door).await? {
        let agent = agent.with_targets(targets);
        parts.spawn("agent", |shutdown| agent.run(shutdown));
    }
    Ok(parts)
}

/// Opens the store on a thread that may block, and keeps `/-/ready` informed.
async fn open_store(world: &World, config: &Config, door: &Arc<Door>) -> Result<Arc<Db>, String> {
    let settings = tsdb::DbConfig {
        dir: config.data_dir.join("tsdb"),
        series_max: config.limits.store.active_series,
        ..config.storage.clone()
    };
    let progress = Arc::clone(&settings.progress);
    let (disk, clock, random) = (
        Arc::clone(&world.disk),
        Arc::clone(&world.clock),
        Arc::clone(&world.random),
    );
    let mut opening = tokio::task::spawn_blocking(move || Db::open(settings, disk, clock, random));
    let opened = loop {
        tokio::select! {
            opened = &mut opening => break opened,
            () = world.clock.sleep(Interval(200)) => {
                door.readiness().not_ready(format!("replaying the log, {}", status::progress_text(&progress)));
            }
        }
    };
    let (db, report) = opened
        .map_err(|error| format!("opening the store failed: {error}"))?
        .map_err(|error| error.to_string())?;
    tracing::info!(
        series = report.series,
        samples = report.samples,
        blocks = report.blocks,
        took = %report.took,
        damage = report.damage.len(),
        "the store is open"
    );
    Ok(db)
}

/// Looks after the store from the start: what fell due while the server was down is done first.
async fn maintain_store(db: Arc<Db>, clock: Arc<dyn Clock>, mut shutdown: Shutdown) {
    loop {
        let step = Arc::clone(&db);
        let more = match tokio::task::spawn_blocking(move || step.maintain()).await {
            Ok(Ok(done)) => done.more,
            Ok(Err(error)) => {
                tracing::error!(%error, "looking after the store failed; it is tried again");
                false
            }
            Err(error) => {
                tracing::error!(%error, "looking after the store ended badly");
                false
            }
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = clock.sleep(if more { Interval::ZERO } else { MAINTENANCE }) => {}
        }
    }
}

async fn open_alert_log(world: &World, config: &Config) -> Result<Arc<dyn Log>, String> {
    let (disk, dir) = (Arc::clone(&world.disk), config.data_dir.join("alerts"));
    let options = SegmentOptions {
        segment_bytes: 4 << 20,
        ..SegmentOptions::default()
    };
    let shown = dir.display().to_string();
    let opened = tokio::task::spawn_blocking(move || FileLog::open(disk, &dir, options)).await;
    let (log, damage) = opened
        .map_err(|error| error.to_string())
        .and_then(|opened| opened.map_err(|error| error.to_string()))
        .map_err(|error| format!("the alert log in {shown}: {error}"))?;
    for damage in damage {
        tracing::error!(?damage, "the alert log is damaged: what can be read is kept");
    }
    Ok(Arc::new(log))
}

async fn open_pushgateway(world: &World, config: &Config, intake: &Arc<Intake>) -> Result<Arc<Pushgateway>, String> {
    let (disk, dir) = (Arc::clone(&world.disk), config.data_dir.join("pushgateway"));
    let (intake, clock) = (Arc::clone(intake), Arc::clone(&world.clock));
    let settings = config.ingest.pushgateway.clone();
    let options = SegmentOptions {
        segment_bytes: 4 << 20,
        ..SegmentOptions::default()
    };
    let opened = tokio::task::spawn_blocking(move || {
        let (log, damage) = FileLog::open(disk, &dir, options).map_err(|error| error.to_string())?;
        for damage in damage {
            tracing::error!(?damage, "the log of pushed groups is damaged: what can be read is kept");
        }
        Pushgateway::open(intake, Arc::new(log), clock, settings).map_err(|error| error.to_string())
    });
    let opened = opened
        .await
        .map_err(|error| error.to_string())
        .and_then(|opened| opened);
    opened
        .map(Arc::new)
        .map_err(|error| format!("opening the pushed groups failed: {error}"))
}

/// A listener that waits to be run.
type Listener = Box<dyn FnOnce(Shutdown) -> crate::io::BoxFuture<'static, ()> + Send>;

/// Takes the addresses of the line listeners that are configured.
async fn open_listeners(
    world: &World,
    config: &Config,
    intake: &Arc<Intake>,
) -> Result<Vec<(&'static str, Listener)>, String> {
    let mut listeners: Vec<(&'static str, Listener)> = Vec::new();
    if let Some(graphite) = config.ingest.graphite.clone() {
        let sockets = http::LineSockets::bind("graphite", graphite.listen).await?;
        let (intake, clock) = (Arc::clone(intake), Arc::clone(&world.clock));
        let run = |shutdown| Box::pin(http::serve_graphite(sockets, graphite, intake, clock, shutdown)) as _;
        listeners.push(("graphite", Box::new(run)));
    }
    if let Some(statsd) = config.ingest.statsd.clone() {
        let sockets = http::LineSockets::bind("statsd", statsd.listen).await?;
        let (intake, clock) = (Arc::clone(intake), Arc::clone(&world.clock));
        let run = |shutdown| Box::pin(http::serve_statsd(sockets, statsd, intake, clock, shutdown)) as _;
        listeners.push(("statsd", Box::new(run)));
    }
    Ok(listeners)
}

async fn open_alert_manager(
    world: &World,
    config: &Config,
    routing: alertmanager::Config,
    log: &Arc<dyn Log>,
) -> Result<Arc<AlertManager>, String> {
    let deps = alertmanager::Deps {
        clock: Arc::clone(&world.clock),
        log: Arc::clone(log),
        disk: Arc::clone(&world.disk),
        http: Arc::clone(&world.client),
        mailer: SmtpMailer::new(),
        random: Arc::clone(&world.random),
        external_url: config.url(),
        limits: config.limits.alerts.clone(),
    };
    let opened = tokio::task::spawn_blocking(move || AlertManager::open(routing, deps)).await;
    let opened = opened.map_err(|error| format!("opening the alert manager failed: {error}"))?;
    opened.map(Arc::new).map_err(|error| error.to_string())
}

async fn open_rules(deps: rules::Deps, files: Vec<rules::RuleFileSource>) -> Result<Arc<Manager>, String> {
    let opened = tokio::task::spawn_blocking(move || Manager::new(deps)).await;
    let manager = opened.map_err(|error| format!("opening the rules failed: {error}"))?;
    let manager = manager.map_err(|error| error.to_string())?;
    manager.load(files).await.map_err(|error| error.to_string())?;
    Ok(manager)
}

/// The built-in agent pushes through our own door, and to wherever the configuration says besides.
async fn open_agent(world: &World, config: &Config, door: &Arc<Door>) -> Result<Option<Agent>, String> {
    if !config.agent.enabled {
        return Ok(None);
    }
    let address = config.listen.0;
    let mut settings = config.agent.clone();
    let ourselves = ScrapeConfig::of("campanile", &address.to_string());
    if !settings
        .scrape_configs
        .iter()
        .any(|scrape| scrape.job_name == ourselves.job_name)
    {
        settings.scrape_configs.push(ourselves);
    }
    let forward = std::mem::take(&mut settings.remote_write);
    let mut remotes = vec![RemoteWriteConfig::to(&format!("http://{address}/api/v1/write"))];
    for mut remote in forward {
        let labels = config
            .external_labels
            .iter()
            .map(|(name, value)| RelabelConfig::add_label(name, value));
        remote.write_relabel_configs.splice(0..0, labels);
        remotes.push(remote);
    }
    let parts = AgentParts {
        disk: Arc::clone(&world.disk),
        clock: Arc::clone(&world.clock),
        random: Arc::clone(&world.random),
        client: Arc::new(LocalClient::new(door, address, Arc::clone(&world.client))),
    };
    let dir = config.data_dir.join("agent");
    let opened = tokio::task::spawn_blocking(move || {
        let queues = agent::open_queues(&parts.disk, &dir, &remotes)?;
        Agent::new(settings, parts, queues)
    });
    opened
        .await
        .map_err(|error| format!("opening the agent failed: {error}"))?
        .map(Some)
}

fn query_options(config: &Config) -> QueryOptions {
    QueryOptions {
        lookback: config.query.lookback,
        subquery_step: config.query.subquery_step,
        samples_max: config.limits.query.query_samples,
        series_max: config.limits.query.query_series,
        memory_bytes_max: config.limits.query.query_memory_bytes,
        timeout: config.limits.query.query_time,
        fits: Fits::of_bytes(FITS_BYTES_MAX),
        ..QueryOptions::default()
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        interval: config.evaluation_interval,
        query_offset: config.rule_query_offset,
        eager_cpu_share: config.eager_cpu_share,
        external_labels: Labels::from_pairs(&config.external_labels),
        external_url: config.url(),
        ..Settings::default()
    }
}

/// Waits for SIGINT or SIGTERM; SIGHUP reloads. Meanwhile `/-/ready` follows the store.
async fn wait_for_the_end(reloader: &Arc<reload::Reloader>, door: &Arc<Door>, db: &Arc<Db>) {
    use http::Reload as _;
    use tokio::signal::unix::{SignalKind, signal};
    let expected = "signal handlers can be installed once the runtime runs";
    let mut interrupt = signal(SignalKind::interrupt()).expect(expected);
    let mut terminate = signal(SignalKind::terminate()).expect(expected);
    let mut hangup = signal(SignalKind::hangup()).expect(expected);
    let clock = SystemClock::new();
    loop {
        tokio::select! {
            _ = interrupt.recv() => return,
            _ = terminate.recv() => return,
            _ = hangup.recv() => {
                if let Err(error) = reloader.reload().await {
                    tracing::error!(%error, "the configuration was not reloaded, the old one stays");
                }
            }
            () = clock.sleep(Interval::secs(1)) => match db.check() {
                Ok(()) => door.readiness().ready(),
                Err(error) => door.readiness().not_ready(error.to_string()),
            },
        }
    }
}
