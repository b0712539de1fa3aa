//! One HTTP request to a receiver: who we are, how we connect, and what the answer means.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;

use super::config::{HttpAuth, HttpConfig, OAuth2, TlsConfig};
use super::scalar::SecretSource;
use crate::io::disk::Disk;
use crate::io::http_client::{HttpClient, HttpError, HttpOptions, HttpRequest, HttpResponse, TlsVersions};
use crate::io::{Clock, Mono};
use crate::model::{Interval, Millis};

/// How much of an answer is kept in a receipt or an error.
const ANSWER_CHARS_MAX: usize = 256;
/// A token is fetched anew this long before it ends.
const TOKEN_MARGIN: Interval = Interval::secs(10);

/// Why a message did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Another try may succeed, not before the given time when the receiver named one.
    Transient {
        /// What happened.
        reason: String,
        /// What the receiver asked us to wait.
        retry_after: Option<Interval>,
    },
    /// The same message would fail again.
    Permanent(String),
}

impl Failure {
    /// Returns what happened.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Failure::Transient { reason, .. } | Failure::Permanent(reason) => reason,
        }
    }

    /// A failure that may pass.
    pub(crate) fn transient(reason: impl Into<String>) -> Failure {
        Failure::Transient {
            reason: reason.into(),
            retry_after: None,
        }
    }
}

/// A request of a receiver, before we add who we are.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: &'static str,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Outgoing {
    /// A POST of JSON.
    pub(crate) fn json(url: impl Into<String>, body: &serde_json::Value) -> Outgoing {
        Outgoing {
            method: "POST",
            url: url.into(),
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: Bytes::from(body.to_string()),
        }
    }

    /// Adds a header.
    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Outgoing {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Sends requests as `http_config` says; keeps OAuth 2.0 tokens while they last.
pub(crate) struct Sender {
    pub(crate) client: Arc<dyn HttpClient>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    tokens: Mutex<HashMap<String, (String, Mono)>>,
}

impl Sender {
    /// Starts without tokens.
    pub(crate) fn new(client: Arc<dyn HttpClient>, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Sender {
        Sender {
            client,
            disk,
            clock,
            tokens: Mutex::default(),
        }
    }

    /// Sends one request and takes 2xx for an arrival.
    ///
    /// # Errors
    /// [`Failure`] says whether to try again.
    pub(crate) async fn send(
        &self,
        config: &HttpConfig,
        outgoing: Outgoing,
        timeout: Interval,
    ) -> Result<HttpResponse, Failure> {
        let mut headers = outgoing.headers;
        for (name, source) in &config.headers {
            headers.push((name.clone(), self.secret(source)?));
        }
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        {
            headers.extend(
                self.authorization(config, timeout)
                    .await?
                    .map(|value| ("Authorization".to_owned(), value)),
            );
        }
        let mut options = self.options(&config.tls_config)?;
        options.follow_redirects = config.follow_redirects;
        options.http1_only = !config.enable_http2;
        options.proxy_from_environment = config.proxy_from_environment;
        let excluded = config
            .no_proxy
            .as_ref()
            .is_some_and(|list| is_excluded(&list.0, &outgoing.url));
        options.proxy_url = config.proxy_url.as_ref().filter(|_| !excluded).map(|url| url.0.clone());
        let request = HttpRequest {
            method: outgoing.method.to_owned(),
            url: outgoing.url,
            headers,
            body: outgoing.body,
            timeout,
            options,
        };
        let answer = self.client.send(request).await.map_err(failure)?;
        verdict(answer, self.clock.now())
    }

    /// Reads a secret. A file that is missing now may be there later.
    ///
    /// # Errors
    /// [`Failure::Transient`] naming the file.
    pub(crate) fn secret(&self, source: &SecretSource) -> Result<String, Failure> {
        let read = source.read(&*self.disk).map_err(Failure::transient)?;
        Ok(read.expose().to_owned())
    }

    fn options(&self, tls: &TlsConfig) -> Result<HttpOptions, Failure> {
        let identity = identity_pem(tls, &*self.disk).map_err(Failure::transient)?;
        let ca = tls.ca().map(|source| self.secret(&source)).transpose()?;
        Ok(HttpOptions {
            ca_pem: ca.map(String::into_bytes),
            identity_pem: identity,
            server_name: tls.server_name.clone(),
            insecure_skip_verify: tls.insecure_skip_verify,
            tls_versions: match (tls.min_version.as_deref(), tls.max_version.as_deref()) {
                (Some("TLS13"), _) => TlsVersions::Tls13,
                (_, Some("TLS12")) => TlsVersions::Tls12,
                _ => TlsVersions::All,
            },
            ..HttpOptions::default()
        })
    }

    async fn authorization(&self, config: &HttpConfig, timeout: Interval) -> Result<Option<String>, Failure> {
        Ok(match &config.auth {
            None => None,
            Some(HttpAuth::Basic { username, password }) => {
                let password = password.as_ref().map(|source| self.secret(source)).transpose()?;
                let pair = format!("{}:{}", self.secret(username)?, password.unwrap_or_default());
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
            Some(HttpAuth::Header { kind, credentials }) => Some(format!("{kind} {}", self.secret(credentials)?)),
            Some(HttpAuth::OAuth2(oauth2)) => Some(format!("Bearer {}", self.token(oauth2, timeout).await?)),
        })
    }

    /// Returns a token, from memory while it lasts.
    async fn token(&self, oauth2: &OAuth2, timeout: Interval) -> Result<String, Failure> {
        let secret = oauth2
            .client_secret
            .as_ref()
            .map(|source| self.secret(source))
            .transpose()?;
        let secret = secret.unwrap_or_default();
        let body = token_form(oauth2);
        let key = format!("{}\0{}\0{secret}\0{body}", oauth2.token_url, oauth2.client_id);
        if let Some((token, until)) = self.tokens.lock().get(&key)
            && self.clock.mono() < *until
        {
            return Ok(token.clone());
        }
        let escape = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", escape(&oauth2.client_id), escape(&secret));
        let mut options = self.options(&oauth2.tls_config)?;
        options.proxy_url = oauth2.proxy_url.clone();
        let request = HttpRequest {
            method: "POST".to_owned(),
            url: oauth2.token_url.clone(),
            headers: vec![
                (
                    "Content-Type".to_owned(),
                    "application/x-www-form-urlencoded".to_owned(),
                ),
                ("Authorization".to_owned(), format!("Basic {}", STANDARD.encode(pair))),
            ],
            body: Bytes::from(body),
            timeout,
            options,
        };
        let answer = self.client.send(request).await.map_err(failure)?;
        let answer = verdict(answer, self.clock.now()).map_err(|failure| match failure {
            Failure::Permanent(reason) => Failure::Permanent(format!("oauth2: no token: {reason}")),
            Failure::Transient { reason, retry_after } => Failure::Transient {
                reason: format!("oauth2: no token: {reason}"),
                retry_after,
            },
        })?;
        let json: serde_json::Value = serde_json::from_slice(&answer.body)
            .map_err(|_| Failure::transient("oauth2: the token endpoint's answer is not JSON"))?;
        let token = json["access_token"]
            .as_str()
            .ok_or_else(|| Failure::transient("oauth2: no access_token in the answer"))?;
        let lasts = json["expires_in"].as_i64().map_or(Interval::mins(5), Interval::secs);
        let until = self.clock.mono().after(Interval(lasts.0 - TOKEN_MARGIN.0));
        self.tokens.lock().insert(key, (token.to_owned(), until));
        Ok(token.to_owned())
    }
}

fn token_form(oauth2: &OAuth2) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !oauth2.scopes.is_empty() {
        form.append_pair("scope", &oauth2.scopes.join(" "));
    }
    form.extend_pairs(&oauth2.endpoint_params);
    form.finish()
}

/// Returns certificate and key in one PEM text.
///
/// # Errors
/// A text naming the file that cannot be read.
pub(crate) fn identity_pem(tls: &TlsConfig, disk: &dyn Disk) -> Result<Option<Vec<u8>>, String> {
    let (Some(cert), Some(key)) = (tls.cert(), tls.key()) else {
        return Ok(None);
    };
    let pem = format!("{}\n{}\n", cert.read(disk)?.expose(), key.read(disk)?.expose());
    Ok(Some(pem.into_bytes()))
}

fn failure(error: HttpError) -> Failure {
    match error {
        HttpError::Invalid(_) => Failure::Permanent(error.to_string()),
        HttpError::Connect(_) | HttpError::Timeout(_) => Failure::transient(error.to_string()),
    }
}

/// 2xx arrived; 5xx, 429 and 408 may pass; the rest will not.
fn verdict(answer: HttpResponse, now: Millis) -> Result<HttpResponse, Failure> {
    match answer.status {
        200..=299 => Ok(answer),
        408 | 425 | 429 | 500..=599 => Err(Failure::Transient {
            reason: describe(&answer),
            retry_after: answer
                .headers
                .get("retry-after")
                .and_then(|value| retry_after(value, now)),
        }),
        _ => Err(Failure::Permanent(describe(&answer))),
    }
}

/// Says what the receiver answered, in few words and without line breaks.
pub(crate) fn describe(answer: &HttpResponse) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(ANSWER_CHARS_MAX)
        .collect();
    match text.trim() {
        "" => format!("HTTP {}", answer.status),
        text => format!("HTTP {}: {text}", answer.status),
    }
}

/// `Retry-After` in seconds or as a date.
fn retry_after(value: &str, now: Millis) -> Option<Interval> {
    if let Ok(seconds) = value.trim().parse::<u32>() {
        return Some(Interval::secs(i64::from(seconds)));
    }
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    Some(Interval((at.timestamp().as_millisecond() - now.0).max(0)))
}

/// Whether `no_proxy` names the URL's host: exactly, as a domain above it, or `*`.
fn is_excluded(no_proxy: &str, url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    let port = url.port_or_known_default().unwrap_or_default().to_string();
    no_proxy
        .split(',')
        .map(|entry| entry.trim().to_ascii_lowercase())
        .any(|entry| {
            if entry.is_empty() {
                return false;
            }
            let (name, wanted_port) = match entry.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') => (name.to_owned(), Some(port.to_owned())),
                _ => (entry.clone(), None),
            };
            let name = name.trim_start_matches("*.").trim_start_matches('.').to_owned();
            let right_port = wanted_port.is_none_or(|wanted| wanted == port);
            right_port
                && (entry == "*" || host == name || host.ends_with(&format!(".{name}")) || in_network(&host, &name))
        })
}

/// Whether an address lies in a network in CIDR notation.
fn in_network(host: &str, network: &str) -> bool {
    use std::net::IpAddr;
    let Some((base, bits)) = network.split_once('/') else {
        return false;
    };
    let (Ok(host), Ok(base), Ok(bits)) = (host.parse::<IpAddr>(), base.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (host, base) {
        (IpAddr::V4(host), IpAddr::V4(base)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(host) & mask == u32::from(base) & mask
        }
        (IpAddr::V6(host), IpAddr::V6(base)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(host) & mask == u128::from(base) & mask
        }
        _ => false,
    }
}

/// Returns the value of `X-Campanile-Signature`: the time, and for each key an HMAC-SHA256 over `time.body`.
pub(crate) fn signature(keys: &[String], body: &[u8], now: Millis) -> String {
    let seconds = now.0.div_euclid(1000);
    let mut value = format!("t={seconds}");
    for key in keys {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(format!("{seconds}.").as_bytes());
        mac.update(body);
        value.push_str(",v1=");
        for byte in mac.finalize().into_bytes() {
            value.push_str(&format!("{byte:02x}"));
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_the_time_and_the_body_under_each_key() {
        let value = signature(&["a".to_owned(), "b".to_owned()], b"{}", Millis(1_700_000_000_123));
        let parts: Vec<&str> = value.split(',').collect();
        assert_eq!(parts[0], "t=1700000000");
        assert_eq!((parts.len(), parts[1].len(), parts[1] == parts[2]), (3, 67, false));
    }

    #[test]
    fn what_the_receiver_asks_to_wait_is_understood() {
        assert_eq!(retry_after("120", Millis(0)), Some(Interval::secs(120)));
        assert_eq!(
            retry_after("Thu, 01 Jan 1970 00:01:00 GMT", Millis(0)),
            Some(Interval::secs(60))
        );
        assert_eq!(retry_after("soon", Millis(0)), None);
    }

    #[test]
    fn hosts_in_no_proxy_are_reached_directly() {
        let list = "example.com, .corp, 10.0.0.0/8, localhost:8080";
        for (url, excluded) in [
            ("http://example.com/x", true),
            ("http://a.example.com/x", true),
            ("http://notexample.com/x", false),
            ("http://x.corp/", true),
            ("http://10.1.2.3/", true),
            ("http://11.1.2.3/", false),
            ("http://localhost:8080/", true),
            ("http://localhost:9090/", false),
        ] {
            assert_eq!(is_excluded(list, url), excluded, "{url}");
        }
    }
}
