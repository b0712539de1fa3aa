//! Counts as series: what the query language sees of cells.
//!
//! Each name of [`VIRTUAL`] is a gauge per closed minute, stamped with the minute's end; a closed minute without events is 0.
//! The series are those of the smallest cube that has every label that the selector and the aggregation above it name: ads by
//! `ad_id` when they name none, the sum over all for `sum`. So `topk(10, sum by (ad_id) (sum_over_time(ads_net_clicks_1m[5m])))`
//! is the exact top ten, corrected by what came late, and nothing of it is stored twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cells::{CellMetric, Cube, MINUTE, key_parts};
use super::manifest::Grain;
use super::people::People;
use super::query::{Stretch, Wanted, stretches};
use super::{Domain, Events, EventsError, Field, QuestionError};
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher, MetricKind, MetricMetadata, Millis, TimeRange};
use crate::storage::{Columns, ExemplarSeries, NewestBy, Querier, Select, Selection, Series, StorageError};

/// The most series of one selector.
const SERIES_MAX: usize = 50_000;
/// How far back a series that a selector names completely is looked for, in minutes.
const NAMED_BACK: i64 = 1440;

/// What a virtual series shows.
#[derive(Clone, Copy)]
enum Shows {
    /// A count.
    Count(CellMetric),
    /// Money, in units.
    Money(CellMetric),
    /// People.
    People,
}

/// A name that stands for cells.
struct Virtual {
    name: &'static str,
    domain: Domain,
    shows: Shows,
    help: &'static str,
}

const fn ads(name: &'static str, shows: Shows, help: &'static str) -> Virtual {
    Virtual {
        name,
        domain: Domain::Ads,
        shows,
        help,
    }
}

const fn web(name: &'static str, shows: Shows, help: &'static str) -> Virtual {
    Virtual {
        name,
        domain: Domain::Web,
        shows,
        help,
    }
}

/// All names, sorted.
#[rustfmt::skip]
static VIRTUAL: &[Virtual] = &[
    ads("ads_conversions_1m", Shows::Count(CellMetric::NetConversions), "Net conversions of the minute."),
    ads("ads_duplicates_1m", Shows::Count(CellMetric::Duplicates), "Events of the minute that had been counted before."),
    ads("ads_gross_clicks_1m", Shows::Count(CellMetric::GrossClicks), "All clicks of the minute, marked ones too."),
    ads("ads_gross_conversions_1m", Shows::Count(CellMetric::GrossConversions), "All conversions of the minute."),
    ads("ads_gross_impressions_1m", Shows::Count(CellMetric::GrossImpressions), "All impressions of the minute."),
    ads("ads_gross_spend_1m", Shows::Money(CellMetric::GrossSpend), "Prices of all clicks and impressions of the minute."),
    ads("ads_impressions_1m", Shows::Count(CellMetric::NetImpressions), "Net impressions of the minute."),
    ads("ads_late_1m", Shows::Count(CellMetric::Late), "Events that came after the minute was closed."),
    ads("ads_net_clicks_1m", Shows::Count(CellMetric::NetClicks), "Net clicks of the minute."),
    ads("ads_revenue_1m", Shows::Money(CellMetric::NetRevenue), "Revenue of the minute's net conversions."),
    ads("ads_spend_1m", Shows::Money(CellMetric::NetSpend), "Prices of net clicks and impressions of the minute."),
    ads("ads_uniques_1m", Shows::People, "People who clicked in the minute, net."),
    web("web_events_1m", Shows::Count(CellMetric::Other), "Net events of pages that are no page views."),
    web("web_gross_pageviews_1m", Shows::Count(CellMetric::GrossPageviews), "All page views of the minute."),
    web("web_late_1m", Shows::Count(CellMetric::Late), "Events of pages that came after the minute was closed."),
    web("web_pageviews_1m", Shows::Count(CellMetric::NetPageviews), "Net page views of the minute."),
    web("web_revenue_1m", Shows::Money(CellMetric::NetRevenue), "Revenue of the minute's net events."),
    web("web_visitors_1m", Shows::People, "Visitors of the minute, net."),
];

/// Whether a selector of these matchers is answered from cells alone.
pub fn is_virtual(matchers: &[Matcher]) -> bool {
    let name = matchers
        .iter()
        .find(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal);
    name.is_some_and(|name| VIRTUAL.binary_search_by(|row| row.name.cmp(&name.value)).is_ok())
}

/// Whether a selector of these matchers may be answered from cells, too: a pattern for names that begins as ours do.
fn may_be_virtual(matchers: &[Matcher]) -> bool {
    is_virtual(matchers) || (crate::storage::is_made_for_the_question(matchers) && !names_of(matchers).is_empty())
}

fn names_of(matchers: &[Matcher]) -> Vec<&'static Virtual> {
    let names: Vec<&Matcher> = matchers.iter().filter(|matcher| matcher.name == METRIC_NAME).collect();
    let rows = VIRTUAL.iter();
    rows.filter(|row| !names.is_empty() && names.iter().all(|name| name.matches(row.name)))
        .collect()
}

/// One series: the minutes that have a value, and those that have none but 0.
struct Minutes {
    labels: Labels,
    /// Sorted by minute.
    values: Vec<(i64, f64)>,
    /// Minutes that are shown, half open.
    shown: (i64, i64),
}

impl Series for Minutes {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn columns(&self, range: TimeRange, columns: &mut Columns) -> Result<(), StorageError> {
        columns.clear();
        let (from, to) = minutes_in(range);
        let (from, to) = (from.max(self.shown.0), to.min(self.shown.1));
        let mut next = self.values.partition_point(|(minute, _)| *minute < from);
        for minute in from..to {
            let value = match self.values.get(next) {
                Some((own, value)) if *own == minute => {
                    next += 1;
                    *value
                }
                _ => 0.0,
            };
            columns.times.push((minute + 1) * MINUTE);
            columns.values.push(value);
        }
        Ok(())
    }
}

/// Returns the minutes whose end lies within a range, half open.
fn minutes_in(range: TimeRange) -> (i64, i64) {
    // A minute m ends at (m + 1) * MINUTE.
    let first = range.min.0.saturating_add(MINUTE - 1).div_euclid(MINUTE) - 1;
    (first, range.max.0.div_euclid(MINUTE))
}

fn storage_error(error: QuestionError) -> StorageError {
    match error {
        QuestionError::Events(EventsError::Cells(reason)) => StorageError::Corrupt {
            file: "events".to_owned(),
            offset: 0,
            reason,
        },
        QuestionError::Events(error) => StorageError::Read {
            file: "events".to_owned(),
            reason: error.to_string(),
        },
        other => StorageError::Limit(other.to_string()),
    }
}

impl Events {
    /// Returns the minutes of `range` that are closed and kept, half open.
    fn shown(&self, range: TimeRange) -> (i64, i64) {
        let (from, to) = minutes_in(range);
        let open = self.watermark().0.div_euclid(MINUTE);
        let (kept, first) = {
            let state = self.state.read();
            let kept = state
                .files
                .manifest
                .kept_from
                .get(&Grain::Minute)
                .copied()
                .unwrap_or(i64::MIN);
            let files = state
                .files
                .cells
                .range((Grain::Minute, i64::MIN)..(Grain::Hour, i64::MIN));
            let files = files.map(|((_, start), _)| *start).next();
            let fresh = std::iter::once(&state.fresh).chain(state.frozen.as_deref());
            let fresh = fresh.filter_map(|fresh| fresh.memory.first_minute()).min();
            (kept, files.into_iter().chain(fresh).min().unwrap_or(open))
        };
        (from.max(kept).max(first), to.min(open))
    }

    fn select_virtual(
        &self,
        row: &Virtual,
        select: &Select,
        found: &mut Vec<Box<dyn Series>>,
    ) -> Result<(), StorageError> {
        let (from, to) = self.shown(select.range);
        if from >= to {
            return Ok(());
        }
        let parts = stretches(from, to, Grain::Minute);
        let Some((cube, fixed, others)) = self.cube_of(row, select, &parts)? else {
            return Ok(());
        };
        let wanted = Wanted::new(&cube, &fixed);
        let mut keys = match row.shows {
            Shows::People => self.people_by_minute(&wanted, &parts)?,
            Shows::Count(metric) => self.values_by_minute(&wanted, &parts, metric, 1.0)?,
            Shows::Money(metric) => self.values_by_minute(&wanted, &parts, metric, 1e-6)?,
        };
        let is_named = cube.fields.len() == fixed.len();
        if keys.is_empty() && is_named && self.was_there(&wanted, from)? {
            keys.insert(wanted.prefix.clone(), BTreeMap::new());
        }
        for (key, values) in keys {
            let labels = labels_of(row.name, &cube, &key);
            if !others
                .iter()
                .all(|matcher| matcher.matches(labels.value(&matcher.name)))
            {
                continue;
            }
            if found.len() >= SERIES_MAX {
                return Err(StorageError::Limit(format!(
                    "{} would be more than {SERIES_MAX} series; ask for fewer (an ad_id or campaign_id), let `sum by` name \
                     fewer labels, or ask /api/v1/ads/popular_ads",
                    row.name
                )));
            }
            found.push(Box::new(Minutes {
                labels,
                values: values.into_iter().collect(),
                shown: (from, to),
            }));
        }
        Ok(())
    }

    /// Returns the cube, the fields that have a given value, and the matchers that are left; `None` when nothing can match.
    #[expect(
        clippy::type_complexity,
        reason = "three parts of one decision, taken apart at once by the only caller"
    )]
    fn cube_of<'a>(
        &self,
        row: &Virtual,
        select: &'a Select,
        parts: &[Stretch],
    ) -> Result<Option<(Cube, Vec<(Field, String)>, Vec<&'a Matcher>)>, StorageError> {
        let (mut fields, mut fixed, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for matcher in select.matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
            match Field::from_name(&matcher.name) {
                None if matcher.matches_empty() => {}
                None => return Ok(None),
                Some(field) => {
                    fields.push(field);
                    match matcher.op {
                        MatchOp::Equal if !fixed.iter().any(|(own, _)| *own == field) => {
                            fixed.push((field, matcher.value.clone()));
                        }
                        _ => others.push(matcher),
                    }
                }
            }
        }
        let aggregation = select.hints.aggregation.as_ref();
        let by = aggregation.filter(|above| !above.grouping.without);
        let labels = by.into_iter().flat_map(|above| &above.grouping.labels);
        fields.extend(labels.filter_map(|label| Field::from_name(label)));
        let sums_all = by.is_some_and(|above| above.op == "sum");
        let totals_only = matches!(row.shows, Shows::Count(CellMetric::Duplicates));
        if fields.is_empty() && !sums_all && !totals_only {
            fields.push(match row.domain {
                Domain::Ads => Field::AdId,
                Domain::Web => Field::Site,
            });
        }
        fields.sort_unstable();
        fields.dedup();
        let people = matches!(row.shows, Shows::People);
        match self.cube_for(row.domain, &fields, parts, people) {
            Some(cube) => Ok(Some((cube, fixed, others))),
            None => {
                let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
                let names = names.join(", ");
                Err(StorageError::Limit(format!(
                    "{}: minutes are not counted by {names} together over the whole range: add the cube [{names}] to \
                     events.cubes",
                    row.name
                )))
            }
        }
    }

    fn values_by_minute(
        &self,
        wanted: &Wanted,
        parts: &[Stretch],
        metric: CellMetric,
        scale: f64,
    ) -> Result<BTreeMap<Vec<u8>, BTreeMap<i64, f64>>, StorageError> {
        let mut keys: BTreeMap<Vec<u8>, BTreeMap<i64, i64>> = BTreeMap::new();
        let visited = self.each_piece(wanted, parts, &mut |key, piece| {
            let minutes = match keys.get_mut(key) {
                Some(minutes) => minutes,
                None => keys.entry(key.to_vec()).or_default(),
            };
            piece.each_of(metric, |minute, number| *minutes.entry(minute).or_default() += number);
        });
        visited.map_err(storage_error)?;
        // Exact as integers until the very end: a double holds 2^53 of them.
        let scaled =
            |minutes: BTreeMap<i64, i64>| minutes.into_iter().map(|(minute, sum)| (minute, sum as f64 * scale));
        Ok(keys
            .into_iter()
            .map(|(key, minutes)| (key, scaled(minutes).collect()))
            .collect())
    }

    fn people_by_minute(
        &self,
        wanted: &Wanted,
        parts: &[Stretch],
    ) -> Result<BTreeMap<Vec<u8>, BTreeMap<i64, f64>>, StorageError> {
        let mut keys: BTreeMap<Vec<u8>, BTreeMap<i64, People>> = BTreeMap::new();
        let visited = self.each_people(wanted, parts, &mut |key, minute, part| {
            let people = keys.entry(key.to_vec()).or_default().entry(minute).or_default();
            part.add_to(people)
        });
        visited.map_err(storage_error)?;
        let counted = |minutes: BTreeMap<i64, People>| {
            let minutes = minutes.into_iter();
            minutes.map(|(minute, mut people)| (minute, people.count().0)).collect()
        };
        Ok(keys.into_iter().map(|(key, minutes)| (key, counted(minutes))).collect())
    }

    /// Whether a series had an event in the day before `from`: then its minutes without any are 0, not absent.
    fn was_there(&self, wanted: &Wanted, from: i64) -> Result<bool, StorageError> {
        let (earliest, _) = self.shown(TimeRange {
            min: Millis((from - NAMED_BACK) * MINUTE),
            max: Millis(from * MINUTE),
        });
        let parts = stretches(earliest, from, Grain::Hour);
        let mut there = false;
        let visited = self.each_piece(wanted, &parts, &mut |_, _| there = true);
        visited.map_err(storage_error)?;
        Ok(there)
    }
}

fn labels_of(name: &str, cube: &Cube, key: &[u8]) -> Labels {
    let values = key_parts(key).map(String::from_utf8_lossy);
    let fields = cube.fields.iter().map(|field| field.name().to_owned()).zip(values);
    let all = fields.map(|(name, value)| (name, value.into_owned()));
    Labels::from_pairs(all.chain([(METRIC_NAME.to_owned(), name.to_owned())]))
}

impl Querier for Events {
    fn select(&self, select: &Select) -> Result<Selection, StorageError> {
        let mut series = Vec::new();
        for row in names_of(&select.matchers) {
            self.select_virtual(row, select, &mut series)?;
        }
        series.sort_by_cached_key(|series| series.labels());
        Ok(Selection {
            series,
            warnings: self.lost_in(select.range.min, select.range.max),
        })
    }

    fn series(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<Labels>, StorageError> {
        let mut found = BTreeSet::new();
        for set in sets {
            let select = Select {
                matchers: set.clone(),
                range,
                hints: crate::storage::Hints::default(),
            };
            found.extend(self.select(&select)?.series.iter().map(|series| series.labels()));
        }
        Ok(found.into_iter().collect())
    }

    fn label_names(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError> {
        let (from, to) = self.shown(range);
        let mut names = BTreeSet::new();
        let rows = sets.iter().flat_map(|set| names_of(set)).filter(|_| from < to);
        for row in rows {
            names.insert(METRIC_NAME.to_owned());
            let cubes = self.cubes.iter().filter(|cube| cube.domain == row.domain);
            names.extend(cubes.flat_map(|cube| &cube.fields).map(|field| field.name().to_owned()));
        }
        Ok(names.into_iter().collect())
    }

    fn label_values(&self, name: &str, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError> {
        let (from, to) = self.shown(range);
        if from >= to {
            return Ok(Vec::new());
        }
        if name == METRIC_NAME {
            let rows = VIRTUAL.iter();
            let rows = rows.filter(|row| {
                sets.is_empty()
                    || sets
                        .iter()
                        .any(|set| names_of(set).iter().any(|own| own.name == row.name))
            });
            return Ok(rows.map(|row| row.name.to_owned()).collect());
        }
        let mut values = BTreeSet::new();
        for set in sets {
            let mut matchers = set.clone();
            // Naming the label makes it one of the series' labels.
            let named = Matcher::new(name, MatchOp::NotEqual, "");
            matchers.extend(named.ok());
            let select = Select {
                matchers,
                range,
                hints: crate::storage::Hints::default(),
            };
            let found = self.select(&select)?.series;
            values.extend(
                found
                    .iter()
                    .filter_map(|series| series.labels().get(name).map(str::to_owned)),
            );
        }
        Ok(values.into_iter().collect())
    }

    fn metadata(&self) -> Vec<MetricMetadata> {
        let rows = VIRTUAL.iter().map(|row| MetricMetadata {
            metric: row.name.to_owned(),
            kind: MetricKind::Gauge,
            help: row.help.to_owned(),
            unit: String::new(),
        });
        rows.collect()
    }

    fn exemplars(&self, _sets: &[Vec<Matcher>], _range: TimeRange) -> Result<Vec<ExemplarSeries>, StorageError> {
        Ok(Vec::new())
    }

    /// The watermark: every minute that ends by then is closed.
    fn complete_until(&self) -> Millis {
        self.watermark()
    }

    /// Changes with every event of the range, and when a minute of it closes.
    fn version(&self, range: TimeRange) -> u64 {
        let (from, to) = minutes_in(range);
        let open = self.watermark().0.div_euclid(MINUTE);
        self.version_of(from, to)
            .wrapping_mul(31)
            .wrapping_add(to.min(open) as u64)
    }
}

/// The store of samples and the store of events as one: names of [`VIRTUAL`] are answered from events, all others from
/// samples, at the price of one comparison.
pub struct Both {
    /// Samples.
    pub samples: Arc<dyn Querier>,
    /// Events.
    pub events: Arc<Events>,
}

impl Both {
    fn merged<T: Ord>(mut own: Vec<T>, other: Vec<T>) -> Vec<T> {
        own.extend(other);
        own.sort_unstable();
        own.dedup();
        own
    }

    /// Returns the sets that may be virtual; none at all stands for all series, and those are the samples'.
    fn virtual_sets(sets: &[Vec<Matcher>]) -> Vec<Vec<Matcher>> {
        sets.iter().filter(|set| may_be_virtual(set)).cloned().collect()
    }

    /// Whether samples need not be asked.
    fn all_virtual(sets: &[Vec<Matcher>]) -> bool {
        !sets.is_empty() && sets.iter().all(|set| is_virtual(set))
    }
}

impl Querier for Both {
    fn select(&self, select: &Select) -> Result<Selection, StorageError> {
        if is_virtual(&select.matchers) {
            return self.events.select(select);
        }
        let mut selection = self.samples.select(select)?;
        if may_be_virtual(&select.matchers) {
            let more = self.events.select(select)?;
            if !more.series.is_empty() {
                selection.series.extend(more.series);
                selection.series.sort_by_cached_key(|series| series.labels());
            }
            selection.warnings.extend(more.warnings);
        }
        Ok(selection)
    }

    fn newest_by(&self, select: &Select, names: &[String]) -> Result<Option<NewestBy>, StorageError> {
        match may_be_virtual(&select.matchers) {
            true => Ok(None),
            false => self.samples.newest_by(select, names),
        }
    }

    fn series(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<Labels>, StorageError> {
        let found = if Both::all_virtual(sets) {
            Vec::new()
        } else {
            self.samples.series(sets, range)?
        };
        match Both::virtual_sets(sets) {
            sets if sets.is_empty() => Ok(found),
            sets => Ok(Both::merged(found, self.events.series(&sets, range)?)),
        }
    }

    fn label_names(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError> {
        let found = self.samples.label_names(sets, range)?;
        match Both::virtual_sets(sets) {
            sets if sets.is_empty() => Ok(found),
            sets => Ok(Both::merged(found, self.events.label_names(&sets, range)?)),
        }
    }

    fn label_values(&self, name: &str, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<String>, StorageError> {
        let found = self.samples.label_values(name, sets, range)?;
        match Both::virtual_sets(sets) {
            virtual_sets if virtual_sets.is_empty() && !(name == METRIC_NAME && sets.is_empty()) => Ok(found),
            virtual_sets => Ok(Both::merged(
                found,
                self.events.label_values(name, &virtual_sets, range)?,
            )),
        }
    }

    fn metadata(&self) -> Vec<MetricMetadata> {
        let mut all = self.samples.metadata();
        all.extend(self.events.metadata());
        all.sort_by(|a, b| a.metric.cmp(&b.metric));
        all
    }

    fn exemplars(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<ExemplarSeries>, StorageError> {
        self.samples.exemplars(sets, range)
    }

    /// Samples are complete when they are there; minutes of events are only shown once they are closed.
    fn complete_until(&self) -> Millis {
        self.samples.complete_until()
    }

    /// A rule over windows of events waits until they are closed.
    fn complete_for(&self, matchers: &[Matcher]) -> Millis {
        match is_virtual(matchers) {
            true => self.events.complete_until(),
            false => self.samples.complete_for(matchers),
        }
    }

    fn version(&self, range: TimeRange) -> u64 {
        self.samples.version(range).wrapping_add(self.events.version(range))
    }
}
