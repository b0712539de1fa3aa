//! Logs: one line an event, text or JSON, to standard error.

use tracing_subscriber::EnvFilter;

/// How the process logs.
#[derive(Clone, Debug)]
pub struct Logging {
    /// JSON lines instead of text.
    pub json: bool,
    /// A level, or a filter by module: `info,campanile::rules=debug`.
    pub filter: String,
}

impl Logging {
    /// Starts logging. A second call in one process (tests) changes nothing.
    ///
    /// # Errors
    /// A text when the filter is malformed.
    pub fn start(&self) -> Result<(), String> {
        // Libraries below us say at `info` what only their authors want to know.
        let directives = format!("{},hyper=warn,reqwest=warn,rustls=warn,h2=warn", self.filter);
        let filter = EnvFilter::try_new(directives).map_err(|error| format!("--log-level: {error}"))?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        let _ = match self.json {
            true => builder.json().flatten_event(true).try_init(),
            false => builder.with_ansi(false).try_init(),
        };
        Ok(())
    }
}
