//! Listeners for protocols of plain lines, Graphite and StatsD: TCP and UDP on one address.
//!
//! Nobody is answered here, so what is refused shows in `/api/v1/sources` and the metrics only. TCP senders feel when the
//! store is slow (their lines wait); UDP's are lost beyond the kernel's buffer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::ingest::statsd::{Aggregator, PacketReport};
use crate::ingest::{GraphiteConfig, Intake, MappingRule, Protocol, Source, StatsdConfig, graphite};
use crate::io::{BoxFuture, Clock, Shutdown};
use crate::model::Interval;

/// The most TCP connections of one listener.
const CONNECTIONS_MAX: usize = 1024;
/// The longest line; a longer one ends its connection.
const LINE_BYTES_MAX: usize = 64 << 10;
/// A connection that says nothing for this long is closed.
const IDLE_MAX: Interval = Interval::mins(10);
/// How many bytes of datagrams are stored at once, at most.
const DATAGRAMS_BYTES_MAX: usize = 1 << 20;
/// How long lines wait when the store takes none.
const AGAIN_AFTER: Interval = Interval::secs(1);

/// The two sockets of a listener.
pub struct LineSockets {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl LineSockets {
    /// Takes the address for both.
    ///
    /// # Errors
    /// The operating system's, with name and address in the text.
    pub async fn bind(name: &str, listen: SocketAddr) -> Result<LineSockets, String> {
        let wrong = |error: std::io::Error| format!("cannot listen on {listen} for {name}: {error}");
        let tcp = TcpListener::bind(listen).await.map_err(wrong)?;
        let address = tcp.local_addr().map_err(wrong)?;
        let udp = UdpSocket::bind(address).await.map_err(wrong)?;
        Ok(LineSockets { tcp, udp })
    }

    /// Returns the address, the port that was chosen included.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.tcp.local_addr().map_err(|error| error.to_string())
    }
}

/// Takes whole lines.
trait Lines: Send + Sync + 'static {
    /// Resolves when the lines are dealt with. `patient`: waits for the store rather than lose them.
    fn take(&self, peer: IpAddr, lines: Vec<u8>, patient: bool) -> BoxFuture<'_, ()>;
}

fn source(peer: IpAddr) -> Source {
    Source {
        name: peer.to_string(),
        agent: String::new(),
    }
}

struct GraphiteLines {
    intake: Arc<Intake>,
    clock: Arc<dyn Clock>,
    rules: Vec<MappingRule>,
}

impl Lines for GraphiteLines {
    fn take(&self, peer: IpAddr, lines: Vec<u8>, patient: bool) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let (now, seed, limits) = (self.intake.now(), self.intake.seed(), self.intake.limits());
                let decoded = match graphite::decode(&lines, &self.rules, now, seed, limits) {
                    Ok(decoded) => decoded,
                    Err(error) => return self.intake.count_refused(Protocol::Graphite, &source(peer), &error),
                };
                match self.intake.take(Protocol::Graphite, &source(peer), decoded).await {
                    Ok(_) => return,
                    Err(error) if patient => {
                        tracing::warn!(%error, %peer, "Graphite's lines wait for the store");
                        self.clock.sleep(AGAIN_AFTER).await;
                    }
                    Err(error) => {
                        let refused = vec![("store", lines.iter().filter(|byte| **byte == b'\n').count() as u64)];
                        self.intake
                            .count_lines(Protocol::Graphite, &source(peer), 0, refused, Some(error.to_string()));
                        return;
                    }
                }
            }
        })
    }
}

/// Serves Graphite's lines until `shutdown`.
pub async fn serve_graphite(
    sockets: LineSockets,
    config: GraphiteConfig,
    intake: Arc<Intake>,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) {
    let lines = Arc::new(GraphiteLines {
        intake,
        clock: Arc::clone(&clock),
        rules: config.mappings,
    });
    serve(sockets, lines, clock, shutdown).await;
}

struct StatsdLines {
    all: Mutex<Aggregator>,
    /// What each sender did since the last flush.
    reports: Mutex<HashMap<IpAddr, PacketReport>>,
    intake: Arc<Intake>,
}

impl Lines for StatsdLines {
    fn take(&self, peer: IpAddr, lines: Vec<u8>, _patient: bool) -> BoxFuture<'_, ()> {
        let report = self.all.lock().take(&lines, self.intake.now());
        let mut reports = self.reports.lock();
        let sum = reports.entry(peer).or_default();
        sum.values += report.values;
        for (reason, many) in report.refused {
            match sum.refused.iter_mut().find(|(found, _)| *found == reason) {
                Some((_, total)) => *total += many,
                None => sum.refused.push((reason, many)),
            }
        }
        sum.error = report.error.or(sum.error.take());
        Box::pin(std::future::ready(()))
    }
}

impl StatsdLines {
    async fn flush(&self) {
        let reports = std::mem::take(&mut *self.reports.lock());
        for (peer, report) in reports {
            self.intake.count_lines(
                Protocol::Statsd,
                &source(peer),
                report.values,
                report.refused,
                report.error,
            );
        }
        let batch = self.all.lock().flush(self.intake.now(), self.intake.seed());
        let decoded = crate::ingest::Decoded {
            batch,
            rejections: crate::ingest::Rejections::default(),
        };
        // Totals are kept: what is not stored now is in the next flush.
        if let Err(error) = self.intake.take(Protocol::Statsd, &Source::ourselves(), decoded).await {
            tracing::warn!(%error, "what StatsD counted was not stored; it is in the next flush");
        }
    }
}

/// Serves StatsD's lines until `shutdown`; what was counted is stored every `flush_interval` and at the end.
pub async fn serve_statsd(
    sockets: LineSockets,
    config: StatsdConfig,
    intake: Arc<Intake>,
    clock: Arc<dyn Clock>,
    mut shutdown: Shutdown,
) {
    let every = config.flush_interval;
    let lines = Arc::new(StatsdLines {
        all: Mutex::new(Aggregator::new(config)),
        reports: Mutex::default(),
        intake,
    });
    let serving = tokio::spawn(serve(sockets, Arc::clone(&lines), Arc::clone(&clock), shutdown.clone()));
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            () = clock.sleep(every) => lines.flush().await,
        }
    }
    let _ = serving.await;
    lines.flush().await;
}

async fn serve<L: Lines>(sockets: LineSockets, lines: Arc<L>, clock: Arc<dyn Clock>, mut shutdown: Shutdown) {
    let LineSockets { tcp, udp } = sockets;
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = JoinSet::new();
    tasks.spawn(datagrams(udp, Arc::clone(&lines), shutdown.clone()));
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            Some(_) = tasks.join_next() => {}
            accepted = tcp.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Over the limit the newest is closed at once.
                    let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
                    let (lines, clock, shutdown) = (Arc::clone(&lines), Arc::clone(&clock), shutdown.clone());
                    tasks.spawn(async move {
                        connection(stream, peer.ip(), &*lines, &*clock, shutdown).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    clock.sleep(Interval(100)).await;
                }
            },
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Reads datagrams; those that are there already are dealt with together, by sender.
async fn datagrams<L: Lines>(udp: UdpSocket, lines: Arc<L>, mut shutdown: Shutdown) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let first = tokio::select! {
            biased;
            () = shutdown.requested() => return,
            received = udp.recv_from(&mut buffer) => received,
        };
        let mut all: HashMap<IpAddr, Vec<u8>> = HashMap::new();
        let mut bytes = 0;
        let mut received = first;
        while let Ok((length, peer)) = received {
            let text = all.entry(peer.ip()).or_default();
            text.extend_from_slice(&buffer[..length]);
            text.push(b'\n');
            bytes += length;
            if bytes >= DATAGRAMS_BYTES_MAX {
                break;
            }
            received = udp.try_recv_from(&mut buffer);
        }
        for (peer, text) in all {
            lines.take(peer, text, false).await;
        }
    }
}

/// Reads one connection's lines until it ends, falls silent, or sends a line without end.
async fn connection<L: Lines>(
    mut stream: TcpStream,
    peer: IpAddr,
    lines: &L,
    clock: &dyn Clock,
    mut shutdown: Shutdown,
) {
    let mut text = Vec::with_capacity(LINE_BYTES_MAX);
    loop {
        let read = tokio::select! {
            biased;
            () = shutdown.requested() => Ok(0),
            read = stream.read_buf(&mut text) => read,
            () = clock.sleep(IDLE_MAX) => return,
        };
        let ended = !matches!(read, Ok(1..));
        let whole = match text.iter().rposition(|byte| *byte == b'\n') {
            _ if ended => text.len(),
            Some(last) => last + 1,
            None => 0,
        };
        let rest = text.split_off(whole);
        let taken = std::mem::replace(&mut text, rest);
        if !taken.is_empty() {
            tokio::select! {
                biased;
                () = lines.take(peer, taken, true) => {}
                () = shutdown.requested() => return,
            }
        }
        if ended || text.len() > LINE_BYTES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::ingest::IngestLimits;
    use crate::io::{ShutdownHandle, SystemClock};
    use crate::model::TimeRange;
    use crate::storage::{LiteralStore, Querier};

    struct World {
        store: LiteralStore,
        intake: Arc<Intake>,
        clock: Arc<SystemClock>,
    }

    fn world() -> World {
        let (store, clock) = (LiteralStore::new(), SystemClock::new());
        let intake = Intake::new(Arc::new(store.clone()), clock.clone(), 7, IngestLimits::default());
        World {
            store,
            intake: Arc::new(intake),
            clock,
        }
    }

    async fn sockets() -> LineSockets {
        LineSockets::bind("a test", "127.0.0.1:0".parse().unwrap())
            .await
            .unwrap()
    }

    async fn until(store: &LiteralStore, expected: &[&str]) {
        for _ in 0..200 {
            let found: Vec<String> = store
                .series(&[], TimeRange::ALL)
                .unwrap()
                .iter()
                .map(ToString::to_string)
                .collect();
            if found == expected {
                return;
            }
            SystemClock::new().sleep(Interval(10)).await;
        }
        panic!("{expected:?} did not arrive: {:?}", store.series(&[], TimeRange::ALL));
    }

    #[tokio::test]
    async fn graphite_comes_by_tcp_in_pieces_and_by_udp() {
        let world = world();
        let sockets = sockets().await;
        let address = sockets.address().unwrap();
        let (handle, shutdown) = ShutdownHandle::new();
        let config = serde_yaml::from_str("{listen: '127.0.0.1:1'}").unwrap();
        let task = tokio::spawn(serve_graphite(
            sockets,
            config,
            Arc::clone(&world.intake),
            world.clock.clone(),
            shutdown,
        ));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"a.b 1\na.").await.unwrap();
        until(&world.store, &["a_b"]).await;
        stream.write_all(b"c 1").await.unwrap();
        drop(stream);
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.send_to(b"d;x=y 1\nbad\n", address).await.unwrap();
        until(&world.store, &["a_b", "a_c", r#"d{x="y"}"#]).await;
        handle.request();
        task.await.unwrap();
        let sources = world.intake.sources();
        assert_eq!(
            (sources[0].source.as_str(), sources[0].protocol),
            ("127.0.0.1", "graphite")
        );
        assert_eq!(sources[0].refused["labels"], 1);
    }

    #[tokio::test]
    async fn statsd_is_stored_at_the_interval_and_at_the_end() {
        let world = world();
        let sockets = sockets().await;
        let address = sockets.address().unwrap();
        let (handle, shutdown) = ShutdownHandle::new();
        let config = serde_yaml::from_str("{listen: '127.0.0.1:1', flush_interval: 50ms}").unwrap();
        let task = tokio::spawn(serve_statsd(
            sockets,
            config,
            Arc::clone(&world.intake),
            world.clock.clone(),
            shutdown,
        ));
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.send_to(b"hits:1|c|#a:b\nbad", address).await.unwrap();
        until(&world.store, &[r#"hits{a="b"}"#]).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"more:1|c\n").await.unwrap();
        drop(stream);
        until(&world.store, &[r#"hits{a="b"}"#, "more"]).await;
        handle.request();
        task.await.unwrap();
        let sources = world.intake.sources();
        let peer = sources.iter().find(|one| one.source == "127.0.0.1").unwrap();
        assert_eq!((peer.samples, peer.refused["malformed"]), (2, 1));
    }
}
