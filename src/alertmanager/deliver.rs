//! One try to deliver one message: rendered, sent, and what became of it. A preview is the same without the sending.

use std::sync::Arc;

use super::config::{Channel, Config, Integration};
use super::notify::data::Data;
use super::notify::http::{Failure, Outgoing, describe};
use super::notify::{email, presets, webhook};
use super::record::Waiting;
use super::service::Shared;
use crate::io::mailer::{Mail, MailError};
use crate::model::{Interval, Millis};

/// After how long without an answer a line in the log says so.
const SLOW: Interval = Interval::secs(1);

/// How one try ended.
pub(super) struct Outcome {
    /// What it was about: one message, or those that a digest stands for.
    pub(super) messages: Vec<Arc<Waiting>>,
    /// The digest's id.
    pub(super) digest: Option<String>,
    pub(super) seconds: f64,
    pub(super) result: Result<String, Failure>,
}

/// Tries to deliver one message, or a digest of several.
pub(super) async fn attempt(shared: Arc<Shared>, config: Arc<Config>, messages: Vec<Arc<Waiting>>) -> Outcome {
    let started = shared.mono();
    let digest = if messages.len() > 1 {
        digest(&config, &messages)
    } else {
        None
    };
    let result = match digest.as_ref().or(messages.first().map(|message| &**message)) {
        Some(message) => watched(&shared, &config, message).await,
        None => Err(Failure::Permanent("a digest of nothing".to_owned())),
    };
    Outcome {
        digest: digest.map(|digest| digest.id),
        seconds: shared.mono().seconds_since(started),
        messages,
        result,
    }
}

fn digest(config: &Config, messages: &[Arc<Waiting>]) -> Option<Waiting> {
    let receiver = config.receiver(&messages.first()?.key.receiver)?;
    let rate = receiver.limit.map(|limit| limit.rate.to_string()).unwrap_or_default();
    Waiting::digest(
        messages,
        format!(
            "digest of {} notifications held back by the rate {rate}",
            messages.len()
        ),
    )
}

/// Delivers, and says in the log when the receiver takes its time.
async fn watched(shared: &Shared, config: &Config, message: &Waiting) -> Result<String, Failure> {
    let delivering = deliver(shared, config, message);
    tokio::pin!(delivering);
    let slow = shared.deps.clock.sleep_until(shared.mono().after(SLOW));
    tokio::select! {
        biased;
        result = &mut delivering => return result,
        () = slow => tracing::warn!(
            receiver = message.key.receiver,
            integration = message.key.kind,
            group = message.key.group_key,
            id = message.id,
            "no answer yet"
        ),
    }
    delivering.await
}

/// A message as it would go over the wire.
pub(super) enum Prepared {
    /// By mail.
    Mail(Mail),
    /// By HTTP, in this order.
    Http(Vec<Outgoing>),
}

async fn deliver(shared: &Shared, config: &Config, message: &Waiting) -> Result<String, Failure> {
    let key = &message.key;
    let integration = integration(config, message)
        .ok_or_else(|| Failure::Permanent("the configuration has no such receiver any more".to_owned()))?;
    let prepared = prepare(shared, config, integration, message, shared.deps.clock.now())?;
    match (&integration.channel, prepared) {
        (Channel::Email(email), Prepared::Mail(mail)) => {
            let smarthost = email::smarthost(email, &*shared.deps.disk, integration.timeout)?;
            let sent = shared.deps.mailer.send(&smarthost, &mail).await;
            sent.map(|receipt| receipt.response).map_err(|error| match error {
                MailError::Transient(_) => Failure::transient(error.to_string()),
                MailError::Permanent(_) => Failure::Permanent(error.to_string()),
            })
        }
        (Channel::Webhook(hook), Prepared::Http(requests)) => {
            let mut said = String::new();
            for request in requests {
                said = describe(&shared.sender.send(&hook.http, request, integration.timeout).await?);
            }
            Ok(said)
        }
        (Channel::Preset(preset), Prepared::Http(requests)) => {
            let mut said = String::new();
            for request in requests {
                let answer = shared.sender.send(&preset.http, request, integration.timeout).await?;
                (preset.preset.accept)(&answer)?;
                said = describe(&answer);
            }
            Ok(said)
        }
        _ => Err(Failure::Permanent(format!("{} was prepared in another way", key.kind))),
    }
}

fn integration<'a>(config: &'a Config, message: &Waiting) -> Option<&'a Integration> {
    let key = &message.key;
    let receiver = config.receiver(&key.receiver)?;
    let is_it = |one: &&Integration| one.kind == key.kind && one.index == key.index;
    receiver.integrations.iter().find(is_it)
}

/// Renders a message for an integration.
///
/// # Errors
/// [`Failure`], when a template or a secret fails.
pub(super) fn prepare(
    shared: &Shared,
    config: &Config,
    integration: &Integration,
    message: &Waiting,
    now: Millis,
) -> Result<Prepared, Failure> {
    let route = config.routes.routes().iter().find(|route| route.id == message.route);
    let mut data = Data::of(message, Default::default(), &shared.deps.external_url, now);
    if let Some(route) = route.filter(|route| !route.labels.is_empty()) {
        let rendered = config.templates.route_labels(&route.labels, &data, now);
        data.route_labels = rendered.map_err(Failure::Permanent)?;
    }
    let renderer = config.templates.about(&data);
    Ok(match &integration.channel {
        Channel::Email(email) => Prepared::Mail(email::mail(
            email,
            &data,
            &renderer,
            &message.id,
            message.thread.as_deref(),
        )?),
        Channel::Webhook(hook) => {
            let request = webhook::request(hook, &data, &renderer, &shared.sender, &message.id)?;
            Prepared::Http(vec![request])
        }
        Channel::Preset(preset) => {
            let requests = presets::requests(preset, &data, &renderer, &shared.sender)?;
            let named = requests
                .into_iter()
                .map(|request| request.header(webhook::IDEMPOTENCY_KEY, message.id.as_str()));
            Prepared::Http(named.collect())
        }
    })
}
