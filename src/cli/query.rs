//! `campanile query`: asks a server and shows the answer as a table, JSON, CSV or a chart.

mod answer;
mod chart;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use self::answer::Answer;
use crate::io::disk::OsDisk;
use crate::io::http_client::{HttpClient, HttpOptions, HttpRequest, ReqwestClient};
use crate::io::{Clock, SystemClock, files};
use crate::model::Interval;
use crate::query::parse;

/// Ask a server a query.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// The query.
    query: String,
    /// The server's base URL; any server with Prometheus's API.
    #[arg(long, default_value = "http://127.0.0.1:9490", env = "CAMPANILE_URL")]
    url: String,
    /// When: seconds since the epoch or RFC 3339. Default: now.
    #[arg(long)]
    time: Option<String>,
    /// Ask for all values of this length of time up to `--time`, as in 6h.
    #[arg(long)]
    range: Option<Interval>,
    /// With `--range`: the time from value to value. Default: 1/120 of the range, one second at least.
    #[arg(long, requires = "range")]
    step: Option<Interval>,
    /// How to show the answer. Default: a table, or a chart of a range on a terminal.
    #[arg(long, short, value_enum)]
    output: Option<Output>,
    /// Give up after this time.
    #[arg(long, default_value = "30s")]
    timeout: Interval,
    /// A file with the bearer token to send.
    #[arg(long)]
    token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns of text.
    Table,
    /// The server's own JSON.
    Json,
    /// One line for each value: time, value, series.
    Csv,
    /// Lines drawn in the terminal.
    Chart,
}

/// How many steps a range has when none is given.
const STEPS: i64 = 120;

/// Asks and prints.
pub(crate) fn run(args: QueryArgs) -> ExitCode {
    match ask(&args) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("campanile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask(args: &QueryArgs) -> Result<String, String> {
    let request = request(args, SystemClock::new().now().as_secs_f64())?;
    let response = super::block_on(async { ReqwestClient::new().send(request).await });
    let response = response.map_err(|error| error.to_string())?;
    let json: Value = serde_json::from_slice(&response.body).map_err(|_| {
        let begin: String = String::from_utf8_lossy(&response.body).chars().take(200).collect();
        format!("status {}, and no JSON but {begin:?}", response.status)
    })?;
    if json["status"] != "success" {
        return Err(refusal(&args.query, &json));
    }
    for kind in ["warnings", "infos"] {
        for text in json[kind].as_array().into_iter().flatten().filter_map(Value::as_str) {
            eprintln!("campanile: {text}");
        }
    }
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let output = args.output.unwrap_or(match args.range {
        Some(_) if terminal => Output::Chart,
        _ => Output::Table,
    });
    if output == Output::Json {
        return Ok(format!("{json}\n"));
    }
    let answer = Answer::read(&json["data"])?;
    if answer.series.is_empty() {
        eprintln!("campanile: no series matches at that time");
    }
    Ok(match output {
        Output::Csv => table::csv(&answer),
        Output::Chart => chart::draw(&answer, terminal),
        Output::Table | Output::Json => table::table(&answer),
    })
}

/// Words the server's refusal; a parse error is shown with its place, from our own parser when the server gives no hint.
fn refusal(query: &str, json: &Value) -> String {
    let mut text = json["error"]
        .as_str()
        .unwrap_or("the server refused without a reason")
        .to_owned();
    let hint = json["hint"].as_str().map(str::to_owned).or_else(|| match parse(query) {
        Err(crate::query::QueryError::Parse { hint, .. }) => Some(hint),
        _ => None,
    });
    for line in hint.iter().flat_map(|hint| hint.lines()) {
        text.push_str("\n    ");
        text.push_str(line);
    }
    text
}

fn request(args: &QueryArgs, now: f64) -> Result<HttpRequest, String> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("query", &args.query);
    form.append_pair("timeout", &args.timeout.to_string());
    let path = match args.range {
        None => {
            if let Some(time) = &args.time {
                form.append_pair("time", time);
            }
            "query"
        }
        Some(range) => {
            let end = args.time.as_deref().map_or(Ok(now), seconds)?;
            let step = args.step.unwrap_or(Interval((range.0 / STEPS).max(1000)));
            form.append_pair("start", &format!("{:.3}", end - range.as_secs_f64()));
            form.append_pair("end", &format!("{end:.3}"));
            form.append_pair("step", &format!("{}", step.as_secs_f64()));
            "query_range"
        }
    };
    let form_type = "application/x-www-form-urlencoded".to_owned();
    let mut headers = vec![("content-type".to_owned(), form_type)];
    if let Some(file) = &args.token_file {
        let token =
            files::read_text(&OsDisk, file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        headers.push(("authorization".to_owned(), format!("Bearer {}", token.trim())));
    }
    Ok(HttpRequest {
        method: "POST".to_owned(),
        url: format!("{}/api/v1/{path}", args.url.trim_end_matches('/')),
        headers,
        body: form.finish().into(),
        timeout: args.timeout,
        options: HttpOptions::default(),
    })
}

/// Reads a time of the command line as seconds since the epoch.
fn seconds(text: &str) -> Result<f64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| format!("{text:?} is no time"))?;
    Ok(crate::model::Millis(at.as_millisecond()).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(range: Option<Interval>) -> QueryArgs {
        QueryArgs {
            query: "up{a=\"b\"}".to_owned(),
            url: "http://localhost:1/".to_owned(),
            time: Some("2015-07-01T20:10:51Z".to_owned()),
            range,
            step: None,
            output: None,
            timeout: Interval::secs(5),
            token_file: None,
        }
    }

    #[test]
    fn a_range_is_asked_up_to_the_given_time() {
        let request = request(&args(Some(Interval::hours(1))), 0.0).unwrap();
        assert_eq!(request.url, "http://localhost:1/api/v1/query_range");
        let body = "query=up%7Ba%3D%22b%22%7D&timeout=5s&start=1435777851.000&end=1435781451.000&step=30";
        assert_eq!(request.body, body);
    }

    #[test]
    fn a_refusal_points_at_the_place() {
        let json = serde_json::json!({"status": "error", "error": "1:1: parse error: unexpected <op:*>"});
        assert_eq!(
            refusal("*a", &json),
            "1:1: parse error: unexpected <op:*>\n    *a\n    ^"
        );
    }
}
