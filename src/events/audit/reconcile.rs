//! Reconciliation: the counts of whole hours against raw events, counted once more by other code.
//!
//! Raw files and what the log has beyond them are read row by row, an identity counted once; hour by hour and ad by ad the
//! sums are compared with what the cells answer. A difference is named, exposed as a metric, and an alert is shipped for it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::metrics_edge::{RECONCILE_DIFF, RECONCILED_AT};
use super::super::{
    CellMetric, Domain, Event, EventId, Events, EventsConfig, Field, Kind, Micros, Question, RawFile, RawQuestion,
};
use super::{AuditError, HOUR, Hours, raw};
use crate::io::{Clock, Shutdown};
use crate::model::{Interval, Millis};

/// How often an hour is looked at that does not stand still.
const TRIES: usize = 5;
/// The most gaps that are listed.
const GAPS_MAX: usize = 1000;
/// The note that keeps the last results.
const NOTE: &str = "reconciliations";
/// How many results are kept.
const KEPT_MAX: usize = 62;
/// Identities held in memory at once; of an hour with more, a part is looked at in each of several passes.
const IDS_MAX: u64 = 20_000_000;

/// A number that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The hour's beginning.
    pub hour: Millis,
    /// The ad; empty for the sum over all.
    pub ad_id: String,
    /// Which number.
    pub metric: String,
    /// What is answered.
    pub counted: i64,
    /// What raw events say.
    pub raw: i64,
}

/// What a reconciliation found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// From then on.
    pub from: Millis,
    /// Up to then.
    pub to: Millis,
    /// When it was made.
    pub at: Millis,
    /// Whether everything agrees.
    pub agrees: bool,
    /// Rows of raw files.
    pub rows: u64,
    /// Different events in them.
    pub events: u64,
    /// Rows whose event was there before: a sender that changed `ts` when it sent again.
    pub id_conflicts: u64,
    /// Events that nothing speaks against.
    pub net: u64,
    /// Events by what speaks against them; one may be in several.
    pub marked: BTreeMap<String, u64>,
    /// Copies that were answered as duplicates, by the minutes they named.
    pub duplicates: u64,
    /// Net spend by raw events, in units.
    pub spend: f64,
    /// Everything ever received = accepted + duplicate + rejected, by the log's own sums.
    pub lifetime: BTreeMap<String, u64>,
    /// What differs, at most 1,000 numbers.
    pub gaps: Vec<Gap>,
    /// The sum of all differences, in events.
    pub difference: u64,
}

/// What one hour's raw events amount to: written apart from the cells' own sums on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    net_clicks: i64,
    gross_clicks: i64,
    net_impressions: i64,
    gross_impressions: i64,
    net_conversions: i64,
    gross_conversions: i64,
    net_spend: i64,
    net_pageviews: i64,
    gross_pageviews: i64,
}

impl Sums {
    fn take(&mut self, event: &Event) {
        let one = i64::from(event.reasons.0 & 0xffff == 0);
        match event.kind {
            Kind::Click => {
                self.gross_clicks += 1;
                self.net_clicks += one;
                self.net_spend += one * event.price.0;
            }
            Kind::Impression => {
                self.gross_impressions += 1;
                self.net_impressions += one;
                self.net_spend += one * event.price.0;
            }
            Kind::Conversion => {
                self.gross_conversions += 1;
                self.net_conversions += one;
            }
            Kind::Pageview => {
                self.gross_pageviews += 1;
                self.net_pageviews += one;
            }
            Kind::Custom | Kind::Engagement | Kind::Vitals => {}
        }
    }

    fn of(&self, domain: Domain) -> Vec<(CellMetric, i64)> {
        match domain {
            Domain::Ads => vec![
                (CellMetric::NetClicks, self.net_clicks),
                (CellMetric::GrossClicks, self.gross_clicks),
                (CellMetric::NetImpressions, self.net_impressions),
                (CellMetric::GrossImpressions, self.gross_impressions),
                (CellMetric::NetConversions, self.net_conversions),
                (CellMetric::GrossConversions, self.gross_conversions),
                (CellMetric::NetSpend, self.net_spend),
            ],
            Domain::Web => vec![
                (CellMetric::NetPageviews, self.net_pageviews),
                (CellMetric::GrossPageviews, self.gross_pageviews),
            ],
        }
    }
}

/// Compares counts and raw events of whole hours, and marks minutes that agree as reconciled. Blocks.
///
/// # Errors
/// [`AuditError`].
pub fn reconcile(events: &Events, from: Millis, to: Millis, now: Millis) -> Result<Reconciliation, AuditError> {
    let hours = Hours::of(from, to)?;
    if to > events.watermark() {
        return Err(AuditError::Asked(format!(
            "{to} is not closed yet: the watermark is {}",
            events.watermark()
        )));
    }
    let _turn = events.audit.try_lock().ok_or(AuditError::Busy)?;
    events.save()?;
    let mut result = Reconciliation {
        from,
        to,
        at: now,
        lifetime: lifetime(events),
        ..Reconciliation::default()
    };
    let mut spend = 0;
    for hour in hours.first..hours.end {
        spend += settled_hour(events, hour, &mut result)?;
    }
    result.spend = Micros(spend).as_units();
    result.agrees = result.difference == 0 && result.id_conflicts == 0;
    if result.agrees {
        events.mark_reconciled(from, to)?;
    }
    RECONCILE_DIFF.set(result.difference as f64);
    RECONCILED_AT.set(to.as_secs_f64());
    keep(events, &result)?;
    Ok(result)
}

fn lifetime(events: &Events) -> BTreeMap<String, u64> {
    let counted = events.status().counted;
    let named = [
        ("received", counted.received()),
        ("accepted", counted.accepted),
        ("duplicate", counted.duplicate),
        ("rejected", counted.rejected),
        ("marked", counted.marked),
    ];
    named
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

/// Compares one hour. An event that comes late meanwhile is counted before it is in a file: a difference is believed only when
/// everything was written and nothing moved while it was looked for.
fn settled_hour(events: &Events, hour: i64, result: &mut Reconciliation) -> Result<i64, AuditError> {
    let version = || events.version_of(hour * 60, (hour + 1) * 60);
    for _ in 0..TRIES {
        let mut tried = result.clone();
        let before = version();
        let spend = one_hour(events, hour, &mut tried)?;
        if tried.difference == result.difference || (version() == before && events.raw_position() == events.position())
        {
            *result = tried;
            return Ok(spend);
        }
        events.save()?;
    }
    Err(AuditError::Moved)
}

/// Compares one hour; returns its net spend.
fn one_hour(events: &Events, hour: i64, result: &mut Reconciliation) -> Result<i64, AuditError> {
    let (from, to) = (Millis(hour * HOUR), Millis((hour + 1) * HOUR));
    let files = events.raw_files(from, to);
    let mut all = Sums::default();
    let mut by_ad: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    count_rows(events, &files, (from, to), result, &mut |event| {
        all.take(event);
        if event.kind == Kind::Click {
            let ad = by_ad.entry(event.text(Field::AdId).to_owned()).or_default();
            ad.1 += 1;
            ad.0 += i64::from(event.reasons.0 & 0xffff == 0);
        }
    })?;
    for domain in Domain::ALL {
        let question = question(domain, from, to);
        let (counts, _) = events.totals(&question)?;
        for (metric, raw) in all.of(domain) {
            result.compare(from, "", metric.name(), counts.get(metric), raw);
        }
        result.duplicates += counts.get(CellMetric::Duplicates).unsigned_abs();
    }
    let asked = question(Domain::Ads, from, to);
    for (metric, raw_of) in [
        (
            CellMetric::NetClicks,
            (|sums: &(i64, i64)| sums.0) as fn(&(i64, i64)) -> i64,
        ),
        (CellMetric::GrossClicks, |sums| sums.1),
    ] {
        let (ranked, _) = events.top(&asked, Field::AdId, metric, usize::MAX)?;
        let counted: BTreeMap<&str, i64> = ranked.iter().map(|ad| (ad.value.as_str(), ad.count)).collect();
        for (ad, sums) in &by_ad {
            let found = counted.get(ad.as_str()).copied().unwrap_or(0);
            result.compare(from, ad, metric.name(), found, raw_of(sums));
        }
        for (ad, count) in counted.iter().filter(|(ad, _)| !by_ad.contains_key(**ad)) {
            result.compare(from, ad, metric.name(), *count, 0);
        }
    }
    Ok(all.net_spend)
}

fn question(domain: Domain, from: Millis, to: Millis) -> Question {
    Question {
        domain,
        from,
        to,
        fields: Vec::new(),
        users: Vec::new(),
        ips: Vec::new(),
    }
}

/// Calls `each` with every different event of raw files, and counts rows, identities and marks.
fn count_rows(
    events: &Events,
    files: &[RawFile],
    (from, to): (Millis, Millis),
    result: &mut Reconciliation,
    each: &mut dyn FnMut(&Event),
) -> Result<(), AuditError> {
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    let passes = rows.div_ceil(IDS_MAX).max(1);
    let question = RawQuestion {
        from,
        to,
        texts: vec![Field::AdId],
        ..RawQuestion::everything()
    };
    for pass in 0..passes {
        let mut seen: HashSet<EventId> = HashSet::new();
        raw(events)?.scan(files, &question, &mut |event| {
            if (event.id.0 % u128::from(passes)) as u64 != pass {
                return true;
            }
            result.rows += 1;
            if !seen.insert(event.id) {
                result.id_conflicts += 1;
                return true;
            }
            result.events += 1;
            result.net += u64::from(event.is_net());
            for reason in event.reasons.iter() {
                *result.marked.entry(reason.name().to_owned()).or_default() += 1;
            }
            each(&event);
            true
        })?;
    }
    Ok(())
}

impl Reconciliation {
    fn compare(&mut self, hour: Millis, ad_id: &str, metric: &str, counted: i64, raw: i64) {
        if counted == raw {
            return;
        }
        if metric != CellMetric::NetSpend.name() {
            self.difference += counted.abs_diff(raw);
        } else {
            self.difference += 1;
        }
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push(Gap {
                hour,
                ad_id: ad_id.to_owned(),
                metric: metric.to_owned(),
                counted,
                raw,
            });
        }
    }
}

/// Returns the last reconciliations, the oldest first.
pub fn reconciliations(events: &Events) -> Vec<Reconciliation> {
    let note = events.note(NOTE).unwrap_or_default();
    serde_json::from_value(note).unwrap_or_default()
}

fn keep(events: &Events, result: &Reconciliation) -> Result<(), AuditError> {
    let mut all = reconciliations(events);
    all.retain(|old| (old.from, old.to) != (result.from, result.to));
    let mut short = result.clone();
    short.gaps.truncate(20);
    all.push(short);
    let surplus = all.len().saturating_sub(KEPT_MAX);
    all.drain(..surplus);
    let note = serde_json::to_value(all).expect("texts and numbers are always JSON");
    Ok(events.set_note(NOTE, Some(note))?)
}

/// Reconciles the day before, once a day.
pub struct Reconciler {
    events: Arc<Events>,
    config: Arc<EventsConfig>,
    clock: Arc<dyn Clock>,
}

impl Reconciler {
    /// Looks after `events`.
    pub fn new(events: Arc<Events>, config: Arc<EventsConfig>, clock: Arc<dyn Clock>) -> Reconciler {
        Reconciler { events, config, clock }
    }

    /// Runs until a stop is asked for.
    pub async fn run(self, mut shutdown: Shutdown) {
        loop {
            let Some((wait, day)) = next_day(&self.config, self.clock.now()) else {
                tracing::error!("events.reconcile_at never comes in events.time_zone: nothing is reconciled");
                return;
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = self.clock.sleep(wait) => {}
            }
            let (events, clock) = (Arc::clone(&self.events), Arc::clone(&self.clock));
            let joined = tokio::task::spawn_blocking(move || reconcile(&events, day.0, day.1, clock.now())).await;
            match joined {
                Ok(Ok(result)) if result.agrees => tracing::info!(from = %day.0, to = %day.1, "events are reconciled"),
                Ok(Ok(result)) => {
                    tracing::error!(from = %day.0, to = %day.1, difference = result.difference, "counts and raw events differ");
                }
                Ok(Err(error)) => tracing::error!(%error, from = %day.0, "events could not be reconciled"),
                Err(error) => tracing::error!(%error, "reconciling ended badly"),
            }
        }
    }
}

/// Returns how long to wait for the next reconciliation, and the hours of the day before it.
fn next_day(config: &EventsConfig, now: Millis) -> Option<(Interval, (Millis, Millis))> {
    let (zone, time) = (config.zone().ok()?, config.reconcile_time().ok()?);
    let at = jiff::Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone.clone());
    let of = |date: jiff::civil::Date| date.to_datetime(time).to_zoned(zone.clone()).ok();
    let today = of(at.date())?;
    let due = if today > at {
        today
    } else {
        of(at.date().tomorrow().ok()?)?
    };
    let begin = |date: jiff::civil::Date| {
        let first = date.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond();
        // A zone that is half an hour off begins its days inside an hour: that hour is counted with the day before.
        Some(Millis(first.div_euclid(HOUR) * HOUR))
    };
    let day = (begin(due.date().yesterday().ok()?)?, begin(due.date())?);
    Some((Interval(due.timestamp().as_millisecond() - now.0), day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_before_is_reconciled_at_its_time_of_day() {
        let config = EventsConfig {
            time_zone: "America/New_York".to_owned(),
            ..EventsConfig::default()
        };
        let at = |text: &str| Millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let (wait, day) = next_day(&config, at("2026-11-01T05:00:00Z")).unwrap();
        // 01:00 in summer time on the day the clocks go back: 02:00 is two hours away, and the day before has 24 hours.
        assert_eq!(wait, Interval::hours(2));
        assert_eq!(day, (at("2026-10-31T04:00:00Z"), at("2026-11-01T04:00:00Z")));
        let (_, day) = next_day(&config, at("2026-11-02T06:00:00Z")).unwrap();
        assert_eq!((day.1 - day.0).0, 25 * HOUR);
    }
}
