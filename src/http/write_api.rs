//! The push formats' routes: bodies in, durable samples out.
//!
//! 204 (or the format's own success) is answered only when every sample of the request is on the disk. When some were
//! refused the good ones are kept all the same, and 400 names the first offending series, the reason and the counts.
//! A 5xx or 429 is answered only for what a retry mends.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::ApiError;
use super::auth::Caller;
use super::gate::Peer;
use super::route::{Call, Route, Scope};
use crate::ingest::remote_write::{self, Version};
use crate::ingest::{DecodeError, Decoded, Encoding, Intake, Protocol, Source, Taken, decompress};
use crate::storage::AppendReport;

/// The most bytes of a compressed body.
pub(super) const BODY_BYTES_MAX: usize = 16 << 20;
/// How much of a sender's `User-Agent` is kept.
const AGENT_CHARS_MAX: usize = 80;
/// From this size on a body is decoded on a thread that may block.
const DECODE_INLINE_BYTES_MAX: usize = 64 << 10;

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Method::POST,
        path: "/api/v1/write",
        scope: Scope::Write,
        body_bytes_max: BODY_BYTES_MAX,
        handler: |call| Box::pin(remote_write(call)),
    },
    Route {
        method: Method::POST,
        path: "/api/v1/push",
        scope: Scope::Write,
        body_bytes_max: BODY_BYTES_MAX,
        handler: |call| Box::pin(remote_write(call)),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/write",
        scope: Scope::Write,
        body_bytes_max: 0,
        handler: |_| Box::pin(async { Ok(hello()) }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/push",
        scope: Scope::Write,
        body_bytes_max: 0,
        handler: |_| Box::pin(async { Ok(hello()) }),
    },
];

/// Some senders' health checks GET the write URL.
fn hello() -> Response {
    "Campanile takes remote write 1.0 and 2.0 here, by POST.\n".into_response()
}

async fn remote_write(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let source = Arrival::of(&call, Protocol::RemoteWrite1).source;
    write_remotely(&call.app.intake, source, call.request.headers(), body).await
}

async fn write_remotely(
    intake: &Arc<Intake>,
    source: Source,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let version = Version::from_content_type(text_header(headers, header::CONTENT_TYPE));
    let protocol = match version {
        Ok(Version::V2) => Protocol::RemoteWrite2,
        Ok(Version::V1) | Err(_) => Protocol::RemoteWrite1,
    };
    let arrival = Arrival {
        intake: Arc::clone(intake),
        protocol,
        source,
    };
    let encoding = remote_write_encoding(headers);
    let accepted = version.and_then(|version| Ok((version, encoding?)));
    let (version, encoding) = accepted.map_err(|error| arrival.refused(error))?;
    let decode = move |body, intake: &Intake| match version {
        Version::V1 => remote_write::decode_v1(body, intake.seed(), intake.limits()),
        Version::V2 => remote_write::decode_v2(body, intake.seed(), intake.limits()),
    };
    let taken = arrival.take(encoding, body, decode).await?;
    let mut response = answer(&taken.report, StatusCode::NO_CONTENT);
    written_headers(response.headers_mut(), &taken);
    Ok(response)
}

/// Version 2.0 asks for these; to a sender of 1.0 they mean nothing. What was left out by rule counts as written: the
/// sender would take a smaller number for a server of version 1.0 that had not understood it.
fn written_headers(headers: &mut HeaderMap, taken: &Taken) {
    let report = &taken.report;
    let samples = report.samples + taken.deduplicated + taken.relabelled;
    headers.insert("x-prometheus-remote-write-samples-written", samples.into());
    if taken.deduplicated > 0 {
        headers.insert("x-campanile-deduplicated", taken.deduplicated.into());
    }
    headers.insert("x-prometheus-remote-write-histograms-written", report.histograms.into());
    headers.insert("x-prometheus-remote-write-exemplars-written", report.exemplars.into());
}

/// Remote write is compressed: an absent header means snappy, as in version 0.1.0.
fn remote_write_encoding(headers: &HeaderMap) -> Result<Encoding, DecodeError> {
    match Encoding::from_header(text_header(headers, header::CONTENT_ENCODING).or(Some("snappy")))? {
        encoding @ (Encoding::Snappy | Encoding::Zstd) => Ok(encoding),
        Encoding::Identity | Encoding::Gzip | Encoding::Deflate => Err(DecodeError::Unsupported(
            "remote write is compressed by snappy (or zstd): set Content-Encoding accordingly".to_owned(),
        )),
    }
}

/// A body that came to a door: by which protocol, and from whom.
pub(super) struct Arrival {
    pub(super) intake: Arc<Intake>,
    pub(super) protocol: Protocol,
    pub(super) source: Source,
}

impl Arrival {
    /// Says who sent a request.
    pub(super) fn of(call: &Call, protocol: Protocol) -> Arrival {
        let extensions = call.request.extensions();
        let peer = || extensions.get::<Peer>().map(|Peer(peer)| peer.to_string());
        let name = extensions.get::<Caller>().map(|caller| caller.name.clone());
        let agent = text_header(call.request.headers(), header::USER_AGENT).unwrap_or("");
        Arrival {
            intake: Arc::clone(&call.app.intake),
            protocol,
            source: Source {
                name: name
                    .filter(|name| !name.is_empty())
                    .or_else(peer)
                    .unwrap_or_else(|| "unknown".to_owned()),
                agent: agent.chars().take(AGENT_CHARS_MAX).collect(),
            },
        }
    }

    /// Decodes and stores a body.
    pub(super) async fn take(
        &self,
        encoding: Encoding,
        body: Bytes,
        decode: impl FnOnce(Bytes, &Intake) -> Result<Decoded, DecodeError> + Send + 'static,
    ) -> Result<Taken, ApiError> {
        let intake = &self.intake;
        let claimed = claimed_bytes(encoding, &body).min(intake.limits().decoded_bytes_max);
        let reservation = intake.reserve(claimed).map_err(|error| self.refused(error))?;
        let inline = claimed <= DECODE_INLINE_BYTES_MAX;
        let work = {
            let intake = Arc::clone(intake);
            move || decode(decompress(encoding, body, intake.limits().decoded_bytes_max)?, &intake)
        };
        let decoded = if inline {
            work()
        } else {
            let joined = tokio::task::spawn_blocking(work).await;
            joined.map_err(|error| ApiError::Internal(format!("decoding was cut short: {error}")))?
        };
        let decoded = decoded.map_err(|error| self.refused(error))?;
        let taken = intake.take(self.protocol, &self.source, decoded).await?;
        drop(reservation); // The batch lives until the store has taken it.
        Ok(taken)
    }

    /// Counts a request that is refused as a whole, and chooses its answer.
    pub(super) fn refused(&self, error: DecodeError) -> ApiError {
        self.intake.count_refused(self.protocol, &self.source, &error);
        let text = error.to_string();
        match error {
            DecodeError::Malformed(_) => ApiError::BadData(text),
            DecodeError::TooLarge { .. } => ApiError::TooLarge(text),
            DecodeError::Unsupported(_) => ApiError::UnsupportedMedia(text),
            DecodeError::Busy(_) => ApiError::Overloaded(text),
        }
    }
}

/// Reads `Content-Encoding`; an absent one is none.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, DecodeError> {
    Encoding::from_header(text_header(headers, header::CONTENT_ENCODING))
}

/// How much a body may become in memory: what snappy declares, else an ordinary ratio.
fn claimed_bytes(encoding: Encoding, body: &Bytes) -> usize {
    match encoding {
        Encoding::Identity => body.len(),
        Encoding::Snappy => snappy_claim(body).unwrap_or(body.len()),
        Encoding::Zstd | Encoding::Gzip | Encoding::Deflate => body.len().saturating_mul(8),
    }
}

/// The length that a snappy body declares in its first bytes (a varint).
fn snappy_claim(body: &[u8]) -> Option<usize> {
    let mut claim = 0usize;
    for (i, byte) in body.iter().take(5).enumerate() {
        claim |= usize::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            return Some(claim);
        }
    }
    None
}

/// Answers `fine` when all was taken; 400 with the first refusal and the counts otherwise.
pub(super) fn answer(report: &AppendReport, fine: StatusCode) -> Response {
    match refusal_text(report) {
        None => fine.into_response(),
        Some(text) => ApiError::BadData(text).into_response(),
    }
}

/// Says what was refused, `None` when nothing was.
pub(super) fn refusal_text(report: &AppendReport) -> Option<String> {
    let first = report.refusals.first()?;
    let at = first.at.map_or_else(String::new, |at| format!(" at {at} ({})", at.0));
    Some(format!(
        "{}: series {}{at}; {} samples refused, {} samples and {} histograms stored",
        first.reason, first.series, report.refused, report.samples, report.histograms
    ))
}

pub(super) fn text_header(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::IngestLimits;
    use crate::io::SimClock;
    use crate::model::{Labels, Millis, OwnedSeries, Sample, TimeRange};
    use crate::storage::{LiteralStore, Querier};

    fn series(name: &str, at: i64) -> OwnedSeries {
        OwnedSeries {
            labels: Labels::from_pairs([("__name__", name)]),
            samples: vec![Sample {
                at: Millis(at),
                value: 1.0,
            }],
        }
    }

    fn snappy(plain: &[u8]) -> Bytes {
        Bytes::from(snap::raw::Encoder::new().compress_vec(plain).unwrap())
    }

    async fn post(content_type: &'static str, encoding: &'static str, body: Bytes) -> (Response, LiteralStore) {
        let store = LiteralStore::new();
        let clock = Arc::new(SimClock::at(Millis(1_000_000)));
        let intake = Arc::new(Intake::new(Arc::new(store.clone()), clock, 7, IngestLimits::default()));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        let answer = write_remotely(&intake, Source::ourselves(), &headers, body).await;
        (answer.unwrap_or_else(IntoResponse::into_response), store)
    }

    async fn text(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_was_taken_is_answered_with_204_and_counts() {
        let body = remote_write::encode_v1(&[series("up", 1), series("down", 2)], &[]);
        for (encoding, body) in [
            ("snappy", snappy(&body)),
            ("zstd", zstd::encode_all(&body[..], 1).unwrap().into()),
        ] {
            let (response, store) = post("application/x-protobuf", encoding, body).await;
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
            assert_eq!(response.headers()["x-prometheus-remote-write-samples-written"], "2");
            assert_eq!(store.series(&[], TimeRange::ALL).unwrap().len(), 2);
        }
    }

    #[tokio::test]
    async fn good_series_are_kept_when_others_are_bad() {
        let nameless = OwnedSeries {
            labels: Labels::from_pairs([("job", "x")]),
            samples: vec![Sample {
                at: Millis(1),
                value: 1.0,
            }],
        };
        let body = remote_write::encode_v1(&[series("up", 1), nameless, series("ahead", 90_000_000)], &[]);
        let (response, store) = post("application/x-protobuf", "snappy", snappy(&body)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()["x-prometheus-remote-write-samples-written"], "1");
        let text = text(response).await;
        assert!(
            text.contains("series ahead at") && text.contains("2 samples refused, 1 samples"),
            "{text}"
        );
        assert_eq!(store.label_values("__name__", &[], TimeRange::ALL).unwrap(), ["up"]);
    }

    #[tokio::test]
    async fn what_is_not_remote_write_is_refused_by_its_kind() {
        let body = || snappy(&remote_write::encode_v1(&[series("up", 1)], &[]));
        let proto = "application/x-protobuf";
        for (content_type, encoding, body, expected) in [
            ("text/plain", "snappy", body(), 415),
            (proto, "gzip", body(), 415),
            (proto, "br", body(), 415),
            ("application/x-protobuf;proto=x.Y", "snappy", body(), 415),
            (
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
                "snappy",
                body(),
                415,
            ),
            (proto, "snappy", Bytes::from_static(b"hello"), 400),
            (proto, "snappy", snappy(b"hello"), 400),
            (
                proto,
                "snappy",
                Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x08, 0]),
                413,
            ),
        ] {
            let (response, store) = post(content_type, encoding, body).await;
            assert_eq!(response.status().as_u16(), expected, "{content_type} {encoding}");
            assert!(store.series(&[], TimeRange::ALL).unwrap().is_empty());
        }
    }
}
