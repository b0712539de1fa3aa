//! Blocks against a map of series to samples, and against rot.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::io::disk::{Disk, SimDisk};
use crate::model::{HistogramSample, Labels, Millis, TimeRange, stale_marker};
use crate::storage::{Columns, Series, Summary};
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
                if let Some(found) = series.summary(range).unwrap() {
                    let mut summary = Summary::of(&expected).expect("statistics stand for finite numbers only");
                    prop_assert_eq!(found.sum.map(f64::to_bits), Some(Stats::of(&expected.values).sum.to_bits()));
                    summary.sum = found.sum;
                    prop_assert_eq!(found, summary);
                }
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

/// A block with one of each kind of column.
fn specimen() -> Model {
    let labels =
        |name: &str, instance: &str| Labels::from_pairs([("__name__", name), ("job", "node"), ("instance", instance)]);
    let times: Vec<i64> = (0..60).map(|i| 1_700_000_000_000 + i * 15_000 + i * 7919 % 5).collect();
    let floats = |of: &dyn Fn(i64) -> f64| Columns {
        times: times.clone(),
        values: (0..60).map(of).collect(),
        ..Columns::default()
    };
    let mut stale = floats(&|i| (1_000_000 + i * 37 + i * i * 7919 % 23) as f64);
    stale.values[59] = stale_marker();
    let mut thinned = floats(&|i| (i * 7919 % 1000) as f64 / 100.0);
    let missed = cut(
        &thinned,
        TimeRange {
            min: Millis(times[31]),
            max: Millis::MAX,
        },
    );
    thinned.times.truncate(30);
    thinned.values.truncate(30);
    crate::tsdb::merge_columns(&mut thinned, &mut missed.clone());
    thinned.start_times = vec![times[0] - 1; thinned.times.len()];
    let histogram = |i: i64| crate::model::FloatHistogram {
        schema: 2,
        count: (i * 3) as f64,
        sum: i as f64 / 4.0,
        positive_spans: vec![crate::model::Span { offset: 1, length: 2 }],
        positive_buckets: vec![i as f64, (i * 2) as f64],
        ..crate::model::FloatHistogram::default()
    };
    let histograms = Columns {
        histograms: (times.iter().zip(0..))
            .map(|(at, i)| HistogramSample {
                at: Millis(*at),
                histogram: Arc::new(histogram(i)),
            })
            .collect(),
        ..Columns::default()
    };
    Model::from([
        (labels("constant", "a:1"), floats(&|_| 4096.0)),
        (labels("counter", "a:1"), stale),
        (labels("linear", "a:1"), floats(&|i| (i * 5) as f64)),
        (labels("noise", "a:1"), floats(&|i| (i as f64).sin())),
        (labels("noise_again", "a:1"), floats(&|i| (i as f64).sin())),
        (labels("steps", "b:1"), floats(&|i| (i / 20) as f64)),
        (labels("thinned", "a:1"), thinned),
        (labels("latency", "a:1"), histograms),
    ])
}

fn golden_path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Writes a file of the repository, when `UPDATE_GOLDEN` is set.
fn update(name: &str, bytes: &[u8]) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let (disk, path) = (crate::io::disk::OsDisk, golden_path(name));
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        let _ = disk.remove_file(&path);
        disk.create(&path).unwrap().write_all_at(bytes, 0).unwrap();
    }
}

fn read_all(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open_read(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn to_hex(bytes: &[u8]) -> String {
    let lines = bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n");
    lines.collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// What releases wrote, the present version last.
const GOLDEN: [&str; 2] = ["tests/golden/tsdb/block-v1.hex", "tests/golden/tsdb/block-v2.hex"];

#[test]
fn the_format_of_a_block_stays_as_it_is() {
    let disk = disk();
    let meta = write(&disk, &specimen(), 1).unwrap();
    let written = read_all(&*disk, &dir().join(meta.id.file_name()));
    let newest = GOLDEN[GOLDEN.len() - 1];
    update(newest, to_hex(&written).as_bytes());
    // What any release wrote is read for ever.
    for (golden, id) in GOLDEN.into_iter().zip(2..) {
        let bytes = from_hex(&String::from_utf8(read_all(&crate::io::disk::OsDisk, &golden_path(golden))).unwrap());
        let path = dir().join(BlockId(id).file_name());
        disk.create(&path).unwrap().write_all_at(&bytes, 0).unwrap();
        let block = open(&disk, id);
        block.verify().unwrap();
        let mut columns = Columns::default();
        for series in block.all_series() {
            let series = series.unwrap();
            series.columns(TimeRange::ALL, &mut columns).unwrap();
            assert!(same(&columns, &specimen()[&series.labels()]), "{}", series.labels());
        }
        if golden == newest {
            assert_eq!(block.meta().series as usize, specimen().len());
            assert_eq!(
                to_hex(&written),
                to_hex(&bytes),
                "the same version writes the same bytes"
            );
        }
    }
}

#[test]
fn a_day_of_seconds_is_read_by_its_pages() {
    let disk = disk();
    let times: Vec<i64> = (0..20_000).map(|i| 1_700_000_000_000 + i * 1000).collect();
    let columns = |of: &dyn Fn(i64) -> f64| Columns {
        times: times.clone(),
        values: (0..20_000).map(of).collect(),
        ..Columns::default()
    };
    let labels = |name: &str| Labels::from_pairs([("__name__", name)]);
    let mut stale = columns(&|i| (i * i % 7919) as f64);
    stale.values[11_111] = stale_marker();
    let model = Model::from([
        (labels("integers"), columns(&|i| (i * i % 7919) as f64)),
        (labels("cents"), columns(&|i| (i * i % 7919) as f64 / 100.0)),
        (labels("floats"), columns(&|i| (i as f64).sin())),
        (labels("stale"), stale),
    ]);
    write(&disk, &model, 1).unwrap();
    let block = open(&disk, 1);
    block.verify().unwrap();
    let mut read = Columns::default();
    for (from, to) in [(0, 0), (4000, 4200), (12_345, 12_346), (19_700, 19_999), (0, 19_999)] {
        let range = TimeRange {
            min: Millis(times[from]),
            max: Millis(times[to]),
        };
        for series in block.select(&[], range).unwrap() {
            series.columns(range, &mut read).unwrap();
            assert!(
                same(&read, &cut(&model[&series.labels()], range)),
                "{} {range:?}",
                series.labels()
            );
        }
    }
}

#[test]
fn what_is_exported_under_two_names_is_stored_once() {
    let disk = disk();
    let columns = |seed: i64| Columns {
        times: (0..480).map(|i| i * 15_000).collect(),
        // Far from any pattern, so that a record is long.
        values: (0..480)
            .map(|i| ((i * i * 7919 + seed * i * 104_729) % 1009 * (i % 7 + seed) % 997) as f64)
            .collect(),
        ..Columns::default()
    };
    let bytes = |seeds: &[i64]| {
        let model = seeds.iter().zip(0..).map(|(seed, number)| {
            let labels = Labels::from_pairs([("__name__", format!("m{number:02}").as_str())]);
            (labels, columns(*seed))
        });
        let (model, id) = (model.collect::<Model>(), seeds.iter().sum::<i64>() as u64);
        let meta = write(&disk, &model, id).unwrap();
        let block = open(&disk, id);
        block.verify().unwrap();
        let mut read = Columns::default();
        for series in block.select(&[], TimeRange::ALL).unwrap() {
            series.columns(TimeRange::ALL, &mut read).unwrap();
            assert!(same(&read, &model[&series.labels()]), "{}", series.labels());
        }
        meta.bytes
    };
    let one = bytes(&[3]);
    // Records that stand before, behind and between those that are shared, over more than one group of the table.
    let many: Vec<i64> = (0..40).map(|i| if i % 3 == 1 { 7 } else { 3 }).collect();
    let all = bytes(&many);
    assert!(one > 600 && all < 4 * one, "{all} bytes, one alone takes {one}");
}

#[test]
fn every_flipped_bit_is_found() {
    let disk = disk();
    let meta = write(&disk, &specimen(), 1).unwrap();
    let written = read_all(&*disk, &dir().join(meta.id.file_name()));
    let path = dir().join("flipped.block");
    for bit in 0..written.len() * 8 {
        let mut flipped = written.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = disk.remove_file(&path);
        disk.create(&path).unwrap().write_all_at(&flipped, 0).unwrap();
        let verified = Block::open(&*disk, &path, Arc::new(BlockCache::new())).and_then(|block| block.verify());
        let error = verified.expect_err("a flipped bit goes unseen").to_string();
        assert!(error.contains("flipped.block at byte"), "{error}");
    }
    for len in (0..written.len()).step_by(13) {
        let _ = disk.remove_file(&path);
        disk.create(&path).unwrap().write_all_at(&written[..len], 0).unwrap();
        assert!(
            Block::open(&*disk, &path, Arc::new(BlockCache::new())).is_err(),
            "cut at {len}"
        );
    }
}

#[test]
fn a_query_of_a_rotten_block_gets_an_error_or_the_right_answer() {
    let disk = disk();
    let model = specimen();
    let meta = write(&disk, &model, 1).unwrap();
    let written = read_all(&*disk, &dir().join(meta.id.file_name()));
    let path = dir().join("flipped.block");
    let (mut refused, mut told) = (0, 0);
    for at in 0..written.len() {
        let mut flipped = written.clone();
        flipped[at] ^= 1 << (at % 8);
        let _ = disk.remove_file(&path);
        disk.create(&path).unwrap().write_all_at(&flipped, 0).unwrap();
        let Ok(block) = Block::open(&*disk, &path, Arc::new(BlockCache::new())) else {
            refused += 1;
            continue;
        };
        let found = block.select(&[], TimeRange::ALL).unwrap();
        assert_eq!(
            found.len(),
            model.len(),
            "the index was verified when the block was opened"
        );
        let mut columns = Columns::default();
        let mut whole = 0;
        for series in found {
            match series.columns(TimeRange::ALL, &mut columns) {
                Ok(()) => {
                    assert!(same(&columns, &model[&series.labels()]), "{} at {at}", series.labels());
                    whole += 1;
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(
                        error.contains("flipped.block at byte") && error.contains("2023-11-14T22:13"),
                        "{error}"
                    );
                }
            }
        }
        if whole < model.len() {
            told += 1;
            assert_eq!(block.damage().len(), 1, "it is remembered for the status page, once");
        }
    }
    assert!(refused > 100 && told > 100, "{refused} refused, {told} told");
}

#[test]
fn series_of_one_target_share_their_times() {
    let disk = disk();
    let jittered: Vec<i64> = (0..240).map(|i| i * 15_000 + i * i * 7919 % 11).collect();
    let mut model = Model::new();
    for metric in 0..100 {
        let labels = Labels::from_pairs([("__name__", format!("m{metric:03}").as_str()), ("job", "node")]);
        let mut columns = Columns {
            times: jittered.clone(),
            values: (0..240).map(|i| f64::from(i * metric)).collect(),
            ..Columns::default()
        };
        // Every tenth series missed a scrape.
        if metric % 10 == 9 {
            columns.times.remove(metric as usize);
            columns.values.remove(metric as usize);
        }
        model.insert(labels, columns);
    }
    write(&disk, &model, 1).unwrap();
    let block = open(&disk, 1);
    let times = block
        .layout()
        .into_iter()
        .find(|(name, _)| *name == "time columns")
        .unwrap();
    assert!(times.1 < 300, "{} bytes of times for 100 series", times.1);
    block.verify().unwrap();
}

const CORPUS: &str = "fuzz/corpus/block";

#[test]
fn the_fuzzing_corpus_is_decoded_without_a_panic() {
    let model = specimen();
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    for (labels, columns) in &model {
        let mut out = vec![1];
        if columns.values.is_empty() {
            out[0] = 2;
            super::histograms::encode(&columns.histograms, &mut out);
        } else {
            super::values::encode(&columns.values, &mut out);
        }
        seeds.push((labels.metric_name().unwrap().to_owned(), out));
    }
    let disk = disk();
    let meta = write(&disk, &model, 1).unwrap();
    let block = read_all(&*disk, &dir().join(meta.id.file_name()));
    seeds.push(("block".to_owned(), [&[8][..], &block].concat()));
    seeds.push((
        "footer".to_owned(),
        [&[7][..], &block[block.len() - 120..block.len() - 16]].concat(),
    ));
    for (name, bytes) in &seeds {
        update(&format!("{CORPUS}/{name}"), bytes);
        decode_any(bytes);
    }
    let os = crate::io::disk::OsDisk;
    let kept = os.list(&golden_path(CORPUS)).unwrap();
    assert!(kept.len() >= seeds.len());
    for entry in kept {
        decode_any(&read_all(&os, &golden_path(CORPUS).join(entry.name)));
    }
}
