//! What a series of the head promises.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::series::{BLOCK_MILLIS, Outcome, Rules, Series};
use super::symbols::Symbols;
use crate::model::{HistogramSample, Interval, Labels, Millis, Sample, TimeRange};
use crate::storage::{Columns, Point};
use crate::tsdb::chunk::ChunkStore;

const RULES: Rules<'_> = Rules {
    window: Interval(1000),
    stored: &[],
};

struct Fixture {
    series: Series,
    chunks: ChunkStore,
}

fn fixture() -> Fixture {
    let labels = Labels::from_pairs([("__name__", "a")]);
    let refs = Symbols::default().intern(&labels);
    Fixture {
        series: Series::new(0, &labels, refs, None),
        chunks: crate::tsdb::testing::chunks(),
    }
}

impl Fixture {
    fn append(&self, at: i64, value: f64) -> Outcome {
        self.append_under(&RULES, at, value, 0)
    }

    fn append_under(&self, rules: &Rules<'_>, at: i64, value: f64, start: i64) -> Outcome {
        let sample = Sample { at: Millis(at), value };
        self.series.append(sample, start, rules, &self.chunks)
    }

    fn read(&self, min: i64, max: i64) -> Vec<(i64, f64)> {
        let (min, max) = (Millis(min), Millis(max));
        let mut columns = Columns::default();
        self.series
            .columns(TimeRange { min, max }, &mut columns, &self.chunks)
            .unwrap();
        columns.times.into_iter().zip(columns.values).collect()
    }
}

#[test]
fn the_newest_sample_decides_what_is_late_known_or_too_old() {
    let fixture = fixture();
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
        assert_eq!(fixture.append(at, value), outcome, "{value} at {at}");
    }
    assert_eq!(fixture.read(0, 9000), [(4000, 3.0), (5000, 1.0), (6000, 5.0)]);
    assert_eq!(fixture.read(4001, 5000), [(5000, 1.0)]);
}

#[test]
fn start_times_and_histograms_come_back_with_their_samples() {
    let fixture = fixture();
    for (at, start) in [(10, 0), (20, 15), (30, 15), (40, 35)] {
        fixture.append_under(&RULES, at, 1.0, start);
    }
    let histogram = HistogramSample {
        at: Millis(50),
        histogram: std::sync::Arc::default(),
    };
    let append = || fixture.series.append_histogram(&histogram, 45, &RULES, &fixture.chunks);
    assert_eq!(append(), Outcome::Stored);
    assert_eq!(append(), Outcome::Duplicate);
    assert_eq!(fixture.append(50, 1.0), Outcome::Conflict);
    let mut columns = Columns::default();
    fixture
        .series
        .columns(TimeRange::ALL, &mut columns, &fixture.chunks)
        .unwrap();
    assert_eq!(columns.start_times, [0, 15, 15, 35]);
    assert_eq!((columns.histograms.len(), columns.histogram_start_times), (1, vec![45]));
    assert!(matches!(
        fixture.series.latest(TimeRange::ALL),
        Some(Point::Histogram(_))
    ));
}

#[test]
fn a_cut_takes_whole_chunks_and_leaves_what_came_meanwhile() {
    let fixture = fixture();
    let rules = Rules {
        window: Interval(BLOCK_MILLIS),
        stored: &[],
    };
    let add = |at: i64| fixture.append_under(&rules, at, at as f64, 0);
    (0..300).for_each(|i| assert_eq!(add(i * 60_000), Outcome::Stored));
    let (columns, cut) = fixture.series.cut(BLOCK_MILLIS, &fixture.chunks).unwrap();
    assert_eq!(columns.times, (0..120).map(|i| i * 60_000).collect::<Vec<_>>());
    let late = 299 * 60_000 - BLOCK_MILLIS + 1;
    assert_eq!(add(late), Outcome::StoredLate);
    let chunks = fixture.series.chunks();
    assert!(!fixture.series.forget(BLOCK_MILLIS, cut));
    assert!(fixture.series.chunks() < chunks);
    assert_eq!(fixture.series.bounds().unwrap().min, Millis(BLOCK_MILLIS));
    let mut kept: Vec<i64> = (120..300).map(|i| i * 60_000).chain([late]).collect();
    kept.sort_unstable();
    let read: Vec<i64> = fixture.read(0, i64::MAX).into_iter().map(|s| s.0).collect();
    assert_eq!(read, kept);
    let (_, cut) = fixture.series.cut(BLOCK_MILLIS * 100, &fixture.chunks).unwrap();
    assert!(fixture.series.forget(BLOCK_MILLIS * 100, cut) && fixture.series.is_empty());
}

proptest! {
    #[test]
    fn a_series_behaves_as_a_sorted_map_with_a_window(
        samples in proptest::collection::vec((0..6000i64, 0..3u8), 1..300),
    ) {
        let fixture = fixture();
        let mut model: BTreeMap<i64, f64> = BTreeMap::new();
        for (at, value) in samples {
            let value = f64::from(value);
            let newest = model.keys().next_back().copied();
            let expected = match (model.get(&at), newest) {
                (_, Some(newest)) if newest - at > 1000 => Outcome::TooOld(Interval(newest - at)),
                (Some(stored), _) if *stored == value => Outcome::Duplicate,
                (Some(_), _) => Outcome::Conflict,
                (None, Some(newest)) if at < newest => Outcome::StoredLate,
                _ => Outcome::Stored,
            };
            prop_assert_eq!(fixture.append(at, value), expected);
            if matches!(expected, Outcome::Stored | Outcome::StoredLate) {
                model.insert(at, value);
            }
        }
        let all: Vec<(i64, f64)> = model.into_iter().collect();
        prop_assert_eq!(fixture.read(0, i64::MAX), all);
    }
}
