//! HTTP as a client: webhooks, remote write from the agent, scrapes.

mod outbox;
mod real;

pub use outbox::{HttpOutbox, SentRequest};
pub use real::ReqwestClient;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::BoxFuture;
use crate::model::Interval;

/// A request to send.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// Absolute URL, http or https.
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// The longest time for the whole exchange, connecting included.
    pub timeout: Interval,
    /// How to connect.
    pub options: HttpOptions,
}

/// How to connect: TLS and proxy. Equal options share connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpOptions {
    /// Follow redirects, within the same host only: credentials never travel to another one.
    pub follow_redirects: bool,
    /// Proxy URL.
    pub proxy_url: Option<String>,
    /// Without a `proxy_url`: use the proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY`, …).
    pub proxy_from_environment: bool,
    /// PEM of the certificate authorities to trust, instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// PEM of a client certificate with its key.
    pub identity_pem: Option<Vec<u8>>,
    /// Name expected in the server's certificate.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// Speak HTTP/1.1 only.
    pub http1_only: bool,
    /// Which TLS versions may be spoken.
    pub tls_versions: TlsVersions,
}

/// Which TLS versions may be spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    All,
    /// 1.2 only.
    Tls12,
    /// 1.3 only.
    Tls13,
}

/// An answer. The body is cut at [`ANSWER_BYTES_MAX`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Headers with lower-case names; the last of a repeated one.
    pub headers: BTreeMap<String, String>,
    /// The body, or its beginning.
    pub body: Bytes,
}

/// How much of an answer's body is kept.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why there is no answer. Nothing in the texts repeats credentials of the URL.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HttpError {
    /// The request cannot be sent as it is: a retry is useless.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// No connection, or it broke.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The time was up.
    #[error("timed out after {0}")]
    Timeout(Interval),
}

/// Sends requests.
pub trait HttpClient: Send + Sync {
    /// Sends a request and waits for the whole answer, whatever its status.
    ///
    /// # Errors
    /// [`HttpError`] when there is no answer.
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>>;
}
