//! The simulated twin: remembers what was sent and when, and answers as scripted.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{HttpClient, HttpError, HttpRequest, HttpResponse};
use crate::io::{BoxFuture, Clock};
use crate::model::Millis;

/// A request that arrived at the outbox.
#[derive(Clone, Debug)]
pub struct SentRequest {
    /// When it arrived.
    pub at: Millis,
    /// The request.
    pub request: HttpRequest,
    /// Whether it got an answer: a failed or hanging one did not.
    pub answered: bool,
}

/// What the script says about the next request to a URL.
type Script = VecDeque<(String, Result<HttpResponse, HttpError>)>;

/// Keeps requests instead of sending them. Without a script every request is answered 200.
pub struct HttpOutbox {
    clock: Arc<dyn Clock>,
    sent: Mutex<Vec<SentRequest>>,
    script: Mutex<Script>,
    /// URLs (by substring) that never answer.
    hanging: Mutex<Vec<String>>,
}

impl HttpOutbox {
    /// Starts empty.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<HttpOutbox> {
        Arc::new(HttpOutbox {
            clock,
            sent: Mutex::default(),
            script: Mutex::default(),
            hanging: Mutex::default(),
        })
    }

    /// Answers the next request whose URL contains `url` with `answer`; later calls queue up.
    pub fn script(&self, url: &str, answer: Result<HttpResponse, HttpError>) {
        self.script.lock().push_back((url.to_owned(), answer));
    }

    /// Answers the next request whose URL contains `url` with this status and an empty body.
    pub fn script_status(&self, url: &str, status: u16) {
        self.script(
            url,
            Ok(HttpResponse {
                status,
                ..HttpResponse::default()
            }),
        );
    }

    /// Forgets what was scripted for this `url`: it is answered 200 again.
    pub fn forget_script(&self, url: &str) {
        self.script.lock().retain(|(scripted, _)| scripted != url);
    }

    /// Leaves requests whose URL contains `url` without an answer until their timeout.
    pub fn hang(&self, url: &str) {
        self.hanging.lock().push(url.to_owned());
    }

    /// Answers again.
    pub fn recover(&self) {
        self.hanging.lock().clear();
    }

    /// Returns everything that arrived, in order.
    pub fn sent(&self) -> Vec<SentRequest> {
        self.sent.lock().clone()
    }
}

impl HttpClient for HttpOutbox {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        let hangs = self.hanging.lock().iter().any(|url| request.url.contains(url));
        let scripted = {
            let mut script = self.script.lock();
            let at = script.iter().position(|(url, _)| request.url.contains(url.as_str()));
            at.and_then(|at| script.remove(at)).map(|(_, answer)| answer)
        };
        let answer = scripted.unwrap_or(Ok(HttpResponse {
            status: 200,
            ..HttpResponse::default()
        }));
        let timeout = request.timeout;
        self.sent.lock().push(SentRequest {
            at: self.clock.now(),
            request,
            answered: !hangs && answer.is_ok(),
        });
        if hangs {
            let sleep = self.clock.sleep(timeout);
            return Box::pin(async move {
                sleep.await;
                Err(HttpError::Timeout(timeout))
            });
        }
        Box::pin(std::future::ready(answer))
    }
}
