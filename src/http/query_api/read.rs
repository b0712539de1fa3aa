//! Remote read: another Prometheus asks for series.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::evaluate::{blocking, check};
use crate::http::{ApiError, App, Call};
use crate::ingest::remote_read::{self, ReadQueries, ReadSeries};
use crate::ingest::{Encoding, decompress};
use crate::query::{Interrupt, QueryError};
use crate::storage::{Columns, Hints, Select};

/// The most bytes of a request once it is decompressed.
const REQUEST_BYTES_MAX: usize = 4 << 20;

enum Answer {
    Samples(Vec<u8>),
    Frames(Vec<Vec<u8>>),
}

pub(super) async fn read(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let bad = |error: &dyn std::fmt::Display| ApiError::BadData(format!("remote read: {error}"));
    let plain = decompress(Encoding::Snappy, body, REQUEST_BYTES_MAX).map_err(|error| bad(&error))?;
    let asked = remote_read::decode(&plain).map_err(|error| bad(&error))?;
    let answer = blocking(&call.app, call.app.query_options.timeout, move |app, interrupt| {
        answer(&app, &asked, &interrupt)
    })
    .await?;
    Ok(match answer {
        Answer::Samples(body) => {
            let headers = [
                (header::CONTENT_TYPE, "application/x-protobuf"),
                (header::CONTENT_ENCODING, "snappy"),
            ];
            (headers, body).into_response()
        }
        Answer::Frames(frames) => {
            let content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
            let frames = frames.into_iter().map(Ok::<_, std::convert::Infallible>);
            let body = Body::from_stream(futures_util::stream::iter(frames));
            ([(header::CONTENT_TYPE, content_type)], body).into_response()
        }
    })
}

fn answer(app: &App, asked: &ReadQueries, interrupt: &Interrupt) -> Result<Answer, ApiError> {
    let mut results = Vec::with_capacity(asked.queries.len());
    let mut samples = 0;
    for query in &asked.queries {
        let select = Select {
            matchers: query.matchers.clone(),
            range: query.range,
            hints: Hints::default(),
        };
        let mut found: Vec<ReadSeries> = Vec::new();
        for series in app.querier.select(&select)?.series {
            check(interrupt)?;
            let mut columns = Columns::default();
            series.columns(query.range, &mut columns)?;
            samples += columns.len() as u64;
            if samples > app.query_options.samples_max {
                let limit = app.query_options.samples_max;
                return Err(
                    QueryError::Limit(format!("remote read asks for more samples than the limit of {limit}")).into(),
                );
            }
            if !columns.is_empty() {
                found.push((series.labels(), columns));
            }
        }
        results.push(found);
    }
    let histograms = results
        .iter()
        .flatten()
        .any(|(_, columns)| !columns.histograms.is_empty());
    if asked.streamed && !(histograms && asked.samples) {
        if histograms {
            let reason =
                "remote read: native histograms are answered as SAMPLES only, which the request does not accept";
            return Err(ApiError::BadData(reason.to_owned()));
        }
        let frames = results.iter().enumerate();
        let frames = frames.flat_map(|(index, series)| remote_read::encode_frames(index, series));
        return Ok(Answer::Frames(frames.collect()));
    }
    let plain = remote_read::encode_samples(&results);
    let compressed = snap::raw::Encoder::new()
        .compress_vec(&plain)
        .map_err(|error| ApiError::Internal(format!("remote read: cannot compress the answer: {error}")))?;
    Ok(Answer::Samples(compressed))
}
