//! Several stores of samples as one: series with equal labels become one series, equal times one sample.
//!
//! Where two parts disagree about a time, the part listed first counts: callers list the older block first, and the first
//! value that was accepted is the one that stays.

use std::cmp::Ordering;

use crate::model::{Labels, TimeRange};
use crate::storage::{Columns, Point, Series, StorageError, Summary};

/// Merges selections, each sorted by labels, into one.
pub fn merge_series(selections: Vec<Vec<Box<dyn Series>>>) -> Vec<Box<dyn Series>> {
    let mut selections: Vec<Vec<Box<dyn Series>>> =
        selections.into_iter().filter(|series| !series.is_empty()).collect();
    if selections.len() <= 1 {
        return selections.pop().unwrap_or_default();
    }
    let most = selections.iter().map(Vec::len).max().unwrap_or(0);
    let mut sources: Vec<Source> = selections.into_iter().map(Source::new).collect();
    let mut merged: Vec<Box<dyn Series>> = Vec::with_capacity(most);
    // There are few sources, and mostly all of them have the next series: looking at each beats keeping a heap.
    let mut first: Vec<usize> = Vec::new();
    loop {
        first.clear();
        for at in 0..sources.len() {
            let Some((labels, _)) = &sources[at].next else { continue };
            let least = first.first().and_then(|at| sources[*at].next.as_ref());
            match least.map_or(Ordering::Equal, |(least, _)| labels.cmp(least)) {
                Ordering::Greater => continue,
                Ordering::Less => first.clear(),
                Ordering::Equal => {}
            }
            first.push(at);
        }
        let mut found = first.iter().filter_map(|at| sources[*at].take());
        let Some((labels, one)) = found.next() else {
            return merged;
        };
        merged.push(match first.len() {
            1 => one,
            _ => {
                let parts = std::iter::once(one).chain(found.map(|(_, part)| part)).collect();
                Box::new(MergedSeries { labels, parts })
            }
        });
    }
}

/// A selection that is being merged.
struct Source {
    next: Option<(Labels, Box<dyn Series>)>,
    rest: std::vec::IntoIter<Box<dyn Series>>,
}

impl Source {
    fn new(series: Vec<Box<dyn Series>>) -> Source {
        let mut source = Source {
            next: None,
            rest: series.into_iter(),
        };
        source.take();
        source
    }

    fn take(&mut self) -> Option<(Labels, Box<dyn Series>)> {
        let next = self.rest.next().map(|series| (series.labels(), series));
        std::mem::replace(&mut self.next, next)
    }
}

/// One series out of several stores.
struct MergedSeries {
    labels: Labels,
    parts: Vec<Box<dyn Series>>,
}

impl Series for MergedSeries {
    fn labels(&self) -> Labels {
        self.labels.clone()
    }

    fn columns(&self, range: TimeRange, columns: &mut Columns) -> Result<(), StorageError> {
        columns.clear();
        let mut part = Columns::default();
        for series in &self.parts {
            series.columns(range, &mut part)?;
            merge_columns(columns, &mut part);
        }
        Ok(())
    }

    fn latest(&self, range: TimeRange) -> Result<Option<Point>, StorageError> {
        let mut latest: Option<Point> = None;
        for series in &self.parts {
            if let Some(point) = series.latest(range)?
                && latest.as_ref().is_none_or(|latest| latest.at() < point.at())
            {
                latest = Some(point);
            }
        }
        Ok(latest)
    }

    /// Blocks that lie inside of the range answer from their statistics; only those at its edges, and the head, are decoded.
    fn summary(&self, range: TimeRange) -> Result<Option<Summary>, StorageError> {
        let mut known = Vec::with_capacity(self.parts.len());
        let mut columns = Columns::default();
        for part in &self.parts {
            if let Some(summary) = part.summary(range)? {
                known.push(summary);
                continue;
            }
            part.columns(range, &mut columns)?;
            if columns.is_empty() {
                continue;
            }
            let Some(summary) = Summary::of(&columns) else {
                return Ok(None);
            };
            known.push(summary);
        }
        known.sort_by_key(|summary| summary.first.at);
        let mut known = known.into_iter();
        let first = known.next();
        Ok(known.fold(first, |all, next| all.and_then(|all| all.then(next))))
    }
}

/// Moves the samples of `more` into `into`; where both have a time, `into` keeps its own. Both keep their memory.
pub fn merge_columns(into: &mut Columns, more: &mut Columns) {
    if into.is_empty() {
        std::mem::swap(into, more);
        return;
    }
    if more.is_empty() {
        return;
    }
    // Across kinds, too, a time belongs to the first: a series has a float or a histogram at one time.
    let float_times = if more.histograms.is_empty() {
        Vec::new()
    } else {
        into.times.clone()
    };
    let histogram_times = times_of(into);
    merge_floats(into, more, &histogram_times);
    merge_histograms(into, more, &float_times);
    more.clear();
}

fn times_of(columns: &Columns) -> Vec<i64> {
    columns.histograms.iter().map(|sample| sample.at.0).collect()
}

fn merge_floats(into: &mut Columns, more: &Columns, not_at: &[i64]) {
    if more.times.is_empty() {
        return;
    }
    let fresh = |at: i64| not_at.is_empty() || not_at.binary_search(&at).is_err();
    let started = !into.start_times.is_empty() || !more.start_times.is_empty();
    let start = |starts: &[i64], i: usize| starts.get(i).copied().unwrap_or(0);
    if not_at.is_empty() && into.times.last() < more.times.first() {
        if started {
            into.start_times.resize(into.times.len(), 0);
            into.start_times
                .extend((0..more.times.len()).map(|i| start(&more.start_times, i)));
        }
        into.times.extend_from_slice(&more.times);
        into.values.extend_from_slice(&more.values);
        return;
    }
    let (times, values, starts) = (
        std::mem::take(&mut into.times),
        std::mem::take(&mut into.values),
        std::mem::take(&mut into.start_times),
    );
    let (mut a, mut b) = (0, 0);
    while a < times.len() || b < more.times.len() {
        let first = a < times.len() && more.times.get(b).is_none_or(|at| times[a] <= *at);
        if first {
            b += usize::from(more.times.get(b) == Some(&times[a]));
            into.times.push(times[a]);
            into.values.push(values[a]);
            into.start_times.extend(started.then(|| start(&starts, a)));
            a += 1;
        } else {
            if fresh(more.times[b]) {
                into.times.push(more.times[b]);
                into.values.push(more.values[b]);
                into.start_times.extend(started.then(|| start(&more.start_times, b)));
            }
            b += 1;
        }
    }
}

fn merge_histograms(into: &mut Columns, more: &Columns, not_at: &[i64]) {
    if more.histograms.is_empty() {
        return;
    }
    let started = !into.histogram_start_times.is_empty() || !more.histogram_start_times.is_empty();
    let start = |starts: &[i64], i: usize| starts.get(i).copied().unwrap_or(0);
    let (histograms, starts) = (
        std::mem::take(&mut into.histograms),
        std::mem::take(&mut into.histogram_start_times),
    );
    let (mut a, mut b) = (0, 0);
    while a < histograms.len() || b < more.histograms.len() {
        let other = more.histograms.get(b).map(|sample| sample.at);
        if let Some(mine) = histograms
            .get(a)
            .filter(|mine| other.is_none_or(|other| mine.at <= other))
        {
            b += usize::from(other == Some(mine.at));
            into.histograms.push(mine.clone());
            into.histogram_start_times.extend(started.then(|| start(&starts, a)));
            a += 1;
        } else {
            if not_at.binary_search(&more.histograms[b].at.0).is_err() {
                into.histograms.push(more.histograms[b].clone());
                into.histogram_start_times
                    .extend(started.then(|| start(&more.histogram_start_times, b)));
            }
            b += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FloatHistogram, HistogramSample, Millis};
    use crate::storage::{LiteralStore, Querier, Select};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// At each time a value and whether it is a histogram's count.
    type Part = BTreeMap<i64, (i32, bool)>;

    fn columns(part: &Part, started: bool) -> Columns {
        let mut columns = Columns::default();
        for (at, (value, is_histogram)) in part {
            if *is_histogram {
                let count = f64::from(*value);
                let histogram = Arc::new(FloatHistogram {
                    count,
                    ..FloatHistogram::default()
                });
                columns.histograms.push(HistogramSample {
                    at: Millis(*at),
                    histogram,
                });
                columns.histogram_start_times.extend(started.then_some(*at - 1));
            } else {
                columns.times.push(*at);
                columns.values.push(f64::from(*value));
                columns.start_times.extend(started.then_some(*at - 1));
            }
        }
        columns
    }

    proptest! {
        #[test]
        fn parts_merge_as_maps_do_and_the_first_counts(
            parts in proptest::collection::vec(proptest::collection::btree_map(0i64..40, (0i32..9, any::<bool>()), 0..20), 0..4),
        ) {
            let (mut merged, mut model) = (Columns::default(), Part::new());
            for part in &parts {
                merge_columns(&mut merged, &mut columns(part, false));
                part.iter().for_each(|(at, value)| {
                    model.entry(*at).or_insert(*value);
                });
            }
            prop_assert_eq!(merged, columns(&model, false));
        }
    }

    #[test]
    fn start_times_stay_with_their_samples() {
        let mut merged = columns(&Part::from([(1, (1, false)), (5, (1, true))]), false);
        let more = Part::from([(2, (2, false)), (4, (1, true)), (5, (9, false)), (6, (3, false))]);
        merge_columns(&mut merged, &mut columns(&more, true));
        assert_eq!((merged.times, merged.start_times), (vec![1, 2, 6], vec![0, 1, 5]));
        assert_eq!(merged.histogram_start_times, [3, 0]);
    }

    #[test]
    fn equal_labels_become_one_series() {
        let [old, new] = [LiteralStore::new(), LiteralStore::new()];
        let labels = |name: &str| Labels::from_pairs([("__name__", name)]);
        old.put(&labels("a"), Millis(1), 1.0);
        old.put(&labels("b"), Millis(1), 1.0);
        new.put(&labels("b"), Millis(1), 9.0);
        new.put(&labels("b"), Millis(2), 2.0);
        new.put(&labels("c"), Millis(2), 3.0);
        let select = Select {
            matchers: Vec::new(),
            range: TimeRange::ALL,
            hints: crate::storage::Hints::default(),
        };
        let found = merge_series([&old, &new].map(|store| store.select(&select).unwrap().series).into());
        let mut columns = Columns::default();
        let mut all = Vec::new();
        for series in &found {
            series.columns(TimeRange::ALL, &mut columns).unwrap();
            assert_eq!(series.latest(TimeRange::ALL).unwrap(), columns.latest());
            all.push((series.labels().to_string(), columns.values.clone()));
        }
        let expected = [("a", vec![1.0]), ("b", vec![1.0, 2.0]), ("c", vec![3.0])];
        assert_eq!(all, expected.map(|(name, values)| (name.to_owned(), values)));
    }
}
