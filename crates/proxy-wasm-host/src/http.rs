//! A chain of filters over one HTTP exchange.
//!
//! What comes from the client and from upstream is handed in part by part; what is to be
//! sent on comes out as [`HttpEvent`]s, in order. A filter that pauses holds things back
//! until it lets go, which can happen in any of the worker's methods: then the stream's
//! waker is woken.
//!
//! - [`chain`]: what comes in, what goes out, how an exchange ends
//! - [`passage`]: how its parts move from filter to filter
//! - [`stage`]: where one filter is in one direction
//! - [`reply`]: what an answer of a filter's own, or of the chain's, looks like

mod chain;
mod passage;
mod reply;
mod stage;

use crate::chain::Direction;
use crate::exchange::{Exchange, Facts};
use crate::maps::HeaderMap;
use crate::vm::LocalReply;
use crate::worker::Filter;
use bytes::Bytes;
use chain::{Chain, State};
use std::cell::RefMut;
use std::rc::Rc;
use std::task::{Context, Poll};

/// One exchange. When it is dropped, the filters log it and forget it.
pub struct HttpStream {
    chain: Rc<Chain>,
}

/// What the proxy is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpEvent {
    /// Send the request's headers upstream; whether that is all of it.
    RequestHeaders(HeaderMap, bool),
    /// Send a part of its body; whether that is the end.
    RequestData(Bytes, bool),
    /// Send its trailers, the end.
    RequestTrailers(HeaderMap),
    /// Send the response's headers to the client; whether that is all of it. It may be one
    /// that a filter made: then nothing more goes upstream, and what comes from there is not
    /// wanted.
    ResponseHeaders(HeaderMap, bool),
    /// Send a part of its body; whether that is the end.
    ResponseData(Bytes, bool),
    /// Send its trailers, the end.
    ResponseTrailers(HeaderMap),
    /// Cut the exchange off, on both sides.
    Reset,
}

/// An answer in place of upstream's. A gRPC client gets `grpc_status`, or what its status stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Refusal {
    pub status: u16,
    pub grpc_status: Option<u32>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// They become `response.code_details`.
    pub details: String,
}

/// How much of each direction's body a stream usually holds at most, in bytes, while a
/// filter buffers or pauses: what Envoy's connections hold.
pub const BUFFER_BYTES: usize = 1 << 20;

impl HttpStream {
    /// A new exchange through these filters: requests pass them in order, responses in
    /// reverse. No filters at all are a chain too.
    ///
    /// A filter that buffers more than `buffer_bytes` of a body ends the exchange with 413 or
    /// 500, as in Envoy; while one pauses, [`HttpStream::is_request_full`] and
    /// [`HttpStream::is_response_full`] tell when to stop reading.
    #[must_use]
    pub fn new(filters: &[Filter], facts: Facts, buffer_bytes: usize) -> Self {
        Self { chain: chain::new(filters, facts, buffer_bytes) }
    }

    /// The request's headers, with `:authority`, `:path`, `:method`, `:scheme` first.
    pub fn on_request_headers(&self, headers: HeaderMap, is_end: bool) {
        self.chain.exchange.borrow_mut().request_headers = Some(headers);
        self.chain.run(|state| state.on_headers(Direction::Request, is_end));
    }

    /// A part of the request's body. An empty one may end it.
    pub fn on_request_data(&self, data: Bytes, is_end: bool) {
        self.chain.exchange.borrow_mut().facts.request_body_bytes += data.len() as u64;
        self.chain.run(|state| state.on_data(Direction::Request, data, is_end));
    }

    /// The request's trailers, its end.
    pub fn on_request_trailers(&self, trailers: HeaderMap) {
        self.chain.exchange.borrow_mut().request_trailers = Some(trailers);
        self.chain.run(|state| state.on_trailers(Direction::Request));
    }

    /// The response's headers from upstream, with `:status` first.
    pub fn on_response_headers(&self, headers: HeaderMap, is_end: bool) {
        self.chain.run(|state| state.on_response(headers, is_end));
    }

    /// A part of the response's body. An empty one may end it.
    pub fn on_response_data(&self, data: Bytes, is_end: bool) {
        self.chain.run(|state| state.on_upstream_data(data, is_end));
    }

    /// The response's trailers, its end.
    pub fn on_response_trailers(&self, trailers: HeaderMap) {
        self.chain.run(|state| state.on_upstream_trailers(trailers));
    }

    /// Answers the request from the proxy itself (no upstream, a timeout), as a filter does:
    /// the response passes the filters. `details` become `response.code_details`. Once
    /// response headers were sent, the exchange is cut off instead.
    pub fn reply(&self, status: u16, headers: HeaderMap, body: Bytes, details: &str) {
        let (status, details) = (u32::from(status), details.to_owned());
        let reply = LocalReply { status, details, headers, body, grpc_status: None };
        self.chain.run(|state| state.answer(&reply));
    }

    /// Refuses a request that no filter has seen: the response passes the filters.
    pub fn refuse(&self, request: HeaderMap, refusal: Refusal) {
        let Refusal { status, grpc_status, headers, body, details } = refusal;
        self.chain.exchange.borrow_mut().request_headers = Some(request);
        let status = u32::from(status);
        let reply = LocalReply { status, details, headers, body, grpc_status };
        self.chain.run(|state| state.answer(&reply));
    }

    /// The next thing to do; pending until a filter lets go.
    pub fn poll_event(&self, cx: &mut Context<'_>) -> Poll<HttpEvent> {
        self.chain.poll_event(cx)
    }

    /// The next thing to do, if there is one now.
    #[must_use]
    pub fn next_event(&self) -> Option<HttpEvent> {
        self.chain.next_event()
    }

    /// Whether the request's body is to be read from the client no further for now: a filter
    /// that makes the sender wait holds a buffer full. When that is over,
    /// [`HttpStream::poll_event`]'s waker is woken.
    #[must_use]
    pub fn is_request_full(&self) -> bool {
        self.chain.is_full(Direction::Request)
    }

    /// As [`HttpStream::is_request_full`], for the response's body.
    #[must_use]
    pub fn is_response_full(&self) -> bool {
        self.chain.is_full(Direction::Response)
    }

    /// What is known of it: for facts that come late, and for the access log. Do not keep it
    /// over a call of another method.
    #[must_use]
    pub fn exchange(&self) -> RefMut<'_, Exchange> {
        self.chain.exchange.borrow_mut()
    }
}

impl Drop for HttpStream {
    fn drop(&mut self) {
        self.chain.run(State::close);
    }
}
