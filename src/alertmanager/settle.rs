//! What a try to deliver leaves behind: a receipt, a further try, or giving up and the fallback.

use super::metrics;
use super::nflog::Reason;
use super::notify::http::Failure;
use super::record::{Event, NotifyKey, Receipt, Waiting};
use super::runner::{Batch, Done, Runner};
use crate::model::{Interval, Millis};

/// After how many refusals a message goes to the fallback, if there is one.
const REFUSALS_MAX: u32 = 3;

impl Runner {
    /// Takes the end of a try in: a receipt, a pause, or giving up.
    pub(super) fn settle(&mut self, done: Done, batch: &mut Batch) {
        let outcome = match done {
            Done::Try(outcome) => *outcome,
            Done::Heartbeat(Ok(())) => return metrics::HEARTBEATS.inc(&["sent"]),
            Done::Heartbeat(Err(failure)) => {
                metrics::HEARTBEATS.inc(&["failed"]);
                tracing::warn!(error = failure.reason(), "the dead man's switch was not reached");
                return;
            }
        };
        let now = self.shared.now();
        let keys: Vec<NotifyKey> = outcome.messages.iter().map(|message| message.key.clone()).collect();
        let failure = outcome.result.as_ref().err();
        let ended = self.queue.ended(&keys, failure, now.mono, now.wall);
        if failure.is_none() {
            metrics::LATENCY.observe(outcome.seconds);
        }
        for (message, ended) in outcome.messages.iter().zip(ended) {
            let (answer, failure) = match &outcome.result {
                Ok(answer) => (answer.as_str(), None),
                Err(failure) => (failure.reason(), Some(failure)),
            };
            let (firing, resolved) = message.counts();
            let receipt = Receipt {
                id: message.id.clone(),
                decided_at: message.at,
                at: now.wall,
                attempts: ended.attempts,
                answer: answer.to_owned(),
                reason: message.reason,
                firing,
                resolved,
                digest: outcome.digest.clone(),
            };
            match failure {
                None => self.arrived(message, receipt, now.wall, batch),
                Some(failure) => self.failed(message, failure, receipt, now.wall, batch),
            }
        }
    }

    fn arrived(&self, message: &Waiting, receipt: Receipt, now: Millis, batch: &mut Batch) {
        observe_page(message, now);
        tracing::info!(
            receiver = message.key.receiver,
            integration = message.key.kind,
            group = message.key.group_key,
            id = message.id,
            answer = receipt.answer,
            "notification delivered"
        );
        let key = message.key.clone();
        batch.events.push(Event::Delivered { key, receipt });
    }

    fn failed(&mut self, message: &Waiting, failure: &Failure, receipt: Receipt, now: Millis, batch: &mut Batch) {
        let key = &message.key;
        let names = [key.kind.as_str(), key.receiver.as_str()];
        let refused = matches!(failure, Failure::Permanent(_));
        if receipt.attempts == 1 {
            let why = if refused { "clientError" } else { "serverError" };
            metrics::NOTIFICATIONS_FAILED.inc(&[names[0], names[1], why]);
        }
        metrics::REQUESTS_FAILED.inc(&names);
        let core = self.shared.core.lock();
        let receiver = core.config.receiver(&key.receiver);
        let has_fallback = receiver.is_some_and(|receiver| receiver.fallback.is_some());
        let patience = receiver.map_or(Interval::ZERO, |receiver| receiver.give_up_after);
        let hopeless = refused && has_fallback && receipt.attempts >= REFUSALS_MAX;
        let is_over = now - message.since >= patience || hopeless;
        if !is_over || core.fallback_is_busy(key, &|key| self.queue.is_in_flight(key)) {
            tracing::warn!(
                receiver = key.receiver,
                integration = key.kind,
                group = key.group_key,
                id = message.id,
                attempt = receipt.attempts,
                error = failure.reason(),
                "notification failed"
            );
            return;
        }
        let fallback = core.fall_back(message, failure.reason(), now, &mut || self.shared.new_id());
        drop(core);
        tracing::error!(
            receiver = key.receiver,
            integration = key.kind,
            group = key.group_key,
            id = message.id,
            attempt = receipt.attempts,
            has_fallback,
            error = failure.reason(),
            "notification given up: the receiver was not told"
        );
        metrics::GIVEN_UP.inc(&names);
        self.queue.forget(key);
        for message in &fallback {
            self.queue.enqueue(message.key.clone(), self.shared.mono());
        }
        batch.events.push(Event::GaveUp {
            key: key.clone(),
            receipt,
            fallback,
        });
    }
}

/// How long people waited for this page, from the newest alert in it and the sample behind that. A repetition is no such wait.
fn observe_page(waiting: &Waiting, now: Millis) {
    if !matches!(waiting.reason, Reason::First | Reason::NewAlerts) {
        return;
    }
    let firing = waiting.alerts.iter().filter(|item| !item.resolved);
    let Some(newest) = firing.max_by_key(|item| item.alert.starts_at) else {
        return;
    };
    let started = newest.alert.starts_at;
    let seconds = |from: Millis, to: Millis| (to - from).as_secs_f64().max(0.0);
    if let Some(sample_at) = newest.alert.sample_at {
        metrics::PAGE_RULE.observe(seconds(sample_at, started));
    }
    metrics::PAGE_GROUP.observe(seconds(started, waiting.since));
    metrics::PAGE_SEND.observe(seconds(waiting.since, now));
    metrics::PAGE_TOTAL.observe(seconds(newest.alert.sample_at.unwrap_or(started), now));
}
