//! OpenTelemetry's door: OTLP metrics over HTTP, protobuf or JSON, answered in the encoding they came in.
//!
//! Points that cannot be taken are a partial success (200, with their number and the first reason), as the protocol wants it:
//! a sender does not repeat what would be refused again.

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::ApiError;
use super::route::{Call, Route, Scope};
use super::write_api::{Arrival, BODY_BYTES_MAX, encoding, refusal_text, text_header};
use crate::ingest::otlp::OtlpEncoding;
use crate::ingest::{Intake, Protocol};

const fn row(path: &'static str) -> Route {
    Route {
        method: Method::POST,
        path,
        scope: Scope::Write,
        body_bytes_max: BODY_BYTES_MAX,
        handler: |call| Box::pin(export(call)),
    }
}

pub(super) static ROUTES: &[Route] = &[row("/api/v1/otlp/v1/metrics"), row("/v1/metrics")];

async fn export(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let arrival = Arrival::of(&call, Protocol::Otlp);
    let headers = call.request.headers();
    let kind = OtlpEncoding::from_content_type(text_header(headers, header::CONTENT_TYPE));
    let kind = kind.map_err(|error| arrival.refused(error))?;
    let taken = match encoding(headers) {
        Ok(encoding) => {
            let decode = move |body: Bytes, intake: &Intake| match kind {
                OtlpEncoding::Protobuf => intake.otlp().decode(body, intake.now(), intake.seed(), intake.limits()),
                OtlpEncoding::Json => intake
                    .otlp()
                    .decode_json(&body, intake.now(), intake.seed(), intake.limits()),
            };
            arrival.take(encoding, body, decode).await
        }
        Err(error) => Err(arrival.refused(error)),
    };
    let content_type = HeaderValue::from_static(kind.content_type());
    let (mut response, body) = match taken {
        Ok(taken) => {
            let rejected = refusal_text(&taken.report).map(|text| (taken.report.refused, text));
            (StatusCode::OK.into_response(), kind.response(rejected))
        }
        Err(error) => {
            let text = error.to_string();
            (error.into_response(), kind.status(&text))
        }
    };
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    *response.body_mut() = body.into();
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::Request;

    use super::*;
    use crate::http::App;
    use crate::ingest::IngestLimits;
    use crate::io::SimClock;
    use crate::model::{Millis, TimeRange};
    use crate::storage::{LiteralStore, Querier};

    async fn post(content_type: &str, encoding: &str, body: Vec<u8>) -> (u16, Vec<u8>, Vec<String>) {
        let store = LiteralStore::new();
        let clock = Arc::new(SimClock::at(Millis(1_700_000_100_000)));
        let app = App {
            intake: Arc::new(Intake::new(Arc::new(store.clone()), clock, 7, IngestLimits::default())),
            ..App::test()
        };
        let request = Request::post("/v1/metrics")
            .header(header::CONTENT_TYPE, content_type)
            .header(header::CONTENT_ENCODING, encoding)
            .body(Body::from(body))
            .unwrap();
        let response = (ROUTES[0].handler)(Call::test(app, &[], request)).await;
        let response = response.unwrap_or_else(IntoResponse::into_response);
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let stored = store.series(&[], TimeRange::ALL).unwrap();
        (status, body.to_vec(), stored.iter().map(ToString::to_string).collect())
    }

    const JSON: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"api"}}]},
        "scopeMetrics":[{"metrics":[{"name":"queue.depth","gauge":{"dataPoints":[
        {"timeUnixNano":"1700000000000000000","asInt":"3"},{"asDouble":1.5}]}}]}]}]}"#;

    #[tokio::test]
    async fn a_point_that_cannot_be_taken_is_a_partial_success() {
        let (status, body, stored) = post("application/json", "", JSON.into()).await;
        let text = String::from_utf8(body).unwrap();
        assert_eq!((status, stored), (200, vec![r#"queue_depth{job="api"}"#.to_owned()]));
        assert!(
            text.contains(r#""rejectedDataPoints":"1""#) && text.contains("no time_unix_nano"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn refusals_come_in_the_senders_encoding() {
        let (status, body, _) = post("application/json", "", b"{\"resourceMetrics\":7}".to_vec()).await;
        assert!(status == 400 && String::from_utf8(body).unwrap().contains("malformed JSON"));
        let (status, body, _) = post("application/x-protobuf", "", b"hello".to_vec()).await;
        assert!(status == 400 && body.starts_with(&[8, 3, 0x12]), "{body:?}");
        assert_eq!(post("text/plain", "", Vec::new()).await.0, 415);
        assert_eq!(post("application/x-protobuf", "br", Vec::new()).await.0, 415);
        assert_eq!(post("application/x-protobuf", "", Vec::new()).await.0, 200);
    }
}
