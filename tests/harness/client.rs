//! Clients: one connection each, HTTP/1.1 or cleartext HTTP/2, free to misbehave.

use crate::Result;
use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};

/// The longest that any answer may take. A request that hangs is a failed test.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// One connection to a proxy.
pub struct Client(Connection);

enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The response's fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The trailers, where gRPC keeps its status.
    pub trailers: HeaderMap,
    /// When the request was sent: it was decided between then and [`Self::took`] later.
    pub sent: Instant,
    /// From sending the request to the end of the body.
    pub took: Duration,
}

/// A request to be sent: a method, a path, fields and a body.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A GET of `path`.
pub fn get(path: &str) -> Call {
    call(Method::GET, path)
}

/// A POST to `path`.
pub fn post(path: &str, body: impl Into<Bytes>) -> Call {
    call(Method::POST, path).body(body)
}

/// A request with any method.
pub fn call(method: Method, path: &str) -> Call {
    Call { method, path: path.to_owned(), headers: HeaderMap::new(), body: Bytes::new() }
}

impl Call {
    /// Adds a field. Its value may be any bytes that HTTP allows, UTF-8 or not.
    ///
    /// # Panics
    ///
    /// If the name or the value cannot be sent at all.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
        let value = HeaderValue::from_bytes(value.as_ref()).expect("bytes a field may hold");
        self.headers.append(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

impl Client {
    /// Connects with HTTP/1.1.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub async fn http1(address: SocketAddr) -> Result<Self> {
        Self::http1_over(TcpStream::connect(address).await?).await
    }

    /// Connects with HTTP/1.1 from an address of its own: all of 127.0.0.0/8 is this machine.
    ///
    /// # Errors
    ///
    /// If nobody listens, or the address is not this machine's.
    pub async fn http1_from(own: Ipv4Addr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((own, 0).into())?;
        Self::http1_over(socket.connect(address).await?).await
    }

    async fn http1_over(stream: TcpStream) -> Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The connection's own errors come back through the sender.
        tokio::spawn(connection.with_upgrades());
        Ok(Self(Connection::Http1(sender)))
    }

    /// Connects with HTTP/2, without TLS and without asking first.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub async fn http2(address: SocketAddr) -> Result<Self> {
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        Ok(Self(Connection::Http2(sender)))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// If the connection breaks, or no answer comes in 20 s.
    pub async fn send(&mut self, call: Call) -> Result<Answer> {
        let sent = Instant::now();
        let what = format!("{} {}", call.method, call.path);
        let exchange = async {
            let (parts, body) = self.start(call).await?.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            let (status, headers) = (parts.status, parts.headers);
            Result::Ok(Answer {
                status,
                headers,
                body: body.to_bytes(),
                trailers,
                sent,
                took: sent.elapsed(),
            })
        };
        tokio::time::timeout(ANSWER_DEADLINE, exchange)
            .await
            .with_context(|| format!("{what} hangs"))?
            .context(what)
    }

    /// Sends a request and returns once the response's head is there: for upgrades.
    ///
    /// # Errors
    ///
    /// If the connection breaks.
    pub async fn start(&mut self, call: Call) -> Result<Response<Incoming>> {
        Ok(self.launch(call).await?.await?)
    }

    /// Sends a request and leaves waiting for the response's head to the caller: for many
    /// at once on one HTTP/2 connection.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    pub async fn launch(
        &mut self,
        call: Call,
    ) -> Result<Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>> {
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.headers_mut() = call.headers;
        Ok(match &mut self.0 {
            Connection::Http1(sender) => {
                *request.uri_mut() = call.path.parse()?;
                let host = HeaderValue::from_static("shop.example");
                request.headers_mut().entry("host").or_insert(host);
                sender.ready().await?;
                Box::pin(sender.send_request(request))
            }
            Connection::Http2(sender) => {
                *request.uri_mut() = format!("http://shop.example{}", call.path).parse()?;
                sender.ready().await?;
                Box::pin(sender.send_request(request))
            }
        })
    }
}

impl Answer {
    /// A response field as text; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("as JSON: {:?}", self.body))
    }

    /// The gRPC status: in the trailers, or in the head of a response that is only that.
    pub fn grpc_status(&self) -> Option<&str> {
        let status = self.trailers.get("grpc-status").or(self.headers.get("grpc-status"));
        status?.to_str().ok()
    }
}
