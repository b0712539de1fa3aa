//! The UI's files and its pages.

use axum::body::Body;
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;

use super::ApiError;
use super::route::{DoorCall, Route, Scope};
use crate::io::BoxFuture;
use crate::ui::File;

/// Files under a content hash never change.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// A page: the same document at each address, which reads the address itself.
const fn page(path: &'static str) -> Route<DoorCall> {
    Route {
        method: Method::GET,
        path,
        scope: Scope::Public,
        body_bytes_max: 0,
        handler: |call| index(call),
    }
}

pub(super) static ROUTES: &[Route<DoorCall>] = &[
    page("/"),
    page("/explore"),
    // The address of Prometheus's expression browser, which alerts and other tools link to.
    page("/graph"),
    page("/alerts"),
    page("/alerts/{rule}"),
    page("/clicks"),
    page("/clicks/ad/{id}"),
    page("/dashboards"),
    page("/dashboards/{name}"),
    page("/status"),
    Route {
        method: Method::GET,
        path: "/ui/{hash}/{*file}",
        scope: Scope::Public,
        body_bytes_max: 0,
        handler: |call| asset(call),
    },
    Route {
        method: Method::GET,
        path: "/favicon.ico",
        scope: Scope::Public,
        body_bytes_max: 0,
        handler: |call| icon(call),
    },
];

type Answer = BoxFuture<'static, Result<Response, ApiError>>;

fn index(call: DoorCall) -> Answer {
    Box::pin(async move { Ok(file(&call, call.door.assets.index(), "no-cache")) })
}

fn asset(call: DoorCall) -> Answer {
    Box::pin(async move {
        let (hash, name) = (call.param("hash"), call.param("file"));
        let found = call.door.assets.file(name);
        let found = found.ok_or_else(|| ApiError::NotFound(format!("the UI has no file {name}")))?;
        // A page that was loaded before an upgrade asks under the old hash: it gets the new file, but must not keep it.
        let current = hash == call.door.assets.hash();
        Ok(file(&call, found, if current { IMMUTABLE } else { "no-store" }))
    })
}

fn icon(call: DoorCall) -> Answer {
    Box::pin(async move {
        let found = call.door.assets.file("app/icon.svg");
        let found = found.ok_or_else(|| ApiError::NotFound("no icon".to_owned()))?;
        Ok(file(&call, found, "max-age=86400"))
    })
}

fn file(call: &DoorCall, file: File, cache: &'static str) -> Response {
    let accepts = call.request.headers().get(header::ACCEPT_ENCODING);
    let gzip = accepts
        .and_then(|accepts| accepts.to_str().ok())
        .is_some_and(|text| text.contains("gzip"));
    let mut response = match file.gzip {
        Some(bytes) if gzip => {
            let mut response = Response::new(Body::from(bytes));
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        _ => Response::new(Body::from(file.bytes)),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}
