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
