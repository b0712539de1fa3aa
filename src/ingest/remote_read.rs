//! Remote read, the other way round: a Prometheus asks for series, and gets them as samples or as a stream of chunks.
//!
//! ```text
//! ask     snappy(ReadRequest)
//! answer  snappy(ReadResponse)                                             all samples at once, or
//!         ( length uvarint | crc32c u32 big-endian | ChunkedReadResponse )*    chunks in Prometheus's encodings
//! ```

mod histogram_chunk;
mod xor;

use prost::Message;

use crate::ingest::DecodeError;
use crate::model::{
    CounterResetHint, FloatHistogram, HistogramSample, Labels, MatchOp, Matcher, Millis, Span, TimeRange,
};
use crate::storage::Columns;

/// About how many bytes one frame of a stream carries.
const FRAME_BYTES: usize = 1 << 20;
/// Samples of one chunk, as in Prometheus.
const CHUNK_SAMPLES: usize = 120;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadQueries {
    /// Each is answered by itself.
    pub queries: Vec<ReadQuery>,
    /// Whether the asker prefers a stream of chunks.
    pub streamed: bool,
    /// Whether the asker takes plain samples.
    pub samples: bool,
}

/// One selection.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadQuery {
    /// All must match.
    pub matchers: Vec<Matcher>,
    /// Which samples.
    pub range: TimeRange,
}

/// One series of an answer.
pub type ReadSeries = (Labels, Columns);

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    accepted: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    end: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<WireMatcher>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct WireMatcher {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    series: Vec<WireSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct WireSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<WireSample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<WireHistogram>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct WireSample {
    /// Optional because `prost` would leave out -0.0 with 0.0.
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(int64, tag = "2")]
    at: i64,
}

/// A float histogram; integer ones became floats when they came in.
#[derive(Clone, PartialEq, Message)]
struct WireHistogram {
    #[prost(double, optional, tag = "2")]
    count: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(double, optional, tag = "7")]
    zero_count: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<WireSpan>,
    #[prost(double, repeated, tag = "10")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<WireSpan>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    at: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct WireSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedResponse {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    query_index: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Chunk {
    #[prost(int64, tag = "1")]
    min: i64,
    #[prost(int64, tag = "2")]
    max: i64,
    #[prost(int32, tag = "3")]
    encoding: i32,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
}

/// The number of the XOR encoding.
const ENCODING_XOR: i32 = 1;
/// The number of the encoding of float histograms.
const ENCODING_FLOAT_HISTOGRAM: i32 = 3;
/// The number of the streamed response.
const STREAMED: i32 = 1;

/// Reads an uncompressed request.
///
/// # Errors
/// [`DecodeError::Malformed`] when it is no request, or a pattern is no regular expression.
pub fn decode(body: &[u8]) -> Result<ReadQueries, DecodeError> {
    let malformed = |reason: String| DecodeError::Malformed(reason);
    let request = Request::decode(body).map_err(|error| malformed(error.to_string()))?;
    let mut queries = Vec::new();
    for query in request.queries {
        let matchers = query.matchers.into_iter().map(|wire| {
            let op = match wire.kind {
                0 => MatchOp::Equal,
                1 => MatchOp::NotEqual,
                2 => MatchOp::Regex,
                3 => MatchOp::NotRegex,
                other => return Err(malformed(format!("unknown matcher type {other}"))),
            };
            Matcher::new(wire.name, op, wire.value).map_err(|error| malformed(error.to_string()))
        });
        queries.push(ReadQuery {
            matchers: matchers.collect::<Result<_, _>>()?,
            range: TimeRange {
                min: Millis(query.start),
                max: Millis(query.end),
            },
        });
    }
    Ok(ReadQueries {
        queries,
        streamed: request.accepted.contains(&STREAMED),
        samples: request.accepted.is_empty() || request.accepted.contains(&0),
    })
}

/// Returns the uncompressed answer with all samples: one list of series for each query.
pub fn encode_samples(results: &[Vec<ReadSeries>]) -> Vec<u8> {
    let results = results.iter().map(|series| QueryResult {
        series: series.iter().map(wire_series).collect(),
    });
    let response = Response {
        results: results.collect(),
    };
    response.encode_to_vec()
}

fn wire_series((labels, columns): &ReadSeries) -> WireSeries {
    let samples = columns
        .times
        .iter()
        .zip(&columns.values)
        .map(|(&at, &value)| WireSample {
            value: (value.to_bits() != 0).then_some(value),
            at,
        });
    WireSeries {
        labels: wire_labels(labels),
        samples: samples.collect(),
        histograms: columns.histograms.iter().map(wire_histogram).collect(),
    }
}

fn wire_labels(labels: &Labels) -> Vec<Label> {
    let label = |(name, value): (&str, &str)| Label {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    labels.iter().map(label).collect()
}

fn wire_histogram(sample: &HistogramSample) -> WireHistogram {
    let histogram: &FloatHistogram = &sample.histogram;
    let spans = |spans: &[Span]| -> Vec<WireSpan> {
        let wire = |span: &Span| WireSpan {
            offset: span.offset,
            length: span.length,
        };
        spans.iter().map(wire).collect()
    };
    WireHistogram {
        count: Some(histogram.count),
        sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: Some(histogram.zero_count),
        negative_spans: spans(&histogram.negative_spans),
        negative_counts: histogram.negative_buckets.clone(),
        positive_spans: spans(&histogram.positive_spans),
        positive_counts: histogram.positive_buckets.clone(),
        reset_hint: match histogram.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        },
        at: sample.at.0,
        custom_values: histogram.custom_values.clone(),
    }
}

/// Makes the frames of a stream, for one query: series go in, and now and then a frame comes out.
pub struct Frames {
    query_index: usize,
    series: Vec<ChunkedSeries>,
    bytes: usize,
}

impl Frames {
    /// Begins the answer to a query, by its place in the request.
    pub fn new(query_index: usize) -> Frames {
        Frames {
            query_index,
            series: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes a series; returns a frame when enough came together.
    pub fn push(&mut self, labels: &Labels, columns: &Columns) -> Option<Vec<u8>> {
        let series = ChunkedSeries {
            labels: wire_labels(labels),
            chunks: chunks(columns),
        };
        self.bytes += series.encoded_len();
        self.series.push(series);
        if self.bytes < FRAME_BYTES { None } else { self.finish() }
    }

    /// Returns what is left.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        self.bytes = 0;
        let series = std::mem::take(&mut self.series);
        (!series.is_empty()).then(|| framed(self.query_index, series))
    }
}

/// Returns a series' chunks of both kinds, by time.
fn chunks(columns: &Columns) -> Vec<Chunk> {
    let times = columns.times.chunks(CHUNK_SAMPLES);
    let floats = times
        .zip(columns.values.chunks(CHUNK_SAMPLES))
        .map(|(times, values)| Chunk {
            min: times.first().copied().unwrap_or_default(),
            max: times.last().copied().unwrap_or_default(),
            encoding: ENCODING_XOR,
            data: xor::encode(times, values),
        });
    let mut chunks: Vec<Chunk> = floats.collect();
    let mut rest = &columns.histograms[..];
    while let [first, ..] = rest {
        let (chunk, after) = rest.split_at(histogram_chunk::chunk_len(rest, CHUNK_SAMPLES));
        chunks.push(Chunk {
            min: first.at.0,
            max: chunk.last().unwrap_or(first).at.0,
            encoding: ENCODING_FLOAT_HISTOGRAM,
            data: histogram_chunk::encode(chunk),
        });
        rest = after;
    }
    chunks.sort_by_key(|chunk| chunk.min);
    chunks
}

fn framed(query_index: usize, series: Vec<ChunkedSeries>) -> Vec<u8> {
    let response = ChunkedResponse {
        series,
        query_index: i64::try_from(query_index).unwrap_or(i64::MAX),
    };
    let payload = response.encode_to_vec();
    let mut out = Vec::with_capacity(payload.len() + 14);
    prost::encoding::encode_varint(payload.len() as u64, &mut out);
    out.extend_from_slice(&crc32c::crc32c(&payload).to_be_bytes());
    out.extend_from_slice(&payload);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(accepted: Vec<i32>) -> Vec<u8> {
        let matcher = |kind, value: &str| WireMatcher {
            kind,
            name: "job".to_owned(),
            value: value.to_owned(),
        };
        let query = Query {
            start: 1,
            end: 2,
            matchers: vec![matcher(0, "a"), matcher(2, "b.*")],
        };
        let request = Request {
            queries: vec![query],
            accepted,
        };
        request.encode_to_vec()
    }

    #[test]
    fn a_request_says_what_is_asked_and_how() {
        let read = decode(&request(vec![1, 0])).unwrap();
        assert!(read.streamed && read.samples);
        assert_eq!(read.queries[0].matchers[1].to_string(), "job=~\"b.*\"");
        let plain = decode(&request(Vec::new())).unwrap();
        assert!(!plain.streamed && plain.samples);
    }

    #[test]
    fn a_stream_is_framed_with_length_and_checksum() {
        let columns = Columns {
            times: (0..300).map(|i| i * 1000).collect(),
            values: (0..300).map(f64::from).collect(),
            ..Columns::default()
        };
        let mut frames = Frames::new(3);
        assert!(
            frames
                .push(&Labels::from_pairs([("__name__", "up")]), &columns)
                .is_none()
        );
        let frame = frames.finish().unwrap();
        assert!(frames.finish().is_none());
        let mut rest = &frame[..];
        let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        assert_eq!(rest.len(), length + 4);
        assert_eq!(rest[..4], crc32c::crc32c(&rest[4..]).to_be_bytes());
        let response = ChunkedResponse::decode(&rest[4..]).unwrap();
        assert_eq!((response.query_index, response.series[0].chunks.len()), (3, 3));
        assert_eq!(response.series[0].chunks[1].min, 120_000);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_cut_or_flipped_request_never_panics(cut in 0usize..40, flip in 0usize..40) {
            let mut bytes = request(vec![1, 0]);
            let at = flip % bytes.len();
            bytes[at] ^= 0x55;
            let _ = decode(&bytes);
            let _ = decode(&bytes[..cut.min(bytes.len())]);
        }
    }
}
