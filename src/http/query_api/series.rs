//! What there is: series, label names and values, metadata, exemplars.

use axum::response::Response;
use serde_json::{Map, Value, json};

use super::evaluate::{blocking, check};
use super::query::{bad_query, parse_query};
use crate::http::params::{Params, invalid};
use crate::http::{ApiError, Call, view};
use crate::model::{Labels, Matcher, MetricMetadata};
use crate::query::parse_selector;

/// Says that an answer was cut by its `limit`.
pub(super) const CUT: &str = "results truncated due to limit";

/// Reads all `match[]`.
pub(super) fn match_sets(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    params
        .all("match[]")
        .map(|text| parse_selector(text).map_err(|error| bad_query("match[]", error)))
        .collect()
}

/// Leaves only the first `limit` items; returns the warning when that dropped some.
fn cut<T>(items: &mut Vec<T>, limit: usize) -> Vec<String> {
    if items.len() <= limit {
        return Vec::new();
    }
    items.truncate(limit);
    vec![CUT.to_owned()]
}

pub(super) async fn series(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let sets = match_sets(&params)?;
    if sets.is_empty() {
        return Err(ApiError::BadData("no match[] parameter provided".to_owned()));
    }
    let (range, limit) = (params.range()?, params.limit("limit")?);
    blocking(&call.app, call.app.query_options.timeout, move |app, interrupt| {
        let mut found = app.querier.series(&sets, range)?;
        check(&interrupt)?;
        let warnings = cut(&mut found, limit);
        let data = found.iter().map(labels_json).collect();
        Ok(view::success(&data, &warnings))
    })
    .await
}

fn labels_json(labels: &Labels) -> Value {
    let pairs = labels.iter().map(|(name, value)| (name.to_owned(), json!(value)));
    Value::Object(pairs.collect::<Map<String, Value>>())
}

pub(super) async fn label_names(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let (sets, range, limit) = (match_sets(&params)?, params.range()?, params.limit("limit")?);
    blocking(&call.app, call.app.query_options.timeout, move |app, _| {
        let mut names = app.querier.label_names(&sets, range)?;
        let warnings = cut(&mut names, limit);
        Ok(view::success(&json!(names), &warnings))
    })
    .await
}

pub(super) async fn label_values(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let name = unescape_name(call.param("name")).ok_or_else(|| {
        let reason = format!("invalid label name: {:?}", call.param("name"));
        invalid("name", &reason)
    })?;
    let (sets, range, limit) = (match_sets(&params)?, params.range()?, params.limit("limit")?);
    blocking(&call.app, call.app.query_options.timeout, move |app, _| {
        let mut values = app.querier.label_values(&name, &sets, range)?;
        let warnings = cut(&mut values, limit);
        Ok(view::success(&json!(values), &warnings))
    })
    .await
}

/// Undoes Prometheus's escapes of UTF-8 names in paths: `U__http_2e_status` is `http.status`. Any other name stands for
/// itself; `None` when it is empty or the escapes make no sense.
fn unescape_name(name: &str) -> Option<String> {
    let Some(escaped) = name.strip_prefix("U__") else {
        return (!name.is_empty()).then(|| name.to_owned());
    };
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
        } else {
            let (hex, after) = rest.split_once('_')?;
            out.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
            rest = after;
        }
    }
    out.push_str(rest);
    (!out.is_empty()).then_some(out)
}

pub(super) async fn metadata(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let (limit, per_metric) = (params.limit("limit")?, params.limit("limit_per_metric")?);
    let metric = params.get("metric").map(str::to_owned);
    blocking(&call.app, call.app.query_options.timeout, move |app, _| {
        let wanted = |entry: &MetricMetadata| metric.as_ref().is_none_or(|metric| *metric == entry.metric);
        let mut by_metric = Map::new();
        for entry in app.querier.metadata().into_iter().filter(wanted) {
            let row = json!({"type": entry.kind.as_str(), "unit": entry.unit, "help": entry.help});
            if !by_metric.contains_key(&entry.metric) && by_metric.len() >= limit {
                continue;
            }
            let rows = by_metric.entry(entry.metric).or_insert_with(|| json!([]));
            if let Value::Array(rows) = rows
                && rows.len() < per_metric
            {
                rows.push(row);
            }
        }
        Ok(view::success(&Value::Object(by_metric), &[]))
    })
    .await
}

/// Metadata as scraped targets gave it: senders push here, so that a target is what `match_target` says of `job` and `instance`.
pub(super) async fn target_metadata(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let limit = params.limit("limit")?;
    let metric = params.get("metric").map(str::to_owned);
    if let Some(selector) = params.get("match_target") {
        parse_selector(selector).map_err(|error| bad_query("match_target", error))?;
    }
    blocking(&call.app, call.app.query_options.timeout, move |app, _| {
        let mut rows = Vec::new();
        for entry in app.querier.metadata() {
            if metric.as_ref().is_some_and(|metric| *metric != entry.metric) || rows.len() >= limit {
                continue;
            }
            rows.push(json!({
                "target": {},
                "metric": entry.metric,
                "type": entry.kind.as_str(),
                "help": entry.help,
                "unit": entry.unit,
            }));
        }
        Ok(view::success(&Value::Array(rows), &[]))
    })
    .await
}

pub(super) async fn exemplars(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let range = params.range()?;
    let sets: Vec<Vec<Matcher>> = parse_query(&params)?
        .selectors()
        .into_iter()
        .map(|selector| selector.matchers)
        .collect();
    blocking(&call.app, call.app.query_options.timeout, move |app, interrupt| {
        // Without a selector the store would show everything.
        let found = match sets.is_empty() {
            true => Vec::new(),
            false => app.querier.exemplars(&sets, range)?,
        };
        check(&interrupt)?;
        let rows = found.into_iter().map(|series| {
            let exemplars = series.exemplars.iter().map(|exemplar| {
                json!({
                    "labels": labels_json(&exemplar.labels),
                    "value": crate::query::float::go_float(exemplar.value),
                    "timestamp": exemplar.at.as_secs_f64(),
                })
            });
            json!({"seriesLabels": labels_json(&series.labels), "exemplars": exemplars.collect::<Vec<_>>()})
        });
        Ok(view::success(&rows.collect(), &[]))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_label_names_are_read() {
        for (name, plain) in [
            ("job", Some("job")),
            ("http.status", Some("http.status")),
            ("U__http_2e_status", Some("http.status")),
            ("U__a__b", Some("a_b")),
            ("U__", None),
            ("U__a_zz_", None),
            ("U__a_2e", None),
            ("", None),
        ] {
            assert_eq!(unescape_name(name).as_deref(), plain, "{name}");
        }
    }
}
