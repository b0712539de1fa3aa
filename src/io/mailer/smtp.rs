//! The mailer of the real world: SMTP by lettre, one connection a message, a deadline on every step.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use lettre::Address;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, Identity, TlsParameters, TlsVersion,
};
use lettre::transport::smtp::commands::{Data, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::auth::{self, Mechanism};
use super::{Mail, MailAuth, MailError, MailReceipt, Mailer, Smarthost, TlsMode};
use crate::io::{BoxFuture, tls};

/// Sends over the network.
#[derive(Debug)]
pub struct SmtpMailer;

impl SmtpMailer {
    /// Returns a mailer.
    pub fn new() -> Arc<SmtpMailer> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Arc::new(SmtpMailer)
    }
}

impl Mailer for SmtpMailer {
    fn send<'a>(&'a self, to: &'a Smarthost, mail: &'a Mail) -> BoxFuture<'a, Result<MailReceipt, MailError>> {
        Box::pin(async move {
            let mut session = match Session::open(to, Trust::Chain).await {
                Err(error) if tls::is_authority_itself(&error.to_string()) && to.tls.ca_pem.is_some() => {
                    Session::open(to, Trust::Pinned).await?
                }
                opened => opened?,
            };
            let result = session.deliver(mail).await;
            session.close().await;
            result
        })
    }
}

/// How the server's certificate is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// An authority signed it.
    Chain,
    /// It is one of the configured certificates itself: self-signed, and marked as an authority, which a chain never allows.
    Pinned,
}

/// One connection on its way through the dialogue.
struct Session<'a> {
    to: &'a Smarthost,
    connection: AsyncSmtpConnection,
    encrypted: bool,
}

impl<'a> Session<'a> {
    /// Connects, says hello, secures the connection and logs in.
    async fn open(to: &'a Smarthost, trust: Trust) -> Result<Session<'a>, MailError> {
        let implicit = to.tls.mode == TlsMode::Implicit;
        let tls = if implicit {
            Some(tls_parameters(to, trust)?)
        } else {
            None
        };
        let hello = client_id(to);
        let connecting = AsyncSmtpConnection::connect_tokio1(
            (to.host.as_str(), to.port),
            Some(to.timeout.as_std()),
            &hello,
            tls,
            None,
        );
        let connection = deadline(to, "connect", connecting).await?;
        let mut session = Session {
            to,
            connection,
            encrypted: implicit,
        };
        if implicit {
            session.check_pin(trust)?;
        }
        let mut features = session.features().await?;
        if matches!(to.tls.mode, TlsMode::Opportunistic | TlsMode::Required) {
            if features.starttls {
                let tls = tls_parameters(to, trust)?;
                deadline(to, "STARTTLS", session.connection.starttls(tls, &hello)).await?;
                session.check_pin(trust)?;
                session.encrypted = true;
                features = session.features().await?;
            } else if to.tls.mode == TlsMode::Required {
                return Err(MailError::Permanent(format!(
                    "{} does not offer STARTTLS, and TLS is required",
                    to.host
                )));
            }
        }
        if let Some(auth) = &to.auth {
            session.log_in(auth, &features.auth).await?;
        }
        Ok(session)
    }

    /// Makes sure that a certificate believed without a chain is one of those configured. Its name and the signature of the
    /// handshake have been checked by then.
    fn check_pin(&self, trust: Trust) -> Result<(), MailError> {
        if trust == Trust::Chain {
            return Ok(());
        }
        let pem = self.to.tls.ca_pem.as_deref().unwrap_or_default();
        let pinned = tls::certificates(pem, "certificate authority").map_err(MailError::Permanent)?;
        let shown = self
            .connection
            .peer_certificate()
            .map_err(|error| classify("certificate", &error))?;
        if pinned.iter().any(|known| **known == *shown) {
            return Ok(());
        }
        Err(MailError::Permanent(
            "the server's certificate is not trusted".to_owned(),
        ))
    }

    async fn features(&mut self) -> Result<Features, MailError> {
        let response = self.command("EHLO", format!("EHLO {}\r\n", client_id(self.to))).await?;
        Ok(Features::parse(response.message()))
    }

    async fn log_in(&mut self, auth: &MailAuth, offered: &[String]) -> Result<(), MailError> {
        let mechanism = auth::choose(offered, auth).map_err(MailError::Permanent)?;
        if mechanism != Mechanism::CramMd5 && !self.encrypted && !is_loopback(&self.to.host) {
            return Err(MailError::Permanent(
                "the connection is not encrypted: a password is sent in clear to this machine only".to_owned(),
            ));
        }
        match mechanism {
            Mechanism::Plain => {
                self.command("AUTH PLAIN", format!("AUTH PLAIN {}\r\n", auth::plain(auth)))
                    .await?;
            }
            Mechanism::Login => {
                let mut response = self.command("AUTH LOGIN", "AUTH LOGIN\r\n".to_owned()).await?;
                // User name and password: two prompts.
                for _ in 0..2 {
                    if !response.has_code(334) {
                        break;
                    }
                    let answer =
                        auth::login(auth, response.first_line().unwrap_or_default()).map_err(MailError::Permanent)?;
                    response = self.command("AUTH LOGIN", format!("{answer}\r\n")).await?;
                }
            }
            Mechanism::CramMd5 => {
                let challenge = self.command("AUTH CRAM-MD5", "AUTH CRAM-MD5\r\n".to_owned()).await?;
                let answer =
                    auth::cram_md5(auth, challenge.first_line().unwrap_or_default()).map_err(MailError::Permanent)?;
                self.command("AUTH CRAM-MD5", format!("{answer}\r\n")).await?;
            }
        }
        Ok(())
    }

    async fn deliver(&mut self, mail: &Mail) -> Result<MailReceipt, MailError> {
        let from = address(&mail.from)?;
        self.command(
            "MAIL FROM",
            lettre::transport::smtp::commands::Mail::new(Some(from), vec![]),
        )
        .await?;
        for recipient in &mail.to {
            let recipient = address(recipient)?;
            self.command("RCPT TO", Rcpt::new(recipient, vec![])).await?;
        }
        self.command("DATA", Data).await?;
        let sending = self.connection.message(&mail.message);
        let response = deadline(self.to, "DATA", sending).await?;
        Ok(MailReceipt {
            response: format!(
                "{} {}",
                response.code(),
                response.message().collect::<Vec<_>>().join(" ")
            ),
        })
    }

    async fn command(&mut self, step: &str, command: impl std::fmt::Display) -> Result<Response, MailError> {
        deadline(self.to, step, self.connection.command(command)).await
    }

    /// Says goodbye without insisting on an answer: the message is delivered or not by now.
    async fn close(mut self) {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), self.connection.quit()).await;
    }
}

/// What the server says it can do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Features {
    starttls: bool,
    auth: Vec<String>,
}

impl Features {
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Features {
        let mut features = Features::default();
        for line in lines {
            // Some old servers write `AUTH=LOGIN`.
            let line = line.to_ascii_uppercase().replace('=', " ");
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("STARTTLS") => features.starttls = true,
                Some("AUTH") => {
                    for word in words {
                        if !features.auth.iter().any(|known| known == word) {
                            features.auth.push(word.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        features
    }
}

fn client_id(to: &Smarthost) -> ClientId {
    match to.hello.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ClientId::Ipv4(ip),
        Ok(IpAddr::V6(ip)) => ClientId::Ipv6(ip),
        Err(_) => ClientId::Domain(to.hello.clone()),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn address(text: &str) -> Result<Address, MailError> {
    Address::from_str(text).map_err(|error| MailError::Permanent(format!("address {text:?}: {error}")))
}

fn tls_parameters(to: &Smarthost, trust: Trust) -> Result<TlsParameters, MailError> {
    let bad = |what: &str, error: SmtpError| MailError::Permanent(format!("{what}: {error}"));
    let domain = to.tls.server_name.clone().unwrap_or_else(|| to.host.clone());
    let mut builder = TlsParameters::builder(domain);
    if to.tls.tls13_only {
        builder = builder.set_min_tls_version(TlsVersion::Tlsv13);
    }
    if let Some(pem) = &to.tls.ca_pem {
        builder = builder.certificate_store(CertificateStore::None);
        let authorities = Certificate::from_pem(pem).map_err(|error| bad("certificate authority", error))?;
        builder = builder.add_root_certificate(authorities);
    }
    if let Some(pem) = &to.tls.identity_pem {
        // lettre takes the certificate as DER in spite of the name, and only the key as PEM.
        let certificate = CertificateDer::from_pem_slice(pem)
            .map_err(|error| MailError::Permanent(format!("client certificate: {error}")))?;
        let identity = Identity::from_pem(&certificate, pem).map_err(|error| bad("client certificate", error))?;
        builder = builder.identify_with(identity);
    }
    if to.tls.insecure_skip_verify {
        builder = builder
            .dangerous_accept_invalid_certs(true)
            .dangerous_accept_invalid_hostnames(true);
    } else if trust == Trust::Pinned {
        builder = builder.dangerous_accept_invalid_certs(true);
    }
    builder.build().map_err(|error| bad("TLS", error))
}

/// Waits for one step of the dialogue, at most as long as the smarthost's timeout.
async fn deadline<T>(
    to: &Smarthost,
    step: &str,
    work: impl Future<Output = Result<T, SmtpError>>,
) -> Result<T, MailError> {
    match tokio::time::timeout(to.timeout.as_std(), work).await {
        Err(_) => Err(MailError::Transient(format!("{step}: timed out after {}", to.timeout))),
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(classify(step, &error)),
    }
}

/// A 4xx at any stage and whatever the network does may pass; a 5xx and a bad certificate stay.
fn classify(step: &str, error: &SmtpError) -> MailError {
    let text = format!("{step}: {}", chain(error));
    // lettre reports a failed handshake as a connection error whose source is rustls's.
    let bad_certificate = error.is_tls() || text.contains("invalid peer certificate");
    if error.is_permanent() || bad_certificate {
        MailError::Permanent(text)
    } else {
        MailError::Transient(text)
    }
}

fn chain(error: &SmtpError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
