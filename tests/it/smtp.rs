//! A mail server of the tests: EHLO, STARTTLS, AUTH PLAIN and LOGIN, and a 4xx at any stage it is told to refuse.
//!
//! It speaks RFC 5321 as far as clients go in practice, keeps every accepted message, and insists on what it advertises:
//! without STARTTLS and AUTH (when asked for) it takes nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A message that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// Headers and body, dot-stuffing undone.
    pub(crate) text: String,
    /// Whether it came over TLS.
    pub(crate) encrypted: bool,
    /// The user who logged in.
    pub(crate) user: Option<String>,
}

impl Message {
    /// Returns a header's value, folded lines joined.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let head = self
            .text
            .split("\r\n\r\n")
            .next()?
            .replace("\r\n ", " ")
            .replace("\r\n\t", " ");
        let found = head
            .lines()
            .find(|line| line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())))?;
        Some(found[name.len() + 1..].trim().to_owned())
    }
}

/// Where the server can say "not now".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Connect,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Message,
}

/// Every stage, in the order of a conversation.
pub(crate) const STAGES: [Stage; 6] = [
    Stage::Connect,
    Stage::Ehlo,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Message,
];

/// Listens on loopback until the test process ends.
#[derive(Clone)]
pub(crate) struct SmtpServer {
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    /// PEM of the certificate that clients must trust.
    pub(crate) certificate: String,
    login: Option<(String, String)>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    refuse: Vec<Stage>,
    refused: Vec<Stage>,
}

impl SmtpServer {
    /// Starts a server without TLS and login.
    pub(crate) fn plain() -> SmtpServer {
        SmtpServer::start(None, None)
    }

    /// Starts a server that insists on STARTTLS and on a login.
    pub(crate) fn secure(user: &str, password: &str) -> SmtpServer {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("the certificate fits its key");
        let mut server = SmtpServer::start(Some(Arc::new(config)), Some((user.to_owned(), password.to_owned())));
        server.certificate = made.cert.pem();
        server
    }

    fn start(tls: Option<Arc<ServerConfig>>, login: Option<(String, String)>) -> SmtpServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let server = SmtpServer {
            port,
            tls,
            certificate: String::new(),
            login,
            state: Arc::default(),
        };
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || own.greet(stream));
            }
        });
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Says "not now" once at each of these stages, in the order given.
    pub(crate) fn refuse(&self, stages: &[Stage]) {
        self.state.lock().unwrap().refuse = stages.to_vec();
    }

    /// Returns the stages at which somebody was sent away so far.
    pub(crate) fn refused(&self) -> Vec<Stage> {
        self.state.lock().unwrap().refused.clone()
    }

    /// Returns what was accepted so far.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.state.lock().unwrap().messages.clone()
    }

    fn is_refused(&self, stage: Stage) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.refuse.first() == Some(&stage) {
            state.refuse.remove(0);
            state.refused.push(stage);
            return true;
        }
        false
    }

    fn greet(&self, mut stream: TcpStream) -> std::io::Result<()> {
        if self.is_refused(Stage::Connect) {
            return stream.write_all(b"421 not now\r\n");
        }
        stream.write_all(b"220 test ESMTP\r\n")?;
        let mut talk = Talk {
            server: self,
            encrypted: false,
            user: None,
            from: String::new(),
            to: Vec::new(),
        };
        let mut clear = BufReader::new(stream);
        if talk.run(&mut clear)? == Next::StartTls {
            let config = Arc::clone(self.tls.as_ref().expect("STARTTLS is offered with TLS only"));
            let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
            talk.encrypted = true;
            talk.run(&mut BufReader::new(StreamOwned::new(connection, clear.into_inner())))?;
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    StartTls,
    Quit,
}

struct Talk<'a> {
    server: &'a SmtpServer,
    encrypted: bool,
    user: Option<String>,
    from: String,
    to: Vec<String>,
}

/// What a line of the client leads to.
enum Reply {
    Say(String),
    Close(String),
    StartTls,
    Login,
    Data,
}

impl Talk<'_> {
    fn run<S: Read + Write>(&mut self, stream: &mut BufReader<S>) -> std::io::Result<Next> {
        loop {
            let Some(line) = read_line(stream)? else {
                return Ok(Next::Quit);
            };
            match self.reply(&line) {
                Reply::Say(text) => say(stream, &text)?,
                Reply::Close(text) => {
                    say(stream, &text)?;
                    return Ok(Next::Quit);
                }
                Reply::StartTls => {
                    say(stream, "220 go ahead")?;
                    return Ok(Next::StartTls);
                }
                Reply::Login => {
                    say(stream, "334 VXNlcm5hbWU6")?;
                    let user = decode(&read_line(stream)?.unwrap_or_default());
                    say(stream, "334 UGFzc3dvcmQ6")?;
                    let password = decode(&read_line(stream)?.unwrap_or_default());
                    let answer = self.log_in(&user, &password);
                    say(stream, &answer)?;
                }
                Reply::Data => {
                    say(stream, "354 go ahead")?;
                    let text = read_message(stream)?;
                    let answer = self.take(text);
                    say(stream, &answer)?;
                }
            }
        }
    }

    fn reply(&mut self, line: &str) -> Reply {
        let upper = line.to_uppercase();
        let verb = upper.split([' ', ':']).next().unwrap_or("");
        let refuses = |stage| self.server.is_refused(stage);
        match verb {
            "EHLO" | "HELO" if refuses(Stage::Ehlo) => Reply::Close("421 not now".into()),
            "EHLO" | "HELO" => Reply::Say(self.capabilities()),
            "STARTTLS" if self.server.tls.is_some() && !self.encrypted => Reply::StartTls,
            "AUTH" if upper.starts_with("AUTH LOGIN") => Reply::Login,
            "AUTH" => {
                let given = decode(line.split(' ').nth(2).unwrap_or(""));
                let mut parts = given.split('\0').skip(1);
                let (user, password) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
                Reply::Say(self.log_in(user, password))
            }
            "MAIL" if self.server.tls.is_some() && !self.encrypted => Reply::Say("530 STARTTLS first".into()),
            "MAIL" if self.server.login.is_some() && self.user.is_none() => Reply::Say("530 log in first".into()),
            "MAIL" if refuses(Stage::Mail) => Reply::Say("451 not now".into()),
            "MAIL" => {
                self.from = address(line);
                self.to.clear();
                Reply::Say("250 ok".into())
            }
            "RCPT" if refuses(Stage::Rcpt) => Reply::Say("450 not now".into()),
            "RCPT" => {
                self.to.push(address(line));
                Reply::Say("250 ok".into())
            }
            "DATA" if refuses(Stage::Data) => Reply::Say("451 not now".into()),
            "DATA" => Reply::Data,
            "QUIT" => Reply::Close("221 bye".into()),
            "RSET" | "NOOP" => Reply::Say("250 ok".into()),
            _ => Reply::Say("500 what?".into()),
        }
    }

    fn capabilities(&self) -> String {
        let mut lines = vec!["test"];
        if self.server.tls.is_some() && !self.encrypted {
            lines.push("STARTTLS");
        } else if self.server.login.is_some() {
            lines.push("AUTH PLAIN LOGIN");
        }
        lines.push("8BITMIME");
        let last = lines.len() - 1;
        let shown: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(i, line)| format!("250{}{line}", if i == last { ' ' } else { '-' }))
            .collect();
        shown.join("\r\n")
    }

    fn log_in(&mut self, user: &str, password: &str) -> String {
        match &self.server.login {
            Some((known, secret)) if known == user && secret == password => {
                self.user = Some(user.to_owned());
                "235 welcome".into()
            }
            _ => "535 who are you?".into(),
        }
    }

    fn take(&mut self, text: String) -> String {
        if self.server.is_refused(Stage::Message) {
            return "451 not now".into();
        }
        let message = Message {
            from: self.from.clone(),
            to: self.to.clone(),
            text,
            encrypted: self.encrypted,
            user: self.user.clone(),
        };
        self.server.state.lock().unwrap().messages.push(message);
        "250 ok: queued as 42".into()
    }
}

fn say<S: Read + Write>(stream: &mut BufReader<S>, text: &str) -> std::io::Result<()> {
    stream.get_mut().write_all(format!("{text}\r\n").as_bytes())?;
    stream.get_mut().flush()
}

fn read_line(reader: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let read = reader.take(64 * 1024).read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}

fn read_message(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == ".\r\n" {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}

fn address(line: &str) -> String {
    let start = line.find('<').map_or(0, |at| at + 1);
    let end = line[start..].find('>').map_or(line.len(), |at| start + at);
    line[start..end].to_owned()
}

fn decode(text: &str) -> String {
    String::from_utf8(BASE64.decode(text.trim()).unwrap_or_default()).unwrap_or_default()
}
