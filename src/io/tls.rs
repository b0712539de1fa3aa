//! TLS: whom to trust and who we are, as rustls wants it.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::http_client::{HttpOptions, TlsVersions};

/// Builds what a client needs to speak TLS under `options`.
///
/// # Errors
/// A text that says which of the PEM texts is bad, or that the system has no certificate authorities.
pub(super) fn client_config(options: &HttpOptions) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match options.tls_versions {
        TlsVersions::All => rustls::DEFAULT_VERSIONS,
        TlsVersions::Tls12 => &[&rustls::version::TLS12],
        TlsVersions::Tls13 => &[&rustls::version::TLS13],
    };
    let verifier = verifier(options, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| format!("TLS: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &options.identity_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let chain = certificates(pem, "client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("client key: {error}"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("client certificate: {error}"))?
        }
    };
    config.alpn_protocols = if options.http1_only {
        vec![b"http/1.1".to_vec()]
    } else {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    };
    Ok(config)
}

/// Whether a refusal says that the server's own certificate is one of an authority.
pub(super) fn is_authority_itself(error: &str) -> bool {
    error.contains("CaUsedAsEndEntity")
}

/// Reads all certificates of a PEM text; `what` names it in errors.
///
/// # Errors
/// A text, when there is none or one cannot be read.
pub(crate) fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{what}: {error}"))?;
    if found.is_empty() {
        return Err(format!("{what}: no certificate in the PEM text"));
    }
    Ok(found)
}

fn verifier(options: &HttpOptions, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if options.insecure_skip_verify {
        return Ok(Arc::new(AcceptAny(Arc::clone(provider))));
    }
    let mut roots = RootCertStore::empty();
    match &options.ca_pem {
        Some(pem) => {
            for certificate in certificates(pem, "certificate authority")? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("certificate authority: {error}"))?;
            }
        }
        None => {
            // A store may hold certificates that rustls cannot read; what it can read counts.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| format!("certificate authorities: {error}"))?;
    let name = match &options.server_name {
        None => None,
        Some(name) => {
            Some(ServerName::try_from(name.clone()).map_err(|_| format!("server name {name:?} is not a name"))?)
        }
    };
    let pinned = match &options.ca_pem {
        Some(pem) => certificates(pem, "certificate authority")?,
        None => Vec::new(),
    };
    Ok(Arc::new(Trusted { name, pinned, inner }))
}

/// Checks the certificate against the authorities, and against a configured name instead of the one in the URL.
///
/// A server may present one of the configured certificates itself (self-signed, and marked as an authority, as `openssl req
/// -x509` makes them): webpki refuses that on principle, yet the operator named this very certificate.
#[derive(Debug)]
struct Trusted {
    name: Option<ServerName<'static>>,
    pinned: Vec<CertificateDer<'static>>,
    inner: Arc<WebPkiServerVerifier>,
}

impl Trusted {
    fn is_pinned(&self, shown: &CertificateDer<'_>) -> bool {
        self.pinned.iter().any(|known| known.as_ref() == shown.as_ref())
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = self.name.as_ref().unwrap_or(server_name);
        let verdict = self
            .inner
            .verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match verdict {
            Err(error) if is_authority_itself(&format!("{error:?}")) && self.is_pinned(end_entity) => {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What `insecure_skip_verify` asks for: any certificate will do, but its key must have signed the handshake.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
