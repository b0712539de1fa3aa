//! Query values as Prometheus's JSON, written by hand and in pieces: a large answer never stands in memory as text.

use std::collections::VecDeque;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value;

use crate::model::{FloatHistogram, HistogramSample, Labels, Millis, Sample};
use crate::query::float::{go_float, push_digits, push_go_float};
use crate::query::{MatrixSeries, QueryOutput, QueryValue, VectorSample};
use crate::storage::Point;

/// About how many bytes one piece of an answer has.
const PIECE_BYTES: usize = 64 << 10;

/// Answers `{"status":"success","data":…}`.
pub(super) fn success(data: &Value, warnings: &[String]) -> Response {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(br#"{"status":"success","data":"#);
    push_json(&mut out, data);
    push_texts(&mut out, "warnings", warnings);
    out.push(b'}');
    json(Body::from(out))
}

fn json(body: Body) -> Response {
    let content_type = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// Answers with a query's output; `stats` is shown when asked for.
pub(super) fn query_output(output: QueryOutput, stats: Option<&Value>) -> Response {
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(br#"{"status":"success","data":{"resultType":""#);
    let (name, rows) = match output.value {
        QueryValue::Scalar(sample) => ("scalar", Rows::Whole(scalar(sample))),
        QueryValue::String(at, text) => ("string", Rows::Whole(string(at, &text))),
        QueryValue::Vector(samples) => ("vector", Rows::Vector(samples.into())),
        QueryValue::Matrix(series) => ("matrix", Rows::Matrix(series.into())),
    };
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(br#"","result":"#);
    let mut tail = Vec::new();
    if let Some(stats) = stats {
        tail.extend_from_slice(br#","stats":"#);
        push_json(&mut tail, stats);
    }
    tail.push(b'}');
    push_texts(&mut tail, "warnings", &output.warnings);
    push_texts(&mut tail, "infos", &output.infos);
    tail.push(b'}');
    let pieces = Pieces {
        begun: false,
        next: head,
        rows,
        tail: Some(tail),
    };
    let mut pieces = pieces.peekable();
    let first = pieces.next().unwrap_or_default();
    if pieces.peek().is_none() {
        return json(Body::from(first)); // With its length known, the answer needs no chunks.
    }
    let whole = std::iter::once(first)
        .chain(pieces)
        .map(Ok::<_, std::convert::Infallible>);
    json(Body::from_stream(futures_util::stream::iter(whole)))
}

fn scalar(sample: Sample) -> Vec<u8> {
    let mut out = vec![b'['];
    push_time(&mut out, sample.at);
    out.extend_from_slice(format!(",\"{}\"]", go_float(sample.value)).as_bytes());
    out
}

fn string(at: Millis, text: &str) -> Vec<u8> {
    let mut out = vec![b'['];
    push_time(&mut out, at);
    out.push(b',');
    push_string(&mut out, text);
    out.push(b']');
    out
}

enum Rows {
    Whole(Vec<u8>),
    Vector(VecDeque<VectorSample>),
    Matrix(VecDeque<MatrixSeries>),
    Done,
}

/// The answer, piece by piece; what was written is freed.
struct Pieces {
    begun: bool,
    next: Vec<u8>,
    rows: Rows,
    tail: Option<Vec<u8>>,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = std::mem::take(&mut self.next);
        while out.len() < PIECE_BYTES {
            let begun = std::mem::replace(&mut self.begun, true);
            let separator = if begun { b',' } else { b'[' };
            match &mut self.rows {
                Rows::Whole(text) => {
                    out.append(text);
                    self.rows = Rows::Done;
                }
                Rows::Vector(samples) => match samples.pop_front() {
                    Some(sample) => {
                        out.push(separator);
                        push_vector_sample(&mut out, &sample);
                    }
                    None => self.end(&mut out, begun),
                },
                Rows::Matrix(series) => match series.pop_front() {
                    Some(series) => {
                        out.push(separator);
                        push_matrix_series(&mut out, &series);
                    }
                    None => self.end(&mut out, begun),
                },
                Rows::Done => {
                    out.append(&mut self.tail.take().unwrap_or_default());
                    break;
                }
            }
        }
        (!out.is_empty()).then(|| Bytes::from(out))
    }
}

impl Pieces {
    fn end(&mut self, out: &mut Vec<u8>, begun: bool) {
        out.extend_from_slice(if begun { b"]" } else { b"[]" });
        self.rows = Rows::Done;
    }
}

fn push_vector_sample(out: &mut Vec<u8>, sample: &VectorSample) {
    push_metric(out, &sample.labels);
    match &sample.point {
        Point::Float(sample) => {
            out.extend_from_slice(b",\"value\":");
            push_float_point(out, sample);
        }
        Point::Histogram(sample) => {
            out.extend_from_slice(b",\"histogram\":");
            push_histogram_point(out, sample);
        }
    }
    out.push(b'}');
}

fn push_matrix_series(out: &mut Vec<u8>, series: &MatrixSeries) {
    push_metric(out, &series.labels);
    push_points(out, b",\"values\":", &series.floats, push_float_point);
    push_points(out, b",\"histograms\":", &series.histograms, push_histogram_point);
    out.push(b'}');
}

fn push_points<T>(out: &mut Vec<u8>, name: &[u8], points: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    if points.is_empty() {
        return;
    }
    out.extend_from_slice(name);
    for (i, point) in points.iter().enumerate() {
        out.push(if i == 0 { b'[' } else { b',' });
        push(out, point);
    }
    out.push(b']');
}

/// Opens the element and writes its labels.
fn push_metric(out: &mut Vec<u8>, labels: &Labels) {
    out.extend_from_slice(b"{\"metric\":");
    push_labels(out, labels);
}

pub(super) fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.push(b'}');
}

fn push_float_point(out: &mut Vec<u8>, sample: &Sample) {
    out.push(b'[');
    push_time(out, sample.at);
    out.push(b',');
    push_value(out, sample.value);
    out.push(b']');
}

fn push_histogram_point(out: &mut Vec<u8>, sample: &HistogramSample) {
    out.push(b'[');
    push_time(out, sample.at);
    out.push(b',');
    push_histogram(out, &sample.histogram);
    out.push(b']');
}

/// Writes count, sum and the buckets that hold something, each as `[rule, lower, upper, count]`.
pub(super) fn push_histogram(out: &mut Vec<u8>, histogram: &FloatHistogram) {
    out.extend_from_slice(b"{\"count\":");
    push_value(out, histogram.count);
    out.extend_from_slice(b",\"sum\":");
    push_value(out, histogram.sum);
    let mut first = true;
    for bucket in histogram.buckets() {
        if bucket.count == 0.0 {
            continue;
        }
        out.extend_from_slice(if first { b",\"buckets\":[[" } else { b",[" });
        first = false;
        out.push(match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => b'0',
            (true, false) => b'1',
            (false, false) => b'2',
            (true, true) => b'3',
        });
        for value in [bucket.lower, bucket.upper, bucket.count] {
            out.push(b',');
            push_value(out, value);
        }
        out.push(b']');
    }
    if !first {
        out.push(b']');
    }
    out.push(b'}');
}

/// Writes seconds with at most three decimals.
pub(super) fn push_time(out: &mut Vec<u8>, at: Millis) {
    let (seconds, millis) = (at.0.unsigned_abs() / 1000, at.0.unsigned_abs() % 1000);
    if at.0 < 0 {
        out.push(b'-');
    }
    push_digits(out, seconds);
    if millis > 0 {
        let digit = |power: u64| b'0' + (millis / power % 10) as u8;
        out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
    }
}

/// Writes a value as a string; very large and very small ones with an exponent, as Go's JSON does.
fn push_value(out: &mut Vec<u8>, value: f64) {
    out.push(b'"');
    let size = value.abs();
    if size != 0.0 && size.is_finite() && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        out.extend_from_slice(format!("{digits}e{sign}{exponent:0>2}").as_bytes());
    } else {
        push_go_float(out, value);
    }
    out.push(b'"');
}

pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("writing to memory cannot fail");
    }
}

fn push_json(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("writing to memory cannot fail");
}

fn push_texts(out: &mut Vec<u8>, name: &str, texts: &[String]) {
    if texts.is_empty() {
        return;
    }
    out.extend_from_slice(format!(",\"{name}\":").as_bytes());
    serde_json::to_writer(out, texts).expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Span;
    use crate::query::QueryStats;

    async fn text(value: QueryValue) -> String {
        let output = QueryOutput {
            value,
            warnings: vec!["careful".to_owned()],
            infos: Vec::new(),
            stats: QueryStats::default(),
        };
        let bytes = axum::body::to_bytes(query_output(output, None).into_body(), usize::MAX)
            .await
            .unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn answers_have_prometheus_shape_with_the_type_first() {
        let labels = Labels::from_pairs([("__name__", "up"), ("a", "\"b\n")]);
        let at = Millis(1_435_781_451_781);
        assert_eq!(
            text(QueryValue::Scalar(Sample {
                at: Millis(4000),
                value: 2.0
            }))
            .await,
            r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]},"warnings":["careful"]}"#
        );
        let point = Point::Float(Sample {
            at,
            value: f64::INFINITY,
        });
        assert_eq!(
            text(QueryValue::Vector(vec![VectorSample { labels, point }])).await,
            concat!(
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","a":"\"b\n"},"#,
                r#""value":[1435781451.781,"+Inf"]}]},"warnings":["careful"]}"#
            )
        );
        assert!(
            text(QueryValue::Matrix(Vec::new()))
                .await
                .contains(r#""matrix","result":[]}"#)
        );
    }

    #[tokio::test]
    async fn a_large_answer_comes_in_pieces_and_whole() {
        let series = |n: i64| MatrixSeries {
            labels: Labels::from_pairs([("n", n.to_string())]),
            floats: (0..500)
                .map(|i| Sample {
                    at: Millis(i * 1000),
                    value: i as f64 / 7.0,
                })
                .collect(),
            histograms: Vec::new(),
        };
        let text = text(QueryValue::Matrix((0..100).map(series).collect())).await;
        let value: Value = serde_json::from_str(&text).unwrap();
        let result = value["data"]["result"].as_array().unwrap();
        assert_eq!(result.len(), 100);
        assert_eq!(result[99]["values"][499][0], 499);
    }

    #[test]
    fn histograms_show_their_filled_buckets() {
        let histogram = FloatHistogram {
            count: 3.0,
            sum: 1e-7,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![3.0, 0.0],
            ..FloatHistogram::default()
        };
        let mut out = Vec::new();
        push_histogram_point(
            &mut out,
            &HistogramSample {
                at: Millis(1),
                histogram: Arc::new(histogram),
            },
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"[0.001,{"count":"3","sum":"1e-07","buckets":[[0,"0.5","1","3"]]}]"#
        );
    }
}
