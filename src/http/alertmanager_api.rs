//! Alertmanager's API, version 2, at the root: what `amtool`, Grafana and Prometheus servers speak.
//!
//! Shapes and status codes are those of its OpenAPI file: an error's body is one JSON string, not Prometheus's object.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Call, Route, Scope, body};
use crate::alertmanager::{
    AlertManager, AlertView, Calendar, Error, Origin, ReceiverView, Silence, SilenceMatcher, SilenceState,
    parse_matcher,
};
use crate::io::BoxFuture;
use crate::model::{Alert, Labels, MatchOp, Matcher, Millis};

/// The most bytes of alerts in one request.
const ALERTS_BYTES_MAX: usize = 16 << 20;
/// The most bytes of a silence.
const SILENCE_BYTES_MAX: usize = 256 << 10;
/// The Alertmanager whose API this is.
const SPOKEN_VERSION: &str = "0.34.0";

macro_rules! route {
    ($method:ident, $path:literal, $bytes:expr, $handler:ident) => {
        Route {
            method: Method::$method,
            path: $path,
            scope: Scope::Alerts,
            body_bytes_max: $bytes,
            handler: |call| answer(call, $handler),
        }
    };
}

pub(super) static ROUTES: &[Route] = &[
    route!(GET, "/api/v2/status", 0, status),
    route!(GET, "/api/v2/receivers", 0, receivers),
    route!(GET, "/api/v2/alerts", 0, alerts),
    route!(POST, "/api/v2/alerts", ALERTS_BYTES_MAX, post_alerts),
    route!(GET, "/api/v2/alerts/groups", 0, groups),
    route!(GET, "/api/v2/silences", 0, silences),
    route!(POST, "/api/v2/silences", SILENCE_BYTES_MAX, post_silence),
    route!(GET, "/api/v2/silence/{silenceID}", 0, silence),
    route!(DELETE, "/api/v2/silence/{silenceID}", 0, delete_silence),
];

/// An answer of this API that is not a success.
enum Refusal {
    /// Its own: a status and one JSON string.
    Own(StatusCode, String),
    /// The door's.
    Door(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        Refusal::Door(error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::NotFound(_) => Refusal::Own(StatusCode::NOT_FOUND, error.to_string()),
            Error::Invalid(_) => bad(error.to_string()),
            Error::TooLarge(_) => Refusal::Own(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            Error::Full(_) => Refusal::Door(ApiError::Overloaded(error.to_string())),
            Error::Log(_) | Error::Stopped => Refusal::Door(ApiError::Unavailable(error.to_string())),
        }
    }
}

/// What does not have the shape that the API's file asks for.
fn misshapen(text: impl Into<String>) -> Refusal {
    Refusal::Own(StatusCode::UNPROCESSABLE_ENTITY, text.into())
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::Own(StatusCode::BAD_REQUEST, text.into())
}

type Answer = Result<Value, Refusal>;

fn answer<F>(mut call: Call, handler: F) -> BoxFuture<'static, Result<Response, ApiError>>
where
    F: for<'a> FnOnce(&'a mut Call) -> BoxFuture<'a, Answer> + Send + 'static,
{
    Box::pin(async move {
        let json = [(header::CONTENT_TYPE, "application/json")];
        match handler(&mut call).await {
            Ok(Value::Null) => Ok(StatusCode::OK.into_response()),
            Ok(value) => Ok((json, value.to_string()).into_response()),
            Err(Refusal::Own(status, text)) => Ok((status, json, json!(text).to_string()).into_response()),
            Err(Refusal::Door(error)) => Err(error),
        }
    })
}

fn status(call: &mut Call) -> BoxFuture<'_, Answer> {
    Box::pin(async move {
        let manager = &call.app.alertmanager;
        Ok(json!({
            "cluster": {"status": "disabled"},
            "config": {"original": manager.config_text()},
            "uptime": time(manager.opened_at()),
            "versionInfo": {
                "branch": "campanile",
                "buildDate": "",
                "buildUser": "",
                "goVersion": "",
                "revision": env!("CARGO_PKG_VERSION"),
                "version": SPOKEN_VERSION,
            },
        }))
    })
}

fn receivers(call: &mut Call) -> BoxFuture<'_, Answer> {
    Box::pin(async move {
        let query = Query::of(&call.request)?;
        let shown = |receiver: &ReceiverView| {
            let mut value = json!({"name": receiver.name});
            if !receiver.labels.is_empty() {
                value["labels"] = json!(receiver.labels);
            }
            value
        };
        let receivers = call.app.alertmanager.receivers();
        Ok(receivers
            .iter()
            .filter(|receiver| query.takes_receiver_labels(receiver))
            .map(shown)
            .collect())
    })
}

fn alerts(call: &mut Call) -> BoxFuture<'_, Answer> {
    Box::pin(async move {
        let query = Query::of(&call.request)?;
        let manager = &call.app.alertmanager;
        let receivers = manager.receivers();
        let views = manager.alerts();
        Ok(views
            .iter()
            .filter(|view| query.takes(view) && query.takes_receivers(&view.receivers, &receivers))
            .map(|view| alert_json(view, &[], manager, call.app.clock.now()))
            .collect())
    })
}

fn groups(call: &mut Call) -> BoxFuture<'_, Answer> {
    Box::pin(async move {
        let query = Query::of(&call.request)?;
        let manager = &call.app.alertmanager;
        let now = call.app.clock.now();
        let receivers = manager.receivers();
        let mut shown = Vec::new();
        for group in manager.groups() {
            let receiver = std::slice::from_ref(&group.receiver);
            if !query.takes_receivers(receiver, &receivers) || (!query.muted && !group.muted_by.is_empty()) {
                continue;
            }
            let alerts: Vec<Value> = group
                .alerts
                .iter()
                .filter(|view| query.takes(view))
                .map(|view| alert_json(view, &group.muted_by, manager, now))
                .collect();
            if alerts.is_empty() {
                continue;
            }
            let mut value = json!({
                "alerts": alerts,
                "labels": group.labels,
                "receiver": {"name": group.receiver},
            });
            if !group.route_labels.is_empty() {
                value["routeLabels"] = json!(group.route_labels);
            }
            shown.push(value);
        }
        Ok(Value::Array(shown))
    })
}

fn alert_json(view: &AlertView, muted_by: &[String], manager: &AlertManager, now: Millis) -> Value {
    let alert = &view.alert;
    let inhibited: Vec<String> = view.muted.inhibited_by.iter().map(ToString::to_string).collect();
    let suppressed = view.muted.is_muted() || !muted_by.is_empty();
    let receivers: Vec<Value> = view.receivers.iter().map(|name| json!({"name": name})).collect();
    // An alert of our own rules has no end to show until it is over: what a sender that repeats itself would say.
    let ends_at = alert.ends_at.unwrap_or(now + manager.resolve_timeout());
    let mut value = json!({
        "annotations": alert.annotations,
        "endsAt": time(ends_at),
        "fingerprint": alert.fingerprint().to_string(),
        "receivers": receivers,
        "startsAt": time(alert.starts_at),
        "status": {
            "inhibitedBy": inhibited,
            "mutedBy": muted_by,
            "silencedBy": view.muted.silenced_by,
            "state": if suppressed { "suppressed" } else { "active" },
        },
        "updatedAt": time(alert.updated_at),
        "labels": alert.labels,
    });
    if !alert.generator_url.is_empty() {
        value["generatorURL"] = json!(alert.generator_url);
    }
    value
}

/// An alert as senders write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedAlert {
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    annotations: Option<Labels>,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

fn post_alerts(call: &mut Call) -> BoxFuture<'_, Answer> {
    Box::pin(async move {
        body::expect_json(call.request.headers())?;
        let body = call.body().await?;
        let posted: Vec<PostedAlert> =
            serde_json::from_slice(&body).map_err(|error| bad(format!("parsing alerts body failed: {error}")))?;
        if let Some(index) = posted.iter().position(|alert| alert.labels.is_none()) {
            return Err(misshapen(format!("{index}.labels in body is required")));
        }
        let now = call.app.clock.now();
        let (mut good, mut problems) = (Vec::new(), Vec::new());
        for alert in posted {
            match read_alert(alert, now) {
                Ok(alert) => good.push(alert),
                Err(problem) => problems.push(problem),
            }
        }
        // As Alertmanager does: the good ones count even when others are refused.
        call.app.alertmanager.receive(good, Origin::Api).await?;
        if problems.is_empty() {
            return Ok(Value::Null);
        }
        call.app.alertmanager.count_invalid(problems.len());
        Err(bad(problems.join("; ")))
    })
}

fn read_alert(posted: PostedAlert, now: Millis) -> Result<Alert, String> {
    let labels = posted.labels.unwrap_or_default();
    if labels.is_empty() {
        return Err("at least one label pair required".to_owned());
    }
    let ends_at = read_time("endsAt", posted.ends_at.as_deref())?;
    let starts_at = read_time("startsAt", posted.starts_at.as_deref())?;
    // Without a start it began now, or before its end when that is past.
    let starts_at = starts_at.unwrap_or_else(|| ends_at.map_or(now, |end| end.min(now)));
    if ends_at.is_some_and(|end| end < starts_at) {
        return Err("start time must be before end time".to_owned());
    }
    Ok(Alert {
        labels,
        annotations: posted.annotations.unwrap_or_default(),
        starts_at,
        ends_at,
        generator_url: posted.generator_url.unwrap_or_default(),
        sample_at: None,
    })
}

/// Go's zero time means none.
pub(super) fn read_time(name: &str, text: Option<&str>) -> Result<Option<Millis>, String> {
    let Some(text) = text.filter(|text| !text.is_empty() && !text.starts_with("0001-01-01T00:00:00")) else {
        return Ok(None);
    };
    let timestamp: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{name}: {text:?} is not a time as RFC 3339 writes it"))?;
    Ok(Some(Millis(timestamp.as_millisecond())))
}

fn time(at: Millis) -> String {
    at.to_string()
}

fn silences(call: &mut Call) -> BoxFuture<'_, Answer> {
    Box::pin(async move {
        let query = Query::of(&call.request)?;
        let mut found = call.app.alertmanager.silences();
        found.retain(|(silence, state)| {
            let wanted = match state {
                SilenceState::Active => query.active,
                SilenceState::Pending => query.pending,
                SilenceState::Expired => query.expired,
            };
            let pairs = silence
                .matchers
                .iter()
                .map(|matcher| (matcher.name.as_str(), matcher.value.as_str()));
            wanted && filters_take(&query.filters, &Labels::from_pairs(pairs))
        });
        // Active ones by their end, then those to come by their start, then the last ones that ended.
        found.sort_by_key(|(silence, state)| match state {
            SilenceState::Active => (0, silence.ends_at.0),
            SilenceState::Pending => (1, silence.starts_at.0),
            SilenceState::Expired => (2, -silence.ends_at.0),
        });
        Ok(found
            .iter()
            .map(|(silence, state)| silence_json(silence, *state))
            .collect())
    })
}

fn silence(call: &mut Call) -> BoxFuture<'_, Answer> {
    Box::pin(async move {
        let id = uuid(call.param("silenceID"))?;
        let found = call.app.alertmanager.silence(id);
        let (silence, state) = found.ok_or_else(|| Refusal::from(Error::NotFound(id.to_owned())))?;
        Ok(silence_json(&silence, state))
    })
}

fn delete_silence(call: &mut Call) -> BoxFuture<'_, Answer> {
    Box::pin(async move {
        let id = uuid(call.param("silenceID"))?.to_owned();
        match call.app.alertmanager.expire_silence(&id).await {
            Ok(()) => Ok(Value::Null),
            // It is over already: asking twice changes nothing.
            Err(Error::Invalid(_)) => Ok(Value::Null),
            Err(error) => Err(error.into()),
        }
    })
}

/// Returns the id if it has the form of one.
fn uuid(id: &str) -> Result<&str, Refusal> {
    let lengths = id.split('-').map(str::len);
    let is_one = lengths.eq([8, 4, 4, 4, 12]) && id.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    is_one
        .then_some(id)
        .ok_or_else(|| misshapen(format!("silenceID in path must be of type uuid: {id:?}")))
}

/// A silence as clients write it; what the API's file requires is required here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedSilence {
    #[serde(default)]
    id: Option<String>,
    matchers: Vec<SilenceMatcher>,
    starts_at: String,
    ends_at: String,
    created_by: String,
    comment: String,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
    /// Ours: the times in which it silences, as entries of `time_intervals`.
    #[serde(default)]
    time_intervals: Option<Value>,
}

fn post_silence(call: &mut Call) -> BoxFuture<'_, Answer> {
    Box::pin(async move {
        body::expect_json(call.request.headers())?;
        let body = call.body().await?;
        let posted: PostedSilence = serde_json::from_slice(&body).map_err(|error| unread(&error))?;
        if posted.matchers.is_empty() {
            return Err(misshapen("matchers in body should have at least 1 items"));
        }
        let needed = |name: &str, text: &str| {
            let read = read_time(name, Some(text)).map_err(bad)?;
            read.ok_or_else(|| bad(format!("{name} is required")))
        };
        let silence = Silence {
            id: posted.id.unwrap_or_default(),
            starts_at: needed("startsAt", &posted.starts_at)?,
            ends_at: needed("endsAt", &posted.ends_at)?,
            matchers: posted.matchers,
            updated_at: call.app.clock.now(),
            created_by: posted.created_by,
            comment: posted.comment,
            annotations: posted.annotations.unwrap_or_default(),
            calendar: posted.time_intervals.map(Calendar::read).transpose().map_err(bad)?,
        };
        let id = call.app.alertmanager.set_silence(silence).await?;
        Ok(json!({"silenceID": id}))
    })
}

fn unread(error: &serde_json::Error) -> Refusal {
    let text = format!("parsing silence body failed: {error}");
    if error.is_data() { misshapen(text) } else { bad(text) }
}

fn silence_json(silence: &Silence, state: SilenceState) -> Value {
    let mut value = json!({
        "id": silence.id,
        "status": {"state": state.as_str()},
        "updatedAt": time(silence.updated_at),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": time(silence.ends_at),
        "matchers": silence.matchers,
        "startsAt": time(silence.starts_at),
    });
    if !silence.annotations.is_empty() {
        value["annotations"] = json!(silence.annotations);
    }
    if let Some(calendar) = &silence.calendar {
        value["timeIntervals"] = calendar.written().clone();
    }
    value
}

/// What the query string asks for.
struct Query {
    active: bool,
    silenced: bool,
    inhibited: bool,
    unprocessed: bool,
    muted: bool,
    pending: bool,
    expired: bool,
    filters: Vec<Matcher>,
    receiver: Option<Matcher>,
    receiver_matchers: Vec<Matcher>,
}

impl Query {
    fn of(request: &Request<Body>) -> Result<Query, Refusal> {
        let mut query = Query {
            active: true,
            silenced: true,
            inhibited: true,
            unprocessed: true,
            muted: true,
            pending: true,
            expired: true,
            filters: Vec::new(),
            receiver: None,
            receiver_matchers: Vec::new(),
        };
        for (name, value) in url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
            let flag = || match &*value {
                "true" | "1" | "t" | "T" | "TRUE" | "True" | "yes" | "y" | "on" => Ok(true),
                "false" | "0" | "f" | "F" | "FALSE" | "False" | "no" | "n" | "off" => Ok(false),
                _ => Err(bad(format!("{name} in query must be of type boolean: {value:?}"))),
            };
            let matcher = || parse_matcher(&value).map_err(bad);
            match &*name {
                "active" => query.active = flag()?,
                "silenced" => query.silenced = flag()?,
                "inhibited" => query.inhibited = flag()?,
                "unprocessed" => query.unprocessed = flag()?,
                "muted" => query.muted = flag()?,
                "pending" => query.pending = flag()?,
                "expired" => query.expired = flag()?,
                "filter" => query.filters.push(matcher()?),
                "receiver_matchers" => query.receiver_matchers.push(matcher()?),
                "receiver" if !value.is_empty() => {
                    let pattern = Matcher::new("receiver", MatchOp::Regex, &*value);
                    query.receiver =
                        Some(pattern.map_err(|error| bad(format!("failed to parse receiver param: {error}")))?);
                }
                _ => {}
            }
        }
        Ok(query)
    }

    /// Whether an alert's labels and state are asked for.
    fn takes(&self, view: &AlertView) -> bool {
        let muted = &view.muted;
        filters_take(&self.filters, &view.alert.labels)
            && (self.active || muted.is_muted())
            && (self.silenced || muted.silenced_by.is_empty())
            && (self.inhibited || muted.inhibited_by.is_empty())
    }

    /// Whether one of an alert's receivers is asked for.
    fn takes_receivers(&self, names: &[String], all: &[ReceiverView]) -> bool {
        let named = self
            .receiver
            .as_ref()
            .is_none_or(|pattern| names.iter().any(|name| pattern.matches(name)));
        let labelled = self.receiver_matchers.is_empty()
            || names.iter().any(|name| {
                let receiver = all.iter().find(|receiver| receiver.name == *name);
                receiver.is_some_and(|receiver| self.takes_receiver_labels(receiver))
            });
        named && labelled
    }

    fn takes_receiver_labels(&self, receiver: &ReceiverView) -> bool {
        filters_take(&self.receiver_matchers, &Labels::from_pairs(&receiver.labels))
    }
}

fn filters_take(filters: &[Matcher], labels: &Labels) -> bool {
    filters
        .iter()
        .all(|matcher| matcher.matches(labels.value(&matcher.name)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::super::App;
    use super::*;
    use crate::io::ShutdownHandle;

    async fn ask(app: &Arc<App>, method: Method, path: &str, params: &[(&str, &str)], body: &str) -> (u16, Value) {
        let route = path.split('?').next().unwrap();
        let row = ROUTES
            .iter()
            .find(|row| row.method == method && row.path == route)
            .unwrap();
        let path = path.replace("{silenceID}", "x");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = (row.handler)(Call::test(share(app), params, request)).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    fn share(app: &App) -> App {
        App {
            clock: Arc::clone(&app.clock),
            alertmanager: Arc::clone(&app.alertmanager),
            ..App::test()
        }
    }

    /// Runs `test` beside the manager's task.
    async fn with_manager(test: impl AsyncFnOnce(Arc<App>)) {
        let app = Arc::new(App::test());
        let (stop, shutdown) = ShutdownHandle::new();
        let manager = Arc::clone(&app.alertmanager);
        let task = async { manager.run(shutdown).await };
        tokio::join!(task, async {
            test(Arc::clone(&app)).await;
            stop.request();
        });
    }

    const FAR: &str = "9999-01-01T00:00:00Z";

    #[tokio::test]
    async fn alerts_are_posted_listed_filtered_and_grouped() {
        with_manager(async |app| {
            let body = format!(
                r#"[{{"labels":{{"alertname":"A","env":"prod"}},"annotations":{{"s":"x"}},"endsAt":"{FAR}"}},{{"labels":{{"alertname":"B"}},"endsAt":"{FAR}"}}]"#
            );
            assert_eq!(ask(&app, Method::POST, "/api/v2/alerts", &[], &body).await, (200, Value::Null));
            let (_, all) = ask(&app, Method::GET, "/api/v2/alerts", &[], "").await;
            assert_eq!(all.as_array().unwrap().len(), 2);
            let (_, one) = ask(&app, Method::GET, "/api/v2/alerts?filter=env%3D~%22p.*%22&receiver=none", &[], "").await;
            assert_eq!(one[0]["labels"]["alertname"], "A");
            assert_eq!(one[0]["status"], json!({"inhibitedBy": [], "mutedBy": [], "silencedBy": [], "state": "active"}));
            assert_eq!(one[0]["receivers"], json!([{"name": "none"}]));
            let (_, none) = ask(&app, Method::GET, "/api/v2/alerts?receiver=other", &[], "").await;
            assert_eq!(none, json!([]));
            let (_, groups) = ask(&app, Method::GET, "/api/v2/alerts/groups", &[], "").await;
            assert_eq!((groups[0]["alerts"].as_array().unwrap().len(), &groups[0]["labels"]), (2, &json!({})));
        })
        .await;
    }

    #[tokio::test]
    async fn an_impossible_alert_is_refused_and_the_others_count() {
        with_manager(async |app| {
            let body = format!(r#"[{{"labels":{{}}}},{{"labels":{{"a":"b"}},"endsAt":"{FAR}"}}]"#);
            let (status, text) = ask(&app, Method::POST, "/api/v2/alerts", &[], &body).await;
            assert_eq!((status, text), (400, json!("at least one label pair required")));
            assert_eq!(app.alertmanager.alerts().len(), 1);
            assert_eq!(ask(&app, Method::POST, "/api/v2/alerts", &[], "{").await.0, 400);
            assert_eq!(ask(&app, Method::GET, "/api/v2/alerts?filter=x", &[], "").await.0, 400);
        })
        .await;
    }

    #[tokio::test]
    async fn silences_are_made_changed_and_ended() {
        with_manager(async |app| {
            let silence = |id: &str, comment: &str| {
                json!({"id": id, "matchers": [{"name": "alertname", "value": "A", "isRegex": false}],
                    "startsAt": "1970-01-01T00:00:00Z", "endsAt": FAR, "createdBy": "me", "comment": comment})
                .to_string()
            };
            let (status, made) = ask(&app, Method::POST, "/api/v2/silences", &[], &silence("", "one")).await;
            let id = made["silenceID"].as_str().unwrap().to_owned();
            assert_eq!((status, id.len()), (200, 36));
            let (_, changed) = ask(&app, Method::POST, "/api/v2/silences", &[], &silence(&id, "two")).await;
            assert_eq!(changed["silenceID"], json!(id));
            let at = [("silenceID", id.as_str())];
            let (_, read) = ask(&app, Method::GET, "/api/v2/silence/{silenceID}", &at, "").await;
            assert_eq!(
                (&read["comment"], &read["status"]["state"]),
                (&json!("two"), &json!("active"))
            );
            assert_eq!(read["matchers"][0]["isEqual"], true);
            assert_eq!(
                ask(&app, Method::DELETE, "/api/v2/silence/{silenceID}", &at, "")
                    .await
                    .0,
                200
            );
            assert_eq!(
                ask(&app, Method::DELETE, "/api/v2/silence/{silenceID}", &at, "")
                    .await
                    .0,
                200,
                "asking twice changes nothing"
            );
            let nobody = [("silenceID", "00000000-0000-0000-0000-000000000000")];
            assert_eq!(
                ask(&app, Method::GET, "/api/v2/silence/{silenceID}", &nobody, "")
                    .await
                    .0,
                404
            );
            assert_eq!(
                ask(&app, Method::POST, "/api/v2/silences", &[], &silence("nobody", "x"))
                    .await
                    .0,
                404
            );
            let no_id = [("silenceID", "nobody")];
            let (status, _) = ask(&app, Method::GET, "/api/v2/silence/{silenceID}", &no_id, "").await;
            assert_eq!(status, 422);
            let (status, _) = ask(&app, Method::POST, "/api/v2/silences", &[], "{}").await;
            assert_eq!(status, 422);
            let (_, expired) = ask(&app, Method::GET, "/api/v2/silences?active=false", &[], "").await;
            assert_eq!(expired[0]["status"]["state"], "expired");
            assert_eq!(
                ask(&app, Method::GET, "/api/v2/silences?expired=maybe", &[], "")
                    .await
                    .0,
                400
            );
        })
        .await;
    }
}
