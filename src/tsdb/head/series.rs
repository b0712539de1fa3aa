//! One series of the head: its newest samples, packed; and the one decision about each sample that arrives.
//!
//! A sample newer than all others goes into the open chunk; the same sample again is a duplicate; another value at a known
//! time is a conflict; an older one is kept beside the chunks while it is no further behind than the out-of-order window.
//! The decision depends on the series alone and on the log's order, so replay decides as the live head did.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::model::{HistogramSample, Interval, Labels, Millis, Sample, TimeRange};
use crate::storage::{Columns, Point, StorageError};
use crate::tsdb::chunk::{OpenChunk, SealedChunk, TimesPool};
use crate::tsdb::record::{Newest, SeriesRef};

/// Blocks begin and end at multiples of this; no chunk of the head crosses one.
pub(crate) const BLOCK_MILLIS: i64 = 2 * 3_600_000;
/// The chunks of a series end at multiples of this, moved by the series' phase.
const WINDOW_MILLIS: i64 = 30 * 60_000;

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the head now.
    Stored,
    /// It is in the head now, older than others.
    StoredLate,
    /// It was there before.
    Duplicate,
    /// Another value stands at its time.
    Conflict,
    /// It is this far behind the newest.
    TooOld(Interval),
}

/// What applying a sample needs to know besides the series.
pub(crate) struct Rules<'a> {
    /// How far behind the newest sample of its series a sample may be.
    pub(crate) window: Interval,
    /// Samples of these times stand in blocks already: replay remembers them and stores nothing.
    pub(crate) stored: &'a [TimeRange],
}

impl Rules<'_> {
    fn is_stored(&self, at: i64) -> bool {
        self.stored.iter().any(|range| range.contains(Millis(at)))
    }
}

/// A series.
pub(crate) struct Series {
    pub(crate) id: SeriesRef,
    pub(crate) labels: Labels,
    /// Where in a window its chunks end: equal for all series of a source, so that they share columns of times.
    phase: u32,
    /// Whether somebody wants to know when it moves.
    pub(crate) watched: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    newest: Option<Newest>,
    open: Option<OpenChunk>,
    sealed: Vec<SealedChunk>,
    /// What most series do not have.
    extra: Option<Box<Extra>>,
}

#[derive(Default)]
struct Extra {
    /// Samples that came out of order, sorted by time.
    late: Vec<Late>,
    /// From which sample on the counter began when: one entry for each change, in order of arrival.
    starts: Vec<(i64, i64)>,
    /// Sorted by time.
    histograms: Vec<Histogram>,
}

#[derive(Clone, Copy)]
struct Late {
    at: i64,
    value: f64,
    start: i64,
    /// Whether a block that is being written has it.
    cut: bool,
}

#[derive(Clone)]
struct Histogram {
    sample: HistogramSample,
    start: i64,
    cut: bool,
}

impl Series {
    pub(crate) fn new(id: SeriesRef, labels: Labels, newest: Option<Newest>) -> Series {
        let source = [labels.value("job"), "\0", labels.value("instance")].concat();
        let phase = xxhash_rust::xxh3::xxh3_64(source.as_bytes()) % WINDOW_MILLIS as u64;
        let state = State {
            newest,
            ..State::default()
        };
        Series {
            id,
            labels,
            phase: phase as u32,
            watched: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Where the window of a chunk that begins at `at` ends.
    fn window_end(&self, at: i64) -> i64 {
        let phase = i64::from(self.phase);
        let next = |at: i64, length: i64| at.saturating_sub(at.rem_euclid(length)).saturating_add(length);
        let window = next(at.saturating_sub(phase), WINDOW_MILLIS).saturating_add(phase);
        window.min(next(at, BLOCK_MILLIS))
    }

    /// Takes a float, or says why not.
    pub(crate) fn append(&self, sample: Sample, start: i64, rules: &Rules<'_>, pool: &TimesPool) -> Outcome {
        let mut state = self.state.lock();
        let at = sample.at.0;
        let this = Newest {
            at,
            bits: sample.value.to_bits(),
            histogram: false,
        };
        match state.place(this, rules) {
            Place::Refused(outcome) => outcome,
            Place::Newest => {
                let last = state.newest.replace(this).map_or(at, |newest| newest.at);
                if rules.is_stored(at) {
                    state.seal(pool); // A chunk's fence counts on having seen every newest sample.
                    return Outcome::Stored;
                }
                state.append(self, last, sample, pool);
                state.begin(at, start);
                Outcome::Stored
            }
            Place::Late => {
                if rules.is_stored(at) {
                    return Outcome::StoredLate;
                }
                if let Some(stored) = state.find_float(at) {
                    return same(stored == this.bits);
                }
                if state.find_histogram(at).is_some() {
                    return Outcome::Conflict;
                }
                let late = &mut state.extra.get_or_insert_default().late;
                let place = late.partition_point(|other| other.at < at);
                late.insert(
                    place,
                    Late {
                        at,
                        value: sample.value,
                        start,
                        cut: false,
                    },
                );
                Outcome::StoredLate
            }
        }
    }

    /// Takes a histogram, or says why not.
    pub(crate) fn append_histogram(&self, sample: &HistogramSample, start: i64, rules: &Rules<'_>) -> Outcome {
        let mut state = self.state.lock();
        let at = sample.at.0;
        let this = Newest {
            at,
            bits: sample.histogram.sum.to_bits(),
            histogram: true,
        };
        let outcome = match state.place(this, rules) {
            Place::Refused(Outcome::Duplicate) => match state.find_histogram(at) {
                // Equal sums do not make equal histograms; when a block has it, the sum must do.
                Some(stored) => return same(stored.sample.histogram == sample.histogram),
                None => return Outcome::Duplicate,
            },
            Place::Refused(outcome) => return outcome,
            Place::Newest => {
                state.newest = Some(this);
                Outcome::Stored
            }
            Place::Late => Outcome::StoredLate,
        };
        if rules.is_stored(at) {
            return outcome;
        }
        if outcome == Outcome::StoredLate {
            if let Some(stored) = state.find_histogram(at) {
                return same(stored.sample.histogram == sample.histogram);
            }
            if state.find_float(at).is_some() {
                return Outcome::Conflict;
            }
        }
        let histograms = &mut state.extra.get_or_insert_default().histograms;
        let place = histograms.partition_point(|other| other.sample.at.0 < at);
        histograms.insert(
            place,
            Histogram {
                sample: sample.clone(),
                start,
                cut: false,
            },
        );
        outcome
    }

    /// The newest sample, wherever it is stored.
    pub(crate) fn newest(&self) -> Option<Newest> {
        self.state.lock().newest
    }

    /// The times of the oldest and the newest sample that the head holds.
    pub(crate) fn bounds(&self) -> Option<TimeRange> {
        let state = self.state.lock();
        let min = state.oldest()?;
        let newest = state.newest.map_or(min, |newest| newest.at.max(min));
        Some(TimeRange {
            min: Millis(min),
            max: Millis(newest),
        })
    }

    /// How many chunks there are.
    pub(crate) fn chunks(&self) -> usize {
        let state = self.state.lock();
        state.sealed.len() + usize::from(state.open.is_some())
    }

    /// Appends the samples within `range` to `columns`, in order.
    pub(crate) fn columns(&self, range: TimeRange, columns: &mut Columns) -> Result<(), StorageError> {
        let state = self.state.lock();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in state
            .sealed
            .iter()
            .filter(|chunk| chunk.last >= range.min.0 && chunk.first <= range.max.0)
        {
            chunk.decode(&mut times, &mut values)?;
        }
        // The open chunk is decoded without the lock: writers need not wait for readers.
        let open = state
            .open
            .as_ref()
            .filter(|open| open.first() <= range.max.0)
            .map(OpenChunk::snapshot);
        let extra = state.extra.as_ref().map(|extra| extra.part(range));
        drop(state);
        if let Some(open) = open {
            open.decode(&mut times, &mut values);
        }
        let from = times.partition_point(|at| *at < range.min.0);
        let to = times.partition_point(|at| *at <= range.max.0);
        if let Some(extra) = extra {
            extra.merge(&times[from..to], &values[from..to], columns);
        } else if columns.times.is_empty() && from == 0 && to == times.len() {
            (columns.times, columns.values) = (times, values);
        } else {
            columns.times.extend_from_slice(&times[from..to]);
            columns.values.extend_from_slice(&values[from..to]);
        }
        Ok(())
    }

    /// Returns the newest sample when it lies within `range`, without decoding; `None` when that needs a closer look.
    pub(crate) fn latest(&self, range: TimeRange) -> Option<Point> {
        let state = self.state.lock();
        let newest = state.newest.filter(|newest| range.contains(Millis(newest.at)))?;
        if newest.histogram {
            let stored = state.find_histogram(newest.at)?;
            return Some(Point::Histogram(stored.sample.clone()));
        }
        let value = f64::from_bits(newest.bits);
        // Otherwise a block has it, or it was deleted.
        let held = state.open.is_some() || state.sealed.last().is_some_and(|chunk| chunk.last == newest.at);
        held.then_some(())?;
        Some(Point::Float(Sample {
            at: Millis(newest.at),
            value,
        }))
    }

    /// Returns all samples before `below`, a multiple of [`BLOCK_MILLIS`], for a block; and how many chunks hold them, for
    /// [`Series::forget`].
    pub(crate) fn cut(&self, below: i64, pool: &TimesPool) -> Result<(Columns, usize), StorageError> {
        let chunks = {
            let mut state = self.state.lock();
            if state.open.as_ref().is_some_and(|open| open.first() < below) {
                state.seal(pool); // It ends at the block's edge at the latest.
            }
            if let Some(extra) = &mut state.extra {
                let late = extra.late.iter_mut().filter(|late| late.at < below);
                late.for_each(|late| late.cut = true);
                let histograms = extra.histograms.iter_mut().filter(|stored| stored.sample.at.0 < below);
                histograms.for_each(|stored| stored.cut = true);
            }
            state.sealed.iter().take_while(|chunk| chunk.last < below).count()
        };
        let (mut columns, range) = (
            Columns::default(),
            TimeRange {
                min: Millis::MIN,
                max: Millis(below - 1),
            },
        );
        self.columns(range, &mut columns)?;
        Ok((columns, chunks))
    }

    /// Forgets the samples before `below` that [`Series::cut`] returned. Returns whether nothing is left in the head.
    pub(crate) fn forget(&self, below: i64, chunks: usize) -> bool {
        let mut state = self.state.lock();
        state.sealed.drain(..chunks);
        state.sealed.shrink_to_fit();
        if let Some(extra) = &mut state.extra {
            extra.late.retain(|late| !late.cut);
            extra.histograms.retain(|stored| !stored.cut);
            let kept = extra
                .starts
                .partition_point(|(from, _)| *from < below)
                .saturating_sub(1);
            extra.starts.drain(..kept);
            if extra.late.is_empty() && extra.histograms.is_empty() && extra.starts.is_empty() {
                state.extra = None;
            }
        }
        state.oldest().is_none()
    }

    /// Forgets the samples within `range`; returns between which times there were any. What was newest stays known: the
    /// same sample sent again counts as a duplicate.
    ///
    /// # Errors
    /// [`StorageError`] when a chunk cannot be read; nothing is then forgotten.
    pub(crate) fn delete(&self, range: TimeRange, pool: &TimesPool) -> Result<Option<TimeRange>, StorageError> {
        let mut state = self.state.lock();
        if state.open.as_ref().is_some_and(|open| open.first() <= range.max.0) {
            state.seal(pool);
        }
        let mut gone: Option<TimeRange> = None;
        let mut forget = |at: i64| {
            let at = Millis(at);
            gone = Some(gone.map_or(TimeRange { min: at, max: at }, |gone| TimeRange {
                min: gone.min.min(at),
                max: gone.max.max(at),
            }));
        };
        let touched = |chunk: &SealedChunk| chunk.last >= range.min.0 && chunk.first <= range.max.0;
        let mut kept = Vec::new();
        for chunk in state.sealed.iter().filter(|chunk| touched(chunk)) {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            chunk.decode(&mut times, &mut values)?;
            let (from, to) = (
                times.partition_point(|at| *at < range.min.0),
                times.partition_point(|at| *at <= range.max.0),
            );
            times.drain(from..to).for_each(&mut forget);
            values.drain(from..to);
            kept.push((!times.is_empty()).then(|| SealedChunk::new(&times, &values, pool)));
        }
        let mut kept = kept.into_iter();
        let chunks = std::mem::take(&mut state.sealed).into_iter();
        let chunks = chunks.filter_map(|chunk| if touched(&chunk) { kept.next()? } else { Some(chunk) });
        state.sealed = chunks.collect();
        if let Some(extra) = &mut state.extra {
            let late = extra.late.extract_if(.., |late| range.contains(Millis(late.at)));
            late.for_each(|late| forget(late.at));
            let histograms = extra
                .histograms
                .extract_if(.., |stored| range.contains(stored.sample.at));
            histograms.for_each(|stored| forget(stored.sample.at.0));
        }
        Ok(gone)
    }

    /// Whether the head holds no sample of the series.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().oldest().is_none()
    }
}

fn same(same: bool) -> Outcome {
    if same { Outcome::Duplicate } else { Outcome::Conflict }
}

enum Place {
    Newest,
    Late,
    Refused(Outcome),
}

impl State {
    fn place(&self, this: Newest, rules: &Rules<'_>) -> Place {
        let Some(newest) = self.newest else {
            return Place::Newest;
        };
        if this.at > newest.at {
            return Place::Newest;
        }
        if this.at == newest.at {
            return Place::Refused(same(this == newest));
        }
        let behind = Interval(newest.at.saturating_sub(this.at));
        if behind > rules.window {
            return Place::Refused(Outcome::TooOld(behind));
        }
        Place::Late
    }

    fn append(&mut self, series: &Series, last: i64, sample: Sample, pool: &TimesPool) {
        let at = sample.at.0;
        let fits = self
            .open
            .as_mut()
            .is_some_and(|open| open.append(last, at, sample.value));
        if !fits {
            self.seal(pool);
            self.open = Some(OpenChunk::new(at, sample.value, series.window_end(at)));
        }
    }

    fn seal(&mut self, pool: &TimesPool) {
        let Some(open) = self.open.take() else { return };
        let count = open.count() as usize;
        let (mut times, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
        open.snapshot().decode(&mut times, &mut values);
        if self.sealed.len() == self.sealed.capacity() {
            self.sealed.reserve_exact(2);
        }
        self.sealed.push(SealedChunk::new(&times, &values, pool));
    }

    /// Remembers that the counter, as of the sample at `at`, began at `start`.
    fn begin(&mut self, at: i64, start: i64) {
        let known = self
            .extra
            .as_ref()
            .and_then(|extra| extra.starts.last())
            .map_or(0, |(_, start)| *start);
        if start != known {
            self.extra.get_or_insert_default().starts.push((at, start));
        }
    }

    fn oldest(&self) -> Option<i64> {
        let chunk = self.sealed.first().map(|chunk| chunk.first);
        let chunk = chunk.or(self.open.as_ref().map(OpenChunk::first));
        let extra = self.extra.as_ref();
        let late = extra.and_then(|extra| extra.late.first()).map(|late| late.at);
        let histogram = extra
            .and_then(|extra| extra.histograms.first())
            .map(|stored| stored.sample.at.0);
        [chunk, late, histogram].into_iter().flatten().min()
    }

    /// Returns the bits of the float stored at `at`.
    fn find_float(&self, at: i64) -> Option<u64> {
        if let Some(extra) = &self.extra
            && let Ok(found) = extra.late.binary_search_by_key(&at, |late| late.at)
        {
            return Some(extra.late[found].value.to_bits());
        }
        let (mut times, mut values) = (Vec::new(), Vec::new());
        if let Some(open) = self.open.as_ref().filter(|open| open.first() <= at) {
            open.snapshot().decode(&mut times, &mut values);
        } else {
            let chunk = self
                .sealed
                .iter()
                .rev()
                .find(|chunk| chunk.first <= at && at <= chunk.last)?;
            chunk.decode(&mut times, &mut values).ok()?;
        }
        let found = times.binary_search(&at).ok()?;
        Some(values[found].to_bits())
    }

    fn find_histogram(&self, at: i64) -> Option<&Histogram> {
        let histograms = &self.extra.as_ref()?.histograms;
        let found = histograms.binary_search_by_key(&at, |stored| stored.sample.at.0).ok()?;
        Some(&histograms[found])
    }
}

impl Extra {
    /// Copies what a reader of `range` needs.
    fn part(&self, range: TimeRange) -> Extra {
        let inside = |at: i64| range.contains(Millis(at));
        Extra {
            late: self.late.iter().filter(|late| inside(late.at)).copied().collect(),
            starts: self.starts.clone(),
            histograms: self
                .histograms
                .iter()
                .filter(|stored| inside(stored.sample.at.0))
                .cloned()
                .collect(),
        }
    }

    /// Appends the samples in order with the late ones between them, their start times and the histograms.
    fn merge(&self, times: &[i64], values: &[f64], columns: &mut Columns) {
        let started = !self.starts.is_empty() || self.late.iter().any(|late| late.start != 0);
        let mut late = self.late.iter().peekable();
        let mut push = |at: i64, value: f64, start: i64| {
            columns.times.push(at);
            columns.values.push(value);
            if started {
                columns.start_times.push(start);
            }
        };
        for (at, value) in times.iter().zip(values) {
            while let Some(older) = late.next_if(|late| late.at < *at) {
                push(older.at, older.value, older.start);
            }
            push(*at, *value, self.start_of(*at));
        }
        for rest in late {
            push(rest.at, rest.value, rest.start);
        }
        let histograms_started = self.histograms.iter().any(|stored| stored.start != 0);
        for stored in &self.histograms {
            columns.histograms.push(stored.sample.clone());
            if histograms_started {
                columns.histogram_start_times.push(stored.start);
            }
        }
    }

    fn start_of(&self, at: i64) -> i64 {
        let after = self.starts.partition_point(|(from, _)| *from <= at);
        after.checked_sub(1).map_or(0, |found| self.starts[found].1)
    }
}

/// Whether a series is watched; a plain load, asked for each sample.
pub(crate) fn is_watched(series: &Series) -> bool {
    series.watched.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const RULES: Rules<'_> = Rules {
        window: Interval(1000),
        stored: &[],
    };

    fn series() -> Series {
        Series::new(0, Labels::from_pairs([("__name__", "a")]), None)
    }

    fn append(series: &Series, at: i64, value: f64) -> Outcome {
        series.append(Sample { at: Millis(at), value }, 0, &RULES, &TimesPool::default())
    }

    fn read(series: &Series, min: i64, max: i64) -> Vec<(i64, f64)> {
        let mut columns = Columns::default();
        series
            .columns(
                TimeRange {
                    min: Millis(min),
                    max: Millis(max),
                },
                &mut columns,
            )
            .unwrap();
        columns.times.into_iter().zip(columns.values).collect()
    }

    #[test]
    fn the_newest_sample_decides_what_is_late_known_or_too_old() {
        let series = series();
        for (at, value, outcome) in [
            (5000, 1.0, Outcome::Stored),
            (5000, 1.0, Outcome::Duplicate),
            (5000, 2.0, Outcome::Conflict),
            (4000, 3.0, Outcome::StoredLate),
            (4000, 3.0, Outcome::Duplicate),
            (4000, 4.0, Outcome::Conflict),
            (3999, 3.0, Outcome::TooOld(Interval(1001))),
            (6000, 5.0, Outcome::Stored),
            (5000, 1.0, Outcome::Duplicate),
            (4000, 3.0, Outcome::TooOld(Interval(2000))),
        ] {
            assert_eq!(append(&series, at, value), outcome, "{value} at {at}");
        }
        assert_eq!(read(&series, 0, 9000), [(4000, 3.0), (5000, 1.0), (6000, 5.0)]);
        assert_eq!(read(&series, 4001, 5000), [(5000, 1.0)]);
    }

    #[test]
    fn start_times_and_histograms_come_back_with_their_samples() {
        let series = series();
        let pool = TimesPool::default();
        for (at, start) in [(10, 0), (20, 15), (30, 15), (40, 35)] {
            series.append(
                Sample {
                    at: Millis(at),
                    value: 1.0,
                },
                start,
                &RULES,
                &pool,
            );
        }
        let histogram = HistogramSample {
            at: Millis(50),
            histogram: std::sync::Arc::default(),
        };
        assert_eq!(series.append_histogram(&histogram, 45, &RULES), Outcome::Stored);
        assert_eq!(series.append_histogram(&histogram, 45, &RULES), Outcome::Duplicate);
        assert_eq!(append(&series, 50, 1.0), Outcome::Conflict);
        let mut columns = Columns::default();
        series.columns(TimeRange::ALL, &mut columns).unwrap();
        assert_eq!(columns.start_times, [0, 15, 15, 35]);
        assert_eq!((columns.histograms.len(), columns.histogram_start_times), (1, vec![45]));
        assert!(matches!(series.latest(TimeRange::ALL), Some(Point::Histogram(_))));
    }

    #[test]
    fn a_cut_takes_whole_chunks_and_leaves_what_came_meanwhile() {
        let series = series();
        let pool = TimesPool::default();
        let rules = Rules {
            window: Interval(BLOCK_MILLIS),
            stored: &[],
        };
        let add = |at: i64| {
            series.append(
                Sample {
                    at: Millis(at),
                    value: at as f64,
                },
                0,
                &rules,
                &pool,
            )
        };
        (0..300).for_each(|i| assert_eq!(add(i * 60_000), Outcome::Stored));
        let (columns, chunks) = series.cut(BLOCK_MILLIS, &pool).unwrap();
        assert_eq!(columns.times, (0..120).map(|i| i * 60_000).collect::<Vec<_>>());
        let late = 299 * 60_000 - BLOCK_MILLIS + 1;
        assert_eq!(add(late), Outcome::StoredLate);
        assert!(!series.forget(BLOCK_MILLIS, chunks));
        let mut kept: Vec<i64> = (120..300).map(|i| i * 60_000).chain([late]).collect();
        kept.sort_unstable();
        assert_eq!(
            read(&series, 0, i64::MAX).into_iter().map(|s| s.0).collect::<Vec<_>>(),
            kept
        );
        let (_, chunks) = series.cut(BLOCK_MILLIS * 100, &pool).unwrap();
        assert!(series.forget(BLOCK_MILLIS * 100, chunks) && series.is_empty());
    }

    proptest! {
        #[test]
        fn a_series_behaves_as_a_sorted_map_with_a_window(
            samples in proptest::collection::vec((0..6000i64, 0..3u8), 1..300),
        ) {
            let series = series();
            let mut model: BTreeMap<i64, f64> = BTreeMap::new();
            for (at, value) in samples {
                let value = f64::from(value);
                let newest = model.keys().next_back().copied();
                let expected = match (model.get(&at), newest) {
                    (_, Some(newest)) if newest - at > 1000 => Outcome::TooOld(Interval(newest - at)),
                    (Some(stored), _) => same(*stored == value),
                    (None, Some(newest)) if at < newest => Outcome::StoredLate,
                    _ => Outcome::Stored,
                };
                prop_assert_eq!(append(&series, at, value), expected);
                if matches!(expected, Outcome::Stored | Outcome::StoredLate) {
                    model.insert(at, value);
                }
            }
            let all: Vec<(i64, f64)> = model.into_iter().collect();
            prop_assert_eq!(read(&series, 0, i64::MAX), all);
        }
    }
}
