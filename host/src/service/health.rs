//! Whether to send requests here.

use super::Site;
use super::routes::Reply;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

#[derive(Serialize)]
struct Ready {
    ready: bool,
    store: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Each server that the store is made of, and each sentinel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backends: Vec<Server>,
}

#[derive(Serialize)]
struct Server {
    kind: &'static str,
    address: String,
    up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    outage: Option<Outage>,
}

/// How far a server's counts may be off by what goes on now.
#[derive(Serialize)]
struct Outage {
    /// How long it has given no answers.
    away_seconds: f64,
    /// Units of budgets that were asked of it since then, in vain.
    unanswered_units: u64,
}

/// 200 if asks are answered here, otherwise 503; with the reason, where something is wrong.
///
/// Of a cluster one shard that answers is enough: sending requests elsewhere would not bring
/// the others back.
pub(super) fn ready(site: &Site) -> Reply {
    let is_stopping = *site.stopping.borrow();
    let health = site.store.health();
    let answers = health.as_ref().is_none_or(|health| health.answers);
    let trouble = health.as_ref().and_then(|health| health.trouble.clone());
    let backends = health.map(|health| health.backends).unwrap_or_default();
    let page = Ready {
        ready: answers && !is_stopping,
        store: site.store.name(),
        reason: if is_stopping { Some("draining".to_owned()) } else { trouble },
        backends: backends.into_iter().map(Server::of).collect(),
    };
    // Bools and strings always serialize.
    let body = serde_json::to_string(&page).unwrap_or_default();
    let mut reply = Response::new(Full::from(body + "\n"));
    if !page.ready {
        *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

impl Server {
    fn of(backend: tidegate_redis::Backend) -> Self {
        Self {
            kind: backend.kind.name(),
            address: backend.address,
            up: backend.is_up,
            reason: backend.trouble,
            outage: backend.outage.map(|outage| Outage {
                away_seconds: outage.lasts.as_secs_f64(),
                unanswered_units: outage.unanswered_units,
            }),
        }
    }
}
