//! `campanile explain`, `preview`, `drill`: why somebody was told or not, what a notification says, and one marked test page
//! from end to end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::alert::{matcher, pairs};
use super::server::{Server, ServerArgs, finish, talk};
use crate::io::disk::OsDisk;
use crate::io::{Clock, SystemClock, files};
use crate::model::Interval;

/// How often a drill looks whether its page has arrived.
const LOOK_EVERY: Interval = Interval(500);

/// Explain what the server does, and why.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Alert(AlertArgs),
}

/// Say where an alert goes, who was told when, and what comes next.
#[derive(Debug, Args)]
struct AlertArgs {
    /// alertname, matchers, or a fingerprint. Without such an alert: what would become of it.
    #[arg(required = true)]
    alert: Vec<String>,
    /// Print the server's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Explains.
pub(crate) fn run(args: &ExplainArgs) -> ExitCode {
    let What::Alert(args) = &args.what;
    finish(explain(args))
}

fn explain(args: &AlertArgs) -> Result<String, String> {
    let is_fingerprint = |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let asked: Vec<(&str, String)> = args
        .alert
        .iter()
        .map(|text| match is_fingerprint(text) {
            true => ("fingerprint", text.clone()),
            false => ("filter", matcher(text)),
        })
        .collect();
    let asked: Vec<(&str, &str)> = asked.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = talk(&args.server, async |server| {
        server.get("/api/v1/alertmanager/explain", &asked).await
    })?;
    if args.json {
        return Ok(format!("{answer}\n"));
    }
    Ok(answer["alerts"].as_array().into_iter().flatten().map(shown).collect())
}

/// Tells the story of one alert.
fn shown(alert: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels: Vec<String> = alert["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut out = format!("{{{}}}  {}", labels.join(", "), text(&alert["state"]));
    if let Some(since) = alert["startsAt"].as_str() {
        out.push_str(&format!(" since {since}"));
    }
    out.push('\n');
    for group in alert["groups"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "  route {} -> {}\n",
            text(&group["route"]),
            text(&group["receiver"])
        ));
        for one in group["integrations"].as_array().into_iter().flatten() {
            out.push_str(&format!("    {}: {}\n", text(&one["integration"]), text(&one["why"])));
        }
        if group["integrations"].as_array().is_none_or(Vec::is_empty) {
            out.push_str("    this receiver tells nobody\n");
        }
    }
    out
}

/// Render a notification and send it to nobody.
#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// The receiver; without it, those that the alert's routes lead to.
    #[arg(long)]
    receiver: Option<String>,
    /// Labels of the alert: alertname, then name=value.
    labels: Vec<String>,
    /// Its annotations: name=value.
    #[arg(long)]
    annotation: Vec<String>,
    /// As if it were over.
    #[arg(long)]
    resolved: bool,
    /// A file with a JSON list of alerts (labels, annotations, status) instead.
    #[arg(long, conflicts_with = "labels")]
    alerts: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Renders.
pub(crate) fn run_preview(args: &PreviewArgs) -> ExitCode {
    finish(preview(args))
}

fn preview(args: &PreviewArgs) -> Result<String, String> {
    let alerts = match &args.alerts {
        Some(file) => {
            let text = files::read_text(&OsDisk, file).map_err(|error| format!("{}: {error}", file.display()))?;
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?
        }
        None if args.labels.is_empty() => return Err("which alert? name its labels, or a file by --alerts".to_owned()),
        None => json!([{
            "labels": pairs(&args.labels)?,
            "annotations": pairs(&args.annotation)?,
            "status": if args.resolved { "resolved" } else { "firing" },
        }]),
    };
    let mut asked = json!({ "alerts": alerts });
    if let Some(receiver) = &args.receiver {
        asked["receiver"] = json!(receiver);
    }
    let answer = talk(&args.server, async |server| {
        server.post("/api/v1/alertmanager/preview", &asked).await
    })?;
    let mut out = String::new();
    for one in answer["notifications"].as_array().into_iter().flatten() {
        let text = |name: &str| one[name].as_str().unwrap_or_default();
        let list = |name: &str| -> Vec<String> {
            let items = one[name].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        out.push_str(&format!(
            "== {} {}: {}\n",
            text("receiver"),
            text("integration"),
            list("to").join(", ")
        ));
        match one["error"].as_str() {
            Some(error) => out.push_str(&format!("cannot be rendered: {error}\n")),
            None => out.push_str(&format!(
                "{}\n{}\n",
                text("headers").trim_end(),
                list("bodies").join("\n\n")
            )),
        }
        out.push('\n');
    }
    Ok(out)
}

/// Send one page, marked as a test, as if the rule had fired; and wait until it has arrived.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// The alert rule's name.
    rule: String,
    /// More labels: name=value, so that its routes are those of a real alert.
    #[arg(long)]
    label: Vec<String>,
    /// How long to wait for the page to arrive.
    #[arg(long, default_value = "2m")]
    timeout: Interval,
    #[command(flatten)]
    server: ServerArgs,
}

/// Drills.
pub(crate) fn run_drill(args: &DrillArgs) -> ExitCode {
    finish(talk(&args.server, async |server| drill(args, &server).await))
}

async fn drill(args: &DrillArgs, server: &Server<'_>) -> Result<String, String> {
    let clock = SystemClock::new();
    let asked = json!({"rule": args.rule, "labels": pairs(&args.label)?});
    let made = server.post("/api/v1/alertmanager/drill", &asked).await?;
    let fingerprint = made["fingerprint"].as_str().unwrap_or_default().to_owned();
    let deadline = clock.mono().after(args.timeout);
    loop {
        let answer = server
            .get("/api/v1/alertmanager/explain", &[("fingerprint", &fingerprint)])
            .await?;
        let alert = &answer["alerts"][0];
        let integrations: Vec<&Value> = alert["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|group| group["integrations"].as_array().into_iter().flatten())
            .collect();
        if integrations.is_empty() && !alert.is_null() {
            return Err(format!("the alert's routes lead to nobody:\n{}", shown(alert)));
        }
        if !alert.is_null() && integrations.iter().all(|one| one["toldFiring"] == true) {
            return Ok(format!("arrived everywhere:\n{}", shown(alert)));
        }
        if clock.mono() >= deadline {
            return Err(format!("not arrived within {}:\n{}", args.timeout, shown(alert)));
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_reads_as_a_story() {
        let alert = json!({"labels": {"alertname": "A"}, "state": "firing", "startsAt": "2026-01-01T00:00:00.000Z", "groups": [
            {"route": "{}", "receiver": "mail", "integrations": [{"integration": "email[0]", "why": "told at noon"}]},
            {"route": "{}/{a=\"b\"}", "receiver": "none", "integrations": []}
        ]});
        assert_eq!(
            shown(&alert),
            "{alertname=\"A\"}  firing since 2026-01-01T00:00:00.000Z\n  route {} -> mail\n    email[0]: told at noon\n  \
             route {}/{a=\"b\"} -> none\n    this receiver tells nobody\n"
        );
    }
}
