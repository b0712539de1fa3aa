//! Dashboards over HTTP: the list, one of them, its text; a try of a text, and saving it where the server allows it.

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::route::{DoorCall, Route, Scope};
use super::{ApiError, body};
use crate::io::BoxFuture;
use crate::model::yaml::YamlError;
use crate::ui::{Entry, read_dashboard};

/// The most bytes of a dashboard's text; Grafana's largest have a few hundred KiB.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// The most bytes of a dashboard's name.
const NAME_BYTES_MAX: usize = 64;

/// Where dashboards that were written in the browser go. `server` implements it.
pub trait DashboardFolder: Send + Sync {
    /// Returns the folder, `None` when nothing is saved here.
    fn folder(&self) -> Option<String>;

    /// Writes the dashboard of that name, durably, and puts it into force. `before` is the text that its writer began with,
    /// `None` for a new one.
    ///
    /// # Errors
    /// Why it was not saved; the second kind is the writer's to mend: somebody else has saved it meanwhile.
    fn save(&self, name: String, text: String, before: Option<String>) -> BoxFuture<'_, Result<(), NotSaved>>;
}

/// Why a dashboard was not saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSaved {
    /// This server saves none.
    ReadOnly,
    /// There is another one under the name than its writer began with.
    Changed,
    /// The disk's answer.
    Failed(String),
}

const fn get(path: &'static str, handler: super::route::Handler<DoorCall>) -> Route<DoorCall> {
    Route {
        method: Method::GET,
        path,
        scope: Scope::Query,
        body_bytes_max: 0,
        handler,
    }
}

pub(super) static ROUTES: &[Route<DoorCall>] = &[
    get("/api/v1/dashboards", |call| Box::pin(async move { list(&call) })),
    get("/api/v1/dashboards/{name}", |call| Box::pin(async move { one(&call) })),
    get("/api/v1/dashboards/{name}/source", |call| {
        Box::pin(async move { source(&call) })
    }),
    // Nothing changes by it: it says what a text would be.
    Route {
        method: Method::POST,
        path: "/api/v1/dashboards/preview",
        scope: Scope::Query,
        body_bytes_max: TEXT_BYTES_MAX,
        handler: |call| Box::pin(preview(call)),
    },
    Route {
        method: Method::PUT,
        path: "/api/v1/dashboards/{name}",
        scope: Scope::Admin,
        body_bytes_max: TEXT_BYTES_MAX,
        handler: |call| Box::pin(save(call)),
    },
];

fn success(data: &Value) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (
        StatusCode::OK,
        json,
        json!({"status": "success", "data": data}).to_string(),
    )
        .into_response()
}

fn list(call: &DoorCall) -> Result<Response, ApiError> {
    Ok(success(&json!(call.door.dashboards.load().summaries())))
}

fn found<T>(call: &DoorCall, make: impl FnOnce(&Entry) -> T) -> Result<T, ApiError> {
    let name = call.param("name");
    let dashboards = call.door.dashboards.load();
    let entry = dashboards.entry(name);
    entry
        .map(make)
        .ok_or_else(|| ApiError::NotFound(format!("there is no dashboard {name}")))
}

fn one(call: &DoorCall) -> Result<Response, ApiError> {
    found(call, |entry| success(&json!(entry.dashboard)))
}

fn source(call: &DoorCall) -> Result<Response, ApiError> {
    let folder = call.door.dashboard_folder.folder();
    found(call, |entry| {
        success(&json!({
            "file": entry.file,
            "grafana": entry.is_foreign(),
            "yaml": entry.yaml(),
            "revision": revision(&entry.text),
            "folder": folder,
        }))
    })
}

fn revision(text: &str) -> String {
    Sha256::digest(text)[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    text: String,
    /// The text is Grafana's JSON.
    #[serde(default)]
    grafana: bool,
    /// What the writer began with; absent for a new dashboard.
    revision: Option<String>,
}

async fn sent(call: &mut DoorCall) -> Result<Sent, ApiError> {
    body::expect_json(call.request.headers())?;
    let request = std::mem::take(call.request.body_mut());
    let door = &call.door;
    let (bytes, _memory) = body::read(request, TEXT_BYTES_MAX, &*door.clock, &door.limits, &door.bodies).await?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::BadData(format!("parsing what was sent failed: {error}")))
}

fn mistake(error: &YamlError) -> ApiError {
    ApiError::BadQuery {
        message: error.to_string(),
        hint: error.with_snippet(),
    }
}

/// Reads a text as a dashboard and answers with it, and with the YAML of a foreign one.
async fn preview(mut call: DoorCall) -> Result<Response, ApiError> {
    let sent = sent(&mut call).await?;
    let file = if sent.grafana {
        "dashboard.json"
    } else {
        "dashboard.yaml"
    };
    let dashboard = read_dashboard(file, &sent.text).map_err(|error| mistake(&error))?;
    let yaml = if sent.grafana {
        crate::ui::to_yaml(&dashboard)
    } else {
        sent.text
    };
    Ok(success(&json!({"dashboard": dashboard, "yaml": yaml})))
}

async fn save(mut call: DoorCall) -> Result<Response, ApiError> {
    let name = call.param("name").to_owned();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) || name == "preview" {
        let text = format!("{name:?} is no name for a dashboard: a-z, 0-9, `-`, `_`, at most {NAME_BYTES_MAX}");
        return Err(ApiError::BadData(text));
    }
    let sent = sent(&mut call).await?;
    read_dashboard(&format!("{name}.yaml"), &sent.text).map_err(|error| mistake(&error))?;
    let before = call.door.dashboards.load().entry(&name).map(|entry| entry.text.clone());
    if before.as_deref().map(revision) != sent.revision {
        return Err(changed(&name));
    }
    match call.door.dashboard_folder.save(name.clone(), sent.text, before).await {
        Ok(()) => {
            tracing::info!(name, "a dashboard was saved");
            Ok(success(&json!({"name": name})))
        }
        Err(NotSaved::ReadOnly) => Err(ApiError::Forbidden(
            "dashboards are not saved on this server: the configuration names no `dashboards_folder`".to_owned(),
        )),
        Err(NotSaved::Changed) => Err(changed(&name)),
        Err(NotSaved::Failed(reason)) => Err(ApiError::Unavailable(format!("the dashboard was not saved: {reason}"))),
    }
}

fn changed(name: &str) -> ApiError {
    ApiError::BadData(format!(
        "the dashboard {name} is another one by now, or exists already: open it anew, or choose another name"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;

    use super::super::Limits;
    use super::super::door::tests::door;
    use super::*;

    async fn ask(method: Method, path: &str, name: &str, body: Value) -> (u16, String) {
        let row = ROUTES
            .iter()
            .find(|row| row.method == method && row.path == path)
            .unwrap();
        let request = Request::builder().header(header::CONTENT_TYPE, "application/json");
        let call = DoorCall {
            door: Arc::clone(&door(Limits::default())),
            params: vec![("name".to_owned(), name.to_owned())],
            request: request.body(Body::from(body.to_string())).unwrap(),
        };
        match (row.handler)(call).await {
            Ok(response) => {
                let bytes = response.into_body().collect().await.unwrap().to_bytes();
                (200, String::from_utf8(bytes.to_vec()).unwrap())
            }
            Err(error) => (error.into_response().status().as_u16(), String::new()),
        }
    }

    #[tokio::test]
    async fn a_dashboard_is_shown_with_its_text() {
        let (status, text) = ask(Method::GET, "/api/v1/dashboards/{name}/source", "host", Value::Null).await;
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &json["data"]["file"]), (200, &json!("builtin:host.yaml")));
        assert_eq!(json["data"]["yaml"], include_str!("../../dashboards/host.yaml"));
        assert_eq!(
            ask(Method::GET, "/api/v1/dashboards/{name}", "nobody", Value::Null)
                .await
                .0,
            404
        );
    }

    #[tokio::test]
    async fn a_text_is_tried_without_being_saved() {
        let path = "/api/v1/dashboards/preview";
        let good = json!({"text": "title: T\nrows:\n- panels:\n  - {query: up}"});
        let (status, text) = ask(Method::POST, path, "", good).await;
        assert!(status == 200 && text.contains("\"timeseries\""), "{text}");
        let grafana = json!({"text": "{\"title\": \"G\", \"panels\": []}", "grafana": true});
        let (status, text) = ask(Method::POST, path, "", grafana).await;
        assert!(status == 200 && text.contains("title: G\\n"), "{text}");
        assert_eq!(ask(Method::POST, path, "", json!({"text": "titel: T"})).await.0, 400);
    }

    #[tokio::test]
    async fn only_plain_names_of_the_present_text_are_saved_and_only_where_it_is_allowed() {
        let path = "/api/v1/dashboards/{name}";
        let text = "title: T\nrows: []";
        let fresh = json!({"text": text});
        assert_eq!(ask(Method::PUT, path, "../x", fresh.clone()).await.0, 400);
        assert_eq!(ask(Method::PUT, path, "host", fresh.clone()).await.0, 400);
        assert_eq!(ask(Method::PUT, path, "mine", json!({"text": "title: T"})).await.0, 400);
        assert_eq!(ask(Method::PUT, path, "mine", fresh).await.0, 403);
    }
}
