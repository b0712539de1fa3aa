//! The sender of one queue: one request after the other, until the server has taken each.
//!
//! What a retry may mend (no connection, time-outs, 5xx, 429) is tried again with growing waits, or when the server says;
//! anything else is given up, counted and logged, because it would be refused for ever.

use std::sync::Arc;

use super::metrics::{RETRIES, SENT};
use super::queue::{Queue, Queued};
use super::remote::RemoteWriteConfig;
use super::target::Credentials;
use crate::io::disk::Disk;
use crate::io::http_client::{HttpClient, HttpError, HttpOptions, HttpRequest, HttpResponse};
use crate::io::{Clock, Random, Shutdown};
use crate::model::{Interval, Millis};

/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: Interval = Interval(300_000);
/// After how many requests it is made durable how far the queue is done, at the latest.
const REMEMBER_EVERY: u32 = 64;

/// Sends one queue.
pub(super) struct Sender {
    pub(super) config: RemoteWriteConfig,
    pub(super) label: String,
    pub(super) queue: Arc<Queue>,
    pub(super) client: Arc<dyn HttpClient>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) options: HttpOptions,
}

/// What an answer means for the request.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Taken,
    Again { after: Option<Interval>, why: String },
    Refused(String),
}

impl Sender {
    /// Runs until `shutdown`; what is not taken by then stays in the queue.
    pub(super) async fn run(self, mut shutdown: Shutdown) {
        let mut since_remembered = 0;
        let mut failures = 0;
        loop {
            let next = match self.queue.oldest(self.clock.now()) {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(remote = self.label, %error, "the queue cannot be read");
                    None
                }
            };
            let wait = match next {
                None => {
                    if since_remembered > 0 {
                        self.remember().await;
                        since_remembered = 0;
                    }
                    None
                }
                Some(queued) => {
                    let verdict = tokio::select! {
                        biased;
                        () = shutdown.requested() => break,
                        verdict = self.send(&queued) => verdict,
                    };
                    let again = self.settle(&queued, verdict, &mut failures);
                    if again.is_none() {
                        since_remembered += 1;
                        if since_remembered == REMEMBER_EVERY {
                            self.remember().await;
                            since_remembered = 0;
                        }
                        continue;
                    }
                    again
                }
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                () = self.rest(wait) => {}
            }
        }
        if since_remembered > 0 {
            self.remember().await;
        }
    }

    /// Waits for `wait`, or for an arrival when there is nothing to wait for.
    async fn rest(&self, wait: Option<Interval>) {
        match wait {
            Some(wait) => self.clock.sleep(wait).await,
            None => self.queue.arrival().await,
        }
    }

    async fn remember(&self) {
        if let Err(error) = self.queue.remember().await {
            tracing::warn!(remote = self.label, %error, "how far the queue was sent is not on the disk");
        }
    }

    async fn send(&self, queued: &Queued) -> Verdict {
        let request = match self.request(queued) {
            Ok(request) => request,
            Err(why) => return Verdict::Again { after: None, why },
        };
        match self.client.send(request).await {
            Ok(response) => judge(&response, self.clock.now()),
            Err(HttpError::Invalid(why)) => Verdict::Refused(why),
            Err(error) => Verdict::Again {
                after: None,
                why: error.to_string(),
            },
        }
    }

    fn request(&self, queued: &Queued) -> Result<HttpRequest, String> {
        let mut headers: Vec<(String, String)> = [
            ("Content-Encoding", "snappy"),
            ("Content-Type", "application/x-protobuf"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
            ("User-Agent", concat!("campanile/", env!("CARGO_PKG_VERSION"))),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let given = self.config.headers.iter();
        headers.extend(given.map(|(name, value)| (name.clone(), value.expose().to_owned())));
        let credentials = Credentials {
            basic: self.config.basic_auth.as_ref(),
            token: self.config.authorization.as_ref(),
        };
        headers.extend(credentials.header(&*self.disk)?);
        Ok(HttpRequest {
            method: "POST".to_owned(),
            url: self.config.url.clone(),
            headers,
            body: queued.body.clone(),
            timeout: self.config.remote_timeout,
            options: self.options.clone(),
        })
    }

    /// Carries out what the verdict means; returns how long to wait before the next try.
    fn settle(&self, queued: &Queued, verdict: Verdict, failures: &mut u32) -> Option<Interval> {
        match verdict {
            Verdict::Taken => {
                if *failures > 0 {
                    tracing::info!(remote = self.label, failures, "the server takes samples again");
                }
                *failures = 0;
                SENT.add(&[&self.label], u64::from(queued.samples));
                self.queue.done(queued.at);
                None
            }
            Verdict::Refused(why) => {
                *failures = 0;
                tracing::error!(
                    remote = self.label,
                    samples = queued.samples,
                    why,
                    "refused by the server: given up"
                );
                self.queue.give_up(queued.at, "refused");
                None
            }
            Verdict::Again { after, why } => {
                RETRIES.inc(&[&self.label]);
                let queue = &self.config.queue_config;
                let doubled = queue.min_backoff.0.saturating_mul(1 << (*failures).min(20));
                let wait = doubled.min(queue.max_backoff.0).max(1);
                // Between half and the whole: many agents do not come back at once.
                let jitter = self.random.below(wait.unsigned_abs() / 2 + 1);
                let wait = after.unwrap_or(Interval(wait - i64::try_from(jitter).unwrap_or(0)));
                if failures.is_power_of_two() || *failures == 0 {
                    tracing::warn!(remote = self.label, failures, %wait, why, "not taken yet");
                }
                *failures = failures.saturating_add(1);
                Some(wait)
            }
        }
    }
}

/// Says what an answer means.
fn judge(response: &HttpResponse, now: Millis) -> Verdict {
    let said = String::from_utf8_lossy(&response.body);
    let said: String = said.trim().chars().take(300).collect();
    match response.status {
        200..=299 => Verdict::Taken,
        429 | 500..=599 => Verdict::Again {
            after: response
                .headers
                .get("retry-after")
                .and_then(|text| retry_after(text, now)),
            why: format!("status {}: {said}", response.status),
        },
        status => Verdict::Refused(format!("status {status}: {said}")),
    }
}

/// Reads `Retry-After`: seconds, or a date.
fn retry_after(text: &str, now: Millis) -> Option<Interval> {
    let wait = match text.trim().parse::<i64>() {
        Ok(seconds) => Interval(seconds.checked_mul(1000)?),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
            Millis(date.timestamp().as_millisecond()) - now
        }
    };
    Some(wait.clamp(Interval(0), RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, retry_after: &str) -> HttpResponse {
        HttpResponse {
            status,
            headers: [("retry-after".to_owned(), retry_after.to_owned())].into(),
            ..HttpResponse::default()
        }
    }

    #[test]
    fn an_answer_means_what_the_protocol_says() {
        let now = Millis(784_111_777_000);
        assert_eq!(judge(&response(204, ""), now), Verdict::Taken);
        assert!(matches!(judge(&response(400, ""), now), Verdict::Refused(why) if why.starts_with("status 400")));
        for (header, expected) in [
            ("7", Some(Interval(7000))),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(Interval(3000))),
            ("Tue, 06 Nov 1984 08:49:40 GMT", Some(Interval(0))),
            ("100000", Some(RETRY_AFTER_MAX)),
            ("soon", None),
        ] {
            let verdict = judge(&response(503, header), now);
            assert!(
                matches!(verdict, Verdict::Again { after, .. } if after == expected),
                "{header}: {verdict:?}"
            );
        }
    }
}
