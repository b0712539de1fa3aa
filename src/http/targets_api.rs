//! What the built-in agent scrapes: `/api/v1/targets`, `/api/v1/scrape_pools`, `/api/v1/targets/relabel_steps`.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::ApiError;
use super::params::Params;
use super::route::{Call, Route, Scope};

/// What is scraped, in Prometheus's shapes. `server` implements it over the agent.
pub trait TargetsView: Send + Sync {
    /// Returns targets of a state (`active`, `dropped`, `any`), of one pool or of all.
    fn targets(&self, state: &str, pool: Option<&str>) -> Value;

    /// Returns the names of the pools.
    fn pools(&self) -> Vec<String>;

    /// Returns what each rule of a pool makes of discovered labels.
    ///
    /// # Errors
    /// That there is no such pool.
    fn relabel_steps(&self, pool: &str, labels: &BTreeMap<String, String>) -> Result<Value, String>;
}

macro_rules! row {
    ($path:literal, $handler:expr) => {
        Route {
            method: Method::GET,
            path: $path,
            scope: Scope::Query,
            body_bytes_max: 0,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

pub(super) static ROUTES: &[Route] = &[
    row!("/api/v1/targets", targets),
    row!("/api/v1/scrape_pools", pools),
    row!("/api/v1/targets/relabel_steps", relabel_steps),
];

fn answer(data: Value) -> Response {
    let body = json!({"status": "success", "data": data});
    let json_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json_type, body.to_string()).into_response()
}

async fn targets(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let state = params.get("state").unwrap_or("any");
    // Prometheus takes a state that it does not know for `any`.
    let state = if matches!(state, "active" | "dropped") {
        state
    } else {
        "any"
    };
    Ok(answer(call.app.targets.targets(state, params.get("scrapePool"))))
}

async fn pools(call: Call) -> Result<Response, ApiError> {
    Ok(answer(json!({"scrapePools": call.app.targets.pools()})))
}

async fn relabel_steps(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let missing = |name: &str| ApiError::BadData(format!("no {name} parameter provided"));
    let pool = params.get("scrapePool").ok_or_else(|| missing("scrapePool"))?;
    let labels = params.get("labels").ok_or_else(|| missing("labels"))?;
    let labels: BTreeMap<String, String> =
        serde_json::from_str(labels).map_err(|error| ApiError::BadData(format!("labels: {error}")))?;
    call.app
        .targets
        .relabel_steps(pool, &labels)
        .map(answer)
        .map_err(ApiError::NotFound)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::http::App;
    use axum::body::Body;
    use axum::http::Request;

    /// Nothing is scraped.
    pub(in crate::http) struct NoTargets;

    impl TargetsView for NoTargets {
        fn targets(&self, state: &str, pool: Option<&str>) -> Value {
            json!({"state": state, "pool": pool})
        }

        fn pools(&self) -> Vec<String> {
            Vec::new()
        }

        fn relabel_steps(&self, pool: &str, _: &BTreeMap<String, String>) -> Result<Value, String> {
            Err(format!("scrape pool {pool:?} not found"))
        }
    }

    async fn get(target: &str) -> (u16, String) {
        let request = Request::get(target).body(Body::empty()).unwrap();
        let path = target.split('?').next().unwrap();
        let row = ROUTES.iter().find(|row| row.path == path).unwrap();
        let answer = (row.handler)(Call::test(App::test(), &[], request)).await;
        let response = answer.unwrap_or_else(IntoResponse::into_response);
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn parameters_are_read_as_prometheus_reads_them() {
        let (_, text) = get("/api/v1/targets?state=active&scrapePool=a").await;
        assert!(text.contains(r#""state":"active","pool":"a""#), "{text}");
        assert!(get("/api/v1/targets?state=x").await.1.contains(r#""state":"any""#));
        assert_eq!(
            get("/api/v1/scrape_pools").await.1,
            r#"{"status":"success","data":{"scrapePools":[]}}"#
        );
        assert_eq!(get("/api/v1/targets/relabel_steps?scrapePool=a").await.0, 400);
        assert_eq!(
            get("/api/v1/targets/relabel_steps?scrapePool=a&labels=%7B%7D").await.0,
            404
        );
    }
}
