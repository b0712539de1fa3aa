//! Blocks against a map of series to samples, and against rot.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::io::disk::{Disk, SimDisk};
use crate::model::{HistogramSample, Labels, Millis, TimeRange, stale_marker};
use crate::storage::Columns;
use crate::tsdb::postings::Selector;
use crate::tsdb::postings::tests::{label_set, matcher};

pub(crate) type Model = BTreeMap<Labels, Columns>;

fn dir() -> &'static Path {
    Path::new("/blocks")
}

fn disk() -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::seeded(1));
    disk.create_dir_all(dir()).unwrap();
    disk
}

pub(crate) fn write(disk: &Arc<dyn Disk>, model: &Model, id: u64) -> Option<BlockMeta> {
    let mut source = model.iter().map(|(labels, columns)| {
        Ok(SeriesData {
            labels: labels.clone(),
            columns: columns.clone(),
        })
    });
    write_block(disk, dir(), &mut source, NewBlock::cut(BlockId(id), None, 7)).unwrap()
}

fn open(disk: &Arc<dyn Disk>, id: u64) -> Arc<Block> {
    let path = dir().join(BlockId(id).file_name());
    Block::open(&**disk, &path, Arc::new(BlockCache::new())).unwrap()
}

/// The samples of `columns` within `range`.
pub(crate) fn cut(columns: &Columns, range: TimeRange) -> Columns {
    let mut kept = Columns::default();
    for (i, at) in columns
        .times
        .iter()
        .enumerate()
        .filter(|(_, at)| range.contains(Millis(**at)))
    {
        kept.times.push(*at);
        kept.values.push(columns.values[i]);
        kept.start_times.extend(columns.start_times.get(i));
    }
    for (i, sample) in columns
        .histograms
        .iter()
        .enumerate()
        .filter(|(_, sample)| range.contains(sample.at))
    {
        kept.histograms.push(sample.clone());
        kept.histogram_start_times.extend(columns.histogram_start_times.get(i));
    }
    kept
}

/// Bit for bit, so that stale markers equal themselves.
pub(crate) fn same(a: &Columns, b: &Columns) -> bool {
    let bits = |columns: &Columns| columns.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    bits(a) == bits(b)
        && (&a.times, &a.start_times, &a.histograms, &a.histogram_start_times)
            == (&b.times, &b.start_times, &b.histograms, &b.histogram_start_times)
}

/// Samples at some of the scrapes of one target, some started, some stale, some histograms.
fn columns() -> impl Strategy<Value = Columns> {
    let value = prop_oneof![
        6 => (0i32..500).prop_map(f64::from),
        2 => (0i32..500).prop_map(|tenths| f64::from(tenths) / 10.0),
        1 => any::<f64>(),
        1 => Just(stale_marker()),
    ];
    let slot = (0u8..10, value, super::histograms::tests::histogram());
    (proptest::collection::vec(slot, 1..60), 0i64..3, any::<bool>(), 0u8..3).prop_map(
        |(slots, phase, started, kind)| {
            let mut columns = Columns::default();
            for (i, (dice, value, histogram)) in slots.into_iter().enumerate() {
                let at = 1_000_000 + i as i64 * 15_000 + phase * 7 + (i as i64 * 7919 % 5);
                if dice == 0 {
                    continue;
                }
                if kind == 2 && dice < 5 {
                    columns.histograms.push(HistogramSample {
                        at: Millis(at),
                        histogram: Arc::new(histogram),
                    });
                    columns.histogram_start_times.extend(started.then_some(999_000));
                } else {
                    columns.times.push(at);
                    columns.values.push(if kind == 1 { 1.5 } else { value });
                    columns.start_times.extend(started.then_some(999_000 + i as i64 / 20));
                }
            }
            columns
        },
    )
}

fn model() -> impl Strategy<Value = Model> {
    proptest::collection::btree_map(label_set(), columns(), 1..20)
        .prop_map(|model| model.into_iter().filter(|(_, columns)| !columns.is_empty()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_block_answers_as_the_map_it_was_written_from(
        model in model(), matchers in proptest::collection::vec(matcher(), 0..3), from in 0i64..70, len in 0i64..70,
    ) {
        let disk = disk();
        let Some(meta) = write(&disk, &model, 1) else {
            prop_assert!(model.is_empty());
            return Ok(());
        };
        let block = open(&disk, 1);
        prop_assert_eq!(block.meta(), &meta);
        block.verify().unwrap();
        let selector = Selector::new(&matchers);
        let min = Millis(1_000_000 + from * 15_000);
        for range in [TimeRange::ALL, TimeRange { min, max: min + crate::model::Interval(len * 15_000) }] {
            let found = block.select(&matchers, range).unwrap();
            let mut read = Columns::default();
            let mut with_samples = Vec::new();
            for series in &found {
                series.columns(range, &mut read).unwrap();
                let expected = cut(&model[&series.labels()], range);
                prop_assert!(same(&read, &expected), "{}: {:?} is not {:?}", series.labels(), read, expected);
                prop_assert_eq!(format!("{:?}", series.latest(range).unwrap()), format!("{:?}", expected.latest()));
                if !read.is_empty() {
                    with_samples.push(series.labels());
                }
            }
            let expected: Vec<Labels> = model
                .iter()
                .filter(|(labels, columns)| selector.matches(labels) && !cut(columns, range).is_empty())
                .map(|(labels, _)| labels.clone())
                .collect();
            prop_assert_eq!(with_samples, expected);
        }
    }

    #[test]
    fn names_and_values_are_those_of_the_series(model in model(), matchers in proptest::collection::vec(matcher(), 0..2)) {
        let disk = disk();
        prop_assume!(write(&disk, &model, 1).is_some());
        let block = open(&disk, 1);
        let selector = Selector::new(&matchers);
        let sets: Vec<&Labels> = model.keys().filter(|labels| selector.matches(labels)).collect();
        let names: std::collections::BTreeSet<String> =
            sets.iter().flat_map(|labels| labels.iter()).map(|(name, _)| name.to_owned()).collect();
        prop_assert_eq!(block.label_names(&selector).unwrap(), names.into_iter().collect::<Vec<_>>());
        let values: std::collections::BTreeSet<String> =
            sets.iter().filter_map(|labels| labels.get("a")).map(str::to_owned).collect();
        prop_assert_eq!(block.label_values("a", &selector).unwrap(), values.into_iter().collect::<Vec<_>>());
        let mut counted = 0;
        block.cardinality(|_, _, count| counted += count).unwrap();
        prop_assert_eq!(counted, model.keys().map(|labels| labels.len() as u64).sum::<u64>());
    }
}
