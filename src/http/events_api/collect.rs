//! `POST /collect`: batches from backends with a token, and events from pages of listed sites without one.
//!
//! 200 is answered only when every event that counts is on the disk. A page gets the counts without reasons, and CORS
//! headers for its own origin on this path only.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::write_api::{encoding, text_header};
use super::super::{ApiError, route::Call};
use super::{arrival, edge, token};
use crate::events::decode::Format;
use crate::events::{Answer, Sender};
use crate::ingest::{DecodeError, decompress};

/// The most bytes of a page's body, packed and unpacked.
const PAGE_BYTES_MAX: usize = 64 << 10;
/// The most bytes of a backend's body, unpacked.
const UNPACKED_BYTES_MAX: usize = 64 << 20;
/// The longest idempotency key.
const KEY_BYTES_MAX: usize = 128;

pub(super) async fn collect(mut call: Call) -> Result<Response, ApiError> {
    let origin = text_header(call.request.headers(), header::ORIGIN).map(str::to_owned);
    let sender = sender(&call, origin.as_deref())?;
    let is_page = matches!(sender, Sender::Site(_));
    let answered = take(&mut call, sender).await;
    let response = answered.map(|answer| json(&answer, !is_page).into_response());
    let mut response = response.unwrap_or_else(IntoResponse::into_response);
    if let (true, Some(origin)) = (is_page, origin) {
        allow(response.headers_mut(), &origin);
    }
    Ok(response)
}

/// What a browser asks before it lets a page send.
pub(super) async fn preflight(call: Call) -> Result<Response, ApiError> {
    let origin = text_header(call.request.headers(), header::ORIGIN).unwrap_or_default();
    listed(&call, origin)?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    allow(headers, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    let allowed = HeaderValue::from_static("content-type, content-encoding, idempotency-key");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    Ok(response)
}

async fn take(call: &mut Call, sender: Sender) -> Result<Answer, ApiError> {
    let is_page = matches!(sender, Sender::Site(_));
    if is_page {
        call.body_bytes_max = PAGE_BYTES_MAX;
    }
    let headers = call.request.headers();
    let refused = |error: DecodeError| match error {
        DecodeError::TooLarge { .. } => ApiError::TooLarge(error.to_string()),
        DecodeError::Unsupported(_) => ApiError::UnsupportedMedia(error.to_string()),
        DecodeError::Malformed(_) | DecodeError::Busy(_) => ApiError::BadData(error.to_string()),
    };
    let encoding = encoding(headers).map_err(refused)?;
    let content_type = text_header(headers, header::CONTENT_TYPE).map(str::to_owned);
    let format = Format::from_content_type(content_type.as_deref()).ok_or_else(|| {
        let sent = content_type.unwrap_or_default();
        ApiError::UnsupportedMedia(format!(
            "Content-Type {sent:?} is not spoken here; use application/json, application/x-ndjson or application/x-protobuf"
        ))
    })?;
    let mut arrival = arrival(call, sender)?;
    arrival.idempotency_key = idempotency_key(headers)?;
    let body = call.body().await?;
    let bytes_max = if is_page { PAGE_BYTES_MAX } else { UNPACKED_BYTES_MAX };
    let body = decompress(encoding, body, bytes_max).map_err(refused)?;
    Ok(edge(call)?.take(format, body, arrival).await?)
}

/// Returns who sends: a token, or a page of a listed site.
fn sender(call: &Call, origin: Option<&str>) -> Result<Sender, ApiError> {
    if let Some(name) = token(call) {
        return Ok(Sender::Token(name));
    }
    let Some(origin) = origin else {
        return Err(ApiError::Unauthorized {
            message: "a token with the scope \"events\" is missing; only pages of listed sites send without one"
                .to_owned(),
            challenge: "Bearer",
        });
    };
    listed(call, origin)
}

fn listed(call: &Call, origin: &str) -> Result<Sender, ApiError> {
    let checker = edge(call)?.checker.load();
    let site = checker.config().site_of_origin(origin).cloned();
    site.map(|site| Sender::Site(site.into()))
        .ok_or_else(|| ApiError::Forbidden("the page's origin is none of events.sites".to_owned()))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let bad = || {
        ApiError::BadData(format!(
            "Idempotency-Key has 1 to {KEY_BYTES_MAX} printable ASCII characters"
        ))
    };
    let key = value.to_str().map_err(|_| bad())?.trim();
    match (1..=KEY_BYTES_MAX).contains(&key.len()) {
        true => Ok(Some(key.to_owned())),
        false => Err(bad()),
    }
}

/// Lets the page read the answer.
fn allow(headers: &mut HeaderMap, origin: &str) {
    if let Ok(origin) = HeaderValue::try_from(origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let policy = header::HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(policy, HeaderValue::from_static("cross-origin"));
}

fn json(answer: &Answer, with_reasons: bool) -> Response {
    let errors = if with_reasons { answer.errors.as_slice() } else { &[] };
    let body = serde_json::json!({
        "accepted": answer.accepted,
        "duplicate": answer.duplicate,
        "rejected": answer.rejected,
        "bot": answer.bot,
        "errors": errors,
        "watermark": answer.watermark.0,
    });
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::Request;

    use super::super::super::App;
    use super::super::super::auth::Caller;
    use super::super::super::gate::Peer;
    use super::*;

    const SITE: &str = "sites: [{name: shop, origins: ['https://shop.example']}]";

    async fn post(app: App, request: Request<Body>, caller: Caller) -> (u16, HeaderMap, serde_json::Value) {
        let mut request = request;
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(Peer(IpAddr::from([198, 51, 100, 7])));
        let response = collect(Call::test(app, &[], request)).await;
        let response = response.unwrap_or_else(IntoResponse::into_response);
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        (parts.status.as_u16(), parts.headers, json)
    }

    fn app(yaml: &str) -> App {
        App {
            events: Some(Arc::new(crate::events::testing_edge::edge(yaml))),
            ..App::test()
        }
    }

    fn request(origin: Option<&str>, body: impl Into<Body>) -> Request<Body> {
        let mut request = Request::post("/collect").header("content-type", "application/json");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.body(body.into()).unwrap()
    }

    #[tokio::test]
    async fn a_batch_is_answered_with_counts_and_reasons() {
        let body = r#"{"events":[{"type":"click","event_id":"1","ts":0,"ad_id":"a"},{"type":"click","event_id":"1","ts":0,"ad_id":"a"},
            {"type":"click","event_id":"2","ts":0}]}"#;
        let (status, _, json) = post(app("{}"), request(None, body), Caller::anybody()).await;
        assert_eq!(status, 200, "{json}");
        assert_eq!(
            (json["accepted"].as_u64(), json["duplicate"].as_u64()),
            (Some(1), Some(1))
        );
        assert_eq!(json["errors"][0]["index"], 2);
        assert_eq!(json["errors"][0]["field"], "ad_id");
    }

    #[tokio::test]
    async fn a_page_of_a_listed_site_needs_no_token_and_gets_no_reasons() {
        let body =
            r#"{"events":[{"type":"pageview","event_id":"1","ts":0,"url":"https://shop.example/"},{"type":"x"}]}"#;
        let (status, headers, json) = post(
            app(SITE),
            request(Some("https://shop.example"), body),
            Caller::visitor(),
        )
        .await;
        assert_eq!(
            (status, json["accepted"].as_u64(), json["rejected"].as_u64()),
            (200, Some(1), Some(1)),
            "{json}"
        );
        assert_eq!(json["errors"].as_array().map(Vec::len), Some(0));
        assert_eq!(headers["access-control-allow-origin"], "https://shop.example");
        let (status, headers, _) = post(
            app(SITE),
            request(Some("https://evil.example"), body),
            Caller::visitor(),
        )
        .await;
        assert_eq!((status, headers.get("access-control-allow-origin")), (403, None));
        let evil = request(Some("https://evil.example"), body);
        assert_eq!(
            post(app(SITE), evil, Caller::anybody()).await.0,
            403,
            "no tokens are configured, but a page speaks"
        );
        assert_eq!(post(app(SITE), request(None, body), Caller::visitor()).await.0, 401);
        let large = vec![b' '; PAGE_BYTES_MAX + 1];
        assert_eq!(
            post(
                app(SITE),
                request(Some("https://shop.example"), large),
                Caller::visitor()
            )
            .await
            .0,
            413
        );
    }

    #[tokio::test]
    async fn what_is_no_batch_is_refused_by_its_kind() {
        let anybody = || Caller::anybody();
        assert_eq!(post(app("{}"), request(None, "hello"), anybody()).await.0, 400);
        let text = Request::post("/collect")
            .header("content-type", "text/html")
            .body(Body::empty())
            .unwrap();
        assert_eq!(post(app("{}"), text, anybody()).await.0, 415);
        let packed = Request::post("/collect")
            .header("content-encoding", "br")
            .body(Body::empty())
            .unwrap();
        assert_eq!(post(app("{}"), packed, anybody()).await.0, 415);
        let many = format!("{{\"events\":[{}]}}", ["{}"; 3].join(","));
        let (status, ..) = post(app("limits: {events_per_request: 2}"), request(None, many), anybody()).await;
        assert_eq!(status, 413);
        let key = Request::post("/collect")
            .header("idempotency-key", "")
            .body(Body::from("{}"))
            .unwrap();
        assert_eq!(post(app("{}"), key, anybody()).await.0, 400);
    }

    #[tokio::test]
    async fn a_browser_may_ask_first() {
        let ask = |origin: &str| {
            let request = Request::builder()
                .method("OPTIONS")
                .uri("/collect")
                .header("origin", origin);
            Call::test(app(SITE), &[], request.body(Body::empty()).unwrap())
        };
        let answer = preflight(ask("https://shop.example")).await.unwrap();
        assert_eq!(
            (
                answer.status().as_u16(),
                &answer.headers()["access-control-allow-methods"]
            ),
            (204, &HeaderValue::from_static("POST"))
        );
        assert!(preflight(ask("https://evil.example")).await.is_err());
    }
}
