//! Signing in and out of the web pages: they cannot send a token with everything they load.

use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};

use super::auth::{self, Login};
use super::gate::Peer;
use super::route::{DoorCall, Route, Scope};
use super::{ApiError, body};

/// A name, a password and their syntax.
const LOGIN_BYTES_MAX: usize = 4096;

pub(super) static ROUTES: &[Route<DoorCall>] = &[
    Route {
        method: Method::POST,
        path: "/-/login",
        scope: Scope::Public,
        body_bytes_max: LOGIN_BYTES_MAX,
        handler: |call| Box::pin(sign_in(call)),
    },
    Route {
        method: Method::POST,
        path: "/-/logout",
        scope: Scope::Public,
        body_bytes_max: 0,
        handler: |call| Box::pin(async move { Ok(sign_out(&call)) }),
    },
    Route {
        method: Method::GET,
        path: "/-/session",
        scope: Scope::Public,
        body_bytes_max: 0,
        handler: |call| Box::pin(session(call)),
    },
];

/// Takes JSON only: a form of another site cannot send that.
async fn sign_in(mut call: DoorCall) -> Result<Response, ApiError> {
    body::expect_json(call.request.headers())?;
    let peer = peer(&call)?;
    let sent = std::mem::take(call.request.body_mut());
    let door = &call.door;
    let (bytes, _memory) = body::read(sent, LOGIN_BYTES_MAX, &*door.clock, &door.limits, &door.bodies).await?;
    // What was sent may hold a password: the reason alone is told.
    let login: Login = serde_json::from_slice(&bytes).map_err(|_| {
        ApiError::BadData("send {\"password\": TOKEN}, or {\"username\": NAME, \"password\": PASSWORD}".to_owned())
    })?;
    let (caller, cookie) = door.guard.sign_in(login, peer, &door.prefix, door.is_https).await?;
    tracing::info!(name = caller.name, %peer, "signed in");
    let json = [(header::CONTENT_TYPE, "application/json")];
    let mut response = (json, described(&caller)).into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

fn sign_out(call: &DoorCall) -> Response {
    let cookie = auth::signed_out(&call.door.prefix, call.door.is_https);
    ([(header::SET_COOKIE, cookie)], "signed out\n").into_response()
}

/// Says who is asking: the pages show it, and know without an error whether to ask for a token.
async fn session(call: DoorCall) -> Result<Response, ApiError> {
    let known = call.door.guard.who(call.request.headers(), peer(&call)?).await;
    let text = match known {
        Ok(caller) => described(&caller),
        Err(ApiError::Unauthorized { .. }) => {
            r#"{"status":"success","data":{"signedIn":false,"scopes":[]}}"#.to_owned()
        }
        Err(other) => return Err(other),
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn described(caller: &auth::Caller) -> String {
    let scopes: Vec<&str> = caller.scopes().iter().map(|scope| scope.name()).collect();
    let data = serde_json::json!({"signedIn": true, "name": caller.name, "scopes": scopes});
    serde_json::json!({"status": "success", "data": data}).to_string()
}

fn peer(call: &DoorCall) -> Result<std::net::IpAddr, ApiError> {
    let peer = call.request.extensions().get::<Peer>();
    peer.map(|Peer(peer)| *peer)
        .ok_or_else(|| ApiError::Internal("a request from nowhere".to_owned()))
}
