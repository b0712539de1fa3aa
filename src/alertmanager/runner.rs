//! The one task of the alert manager: wait, decide, act.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::alert::{Origin, StoredAlert};
use super::config::Config;
use super::core::{Core, Now};
use super::deliver::{Outcome, attempt};
use super::heartbeat;
use super::metrics;
use super::notify::http::Failure;
use super::queue::Queue;
use super::record::{Event, NotifyKey, Waiting, encode};
use super::service::{Command, Error, Shared};
use super::silence::{Silence, SilenceState};
use crate::io::log::Position;
use crate::io::{BoxFuture, Mono, Shutdown};
use crate::model::{Alert, Fingerprint, Interval, Millis};

/// How many requests are taken into one record at most.
const BATCH_MAX: usize = 1024;
/// How long what is being sent may still take when we are told to stop.
const GRACE: Interval = Interval::secs(3);
/// How long an alert that is over stays known.
const FORGET_AFTER: Interval = Interval::mins(1);
/// How often what is of no use is forgotten.
const FORGET_EVERY: Interval = Interval::secs(30);
/// How often it is shown how the receivers fare, while messages are on their way.
const HEALTH_EVERY: Interval = Interval(200);
/// The least log between two snapshots, in bytes.
const SNAPSHOT_BYTES_MIN: usize = 4 << 20;
/// How long decisions wait when the log does not take them.
const IDLE_WAIT: Interval = Interval::hours(1);

/// The task's own state.
pub(super) struct Runner {
    pub(super) shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    /// Pages are held back until then, or until the rules' first word.
    held_until: Option<Mono>,
    deliveries: FuturesUnordered<BoxFuture<'static, Done>>,
    pub(super) queue: Queue,
    forget_at: Mono,
    /// When the dead man's switch is to hear of us next.
    heartbeat_at: Mono,
    /// When it is shown again how the receivers fare.
    health_at: Mono,
    /// Whether the log took the last record.
    log_is_well: bool,
    bytes_since_snapshot: usize,
    snapshot_bytes: usize,
}

/// What ended.
pub(super) enum Done {
    Try(Box<Outcome>),
    Heartbeat(Result<(), Failure>),
}

/// Events on their way into the log, and who waits for them.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Event>,
    replies: Vec<Reply>,
    has_silence: bool,
}

enum Reply {
    Plain(oneshot::Sender<Result<(), Error>>),
    /// What was not taken has its own answer.
    InPart(oneshot::Sender<Result<(), Error>>, Error),
    Id(oneshot::Sender<Result<String, Error>>, String),
    Done(oneshot::Sender<()>),
}

impl Reply {
    fn send(self, result: Result<(), Error>) {
        // Who does not wait any more does not need the answer.
        match self {
            Reply::Plain(reply) => drop(reply.send(result)),
            Reply::InPart(reply, refusal) => drop(reply.send(result.and(Err(refusal)))),
            Reply::Id(reply, id) => drop(reply.send(result.map(|()| id))),
            Reply::Done(reply) => drop(reply.send(())),
        }
    }
}

impl Runner {
    pub(super) fn new(shared: Arc<Shared>, commands: mpsc::Receiver<Command>, held_until: Option<Mono>) -> Runner {
        let now = shared.mono();
        let mut runner = Runner {
            shared,
            commands,
            held_until,
            deliveries: FuturesUnordered::new(),
            queue: Queue::default(),
            forget_at: now.after(FORGET_EVERY),
            heartbeat_at: now,
            health_at: now,
            log_is_well: true,
            bytes_since_snapshot: 0,
            snapshot_bytes: 0,
        };
        runner.set_limits();
        runner
    }

    fn set_limits(&mut self) {
        let now = self.shared.mono();
        let config = Arc::clone(&self.shared.core.lock().config);
        let limits = config
            .receivers
            .iter()
            .filter_map(|receiver| Some((receiver.name.clone(), receiver.limit?)));
        self.queue.set_limits(limits.collect(), now);
    }

    pub(super) async fn run(mut self, mut shutdown: Shutdown) {
        // What was decided before the last stop, and not delivered.
        let waiting: Vec<NotifyKey> = self.shared.core.lock().state.waiting.keys().cloned().collect();
        for key in waiting {
            self.queue.enqueue(key, self.shared.mono());
        }
        self.start_deliveries().await;
        loop {
            let next = self.next_wake();
            let wake = self.shared.deps.clock.sleep_until(next);
            let (mut commands, mut outcomes) = (Vec::new(), Vec::new());
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                Some(outcome) = self.deliveries.next(), if !self.deliveries.is_empty() => outcomes.push(outcome),
                command = self.commands.recv() => match command {
                    Some(command) => commands.push(command),
                    None => break,
                },
                () = wake => {}
            }
            while commands.len() < BATCH_MAX
                && let Ok(command) = self.commands.try_recv()
            {
                commands.push(command);
            }
            while let Some(Some(outcome)) = self.deliveries.next().now_or_never() {
                outcomes.push(outcome);
            }
            self.step(commands, outcomes).await;
        }
        self.wind_down().await;
    }

    /// One round: what came in, what is due, what there is to send.
    async fn step(&mut self, commands: Vec<Command>, ended: Vec<Done>) {
        let mut batch = Batch::default();
        for done in ended {
            self.settle(done, &mut batch);
        }
        for command in commands {
            self.take(command, &mut batch).await;
        }
        self.commit(&mut batch).await;
        self.flush_due().await;
        self.forget().await;
        self.start_deliveries().await;
        self.start_heartbeat().await;
        self.snapshot_if_due().await;
        self.count();
    }

    fn next_wake(&mut self) -> Mono {
        let mut wake = self.shared.mono().after(IDLE_WAIT).min(self.forget_at);
        let core = self.shared.core.lock();
        match self.held_until {
            Some(until) => wake = wake.min(until),
            None => wake = core.groups.values().map(|group| group.due).fold(wake, Mono::min),
        }
        if core.config.dead_mans_switch.is_some() {
            wake = wake.min(self.heartbeat_at);
        }
        drop(core);
        self.queue.next_wake(wake)
    }

    async fn take(&mut self, command: Command, batch: &mut Batch) {
        let now = self.shared.now();
        match command {
            Command::Alerts { alerts, origin, reply } => {
                let (events, refusal) = self.take_alerts(alerts, origin, now);
                batch.events.extend(events);
                batch.replies.push(match refusal {
                    None => Reply::Plain(reply),
                    Some(refusal) => Reply::InPart(reply, refusal),
                });
            }
            Command::Silence { silence, reply } => {
                if batch.has_silence {
                    self.commit(batch).await;
                }
                match self.take_silence(*silence, now.wall) {
                    Ok((id, events)) => {
                        batch.has_silence = true;
                        batch.events.extend(events);
                        batch.replies.push(Reply::Id(reply, id));
                    }
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Command::Expire { id, reply } => {
                if batch.has_silence {
                    self.commit(batch).await;
                }
                match self.expire(&id, now.wall) {
                    Ok(event) => {
                        batch.has_silence = true;
                        batch.events.push(event);
                        batch.replies.push(Reply::Plain(reply));
                    }
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Command::Reload { config, reply } => {
                self.commit(batch).await;
                self.reload(config, now);
                let _ = reply.send(());
            }
            Command::Evaluated { firing, reply } => {
                batch.events.extend(self.first_word(&firing, now));
                batch.replies.push(Reply::Done(reply));
            }
        }
    }

    /// Words what came in; of what came from outside, as far as the limits allow.
    fn take_alerts(&self, mut alerts: Vec<Alert>, origin: Origin, now: Now) -> (Vec<Event>, Option<Error>) {
        let core = self.shared.core.lock();
        let mut refusal = None;
        if origin == Origin::Api {
            refusal = self.refuse(&core, &mut alerts);
        }
        let resolve_timeout = core.config.resolve_timeout;
        let stored: Vec<StoredAlert> = alerts
            .into_iter()
            .map(|alert| StoredAlert::take_in(alert, origin, resolve_timeout, now.wall))
            .collect();
        for alert in &stored {
            let resolved = alert.is_resolved(now.wall);
            metrics::ALERTS_RECEIVED.inc(&[if resolved { "resolved" } else { "firing" }]);
        }
        (core.take_in(stored, now.wall), refusal)
    }

    /// Removes the alerts that are over a limit, and says why the last of them was.
    fn refuse(&self, core: &Core, alerts: &mut Vec<Alert>) -> Option<Error> {
        let limits = &self.shared.deps.limits;
        let mut refusal = None;
        alerts.retain(|alert| match limits.check_alert(alert) {
            Ok(()) => true,
            Err(error) => {
                refusal = Some(error);
                false
            }
        });
        let known = &core.state.alerts;
        if known.len() + alerts.len() <= limits.alerts {
            return refusal;
        }
        let foreign = known.values().filter(|alert| alert.origin == Origin::Api).count();
        let (mut room, before) = (limits.alerts.saturating_sub(foreign), alerts.len());
        alerts.retain(|alert| {
            let is_known = known.contains_key(&alert.fingerprint());
            let takes = is_known || room > 0;
            room -= usize::from(takes && !is_known);
            takes
        });
        let refused = before - alerts.len();
        if refused > 0 {
            refusal = Some(limits.alerts_are_full(refused));
        }
        refusal
    }

    fn take_silence(&self, mut silence: Silence, now: Millis) -> Result<(String, Vec<Event>), Error> {
        silence.updated_at = now;
        let core = self.shared.core.lock();
        let mut events = Vec::new();
        let known = match silence.id.as_str() {
            "" => None,
            id => Some(
                core.state
                    .silences
                    .get(id)
                    .ok_or_else(|| Error::NotFound(id.to_owned()))?,
            ),
        };
        let keeps_id = known.is_some_and(|known| known.can_become(&silence, now));
        if !keeps_id {
            silence.starts_at = silence.starts_at.max(now);
        }
        self.shared.deps.limits.check_silence(&silence)?;
        silence.check(now).map_err(Error::Invalid)?;
        if !keeps_id {
            if core.state.silences.len() >= self.shared.deps.limits.silences {
                return Err(self.shared.deps.limits.silences_are_full());
            }
            if let Some(known) = known.filter(|known| known.state(now) != SilenceState::Expired) {
                events.push(Event::Silenced {
                    silence: ended(known, now),
                });
            }
            silence.id = self.shared.new_id();
        }
        let id = silence.id.clone();
        events.push(Event::Silenced { silence });
        Ok((id, events))
    }

    fn expire(&self, id: &str, now: Millis) -> Result<Event, Error> {
        let core = self.shared.core.lock();
        let known = core
            .state
            .silences
            .get(id)
            .ok_or_else(|| Error::NotFound(id.to_owned()))?;
        if known.state(now) == SilenceState::Expired {
            return Err(Error::Invalid(format!("silence {id} already expired")));
        }
        Ok(Event::Silenced {
            silence: ended(known, now),
        })
    }

    /// Groups are derived anew; timers of those that stay are kept, and so is everything that was told.
    fn reload(&mut self, config: Arc<Config>, now: Now) {
        metrics::declare(&config);
        let mut core = self.shared.core.lock();
        let mut state = std::mem::take(&mut core.state);
        for (id, group) in core.groups.iter().filter(|(_, group)| group.has_flushed) {
            let left = group.due.0.saturating_sub(now.mono.0) / 1_000_000;
            let due = now.wall + Interval(i64::try_from(left).unwrap_or(0));
            state.timers.insert(id.clone(), due);
        }
        let waits: HashMap<String, Mono> = core
            .groups
            .iter()
            .filter(|(_, group)| !group.has_flushed)
            .map(|(id, group)| (id.clone(), group.due))
            .collect();
        *core = Core::new(config, state, now);
        for (id, due) in waits {
            if let Some(group) = core.groups.get_mut(&id) {
                group.due = group.due.min(due);
            }
        }
        drop(core);
        self.queue.try_again(now.mono);
        self.set_limits();
        self.heartbeat_at = now.mono;
        metrics::CONFIG_OK.set(1.0);
        metrics::CONFIG_AT.set(now.wall.as_secs_f64());
    }

    /// The rules have spoken: alerts that they do not know any more are over, and pages may go out.
    fn first_word(&mut self, firing: &HashSet<Fingerprint>, now: Now) -> Option<Event> {
        self.held_until = None;
        let core = self.shared.core.lock();
        let orphans: Vec<StoredAlert> = core
            .state
            .alerts
            .iter()
            .filter(|(fingerprint, alert)| {
                alert.origin == Origin::Rules
                    && alert.updated_at < self.shared.opened_at
                    && !alert.is_resolved(now.wall)
                    && !firing.contains(fingerprint)
            })
            .map(|(_, alert)| StoredAlert {
                ends_at: Some(now.wall),
                updated_at: now.wall,
                ..(**alert).clone()
            })
            .collect();
        (!orphans.is_empty()).then_some(Event::Alerts { alerts: orphans })
    }

    /// Appends what has gathered, applies it and answers. Alerts and decisions count even when the log does not take them:
    /// a full disk must not silence a page. A silence does not: whoever asked for it is told that it failed.
    async fn commit(&mut self, batch: &mut Batch) {
        let Batch { events, replies, .. } = std::mem::take(batch);
        let result = self.append(&events).await.map(|_| ());
        let now = self.shared.now();
        let mut core = self.shared.core.lock();
        for event in &events {
            if result.is_ok() || !matches!(event, Event::Silenced { .. }) {
                core.apply(event, now);
            }
        }
        drop(core);
        for reply in replies {
            reply.send(result.clone());
        }
    }

    async fn append(&mut self, events: &[Event]) -> Result<Option<Position>, Error> {
        if events.is_empty() {
            return Ok(None);
        }
        let record = encode(events);
        let bytes = record.len();
        match self.shared.deps.log.append(record, None).await {
            Ok(appended) => {
                self.log_is_well = true;
                self.bytes_since_snapshot += bytes;
                Ok(Some(appended.at))
            }
            Err(error) => {
                self.log_is_well = false;
                metrics::LOG_FAILED.inc();
                tracing::error!(%error, "the alert log did not take a record");
                Err(Error::Log(error))
            }
        }
    }

    /// Lets every group that is due decide, and makes all decisions durable at once.
    async fn flush_due(&mut self) {
        let now = self.shared.now();
        if self.held_until.is_some_and(|until| until > now.mono) {
            return;
        }
        self.held_until = None;
        let (mut events, mut quiet, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        {
            let core = self.shared.core.lock();
            let mut due: Vec<(Mono, &String)> = core
                .groups
                .iter()
                .filter(|(_, group)| group.due <= now.mono)
                .map(|(id, group)| (group.due, id))
                .collect();
            due.sort_unstable();
            let busy = |key: &NotifyKey| self.queue.is_in_flight(key);
            for (_, id) in due {
                let flush = core.flush(id, now.wall, &busy, &mut || self.shared.new_id());
                gone.push((id.clone(), flush.gone));
                let side = if flush.events.iter().any(is_news) {
                    &mut events
                } else {
                    &mut quiet
                };
                side.extend(flush.events);
            }
        }
        if gone.is_empty() {
            return;
        }
        // A failure is logged and counted where it happens; the page goes out all the same.
        let _ = self.append(&events).await;
        let mut core = self.shared.core.lock();
        for event in events.iter().chain(&quiet) {
            core.apply(event, now);
        }
        for (id, members) in gone {
            core.drop_members(&id, &members, now.wall);
        }
        let sends: Vec<NotifyKey> = events
            .iter()
            .filter_map(|event| match event {
                Event::Flushed { sends, .. } => Some(sends.iter().map(|send| send.key.clone())),
                _ => None,
            })
            .flatten()
            .collect();
        // A message that was replaced starts with the patience of the one it replaces; one that is gone needs none.
        self.queue.retain(|key| core.state.waiting.contains_key(key));
        drop(core);
        metrics::FLUSH.observe(self.shared.mono().seconds_since(now.mono));
        for key in sends {
            self.queue.enqueue(key, now.mono);
        }
    }

    async fn forget(&mut self) {
        let now = self.shared.now();
        if now.mono < self.forget_at {
            return;
        }
        self.forget_at = now.mono.after(FORGET_EVERY);
        let events = self.shared.core.lock().garbage(FORGET_AFTER, now.wall);
        if self.append(&events).await.is_ok() {
            let mut core = self.shared.core.lock();
            for event in &events {
                core.apply(event, now);
            }
        }
    }

    /// Starts everything that is due, as far as its integration has room. What goes out as a digest is recorded as one first.
    async fn start_deliveries(&mut self) {
        let now = self.shared.now();
        let tried = self.take_due(now.mono);
        let digests: Vec<Event> = tried.iter().filter_map(|messages| digested(messages)).collect();
        // A failure is logged and counted where it happens; the digest goes out all the same.
        let _ = self.append(&digests).await;
        let mut core = self.shared.core.lock();
        for event in &digests {
            core.apply(event, now);
        }
        let config = Arc::clone(&core.config);
        drop(core);
        for messages in tried {
            for message in &messages {
                let names = [message.key.kind.as_str(), message.key.receiver.as_str()];
                metrics::REQUESTS.inc(&names);
                if self.queue.attempts(&message.key) == 0 {
                    metrics::NOTIFICATIONS.inc(&names);
                }
            }
            let trying = attempt(Arc::clone(&self.shared), Arc::clone(&config), messages);
            self.deliveries
                .push(Box::pin(trying.map(|outcome| Done::Try(Box::new(outcome)))));
        }
    }

    fn take_due(&mut self, now: Mono) -> Vec<Vec<Arc<Waiting>>> {
        let core = self.shared.core.lock();
        let waiting = &core.state.waiting;
        let find = |key: &NotifyKey| waiting.get(key).map(|message| message.digest.clone());
        let due = self.queue.take_due(now, find).into_iter();
        due.map(|keys| keys.iter().filter_map(|key| waiting.get(key).cloned()).collect())
            .collect()
    }

    /// Tells the dead man's switch that pages get out, when they do and when it is time.
    async fn start_heartbeat(&mut self) {
        let now = self.shared.now();
        if now.mono < self.heartbeat_at || self.shared.core.lock().config.dead_mans_switch.is_none() {
            return;
        }
        if !self.log_is_well {
            // Nothing may be due that would show that it takes records again: a record that says nothing asks.
            let nothing = Event::Touched {
                at: now.wall,
                ends: Vec::new(),
            };
            let _ = self.append(&[nothing]).await;
        }
        let core = self.shared.core.lock();
        let Some(switch) = core.config.dead_mans_switch.clone() else {
            return;
        };
        self.heartbeat_at = now.mono.after(switch.interval);
        if let Some(reason) = heartbeat::held_back(&switch, &core, self.log_is_well, now) {
            metrics::HEARTBEATS.inc(&["held_back"]);
            tracing::warn!(reason, "the dead man's switch hears nothing");
            return;
        }
        drop(core);
        let shared = Arc::clone(&self.shared);
        self.deliveries.push(Box::pin(async move {
            Done::Heartbeat(heartbeat::send(&switch, &shared.sender).await)
        }));
    }

    /// Writes the whole state once the log has grown by twice its size, so that what came before can be trimmed.
    async fn snapshot_if_due(&mut self) {
        if self.bytes_since_snapshot < SNAPSHOT_BYTES_MIN.max(2 * self.snapshot_bytes) {
            return;
        }
        let records = self.shared.core.lock().state.snapshot();
        self.bytes_since_snapshot = 0;
        let mut from = None;
        for events in records {
            match self.append(&events).await {
                Ok(at) => from = from.or(at),
                // The old records still tell everything; the next snapshot is tried when the log has grown again.
                Err(_) => return,
            }
        }
        self.snapshot_bytes = std::mem::take(&mut self.bytes_since_snapshot);
        if let Some(Position(from)) = from {
            self.shared.needed_from.store(from, Ordering::Release);
        }
    }

    fn count(&mut self) {
        let core = self.shared.core.lock();
        metrics::GROUPS.set(usize_f64(core.groups.len()));
        metrics::WAITING.set(usize_f64(core.state.waiting.len()));
        drop(core);
        let now = self.shared.mono();
        if now >= self.health_at || self.deliveries.is_empty() {
            self.health_at = now.after(HEALTH_EVERY);
            *self.shared.health.lock() = self.queue.health();
        }
    }

    /// Lets what is being sent end within the grace, so that its receipt is recorded.
    async fn wind_down(mut self) {
        let until = self.shared.mono().after(GRACE);
        while !self.deliveries.is_empty() {
            let sleep = self.shared.deps.clock.sleep_until(until);
            let outcome = tokio::select! {
                biased;
                Some(outcome) = self.deliveries.next() => outcome,
                () = sleep => break,
            };
            let mut batch = Batch::default();
            self.settle(outcome, &mut batch);
            self.commit(&mut batch).await;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of things in memory")]
pub(super) fn usize_f64(count: usize) -> f64 {
    count as f64
}

/// Words that several messages go out as one, unless that is known.
fn digested(messages: &[Arc<Waiting>]) -> Option<Event> {
    if messages.len() < 2 {
        return None;
    }
    let digest = Waiting::digest_id(messages);
    let is_known = messages.iter().all(|message| message.digest.as_ref() == Some(&digest));
    let named = messages.iter().map(|message| (message.key.clone(), message.id.clone()));
    (!is_known).then(|| Event::Digested {
        messages: named.collect(),
        digest,
    })
}

/// Whether an event must survive: a tick that decided nothing need not.
fn is_news(event: &Event) -> bool {
    match event {
        Event::Flushed {
            sends,
            noted,
            cancelled,
            ..
        } => !sends.is_empty() || !noted.is_empty() || !cancelled.is_empty(),
        _ => true,
    }
}

fn ended(silence: &Silence, now: Millis) -> Silence {
    Silence {
        starts_at: silence.starts_at.min(now),
        ends_at: now,
        updated_at: now,
        ..silence.clone()
    }
}
