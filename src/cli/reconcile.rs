//! `campanile reconcile`: counts of a range against its raw events, counted once more by other code.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::backfill::moment;
use super::server::{ServerArgs, finish, talk};
use crate::model::Millis;

/// Compare counts with raw events.
#[derive(Debug, Args)]
pub(crate) struct ReconcileArgs {
    /// From this full hour on (UTC).
    #[arg(long, value_parser = moment)]
    from: Millis,
    /// Up to this full hour, which is closed.
    #[arg(long, value_parser = moment)]
    to: Millis,
    /// Print the server's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command; fails when something differs.
pub(crate) fn run(args: &ReconcileArgs) -> ExitCode {
    let said = talk(&args.server, async |server| {
        let asked = json!({"from": args.from, "to": args.to});
        let answer = server.post("/api/v1/reconcile", &asked).await?;
        Ok(answer["data"].clone())
    });
    let data = match said {
        Ok(data) => data,
        Err(error) => return finish(Err(error)),
    };
    print!("{}", if args.json { format!("{data:#}\n") } else { shown(&data) });
    match data["agrees"] == true {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn shown(data: &Value) -> String {
    let mut out = String::new();
    for gap in data["gaps"].as_array().map_or(&[][..], Vec::as_slice) {
        let hour = Millis(gap["hour"].as_i64().unwrap_or_default());
        let ad = gap["ad_id"].as_str().filter(|ad| !ad.is_empty()).unwrap_or("all");
        let metric = gap["metric"].as_str().unwrap_or_default();
        let _ = writeln!(
            out,
            "{hour}  {ad}  {metric}: {} counted, {} in raw events",
            gap["counted"], gap["raw"]
        );
    }
    let word = if data["agrees"] == true { "agrees" } else { "DIFFERS" };
    let _ = writeln!(
        out,
        "{word}: {} rows, {} events, {} net, {} id conflicts, {} duplicates, difference {}",
        data["rows"], data["events"], data["net"], data["id_conflicts"], data["duplicates"], data["difference"]
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_named() {
        let data = json!({
            "agrees": false, "rows": 3, "events": 3, "net": 2, "id_conflicts": 0, "duplicates": 1, "difference": 1,
            "gaps": [{"hour": 0, "ad_id": "", "metric": "net_clicks", "counted": 3, "raw": 2}],
        });
        let text = shown(&data);
        assert!(
            text.contains("all  net_clicks: 3 counted, 2 in raw events\nDIFFERS"),
            "{text}"
        );
    }
}
