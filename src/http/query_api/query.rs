//! `query` and `query_range`: parameters in, a value out.

use std::sync::Arc;

use axum::response::Response;
use serde_json::{Value, json};

use super::evaluate::blocking;
use crate::http::params::{Params, invalid};
use crate::http::{ApiError, App, Call, view};
use crate::model::{Interval, Millis};
use crate::query::types::Type;
use crate::query::{Engine, Expr, QueryError, QueryOptions, QueryOutput, QueryValue, parse};

/// The most steps of a range query: a picture has no more pixels, and a mistyped step would ask for millions.
const POINTS_MAX: i64 = 11_000;

/// When the query is evaluated.
#[derive(Clone, Copy)]
enum Question {
    Instant(Millis),
    Range { start: Millis, end: Millis, step: Interval },
}

/// How much a request wants to know about the work behind its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stats {
    None,
    Sums,
    Steps,
}

pub(super) async fn instant(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let at = params.time("time")?.unwrap_or_else(|| call.app.clock.now());
    answer(&call.app, &params, Question::Instant(at)).await
}

pub(super) async fn range(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(invalid("end", "end timestamp must not be before start time"));
    }
    let missing = || invalid("step", "cannot parse \"\" to a valid duration");
    let step = params.duration("step")?.ok_or_else(missing)?;
    check_steps(start, end, step)?;
    answer(&call.app, &params, Question::Range { start, end, step }).await
}

fn check_steps(start: Millis, end: Millis, step: Interval) -> Result<(), ApiError> {
    if step <= Interval::ZERO {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(invalid("step", reason));
    }
    if (end - start).0 / step.0 > POINTS_MAX {
        return Err(ApiError::BadData(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Reads the query of a request.
///
/// # Errors
/// [`ApiError::BadQuery`], worded as Prometheus does, with a hint beside it.
pub(super) fn parse_query(params: &Params) -> Result<Expr, ApiError> {
    parse(params.get("query").unwrap_or("")).map_err(|error| bad_query("query", error))
}

/// Words a text that is no query as a bad parameter.
pub(super) fn bad_query(parameter: &str, error: QueryError) -> ApiError {
    match error {
        QueryError::Parse { message, hint } => ApiError::BadQuery {
            message: format!("invalid parameter {parameter:?}: {message}"),
            hint,
        },
        other => ApiError::Query(other),
    }
}

/// Returns the options of a request: the server's, narrowed by its parameters.
fn options(app: &App, params: &Params) -> Result<QueryOptions, ApiError> {
    let mut options = app.query_options.clone();
    if let Some(timeout) = params.duration("timeout")? {
        options.timeout = options.timeout.min(timeout);
    }
    if let Some(lookback) = params
        .duration("lookback_delta")?
        .filter(|lookback| *lookback > Interval::ZERO)
    {
        options.lookback = lookback;
    }
    Ok(options)
}

async fn answer(app: &Arc<App>, params: &Params, question: Question) -> Result<Response, ApiError> {
    let expr = parse_query(params)?;
    let range = matches!(question, Question::Range { .. });
    if range && !matches!(expr.ty, Type::Scalar | Type::InstantVector) {
        let reason = format!(
            "invalid expression type {:?} for range query, must be Scalar or instant Vector",
            expr.ty.as_str()
        );
        return Err(invalid("query", &reason));
    }
    let mut options = options(app, params)?;
    let limit = params.limit("limit")?;
    let stats = match params.get("stats") {
        None => Stats::None,
        Some("all") => Stats::Steps,
        Some(_) => Stats::Sums,
    };
    options.samples_per_step = stats == Stats::Steps;
    let timeout = options.timeout;
    let queued = app.clock.mono();
    let work = move |app: Arc<App>, interrupt| {
        let begun = app.clock.mono();
        let options = QueryOptions { interrupt, ..options };
        let mut output = match question {
            Question::Instant(at) => Engine.instant(&*app.querier, &expr, at, &options),
            Question::Range { start, end, step } => Engine.range(&*app.querier, &expr, start, end, step, &options),
        }?;
        cut(&mut output, limit);
        let ended = app.clock.mono();
        let shown = (stats != Stats::None)
            .then(|| stats_json(&output, stats, ended.seconds_since(begun), begun.seconds_since(queued)));
        Ok((output, shown))
    };
    let (output, stats) = blocking(app, timeout, work).await?;
    Ok(view::query_output(output, stats.as_ref()))
}

/// Leaves only the first `limit` series, and says so.
fn cut(output: &mut QueryOutput, limit: usize) {
    let cut = match &mut output.value {
        QueryValue::Vector(samples) if samples.len() > limit => {
            samples.truncate(limit);
            true
        }
        QueryValue::Matrix(series) if series.len() > limit => {
            series.truncate(limit);
            true
        }
        _ => false,
    };
    if cut {
        output.warnings.push(super::series::CUT.to_owned());
    }
}

fn stats_json(output: &QueryOutput, stats: Stats, evaluated: f64, waited: f64) -> Value {
    let mut samples = json!({
        "totalQueryableSamples": output.stats.samples,
        "peakSamples": output.stats.peak_samples,
    });
    if stats == Stats::Steps {
        let steps = output.stats.samples_per_step.iter();
        samples["totalQueryableSamplesPerStep"] = steps.map(|(at, count)| json!([at.as_secs_f64(), count])).collect();
    }
    json!({
        "timings": {
            "evalTotalTime": evaluated,
            "resultSortTime": 0,
            "queryPreparationTime": 0,
            "innerEvalTime": evaluated,
            "execQueueTime": waited,
            "execTotalTime": evaluated + waited,
        },
        "samples": samples,
    })
}
