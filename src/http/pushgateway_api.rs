//! The Pushgateway's paths, for jobs that end before anyone could scrape them.

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::ApiError;
use super::route::{Call, Route, Scope};
use super::write_api::{Arrival, BODY_BYTES_MAX, encoding, text_header};
use crate::ingest::exposition::{self, Family};
use crate::ingest::pushgateway::{Grouping, PushError, PushMode};
use crate::ingest::text::TextFormat;
use crate::ingest::{DecodeError, Protocol, decompress};

macro_rules! row {
    ($method:ident $path:literal, $scope:ident, $bytes:expr, $handler:expr) => {
        Route {
            method: Method::$method,
            path: $path,
            scope: Scope::$scope,
            body_bytes_max: $bytes,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

#[rustfmt::skip]
pub(super) static ROUTES: &[Route] = &[
    row!(PUT "/metrics/job/{job}", Write, BODY_BYTES_MAX, |call| push(call, PushMode::Replace, false)),
    row!(PUT "/metrics/job/{job}/{*labels}", Write, BODY_BYTES_MAX, |call| push(call, PushMode::Replace, false)),
    row!(PUT "/metrics/job@base64/{job}", Write, BODY_BYTES_MAX, |call| push(call, PushMode::Replace, true)),
    row!(PUT "/metrics/job@base64/{job}/{*labels}", Write, BODY_BYTES_MAX, |call| push(call, PushMode::Replace, true)),
    row!(POST "/metrics/job/{job}", Write, BODY_BYTES_MAX, |call| push(call, PushMode::Merge, false)),
    row!(POST "/metrics/job/{job}/{*labels}", Write, BODY_BYTES_MAX, |call| push(call, PushMode::Merge, false)),
    row!(POST "/metrics/job@base64/{job}", Write, BODY_BYTES_MAX, |call| push(call, PushMode::Merge, true)),
    row!(POST "/metrics/job@base64/{job}/{*labels}", Write, BODY_BYTES_MAX, |call| push(call, PushMode::Merge, true)),
    row!(DELETE "/metrics/job/{job}", Write, 0, |call| delete(call, false)),
    row!(DELETE "/metrics/job/{job}/{*labels}", Write, 0, |call| delete(call, false)),
    row!(DELETE "/metrics/job@base64/{job}", Write, 0, |call| delete(call, true)),
    row!(DELETE "/metrics/job@base64/{job}/{*labels}", Write, 0, |call| delete(call, true)),
    row!(GET "/api/v1/metrics", Query, 0, groups),
    row!(PUT "/api/v1/admin/wipe", Admin, 0, wipe),
    row!(POST "/api/v1/admin/wipe", Admin, 0, wipe),
];

fn grouping(call: &Call, base64: bool) -> Result<Grouping, ApiError> {
    let job = call.param("job");
    let job = if base64 {
        Grouping::base64(job)
    } else {
        Ok(job.to_owned())
    };
    job.and_then(|job| Grouping::from_path(&job, call.param("labels")))
        .map_err(ApiError::BadData)
}

async fn push(mut call: Call, mode: PushMode, base64: bool) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let arrival = Arrival::of(&call, Protocol::Pushgateway);
    let grouping = grouping(&call, base64)?;
    let families = families(&call, body, &arrival).map_err(|error| arrival.refused(error))?;
    let pushed = call
        .app
        .pushgateway
        .push(grouping, mode, families, &arrival.source)
        .await;
    pushed.map_err(|error| answer(error, &arrival))?;
    Ok(StatusCode::OK.into_response())
}

fn families(call: &Call, body: Bytes, arrival: &Arrival) -> Result<Vec<Family>, DecodeError> {
    let headers = call.request.headers();
    let body = decompress(encoding(headers)?, body, arrival.intake.limits().decoded_bytes_max)?;
    let content_type = text_header(headers, header::CONTENT_TYPE);
    if exposition::is_protobuf(content_type) {
        return exposition::decode_protobuf(&body, false);
    }
    exposition::decode_text(&body, TextFormat::from_content_type(content_type))
}

fn answer(error: PushError, arrival: &Arrival) -> ApiError {
    match error {
        PushError::Inconsistent(text) => arrival.refused(DecodeError::Malformed(text)),
        PushError::Limit(text) => ApiError::Overloaded(text),
        PushError::Append(error) => error.into(),
        PushError::Log(error) => ApiError::Unavailable(error.to_string()),
    }
}

async fn delete(call: Call, base64: bool) -> Result<Response, ApiError> {
    let arrival = Arrival::of(&call, Protocol::Pushgateway);
    let grouping = grouping(&call, base64)?;
    let deleted = call.app.pushgateway.delete(&grouping, &arrival.source).await;
    deleted.map_err(|error| answer(error, &arrival))?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn groups(call: Call) -> Result<Response, ApiError> {
    let body = serde_json::json!({"status": "success", "data": call.app.pushgateway.view()});
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, body.to_string()).into_response())
}

async fn wipe(call: Call) -> Result<Response, ApiError> {
    let gateway = &call.app.pushgateway;
    if !gateway.has_admin_api() {
        return Err(ApiError::Forbidden(
            "the admin API is off; set ingest.pushgateway.enable_admin_api to true".to_owned(),
        ));
    }
    let arrival = Arrival::of(&call, Protocol::Pushgateway);
    let wiped = gateway.wipe(&arrival.source).await;
    wiped.map_err(|error| answer(error, &arrival))?;
    Ok(StatusCode::ACCEPTED.into_response())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::Request;

    use super::*;
    use crate::http::App;

    fn sharing(app: &App) -> App {
        App {
            pushgateway: Arc::clone(&app.pushgateway),
            ..App::test()
        }
    }

    async fn send(app: &Arc<App>, method: Method, path: &str, params: &[(&str, &str)], body: &str) -> (u16, String) {
        let request = Request::builder()
            .method(&method)
            .uri("/")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let row = ROUTES
            .iter()
            .find(|row| row.path == path && row.method == method)
            .unwrap();
        let answer = (row.handler)(Call::test(sharing(app), params, request)).await;
        let response = answer.unwrap_or_else(IntoResponse::into_response);
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_group_is_pushed_shown_and_deleted() {
        let app = Arc::new(App::test());
        let params = [("job", "YS9i"), ("labels", "x/y")];
        let path = "/metrics/job@base64/{job}/{*labels}";
        assert_eq!(
            send(&app, Method::PUT, path, &params, "a 1\n").await,
            (200, String::new())
        );
        let (_, shown) = send(&app, Method::GET, "/api/v1/metrics", &[], "").await;
        assert!(
            shown.contains(r#""labels":{"job":"a/b","x":"y"}"#) && shown.contains("push_time_seconds"),
            "{shown}"
        );
        assert_eq!(send(&app, Method::DELETE, path, &params, "").await.0, 202);
        let (_, shown) = send(&app, Method::GET, "/api/v1/metrics", &[], "").await;
        assert_eq!(shown, r#"{"status":"success","data":[]}"#);
    }

    #[tokio::test]
    async fn what_cannot_be_taken_is_named() {
        let app = Arc::new(App::test());
        for (labels, body, expected) in [
            ("x", "a 1\n", "odd number of components"),
            ("x/y", "a 1\nb\n", "line 2"),
            ("x/y", "a 1 5\n", "must not have a timestamp"),
        ] {
            let params = [("job", "j"), ("labels", labels)];
            let (status, text) = send(&app, Method::POST, "/metrics/job/{job}/{*labels}", &params, body).await;
            assert!(status == 400 && text.contains(expected), "{text}");
        }
        let (status, text) = send(&app, Method::PUT, "/api/v1/admin/wipe", &[], "").await;
        assert!(status == 403 && text.contains("enable_admin_api"), "{text}");
    }
}
