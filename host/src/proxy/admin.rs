//! The operator's door: `/metrics`, `/readyz` and `/healthz`.

use super::metrics;
use super::shared::Shared;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// The operator's connections: a scraper, some probes, a person.
const CONNECTIONS_MAX: usize = 64;

/// For a request's head, and for the quiet before the next one.
const QUIET_MAX: Duration = Duration::from_secs(60);

/// After a failure to accept others get time to close their connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers the operator for as long as this is polled.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _permit = permit;
                    connection(stream, &shared).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an operator's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: &Shared) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(shared, request.method(), request.uri().path()))
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(QUIET_MAX);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "an operator's connection ended badly");
    }
}

fn answer(shared: &Shared, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let text = "text/plain; charset=utf-8";
    let (status, kind, page) = match (path, method == Method::GET) {
        (_, false) => (StatusCode::METHOD_NOT_ALLOWED, text, "pages are for GET\n".to_owned()),
        ("/healthz", _) => (StatusCode::OK, text, "alive\n".to_owned()),
        ("/readyz", _) if shared.is_stopping() => {
            (StatusCode::SERVICE_UNAVAILABLE, text, "draining\n".to_owned())
        }
        ("/readyz", _) => (StatusCode::OK, text, "ready\n".to_owned()),
        ("/metrics", _) => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::page(shared))
        }
        _ => {
            let pages = "here are /metrics, /readyz and /healthz\n";
            (StatusCode::NOT_FOUND, text, pages.to_owned())
        }
    };
    let mut response = Response::new(Full::from(page));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
