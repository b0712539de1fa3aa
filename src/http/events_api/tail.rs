//! Looking on: events as they become durable (server-sent events), and refused ones with their reasons.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::super::params::{Params, invalid};
use super::super::{ApiError, route::Call};
use super::edge;
use crate::events::{Onlooker, Seen};
use crate::io::Clock;
use crate::model::Interval;

/// How long nothing is sent before a comment says that the connection lives.
const QUIET_MAX: Interval = Interval::secs(15);
/// The most refused events of one answer.
const QUARANTINE_MAX: usize = 1000;

/// `GET /api/v1/events/tail`: an event of the stream for each event; `missed` when the reader was too slow.
pub(super) async fn tail(call: Call) -> Result<Response, ApiError> {
    let max = edge(&call)?.checker.load().config().limits.tails;
    let onlooker = edge(&call)?.tail.look(max).ok_or_else(|| {
        super::super::metrics::REFUSED.inc(&["tails"]);
        ApiError::Overloaded(format!("over the limit tails = {max}: so many look on already"))
    })?;
    let stream = (onlooker, Arc::clone(&call.app.clock), true);
    let pieces = futures_util::stream::unfold(stream, async |(mut onlooker, clock, begins)| {
        let piece = match begins {
            true => ": the tail begins\n\n".to_owned(),
            false => piece(&mut onlooker, &*clock).await?,
        };
        Some((Ok::<_, std::convert::Infallible>(piece), (onlooker, clock, false)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

async fn piece(onlooker: &mut Onlooker, clock: &dyn Clock) -> Option<String> {
    tokio::select! {
        seen = onlooker.next() => match seen? {
            Seen::Event(json) => Some(format!("data: {json}\n\n")),
            Seen::Missed(count) => Some(format!("event: missed\ndata: {count}\n\n")),
        },
        () = clock.sleep(QUIET_MAX) => Some(":\n\n".to_owned()),
    }
}

/// `GET /api/v1/events/quarantine?limit`: the newest refused events.
pub(super) async fn quarantine(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let limit = params.limit("limit")?.min(QUARANTINE_MAX);
    if params
        .get("limit")
        .is_some_and(|text| text.parse::<usize>().is_ok_and(|asked| asked > QUARANTINE_MAX))
    {
        return Err(invalid("limit", &format!("at most {QUARANTINE_MAX} are shown")));
    }
    let quarantine = Arc::clone(&edge(&call)?.quarantine);
    let found = tokio::task::spawn_blocking(move || quarantine.newest(limit)).await;
    let found = found.map_err(|error| ApiError::Internal(error.to_string()))?;
    let found = found.map_err(|error| ApiError::Internal(format!("cannot read the quarantine: {error}")))?;
    let body = serde_json::json!({"status": "success", "data": {"events": found}});
    Ok(([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use futures_util::StreamExt;

    use super::super::super::App;
    use super::*;

    #[tokio::test]
    async fn onlookers_are_greeted_and_limited() {
        let edge = Arc::new(crate::events::testing_edge::edge("limits: {tails: 1}"));
        let call = || {
            let app = App {
                events: Some(Arc::clone(&edge)),
                ..App::test()
            };
            Call::test(app, &[], Request::get("/").body(Body::empty()).unwrap())
        };
        let first = tail(call()).await.unwrap();
        assert!(tail(call()).await.is_err());
        let mut body = first.into_body().into_data_stream();
        assert!(body.next().await.unwrap().unwrap().starts_with(b": the tail"));
    }
}
