//! The push formats of the load run: one request's samples, encoded as each protocol's own senders do.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use super::{field, varint};

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Remote write 1.0, snappy.
    V1,
    /// Remote write 2.0, snappy.
    V2,
    /// OTLP protobuf, gzip; points of one name share a metric, as SDKs and collectors group them.
    Otlp,
    /// InfluxDB's line protocol, gzip, one field a line.
    Influx,
}

/// One sample of a series whose labels are sorted pairs.
pub(super) struct Point<'a> {
    pub(super) labels: &'a [(String, String)],
    pub(super) value: f64,
    pub(super) at: i64,
}

impl Protocol {
    pub(super) fn of(word: &str) -> Protocol {
        match word {
            "v1" => Protocol::V1,
            "v2" => Protocol::V2,
            "otlp" => Protocol::Otlp,
            "influx" => Protocol::Influx,
            other => panic!("unknown protocol {other}: v1, v2, otlp, influx"),
        }
    }

    /// Returns path and headers of a request.
    pub(super) fn head(self) -> (&'static str, &'static str) {
        match self {
            Protocol::V1 => (
                "/api/v1/write",
                "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0",
            ),
            Protocol::V2 => (
                "/api/v1/write",
                "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\nContent-Encoding: snappy\r\n\
                 X-Prometheus-Remote-Write-Version: 2.0.0",
            ),
            Protocol::Otlp => (
                "/v1/metrics",
                "Content-Type: application/x-protobuf\r\nContent-Encoding: gzip",
            ),
            Protocol::Influx => ("/write", "Content-Type: text/plain\r\nContent-Encoding: gzip"),
        }
    }

    /// Returns the body that carries `points`, compressed.
    pub(super) fn encode(self, points: &[Point]) -> Vec<u8> {
        let snappy = |plain: Vec<u8>| {
            let mut encoder = snap::raw::Encoder::new();
            encoder.compress_vec(&plain).expect("snappy takes any bytes")
        };
        let gzip = |plain: Vec<u8>| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&plain).expect("memory suffices");
            encoder.finish().expect("memory suffices")
        };
        match self {
            Protocol::V1 => snappy(v1(points)),
            Protocol::V2 => snappy(v2(points)),
            Protocol::Otlp => gzip(otlp(points)),
            Protocol::Influx => gzip(influx(points)),
        }
    }
}

fn sample(point: &Point) -> Vec<u8> {
    let mut sample = vec![0x09];
    sample.extend_from_slice(&point.value.to_le_bytes());
    sample.push(0x10);
    varint(&mut sample, point.at as u64);
    sample
}

fn pair(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, 1, name.as_bytes());
    field(&mut out, 2, value);
    out
}

fn v1(points: &[Point]) -> Vec<u8> {
    let mut message = Vec::with_capacity(points.len() * 256);
    let mut series = Vec::new();
    for point in points {
        series.clear();
        for (name, value) in point.labels {
            field(&mut series, 1, &pair(name, value.as_bytes()));
        }
        field(&mut series, 2, &sample(point));
        field(&mut message, 1, &series);
    }
    message
}

fn v2(points: &[Point]) -> Vec<u8> {
    let mut symbols: Vec<&str> = vec![""];
    let mut known: HashMap<&str, u64> = HashMap::from([("", 0)]);
    let mut all = Vec::with_capacity(points.len() * 64);
    for point in points {
        let mut refs = Vec::new();
        for text in point.labels.iter().flat_map(|(name, value)| [name.as_str(), value]) {
            let reference = *known.entry(text).or_insert_with(|| {
                symbols.push(text);
                symbols.len() as u64 - 1
            });
            varint(&mut refs, reference);
        }
        let mut series = Vec::new();
        field(&mut series, 1, &refs);
        field(&mut series, 2, &sample(point));
        field(&mut all, 5, &series);
    }
    let mut message = Vec::with_capacity(all.len());
    symbols
        .iter()
        .for_each(|symbol| field(&mut message, 4, symbol.as_bytes()));
    message.extend_from_slice(&all);
    message
}

fn otlp(points: &[Point]) -> Vec<u8> {
    let mut metrics: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for point in points {
        let mut number = vec![0x19];
        number.extend_from_slice(&(point.at as u64 * 1_000_000).to_le_bytes());
        number.push(0x21);
        number.extend_from_slice(&point.value.to_le_bytes());
        let mut metric = "";
        for (name, value) in point.labels {
            if name == "__name__" {
                metric = value;
                continue;
            }
            let mut text = Vec::new();
            field(&mut text, 1, value.as_bytes());
            field(&mut number, 7, &pair(name, &text));
        }
        field(metrics.entry(metric).or_default(), 1, &number);
    }
    let mut scope = Vec::new();
    for (name, points) in metrics {
        let mut metric = Vec::new();
        field(&mut metric, 1, name.as_bytes());
        field(&mut metric, 5, &points);
        field(&mut scope, 2, &metric);
    }
    let (mut resource, mut message) = (Vec::new(), Vec::new());
    field(&mut resource, 2, &scope);
    field(&mut message, 1, &resource);
    message
}

fn influx(points: &[Point]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(points.len() * 200);
    for point in points {
        let (mut metric, mut tags) = ("", String::new());
        for (name, value) in point.labels {
            match name.as_str() {
                "__name__" => metric = value,
                name => tags += &format!(",{name}={value}"),
            }
        }
        writeln!(lines, "{metric}{tags} value={} {}000000", point.value, point.at).expect("memory suffices");
    }
    lines
}
