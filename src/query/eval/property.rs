//! Random expressions over random stores: nothing panics, and a range query is its instant queries, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use crate::model::{
    CounterResetHint, FloatHistogram, HistogramSample, Interval, Labels, Millis, Sample, Span, stale_marker,
};
use crate::query::{Engine, Interrupt, Interruption, QueryError, QueryOptions, QueryValue, parse};
use crate::storage::{LiteralStore, Point};

/// Samples of one series: a gap, a float, a stale marker or a histogram every ten seconds.
#[derive(Clone, Debug)]
enum Slot {
    Gap,
    Float(f64),
    Stale,
    Histogram(FloatHistogram),
}

fn histogram() -> impl Strategy<Value = FloatHistogram> {
    let counts = prop::collection::vec(0u32..9, 1..5);
    (counts, 0i32..3, -3i32..3, 0u32..3, any::<bool>()).prop_map(|(counts, schema, offset, zero, custom)| {
        let buckets: Vec<f64> = counts.iter().map(|count| f64::from(*count)).collect();
        let count = buckets.iter().sum::<f64>() + if custom { 0.0 } else { f64::from(zero) };
        let span = Span {
            offset: if custom { offset.abs() } else { offset },
            length: buckets.len() as u32,
        };
        FloatHistogram {
            counter_reset_hint: [
                CounterResetHint::Unknown,
                CounterResetHint::Gauge,
                CounterResetHint::Reset,
            ][schema as usize],
            schema: if custom { crate::model::SCHEMA_CUSTOM } else { schema },
            zero_threshold: if custom { 0.0 } else { f64::from(zero) * 0.1 },
            zero_count: if custom { 0.0 } else { f64::from(zero) },
            count,
            sum: count * 1.5,
            positive_spans: vec![span],
            positive_buckets: buckets,
            custom_values: if custom {
                (0..8).map(|at| f64::from(at * (1 + schema))).collect()
            } else {
                Vec::new()
            },
            ..FloatHistogram::default()
        }
    })
}

fn slot() -> impl Strategy<Value = Slot> {
    prop_oneof![
        2 => Just(Slot::Gap),
        6 => (0i32..50).prop_map(|value| Slot::Float(f64::from(value))),
        2 => (-9.0..9.0f64).prop_map(Slot::Float),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(1e308)].prop_map(Slot::Float),
        1 => Just(Slot::Stale),
        1 => histogram().prop_map(Slot::Histogram),
    ]
}

/// Name, label, bucket bound, samples.
type Stored = (String, String, Option<String>, Vec<Slot>);

fn stored() -> impl Strategy<Value = Vec<Stored>> {
    let series = (
        "[ab]",
        "[xy]",
        prop::option::of("[12]"),
        prop::collection::vec(slot(), 0..40),
    );
    prop::collection::vec(series, 1..7)
}

fn store_of(all: Vec<Stored>) -> LiteralStore {
    let store = LiteralStore::new();
    for (name, label, bound, slots) in all {
        let mut labels = Labels::from_pairs([("__name__", name.as_str()), ("l", label.as_str())]).to_builder();
        if let Some(bound) = bound {
            labels.set("le", &bound);
        }
        let labels = labels.build();
        for (at, slot) in slots.into_iter().enumerate() {
            let at = Millis(at as i64 * 10_000);
            match slot {
                Slot::Gap => {}
                Slot::Float(value) => store.put(&labels, at, value),
                Slot::Stale => store.put(&labels, at, stale_marker()),
                Slot::Histogram(histogram) => {
                    let histogram = Arc::new(histogram);
                    store.put_histogram(&labels, HistogramSample { at, histogram }, 0);
                }
            }
        }
    }
    store
}

fn selector() -> impl Strategy<Value = String> {
    let matchers = prop_oneof![
        Just("a"),
        Just("b"),
        Just(r#"a{l="x"}"#),
        Just(r#"{__name__=~"a|b"}"#),
        Just("b{le!=\"\"}")
    ];
    matchers.prop_map(str::to_owned)
}

fn modifiers() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(""), 1 => Just(" offset 15s"), 1 => Just(" offset -20s"), 1 => Just(" @ 100"), 1 => Just(" @ 55 offset 5s")]
        .prop_map(str::to_owned)
}

fn range() -> impl Strategy<Value = String> {
    prop_oneof![Just("[10s]"), Just("[35s]"), Just("[1m]"), Just("[3m]")].prop_map(str::to_owned)
}

fn over_time() -> impl Strategy<Value = String> {
    let names = crate::query::functions::FUNCTIONS
        .iter()
        .filter(|function| function.args == [crate::query::types::Type::RangeVector])
        .map(|function| function.name.to_owned())
        .collect::<Vec<String>>();
    prop::sample::select(names)
}

/// An expression that yields an instant vector.
fn vector() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => (selector(), modifiers()).prop_map(|(selector, modifiers)| selector + &modifiers),
        4 => (over_time(), selector(), range(), modifiers())
            .prop_map(|(name, selector, range, modifiers)| format!("{name}({selector}{range}{modifiers})")),
        1 => (selector(), range()).prop_map(|(selector, range)| format!("quantile_over_time(0.3, {selector}{range})")),
        1 => (selector(), range()).prop_map(|(selector, range)| format!("predict_linear({selector}{range}, 60)")),
        1 => (selector(), range(), prop::sample::select(vec!["anchored", "smoothed"]))
            .prop_map(|(selector, range, boundary)| format!("increase({selector}{range} {boundary})")),
        1 => selector().prop_map(|selector| format!("{selector} smoothed")),
        1 => Just("vector(time())".to_owned()),
        1 => selector().prop_map(|selector| format!("timestamp({selector})")),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let map = prop::sample::select(vec![
            "abs",
            "sqrt",
            "sgn",
            "-",
            "round",
            "absent",
            "histogram_count",
            "histogram_avg",
            "histogram_stddev",
            "hour",
            "+",
        ]);
        let aggregate = prop::sample::select(vec![
            "sum",
            "avg",
            "min",
            "max",
            "count",
            "group",
            "stddev",
            "stdvar",
            "quantile(0.4, ",
            "topk(2, ",
            "bottomk(1, ",
            "limitk(2, ",
            "limit_ratio(0.5, ",
            "count_values(\"v\", ",
        ]);
        let by = prop::sample::select(vec!["", " by (l)", " without (l)", " by (__name__)", " by (le)"]);
        let op = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "^", "==", "!= bool", "> bool", "<", ">=", "atan2", "</", ">/", "and", "or",
            "unless",
        ]);
        let matching = prop::sample::select(vec![
            "",
            " on (l)",
            " ignoring (le)",
            " on (l) group_left ()",
            " ignoring (le) group_right (l)",
        ]);
        prop_oneof![
            2 => (map, inner.clone()).prop_map(|(name, inner)| format!("{name}({inner})")),
            3 => (aggregate, by, inner.clone()).prop_map(|(name, by, inner)| match name.strip_suffix(", ") {
                Some(start) => format!("{start}, {inner}){by}"),
                None => format!("{name}({inner}){by}"),
            }),
            2 => (op.clone(), inner.clone()).prop_map(|(op, inner)| match op {
                "and" | "or" | "unless" => format!("({inner}) {op} vector(1)"),
                _ => format!("({inner}) {op} 2.5"),
            }),
            3 => (op, matching, inner.clone(), inner.clone()).prop_map(|(op, matching, a, b)| match op {
                "and" | "or" | "unless" => format!("({a}) {op} ({b})"),
                _ => format!("({a}) {op}{matching} ({b})"),
            }),
            1 => inner.clone().prop_map(|inner| format!("histogram_quantile(0.6, {inner})")),
            1 => inner.clone().prop_map(|inner| format!("histogram_fraction(-1, 2, {inner})")),
            1 => inner.clone().prop_map(|inner| format!("label_replace({inner}, \"l\", \"$1$1\", \"l\", \"(.)\")")),
            1 => inner.clone().prop_map(|inner| format!("sort_desc({inner})")),
            2 => (over_time(), inner.clone()).prop_map(|(name, inner)| format!("{name}(({inner})[1m:20s])")),
            1 => inner.clone().prop_map(|inner| format!("({inner}) + ({inner})")),
        ]
    })
}

type Points = BTreeMap<(Millis, Labels), String>;

fn shown(point: &Point) -> String {
    match point {
        Point::Float(Sample { value, .. }) if value.is_nan() => "NaN".to_owned(),
        Point::Float(Sample { value, .. }) => format!("{:x}", value.to_bits()),
        Point::Histogram(sample) => format!("{:?}", sample.histogram),
    }
}

/// Whether two answers are the same. A `sort` orders the elements of an instant query, so that sums above it may differ in
/// their last digit from those of a range query, which has no order.
fn same(a: &Points, b: &Points) -> bool {
    let close = |a: &String, b: &String| {
        let float = |text: &str| u64::from_str_radix(text, 16).ok().map(f64::from_bits);
        a == b
            || float(a)
                .zip(float(b))
                .is_some_and(|(a, b)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()))
    };
    a.len() == b.len() && a.iter().zip(b).all(|((at, a), (other, b))| at == other && close(a, b))
}

fn instant(store: &LiteralStore, query: &str, at: Millis) -> Result<Points, QueryError> {
    let expr = parse(query)?;
    let output = Engine.instant(store, &expr, at, &QueryOptions::default())?;
    let QueryValue::Vector(samples) = output.value else {
        panic!("{query} gave no vector")
    };
    Ok(samples
        .into_iter()
        .map(|sample| ((at, sample.labels), shown(&sample.point)))
        .collect())
}

fn range_query(store: &LiteralStore, query: &str, end: Millis, step: Interval) -> Result<Points, QueryError> {
    range_query_with(store, query, end, step, &QueryOptions::default())
}

fn range_query_with(
    store: &LiteralStore,
    query: &str,
    end: Millis,
    step: Interval,
    options: &QueryOptions,
) -> Result<Points, QueryError> {
    let expr = parse(query)?;
    let output = Engine.range(store, &expr, Millis(0), end, step, options)?;
    let QueryValue::Matrix(series) = output.value else {
        panic!("{query} gave no matrix")
    };
    let mut points = Points::new();
    for series in series {
        let floats = series.floats.iter().map(|sample| Point::Float(*sample));
        for point in floats.chain(series.histograms.iter().cloned().map(Point::Histogram)) {
            points.insert((point.at(), series.labels.clone()), shown(&point));
        }
    }
    Ok(points)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_range_query_is_its_instant_queries(stored in stored(), query in vector(), step in 7i64..60) {
        // Sorting has no effect in a range, so that the first elements are others, as in Prometheus.
        prop_assume!(!(query.contains("limitk") && query.contains("sort")));
        let store = store_of(stored);
        let (end, step) = (Millis(400_000), Interval::secs(step));
        let Ok(ranged) = range_query(&store, &query, end, step) else { return Ok(()) };
        let mut at = Millis(0);
        let mut expected = Points::new();
        while at <= end {
            match instant(&store, &query, at) {
                Ok(points) => expected.extend(points),
                Err(error) => return Err(TestCaseError::fail(format!("{query} at {at}: {error}, but not in a range"))),
            }
            at += step;
        }
        prop_assert!(same(&ranged, &expected), "{query}: {ranged:?} in a range, {expected:?} one by one");
    }

    #[test]
    fn a_query_is_answered_whole_or_ends_at_its_limit(
        stored in stored(),
        query in vector(),
        asks in 0u32..300,
        bytes in 0u64..60_000,
        samples in 0u64..300,
    ) {
        let store = store_of(stored);
        let (end, step) = (Millis(400_000), Interval::secs(20));
        let Ok(whole) = range_query(&store, &query, end, step) else { return Ok(()) };
        let asked = AtomicU32::new(0);
        let interrupt = Interrupt::new(move || {
            (asked.fetch_add(1, Ordering::Relaxed) >= asks).then_some(Interruption::Timeout)
        });
        let default = QueryOptions::default;
        for options in [
            QueryOptions { interrupt, ..default() },
            QueryOptions { memory_bytes_max: bytes, ..default() },
            QueryOptions { samples_max: samples, ..default() },
            QueryOptions { samples_per_step: true, ..default() },
        ] {
            match range_query_with(&store, &query, end, step, &options) {
                Ok(points) => prop_assert!(same(&points, &whole), "{query}: {points:?} instead of {whole:?}"),
                Err(QueryError::Timeout | QueryError::Limit(_)) => {}
                Err(error) => return Err(TestCaseError::fail(format!("{query}: {error}"))),
            }
        }
    }
}

#[test]
fn hostile_queries_end_at_a_limit() {
    let store = LiteralStore::new();
    for series in 0..20 {
        let labels = Labels::from_pairs([("__name__", "a".to_owned()), ("s", series.to_string())]);
        for at in 0..200 {
            store.put(&labels, Millis(at * 1_000), at as f64 + 0.5);
        }
    }
    let options = QueryOptions {
        memory_bytes_max: 8 << 20,
        samples_max: 100_000,
        ..QueryOptions::default()
    };
    let nested = |open: &str, close: &str, levels: usize| format!("{}a{}", open.repeat(levels), close.repeat(levels));
    for query in [
        "vector(1)[100y:1ms]".to_owned(),
        "sum_over_time(vector(1)[100y:1ms])".to_owned(),
        "sum_over_time(a[100y:1ms])".to_owned(),
        "max_over_time(sum_over_time(sum_over_time(a[290y:1ms])[290y:1ms])[290y:1ms])".to_owned(),
        "a offset 290y".to_owned(),
        "a offset -290y".to_owned(),
        "a @ 9223372036854775".to_owned(),
        "rate(a[290y] @ -9223372036854775)".to_owned(),
        "count_values(\"v\", a) * on() group_left() a".to_owned(),
        nested("abs(", ")", 200),
        nested("-", "", 200),
        nested("sum by (s) (", ")", 200),
        nested("label_replace(", ", \"s\", \"$1$1\", \"s\", \"(.*)\")", 40),
        nested("(a + ", ")", 200),
    ] {
        let Ok(expr) = parse(&query) else { continue };
        for at in [0, 100_000, i64::MAX, i64::MIN] {
            let _ = Engine.instant(&store, &expr, Millis(at), &options);
        }
        let _ = Engine.range(&store, &expr, Millis(0), Millis(200_000), Interval(1), &options);
        let _ = Engine.range(&store, &expr, Millis::MIN, Millis::MAX, Interval(1), &options);
        let _ = Engine.range(&store, &expr, Millis::MIN, Millis::MAX, Interval(i64::MAX), &options);
    }
}

#[test]
fn an_interrupt_ends_a_query() {
    let store = LiteralStore::new();
    let labels = Labels::from_pairs([("__name__", "a")]);
    for at in 0..1000 {
        store.put(&labels, Millis(at), 0.1);
    }
    let expr = parse("stddev_over_time(a[1s])").unwrap();
    let asked = AtomicU32::new(0);
    let options = QueryOptions {
        interrupt: Interrupt::new(move || {
            let before = asked.fetch_add(1, Ordering::Relaxed);
            (before > 20).then_some(Interruption::Timeout)
        }),
        ..QueryOptions::default()
    };
    let answer = Engine.range(&store, &expr, Millis(1000), Millis(1_000_000), Interval(1), &options);
    assert!(matches!(answer, Err(QueryError::Timeout) | Ok(_)));
    let answer = Engine.range(&store, &expr, Millis(500), Millis(1_400), Interval(1), &options);
    assert!(matches!(answer, Err(QueryError::Timeout)));
}
