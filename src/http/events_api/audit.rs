//! Counts under examination: recalculation, reconciliation, proof, reports; and forgetting people.

use std::sync::Arc;

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::params::{Params, invalid};
use super::super::{ApiError, body, route::Call};
use super::{ads, edge};
use crate::events::{self, AuditError, Domain, Events, Field, Person, ReportQuestion, Request};
use crate::model::Millis;

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> ApiError {
        let text = error.to_string();
        match error {
            AuditError::Asked(_) => ApiError::BadData(text),
            AuditError::Busy | AuditError::Moved => ApiError::Overloaded(text),
            AuditError::Raw(crate::events::RawError::Limit(_)) => {
                ApiError::Storage(crate::storage::StorageError::Limit(text))
            }
            AuditError::Question(error) => error.into(),
            AuditError::Raw(_) | AuditError::Events(_) => ApiError::Internal(text),
        }
    }
}

/// Does work that blocks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuditError> + Send + 'static,
) -> Result<T, ApiError> {
    let joined = tokio::task::spawn_blocking(work).await;
    Ok(joined.map_err(|error| ApiError::Internal(format!("the work ended badly: {error}")))??)
}

fn success(data: Value) -> Response {
    let body = json!({"status": "success", "data": data}).to_string();
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (StatusCode::OK, json, body).into_response()
}

fn parts(call: &Call) -> Result<Arc<Events>, ApiError> {
    ads::events(call)
}

async fn read<T: serde::de::DeserializeOwned>(call: &mut Call) -> Result<T, ApiError> {
    body::expect_json(call.request.headers())?;
    let bytes = call.body().await?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::BadData(format!("malformed JSON: {error}")))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Recalculate {
    Back { rollback: String },
    Again(Request),
}

/// `POST /api/v1/recalc`: `{"from", "to", "apply"}` or `{"rollback": id}`.
pub(super) async fn recalc(mut call: Call) -> Result<Response, ApiError> {
    let asked: Recalculate = read(&mut call).await?;
    let (events, checker) = (parts(&call)?, edge(&call)?.checker.load_full());
    let now = call.app.clock.now();
    let found = blocking(move || match asked {
        Recalculate::Back { rollback } => events::roll_back(&events, &rollback, now),
        Recalculate::Again(asked) => events::recalculate(&events, &checker, asked, now),
    });
    Ok(success(json!(found.await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: Millis,
    to: Millis,
}

/// `POST /api/v1/reconcile`: `{"from", "to"}`; GET lists the last results.
pub(super) async fn reconcile(mut call: Call) -> Result<Response, ApiError> {
    let events = parts(&call)?;
    if *call.request.method() != Method::POST {
        return Ok(success(json!({"reconciliations": events::reconciliations(&events)})));
    }
    let range: Range = read(&mut call).await?;
    let now = call.app.clock.now();
    let found = blocking(move || events::reconcile(&events, range.from, range.to, now)).await?;
    Ok(success(json!(found)))
}

/// `GET /api/v1/prove?from&to&metric&domain&…`: a count, and the statement that counts it again.
pub(super) async fn prove(mut call: Call) -> Result<Response, ApiError> {
    let (question, metric) = ads::prove_question(&mut call).await?;
    let events = parts(&call)?;
    let proof = blocking(move || events::prove(&events, &question, metric)).await?;
    Ok(success(json!(proof)))
}

#[derive(Clone, Copy)]
enum Form {
    Json,
    Csv,
    Parquet,
}

pub(super) async fn report_json(call: Call) -> Result<Response, ApiError> {
    report(call, Form::Json).await
}

pub(super) async fn report_csv(call: Call) -> Result<Response, ApiError> {
    report(call, Form::Csv).await
}

pub(super) async fn report_parquet(call: Call) -> Result<Response, ApiError> {
    report(call, Form::Parquet).await
}

/// `GET /api/v1/report.{json,csv,parquet}?from&to&by=ad_id&…`.
async fn report(mut call: Call, form: Form) -> Result<Response, ApiError> {
    let (question, by) = ads::report_question(&mut call).await?;
    let group_min = edge(&call)?.checker.load().config().privacy.group_min;
    let events = parts(&call)?;
    let asked = ReportQuestion {
        question,
        by,
        group_min,
    };
    let report = blocking(move || events::report(&events, &asked)).await?;
    let (kind, bytes) = match form {
        Form::Json => return Ok(success(json!({"rows": report.json()}))),
        Form::Csv => ("text/csv; charset=utf-8", report.csv().into_bytes()),
        Form::Parquet => (
            "application/vnd.apache.parquet",
            report.parquet().map_err(ApiError::Internal)?,
        ),
    };
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}

/// The field that a report is by, and what it is about.
pub(super) fn report_by(params: &Params) -> Result<(Field, Domain), ApiError> {
    let by = params.get("by").unwrap_or("ad_id");
    let by = Field::from_name(by).ok_or_else(|| invalid("by", "is no field of events"))?;
    let domain = match params.get("domain").unwrap_or("ads") {
        "ads" => Domain::Ads,
        "web" => Domain::Web,
        _ => return Err(invalid("domain", "is ads or web")),
    };
    Ok((by, domain))
}

/// `POST /api/v1/privacy/erase`: `{"user_id"}` or `{"ip", "from", "to"}`; GET lists the receipts.
pub(super) async fn erase(mut call: Call) -> Result<Response, ApiError> {
    let events = parts(&call)?;
    if *call.request.method() != Method::POST {
        return Ok(success(json!({"receipts": events::receipts(&events)})));
    }
    let person: Person = read(&mut call).await?;
    let keys = Arc::clone(edge(&call)?.checker.load().keys());
    let now = call.app.clock.now();
    let receipt = blocking(move || events::erase(&events, &keys, &person, now)).await?;
    Ok(success(json!(receipt)))
}

/// `POST /api/v1/privacy/export`: the events of somebody, as lines of JSON.
pub(super) async fn export(mut call: Call) -> Result<Response, ApiError> {
    let events = parts(&call)?;
    let person: Person = read(&mut call).await?;
    let keys = Arc::clone(edge(&call)?.checker.load().keys());
    let rows = blocking(move || events::export(&events, &keys, &person)).await?;
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}
