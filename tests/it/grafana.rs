//! The calls that Grafana makes to a Prometheus data source, in its order and with its parameters: each must get the
//! answer it depends on.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Answer, request};
use crate::process::Server;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn get(server: &Server, path: &str) -> Answer {
    request("GET", &format!("{}{path}", server.url()), &[], b"").expect("the server answers")
}

fn post(server: &Server, path: &str, form: &str) -> Answer {
    request("POST", &format!("{}{path}", server.url()), &[FORM], form.as_bytes()).expect("the server answers")
}

/// Returns `data` of a good answer.
fn data(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    assert_eq!(json["status"], "success", "{json}");
    json["data"].clone()
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_secs_f64()
}

/// A server that has collected its own host once.
fn collected() -> Server {
    let mut server = Server::new();
    server.start();
    let deadline = Instant::now() + Duration::from_secs(60);
    while data(&get(&server, "/api/v1/query?query=node_load1"))["result"] == Value::Array(Vec::new()) {
        assert!(
            Instant::now() < deadline,
            "the built-in agent pushed nothing:\n{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

#[test]
fn grafana_finds_its_prometheus_data_source_healthy_and_complete() {
    let server = collected();

    // "Save & test": 1+1, four seconds after the epoch.
    let sum = post(&server, "/api/v1/query", "query=1%2B1&time=4.000");
    assert_eq!(data(&sum)["result"][1], "2");
    let text = sum.text();
    assert!(
        text.find("\"resultType\"") < text.find("\"result\""),
        "resultType comes first: {text}"
    );
    assert_eq!(sum.header("cache-control"), Some("no-store"));
    assert_eq!(sum.header("access-control-allow-origin"), None);

    let build = data(&get(&server, "/api/v1/status/buildinfo"));
    let version = build["version"].as_str().expect("a version");
    assert!(
        version.starts_with('3'),
        "Grafana reads Prometheus' numbering: {version}"
    );
    assert!(
        build["features"].as_object().is_none_or(serde_json::Map::is_empty),
        "Grafana would take it for Mimir"
    );
    assert!(data(&get(&server, "/api/v1/status/flags")).is_object());

    // Explore and panels.
    let end = now();
    for step in ["15", "15s", "0.5"] {
        let form = format!("query=node_load1&start={}&end={end}&step={step}", end - 300.0);
        let matrix = data(&post(&server, "/api/v1/query_range", &form));
        assert_eq!(matrix["resultType"], "matrix");
        let value = &matrix["result"][0]["values"][0];
        assert!(value[0].is_number() && value[1].is_string(), "{value}");
    }
    let form = format!("query=node_load1&start=0&end={end}&step=1");
    let refused = post(&server, "/api/v1/query_range", &form);
    assert_eq!(
        (refused.status, &refused.json()["errorType"]),
        (400, &Value::from("bad_data"))
    );
    let broken = post(&server, "/api/v1/query", "query=sum(");
    assert_eq!(
        (broken.status, &broken.json()["errorType"]),
        (400, &Value::from("bad_data"))
    );

    // Query builder and variables.
    let range = format!("start={}&end={end}", end - 3600.0);
    let labels = data(&get(
        &server,
        &format!("/api/v1/labels?{range}&match[]=node_cpu_seconds_total&limit=40000"),
    ));
    assert!(
        labels.as_array().expect("a list").contains(&Value::from("mode")),
        "{labels}"
    );
    let metrics = data(&get(
        &server,
        &format!("/api/v1/label/__name__/values?{range}&limit=40000"),
    ));
    assert!(metrics.as_array().expect("a list").contains(&Value::from("node_load1")));
    let cut = get(&server, &format!("/api/v1/label/__name__/values?{range}&limit=2")).json();
    assert_eq!(cut["data"].as_array().map(Vec::len), Some(2), "limit is honoured");
    assert!(
        cut["warnings"].as_array().is_some_and(|all| !all.is_empty()),
        "and said: {cut}"
    );
    let unknown = data(&get(&server, &format!("/api/v1/label/no_such_label/values?{range}")));
    assert_eq!(unknown, Value::Array(Vec::new()));
    let series = data(&post(
        &server,
        "/api/v1/series",
        &format!("match[]=node_load1&{range}&limit=40000"),
    ));
    assert_eq!(series[0]["__name__"], "node_load1");
    assert!(data(&get(&server, "/api/v1/metadata?limit=100")).is_object());
    let exemplars = data(&post(
        &server,
        "/api/v1/query_exemplars",
        &format!("query=node_load1&{range}"),
    ));
    assert!(exemplars.is_array(), "anything else gives a red mark: {exemplars}");
}

#[test]
fn grafana_is_not_led_to_believe_that_this_is_cortex() {
    // It tries Cortex' address of the alert manager first, and takes an answer there for the wrong implementation.
    let mut server = Server::new();
    server.start();
    assert_eq!(get(&server, "/alertmanager/api/v2/status").status, 404);
}
