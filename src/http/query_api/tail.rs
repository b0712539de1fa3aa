//! `POST /api/v1/query_tail`: what comes after the points that a page has drawn, as server-sent events.
//!
//! A page asks once for what it draws, then opens one stream for all its charts and adds what arrives: nothing that is drawn
//! is asked for again, but for the newest point, whose samples may still have been on their way.
//!
//! ```text
//! {"queries": [{"id": "a", "query": "rate(x[1m])", "step": 15, "from": 1795330005}]}       seconds
//! data: {"id":"a","from":1795330005,"to":1795330020,"answer":{"status":"success","data":{"resultType":"matrix",…}}}
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::evaluate::blocking;
use crate::http::{ApiError, App, Call, body, view};
use crate::model::{Interval, Millis};
use crate::query::types::Type;
use crate::query::{Engine, Expr, QueryOptions, parse};

/// The most streams at once; who comes then is told so and asks in the ordinary way.
const STREAMS_MAX: usize = 64;
/// The most queries of one stream.
const QUERIES_MAX: usize = 200;
/// The most points that one look evaluates of a query: a page that slept asks anew instead.
const POINTS_MAX: i64 = 500;
/// How often a stream looks whether a point is due.
const LOOK_EVERY: Interval = Interval::secs(1);
/// A stream ends after so many looks (ten minutes); the page opens another.
const LOOKS_MAX: u32 = 600;
/// After so many looks without a point, a comment shows that the stream lives.
const LOOKS_QUIET_MAX: u32 = 15;

static STREAMS: AtomicUsize = AtomicUsize::new(0);
/// Streams take turns: however many pages are open, they use two threads.
static TURNS: Semaphore = Semaphore::const_new(2);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    queries: Vec<AskedQuery>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedQuery {
    id: String,
    query: String,
    step: f64,
    from: f64,
}

/// One query of a stream.
struct Tail {
    id: String,
    expr: Expr,
    step: Interval,
    next: Millis,
}

impl Tail {
    fn read(asked: AskedQuery) -> Result<Tail, ApiError> {
        let expr = parse(&asked.query).map_err(|error| super::query::bad_query("query", error))?;
        if !matches!(expr.ty, Type::Scalar | Type::InstantVector) {
            return Err(bad(format!(
                "{}: only scalars and instant vectors have points over time",
                asked.id
            )));
        }
        let (step, next) = (millis(asked.step), millis(asked.from));
        if step < 1000 || next <= 0 {
            return Err(bad(format!("{}: step and from are seconds, step at least 1", asked.id)));
        }
        Ok(Tail {
            id: asked.id,
            expr,
            step: Interval(step),
            next: Millis(next),
        })
    }

    /// Returns the points that are due: the first is the newest of those before, the last is not after `now`.
    fn due(&self, now: Millis) -> Option<(Millis, Millis)> {
        let steps = (now - self.next).0.div_euclid(self.step.0);
        if steps < 0 {
            return None;
        }
        let last = self.next + Interval(steps * self.step.0);
        let first = self.next - self.step;
        let least = last - Interval(POINTS_MAX * self.step.0);
        Some((first.max(least), last))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float beyond the range saturates, and is refused"
)]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

fn bad(text: String) -> ApiError {
    ApiError::BadData(text)
}

/// A place among the streams, given back when dropped.
struct Place;

impl Place {
    fn take() -> Option<Place> {
        let place = Place;
        let before = STREAMS.fetch_add(1, Ordering::Relaxed);
        (before < STREAMS_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream under way.
struct Stream {
    app: Arc<App>,
    tails: Vec<Tail>,
    at: usize,
    looks: u32,
    quiet: u32,
    _place: Place,
}

impl Stream {
    /// Waits for the next piece; none when the stream is over.
    async fn next(&mut self) -> Option<String> {
        loop {
            while let Some(tail) = self.tails.get(self.at) {
                self.at += 1;
                if let Some((first, last)) = tail.due(self.app.clock.now()) {
                    self.quiet = 0;
                    return Some(self.points(self.at - 1, first, last).await);
                }
            }
            if self.looks >= LOOKS_MAX {
                return None;
            }
            self.at = 0;
            self.looks += 1;
            self.quiet += 1;
            // The first comment goes out at once: the page learns that the stream is there.
            if self.looks == 1 || self.quiet >= LOOKS_QUIET_MAX {
                self.quiet = 0;
                return Some(":\n\n".to_owned());
            }
            self.app.clock.sleep(LOOK_EVERY).await;
        }
    }

    async fn points(&mut self, index: usize, first: Millis, last: Millis) -> String {
        let tail = &mut self.tails[index];
        tail.next = last + tail.step;
        let (expr, step) = (tail.expr.clone(), tail.step);
        let answer = evaluate(&self.app, expr, first, last, step).await;
        let answer = answer.unwrap_or_else(|error| json!({"status": "error", "error": error.to_string()}).to_string());
        let id = Value::from(self.tails[index].id.as_str());
        let (from, to) = (first.as_secs_f64(), last.as_secs_f64());
        format!("data: {{\"id\":{id},\"from\":{from},\"to\":{to},\"answer\":{answer}}}\n\n")
    }
}

async fn evaluate(app: &Arc<App>, expr: Expr, first: Millis, last: Millis, step: Interval) -> Result<String, ApiError> {
    let _turn = TURNS.acquire().await;
    let options = app.query_options.clone();
    let output = blocking(app, options.timeout, move |app, interrupt| {
        let options = QueryOptions { interrupt, ..options };
        Ok(Engine.range(&*app.querier, &expr, first, last, step, &options)?)
    })
    .await?;
    let bytes = view::query_output(output, None).into_body().collect().await;
    let bytes = bytes.map_err(|error| ApiError::Internal(error.to_string()))?.to_bytes();
    String::from_utf8(bytes.to_vec()).map_err(|error| ApiError::Internal(error.to_string()))
}

pub(super) async fn tail(mut call: Call) -> Result<Response, ApiError> {
    body::expect_json(call.request.headers())?;
    let bytes = call.body().await?;
    let asked: Asked =
        serde_json::from_slice(&bytes).map_err(|error| bad(format!("parsing the queries failed: {error}")))?;
    if asked.queries.is_empty() || asked.queries.len() > QUERIES_MAX {
        return Err(bad(format!(
            "a stream has 1 to {QUERIES_MAX} queries, not {}",
            asked.queries.len()
        )));
    }
    let tails = asked
        .queries
        .into_iter()
        .map(Tail::read)
        .collect::<Result<Vec<_>, _>>()?;
    let Some(place) = Place::take() else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let stream = Stream {
        app: Arc::clone(&call.app),
        tails,
        at: usize::MAX,
        looks: 0,
        quiet: 0,
        _place: place,
    };
    let pieces = futures_util::stream::unfold(stream, async |mut stream| {
        let piece = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimClock;

    fn tail(step: f64, from: f64) -> Result<Tail, ApiError> {
        Tail::read(AskedQuery {
            id: "a".to_owned(),
            query: "vector(7)".to_owned(),
            step,
            from,
        })
    }

    #[test]
    fn only_points_that_are_due_are_evaluated_with_the_newest_of_those_before() {
        let tail = tail(10.0, 100.0).unwrap();
        assert_eq!(tail.due(Millis(99_999)), None);
        assert_eq!(tail.due(Millis(100_000)), Some((Millis(90_000), Millis(100_000))));
        assert_eq!(tail.due(Millis(125_000)), Some((Millis(90_000), Millis(120_000))));
        let (first, last) = tail.due(Millis(1_000_000_000)).unwrap();
        assert_eq!((last - first).0, POINTS_MAX * 10_000);
    }

    #[test]
    fn what_has_no_points_over_time_is_refused() {
        assert!(tail(0.0, 100.0).is_err() && tail(10.0, 0.0).is_err() && tail(f64::NAN, 1.0).is_err());
        let asked = |query: &str| AskedQuery {
            id: "a".to_owned(),
            query: query.to_owned(),
            step: 15.0,
            from: 15.0,
        };
        assert!(Tail::read(asked("up[5m]")).is_err() && Tail::read(asked("up(")).is_err());
    }

    #[tokio::test]
    async fn a_stream_sends_each_point_when_its_time_has_come() {
        let clock = Arc::new(SimClock::default());
        clock.advance(Interval::secs(95));
        let app = Arc::new(App {
            clock: clock.clone(),
            ..App::test()
        });
        let mut stream = Stream {
            app,
            tails: vec![tail(10.0, 100.0).unwrap()],
            at: usize::MAX,
            looks: 0,
            quiet: 0,
            _place: Place::take().unwrap(),
        };
        assert_eq!(stream.next().await.unwrap(), ":\n\n");
        clock.advance(Interval::secs(5));
        let piece = stream.next().await.unwrap();
        assert!(
            piece.starts_with("data: {\"id\":\"a\",\"from\":90,\"to\":100,")
                && piece.contains("[[90,\"7\"],[100,\"7\"]]")
                && piece.ends_with("}\n\n"),
            "{piece}"
        );
    }
}
