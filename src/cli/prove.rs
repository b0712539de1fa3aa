//! `campanile prove`: a count, and the SQL that counts it again from raw files without us.

use std::process::ExitCode;

use clap::Args;

use super::backfill::moment;
use super::server::{ServerArgs, finish, talk};
use crate::model::Millis;

/// Print the SQL that recomputes a count from raw files.
#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// From then on.
    #[arg(long, value_parser = moment)]
    from: Millis,
    /// Until before then.
    #[arg(long, value_parser = moment)]
    to: Millis,
    /// clicks, impressions, conversions, spend, revenue, pageviews or events.
    #[arg(long, default_value = "clicks")]
    metric: String,
    /// net or gross.
    #[arg(long, default_value = "net")]
    traffic: String,
    /// ads or web.
    #[arg(long, default_value = "ads")]
    domain: String,
    /// Fields and their values: ad_id=x country=DE
    #[arg(value_parser = pair)]
    fields: Vec<(String, String)>,
    #[command(flatten)]
    server: ServerArgs,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not written like ad_id=x"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the command.
pub(crate) fn run(args: &ProveArgs) -> ExitCode {
    let (from, to) = (args.from.0.to_string(), args.to.0.to_string());
    let mut query = vec![
        ("from", from.as_str()),
        ("to", to.as_str()),
        ("metric", args.metric.as_str()),
        ("traffic", args.traffic.as_str()),
        ("domain", args.domain.as_str()),
    ];
    query.extend(args.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    finish(talk(&args.server, async |server| {
        let answer = server.get("/api/v1/prove", &query).await?;
        let sql = answer["data"]["sql"].as_str().unwrap_or_default();
        Ok(format!("-- answered: {}\n{sql};\n", answer["data"]["count"]))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_pairs() {
        assert_eq!(pair("ad_id=a=b"), Ok(("ad_id".to_owned(), "a=b".to_owned())));
        assert!(pair("ad_id").is_err());
    }
}
