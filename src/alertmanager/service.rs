//! The alert manager as the server sees it: alerts and silences go in and are durable, messages go out.
//!
//! One task owns the state. It gathers what came in, appends it to the log as one record, applies it, answers; then it lets the
//! groups that are due decide, appends their decisions, applies them; then it starts what there is to send. So the alerts
//! of one request are applied before any flush, a message is in the log before it is sent, and its receipt after.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};

use super::alert::Origin;
use super::config::Config;
use super::core::{Core, Now};
use super::health::Health;
use super::limits::AlertLimits;
use super::metrics;
use super::notify::http::Sender;
use super::queue::Lane;
use super::record::{Event, decode};
use super::runner::Runner;
use super::silence::Silence;
use super::state::State;
use crate::io::disk::Disk;
use crate::io::http_client::HttpClient;
use crate::io::log::{Log, LogError, LogItem, Position};
use crate::io::mailer::Mailer;
use crate::io::{BoxFuture, Clock, Mono, Random, Shutdown};
use crate::model::{Alert, Fingerprint, Interval, Millis};

/// How many requests may wait for the task before callers wait for room.
const INBOX_MAX: usize = 1024;
/// After a restart with alerts at hand, the longest wait for the rules' first word before pages go out.
const FIRST_WORD_WAIT: Interval = Interval::secs(30);

/// What the alert manager needs from the world.
pub struct Deps {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The alert log; records of other kinds in it are left alone.
    pub log: Arc<dyn Log>,
    /// Where secrets and templates are read.
    pub disk: Arc<dyn Disk>,
    /// Web hooks.
    pub http: Arc<dyn HttpClient>,
    /// Mail.
    pub mailer: Arc<dyn Mailer>,
    /// Names for messages and silences.
    pub random: Arc<dyn Random>,
    /// The address under which people reach the server, without a slash at its end.
    pub external_url: String,
    /// What clients may give us to keep.
    pub limits: AlertLimits,
}

/// Why a request has no good answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No such silence.
    #[error("silence {0} not found")]
    NotFound(String),
    /// The request asks for something impossible.
    #[error("{0}")]
    Invalid(String),
    /// One thing is larger than a limit allows; the rest of the request counts.
    #[error("{0}")]
    TooLarge(String),
    /// There are as many as a limit allows; what is known already counts.
    #[error("{0}")]
    Full(String),
    /// The log did not take it: it is not durable.
    #[error("not recorded: {0}")]
    Log(#[from] LogError),
    /// The alert manager has been told to stop.
    #[error("the alert manager is stopping")]
    Stopped,
}

/// Takes alerts in, and tells people.
pub struct AlertManager {
    pub(super) shared: Arc<Shared>,
    inbox: mpsc::Sender<Command>,
    waiting_runner: Mutex<Option<Runner>>,
}

/// What the task and the views share.
pub(super) struct Shared {
    pub(super) deps: Deps,
    pub(super) core: Mutex<Core>,
    pub(super) sender: Sender,
    /// The oldest log position that a start needs.
    pub(super) needed_from: AtomicU64,
    pub(super) opened_at: Millis,
    /// How each integration fares, as of the task's last round.
    pub(super) health: Mutex<Vec<(Lane, Health, usize)>>,
}

/// What callers ask of the task.
pub(super) enum Command {
    Alerts {
        alerts: Vec<Alert>,
        origin: Origin,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Silence {
        silence: Box<Silence>,
        reply: oneshot::Sender<Result<String, Error>>,
    },
    Expire {
        id: String,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Reload {
        config: Arc<Config>,
        reply: oneshot::Sender<()>,
    },
    Evaluated {
        firing: HashSet<Fingerprint>,
        reply: oneshot::Sender<()>,
    },
}

impl AlertManager {
    /// Folds the log and returns the manager as it was; nothing is sent before [`AlertManager::run`]. Blocks while reading.
    ///
    /// # Errors
    /// [`LogError::Read`] when the medium fails; damaged records are counted, logged and passed over.
    pub fn open(config: Config, deps: Deps) -> Result<AlertManager, LogError> {
        let (state, needed_from) = fold(&*deps.log)?;
        let now = Now::of(&*deps.clock);
        let restarted = !state.alerts.is_empty();
        metrics::declare(&config);
        metrics::CONFIG_OK.set(1.0);
        metrics::CONFIG_AT.set(now.wall.as_secs_f64());
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(Arc::new(config), state, now)),
            sender: Sender::new(Arc::clone(&deps.http), Arc::clone(&deps.disk), Arc::clone(&deps.clock)),
            needed_from: AtomicU64::new(needed_from.0),
            opened_at: now.wall,
            health: Mutex::default(),
            deps,
        });
        let (inbox, commands) = mpsc::channel(INBOX_MAX);
        let held_until = restarted.then(|| now.mono.after(FIRST_WORD_WAIT));
        let runner = Runner::new(Arc::clone(&shared), commands, held_until);
        Ok(AlertManager {
            shared,
            inbox,
            waiting_runner: Mutex::new(Some(runner)),
        })
    }

    /// Sends and receives until `shutdown`; what is being sent then has a few seconds to end, the rest is sent after the
    /// next start. Call it once.
    pub async fn run(&self, shutdown: Shutdown) {
        let runner = self.waiting_runner.lock().take();
        if let Some(runner) = runner {
            runner.run(shutdown).await;
        }
    }

    /// Takes alerts in, all of them before anybody is told of any. They are durable when this resolves.
    ///
    /// # Errors
    /// [`Error::Log`] when the log did not take them; they page all the same as long as the process lives. [`Error::TooLarge`]
    /// and [`Error::Full`] for some of those from outside; the others were taken.
    pub fn receive(&self, alerts: Vec<Alert>, origin: Origin) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.ask(move |reply| Command::Alerts { alerts, origin, reply }))
    }

    /// Says that the rules have evaluated all groups once since the start and handed over every alert that fires: `firing`
    /// are their fingerprints. Pages held back since the restart go out now, and alerts of rules that are gone resolve.
    pub fn evaluated(&self, firing: HashSet<Fingerprint>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            if self.inbox.send(Command::Evaluated { firing, reply }).await.is_ok() {
                let _ = answer.await;
            }
        })
    }

    /// Makes a silence, or changes the one whose id it bears; returns its id, which is a new one when what was asked makes
    /// a different silence of it. Durable when this resolves.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`] for an unknown id, [`Error::Log`].
    pub fn set_silence(&self, silence: Silence) -> BoxFuture<'_, Result<String, Error>> {
        Box::pin(self.ask(move |reply| Command::Silence {
            silence: Box::new(silence),
            reply,
        }))
    }

    /// Ends a silence now. Durable when this resolves.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] when it is over, [`Error::Log`].
    pub fn expire_silence(&self, id: &str) -> BoxFuture<'_, Result<(), Error>> {
        let id = id.to_owned();
        Box::pin(self.ask(move |reply| Command::Expire { id, reply }))
    }

    /// Works by a new configuration from now on. Groups whose route is still there keep their timers; what was told stays told.
    pub fn reload(&self, config: Config) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let config = Arc::new(config);
            if self.inbox.send(Command::Reload { config, reply }).await.is_ok() {
                let _ = answer.await;
            }
        })
    }

    /// Counts a configuration that could not be loaded.
    pub fn reload_failed(&self) {
        metrics::CONFIG_OK.set(0.0);
    }

    /// Returns the oldest position of the log that a start needs: what is below may be trimmed, as far as we are concerned.
    pub fn log_needed_from(&self) -> Position {
        Position(self.shared.needed_from.load(Ordering::Acquire))
    }

    /// Counts alerts that a sender got wrong.
    pub fn count_invalid(&self, count: usize) {
        metrics::ALERTS_INVALID.add(count as u64);
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(command(reply)).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.shared.core.lock()
    }
}

#[cfg(test)]
impl AlertManager {
    /// A manager in memory that pages nobody.
    pub(crate) fn test(clock: Arc<dyn Clock>) -> AlertManager {
        let deps = Deps {
            log: Arc::new(crate::io::log::MemLog::new()),
            disk: Arc::new(crate::io::disk::SimDisk::seeded(1)),
            http: crate::io::http_client::HttpOutbox::new(Arc::clone(&clock)),
            mailer: crate::io::mailer::MailOutbox::new(Arc::clone(&clock)),
            random: Arc::new(crate::io::SeededRandom::new(1)),
            external_url: "http://localhost:9490".to_owned(),
            limits: AlertLimits::default(),
            clock,
        };
        AlertManager::open(Config::pages_nobody(), deps).expect("an empty log can be read")
    }
}

/// Reads the log into a state, and finds where the last whole snapshot begins.
fn fold(log: &dyn Log) -> Result<(State, Position), LogError> {
    let mut state = State::default();
    let mut snapshot: Option<(State, Position)> = None;
    let mut needed_from = log.bounds().first;
    log.read(needed_from, &mut |item| {
        match item {
            LogItem::Record { at, payload } => match decode(&payload) {
                Ok(None) => {}
                Ok(Some(events)) => {
                    for event in &events {
                        match event {
                            Event::Reset => snapshot = Some((State::default(), at)),
                            Event::SnapshotDone => {
                                if let Some((whole, from)) = snapshot.take() {
                                    state = whole;
                                    needed_from = from;
                                }
                            }
                            event => snapshot.as_mut().map_or(&mut state, |(part, _)| part).apply(event),
                        }
                    }
                }
                Err(reason) => {
                    metrics::LOG_UNREADABLE.inc();
                    tracing::error!(at = at.0, reason, "a record of the alert log cannot be read");
                }
            },
            LogItem::Gap { from, to, reason } => {
                metrics::LOG_UNREADABLE.inc();
                tracing::error!(from = from.0, to = to.0, reason, "part of the alert log is lost");
            }
        }
        true
    })?;
    Ok((state, needed_from))
}

impl Shared {
    /// Returns the present moment.
    pub(super) fn now(&self) -> Now {
        Now::of(&*self.deps.clock)
    }

    /// Returns the present moment on the monotonic clock.
    pub(super) fn mono(&self) -> Mono {
        self.deps.clock.mono()
    }

    /// Returns a new random UUID.
    pub(super) fn new_id(&self) -> String {
        let mut bytes = [0; 16];
        self.deps.random.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }
}
