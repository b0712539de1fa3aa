//! `campanile silence`: silences, as people know them from amtool, and those that come again by a calendar.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::alert::{columns, matcher};
use super::backfill::moment;
use super::server::{ServerArgs, finish, talk};
use crate::alertmanager::parse_matchers;
use crate::io::{Clock, SystemClock};
use crate::model::{Interval, MatchOp, Millis};

/// Make, list and end silences.
#[derive(Debug, Args)]
pub(crate) struct SilenceArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Add(AddArgs),
    Query(QueryArgs),
    Expire(ExpireArgs),
}

/// Silence what all matchers match; prints the silence's id.
#[derive(Debug, Args)]
struct AddArgs {
    /// alertname, or matchers: severity="page" env=~"prod|stage"
    #[arg(required = true)]
    matchers: Vec<String>,
    /// How long.
    #[arg(long, short, default_value = "1h")]
    duration: Interval,
    /// When it begins; now by default.
    #[arg(long, value_parser = moment)]
    start: Option<Millis>,
    /// When it ends, instead of a duration.
    #[arg(long, value_parser = moment, conflicts_with = "duration")]
    end: Option<Millis>,
    /// Why.
    #[arg(long, short)]
    comment: String,
    /// Who.
    #[arg(long, short, env = "USER", default_value = "unknown")]
    author: String,
    /// Only in these times: a list of time_intervals as in alertmanager.yml, for example
    /// '[{weekdays: [sunday], times: [{start_time: "02:00", end_time: "04:00"}], location: Europe/Berlin}]'
    #[arg(long)]
    calendar: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// List silences.
#[derive(Debug, Args)]
struct QueryArgs {
    /// alertname, or matchers of the silences' own labels.
    matchers: Vec<String>,
    /// Show those that are over, too.
    #[arg(long)]
    expired: bool,
    /// Print only the ids.
    #[arg(long, short)]
    quiet: bool,
    /// Print the server's JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// End silences now.
#[derive(Debug, Args)]
struct ExpireArgs {
    /// Their ids.
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries the command out.
pub(crate) fn run(args: &SilenceArgs) -> ExitCode {
    finish(match &args.what {
        What::Add(args) => add(args),
        What::Query(args) => query(args),
        What::Expire(args) => expire(args),
    })
}

/// Words the silence as the API wants it.
fn silence(args: &AddArgs, now: Millis) -> Result<Value, String> {
    let mut matchers = Vec::new();
    for text in &args.matchers {
        for matcher in parse_matchers(&matcher(text))? {
            matchers.push(json!({
                "name": matcher.name,
                "value": matcher.value,
                "isRegex": matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex),
                "isEqual": matches!(matcher.op, MatchOp::Equal | MatchOp::Regex),
            }));
        }
    }
    let start = args.start.unwrap_or(now);
    let mut silence = json!({
        "matchers": matchers,
        "startsAt": start.to_string(),
        "endsAt": args.end.unwrap_or(start + args.duration).to_string(),
        "createdBy": args.author,
        "comment": args.comment,
    });
    if let Some(text) = &args.calendar {
        let calendar: Value = serde_yaml::from_str(text).map_err(|error| format!("--calendar: {error}"))?;
        silence["timeIntervals"] = calendar;
    }
    Ok(silence)
}

fn add(args: &AddArgs) -> Result<String, String> {
    let silence = silence(args, SystemClock::new().now())?;
    let made = talk(&args.server, async |server| {
        server.post("/api/v2/silences", &silence).await
    })?;
    Ok(format!("{}\n", made["silenceID"].as_str().unwrap_or_default()))
}

fn query(args: &QueryArgs) -> Result<String, String> {
    let filters: Vec<String> = args.matchers.iter().map(|text| matcher(text)).collect();
    let mut asked = vec![("expired", if args.expired { "true" } else { "false" })];
    asked.extend(filters.iter().map(|filter| ("filter", filter.as_str())));
    let silences = talk(&args.server, async |server| {
        server.get("/api/v2/silences", &asked).await
    })?;
    if args.json {
        return Ok(format!("{silences}\n"));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = silences.as_array().cloned().unwrap_or_default();
    if args.quiet {
        return Ok(list.iter().map(|silence| text(&silence["id"]) + "\n").collect());
    }
    let mut lines = vec![["ID", "Matchers", "State", "Ends At", "Created By", "Comment"].map(str::to_owned)];
    for silence in &list {
        let matchers: Vec<String> = silence["matchers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(shown)
            .collect();
        lines.push([
            text(&silence["id"]),
            matchers.join(" "),
            text(&silence["status"]["state"]),
            text(&silence["endsAt"]),
            text(&silence["createdBy"]),
            text(&silence["comment"]),
        ]);
    }
    Ok(columns(&lines))
}

fn shown(matcher: &Value) -> String {
    let op = match (matcher["isEqual"] != false, matcher["isRegex"] == true) {
        (true, false) => "=",
        (false, false) => "!=",
        (true, true) => "=~",
        (false, true) => "!~",
    };
    let text = |name: &str| matcher[name].as_str().unwrap_or_default().to_owned();
    format!("{}{op}{:?}", text("name"), text("value"))
}

fn expire(args: &ExpireArgs) -> Result<String, String> {
    talk(&args.server, async |server| {
        for id in &args.ids {
            server.delete(&format!("/api/v2/silence/{id}")).await?;
        }
        Ok(String::new())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AddArgs,
    }

    fn read(words: &[&str]) -> Value {
        let line = Line::parse_from([&["add", "-c", "why", "-a", "me"], words].concat());
        silence(&line.args, Millis(0)).unwrap()
    }

    #[test]
    fn matchers_times_and_calendars_become_a_silence() {
        let made = read(&[
            "Down",
            "env!~\"a|b\"",
            "-d",
            "2h",
            "--calendar",
            "[{weekdays: [sunday]}]",
        ]);
        assert_eq!(
            made["matchers"],
            json!([
                {"name": "alertname", "value": "Down", "isRegex": false, "isEqual": true},
                {"name": "env", "value": "a|b", "isRegex": true, "isEqual": false}
            ])
        );
        assert_eq!(
            (&made["endsAt"], &made["timeIntervals"]),
            (&json!("1970-01-01T02:00:00.000Z"), &json!([{"weekdays": ["sunday"]}]))
        );
        assert_eq!(shown(&made["matchers"][1]), "env!~\"a|b\"");
    }
}
