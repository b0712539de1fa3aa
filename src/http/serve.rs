//! The listener: binds, accepts, and at the end waits for requests under way.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::auth::tls;
use super::gate::Gate;
use super::metrics::{ACCEPTED, TLS_FAILED};
use super::registry::{Place, Registry};
use super::{Door, connection};
use crate::io::Shutdown;
use crate::model::Interval;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Address and port.
    pub listen: SocketAddr,
}

/// Takes the address.
///
/// # Errors
/// The operating system's, with the address in the text.
pub async fn bind(config: &HttpConfig) -> Result<TcpListener, String> {
    TcpListener::bind(config.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", config.listen))
}

/// Answers requests until `shutdown`; then the listener is closed at once, idle connections too, and requests under way
/// have `http_stop_time` to finish.
pub async fn serve(listener: TcpListener, door: Arc<Door>, mut shutdown: Shutdown) {
    let gate = Arc::new(Gate::new(Arc::clone(&door)));
    let registry = Arc::new(Registry::default());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    ACCEPTED.inc();
                    admit(stream, peer, &gate, &registry, &mut connections, &shutdown);
                }
                Err(error) => {
                    // Out of file descriptors, or the client is gone already: neither ends the server.
                    tracing::warn!(%error, "cannot accept a connection");
                    registry.make_room();
                    door.clock.sleep(Interval(10)).await;
                }
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = all_ended => {}
        () = door.clock.sleep(door.limits.http_stop_time) => {
            tracing::warn!(after = %door.limits.http_stop_time, "requests under way were cut off by the stop");
        }
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    gate: &Arc<Gate>,
    registry: &Arc<Registry>,
    connections: &mut JoinSet<()>,
    shutdown: &Shutdown,
) {
    let Some(place) = registry.enter(peer.ip(), gate.door.clock.mono(), &gate.door.limits) else {
        tracing::debug!(%peer, "no room for another connection");
        return;
    };
    // Answers are written whole; waiting to fill packets only adds latency.
    let _ = stream.set_nodelay(true);
    let (gate, shutdown) = (Arc::clone(gate), shutdown.clone());
    // Each connection follows the certificate that is in force when it comes.
    match gate.door.guard.access.load().tls().cloned() {
        None => connections.spawn(connection::run(stream, peer, place, gate, shutdown)),
        Some(tls) => connections.spawn(encrypted(stream, peer, place, gate, shutdown, tls)),
    };
}

/// Agrees on TLS, within the time that a request's head may take, then answers requests.
async fn encrypted(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    gate: Arc<Gate>,
    mut shutdown: Shutdown,
    tls: Arc<tls::Server>,
) {
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
    let agreed = tokio::select! {
        agreed = acceptor.accept(stream) => agreed.map_err(|error| error.to_string()),
        () = gate.door.clock.sleep(gate.door.limits.http_header_time) => Err("it took too long".to_owned()),
        () = shutdown.requested() => return,
        () = place.seen.evicted.notified() => return,
    };
    let refused = |error: String| {
        TLS_FAILED.inc();
        tracing::debug!(%peer, error, "no TLS was agreed on");
    };
    match agreed {
        Err(error) => refused(error),
        Ok(stream) if !tls.lets_in(stream.get_ref().1.peer_certificates()) => {
            refused("the client's certificate bears no name of client_allowed_sans".to_owned());
        }
        Ok(stream) => connection::run(stream, peer, place, gate, shutdown).await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::http::{App, Limits};
    use crate::io::ShutdownHandle;

    struct Server {
        address: SocketAddr,
        door: Arc<Door>,
        stop: ShutdownHandle,
        task: JoinHandle<()>,
    }

    async fn start(limits: Limits) -> Server {
        let listen = "127.0.0.1:0".parse().unwrap();
        let listener = bind(&HttpConfig { listen }).await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = super::super::door::tests::door(limits);
        let (stop, token) = ShutdownHandle::new();
        let task = tokio::spawn(serve(listener, Arc::clone(&door), token));
        Server {
            address,
            door,
            stop,
            task,
        }
    }

    impl Server {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// Sends one request and returns the whole answer.
        async fn ask(&self, request: &str) -> String {
            let mut stream = self.connect().await;
            let (line, rest) = request.split_once('\n').unwrap_or((request, ""));
            let host = if rest.contains("Host:") {
                ""
            } else {
                "Host: localhost\r\n"
            };
            let rest = rest.replace('\n', "\r\n");
            let whole = format!("{line} HTTP/1.1\r\nConnection: close\r\n{host}{rest}\r\n\r\n");
            stream.write_all(whole.as_bytes()).await.unwrap();
            rest_of(&mut stream).await
        }
    }

    /// Reads until the server closes the connection.
    async fn rest_of(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        // A connection that is closed with bytes unread may end in a reset: what came before counts.
        while let Ok(1..) = stream.read_buf(&mut answer).await {}
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn status(answer: &str) -> &str {
        answer.get(9..12).unwrap_or("")
    }

    #[tokio::test]
    async fn before_the_parts_are_there_only_the_door_answers() {
        let server = start(Limits::default()).await;
        let alive = server.ask("GET /-/healthy").await;
        assert_eq!(status(&alive), "200");
        for header in [
            "content-security-policy: default-src 'none'",
            "nosniff",
            "x-request-id: ",
            "no-store",
        ] {
            assert!(alive.contains(header), "{header} is missing: {alive}");
        }
        server.door.readiness().not_ready("replaying the log, 40 %");
        let ready = server.ask("GET /-/ready").await;
        assert!(
            status(&ready) == "503" && ready.ends_with("not ready: replaying the log, 40 %.\n"),
            "{ready}"
        );
        let write = server.ask("POST /api/v1/write").await;
        assert!(status(&write) == "503" && write.contains("retry-after: "), "{write}");
        server.door.open(Arc::new(App::test()));
        assert_eq!(status(&server.ask("GET /-/ready").await), "200");
        assert_ne!(status(&server.ask("POST /api/v1/write").await), "503");
    }

    #[tokio::test]
    async fn what_is_not_in_the_table_is_refused_with_the_reason() {
        let server = start(Limits::default()).await;
        for (request, expected, text) in [
            ("GET /nothing", "404", "no such path: /nothing"),
            ("DELETE /-/healthy", "405", "allow: GET, HEAD"),
            ("OPTIONS /api/v1/write", "405", "allow: "),
            ("GET /-/healthy\nHost: evil.example", "421", "host name"),
            ("GET http://evil.example/-/healthy", "421", "host name"),
            ("POST /-/reload\nContent-Length: 5000", "413", "4096 bytes"),
            ("POST /-/reload\nSec-Fetch-Site: cross-site", "403", "another site"),
            ("POST /-/reload\nOrigin: http://evil.example", "403", "another site"),
            ("POST /-/reload", "500", "rules.yaml:3:1"),
            ("GET /campanile/-/healthy", "200", "healthy"),
            ("HEAD /-/healthy", "200", ""),
        ] {
            let answer = server.ask(request).await;
            assert_eq!(status(&answer), expected, "{request}: {answer}");
            assert!(
                answer.to_lowercase().contains(&text.to_lowercase()),
                "{request}: {answer}"
            );
            assert!(
                !answer.to_lowercase().contains("access-control-"),
                "{request}: {answer}"
            );
        }
    }

    #[tokio::test]
    async fn pages_and_files_are_served_compressed_and_kept() {
        let server = start(Limits::default()).await;
        let index = server.ask("GET /explore").await;
        assert!(
            index.contains("cache-control: no-cache") && index.contains("<div id=\"app\">"),
            "{index}"
        );
        let hash = server.door.assets.hash().to_owned();
        let file = server
            .ask(&format!("GET /ui/{hash}/app/main.js\nAccept-Encoding: gzip"))
            .await;
        assert!(
            file.contains("immutable") && file.contains("content-encoding: gzip"),
            "{file}"
        );
        let old = server.ask("GET /ui/0123456789ab/app/main.js").await;
        assert!(status(&old) == "200" && old.contains("no-store"), "{old}");
        assert_eq!(
            status(&server.ask(&format!("GET /ui/{hash}/../../Cargo.toml")).await),
            "404"
        );
        let json = server.ask("GET /api/v1/dashboards/host\nAccept-Encoding: gzip").await;
        assert!(
            json.contains("content-encoding: gzip") && json.contains("application/json"),
            "{json}"
        );
        assert_eq!(status(&server.ask("GET /api/v1/dashboards/none").await), "404");
    }

    #[tokio::test]
    async fn slow_and_idle_clients_are_cut_off() {
        let server = start(Limits {
            http_header_time: Interval(30),
            http_idle_time: Interval(60),
            http_header_bytes: 8192,
            ..Limits::default()
        })
        .await;
        let mut slow = server.connect().await;
        slow.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: local").await.unwrap();
        assert_eq!(status(&rest_of(&mut slow).await), "408");
        let mut idle = server.connect().await;
        assert_eq!(rest_of(&mut idle).await, "");
        let long = server
            .ask(&format!("GET /-/healthy\nX-Long: {}", "x".repeat(9000)))
            .await;
        assert_eq!(status(&long), "431");
    }

    #[tokio::test]
    async fn over_the_limit_of_connections_the_oldest_idle_one_makes_room() {
        let server = start(Limits {
            http_connections: 2,
            ..Limits::default()
        })
        .await;
        let mut oldest = server.connect().await;
        let _second = server.connect().await;
        assert_eq!(status(&server.ask("GET /-/healthy").await), "200");
        assert_eq!(rest_of(&mut oldest).await, "");
    }

    #[tokio::test]
    async fn a_stop_finishes_what_is_under_way_and_closes_the_rest() {
        let server = start(Limits::default()).await;
        let mut idle = server.connect().await;
        let mut half = server.connect().await;
        let head = b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nx";
        half.write_all(head).await.unwrap();
        assert_eq!(
            status(&server.ask("GET /-/healthy").await),
            "200",
            "the half request has been seen by now"
        );
        server.stop.request();
        assert_eq!(rest_of(&mut idle).await, "");
        half.write_all(b"y").await.unwrap();
        assert_eq!(status(&rest_of(&mut half).await), "500");
        server.task.await.unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    #[tokio::test]
    async fn every_route_but_the_named_ones_is_closed_without_a_token() {
        use crate::http::auth::tests::access;
        use crate::http::route::{self, Scope};
        let public = [
            "GET /",
            "GET /-/healthy",
            "GET /-/ready",
            "GET /-/session",
            "GET /alerts",
            "GET /alerts/x",
            // A signed link; who follows it is a visitor.
            "GET /c/x",
            "GET /clicks",
            "GET /clicks/ad/x",
            "GET /dashboards",
            "GET /dashboards/x",
            "GET /explore",
            "GET /favicon.ico",
            "GET /graph",
            // Influx's clients ask whether somebody is there before they authenticate.
            "GET /health",
            "GET /influx/health",
            "GET /influx/ping",
            "GET /ping",
            // The pixel: it always answers with an image, and counts for listed sites only.
            "GET /px.gif",
            "GET /ready",
            "GET /status",
            "GET /ui/x/x",
            // Asked by browsers before a page of a listed site may send.
            "OPTIONS /collect",
            "POST /-/login",
            "POST /-/logout",
        ];
        let server = start(Limits::default()).await;
        server.door.open(Arc::new(App::test()));
        server.door.set_access(access(&[Scope::Query]));
        let mut open = Vec::new();
        for row in route::all() {
            let path = row.path().replace("{*", "{");
            let parts: Vec<&str> = path
                .split('/')
                .map(|part| if part.starts_with('{') { "x" } else { part })
                .collect();
            let line = format!("{} {}", row.method(), parts.join("/"));
            let answer = server.ask(&line).await;
            if status(&answer) == "401" {
                assert!(answer.contains("www-authenticate: Bearer"), "{line}: {answer}");
                let wrong = server
                    .ask(&format!("{line}\nAuthorization: Bearer query-token-01234567890"))
                    .await;
                assert!(matches!(status(&wrong), "401" | "429"), "{line}: {wrong}");
            } else {
                open.push(line);
            }
        }
        open.sort();
        assert_eq!(open, public);
        let right = "GET /metrics\nAuthorization: Bearer query-token-0123456789";
        assert_eq!(status(&server.ask(right).await), "200");
        let more = "POST /-/reload\nAuthorization: Bearer query-token-0123456789";
        assert_eq!(status(&server.ask(more).await), "403");
    }

    #[tokio::test]
    async fn a_page_signs_in_with_json_and_gets_a_cookie() {
        use crate::http::auth::tests::access;
        let server = start(Limits::default()).await;
        server.door.set_access(access(&[crate::http::Scope::Query]));
        let login = async |kind: &str, body: &str| {
            let length = body.len();
            server
                .ask(&format!(
                    "POST /-/login\nContent-Type: {kind}\nContent-Length: {length}\n\n{body}"
                ))
                .await
        };
        assert_eq!(status(&login("text/plain", "{}").await), "415");
        assert_eq!(status(&login("application/json", "{}").await), "400");
        let wrong = login("application/json", "{\"password\":\"wrong\"}").await;
        assert!(status(&wrong) == "401" && !wrong.contains("set-cookie"), "{wrong}");
        let right = login("application/json", "{\"password\":\"query-token-0123456789\"}").await;
        let cookie = right
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "))
            .unwrap();
        let cookie = cookie.split(';').next().unwrap();
        assert_eq!(
            status(&server.ask(&format!("GET /metrics\nCookie: {cookie}")).await),
            "200"
        );
        let session = server.ask(&format!("GET /-/session\nCookie: {cookie}")).await;
        assert!(
            session.contains("\"signedIn\":true") && session.contains("\"query\""),
            "{session}"
        );
        assert!(server.ask("GET /-/session").await.contains("\"signedIn\":false"));
    }

    #[tokio::test]
    async fn a_length_given_in_two_ways_ends_the_connection() {
        let server = start(Limits::default()).await;
        for headers in [
            "Content-Length: 4\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\nContent-Length: 4",
        ] {
            let answer = server
                .ask(&format!(
                    "POST /-/reload\n{headers}\n\n0\n\nGET /-/healthy HTTP/1.1\nHost: localhost\n"
                ))
                .await;
            assert_eq!(status(&answer), "400", "{answer}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        }
    }
}
