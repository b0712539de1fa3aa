//! The doors of everyone who does not speak remote write: text, JSON lines, and InfluxDB's line protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::ApiError;
use super::route::{Call, Route, Scope};
use super::write_api::{Arrival, BODY_BYTES_MAX, answer, encoding, text_header};
use crate::ingest::influx::{self, Precision, Reading};
use crate::ingest::text::{self, TextFormat};
use crate::ingest::{DecodeError, Intake, Protocol, json_lines};
use crate::model::{Labels, Millis};

/// The version of InfluxDB whose protocol is spoken: some senders refuse a server without one.
const INFLUX_VERSION: &str = "1.8.10";

macro_rules! row {
    ($method:ident $path:literal, $scope:ident, $bytes:expr, $handler:expr) => {
        Route {
            method: Method::$method,
            path: $path,
            scope: Scope::$scope,
            body_bytes_max: $bytes,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

pub(super) static ROUTES: &[Route] = &[
    row!(POST "/api/v1/import", Write, BODY_BYTES_MAX, import_json),
    row!(POST "/api/v1/import/prometheus", Write, BODY_BYTES_MAX, import_text),
    row!(POST "/write", Write, BODY_BYTES_MAX, influx_write),
    row!(POST "/api/v2/write", Write, BODY_BYTES_MAX, influx_write),
    row!(POST "/query", Write, 64 << 10, influx_query),
    row!(GET "/ping", Public, 0, influx_ping),
    row!(GET "/health", Public, 0, influx_health),
    row!(GET "/ready", Public, 0, influx_ready),
    // Where VictoriaMetrics has them: some senders are configured for that.
    row!(POST "/influx/write", Write, BODY_BYTES_MAX, influx_write),
    row!(POST "/influx/api/v2/write", Write, BODY_BYTES_MAX, influx_write),
    row!(POST "/influx/query", Write, 64 << 10, influx_query),
    row!(GET "/influx/ping", Public, 0, influx_ping),
    row!(GET "/influx/health", Public, 0, influx_health),
];

/// JSON lines: one series a line.
async fn import_json(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let arrival = Arrival::of(&call, Protocol::JsonLines);
    let parameters = Parameters::of(&call);
    let (encoding, extra) = parameters
        .only(&["extra_label"])
        .and_then(|()| Ok((encoding(call.request.headers())?, parameters.extra_labels()?)))
        .map_err(|error| arrival.refused(error))?;
    let decode = move |body: Bytes, intake: &Intake| json_lines::decode(&body, &extra, intake.seed(), intake.limits());
    let taken = arrival.take(encoding, body, decode).await?;
    Ok(answer(&taken.report, StatusCode::NO_CONTENT))
}

/// Text, as `/metrics` pages have it: what a shell script sends with `curl --data-binary`.
async fn import_text(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let arrival = Arrival::of(&call, Protocol::PrometheusText);
    let headers = call.request.headers();
    let parameters = Parameters::of(&call);
    let format = TextFormat::from_content_type(text_header(headers, header::CONTENT_TYPE));
    let (encoding, extra, now) = parameters
        .only(&["extra_label", "timestamp"])
        .and_then(|()| {
            Ok((
                encoding(headers)?,
                parameters.extra_labels()?,
                parameters.timestamp(arrival.intake.now())?,
            ))
        })
        .map_err(|error| arrival.refused(error))?;
    let decode =
        move |body: Bytes, intake: &Intake| text::decode(&body, format, &extra, now, intake.seed(), intake.limits());
    let taken = arrival.take(encoding, body, decode).await?;
    Ok(answer(&taken.report, StatusCode::NO_CONTENT))
}

/// Versions 1 and 2 of InfluxDB's write; organisation, bucket and retention policy have no counterpart here.
async fn influx_write(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let arrival = Arrival::of(&call, Protocol::Influx);
    let parameters = Parameters::of(&call);
    let (encoding, precision) = encoding(call.request.headers())
        .and_then(|encoding| Ok((encoding, Precision::from_parameter(parameters.get("precision"))?)))
        .map_err(|error| arrival.refused(error))?;
    let extra = Labels::from_pairs(parameters.get("db").map(|db| ("db", db)));
    let now = arrival.intake.now();
    let reading = Reading { precision, extra, now };
    let strings = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&strings);
    let decode =
        move |body: Bytes, intake: &Intake| influx::decode(&body, &reading, &counted, intake.seed(), intake.limits());
    let taken = arrival.take(encoding, body, decode).await?;
    let mut response = answer(&taken.report, StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert("x-influxdb-version", HeaderValue::from_static(INFLUX_VERSION));
    let strings = strings.load(Relaxed);
    if strings > 0 {
        // Text is no sample; the sender's success says how much of it was left out.
        headers.insert("x-influxdb-skipped-strings", strings.into());
    }
    Ok(response)
}

/// Telegraf and others create their database first; there is one, and it is here already.
async fn influx_query(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let form = Parameters::read(&String::from_utf8_lossy(&body));
    let url = Parameters::of(&call);
    let statement = url.get("q").or_else(|| form.get("q")).unwrap_or("").trim();
    let words: Vec<String> = statement
        .split_whitespace()
        .take(2)
        .map(str::to_ascii_uppercase)
        .collect();
    if words != ["CREATE", "DATABASE"] {
        return Err(ApiError::BadData(format!(
            "{statement:?} is not answered: this path takes only CREATE DATABASE, queries go to /api/v1/query"
        )));
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, "{\"results\":[{\"statement_id\":0}]}\n").into_response())
}

async fn influx_ping(_call: Call) -> Result<Response, ApiError> {
    let version = [("x-influxdb-version", INFLUX_VERSION)];
    Ok((StatusCode::NO_CONTENT, version).into_response())
}

async fn influx_ready(_call: Call) -> Result<Response, ApiError> {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, r#"{"status":"ready"}"#).into_response())
}

async fn influx_health(_call: Call) -> Result<Response, ApiError> {
    let body = serde_json::json!({
        "name": "campanile",
        "message": "ready for queries and writes",
        "status": "pass",
        "checks": [],
        "version": INFLUX_VERSION,
    });
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, body.to_string()).into_response())
}

/// Decoded parameters of a URL or a form.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(call: &Call) -> Parameters {
        Parameters::read(call.request.uri().query().unwrap_or(""))
    }

    fn read(text: &str) -> Parameters {
        Parameters(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// Refuses parameters that would be ignored.
    fn only(&self, known: &[&str]) -> Result<(), DecodeError> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(DecodeError::Malformed(format!(
                "parameter {name:?} is not known here, only {}",
                known.join(", ")
            ))),
        }
    }

    /// Reads `extra_label=name=value`, any number of them: labels for series that have not got them.
    fn extra_labels(&self) -> Result<Labels, DecodeError> {
        let given = self.0.iter().filter(|(name, _)| name == "extra_label");
        let pairs: Result<Vec<(&str, &str)>, DecodeError> = given
            .map(|(_, pair)| match pair.split_once('=') {
                Some((name, value)) if !name.is_empty() => Ok((name, value)),
                _ => Err(DecodeError::Malformed(format!(
                    "extra_label {pair:?} is not name=value"
                ))),
            })
            .collect();
        Ok(Labels::from_pairs(pairs?))
    }

    /// Reads `timestamp`, in milliseconds: the time of lines that have none.
    fn timestamp(&self, now: Millis) -> Result<Millis, DecodeError> {
        match self.get("timestamp") {
            None => Ok(now),
            Some(text) => text
                .parse()
                .map(Millis)
                .map_err(|_| DecodeError::Malformed(format!("timestamp {text:?} is not a number of milliseconds"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;

    use super::*;
    use crate::http::App;
    use crate::ingest::IngestLimits;
    use crate::io::SimClock;
    use crate::model::TimeRange;
    use crate::storage::{LiteralStore, Querier};

    /// Posts `body` to the route of `target`'s path; returns status, text and the series stored.
    async fn post(target: &str, body: &str) -> (u16, String, Vec<String>) {
        let store = LiteralStore::new();
        let clock = Arc::new(SimClock::at(Millis(1_000_000)));
        let app = App {
            intake: Arc::new(Intake::new(Arc::new(store.clone()), clock, 7, IngestLimits::default())),
            ..App::test()
        };
        let request = Request::post(target).body(Body::from(body.to_owned())).unwrap();
        let path = target.split('?').next().unwrap();
        let row = ROUTES
            .iter()
            .find(|row| row.path == path && row.method == Method::POST)
            .unwrap();
        let answer = (row.handler)(Call::test(app, &[], request)).await;
        let response = answer.unwrap_or_else(IntoResponse::into_response);
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let stored = store.series(&[], TimeRange::ALL).unwrap();
        let stored = stored.iter().map(ToString::to_string).collect();
        (status, String::from_utf8(bytes.to_vec()).unwrap(), stored)
    }

    #[tokio::test]
    async fn each_door_takes_its_format() {
        for (target, body, expected) in [
            (
                "/api/v1/import/prometheus?extra_label=job%3Dcron",
                "temp{room=\"a\"} 21\n",
                r#"temp{job="cron", room="a"}"#,
            ),
            (
                "/api/v1/import",
                r#"{"metric":{"__name__":"up"},"values":[1],"timestamps":[5]}"#,
                "up",
            ),
            (
                "/write?db=telegraf&precision=s",
                "cpu,host=a idle=1 5",
                r#"cpu_idle{db="telegraf", host="a"}"#,
            ),
            ("/api/v2/write?org=o&bucket=b&precision=ms", "cpu idle=1 5", "cpu_idle"),
        ] {
            assert_eq!(
                post(target, body).await,
                (204, String::new(), vec![expected.to_owned()]),
                "{target}"
            );
        }
    }

    #[tokio::test]
    async fn good_lines_are_kept_and_bad_ones_named() {
        let (status, text, stored) = post("/api/v1/import/prometheus", "up 1\nbad\nahead 1 9999999999\n").await;
        assert_eq!((status, stored), (400, vec!["up".to_owned()]));
        assert!(
            text.contains("line 2") && text.contains("2 samples refused, 1 samples"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn what_would_be_ignored_is_refused() {
        for (target, expected) in [
            (
                "/api/v1/import/prometheus?extra_labels=a",
                "\\\"extra_labels\\\" is not known",
            ),
            ("/api/v1/import?extra_label=a", "is not name=value"),
            (
                "/api/v1/import/prometheus?timestamp=now",
                "not a number of milliseconds",
            ),
            ("/write?precision=y", "precision"),
            ("/query?q=SHOW+DATABASES", "only CREATE DATABASE"),
        ] {
            let (status, text, _) = post(target, "").await;
            assert_eq!(status, 400, "{target}");
            assert!(text.contains(expected), "{target}: {text}");
        }
    }

    #[tokio::test]
    async fn a_database_is_there_already() {
        let (status, text, _) = post("/query", "q=CREATE+DATABASE+%22telegraf%22").await;
        assert_eq!((status, text.as_str()), (200, "{\"results\":[{\"statement_id\":0}]}\n"));
    }
}
