//! TLS for the listener, as `tls_server_config` says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::web_config::TlsServerConfig;
use crate::io::disk::Disk;
use crate::io::files;
use crate::io::tls::certificates;

/// What the listener needs to speak TLS.
pub(in crate::http) struct Server {
    /// For rustls.
    pub(in crate::http) config: Arc<ServerConfig>,
    /// Names of which a client's certificate must bear one; empty = any.
    allowed_sans: Vec<ServerName<'static>>,
    /// Whether a connection without a good client certificate comes to nothing.
    pub(in crate::http) clients_are_known: bool,
}

impl Server {
    /// Reads certificate, key and authorities. Blocks.
    ///
    /// # Errors
    /// What is missing or wrong, with the file's name.
    pub(super) fn load(disk: &dyn Disk, folder: &Path, config: &TlsServerConfig) -> Result<Server, String> {
        let read = |path: &Option<PathBuf>, inline: &Option<String>, keys: &str| match (path, inline) {
            (Some(path), None) => {
                let path = folder.join(path);
                let text = files::read(disk, &path).map_err(|error| format!("cannot read {}: {error}", path.display()));
                Ok(Some((path.display().to_string(), text?)))
            }
            (None, Some(text)) => Ok(Some((keys.to_owned(), text.clone().into_bytes()))),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(format!("both {keys}_file and {keys} are given")),
        };
        let (cert_name, cert) = read(&config.cert_file, &config.cert, "cert")?
            .ok_or("cert_file is missing (or cert, with the PEM text)")?;
        let (key_name, key) =
            read(&config.key_file, &config.key, "key")?.ok_or("key_file is missing (or key, with the PEM text)")?;
        let authorities = read(&config.client_ca_file, &config.client_ca, "client_ca")?;

        let provider = Arc::new(provider(&config.cipher_suites, &config.curve_preferences)?);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions(config.min_version.as_deref(), config.max_version.as_deref())?)
            .map_err(|error| error.to_string())?;
        let kind = client_auth(&config.client_auth_type)?;
        let builder = match (kind, authorities) {
            (ClientAuth::None, None) => builder.with_no_client_auth(),
            (ClientAuth::None, Some(_)) => {
                return Err("client_ca_file is given, but client_auth_type does not verify clients".to_owned());
            }
            (_, None) => {
                return Err(format!(
                    "client_auth_type {} needs client_ca_file",
                    config.client_auth_type
                ));
            }
            (kind, Some((name, pem))) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(&pem, &name)? {
                    roots.add(certificate).map_err(|error| format!("{name}: {error}"))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match kind {
                    ClientAuth::IfGiven => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("{name}: {error}"))?)
            }
        };
        let chain = certificates(&cert, &cert_name)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| format!("{key_name}: {error}"))?;
        let mut server = builder
            .with_single_cert(chain, key)
            .map_err(|error| format!("{cert_name} and {key_name}: {error}"))?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        if !config.client_allowed_sans.is_empty() && kind != ClientAuth::Required {
            return Err("client_allowed_sans needs client_auth_type RequireAndVerifyClientCert".to_owned());
        }
        Ok(Server {
            config: Arc::new(server),
            allowed_sans: config
                .client_allowed_sans
                .iter()
                .map(|san| name(san))
                .collect::<Result<_, _>>()?,
            clients_are_known: kind == ClientAuth::Required,
        })
    }

    /// Returns whether the client's certificates (its own first) bear a name that is let in.
    pub(in crate::http) fn lets_in(&self, shown: Option<&[CertificateDer<'_>]>) -> bool {
        if self.allowed_sans.is_empty() {
            return true;
        }
        let own = shown
            .and_then(<[_]>::first)
            .and_then(|own| ParsedCertificate::try_from(own).ok());
        own.is_some_and(|own| {
            let bears = |name: &ServerName<'_>| rustls::client::verify_server_name(&own, name).is_ok();
            self.allowed_sans.iter().any(bears)
        })
    }
}

fn name(san: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(san.to_owned())
        .map_err(|_| format!("client_allowed_sans: {san:?} is neither a DNS name nor an address"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientAuth {
    None,
    IfGiven,
    Required,
}

fn client_auth(text: &str) -> Result<ClientAuth, String> {
    match text {
        // A certificate that is asked for and not verified decides nothing.
        "" | "NoClientCert" | "RequestClientCert" => Ok(ClientAuth::None),
        "VerifyClientCertIfGiven" => Ok(ClientAuth::IfGiven),
        "RequireAndVerifyClientCert" => Ok(ClientAuth::Required),
        "RequireAnyClientCert" | "RequireClientCert" => Err(format!(
            "client_auth_type {text} takes any certificate, which proves nothing; use RequireAndVerifyClientCert"
        )),
        other => Err(format!("unknown client_auth_type {other:?}")),
    }
}

/// TLS 1.2 is the least that is spoken: older names are read as it.
fn versions(min: Option<&str>, max: Option<&str>) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let rank = |text: &str| match text {
        "TLS10" | "TLS11" | "TLS12" => Ok(12),
        "TLS13" => Ok(13),
        other => Err(format!("unknown TLS version {other:?}")),
    };
    let (min, max) = (min.map_or(Ok(12), rank)?, max.map_or(Ok(13), rank)?);
    let all = [(12, &rustls::version::TLS12), (13, &rustls::version::TLS13)];
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|(version, _)| (min..=max).contains(version))
        .map(|(_, version)| version)
        .collect();
    match chosen.is_empty() {
        true => Err("min_version is above max_version".to_owned()),
        false => Ok(chosen),
    }
}

fn provider(suites: &[String], curves: &[String]) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if !suites.is_empty() {
        // As in Go, the suites of TLS 1.3 are not chosen.
        let tls13 = provider
            .cipher_suites
            .iter()
            .copied()
            .filter(|suite| suite.tls13().is_some());
        let chosen: Vec<SupportedCipherSuite> = suites
            .iter()
            .map(|name| suite(&provider, name))
            .collect::<Result<_, _>>()?;
        provider.cipher_suites = tls13
            .chain(chosen.into_iter().filter(|suite| suite.tls13().is_none()))
            .collect();
    }
    if !curves.is_empty() {
        provider.kx_groups = curves.iter().map(|name| curve(name)).collect::<Result<_, _>>()?;
    }
    Ok(provider)
}

fn suite(provider: &CryptoProvider, name: &str) -> Result<SupportedCipherSuite, String> {
    // Go's names leave out what rustls spells: TLS13_ before the suites of 1.3, _SHA256 behind ChaCha.
    let plain = |name: &str| {
        name.trim_start_matches("TLS13_")
            .trim_start_matches("TLS_")
            .trim_end_matches("_POLY1305_SHA256")
            .trim_end_matches("_POLY1305")
            .to_owned()
    };
    let wanted = plain(name);
    provider
        .cipher_suites
        .iter()
        .copied()
        .find(|suite| plain(suite.suite().as_str().unwrap_or_default()) == wanted)
        .ok_or_else(|| format!("cipher_suites: {name} is not spoken here (ECDHE with AES-GCM or ChaCha20 is)"))
}

fn curve(name: &str) -> Result<&'static dyn SupportedKxGroup, String> {
    match name {
        "X25519" => Ok(ring::kx_group::X25519),
        "CurveP256" => Ok(ring::kx_group::SECP256R1),
        "CurveP384" => Ok(ring::kx_group::SECP384R1),
        other => Err(format!(
            "curve_preferences: {other} is not spoken here (X25519, CurveP256 and CurveP384 are)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_names_of_suites_curves_and_versions_are_understood() {
        let names = [
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_AES_128_GCM_SHA256",
        ];
        let provider = provider(&names.map(str::to_owned), &["CurveP384".to_owned()]).unwrap();
        assert_eq!(provider.kx_groups.len(), 1);
        assert_eq!(
            provider
                .cipher_suites
                .iter()
                .filter(|suite| suite.tls13().is_none())
                .count(),
            3
        );
        assert_eq!(versions(Some("TLS10"), None).unwrap().len(), 2);
        assert_eq!(versions(Some("TLS13"), None).unwrap().len(), 1);
        assert_eq!(versions(None, Some("TLS12")).unwrap().len(), 1);
    }

    #[test]
    fn what_would_weaken_tls_is_refused_by_name() {
        let suites = super::provider(&["TLS_RSA_WITH_AES_128_CBC_SHA".to_owned()], &[])
            .err()
            .unwrap();
        assert!(suites.contains("TLS_RSA_WITH_AES_128_CBC_SHA"), "{suites}");
        assert!(super::provider(&[], &["CurveP521".to_owned()]).is_err());
        assert!(versions(Some("TLS13"), Some("TLS12")).is_err());
        assert!(versions(Some("SSL3"), None).is_err());
        assert!(
            client_auth("RequireAnyClientCert")
                .err()
                .unwrap()
                .contains("proves nothing")
        );
        assert!(client_auth("Maybe").is_err());
    }
}
