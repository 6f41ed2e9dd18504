//! One exchange: between a client, the filters and an upstream.
//!
//! [`Exchange`] is polled like a stream of the response's parts, and moves everything else
//! along meanwhile: it hands what comes from the client and from upstream to the filters, and
//! does what comes out behind them. It reads no more from a side than the other takes, but for
//! what filters hold. The upstream's side is in [`upstream`], who polls all this in [`serve`];
//! what becomes of an upgraded connection, in [`bridge`].

mod bridge;
mod clock;
pub(super) mod serve;
mod upstream;

use super::guard::{Admission, Fields};
use super::headers::{self, back};
use super::lane::{Lane, Route};
use super::listener::Visit;
use super::pipe;
use super::time::nanos;
use super::upstream::{Answer, Failure, Lease};
use bytes::Bytes;
use clock::Clock;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::upgrade::OnUpgrade;
use hyper::{Response, Version};
use proxy_wasm_host::exchange::Facts;
use proxy_wasm_host::http::{HttpEvent, HttpStream};
use proxy_wasm_host::maps::HeaderMap;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Envoy's flags for `response.flags`.
const FLAG_TIMEOUT: u64 = 0x4;
const FLAG_CLIENT_GONE: u64 = 0x4000;
const FLAG_IDLE: u64 = 0x1_0000;

/// A part of the response, in order. After [`Part::Reset`], and after the last part, there is
/// none.
pub(super) enum Part {
    /// The head; whether that is all.
    Head(Response<()>, bool),
    Data(Bytes),
    Trailers(headers::WireHeaders),
    End,
    /// The response is cut off here.
    Reset,
}

/// One exchange under way.
pub(super) struct Exchange {
    lane: Rc<Lane>,
    route: Rc<Route>,
    stream: HttpStream,
    /// What is still to come of the request.
    client: Option<Incoming>,
    /// Of HTTP/2 the end is known with the last part.
    is_client_http2: bool,
    /// What goes upstream of its body.
    feed: Option<pipe::Sender>,
    upstream: Up,
    /// What was not taken yet of the response.
    parts: VecDeque<Part>,
    clock: Clock,
    is_head: bool,
    /// The client's connection, if it is to become something else.
    upgrade: Option<OnUpgrade>,
    /// The upstream's, once it has agreed.
    upgraded: Option<OnUpgrade>,
    is_request_sent: bool,
    has_response_begun: bool,
    is_response_done: bool,
    /// What is owed of a body whose length the response told.
    owed_bytes: Option<u64>,
    /// To be set on the response, whoever makes it: where the client stands.
    fields: Fields,
    _visit: Visit,
    _began: Began,
}

/// Where the upstream's side is.
enum Up {
    /// Nothing was sent.
    Idle,
    Asked(Pin<Box<dyn Future<Output = Result<Answer, Failure>>>>, Instant),
    Answers {
        body: Incoming,
        is_http2: bool,
        lease: Lease,
        /// When it was asked.
        since: Instant,
    },
    /// Nothing is wanted of it, or nothing more comes.
    Over,
}

/// What an exchange begins with.
pub(super) struct Beginning {
    pub(super) headers: HeaderMap,
    pub(super) facts: Facts,
    pub(super) body: Incoming,
    pub(super) version: Version,
    pub(super) upgrade: Option<OnUpgrade>,
    pub(super) visit: Visit,
    pub(super) began: Began,
}

/// Counts as an exchange under way as long as it exists: also while a guard holds it.
pub(super) struct Began(Rc<Lane>);

impl Began {
    pub(super) fn new(lane: &Rc<Lane>) -> Self {
        lane.counts.exchange_began();
        Self(Rc::clone(lane))
    }
}

impl Drop for Began {
    fn drop(&mut self) {
        self.0.counts.exchange_left();
    }
}

impl Exchange {
    /// Begins one: the filters see the request's headers, unless its guard refused it.
    pub(super) fn new(
        lane: &Rc<Lane>,
        route: &Rc<Route>,
        beginning: Beginning,
        admission: Admission,
    ) -> Self {
        let settings = &route.plan.settings;
        let Beginning { headers, facts, body, version, upgrade, visit, began } = beginning;
        let is_head = headers.get(b":method").is_some_and(|method| method == "HEAD");
        let stream = HttpStream::new(&route.filters, facts, settings.bounds.buffer_bytes);
        let is_end = body.is_end_stream() && upgrade.is_none();
        let (refusal, fields) = match admission {
            Admission::Through(fields) => (None, fields),
            Admission::Refused(refusal) => (Some(refusal), Fields::new()),
        };
        let exchange = Self {
            lane: Rc::clone(lane),
            route: Rc::clone(route),
            stream,
            client: (!body.is_end_stream()).then_some(body),
            is_client_http2: version == Version::HTTP_2,
            feed: None,
            upstream: Up::Idle,
            parts: VecDeque::new(),
            clock: Clock::new(&settings.timeouts),
            is_head,
            upgrade,
            upgraded: None,
            is_request_sent: false,
            has_response_begun: false,
            is_response_done: false,
            owed_bytes: None,
            fields,
            _visit: visit,
            _began: began,
        };
        match refusal {
            None => exchange.stream.on_request_headers(headers, is_end),
            Some(refusal) => exchange.stream.refuse(headers, *refusal),
        }
        exchange
    }

    /// Whether it can go on only while the response is taken: then it needs no task of its
    /// own, for there is nothing of the request to wait for.
    pub(super) const fn is_simple(&self) -> bool {
        self.client.is_none() && self.upgrade.is_none()
    }

    /// The next part of the response; without `is_wanted`, everything else is moved along
    /// but the response.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_wanted: bool) -> Poll<Part> {
        loop {
            self.take_events(cx);
            if is_wanted && let Some(part) = self.parts.pop_front() {
                return Poll::Ready(part);
            }
            let has_moved = self.poll_upstream(cx, is_wanted) | self.poll_client(cx);
            if has_moved {
                self.clock.moved();
            } else if !self.poll_clock(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Whether all that was polled is all there is.
    pub(super) fn is_at_end(&self) -> bool {
        match self.parts.front() {
            Some(part) => matches!(part, Part::End),
            None => self.is_response_done,
        }
    }

    fn take_events(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(event) = self.stream.poll_event(cx) {
            self.apply(event);
        }
    }

    fn apply(&mut self, event: HttpEvent) {
        match event {
            HttpEvent::RequestHeaders(headers, is_end) => self.ask(&headers, is_end),
            HttpEvent::RequestData(data, is_end) => {
                if let Some(feed) = &self.feed {
                    feed.data(data);
                }
                if is_end {
                    self.end_request(None);
                }
            }
            HttpEvent::RequestTrailers(trailers) => self.end_request(Some(&trailers)),
            HttpEvent::ResponseHeaders(mut headers, is_end) => {
                for (name, value) in std::mem::take(&mut self.fields) {
                    headers.replace(name, value);
                }
                if matches!(self.upstream, Up::Idle | Up::Asked(..) | Up::Over) {
                    // Made here: of upstream and of the request's rest nothing is wanted.
                    self.leave_upstream();
                    self.client = None;
                }
                self.has_response_begun = true;
                let head = back::response(&headers, is_end, self.is_head);
                let length = head.headers().get(CONTENT_LENGTH).filter(|_| !self.is_head);
                self.owed_bytes = length.and_then(|length| length.to_str().ok()?.parse().ok());
                self.push(Part::Head(head, is_end), is_end);
            }
            HttpEvent::ResponseData(data, is_end) => {
                if !data.is_empty() {
                    self.owed_bytes =
                        self.owed_bytes.map(|owed| owed.saturating_sub(data.len() as u64));
                    self.push(Part::Data(data), false);
                }
                if is_end {
                    self.push(Part::End, true);
                }
            }
            HttpEvent::ResponseTrailers(trailers) => {
                self.push(Part::Trailers(back::trailers(&trailers)), true);
            }
            HttpEvent::Reset => {
                self.leave_upstream();
                self.client = None;
                self.push(Part::Reset, true);
            }
        }
    }

    fn push(&mut self, part: Part, is_last: bool) {
        self.is_response_done |= is_last;
        self.parts.push_back(part);
    }

    fn reply(&mut self, status: u16, body: Bytes, details: &str) {
        self.stream.reply(status, HeaderMap::new(), body, details);
    }

    /// Whether something came from the client.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(client) = &mut self.client else { return false };
        let has_room = self.feed.as_ref().is_none_or(|feed| feed.poll_room(cx));
        if !has_room || self.stream.is_request_full() {
            return false;
        }
        let Poll::Ready(frame) = Pin::new(&mut *client).poll_frame(cx) else { return false };
        let is_end = frame.is_none() || client.is_end_stream();
        let is_with_last = is_end && self.is_client_http2;
        if is_end {
            self.client = None;
        }
        match frame {
            None => self.stream.on_request_data(Bytes::new(), true),
            Some(Err(_)) => {
                self.client = None;
                self.client_gone();
                self.apply(HttpEvent::Reset);
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.stream.on_request_data(data, is_with_last);
                    if is_end && !is_with_last {
                        self.stream.on_request_data(Bytes::new(), true);
                    }
                }
                Err(frame) => {
                    self.client = None;
                    let trailers = frame.trailers_ref().map(headers::trailers);
                    self.stream.on_request_trailers(trailers.unwrap_or_default());
                }
            },
        }
        true
    }

    /// The client broke off: for the log.
    fn client_gone(&self) {
        let mut exchange = self.stream.exchange();
        exchange.facts.response_flags |= FLAG_CLIENT_GONE;
        exchange.facts.response_code_details = Some("downstream_remote_disconnect".to_owned());
    }

    /// Whether a time has run out, and something came of it.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> bool {
        let is_asked = matches!(self.upstream, Up::Asked(..));
        let Poll::Ready(what) = self.clock.poll(cx, is_asked) else { return false };
        let (status, flag, body, details) = match what {
            clock::RanOut::Response => {
                (504, FLAG_TIMEOUT, "upstream request timeout", "response_timeout")
            }
            clock::RanOut::Idle if self.client.is_some() => {
                (408, FLAG_IDLE, "stream timeout", "stream_idle_timeout")
            }
            clock::RanOut::Idle => (504, FLAG_IDLE, "stream timeout", "stream_idle_timeout"),
        };
        self.lane.counts.upstream_failed("timeout");
        self.stream.exchange().facts.response_flags |= flag;
        self.leave_upstream();
        self.upstream = Up::Over;
        self.reply(status, Bytes::from_static(body.as_bytes()), details);
        true
    }
}

impl Drop for Exchange {
    /// It is over, however it ended: it is counted and logged, and then the filters log it.
    fn drop(&mut self) {
        // Who was promised a length need not ask for the end behind it.
        if !self.is_response_done && self.owed_bytes != Some(0) {
            self.client_gone();
        }
        let took = self.clock.since_start();
        {
            let mut exchange = self.stream.exchange();
            exchange.facts.duration_ns = Some(nanos(took));
            let status = exchange.facts.response_code;
            self.lane.counts.exchange_ended(status, took);
            self.lane.log.add(&exchange, took);
        }
    }
}
