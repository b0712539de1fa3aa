//! `campanile recalc`: counts of a range by today's lists and filters; shows the difference, applies it, takes it back.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::backfill::moment;
use super::server::{ServerArgs, finish, talk};
use crate::model::Millis;

/// Recalculate clicks by today's bot lists and filters.
#[derive(Debug, Args)]
pub(crate) struct RecalcArgs {
    /// From this full hour on (UTC).
    #[arg(long, value_parser = moment, required_unless_present = "rollback")]
    from: Option<Millis>,
    /// Up to this full hour.
    #[arg(long, value_parser = moment, required_unless_present = "rollback")]
    to: Option<Millis>,
    /// Put the result into force. Without it the difference is only shown.
    #[arg(long)]
    apply: bool,
    /// Take back the recalculation of this name.
    #[arg(long, conflicts_with_all = ["from", "to", "apply"])]
    rollback: Option<String>,
    /// Print the server's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub(crate) fn run(args: &RecalcArgs) -> ExitCode {
    let asked = match &args.rollback {
        Some(id) => json!({"rollback": id}),
        None => json!({"from": args.from, "to": args.to, "apply": args.apply}),
    };
    finish(talk(&args.server, async |server| {
        let answer = server.post("/api/v1/recalc", &asked).await?;
        let data = &answer["data"];
        Ok(if args.json { format!("{data:#}\n") } else { shown(data) })
    }))
}

fn shown(data: &Value) -> String {
    let mut out = String::new();
    let rows = data["difference"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    for row in rows {
        let minute = Millis(row["minute"].as_i64().unwrap_or_default());
        let _ = writeln!(
            out,
            "{minute}  {}  {} -> {}  events {}  spend {}",
            text(&row["ad_id"]),
            text(&row["before"]),
            text(&row["after"]),
            row["events"],
            row["spend"]
        );
    }
    if data["truncated"] == true {
        out.push_str("(more differences than are listed)\n");
    }
    let _ = writeln!(
        out,
        "{} events, {} change: net {}, spend {}",
        data["events"], data["changed"], data["net"], data["spend"]
    );
    if data["applied"] == true {
        let _ = writeln!(out, "applied; take it back with --rollback {}", text(&data["id"]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_reads_like_a_list() {
        let data = json!({
            "events": 10, "changed": 2, "net": -2, "spend": -0.5, "applied": true, "id": "x", "truncated": false,
            "difference": [{"ad_id": "a", "minute": 0, "before": "", "after": "crawler", "events": 2, "spend": -0.5}],
        });
        let text = shown(&data);
        assert!(
            text.starts_with("1970-01-01T00:00:00.000Z  a  - -> crawler  events 2  spend -0.5\n10 events"),
            "{text}"
        );
        assert!(text.ends_with("--rollback x\n"));
    }
}
