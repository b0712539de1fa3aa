//! Rules and their alerts, in Prometheus's JSON: `/api/v1/rules`, `/api/v1/alerts`, and the history of a rule.

use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::ApiError;
use super::route::{Call, Route, Scope};
use crate::model::{Matcher, Millis};
use crate::query;
use crate::rules::{ActiveAlert, AlertView, GroupView, Health, RuleView};

/// The year 1: how Go shows a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/v1/rules",
        scope: Scope::Query,
        body_bytes_max: 0,
        handler: |call| Box::pin(async move { rules(&call) }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/alerts",
        scope: Scope::Query,
        body_bytes_max: 0,
        handler: |call| Box::pin(async move { Ok(alerts(&call)) }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/rules/history",
        scope: Scope::Query,
        body_bytes_max: 0,
        handler: |call| Box::pin(async move { history(&call) }),
    },
];

/// What `/api/v1/rules` may be asked for.
#[derive(Default)]
struct Filter {
    kind: Option<&'static str>,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    /// Any of these sets must match a rule's labels.
    matchers: Vec<Vec<Matcher>>,
    exclude_alerts: bool,
    limit: Option<usize>,
    next: Option<String>,
}

impl Filter {
    fn read(query: &str) -> Result<Filter, ApiError> {
        let mut filter = Filter::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "type" => {
                    filter.kind = match value.to_lowercase().as_str() {
                        "" => None,
                        "alert" => Some("alerting"),
                        "record" => Some("recording"),
                        _ => {
                            return Err(bad(format!(
                                "invalid parameter \"type\": not supported value {value:?}"
                            )));
                        }
                    };
                }
                "rule_name[]" | "rule_name" => filter.names.push(value),
                "rule_group[]" | "rule_group" => filter.groups.push(value),
                "file[]" | "file" => filter.files.push(value),
                "match[]" => filter.matchers.push(query::parse_selector(&value)?),
                "exclude_alerts" => filter.exclude_alerts = flag(&value)?,
                "group_limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit > 0);
                    filter.limit = Some(limit.ok_or_else(|| bad(format!("invalid group_limit value {value:?}")))?);
                }
                "group_next_token" => filter.next = Some(value),
                _ => {}
            }
        }
        if filter.next.is_some() && filter.limit.is_none() {
            return Err(bad("group_limit needs to be set to use group_next_token".to_owned()));
        }
        Ok(filter)
    }

    fn takes_group(&self, group: &GroupView) -> bool {
        let among = |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|one| one == value);
        among(&self.groups, &group.name) && among(&self.files, &group.file)
    }

    fn takes_rule(&self, rule: &RuleView) -> bool {
        let label = |name: &str| rule.labels.get(name).map_or("", String::as_str);
        self.kind.is_none_or(|kind| kind == kind_of(rule))
            && (self.names.is_empty() || self.names.contains(&rule.name))
            && (self.matchers.is_empty()
                || self
                    .matchers
                    .iter()
                    .any(|set| set.iter().all(|matcher| matcher.matches(label(&matcher.name)))))
    }
}

fn bad(text: String) -> ApiError {
    ApiError::BadData(text)
}

fn flag(value: &str) -> Result<bool, ApiError> {
    match value {
        "" | "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        _ => Err(bad(format!(
            "invalid parameter \"exclude_alerts\": {value:?} is no truth value"
        ))),
    }
}

fn rules(call: &Call) -> Result<Response, ApiError> {
    let filter = Filter::read(call.request.uri().query().unwrap_or(""))?;
    let mut groups = Vec::new();
    let mut next = None;
    let mut skipping = filter.next.is_some();
    for group in call.app.rules.groups() {
        let token = token(&group);
        if skipping && filter.next.as_ref() != Some(&token) {
            continue;
        }
        skipping = false;
        if !filter.takes_group(&group) {
            continue;
        }
        let rules: Vec<Value> = group
            .rules
            .iter()
            .filter(|rule| filter.takes_rule(rule))
            .map(|rule| rule_json(rule, filter.exclude_alerts))
            .collect();
        let narrowed = filter.kind.is_some() || !filter.names.is_empty() || !filter.matchers.is_empty();
        if rules.is_empty() && narrowed {
            continue;
        }
        if filter.limit.is_some_and(|limit| groups.len() == limit) {
            next = Some(token);
            break;
        }
        groups.push(group_json(&group, rules));
    }
    if skipping {
        return Err(bad(format!(
            "invalid group_next_token {:?}: the rules have changed",
            filter.next.unwrap_or_default()
        )));
    }
    let mut data = json!({ "groups": groups });
    if let Some(next) = next {
        data["groupNextToken"] = json!(next);
    }
    Ok(success(data))
}

/// Names a group for paging.
fn token(group: &GroupView) -> String {
    let hash = xxhash_rust::xxh3::xxh3_128(format!("{};{}", group.file, group.name).as_bytes());
    format!("{hash:032x}")
}

fn alerts(call: &Call) -> Response {
    let mut found = Vec::new();
    for group in call.app.rules.groups() {
        for alert in group.rules.iter().filter_map(|rule| rule.alert.as_ref()) {
            found.extend(alert.active.iter().map(alert_json));
        }
    }
    success(json!({ "alerts": found }))
}

fn history(call: &Call) -> Result<Response, ApiError> {
    let query = call.request.uri().query().unwrap_or("");
    let name = url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "rule")
        .map(|(_, value)| value.into_owned())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| bad("the parameter \"rule\" is missing: the name of an alert or recorded metric".to_owned()))?;
    let rules = call.app.rules.rules_named(&name);
    if rules.is_empty() {
        return Err(ApiError::NotFound(format!("no rule is named {name:?}")));
    }
    let rules: Vec<Value> = rules
        .iter()
        .map(|(group, rule)| {
            let transitions = rule.transitions.iter().map(|transition| {
                json!({
                    "at": transition.at.to_string(),
                    "to": transition.change,
                    "labels": transition.labels,
                    "value": query::float::go_float(transition.value),
                })
            });
            let evaluations = rule.evaluations.iter().map(|evaluation| {
                json!({
                    "at": evaluation.at.to_string(),
                    "seconds": evaluation.secs,
                    "results": evaluation.samples,
                    "error": evaluation.error,
                })
            });
            json!({
                "group": group.name,
                "file": group.file,
                "rule": rule.name,
                "labels": rule.labels,
                "transitions": transitions.collect::<Vec<_>>(),
                "evaluations": evaluations.collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(success(json!({ "rules": rules })))
}

fn success(data: Value) -> Response {
    let body = json!({"status": "success", "data": data}).to_string();
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json, body).into_response()
}

fn group_json(group: &GroupView, rules: Vec<Value>) -> Value {
    json!({
        "name": group.name,
        "file": group.file,
        "rules": rules,
        "interval": group.interval.as_secs_f64(),
        "queryOffset": group.query_offset.as_secs_f64(),
        "limit": group.limit,
        "evaluationTime": group.evaluation_secs,
        "lastEvaluation": time(group.last_evaluation),
    })
}

fn kind_of(rule: &RuleView) -> &'static str {
    if rule.alert.is_some() { "alerting" } else { "recording" }
}

fn rule_json(rule: &RuleView, exclude_alerts: bool) -> Value {
    let mut value = match &rule.alert {
        Some(alert) => alerting_json(rule, alert, exclude_alerts),
        None => json!({ "name": rule.name, "query": rule.query, "labels": rule.labels }),
    };
    let (health, error) = match &rule.health {
        Health::Unknown => ("unknown", None),
        Health::Ok => ("ok", None),
        Health::Err(error) => ("err", Some(error)),
    };
    value["health"] = json!(health);
    if let Some(error) = error {
        value["lastError"] = json!(error);
    }
    if let Some(condition) = &rule.condition {
        value["condition"] = json!(condition);
    }
    value["evaluationTime"] = json!(rule.evaluation_secs);
    value["lastEvaluation"] = json!(time(rule.last_evaluation));
    value["type"] = json!(kind_of(rule));
    value
}

fn alerting_json(rule: &RuleView, alert: &AlertView, exclude_alerts: bool) -> Value {
    let mut value = json!({
        "state": rule.state(),
        "name": rule.name,
        "query": rule.query,
        "duration": alert.hold.as_secs_f64(),
        "keepFiringFor": alert.keep_firing.as_secs_f64(),
        "labels": rule.labels,
        "annotations": alert.annotations,
    });
    if !alert.learning.is_empty() {
        value["learning"] = json!(alert.learning);
    }
    if !exclude_alerts {
        value["alerts"] = json!(alert.active.iter().map(alert_json).collect::<Vec<_>>());
    }
    value
}

fn alert_json(alert: &ActiveAlert) -> Value {
    let mut value = json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "state": alert.state.as_str(),
        "activeAt": alert.state.since().to_string(),
        "value": alert.value_text(),
    });
    if let crate::rules::State::Firing {
        ceased: Some(ceased), ..
    } = alert.state
    {
        value["keepFiringSince"] = json!(ceased.to_string());
    }
    value
}

fn time(at: Option<Millis>) -> String {
    at.map_or_else(|| NEVER.to_owned(), |at| at.to_string())
}
