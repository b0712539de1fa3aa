//! `campanile test rules`: promtool's rule tests, with promtool's verdicts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;

use super::test_pages::{InhibitionTest, PageTests, RoutingTest, SilenceTest};
use crate::io::disk::OsDisk;
use crate::io::files;
use crate::model::{FloatHistogram, Interval, Labels, Millis, yaml};
use crate::query::script::{SeriesValue, parse_series_line, parse_values};
use crate::query::{self, Engine, QueryOptions, QueryValue};
use crate::rules::{GroupSpec, Replay, RuleFile, Settings};
use crate::storage::{LiteralStore, Point};
use crate::template::format_float;

/// The most evaluations of one test.
const EVALUATIONS_MAX: i64 = 1_000_000;

/// Run rule tests in promtool's format: exit code 0 when all pass.
#[derive(Debug, Args)]
pub(crate) struct TestRulesArgs {
    /// Test files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Run only the tests whose name contains this.
    #[arg(long)]
    run: Option<String>,
}

/// Runs the tests.
pub(super) fn run(args: &TestRulesArgs) -> ExitCode {
    let mut good = true;
    for path in &args.files {
        println!("Unit Testing:  {}", path.display());
        let failures = test_file(path, args.run.as_deref());
        if failures.is_empty() {
            println!("  SUCCESS\n");
            continue;
        }
        good = false;
        eprintln!("  FAILED:");
        for failure in failures {
            eprintln!("{failure}");
        }
        eprintln!();
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFile {
    #[serde(default)]
    rule_files: Vec<String>,
    evaluation_interval: Option<Interval>,
    #[serde(default)]
    group_eval_order: Vec<String>,
    #[serde(default)]
    fuzzy_compare: bool,
    #[serde(default)]
    tests: Vec<Test>,
    alertmanager: Option<PathBuf>,
    #[serde(default)]
    routing_test: Vec<RoutingTest>,
    #[serde(default)]
    inhibition_test: Vec<InhibitionTest>,
    #[serde(default)]
    silence_test: Vec<SilenceTest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    interval: Option<Interval>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    start_timestamp: Start,
    #[serde(default)]
    input_series: Vec<InputSeries>,
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
    #[serde(default)]
    promql_expr_test: Vec<QueryTest>,
    #[serde(default)]
    external_labels: BTreeMap<String, String>,
    #[serde(default)]
    external_url: String,
}

#[derive(Default, Deserialize)]
#[serde(try_from = "serde_yaml::Value")]
struct Start(Millis);

impl TryFrom<serde_yaml::Value> for Start {
    type Error = String;

    fn try_from(value: serde_yaml::Value) -> Result<Start, String> {
        let bad = || format!("{value:?} is no time: write seconds since the epoch, or 2021-01-01T00:00:00Z");
        if let Some(seconds) = value.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "times of tests are near the present")]
            return Ok(Start(Millis((seconds * 1000.0) as i64)));
        }
        let text = value.as_str().ok_or_else(bad)?;
        let at: jiff::Timestamp = text.parse().map_err(|_| bad())?;
        Ok(Start(Millis(at.as_millisecond())))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputSeries {
    series: String,
    values: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertTest {
    eval_time: Interval,
    alertname: String,
    #[serde(default)]
    exp_alerts: Vec<ExpectedAlert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedAlert {
    #[serde(default)]
    exp_labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    exp_annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryTest {
    expr: String,
    eval_time: Interval,
    #[serde(default)]
    exp_samples: Vec<ExpectedSample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedSample {
    #[serde(default)]
    labels: String,
    #[serde(default)]
    value: f64,
    histogram: Option<String>,
}

/// What all tests of a file share.
struct Suite {
    groups: Vec<(String, GroupSpec)>,
    interval: Interval,
    fuzzy: bool,
    pages: PageTests,
}

fn test_file(path: &Path, only: Option<&str>) -> Vec<String> {
    let (suite, tests) = match read_suite(path) {
        Ok(read) => read,
        Err(failures) => return failures,
    };
    let mut failures = suite.pages.run(path.parent().unwrap_or(Path::new("")));
    for (i, test) in tests.iter().enumerate() {
        if only.is_some_and(|only| !test.name.contains(only)) {
            continue;
        }
        let title = if test.name.is_empty() {
            format!("    test {i},\n")
        } else {
            format!("    name: {},\n", test.name)
        };
        match run_test(&suite, test) {
            Ok(found) => failures.extend(found.into_iter().map(|text| format!("{title}{text}"))),
            Err(error) => failures.push(format!("{title}    {error}")),
        }
    }
    failures
}

fn read_suite(path: &Path) -> Result<(Suite, Vec<Test>), Vec<String>> {
    let name = path.display().to_string();
    let text = files::read_text(&OsDisk, path).map_err(|error| vec![format!("  {name}: {error}")])?;
    let file: TestFile = yaml::read(&name, &text).map_err(|error| vec![error.with_snippet()])?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut groups = Vec::new();
    let mut failures = Vec::new();
    for pattern in &file.rule_files {
        let pattern = folder.join(pattern).display().to_string();
        for source in super::check_rules::sources(&pattern) {
            let source = match source {
                Ok(source) => source,
                Err(error) => {
                    failures.push(format!("  {error}"));
                    continue;
                }
            };
            match RuleFile::read(&source) {
                Ok(rules) => groups.extend(rules.groups.into_iter().map(|group| (source.path.clone(), group))),
                Err(error) => failures.push(error.with_snippet()),
            }
        }
    }
    order(&mut groups, &file.group_eval_order, &mut failures);
    if !failures.is_empty() {
        return Err(failures);
    }
    let interval = file.evaluation_interval.filter(|interval| interval.0 > 0);
    let suite = Suite {
        groups,
        interval: interval.unwrap_or(Interval::mins(1)),
        fuzzy: file.fuzzy_compare,
        pages: PageTests {
            alertmanager: file.alertmanager,
            routing: file.routing_test,
            inhibition: file.inhibition_test,
            silence: file.silence_test,
        },
    };
    Ok((suite, file.tests))
}

/// Sorts groups as `group_eval_order` says; those that it does not name keep their place behind.
fn order(groups: &mut [(String, GroupSpec)], wanted: &[String], failures: &mut Vec<String>) {
    for (i, name) in wanted.iter().enumerate() {
        if wanted[..i].contains(name) {
            failures.push(format!("  group name repeated in evaluation order: {name}"));
        }
    }
    groups.sort_by_key(|(_, group)| {
        wanted
            .iter()
            .position(|name| *name == group.name)
            .unwrap_or(wanted.len())
    });
}

fn run_test(suite: &Suite, test: &Test) -> Result<Vec<String>, String> {
    let store = LiteralStore::new();
    let start = test.start_timestamp.0;
    load(&store, test, start, test.interval.unwrap_or(suite.interval))?;
    let options = QueryOptions {
        subquery_step: suite.interval,
        ..QueryOptions::default()
    };
    let settings = Settings {
        interval: suite.interval,
        external_labels: Labels::from_pairs(&test.external_labels),
        external_url: test.external_url.clone(),
        ..Settings::default()
    };
    let replay = Replay::new(suite.groups.clone(), &store, options.clone(), settings, start);
    let mut failures = super::block_on(test_alerts(suite, test, replay, start))?;
    for expected in &test.promql_expr_test {
        failures.extend(test_query(suite, expected, &store, &options, start));
    }
    Ok(failures)
}

fn load(store: &LiteralStore, test: &Test, start: Millis, interval: Interval) -> Result<(), String> {
    for input in &test.input_series {
        let (labels, values) = parse_series_line(&format!("{} {}", input.series, input.values))?;
        let mut at = start;
        for value in values {
            match value {
                Some(SeriesValue::Float(float)) => store.put(&labels, at, float),
                Some(SeriesValue::Histogram(histogram)) => {
                    store.put_histogram(&labels, crate::model::HistogramSample { at, histogram }, 0);
                }
                None => {}
            }
            at += interval;
        }
    }
    Ok(())
}

/// Evaluates the rules from the start to the last moment that any test looks at, and compares alerts on the way.
async fn test_alerts(suite: &Suite, test: &Test, mut replay: Replay, start: Millis) -> Result<Vec<String>, String> {
    let alert_times = test.alert_rule_test.iter().map(|test| test.eval_time);
    let query_times = test.promql_expr_test.iter().map(|test| test.eval_time);
    let last = alert_times.chain(query_times).max().unwrap_or(Interval::ZERO);
    let count = last.0 / suite.interval.0;
    if count > EVALUATIONS_MAX {
        return Err(format!(
            "{count} evaluations, the limit is {EVALUATIONS_MAX}: use a longer evaluation_interval"
        ));
    }
    let mut failures = Vec::new();
    let mut errors_shown = Vec::new();
    let mut at = Interval::ZERO;
    while at <= last {
        replay.evaluate(start + at).await;
        for error in replay.errors() {
            if !errors_shown.contains(&error) {
                failures.push(format!("    {error}, time: {at}"));
                errors_shown.push(error);
            }
        }
        let until = Interval(at.0 + suite.interval.0);
        for expected in &test.alert_rule_test {
            if at <= expected.eval_time && expected.eval_time < until {
                failures.extend(compare_alerts(expected, &replay));
            }
        }
        at = until;
    }
    Ok(failures)
}

type Shown = (Labels, Labels);

fn compare_alerts(test: &AlertTest, replay: &Replay) -> Option<String> {
    let mut expected: Vec<Shown> = test
        .exp_alerts
        .iter()
        .map(|alert| {
            let mut labels = Labels::from_pairs(alert.exp_labels.iter().flatten()).to_builder();
            labels.set("alertname", &test.alertname);
            (
                labels.build(),
                Labels::from_pairs(alert.exp_annotations.iter().flatten()),
            )
        })
        .collect();
    let (firing, _) = replay.firing(&test.alertname);
    let mut got: Vec<Shown> = firing
        .into_iter()
        .map(|alert| (alert.labels, alert.annotations))
        .collect();
    expected.sort();
    got.sort();
    if expected == got {
        return None;
    }
    Some(format!(
        "    alertname: {}, time: {}, \n        exp:{}, \n        got:{}",
        test.alertname,
        test.eval_time,
        show_alerts(&expected),
        show_alerts(&got)
    ))
}

/// As promtool shows alerts: a numbered list.
fn show_alerts(alerts: &[Shown]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let mut out = String::from("[");
    for (i, (labels, annotations)) in alerts.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(
            out,
            "{comma}\n            {i}:\n              Labels:{}\n              Annotations:{}",
            show_labels(labels),
            show_labels(annotations)
        );
    }
    out.push_str("\n            ]");
    out
}

fn show_labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Histogram(Box<FloatHistogram>),
}

fn test_query(
    suite: &Suite,
    test: &QueryTest,
    store: &LiteralStore,
    options: &QueryOptions,
    start: Millis,
) -> Option<String> {
    let title = format!("    expr: {:?}, time: {},", test.expr, test.eval_time);
    let outcome = expected_samples(test).and_then(|expected| {
        let got = query_samples(&test.expr, store, options, start + test.eval_time)?;
        Ok((expected, got))
    });
    let (expected, got) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Some(format!("{title} err: {error}")),
    };
    let same = expected.len() == got.len()
        && expected
            .iter()
            .zip(&got)
            .all(|((labels, value), (got_labels, got))| labels == got_labels && equal(value, got, suite.fuzzy));
    if same {
        return None;
    }
    Some(format!(
        "{title}\n        exp: {}\n        got: {}",
        show_samples(&expected),
        show_samples(&got)
    ))
}

fn expected_samples(test: &QueryTest) -> Result<Vec<(Labels, Value)>, String> {
    let mut samples = Vec::new();
    for sample in &test.exp_samples {
        let labels = if sample.labels.trim().is_empty() {
            Labels::empty()
        } else {
            let (labels, _) =
                query::parse_series(&sample.labels).map_err(|error| format!("labels {:?}: {error}", sample.labels))?;
            labels
        };
        let value = match &sample.histogram {
            None => Value::Float(sample.value),
            Some(text) => match parse_values(text)?.as_slice() {
                [Some(SeriesValue::Histogram(histogram))] => Value::Histogram(Box::new((**histogram).clone())),
                _ => return Err(format!("{text:?} is no histogram")),
            },
        };
        samples.push((labels, value));
    }
    samples.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(samples)
}

fn query_samples(
    text: &str,
    store: &LiteralStore,
    options: &QueryOptions,
    at: Millis,
) -> Result<Vec<(Labels, Value)>, String> {
    let expr = query::parse(text).map_err(|error| error.to_string())?;
    let output = Engine
        .instant(store, &expr, at, options)
        .map_err(|error| error.to_string())?;
    let mut samples: Vec<(Labels, Value)> = match output.value {
        QueryValue::Scalar(sample) => vec![(Labels::empty(), Value::Float(sample.value))],
        QueryValue::Vector(vector) => vector
            .into_iter()
            .map(|sample| {
                let value = match sample.point {
                    Point::Float(float) => Value::Float(float.value),
                    Point::Histogram(histogram) => Value::Histogram(Box::new((*histogram.histogram).clone())),
                };
                (sample.labels, value)
            })
            .collect(),
        QueryValue::String(..) | QueryValue::Matrix(_) => {
            return Err("rule result is not a vector or scalar".to_owned());
        }
    };
    samples.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(samples)
}

fn equal(expected: &Value, got: &Value, fuzzy: bool) -> bool {
    match (expected, got) {
        (Value::Float(a), Value::Float(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (fuzzy && (a.next_up() == *b || a.next_down() == *b))
        }
        (Value::Histogram(a), Value::Histogram(b)) => {
            let mut b = b.clone();
            // What the sender said about resets is no part of the value.
            b.counter_reset_hint = a.counter_reset_hint;
            *a == b
        }
        _ => false,
    }
}

fn show_samples(samples: &[(Labels, Value)]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let shown: Vec<String> = samples
        .iter()
        .map(|(labels, value)| match value {
            Value::Float(float) => format!("{labels} {}", format_float(*float, 'E', None)),
            Value::Histogram(histogram) => format!("{labels} {{{{count:{} sum:{}}}}}", histogram.count, histogram.sum),
        })
        .collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_rule_has_a_test_that_passes() {
        for path in ["rules/tests/campanile_test.yaml", "rules/tests/host_test.yaml"] {
            let failures = test_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path), None);
            assert!(failures.is_empty(), "{path}:\n{}", failures.join("\n"));
        }
    }
}
