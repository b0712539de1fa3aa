//! The head as a store of series: from matchers to samples.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Head;
use super::series::{Glance, Series};
use super::table::Inner;
use crate::model::{Labels, TimeRange};
use crate::storage::{self, Columns, NewestBy, Point, StorageError};
use crate::tsdb::chunk::ChunkStore;
use crate::tsdb::postings::Selector;

/// How many series of a selection share a reader.
const NEIGHBOURS: usize = 1024;

/// A series that turned out to have nothing in range.
const NO_GROUP: u32 = u32::MAX;

/// A series of the head, as the engine sees it.
struct HeadSeries {
    series: Arc<Series>,
    labels: Labels,
    chunks: Arc<ChunkStore>,
    _reader: Arc<Reader>,
}

/// While a query holds this, nothing that it may look for leaves the head. Shared by neighbours only: threads that count on
/// one number wait for each other.
struct Reader {
    _of_head: Arc<()>,
}

impl Reader {
    fn of(head: &Arc<()>) -> Arc<Reader> {
        Arc::new(Reader {
            _of_head: Arc::clone(head),
        })
    }
}

impl storage::Series for HeadSeries {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn columns(&self, range: TimeRange, columns: &mut Columns) -> Result<(), StorageError> {
        columns.clear();
        if range.min > range.max {
            return Ok(());
        }
        self.series.columns(range, columns, &self.chunks)
    }

    fn latest(&self, range: TimeRange) -> Result<Option<Point>, StorageError> {
        if let Some(point) = self.series.latest(range) {
            return Ok(Some(point));
        }
        if !self.series.overlaps(range) {
            return Ok(None);
        }
        let mut columns = Columns::default();
        self.columns(range, &mut columns)?;
        Ok(columns.latest())
    }
}

impl Head {
    /// Hands over the matching series with samples in `range`, in any order, and the table that has their labels.
    fn find<T>(
        &self,
        selector: &Selector,
        range: TimeRange,
        mut take: impl FnMut(&Inner, &Arc<Series>) -> T,
    ) -> Result<Vec<T>, StorageError> {
        let table = self.table.read();
        let ids = selector.find(&table.postings)?;
        let found = ids.iter().filter_map(|id| table.get(id));
        Ok(found
            .filter(|series| series.overlaps(range))
            .map(|series| take(&table, series))
            .collect())
    }

    /// Returns the matching series with samples in `range`, sorted by labels.
    pub(crate) fn select(
        &self,
        selector: &Selector,
        range: TimeRange,
        reader: &Arc<()>,
    ) -> Result<Vec<Box<dyn storage::Series>>, StorageError> {
        let order = self.order.of(&self.table);
        let table = self.table.read();
        // What the order does not know yet was created since: no sample of it was acknowledged before the question.
        let ids = order.sort(&selector.find(&table.postings)?);
        let found = ids.iter().filter_map(|id| table.get(*id));
        let mut shared = Reader::of(reader);
        let series = found
            .filter(|series| series.overlaps(range))
            .enumerate()
            .map(|(at, series)| {
                if at.is_multiple_of(NEIGHBOURS) {
                    shared = Reader::of(reader);
                }
                Box::new(HeadSeries {
                    series: Arc::clone(series),
                    labels: table.labels(series),
                    chunks: Arc::clone(&self.chunks),
                    _reader: Arc::clone(&shared),
                }) as Box<dyn storage::Series>
            });
        Ok(series.collect())
    }

    /// Returns the newest float within `range` of each matching series, and its labels reduced to `names`; `None` when a
    /// histogram is among them.
    pub(crate) fn newest_by(
        &self,
        selector: &Selector,
        range: TimeRange,
        names: &[String],
        reader: &Arc<()>,
    ) -> Result<Option<NewestBy>, StorageError> {
        if range.min > range.max {
            return Ok(Some(NewestBy::default()));
        }
        let order = self.order.of(&self.table);
        let _reader = Reader::of(reader);
        let mut values = Vec::new();
        let mut unclear = Vec::new();
        let groups = {
            let table = self.table.read();
            let ids = order.sort(&selector.find(&table.postings)?);
            let mut groups = table.groups(names);
            values.reserve(ids.len());
            for series in ids.iter().filter_map(|id| table.get(*id)) {
                let value = match series.glance(range) {
                    Glance::Outside => continue,
                    Glance::Float(value) => value,
                    Glance::Unclear => {
                        unclear.push((values.len(), Arc::clone(series)));
                        f64::NAN
                    }
                };
                values.push((groups.of(&series.labels), value));
            }
            groups.into_labels()
        };
        // Files are not read under the table's lock.
        let mut columns = Columns::default();
        let mut none = false;
        for (place, series) in unclear {
            columns.clear();
            series.columns(range, &mut columns, &self.chunks)?;
            match columns.latest() {
                Some(Point::Float(sample)) => values[place].1 = sample.value,
                Some(Point::Histogram(_)) => return Ok(None),
                None => {
                    values[place].0 = NO_GROUP;
                    none = true;
                }
            }
        }
        if none {
            values.retain(|(group, _)| *group != NO_GROUP);
        }
        Ok(Some(NewestBy { groups, values }))
    }

    /// Returns the labels of series that match any of these.
    pub(crate) fn series(&self, selectors: &[Selector], range: TimeRange) -> Result<BTreeSet<Labels>, StorageError> {
        let mut all = BTreeSet::new();
        for selector in selectors {
            all.extend(self.find(selector, range, |table, series| table.labels(series))?);
        }
        Ok(all)
    }

    /// Whether a question about labels concerns all series, so that the index alone answers it.
    fn concerns_all(&self, all: bool, range: TimeRange) -> bool {
        all && self
            .range()
            .is_some_and(|own| range.min <= own.min && own.max <= range.max)
    }

    /// Returns the label names of series that match any of these; `all` says that every series does.
    pub(crate) fn label_names(
        &self,
        selectors: &[Selector],
        all: bool,
        range: TimeRange,
    ) -> Result<BTreeSet<String>, StorageError> {
        if self.concerns_all(all, range) {
            let table = self.table.read();
            return Ok(table.postings.names().into_iter().map(str::to_owned).collect());
        }
        let found = self.series(selectors, range)?;
        let mut names = BTreeSet::new();
        for labels in &found {
            for (name, _) in labels.iter() {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        Ok(names)
    }

    /// Returns the values of `name` in series that match any of these; `all` says that every series does.
    pub(crate) fn label_values(
        &self,
        name: &str,
        selectors: &[Selector],
        all: bool,
        range: TimeRange,
    ) -> Result<BTreeSet<String>, StorageError> {
        if self.concerns_all(all, range) {
            let table = self.table.read();
            return Ok(table.postings.values(name).map(|(value, _)| value.to_owned()).collect());
        }
        let found = self.series(selectors, range)?;
        Ok(found
            .iter()
            .filter_map(|labels| labels.get(name))
            .map(str::to_owned)
            .collect())
    }
}
