//! Remote read: another Prometheus asks for series, and gets all samples at once or, when it can, a stream of chunks.
//!
//! A stream is made while it is sent: a slow reader slows the reading down, and no more than a few frames wait in memory.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use super::evaluate::{blocking, check, until};
use crate::http::{ApiError, App, Call};
use crate::ingest::remote_read::{self, Frames, ReadQueries, ReadSeries};
use crate::ingest::{Encoding, decompress};
use crate::model::TimeRange;
use crate::query::{Interrupt, QueryError};
use crate::storage::{Columns, Hints, Select, Series};

/// The most bytes of a request once it is decompressed.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Frames that wait for a slow reader.
const FRAMES_AHEAD: usize = 2;

/// What one query of a request found.
struct Found {
    range: TimeRange,
    series: Vec<Box<dyn Series>>,
}

pub(super) async fn read(mut call: Call) -> Result<Response, ApiError> {
    let body = call.body().await?;
    let bad = |error: &dyn std::fmt::Display| ApiError::BadData(format!("remote read: {error}"));
    let plain = decompress(Encoding::Snappy, body, REQUEST_BYTES_MAX).map_err(|error| bad(&error))?;
    let asked = remote_read::decode(&plain).map_err(|error| bad(&error))?;
    let timeout = call.app.query_options.timeout;
    let streamed = asked.streamed;
    if streamed {
        let found = blocking(&call.app, timeout, move |app, _| select(&app, asked)).await?;
        let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
        let app = Arc::clone(&call.app);
        let interrupt = until(&app.clock, timeout);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = stream(&app, &found, &interrupt, &sender) {
                // What was sent cannot be taken back: the connection breaks off, and the reader sees that it got no whole answer.
                let _ = sender.blocking_send(Err(std::io::Error::other(error.to_string())));
            }
        });
        let frames = futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        let content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
        return Ok(([(header::CONTENT_TYPE, content_type)], Body::from_stream(frames)).into_response());
    }
    let body = blocking(&call.app, timeout, move |app, interrupt| {
        samples(&app, &select(&app, asked)?, &interrupt)
    })
    .await?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-protobuf"),
        (header::CONTENT_ENCODING, "snappy"),
    ];
    Ok((headers, body).into_response())
}

fn select(app: &App, asked: ReadQueries) -> Result<Vec<Found>, ApiError> {
    let queries = asked.queries.into_iter().map(|query| {
        let range = query.range;
        let select = Select {
            matchers: query.matchers,
            range,
            hints: Hints::default(),
        };
        let series = app.querier.select(&select)?.series;
        Ok(Found { range, series })
    });
    queries.collect()
}

/// Counts samples that are read for one request.
struct Counted<'a> {
    app: &'a App,
    interrupt: &'a Interrupt,
    samples: u64,
}

impl Counted<'_> {
    fn columns(&mut self, series: &dyn Series, range: TimeRange, columns: &mut Columns) -> Result<(), ApiError> {
        check(self.interrupt)?;
        series.columns(range, columns)?;
        self.samples += columns.len() as u64;
        let limit = self.app.query_options.samples_max;
        if self.samples > limit {
            let text = format!("remote read asks for too many samples: query_samples is {limit}");
            return Err(QueryError::Limit(text).into());
        }
        Ok(())
    }
}

/// Sends the frames of all queries, as fast as they are taken.
fn stream(
    app: &App,
    found: &[Found],
    interrupt: &Interrupt,
    sender: &mpsc::Sender<std::io::Result<Vec<u8>>>,
) -> Result<(), ApiError> {
    let mut counted = Counted {
        app,
        interrupt,
        samples: 0,
    };
    let mut columns = Columns::default();
    for (index, found) in found.iter().enumerate() {
        let mut frames = Frames::new(index);
        for series in &found.series {
            counted.columns(&**series, found.range, &mut columns)?;
            if columns.is_empty() {
                continue;
            }
            let frame = frames.push(&series.labels(), &columns);
            if frame.is_some_and(|frame| sender.blocking_send(Ok(frame)).is_err()) {
                return Ok(()); // Nobody listens any more.
            }
        }
        if let Some(frame) = frames.finish()
            && sender.blocking_send(Ok(frame)).is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Returns the samples of all queries as one compressed body.
fn samples(app: &App, found: &[Found], interrupt: &Interrupt) -> Result<Vec<u8>, ApiError> {
    let mut counted = Counted {
        app,
        interrupt,
        samples: 0,
    };
    let mut results: Vec<Vec<ReadSeries>> = Vec::with_capacity(found.len());
    for found in found {
        let mut read = Vec::new();
        for series in &found.series {
            let mut columns = Columns::default();
            counted.columns(&**series, found.range, &mut columns)?;
            if !columns.is_empty() {
                read.push((series.labels(), columns));
            }
        }
        results.push(read);
    }
    let plain = remote_read::encode_samples(&results);
    snap::raw::Encoder::new()
        .compress_vec(&plain)
        .map_err(|error| ApiError::Internal(format!("remote read: cannot compress the answer: {error}")))
}
