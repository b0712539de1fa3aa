//! `campanile backfill`: records what recording rules would have recorded, had they been there before.
//!
//! Rules are taken in the order of the files. Each is asked over the whole time, at multiples of its group's interval, and what
//! it yields is imported before the next one is asked: a rule sees what earlier ones recorded. Asked twice, the same samples
//! come at the same times, and the store takes the same sample once.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::server::{Server, ServerArgs, finish, said, talk};
use crate::io::{Clock, SystemClock};
use crate::model::{Interval, METRIC_NAME, Millis};
use crate::rules::{RuleFile, RuleSpec, Source};

/// How many steps one question covers.
const STEPS_MAX: i64 = 2_000;
/// The most bytes of one import.
const IMPORT_BYTES_MAX: usize = 4 << 20;

/// Record the past with recording rules, through a running server.
#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// Rule files or patterns.
    #[arg(required = true)]
    files: Vec<String>,
    /// Where the past begins: seconds since the epoch or RFC 3339.
    #[arg(long, value_parser = moment)]
    start: Millis,
    /// Where it ends. Default: now.
    #[arg(long, value_parser = moment)]
    end: Option<Millis>,
    /// The interval of groups that name none.
    #[arg(long, default_value = "1m")]
    eval_interval: Interval,
    /// Say what would be recorded, and record nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Reads a time of the command line.
pub(super) fn moment(text: &str) -> Result<Millis, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "a time that people write")]
        return Ok(Millis((seconds * 1000.0) as i64));
    }
    let at: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is no time: write seconds since the epoch, or 2026-01-31T00:00:00Z"))?;
    Ok(Millis(at.as_millisecond()))
}

/// Records the past.
pub(crate) fn run(args: &BackfillArgs) -> ExitCode {
    let rules = match recording_rules(args) {
        Ok(rules) => rules,
        Err(error) => return finish(Err(error)),
    };
    let end = args.end.unwrap_or_else(|| SystemClock::new().now());
    let plan = Plan {
        rules,
        start: args.start,
        end,
        dry_run: args.dry_run,
    };
    finish(talk(&args.server, async |server| plan.carry_out(&server).await))
}

/// What is to be recorded.
struct Plan {
    rules: Vec<(RuleSpec, Interval)>,
    start: Millis,
    end: Millis,
    dry_run: bool,
}

fn recording_rules(args: &BackfillArgs) -> Result<Vec<(RuleSpec, Interval)>, String> {
    let mut rules = Vec::new();
    for pattern in &args.files {
        for source in super::check_rules::sources(pattern) {
            let file = RuleFile::read(&source?).map_err(|error| error.with_snippet())?;
            for group in file.groups {
                let interval = group.interval.unwrap_or(args.eval_interval);
                let recording = group.rules.into_iter().filter(|rule| !rule.is_alert());
                rules.extend(recording.map(|rule| (rule, interval)));
            }
        }
    }
    if rules.is_empty() {
        return Err("there is no recording rule in these files".to_owned());
    }
    Ok(rules)
}

impl Plan {
    async fn carry_out(&self, server: &Server<'_>) -> Result<String, String> {
        let mut report = String::new();
        for (rule, interval) in &self.rules {
            let (series, samples) = self.record(server, rule, *interval).await?;
            let done = if self.dry_run { "would be recorded" } else { "recorded" };
            report.push_str(&format!("{}: {samples} samples of {series} series {done}\n", rule.name));
        }
        Ok(report)
    }

    /// Asks one rule over the whole time and imports what it yields.
    async fn record(&self, server: &Server<'_>, rule: &RuleSpec, interval: Interval) -> Result<(usize, usize), String> {
        let Source::Expr(query) = &rule.source else {
            return Err(format!("{}: several queries cannot be recorded", rule.name));
        };
        let mut names = std::collections::BTreeSet::new();
        let mut samples = 0;
        for (from, to) in spans(self.start, self.end, interval) {
            let (start, end, step) = (seconds(from), seconds(to), format!("{}", interval.as_secs_f64()));
            let asked = [
                ("query", query.text.as_str()),
                ("start", start.as_str()),
                ("end", end.as_str()),
                ("step", step.as_str()),
            ];
            let answer = server
                .get("/api/v1/query_range", &asked)
                .await
                .map_err(|error| format!("{}: {error}", rule.name))?;
            let lines = lines(rule, &answer)?;
            for (metric, count, _) in &lines {
                names.insert(metric.clone());
                samples += count;
            }
            if !self.dry_run {
                import(server, &lines)
                    .await
                    .map_err(|error| format!("{}: {error}", rule.name))?;
            }
        }
        Ok((names.len(), samples))
    }
}

/// Cuts the time into questions; all times are multiples of the interval, so that a second run meets the first one's samples.
fn spans(start: Millis, end: Millis, interval: Interval) -> Vec<(Millis, Millis)> {
    let step = interval.0.max(1);
    let mut from = (start.0 + step - 1).div_euclid(step) * step;
    let mut spans = Vec::new();
    while from <= end.0 {
        let last = (from + (STEPS_MAX - 1) * step).min(end.0.div_euclid(step) * step);
        spans.push((Millis(from), Millis(last)));
        from = last + step;
    }
    spans
}

fn seconds(at: Millis) -> String {
    format!("{}.{:03}", at.0.div_euclid(1000), at.0.rem_euclid(1000))
}

/// Turns a matrix into lines to import: the series' labels as text, its number of samples, the line.
fn lines(rule: &RuleSpec, answer: &Value) -> Result<Vec<(String, usize, String)>, String> {
    let mut lines = Vec::new();
    for series in answer["result"].as_array().into_iter().flatten() {
        if series.get("histograms").is_some() {
            return Err(format!("{}: histograms cannot be imported", rule.name));
        }
        let mut metric: serde_json::Map<String, Value> = series["metric"].as_object().cloned().unwrap_or_default();
        metric.insert(METRIC_NAME.to_owned(), json!(rule.name));
        for (name, text) in &rule.labels {
            metric.insert(name.clone(), json!(text.source));
        }
        metric.retain(|_, value| value != "");
        let values = series["values"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut times = Vec::with_capacity(values.len());
        let mut texts = Vec::with_capacity(values.len());
        for pair in values {
            let (at, value) = (pair[0].as_f64(), pair[1].as_str());
            let (Some(at), Some(value)) = (at, value) else {
                return Err("the server's answer is no matrix".to_owned());
            };
            #[expect(clippy::cast_possible_truncation, reason = "a time of the server's own")]
            times.push((at * 1000.0).round() as i64);
            texts.push(imported(value));
        }
        let shown = Value::Object(metric.clone()).to_string();
        let line = format!(
            "{{\"metric\":{shown},\"values\":[{}],\"timestamps\":{}}}\n",
            texts.join(","),
            json!(times)
        );
        lines.push((shown, times.len(), line));
    }
    Ok(lines)
}

/// Writes a value of the query API as the import wants it.
fn imported(value: &str) -> String {
    match value {
        "NaN" => "\"NaN\"".to_owned(),
        "+Inf" => "\"Infinity\"".to_owned(),
        "-Inf" => "\"-Infinity\"".to_owned(),
        number => number.to_owned(),
    }
}

async fn import(server: &Server<'_>, lines: &[(String, usize, String)]) -> Result<(), String> {
    let mut body = String::new();
    for (index, (_, _, line)) in lines.iter().enumerate() {
        body.push_str(line);
        if body.len() >= IMPORT_BYTES_MAX || index + 1 == lines.len() {
            let json = ("application/json", std::mem::take(&mut body));
            let answer = server.send("POST", "/api/v1/import", &[], json).await?;
            if answer.status / 100 != 2 {
                return Err(said(&answer));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimClock;
    use crate::io::disk::SimDisk;
    use crate::io::http_client::{HttpOutbox, HttpResponse};
    use crate::rules::RuleFileSource;

    fn rules(text: &str) -> Vec<(RuleSpec, Interval)> {
        let source = RuleFileSource {
            path: "x.yaml".to_owned(),
            text: text.to_owned(),
        };
        let file = RuleFile::read(&source).unwrap();
        file.groups[0]
            .rules
            .iter()
            .map(|rule| (rule.clone(), Interval::mins(1)))
            .collect()
    }

    #[test]
    fn questions_lie_on_multiples_of_the_interval_and_cover_the_time_once() {
        let minute = Interval::mins(1);
        let all = spans(Millis(30_000), Millis(60_000 * 5_000 + 1), minute);
        assert_eq!(all[0], (Millis(60_000), Millis(60_000 * 2_000)));
        assert_eq!(all[1].0, Millis(60_000 * 2_001));
        assert_eq!(all.last().unwrap().1, Millis(60_000 * 5_000));
        assert!(spans(Millis(61_000), Millis(100_000), minute).is_empty());
    }

    #[tokio::test]
    async fn what_a_rule_yields_is_imported_under_its_name_and_labels() {
        let outbox = HttpOutbox::new(std::sync::Arc::new(SimClock::default()));
        let answer = |body: &str| {
            Ok(HttpResponse {
                status: 200,
                body: body.to_owned().into(),
                ..HttpResponse::default()
            })
        };
        outbox.script(
            "query_range",
            answer(
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"x","job":"a"},"values":[[60,"1.5"],[120,"+Inf"],[180,"NaN"]]}]}}"#,
            ),
        );
        let plan = Plan {
            rules: rules("groups:\n- name: g\n  rules:\n  - record: a:b\n    expr: x\n    labels: {team: web}\n"),
            start: Millis(60_000),
            end: Millis(180_000),
            dry_run: false,
        };
        let args = ServerArgs {
            url: "http://x/".to_owned(),
            token_file: None,
        };
        let server = Server::new(&args, &*outbox, &SimDisk::seeded(1)).unwrap();
        assert_eq!(
            plan.carry_out(&server).await.unwrap(),
            "a:b: 3 samples of 1 series recorded\n"
        );
        let sent = outbox.sent();
        assert!(
            sent[0].request.url.contains("start=60.000&end=180.000&step=60"),
            "{}",
            sent[0].request.url
        );
        assert_eq!(
            sent[1].request.body,
            "{\"metric\":{\"__name__\":\"a:b\",\"job\":\"a\",\"team\":\"web\"},\"values\":[1.5,\"Infinity\",\"NaN\"],\"timestamps\":[60000,120000,180000]}\n"
        );
        outbox.script_status("query_range", 503);
        assert!(
            plan.carry_out(&server)
                .await
                .unwrap_err()
                .contains("a:b: the server answered 503")
        );
    }
}
