//! From the route table to a router: finds the row, checks what the row demands, calls its handler.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::RawPathParams;
use axum::http::{Extensions, HeaderMap, Method, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter};
use tower_http::compression::CompressionLayer;

use super::auth::Caller;
use super::gate::{Ourselves, Peer};
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
    mut request: Request<Body>,
) -> Result<Response, ApiError> {
    let announced = request.body().size_hint().exact();
    let admitted = admit(&row, &door, request.extensions(), request.headers(), announced).await;
    let caller = match admitted {
        Ok(caller) => caller,
        Err(error) => {
            body::drain(request.into_body(), &*door.clock).await;
            return Err(error);
        }
    };
    request.extensions_mut().insert(caller);
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

/// What a row demands before its handler sees anything: a page of ours or none, a caller with the scope, a body that fits.
async fn admit(
    row: &Row,
    door: &Door,
    extensions: &Extensions,
    headers: &HeaderMap,
    announced: Option<u64>,
) -> Result<Caller, ApiError> {
    if !matches!(*row.method(), Method::GET) && !matches!(row.scope(), Scope::Events | Scope::Beacon) {
        gate::same_site(headers, &door.hosts)?;
    }
    let caller = identify(row.scope(), door, extensions, headers).await?;
    // hyper has checked Content-Length: its figure is the body's exact size.
    match announced.filter(|announced| *announced > row.body_bytes_max() as u64) {
        None => Ok(caller),
        Some(announced) => Err(body::too_large(
            row.body_bytes_max(),
            &format!("{announced} were announced"),
        )),
    }
}

/// Returns who is asking, when the scope is theirs.
async fn identify(scope: Scope, door: &Door, extensions: &Extensions, headers: &HeaderMap) -> Result<Caller, ApiError> {
    if extensions.get::<Ourselves>().is_some() {
        let ourselves = Caller::ourselves();
        return match scope == Scope::Public || ourselves.scopes().contains(&scope) {
            true => Ok(ourselves),
            false => Err(ApiError::Forbidden(
                "the server itself does not ask for this".to_owned(),
            )),
        };
    }
    let Some(Peer(peer)) = extensions.get::<Peer>() else {
        return Err(ApiError::Internal("a request from nowhere".to_owned()));
    };
    door.guard.admit(headers, *peer, scope).await
}
