//! One connection: hyper speaks HTTP on it, and beside it a watch ends what takes too long.
//!
//! hyper's own header timeout also runs between requests, where a minute is fine and five seconds are not; so the
//! connection's phases are kept here, by the bytes that come and the answers that end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::Request;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::gate::Gate;
use super::head::Heads;
use super::metrics::REFUSED;
use super::registry::{Phase, Place, Seen};
use crate::io::{Clock, Mono, Shutdown};
use crate::model::Interval;

/// How often a connection is looked at.
const WATCH: Interval = Interval(500);
/// How often while the server stops.
const WATCH_STOPPING: Interval = Interval(20);

/// Serves the connection until it ends, is told to, or takes too long.
pub(super) async fn run<S>(stream: S, peer: SocketAddr, place: Place, gate: Arc<Gate>, mut stop: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let clock = Arc::clone(&gate.door.clock);
    let header_bytes = gate.door.limits.http_header_bytes;
    let seen = Arc::clone(&place.seen);
    let io = TokioIo::new(Watched {
        stream,
        seen: Arc::clone(&seen),
        clock: Arc::clone(&clock),
        heads: Heads::default(),
    });
    let service = service_fn({
        let (gate, seen) = (Arc::clone(&gate), Arc::clone(&seen));
        move |request: Request<Incoming>| {
            let (gate, serving) = (Arc::clone(&gate), Serving::begin(&seen, &gate.door.clock));
            async move {
                let response = gate.answer(peer, request.map(Body::new)).await;
                Ok::<_, Infallible>(response.map(|body| Tracked {
                    body,
                    _serving: serving,
                }))
            }
        }
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .max_header_size(header_bytes)
        .serve_connection(io, service);
    let mut stopping = false;
    let overdue = loop {
        let every = if stopping { WATCH_STOPPING } else { WATCH };
        tokio::select! {
            result = pin!(&mut connection) => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                return;
            }
            () = seen.evicted.notified() => return,
            () = stop.requested(), if !stopping => stopping = true,
            () = clock.sleep(every) => {}
        }
        let (phase, since) = seen.phase();
        match (stopping, phase) {
            (true, Phase::Idle) => return,
            (true, Phase::Serving) => Pin::new(&mut connection).graceful_shutdown(),
            _ => {}
        }
        if let Some(limit) = overdue(&seen, (phase, since), clock.mono(), &gate.door.limits) {
            break limit;
        }
    };
    if overdue == "http_idle_time" {
        return;
    }
    REFUSED.inc(&[overdue]);
    tracing::debug!(%peer, limit = overdue, "connection cut off");
    if overdue == "http_header_time" {
        let mut stream = connection.into_parts().io.into_inner().stream;
        let _ = stream
            .write_all(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .await;
    }
}

/// Returns the limit that the connection is over, if any.
fn overdue(seen: &Seen, (phase, since): (Phase, Mono), now: Mono, limits: &super::Limits) -> Option<&'static str> {
    let over = |since: Mono, limit: Interval| now >= since.after(limit);
    match phase {
        Phase::Idle if over(since, limits.http_idle_time) => Some("http_idle_time"),
        Phase::Header if over(since, limits.http_header_time) => Some("http_header_time"),
        _ if seen
            .stuck_since()
            .is_some_and(|since| over(since, limits.http_write_time)) =>
        {
            Some("http_write_time")
        }
        _ => None,
    }
}

/// Marks the connection as serving until dropped.
struct Serving {
    seen: Arc<Seen>,
    clock: Arc<dyn Clock>,
}

impl Serving {
    fn begin(seen: &Arc<Seen>, clock: &Arc<dyn Clock>) -> Serving {
        seen.enter(Phase::Serving, clock.mono());
        Serving {
            seen: Arc::clone(seen),
            clock: Arc::clone(clock),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.seen.enter(Phase::Idle, self.clock.mono());
    }
}

/// An answer's body, which ends the serving when it has been sent.
struct Tracked {
    body: Body,
    _serving: Serving,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that notes what its bytes mean for the connection's phase.
struct Watched<S> {
    stream: S,
    seen: Arc<Seen>,
    clock: Arc<dyn Clock>,
    heads: Heads,
}

impl<S> Watched<S> {
    fn wrote<T>(&self, result: Poll<T>) -> Poll<T> {
        self.seen.set_stuck(result.is_pending(), || self.clock.mono());
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().len() > before;
        let phase = self.seen.phase().0;
        if came && phase == Phase::Idle {
            self.seen.enter(Phase::Header, self.clock.mono());
            self.heads = Heads::default();
        }
        if came && phase != Phase::Serving && self.heads.is_ambiguous(&buffer.filled()[before..]) {
            REFUSED.inc(&["ambiguous_length"]);
            // What no parser takes: hyper answers 400 and closes, and never sees what stands behind the head.
            buffer.filled_mut()[before..].fill(0);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(result)
    }
}
