//! `http_config` and `tls_config`: how to reach a receiver over HTTP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::scalar::{SecretSource, Text};
use crate::model::Secret;

/// `http_config`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpConfig {
    pub(crate) basic_auth: Option<RawBasicAuth>,
    pub(crate) authorization: Option<RawAuthorization>,
    pub(crate) bearer_token: Option<Secret>,
    pub(crate) bearer_token_file: Option<PathBuf>,
    pub(crate) oauth2: Option<RawOAuth2>,
    #[serde(default = "yes")]
    pub(crate) enable_http2: bool,
    #[serde(default = "yes")]
    pub(crate) follow_redirects: bool,
    #[serde(default)]
    pub(crate) tls_config: TlsConfig,
    pub(crate) http_headers: Option<BTreeMap<String, RawHeader>>,
    pub(crate) proxy_url: Option<Text>,
    pub(crate) no_proxy: Option<Text>,
    #[serde(default)]
    pub(crate) proxy_from_environment: bool,
    pub(crate) proxy_connect_header: Option<serde_yaml::Value>,
    /// What the fields above mean, once checked.
    #[serde(skip)]
    pub(crate) auth: Option<HttpAuth>,
    /// Headers to add, in order.
    #[serde(skip)]
    pub(crate) headers: Vec<(String, SecretSource)>,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            basic_auth: None,
            authorization: None,
            bearer_token: None,
            bearer_token_file: None,
            oauth2: None,
            enable_http2: true,
            follow_redirects: true,
            tls_config: TlsConfig::default(),
            http_headers: None,
            proxy_url: None,
            no_proxy: None,
            proxy_from_environment: false,
            proxy_connect_header: None,
            auth: None,
            headers: Vec::new(),
        }
    }
}

/// How a request says who sends it.
#[derive(Clone, Debug)]
pub(crate) enum HttpAuth {
    /// User and password.
    Basic {
        /// User name.
        username: SecretSource,
        /// Password, absent = empty.
        password: Option<SecretSource>,
    },
    /// `Authorization: <kind> <credentials>`.
    Header {
        /// `Bearer`, `GenieKey`, …
        kind: String,
        /// The rest of the header.
        credentials: SecretSource,
    },
    /// A token fetched with client credentials.
    OAuth2(Box<OAuth2>),
}

/// OAuth 2.0, client credentials grant.
#[derive(Clone, Debug)]
pub(crate) struct OAuth2 {
    /// Client id.
    pub(crate) client_id: String,
    /// Client secret.
    pub(crate) client_secret: Option<SecretSource>,
    /// Scopes to ask for.
    pub(crate) scopes: Vec<String>,
    /// Where tokens are given out.
    pub(crate) token_url: String,
    /// More form fields.
    pub(crate) endpoint_params: BTreeMap<String, String>,
    /// TLS of the token request.
    pub(crate) tls_config: TlsConfig,
    /// Proxy of the token request.
    pub(crate) proxy_url: Option<String>,
}

/// `tls_config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsConfig {
    ca: Option<Text>,
    ca_file: Option<PathBuf>,
    cert: Option<Text>,
    cert_file: Option<PathBuf>,
    key: Option<Secret>,
    key_file: Option<PathBuf>,
    pub(crate) server_name: Option<String>,
    #[serde(default)]
    pub(crate) insecure_skip_verify: bool,
    pub(crate) min_version: Option<String>,
    pub(crate) max_version: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBasicAuth {
    username: Option<Secret>,
    username_file: Option<PathBuf>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAuthorization {
    #[serde(rename = "type")]
    kind: Option<Text>,
    credentials: Option<Secret>,
    credentials_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOAuth2 {
    client_id: Text,
    client_secret: Option<Secret>,
    client_secret_file: Option<PathBuf>,
    #[serde(default)]
    scopes: Vec<Text>,
    token_url: Text,
    #[serde(default)]
    endpoint_params: BTreeMap<String, Text>,
    #[serde(default)]
    tls_config: TlsConfig,
    proxy_url: Option<Text>,
    no_proxy: Option<Text>,
    #[serde(default)]
    proxy_from_environment: bool,
    proxy_connect_header: Option<serde_yaml::Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHeader {
    #[serde(default)]
    values: Vec<Text>,
    #[serde(default)]
    secrets: Vec<Secret>,
    #[serde(default)]
    files: Vec<PathBuf>,
}

const fn yes() -> bool {
    true
}

/// Headers that the transport sets itself.
const RESERVED_HEADERS: [&str; 8] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "transfer-encoding",
];

impl HttpConfig {
    /// Checks the section and works out what it means; file names become relative to `base`.
    ///
    /// # Errors
    /// A text naming the keys that contradict each other or are not supported.
    pub(crate) fn finish(&mut self, base: &Path) -> Result<(), String> {
        if self.proxy_connect_header.is_some() {
            return Err("http_config.proxy_connect_header is not supported".to_owned());
        }
        if self.proxy_from_environment && self.proxy_url.is_some() {
            return Err("if proxy_from_environment is configured, proxy_url must not be configured".to_owned());
        }
        if self.no_proxy.is_some() && self.proxy_url.is_none() {
            return Err("if no_proxy is configured, proxy_url must also be configured".to_owned());
        }
        check_url("proxy_url", self.proxy_url.as_ref())?;
        self.tls_config.finish(base)?;
        self.auth = self.read_auth(base)?;
        for (name, header) in self.http_headers.take().unwrap_or_default() {
            if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(format!("setting the header {name:?} in http_headers is not allowed"));
            }
            let inline = header
                .values
                .into_iter()
                .map(|text| Secret::new(text.0))
                .chain(header.secrets);
            self.headers
                .extend(inline.map(|secret| (name.clone(), SecretSource::Inline(secret))));
            let files = header.files.iter().map(|file| SecretSource::File(base.join(file)));
            self.headers.extend(files.map(|file| (name.clone(), file)));
        }
        Ok(())
    }

    /// Makes the file names of a finished section relative to another folder.
    pub(crate) fn rebase(&mut self, base: &Path) {
        self.tls_config.rebase(base);
        for (_, source) in &mut self.headers {
            source.resolve(base);
        }
        match &mut self.auth {
            None => {}
            Some(HttpAuth::Basic { username, password }) => {
                username.resolve(base);
                password.iter_mut().for_each(|source| source.resolve(base));
            }
            Some(HttpAuth::Header { credentials, .. }) => credentials.resolve(base),
            Some(HttpAuth::OAuth2(oauth2)) => {
                oauth2.client_secret.iter_mut().for_each(|source| source.resolve(base));
                oauth2.tls_config.rebase(base);
            }
        }
    }

    fn read_auth(&mut self, base: &Path) -> Result<Option<HttpAuth>, String> {
        let bearer = SecretSource::pick("bearer_token", self.bearer_token.take(), self.bearer_token_file.take())?;
        let (basic, header, oauth2) = (self.basic_auth.take(), self.authorization.take(), self.oauth2.take());
        let given = [bearer.is_some(), basic.is_some(), header.is_some(), oauth2.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(
                "at most one of basic_auth, authorization, bearer_token and oauth2 must be configured".to_owned(),
            );
        }
        let resolved = |mut source: SecretSource| {
            source.resolve(base);
            source
        };
        if let Some(token) = bearer {
            return Ok(Some(HttpAuth::Header {
                kind: "Bearer".to_owned(),
                credentials: resolved(token),
            }));
        }
        if let Some(basic) = basic {
            let username = SecretSource::pick("username", basic.username, basic.username_file)?;
            let password = SecretSource::pick("password", basic.password, basic.password_file)?;
            return Ok(Some(HttpAuth::Basic {
                username: resolved(username.unwrap_or(SecretSource::Inline(Secret::default()))),
                password: password.map(resolved),
            }));
        }
        if let Some(header) = header {
            let kind = header
                .kind
                .map_or_else(|| "Bearer".to_owned(), |kind| kind.0.trim().to_owned());
            if kind.eq_ignore_ascii_case("basic") {
                return Err("authorization type cannot be set to \"basic\", use \"basic_auth\" instead".to_owned());
            }
            let credentials = SecretSource::pick("credentials", header.credentials, header.credentials_file)?;
            let credentials = resolved(credentials.ok_or("authorization needs credentials or credentials_file")?);
            return Ok(Some(HttpAuth::Header { kind, credentials }));
        }
        oauth2.map(|raw| raw.finish(base)).transpose()
    }
}

impl RawOAuth2 {
    fn finish(mut self, base: &Path) -> Result<HttpAuth, String> {
        if self.proxy_connect_header.is_some() || self.no_proxy.is_some() || self.proxy_from_environment {
            return Err(
                "oauth2 supports proxy_url only: no no_proxy, proxy_from_environment, proxy_connect_header".to_owned(),
            );
        }
        check_url("oauth2.token_url", Some(&self.token_url))?;
        self.tls_config.finish(base)?;
        let mut secret = SecretSource::pick("client_secret", self.client_secret, self.client_secret_file)?;
        if let Some(secret) = &mut secret {
            secret.resolve(base);
        }
        Ok(HttpAuth::OAuth2(Box::new(OAuth2 {
            client_id: self.client_id.0,
            client_secret: secret,
            scopes: self.scopes.into_iter().map(|scope| scope.0).collect(),
            token_url: self.token_url.0,
            endpoint_params: self
                .endpoint_params
                .into_iter()
                .map(|(name, value)| (name, value.0))
                .collect(),
            tls_config: self.tls_config,
            proxy_url: self.proxy_url.map(|url| url.0),
        })))
    }
}

impl TlsConfig {
    /// Checks the section; file names become relative to `base`.
    ///
    /// # Errors
    /// A text naming what is missing, doubled or not supported.
    pub(crate) fn finish(&mut self, base: &Path) -> Result<(), String> {
        self.rebase(base);
        let has_cert = self.cert.is_some() || self.cert_file.is_some();
        let has_key = self.key.is_some() || self.key_file.is_some();
        if has_cert != has_key {
            return Err("tls_config needs a certificate and its key, or neither".to_owned());
        }
        for (name, version) in [("min_version", &self.min_version), ("max_version", &self.max_version)] {
            match version.as_deref() {
                None | Some("TLS12" | "TLS13") => {}
                Some("TLS10" | "TLS11") if name == "min_version" => {
                    return Err("tls_config.min_version: TLS 1.0 and 1.1 are not spoken; use TLS12".to_owned());
                }
                Some(other) => return Err(format!("tls_config.{name}: {other:?} is not TLS12 or TLS13")),
            }
        }
        if self.min_version.as_deref() == Some("TLS13") && self.max_version.as_deref() == Some("TLS12") {
            return Err("tls_config: min_version is above max_version".to_owned());
        }
        Ok(())
    }

    fn rebase(&mut self, base: &Path) {
        let files = [&mut self.ca_file, &mut self.cert_file, &mut self.key_file];
        for file in files.into_iter().flatten() {
            *file = base.join(&*file);
        }
    }

    /// Returns the certificate authorities: in the file, or in a file of their own.
    pub(crate) fn ca(&self) -> Option<SecretSource> {
        either(self.ca.as_ref().map(|text| text.0.as_str()), self.ca_file.as_ref())
    }

    /// Returns the client certificate.
    pub(crate) fn cert(&self) -> Option<SecretSource> {
        either(self.cert.as_ref().map(|text| text.0.as_str()), self.cert_file.as_ref())
    }

    /// Returns the client certificate's key.
    pub(crate) fn key(&self) -> Option<SecretSource> {
        either(self.key.as_ref().map(Secret::expose), self.key_file.as_ref())
    }
}

fn either(inline: Option<&str>, file: Option<&PathBuf>) -> Option<SecretSource> {
    inline
        .map(|text| SecretSource::Inline(Secret::new(text)))
        .or_else(|| file.map(|file| SecretSource::File(file.clone())))
}

fn check_url(name: &str, url: Option<&Text>) -> Result<(), String> {
    let Some(Text(url)) = url else { return Ok(()) };
    let parsed = url::Url::parse(url).map_err(|error| format!("{name}: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(format!("{name}: expected http:// or https:// with a host"));
    }
    Ok(())
}
