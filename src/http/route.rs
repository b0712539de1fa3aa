//! The route table: path, method, scope, body limit, handler. Deny by default: what is not listed does not exist.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};

use super::{ApiError, App};
use crate::io::BoxFuture;

/// What a caller must be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing: health checks and the UI's own files.
    Public,
    /// Push samples.
    Write,
    /// Read samples, rules, status.
    Query,
    /// Alerts and silences, in and out.
    Alerts,
    /// Clicks and page views.
    Events,
    /// Reload and administration.
    Admin,
}

/// Answers one request.
pub(super) type Handler = fn(Call) -> BoxFuture<'static, Result<Response, ApiError>>;

/// One row of the table.
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path in axum's notation: `/api/v1/label/{name}/values`.
    pub path: &'static str,
    /// What the caller must be allowed to do.
    pub scope: Scope,
    /// The most bytes of body, before decompression.
    pub body_bytes_max: usize,
    /// The handler.
    pub(super) handler: Handler,
}

/// One request on its way through a handler.
pub struct Call {
    /// The server.
    pub app: Arc<App>,
    /// The path's parameters, percent-decoded.
    pub params: Vec<(String, String)>,
    /// The request.
    pub request: Request<Body>,
    /// The row that matched.
    pub body_bytes_max: usize,
}

impl Call {
    /// Returns a path parameter; empty when the path has none of that name.
    pub fn param(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(found, _)| found == name)
            .map_or("", |(_, value)| value)
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// [`ApiError::TooLarge`] beyond the route's limit, [`ApiError::BadData`] when the connection breaks.
    pub async fn body(&mut self) -> Result<Bytes, ApiError> {
        let body = std::mem::take(self.request.body_mut());
        match Limited::new(body, self.body_bytes_max).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(ApiError::TooLarge(format!(
                "the body is over the limit of {} bytes",
                self.body_bytes_max
            ))),
            Err(error) => Err(ApiError::BadData(format!("cannot read the body: {error}"))),
        }
    }
}

/// Returns all routes of the server.
pub(super) fn all() -> impl Iterator<Item = &'static Route> {
    [super::serve::ROUTES].into_iter().flatten()
}
