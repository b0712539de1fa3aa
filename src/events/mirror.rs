//! The mirror: every counted event once more to another system, by signed requests, at least once and in order.
//!
//! It reads the log from where it was and keeps the log from being trimmed until the other side has answered with 2xx; the
//! place is written down after that. An event that comes twice (the place was not written down before a crash) has the same
//! `event_id`.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::metrics_edge::{MIRROR_FAILED, MIRRORED};
use super::{Event, Events, MirrorConfig};
use crate::io::disk::Disk;
use crate::io::http_client::{HttpClient, HttpOptions, HttpRequest};
use crate::io::log::Position;
use crate::io::outgoing::sender::signature;
use crate::io::{Clock, Shutdown, files};
use crate::model::Interval;

/// The name under which the log is kept and the place is written down.
const NAME: &str = "mirror";
/// How often it looks for new events.
const LOOK_EVERY: Interval = Interval::secs(1);
/// The longest wait between two tries.
const WAIT_MAX: Interval = Interval::mins(1);
/// How often the place is written down while requests succeed.
const NOTE_EVERY: Interval = Interval::secs(10);
/// Log records read at once.
const RECORDS: u64 = 256;

/// Repeats events elsewhere.
pub struct Mirror {
    config: MirrorConfig,
    secret: Vec<String>,
    events: Arc<Events>,
    client: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    /// The record that comes next: those before it are confirmed.
    at: Position,
    /// Events of records from `at` on that are not confirmed yet, and the record after them.
    waiting: VecDeque<Event>,
    until: Position,
}

impl Mirror {
    /// Reads the secret and finds the place; holds the log from there. Blocks; called before anything is trimmed.
    ///
    /// # Errors
    /// When the secret cannot be read.
    pub fn new(
        config: &MirrorConfig,
        events: Arc<Events>,
        disk: &dyn Disk,
        client: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
    ) -> Result<Mirror, String> {
        let secret = match &config.secret_file {
            None => Vec::new(),
            Some(path) => {
                let text = files::read_text(disk, path);
                let text = text.map_err(|error| format!("events: mirror: cannot read {}: {error}", path.display()))?;
                vec![text.trim().to_owned()]
            }
        };
        let noted = events.note(NAME).and_then(|place| place.as_u64());
        let at = noted.map_or_else(|| events.position(), Position);
        events.hold_log(NAME, Some(at));
        if noted.is_none() {
            // Written down before anything is taken: a crash must not move the beginning.
            let written = events.set_note(NAME, Some(at.0.into()));
            written.map_err(|error| format!("events: mirror: {error}"))?;
        }
        Ok(Mirror {
            config: config.clone(),
            secret,
            events,
            client,
            clock,
            at,
            waiting: VecDeque::new(),
            until: at,
        })
    }

    /// Runs until a stop is asked for.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut wait = LOOK_EVERY;
        let mut noted = self.clock.mono();
        loop {
            match self.step().await {
                Ok(0) => wait = LOOK_EVERY,
                Ok(_) => wait = Interval::ZERO,
                Err(error) => {
                    MIRROR_FAILED.inc();
                    tracing::warn!(%error, "the mirror did not take events; they are sent again");
                    wait = Interval((wait.0.max(500) * 2).min(WAIT_MAX.0));
                }
            }
            if self.clock.mono().seconds_since(noted) >= NOTE_EVERY.as_secs_f64() {
                noted = self.clock.mono();
                self.note().await;
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => {
                    self.note().await;
                    return;
                }
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Writes the place down and lets the log before it go.
    async fn note(&self) {
        let (events, at) = (Arc::clone(&self.events), self.at);
        let written = tokio::task::spawn_blocking(move || {
            if events.note(NAME).and_then(|place| place.as_u64()) == Some(at.0) {
                return Ok(());
            }
            events.set_note(NAME, Some(at.0.into()))
        });
        match written.await {
            Ok(Ok(())) => self.events.hold_log(NAME, Some(self.at)),
            Ok(Err(error)) => tracing::warn!(%error, "the mirror's place could not be written down"),
            Err(error) => tracing::error!(%error, "writing down the mirror's place ended badly"),
        }
    }

    /// Sends what some records hold; returns how many records. What was confirmed is not sent again after a failure; the place
    /// moves when all of them are.
    pub(super) async fn step(&mut self) -> Result<u64, String> {
        if self.waiting.is_empty() {
            self.read().await?;
        }
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(self.config.batch);
            self.waiting.make_contiguous();
            self.send(&self.waiting.as_slices().0[..count]).await?;
            MIRRORED.add(count as u64);
            self.waiting.drain(..count);
        }
        let done = self.until.0 - self.at.0;
        self.at = self.until;
        Ok(done)
    }

    /// Reads the next records.
    async fn read(&mut self) -> Result<(), String> {
        let from = self.at;
        let to = Position(self.events.position().0.min(from.0 + RECORDS));
        if to <= from {
            return Ok(());
        }
        let events = Arc::clone(&self.events);
        let read = tokio::task::spawn_blocking(move || {
            let mut all = VecDeque::new();
            events.replay(from, to, &mut |_, _, found| all.extend(found))?;
            Ok::<_, super::EventsError>(all)
        });
        let read = read.await.map_err(|error| error.to_string())?;
        self.waiting = read.map_err(|error| error.to_string())?;
        self.until = to;
        Ok(())
    }

    async fn send(&self, batch: &[Event]) -> Result<(), String> {
        let rows: Vec<Json> = batch.iter().map(row).collect();
        let body = serde_json::json!({"events": rows}).to_string();
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        if !self.secret.is_empty() {
            let value = signature(&self.secret, body.as_bytes(), self.clock.now());
            headers.push(("X-Campanile-Signature".to_owned(), value));
        }
        let request = HttpRequest {
            method: "POST".to_owned(),
            url: self.config.url.clone(),
            headers,
            body: body.into(),
            timeout: self.config.timeout,
            options: HttpOptions::default(),
        };
        let answer = self.client.send(request).await.map_err(|error| error.to_string())?;
        match answer.status {
            200..=299 => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}

/// Returns an event as the mirror gets it: what is stored, under the names of `docs/events.md`.
fn row(event: &Event) -> Json {
    let mut all = Map::new();
    all.insert("type".to_owned(), event.kind.name().into());
    all.insert("ts".to_owned(), event.at.0.into());
    all.insert("received_at".to_owned(), event.received.0.into());
    all.insert("reasons".to_owned(), event.reasons.0.into());
    all.insert("price_micros".to_owned(), event.price.0.into());
    all.insert("revenue_micros".to_owned(), event.revenue.0.into());
    let mut hash = |name: &str, hash: Option<String>| {
        if let Some(hash) = hash {
            all.insert(name.to_owned(), hash.into());
        }
    };
    hash("user_hash", event.user.map(|user| user.to_string()));
    hash("ip_hash", event.ip.map(|ip| ip.to_string()));
    hash("visitor", event.visitor.map(|visitor| format!("{:016x}", visitor.0)));
    for (field, text) in event.texts.iter() {
        all.insert(field.name().to_owned(), text.into());
    }
    Json::Object(all)
}
