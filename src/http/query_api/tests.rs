//! The query API as a client sees it: requests in, JSON out, over a literal store.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::*;
use crate::http::{App, Call};
use crate::io::SimClock;
use crate::model::{Labels, Millis};
use crate::storage::LiteralStore;

fn app() -> App {
    let store = LiteralStore::new();
    for (job, base) in [("a", 1.0), ("b", 10.0)] {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", job), ("dotted.name", "x")]);
        for i in 0..10 {
            store.put(&labels, Millis(i * 60_000), base + i as f64);
        }
    }
    App {
        querier: Arc::new(store),
        clock: Arc::new(SimClock::at(Millis(540_000))),
        ..App::test()
    }
}

async fn raw(method: &Method, path: &str, query: &str, params: &[(&str, &str)]) -> (u16, String) {
    let row = ROUTES
        .iter()
        .find(|row| row.path == path && row.method == *method)
        .expect("the path is routed");
    let request = if *method == Method::POST {
        let form = "application/x-www-form-urlencoded";
        Request::post(path)
            .header(header::CONTENT_TYPE, form)
            .body(Body::from(query.to_owned()))
    } else {
        Request::get(format!("{path}?{query}").replace(['{', '}'], "")).body(Body::empty())
    };
    let call = Call::test(app(), params, request.unwrap());
    let response = (row.handler)(call).await.unwrap_or_else(IntoResponse::into_response);
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn ask(path: &str, query: &str) -> (u16, Value) {
    let (status, text) = raw(&Method::GET, path, query, &[]).await;
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn a_data_source_is_tested_by_one_plus_one_at_four_seconds() {
    for method in [Method::GET, Method::POST] {
        let (status, text) = raw(&method, "/api/v1/query", "query=1%2B1&time=4", &[]).await;
        let expected = r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#;
        assert_eq!((status, text.as_str()), (200, expected));
    }
}

#[tokio::test]
async fn values_are_answered_at_one_time_and_over_a_range() {
    let (_, value) = ask("/api/v1/query", "query=up%7Bjob%3D%22a%22%7D").await;
    assert_eq!(value["data"]["result"][0]["value"], json!([540, "10"]));
    let (_, value) = ask("/api/v1/query_range", "query=sum(up)&start=0&end=120&step=1m").await;
    assert_eq!(
        value["data"],
        json!({"resultType": "matrix", "result": [{"metric": {}, "values": [[0, "11"], [60, "13"], [120, "15"]]}]})
    );
}

#[tokio::test]
async fn a_limit_cuts_and_says_so() {
    let (_, value) = ask("/api/v1/query", "query=up&limit=1&stats=all").await;
    assert_eq!(value["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(value["warnings"], json!(["results truncated due to limit"]));
    assert!(value["data"]["stats"]["samples"]["totalQueryableSamples"].is_u64());
    let (_, value) = ask("/api/v1/labels", "limit=40000").await;
    assert_eq!(
        (&value["data"], &value["warnings"]),
        (&json!(["__name__", "dotted.name", "job"]), &Value::Null)
    );
}

#[tokio::test]
async fn what_cannot_be_answered_says_which_parameter_is_wrong() {
    for (path, query, status, error) in [
        (
            "/api/v1/query",
            "query=up%7B",
            400,
            "invalid parameter \"query\": 1:4: parse error: unexpected end of input inside braces",
        ),
        (
            "/api/v1/query",
            "query=up&time=x",
            400,
            "invalid parameter \"time\": cannot parse \"x\" to a valid timestamp",
        ),
        (
            "/api/v1/query",
            "query=%ff",
            400,
            "invalid parameter \"query\": invalid UTF-8 rune",
        ),
        (
            "/api/v1/query_range",
            "query=up&start=1&end=0&step=1",
            400,
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "/api/v1/query_range",
            "query=up&start=0&end=1&step=0",
            400,
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            "/api/v1/query_range",
            "query=up&start=0&end=11001&step=1",
            400,
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "/api/v1/query_range",
            "query=up[5m]&start=0&end=1&step=1",
            400,
            "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        ("/api/v1/series", "", 400, "no match[] parameter provided"),
        (
            "/api/v1/series",
            "match[]=%7B%7D",
            400,
            "invalid parameter \"match[]\": 1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
    ] {
        let (got, value) = ask(path, query).await;
        assert_eq!(
            (got, value["error"].as_str().unwrap()),
            (status, error),
            "{path}?{query}"
        );
        assert_eq!(value["errorType"], "bad_data");
    }
}

#[tokio::test]
async fn a_parse_error_comes_with_a_hint() {
    let (_, value) = ask("/api/v1/format_query", "query=raet(up[5m])").await;
    assert_eq!(value["hint"], "raet(up[5m])\n^^^^\ndid you mean \"rate\"?");
}

#[tokio::test]
async fn series_and_label_values_are_listed() {
    let (_, value) = ask("/api/v1/series", "match[]=up&start=0&end=60").await;
    assert_eq!(
        value["data"][1],
        json!({"__name__": "up", "dotted.name": "x", "job": "b"})
    );
    let path = "/api/v1/label/{name}/values";
    for (name, data) in [
        ("job", r#"["a","b"]"#),
        ("U__dotted_2e_name", r#"["x"]"#),
        ("nope", "[]"),
    ] {
        let (status, text) = raw(&Method::GET, path, "", &[("name", name)]).await;
        assert_eq!(
            (status, text),
            (200, format!(r#"{{"status":"success","data":{data}}}"#))
        );
    }
}

#[tokio::test]
async fn every_path_without_parameters_answers_json() {
    for row in ROUTES.iter().filter(|row| row.method == Method::GET) {
        if row.path == "/federate" || row.path.ends_with("/live") || row.path.contains('{') {
            continue; // A text, an endless stream, a parameter.
        }
        let (_, text) = raw(&Method::GET, row.path, "", &[]).await;
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", row.path));
        assert!(value["status"].is_string(), "{}", row.path);
    }
}

#[tokio::test]
async fn federation_shows_the_newest_samples() {
    let (_, text) = raw(&Method::GET, "/federate", "match[]=up", &[]).await;
    assert!(
        text.ends_with("up{\"dotted.name\"=\"x\",job=\"b\",instance=\"\"} 19 540000\n"),
        "{text}"
    );
}
