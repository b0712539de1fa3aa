//! What the store's tests share: golden files, and a store on a simulated disk.

use std::path::Path;

/// Compares with `tests/golden/tsdb/{name}`; `UPDATE_GOLDEN=1` writes it.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/tsdb")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("it has a directory")).expect("the directory can be made");
        std::fs::write(&path, text).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{} differs; UPDATE_GOLDEN=1 rewrites it",
        path.display()
    );
}

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::chunk::{ChunkOptions, ChunkStore};
use super::{Db, DbConfig, RecoveryReport};
use crate::io::disk::SimDisk;
use crate::io::{SeededRandom, SimClock};
use crate::model::{Labels, Matcher, Millis, OwnedSeries, Sample, TimeRange, WriteBatch};
use crate::storage::{Columns, Hints, Querier, Select};

/// Where the simulated clock begins: 2023-11-14T22:13:20Z.
pub(crate) const START: i64 = 1_700_000_000_000;

/// What a store should hold: the model that tests compare with.
pub(crate) type Model = BTreeMap<Labels, BTreeMap<i64, u64>>;

/// Settings for a store on a small simulated disk.
pub(crate) fn config() -> DbConfig {
    DbConfig {
        dir: PathBuf::from("/tsdb"),
        segment_bytes: 2048,
        reserve_bytes: Some(0),
        chunk_memory_bytes: 512,
        chunk_page_bytes: 512,
        ..DbConfig::default()
    }
}

/// A store of chunks that soon leave memory.
pub(crate) fn chunks() -> ChunkStore {
    let options = ChunkOptions {
        page_bytes: 1024,
        memory_bytes: 2048,
        reserve_bytes: Some(0),
    };
    let chunks = ChunkStore::new(Arc::new(SimDisk::seeded(1)), PathBuf::from("/chunks"), options);
    chunks.clean();
    chunks
}

/// Opens the store on `disk`, or says why not.
pub(crate) fn try_open(disk: &SimDisk, clock: &SimClock) -> Result<(Arc<Db>, RecoveryReport), super::OpenError> {
    let disk = Arc::new(disk.clone());
    Db::open(config(), disk, Arc::new(clock.clone()), Arc::new(SeededRandom::new(7)))
}

/// Opens the store on `disk`, which is sound.
pub(crate) fn open(disk: &SimDisk, clock: &SimClock) -> Arc<Db> {
    try_open(disk, clock).expect("a sound disk opens").0
}

/// The labels of the `n`-th test series.
pub(crate) fn labels(n: usize) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("job", "test"), ("n", &n.to_string())])
}

/// A batch with one sample for each of these series.
pub(crate) fn batch(samples: impl IntoIterator<Item = (usize, i64, f64)>) -> WriteBatch {
    let series = samples.into_iter().map(|(n, at, value)| OwnedSeries {
        labels: labels(n),
        samples: vec![Sample { at: Millis(at), value }],
    });
    WriteBatch::from_series(series.collect(), 1)
}

/// Reads all series that match.
pub(crate) fn read(store: &dyn Querier, matchers: Vec<Matcher>) -> Model {
    let select = Select {
        matchers,
        range: TimeRange::ALL,
        hints: Hints::default(),
    };
    let selection = store.select(&select).expect("a sound store answers");
    let mut model = Model::new();
    for series in selection.series {
        let mut columns = Columns::default();
        series
            .columns(TimeRange::ALL, &mut columns)
            .expect("a sound series decodes");
        let samples = columns
            .times
            .into_iter()
            .zip(columns.values.into_iter().map(f64::to_bits));
        let before = model.insert(series.labels(), samples.collect());
        assert!(before.is_none(), "{} came twice", series.labels());
    }
    model
}
