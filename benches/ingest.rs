//! What decoding a push costs, per sample: `cargo bench --bench ingest`.
//!
//! Bodies have 5,000 samples of series with ten labels, as an agent sends them; "decode" includes the keys' hashes.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use campanile::ingest::remote_write::{decode_v1, encode_v1};
use campanile::ingest::text::{self, TextFormat};
use campanile::ingest::{Encoding, IngestLimits, decompress, influx, json_lines};
use campanile::model::{Labels, Millis, OwnedSeries, Sample};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SAMPLES: usize = 5000;
const START: i64 = 1_700_000_000_000;

fn series(samples_each: usize) -> Vec<OwnedSeries> {
    let labels = |i: usize| {
        let mut pairs = vec![("__name__".to_owned(), format!("devops_metric_{}", i % 100))];
        pairs.extend((0..8).map(|n| (format!("label_name_{n}"), format!("value-{}-{n}", i % 50))));
        pairs.push(("instance".to_owned(), format!("host-{i}.example.com:9100")));
        Labels::from_pairs(pairs)
    };
    let samples = |i: usize| {
        let one = |s: usize| Sample {
            at: Millis(START + s as i64 * 15_000),
            value: (i * 7 + s) as f64 * 0.25,
        };
        (0..samples_each).map(one).collect()
    };
    (0..SAMPLES / samples_each)
        .map(|i| OwnedSeries {
            labels: labels(i),
            samples: samples(i),
        })
        .collect()
}

fn remote_write(criterion: &mut Criterion) {
    let limits = IngestLimits::default();
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    for samples_each in [1, 4] {
        let plain = Bytes::from(encode_v1(&series(samples_each), &[]));
        let packed = snap::raw::Encoder::new().compress_vec(&plain).expect("memory suffices");
        let packed = Bytes::from(packed);
        group.bench_function(format!("snappy/{samples_each}_per_series"), |bencher| {
            bencher.iter(|| decompress(Encoding::Snappy, black_box(packed.clone()), 32 << 20));
        });
        group.bench_function(format!("decode_v1/{samples_each}_per_series"), |bencher| {
            bencher.iter(|| decode_v1(black_box(plain.clone()), 7, &limits).map(|decoded| decoded.batch.samples.len()));
        });
        group.bench_function(format!("labels_v1/{samples_each}_per_series"), |bencher| {
            let batch = decode_v1(plain.clone(), 7, &limits).expect("the body is ours").batch;
            bencher.iter(|| {
                (0..batch.series.len())
                    .filter(|index| batch.labels.labels(*index).is_ok())
                    .count()
            });
        });
    }
    group.finish();
}

fn lines(criterion: &mut Criterion) {
    let (limits, none) = (IngestLimits::default(), Labels::empty());
    let (mut page, mut json, mut influx_lines) = (String::new(), String::new(), String::new());
    for one in series(1) {
        let Sample { at, value } = one.samples[0];
        page += &format!("{} {value} {}\n", one.labels, at.0);
        let metric = serde_json::to_string(&one.labels).expect("labels are text");
        json += &format!(
            "{{\"metric\":{metric},\"values\":[{value}],\"timestamps\":[{}]}}\n",
            at.0
        );
        let tags: Vec<String> = one
            .labels
            .iter()
            .skip(1)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        influx_lines += &format!("devops,{} value={value} {}000000\n", tags.join(","), at.0);
    }
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("prometheus_text/1_per_series", |bencher| {
        let read = || text::decode(page.as_bytes(), TextFormat::Prometheus, &none, Millis(0), 7, &limits);
        bencher.iter(|| read().map(|decoded| decoded.batch.samples.len()));
    });
    group.bench_function("json_lines/1_per_series", |bencher| {
        let read = || json_lines::decode(json.as_bytes(), &none, 7, &limits);
        bencher.iter(|| read().map(|decoded| decoded.batch.samples.len()));
    });
    group.bench_function("influx/1_per_series", |bencher| {
        let reading = influx::Reading {
            precision: influx::Precision::Finer(1_000_000),
            extra: none.clone(),
            now: Millis(0),
        };
        let read = || influx::decode(influx_lines.as_bytes(), &reading, &AtomicU64::new(0), 7, &limits);
        bencher.iter(|| read().map(|decoded| decoded.batch.samples.len()));
    });
    group.finish();
}

criterion_group!(benches, remote_write, lines);
criterion_main!(benches);
