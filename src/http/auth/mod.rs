//! Who is asking, and what they may do: tokens with scopes, users with passwords, sessions of the web pages.
//!
//! Deny by default: a route asks for its scope, and without any credential that has it there is no answer. Where nobody
//! configured tokens or users, everybody who reaches the address has every scope; `config` then allows loopback only.

mod backoff;
mod config;
mod password;
mod session;
pub(super) mod tls;
mod web_config;

pub use config::{AuthConfig, TokenConfig};

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use self::backoff::Backoff;
use self::config::Token;
use self::password::Passwords;
use self::session::{COOKIE, Kind, Session, Sessions};
use self::web_config::WebConfig;
use super::ApiError;
use super::metrics::REFUSED_CALLERS;
use crate::io::disk::Disk;
use crate::io::{Clock, Random};
use crate::model::{Interval, Millis};

/// What a caller must be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Nothing: health checks and the UI's own files.
    #[serde(skip)]
    Public,
    /// Push samples.
    Write,
    /// Read samples, rules, status.
    Query,
    /// Alerts and silences, in and out.
    Alerts,
    /// Clicks and page views.
    Events,
    /// Clicks and page views in: with a token that has the scope `events`, or without any as a page of a listed site.
    #[serde(skip)]
    Beacon,
    /// Reload and administration.
    Admin,
}

impl Scope {
    /// The names that a token may have.
    pub const NAMES: [&'static str; 5] = ["write", "query", "alerts", "events", "admin"];
    const ALL: [Scope; 5] = [Scope::Write, Scope::Query, Scope::Alerts, Scope::Events, Scope::Admin];

    /// Returns the name, as written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Public => "public",
            Scope::Write => "write",
            Scope::Query => "query",
            Scope::Alerts => "alerts",
            Scope::Events | Scope::Beacon => "events",
            Scope::Admin => "admin",
        }
    }
}

/// Who may do what, and how the listener speaks: what `auth` and `web_config` say, read and found good.
#[derive(Clone, Default)]
pub struct Access {
    tokens: Vec<Token>,
    web: WebConfig,
    session: Interval,
    files: Vec<PathBuf>,
}

impl Access {
    /// Reads the files that the configuration names. Blocks.
    ///
    /// # Errors
    /// What is wrong, with the file and its place or the token's name.
    pub fn load(disk: &dyn Disk, auth: &AuthConfig, web_config: Option<&Path>) -> Result<Access, String> {
        let web = web_config
            .map(|path| WebConfig::load(disk, path))
            .transpose()?
            .unwrap_or_default();
        Ok(Access {
            tokens: auth.tokens(disk)?,
            session: auth.session,
            files: auth.files().chain(&web.files).cloned().collect(),
            web,
        })
    }

    /// Returns the files that were read: when one changes, all are to be read again.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether callers must say who they are: by a token, a password, or a client certificate.
    pub fn is_closed(&self) -> bool {
        self.asks_for_credentials() || self.web.tls.as_ref().is_some_and(|tls| tls.clients_are_known)
    }

    /// Whether the listener speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.web.tls.is_some()
    }

    /// Returns how TLS is spoken, `None` when it is not.
    pub(super) fn tls(&self) -> Option<&Arc<tls::Server>> {
        self.web.tls.as_ref()
    }

    /// Returns the headers that operators chose for every answer.
    pub(super) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.web.headers
    }

    fn asks_for_credentials(&self) -> bool {
        !self.tokens.is_empty() || !self.web.users.is_empty()
    }

    /// Compares with every token, so that the time says nothing.
    fn token(&self, shown: &str, now: Millis) -> Option<&Token> {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.sha256.ct_eq(&shown)) {
                found = Some(token);
            }
        }
        found.filter(|token| token.expires.is_none_or(|end| now < end))
    }

    fn credential(&self, session: &Session, now: Millis) -> Option<&[u8]> {
        match session.kind {
            Kind::Token => self
                .tokens
                .iter()
                .find(|token| token.name == session.name && token.expires.is_none_or(|end| now < end))
                .map(|token| token.sha256.as_slice()),
            Kind::User => self.web.users.get(&session.name).map(|hash| hash.as_bytes()),
        }
    }
}

/// Somebody who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The token's or the user's name; empty where nobody needs one.
    pub(super) name: String,
    kind: Option<Kind>,
    scopes: Vec<Scope>,
}

impl Caller {
    /// Everybody, where no credentials are asked for.
    pub(super) fn anybody() -> Caller {
        Caller {
            name: String::new(),
            kind: None,
            scopes: Scope::ALL.to_vec(),
        }
    }

    /// Somebody's browser, which shows nothing.
    pub(super) fn visitor() -> Caller {
        Caller {
            name: String::new(),
            kind: None,
            scopes: Vec::new(),
        }
    }

    /// Our own agent: pushes, and scrapes this server's metrics.
    pub(super) fn ourselves() -> Caller {
        Caller {
            name: "campanile".to_owned(),
            kind: None,
            scopes: vec![Scope::Write, Scope::Query],
        }
    }

    fn of_token(token: &Token) -> Caller {
        Caller {
            name: token.name.clone(),
            kind: Some(Kind::Token),
            scopes: token.scopes.clone(),
        }
    }

    fn of_user(name: &str) -> Caller {
        Caller {
            name: name.to_owned(),
            kind: Some(Kind::User),
            scopes: Scope::ALL.to_vec(),
        }
    }

    /// Returns what the caller may do.
    pub(super) fn scopes(&self) -> &[Scope] {
        &self.scopes
    }
}

/// What a caller shows.
enum Shown {
    Token(String),
    Password { user: String, password: String },
    Cookie(String),
}

/// Knows callers. One for the whole life of a server; [`Guard::access`] is swapped when the configuration changes.
pub(super) struct Guard {
    pub(super) access: ArcSwap<Access>,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    passwords: Passwords,
    sessions: Sessions,
}

impl Guard {
    pub(super) fn new(access: Access, clock: Arc<dyn Clock>, random: &dyn Random) -> Guard {
        Guard {
            access: ArcSwap::from_pointee(access),
            clock,
            backoff: Backoff::default(),
            passwords: Passwords::new(random),
            sessions: Sessions::new(random),
        }
    }

    /// Returns who is asking, when they may do what the scope says.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] without a credential and with a wrong one, the same for both;
    /// [`ApiError::Overloaded`] after too many wrong ones; [`ApiError::Forbidden`] when the scope is missing.
    pub(super) async fn admit(&self, headers: &HeaderMap, peer: IpAddr, scope: Scope) -> Result<Caller, ApiError> {
        let access = self.access.load_full();
        if scope == Scope::Public || !access.asks_for_credentials() {
            return Ok(Caller::anybody());
        }
        if scope == Scope::Beacon && !matches!(shown(headers), Some(Shown::Token(_) | Shown::Password { .. })) {
            return Ok(Caller::visitor());
        }
        let caller = self.identify(&access, headers, peer).await?;
        let needed = if scope == Scope::Beacon { Scope::Events } else { scope };
        if caller.scopes.contains(&needed) {
            return Ok(caller);
        }
        REFUSED_CALLERS.inc(&["scope"]);
        Err(ApiError::Forbidden(format!(
            "{:?} lacks the scope {:?}, which this path asks for",
            caller.name,
            scope.name()
        )))
    }

    /// Returns who is asking, whatever they may do.
    ///
    /// # Errors
    /// As [`Guard::admit`].
    pub(super) async fn who(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, ApiError> {
        let access = self.access.load_full();
        match access.asks_for_credentials() {
            true => self.identify(&access, headers, peer).await,
            false => Ok(Caller::anybody()),
        }
    }

    async fn identify(&self, access: &Access, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, ApiError> {
        let Some(shown) = shown(headers) else {
            REFUSED_CALLERS.inc(&["missing"]);
            return Err(unauthorized(access));
        };
        // A session that has ended is no guess.
        let guess = !matches!(shown, Shown::Cookie(_));
        match self.recognise(access, &shown).await {
            Some(caller) => Ok(caller),
            None if guess => Err(self.wrong(access, peer)),
            None => {
                REFUSED_CALLERS.inc(&["session"]);
                Err(unauthorized(access))
            }
        }
    }

    fn wrong(&self, access: &Access, peer: IpAddr) -> ApiError {
        REFUSED_CALLERS.inc(&["wrong"]);
        match self.backoff.wrong(peer, self.clock.mono()) {
            true => ApiError::Overloaded("too many wrong credentials came from this address, wait a minute".to_owned()),
            false => unauthorized(access),
        }
    }

    async fn recognise(&self, access: &Access, shown: &Shown) -> Option<Caller> {
        let now = self.clock.now();
        match shown {
            Shown::Token(token) => access.token(token, now).map(Caller::of_token),
            // A token is also taken as a password, for senders that know nothing but basic auth.
            Shown::Password { user, password } => match access.token(password, now) {
                Some(token) => Some(Caller::of_token(token)),
                None if access.web.users.is_empty() => None,
                None => {
                    let right = self.passwords.check(&access.web.users, user, password).await;
                    right.then(|| Caller::of_user(user))
                }
            },
            Shown::Cookie(cookie) => {
                let session = self
                    .sessions
                    .check(cookie, now, |session| access.credential(session, now))?;
                match session.kind {
                    Kind::User => Some(Caller::of_user(&session.name)),
                    Kind::Token => {
                        let token = access.tokens.iter().find(|token| token.name == session.name);
                        token.map(Caller::of_token)
                    }
                }
            }
        }
    }

    /// Signs somebody in: returns who it is and the cookie to set. `secure` = the cookie travels over TLS only.
    ///
    /// # Errors
    /// As [`Guard::admit`].
    pub(super) async fn sign_in(
        &self,
        login: Login,
        peer: IpAddr,
        path: &str,
        secure: bool,
    ) -> Result<(Caller, HeaderValue), ApiError> {
        let access = self.access.load_full();
        let shown = match login.username {
            Some(user) if !user.is_empty() => Shown::Password {
                user,
                password: login.password,
            },
            _ => Shown::Token(login.password),
        };
        let Some(caller) = self.recognise(&access, &shown).await else {
            return Err(self.wrong(&access, peer));
        };
        let Some(kind) = caller.kind else {
            return Err(ApiError::Internal("somebody without a credential signed in".to_owned()));
        };
        let now = self.clock.now();
        let session = Session {
            kind,
            name: caller.name.clone(),
            until: Millis(now.0.saturating_add(access.session.0)),
        };
        let credential = access.credential(&session, now).unwrap_or_default();
        let value = self.sessions.sign(&session, credential);
        let age = access.session.0 / 1000;
        Ok((caller, cookie(&value, path, age, secure)))
    }
}

/// What the sign-in form sends: a token as the password, or a user's name and password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    username: Option<String>,
    #[serde(alias = "token")]
    password: String,
}

/// Returns the cookie that ends a session.
pub(super) fn signed_out(path: &str, secure: bool) -> HeaderValue {
    cookie("", path, 0, secure)
}

fn cookie(value: &str, path: &str, age: i64, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; Path={path}/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(text).expect("base64 and a URL's path are header values")
}

/// Returns what the request shows of its sender: a header first, else the cookie.
fn shown(headers: &HeaderMap) -> Option<Shown> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(authorization) = text(header::AUTHORIZATION) {
        let (scheme, rest) = authorization.split_once(' ').unwrap_or((authorization, ""));
        let rest = rest.trim();
        // InfluxDB's clients say `Token`.
        if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") {
            return Some(Shown::Token(rest.to_owned()));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD
                .decode(rest)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.unwrap_or_default();
            let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
            return Some(Shown::Password {
                user: user.to_owned(),
                password: password.to_owned(),
            });
        }
        return Some(Shown::Token(String::new()));
    }
    // Datadog's agent shows its key in a header of its own.
    if let Some(key) = text(HeaderName::from_static("dd-api-key")) {
        return Some(Shown::Token(key.trim().to_owned()));
    }
    // Datadog's agents know no other way.
    if let Some(key) = text(HeaderName::from_static("dd-api-key")) {
        return Some(Shown::Token(key.to_owned()));
    }
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| Shown::Cookie(value.to_owned()))
}

fn unauthorized(access: &Access) -> ApiError {
    let challenge = match access.web.users.is_empty() {
        true => "Bearer realm=\"campanile\"",
        false => "Basic realm=\"campanile\", Bearer realm=\"campanile\"",
    };
    ApiError::Unauthorized {
        message: "not authorised: send a token as Authorization: Bearer, or sign in".to_owned(),
        challenge,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::web_config::tests::disk;
    use super::*;
    use crate::io::{SeededRandom, SimClock};

    /// A guard that knows a token of each of these scopes: `<scope>-token-0123456789`.
    pub(in crate::http) fn access(scopes: &[Scope]) -> Access {
        let tokens = scopes.iter().map(|scope| Token {
            name: scope.name().to_owned(),
            scopes: vec![*scope],
            sha256: Sha256::digest(format!("{}-token-0123456789", scope.name())).into(),
            expires: None,
        });
        Access {
            tokens: tokens.collect(),
            web: WebConfig::default(),
            session: Interval::hours(1),
            files: Vec::new(),
        }
    }

    fn guard(access: Access) -> (Guard, Arc<SimClock>) {
        let clock = Arc::new(SimClock::at(Millis(1_000_000)));
        (
            Guard::new(access, Arc::clone(&clock) as Arc<dyn Clock>, &SeededRandom::new(1)),
            clock,
        )
    }

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::try_from(value).unwrap())])
    }

    fn bearer(token: &str) -> HeaderMap {
        headers(header::AUTHORIZATION, &format!("Bearer {token}"))
    }

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn outcome(result: Result<Caller, ApiError>) -> String {
        match result {
            Ok(caller) => caller.name,
            Err(ApiError::Unauthorized { message, .. }) => format!("401 {message}"),
            Err(ApiError::Forbidden(message)) => format!("403 {message}"),
            Err(ApiError::Overloaded(_)) => "429".to_owned(),
            Err(other) => format!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_token_opens_what_its_scopes_say_and_wrong_is_as_missing() {
        let (guard, _) = guard(access(&[Scope::Query, Scope::Write]));
        let admit = async |headers: HeaderMap, scope| outcome(guard.admit(&headers, PEER, scope).await);
        assert_eq!(admit(bearer("query-token-0123456789"), Scope::Query).await, "query");
        let token = headers(header::AUTHORIZATION, "token write-token-0123456789");
        assert_eq!(admit(token, Scope::Write).await, "write");
        let basic = format!("Basic {}", STANDARD.encode("anyone:query-token-0123456789"));
        assert_eq!(
            admit(headers(header::AUTHORIZATION, &basic), Scope::Query).await,
            "query"
        );
        let key = headers(HeaderName::from_static("dd-api-key"), "write-token-0123456789");
        assert_eq!(admit(key, Scope::Write).await, "write");
        assert!(
            admit(bearer("query-token-0123456789"), Scope::Admin)
                .await
                .starts_with("403")
        );
        let missing = admit(HeaderMap::new(), Scope::Query).await;
        assert!(missing.starts_with("401"), "{missing}");
        for wrong in ["", "query-token-0123456788", "Query-token-0123456789"] {
            assert_eq!(admit(bearer(wrong), Scope::Query).await, missing);
        }
        assert_eq!(
            admit(headers(header::AUTHORIZATION, "Digest x"), Scope::Query).await,
            missing
        );
        assert_eq!(admit(HeaderMap::new(), Scope::Public).await, "");
    }

    #[tokio::test]
    async fn guessing_is_slowed_and_the_right_token_passes_meanwhile() {
        let (guard, _) = guard(access(&[Scope::Query]));
        let admit = async |token: &str| outcome(guard.admit(&bearer(token), PEER, Scope::Query).await);
        for _ in 0..20 {
            assert!(admit("wrong-wrong-wrong-wrong").await.starts_with("401"));
        }
        assert_eq!(admit("wrong-wrong-wrong-wrong").await, "429");
        assert_eq!(admit("query-token-0123456789").await, "query");
    }

    #[tokio::test]
    async fn a_token_ends_at_its_time() {
        let mut access = access(&[Scope::Query]);
        access.tokens[0].expires = Some(Millis(1_000_000));
        let (guard, _) = guard(access);
        let answer = guard.admit(&bearer("query-token-0123456789"), PEER, Scope::Query).await;
        assert!(outcome(answer).starts_with("401"));
    }

    #[tokio::test]
    async fn signing_in_sets_a_cookie_that_only_the_browser_sees_and_that_ends() {
        let (guard, clock) = guard(access(&[Scope::Query]));
        let login = |password: &str| Login {
            username: None,
            password: password.to_owned(),
        };
        assert!(
            guard
                .sign_in(login("nothing of the sort"), PEER, "", false)
                .await
                .is_err()
        );
        let (caller, cookie) = guard
            .sign_in(login("query-token-0123456789"), PEER, "/x", true)
            .await
            .unwrap();
        assert_eq!(caller.name, "query");
        let cookie = cookie.to_str().unwrap().to_owned();
        for part in ["Path=/x/", "HttpOnly", "SameSite=Strict", "Secure", "Max-Age=3600"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let pair = format!("theme=dark; {}", cookie.split(';').next().unwrap());
        let sent = headers(header::COOKIE, &pair);
        assert_eq!(outcome(guard.admit(&sent, PEER, Scope::Query).await), "query");
        assert!(outcome(guard.admit(&sent, PEER, Scope::Write).await).starts_with("403"));
        clock.advance(Interval::hours(1));
        assert!(outcome(guard.admit(&sent, PEER, Scope::Query).await).starts_with("401"));
    }

    #[tokio::test]
    async fn a_user_of_the_web_config_may_do_everything() {
        let hash = bcrypt::hash("open sesame", 4).unwrap();
        let disk = disk(&[("web.yml", &format!("basic_auth_users: {{ali: {hash}}}"))]);
        let access = Access::load(&disk, &AuthConfig::default(), Some(Path::new("/etc/web.yml"))).unwrap();
        assert!(access.is_closed() && !access.has_tls());
        let (guard, _) = guard(access);
        let basic = |text: &str| headers(header::AUTHORIZATION, &format!("Basic {}", STANDARD.encode(text)));
        for scope in Scope::ALL {
            assert_eq!(
                outcome(guard.admit(&basic("ali:open sesame"), PEER, scope).await),
                "ali"
            );
        }
        assert!(outcome(guard.admit(&basic("ali:open barley"), PEER, Scope::Query).await).starts_with("401"));
        assert!(outcome(guard.admit(&bearer("open sesame"), PEER, Scope::Query).await).starts_with("401"));
    }

    #[tokio::test]
    async fn where_nobody_is_asked_everybody_may() {
        let (guard, _) = guard(Access::default());
        assert_eq!(outcome(guard.admit(&HeaderMap::new(), PEER, Scope::Admin).await), "");
    }
}
