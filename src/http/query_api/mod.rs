//! Prometheus's query API: values, series, metadata, status.

mod evaluate;
mod federate;
mod notifications;
mod query;
mod read;
mod series;
mod status;
mod tail;
mod text;

use axum::http::Method;

use super::route::{Handler, Route, Scope};

pub(super) use evaluate::until;
#[cfg(test)]
pub(super) use status::tests::NoStatus;
pub use status::{RuntimeInfo, Status, TsdbStatus};

/// The most bytes of a form: a query of 64 KiB in percent escapes, and then some.
const FORM_BYTES_MAX: usize = 1 << 20;

const fn get(path: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::GET,
        path,
        scope: Scope::Query,
        body_bytes_max: 0,
        handler,
    }
}

/// A form may be too long for an address: these paths take it as a body too. Nothing changes by it.
const fn post(path: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::POST,
        path,
        scope: Scope::Query,
        body_bytes_max: FORM_BYTES_MAX,
        handler,
    }
}

pub(super) static ROUTES: &[Route] = &[
    get("/api/v1/query", |call| Box::pin(query::instant(call))),
    post("/api/v1/query", |call| Box::pin(query::instant(call))),
    get("/api/v1/query_range", |call| Box::pin(query::range(call))),
    post("/api/v1/query_range", |call| Box::pin(query::range(call))),
    post("/api/v1/query_tail", |call| Box::pin(tail::tail(call))),
    get("/api/v1/query_exemplars", |call| Box::pin(series::exemplars(call))),
    post("/api/v1/query_exemplars", |call| Box::pin(series::exemplars(call))),
    get("/api/v1/format_query", |call| Box::pin(text::format_query(call))),
    post("/api/v1/format_query", |call| Box::pin(text::format_query(call))),
    get("/api/v1/parse_query", |call| Box::pin(text::parse_query(call))),
    post("/api/v1/parse_query", |call| Box::pin(text::parse_query(call))),
    get("/api/v1/series", |call| Box::pin(series::series(call))),
    post("/api/v1/series", |call| Box::pin(series::series(call))),
    get("/api/v1/labels", |call| Box::pin(series::label_names(call))),
    post("/api/v1/labels", |call| Box::pin(series::label_names(call))),
    get("/api/v1/label/{name}/values", |call| {
        Box::pin(series::label_values(call))
    }),
    get("/api/v1/metadata", |call| Box::pin(series::metadata(call))),
    get("/api/v1/targets/metadata", |call| {
        Box::pin(series::target_metadata(call))
    }),
    get("/api/v1/functions", |call| Box::pin(text::functions(call))),
    get("/api/v1/features", |call| Box::pin(status::features(call))),
    get("/api/v1/notifications", |call| Box::pin(notifications::list(call))),
    get("/api/v1/notifications/live", |call| Box::pin(notifications::live(call))),
    get("/api/v1/status/config", |call| Box::pin(status::config(call))),
    get("/api/v1/status/limits", |call| Box::pin(status::limits(call))),
    get("/api/v1/status/flags", |call| Box::pin(status::flags(call))),
    get("/api/v1/status/runtimeinfo", |call| Box::pin(status::runtime(call))),
    get("/api/v1/status/buildinfo", |call| Box::pin(status::build(call))),
    get("/api/v1/status/tsdb", |call| Box::pin(status::tsdb(call))),
    get("/api/v1/status/walreplay", |call| Box::pin(status::wal_replay(call))),
    get("/federate", |call| Box::pin(federate::federate(call))),
    Route {
        method: Method::POST,
        path: "/api/v1/read",
        scope: Scope::Query,
        body_bytes_max: FORM_BYTES_MAX,
        handler: |call| Box::pin(read::read(call)),
    },
];

#[cfg(test)]
mod tests;
