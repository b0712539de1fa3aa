//! The golden cases of `tests/golden/template/promtool.jsonl`: templates with what Prometheus 2.42's promtool made of them.
//!
//! They were generated over numbers, verbs, functions and mistakes. Where we differ on purpose (addresses of pointers,
//! crashes of Go, functions that came later), `ours` says what we print.

use std::sync::Arc;

use super::prometheus::{QueryHost, QuerySample, prometheus_functions};
use super::{Limits, Mode, Render, Set, Value};
use crate::model::Labels;
use crate::template::{Map, Record};

const NAME: &str = "__alert_Tmpl";
const DEFINITIONS: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
    {{$externalURL := .ExternalURL}}{{$value := .Value}}";

fn peers(query: &str) -> Result<Vec<QuerySample>, String> {
    let peer = |n: &str, value: f64| QuerySample {
        labels: Labels::from_pairs([("__name__", "peers"), ("n", n)]),
        value,
    };
    match query {
        "peers" | "sort(peers)" => Ok(vec![peer("1", 10.0), peer("2", 20.0), peer("3", 30.0)]),
        "peers{n='2'}" => Ok(vec![peer("2", 20.0)]),
        "peers{n='3'}" | "peers > 25" => Ok(vec![peer("3", 30.0)]),
        "1" => Ok(vec![QuerySample {
            labels: Labels::empty(),
            value: 1.0,
        }]),
        "scalar(vector(3))" => Ok(vec![QuerySample {
            labels: Labels::empty(),
            value: 3.0,
        }]),
        "bad(" => Err("1:5: parse error: unclosed left parenthesis".to_owned()),
        _ => Ok(Vec::new()),
    }
}

fn expand(template: &str) -> Result<String, String> {
    let labels = [
        ("__name__", "tmpl"),
        ("dev", "/dev/sda1"),
        ("instance", "db-1.example.com:9100"),
        ("job", "web"),
    ];
    let data = Record::new(
        "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value float64 }",
    )
    .field("Labels", Map::of_strings(labels))
    .field("ExternalLabels", Map::of_strings([("region", "eu")]))
    .field("ExternalURL", "http://campanile.example:9490/base")
    .field("Value", 1_234_567.891);
    let mut set = Set::new(Arc::new(prometheus_functions()));
    set.parse(NAME, &format!("{DEFINITIONS}{template}"))
        .map_err(|error| error.to_string())?;
    let host = QueryHost {
        query: Arc::new(peers),
        now_secs: 60.0,
        external_url: "http://campanile.example:9490/base".to_owned(),
    };
    let render = Render {
        data: Value::from(data),
        host: &host,
        mode: Mode::Text,
        variables: Vec::new(),
        limits: Limits::default(),
    };
    let rendered = set.render(NAME, &render);
    Ok(
        rendered
            .unwrap_or_else(|error| format!("<error expanding template: error executing template {NAME}: {error}>")),
    )
}

#[test]
fn every_golden_template_renders_as_promtool_did() {
    let cases = include_str!("../../tests/golden/template/promtool.jsonl");
    let mut wrong = Vec::new();
    for line in cases.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let template = case["template"].as_str().unwrap();
        let got = expand(template);
        let shown = got.clone().unwrap_or_else(|error| error);
        if let Some(ours) = case["ours"].as_str() {
            if ours != shown {
                wrong.push(format!("{template}\n  want ours {ours}\n  got  {got:?}"));
            }
            continue;
        }
        let right = match (case["output"].as_str(), case["refused"].as_str()) {
            (Some(expected), _) => got.as_deref() == Ok(expected),
            (None, Some(expected)) => got.as_ref().is_err_and(|error| error == expected),
            (None, None) => false,
        };
        if !right {
            wrong.push(format!(
                "{template}\n  want {}{}\n  got  {got:?}",
                case["output"], case["refused"]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} WRONG of {}:\n{}",
        wrong.len(),
        cases.lines().count(),
        wrong.join("\n")
    );
}

#[test]
fn a_template_that_never_ends_meets_a_limit() {
    for (template, expected) in [
        (
            r#"{{ define "t" }}{{ template "t" . }}{{ end }}{{ template "t" . }}"#,
            "exceeded maximum template depth",
        ),
        (
            r#"{{ define "t" }}{{ tmpl "t" . }}{{ end }}{{ tmpl "t" . }}"#,
            "exceeded maximum template depth",
        ),
        ("{{ range 100000000 }}{{ end }}", "steps, the limit"),
        (
            r#"{{ range 1000000 }}{{ printf "%01000d" 1 }}{{ end }}"#,
            "bytes of output, the limit",
        ),
    ] {
        let got = expand(template).unwrap();
        assert!(got.contains(expected), "{template}: {}", &got[got.len() - 200..]);
    }
    let nested = "(".repeat(5000);
    assert!(expand(&format!("{{{{ {nested}1{} }}}}", ")".repeat(5000))).is_err());
    assert!(expand(&"{{ if 1 }}".repeat(5000)).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_or_the_renderer_panic(text in r#"(\{\{|\}\}|[-$.|()"`'\\/*=:a-c1 ]|if|range|end|else|define|template|with|index|printf|len|slice|%|\PC){0,60}"#) {
        let _ = expand(&text);
    }
}
