//! What a request meets between its connection and its route: a name, a look at who it was meant for, and on the way
//! back a line in the log, a count and the security headers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;
use tracing::Instrument;

use super::metrics::{REQUEST_SECONDS, REQUESTS};
use super::router::{self, Answered};
use super::{ApiError, Door, headers};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where a request came from: its connection's other end.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Marks a request of our own agent, which came over no connection.
#[derive(Clone, Copy)]
pub(super) struct Ourselves;

/// The door and its router.
pub(super) struct Gate {
    pub(super) door: Arc<Door>,
    router: Router,
}

impl Gate {
    pub(super) fn new(door: Arc<Door>) -> Gate {
        Gate {
            router: router::router(&door),
            door,
        }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, peer: SocketAddr, mut request: Request<Body>) -> Response {
        let began = self.door.clock.mono();
        let id = format!("{:016x}", self.door.random.next_u64());
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let span = tracing::info_span!("http.request", id, %method, path, %peer);
        request.extensions_mut().insert(Peer(peer.ip()));
        strip_prefix(request.uri_mut(), &self.door.prefix);
        let answer = async {
            match meant_for_us(&request, &self.door.hosts) {
                Ok(()) => self
                    .router
                    .clone()
                    .oneshot(request)
                    .await
                    .unwrap_or_else(|never| match never {}),
                Err(error) => error.into_response(),
            }
        };
        let mut response = answer.instrument(span.clone()).await;
        let seconds = self.door.clock.mono().seconds_since(began);
        let handler = response.extensions().get().map_or("unmatched", |Answered(path)| path);
        REQUESTS.inc(&[handler, response.status().as_str()]);
        REQUEST_SECONDS.observe(seconds);
        tracing::debug!(parent: &span, status = response.status().as_u16(), seconds, "answered");
        headers::secure(response.headers_mut(), self.door.guard.access.load().headers());
        let id = HeaderValue::try_from(id).expect("hex digits are a header value");
        response.headers_mut().insert(REQUEST_ID.clone(), id);
        response
    }
}

/// Takes the external URL's path off the request's, so that one server works behind a proxy that keeps it and one that
/// does not.
fn strip_prefix(uri: &mut Uri, prefix: &str) {
    let Some(rest) = uri.path().strip_prefix(prefix).filter(|_| !prefix.is_empty()) else {
        return;
    };
    if !rest.is_empty() && !rest.starts_with('/') {
        return;
    }
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let whole = format!("{}{query}", if rest.is_empty() { "/" } else { rest });
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(whole.try_into().expect("a suffix of a path at a slash is a path"));
    *uri = Uri::from_parts(parts).expect("only the path has changed");
}

/// Refuses requests for another host name: a page on the web could otherwise point its own name at this server and read
/// the answers (DNS rebinding). Addresses cannot be rebound.
fn meant_for_us(request: &Request<Body>, hosts: &BTreeSet<String>) -> Result<(), ApiError> {
    let named = request.headers().get_all(header::HOST);
    let from_uri = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    for name in named.iter().map(HeaderValue::as_bytes).chain(from_uri) {
        if !std::str::from_utf8(name).is_ok_and(|name| is_ours(name, hosts)) {
            return Err(ApiError::Misdirected(
                "this server does not answer for that host name; use an address or localhost, or set external_url"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

fn is_ours(authority: &str, hosts: &BTreeSet<String>) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.parse::<IpAddr>().is_ok() || hosts.contains(&host)
}

/// Refuses a request that a page of another site made a browser send.
///
/// # Errors
/// [`ApiError::Forbidden`].
pub(super) fn same_site(headers: &HeaderMap, hosts: &BTreeSet<String>) -> Result<(), ApiError> {
    let foreign = |what: &str| {
        Err(ApiError::Forbidden(format!(
            "refused: sent by a page of another site ({what})"
        )))
    };
    if headers.get(&FETCH_SITE).is_some_and(|site| site == "cross-site") {
        return foreign("Sec-Fetch-Site: cross-site");
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, rest)| rest);
    match authority {
        Some(authority) if Some(authority) == host => Ok(()),
        // Behind a proxy the Host header may be the proxy's choice: the configured names count too.
        Some(authority) if hosts.contains(authority.split(':').next().unwrap_or("")) => Ok(()),
        _ => foreign("Origin"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> BTreeSet<String> {
        BTreeSet::from(["campanile.example".to_owned()])
    }

    #[test]
    fn only_addresses_localhost_and_configured_names_are_ours() {
        for ours in [
            "127.0.0.1:9490",
            "[::1]:9490",
            "10.1.2.3",
            "localhost",
            "LOCALHOST:80",
            "Campanile.Example:443",
        ] {
            assert!(is_ours(ours, &hosts()), "{ours}");
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example:9490",
            "",
            "[evil]",
            "campanile.example.evil",
        ] {
            assert!(!is_ours(foreign, &hosts()), "{foreign}");
        }
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let check = |pairs: &[(&'static str, &'static str)]| {
            let headers: HeaderMap = pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            same_site(&headers, &hosts()).is_ok()
        };
        assert!(check(&[("host", "localhost:9490")]));
        assert!(check(&[
            ("host", "localhost:9490"),
            ("origin", "http://localhost:9490"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(check(&[("host", "10.0.0.1"), ("origin", "https://campanile.example")]));
        assert!(!check(&[("host", "localhost:9490"), ("sec-fetch-site", "cross-site")]));
        assert!(!check(&[
            ("host", "localhost:9490"),
            ("origin", "http://localhost:3000")
        ]));
        assert!(!check(&[("host", "localhost:9490"), ("origin", "null")]));
    }

    #[test]
    fn the_external_path_is_taken_off_when_it_is_there() {
        for (before, after) in [
            ("/campanile/api/v1/query?query=a%2Fb", "/api/v1/query?query=a%2Fb"),
            ("/campanile", "/"),
            ("/campanile?x=1", "/?x=1"),
            ("/campaniles/x", "/campaniles/x"),
            ("/-/healthy", "/-/healthy"),
        ] {
            let mut uri: Uri = before.parse().unwrap();
            strip_prefix(&mut uri, "/campanile");
            assert_eq!(uri.to_string(), after);
        }
    }
}
