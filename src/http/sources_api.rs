//! `GET /api/v1/sources`: who sends how many series and samples, who was refused and why.

use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};

use super::ApiError;
use super::route::{Call, Route, Scope};

pub(super) static ROUTES: &[Route] = &[Route {
    method: Method::GET,
    path: "/api/v1/sources",
    scope: Scope::Query,
    body_bytes_max: 0,
    handler: |call| Box::pin(sources(call)),
}];

async fn sources(call: Call) -> Result<Response, ApiError> {
    let body = serde_json::json!({"status": "success", "data": {"sources": call.app.intake.sources()}});
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, body.to_string()).into_response())
}
