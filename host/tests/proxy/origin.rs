//! Origins: real servers in the test's process, each path of which behaves in its own way.

use crate::home::Any;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, mpsc};

/// An origin, and what it has seen.
#[derive(Clone)]
pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    asked: AtomicUsize,
    /// Bytes of all request bodies.
    received: AtomicUsize,
    /// Bytes of `/flood` that were taken.
    sent: AtomicUsize,
    /// Requests whose client went away.
    cancelled: AtomicUsize,
    last: Mutex<Option<Request<()>>>,
    /// Lets `/held` go on.
    go: Notify,
}

impl Origin {
    /// One that speaks HTTP/1.1 and HTTP/2 with prior knowledge.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let accepting = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                accepting.serve(stream);
            }
        });
        origin
    }

    /// One at a Unix socket.
    pub fn start_unix(path: &std::path::Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let origin = Self { address: ([0, 0, 0, 0], 0).into(), seen: Arc::default() };
        let accepting = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.serve(stream);
            }
        });
        origin
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.seen.asked.load(Ordering::SeqCst)
    }

    pub fn received(&self) -> usize {
        self.seen.received.load(Ordering::SeqCst)
    }

    pub fn sent(&self) -> usize {
        self.seen.sent.load(Ordering::SeqCst)
    }

    pub fn cancelled(&self) -> usize {
        self.seen.cancelled.load(Ordering::SeqCst)
    }

    /// The head of the last request.
    pub fn last(&self) -> Request<()> {
        self.seen.last.lock().unwrap().clone().expect("a request")
    }

    /// Lets one `/held` request, or one part of `/parts`, go on.
    pub fn go(&self) {
        self.seen.go.notify_one();
    }

    /// Serves a connection, over TLS or whatever else.
    pub fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.seen.connections.fetch_add(1, Ordering::SeqCst);
        let seen = Arc::clone(&self.seen);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&seen), request));
            let http = Builder::new(TokioExecutor::new());
            let _ = http.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

/// Counts a request that was not answered to its end.
struct Watch(Arc<Seen>, bool);

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.1 {
            self.0.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn answer(
    seen: Arc<Seen>,
    request: Request<Incoming>,
) -> Result<Response<Any>, std::io::Error> {
    let (head, body) = request.into_parts();
    *seen.last.lock().unwrap() = Some(Request::from_parts(head.clone(), ()));
    seen.asked.fetch_add(1, Ordering::SeqCst);
    let mut watch = Watch(Arc::clone(&seen), false);
    let response = match head.uri.path() {
        "/echo" => Response::new(echo(seen, body)),
        "/upgrade" => upgrade(Request::from_parts(head, body)),
        "/held" => {
            seen.go.notified().await;
            text("late")
        }
        "/never" => std::future::pending().await,
        "/parts" => Response::new(parts(seen)),
        "/flood" => Response::new(flood(seen)),
        "/early" => text("no need to send it all"),
        "/dies" => Response::new(dies()),
        "/cancelled" => Response::new(until_cancelled(seen)),
        "/hop" => {
            let mut response = text("x");
            response.headers_mut().insert("keep-alive", "timeout=5".parse().unwrap());
            response.headers_mut().insert("x-seen", "1".parse().unwrap());
            response
        }
        "/helper/echo" | "/helper/secho" => grpc(Some(body), 0).await,
        "/helper/fails" | "/helper/sfails" => grpc_at_once(5),
        "/helper/fails-later" => grpc(None, 7).await,
        "/helper/never" => std::future::pending().await,
        "/helper/no-grpc" => {
            let mut response = text("what?");
            *response.status_mut() = hyper::StatusCode::NOT_FOUND;
            response
        }
        path => text(path),
    };
    watch.1 = true;
    Ok(response)
}

fn text(body: &str) -> Response<Any> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    Response::new(body.map_err(|never| match never {}).boxed())
}

/// A body whose parts come through a channel.
struct Parts(mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>);

impl Body for Parts {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx)
    }
}

/// A body, and where its parts go.
pub fn channel() -> (mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>, Any) {
    let (to, parts) = mpsc::channel(1);
    (to, Parts(parts).boxed())
}

/// Everything back as it comes, trailers too.
fn echo(seen: Arc<Seen>, mut body: Incoming) -> Any {
    let (to, parts) = channel();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            seen.received.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::SeqCst);
            if to.send(Ok(frame)).await.is_err() {
                return;
            }
        }
    });
    parts
}

/// A gRPC response: the request's message, if it is to be one, and a status behind it.
async fn grpc(message: Option<Incoming>, status: u32) -> Response<Any> {
    let (to, parts) = channel();
    tokio::spawn(async move {
        if let Some(message) = message {
            let message = message.collect().await.unwrap().to_bytes();
            let _ = to.send(Ok(Frame::data(message))).await;
        }
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert("grpc-status", status.into());
        let _ = to.send(Ok(Frame::trailers(trailers))).await;
    });
    let mut response = Response::new(parts);
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

/// A gRPC response of headers alone.
fn grpc_at_once(status: u32) -> Response<Any> {
    let mut response = Response::new(crate::home::empty());
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response.headers_mut().insert("grpc-status", status.into());
    response
}

/// Three parts, each when it may go, and trailers.
fn parts(seen: Arc<Seen>) -> Any {
    let (to, parts) = channel();
    tokio::spawn(async move {
        for part in ["one", "two", "three"] {
            seen.go.notified().await;
            let _ = to.send(Ok(Frame::data(part.into()))).await;
        }
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert("x-sum", "3".parse().unwrap());
        let _ = to.send(Ok(Frame::trailers(trailers))).await;
    });
    parts
}

/// 64 MiB, as fast as they are taken.
fn flood(seen: Arc<Seen>) -> Any {
    let (to, parts) = channel();
    tokio::spawn(async move {
        let part = Bytes::from(vec![b'f'; 64 << 10]);
        for _ in 0..1024 {
            if to.send(Ok(Frame::data(part.clone()))).await.is_err() {
                seen.cancelled.fetch_add(1, Ordering::SeqCst);
                return;
            }
            seen.sent.fetch_add(part.len(), Ordering::SeqCst);
        }
    });
    parts
}

/// A part, and then the connection breaks.
fn dies() -> Any {
    let (to, parts) = channel();
    tokio::spawn(async move {
        let _ = to.send(Ok(Frame::data("half".into()))).await;
        let _ = to.send(Err(std::io::Error::other("on purpose"))).await;
    });
    parts
}

/// A part, and then nothing until nobody wants more.
fn until_cancelled(seen: Arc<Seen>) -> Any {
    let (to, parts) = channel();
    tokio::spawn(async move {
        let _ = to.send(Ok(Frame::data("so far".into()))).await;
        to.closed().await;
        seen.cancelled.fetch_add(1, Ordering::SeqCst);
    });
    parts
}

/// Echoes what comes over the upgraded connection, after a greeting.
fn upgrade(mut request: Request<Incoming>) -> Response<Any> {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut io = TokioIo::new(upgraded);
        let _ = io.write_all(b"welcome").await;
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = io.read(&mut bytes).await {
            if &bytes[..length] == b"bye" {
                return;
            }
            let _ = io.write_all(&bytes[..length]).await;
        }
    });
    let mut response = text("");
    *response.status_mut() = hyper::StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", "upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    response
}

/// A server of bytes: it reads a request's head, and then does as it is told.
pub async fn raw<F>(then: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            tokio::spawn(then(stream));
        }
    });
    address
}

/// An address at which nobody listens.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
