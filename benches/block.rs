//! Blocks: what a sample costs to write and to read. 480 samples are two hours at 15 s, 5,760 a day.
//!
//! Arithmetic first: compaction rewrites each sample three times at most, so at 1 M samples/s and 50 ns a sample it takes
//! 15 % of a core; a query over a day of 4,000 series is 23 M samples, so at 5 ns a sample it decodes for 115 ms.

use std::path::Path;
use std::sync::Arc;

use campanile::io::disk::{Disk, SimDisk};
use campanile::io::{Random, SeededRandom};
use campanile::model::{Labels, TimeRange};
use campanile::storage::Columns;
use campanile::tsdb::block::{Block, BlockCache, BlockId, BlockWriter, NewBlock};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SERIES: usize = 50;

/// Names a shape of data and makes its `i`-th value from the one before.
type Shape = (&'static str, fn(&SeededRandom, f64) -> f64);

const SHAPES: [Shape; 4] = [
    ("counter", |random, last| last + random.below(40) as f64),
    ("gauge_paged", |random, last| {
        last + (random.below(64) as f64 - 31.0) * 4096.0
    }),
    ("gauge_cents", |random, last| {
        ((last * 100.0).round() + random.below(21) as f64 - 10.0) / 100.0
    }),
    ("noise", |random, _| random.next_u64() as f64 / 1e7),
];

fn data(shape: Shape, samples: usize) -> Vec<(Labels, Columns)> {
    let random = SeededRandom::new(7);
    let times: Vec<i64> = (0..samples as i64).map(|i| 1_700_000_000_000 + i * 15_000).collect();
    let series = (0..SERIES).map(|series| {
        let labels = Labels::from_pairs([("__name__", shape.0), ("instance", &format!("host{series:03}"))]);
        let mut last = 1e6;
        let values = times.iter().map(|_| {
            last = shape.1(&random, last);
            last
        });
        let columns = Columns {
            values: values.collect(),
            times: times.clone(),
            ..Columns::default()
        };
        (labels, columns)
    });
    series.collect()
}

fn write(disk: &Arc<dyn Disk>, id: u64, data: &[(Labels, Columns)]) {
    let mut writer =
        BlockWriter::create(disk, Path::new("/"), NewBlock::cut(BlockId(id), None, 1)).expect("a fresh disk");
    for (labels, columns) in data {
        writer.push(labels, columns).expect("a disk without faults");
    }
    writer.finish().expect("a disk without faults");
}

fn blocks(criterion: &mut Criterion) {
    for (operation, samples) in [("480", 480), ("5760", 5_760)] {
        for shape in SHAPES {
            let data = data(shape, samples);
            let disk: Arc<dyn Disk> = Arc::new(SimDisk::seeded(1));
            let mut group = criterion.benchmark_group("tsdb/block_write");
            group.throughput(Throughput::Elements((SERIES * samples) as u64));
            group.sample_size(10);
            let mut id = 1;
            group.bench_function(BenchmarkId::new(shape.0, operation), |bencher| {
                bencher.iter(|| {
                    id += 1;
                    write(&disk, id, &data);
                    disk.remove_file(&Path::new("/").join(BlockId(id).file_name()))
                        .expect("it was just written");
                });
            });
            group.finish();
            write(&disk, 1, &data);
            let path = Path::new("/").join(BlockId(1).file_name());
            let block = Block::open(&*disk, &path, Arc::new(BlockCache::new())).expect("it was just written");
            let mut group = criterion.benchmark_group("tsdb/block_read");
            group.throughput(Throughput::Elements((SERIES * samples) as u64));
            group.sample_size(20);
            let mut columns = Columns::default();
            group.bench_function(BenchmarkId::new(shape.0, operation), |bencher| {
                bencher.iter(|| {
                    for series in block.select(&[], TimeRange::ALL).expect("a whole block") {
                        series.columns(TimeRange::ALL, &mut columns).expect("a whole block");
                    }
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
