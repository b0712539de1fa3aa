//! The edge: what the HTTP doors of events reach. Decodes, checks, keeps what was refused, hands the rest to be counted.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::decode::{self, Batch, BodyError, Format};
use super::metrics_edge::{QUARANTINE_LOST, QUARANTINED};
use super::{
    Answer, Arrival, Checked, Checker, CollectError, Counting, EventsConfig, IdempotencyKey, Links, PeopleKeys,
    Quarantine, Sender, Tail,
};
use crate::io::disk::Disk;
use crate::io::{Random, files};
use crate::model::Millis;

/// The fewest characters of the secret that signs links.
const SECRET_BYTES_MIN: usize = 16;
/// Seconds over which a site's rate is averaged.
const RATE_SECONDS: i64 = 10;

/// The parts behind the doors of events.
pub struct Edge {
    /// Checks what comes in; a reload swaps it.
    pub checker: ArcSwap<Checker>,
    /// Signs and checks click links; a reload swaps it.
    pub links: ArcSwap<Links>,
    /// Counts what was checked.
    pub counting: Arc<dyn Counting>,
    /// Keeps what was refused.
    pub quarantine: Arc<Quarantine>,
    /// Shows what became durable.
    pub tail: Arc<Tail>,
    /// Chance, for events without a name.
    pub random: Arc<dyn Random>,
    /// Events of each site in the current ten seconds.
    rates: Mutex<(i64, HashMap<String, u64>)>,
}

/// Why nothing of a request was taken.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The body cannot be read.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A site sends more than its limit.
    #[error("over the limit site_events_per_second = {max}: {site} sent more on average of ten seconds")]
    Rate {
        /// The site.
        site: String,
        /// The limit.
        max: u32,
    },
    /// A key for hashes of people cannot be kept.
    #[error(transparent)]
    Key(#[from] super::KeyError),
    /// It could not be counted.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// A defect of ours.
    #[error("{0}")]
    Internal(String),
}

/// From this size on a body is decoded on a thread that may block.
const INLINE_BYTES_MAX: usize = 32 << 10;

impl Edge {
    /// Joins the parts.
    pub fn new(
        checker: Checker,
        links: Links,
        counting: Arc<dyn Counting>,
        quarantine: Arc<Quarantine>,
        random: Arc<dyn Random>,
    ) -> Edge {
        Edge {
            checker: ArcSwap::from_pointee(checker),
            links: ArcSwap::from_pointee(links),
            counting,
            quarantine,
            tail: Arc::default(),
            random,
            rates: Mutex::new((i64::MIN, HashMap::new())),
        }
    }

    /// Opens the parts in `folder` (keys, quarantine) and reads the files that the configuration names. Blocks.
    ///
    /// # Errors
    /// What is wrong, with the file's name.
    pub fn open(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        config: Arc<EventsConfig>,
        counting: Arc<dyn Counting>,
        random: Arc<dyn Random>,
    ) -> Result<Edge, String> {
        let keys = PeopleKeys::open(Arc::clone(disk), Arc::clone(&random), &folder.join("salts"));
        let keys = Arc::new(keys.map_err(|error| format!("events: {error}"))?);
        let links = Edge::read_links(&**disk, &config)?;
        let checker = Checker::new(&**disk, config, keys)?;
        let quarantine = Quarantine::open(Arc::clone(disk), &folder.join("quarantine"));
        let quarantine = Arc::new(quarantine.map_err(|error| format!("events: quarantine: {error}"))?);
        Ok(Edge::new(checker, links, counting, quarantine, random))
    }

    /// Reads what another configuration names. Blocks.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn prepare(&self, disk: &dyn Disk, config: EventsConfig) -> Result<(Checker, Links), String> {
        let links = Edge::read_links(disk, &config)?;
        let keys = Arc::clone(self.checker.load().keys());
        Ok((Checker::new(disk, Arc::new(config), keys)?, links))
    }

    /// Puts it into force for requests from now on.
    pub fn put_into_force(&self, (mut checker, links): (Checker, Links)) {
        checker.inherit(&self.checker.load());
        self.checker.store(Arc::new(checker));
        self.links.store(Arc::new(links));
    }

    fn read_links(disk: &dyn Disk, config: &EventsConfig) -> Result<Links, String> {
        let Some(path) = &config.click_secret_file else {
            return Ok(Links::new(None));
        };
        let secret = files::read_text(disk, path);
        let secret = secret.map_err(|error| format!("events: cannot read {}: {error}", path.display()))?;
        match secret.trim().len() >= SECRET_BYTES_MIN {
            true => Ok(Links::new(Some(secret.trim()))),
            false => Err(format!(
                "events: {} holds less than {SECRET_BYTES_MIN} characters; make a secret with: openssl rand -base64 24",
                path.display()
            )),
        }
    }

    /// Forgets what is over: keys of people, quarantined events. Called every hour or so. Blocks.
    ///
    /// # Errors
    /// The first thing that failed; the rest was done.
    pub fn tidy(&self, now: Millis) -> Result<(), String> {
        let checker = self.checker.load();
        let config = checker.config();
        let keys = checker.expire_keys(now).map_err(|error| error.to_string());
        let (kept, bytes_max) = (config.retention.quarantine, config.limits.quarantine_bytes);
        let refused = self.quarantine.expire(now, kept, bytes_max);
        refused.map_err(|error| format!("quarantine: {error}"))?;
        keys.map(drop)
    }

    /// Takes a body: answers when everything that counts is durable.
    ///
    /// # Errors
    /// [`EdgeError`]; a retry is safe after each of them.
    pub async fn take(self: &Arc<Edge>, format: Format, body: Bytes, arrival: Arrival) -> Result<Answer, EdgeError> {
        let key = arrival.idempotency_key.clone().map(|key| IdempotencyKey {
            sender: arrival.sender.name().to_owned(),
            key,
        });
        let inline = body.len() <= INLINE_BYTES_MAX;
        let edge = Arc::clone(self);
        let work = move || {
            let max = edge.checker.load().config().limits.events_per_request;
            let batch = decode::decode(format, &body, max)?;
            edge.check(&batch, &arrival)
        };
        let checked = match inline {
            true => work(),
            false => {
                let joined = tokio::task::spawn_blocking(work).await;
                joined.map_err(|error| EdgeError::Internal(format!("decoding was cut short: {error}")))?
            }
        }?;
        Ok(self.counting.collect(checked, key).await?)
    }

    /// Takes one event that the server put together itself.
    ///
    /// # Errors
    /// [`EdgeError`].
    pub async fn take_one(&self, batch: &Batch<'_>, arrival: &Arrival) -> Result<Answer, EdgeError> {
        let checked = self.check(batch, arrival)?;
        Ok(self.counting.collect(checked, None).await?)
    }

    fn check(&self, batch: &Batch<'_>, arrival: &Arrival) -> Result<Checked, EdgeError> {
        let checker = self.checker.load_full();
        self.admit(&checker, batch.events.len(), arrival)?;
        let checked = checker.check(batch, arrival)?;
        if !checked.rejected.is_empty() {
            self.set_aside(batch, &checked, arrival);
        }
        Ok(checked)
    }

    /// Keeps what was refused; the sender is told in any case, so that a failure here is only counted.
    fn set_aside(&self, batch: &Batch<'_>, checked: &Checked, arrival: &Arrival) {
        for rejection in &checked.rejected {
            // Fields of a closed set: an unknown one is the sender's word.
            let known = decode::Input::from_name(&rejection.field).map_or("other", decode::Input::name);
            QUARANTINED.inc(&[known]);
        }
        let (sender, now) = (arrival.sender.name(), arrival.received);
        match self.quarantine.keep(batch, &checked.rejected, sender, now) {
            Ok(lost) => QUARANTINE_LOST.add(lost as u64),
            Err(error) => {
                QUARANTINE_LOST.add(checked.rejected.len() as u64);
                tracing::warn!(%error, "refused events could not be kept");
            }
        }
    }

    /// Holds a site to its rate, so that one does not crowd out the others.
    fn admit(&self, checker: &Checker, events: usize, arrival: &Arrival) -> Result<(), EdgeError> {
        let Sender::Site(site) = &arrival.sender else {
            return Ok(());
        };
        let max = checker.config().limits.site_events_per_second;
        let window = window(arrival.received);
        let mut rates = self.rates.lock();
        if rates.0 != window {
            *rates = (window, HashMap::new());
        }
        let sent = rates.1.entry(site.name.clone()).or_insert(0);
        if *sent + events as u64 > u64::from(max) * RATE_SECONDS.unsigned_abs() {
            return Err(EdgeError::Rate {
                site: site.name.clone(),
                max,
            });
        }
        *sent += events as u64;
        Ok(())
    }
}

fn window(now: Millis) -> i64 {
    now.0.div_euclid(RATE_SECONDS * 1000)
}
