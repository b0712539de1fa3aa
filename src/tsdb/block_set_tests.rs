//! A set of blocks against a map, with the disk failing at every single operation.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::tests::{Model, cut, same};
use super::block::{BlockCache, BlockId};
use super::block_set::{BlockSet, BlockSetConfig, Change, Opened};
use super::compact::{carry_out, plan_compaction};
use super::merge::{merge_columns, merge_series};
use super::postings::Selector;
use super::retention::{RetentionPolicy, plan_retention};
use crate::io::disk::{Disk, SimDisk};
use crate::io::log::Position;
use crate::model::{Interval, Labels, Matcher, Millis, TimeRange};
use crate::storage::{Columns, Summary};
use crate::tsdb::block::Covers;

const HOUR: i64 = 3_600_000;

fn open(disk: &SimDisk) -> Result<(BlockSet, Opened), super::block::WriteError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let config = BlockSetConfig {
        dir: PathBuf::from("/data/blocks"),
        quarantine: PathBuf::from("/data/quarantine"),
        seed: 7,
    };
    BlockSet::open(&disk, config, Arc::new(BlockCache::new()))
}

fn contents(set: &BlockSet) -> Model {
    let found = set.snapshot().find(&Selector::new(&[]), TimeRange::ALL).unwrap();
    let mut model = Model::new();
    for series in merge_series(found) {
        let mut columns = Columns::default();
        series.columns(TimeRange::ALL, &mut columns).unwrap();
        if !columns.is_empty() {
            model.insert(series.labels(), columns);
        }
    }
    model
}

fn equal(a: &Model, b: &Model) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((a, x), (b, y))| a == b && same(x, y))
}

/// Two hours of a few series, some of which are elsewhere, and one that repeats samples of the window before.
fn window(number: i64) -> Model {
    let mut model = Model::new();
    for series in 0..4 {
        let labels = Labels::from_pairs([
            ("__name__", format!("metric_{}", series % 3)),
            ("instance", format!("host{}", (series + number) % 5)),
        ]);
        let mut columns = Columns::default();
        let late = if series == 0 { -HOUR / 2 } else { 0 };
        for i in 0..20 {
            columns.times.push(number * 2 * HOUR + late + i * 300_000);
            columns.values.push((number * 1000 + i * series) as f64);
        }
        model.insert(labels, columns);
    }
    model
}

/// What a store is put through, step by step.
#[derive(Clone, Copy, Debug)]
enum Step {
    Cut(i64),
    Compact,
    Delete(i64),
    Retain(i64),
}

const STEPS: [Step; 12] = [
    Step::Cut(0),
    Step::Cut(1),
    Step::Compact,
    Step::Cut(2),
    Step::Delete(1),
    Step::Cut(5),
    Step::Compact,
    Step::Compact,
    Step::Cut(8),
    Step::Retain(10),
    Step::Cut(12),
    Step::Compact,
];

fn now() -> Millis {
    Millis(30 * HOUR)
}

/// Carries a step out on the store; returns what the model makes of it.
fn carry(step: Step, set: &BlockSet, model: &Model) -> Result<Model, super::block::WriteError> {
    let mut after = model.clone();
    match step {
        Step::Cut(number) => {
            let mut new = set.new_block();
            new.covers = Some(Covers {
                from: Position(number as u64 * 10),
                to: Position(number as u64 * 10 + 10),
            });
            let mut writer = set.create(new)?;
            for (labels, columns) in window(number) {
                writer.push(&labels, &columns)?;
                merge_columns(after.entry(labels).or_default(), &mut columns.clone());
            }
            let added = writer.finish()?.into_iter().collect();
            set.commit(Change {
                added,
                dropped: Vec::new(),
                covered: Some(Position(number as u64 * 10 + 10)),
            })?;
        }
        Step::Compact => {
            let metas = set.snapshot().metas();
            if let Some(plan) = plan_compaction(&metas, &set.touched(), Interval::hours(1), now()) {
                carry_out(set, &plan)?;
            }
        }
        Step::Delete(hour) => {
            let range = TimeRange {
                min: Millis(hour * HOUR),
                max: Millis((hour + 3) * HOUR),
            };
            let matcher = Matcher::equal("__name__", "metric_1");
            set.delete(vec![matcher], range)?;
            for (labels, columns) in &mut after {
                if labels.metric_name() == Some("metric_1") {
                    let before = TimeRange {
                        min: Millis::MIN,
                        max: Millis(range.min.0 - 1),
                    };
                    let behind = TimeRange {
                        min: Millis(range.max.0 + 1),
                        max: Millis::MAX,
                    };
                    let mut kept = cut(columns, before);
                    merge_columns(&mut kept, &mut cut(columns, behind));
                    *columns = kept;
                }
            }
            after.retain(|_, columns| !columns.is_empty());
        }
        Step::Retain(hours) => {
            let policy = RetentionPolicy {
                age_max: Some(now() - Millis(hours * HOUR)),
                bytes_max: None,
            };
            let dropped = plan_retention(&set.snapshot().metas(), policy, 0, now());
            let snapshot = set.snapshot();
            let kept: Vec<BlockId> = snapshot.blocks.iter().map(|block| block.meta().id).collect();
            set.commit(Change {
                dropped: dropped.clone(),
                ..Change::default()
            })?;
            assert!(dropped.iter().all(|id| kept.contains(id)));
            // Which samples go depends on the blocks: the model takes what the store now shows.
            after = contents(set);
            assert!(after.values().all(|columns| !columns.is_empty()));
        }
    }
    Ok(after)
}

/// What a run promises of the disk it leaves.
struct Run {
    /// All that was acknowledged.
    model: Model,
    /// The step that failed last, which may have happened all the same.
    doubtful: Option<Step>,
}

/// Runs the steps until the disk stops.
fn run(disk: &SimDisk) -> Run {
    let (mut model, mut doubtful) = (Model::new(), None);
    let Ok((mut set, _)) = open(disk) else {
        return Run { model, doubtful };
    };
    for step in STEPS {
        match carry(step, &set, &model) {
            Ok(after) => (model, doubtful) = (after, None),
            Err(_) => {
                doubtful = Some(step);
                if disk.crashed() {
                    break;
                }
            }
        }
        assert!(
            equal(&contents(&set), &model),
            "{step:?} left the readers something else"
        );
        // A restart now and then: opening writes too.
        if matches!(step, Step::Delete(_)) {
            match open(disk) {
                Ok((reopened, _)) => set = reopened,
                Err(_) => break,
            }
            let found = contents(&set);
            if doubtful.is_some() && !equal(&found, &model) {
                model = found;
            }
        }
    }
    Run { model, doubtful }
}

/// Returns what a step makes of a model.
fn replay(disk: &SimDisk, model: &Model, step: Step) -> Model {
    let (set, _) = open(disk).unwrap();
    if !model.is_empty() {
        let mut writer = set.create(set.new_block()).unwrap();
        model
            .iter()
            .for_each(|(labels, columns)| writer.push(labels, columns).unwrap());
        let added = writer.finish().unwrap().into_iter().collect();
        set.commit(Change {
            added,
            ..Change::default()
        })
        .unwrap();
    }
    carry(step, &set, model).unwrap()
}

impl Run {
    /// Whether a store may hold this after the run: what was acknowledged, or also the step that failed.
    fn allows(&self, found: &Model) -> bool {
        if equal(found, &self.model) {
            return true;
        }
        match self.doubtful {
            None => false,
            // Retention takes whole blocks: what is left is a part of what was there.
            Some(Step::Retain(_)) => found.iter().all(|(labels, columns)| {
                let before = self.model.get(labels);
                before.is_some_and(|all| columns.times.iter().all(|at| all.times.contains(at)))
            }),
            Some(step) => equal(found, &replay(&SimDisk::seeded(0), &self.model, step)),
        }
    }
}

#[test]
fn a_crash_at_every_operation_leaves_what_was_there_before_or_after_it() {
    for seed in [1, 2, 3] {
        for crash_at in 0.. {
            let disk = SimDisk::seeded(seed).crash_at(crash_at);
            let run = run(&disk);
            let survived = disk.after_crash();
            let (set, opened) = open(&survived).unwrap();
            let found = contents(&set);
            assert!(
                run.allows(&found),
                "seed {seed}, crash at {crash_at}: after {:?} {found:?}",
                run.doubtful
            );
            assert!(opened.lost.is_empty(), "seed {seed}, crash at {crash_at}: {opened:?}");
            // It goes on from there, and nothing that is not needed stays on the disk.
            carry(Step::Cut(20), &set, &found).unwrap();
            let files = survived.list(Path::new("/data/blocks")).unwrap();
            let live = set.snapshot().blocks.len();
            assert_eq!(files.len(), live + 2, "seed {seed}, crash at {crash_at}: {files:?}");
            if !disk.crashed() {
                assert!(crash_at > 100, "only {crash_at} operations: the steps do nothing");
                break;
            }
        }
    }
}

#[test]
fn a_failure_of_every_operation_is_told_and_changes_nothing() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        for fail_at in 0.. {
            let disk = SimDisk::seeded(5).fail_at(fail_at, kind);
            let run = run(&disk);
            let done = disk.operations() <= fail_at;
            let (set, opened) = open(&disk).unwrap();
            let found = contents(&set);
            assert!(
                run.allows(&found),
                "{kind}, at {fail_at}: after {:?} {found:?}",
                run.doubtful
            );
            assert!(opened.lost.is_empty(), "{kind}, at {fail_at}: {opened:?}");
            if done {
                break;
            }
        }
    }
}

#[test]
fn statistics_of_blocks_answer_as_the_samples_do() {
    let disk = SimDisk::seeded(3);
    let (set, _) = open(&disk).unwrap();
    let mut model = Model::new();
    for number in [0, 1, 2, 5] {
        model = carry(Step::Cut(number), &set, &model).unwrap();
    }
    let mut answered = 0;
    for (from, to) in [(0, 12), (1, 5), (2, 4), (3, 11), (6, 9)] {
        let range = TimeRange {
            min: Millis(from * HOUR),
            max: Millis(to * HOUR),
        };
        for series in merge_series(set.snapshot().find(&Selector::new(&[]), range).unwrap()) {
            let expected = Summary::of(&cut(&model[&series.labels()], range));
            let Some(mut found) = series.summary(range).unwrap() else {
                continue;
            };
            answered += 1;
            found.sum = None;
            assert_eq!(Some(found), expected, "{} in {range:?}", series.labels());
        }
    }
    assert!(answered > 5, "only {answered} answers");
}

/// A store after all steps.
fn filled(seed: u64) -> (SimDisk, Model) {
    let disk = SimDisk::seeded(seed);
    let model = run(&disk).model;
    (disk, model)
}

#[test]
fn a_rotten_byte_is_an_error_or_a_loss_that_is_told_and_never_a_number() {
    let (disk, model) = filled(9);
    let dir = Path::new("/data/blocks");
    let files = disk.list(dir).unwrap();
    for file in &files {
        for offset in (0..file.len).step_by(7) {
            let rotten = disk.after_crash();
            rotten
                .flip_bit(&dir.join(&file.name), offset, (offset % 8) as u8)
                .unwrap();
            let (set, opened) = open(&rotten).unwrap();
            let snapshot = set.snapshot();
            let told = !opened.lost.is_empty() || !opened.problems.is_empty();
            let is_manifest = file.name.starts_with("manifest");
            for series in merge_series(snapshot.find(&Selector::new(&[]), TimeRange::ALL).unwrap()) {
                let mut columns = Columns::default();
                if let Err(error) = series.columns(TimeRange::ALL, &mut columns) {
                    assert!(error.to_string().contains(&file.name), "{error}");
                    continue;
                }
                let all = &model[&series.labels()];
                let whole = same(&columns, all);
                assert!(
                    whole || told,
                    "{} at {offset}: {} is silently incomplete",
                    file.name,
                    series.labels()
                );
                assert!(!is_manifest || whole, "{} at {offset}: samples are gone", file.name);
                for (at, value) in columns.times.iter().zip(&columns.values) {
                    let slot = all.times.binary_search(at).expect("no sample is invented");
                    assert_eq!(all.values[slot].to_bits(), value.to_bits(), "{} at {offset}", file.name);
                }
            }
            let everything = snapshot.blocks.iter().all(|block| block.verify().is_ok());
            assert!(
                told || !everything || is_manifest,
                "{} at {offset}: nobody noticed",
                file.name
            );
            if !opened.lost.is_empty() {
                assert!(!snapshot.warnings(TimeRange::ALL).is_empty());
                assert_eq!(rotten.list(Path::new("/data/quarantine")).unwrap().len(), 1);
            }
        }
    }
}

#[test]
fn without_any_manifest_every_readable_block_is_taken() {
    let (disk, model) = filled(9);
    let dir = Path::new("/data/blocks");
    for file in disk
        .list(dir)
        .unwrap()
        .iter()
        .filter(|file| file.name.starts_with("manifest"))
    {
        disk.remove_file(&dir.join(&file.name)).unwrap();
    }
    let (set, opened) = open(&disk).unwrap();
    assert!(equal(&contents(&set), &model));
    assert!(!opened.problems.is_empty());
    assert_eq!(
        set.snapshot().covered,
        Position(0),
        "what stray blocks say of the log is not believed"
    );
}

#[test]
fn a_missing_block_is_told_at_every_start() {
    let (disk, _) = filled(9);
    let dir = Path::new("/data/blocks");
    let block = disk
        .list(dir)
        .unwrap()
        .into_iter()
        .find(|file| file.name.ends_with(".block"))
        .unwrap();
    disk.remove_file(&dir.join(&block.name)).unwrap();
    for _ in 0..2 {
        let (set, opened) = open(&disk).unwrap();
        assert_eq!(opened.lost.len(), 1);
        assert!(set.snapshot().warnings(TimeRange::ALL)[0].contains("may be missing"));
    }
}

#[test]
fn tombstones_are_applied_for_good_and_then_forgotten() {
    let disk = SimDisk::seeded(3);
    let (set, _) = open(&disk).unwrap();
    let model = carry(Step::Cut(1), &set, &Model::new()).unwrap();
    let model = carry(Step::Delete(1), &set, &model).unwrap();
    assert!(equal(&contents(&set), &model));
    assert_eq!(set.touched().len(), 1);
    let model = carry(Step::Compact, &set, &model).unwrap();
    assert!(equal(&contents(&set), &model));
    let snapshot = set.snapshot();
    assert!(set.touched().is_empty() && snapshot.tombstones.is_empty());
    assert_eq!(snapshot.blocks.len(), 1);
    let kept: u64 = model.values().map(|columns| columns.len() as u64).sum();
    assert_eq!(
        snapshot.blocks[0].meta().samples(),
        kept,
        "the samples are gone from the file"
    );
}

#[test]
fn a_block_with_a_rotten_page_is_not_compacted_again_and_again() {
    let disk = SimDisk::seeded(3);
    let (set, _) = open(&disk).unwrap();
    let model = carry(Step::Cut(0), &set, &Model::new()).unwrap();
    carry(Step::Cut(1), &set, &model).unwrap();
    let block = set.snapshot().blocks[0].path().to_owned();
    disk.flip_bit(&block, 20, 1).unwrap();
    assert!(carry(Step::Compact, &set, &model).is_err());
    let left: Vec<u64> = set.compactable().iter().map(|meta| meta.id.0).collect();
    assert_eq!(left, [2]);
    assert_eq!(set.snapshot().blocks.len(), 2, "it still answers for what is whole");
}
