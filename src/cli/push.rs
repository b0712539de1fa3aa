//! `campanile push`: one sample from a cron job or a shell.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::ingest::text::{TextFormat, TextLine, lines};
use crate::io::disk::{Disk, OsDisk};
use crate::io::files;
use crate::io::http_client::{HttpClient, HttpOptions, HttpRequest, ReqwestClient};
use crate::model::{Interval, Labels};

/// Push one sample: campanile push 'backup_size_bytes{host="db-1"}' 1.5e9
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The series, as PromQL and /metrics pages write it.
    series: String,
    /// The value: a number, NaN, +Inf or -Inf.
    #[arg(allow_negative_numbers = true)]
    value: String,
    /// The sample's time in Unix milliseconds; the server's clock by default.
    #[arg(long)]
    at: Option<i64>,
    /// The server's base URL.
    #[arg(long, default_value = "http://127.0.0.1:9490", env = "CAMPANILE_URL")]
    url: String,
    /// A file with the token to send.
    #[arg(long)]
    token_file: Option<PathBuf>,
}

/// Pushes the sample; the exit code says whether it is stored.
pub(crate) fn run(args: PushArgs) -> ExitCode {
    match push(&args, &OsDisk) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campanile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn push(args: &PushArgs, disk: &dyn Disk) -> Result<(), String> {
    let request = request(args, disk)?;
    let answer = super::block_on(async { ReqwestClient::new().send(request).await });
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status / 100 == 2 {
        return Ok(());
    }
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let said = said["error"]
        .as_str()
        .map_or_else(|| String::from_utf8_lossy(&answer.body).into_owned(), str::to_owned);
    Err(format!("the server answered {}: {}", answer.status, said.trim()))
}

/// Reads the arguments with the parser that the server uses, so that a mistake shows before anything is sent.
fn request(args: &PushArgs, disk: &dyn Disk) -> Result<HttpRequest, String> {
    let at = args.at.map_or_else(String::new, |at| format!(" {at}"));
    let line = format!("{} {}{at}", args.series.trim(), args.value.trim());
    let mut read = lines(&line, TextFormat::Prometheus);
    match (read.next(), read.next()) {
        (Some(Ok(TextLine::Sample(sample))), None) => {
            tracing::debug!(labels = %Labels::from_pairs(sample.labels), "push")
        }
        (Some(Err(error)), _) => return Err(error.reason),
        _ => return Err(format!("{line:?} is not one sample")),
    }
    let mut headers = vec![("Content-Type".to_owned(), "text/plain".to_owned())];
    if let Some(file) = &args.token_file {
        let token = files::read_text(disk, file).map_err(|error| format!("{}: {error}", file.display()))?;
        headers.push(("Authorization".to_owned(), format!("Bearer {}", token.trim())));
    }
    Ok(HttpRequest {
        method: "POST".to_owned(),
        url: format!("{}/api/v1/import/prometheus", args.url.trim_end_matches('/')),
        headers,
        body: bytes::Bytes::from(format!("{line}\n")),
        timeout: Interval::secs(30),
        options: HttpOptions::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::SimDisk;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PushArgs,
    }

    fn read(words: &[&str]) -> Result<HttpRequest, String> {
        let args = Line::try_parse_from([&["push"], words].concat())
            .map_err(|error| error.to_string())?
            .args;
        request(&args, &SimDisk::seeded(1))
    }

    #[test]
    fn the_arguments_become_one_line_of_text() {
        let request = read(&["temp{room=\"a\"}", "-3.5", "--at", "5", "--url", "http://x/"]).unwrap();
        assert_eq!(request.url, "http://x/api/v1/import/prometheus");
        assert_eq!(request.body, "temp{room=\"a\"} -3.5 5\n");
    }

    #[test]
    fn a_mistake_shows_before_anything_is_sent() {
        assert!(read(&["temp{room=a}", "1"]).unwrap_err().contains("quoted value"));
        assert!(read(&["temp", "warm"]).unwrap_err().contains("not a number"));
        assert!(read(&["temp 1\nother", "1"]).unwrap_err().contains("not one sample"));
        assert!(
            read(&["temp", "1", "--token-file", "/none"])
                .unwrap_err()
                .contains("/none")
        );
    }
}
