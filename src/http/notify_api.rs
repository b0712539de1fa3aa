//! See why, and try it out: explanations, previews, drills, how receivers fare, and the audit trail.

use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::route::{Call, Route, Scope};
use super::{ApiError, alertmanager_api};
use crate::alertmanager::{Entry, Error, Origin, PreviewAlert, parse_matcher};
use crate::model::{Alert, Fingerprint, Interval, Labels, Matcher, Millis};

/// The most bytes of a preview or a drill.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The most explanations of one answer.
const EXPLAINED_MAX: usize = 100;
/// How long the alert of a drill fires.
const DRILL_LASTS: Interval = Interval::mins(5);

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/v1/alertmanager/explain",
        scope: Scope::Alerts,
        body_bytes_max: 0,
        handler: |call| Box::pin(async move { explain(&call) }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/alertmanager/routes",
        scope: Scope::Alerts,
        body_bytes_max: 0,
        handler: |call| Box::pin(async move { Ok(success(json!({"route": call.app.alertmanager.route_tree()}))) }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/alertmanager/health",
        scope: Scope::Alerts,
        body_bytes_max: 0,
        handler: |call| Box::pin(async move { Ok(success(json!({"receivers": call.app.alertmanager.health()}))) }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/alertmanager/audit",
        scope: Scope::Alerts,
        body_bytes_max: 0,
        handler: |call| Box::pin(async move { audit(&call) }),
    },
    Route {
        method: Method::POST,
        path: "/api/v1/alertmanager/preview",
        scope: Scope::Alerts,
        body_bytes_max: BODY_BYTES_MAX,
        handler: |call| Box::pin(preview(call)),
    },
    Route {
        method: Method::POST,
        path: "/api/v1/alertmanager/drill",
        scope: Scope::Alerts,
        body_bytes_max: BODY_BYTES_MAX,
        handler: |call| Box::pin(drill(call)),
    },
];

fn success(data: Value) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, json!({"status": "success", "data": data}).to_string()).into_response()
}

fn bad(text: impl Into<String>) -> ApiError {
    ApiError::BadData(text.into())
}

fn refused(error: Error) -> ApiError {
    match error {
        Error::NotFound(_) => ApiError::NotFound(error.to_string()),
        Error::Invalid(_) => bad(error.to_string()),
        Error::TooLarge(_) => ApiError::TooLarge(error.to_string()),
        Error::Full(_) => ApiError::Overloaded(error.to_string()),
        Error::Log(_) | Error::Stopped => ApiError::Unavailable(error.to_string()),
    }
}

fn parameters(call: &Call) -> Vec<(String, String)> {
    let query = call.request.uri().query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// Explains the alerts that are asked for; when there is none, the alert that would bear these very labels.
fn explain(call: &Call) -> Result<Response, ApiError> {
    let mut filters: Vec<Matcher> = Vec::new();
    let mut fingerprint = None;
    for (name, value) in parameters(call) {
        match name.as_str() {
            "alert" => filters.push(Matcher::equal("alertname", value)),
            "fingerprint" => fingerprint = Some(value),
            "filter" => filters.push(parse_matcher(&value).map_err(bad)?),
            other => return Err(bad(format!("the parameter {other:?} is not known"))),
        }
    }
    if filters.is_empty() && fingerprint.is_none() {
        return Err(bad(
            "which alert? say alert=<name>, fingerprint=<hex> or filter=<matcher>",
        ));
    }
    let manager = &call.app.alertmanager;
    let wanted = |labels: &Labels| {
        let named = fingerprint
            .as_ref()
            .is_none_or(|hex| Fingerprint::of(labels).to_string() == *hex);
        named
            && filters
                .iter()
                .all(|matcher| matcher.matches(labels.value(&matcher.name)))
    };
    let alerts = manager.alerts().into_iter().map(|view| view.alert.labels.clone());
    let mut labels: Vec<Labels> = alerts.filter(wanted).take(EXPLAINED_MAX).collect();
    if labels.is_empty() && fingerprint.is_none() {
        let equal = filters
            .iter()
            .filter(|matcher| matcher.op == crate::model::MatchOp::Equal);
        labels.push(Labels::from_pairs(
            equal.map(|matcher| (matcher.name.as_str(), matcher.value.as_str())),
        ));
    }
    let explained: Vec<_> = labels.iter().map(|labels| manager.explain(labels)).collect();
    Ok(success(json!({"alerts": explained})))
}

/// The audit trail: `after` an entry, of some `event`, for some `receiver`, the `last` so many of these; as one JSON or as
/// JSON lines.
fn audit(call: &Call) -> Result<Response, ApiError> {
    let (mut after, mut limit, mut last, mut lines) = (0, usize::MAX, usize::MAX, false);
    let (mut event, mut receiver) = (None, None);
    for (name, value) in parameters(call) {
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| bad(format!("{name}: {value:?} is no number")))
        };
        match name.as_str() {
            "after" => after = number()?,
            "limit" => limit = usize::try_from(number()?).unwrap_or(usize::MAX),
            "last" => last = usize::try_from(number()?).unwrap_or(usize::MAX),
            "event" => event = Some(value),
            "receiver" => receiver = Some(value),
            "format" if value == "jsonl" => lines = true,
            "format" if value == "json" => lines = false,
            "format" => return Err(bad(format!("format: {value:?} is neither json nor jsonl"))),
            other => return Err(bad(format!("the parameter {other:?} is not known"))),
        }
    }
    let wanted = |entry: &Entry| {
        event.as_ref().is_none_or(|event| entry.event == *event)
            && receiver.as_ref().is_none_or(|receiver| entry.receiver == *receiver)
    };
    let entries = call.app.alertmanager.audit(after);
    let mut entries: Vec<Entry> = entries.into_iter().filter(wanted).take(limit).collect();
    entries.drain(..entries.len().saturating_sub(last));
    if !lines {
        return Ok(success(json!({"entries": entries})));
    }
    let text: String = entries.iter().map(|entry| format!("{}\n", json!(entry))).collect();
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PostedPreview {
    receiver: Option<String>,
    alerts: Vec<PostedAlert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PostedAlert {
    labels: Labels,
    #[serde(default)]
    annotations: Labels,
    #[serde(default)]
    status: Status,
    starts_at: Option<String>,
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: String,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    #[default]
    Firing,
    Resolved,
}

async fn preview(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let posted: PostedPreview =
        serde_json::from_slice(&body).map_err(|error| bad(format!("parsing the preview failed: {error}")))?;
    let now = call.app.clock.now();
    let mut alerts = Vec::new();
    for alert in posted.alerts {
        let read = |name: &str, text: &Option<String>| alertmanager_api::read_time(name, text.as_deref()).map_err(bad);
        let (starts_at, ends_at) = (read("startsAt", &alert.starts_at)?, read("endsAt", &alert.ends_at)?);
        let resolved = alert.status == Status::Resolved;
        alerts.push(PreviewAlert {
            alert: Alert {
                labels: alert.labels,
                annotations: alert.annotations,
                starts_at: starts_at.unwrap_or(now),
                ends_at: ends_at.or(resolved.then_some(now)),
                generator_url: alert.generator_url,
                sample_at: None,
            },
            resolved,
        });
    }
    let rendered = call
        .app
        .alertmanager
        .preview(posted.receiver.as_deref(), alerts)
        .map_err(refused)?;
    Ok(success(json!({"notifications": rendered})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PostedDrill {
    rule: String,
    #[serde(default)]
    labels: Labels,
}

/// Raises a marked alert as if the rule had fired, and lets it go its way: routes, groups, silences, receivers.
async fn drill(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let posted: PostedDrill =
        serde_json::from_slice(&body).map_err(|error| bad(format!("parsing the drill failed: {error}")))?;
    let found = call.app.rules.rules_named(&posted.rule);
    let Some((_, rule)) = found.iter().find(|(_, rule)| rule.alert.is_some()) else {
        return Err(ApiError::NotFound(format!("no alert rule is named {:?}", posted.rule)));
    };
    let now = call.app.clock.now();
    let alert = drill_alert(rule, &posted.labels, now);
    let labels = alert.labels.clone();
    call.app
        .alertmanager
        .receive(vec![alert], Origin::Api)
        .await
        .map_err(refused)?;
    Ok(success(json!({
        "labels": labels,
        "fingerprint": Fingerprint::of(&labels).to_string(),
        "endsAt": (now + DRILL_LASTS).to_string(),
    })))
}

/// Words the alert. Templates of labels and annotations have no series to speak of here and are left as written.
fn drill_alert(rule: &crate::rules::RuleView, extra: &Labels, now: Millis) -> Alert {
    let plain = |text: &&String| !text.contains("{{");
    let mut labels = extra.to_builder();
    for (name, value) in rule.labels.iter().filter(|(_, value)| plain(value)) {
        if extra.get(name).is_none() {
            labels.set(name, value);
        }
    }
    labels.set("alertname", &rule.name);
    labels.set("drill", "true");
    let written = rule.alert.as_ref().map(|alert| &alert.annotations);
    let mut annotations = Labels::empty().to_builder();
    for (name, value) in written.into_iter().flatten() {
        annotations.set(name, &format!("[TEST] {value}"));
    }
    annotations.set("drill", "This is a test of the rule: nothing is wrong.");
    if written.is_none_or(|written| !written.contains_key("summary")) {
        annotations.set("summary", &format!("[TEST] {}", rule.name));
    }
    Alert {
        labels: labels.build(),
        annotations: annotations.build(),
        starts_at: now,
        ends_at: Some(now + DRILL_LASTS),
        generator_url: String::new(),
        sample_at: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::super::App;
    use super::*;
    use crate::io::ShutdownHandle;

    async fn ask(app: &Arc<App>, method: Method, target: &str, body: &str) -> (u16, String) {
        let path = target.split('?').next().unwrap();
        let row = ROUTES
            .iter()
            .find(|row| row.method == method && row.path == path)
            .unwrap();
        let request = axum::http::Request::builder()
            .method(method)
            .uri(target)
            .body(axum::body::Body::from(body.to_owned()))
            .unwrap();
        let shared = App {
            clock: Arc::clone(&app.clock),
            alertmanager: Arc::clone(&app.alertmanager),
            rules: Arc::clone(&app.rules),
            ..App::test()
        };
        match (row.handler)(Call::test(shared, &[], request)).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let bytes = response.into_body().collect().await.unwrap().to_bytes();
                (status, String::from_utf8(bytes.to_vec()).unwrap())
            }
            Err(error) => (0, error.to_string()),
        }
    }

    #[tokio::test]
    async fn alerts_are_explained_previewed_and_on_record() {
        let app = Arc::new(App::test());
        let (stop, shutdown) = ShutdownHandle::new();
        let manager = Arc::clone(&app.alertmanager);
        let task = async { manager.run(shutdown).await };
        tokio::join!(task, async {
            let labels = Labels::from_pairs([("alertname", "A"), ("env", "prod")]);
            let alert = Alert {
                labels,
                annotations: Labels::empty(),
                starts_at: Millis(0),
                ends_at: None,
                generator_url: String::new(),
                sample_at: None,
            };
            app.alertmanager.receive(vec![alert], Origin::Rules).await.unwrap();
            let base = "/api/v1/alertmanager";
            let (status, text) = ask(&app, Method::GET, &format!("{base}/explain?alert=A"), "").await;
            let json: Value = serde_json::from_str(&text).unwrap();
            let alert = &json["data"]["alerts"][0];
            assert_eq!(
                (status, &alert["state"], &alert["groups"][0]["receiver"]),
                (200, &json!("firing"), &json!("none"))
            );
            let (_, text) = ask(&app, Method::GET, &format!("{base}/explain?filter=alertname%3DB"), "").await;
            assert!(text.contains("\"unknown\""), "{text}");
            assert_eq!(ask(&app, Method::GET, &format!("{base}/explain"), "").await.0, 0);
            let (_, text) = ask(&app, Method::GET, &format!("{base}/audit?last=0"), "").await;
            assert!(text.contains("\"entries\":[]"), "{text}");
            let (_, text) = ask(&app, Method::GET, &format!("{base}/routes"), "").await;
            assert!(text.contains("\"receiver\":\"none\""), "{text}");
            let (_, text) = ask(&app, Method::GET, &format!("{base}/audit?format=jsonl"), "").await;
            assert!(
                text.starts_with("{\"seq\":1,\"at\":")
                    && text.contains("\"event\":\"firing\"")
                    && text.ends_with("}\n"),
                "{text}"
            );
            assert_eq!(
                ask(&app, Method::GET, &format!("{base}/audit?event=x&format=jsonl"), "")
                    .await
                    .1,
                ""
            );
            assert_eq!(ask(&app, Method::GET, &format!("{base}/health"), "").await.0, 200);
            let body = r#"{"receiver":"none","alerts":[{"labels":{"alertname":"A"},"status":"resolved"}]}"#;
            let (status, text) = ask(&app, Method::POST, &format!("{base}/preview"), body).await;
            assert_eq!((status, text.contains("notifications")), (200, true), "{text}");
            let body = body.replace("none", "nobody");
            assert!(
                ask(&app, Method::POST, &format!("{base}/preview"), &body)
                    .await
                    .1
                    .contains("nobody")
            );
            let (_, text) = ask(&app, Method::POST, &format!("{base}/drill"), r#"{"rule":"Nothing"}"#).await;
            assert!(text.contains("no alert rule"), "{text}");
            stop.request();
        });
    }
}
