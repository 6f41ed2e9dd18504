//! A filter's HTTP call.

use super::Callee;
use crate::proxy::headers::{self, back};
use crate::proxy::upstream::{Cluster, Failure, RequestBody};
use crate::service::embedded::Embedded;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Incoming;
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::outside::{HttpCall, HttpResponse};
use std::rc::Rc;
use std::time::Duration;

/// The longest answer that is kept for a filter: beyond its machine's memory it could not be
/// read anyhow.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Makes the call and waits for its whole answer.
///
/// # Errors
///
/// There is none: what filters get instead, as in Envoy.
pub(super) async fn call(
    callee: &Callee,
    embedded: &Embedded,
    call: HttpCall,
) -> Result<HttpResponse, HttpResponse> {
    let timeout = call.timeout_ms.filter(|ms| *ms > 0);
    let answered = async {
        match callee {
            Callee::Cluster(cluster) => ask(cluster, call).await,
            Callee::Embedded => ask_here(embedded, call).await,
        }
    };
    match timeout {
        None => answered.await,
        Some(ms) => {
            let max = Duration::from_millis(ms.into());
            tokio::time::timeout(max, answered)
                .await
                .unwrap_or_else(|_| Err(HttpResponse::timeout()))
        }
    }
}

async fn ask(cluster: &Rc<Cluster>, call: HttpCall) -> Result<HttpResponse, HttpResponse> {
    let is_end = call.body.is_empty() && call.trailers.is_empty();
    let head = back::request(&call.headers, cluster.is_http2(), cluster.is_tls(), is_end);
    let head = head.map_err(|_| unreachable(&Failure::Protocol))?;
    let body = RequestBody::whole(call.body, back::trailers(&call.trailers));
    let answer = Rc::clone(cluster).send(head.map(|()| body)).await;
    let answer = answer.map_err(|failure| unreachable(&failure))?;
    let (head, body) = answer.response.into_parts();
    let (body, trailers) = whole(body).await.ok_or_else(HttpResponse::broken)?;
    answer.lease.give_back();
    Ok(HttpResponse { headers: headers::response(&head), body, trailers })
}

/// The store in this process answers as the service would.
///
/// # Errors
///
/// If the call is no request, what filters get instead.
pub(crate) async fn ask_here(
    embedded: &Embedded,
    call: HttpCall,
) -> Result<HttpResponse, HttpResponse> {
    let head = back::request(&call.headers, true, false, call.body.is_empty());
    let head = head.map_err(|_| unreachable(&Failure::Protocol))?;
    let request: Request<Full<Bytes>> = head.map(|()| Full::new(call.body));
    let (head, body) = embedded.answer(request).await.into_parts();
    let headers = headers::response(&head);
    // It cannot fail: it is all here.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok(HttpResponse { headers, body, trailers: HeaderMap::new() })
}

/// All of a body, and its trailers; `None` if it broke off or is too long.
async fn whole(mut body: Incoming) -> Option<(Bytes, HeaderMap)> {
    let (mut all, mut trailers) = (Vec::new(), HeaderMap::new());
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        match frame.ok()?.into_data() {
            Ok(data) => {
                length += data.len();
                if length > ANSWER_BYTES_MAX {
                    return None;
                }
                all.push(data);
            }
            Err(frame) => trailers = frame.trailers_ref().map(headers::trailers)?,
        }
    }
    let body = match (all.pop(), all.is_empty()) {
        (None, _) => Bytes::new(),
        (Some(only), true) => only,
        (Some(last), false) => {
            let mut joined = BytesMut::with_capacity(length);
            all.iter().chain([&last]).for_each(|part| joined.extend_from_slice(part));
            joined.freeze()
        }
    };
    Some((body, trailers))
}

/// Envoy tells filters less than it logs: not why nobody could be reached.
fn unreachable(failure: &Failure) -> HttpResponse {
    let reason = match failure {
        Failure::Connect(_) => "remote connection failure".to_owned(),
        other => other.reason(),
    };
    HttpResponse::unreachable(&format!("reset reason: {reason}"))
}
