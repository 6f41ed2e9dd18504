//! What a host process lends to filters: clocks, randomness, a log, and calls to the world.
//!
//! This library does no I/O and reads no clock. Whoever embeds it implements [`Outside`],
//! with real clocks and sockets or with virtual ones, and brings the answers to calls back
//! to the [`Worker`](crate::worker::Worker) that asked.

use crate::maps::HeaderMap;
use bytes::Bytes;

/// What one worker's filters see of the world. Calls must return at once and must not call
/// back into the worker: what they start is answered later. Left as they are, the methods for
/// calls make a world without clusters.
pub trait Outside {
    /// Nanoseconds since 1970-01-01 UTC.
    fn wall_ns(&self) -> u64;

    /// Nanoseconds on a clock that never goes back.
    fn monotonic_ns(&self) -> u64;

    /// Fills a buffer with randomness.
    fn fill_random(&self, to: &mut [u8]);

    /// The least level that is logged at all.
    fn log_level(&self) -> Level;

    /// A line that a filter logged, or that this library says about a filter.
    fn log(&self, plugin: &str, level: Level, message: &str);

    /// Starts an HTTP request; answer with
    /// [`Worker::on_http_response`](crate::worker::Worker::on_http_response), once.
    ///
    /// # Errors
    ///
    /// If there is no such cluster: then nothing is started and nothing answered.
    fn http_call(&self, token: CallToken, call: HttpCall) -> Result<(), UnknownCluster> {
        let _ = (token, call);
        Err(UnknownCluster)
    }

    /// Starts a gRPC call or stream; its events go to
    /// [`Worker::on_grpc`](crate::worker::Worker::on_grpc), the last is [`GrpcEvent::Close`]
    /// (for a unary call a message or a close).
    ///
    /// # Errors
    ///
    /// If there is no such cluster: then nothing is started and nothing answered.
    fn grpc_open(&self, token: CallToken, call: GrpcOpen) -> Result<(), UnknownCluster> {
        let _ = (token, call);
        Err(UnknownCluster)
    }

    /// Sends a message on a stream, perhaps the last from this side.
    fn grpc_send(&self, token: CallToken, message: Bytes, is_last: bool) {
        let _ = (token, message, is_last);
    }

    /// Ends this side of a stream, without another message. Its events still come.
    fn grpc_close(&self, token: CallToken) {
        let _ = token;
    }

    /// Ends a call or stream at once; no more of its events are wanted.
    fn grpc_cancel(&self, token: CallToken) {
        let _ = token;
    }
}

/// How much a log line matters, as the ABI numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Level {
    Trace = 0,
    Debug = 1,
    Info = 2,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

/// A call, for as long as this process lives. Machines come and go; their numbers do not
/// come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallToken {
    /// Whose call.
    pub vm: u64,
    /// As the filter knows it.
    pub token: u32,
}

/// Nobody is known by that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCluster;

/// An HTTP request that a filter makes. `:method`, `:path` and `:authority` are there.
#[derive(Clone, Debug)]
pub struct HttpCall {
    /// To whom, by a name that the proxy's configuration gives.
    pub cluster: String,
    /// With its pseudo headers.
    pub headers: HeaderMap,
    /// Whole.
    pub body: Bytes,
    /// Perhaps empty.
    pub trailers: HeaderMap,
    /// How long it may take; `None`: as long as it takes.
    pub timeout_ms: Option<u32>,
}

/// What came of an [`HttpCall`].
///
/// As in Envoy, one that failed is answered all the same: a refused connection with status
/// 503, one that took too long with 504, one that broke off within the answer with nothing
/// (see [`HttpResponse::unreachable`], [`HttpResponse::timeout`], [`HttpResponse::broken`]).
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// With `:status`.
    pub headers: HeaderMap,
    /// Whole.
    pub body: Bytes,
    /// Perhaps empty.
    pub trailers: HeaderMap,
}

/// A gRPC request that a filter makes.
#[derive(Clone, Debug)]
pub struct GrpcOpen {
    /// To whom, by a name that the proxy's configuration gives.
    pub cluster: String,
    /// Full name of the service.
    pub service: String,
    /// Name of the method.
    pub method: String,
    /// Sent along.
    pub metadata: HeaderMap,
    /// The one message of a unary call; `None` for a stream.
    pub message: Option<Bytes>,
    /// Of a unary call: how long it may take; `None`: as long as it takes.
    pub timeout_ms: Option<u32>,
}

/// What happens on a gRPC call.
#[derive(Clone, Debug)]
pub enum GrpcEvent {
    /// The server's first metadata; streams only.
    InitialMetadata(HeaderMap),
    /// A message; of a unary call, its success.
    Message(Bytes),
    /// The server's last metadata; streams only.
    TrailingMetadata(HeaderMap),
    /// The end, with a status of gRPC and what the server said about it.
    Close(u32, String),
}

impl HttpResponse {
    /// What a filter gets for a call that found nobody.
    #[must_use]
    pub fn unreachable(detail: &str) -> Self {
        let reason = format!("upstream connect error or disconnect/reset before headers. {detail}");
        Self::synthetic("503", reason.into())
    }

    /// What a filter gets for a call that took too long.
    #[must_use]
    pub fn timeout() -> Self {
        Self::synthetic("504", Bytes::from_static(b"upstream request timeout"))
    }

    /// What a filter gets for a call whose answer broke off: not even a status.
    #[must_use]
    pub fn broken() -> Self {
        Self { headers: HeaderMap::new(), body: Bytes::new(), trailers: HeaderMap::new() }
    }

    fn synthetic(status: &'static str, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.add(":status", status);
        headers.add("content-length", body.len().to_string());
        headers.add("content-type", "text/plain");
        Self { headers, body, trailers: HeaderMap::new() }
    }
}
