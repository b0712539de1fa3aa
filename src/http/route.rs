//! The route table: path, method, scope, body limit, handler. Deny by default: what is not listed does not exist.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{self, Reservation};
use super::{ApiError, App, Door};

pub use super::auth::Scope;
use crate::io::BoxFuture;

/// Answers one request.
pub(super) type Handler<C = Call> = fn(C) -> BoxFuture<'static, Result<Response, ApiError>>;

/// One row of the table: a `Route` is answered by the server's parts and therefore only once they are there, a
/// `Route<DoorCall>` by the door at any time.
pub struct Route<C: 'static = Call> {
    /// Method; GET answers HEAD too.
    pub method: Method,
    /// Path in axum's notation: `/api/v1/label/{name}/values`.
    pub path: &'static str,
    /// What the caller must be allowed to do.
    pub scope: Scope,
    /// The most bytes of body, before decompression.
    pub body_bytes_max: usize,
    /// The handler.
    pub(super) handler: Handler<C>,
}

/// One request on its way through a handler.
pub struct Call {
    /// The server's parts.
    pub app: Arc<App>,
    /// The path's parameters, percent-decoded.
    pub params: Vec<(String, String)>,
    /// The request.
    pub request: Request<Body>,
    /// The most bytes of body that the route takes.
    pub body_bytes_max: usize,
    door: Arc<Door>,
    scope: Scope,
    path: &'static str,
    turn: Option<OwnedSemaphorePermit>,
    memory: Option<Reservation>,
}

/// One request on its way through a handler that needs only the door.
pub(super) struct DoorCall {
    /// The door.
    pub(super) door: Arc<Door>,
    /// The path's parameters, percent-decoded.
    pub(super) params: Vec<(String, String)>,
    /// The request.
    pub(super) request: Request<Body>,
}

impl Call {
    /// Takes a request to a route. One without a body takes its turn now, others when [`Call::body`] has read theirs:
    /// a slow sender holds up nobody.
    pub(super) async fn new(
        row: &'static Route,
        door: Arc<Door>,
        app: Arc<App>,
        params: Vec<(String, String)>,
        request: Request<Body>,
    ) -> Result<Call, ApiError> {
        let mut call = Call {
            app,
            params,
            request,
            body_bytes_max: row.body_bytes_max,
            door,
            scope: row.scope,
            path: row.path,
            turn: None,
            memory: None,
        };
        if matches!(row.method, Method::GET | Method::DELETE) {
            call.take_turn().await?;
        }
        Ok(call)
    }

    /// Returns a path parameter; empty when the path has none of that name.
    pub fn param(&self, name: &str) -> &str {
        param(&self.params, name)
    }

    /// Reads the whole body, then waits for its turn on the lane of the route.
    ///
    /// # Errors
    /// [`ApiError::TooLarge`] beyond the route's limit, [`ApiError::SlowClient`] when it comes too slowly,
    /// [`ApiError::Overloaded`] or [`ApiError::Unavailable`] when too much is under way, [`ApiError::BadData`] when the
    /// connection breaks.
    pub async fn body(&mut self) -> Result<Bytes, ApiError> {
        let body = std::mem::take(self.request.body_mut());
        let Door {
            clock, limits, bodies, ..
        } = &*self.door;
        let (bytes, memory) = body::read(body, self.body_bytes_max, &**clock, limits, bodies).await?;
        self.memory = Some(memory);
        self.take_turn().await?;
        Ok(bytes)
    }

    async fn take_turn(&mut self) -> Result<(), ApiError> {
        if self.turn.is_none() {
            self.turn = self.door.lanes.turn(self.scope, self.path, &*self.door.clock).await?;
        }
        Ok(())
    }
}

impl DoorCall {
    /// Returns a path parameter; empty when the path has none of that name.
    pub(super) fn param(&self, name: &str) -> &str {
        param(&self.params, name)
    }
}

fn param<'a>(params: &'a [(String, String)], name: &str) -> &'a str {
    params
        .iter()
        .find(|(found, _)| found == name)
        .map_or("", |(_, value)| value)
}

/// A row of either kind.
#[derive(Clone, Copy)]
pub(super) enum Row {
    /// Answered by the parts.
    Parts(&'static Route),
    /// Answered by the door.
    Door(&'static Route<DoorCall>),
}

impl Row {
    pub(super) fn method(&self) -> &'static Method {
        match self {
            Row::Parts(route) => &route.method,
            Row::Door(route) => &route.method,
        }
    }

    pub(super) fn path(&self) -> &'static str {
        match self {
            Row::Parts(route) => route.path,
            Row::Door(route) => route.path,
        }
    }

    pub(super) fn scope(&self) -> Scope {
        match self {
            Row::Parts(route) => route.scope,
            Row::Door(route) => route.scope,
        }
    }

    pub(super) fn body_bytes_max(&self) -> usize {
        match self {
            Row::Parts(route) => route.body_bytes_max,
            Row::Door(route) => route.body_bytes_max,
        }
    }
}

/// The tables of what the parts answer: a file of handlers adds a line.
#[rustfmt::skip]
static PARTS: &[&[Route]] = &[
    super::datadog_api::ROUTES,
    super::events_api::ROUTES,
    super::otlp_api::ROUTES,
    super::push_api::ROUTES,
    super::pushgateway_api::ROUTES,
    super::sources_api::ROUTES,
    super::targets_api::ROUTES,
    super::query_api::ROUTES,
    super::alertmanager_api::ROUTES,
    super::notify_api::ROUTES,
    super::rules_api::ROUTES,
    super::backtest_api::ROUTES,
    super::write_api::ROUTES,
];

/// The tables of what the door answers.
static DOOR: &[&[Route<DoorCall>]] = &[
    super::probes::ROUTES,
    super::login::ROUTES,
    super::ui::ROUTES,
    super::dashboards_api::ROUTES,
];

/// Returns all routes of the server.
pub(super) fn all() -> impl Iterator<Item = Row> {
    let parts = PARTS.iter().copied().flatten().map(Row::Parts);
    parts.chain(DOOR.iter().copied().flatten().map(Row::Door))
}

#[cfg(test)]
impl Call {
    /// A call as the router would make it, for tests of handlers.
    pub(super) fn test(app: App, params: &[(&str, &str)], request: Request<Body>) -> Call {
        Call {
            app: Arc::new(app),
            params: params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            request,
            body_bytes_max: 1 << 20,
            door: super::door::tests::door(super::Limits::default()),
            scope: Scope::Public,
            path: "/",
            turn: None,
            memory: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_listed_once_and_only_reads_change_nothing_without_a_scope() {
        let mut seen = BTreeSet::new();
        for row in all() {
            let (method, path) = (row.method(), row.path());
            assert!(
                seen.insert(format!("{method} {path}")),
                "{method} {path} is listed twice"
            );
            assert!(path.starts_with('/'), "{path}");
            assert!(!path.starts_with("/alertmanager"), "Grafana takes {path} for Cortex");
            let reads = *method == Method::GET;
            let opens = ["/-/login", "/-/logout"].contains(&path);
            assert!(
                reads || opens || row.scope() != Scope::Public,
                "{method} {path} changes something without a scope"
            );
        }
        assert!(seen.contains("GET /-/healthy"));
    }

    #[tokio::test]
    async fn a_call_reads_its_parameters_and_its_body() {
        let mut call = Call::test(App::test(), &[("name", "job")], Request::new(Body::from("up")));
        assert_eq!((call.param("name"), call.param("other")), ("job", ""));
        assert_eq!(call.body().await.unwrap(), "up");
    }
}
