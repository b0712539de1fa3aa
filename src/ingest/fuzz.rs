//! What the fuzz targets in `fuzz/` call: each takes any bytes and must neither panic nor run away.
//!
//! `cargo test` replays their corpus, so that whatever was found once stays found.

use std::sync::atomic::AtomicU64;

use bytes::Bytes;

use super::influx::{Precision, Reading};
use super::otlp::{Otlp, OtlpConfig};
use super::statsd::Aggregator;
use super::text::TextFormat;
use super::{
    DecodeError, Decoded, Encoding, IngestLimits, StatsdConfig, datadog, decompress, exposition, graphite, influx,
    json_lines, remote_write, text,
};
use crate::model::{Labels, Millis};

const SEED: u64 = 1;
const DECODED_BYTES_MAX: usize = 1 << 20;

/// Takes any bytes and must neither panic nor hang.
type Target = fn(&[u8]);

/// All targets, under the names of their folders in `fuzz/corpus`.
pub static TARGETS: &[(&str, Target)] = &[
    ("datadog", datadog_series),
    ("decompress", decompress_any),
    ("exposition", exposition_families),
    ("graphite", graphite_lines),
    ("influx", influx_lines),
    ("json_lines", json),
    ("otlp", otlp_request),
    ("otlp_json", otlp_json),
    ("prometheus_text", prometheus_text),
    ("remote_write_1", remote_write_1),
    ("remote_write_2", remote_write_2),
    ("statsd", statsd_lines),
];

/// Every content encoding, bounded.
pub fn decompress_any(bytes: &[u8]) {
    let encodings = [Encoding::Snappy, Encoding::Zstd, Encoding::Gzip, Encoding::Deflate];
    for encoding in encodings {
        let decoded = decompress(encoding, Bytes::copy_from_slice(bytes), DECODED_BYTES_MAX);
        assert!(decoded.is_err() || decoded.is_ok_and(|decoded| decoded.len() <= DECODED_BYTES_MAX));
    }
}

/// Remote write 1.0, uncompressed.
pub fn remote_write_1(bytes: &[u8]) {
    let limits = IngestLimits::default();
    walk(remote_write::decode_v1(Bytes::copy_from_slice(bytes), SEED, &limits));
}

/// Remote write 2.0, uncompressed.
pub fn remote_write_2(bytes: &[u8]) {
    let limits = IngestLimits::default();
    walk(remote_write::decode_v2(Bytes::copy_from_slice(bytes), SEED, &limits));
}

/// The exposition format in both dialects.
pub fn prometheus_text(bytes: &[u8]) {
    let limits = IngestLimits::default();
    for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
        walk(text::decode(bytes, format, &Labels::empty(), Millis(0), SEED, &limits));
    }
}

/// Protobuf and text families, as they are pushed and scraped.
pub fn exposition_families(bytes: &[u8]) {
    let _ = exposition::decode_protobuf(bytes, true);
    let _ = exposition::decode_text(bytes, TextFormat::OpenMetrics);
}

/// OTLP, protobuf.
pub fn otlp_request(bytes: &[u8]) {
    let otlp = Otlp::new(OtlpConfig::default());
    let body = Bytes::copy_from_slice(bytes);
    walk(otlp.decode(body, Millis(1), SEED, &IngestLimits::default()));
}

/// OTLP, JSON.
pub fn otlp_json(bytes: &[u8]) {
    let otlp = Otlp::new(OtlpConfig::default());
    walk(otlp.decode_json(bytes, Millis(1), SEED, &IngestLimits::default()));
}

/// Graphite's lines.
pub fn graphite_lines(bytes: &[u8]) {
    walk(graphite::decode(bytes, &[], Millis(1), SEED, &IngestLimits::default()));
}

/// StatsD's lines, counted and flushed.
pub fn statsd_lines(bytes: &[u8]) {
    let config = StatsdConfig::on(([127, 0, 0, 1], 8125).into());
    let mut all = Aggregator::new(config);
    all.take(bytes, Millis(1));
    all.flush(Millis(2), SEED);
}

/// Datadog's series in all their forms.
pub fn datadog_series(bytes: &[u8]) {
    let limits = IngestLimits::default();
    walk(datadog::decode_v1(bytes, SEED, &limits));
    walk(datadog::decode_v2(bytes, true, SEED, &limits));
    walk(datadog::decode_v2(bytes, false, SEED, &limits));
}

/// JSON lines.
pub fn json(bytes: &[u8]) {
    walk(json_lines::decode(
        bytes,
        &Labels::empty(),
        SEED,
        &IngestLimits::default(),
    ));
}

/// InfluxDB's line protocol.
pub fn influx_lines(bytes: &[u8]) {
    let limits = IngestLimits::default();
    let reading = Reading {
        precision: Precision::Finer(1_000_000),
        extra: Labels::empty(),
        now: Millis(0),
    };
    walk(influx::decode(bytes, &reading, &AtomicU64::new(0), SEED, &limits));
}

/// Looks at everything that a store would look at.
fn walk(decoded: Result<Decoded, DecodeError>) {
    let Ok(Decoded { batch, .. }) = decoded else { return };
    for (index, series) in batch.series.iter().enumerate() {
        let _ = batch.labels.labels(index);
        let _ = &batch.samples[series.samples.start as usize..series.samples.end as usize];
        let _ = &batch.histograms[series.histograms.start as usize..series.histograms.end as usize];
        let _ = &batch.exemplars[series.exemplars.start as usize..series.exemplars.end as usize];
    }
    let starts = [batch.start_times.len(), batch.samples.len()];
    assert!(
        starts[0] == 0 || starts[0] == starts[1],
        "start times and samples: {starts:?}"
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::io::disk::{Disk, OsDisk};
    use crate::io::files;

    #[test]
    fn the_corpus_of_every_target_is_replayed() {
        for (target, run) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
            let entries = OsDisk.list(&folder).unwrap();
            assert!(!entries.is_empty(), "{target} has no corpus");
            for entry in entries {
                run(&files::read(&OsDisk, &folder.join(&entry.name)).unwrap());
            }
        }
    }
}
