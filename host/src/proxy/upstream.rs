//! Connections to somebody: pools of one worker, and how a request gets its response.
//!
//! HTTP/1 connections carry one exchange at a time and are kept for the next, the last used
//! first. HTTP/2 connections are shared by many exchanges. There
//! are no retries: only a request of which not a byte was written, because a kept connection
//! had been closed meanwhile, goes to the next one.

mod body;
mod dial;

pub(super) use body::RequestBody;
pub(super) use dial::HereOnly;

use super::plan::Peer;
use super::tcp::Stream;
use super::time::nanos;
use dial::{Http1, Http2};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::{Request, Response};
use proxy_wasm_host::exchange::UpstreamFacts;
use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections kept for one upstream: more than this at rest are closed.
const IDLE_MAX: usize = 256;

/// Exchanges on one HTTP/2 connection: what RFC 9113 recommends every server to allow. More
/// get another connection.
const STREAMS_MAX: usize = 100;

/// One worker's connections to one upstream.
pub(super) struct Cluster {
    peer: Arc<Peer>,
    connect_timeout: Cell<Duration>,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Shared>>,
    /// Held while an HTTP/2 connection is made: who comes meanwhile waits for that one.
    dialing: tokio::sync::Mutex<()>,
}

struct Idle {
    connection: Http1,
    since: Instant,
}

struct Shared {
    connection: Http2,
    streams: Rc<Cell<usize>>,
    used: Rc<Cell<Instant>>,
}

/// A response, and what keeps its connection.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) facts: UpstreamFacts,
    pub(super) lease: Lease,
}

/// A part in a connection, for as long as the exchange lasts.
pub(super) enum Lease {
    /// The whole of it. Dropped, it is closed; see [`Lease::give_back`].
    Http1(Box<Http1>, Rc<Cluster>),
    Http2(#[expect(dead_code, reason = "counted until it is dropped")] StreamCount),
}

/// One of a connection's exchanges.
pub(super) struct StreamCount {
    streams: Rc<Cell<usize>>,
    used: Rc<Cell<Instant>>,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody answers there; why.
    Connect(String),
    /// Nobody answered there in time.
    ConnectTimeout,
    /// The connection ended before the response's head.
    Terminated,
    /// The other side refused this exchange alone (HTTP/2).
    RemoteReset,
    /// What came is not HTTP.
    Protocol,
}

impl Cluster {
    pub(super) fn new(peer: &Arc<Peer>, connect_timeout: Duration) -> Rc<Self> {
        Rc::new(Self {
            peer: Arc::clone(peer),
            connect_timeout: Cell::new(connect_timeout),
            idle: RefCell::default(),
            shared: RefCell::default(),
            dialing: tokio::sync::Mutex::new(()),
        })
    }

    /// Whether it can go on as `peer`'s after a reload: the same place, and no certificates
    /// that may have changed.
    pub(super) fn serves(&self, peer: &Peer) -> bool {
        self.peer.upstream == peer.upstream && peer.tls.is_none()
    }

    pub(super) fn set_connect_timeout(&self, timeout: Duration) {
        self.connect_timeout.set(timeout);
    }

    pub(super) fn is_http2(&self) -> bool {
        self.peer.upstream.is_http2
    }

    pub(super) fn is_tls(&self) -> bool {
        self.peer.tls.is_some()
    }

    /// Sends a request and waits for the head of its response, as long as that takes.
    ///
    /// # Errors
    ///
    /// [`Failure`]; the request may have been received all the same.
    pub(super) async fn send(
        self: Rc<Self>,
        request: Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        match self.is_http2() {
            true => self.send_http2(request).await,
            false => self.send_http1(request).await,
        }
    }

    /// A connection of one's own, for bytes alone.
    ///
    /// # Errors
    ///
    /// [`Failure`], if there is none in time.
    pub(super) async fn dial(self: Rc<Self>) -> Result<(Box<dyn Stream>, UpstreamFacts), Failure> {
        self.within(dial::bytes(&self.peer)).await
    }

    async fn send_http1(
        self: Rc<Self>,
        mut request: Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        let began = Instant::now();
        loop {
            let (mut connection, is_new) = match self.take_idle() {
                Some(kept) => (kept, false),
                None => (self.within(dial::http1(&self.peer)).await?, true),
            };
            let ready_ns = Some(nanos(began.elapsed()));
            // It may still be at work on the end of its last exchange.
            if !is_new && connection.sender.ready().await.is_err() {
                continue;
            }
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let facts = UpstreamFacts { ready_ns, ..connection.facts.clone() };
                    let lease = Lease::Http1(Box::new(connection), self);
                    return Ok(Answer { response, facts, lease });
                }
                Err(failed) => request = unsent(failed, is_new)?,
            }
        }
    }

    async fn send_http2(
        self: Rc<Self>,
        mut request: Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        let began = Instant::now();
        loop {
            let (mut connection, count, is_new) = self.share().await?;
            let ready_ns = Some(nanos(began.elapsed()));
            if connection.sender.ready().await.is_err() {
                match is_new {
                    true => return Err(Failure::Terminated),
                    false => continue,
                }
            }
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let facts = UpstreamFacts { ready_ns, ..connection.facts };
                    let lease = Lease::Http2(count);
                    return Ok(Answer { response, facts, lease });
                }
                Err(failed) => request = unsent(failed, is_new)?,
            }
        }
    }

    fn take_idle(&self) -> Option<Http1> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let kept = idle.pop()?;
            if !kept.connection.sender.is_closed() {
                return Some(kept.connection);
            }
        }
    }

    /// A part in an HTTP/2 connection with room, or in a new one.
    async fn share(&self) -> Result<(Http2, StreamCount, bool), Failure> {
        if let Some((connection, count)) = self.find_room() {
            return Ok((connection, count, false));
        }
        let _dialing = self.dialing.lock().await;
        if let Some((connection, count)) = self.find_room() {
            return Ok((connection, count, false));
        }
        let connection = self.within(dial::http2(&self.peer)).await?;
        let shared = Shared {
            connection: connection.clone(),
            streams: Rc::default(),
            used: Rc::new(Cell::new(Instant::now())),
        };
        let count = shared.count();
        self.shared.borrow_mut().push(shared);
        Ok((connection, count, true))
    }

    fn find_room(&self) -> Option<(Http2, StreamCount)> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.connection.sender.is_closed());
        let with_room = shared.iter().find(|shared| shared.streams.get() < STREAMS_MAX)?;
        Some((with_room.connection.clone(), with_room.count()))
    }

    async fn within<T>(
        &self,
        dial: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let dialled = tokio::time::timeout(self.connect_timeout.get(), dial).await;
        dialled.unwrap_or(Err(Failure::ConnectTimeout))
    }

    /// Closes what was not used for as long as this, and forgets what the other side closed.
    pub(super) fn sweep(&self, idle_max: Duration) {
        let is_fresh = |since: Instant| since.elapsed() < idle_max;
        self.idle
            .borrow_mut()
            .retain(|idle| is_fresh(idle.since) && !idle.connection.sender.is_closed());
        self.shared.borrow_mut().retain(|shared| {
            let is_used = shared.streams.get() > 0 || is_fresh(shared.used.get());
            is_used && !shared.connection.sender.is_closed()
        });
    }
}

impl Shared {
    fn count(&self) -> StreamCount {
        self.streams.set(self.streams.get() + 1);
        StreamCount { streams: Rc::clone(&self.streams), used: Rc::clone(&self.used) }
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        self.used.set(Instant::now());
    }
}

impl Lease {
    /// The exchange went well to its end, both ways: the connection is kept for the next.
    pub(super) fn give_back(self) {
        if let Self::Http1(connection, cluster) = self
            && !connection.sender.is_closed()
        {
            let mut idle = cluster.idle.borrow_mut();
            if idle.len() < IDLE_MAX {
                idle.push(Idle { connection: *connection, since: Instant::now() });
            }
        }
    }
}

/// A request that was not sent comes back, if it may go elsewhere.
fn unsent(
    mut failed: TrySendError<Request<RequestBody>>,
    is_new: bool,
) -> Result<Request<RequestBody>, Failure> {
    match failed.take_message() {
        Some(request) if !is_new => Ok(request),
        _ => Err(Failure::of(failed.error())),
    }
}

impl Failure {
    fn of(error: &hyper::Error) -> Self {
        let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
        match h2 {
            Some(h2) if h2.is_reset() && h2.is_remote() => Self::RemoteReset,
            _ if error.is_parse() => Self::Protocol,
            _ => Self::Terminated,
        }
    }

    /// Envoy's words for it.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Connect(why) => format!("{}, transport failure reason: {why}", self.words()),
            _ => self.words().to_owned(),
        }
    }

    /// The same without what the system said.
    pub(super) const fn words(&self) -> &'static str {
        match self {
            Self::Connect(_) => "remote connection failure",
            Self::ConnectTimeout => "connection timeout",
            Self::Terminated => "connection termination",
            Self::RemoteReset => "remote reset",
            Self::Protocol => "protocol error",
        }
    }

    /// What `response.code_details` says of it.
    pub(super) fn details(&self) -> String {
        let reason = match self {
            Self::Connect(why) => format!("remote_connection_failure|{why}"),
            other => other.reason(),
        };
        format!("upstream_reset_before_response_started{{{}}}", reason.replace(' ', "_"))
    }

    /// The status of the answer that is made of it, and the flag in `response.flags`.
    pub(super) const fn status_and_flag(&self) -> (u16, u64) {
        match self {
            Self::Connect(_) | Self::ConnectTimeout => (503, 0x20),
            Self::Terminated => (503, 0x40),
            Self::RemoteReset => (503, 0x10),
            Self::Protocol => (502, 0x80_0000),
        }
    }

    /// Its name in metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Terminated | Self::RemoteReset => "reset",
            Self::Protocol => "protocol",
        }
    }
}
