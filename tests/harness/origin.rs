//! The server behind the proxy: records what reaches it, and answers in the ways that
//! tests need.
//!
//! A path that ends in `/echo` gets its body back, `/slow` waits 300 ms; an upgrade request is upgraded and
//! its bytes are echoed; a gRPC request gets an empty message and `grpc-status: 0`;
//! anything else gets 200 and a short text.

use crate::Result;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running origin; it stops when dropped.
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: JoinHandle<()>,
}

/// A request that reached the origin.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its path, with the query.
    pub path: String,
    /// Its fields, as the proxy sent them on.
    pub headers: HeaderMap,
    /// Bytes of its body.
    pub body_bytes: usize,
}

type Body = BoxBody<Bytes, Infallible>;

impl Origin {
    /// Listens on a port of its own, HTTP/1.1 and cleartext HTTP/2.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let serving = tokio::spawn(serve(listener, Arc::clone(&seen)));
        Ok(Self { address, seen, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests that reached it so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&seen)));
            let server = auto::Builder::new(TokioExecutor::new());
            // A proxy that hangs up has its reasons; the test looks at what was seen.
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(
    mut request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> std::result::Result<Response<Body>, hyper::Error> {
    let upgrade = request.headers().get(UPGRADE).cloned();
    let upgraded = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let grpc = parts.headers.get(CONTENT_TYPE).is_some_and(|it| it == "application/grpc");
    let body = body.collect().await?.to_bytes();
    let (slow, echo) = (path.ends_with("/slow"), path.ends_with("/echo"));
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
        path,
        headers: parts.headers,
        body_bytes: body.len(),
    });
    if slow {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(match (upgrade.zip(upgraded), grpc) {
        (Some((protocol, upgraded)), _) => {
            tokio::spawn(echo_bytes(upgraded));
            switching(protocol)
        }
        (None, true) => grpc_ok(),
        (None, false) if echo => Response::new(whole(body)),
        (None, false) => Response::new(whole(Bytes::from_static(b"hello from the origin\n"))),
    })
}

async fn echo_bytes(upgraded: hyper::upgrade::OnUpgrade) {
    if let Ok(upgraded) = upgraded.await {
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        // Ends when the client hangs up.
        let _ = tokio::io::copy(&mut from, &mut to).await;
    }
}

fn switching(protocol: HeaderValue) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, protocol);
    response
}

fn grpc_ok() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    // One message of no bytes: not compressed, length zero.
    let message = Full::new(Bytes::from_static(&[0; 5]));
    let body = message.with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(BodyExt::boxed(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).boxed()
}
