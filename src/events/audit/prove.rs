//! Proof: the SQL that counts once more, from the raw files that count, whatever can be asked of us.

use serde::Serialize;

use super::super::{CellMetric, Domain, Events, Question};
use super::AuditError;

/// How to count again without us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// What we answer; spend and revenue in millionths.
    pub count: i64,
    /// The statement (DuckDB's dialect; names of files are relative to the folder `events` of the data directory).
    pub sql: String,
    /// The files.
    pub files: Vec<String>,
}

/// Returns the condition that a number counts by, and what of the rows is summed.
fn number(metric: CellMetric) -> Option<(&'static str, &'static str)> {
    Some(match metric {
        CellMetric::NetClicks => ("type = 'click' AND reasons & 65535 = 0", "1"),
        CellMetric::GrossClicks => ("type = 'click'", "1"),
        CellMetric::NetImpressions => ("type = 'impression' AND reasons & 65535 = 0", "1"),
        CellMetric::GrossImpressions => ("type = 'impression'", "1"),
        CellMetric::NetConversions => ("type = 'conversion' AND reasons & 65535 = 0", "1"),
        CellMetric::GrossConversions => ("type = 'conversion'", "1"),
        CellMetric::NetSpend => (
            "type IN ('click', 'impression') AND reasons & 65535 = 0",
            "price_micros",
        ),
        CellMetric::GrossSpend => ("type IN ('click', 'impression')", "price_micros"),
        CellMetric::NetPageviews => ("type = 'pageview' AND reasons & 65535 = 0", "1"),
        CellMetric::GrossPageviews => ("type = 'pageview'", "1"),
        CellMetric::NetRevenue => ("reasons & 65535 = 0", "revenue_micros"),
        CellMetric::Other => ("type IN ('event', 'engagement', 'vitals') AND reasons & 65535 = 0", "1"),
        CellMetric::Late | CellMetric::Revisions | CellMetric::Duplicates => return None,
    })
}

/// Answers a question together with the statement that answers it from raw files. Blocks: what is not in a file yet is
/// written first.
///
/// # Errors
/// [`AuditError`].
pub fn prove(events: &Events, question: &Question, metric: CellMetric) -> Result<Proof, AuditError> {
    let (condition, summed) = number(metric)
        .ok_or_else(|| AuditError::Asked(format!("{} is not made of raw events alone", metric.name())))?;
    events.save()?;
    let (counts, _) = events.totals(question)?;
    let files = events.raw_files(question.from, question.to);
    let files: Vec<String> = files.into_iter().map(|file| file.name).collect();
    Ok(Proof {
        count: counts.get(metric),
        sql: statement(question, condition, summed, &files),
        files,
    })
}

fn statement(question: &Question, condition: &str, summed: &str, files: &[String]) -> String {
    let mut wheres = vec![
        format!(
            "epoch_ms(ts) >= {} AND epoch_ms(ts) < {}",
            question.from.0, question.to.0
        ),
        condition.to_owned(),
    ];
    if summed == "revenue_micros" {
        wheres.push(match question.domain {
            Domain::Ads => "type IN ('click', 'impression', 'conversion')".to_owned(),
            Domain::Web => "type NOT IN ('click', 'impression', 'conversion')".to_owned(),
        });
    }
    for (field, value) in &question.fields {
        wheres.push(match value.is_empty() {
            true => format!("\"{}\" IS NULL", field.name()),
            false => format!("\"{}\" = {}", field.name(), quoted(value)),
        });
    }
    for (column, hashes) in [("user_hash", &question.users), ("ip_hash", &question.ips)] {
        if !hashes.is_empty() {
            let hashes: Vec<String> = hashes
                .iter()
                .map(|hash| quoted(&hash.to_string().to_uppercase()))
                .collect();
            wheres.push(format!("hex({column}) IN ({})", hashes.join(", ")));
        }
    }
    if files.is_empty() {
        return "SELECT 0 AS count -- no raw file holds events of that time".to_owned();
    }
    let names: Vec<String> = files.iter().map(|name| quoted(name)).collect();
    // An event that lies in two files counts once.
    format!(
        "SELECT coalesce(sum(n), 0)::BIGINT AS count FROM (\n  SELECT event_id, any_value({summed}) AS n\n  \
         FROM read_parquet([\n    {}\n  ], hive_partitioning = false)\n  WHERE {}\n  GROUP BY event_id\n)",
        names.join(",\n    "),
        wheres.join("\n    AND ")
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::super::{Field, PersonHash};
    use super::*;
    use crate::model::Millis;

    #[test]
    fn the_statement_says_what_is_counted() {
        let question = Question {
            domain: Domain::Ads,
            from: Millis(60_000),
            to: Millis(120_000),
            fields: vec![(Field::AdId, "o'neil".to_owned()), (Field::Country, String::new())],
            users: vec![PersonHash(0xab)],
            ips: Vec::new(),
        };
        let (condition, summed) = number(CellMetric::NetClicks).unwrap();
        let sql = statement(&question, condition, summed, &["raw/a.parquet".to_owned()]);
        for part in [
            "'raw/a.parquet'",
            "epoch_ms(ts) >= 60000 AND epoch_ms(ts) < 120000",
            "\"ad_id\" = 'o''neil'",
            "\"country\" IS NULL",
            "hex(user_hash) IN ('000000000000000000000000000000AB')",
            "reasons & 65535 = 0",
        ] {
            assert!(sql.contains(part), "{sql}");
        }
    }
}
