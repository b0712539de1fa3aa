//! See why: where an alert goes, who was told of it and when, what keeps it back, and when somebody is told next.

use serde::Serialize;

use super::config::{Integration, Receiver, Route};
use super::core::{Core, Group, Muted, notify_key};
use super::health::Health;
use super::record::NotifyKey;
use super::service::AlertManager;
use crate::model::{Fingerprint, Interval, Labels, Millis};

/// Everything about one alert, real or supposed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Its labels.
    pub labels: Labels,
    /// Its identity.
    pub fingerprint: String,
    /// `firing`, `resolved`, or `unknown` when no such alert is there.
    pub state: &'static str,
    /// Since when it fires.
    pub starts_at: Option<String>,
    /// Alerts that inhibit it.
    pub inhibited_by: Vec<String>,
    /// Silences that silence it.
    pub silenced_by: Vec<String>,
    /// The groups it belongs to, one for each route it takes.
    pub groups: Vec<GroupExplanation>,
}

/// One group of an alert.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupExplanation {
    /// The route's matchers, from the root.
    pub route: String,
    /// Who is told.
    pub receiver: String,
    /// The labels that name the group.
    pub group_labels: Labels,
    /// Alertmanager's key.
    pub group_key: String,
    /// Time intervals that mute the route now.
    pub muted_by: Vec<String>,
    /// How long a new group waits for company.
    pub group_wait: String,
    /// How often it looks for news.
    pub group_interval: String,
    /// How long until the same is told again.
    pub repeat_interval: String,
    /// When it looks next; `None` when there is no such group yet.
    pub next_look: Option<String>,
    /// What is told to each integration.
    pub integrations: Vec<IntegrationExplanation>,
}

/// One integration's part.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IntegrationExplanation {
    /// Kind and number: `webhook[0]`.
    pub integration: String,
    /// When the group was last told.
    pub told_at: Option<String>,
    /// Whether it was told that this alert fires.
    pub told_firing: bool,
    /// Since when a message about this alert waits.
    pub waiting_since: Option<String>,
    /// How the integration fares: `ok`, `failing`, `open`.
    pub health: &'static str,
    /// Its last failure.
    pub last_error: Option<String>,
    /// All that in one sentence.
    pub why: String,
}

/// How one integration fares.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthView {
    /// The receiver.
    pub receiver: String,
    /// Kind and number.
    pub integration: String,
    /// `ok`, `failing`, or `open`: messages wait for one that arrives.
    pub state: &'static str,
    /// Tries in a row that failed.
    pub failures: u32,
    /// When the first of them failed.
    pub failing_since: Option<String>,
    /// What the last failure was.
    pub last_error: Option<String>,
    /// When a message arrived last, since the start of the process.
    pub last_success: Option<String>,
    /// How many messages wait or are being sent.
    pub waiting: usize,
}

/// One route of the tree.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// The matchers from the root to here: what an explanation calls the route.
    pub key: String,
    /// Its own matchers.
    pub matchers: Vec<String>,
    /// Who is told.
    pub receiver: String,
    /// The labels that are told together; `...` is all of them.
    pub group_by: Vec<String>,
    /// How long a new group waits for company.
    pub group_wait: String,
    /// How often it looks for news.
    pub group_interval: String,
    /// How long until the same is told again.
    pub repeat_interval: String,
    /// Time intervals in which nobody is told, and those outside of which nobody is.
    pub mute: Vec<String>,
    /// See `mute`.
    pub active: Vec<String>,
    /// Whether the routes after it see an alert that this one took.
    pub goes_on: bool,
    /// The routes below it.
    pub routes: Vec<RouteView>,
}

impl AlertManager {
    /// Returns the routing tree.
    pub fn route_tree(&self) -> RouteView {
        let core = self.core();
        view_of(core.config.routes.routes(), 0)
    }

    /// Explains what becomes of an alert with these labels.
    pub fn explain(&self, labels: &Labels) -> Explanation {
        let now = self.shared.now();
        let health = self.shared.health.lock().clone();
        let core = self.core();
        let fingerprint = Fingerprint::of(labels);
        let alert = core.state.alerts.get(&fingerprint);
        let muted = core.muted(labels, now.wall);
        let state = match alert {
            None => "unknown",
            Some(alert) if alert.is_resolved(now.wall) => "resolved",
            Some(_) => "firing",
        };
        let groups = core.config.routes.matching(labels).into_iter().map(|number| {
            let route = &core.config.routes.routes()[number];
            let group_labels = route.group_labels(labels);
            let group = core.groups.get(&format!("{}:{group_labels}", route.id));
            let next_look = group.map(|group| {
                let left = group.due.0.saturating_sub(now.mono.0) / 1_000_000;
                now.wall + Interval(i64::try_from(left).unwrap_or(0))
            });
            let case = Case {
                core: &core,
                route,
                group,
                fingerprint,
                state,
                muted: &muted,
                muted_by: core.config.muted_by(route, now.wall),
                next_look,
            };
            case.explain(group_labels, &health)
        });
        Explanation {
            labels: labels.clone(),
            fingerprint: fingerprint.to_string(),
            state,
            starts_at: alert.map(|alert| alert.starts_at.to_string()),
            groups: groups.collect(),
            inhibited_by: muted.inhibited_by.iter().map(ToString::to_string).collect(),
            silenced_by: muted.silenced_by.clone(),
        }
    }

    /// Returns how every integration fares that was told something since the start.
    pub fn health(&self) -> Vec<HealthView> {
        let health = self.shared.health.lock().clone();
        let shown = health
            .into_iter()
            .map(|((receiver, kind, index), health, waiting)| HealthView {
                receiver,
                integration: format!("{kind}[{index}]"),
                state: health.as_str(),
                failures: health.failures,
                failing_since: health.failing_since.map(|at| at.to_string()),
                last_error: health.last_error,
                last_success: health.last_success.map(|at| at.to_string()),
                waiting,
            });
        shown.collect()
    }
}

fn view_of(routes: &[Route], index: usize) -> RouteView {
    let route = &routes[index];
    RouteView {
        key: route.key.clone(),
        matchers: route.matchers().iter().map(ToString::to_string).collect(),
        receiver: route.receiver.clone(),
        group_by: route.group_by.names(),
        group_wait: route.group_wait.to_string(),
        group_interval: route.group_interval.to_string(),
        repeat_interval: route.repeat_interval.to_string(),
        mute: route.mute.clone(),
        active: route.active.clone(),
        goes_on: route.goes_on(),
        routes: route.children().iter().map(|child| view_of(routes, *child)).collect(),
    }
}

type Lanes = [(super::queue::Lane, Health, usize)];

struct Case<'a> {
    core: &'a Core,
    route: &'a Route,
    group: Option<&'a Group>,
    fingerprint: Fingerprint,
    state: &'static str,
    muted: &'a Muted,
    muted_by: Vec<String>,
    next_look: Option<Millis>,
}

impl Case<'_> {
    fn explain(&self, group_labels: Labels, lanes: &Lanes) -> GroupExplanation {
        let key = format!("{}:{group_labels}", self.route.key);
        let receiver = self.core.config.receiver(&self.route.receiver);
        let integrations = receiver.iter().flat_map(|receiver| {
            let of = |one: &Integration| self.integration(&key, receiver, one, lanes);
            receiver.integrations.iter().map(of).collect::<Vec<_>>()
        });
        GroupExplanation {
            route: self.route.key.clone(),
            receiver: self.route.receiver.clone(),
            integrations: integrations.collect(),
            group_labels,
            group_key: key,
            muted_by: self.muted_by.clone(),
            group_wait: self.route.group_wait.to_string(),
            group_interval: self.route.group_interval.to_string(),
            repeat_interval: self.route.repeat_interval.to_string(),
            next_look: self.next_look.map(|at| at.to_string()),
        }
    }

    fn integration(
        &self,
        group_key: &str,
        receiver: &Receiver,
        one: &Integration,
        lanes: &Lanes,
    ) -> IntegrationExplanation {
        let key = notify_key(group_key, receiver, one);
        let told = self.core.state.told.get(&key);
        let waiting = self.core.state.waiting.get(&key).filter(|message| {
            let mut alerts = message.alerts.iter();
            alerts.any(|item| item.alert.fingerprint() == self.fingerprint)
        });
        let lane = super::queue::lane_of(&key);
        let health = lanes
            .iter()
            .find(|(known, ..)| *known == lane)
            .map(|(_, health, _)| health);
        IntegrationExplanation {
            integration: format!("{}[{}]", one.kind, one.index),
            told_at: told.map(|told| told.at.to_string()),
            told_firing: told.is_some_and(|told| told.is_firing(self.fingerprint)),
            waiting_since: waiting.map(|message| message.since.to_string()),
            health: health.map_or("ok", Health::as_str),
            last_error: health.and_then(|health| health.last_error.clone()),
            why: self.why(&key, waiting.is_some(), health),
        }
    }

    /// The first thing that decides, in words.
    fn why(&self, key: &NotifyKey, waits: bool, health: Option<&Health>) -> String {
        let told = self.core.state.told.get(key);
        let is_told = told.is_some_and(|told| told.is_firing(self.fingerprint));
        let next = self.next_look.map_or_else(|| "never".to_owned(), |at| at.to_string());
        if waits {
            let error = health.and_then(|health| health.last_error.as_deref());
            return match error {
                Some(error) => format!("a message waits: the receiver was not reached: {error}"),
                None => "a message is on its way".to_owned(),
            };
        }
        if self.state == "unknown" {
            return format!(
                "there is no such alert; one would be told {} after it came",
                self.route.group_wait
            );
        }
        if !self.muted.silenced_by.is_empty() {
            return format!("silenced by {}", self.muted.silenced_by.join(", "));
        }
        if !self.muted.inhibited_by.is_empty() {
            let by: Vec<String> = self
                .muted
                .inhibited_by
                .iter()
                .map(|source| self.name(*source))
                .collect();
            return format!("inhibited by {}", by.join(", "));
        }
        if !self.muted_by.is_empty() {
            return format!("the route is muted at this time by {}", self.muted_by.join(", "));
        }
        match (self.state, told, is_told) {
            ("firing", Some(told), true) => {
                let repeat = told.at + self.route.repeat_interval;
                format!(
                    "told at {}; nothing new, so it is repeated at the first look after {repeat}",
                    told.at
                )
            }
            ("firing", ..) if self.group.is_some_and(|group| group.has_flushed) => {
                format!(
                    "it joined a group that was told already: told at {next}, because group_interval is {}",
                    self.route.group_interval
                )
            }
            ("firing", ..) => format!("told at {next}, because group_wait is {}", self.route.group_wait),
            (_, _, true) => format!("it is over: told at {next}"),
            (_, Some(_), false) => "it is over, and the receiver does not believe that it fires".to_owned(),
            (_, None, _) => "it is over, and was never told".to_owned(),
        }
    }

    fn name(&self, fingerprint: Fingerprint) -> String {
        let alert = self.core.state.alerts.get(&fingerprint);
        alert.map_or_else(|| fingerprint.to_string(), |alert| alert.labels.to_string())
    }
}
