//! Reads request bodies: bounded in bytes, in time, in rate, and in the memory of all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt;

use super::metrics::REFUSED;
use super::{ApiError, Limits};
use crate::io::Clock;
use crate::model::Interval;

/// Bytes of bodies in memory now, counted over all requests of one door.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<AtomicU64>);

/// How much of a refused request's body is read on, in bytes.
const DRAINED_BYTES_MAX: u64 = 4 << 20;
/// How long a refused request's body is read on.
const DRAINED_TIME_MAX: Interval = Interval::secs(2);
/// How long a body may come as slowly as it likes.
const GRACE: Interval = Interval::secs(5);

/// A share of the memory for bodies, given back when dropped.
pub(super) struct Reservation {
    total: UnderWay,
    bytes: u64,
}

impl Reservation {
    fn empty(total: &UnderWay) -> Reservation {
        Reservation {
            total: total.clone(),
            bytes: 0,
        }
    }

    fn grow(&mut self, by: u64, limits: &Limits) -> Result<(), ApiError> {
        let before = self.total.0.fetch_add(by, Relaxed);
        self.bytes += by;
        if before + by <= limits.http_body_bytes_total {
            return Ok(());
        }
        REFUSED.inc(&["http_body_bytes_total"]);
        Err(ApiError::Overloaded(format!(
            "http_body_bytes_total is {} and {before} bytes of bodies are under way, try again later",
            limits.http_body_bytes_total
        )))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.total.0.fetch_sub(self.bytes, Relaxed);
    }
}

/// Returns the answer for a body that is larger than its route takes.
pub(super) fn too_large(bytes_max: usize, sent: &str) -> ApiError {
    REFUSED.inc(&["body_bytes"]);
    ApiError::TooLarge(format!("the body may have {bytes_max} bytes here, {sent}"))
}

/// Reads on what a refused request still sends, so that its sender gets to read the answer: closing a connection with bytes
/// unread resets it, and the answer is lost. Bounded; a body that is larger is cut off.
pub(super) async fn drain(mut body: Body, clock: &dyn Clock) {
    let too_large = |body: &Body| body.size_hint().lower() > DRAINED_BYTES_MAX;
    let deadline = clock.mono().after(DRAINED_TIME_MAX);
    let mut drained = 0;
    while drained <= DRAINED_BYTES_MAX && !too_large(&body) {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = clock.sleep_until(deadline) => return,
        };
        match frame {
            Some(Ok(frame)) => drained += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => return,
        }
    }
}

/// Refuses a body that is not JSON: what a page of another site can send without asking is a form or plain text.
///
/// # Errors
/// [`ApiError::UnsupportedMedia`].
pub(super) fn expect_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(ApiError::UnsupportedMedia(format!(
            "application/json is read here, not {essence:?}"
        ))),
    }
}

/// Reads the whole body. Memory grows with what arrived, never with what was announced.
///
/// # Errors
/// [`ApiError::TooLarge`], [`ApiError::SlowClient`], [`ApiError::Overloaded`] by limit; [`ApiError::BadData`] when the
/// connection breaks.
pub(super) async fn read(
    mut body: Body,
    bytes_max: usize,
    clock: &dyn Clock,
    limits: &Limits,
    under_way: &UnderWay,
) -> Result<(Bytes, Reservation), ApiError> {
    let start = clock.mono();
    let deadline = start.after(limits.http_body_time);
    let mut reservation = Reservation::empty(under_way);
    let mut whole = Vec::new();
    let mut check = start.after(GRACE);
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = clock.sleep_until(check.min(deadline)) => {
                let now = clock.mono();
                let seconds = now.seconds_since(start);
                check = now.after(Interval::secs(1));
                slow(whole.len(), seconds, now >= deadline, limits)?;
                continue;
            }
        };
        match frame {
            None => return Ok((Bytes::from(whole), reservation)),
            Some(Err(error)) => return Err(ApiError::BadData(format!("the body broke off: {error}"))),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if whole.len() + data.len() > bytes_max {
                    return Err(too_large(bytes_max, "more was sent"));
                }
                reservation.grow(data.len() as u64, limits)?;
                whole.extend_from_slice(&data);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "bodies are far below 2^52 bytes")]
fn slow(received: usize, seconds: f64, over: bool, limits: &Limits) -> Result<(), ApiError> {
    if over {
        REFUSED.inc(&["http_body_time"]);
        return Err(ApiError::SlowClient(format!(
            "http_body_time is {}: {received} bytes of the body came in that time",
            limits.http_body_time
        )));
    }
    if (received as f64) < limits.http_body_rate as f64 * seconds {
        REFUSED.inc(&["http_body_rate"]);
        return Err(ApiError::SlowClient(format!(
            "http_body_rate is {} bytes per second: {received} bytes came in {seconds:.0} s",
            limits.http_body_rate
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimClock;

    #[tokio::test]
    async fn a_body_over_its_limit_is_refused_as_it_arrives() {
        let (limits, total) = (Limits::default(), UnderWay::default());
        let clock = SimClock::default();
        let (whole, _) = read(Body::from("12345"), 5, &clock, &limits, &total).await.unwrap();
        assert_eq!(&whole[..], b"12345");
        let refused = read(Body::from("123456"), 5, &clock, &limits, &total)
            .await
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(refused, ApiError::TooLarge(_)), "{refused}");
    }

    #[tokio::test]
    async fn a_body_that_never_comes_is_given_up() {
        let (limits, total) = (Limits::default(), UnderWay::default());
        let clock = SimClock::default();
        let silent = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let reading = tokio::spawn({
            let clock = Arc::new(clock.clone());
            let limits = limits.clone();
            async move { read(silent, 100, &*clock, &limits, &total).await.map(|_| ()) }
        });
        while clock.next_wake().is_none() {
            tokio::task::yield_now().await;
        }
        clock.advance(Interval::secs(6));
        let refused = reading.await.unwrap().unwrap_err();
        assert!(
            matches!(&refused, ApiError::SlowClient(text) if text.contains("http_body_rate")),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn bodies_share_one_budget_of_memory_and_give_it_back() {
        let limits = Limits {
            http_body_bytes_total: 1 << 40,
            ..Limits::default()
        };
        let total = UnderWay::default();
        let mut share = Reservation::empty(&total);
        share.grow(1 << 40, &limits).unwrap();
        let refused = read(Body::from("x"), 5, &SimClock::default(), &limits, &total)
            .await
            .map(|_| ());
        assert!(matches!(refused, Err(ApiError::Overloaded(_))));
        drop(share);
        assert!(
            read(Body::from("x"), 5, &SimClock::default(), &limits, &total)
                .await
                .is_ok()
        );
    }
}
