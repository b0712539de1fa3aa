//! Notices for the people who look at the UI: what is wrong with the server itself, as a list and as a live stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::http::{ApiError, App, Call, view};
use crate::model::Interval;

/// The most live streams at once; who comes then is told that there is nothing, as Prometheus does.
const STREAMS_MAX: usize = 16;
/// How often a stream looks for news.
const LOOK_EVERY: Interval = Interval::secs(1);
/// A stream ends after so many looks (five minutes): browsers connect again, and a forgotten one costs no more than that.
const LOOKS_MAX: u32 = 300;
/// After so many looks without news, a comment shows that the stream lives.
const LOOKS_QUIET_MAX: u32 = 15;

static STREAMS: AtomicUsize = AtomicUsize::new(0);

/// Returns the notices in force.
fn notices(app: &App) -> Vec<Value> {
    let info = app.status.runtime();
    let failed = json!({
        "text": "Configuration reload has failed.",
        "date": info.last_reload.to_string(),
        "active": true,
    });
    if info.reload_ok { Vec::new() } else { vec![failed] }
}

pub(super) async fn list(call: Call) -> Result<Response, ApiError> {
    Ok(view::success(&Value::Array(notices(&call.app)), &[]))
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
    shown: Vec<Value>,
    looks: u32,
    _place: Place,
}

impl Stream {
    /// Waits for the next piece; none when the stream is over.
    async fn next(&mut self) -> Option<String> {
        let mut quiet = 0;
        while self.looks < LOOKS_MAX {
            if self.looks > 0 {
                self.app.clock.sleep(LOOK_EVERY).await;
            }
            let begins = self.looks == 0;
            self.looks += 1;
            let news = self.news();
            quiet += 1;
            if begins && news.is_empty() || quiet >= LOOKS_QUIET_MAX {
                return Some(format!(":\n\n{news}"));
            }
            if !news.is_empty() {
                return Some(news);
            }
        }
        None
    }

    /// Returns events for what is new, and for what is over.
    fn news(&mut self) -> String {
        let now = notices(&self.app);
        let over = self.shown.iter().filter(|notice| !now.contains(notice)).map(|notice| {
            let mut notice = notice.clone();
            notice["active"] = json!(false);
            notice
        });
        let new = now.iter().filter(|notice| !self.shown.contains(notice)).cloned();
        let news = over.chain(new).map(|notice| format!("data: {notice}\n\n")).collect();
        self.shown = now;
        news
    }
}

pub(super) async fn live(call: Call) -> Result<Response, ApiError> {
    let Some(place) = Place::take() else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let stream = Stream {
        app: Arc::clone(&call.app),
        shown: Vec::new(),
        looks: 0,
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
    use crate::http::query_api::{NoStatus, RuntimeInfo, Status, TsdbStatus};
    use crate::io::SimClock;
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicBool;

    /// A server whose reloads fail or not.
    struct Reloads(AtomicBool);

    impl Status for Reloads {
        fn config_yaml(&self) -> String {
            NoStatus.config_yaml()
        }

        fn flags(&self) -> BTreeMap<String, String> {
            NoStatus.flags()
        }

        fn runtime(&self) -> RuntimeInfo {
            RuntimeInfo {
                reload_ok: self.0.load(Ordering::Relaxed),
                ..NoStatus.runtime()
            }
        }

        fn tsdb(&self, limit: usize) -> TsdbStatus {
            NoStatus.tsdb(limit)
        }
    }

    #[tokio::test]
    async fn a_failed_reload_is_a_notice_until_one_succeeds() {
        let (clock, status) = (Arc::new(SimClock::default()), Arc::new(Reloads(AtomicBool::new(true))));
        let app = Arc::new(App {
            clock: clock.clone(),
            status: status.clone(),
            ..App::test()
        });
        let mut stream = Stream {
            app,
            shown: Vec::new(),
            looks: 0,
            _place: Place::take().unwrap(),
        };
        assert_eq!(stream.next().await.unwrap(), ":\n\n");
        status.0.store(false, Ordering::Relaxed);
        let news = stream.news();
        assert!(
            news.starts_with("data: {") && news.contains("reload has failed") && news.contains("true"),
            "{news}"
        );
        assert_eq!(stream.news(), "");
        status.0.store(true, Ordering::Relaxed);
        assert!(stream.news().contains("\"active\":false"));
    }
}
