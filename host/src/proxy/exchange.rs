//! One exchange: between a client, the filters and an upstream.
//!
//! [`Exchange`] is polled like a stream of the response's parts, and moves everything else
//! along meanwhile: it hands what comes from the client and from upstream to the filters, and
//! does what comes out behind them. It reads no more from a side than the other takes, but for
//! what filters hold. Who polls it is in [`serve`]; what becomes of an upgraded connection, in
//! [`bridge`].

mod bridge;
mod clock;
pub(super) mod serve;

use super::headers::{self, back};
use super::lane::{Lane, Route, Target};
use super::listener::Visit;
use super::pipe::{self, pipe};
use super::upstream::{Answer, Failure, Lease, RequestBody};
use bytes::Bytes;
use clock::Clock;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode, Version};
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
    _visit: Visit,
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
}

impl Exchange {
    /// Begins one: the filters see the request's headers.
    pub(super) fn new(lane: &Rc<Lane>, route: &Rc<Route>, beginning: Beginning) -> Self {
        let settings = &route.plan.settings;
        let Beginning { headers, facts, body, version, upgrade, visit } = beginning;
        lane.counts.exchange_began();
        let is_head = headers.get(b":method").is_some_and(|method| method == "HEAD");
        let stream = HttpStream::new(&route.filters, facts, settings.bounds.buffer_bytes);
        let is_end = body.is_end_stream() && upgrade.is_none();
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
            _visit: visit,
        };
        exchange.stream.on_request_headers(headers, is_end);
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
            HttpEvent::ResponseHeaders(headers, is_end) => {
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

    /// Sends the request on, or answers it if it goes nowhere.
    fn ask(&mut self, headers: &HeaderMap, is_end: bool) {
        let route = Rc::clone(&self.route);
        let cluster = match &route.target {
            Target::Respond { status, headers, body } => {
                let (headers, body) = (headers.clone(), body.clone());
                return self.stream.reply(*status, headers, body, "direct_response");
            }
            Target::Cluster(cluster) => cluster,
        };
        if self.upgrade.is_some() && cluster.is_http2() {
            return self.reply(403, Bytes::new(), "upgrade_failed");
        }
        let head = back::request(headers, cluster.is_http2(), cluster.is_tls(), is_end);
        let head = match head {
            Ok(head) => head,
            Err(back::NoRequest::Nowhere) => {
                return self.reply(404, Bytes::new(), "route_not_found");
            }
            Err(back::NoRequest::Malformed(why)) => {
                let details = format!("filter_removed_required_request_headers{{{why}}}");
                return self.reply(503, why.into(), &details);
            }
        };
        let body = if is_end || self.upgrade.is_some() {
            RequestBody::Empty
        } else {
            let (feed, body) = pipe();
            self.feed = Some(feed);
            RequestBody::Pipe(body)
        };
        let answer = Rc::clone(cluster).send(head.map(|()| body));
        self.upstream = Up::Asked(Box::pin(answer), Instant::now());
        if is_end || self.upgrade.is_some() {
            self.end_request(None);
        }
    }

    fn end_request(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(feed) = self.feed.take() {
            match trailers {
                Some(trailers) => feed.trailers(back::trailers(trailers)),
                None => feed.end(),
            }
        }
        self.is_request_sent = true;
        self.clock.request_sent();
    }

    /// Whether something came from upstream.
    fn poll_upstream(&mut self, cx: &mut Context<'_>, is_wanted: bool) -> bool {
        match &mut self.upstream {
            Up::Asked(answer, since) => {
                let since = *since;
                let Poll::Ready(answer) = answer.as_mut().poll(cx) else { return false };
                match answer {
                    Ok(answer) => self.answered(answer, since),
                    Err(failure) => self.failed(&failure),
                }
                true
            }
            Up::Answers { body, is_http2, .. } => {
                if !is_wanted || !self.parts.is_empty() || self.stream.is_response_full() {
                    return false;
                }
                let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { return false };
                let (is_http2, is_last) = (*is_http2, body.is_end_stream());
                self.response_frame(frame, is_last, is_http2);
                true
            }
            Up::Idle | Up::Over => false,
        }
    }

    fn answered(&mut self, answer: Answer, since: Instant) {
        let Answer { mut response, facts, lease } = answer;
        self.clock.response_began();
        self.stream.exchange().facts.upstream = Some(facts);
        let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if is_upgrade {
            if self.upgrade.is_none() {
                return self.failed(&Failure::Protocol);
            }
            self.upgraded = Some(hyper::upgrade::on(&mut response));
        }
        let (head, body) = response.into_parts();
        let is_http2 = head.version == Version::HTTP_2;
        // Whatever an origin sends behind an answer to HEAD is nobody's.
        let is_end = (body.is_end_stream() || self.is_head) && !is_upgrade;
        let headers = headers::response(&head);
        self.upstream = Up::Answers { body, is_http2, lease, since };
        if is_end {
            self.upstream_ended();
        } else if is_upgrade {
            // Its body is what comes over the connection from now on.
            self.upstream = Up::Idle;
        }
        self.stream.on_response_headers(headers, is_end);
    }

    /// As Envoy's codecs tell it: HTTP/2's last part is the end, while HTTP/1's end comes
    /// behind the last part, also where its length told that it is the last.
    fn response_frame(
        &mut self,
        frame: Option<Result<Frame<Bytes>, hyper::Error>>,
        is_last: bool,
        is_http2: bool,
    ) {
        let Some(frame) = frame else {
            self.upstream_ended();
            return self.stream.on_response_data(Bytes::new(), true);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(_) => return self.failed(&Failure::Terminated),
        };
        match frame.into_data() {
            Ok(data) => {
                if is_last {
                    self.upstream_ended();
                }
                self.stream.on_response_data(data, is_last && is_http2);
                if is_last && !is_http2 {
                    self.stream.on_response_data(Bytes::new(), true);
                }
            }
            Err(frame) => {
                self.upstream_ended();
                let trailers = frame.trailers_ref().map(headers::trailers);
                self.stream.on_response_trailers(trailers.unwrap_or_default());
            }
        }
    }

    /// The whole response has come. Its connection is another's, if the request is all sent.
    fn upstream_ended(&mut self) {
        if let Up::Answers { lease, since, .. } = std::mem::replace(&mut self.upstream, Up::Over) {
            let took = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.stream.exchange().facts.backend_latency_ns = Some(took);
            if self.is_request_sent {
                lease.give_back();
            }
        }
    }

    /// No response, or none to its end.
    fn failed(&mut self, failure: &Failure) {
        self.upstream = Up::Over;
        let (status, flag) = failure.status_and_flag();
        let (name, details) = match self.has_response_begun {
            true => ("cut_off", "upstream_reset_after_response_started".to_owned()),
            false => (failure.name(), failure.details()),
        };
        self.lane.counts.upstream_failed(name);
        {
            let mut exchange = self.stream.exchange();
            exchange.facts.response_flags |= flag;
            exchange.facts.response_code_details = Some(details.clone());
        }
        let body = format!(
            "upstream connect error or disconnect/reset before headers. reset reason: {}",
            failure.reason()
        );
        self.reply(status, body.into(), &details);
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

    fn leave_upstream(&mut self) {
        self.upstream = Up::Over;
        self.feed = None;
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
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            exchange.facts.duration_ns = Some(nanos);
            let status = exchange.facts.response_code;
            self.lane.counts.exchange_ended(status, took);
            self.lane.log.add(&exchange, took);
        }
        self.lane.counts.exchange_left();
    }
}
