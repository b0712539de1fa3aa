//! Who sends how much: an account for each sender, by name, protocol and program.
//!
//! Series are counted by HyperLogLog over the keys that the decoders have computed anyway (4 KiB and about 2 % off), in two
//! half-hour windows; a configured limit on series is exact and costs a set. The table is bounded: senders beyond it share one
//! account.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::IngestLimits;
use super::metrics::{Protocol, SOURCE_REFUSED, SOURCE_SAMPLES, SOURCE_SERIES};
use crate::model::{Interval, Millis, SeriesKey};

/// The most accounts.
const SOURCES_MAX: usize = 1000;
/// How long one window of series lasts; the one before it counts too.
const WINDOW: Interval = Interval::mins(30);

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// The token's name, or the address it came from.
    pub name: String,
    /// The program, as it calls itself.
    pub agent: String,
}

impl Source {
    /// Returns the source of what the server feeds itself.
    pub fn ourselves() -> Source {
        Source {
            name: "campanile".to_owned(),
            agent: String::new(),
        }
    }
}

/// What one sender's account says.
#[derive(Clone, Debug, Serialize)]
pub struct SourceReport {
    /// The token's name, or the address.
    pub source: String,
    /// The program.
    pub agent: String,
    /// The push format.
    pub protocol: &'static str,
    /// Requests, refused ones included.
    pub requests: u64,
    /// Samples taken.
    pub samples: u64,
    /// Series with samples in the last half hour to hour, about.
    pub active_series: u64,
    /// Samples and requests refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Samples left out by rule: relabelled away, or sent by the other replica of a pair.
    pub left_out: u64,
    /// The newest refusal, as the sender was told.
    pub last_error: Option<String>,
    /// When that was, in Unix milliseconds.
    pub last_error_at: Option<i64>,
    /// When the newest request came, in Unix milliseconds.
    pub last_seen: i64,
}

#[derive(Default)]
struct Account {
    requests: u64,
    samples: u64,
    refused: BTreeMap<&'static str, u64>,
    left_out: u64,
    last_error: Option<(Millis, String)>,
    last_seen: Millis,
    window_began: Millis,
    now: Registers,
    before: Registers,
    /// The keys themselves, when their number is limited.
    known: HashSet<SeriesKey>,
    known_before: HashSet<SeriesKey>,
}

/// Requests of one source at the same time share its account.
type SharedAccount = Arc<Mutex<Account>>;

/// All accounts.
#[derive(Default)]
pub(super) struct Sources {
    accounts: Mutex<HashMap<(Source, Protocol), SharedAccount>>,
}

/// What became of one request's samples.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) samples: u64,
    pub(super) left_out: u64,
    pub(super) refused: Vec<(&'static str, u64)>,
    pub(super) error: Option<String>,
}

impl Sources {
    fn account(&self, source: &Source, protocol: Protocol) -> (Arc<Mutex<Account>>, Source) {
        let mut accounts = self.accounts.lock();
        let key = (source.clone(), protocol);
        if let Some(account) = accounts.get(&key) {
            return (Arc::clone(account), key.0);
        }
        let key = if accounts.len() < SOURCES_MAX {
            key
        } else {
            (others(), protocol)
        };
        let shown = key.0.clone();
        (Arc::clone(accounts.entry(key).or_default()), shown)
    }

    /// Notes what became of a request.
    pub(super) fn enter(&self, source: &Source, protocol: Protocol, entry: Entry, now: Millis) {
        let (account, source) = self.account(source, protocol);
        let mut account = account.lock();
        account.requests += 1;
        account.samples += entry.samples;
        account.left_out += entry.left_out;
        account.last_seen = now;
        SOURCE_SAMPLES.add(&[&source.name, protocol.as_str()], entry.samples);
        for (reason, many) in entry.refused {
            *account.refused.entry(reason).or_default() += many;
            SOURCE_REFUSED.add(&[&source.name, protocol.as_str(), reason], many);
        }
        if let Some(error) = entry.error {
            account.last_error = Some((now, error));
        }
        SOURCE_SERIES.set(&[&source.name, protocol.as_str()], account.series() as f64);
    }

    /// Counts the series of a request; returns which of them are beyond `source_series_max`.
    pub(super) fn count_series(
        &self,
        source: &Source,
        protocol: Protocol,
        keys: impl Iterator<Item = SeriesKey>,
        limits: &IngestLimits,
        now: Millis,
    ) -> Vec<bool> {
        let (account, _) = self.account(source, protocol);
        let mut account = account.lock();
        account.turn(now);
        if limits.source_series_max == 0 {
            keys.for_each(|key| account.now.add(key.0));
            return Vec::new();
        }
        let beyond = |key: SeriesKey| {
            let many = account.known.len();
            let is_known = account.known.contains(&key) || account.known_before.contains(&key);
            if !is_known && many.max(account.known_before.len()) >= limits.source_series_max {
                return true;
            }
            account.known.insert(key);
            account.now.add(key.0);
            false
        };
        keys.map(beyond).collect()
    }

    /// Returns all accounts, the busiest first.
    pub(super) fn report(&self) -> Vec<SourceReport> {
        let accounts: Vec<_> = self
            .accounts
            .lock()
            .iter()
            .map(|(key, account)| (key.clone(), Arc::clone(account)))
            .collect();
        let mut reports: Vec<SourceReport> = accounts
            .into_iter()
            .map(|((source, protocol), account)| {
                let account = account.lock();
                SourceReport {
                    source: source.name,
                    agent: source.agent,
                    protocol: protocol.as_str(),
                    requests: account.requests,
                    samples: account.samples,
                    active_series: account.series(),
                    refused: account.refused.clone(),
                    left_out: account.left_out,
                    last_error: account.last_error.as_ref().map(|(_, error)| error.clone()),
                    last_error_at: account.last_error.as_ref().map(|(at, _)| at.0),
                    last_seen: account.last_seen.0,
                }
            })
            .collect();
        reports.sort_by(|a, b| b.samples.cmp(&a.samples).then_with(|| a.source.cmp(&b.source)));
        reports
    }
}

fn others() -> Source {
    Source {
        name: "(others)".to_owned(),
        agent: String::new(),
    }
}

impl Account {
    fn turn(&mut self, now: Millis) {
        if now - self.window_began < WINDOW {
            return;
        }
        self.window_began = now;
        self.before = std::mem::take(&mut self.now);
        self.known_before = std::mem::take(&mut self.known);
    }

    fn series(&self) -> u64 {
        self.now.merged(&self.before).estimate()
    }
}

/// HyperLogLog with 4,096 registers: the standard error is 1.6 %.
#[derive(Clone, Default)]
struct Registers(Vec<u8>);

const REGISTERS: usize = 1 << 12;

impl Registers {
    fn add(&mut self, hash: u128) {
        if self.0.is_empty() {
            self.0.resize(REGISTERS, 0);
        }
        let register = &mut self.0[hash as usize % REGISTERS];
        *register = (*register).max(((hash >> 64) as u64).leading_zeros() as u8 + 1);
    }

    fn merged(&self, other: &Registers) -> Registers {
        if self.0.is_empty() || other.0.is_empty() {
            return Registers([&self.0[..], &other.0[..]].concat());
        }
        Registers(self.0.iter().zip(&other.0).map(|(a, b)| *a.max(b)).collect())
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate of a count is a count"
    )]
    fn estimate(&self) -> u64 {
        if self.0.is_empty() {
            return 0;
        }
        let many = REGISTERS as f64;
        let sum: f64 = self.0.iter().map(|rank| 0.5f64.powi(i32::from(*rank))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / many) * many * many / sum;
        let empty = self.0.iter().filter(|rank| **rank == 0).count();
        if raw <= 2.5 * many && empty > 0 {
            return (many * (many / empty as f64).ln()).round() as u64;
        }
        raw.round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(range: std::ops::Range<u64>) -> impl Iterator<Item = SeriesKey> {
        range.map(|i| SeriesKey(xxhash_rust::xxh3::xxh3_128(&i.to_le_bytes())))
    }

    fn source(name: &str) -> Source {
        Source {
            name: name.to_owned(),
            agent: "test/1".to_owned(),
        }
    }

    #[test]
    fn series_are_counted_within_a_few_percent_and_forgotten() {
        let sources = Sources::default();
        let limits = IngestLimits::default();
        for (many, now) in [(1000, 0), (50_000, 1)] {
            sources.count_series(&source("a"), Protocol::Otlp, keys(0..many), &limits, Millis(now));
            let counted = sources.report()[0].active_series;
            assert!(counted.abs_diff(many) < many / 15, "{many}: {counted}");
        }
        for window in [1, 2] {
            let now = Millis(WINDOW.0 * window + 10);
            sources.count_series(&source("a"), Protocol::Otlp, keys(0..10), &limits, now);
        }
        assert!(sources.report()[0].active_series < 20);
    }

    #[test]
    fn over_its_limit_a_source_keeps_the_series_it_has() {
        let sources = Sources::default();
        let limits = IngestLimits {
            source_series_max: 3,
            ..IngestLimits::default()
        };
        let count = |range| sources.count_series(&source("a"), Protocol::Otlp, keys(range), &limits, Millis(0));
        assert_eq!(count(0..5), [false, false, false, true, true]);
        assert_eq!(count(0..3), [false; 3]);
    }

    #[test]
    fn accounts_are_bounded_and_say_who_was_refused_why() {
        let sources = Sources::default();
        for i in 0..SOURCES_MAX + 5 {
            let entry = Entry {
                samples: 1,
                refused: vec![("labels", 2)],
                error: Some("bad".to_owned()),
                ..Entry::default()
            };
            sources.enter(&source(&format!("s{i}")), Protocol::Influx, entry, Millis(7));
        }
        let report = sources.report();
        assert_eq!(report.len(), SOURCES_MAX + 1);
        let others = report.iter().find(|one| one.source == "(others)").unwrap();
        assert_eq!(
            (others.samples, others.refused["labels"], others.last_error_at),
            (5, 10, Some(7))
        );
    }
}
