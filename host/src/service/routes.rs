//! Which request is for whom. Every reply says that it is ours.

use super::asks::Asked;
use super::door::Use;
use super::{Site, asks, health};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tidegate_core::wire;

/// Marks a reply as made here: a 503 without it was made by a proxy on the way.
const OURS: HeaderName = HeaderName::from_static(wire::MARK);

/// Told back to whoever asked, and logged, so that one request can be followed.
const IDS: [HeaderName; 2] =
    [HeaderName::from_static("x-request-id"), HeaderName::from_static("traceparent")];

/// The longest id taken over. A UUID has 36 characters, a traceparent 55.
const ID_BYTES_MAX: usize = 128;

pub(crate) type Reply = Response<Full<Bytes>>;

pub(super) async fn answer<B: Asked>(site: &Site, used_for: Use, request: Request<B>) -> Reply {
    let ids = IDS.map(|name| id(request.headers(), &name));
    let method = request.method().clone();
    let mut reply = match (used_for, request.uri().path(), &method) {
        (Use::Asks, "/v1/ask", &Method::POST) => asks::answer(site, request).await,
        (Use::Asks, "/v1/ask", _) => text(StatusCode::METHOD_NOT_ALLOWED, "asks are POSTed"),
        (_, "/healthz", &Method::GET) => text(StatusCode::OK, "alive"),
        (_, "/readyz", &Method::GET) => health::ready(site),
        (Use::Admin, "/metrics", &Method::GET) => site.metrics.page(site),
        (Use::Asks, ..) => text(StatusCode::NOT_FOUND, "here are /v1/ask, /readyz and /healthz"),
        (Use::Admin, ..) => text(StatusCode::NOT_FOUND, "here are /metrics, /readyz and /healthz"),
    };
    let headers = reply.headers_mut();
    headers.insert(OURS, HeaderValue::from_static("1"));
    for (name, value) in IDS.into_iter().zip(ids) {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    reply
}

/// An answer of one line.
pub(super) fn text(status: StatusCode, line: &str) -> Reply {
    let mut reply = Response::new(Full::from(format!("{line}\n")));
    *reply.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, plain);
    reply
}

/// An id that a caller sent, if it is printable and short.
fn id(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let value = headers.get(name)?;
    let printable = value.as_bytes().iter().all(u8::is_ascii_graphic);
    (printable && (1..=ID_BYTES_MAX).contains(&value.len())).then(|| value.clone())
}

/// The request's id as text, for logs; empty if it has none.
pub(super) fn id_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).filter(|value| value.len() <= ID_BYTES_MAX);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}
