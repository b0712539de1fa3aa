//! exporter-toolkit's `web.config.yml`, so that operators keep the file they have: TLS, basic auth, headers.
//!
//! Source of the format: <https://prometheus.io/docs/prometheus/latest/configuration/https/>.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::tls;
use crate::io::disk::Disk;
use crate::io::files;
use crate::model::yaml;

/// The file, as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<TlsServerConfig>,
    http_server_config: HttpServerConfig,
    basic_auth_users: BTreeMap<String, String>,
}

/// How TLS is spoken, as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsServerConfig {
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) client_ca_file: Option<PathBuf>,
    pub(super) client_ca: Option<String>,
    pub(super) client_auth_type: String,
    pub(super) client_allowed_sans: Vec<String>,
    pub(super) min_version: Option<String>,
    pub(super) max_version: Option<String>,
    pub(super) cipher_suites: Vec<String>,
    pub(super) curve_preferences: Vec<String>,
    /// Of no effect in Go either since 1.17.
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: bool,
}

impl TlsServerConfig {
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.cert_file.iter().chain(&self.key_file).chain(&self.client_ca_file)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpServerConfig {
    /// Whether HTTP/2 may be negotiated. Only HTTP/1.1 is spoken here, which every client falls back to.
    #[serde(rename = "http2")]
    _http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for HttpServerConfig {
    fn default() -> HttpServerConfig {
        HttpServerConfig {
            _http2: true,
            headers: BTreeMap::new(),
        }
    }
}

/// The headers that exporter-toolkit lets a file set.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

/// What the file says, found good.
#[derive(Clone, Default)]
pub(super) struct WebConfig {
    pub(super) users: BTreeMap<String, String>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) tls: Option<Arc<tls::Server>>,
    /// The file and those that it names.
    pub(super) files: Vec<PathBuf>,
}

impl WebConfig {
    /// Reads the file and those that it names. Blocks.
    ///
    /// # Errors
    /// What is wrong, with file, line and column.
    pub(super) fn load(disk: &dyn Disk, path: &Path) -> Result<WebConfig, String> {
        let name = path.display().to_string();
        let text = files::read_text(disk, path).map_err(|error| format!("cannot read {name}: {error}"))?;
        let file: File = if text.trim().is_empty() {
            File::default()
        } else {
            yaml::read(&name, &text).map_err(|error| error.with_snippet())?
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let named = |what: &str, error: String| format!("{name}: {what}: {error}");
        let tls = match &file.tls_server_config {
            None => None,
            Some(config) => Some(Arc::new(
                tls::Server::load(disk, folder, config).map_err(|error| named("tls_server_config", error))?,
            )),
        };
        for (user, hash) in &file.basic_auth_users {
            check_user(user, hash).map_err(|error| named("basic_auth_users", error))?;
        }
        let headers = file.http_server_config.headers.iter();
        let headers = headers
            .map(|(header, value)| read_header(header, value))
            .collect::<Result<_, _>>()
            .map_err(|error| named("http_server_config", error))?;
        let named = file.tls_server_config.iter().flat_map(TlsServerConfig::files);
        let files = named.map(|named| folder.join(named)).chain([path.to_owned()]).collect();
        Ok(WebConfig {
            files,
            users: file.basic_auth_users,
            headers,
            tls,
        })
    }
}

fn check_user(user: &str, hash: &str) -> Result<(), String> {
    if user.is_empty() || user.contains(':') {
        return Err(format!("{user:?} cannot be a user's name"));
    }
    // A wrong password is a plain "no"; anything else says that the hash cannot be read.
    bcrypt::verify("", hash)
        .map(drop)
        .map_err(|_| format!("the password of {user:?} is no bcrypt hash; make one with: htpasswd -nBC 10 {user}"))
}

fn read_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    if !HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Err(format!("header {name:?} cannot be set, only {}", HEADERS.join(", ")));
    }
    let parsed = (HeaderName::try_from(name), HeaderValue::try_from(value));
    match parsed {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(format!("header {name:?} has a value that no header may have")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::io::disk::SimDisk;

    /// A disk with these files in `/etc`.
    pub(in crate::http::auth) fn disk(files: &[(&str, &str)]) -> SimDisk {
        let disk = SimDisk::seeded(1);
        disk.create_dir_all(Path::new("/etc")).unwrap();
        for (name, text) in files {
            let file = disk.create(&Path::new("/etc").join(name)).unwrap();
            file.write_all_at(text.as_bytes(), 0).unwrap();
        }
        disk
    }

    fn load(text: &str) -> Result<WebConfig, String> {
        WebConfig::load(&disk(&[("web.yml", text)]), Path::new("/etc/web.yml"))
    }

    #[test]
    fn users_and_headers_are_read() {
        let config = load(
            "basic_auth_users:\n  alice: $2y$04$yXMyFuKjHZTGoWiBq8zY4.zpbWHkMFKuzDrjwN2TJu8b1aZ0rrNRC\n\
             http_server_config:\n  http2: false\n  headers: {Strict-Transport-Security: max-age=63072000}\n",
        )
        .unwrap();
        assert_eq!(config.users.len(), 1);
        assert_eq!(config.headers[0].0, "strict-transport-security");
        assert!(config.tls.is_none());
        assert!(load("").unwrap().users.is_empty());
    }

    #[test]
    fn mistakes_are_named_with_the_file() {
        for (text, expected) in [
            ("basic_auth_users: {alice: secret}", "no bcrypt hash"),
            ("basic_auth_user: {}", "basic_auth_users"),
            ("http_server_config: {headers: {Server: x}}", "cannot be set"),
            (
                "tls_server_config: {cert_file: none.pem, key_file: none.key}",
                "none.pem",
            ),
            ("tls_server_config: {}", "cert_file"),
        ] {
            let error = load(text).err().unwrap();
            assert!(
                error.contains("/etc/web.yml") && error.contains(expected),
                "{text}: {error}"
            );
        }
    }
}
