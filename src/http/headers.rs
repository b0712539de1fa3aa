//! The headers that every answer carries: nothing is sniffed, framed, cached or loaded from elsewhere.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Scripts, styles and connections of this origin only; nothing inline, no frames, no plug-ins.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; font-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; \
    form-action 'self'";

const ALWAYS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CSP),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not `no-referrer`: browsers would then send `Origin: null` with forms, and the door could not tell them apart.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Answers are for pages of this origin, except where a handler chose otherwise (pictures that other sites show).
static RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Adds the headers; `Cache-Control: no-store` only where the handler did not choose.
///
/// `chosen` are the operator's own (`http_server_config.headers`): they replace ours.
pub(super) fn secure(headers: &mut HeaderMap, chosen: &[(HeaderName, HeaderValue)]) {
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in chosen {
        headers.insert(name, value.clone());
    }
    let same_origin = HeaderValue::from_static("same-origin");
    headers.entry(&RESOURCE_POLICY).or_insert(same_origin);
    let no_store = HeaderValue::from_static("no-store");
    headers.entry(header::CACHE_CONTROL).or_insert(no_store);
}
