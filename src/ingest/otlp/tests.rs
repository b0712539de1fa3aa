//! What each kind of metric becomes, and what hostile bytes do not.

use proptest::prelude::*;

use super::proto::*;
use super::*;

const T: u64 = 1_700_000_000_000_000_000;

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            string_value: Some(value.to_owned()),
            ..AnyValue::default()
        }),
    }
}

fn request(metrics: Vec<Metric>) -> Request {
    let attributes = vec![
        attribute("service.name", "shop"),
        attribute("service.namespace", "web"),
        attribute("service.instance.id", "i-1"),
        attribute("host.name", "db 1"),
    ];
    Request {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(Scope {
                    name: "lib".to_owned(),
                    version: "1".to_owned(),
                    attributes: vec![],
                }),
                metrics,
                schema_url: String::new(),
            }],
        }],
    }
}

fn number(at: u64, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: at,
        as_double: Some(value),
        attributes: vec![attribute("http.method", "GET"), attribute("http_method", "x")],
        ..NumberDataPoint::default()
    }
}

fn sum(name: &str, temporality: u64, points: Vec<NumberDataPoint>) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: "By".to_owned(),
        sum: Some(Sum {
            data_points: points,
            aggregation_temporality: temporality as i32,
            is_monotonic: true,
        }),
        ..Metric::default()
    }
}

fn decode(otlp: &Otlp, request: &Request) -> Decoded {
    let body = Bytes::from(request.encode_to_vec());
    otlp.decode(body, Millis(1), 7, &IngestLimits::default()).unwrap()
}

fn shown(decoded: &Decoded) -> Vec<String> {
    let batch = &decoded.batch;
    let line = |(index, series): (usize, &crate::model::BatchSeries)| {
        let samples = &batch.samples[series.samples.start as usize..series.samples.end as usize];
        let values: Vec<String> = samples.iter().map(|sample| sample.value.to_string()).collect();
        format!("{} {}", batch.labels.labels(index).unwrap(), values.join(" "))
    };
    batch.series.iter().enumerate().map(line).collect()
}

const WHO: &str = r#"instance="i-1", job="web/shop""#;

#[test]
fn a_sum_becomes_a_counter_and_its_resource_target_info() {
    let decoded = decode(
        &Otlp::new(OtlpConfig::default()),
        &request(vec![sum("net.io", CUMULATIVE, vec![number(T, 5.0)])]),
    );
    assert_eq!(
        shown(&decoded),
        [
            format!(r#"net_io_bytes_total{{http_method="GET;x", {WHO}}} 5"#),
            format!(r#"target_info{{host_name="db 1", {WHO}}} 1"#),
        ]
    );
    assert_eq!(decoded.batch.metadata[0].metric, "net_io_bytes_total");
    assert_eq!(decoded.batch.samples[0].at, Millis(1_700_000_000_000));
}

#[test]
fn names_and_attributes_follow_the_configuration() {
    let config: OtlpConfig = serde_yaml::from_str(
        "{translation_strategy: NoTranslation, promote_resource_attributes: [host.name], promote_scope_metadata: true}",
    )
    .unwrap();
    let decoded = decode(
        &Otlp::new(config),
        &request(vec![sum("net.io", CUMULATIVE, vec![number(T, 5.0)])]),
    );
    assert_eq!(
        shown(&decoded)[0],
        format!(
            r#"{{"net.io", "host.name"="db 1", "http.method"="GET", http_method="x", {WHO}, otel_scope_name="lib", otel_scope_version="1"}} 5"#
        )
    );
}

#[test]
fn deltas_become_a_running_total_that_a_retry_does_not_change() {
    let otlp = Otlp::new(OtlpConfig::default());
    let send = |at: u64, value: f64| {
        shown(&decode(&otlp, &request(vec![sum("n", DELTA, vec![number(at, value)])])))[0].clone()
    };
    assert!(send(T, 5.0).ends_with("} 5"));
    assert!(send(T + 10_000_000, 2.0).ends_with("} 7"));
    assert!(send(T + 10_000_000, 2.0).ends_with("} 7"));
    let late = decode(&otlp, &request(vec![sum("n", DELTA, vec![number(T, 1.0)])]));
    assert!(late.rejections.total == 1 && late.rejections.first[0].reason.to_string().contains("in order"));
}

#[test]
fn a_histogram_becomes_buckets_sum_and_count_with_its_exemplars() {
    let point = HistogramDataPoint {
        time_unix_nano: T,
        count: 6,
        sum: Some(9.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 10.0],
        exemplars: vec![Exemplar {
            time_unix_nano: T,
            as_double: Some(4.0),
            trace_id: vec![0xab; 16],
            ..Exemplar::default()
        }],
        ..HistogramDataPoint::default()
    };
    let mut bad = point.clone();
    bad.bucket_counts.pop();
    let metric = Metric {
        name: "latency".to_owned(),
        unit: "s".to_owned(),
        histogram: Some(Histogram {
            data_points: vec![point, bad],
            aggregation_temporality: CUMULATIVE as i32,
        }),
        ..Metric::default()
    };
    let decoded = decode(&Otlp::new(OtlpConfig::default()), &request(vec![metric]));
    let bucket = |le: &str, value: &str| format!(r#"latency_seconds_bucket{{{WHO}, le="{le}"}} {value}"#);
    assert_eq!(
        shown(&decoded)[..5],
        [
            bucket("0.5", "1"),
            bucket("10", "3"),
            bucket("+Inf", "6"),
            format!("latency_seconds_sum{{{WHO}}} 9.5"),
            format!("latency_seconds_count{{{WHO}}} 6"),
        ]
    );
    assert_eq!(decoded.batch.series[1].exemplars, 0..1);
    assert_eq!(decoded.batch.exemplars[0].labels.value("trace_id").len(), 32);
    assert!(
        decoded.rejections.first[0]
            .reason
            .to_string()
            .contains("2 buckets and 2 bounds")
    );
}

#[test]
fn an_exponential_histogram_becomes_a_native_one() {
    let point = |scale: i32| ExponentialHistogramDataPoint {
        time_unix_nano: T,
        count: 10,
        sum: Some(3.0),
        scale,
        zero_count: 1,
        positive: Some(Buckets {
            offset: -2,
            bucket_counts: vec![1, 2, 3, 3],
        }),
        ..ExponentialHistogramDataPoint::default()
    };
    let metric = |scale| Metric {
        name: "latency".to_owned(),
        exponential_histogram: Some(ExponentialHistogram {
            data_points: vec![point(scale)],
            aggregation_temporality: CUMULATIVE as i32,
        }),
        ..Metric::default()
    };
    let otlp = Otlp::new(OtlpConfig::default());
    let decoded = decode(&otlp, &request(vec![metric(3)]));
    let histogram = &decoded.batch.histograms[0].histogram;
    assert_eq!((histogram.schema, histogram.positive_spans[0].offset), (3, -1));
    assert_eq!(histogram.positive_buckets, [1.0, 2.0, 3.0, 3.0]);
    let folded = decode(&otlp, &request(vec![metric(9)]));
    let histogram = &folded.batch.histograms[0].histogram;
    assert_eq!((histogram.schema, histogram.positive_spans[0].offset), (8, 0));
    assert_eq!(histogram.positive_buckets, [3.0, 6.0]);
    let coarse = decode(&otlp, &request(vec![metric(-5)]));
    assert!(coarse.rejections.first[0].reason.to_string().contains("scale -5"));
}

#[test]
fn json_means_the_same_as_protobuf() {
    let json = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}},
        {"key":"n","value":{"arrayValue":{"values":[{"intValue":"1"},{"boolValue":true}]}}}]},"scopeMetrics":[{"scope":{},"metrics":[
        {"name":"s","summary":{"dataPoints":[{"timeUnixNano":1700000000000000000,"count":"2","sum":3,"unknownField":1,
        "quantileValues":[{"quantile":0.5,"value":"NaN"}]}]}},
        {"name":"ended","gauge":{"dataPoints":[{"timeUnixNano":"1700000000000000000","flags":1}]}}]}]}]}"#;
    let otlp = Otlp::new(OtlpConfig::default());
    let decoded = otlp
        .decode_json(json.as_bytes(), Millis(1), 7, &IngestLimits::default())
        .unwrap();
    assert_eq!(
        shown(&decoded),
        [
            r#"s_sum{job="a"} 3"#,
            r#"s_count{job="a"} 2"#,
            r#"s{job="a", quantile="0.5"} NaN"#,
            r#"ended{job="a"} NaN"#,
            r#"target_info{job="a", n="[1,true]"} 1"#,
        ]
    );
    assert!(crate::model::is_stale(decoded.batch.samples[3].value));
}

#[test]
fn attributes_that_do_not_stand_together_are_the_same_series() {
    let mut point = number(T, 1.0);
    point.attributes.truncate(1);
    let whole = decode(
        &Otlp::new(OtlpConfig::default()),
        &request(vec![sum("a", CUMULATIVE, vec![point.clone()])]),
    );
    // The second attribute comes behind the flags.
    let mut bytes = point.encode_to_vec();
    bytes.extend([0x40, 0]);
    let late = attribute("b", "c").encode_to_vec();
    bytes.extend([0x3a, late.len() as u8]);
    bytes.extend(&late);
    let wrap = |tag: u8, inner: &[u8]| {
        let mut out = vec![tag];
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend(inner);
        out
    };
    let sum = [wrap(0x0a, &bytes), vec![0x10, 2]].concat();
    let metric = [wrap(0x0a, b"a"), wrap(0x3a, &sum)].concat();
    let body = wrap(0x0a, &wrap(0x12, &wrap(0x12, &metric)));
    let otlp = Otlp::new(OtlpConfig::default());
    let decoded = otlp
        .decode(body.into(), Millis(1), 7, &IngestLimits::default())
        .unwrap();
    assert_eq!(shown(&decoded)[0], r#"a{b="c", http_method="GET"} 1"#);
    assert_ne!(decoded.batch.series[0].key, whole.batch.series[0].key);
}

fn everything() -> Request {
    let histogram = Metric {
        name: "h".to_owned(),
        histogram: Some(Histogram {
            data_points: vec![HistogramDataPoint {
                time_unix_nano: T,
                count: 3,
                bucket_counts: vec![1, 2],
                explicit_bounds: vec![1.0],
                ..HistogramDataPoint::default()
            }],
            aggregation_temporality: DELTA as i32,
        }),
        ..Metric::default()
    };
    request(vec![
        sum("a.b", CUMULATIVE, vec![number(T, 1.0), number(T + 1_000_000, 2.0)]),
        histogram,
    ])
}

proptest! {
    #[test]
    fn every_point_comes_back(values in proptest::collection::vec(any::<f64>(), 1..20)) {
        let points = values.iter().enumerate().map(|(i, value)| number(T + i as u64 * 1_000_000, *value)).collect();
        let decoded = decode(&Otlp::new(OtlpConfig::default()), &request(vec![sum("a", CUMULATIVE, points)]));
        let read = decoded.batch.samples.iter().map(|sample| sample.value.to_bits());
        prop_assert_eq!(read.take(values.len()).collect::<Vec<_>>(), values.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    }

    #[test]
    fn cut_and_garbled_bodies_never_panic(cut in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut body = everything().encode_to_vec();
        let at = flip.index(body.len());
        body[at] ^= 1 << bit;
        body.truncate(cut.index(body.len() + 1));
        let otlp = Otlp::new(OtlpConfig::default());
        if let Ok(decoded) = otlp.decode(body.into(), Millis(1), 7, &IngestLimits::default()) {
            for index in 0..decoded.batch.series.len() {
                let _ = decoded.batch.labels.labels(index);
            }
        }
    }

    #[test]
    fn foreign_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let otlp = Otlp::new(OtlpConfig::default());
        let _ = otlp.decode_json(&body, Millis(1), 7, &IngestLimits::default());
        let _ = otlp.decode(body.into(), Millis(1), 7, &IngestLimits::default());
    }
}

#[test]
fn a_body_cut_in_the_middle_of_a_message_is_refused() {
    let body = everything().encode_to_vec();
    let otlp = Otlp::new(OtlpConfig::default());
    for cut in 1..body.len() {
        let cut = Bytes::copy_from_slice(&body[..cut]);
        assert!(otlp.decode(cut, Millis(1), 7, &IngestLimits::default()).is_err());
    }
}
