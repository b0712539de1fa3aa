//! Mail out: a finished message to a smarthost.

mod auth;
mod outbox;
mod smtp;

pub use outbox::{MailOutbox, SentMail};
pub use smtp::SmtpMailer;

use super::BoxFuture;
use crate::model::Interval;

/// Where and how to hand over a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smarthost {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The name we say hello with.
    pub hello: String,
    /// How the connection is secured.
    pub tls: MailTls,
    /// Log in before sending.
    pub auth: Option<MailAuth>,
    /// The longest time for each read and write, and for connecting.
    pub timeout: Interval,
}

/// How a mail connection is secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailTls {
    /// When TLS begins.
    pub mode: TlsMode,
    /// PEM of the certificate authorities to trust, instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// PEM of a client certificate with its key.
    pub identity_pem: Option<Vec<u8>>,
    /// Name expected in the certificate, when it is not the host.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// Speak TLS 1.3 or nothing; otherwise 1.2 will do.
    pub tls13_only: bool,
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never: clear text.
    None,
    /// After STARTTLS when the server offers it.
    Opportunistic,
    /// After STARTTLS; refused when the server does not offer it.
    Required,
    /// From the first byte (port 465).
    Implicit,
}

/// Credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct MailAuth {
    /// User name.
    pub username: String,
    /// Password of PLAIN and LOGIN.
    pub password: Option<String>,
    /// Secret of CRAM-MD5.
    pub secret: Option<String>,
    /// Authorisation identity of PLAIN, usually empty.
    pub identity: String,
}

impl std::fmt::Debug for MailAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MailAuth {{ username: {:?}, password: <secret> }}", self.username)
    }
}

/// A finished message and its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Envelope sender.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// Headers and body (RFC 5322, CRLF), not yet dot-stuffed.
    pub message: Vec<u8>,
}

/// What the smarthost said when it took the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailReceipt {
    /// Its last line: usually a queue id.
    pub response: String,
}

/// Why a message was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MailError {
    /// A later try may succeed: no connection, a time-out, a 4xx at any stage.
    #[error("mail not taken yet: {0}")]
    Transient(String),
    /// Another try would fail alike: a 5xx, wrong credentials, an untrusted certificate, an impossible message.
    #[error("mail refused: {0}")]
    Permanent(String),
}

/// Hands messages over.
pub trait Mailer: Send + Sync {
    /// Sends one message; it is the smarthost's when this resolves.
    ///
    /// # Errors
    /// [`MailError`] says whether to try again.
    fn send<'a>(&'a self, to: &'a Smarthost, mail: &'a Mail) -> BoxFuture<'a, Result<MailReceipt, MailError>>;
}
