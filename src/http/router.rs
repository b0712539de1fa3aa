//! From the route table to a router: finds the row, checks what the row demands, calls its handler.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::RawPathParams;
use axum::http::{Method, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter};
use tower_http::compression::CompressionLayer;

use super::route::{Call, DoorCall, Row, Scope};
use super::{ApiError, Door, body, gate, route};

/// The path of the row that answered, for metrics and spans; an answer without it came from no row.
#[derive(Clone, Copy)]
pub(super) struct Answered(pub(super) &'static str);

/// Builds the router: one entry for each path, 405 for its other methods, 404 for other paths, answers compressed when
/// the caller takes that.
pub(super) fn router(door: &Arc<Door>) -> Router {
    let mut paths: BTreeMap<&'static str, Vec<Row>> = BTreeMap::new();
    for row in route::all() {
        paths.entry(row.path()).or_default().push(row);
    }
    let mut router = Router::new();
    for (path, rows) in paths {
        router = router.route(path, methods(&rows, door));
    }
    router
        .fallback(|request: Request<Body>| async move {
            ApiError::NotFound(format!("no such path: {}", request.uri().path())).into_response()
        })
        .layer(CompressionLayer::new())
}

fn methods(rows: &[Row], door: &Arc<Door>) -> MethodRouter {
    let mut allow = Vec::new();
    let mut methods = MethodRouter::new();
    for row in rows {
        let filter = MethodFilter::try_from(row.method().clone()).expect("the table holds standard methods");
        methods = methods.on(filter, endpoint(*row, Arc::clone(door)));
        allow.push(row.method().as_str());
        if *row.method() == Method::GET {
            allow.push("HEAD");
        }
    }
    let allow = allow.join(", ");
    methods.fallback(move |request: Request<Body>| async move {
        let method = request.method().to_string();
        ApiError::MethodNotAllowed { method, allow }.into_response()
    })
}

/// Returns the handler of one row, in axum's shape.
fn endpoint(
    row: Row,
    door: Arc<Door>,
) -> impl Fn(RawPathParams, Request<Body>) -> crate::io::BoxFuture<'static, Response> + Clone + Send + Sync + 'static {
    move |params: RawPathParams, request: Request<Body>| {
        let params: Vec<(String, String)> = params
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let door = Arc::clone(&door);
        Box::pin(async move {
            let answer = answer(row, door, params, request).await;
            let mut response = answer.unwrap_or_else(IntoResponse::into_response);
            response.extensions_mut().insert(Answered(row.path()));
            response
        })
    }
}

async fn answer(
    row: Row,
    door: Arc<Door>,
    params: Vec<(String, String)>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    if !matches!(*row.method(), Method::GET) && row.scope() != Scope::Events {
        gate::same_site(request.headers(), &door.hosts)?;
    }
    // hyper has checked Content-Length: its figure is the body's exact size.
    if let Some(announced) = request.body().size_hint().exact()
        && announced > row.body_bytes_max() as u64
    {
        return Err(body::too_large(
            row.body_bytes_max(),
            &format!("{announced} were announced"),
        ));
    }
    match row {
        Row::Door(route) => (route.handler)(DoorCall { door, params, request }).await,
        Row::Parts(route) => {
            let Some(app) = door.app().cloned() else {
                let reason = door.readiness().reason().unwrap_or_default();
                return Err(ApiError::Unavailable(format!("not ready: {reason}")));
            };
            (route.handler)(Call::new(route, door, app, params, request).await?).await
        }
    }
}
