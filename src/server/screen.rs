//! The one screen that `serve` prints when it is ready: where things are.

use std::net::SocketAddr;

use crate::config::Config;

/// Returns the screen.
pub(super) fn text(config: &Config, address: SocketAddr) -> String {
    let url = config.url();
    let rules = config
        .rules
        .as_ref()
        .map_or_else(|| "the shipped ones".to_owned(), |patterns| patterns.join(", "));
    let paging = config.alertmanager.as_ref().map_or_else(
        || "nobody is paged; name an alertmanager.yml with `alertmanager:`".to_owned(),
        |path| path.display().to_string(),
    );
    let agent = match config.agent.enabled {
        true => format!("this host's metrics every {}", config.agent.interval),
        false => "off".to_owned(),
    };
    format!(
        "
  Campanile {version}

  Web pages    {url}/
  Push         http://{address}/api/v1/write        Prometheus remote write
  Query        http://{address}/api/v1/query        Prometheus API; Alertmanager API at /api/v2
  Data         {data}, kept for {retention}
  Rules        {rules}
  Paging       {paging}
  Agent        {agent}

  Ctrl-C stops the server; the data stays.
",
        version = env!("CARGO_PKG_VERSION"),
        data = config.data_dir.display(),
        retention = config.storage.retention,
    )
}
