//! The HTTP client of the real world: reqwest over rustls with ring.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use parking_lot::Mutex;
use reqwest::redirect::Policy;

use super::{ANSWER_BYTES_MAX, HttpClient, HttpError, HttpOptions, HttpRequest, HttpResponse, TlsVersions};
use crate::io::BoxFuture;
use crate::io::tls;

/// How many kinds of connection are kept apart before the pools start anew: more than anyone configures.
const CLIENTS_MAX: usize = 64;
/// The longest chain of redirects followed.
const REDIRECTS_MAX: usize = 10;

/// Sends over the network. Requests with equal [`HttpOptions`] share connections.
pub struct ReqwestClient {
    clients: Mutex<BTreeMap<HttpOptions, reqwest::Client>>,
}

impl ReqwestClient {
    /// Starts without connections.
    pub fn new() -> Arc<ReqwestClient> {
        // Somebody else in the process may have installed it before: the same one, so that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Arc::new(ReqwestClient {
            clients: Mutex::new(BTreeMap::new()),
        })
    }

    fn client(&self, options: &HttpOptions) -> Result<reqwest::Client, HttpError> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(options) {
            return Ok(client.clone());
        }
        let client = build(options).map_err(HttpError::Invalid)?;
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        clients.insert(options.clone(), client.clone());
        Ok(client)
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let client = self.client(&request.options)?;
        let method = reqwest::Method::from_bytes(request.method.as_bytes())
            .map_err(|_| HttpError::Invalid(format!("method {:?}", request.method)))?;
        let mut builder = client.request(method, &request.url).body(request.body);
        for (name, value) in &request.headers {
            builder = builder.header(name.as_str(), value.as_str());
        }
        let answer = builder.send().await.map_err(explain)?;
        let status = answer.status().as_u16();
        let headers = answer
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        Ok(HttpResponse {
            status,
            headers,
            body: collect(answer).await?,
        })
    }
}

impl HttpClient for ReqwestClient {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(async move {
            let timeout = request.timeout;
            match tokio::time::timeout(timeout.as_std(), self.exchange(request)).await {
                Ok(answer) => answer,
                Err(_) => Err(HttpError::Timeout(timeout)),
            }
        })
    }
}

fn build(options: &HttpOptions) -> Result<reqwest::Client, String> {
    // Some receivers look for `Content-Type` in just this spelling, as Go and curl send it.
    let mut builder = reqwest::Client::builder()
        .http1_title_case_headers()
        .user_agent(concat!("Campanile/", env!("CARGO_PKG_VERSION")));
    builder = builder.redirect(if options.follow_redirects {
        Policy::custom(|attempt| {
            let from = attempt.previous().last();
            let same_host = from.is_some_and(|from| {
                from.host() == attempt.url().host() && (attempt.url().scheme() == "https" || from.scheme() == "http")
            });
            if !same_host || attempt.previous().len() > REDIRECTS_MAX {
                attempt.stop()
            } else {
                attempt.follow()
            }
        })
    } else {
        Policy::none()
    });
    if let Some(proxy) = &options.proxy_url {
        let proxy = reqwest::Proxy::all(proxy).map_err(|error| format!("proxy_url: {}", error.without_url()))?;
        builder = builder.proxy(proxy);
    } else if !options.proxy_from_environment {
        builder = builder.no_proxy();
    }
    if options.http1_only {
        builder = builder.http1_only();
    }
    let own_tls = options.ca_pem.is_some()
        || options.identity_pem.is_some()
        || options.server_name.is_some()
        || options.insecure_skip_verify
        || options.tls_versions != TlsVersions::All;
    if own_tls {
        builder = builder.tls_backend_preconfigured(tls::client_config(options)?);
    }
    builder.build().map_err(|error| chain(&error.without_url()))
}

/// Reads the body up to [`ANSWER_BYTES_MAX`]; the rest is left unread.
async fn collect(answer: reqwest::Response) -> Result<Bytes, HttpError> {
    let mut body = BytesMut::new();
    let mut stream = answer.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(explain)?;
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() >= ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(body.freeze())
}

/// The texts leave out the URL: it may carry credentials.
fn explain(error: reqwest::Error) -> HttpError {
    let error = error.without_url();
    if error.is_builder() {
        HttpError::Invalid(chain(&error))
    } else {
        HttpError::Connect(chain(&error))
    }
}

fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
