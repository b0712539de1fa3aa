//! Our own agent's way in: requests to the address that this server listens on are answered without a connection.
//!
//! So the agent pushes and scrapes whatever TLS and tokens the listener asks for, through the same router and limits.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Uri};
use http_body_util::{BodyExt, Limited};

use super::Door;
use super::gate::{Gate, Ourselves};
use crate::io::http_client::{ANSWER_BYTES_MAX, HttpClient, HttpError, HttpRequest, HttpResponse};
use crate::io::{BoxFuture, Clock};

/// Sends requests to ourselves directly, and others as `elsewhere` does.
pub struct LocalClient {
    gate: Gate,
    address: SocketAddr,
    clock: Arc<dyn Clock>,
    elsewhere: Arc<dyn HttpClient>,
}

impl LocalClient {
    /// `address` is where the door's listener listens: `http://<address>` is us.
    pub fn new(door: &Arc<Door>, address: SocketAddr, elsewhere: Arc<dyn HttpClient>) -> LocalClient {
        LocalClient {
            gate: Gate::new(Arc::clone(door)),
            address,
            clock: Arc::clone(&door.clock),
            elsewhere,
        }
    }

    fn is_ours(&self, request: &HttpRequest) -> bool {
        let uri: Option<Uri> = request.url.parse().ok();
        let authority = uri.as_ref().and_then(Uri::authority);
        authority.and_then(|authority| authority.as_str().parse().ok()) == Some(self.address)
    }

    async fn ask(&self, sent: HttpRequest) -> Result<HttpResponse, HttpError> {
        let invalid = |error: &dyn std::fmt::Display| HttpError::Invalid(error.to_string());
        let mut request = Request::builder().method(sent.method.as_str()).uri(&sent.url);
        for (name, value) in &sent.headers {
            request = request.header(name, value);
        }
        let request = request
            .extension(Ourselves)
            .body(Body::from(sent.body))
            .map_err(|error| invalid(&error))?;
        let answered = async {
            let (parts, body) = self.gate.answer(self.address, request).await.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            Ok(HttpResponse {
                status: parts.status.as_u16(),
                headers: parts
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                    .collect(),
                body: body.map_err(|error| HttpError::Connect(error.to_string()))?.to_bytes(),
            })
        };
        tokio::select! {
            response = answered => response,
            () = self.clock.sleep(sent.timeout) => Err(HttpError::Timeout(sent.timeout)),
        }
    }
}

impl HttpClient for LocalClient {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        match self.is_ours(&request) {
            true => Box::pin(self.ask(request)),
            false => self.elsewhere.send(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::http::auth::tests::access;
    use crate::http::{Limits, Scope};
    use crate::io::SystemClock;
    use crate::io::http_client::{HttpOptions, HttpOutbox};
    use crate::model::Interval;

    fn request(method: &str, url: &str) -> HttpRequest {
        HttpRequest {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            timeout: Interval::secs(5),
            options: HttpOptions::default(),
        }
    }

    #[tokio::test]
    async fn our_agent_needs_no_token_and_may_not_administrate() {
        let door = super::super::door::tests::door(Limits::default());
        door.set_access(access(&[Scope::Query]));
        let elsewhere = HttpOutbox::new(SystemClock::new());
        let address = "127.0.0.1:9490".parse().unwrap();
        let client = LocalClient::new(&door, address, Arc::clone(&elsewhere) as Arc<dyn HttpClient>);
        let metrics = client
            .send(request("GET", "http://127.0.0.1:9490/metrics"))
            .await
            .unwrap();
        assert_eq!((metrics.status, &metrics.body[..]), (200, &b"# EOF\n"[..]));
        let reload = client
            .send(request("POST", "http://127.0.0.1:9490/-/reload"))
            .await
            .unwrap();
        assert_eq!(reload.status, 403);
        let _ = client.send(request("GET", "http://127.0.0.1:9100/metrics")).await;
        assert_eq!(elsewhere.sent().len(), 1);
    }
}
