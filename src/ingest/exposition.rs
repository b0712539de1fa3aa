//! Prometheus's protobuf exposition (`io.prometheus.client.MetricFamily`, length-delimited), and families of metrics as both
//! it and the text format tell them: what a Pushgateway's client pushes and what a scrape with native histograms fetches.

use std::sync::Arc;

use prost::Message;

use super::DecodeError;
use super::text::{self, TextFormat, TextLine};
use crate::model::{
    CounterResetHint, Exemplar, FloatHistogram, Labels, METRIC_NAME, MetricKind, Millis, Span, format_plain,
};

/// The media type of the protobuf form.
pub const PROTOBUF_TYPE: &str = "application/vnd.google.protobuf";

/// Whether a `Content-Type` names the protobuf form.
pub fn is_protobuf(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|value| value.trim_start().starts_with(PROTOBUF_TYPE))
}

/// The metrics of one name, with their kind and help.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The name, without `_bucket` and the like.
    pub name: String,
    /// What kind.
    pub kind: MetricKind,
    /// What it says, for people.
    pub help: String,
    /// Its unit.
    pub unit: String,
    /// Its samples.
    pub points: Vec<Point>,
}

/// One sample of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Names and values, metric name included.
    pub labels: Vec<(String, String)>,
    /// A number or a native histogram.
    pub value: Value,
    /// The sample's own time.
    pub at: Option<Millis>,
    /// The exemplar behind it.
    pub exemplar: Option<Exemplar>,
}

/// What a point says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

macro_rules! messages {
    ($($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct $name { $($(#[$meta])* pub(super) $field: $type,)* }
    )*};
}

messages! {
    WireFamily {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        help: String,
        #[prost(int32, tag = "3")]
        kind: i32,
        #[prost(message, repeated, tag = "4")]
        metrics: Vec<WireMetric>,
        #[prost(string, tag = "5")]
        unit: String,
    }
    WireMetric {
        #[prost(message, repeated, tag = "1")]
        labels: Vec<WireLabel>,
        #[prost(message, optional, tag = "2")]
        gauge: Option<Number>,
        #[prost(message, optional, tag = "3")]
        counter: Option<Number>,
        #[prost(message, optional, tag = "4")]
        summary: Option<WireSummary>,
        #[prost(message, optional, tag = "5")]
        untyped: Option<Number>,
        #[prost(int64, optional, tag = "6")]
        timestamp_ms: Option<i64>,
        #[prost(message, optional, tag = "7")]
        histogram: Option<WireHistogram>,
    }
    WireLabel {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        value: String,
    }
    Number {
        #[prost(double, tag = "1")]
        value: f64,
        #[prost(message, optional, tag = "2")]
        exemplar: Option<WireExemplar>,
    }
    WireSummary {
        #[prost(uint64, tag = "1")]
        sample_count: u64,
        #[prost(double, tag = "2")]
        sample_sum: f64,
        #[prost(message, repeated, tag = "3")]
        quantiles: Vec<Quantile>,
    }
    Quantile {
        #[prost(double, tag = "1")]
        quantile: f64,
        #[prost(double, tag = "2")]
        value: f64,
    }
    WireHistogram {
        #[prost(uint64, tag = "1")]
        sample_count: u64,
        #[prost(double, tag = "2")]
        sample_sum: f64,
        #[prost(message, repeated, tag = "3")]
        buckets: Vec<WireBucket>,
        #[prost(double, tag = "4")]
        sample_count_float: f64,
        #[prost(sint32, tag = "5")]
        schema: i32,
        #[prost(double, tag = "6")]
        zero_threshold: f64,
        #[prost(uint64, tag = "7")]
        zero_count: u64,
        #[prost(double, tag = "8")]
        zero_count_float: f64,
        #[prost(message, repeated, tag = "9")]
        negative_spans: Vec<WireSpan>,
        #[prost(sint64, repeated, tag = "10")]
        negative_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "11")]
        negative_counts: Vec<f64>,
        #[prost(message, repeated, tag = "12")]
        positive_spans: Vec<WireSpan>,
        #[prost(sint64, repeated, tag = "13")]
        positive_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "14")]
        positive_counts: Vec<f64>,
        #[prost(message, repeated, tag = "16")]
        exemplars: Vec<WireExemplar>,
    }
    WireBucket {
        #[prost(uint64, tag = "1")]
        cumulative_count: u64,
        #[prost(double, tag = "2")]
        upper_bound: f64,
        #[prost(message, optional, tag = "3")]
        exemplar: Option<WireExemplar>,
        #[prost(double, tag = "4")]
        cumulative_count_float: f64,
    }
    WireSpan {
        #[prost(sint32, tag = "1")]
        offset: i32,
        #[prost(uint32, tag = "2")]
        length: u32,
    }
    WireExemplar {
        #[prost(message, repeated, tag = "1")]
        labels: Vec<WireLabel>,
        #[prost(double, tag = "2")]
        value: f64,
        #[prost(message, optional, tag = "3")]
        timestamp: Option<Timestamp>,
    }
    Timestamp {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }
}

/// Decodes the length-delimited protobuf form. A histogram with native buckets becomes a native one; `classic` keeps its
/// classic buckets too.
///
/// # Errors
/// [`DecodeError::Malformed`] says which family cannot be read.
pub fn decode_protobuf(body: &[u8], classic: bool) -> Result<Vec<Family>, DecodeError> {
    let mut rest = body;
    let mut families = Vec::new();
    while !rest.is_empty() {
        let at = body.len() - rest.len();
        let wire = WireFamily::decode_length_delimited(&mut rest).map_err(|error| {
            DecodeError::Malformed(format!(
                "malformed metric family {} at byte {at}: {error}",
                families.len() + 1
            ))
        })?;
        families.push(family(wire, classic)?);
    }
    Ok(families)
}

fn family(wire: WireFamily, classic: bool) -> Result<Family, DecodeError> {
    let kind = match wire.kind {
        0 => MetricKind::Counter,
        1 => MetricKind::Gauge,
        2 => MetricKind::Summary,
        4 => MetricKind::Histogram,
        5 => MetricKind::GaugeHistogram,
        _ => MetricKind::Unknown,
    };
    let mut points = Vec::new();
    for metric in wire.metrics {
        let mut spread = Spread {
            name: &wire.name,
            labels: metric.labels,
            at: metric.timestamp_ms.filter(|at| *at != 0).map(Millis),
            points: &mut points,
        };
        for number in [metric.gauge, metric.counter, metric.untyped].into_iter().flatten() {
            spread.number("", None, number.value, number.exemplar);
        }
        if let Some(summary) = metric.summary {
            spread.summary(&summary);
        }
        if let Some(histogram) = metric.histogram {
            let name = &wire.name;
            spread
                .histogram(histogram, kind, classic)
                .map_err(|error| DecodeError::Malformed(format!("malformed histogram {name:?}: {error}")))?;
        }
    }
    Ok(Family {
        name: wire.name,
        kind,
        help: wire.help,
        unit: wire.unit,
        points,
    })
}

/// One metric on its way to points.
struct Spread<'a> {
    name: &'a str,
    labels: Vec<WireLabel>,
    at: Option<Millis>,
    points: &'a mut Vec<Point>,
}

impl Spread<'_> {
    fn labels(&self, suffix: &str, extra: Option<(&str, String)>) -> Vec<(String, String)> {
        let mut labels = vec![(METRIC_NAME.to_owned(), format!("{}{suffix}", self.name))];
        labels.extend(
            self.labels
                .iter()
                .map(|label| (label.name.clone(), label.value.clone())),
        );
        labels.extend(extra.map(|(name, value)| (name.to_owned(), value)));
        labels
    }

    fn number(&mut self, suffix: &str, extra: Option<(&str, String)>, value: f64, traced: Option<WireExemplar>) {
        self.points.push(Point {
            labels: self.labels(suffix, extra),
            value: Value::Float(value),
            at: self.at,
            exemplar: traced.map(exemplar),
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "samples are doubles")]
    fn summary(&mut self, summary: &WireSummary) {
        for one in &summary.quantiles {
            self.number("", Some(("quantile", bound(one.quantile))), one.value, None);
        }
        self.number("_sum", None, summary.sample_sum, None);
        self.number("_count", None, summary.sample_count as f64, None);
    }

    #[expect(clippy::cast_precision_loss, reason = "samples are doubles")]
    fn histogram(&mut self, wire: WireHistogram, kind: MetricKind, classic: bool) -> Result<(), String> {
        let is_native = wire.zero_threshold > 0.0
            || wire.zero_count > 0
            || wire.zero_count_float > 0.0
            || !wire.positive_spans.is_empty()
            || !wire.negative_spans.is_empty();
        if !is_native || (classic && !wire.buckets.is_empty()) {
            let count = if wire.sample_count_float > 0.0 {
                wire.sample_count_float
            } else {
                wire.sample_count as f64
            };
            let mut has_infinity = false;
            for bucket in &wire.buckets {
                let float = bucket.cumulative_count_float;
                let many = if float > 0.0 {
                    float
                } else {
                    bucket.cumulative_count as f64
                };
                has_infinity |= bucket.upper_bound == f64::INFINITY;
                self.number(
                    "_bucket",
                    Some(("le", bound(bucket.upper_bound))),
                    many,
                    bucket.exemplar.clone(),
                );
            }
            if !has_infinity {
                self.number("_bucket", Some(("le", bound(f64::INFINITY))), count, None);
            }
            self.number("_sum", None, wire.sample_sum, None);
            self.number("_count", None, count, None);
        }
        if is_native {
            let exemplar = wire.exemplars.last().cloned().map(exemplar);
            let histogram = native(wire, kind)?;
            self.points.push(Point {
                labels: self.labels("", None),
                value: Value::Histogram(Arc::new(histogram)),
                at: self.at,
                exemplar,
            });
        }
        Ok(())
    }
}

fn bound(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        value => format_plain(value),
    }
}

fn exemplar(wire: WireExemplar) -> Exemplar {
    let at = wire.timestamp.map_or(Millis(0), |time| {
        Millis(
            time.seconds
                .saturating_mul(1000)
                .saturating_add(i64::from(time.nanos) / 1_000_000),
        )
    });
    Exemplar {
        labels: Labels::from_pairs(wire.labels.iter().map(|label| (&label.name, &label.value))),
        value: wire.value,
        at,
    }
}

/// Reads a native histogram, integer or float.
///
/// # Errors
/// The text says which rule it breaks.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 lose their last bits, as in Prometheus"
)]
pub(super) fn native(wire: WireHistogram, kind: MetricKind) -> Result<FloatHistogram, String> {
    let spans = |spans: &[WireSpan]| -> Vec<Span> {
        let ours = |span: &WireSpan| Span {
            offset: span.offset,
            length: span.length,
        };
        spans.iter().map(ours).collect()
    };
    let counts = |deltas: &[i64], counts: Vec<f64>| {
        if deltas.is_empty() {
            return Ok(counts);
        }
        let mut count = 0i64;
        let next = |delta: &i64| {
            count = count.checked_add(*delta)?;
            Some(count as f64)
        };
        let absolute: Option<Vec<f64>> = deltas.iter().map(next).collect();
        absolute.ok_or_else(|| "a bucket's count overflows 64 bits".to_owned())
    };
    let float = wire.sample_count_float > 0.0 || wire.zero_count_float > 0.0;
    let histogram = FloatHistogram {
        counter_reset_hint: match kind {
            MetricKind::GaugeHistogram => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        },
        schema: wire.schema,
        zero_threshold: wire.zero_threshold,
        zero_count: if float {
            wire.zero_count_float
        } else {
            wire.zero_count as f64
        },
        count: if float {
            wire.sample_count_float
        } else {
            wire.sample_count as f64
        },
        sum: wire.sample_sum,
        positive_spans: spans(&wire.positive_spans),
        negative_spans: spans(&wire.negative_spans),
        positive_buckets: counts(&wire.positive_deltas, wire.positive_counts)?,
        negative_buckets: counts(&wire.negative_deltas, wire.negative_counts)?,
        custom_values: Vec::new(),
    };
    histogram.validate().map_err(|error| error.to_string())?;
    Ok(histogram)
}

/// The reverse of [`native`]: as a float histogram.
pub(super) fn wire_histogram(histogram: &FloatHistogram) -> WireHistogram {
    let spans = |spans: &[Span]| -> Vec<WireSpan> {
        let wire = |span: &Span| WireSpan {
            offset: span.offset,
            length: span.length,
        };
        spans.iter().map(wire).collect()
    };
    WireHistogram {
        sample_count_float: histogram.count,
        sample_sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count_float: histogram.zero_count,
        positive_spans: spans(&histogram.positive_spans),
        negative_spans: spans(&histogram.negative_spans),
        positive_counts: histogram.positive_buckets.clone(),
        negative_counts: histogram.negative_buckets.clone(),
        ..WireHistogram::default()
    }
}

/// Reads the text format into families.
///
/// # Errors
/// [`DecodeError::Malformed`] names the first line that cannot be read.
pub fn decode_text(body: &[u8], format: TextFormat) -> Result<Vec<Family>, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        DecodeError::Malformed(format!("malformed text: not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let mut families = Families::default();
    for line in text::lines(text, format) {
        match line.map_err(|error| DecodeError::Malformed(format!("malformed text: {error}")))? {
            TextLine::Help(name, help) => families.named(&name).help = help,
            TextLine::Kind(name, kind) => families.named(&name).kind = kind,
            TextLine::Unit(name, unit) => families.named(&name).unit = unit,
            TextLine::Sample(sample) => families.add(Point {
                labels: sample.labels,
                value: Value::Float(sample.value),
                at: sample.at,
                exemplar: sample.exemplar,
            }),
        }
    }
    Ok(families.found)
}

#[derive(Default)]
struct Families {
    found: Vec<Family>,
    by_name: std::collections::HashMap<String, usize>,
}

impl Families {
    fn named(&mut self, name: &str) -> &mut Family {
        let index = *self.by_name.entry(name.to_owned()).or_insert_with(|| {
            self.found.push(Family {
                name: name.to_owned(),
                kind: MetricKind::Unknown,
                help: String::new(),
                unit: String::new(),
                points: Vec::new(),
            });
            self.found.len() - 1
        });
        &mut self.found[index]
    }

    /// A sample belongs to the family whose kind explains its suffix.
    fn add(&mut self, point: Point) {
        let name = point.labels.iter().find(|(name, _)| name == METRIC_NAME);
        let name = name.map_or(String::new(), |(_, value)| value.clone());
        let of_suffix = |suffix: &str, kinds: &[MetricKind]| {
            let stem = name.strip_suffix(suffix)?;
            let family = &self.found[*self.by_name.get(stem)?];
            kinds.contains(&family.kind).then(|| stem.to_owned())
        };
        use MetricKind::{Counter, GaugeHistogram, Histogram, Info, Summary};
        let stem = of_suffix("_bucket", &[Histogram, GaugeHistogram])
            .or_else(|| of_suffix("_sum", &[Histogram, Summary]))
            .or_else(|| of_suffix("_count", &[Histogram, Summary]))
            .or_else(|| of_suffix("_created", &[Histogram, Summary, Counter]))
            .or_else(|| of_suffix("_gsum", &[GaugeHistogram]))
            .or_else(|| of_suffix("_gcount", &[GaugeHistogram]))
            .or_else(|| of_suffix("_total", &[Counter]))
            .or_else(|| of_suffix("_info", &[Info]));
        self.named(&stem.unwrap_or(name)).points.push(point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire() -> Vec<u8> {
        let label = WireLabel {
            name: "path".to_owned(),
            value: "/".to_owned(),
        };
        let counter = WireFamily {
            name: "requests_total".to_owned(),
            help: "All.".to_owned(),
            metrics: vec![WireMetric {
                labels: vec![label.clone()],
                counter: Some(Number {
                    value: 3.0,
                    exemplar: None,
                }),
                ..WireMetric::default()
            }],
            ..WireFamily::default()
        };
        let histogram = WireFamily {
            name: "latency".to_owned(),
            kind: 4,
            metrics: vec![WireMetric {
                histogram: Some(WireHistogram {
                    sample_count: 3,
                    sample_sum: 1.5,
                    schema: 3,
                    zero_threshold: 0.001,
                    positive_spans: vec![WireSpan { offset: 1, length: 2 }],
                    positive_deltas: vec![1, 1],
                    buckets: vec![WireBucket {
                        cumulative_count: 1,
                        upper_bound: 0.5,
                        ..WireBucket::default()
                    }],
                    ..WireHistogram::default()
                }),
                ..WireMetric::default()
            }],
            ..WireFamily::default()
        };
        let mut body = counter.encode_length_delimited_to_vec();
        body.extend(histogram.encode_length_delimited_to_vec());
        body
    }

    fn shown(families: &[Family]) -> Vec<String> {
        let points = families.iter().flat_map(|family| &family.points);
        let line = |point: &Point| {
            let labels = Labels::from_pairs(point.labels.clone());
            match &point.value {
                Value::Float(value) => format!("{labels} {value}"),
                Value::Histogram(histogram) => format!("{labels} {:?}", histogram.positive_buckets),
            }
        };
        points.map(line).collect()
    }

    #[test]
    fn protobuf_families_become_points_native_or_classic() {
        let native = decode_protobuf(&wire(), false).unwrap();
        assert_eq!(shown(&native), [r#"requests_total{path="/"} 3"#, "latency [1.0, 2.0]"]);
        let both = shown(&decode_protobuf(&wire(), true).unwrap());
        assert_eq!(
            both[1..3],
            [r#"latency_bucket{le="0.5"} 1"#, r#"latency_bucket{le="+Inf"} 3"#]
        );
        assert_eq!(both.len(), 6);
    }

    #[test]
    fn text_samples_belong_to_the_family_that_explains_them() {
        let text =
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n# TYPE c counter\nc_total 1\nh_total 5\n";
        let families = decode_text(text.as_bytes(), TextFormat::Prometheus).unwrap();
        let many: Vec<(&str, usize)> = families
            .iter()
            .map(|one| (one.name.as_str(), one.points.len()))
            .collect();
        assert_eq!(many, [("h", 3), ("c", 1), ("h_total", 1)]);
        let error = decode_text(b"a 1\nb\n", TextFormat::Prometheus).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn a_native_histogram_survives_its_wire_form() {
        let Value::Histogram(before) = decode_protobuf(&wire(), false).unwrap()[1].points[0].value.clone() else {
            panic!("a native histogram")
        };
        assert_eq!(native(wire_histogram(&before), MetricKind::Histogram).unwrap(), *before);
    }

    #[test]
    fn a_cut_body_is_refused() {
        let body = wire();
        let first = 1 + body[0] as usize;
        for cut in (1..body.len()).filter(|cut| *cut != first) {
            assert!(decode_protobuf(&body[..cut], true).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_protobuf(&body, true);
            let _ = decode_text(&body, TextFormat::OpenMetrics);
        }

        #[test]
        fn a_flipped_bit_never_panics(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut body = wire();
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
            let _ = decode_protobuf(&body, true);
        }
    }
}
