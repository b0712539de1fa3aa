//! The listener: binds, accepts, and at the end waits for requests under way.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::gate::Gate;
use super::metrics::ACCEPTED;
use super::registry::Registry;
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
    connections.spawn(connection::run(stream, peer, place, Arc::clone(gate), shutdown.clone()));
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
}
