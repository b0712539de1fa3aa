//! The listener: binds, builds the router from the route table, serves until told to stop.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::RawPathParams;
use axum::http::{Method, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tokio::net::TcpListener;

use super::{ApiError, App, Call, Route, Scope, route};
use crate::io::Shutdown;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Address and port.
    pub listen: SocketAddr,
}

/// Takes the address.
///
/// # Errors
/// The operating system's, with the address in the text.
pub async fn bind(config: &HttpConfig) -> Result<TcpListener, String> {
    TcpListener::bind(config.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", config.listen))
}

/// Answers requests until `shutdown`; those under way are finished.
///
/// # Errors
/// The operating system's.
pub async fn serve(listener: TcpListener, app: Arc<App>, mut shutdown: Shutdown) -> std::io::Result<()> {
    let stop = async move { shutdown.requested().await };
    axum::serve(listener, router(&app)).with_graceful_shutdown(stop).await
}

fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for row in route::all() {
        router = router.route(row.path, endpoint(row, Arc::clone(app)));
    }
    router.fallback(|request: Request<Body>| async move {
        ApiError::NotFound(format!("no such path: {}", request.uri().path())).into_response()
    })
}

fn endpoint(row: &'static Route, app: Arc<App>) -> MethodRouter {
    let filter = MethodFilter::try_from(row.method.clone()).expect("the table holds standard methods");
    let answer = move |params: RawPathParams, request: Request<Body>| {
        let params = params
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let call = Call {
            app: Arc::clone(&app),
            params,
            request,
            body_bytes_max: row.body_bytes_max,
        };
        async move { (row.handler)(call).await.unwrap_or_else(IntoResponse::into_response) }
    };
    on(filter, answer)
}

pub(super) static ROUTES: &[Route] = &[Route {
    method: Method::GET,
    path: "/-/healthy",
    scope: Scope::Public,
    body_bytes_max: 0,
    handler: |_| Box::pin(async { Ok::<Response, ApiError>("Campanile is healthy.\n".into_response()) }),
}];
