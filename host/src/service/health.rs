//! Whether to send requests here.

use super::Site;
use super::routes::Reply;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::sync::atomic::Ordering;

#[derive(Serialize)]
struct Ready {
    ready: bool,
    store: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// 200 if asks are answered here, otherwise 503 with the reason.
pub(super) fn ready(site: &Site) -> Reply {
    let reason = match site.stopping.load(Ordering::Relaxed) {
        true => Some("draining".to_owned()),
        false => site.store.trouble(),
    };
    let page = Ready { ready: reason.is_none(), store: site.store.name(), reason };
    // A bool and two strings always serialize.
    let body = serde_json::to_string(&page).unwrap_or_default();
    let mut reply = Response::new(Full::from(body + "\n"));
    if !page.ready {
        *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
