//! `campanile backtest`: which alerts would have fired on what a server has stored, and which pages would have gone out.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::backfill::moment;
use super::server::{ServerArgs, finish, talk};
use crate::io::disk::OsDisk;
use crate::io::{Clock, SystemClock, files};
use crate::model::{Interval, Millis};

/// Try alert rules on the past, through routing and grouping. Pages nobody.
#[derive(Debug, Args)]
pub(crate) struct BacktestArgs {
    /// Rule files or patterns.
    #[arg(required = true)]
    files: Vec<String>,
    /// The first evaluation: seconds since the epoch or RFC 3339.
    #[arg(long, value_parser = moment)]
    from: Millis,
    /// No evaluation is later. Default: now.
    #[arg(long, value_parser = moment)]
    to: Option<Millis>,
    /// Routing to try: an alertmanager.yml. Default: the server's own.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The interval of groups that name none. Default: the server's.
    #[arg(long)]
    eval_interval: Option<Interval>,
    /// Print the server's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs a backtest on a server.
pub(crate) fn run(args: &BacktestArgs) -> ExitCode {
    finish(backtest(args))
}

fn backtest(args: &BacktestArgs) -> Result<String, String> {
    let mut rules = Vec::new();
    for pattern in &args.files {
        for source in super::check_rules::sources(pattern) {
            let source = source?;
            rules.push(json!({"path": source.path, "text": source.text}));
        }
    }
    let to = args.to.unwrap_or_else(|| SystemClock::new().now());
    let mut body = json!({"rules": rules, "from": args.from.to_string(), "to": to.to_string()});
    if let Some(path) = &args.config {
        body["alertmanager"] = json!(files::read_text(&OsDisk, path).map_err(|error| error.to_string())?);
    }
    if let Some(interval) = args.eval_interval {
        body["interval"] = json!(interval.to_string());
    }
    let answer = talk(&args.server, async |server| {
        server.post("/api/v1/backtest", &body).await
    })?;
    if args.json {
        return Ok(format!("{answer:#}\n"));
    }
    Ok(table(&answer))
}

/// Shows alerts and pages, a line each.
fn table(answer: &Value) -> String {
    let mut out = String::new();
    let alerts = answer["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pages = answer["pages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let _ = writeln!(
        out,
        "{} evaluations, {} changes, {} pages",
        answer["evaluations"],
        alerts.len(),
        pages.len()
    );
    if !alerts.is_empty() {
        let _ = writeln!(out, "\n{:<26}{:<10}{:<14}LABELS", "ALERT AT", "BECAME", "VALUE");
    }
    for alert in alerts {
        let (at, to, value) = (text(&alert["at"]), text(&alert["to"]), text(&alert["value"]));
        let _ = writeln!(out, "{at:<26}{to:<10}{value:<14}{}", labels(&alert["labels"]));
    }
    if !pages.is_empty() {
        let _ = writeln!(
            out,
            "\n{:<26}{:<20}{:<8}{:<10}GROUP",
            "PAGE AT", "RECEIVER", "FIRING", "RESOLVED"
        );
    }
    for page in pages {
        let count = |value: &Value| value.as_array().map_or(0, Vec::len);
        let (at, receiver) = (text(&page["at"]), text(&page["receiver"]));
        let (firing, resolved) = (count(&page["firing"]), count(&page["resolved"]));
        let _ = writeln!(
            out,
            "{at:<26}{receiver:<20}{firing:<8}{resolved:<10}{}",
            labels(&page["group"])
        );
    }
    for error in answer["errors"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "error: {}", text(error));
    }
    out
}

fn labels(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_and_pages_are_shown_a_line_each() {
        let answer = json!({
            "evaluations": 3,
            "alerts": [{"at": "2026-01-01T00:00:00Z", "to": "firing", "value": "5", "labels": {"alertname": "A"}}],
            "pages": [{"at": "2026-01-01T00:00:30Z", "receiver": "team", "group": {"site": "x"}, "firing": [{}], "resolved": []}],
            "errors": ["rule A: no"],
        });
        let shown = table(&answer);
        for expected in [
            "3 evaluations, 1 changes, 1 pages",
            "firing    5",
            "{alertname=\"A\"}",
            "team                1",
            "error: rule A: no",
        ] {
            assert!(shown.contains(expected), "{expected:?} is missing in\n{shown}");
        }
    }
}
