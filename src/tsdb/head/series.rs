//! One series of the head: its newest samples, packed; and the one decision about each sample that arrives.
//!
//! A sample newer than all others goes into the open chunk; the same sample again is a duplicate; another value at a known
//! time is a conflict; an older one is kept beside the chunks while it is no further behind than the out-of-order window.
//! The decision depends on the series alone and on the log's order, so replay decides as the live head did.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use super::extra::{Extra, Histogram, Late};
use super::symbols::LabelRefs;
use crate::model::{HistogramSample, Interval, Labels, Millis, Sample, TimeRange};
use crate::storage::{Columns, Point, StorageError};
use crate::tsdb::chunk::{Chain, ChunkStore, OpenChunk};
use crate::tsdb::record::{Newest, SeriesRef};
use crate::tsdb::snapshot::SavedSeries;

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

/// What a cut took of a series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// How many sealed chunks.
    chunks: u32,
    /// No sealed chunk that stays begins before this.
    oldest: i64,
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
    /// Its labels, as the table's symbols spell them.
    pub(super) labels: LabelRefs,
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
    sealed: Chain,
    /// What most series do not have.
    extra: Option<Box<Extra>>,
}

impl Series {
    /// `refs` spell `labels`.
    pub(super) fn new(id: SeriesRef, labels: &Labels, refs: LabelRefs, newest: Option<Newest>) -> Series {
        let source = [labels.value("job"), "\0", labels.value("instance")].concat();
        let phase = xxhash_rust::xxh3::xxh3_64(source.as_bytes()) % WINDOW_MILLIS as u64;
        let state = State {
            newest,
            ..State::default()
        };
        Series {
            id,
            labels: refs,
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
    pub(crate) fn append(&self, sample: Sample, start: i64, rules: &Rules<'_>, chunks: &ChunkStore) -> Outcome {
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
                    state.seal(chunks); // A chunk's fence counts on having seen every newest sample.
                    return Outcome::Stored;
                }
                state.append(self, last, sample, chunks);
                state.begin(at, start);
                Outcome::Stored
            }
            Place::Late => {
                if rules.is_stored(at) {
                    return Outcome::StoredLate;
                }
                if let Some(stored) = state.find_float(at, chunks) {
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
    pub(crate) fn append_histogram(
        &self,
        sample: &HistogramSample,
        start: i64,
        rules: &Rules<'_>,
        chunks: &ChunkStore,
    ) -> Outcome {
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
            if state.find_float(at, chunks).is_some() {
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

    /// Whether `range` overlaps the time that the head's samples span.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        {
            let state = self.state.lock();
            let newest_inside = state.newest.is_some_and(|newest| range.contains(Millis(newest.at)));
            if newest_inside && state.open.is_some() {
                return true; // Mostly so, and then nothing else of the series needs to be fetched from memory.
            }
        }
        self.bounds().is_some_and(|bounds| bounds.overlaps(&range))
    }

    /// How many chunks there are.
    pub(crate) fn chunks(&self) -> usize {
        let state = self.state.lock();
        state.sealed.count as usize + usize::from(state.open.is_some())
    }

    /// Appends the samples within `range` to `columns`, in order.
    pub(crate) fn columns(
        &self,
        range: TimeRange,
        columns: &mut Columns,
        chunks: &ChunkStore,
    ) -> Result<(), StorageError> {
        // Only the state is copied under the lock: writers need not wait for readers.
        let state = self.state.lock();
        let sealed = state.sealed;
        let open = state
            .open
            .as_ref()
            .filter(|open| open.first() <= range.max.0)
            .map(OpenChunk::snapshot);
        let extra = state.extra.as_ref().map(|extra| extra.part(range));
        drop(state);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        chunks.read(sealed, (range.min.0, range.max.0), &mut times, &mut values)?;
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
        let held = state.open.is_some() || (state.sealed.count > 0 && state.sealed.last == newest.at);
        held.then_some(())?;
        Some(Point::Float(Sample {
            at: Millis(newest.at),
            value,
        }))
    }

    /// Looks for the newest float within `range` without decoding.
    pub(crate) fn glance(&self, range: TimeRange) -> Glance {
        let state = self.state.lock();
        let Some(newest) = state.newest.filter(|newest| newest.at >= range.min.0) else {
            return Glance::Outside;
        };
        if newest.at <= range.max.0 && !newest.histogram && state.open.is_some() {
            return Glance::Float(f64::from_bits(newest.bits));
        }
        Glance::Unclear
    }

    /// Returns all samples before `below`, a multiple of [`BLOCK_MILLIS`], for a block; and what [`Series::forget`] must
    /// know about them.
    pub(crate) fn cut(&self, below: i64, chunks: &ChunkStore) -> Result<(Columns, Cut), StorageError> {
        let (sealed, open) = {
            let mut state = self.state.lock();
            if state.open.as_ref().is_some_and(|open| open.first() < below) {
                state.seal(chunks); // It ends at the block's edge at the latest.
            }
            if let Some(extra) = &mut state.extra {
                let late = extra.late.iter_mut().filter(|late| late.at < below);
                late.for_each(|late| late.cut = true);
                let histograms = extra.histograms.iter_mut().filter(|stored| stored.sample.at.0 < below);
                histograms.for_each(|stored| stored.cut = true);
            }
            (state.sealed, state.open.as_ref().map(OpenChunk::first))
        };
        let (count, kept) = chunks.split(sealed, below)?;
        let mut columns = Columns::default();
        let range = TimeRange {
            min: Millis::MIN,
            max: Millis(below - 1),
        };
        self.columns(range, &mut columns, chunks)?;
        let cut = Cut {
            chunks: count,
            oldest: kept.or(open).unwrap_or(below),
        };
        Ok((columns, cut))
    }

    /// Forgets the samples before `below` that [`Series::cut`] returned. Returns whether nothing is left in the head.
    pub(crate) fn forget(&self, below: i64, cut: Cut) -> bool {
        let mut state = self.state.lock();
        state.sealed.count = state.sealed.count.saturating_sub(cut.chunks);
        state.sealed.oldest = state.sealed.oldest.max(cut.oldest);
        if state.sealed.count == 0 {
            state.sealed = Chain::default();
        }
        if let Some(extra) = &mut state.extra {
            extra.forget(below);
            if extra.is_empty() {
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
    pub(crate) fn delete(&self, range: TimeRange, chunks: &ChunkStore) -> Result<Option<TimeRange>, StorageError> {
        let mut state = self.state.lock();
        if state.open.as_ref().is_some_and(|open| open.first() <= range.max.0) {
            state.seal(chunks);
        }
        let mut gone: Option<TimeRange> = None;
        let mut forget = |at: i64| {
            let at = Millis(at);
            gone = Some(gone.map_or(TimeRange { min: at, max: at }, |gone| TimeRange {
                min: gone.min.min(at),
                max: gone.max.max(at),
            }));
        };
        let ends = |at: i64| self.window_end(at);
        state.sealed = chunks.delete(state.sealed, (range.min.0, range.max.0), &ends, &mut forget)?;
        if let Some(extra) = &mut state.extra {
            extra.delete(range, &mut forget);
        }
        Ok(gone)
    }

    /// Seals the open chunk and returns all that the head knows about the series.
    pub(super) fn save(&self, labels: Labels, chunks: &ChunkStore) -> SavedSeries {
        let mut state = self.state.lock();
        state.seal(chunks);
        let mut saved = SavedSeries {
            labels,
            newest: state.newest,
            sealed: state.sealed,
            late: Vec::new(),
            starts: Vec::new(),
            histograms: Vec::new(),
        };
        if let Some(extra) = &state.extra {
            extra.save(&mut saved);
        }
        saved
    }

    /// Takes what [`Series::save`] returned in an earlier process. The series is new.
    pub(super) fn restore(&self, saved: SavedSeries) {
        let mut state = self.state.lock();
        state.newest = saved.newest;
        state.sealed = saved.sealed;
        let extra = Extra::restore(saved);
        state.extra = (!extra.is_empty()).then(|| Box::new(extra));
    }

    /// Whether the head holds no sample of the series.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().oldest().is_none()
    }
}

fn same(same: bool) -> Outcome {
    if same { Outcome::Duplicate } else { Outcome::Conflict }
}

/// What [`Series::glance`] sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Glance {
    /// The series has nothing that new.
    Outside,
    Float(f64),
    /// Only a closer look tells.
    Unclear,
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

    fn append(&mut self, series: &Series, last: i64, sample: Sample, chunks: &ChunkStore) {
        let at = sample.at.0;
        let fits = self
            .open
            .as_mut()
            .is_some_and(|open| open.append(last, at, sample.value));
        if !fits {
            self.seal(chunks);
            self.open = Some(OpenChunk::new(at, sample.value, series.window_end(at)));
        }
    }

    fn seal(&mut self, chunks: &ChunkStore) {
        let Some(open) = self.open.take() else { return };
        let count = open.count() as usize;
        let (mut times, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
        open.snapshot().decode(&mut times, &mut values);
        self.sealed = chunks.push(self.sealed, &times, &values);
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
        let chunk = (self.sealed.count > 0).then_some(self.sealed.oldest);
        let chunk = chunk.or(self.open.as_ref().map(OpenChunk::first));
        let extra = self.extra.as_ref();
        let late = extra.and_then(|extra| extra.late.first()).map(|late| late.at);
        let histogram = extra
            .and_then(|extra| extra.histograms.first())
            .map(|stored| stored.sample.at.0);
        [chunk, late, histogram].into_iter().flatten().min()
    }

    /// Returns the bits of the float stored at `at`. A chunk that cannot be read is taken for one without it: the sample is
    /// then kept as a late one, and readers hear of the chunk.
    fn find_float(&self, at: i64, chunks: &ChunkStore) -> Option<u64> {
        if let Some(extra) = &self.extra
            && let Ok(found) = extra.late.binary_search_by_key(&at, |late| late.at)
        {
            return Some(extra.late[found].value.to_bits());
        }
        let (mut times, mut values) = (Vec::new(), Vec::new());
        if let Some(open) = self.open.as_ref().filter(|open| open.first() <= at) {
            open.snapshot().decode(&mut times, &mut values);
        } else {
            chunks.read(self.sealed, (at, at), &mut times, &mut values).ok()?;
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

/// Whether a series is watched; a plain load, asked for each sample.
pub(crate) fn is_watched(series: &Series) -> bool {
    series.watched.load(Relaxed)
}
