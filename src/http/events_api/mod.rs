//! The doors of clicks and page views: events in, and what became of them out.

mod ads;
mod audit;
mod beacon;
mod collect;
mod tail;

use axum::http::{HeaderMap, Method, header};

use super::ApiError;
use super::auth::Caller;
use super::gate::Peer;
use super::route::{Call, Route, Scope};
use super::write_api::{BODY_BYTES_MAX, text_header};
use crate::events::{Arrival, CollectError, Edge, EdgeError, Sender};

macro_rules! row {
    ($method:ident $path:literal, $scope:ident, $bytes:expr, $handler:path) => {
        Route {
            method: Method::$method,
            path: $path,
            scope: Scope::$scope,
            body_bytes_max: $bytes,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

pub(super) static ROUTES: &[Route] = &[
    row!(POST "/collect", Beacon, BODY_BYTES_MAX, collect::collect),
    row!(OPTIONS "/collect", Beacon, 0, collect::preflight),
    row!(GET "/px.gif", Public, 0, beacon::pixel),
    row!(GET "/c/{ad}", Public, 0, beacon::click),
    row!(GET "/api/v1/ads/popular_ads", Query, 0, ads::popular_ads),
    row!(GET "/api/v1/ads/{ad_id}/aggregated_count", Query, 0, ads::aggregated_count),
    row!(GET "/api/v1/ads/{ad_id}/uniques", Query, 0, ads::uniques),
    row!(GET "/api/v1/events/status", Query, 0, ads::status),
    row!(POST "/api/v1/recalc", Admin, 4096, audit::recalc),
    row!(GET "/api/v1/reconcile", Query, 0, audit::reconcile),
    row!(POST "/api/v1/reconcile", Admin, 4096, audit::reconcile),
    row!(GET "/api/v1/prove", Query, 0, audit::prove),
    row!(GET "/api/v1/report.json", Query, 0, audit::report_json),
    row!(GET "/api/v1/report.csv", Query, 0, audit::report_csv),
    row!(GET "/api/v1/report.parquet", Query, 0, audit::report_parquet),
    row!(GET "/api/v1/privacy/erase", Admin, 0, audit::erase),
    row!(POST "/api/v1/privacy/erase", Admin, 4096, audit::erase),
    row!(POST "/api/v1/privacy/export", Admin, 4096, audit::export),
    row!(GET "/api/v1/events/tail", Query, 0, tail::tail),
    row!(GET "/api/v1/events/quarantine", Query, 0, tail::quarantine),
];

/// Returns the parts behind these doors.
fn edge(call: &Call) -> Result<&std::sync::Arc<Edge>, ApiError> {
    let missing = || ApiError::NotFound("this server takes no events".to_owned());
    call.app.events.as_ref().ok_or_else(missing)
}

/// Returns the token's name when the caller may send anything: it showed one with the scope, or nobody needs one and no
/// page of a browser speaks.
fn token(call: &Call) -> Option<String> {
    let caller = call.request.extensions().get::<Caller>()?;
    let may = caller.scopes().contains(&Scope::Events);
    let is_page = caller.name.is_empty() && call.request.headers().contains_key(header::ORIGIN);
    (may && !is_page).then(|| caller.name.clone())
}

/// Says when, from where and by whom a request came.
fn arrival(call: &Call, sender: Sender) -> Result<Arrival, ApiError> {
    let headers = call.request.headers();
    let forwarded = text_header(headers, header::HeaderName::from_static("x-forwarded-for"));
    let peer = call.request.extensions().get::<Peer>().map(|Peer(ip)| *ip);
    let checker = edge(call)?.checker.load();
    Ok(Arrival {
        received: call.app.clock.now(),
        sender,
        ip: peer.map(|peer| checker.client(peer, forwarded)),
        agent: text_header(headers, header::USER_AGENT).unwrap_or_default().to_owned(),
        asks_privacy: asks_privacy(headers),
        idempotency_key: None,
    })
}

/// Whether a browser says that its user wants not to be followed.
fn asks_privacy(headers: &HeaderMap) -> bool {
    let says = |name| text_header(headers, header::HeaderName::from_static(name)) == Some("1");
    says("sec-gpc") || says("dnt")
}

impl From<EdgeError> for ApiError {
    fn from(error: EdgeError) -> ApiError {
        let text = error.to_string();
        match error {
            EdgeError::Body(crate::events::decode::BodyError::Malformed(_)) => ApiError::BadData(text),
            EdgeError::Body(crate::events::decode::BodyError::TooMany { .. }) => {
                super::metrics::REFUSED.inc(&["events_per_request"]);
                ApiError::TooLarge(text)
            }
            EdgeError::Rate { .. } => {
                super::metrics::REFUSED.inc(&["site_events_per_second"]);
                ApiError::Overloaded(text)
            }
            EdgeError::Collect(CollectError::Overloaded(_)) => ApiError::Overloaded(text),
            EdgeError::Key(_) | EdgeError::Collect(_) => ApiError::Unavailable(text),
            EdgeError::Internal(_) => ApiError::Internal(text),
        }
    }
}
