//! The one place that knows status codes.
//!
//! Errors leave as Prometheus's `{"status":"error","errorType":…,"error":…}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::metrics::REFUSED;
use crate::query::QueryError;
use crate::storage::{AppendError, StorageError};

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The request is malformed: 400.
    #[error("{0}")]
    BadData(String),
    /// The request holds a text that is no query: 400, with a snippet and suggestion beside the error.
    #[error("{message}")]
    BadQuery {
        /// Line, column and reason.
        message: String,
        /// The place with a caret, and what might have been meant.
        hint: String,
    },
    /// The caller did not say who it is, or not truly: 401.
    #[error("{message}")]
    Unauthorized {
        /// What to do about it; the same for a missing credential and a wrong one.
        message: String,
        /// The value of `WWW-Authenticate`.
        challenge: &'static str,
    },
    /// The caller may not do this: 403.
    #[error("{0}")]
    Forbidden(String),
    /// The path exists, not with this method: 405; `Allow` lists the methods.
    #[error("{method} is not answered here, only {allow}")]
    MethodNotAllowed {
        /// What was sent.
        method: String,
        /// What would be answered.
        allow: String,
    },
    /// The request was meant for another server: 421.
    #[error("{0}")]
    Misdirected(String),
    /// No such thing: 404.
    #[error("{0}")]
    NotFound(String),
    /// The body is larger than a limit: 413; the text names the limit and what was sent.
    #[error("{0}")]
    TooLarge(String),
    /// The content type or encoding is not spoken here: 415.
    #[error("{0}")]
    UnsupportedMedia(String),
    /// The body did not arrive in time: 408.
    #[error("{0}")]
    SlowClient(String),
    /// Too much under way: 429 with Retry-After.
    #[error("{0}")]
    Overloaded(String),
    /// Not now: 503 with Retry-After.
    #[error("{0}")]
    Unavailable(String),
    /// The query engine's answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The store's answer to a write.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The store's answer to a read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A defect of ours: 500.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// Returns the status code and Prometheus's error type.
    fn classify(&self) -> (StatusCode, &'static str) {
        match self {
            ApiError::BadData(_) | ApiError::BadQuery { .. } => (StatusCode::BAD_REQUEST, "bad_data"),
            ApiError::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "unauthorized"),
            ApiError::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            ApiError::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "bad_data"),
            ApiError::Misdirected(_) => (StatusCode::MISDIRECTED_REQUEST, "bad_data"),
            ApiError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            ApiError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "bad_data"),
            ApiError::UnsupportedMedia(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_data"),
            ApiError::SlowClient(_) => (StatusCode::REQUEST_TIMEOUT, "timeout"),
            ApiError::Overloaded(_) => (StatusCode::TOO_MANY_REQUESTS, "unavailable"),
            ApiError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ApiError::Query(error) => match error {
                QueryError::Parse { .. } => (StatusCode::BAD_REQUEST, "bad_data"),
                QueryError::Execution(_) | QueryError::Limit(_) => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
                QueryError::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
                QueryError::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "canceled"),
                QueryError::Storage(error) => storage(error),
            },
            ApiError::Append(error) => match error {
                AppendError::Overloaded(_) => (StatusCode::TOO_MANY_REQUESTS, "unavailable"),
                AppendError::DiskFull(_) | AppendError::Closed(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            },
            ApiError::Storage(error) => storage(error),
            ApiError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

/// The limits of queries; the engine names the one that was reached.
const QUERY_LIMITS: [&str; 3] = ["query_samples", "query_series", "query_memory_bytes"];

fn count_limit(error: &QueryError) {
    match error {
        QueryError::Timeout => REFUSED.inc(&["query_time"]),
        QueryError::Limit(text) => {
            if let Some(name) = QUERY_LIMITS.iter().find(|name| text.contains(*name)) {
                REFUSED.inc(&[name]);
            }
        }
        _ => {}
    }
}

fn storage(error: &StorageError) -> (StatusCode, &'static str) {
    match error {
        StorageError::Corrupt { .. } | StorageError::Read { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        StorageError::Limit(_) => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let ApiError::Query(error) = &self {
            count_limit(error);
        }
        let (status, kind) = self.classify();
        if status.is_server_error() {
            tracing::warn!(error = %self, status = status.as_u16(), "request failed");
        }
        let mut body = serde_json::json!({"status": "error", "errorType": kind, "error": self.to_string()});
        if let ApiError::BadQuery { hint, .. } = &self {
            body["hint"] = hint.as_str().into();
        }
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (status, json, body.to_string()).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        match self {
            ApiError::MethodNotAllowed { allow, .. } => {
                let allow = HeaderValue::try_from(allow).expect("method names are header values");
                response.headers_mut().insert(header::ALLOW, allow);
            }
            // What was not read of the body must not be taken for the next request.
            ApiError::TooLarge(_) | ApiError::SlowClient(_) => {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            ApiError::Unauthorized { challenge, .. } => {
                let challenge = HeaderValue::from_static(challenge);
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            _ => {}
        }
        response
    }
}
