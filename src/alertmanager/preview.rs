//! What a notification would say, rendered for each integration of a receiver and sent to nobody. Secrets are taken out.

use std::sync::Arc;

use base64::Engine as _;
use serde::Serialize;

use super::alert::{Origin, StoredAlert};
use super::config::{Channel, Config, FieldValue, Integration, Route, SecretSource};
use super::core::{Group, notify_key};
use super::deliver::{Prepared, prepare};
use super::nflog::Reason;
use super::record::{NotifyKey, Waiting, WaitingAlert};
use super::service::{AlertManager, Error};
use crate::model::{Alert, Labels, Millis};

/// The most alerts of one preview.
const ALERTS_MAX: usize = 1_000;

/// An alert to be shown.
#[derive(Clone, Debug)]
pub struct PreviewAlert {
    /// The alert.
    pub alert: Alert,
    /// Whether it is over.
    pub resolved: bool,
}

/// One message as it would go out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rendered {
    /// Who would be told.
    pub receiver: String,
    /// Kind and number.
    pub integration: String,
    /// Where to: addresses, or the URL without its secrets.
    pub to: Vec<String>,
    /// Headers of a mail, or of a request.
    pub headers: String,
    /// The bodies: of a mail text and html, of a request what it carries.
    pub bodies: Vec<String>,
    /// Why it could not be rendered.
    pub error: Option<String>,
}

/// Words alerts as the message of a group.
pub(super) fn message(
    route: &Route,
    group: &Group,
    alerts: impl Iterator<Item = Arc<StoredAlert>>,
    now: Millis,
) -> Waiting {
    let alerts = alerts.map(|alert| WaitingAlert {
        resolved: alert.is_resolved(now),
        alert,
    });
    Waiting {
        id: "preview".to_owned(),
        key: NotifyKey {
            group_key: group.key.clone(),
            receiver: route.receiver.clone(),
            kind: String::new(),
            index: 0,
        },
        route: route.id.clone(),
        group_labels: group.labels.clone(),
        reason: Reason::First,
        alerts: alerts.collect(),
        thread: None,
        at: now,
        since: now,
        note: None,
        digest: None,
    }
}

impl AlertManager {
    /// Renders what these alerts would say to a receiver, or to those that the first one's routes lead to.
    ///
    /// # Errors
    /// [`Error::Invalid`] without alerts, and for a receiver that the configuration does not have.
    pub fn preview(&self, receiver: Option<&str>, alerts: Vec<PreviewAlert>) -> Result<Vec<Rendered>, Error> {
        let now = self.shared.deps.clock.now();
        let config = Arc::clone(&self.core().config);
        let first = alerts
            .first()
            .ok_or_else(|| Error::Invalid("a preview needs an alert".to_owned()))?;
        if alerts.len() > ALERTS_MAX {
            return Err(Error::Invalid(format!(
                "{} alerts, the limit of a preview is {ALERTS_MAX}",
                alerts.len()
            )));
        }
        let labels = first.alert.labels.clone();
        let items: Vec<WaitingAlert> = alerts
            .into_iter()
            .map(|shown| {
                let stored = StoredAlert::take_in(shown.alert, Origin::Api, config.resolve_timeout, now);
                WaitingAlert {
                    alert: Arc::new(stored),
                    resolved: shown.resolved,
                }
            })
            .collect();
        let mut rendered = Vec::new();
        for (route, name) in places(&config, receiver, &labels)? {
            rendered.extend(self.render(&config, route, &name, &items, now));
        }
        Ok(rendered)
    }

    fn render(&self, config: &Config, route: &Route, name: &str, items: &[WaitingAlert], now: Millis) -> Vec<Rendered> {
        let Some(receiver) = config.receiver(name) else {
            return Vec::new();
        };
        let first = &items[0].alert.labels;
        let group_labels = route.group_labels(first);
        let group_key = format!("{}:{group_labels}", route.key);
        let of = |one: &Integration| {
            let message = Waiting {
                id: "preview".to_owned(),
                key: notify_key(&group_key, receiver, one),
                route: route.id.clone(),
                group_labels: group_labels.clone(),
                reason: Reason::First,
                alerts: items.to_vec(),
                thread: None,
                at: now,
                since: now,
                note: None,
                digest: None,
            };
            let mut shown = Rendered {
                receiver: name.to_owned(),
                integration: format!("{}[{}]", one.kind, one.index),
                to: Vec::new(),
                headers: String::new(),
                bodies: Vec::new(),
                error: None,
            };
            match prepare(&self.shared, config, one, &message, now) {
                Ok(prepared) => fill(&mut shown, prepared, &self.secrets(one)),
                Err(failure) => shown.error = Some(failure.reason().to_owned()),
            }
            shown
        };
        receiver.integrations.iter().map(of).collect()
    }

    /// What must not be shown of an integration.
    fn secrets(&self, one: &Integration) -> Vec<String> {
        let mut sources: Vec<&SecretSource> = Vec::new();
        match &one.channel {
            Channel::Email(_) => {}
            Channel::Webhook(hook) => sources.push(&hook.url),
            Channel::Preset(preset) => {
                sources.extend(preset.values.values().filter_map(|value| match value {
                    FieldValue::Secret(source) => Some(source),
                    _ => None,
                }));
            }
        }
        let read = sources
            .into_iter()
            .filter_map(|source| self.shared.sender.secret(source).ok());
        read.filter(|secret| !secret.is_empty()).collect()
    }
}

/// The routes and receivers that a preview is for.
fn places<'a>(config: &'a Config, receiver: Option<&str>, labels: &Labels) -> Result<Vec<(&'a Route, String)>, Error> {
    let routes = config.routes.routes();
    if let Some(name) = receiver {
        if config.receiver(name).is_none() {
            return Err(Error::Invalid(format!("there is no receiver {name:?}")));
        }
        let route = routes.iter().find(|route| route.receiver == name).unwrap_or(&routes[0]);
        return Ok(vec![(route, name.to_owned())]);
    }
    let numbers = config.routes.matching(labels).into_iter();
    Ok(numbers
        .map(|number| (&routes[number], routes[number].receiver.clone()))
        .collect())
}

fn fill(shown: &mut Rendered, prepared: Prepared, secrets: &[String]) {
    match prepared {
        Prepared::Mail(mail) => {
            let text = String::from_utf8_lossy(&mail.message).into_owned();
            let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
            shown.to = mail.to;
            shown.headers = headers.replace("\r\n", "\n");
            let parts = body.split("\r\n\r\n").skip(1).map(|part| {
                let encoded: String = part
                    .split("--campanile-")
                    .next()
                    .unwrap_or("")
                    .split_whitespace()
                    .collect();
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(encoded)
                    .unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            });
            shown.bodies = parts.collect();
        }
        Prepared::Http(requests) => {
            for request in requests {
                shown.to.push(format!("{} {}", request.method, bare_url(&request.url)));
                for (name, value) in &request.headers {
                    shown.headers.push_str(&format!("{name}: {}\n", masked(value, secrets)));
                }
                shown
                    .bodies
                    .push(masked(&String::from_utf8_lossy(&request.body), secrets));
            }
        }
    }
}

/// Scheme and host: the rest of a web hook's URL is often its secret.
fn bare_url(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(parsed) => format!("{}://{}/…", parsed.scheme(), parsed.host_str().unwrap_or_default()),
        Err(_) => "…".to_owned(),
    }
}

fn masked(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| {
        text.replace(secret.as_str(), "<secret>")
    })
}
