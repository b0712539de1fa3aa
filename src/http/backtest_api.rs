//! `POST /api/v1/backtest`: which alerts rules would have raised over what is stored, and which pages would have gone out.

use std::path::Path;

use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiError;
use super::params::parse_time;
use super::query_api::until;
use super::route::{Call, Route, Scope};
use crate::alertmanager::{Config, Rehearsal, RehearsedPage};
use crate::io::disk::SimDisk;
use crate::model::{Interval, Millis};
use crate::query::float::go_float;
use crate::query::{Fits, QueryOptions};
use crate::rules::{Backtest, Backtested, RuleFile, RuleFileSource};

/// The most bytes of rules and routing.
const BODY_BYTES_MAX: usize = 4 << 20;
/// The longest that one backtest takes.
const TIMEOUT: Interval = Interval::secs(110);
/// The most memory for what its detectors learn.
const FITS_BYTES_MAX: usize = 32 << 20;
/// How long after the last evaluation pages may still go out.
const AFTERMATH: Interval = Interval::hours(1);

pub(super) static ROUTES: &[Route] = &[Route {
    method: Method::POST,
    path: "/api/v1/backtest",
    scope: Scope::Query,
    body_bytes_max: BODY_BYTES_MAX,
    handler: |call| Box::pin(backtest(call)),
}];

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Rule files.
    rules: Vec<File>,
    /// The first evaluation: seconds since the epoch, or RFC 3339.
    from: String,
    /// No evaluation is later.
    to: String,
    /// The interval of groups that name none; the server's when absent.
    interval: Option<Interval>,
    /// Alertmanager's file; the server's own routing when absent.
    alertmanager: Option<String>,
    /// Whether what the rules would have recorded is wanted, too.
    #[serde(default)]
    series: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: String,
    text: String,
}

async fn backtest(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let asked: Asked =
        serde_json::from_slice(&body).map_err(|error| bad(format!("the body is no backtest: {error}")))?;
    let at = |name: &str, text: &str| parse_time(text).map_err(|error| bad(format!("{name}: {error}")));
    let (from, to) = (at("from", &asked.from)?, at("to", &asked.to)?);
    let mut groups = Vec::new();
    for File { path, text } in asked.rules {
        let file = RuleFile::read(&RuleFileSource {
            path: path.clone(),
            text,
        })
        .map_err(|error| bad(error.to_string()))?;
        groups.extend(file.groups.into_iter().map(|group| (path.clone(), group)));
    }
    if groups.is_empty() {
        return Err(bad("there is no group of rules in these files".to_owned()));
    }
    let mut settings = call.app.rules.settings().clone();
    settings.interval = asked.interval.unwrap_or(settings.interval);
    let rehearsal = match &asked.alertmanager {
        // What a request brings along reads no file of the server's.
        Some(text) => {
            let config = Config::parse(&SimDisk::seeded(0), "alertmanager.yml", text, Path::new("/"));
            Rehearsal::new(config.map_err(|error| bad(error.to_string()))?, from)
        }
        None => call.app.alertmanager.rehearse(from),
    };
    let test = Backtest {
        groups,
        querier: std::sync::Arc::clone(&call.app.querier),
        options: QueryOptions {
            interrupt: until(&call.app.clock, TIMEOUT),
            fits: Fits::of_bytes(FITS_BYTES_MAX),
            ..call.app.query_options.clone()
        },
        settings,
        from,
        to,
    };
    let tested = test.run().await.map_err(bad)?;
    let pages = rehearse(rehearsal, &tested, to);
    Ok(answer(&tested, &pages, asked.series))
}

fn bad(text: String) -> ApiError {
    ApiError::BadData(text)
}

fn rehearse(mut rehearsal: Rehearsal, tested: &Backtested, to: Millis) -> Vec<RehearsedPage> {
    for (at, alerts) in &tested.handed {
        rehearsal.receive(*at, alerts.clone());
    }
    rehearsal.finish(to + AFTERMATH)
}

fn answer(tested: &Backtested, pages: &[RehearsedPage], series: bool) -> Response {
    let alerts = tested.transitions.iter().map(|change| {
        json!({
            "at": change.transition.at.to_string(),
            "group": change.group,
            "rule": change.rule,
            "to": change.transition.change,
            "labels": change.transition.labels,
            "value": go_float(change.transition.value),
        })
    });
    let pages = pages.iter().map(|page| {
        json!({
            "at": page.at.to_string(),
            "receiver": page.receiver,
            "kind": page.kind,
            "group": page.group,
            "reason": page.reason,
            "firing": page.firing,
            "resolved": page.resolved,
        })
    });
    let mut data = json!({
        "evaluations": tested.evaluations,
        "alerts": alerts.collect::<Vec<Value>>(),
        "pages": pages.collect::<Vec<Value>>(),
        "errors": tested.errors,
    });
    if series {
        let recorded = tested.recorded.iter().map(|(labels, samples)| {
            let values = samples
                .iter()
                .map(|sample| json!([sample.at.as_secs_f64(), go_float(sample.value)]));
            json!({"metric": labels, "values": values.collect::<Vec<Value>>()})
        });
        data["series"] = recorded.collect();
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json, json!({"status": "success", "data": data}).to_string()).into_response()
}
