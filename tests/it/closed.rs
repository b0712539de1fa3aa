//! Closed by default: who may ask what, over which address, in which name. The rows of weaknesses that a listener can have,
//! each against the real binary.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Answer, get, now, request, rest};
use crate::process::Server;

const WRITER: &str = "writer-0123456789abcdef";
const READER: &str = "reader-0123456789abcdef";
const CHIEF: &str = "chief-0123456789abcdef";

/// A server with a token for each of writing, reading and administrating.
fn guarded() -> Server {
    let mut server = Server::new();
    server.write("writer", WRITER);
    server.write("reader", READER);
    server.write("chief", CHIEF);
    server.write(
        "campanile.yaml",
        "auth:\n  tokens:\n  - {name: writer, scopes: [write], token_file: writer}\n  - {name: reader, scopes: [query], token_file: reader}\n\
         \x20 - {name: chief, scopes: [write, query, alerts, events, admin], token_file: chief}\n",
    );
    server.start();
    server
}

fn with(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    request(method, &format!("{}{path}", server.url()), headers, body.as_bytes()).expect("an answer")
}

fn as_(server: &Server, token: &str, method: &str, path: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    with(server, method, path, &[("Authorization", &bearer)], "").status
}

/// Sends bytes as they are and returns all that comes back.
fn raw(server: &Server, bytes: &[u8]) -> String {
    let address = server.url().replace("http://", "");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(bytes).expect("the bytes are taken");
    rest(&mut stream)
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_token_opens_its_scopes_and_nothing_else_and_the_agent_goes_on() {
    let server = guarded();
    let query = "/api/v1/query?query=up";
    assert_eq!(as_(&server, READER, "GET", query), 200);
    assert_eq!(as_(&server, WRITER, "GET", query), 403);
    assert_eq!(as_(&server, READER, "POST", "/-/reload"), 403);
    assert_eq!(as_(&server, CHIEF, "POST", "/-/reload"), 200);
    let line = format!("pushed 1 {}", now());
    let push = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/plain")];
        with(&server, "POST", "/api/v1/import/prometheus", &headers, &line).status
    };
    assert_eq!((push(WRITER), push(READER)), (204, 403));

    let missing = with(&server, "GET", query, &[], "");
    let wrong = with(
        &server,
        "GET",
        query,
        &[("Authorization", "Bearer reader-0123456789abcdeX")],
        "",
    );
    assert_eq!((missing.status, wrong.status), (401, 401));
    assert_eq!(missing.body, wrong.body, "unknown and wrong are told alike");
    for path in ["/-/healthy", "/-/ready", "/"] {
        assert_eq!(with(&server, "GET", path, &[], "").status, 200, "{path}");
    }
    for path in [
        "/metrics",
        "/api/v1/status/config",
        "/api/v2/alerts",
        "/debug/pprof/",
        "/debug/vars",
    ] {
        assert!(
            matches!(with(&server, "GET", path, &[], "").status, 401 | 404),
            "{path}"
        );
    }
    eventually("the built-in agent pushes without a token of its own", || {
        let bearer = format!("Bearer {READER}");
        let answer = with(
            &server,
            "GET",
            "/api/v1/query?query=node_load1",
            &[("Authorization", &bearer)],
            "",
        );
        !answer.json()["data"]["result"].as_array().expect("a vector").is_empty()
    });
    let log = server.log();
    for token in [WRITER, READER, CHIEF] {
        assert!(!log.contains(token), "a token stands in the log");
    }
}

#[test]
fn guessing_is_slowed_and_the_right_token_passes() {
    let server = guarded();
    let statuses: Vec<u16> = (0..30)
        .map(|n| as_(&server, &format!("guess-{n}"), "GET", "/metrics"))
        .collect();
    assert_eq!(statuses[0], 401);
    assert_eq!(statuses[29], 429);
    assert_eq!(as_(&server, READER, "GET", "/metrics"), 200);
}

#[test]
fn a_token_file_that_changes_is_followed_without_a_restart() {
    let server = guarded();
    server.write("reader", "another-0123456789abcdef");
    eventually("the new token is known", || {
        as_(&server, "another-0123456789abcdef", "GET", "/metrics") == 200
    });
    assert_ne!(as_(&server, READER, "GET", "/metrics"), 200);
}

#[test]
fn another_address_needs_auth_or_the_switch() {
    let server = Server::new();
    let data = server.data_dir().display().to_string();
    let (code, _, error) = server.run(&["serve", "--listen", "0.0.0.0:0", "--data-dir", &data]);
    assert_ne!(code, Some(0));
    for part in ["0.0.0.0", "auth", "127.0.0.1", "--i-know-this-is-open"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!server.data_dir().exists(), "nothing was touched");
}

#[test]
fn a_literal_token_is_refused_and_not_repeated() {
    let server = Server::new();
    let path = server.write(
        "campanile.yaml",
        "auth:\n  tokens:\n  - {name: a, scopes: [query], token: sup3r-s3cr3t-0123456789}\n",
    );
    let (code, _, error) = server.run(&["serve", "--config", &path.display().to_string()]);
    assert_ne!(code, Some(0));
    assert!(
        error.contains("campanile.yaml:3") && error.contains("literal token is refused"),
        "{error}"
    );
}

#[test]
fn names_of_others_pages_of_others_and_forms_are_refused() {
    let mut server = Server::new();
    server.start();
    let host = |name: &str| {
        let answer = raw(
            &server,
            format!("GET /metrics HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        answer.get(9..12).unwrap_or("").to_owned()
    };
    assert_eq!(
        (host("localhost"), host("evil.example"), host("127.0.0.1.evil.example")),
        ("200".into(), "421".into(), "421".into())
    );
    for (headers, status) in [
        (vec![("Sec-Fetch-Site", "cross-site")], 403),
        (vec![("Origin", "http://evil.example")], 403),
        (vec![("Origin", "null")], 403),
        (vec![], 200),
    ] {
        let answer = with(&server, "POST", "/-/reload", &headers, "");
        assert_eq!(answer.status, status, "{headers:?}");
        assert!(
            answer
                .headers
                .iter()
                .all(|(name, _)| !name.starts_with("access-control"))
        );
    }
    let preflight = with(
        &server,
        "OPTIONS",
        "/api/v1/write",
        &[("Origin", "http://evil.example")],
        "",
    );
    assert!(preflight.header("access-control-allow-origin").is_none());
    // What a page can send without asking: a form, or plain text.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        let answer = with(&server, "POST", "/api/v1/write", &[("Content-Type", kind)], "x");
        assert_eq!(answer.status, 415, "{kind}: {}", answer.text());
        let answer = with(&server, "POST", "/api/v2/silences", &[("Content-Type", kind)], "{}");
        assert_eq!(answer.status, 415, "{kind}: {}", answer.text());
    }
    for path in ["/-/reload", "/-/quit", "/-/login", "/-/logout"] {
        let status = with(&server, "GET", path, &[], "").status;
        assert!(matches!(status, 404 | 405), "{path} changes something by GET: {status}");
    }
}

#[test]
fn every_answer_carries_the_security_headers() {
    let mut server = Server::new();
    server.start();
    for path in ["/", "/api/v1/query?query=1", "/nothing", "/metrics", "/api/v2/status"] {
        let answer = with(&server, "GET", path, &[], "");
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        let csp = header("content-security-policy");
        assert!(
            csp.starts_with("default-src 'none'") && !csp.contains("unsafe"),
            "{path}: {csp}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
    }
    for path in [
        "/ui/x/../../etc/passwd",
        "/ui/x/..%2f..%2fetc%2fpasswd",
        "/ui/x/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
    ] {
        let answer = raw(
            &server,
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        assert!(!answer.contains("root:"), "{path}");
    }
    for path in ["//evil.example/", "/\\evil.example", "/?next=//evil.example"] {
        let answer = raw(
            &server,
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        assert!(!answer.to_lowercase().contains("\nlocation:"), "{path}: {answer}");
    }
}

#[test]
fn a_request_with_two_lengths_is_refused_and_its_rest_is_no_request() {
    let mut server = Server::new();
    server.start();
    for headers in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Transfer-Encoding: identity, chunked, gzip",
    ] {
        let smuggled = "0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let sent = format!("POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n{smuggled}");
        let answer = raw(&server, sent.as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 4") || answer.is_empty(),
            "{headers}: {answer}"
        );
        assert!(!answer.contains("campanile_"), "{headers}: the rest was answered");
    }
}

#[test]
fn users_and_tls_of_a_web_config_hold_and_a_new_certificate_is_taken_up() {
    let mut server = Server::new();
    let folder = server.folder().to_owned();
    let make = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("a key file");
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("a certificate file");
        made.cert.der().clone()
    };
    let first = make();
    let hash = bcrypt::hash("open sesame", 4).expect("a hash");
    server.write(
        "web.yml",
        &format!("tls_server_config: {{cert_file: cert.pem, key_file: key.pem}}\nbasic_auth_users: {{ali: {hash}}}\n"),
    );
    server.write("campanile.yaml", "web_config: web.yml\n");
    server.launch();
    let address = server.url().replace("http://", "");
    let ask = |trusted: &rustls::pki_types::CertificateDer<'static>, headers: &str| -> Option<String> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = StreamOwned::new(connection, TcpStream::connect(&address).ok()?);
        let sent = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(sent.as_bytes()).ok()?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Some(String::from_utf8_lossy(&answer).into_owned())
    };
    // ali:open sesame
    let right = "Authorization: Basic YWxpOm9wZW4gc2VzYW1l\r\n";
    eventually("TLS answers", || {
        ask(&first, right).is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    let missing = ask(&first, "").expect("an answer");
    assert!(
        missing.starts_with("HTTP/1.1 401") && missing.to_lowercase().contains("www-authenticate: basic"),
        "{missing}"
    );
    assert!(
        get(&format!("{}/-/healthy", server.url())).is_err(),
        "plain HTTP is not answered"
    );
    let second = make();
    eventually("the new certificate is used", || {
        ask(&second, right).is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    assert!(ask(&first, right).is_none());
}
