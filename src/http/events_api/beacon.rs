//! Events without a body: `GET /px.gif` for pages and mails without scripts, `GET /c/{ad}` for clicks that lead on.
//!
//! Both count only a GET, not the HEAD of a link preview. The pixel takes what [`Input`] names as parameters.

use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::params::Params;
use super::super::write_api::text_header;
use super::super::{ApiError, route::Call};
use super::{arrival, edge};
use crate::events::decode::{Batch, Input, Sent, Value};
use crate::events::{CLICKS_LOST, Field, LinkError, Sender};
use crate::io::Random;

/// A transparent picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\
    \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

/// Answers the picture when the event is durable.
pub(super) async fn pixel(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let site = params.get("site").unwrap_or_default();
    let sender = {
        let checker = edge(&call)?.checker.load();
        let sites = &checker.config().sites;
        let listed = sites.iter().find(|listed| listed.name == site).cloned();
        listed.ok_or_else(|| ApiError::Forbidden("the parameter site is none of events.sites".to_owned()))?
    };
    if let Some(referer) = text_header(call.request.headers(), header::REFERER) {
        let origin = url::Url::parse(referer).map(|url| url.origin().ascii_serialization());
        let is_own = origin.is_ok_and(|origin| sender.origins.iter().any(|own| own.eq_ignore_ascii_case(&origin)));
        if !is_own {
            return Err(ApiError::Forbidden(
                "the page that shows the picture is none of the site's".to_owned(),
            ));
        }
    }
    if call.request.method() == Method::GET {
        let arrival = arrival(&call, Sender::Site(sender.into()))?;
        let mut sent = Sent::default();
        for (name, value) in params.pairs() {
            let input =
                Input::from_name(name).ok_or_else(|| ApiError::BadData(format!("{name:?} is no field of an event")))?;
            add(&mut sent, input, value);
        }
        fill(&mut sent, arrival.received.0, &*edge(&call)?.random);
        let answer = edge(&call)?.take_one(&batch(sent), &arrival).await?;
        if answer.rejected > 0 {
            return Err(ApiError::BadData(
                "the event was refused; the quarantine says why".to_owned(),
            ));
        }
    }
    let headers = [
        (header::CONTENT_TYPE, "image/gif"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ];
    Ok((headers, GIF).into_response())
}

/// Counts a click and leads on. A click that cannot be counted is led on too: the person is not to suffer for it.
pub(super) async fn click(mut call: Call) -> Result<Response, ApiError> {
    let params = Params::read(&mut call).await?;
    let ad = call.param("ad").to_owned();
    let target = {
        let edge = edge(&call)?;
        let checker = edge.checker.load();
        edge.links
            .load()
            .target(checker.config(), &ad, params.get("to"), params.get("sig"))
    };
    let target = target.map_err(|error| match error {
        LinkError::NoTarget(_) => ApiError::NotFound(error.to_string()),
        LinkError::Forged => ApiError::Forbidden(error.to_string()),
        LinkError::NotWeb => ApiError::BadData(error.to_string()),
    })?;
    if call.request.method() == Method::GET {
        let arrival = arrival(&call, Sender::Link)?;
        let mut sent = Sent::default();
        add(&mut sent, Input::Type, "click");
        add(&mut sent, Input::Text(Field::AdId), &ad);
        for name in ["event_id", "publisher", "placement", "auction_id", "campaign_id"] {
            if let (Some(input), Some(value)) = (Input::from_name(name), params.get(name)) {
                add(&mut sent, input, value);
            }
        }
        fill(&mut sent, arrival.received.0, &*edge(&call)?.random);
        match edge(&call)?.take_one(&batch(sent), &arrival).await {
            Ok(_) => {}
            Err(error) => {
                CLICKS_LOST.inc();
                tracing::error!(%error, "a click was led on without being counted");
            }
        }
    }
    let location = HeaderValue::try_from(&target).map_err(|_| ApiError::BadData(LinkError::NotWeb.to_string()))?;
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::FOUND, headers).into_response())
}

fn batch(sent: Sent<'_>) -> Batch<'_> {
    Batch {
        events: vec![sent],
        sent_at: None,
    }
}

fn add<'a>(sent: &mut Sent<'a>, input: Input, text: &'a str) {
    let number = || text.parse().map(Value::Int).ok();
    let value = match input {
        Input::Ts | Input::SentAt | Input::ReceivedAt => number(),
        Input::Webdriver | Input::Consent => text.parse().map(Value::Bool).ok(),
        Input::Text(Field::Props) => Some(Value::Object(Cow::Borrowed(text))),
        _ => None,
    };
    sent.add(input, value.unwrap_or(Value::Text(Cow::Borrowed(text))));
}

/// Names and dates an event that says neither: nobody can repeat it.
fn fill(sent: &mut Sent<'_>, now: i64, random: &dyn Random) {
    if sent.get(Input::Ts).is_none() {
        sent.add(Input::Ts, Value::Int(now));
    }
    let id = Input::Text(Field::EventId);
    if sent.get(id).is_none() {
        let text = format!("s-{:016x}{:016x}", random.next_u64(), random.next_u64());
        sent.add(id, Value::Text(Cow::Owned(text)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::Request;

    use super::super::super::App;
    use super::*;

    const YAML: &str =
        "sites: [{name: shop, origins: ['https://shop.example']}]\nads: {a: {to: 'https://shop.example/x'}}";

    fn call(app: &Arc<crate::events::Edge>, method: &str, uri: &str, params: &[(&str, &str)]) -> Call {
        let app = App {
            events: Some(Arc::clone(app)),
            ..App::test()
        };
        let request = Request::builder().method(method).uri(uri);
        Call::test(app, params, request.body(Body::empty()).unwrap())
    }

    #[tokio::test]
    async fn a_picture_counts_once_for_each_time_it_is_shown() {
        let edge = Arc::new(crate::events::testing_edge::edge(YAML));
        let uri = "/px.gif?site=shop&type=impression&ad_id=a";
        for method in ["GET", "HEAD", "GET"] {
            let response = pixel(call(&edge, method, uri, &[])).await.unwrap();
            assert_eq!(response.headers()["content-type"], "image/gif");
        }
        assert_eq!(crate::events::testing_edge::counted(&edge), 2);
        let named = "/px.gif?site=shop&type=impression&ad_id=a&event_id=7";
        for _ in 0..2 {
            pixel(call(&edge, "GET", named, &[])).await.unwrap();
        }
        assert_eq!(crate::events::testing_edge::counted(&edge), 3);
        for bad in [
            "/px.gif?type=click",
            "/px.gif?site=x",
            "/px.gif?site=shop&tpye=click",
            "/px.gif?site=shop&type=click",
        ] {
            assert!(pixel(call(&edge, "GET", bad, &[])).await.is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_click_is_counted_and_led_to_its_target_only() {
        let edge = Arc::new(crate::events::testing_edge::edge(YAML));
        let response = click(call(&edge, "GET", "/c/a", &[("ad", "a")])).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["location"]),
            (302, &HeaderValue::from_static("https://shop.example/x"))
        );
        click(call(&edge, "HEAD", "/c/a", &[("ad", "a")])).await.unwrap();
        assert_eq!(crate::events::testing_edge::counted(&edge), 1);
        for (uri, status) in [("/c/b", 404), ("/c/a?to=https://evil.example", 403)] {
            let error = click(call(&edge, "GET", uri, &[("ad", &uri[3..4])])).await.unwrap_err();
            assert_eq!(error.into_response().status().as_u16(), status);
        }
        assert_eq!(crate::events::testing_edge::counted(&edge), 1);
    }
}
