//! One HTTP exchange's way through its filters: what comes in, what goes out, how it ends.
//!
//! How parts move from filter to filter is in [`passage`](super::passage).

use super::HttpEvent;
use super::reply;
use super::stage::{Pause, Stage};
use crate::chain::{self, Direction, Row, Seat, Walk};
use crate::exchange::Facts;
use crate::maps::HeaderMap;
use crate::vm::{Callback, Effect, LocalReply, StreamKind};
use crate::worker::{Entrance, Filter};
use bytes::Bytes;
use std::collections::VecDeque;
use std::rc::Rc;

pub(super) type Chain = chain::Chain<State>;

/// Everything but what filters may touch while the chain is busy.
pub(super) struct State {
    pub(super) row: Row<Stage>,
    request: Flow,
    response: Flow,
    origin: Origin,
    events: VecDeque<HttpEvent>,
    pub(super) buffer_bytes: usize,
    is_closed: bool,
}

/// Who made the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// There is none yet.
    Nobody,
    Upstream,
    Proxy,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// Whether the headers have become an event.
    has_begun: bool,
    /// Whether nothing moves here any more.
    is_over: bool,
}

/// A new exchange through these filters.
pub(super) fn new(filters: &[Filter], facts: Facts, buffer_bytes: usize) -> Rc<Chain> {
    Chain::new(facts, |owner, exchange, wishes| State {
        row: Row::new(filters, StreamKind::Http, owner, exchange, wishes),
        request: Flow::default(),
        response: Flow::default(),
        origin: Origin::Nobody,
        events: VecDeque::new(),
        buffer_bytes,
        is_closed: false,
    })
}

impl Walk for State {
    type Event = HttpEvent;

    fn events(&mut self) -> &mut VecDeque<HttpEvent> {
        &mut self.events
    }

    /// Does what filters asked for.
    fn obey(&mut self) {
        while let Some((seat, effect)) = self.row.wishes.next() {
            if self.is_closed {
                continue;
            }
            match effect {
                Effect::ContinueRequest => self.resume(Direction::Request, seat),
                Effect::ContinueResponse => self.resume(Direction::Response, seat),
                effect => self.end_by(seat, &effect),
            }
        }
    }

    /// Whether a filter that lets the sender wait has as much as it may. One that buffers does
    /// not count: it waits for the end, which comes, or too much does.
    fn is_full(&self, direction: Direction) -> bool {
        let is_over = match direction {
            Direction::Request => self.request.is_over,
            Direction::Response => self.response.is_over,
        };
        let is_full = |seat: &Seat<Stage>| {
            let stage = seat.lane(direction);
            let waits = stage.pause != Pause::No && !stage.is_bounded;
            let shown = || stage.kept.len() + seat.held_bytes(direction).unwrap_or(0);
            waits && stage.data.len() + shown() >= self.buffer_bytes
        };
        !is_over && self.row.iter().any(is_full)
    }
}

impl State {
    /// Headers came; the map is in the exchange.
    pub(super) fn on_headers(&mut self, direction: Direction, is_end: bool) {
        self.take_headers(direction, 0, is_end);
    }

    pub(super) fn on_data(&mut self, direction: Direction, data: Bytes, is_end: bool) {
        self.take_data(direction, 0, data, is_end);
    }

    /// Trailers came; the map is in the exchange.
    pub(super) fn on_trailers(&mut self, direction: Direction) {
        self.take_trailers(direction, 0);
    }

    /// A response came from upstream.
    pub(super) fn on_response(&mut self, headers: HeaderMap, is_end: bool) {
        if self.origin != Origin::Nobody || self.is_closed {
            return;
        }
        self.origin = Origin::Upstream;
        self.put_response(headers, "via_upstream");
        self.on_headers(Direction::Response, is_end);
    }

    pub(super) fn on_upstream_data(&mut self, data: Bytes, is_end: bool) {
        if self.origin == Origin::Upstream {
            self.on_data(Direction::Response, data, is_end);
        }
    }

    pub(super) fn on_upstream_trailers(&mut self, trailers: HeaderMap) {
        if self.origin == Origin::Upstream {
            self.row.exchange.borrow_mut().response_trailers = Some(trailers);
            self.on_trailers(Direction::Response);
        }
    }

    // How it ends.

    /// Answers the request in place of upstream. A response that has come but was not sent
    /// is replaced, unseen by the filters; one that was sent can only be cut off.
    pub(super) fn answer(&mut self, reply: &LocalReply) {
        if self.is_closed {
            return;
        }
        if self.response.has_begun {
            return self.reset();
        }
        let (headers, body) = {
            let exchange = self.row.exchange.borrow();
            reply::response(reply, exchange.request_headers.as_ref())
        };
        let is_first = self.origin == Origin::Nobody;
        self.origin = Origin::Proxy;
        self.request.is_over = true;
        self.put_response(headers, &reply.details);
        if is_first {
            self.on_headers(Direction::Response, body.is_empty());
            if !body.is_empty() {
                self.on_data(Direction::Response, body, true);
            }
        } else {
            self.response.is_over = true;
            self.send_headers(Direction::Response, body.is_empty());
            if !body.is_empty() {
                self.send_data(Direction::Response, body, true);
            }
        }
    }

    fn put_response(&self, headers: HeaderMap, details: &str) {
        let mut exchange = self.row.exchange.borrow_mut();
        exchange.facts.response_code_details = Some(details.to_owned());
        exchange.facts.response_code = status(&headers);
        exchange.response_headers = Some(headers);
    }

    /// Does what ends the exchange's way, of what filters asked for: that comes before what
    /// the callback returned.
    pub(super) fn obey_ends(&mut self) {
        let ends =
            |effect: &Effect| !matches!(effect, Effect::ContinueRequest | Effect::ContinueResponse);
        for (seat, effect) in self.row.wishes.take(ends) {
            if !self.is_closed {
                self.end_by(seat, &effect);
            }
        }
    }

    fn end_by(&mut self, seat: usize, effect: &Effect) {
        match effect {
            Effect::Reply(reply) => self.answer(reply),
            Effect::CloseRequest | Effect::CloseResponse => self.reset(),
            Effect::Failed => self.fail(seat),
            // Of TCP connections.
            _ => {}
        }
    }

    pub(super) fn reset(&mut self) {
        self.request.is_over = true;
        self.response.is_over = true;
        self.is_closed = true;
        self.events.clear();
        self.events.push_back(HttpEvent::Reset);
        self.leave();
    }

    /// A filter's machine failed: it is not called any more, and the exchange ends.
    pub(super) fn fail(&mut self, seat: usize) {
        let Some(failed) = self.row.get_mut(seat) else { return };
        if failed.context.take().is_none() && matches!(failed.entrance, Entrance::Bypass) {
            return;
        }
        failed.entrance = Entrance::Bypass;
        if self.origin == Origin::Proxy {
            // The answer goes on without the filter.
            return self.skip(Direction::Response, seat);
        }
        self.answer(&reply::refusal());
    }

    pub(super) fn close(&mut self) {
        self.request.is_over = true;
        self.response.is_over = true;
        if !self.is_closed {
            self.is_closed = true;
            self.leave();
        }
    }

    /// The filters log the exchange and forget it.
    fn leave(&mut self) {
        for place in 0..self.row.len() {
            // One that the request never reached logs it all the same.
            let logs = |seat: &&Seat<Stage>| match &seat.entrance {
                Entrance::Machine(vm, _) => vm.has(Callback::Log),
                _ => false,
            };
            if self.row.get(place).filter(logs).is_some() {
                self.row.enter(place);
            }
        }
        for (vm, context) in self.row.iter().filter_map(Seat::machine) {
            vm.log(context);
        }
        self.row.leave();
    }

    // Events.

    pub(super) fn send_headers(&mut self, direction: Direction, is_end: bool) {
        if direction == Direction::Response && !self.has_status() {
            return self.answer(&reply::no_status());
        }
        self.flow(direction).has_begun = true;
        let mut exchange = self.row.exchange.borrow_mut();
        let event = match direction {
            Direction::Request => {
                let headers = exchange.request_headers.clone().unwrap_or_default();
                HttpEvent::RequestHeaders(headers, is_end)
            }
            Direction::Response => {
                let headers = exchange.response_headers.clone().unwrap_or_default();
                exchange.facts.response_code = status(&headers);
                exchange.facts.grpc_status = grpc_status(&headers);
                HttpEvent::ResponseHeaders(headers, is_end)
            }
        };
        self.events.push_back(event);
    }

    /// A filter may have taken it away.
    fn has_status(&self) -> bool {
        let exchange = self.row.exchange.borrow();
        exchange.response_headers.as_ref().is_some_and(|headers| headers.get(b":status").is_some())
    }

    pub(super) fn send_data(&mut self, direction: Direction, data: Bytes, is_end: bool) {
        if data.is_empty() && !is_end {
            return;
        }
        self.events.push_back(match direction {
            Direction::Request => HttpEvent::RequestData(data, is_end),
            Direction::Response => {
                self.row.exchange.borrow_mut().facts.response_body_bytes += data.len() as u64;
                HttpEvent::ResponseData(data, is_end)
            }
        });
    }

    pub(super) fn send_trailers(&mut self, direction: Direction) {
        let mut exchange = self.row.exchange.borrow_mut();
        let event = match direction {
            Direction::Request => {
                HttpEvent::RequestTrailers(exchange.request_trailers.clone().unwrap_or_default())
            }
            Direction::Response => {
                let trailers = exchange.response_trailers.clone().unwrap_or_default();
                exchange.facts.grpc_status = grpc_status(&trailers).or(exchange.facts.grpc_status);
                HttpEvent::ResponseTrailers(trailers)
            }
        };
        self.events.push_back(event);
    }

    fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    pub(super) fn is_over(&mut self, direction: Direction) -> bool {
        self.flow(direction).is_over
    }
}

fn status(headers: &HeaderMap) -> Option<u16> {
    number(headers, b":status")
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    number(headers, b"grpc-status")
}

fn number<N: std::str::FromStr>(headers: &HeaderMap, name: &[u8]) -> Option<N> {
    std::str::from_utf8(headers.get(name)?).ok()?.parse().ok()
}
