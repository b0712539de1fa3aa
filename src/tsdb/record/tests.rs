//! What the codec of records promises.

use std::sync::Arc;

use super::*;
use crate::model::{CounterResetHint, FloatHistogram, Span};
use proptest::prelude::*;

fn labels() -> impl Strategy<Value = Labels> {
    proptest::collection::btree_map("[a-z_]{1,8}", ".{1,12}", 0..5).prop_map(Labels::from_pairs)
}

fn float() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits)
}

fn samples() -> impl Strategy<Value = Record> {
    let series = proptest::collection::vec(
        (any::<u32>(), proptest::collection::vec((any::<i64>(), float()), 0..4)),
        0..6,
    );
    (series, any::<bool>()).prop_map(|(series, with_starts)| {
        let mut record = SamplesRecord::default();
        for (id, samples) in series {
            record.series.push((id, samples.len() as u32));
            record.samples.extend(samples.iter().map(|(at, value)| Sample {
                at: Millis(*at),
                value: *value,
            }));
        }
        if with_starts {
            record.starts = record.samples.iter().map(|sample| Millis(sample.at.0 / 3)).collect();
        }
        Record::Samples(record)
    })
}

fn histogram() -> impl Strategy<Value = FloatHistogram> {
    let spans = || proptest::collection::vec((any::<i32>(), any::<u32>()), 0..3);
    let floats = || proptest::collection::vec(float(), 0..4);
    (
        0..4usize,
        -53..9i32,
        proptest::collection::vec(float(), 4),
        spans(),
        spans(),
        floats(),
        floats(),
        floats(),
    )
        .prop_map(|(hint, schema, singles, positive, negative, a, b, custom_values)| {
            let spans = |list: Vec<(i32, u32)>| {
                list.into_iter()
                    .map(|(offset, length)| Span { offset, length })
                    .collect()
            };
            let hints = [
                CounterResetHint::Unknown,
                CounterResetHint::Reset,
                CounterResetHint::NotReset,
                CounterResetHint::Gauge,
            ];
            FloatHistogram {
                counter_reset_hint: hints[hint],
                schema,
                zero_threshold: singles[0],
                zero_count: singles[1],
                count: singles[2],
                sum: singles[3],
                positive_spans: spans(positive),
                negative_spans: spans(negative),
                positive_buckets: a,
                negative_buckets: b,
                custom_values,
            }
        })
}

fn record() -> impl Strategy<Value = Record> {
    let newest = proptest::option::of((any::<i64>(), any::<u64>(), any::<bool>()));
    let series = (any::<u32>(), newest, labels()).prop_map(|(series, newest, labels)| SeriesRecord {
        series,
        newest: newest.map(|(at, bits, histogram)| Newest { at, bits, histogram }),
        labels,
    });
    let histograms =
        (any::<u32>(), any::<i64>(), any::<i64>(), histogram()).prop_map(|(series, at, start, histogram)| {
            let sample = HistogramSample {
                at: Millis(at),
                histogram: Arc::new(histogram),
            };
            HistogramRecord {
                series,
                start: Millis(start),
                sample,
            }
        });
    let exemplars = (any::<u32>(), labels(), 0..1000i64).prop_map(|(series, labels, at)| ExemplarRecord {
        series,
        exemplar: Exemplar {
            labels,
            value: at as f64 / 7.0,
            at: Millis(at),
        },
    });
    let metadata = (".{0,9}", 0..8usize, ".{0,9}", ".{0,9}").prop_map(|(metric, kind, help, unit)| MetricMetadata {
        metric,
        kind: KINDS[kind],
        help,
        unit,
    });
    prop_oneof![
        samples(),
        proptest::collection::vec(series, 0..4).prop_map(Record::Series),
        proptest::collection::vec(histograms, 0..3).prop_map(Record::Histograms),
        proptest::collection::vec(exemplars, 0..3).prop_map(Record::Exemplars),
        proptest::collection::vec(metadata, 0..3).prop_map(Record::Metadata),
        proptest::collection::vec(any::<u32>(), 0..5).prop_map(Record::Forgotten),
        crate::tsdb::tombstone::tests::tombstone().prop_map(Record::Tombstone),
    ]
}

#[test]
fn the_format_is_pinned() {
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "api")]);
    let samples = |starts: Vec<Millis>| {
        let sample = |at, value| Sample { at: Millis(at), value };
        let samples = vec![sample(1000, 1.5), sample(16_000, 2.5), sample(1000, -0.0)];
        Record::Samples(SamplesRecord {
            series: vec![(7, 2), (3, 1)],
            samples,
            starts,
        })
    };
    let histogram = FloatHistogram {
        schema: 3,
        count: 4.0,
        sum: 2.0,
        positive_spans: vec![Span { offset: -2, length: 2 }],
        positive_buckets: vec![1.0, 3.0],
        ..FloatHistogram::default()
    };
    let exemplar = Exemplar {
        labels: labels.clone(),
        value: 0.25,
        at: Millis(5),
    };
    let sample = HistogramSample {
        at: Millis(9),
        histogram: Arc::new(histogram),
    };
    let metadata = MetricMetadata {
        metric: "up".to_owned(),
        kind: MetricKind::Gauge,
        help: "Is it up?".to_owned(),
        unit: String::new(),
    };
    let newest = Some(Newest {
        at: 5,
        bits: 1.0f64.to_bits(),
        histogram: false,
    });
    let records = [
        Record::Series(vec![SeriesRecord {
            series: 7,
            newest,
            labels,
        }]),
        samples(Vec::new()),
        samples(vec![Millis(0), Millis(500), Millis(0)]),
        Record::Histograms(vec![HistogramRecord {
            series: 3,
            start: Millis(0),
            sample,
        }]),
        Record::Exemplars(vec![ExemplarRecord { series: 7, exemplar }]),
        Record::Metadata(vec![metadata]),
        Record::Forgotten(vec![1, 300]),
    ];
    let mut text = String::new();
    for record in records {
        let (kind, payload) = record.encode(0);
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{kind} {hex}\n"));
    }
    crate::tsdb::testing::golden("records.txt", &text);
}

proptest! {
    #[test]
    fn records_read_back(record in record()) {
        let (kind, payload) = record.encode(0);
        // Compared by their bytes: a NaN does not equal itself.
        prop_assert_eq!(Record::decode(kind, &payload).unwrap().encode(0), (kind, payload));
    }

    #[test]
    fn a_prefix_or_a_flipped_bit_is_no_panic(
        record in record(), cut in any::<proptest::sample::Index>(), bit in any::<proptest::sample::Index>(),
    ) {
        let (kind, mut payload) = record.encode(0);
        prop_assert!(Record::decode(kind, &payload[..cut.index(payload.len())]).is_err());
        let bit = bit.index(payload.len() * 8);
        payload[bit / 8] ^= 1 << (bit % 8);
        let _ = Record::decode(kind, &payload);
    }

    #[test]
    fn foreign_bytes_never_panic(kind in 0..10u8, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Record::decode(kind, &snap::raw::Encoder::new().compress_vec(&bytes).unwrap());
    }
}
