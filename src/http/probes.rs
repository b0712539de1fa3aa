//! What operators and their tools ask of any server: alive, ready, metrics, reload.

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::ApiError;
use super::route::{DoorCall, Route, Scope};

/// The text format's content type.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) static ROUTES: &[Route<DoorCall>] = &[
    Route {
        method: Method::GET,
        path: "/-/healthy",
        scope: Scope::Public,
        body_bytes_max: 0,
        handler: |_| Box::pin(async { Ok::<Response, ApiError>("Campanile is healthy.\n".into_response()) }),
    },
    Route {
        method: Method::GET,
        path: "/-/ready",
        scope: Scope::Public,
        body_bytes_max: 0,
        handler: |call| Box::pin(async move { Ok(ready(&call)) }),
    },
    Route {
        method: Method::POST,
        path: "/-/reload",
        scope: Scope::Admin,
        body_bytes_max: 4096,
        handler: |call| Box::pin(reload(call)),
    },
    Route {
        method: Method::GET,
        path: "/metrics",
        scope: Scope::Query,
        body_bytes_max: 0,
        handler: |call| Box::pin(async move { Ok(metrics(&call)) }),
    },
];

fn ready(call: &DoorCall) -> Response {
    match call.door.readiness().reason() {
        None => "Campanile is ready.\n".into_response(),
        Some(reason) => {
            let retry = [(header::RETRY_AFTER, "1")];
            let text = format!("Campanile is not ready: {reason}.\n");
            (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
        }
    }
}

async fn reload(call: DoorCall) -> Result<Response, ApiError> {
    match call.door.reload.reload().await {
        Ok(()) => Ok("reloaded\n".into_response()),
        Err(reason) => Err(ApiError::Internal(format!(
            "the configuration was not reloaded, the old one stays: {reason}"
        ))),
    }
}

fn metrics(call: &DoorCall) -> Response {
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], (call.door.exposition)()).into_response()
}
