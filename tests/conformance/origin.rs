//! The server behind the filters: does what the request's query says, and keeps what it saw.
//!
//! `?status=404&body=no&h.x-colour=blue&t.x-end=1` answers with that status, body, fields and
//! trailers (`;` is as good as `&`). `size` makes a body of so many bytes, `echo` sends back the request's own, `chunk`
//! cuts it in parts of so many bytes; `wait` answers after so many milliseconds, `hang` never, `reset` breaks off behind the body.
//!
//! It is a gRPC service too: `/conform.Echo/Unary` and `/Stream` send messages back, `/Fail`
//! fails with status 7, `/Hang` never answers.

use crate::network;
use bytes::Bytes;
use harness::Result;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running origin; it stops when dropped.
pub(crate) struct Origin {
    address: SocketAddr,
    record: Record,
    /// Shared by all connections of plain bytes; none, if the origin speaks HTTP.
    open: Option<Arc<()>>,
    serving: JoinHandle<()>,
}

/// A request that reached the origin.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Method and path.
    pub(crate) line: String,
    /// Its fields, with `:authority` where HTTP/2 has one.
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
    /// Whether its end came.
    pub(crate) is_whole: bool,
}

pub(crate) type Record = Arc<Mutex<Vec<Seen>>>;
type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

impl Origin {
    /// Listens on a port of its own: HTTP/1.1 and cleartext HTTP/2; or for plain bytes, which
    /// it sends back.
    pub(crate) async fn start(is_plain: bool) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let record = Record::default();
        let open = is_plain.then(Arc::default);
        let serving = match &open {
            Some(open) => {
                tokio::spawn(network::serve(listener, Arc::clone(&record), Arc::clone(open)))
            }
            None => tokio::spawn(serve(listener, Arc::clone(&record))),
        };
        Ok(Self { address, record, open, serving })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has done with all connections of plain bytes.
    pub(crate) async fn settle(&self) -> Result<()> {
        match &self.open {
            Some(open) => network::settle(self.address, open).await,
            None => Ok(()),
        }
    }

    /// The requests that reached it since this was last asked.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, record: Record) {
    while let Ok((stream, _)) = listener.accept().await {
        let record = Arc::clone(&record);
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&record)));
            let mut server = auto::Builder::new(TokioExecutor::new());
            // What filters see of a response shall be the same each time.
            server.http1().auto_date_header(false);
            server.http2().auto_date_header(false);
            // A proxy that hangs up has its reasons; the log tells.
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(request: Request<Incoming>, record: Record) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let mut fields = parts.headers;
    if let Some(authority) = parts.uri.authority() {
        fields.insert("host", HeaderValue::from_str(authority.as_str())?);
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let seen = Seen {
        line: format!("{} {path}", parts.method),
        fields,
        body: Vec::new(),
        trailers: HeaderMap::new(),
        is_whole: false,
    };
    let place = {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.push(seen);
        record.len() - 1
    };
    let body = Recorded { body, record, place };
    match parts.uri.path().strip_prefix("/conform.Echo/") {
        Some(method) => grpc(method, body).await,
        None => told(parts.uri.query().unwrap_or_default(), body).await,
    }
}

/// A request's body, noted as it is read.
struct Recorded {
    body: Incoming,
    record: Record,
    place: usize,
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = record.get_mut(self.place) {
            match &frame {
                Some(Ok(frame)) => {
                    seen.body.extend(frame.data_ref().into_iter().flatten());
                    seen.trailers.extend(frame.trailers_ref().cloned().unwrap_or_default());
                }
                Some(Err(_)) => {}
                None => seen.is_whole = true,
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }
}

/// Answers as the query says.
async fn told(query: &str, body: Recorded) -> Result<Reply> {
    let told = |name: &str| {
        let mut pairs = query.split(['&', ';']).filter_map(|pair| pair.split_once('='));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    };
    if told("hang").is_some() {
        let _ = body.collect().await;
        return pending().await;
    }
    let sent = body.collect().await?.to_bytes();
    if let Some(wait) = told("wait") {
        tokio::time::sleep(Duration::from_millis(wait.parse()?)).await;
    }
    let content = match (told("size"), told("echo"), told("body")) {
        (Some(size), _, _) => vec![b'x'; size.parse()?].into(),
        (None, Some(_), _) => sent,
        (None, None, text) => Bytes::from(text.unwrap_or("hello").to_owned()),
    };
    let chunk = told("chunk").map_or(Ok(content.len()), str::parse)?.max(1);
    let mut parts: VecDeque<_> =
        content.chunks(chunk).map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect();
    let trailers = fields(query, "t.")?;
    if !trailers.is_empty() {
        parts.push_back(Ok(Frame::trailers(trailers)));
    }
    if told("reset").is_some() {
        parts.push_back(Err(io::Error::other("as told")));
    }
    let mut response = Response::new(frames(parts));
    *response.status_mut() = StatusCode::from_bytes(told("status").unwrap_or("200").as_bytes())?;
    *response.headers_mut() = fields(query, "h.")?;
    Ok(response)
}

fn fields(query: &str, prefix: &str) -> Result<HeaderMap> {
    let pairs =
        query.split(['&', ';']).filter_map(|pair| pair.strip_prefix(prefix)?.split_once('='));
    pairs
        .map(|(name, value)| Ok((HeaderName::try_from(name)?, HeaderValue::try_from(value)?)))
        .collect()
}

/// Answers a gRPC call.
async fn grpc(method: &str, body: Recorded) -> Result<Reply> {
    let mut end = HeaderMap::from_iter([
        (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0")),
        (HeaderName::from_static("x-last"), HeaderValue::from_static("bye")),
    ]);
    let mut response = match method {
        "Hang" => {
            let _ = body.collect().await;
            return pending().await;
        }
        "Fail" => {
            body.collect().await?;
            end.insert("grpc-status", HeaderValue::from_static("7"));
            end.insert("grpc-message", HeaderValue::from_static("not you"));
            Response::new(frames([Ok(Frame::trailers(end))]))
        }
        "Stream" => {
            let end = std::future::ready(Some(Ok(end)));
            Response::new(body.with_trailers(end).boxed_unsync())
        }
        _ => {
            let message = body.collect().await?.to_bytes();
            Response::new(frames([Ok(Frame::data(message)), Ok(Frame::trailers(end))]))
        }
    };
    let fields = response.headers_mut();
    fields.insert("content-type", HeaderValue::from_static("application/grpc"));
    fields.insert("x-first", HeaderValue::from_static("hi"));
    Ok(response)
}

/// A body of these frames, each sent by itself.
struct Frames {
    frames: VecDeque<io::Result<Frame<Bytes>>>,
    is_flushed: bool,
}

fn frames(
    frames: impl Into<VecDeque<io::Result<Frame<Bytes>>>>,
) -> UnsyncBoxBody<Bytes, io::Error> {
    Frames { frames: frames.into(), is_flushed: false }.boxed_unsync()
}

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        // What came before the break is to reach the proxy.
        if let Some(Err(_)) = self.frames.front()
            && !std::mem::replace(&mut self.is_flushed, true)
        {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.frames.pop_front())
    }

    /// So that an answer without a body is one whose head is its end.
    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    /// So that HTTP/1.1 says how long it is, unless trailers follow.
    fn size_hint(&self) -> hyper::body::SizeHint {
        let data = |frame: &io::Result<Frame<Bytes>>| {
            frame.as_ref().ok().and_then(|frame| Some(frame.data_ref()?.len() as u64))
        };
        match self.frames.iter().map(data).sum::<Option<u64>>() {
            Some(bytes) => hyper::body::SizeHint::with_exact(bytes),
            None => hyper::body::SizeHint::default(),
        }
    }
}
