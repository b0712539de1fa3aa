//! Who we say we are, and whom we trust: Prometheus's `basic_auth`, `authorization` and `tls_config`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model::Secret;

/// Prometheus's `basic_auth`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// User name.
    #[serde(default)]
    pub username: String,
    /// Password.
    #[serde(default)]
    pub password: Secret,
    /// A file with the password, read at each use.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// Prometheus's `authorization`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// The scheme, `Bearer` by default.
    #[serde(rename = "type", default = "bearer")]
    pub scheme: String,
    /// The credentials.
    #[serde(default)]
    pub credentials: Secret,
    /// A file with the credentials, read at each use.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
}

impl Authorization {
    /// Returns a bearer token that stands in a file.
    pub fn from_file(file: PathBuf) -> Authorization {
        Authorization {
            scheme: bearer(),
            credentials: Secret::default(),
            credentials_file: Some(file),
        }
    }
}

fn bearer() -> String {
    "Bearer".to_owned()
}

/// Prometheus's `tls_config`; files are read when the agent starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM of certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// PEM of a client certificate.
    pub cert_file: Option<PathBuf>,
    /// PEM of its key.
    pub key_file: Option<PathBuf>,
    /// Name expected in the server's certificate.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

/// Makes paths that are relative to `folder` absolute.
pub(super) fn resolve(
    folder: &Path,
    basic_auth: &mut Option<BasicAuth>,
    authorization: &mut Option<Authorization>,
    tls: &mut TlsConfig,
) {
    let password = basic_auth.iter_mut().flat_map(|auth| &mut auth.password_file);
    let credentials = authorization.iter_mut().flat_map(|auth| &mut auth.credentials_file);
    let certificates = [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file]
        .into_iter()
        .flatten();
    for path in password.chain(credentials).chain(certificates) {
        *path = folder.join(&*path);
    }
}
