//! `campanile alert`: alerts, as people know them from amtool.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::server::{ServerArgs, finish, talk};
use crate::io::{Clock, SystemClock};
use crate::model::Interval;

/// Show alerts, or raise one.
#[derive(Debug, Args)]
pub(crate) struct AlertArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Query(QueryArgs),
    Add(AddArgs),
}

/// List the alerts that all matchers match.
#[derive(Debug, Args)]
struct QueryArgs {
    /// alertname, or matchers: severity="page" env=~"prod|stage"
    matchers: Vec<String>,
    /// Leave out what is neither silenced nor inhibited.
    #[arg(long)]
    muted_only: bool,
    /// Show silenced and inhibited ones, too.
    #[arg(long, short)]
    all: bool,
    /// Only those of this receiver (a pattern).
    #[arg(long, default_value = "")]
    receiver: String,
    /// Print the server's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Raise an alert: campanile alert add alertname=DiskFull host=db-1 --annotation summary='...'
#[derive(Debug, Args)]
struct AddArgs {
    /// Labels: alertname, then name=value.
    #[arg(required = true)]
    labels: Vec<String>,
    /// Annotations: name=value.
    #[arg(long)]
    annotation: Vec<String>,
    /// How long it fires; without it, as long as `resolve_timeout` says.
    #[arg(long = "for")]
    lasts: Option<Interval>,
    /// A link to what raised it.
    #[arg(long, default_value = "")]
    generator_url: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries the command out.
pub(crate) fn run(args: &AlertArgs) -> ExitCode {
    finish(match &args.what {
        What::Query(args) => query(args),
        What::Add(args) => add(args),
    })
}

/// Takes `Name` for `alertname="Name"`, as amtool does.
pub(super) fn matcher(text: &str) -> String {
    if text.contains(['=', '!', '{']) {
        text.to_owned()
    } else {
        format!("alertname={text:?}")
    }
}

/// Splits `name=value`; the first may be a bare alert name.
pub(super) fn pairs(texts: &[String]) -> Result<serde_json::Map<String, Value>, String> {
    let mut pairs = serde_json::Map::new();
    for (index, text) in texts.iter().enumerate() {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.trim_matches('"')),
            None if index == 0 => ("alertname", text.as_str()),
            None => return Err(format!("{text:?} is not name=value")),
        };
        pairs.insert(name.to_owned(), json!(value));
    }
    Ok(pairs)
}

fn query(args: &QueryArgs) -> Result<String, String> {
    let filters: Vec<String> = args.matchers.iter().map(|text| matcher(text)).collect();
    let shown = if args.all || args.muted_only { "true" } else { "false" };
    let active = if args.muted_only { "false" } else { "true" };
    let mut asked = vec![
        ("active", active),
        ("silenced", shown),
        ("inhibited", shown),
        ("receiver", args.receiver.as_str()),
    ];
    asked.extend(filters.iter().map(|filter| ("filter", filter.as_str())));
    let alerts = talk(&args.server, async |server| server.get("/api/v2/alerts", &asked).await)?;
    Ok(if args.json {
        format!("{alerts}\n")
    } else {
        table(&alerts)
    })
}

fn table(alerts: &Value) -> String {
    let mut lines = vec![["Alertname", "Starts At", "Summary", "State"].map(str::to_owned)];
    for alert in alerts.as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines.push([
            text(&alert["labels"]["alertname"]),
            text(&alert["startsAt"]),
            text(&alert["annotations"]["summary"]),
            text(&alert["status"]["state"]),
        ]);
    }
    columns(&lines)
}

/// Sets rows in columns.
pub(super) fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn add(args: &AddArgs) -> Result<String, String> {
    let mut alert = json!({
        "labels": pairs(&args.labels)?,
        "annotations": pairs(&args.annotation)?,
        "generatorURL": args.generator_url,
    });
    if let Some(lasts) = args.lasts {
        alert["endsAt"] = json!((SystemClock::new().now() + lasts).to_string());
    }
    talk(&args.server, async |server| {
        server.post("/api/v2/alerts", &json!([alert])).await
    })?;
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_the_alerts_name() {
        assert_eq!(matcher("Down"), "alertname=\"Down\"");
        assert_eq!(matcher("env=~\"a|b\""), "env=~\"a|b\"");
        let labels = pairs(&["Down".to_owned(), "env=prod".to_owned()]).unwrap();
        assert_eq!(Value::Object(labels), json!({"alertname": "Down", "env": "prod"}));
        assert!(pairs(&["a=b".to_owned(), "c".to_owned()]).is_err());
    }

    #[test]
    fn alerts_are_a_table() {
        let alerts = json!([{"labels": {"alertname": "Down"}, "annotations": {}, "startsAt": "2026-01-01T00:00:00.000Z", "status": {"state": "active"}}]);
        assert_eq!(
            table(&alerts),
            "Alertname  Starts At                 Summary  State\nDown       2026-01-01T00:00:00.000Z           active\n"
        );
    }
}
