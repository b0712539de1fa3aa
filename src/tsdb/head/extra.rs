//! What most series do not have: samples out of order, start times, histograms.

use crate::model::{HistogramSample, Millis, TimeRange};
use crate::storage::Columns;
use crate::tsdb::record::HistogramRecord;
use crate::tsdb::snapshot::SavedSeries;

#[derive(Default)]
pub(super) struct Extra {
    /// Samples that came out of order, sorted by time.
    pub(super) late: Vec<Late>,
    /// From which sample on the counter began when: one entry for each change, in order of arrival.
    pub(super) starts: Vec<(i64, i64)>,
    /// Sorted by time.
    pub(super) histograms: Vec<Histogram>,
}

#[derive(Clone, Copy)]
pub(super) struct Late {
    pub(super) at: i64,
    pub(super) value: f64,
    pub(super) start: i64,
    /// Whether a block that is being written has it.
    pub(super) cut: bool,
}

#[derive(Clone)]
pub(super) struct Histogram {
    pub(super) sample: HistogramSample,
    pub(super) start: i64,
    pub(super) cut: bool,
}

impl Extra {
    /// Forgets what a cut took: samples marked so, and start times of samples before `below`.
    pub(super) fn forget(&mut self, below: i64) {
        self.late.retain(|late| !late.cut);
        self.histograms.retain(|stored| !stored.cut);
        let kept = self.starts.partition_point(|(from, _)| *from < below).saturating_sub(1);
        self.starts.drain(..kept);
    }

    /// Forgets what lies within `range` and tells each of its times.
    pub(super) fn delete(&mut self, range: TimeRange, gone: &mut dyn FnMut(i64)) {
        let late = self.late.extract_if(.., |late| range.contains(Millis(late.at)));
        late.for_each(|late| gone(late.at));
        let histograms = self
            .histograms
            .extract_if(.., |stored| range.contains(stored.sample.at));
        histograms.for_each(|stored| gone(stored.sample.at.0));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.late.is_empty() && self.histograms.is_empty() && self.starts.is_empty()
    }

    /// Adds it to what is saved of the series.
    pub(super) fn save(&self, saved: &mut SavedSeries) {
        let late = self.late.iter().map(|late| (late.at, late.value.to_bits(), late.start));
        saved.late = late.collect();
        saved.starts = self.starts.clone();
        let histograms = self.histograms.iter().map(|stored| HistogramRecord {
            series: 0,
            start: Millis(stored.start),
            sample: stored.sample.clone(),
        });
        saved.histograms = histograms.collect();
    }

    /// The reverse of [`Extra::save`].
    pub(super) fn restore(saved: SavedSeries) -> Extra {
        let late = saved.late.into_iter().map(|(at, bits, start)| Late {
            at,
            value: f64::from_bits(bits),
            start,
            cut: false,
        });
        let histograms = saved.histograms.into_iter().map(|record| Histogram {
            sample: record.sample,
            start: record.start.0,
            cut: false,
        });
        Extra {
            late: late.collect(),
            starts: saved.starts,
            histograms: histograms.collect(),
        }
    }

    /// Copies what a reader of `range` needs.
    pub(super) fn part(&self, range: TimeRange) -> Extra {
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
    pub(super) fn merge(&self, times: &[i64], values: &[f64], columns: &mut Columns) {
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

    pub(super) fn start_of(&self, at: i64) -> i64 {
        let after = self.starts.partition_point(|(from, _)| *from <= at);
        after.checked_sub(1).map_or(0, |found| self.starts[found].1)
    }
}
