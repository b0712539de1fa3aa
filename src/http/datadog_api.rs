//! Datadog's doors, and the calls by which its agent makes sure of them first: it stops when its key is not valid.

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::ApiError;
use super::route::{Call, Route, Scope};
use super::write_api::{Arrival, BODY_BYTES_MAX, encoding, refusal_text, text_header};
use crate::ingest::{Intake, Protocol, datadog};

macro_rules! row {
    ($method:ident $path:literal, $bytes:expr, $handler:expr) => {
        Route {
            method: Method::$method,
            path: $path,
            scope: Scope::Write,
            body_bytes_max: $bytes,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

/// With `dd_url: http://HOST:PORT/datadog` everything comes below that path. At the root only what is nobody else's is
/// answered: `/api/v1/series` is Prometheus's.
#[rustfmt::skip]
pub(super) static ROUTES: &[Route] = &[
    row!(POST "/datadog/api/v1/series", BODY_BYTES_MAX, |call| series(call, false)),
    row!(POST "/datadog/api/v2/series", BODY_BYTES_MAX, |call| series(call, true)),
    row!(GET "/datadog/api/v1/validate", 0, validate),
    row!(POST "/datadog/api/v1/check_run", BODY_BYTES_MAX, |call| passed_over(call, "service_check")),
    row!(POST "/datadog/api/v1/metadata", BODY_BYTES_MAX, |call| passed_over(call, "metadata")),
    row!(POST "/datadog/api/beta/sketches", BODY_BYTES_MAX, |call| passed_over(call, "sketch")),
    row!(POST "/datadog/intake", BODY_BYTES_MAX, |call| passed_over(call, "intake")),
    row!(POST "/datadog/intake/", BODY_BYTES_MAX, |call| passed_over(call, "intake")),
    row!(POST "/api/v2/series", BODY_BYTES_MAX, |call| series(call, true)),
    row!(GET "/api/v1/validate", 0, validate),
    row!(POST "/api/v1/check_run", BODY_BYTES_MAX, |call| passed_over(call, "service_check")),
    row!(POST "/api/beta/sketches", BODY_BYTES_MAX, |call| passed_over(call, "sketch")),
    row!(POST "/intake", BODY_BYTES_MAX, |call| passed_over(call, "intake")),
    row!(POST "/intake/", BODY_BYTES_MAX, |call| passed_over(call, "intake")),
];

fn accepted(json: &'static str) -> Response {
    let json_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (StatusCode::ACCEPTED, json_type, json).into_response()
}

async fn series(mut call: Call, second: bool) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let arrival = Arrival::of(&call, Protocol::Datadog);
    let headers = call.request.headers();
    let encoding = encoding(headers).map_err(|error| arrival.refused(error))?;
    let json = text_header(headers, header::CONTENT_TYPE).is_none_or(|kind| kind.starts_with("application/json"));
    let decode = move |body: Bytes, intake: &Intake| {
        let (seed, limits) = (intake.seed(), intake.limits());
        if second {
            return datadog::decode_v2(&body, json, seed, limits);
        }
        datadog::decode_v1(&body, seed, limits)
    };
    let taken = arrival.take(encoding, body, decode).await?;
    match refusal_text(&taken.report) {
        Some(text) => Err(ApiError::BadData(text)),
        None if second => Ok(accepted(r#"{"errors":[]}"#)),
        None => Ok(accepted(r#"{"status":"ok"}"#)),
    }
}

/// Whoever may write here has a valid key.
async fn validate(_call: Call) -> Result<Response, ApiError> {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, r#"{"valid":true}"#).into_response())
}

/// What the agent sends beside metrics is no sample: taken, counted, not kept.
async fn passed_over(mut call: Call, what: &'static str) -> Result<Response, ApiError> {
    call.body().await?;
    call.app.intake.count_skipped(Protocol::Datadog, what, 1);
    Ok(accepted(r#"{"status":"ok"}"#))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;

    use super::*;
    use crate::http::App;

    async fn send(method: Method, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder().body(Body::from(body.to_owned())).unwrap();
        let row = ROUTES
            .iter()
            .find(|row| row.path == path && row.method == method)
            .unwrap();
        let answer = (row.handler)(Call::test(App::test(), &[], request)).await;
        let response = answer.unwrap_or_else(IntoResponse::into_response);
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_agents_first_calls_succeed() {
        assert_eq!(
            send(Method::GET, "/api/v1/validate", "").await,
            (200, r#"{"valid":true}"#.to_owned())
        );
        for path in ["/intake/", "/api/v1/check_run", "/datadog/api/v1/metadata"] {
            assert_eq!(
                send(Method::POST, path, "{}").await,
                (202, r#"{"status":"ok"}"#.to_owned()),
                "{path}"
            );
        }
        let series = r#"{"series":[{"metric":"a.b","points":[[0,1]]}]}"#;
        assert_eq!(send(Method::POST, "/datadog/api/v1/series", series).await.0, 202);
        let (status, text) = send(
            Method::POST,
            "/api/v2/series",
            r#"{"series":[{"points":[{"timestamp":0,"value":1}]}]}"#,
        )
        .await;
        assert!(status == 400 && text.contains("has no metric"), "{text}");
    }
}
