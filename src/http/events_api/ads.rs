//! Counts of ads and pages: any window, any field, with state and version; and how the event store is.

use std::net::IpAddr;
use std::sync::Arc;

use axum::response::Response;
use base64::Engine as _;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::super::params::{Params, invalid};
use super::super::{ApiError, route::Call, view};
use super::edge;
use crate::events::{CellMetric, Counts, Domain, Events, Field, MinuteState, Question, QuestionError, Served, Step};
use crate::model::{Interval, Millis, TimeRange};

/// The most places of one ranking.
const TOP_MAX: usize = 10_000;
/// Places when the question does not say.
const TOP_DEFAULT: usize = 100;
/// What a question may say besides fields.
const WORDS: [&str; 12] = [
    "from", "to", "window", "step", "tz", "traffic", "metric", "count", "explain", "sketch", "ip", "user_id",
];
/// What an answer never names: texts that only raw events have and that speak of one person.
const HIDDEN: [Field; 3] = [Field::Ip, Field::UserId, Field::UserAgent];

/// A question as a request asks it.
struct Asked {
    question: Question,
    gross: bool,
    metric: Option<String>,
    step: Option<Step>,
    zone: TimeZone,
    explain: bool,
    params: Params,
}

pub(super) fn events(call: &Call) -> Result<Arc<Events>, ApiError> {
    let missing = || ApiError::NotFound("this server takes no events".to_owned());
    call.app.counts.clone().ok_or_else(missing)
}

impl From<QuestionError> for ApiError {
    fn from(error: QuestionError) -> ApiError {
        let text = error.to_string();
        match error {
            QuestionError::Gone { .. } | QuestionError::Unanswerable(_) => {
                ApiError::Storage(crate::storage::StorageError::Limit(text))
            }
            QuestionError::Step(_) => ApiError::BadData(text),
            QuestionError::Events(_) => ApiError::Internal(text),
        }
    }
}

/// Reads a question; `ad` is the path's, `*` for all.
async fn ask(call: &mut Call, domain: Domain, ad: Option<String>) -> Result<Asked, ApiError> {
    ask_with(call, domain, ad, &[]).await
}

/// As [`ask`], where the path has words of its own.
async fn ask_with(call: &mut Call, domain: Domain, ad: Option<String>, own: &[&str]) -> Result<Asked, ApiError> {
    let params = Params::read(call).await?;
    let now = call.app.clock.now();
    let (from, to) = range(&params, now)?;
    let mut fields: Vec<(Field, String)> = Vec::new();
    if let Some(ad) = ad.filter(|ad| ad != "*") {
        fields.push((Field::AdId, ad));
    }
    for (name, value) in params
        .pairs()
        .filter(|(name, _)| !WORDS.contains(name) && !own.contains(name))
    {
        let field = Field::from_name(name).filter(|field| !HIDDEN.contains(field));
        let Some(field) = field else {
            return Err(ApiError::BadData(format!(
                "{name:?} is neither a parameter of this path nor a field of events"
            )));
        };
        if fields.iter().any(|(own, _)| *own == field) {
            return Err(invalid(name, "is asked for twice"));
        }
        fields.push((field, value.to_owned()));
    }
    let (users, ips) = people(call, &params, TimeRange { min: from, max: to })?;
    let traffic = params.get("traffic").unwrap_or("net");
    if !["net", "gross"].contains(&traffic) {
        return Err(invalid("traffic", "is net or gross"));
    }
    let zone = match params.get("tz") {
        None => edge(call)?.checker.load().config().zone().map_err(ApiError::Internal)?,
        Some(name) => TimeZone::get(name).map_err(|error| invalid("tz", &error.to_string()))?,
    };
    let step = params.get("step").map(str::parse).transpose();
    let step = step.map_err(|error: crate::events::StepError| ApiError::BadData(error.to_string()))?;
    Ok(Asked {
        question: Question {
            domain,
            from,
            to,
            fields,
            users,
            ips,
        },
        gross: traffic == "gross",
        metric: params.get("metric").map(str::to_owned),
        step,
        zone,
        explain: params.get("explain").is_some_and(|value| value != "0"),
        params,
    })
}

/// Returns the hashes under which an asked user and address may stand.
fn people(
    call: &Call,
    params: &Params,
    range: TimeRange,
) -> Result<(Vec<crate::events::PersonHash>, Vec<crate::events::PersonHash>), ApiError> {
    let checker = edge(call)?.checker.load();
    let none = crate::events::PersonHash(0); // Nobody's: a key that is gone makes no hash, and must not match everybody.
    let or_nobody = |hashes: Vec<_>| if hashes.is_empty() { vec![none] } else { hashes };
    let users = params
        .get("user_id")
        .map(|user| or_nobody(checker.keys().users(user, range)));
    let ips = match params.get("ip") {
        None => None,
        Some(text) => {
            let ip: IpAddr = text.parse().map_err(|_| invalid("ip", "is no address"))?;
            Some(or_nobody(checker.keys().addresses(ip, range)))
        }
    };
    Ok((users.unwrap_or_default(), ips.unwrap_or_default()))
}

/// Reads `from` and `to` (Unix milliseconds, half open), or `window` before `to`.
fn range(params: &Params, now: Millis) -> Result<(Millis, Millis), ApiError> {
    let millis = |name: &str| -> Result<Option<Millis>, ApiError> {
        let parsed = params.get(name).map(str::parse::<i64>).transpose();
        let parsed = parsed.map_err(|_| invalid(name, "is a Unix time in milliseconds"))?;
        Ok(parsed.map(Millis))
    };
    let to = millis("to")?.unwrap_or(now);
    let from = match (millis("from")?, params.duration("window")?) {
        (Some(from), None) => from,
        (None, Some(window)) => to.saturating_sub(window),
        (None, None) => to.saturating_sub(Interval::hours(1)),
        (Some(_), Some(_)) => return Err(invalid("window", "cannot be given together with from")),
    };
    // Beyond these years no calendar has days.
    let sane = -10_000_000_000_000..=100_000_000_000_000_i64;
    if from > to || !sane.contains(&from.0) || !sane.contains(&to.0) {
        return Err(invalid("to", "must be a time that is not before from"));
    }
    Ok((from, to))
}

impl Asked {
    /// Returns what is counted.
    fn metric(&self) -> Result<CellMetric, ApiError> {
        use CellMetric::{
            GrossClicks, GrossConversions, GrossImpressions, GrossPageviews, GrossSpend, NetClicks, NetConversions,
            NetImpressions, NetPageviews, NetRevenue, NetSpend, Other,
        };
        let default = if self.question.domain == Domain::Ads {
            "clicks"
        } else {
            "pageviews"
        };
        let (net, gross) = match self.metric.as_deref().unwrap_or(default) {
            "clicks" => (NetClicks, GrossClicks),
            "impressions" => (NetImpressions, GrossImpressions),
            "conversions" => (NetConversions, GrossConversions),
            "spend" => (NetSpend, GrossSpend),
            "revenue" => (NetRevenue, NetRevenue),
            "pageviews" => (NetPageviews, GrossPageviews),
            "events" => (Other, Other),
            _ => {
                return Err(invalid(
                    "metric",
                    "is clicks, impressions, conversions, spend, revenue, pageviews or events",
                ));
            }
        };
        Ok(if self.gross { gross } else { net })
    }
}

/// A number of an answer: money in units, all else whole.
fn shown(metric: CellMetric, number: i64) -> Value {
    use CellMetric::{GrossSpend, NetRevenue, NetSpend};
    match metric {
        GrossSpend | NetSpend | NetRevenue => json!(number as f64 / 1e6),
        _ => json!(number),
    }
}

fn totals(counts: &Counts) -> Value {
    let get = |metric| counts.get(metric);
    let rate = |part: i64, whole: i64| (whole > 0).then(|| part as f64 / whole as f64);
    let (clicks, impressions) = (get(CellMetric::NetClicks), get(CellMetric::NetImpressions));
    let conversions = get(CellMetric::NetConversions);
    json!({
        "net_clicks": clicks,
        "gross_clicks": get(CellMetric::GrossClicks),
        "impressions": impressions,
        "conversions": conversions,
        "spend": shown(CellMetric::NetSpend, get(CellMetric::NetSpend)),
        "revenue": shown(CellMetric::NetRevenue, get(CellMetric::NetRevenue)),
        "late": get(CellMetric::Late),
        "ctr": rate(clicks, impressions),
        "cvr": rate(conversions, clicks),
    })
}

fn explained(served: &Served) -> Value {
    let names = |fields: &Vec<Field>| fields.iter().map(|field| field.name()).collect::<Vec<_>>();
    json!({
        "served_by": if served.cube.is_some() { "cells" } else { "raw" },
        "cube": served.cube.as_ref().map(names),
        "cache": if served.cached { "hit" } else { "miss" },
        "raw_bytes": served.raw_bytes,
    })
}

/// Answers on a thread that may block.
async fn answer(
    work: impl FnOnce() -> Result<(Value, Vec<String>), ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let joined = tokio::task::spawn_blocking(work).await;
    let (data, warnings) = joined.map_err(|error| ApiError::Internal(format!("counting was cut short: {error}")))??;
    Ok(view::success(&data, &warnings))
}

/// `GET /api/v1/ads/{ad_id|*}/aggregated_count`.
pub(super) async fn aggregated_count(mut call: Call) -> Result<Response, ApiError> {
    let ad = call.param("ad_id").to_owned();
    let asked = ask(&mut call, Domain::Ads, Some(ad.clone())).await?;
    counted(events(&call)?, asked, json!({"ad_id": ad})).await
}

async fn counted(events: Arc<Events>, asked: Asked, mut data: Value) -> Result<Response, ApiError> {
    let metric = asked.metric()?;
    answer(move || {
        let question = &asked.question;
        let (sum, served) = events.totals(question)?;
        data["from"] = json!(question.from.0);
        data["to"] = json!(question.to.0);
        data["count"] = shown(metric, sum.get(metric));
        data["totals"] = totals(&sum);
        let watermark = events.watermark();
        data["watermark"] = json!(watermark.0);
        data["state"] = json!(if question.to > watermark { "open" } else { "closed" });
        if let Some(step) = asked.step {
            let (steps, _) = events.by_step(question, step, &asked.zone)?;
            let series: Vec<Value> = steps
                .iter()
                .map(|(at, counts)| json!([at.0, shown(metric, counts.get(metric))]))
                .collect();
            data["series"] = json!(series);
            let states = events.states(question, step, &asked.zone)?;
            let states: Vec<Value> = states
                .iter()
                .map(|(at, state, version)| json!([at.0, MinuteState::name(*state), version]))
                .collect();
            data["states"] = json!(states);
        }
        if asked.explain {
            data["explain"] = explained(&served);
        }
        Ok((data, served.warnings))
    })
    .await
}

/// `GET /api/v1/ads/popular_ads`: the ads with the most, ties by `ad_id`.
pub(super) async fn popular_ads(mut call: Call) -> Result<Response, ApiError> {
    let asked = ask(&mut call, Domain::Ads, None).await?;
    let metric = asked.metric()?;
    let count = asked.params.limit("count")?;
    let count = if count == usize::MAX { TOP_DEFAULT } else { count };
    if count > TOP_MAX {
        return Err(invalid("count", &format!("is at most {TOP_MAX}")));
    }
    let events = events(&call)?;
    answer(move || {
        let (ads, served) = events.top(&asked.question, Field::AdId, metric, count)?;
        let ads: Vec<Value> = ads
            .iter()
            .map(|ad| json!({"ad_id": ad.value, "count": shown(metric, ad.count)}))
            .collect();
        let mut data = json!({
            "from": asked.question.from.0,
            "to": asked.question.to.0,
            "ads": ads,
            "watermark": events.watermark().0,
        });
        if asked.explain {
            data["explain"] = explained(&served);
        }
        Ok((data, served.warnings))
    })
    .await
}

/// `GET /api/v1/ads/{ad_id|*}/uniques`: people who clicked, net; with the sketch that others can merge.
pub(super) async fn uniques(mut call: Call) -> Result<Response, ApiError> {
    let ad = call.param("ad_id").to_owned();
    let asked = ask(&mut call, Domain::Ads, Some(ad.clone())).await?;
    let events = events(&call)?;
    answer(move || {
        let (count, is_exact, sketch, served) = events.uniques(&asked.question)?;
        let mut data = json!({
            "ad_id": ad,
            "from": asked.question.from.0,
            "to": asked.question.to.0,
            "uniques": count.round() as u64,
            "exact": is_exact,
            "watermark": events.watermark().0,
        });
        if asked.params.get("sketch").is_some() || asked.explain {
            data["sketch"] = json!(base64::engine::general_purpose::STANDARD.encode(&sketch));
            data["sketch_format"] = json!("Apache DataSketches HLL_4, lg_k 14");
        }
        if asked.explain {
            data["explain"] = explained(&served);
        }
        Ok((data, served.warnings))
    })
    .await
}

/// Reads what is to be proven.
pub(super) async fn prove_question(call: &mut Call) -> Result<(Question, CellMetric), ApiError> {
    let mut asked = ask_with(call, Domain::Ads, None, &["domain"]).await?;
    (_, asked.question.domain) = super::audit::report_by(&asked.params)?;
    let metric = asked.metric()?;
    Ok((asked.question, metric))
}

/// Reads what a report is about, and the field that it is by.
pub(super) async fn report_question(call: &mut Call) -> Result<(Question, Field), ApiError> {
    let mut asked = ask_with(call, Domain::Ads, None, &["domain", "by"]).await?;
    let (by, domain) = super::audit::report_by(&asked.params)?;
    asked.question.domain = domain;
    if HIDDEN.contains(&by) {
        return Err(invalid("by", "speaks of one person"));
    }
    Ok((asked.question, by))
}

/// `GET /api/v1/events/status`.
pub(super) async fn status(call: Call) -> Result<Response, ApiError> {
    let events = events(&call)?;
    answer(move || {
        let status = events.status();
        let shards: Vec<Option<i64>> = status
            .shards
            .iter()
            .map(|at| (*at != Millis::MIN).then_some(at.0))
            .collect();
        let counted = status.counted;
        let data = json!({
            "received": counted.received(),
            "accepted": counted.accepted,
            "duplicate": counted.duplicate,
            "rejected": counted.rejected,
            "bot": counted.marked,
            "late": status.late,
            "pending": status.pending,
            "watermark": status.watermark.0,
            "shards": shards,
            "log": {"position": status.position, "checkpoint": status.checkpoint, "bytes": status.log_bytes},
            "memory_bytes": status.memory_bytes,
            "files": {"cells": status.files[0], "ids": status.files[1], "raw": status.files[2]},
            "raw": {"bytes": status.raw.0, "events": status.raw.1},
            "lost": status.lost.iter().map(|lost| json!({
                "file": lost.name, "reason": lost.reason, "from": lost.start.0, "to": lost.end.0,
            })).collect::<Vec<_>>(),
            "refusing": status.refusing,
        });
        Ok((data, Vec::new()))
    })
    .await
}
