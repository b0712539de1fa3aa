//! A server to talk to: where it is, who we are, and its answers as JSON.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::io::disk::{Disk, OsDisk};
use crate::io::files;
use crate::io::http_client::{HttpClient, HttpOptions, HttpRequest, HttpResponse, ReqwestClient};
use crate::model::Interval;

/// Where the server is.
#[derive(Clone, Debug, Args)]
pub(super) struct ServerArgs {
    /// The server's base URL.
    #[arg(long, default_value = "http://127.0.0.1:9490", env = "CAMPANILE_URL")]
    pub(super) url: String,
    /// A file with the bearer token to send.
    #[arg(long)]
    pub(super) token_file: Option<PathBuf>,
}

/// A server that can be asked.
pub(super) struct Server<'a> {
    url: String,
    token: Option<String>,
    client: &'a dyn HttpClient,
}

impl<'a> Server<'a> {
    /// Reads the token.
    ///
    /// # Errors
    /// A text naming the file that cannot be read.
    pub(super) fn new(args: &ServerArgs, client: &'a dyn HttpClient, disk: &dyn Disk) -> Result<Server<'a>, String> {
        let token = args.token_file.as_ref().map(|file| {
            let text = files::read_text(disk, file).map_err(|error| format!("{}: {error}", file.display()))?;
            Ok::<_, String>(text.trim().to_owned())
        });
        Ok(Server {
            url: args.url.trim_end_matches('/').to_owned(),
            token: token.transpose()?,
            client,
        })
    }

    /// Asks for JSON; `path` begins with a slash.
    ///
    /// # Errors
    /// What the server said, or why it said nothing.
    pub(super) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let answer = self.send("GET", path, query, ("", String::new())).await?;
        read(&answer)
    }

    /// Sends JSON and returns the answer, `null` when it is empty.
    ///
    /// # Errors
    /// What the server said, or why it said nothing.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let answer = self
            .send("POST", path, &[], ("application/json", body.to_string()))
            .await?;
        read(&answer)
    }

    /// Sends `DELETE`.
    ///
    /// # Errors
    /// What the server said, or why it said nothing.
    pub(super) async fn delete(&self, path: &str) -> Result<Value, String> {
        let answer = self.send("DELETE", path, &[], ("", String::new())).await?;
        read(&answer)
    }

    /// Sends a body of any type and returns the answer, whatever its status.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        (content_type, body): (&str, String),
    ) -> Result<HttpResponse, String> {
        let mut url = format!("{}{path}", self.url);
        if !query.is_empty() {
            let pairs = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(query)
                .finish();
            url = format!("{url}?{pairs}");
        }
        let mut headers = Vec::new();
        if !content_type.is_empty() {
            headers.push(("Content-Type".to_owned(), content_type.to_owned()));
        }
        headers.extend(
            self.token
                .iter()
                .map(|token| ("Authorization".to_owned(), format!("Bearer {token}"))),
        );
        let request = HttpRequest {
            method: method.to_owned(),
            url,
            headers,
            body: body.into(),
            timeout: Interval::mins(2),
            options: HttpOptions::default(),
        };
        self.client.send(request).await.map_err(|error| error.to_string())
    }
}

/// Runs one conversation with the server over the network.
///
/// # Errors
/// What the conversation says.
pub(super) fn talk<T>(
    args: &ServerArgs,
    conversation: impl AsyncFnOnce(Server<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let client = ReqwestClient::new();
    let server = Server::new(args, &*client, &OsDisk)?;
    super::block_on(conversation(server))
}

/// Prints what a command has to say, or why it failed.
pub(super) fn finish(said: Result<String, String>) -> std::process::ExitCode {
    match said {
        Ok(text) => {
            print!("{text}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("campanile: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Takes the JSON of a success, in Prometheus's wrapping or without.
fn read(answer: &HttpResponse) -> Result<Value, String> {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status / 100 == 2 {
        return Ok(match json.get("status").and_then(Value::as_str) {
            Some("success") => json["data"].clone(),
            _ => json,
        });
    }
    Err(said(answer))
}

/// Words a refusal.
pub(super) fn said(answer: &HttpResponse) -> String {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = json["error"]
        .as_str()
        .or_else(|| json.as_str())
        .map_or_else(|| String::from_utf8_lossy(&answer.body).into_owned(), str::to_owned);
    let text: String = text.trim().chars().take(2_000).collect();
    format!("the server answered {}: {text}", answer.status)
}
