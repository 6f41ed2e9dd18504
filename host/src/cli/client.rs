//! Requests to the API, one after the other on one connection.

use super::Failure;
use super::server::Server;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(super) const JSON: &str = "application/json";
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
pub(super) const NDJSON: &str = "application/x-ndjson";

/// For a connection, and for an answer's head. One that waits for replicas waits less.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The longest answer in one piece: a thousand revocations.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A body, whole or as it comes.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A connection to a server.
pub(super) struct Client {
    sender: SendRequest<Body>,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Failure::Unavailable`] if that cannot be done.
    pub(super) async fn connect(server: &Server) -> Result<Self, Failure> {
        let connecting = Self::try_connect(server);
        let connected = match tokio::time::timeout(WAIT_MAX, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let sender = connected.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    "\n  hint: nobody listens there; is revocations.api.listen set at the host \
                     service, and --server its address?"
                }
                _ => "",
            };
            Failure::Unavailable(format!("{}:{}: {error}{hint}", server.host, server.port))
        })?;
        let host = match server.host.contains(':') {
            true => format!("[{}]:{}", server.host, server.port),
            false => format!("{}:{}", server.host, server.port),
        };
        let bad = |_| Failure::Usage(format!("{host:?} is no host"));
        let host = HeaderValue::from_str(&host).map_err(bad)?;
        // It was read as visible ASCII, which a header takes.
        let authorization = server.token.as_ref().and_then(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Ok(Self { sender, host, authorization })
    }

    async fn try_connect(server: &Server) -> io::Result<SendRequest<Body>> {
        let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        // Small messages both ways: waiting to fill a segment costs 40 ms.
        let _ = stream.set_nodelay(true);
        match &server.tls {
            None => shake(stream).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(config.clone());
                shake(connector.connect(name.clone(), stream).await?).await
            }
        }
    }

    /// Sends a request, and reads an answer in JSON.
    ///
    /// # Errors
    ///
    /// [`Failure`] for any answer but a good one.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Value, Failure> {
        let (kind, body) = body.map_or((None, Vec::new()), |(kind, body)| (Some(kind), body));
        let body = Full::from(body).map_err(|never| match never {}).boxed_unsync();
        let response = self.send(method, path, kind, body).await?;
        let whole = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let whole = tokio::time::timeout(WAIT_MAX, whole).await;
        let broken = || Failure::Unavailable("the answer breaks off".to_owned());
        let whole = whole.map_err(|_| broken())?.map_err(|_| broken())?.to_bytes();
        serde_json::from_slice(&whole)
            .map_err(|_| Failure::Unavailable("the answer is no JSON: is this the API?".to_owned()))
    }

    /// Sends a request; the answer's body is still to be read.
    ///
    /// # Errors
    ///
    /// [`Failure`] for any answer but a good one.
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: Body,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        let request = request.body(body).map_err(|error| Failure::Usage(error.to_string()))?;
        let lost = |error: hyper::Error| Failure::Unavailable(format!("no answer: {error}"));
        let sent = async {
            self.sender.ready().await.map_err(lost)?;
            self.sender.send_request(request).await.map_err(lost)
        };
        let none = || Failure::Unavailable(format!("no answer for {} s", WAIT_MAX.as_secs()));
        let response = tokio::time::timeout(WAIT_MAX, sent).await.map_err(|_| none())??;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(refusal(response).await),
        }
    }
}

async fn shake<S>(stream: S) -> io::Result<SendRequest<Body>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shook = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let (sender, connection) = shook;
    tokio::spawn(connection);
    Ok(sender)
}

/// What an answer that is none says.
async fn refusal(response: Response<Incoming>) -> Failure {
    let status = response.status();
    let whole = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    let whole = tokio::time::timeout(WAIT_MAX, whole).await.ok().and_then(Result::ok);
    let whole = whole.map(|whole| whole.to_bytes()).unwrap_or_default();
    let page: Value = serde_json::from_slice(&whole).unwrap_or_default();
    let said = ["detail", "error_description"].iter().find_map(|name| page[*name].as_str());
    let what = said.map_or_else(|| status.to_string(), str::to_owned);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::NotLetIn(what),
        StatusCode::TOO_MANY_REQUESTS => Failure::Unavailable(what),
        status if status.is_server_error() => Failure::Unavailable(what),
        _ => Failure::Refused(what),
    }
}
