//! `/federate`: the newest sample of each matching series in the text format, for another Prometheus to scrape.

use std::collections::HashMap;
use std::fmt::Write as _;

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::evaluate::{blocking, check};
use super::series::match_sets;
use crate::http::params::Params;
use crate::http::{ApiError, Call};
use crate::model::{Labels, METRIC_NAME, MetricKind, TimeRange, is_valid_label_name, is_valid_metric_name};
use crate::query::Interrupt;
use crate::query::float::go_float;
use crate::storage::{Hints, Point, Querier, Select};

pub(super) async fn federate(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let sets = match_sets(&params)?;
    let max = call.app.clock.now();
    let range = TimeRange {
        min: max - call.app.query_options.lookback,
        max,
    };
    let text = blocking(&call.app, call.app.query_options.timeout, move |app, interrupt| {
        let mut newest: Vec<(Labels, Point)> = Vec::new();
        for matchers in sets {
            let select = Select {
                matchers,
                range,
                hints: Hints::default(),
            };
            collect(&*app.querier, &select, &interrupt, &mut newest)?;
        }
        newest.sort_by(|a, b| {
            a.0.value(METRIC_NAME)
                .cmp(b.0.value(METRIC_NAME))
                .then_with(|| a.0.cmp(&b.0))
        });
        newest.dedup_by(|later, earlier| later.0 == earlier.0);
        let metadata = app.querier.metadata();
        let kinds = metadata
            .iter()
            .map(|entry| (entry.metric.as_str(), entry.kind))
            .collect();
        Ok(exposition(&newest, &kinds))
    })
    .await?;
    Ok((
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8",
        )],
        text,
    )
        .into_response())
}

fn collect(
    querier: &dyn Querier,
    select: &Select,
    interrupt: &Interrupt,
    newest: &mut Vec<(Labels, Point)>,
) -> Result<(), ApiError> {
    for series in querier.select(select)?.series {
        check(interrupt)?;
        let point = series.latest(select.range)?.filter(|point| !point.is_stale());
        newest.extend(point.map(|point| (series.labels(), point)));
    }
    Ok(())
}

/// Writes the samples, a type line before each metric; native histograms have no place in this format and are left out.
fn exposition(newest: &[(Labels, Point)], kinds: &HashMap<&str, MetricKind>) -> String {
    let mut out = String::new();
    let mut last_metric = None;
    for (labels, point) in newest {
        let Point::Float(sample) = point else { continue };
        let metric = labels.value(METRIC_NAME);
        if metric.is_empty() {
            continue;
        }
        if last_metric != Some(metric) {
            let kind = match kinds.get(metric) {
                Some(kind @ (MetricKind::Counter | MetricKind::Gauge)) => kind.as_str(),
                // A part of a histogram or summary by itself has no type of this format.
                _ => "untyped",
            };
            let _ = writeln!(out, "# TYPE {} {kind}", name(metric, is_valid_metric_name(metric)));
            last_metric = Some(metric);
        }
        push_series(&mut out, metric, labels);
        let _ = writeln!(out, " {} {}", go_float(sample.value), sample.at.0);
    }
    out
}

fn push_series(out: &mut String, metric: &str, labels: &Labels) {
    let bare = is_valid_metric_name(metric);
    if bare {
        out.push_str(metric);
    }
    out.push('{');
    let mut first = true;
    if !bare {
        out.push_str(&name(metric, false));
        first = false;
    }
    let mut push = |label: &str, value: &str| {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        let _ = write!(
            out,
            "{}=\"{}\"",
            name(label, is_valid_label_name(label)),
            escaped(value)
        );
    };
    for (label, value) in labels.iter().filter(|(label, _)| *label != METRIC_NAME) {
        push(label, value);
    }
    // Without it the scraping server would put its own.
    if labels.get("instance").is_none() {
        push("instance", "");
    }
    out.push('}');
}

fn name(name: &str, bare: bool) -> String {
    if bare {
        name.to_owned()
    } else {
        format!("\"{}\"", escaped(name))
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Millis, Sample};

    #[test]
    fn samples_are_written_with_types_times_and_quotes() {
        let point = |value| Point::Float(Sample { at: Millis(5), value });
        let series = [
            (Labels::from_pairs([("__name__", "a.b"), ("x", "\"\n")]), point(1.5)),
            (
                Labels::from_pairs([("__name__", "up"), ("instance", "i")]),
                point(f64::NAN),
            ),
            (Labels::from_pairs([("__name__", "up"), ("instance", "j")]), point(1.0)),
        ];
        let kinds = [("up", MetricKind::Gauge)].into();
        assert_eq!(
            exposition(&series, &kinds),
            "# TYPE \"a.b\" untyped\n{\"a.b\",x=\"\\\"\\n\",instance=\"\"} 1.5 5\n\
             # TYPE up gauge\nup{instance=\"i\"} NaN 5\nup{instance=\"j\"} 1 5\n"
        );
    }
}
