//! How the parts of an exchange move from filter to filter.
//!
//! Each direction is a row of stages, one for each filter, in the order in which the
//! direction passes them. A part waits in a stage until its filter is called with it; then
//! it goes to the next stage, or stays, as the filter says. Behind the last stage parts
//! become events. The rules are those of Envoy's filter manager:
//!
//! - Pause in headers holds everything, and the filter sees no body until it lets go; with
//!   `allow_on_headers_stop_iteration` the headers alone are held, and the body is shown.
//! - Pause in a body keeps what was shown; the next call shows all of it, or, where the
//!   sender is made to wait, only what is new. Letting go passes all of it on without showing
//!   it again.
//! - Trailers are shown even while a body is kept; going on then passes on all that is held.

use super::HttpEvent;
use super::reply;
use crate::exchange::{Exchange, Facts};
use crate::maps::HeaderMap;
use crate::vm::{
    Buffers, Callback, ContextId, Effect, LocalReply, Owner, StreamContext, StreamKind, Vm, join,
};
use crate::worker::{Entrance, Filter};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// Which way a part goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// One exchange's way through the filters.
pub(super) struct Chain {
    pub(super) exchange: Rc<RefCell<Exchange>>,
    state: RefCell<State>,
    /// What filters asked for while the chain was busy.
    inbox: RefCell<VecDeque<(usize, Effect)>>,
    is_busy: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Whether the proxy was told to read no further for now, and waits to be woken.
    was_full: Cell<bool>,
}

/// Everything but what filters may touch while the chain is busy.
pub(super) struct State {
    owner: Weak<Chain>,
    exchange: Rc<RefCell<Exchange>>,
    filters: Vec<Seat>,
    request: Flow,
    response: Flow,
    origin: Origin,
    events: VecDeque<HttpEvent>,
    buffer_bytes: usize,
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

/// A filter's place in the chain.
struct Seat {
    /// Kept, for a filter is not told that it is done before its last stream.
    filter: Filter,
    entrance: Entrance,
    context: Option<ContextId>,
    buffers: Rc<RefCell<Buffers>>,
    request: Stage,
    response: Stage,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// Whether the headers have become an event.
    has_begun: bool,
    /// Whether nothing moves here any more.
    is_over: bool,
}

/// Where one filter is in one direction.
#[derive(Debug, Default)]
struct Stage {
    headers: Part,
    /// Not yet shown to the filter.
    data: Bytes,
    /// Shown to it, and kept for it where it does not see it again.
    kept: Bytes,
    /// Whether the direction's end is behind `data` (or behind the headers).
    is_end: bool,
    /// Whether the filter was shown that end.
    was_end_shown: bool,
    trailers: Part,
    pause: Pause,
    /// Whether more than may be held ends the exchange, rather than makes the sender wait.
    is_bounded: bool,
}

/// Headers or trailers in a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// Not there yet.
    #[default]
    Ahead,
    /// There; the filter was not called with it.
    Waits,
    /// The filter was called with it, and holds it.
    Held,
    Gone,
}

/// What a filter holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pause {
    #[default]
    No,
    /// Everything, unseen.
    All,
    /// The headers; it is shown the body.
    Headers,
    /// What it was shown of the body.
    Body,
    /// The trailers, and all that was held before.
    Trailers,
}

/// Actions as modules return them.
mod action {
    pub(super) const CONTINUE: u32 = 0;
    pub(super) const STOP: u32 = 1;
    /// Of headers: continue, and end the stream; Envoy takes it for continue.
    pub(super) const CONTINUE_AND_END: u32 = 2;
    /// Of headers: hold everything, up to the buffer's bound.
    pub(super) const STOP_ALL_AND_BUFFER: u32 = 3;
    /// Of a body: keep it, but let the sender wait rather than fail beyond the bound.
    pub(super) const STOP_AND_WATERMARK: u32 = 2;
    /// Of a body: stop, and keep nothing.
    pub(super) const STOP_NO_BUFFER: u32 = 3;
}

impl Chain {
    pub(super) fn new(filters: &[Filter], facts: Facts, buffer_bytes: usize) -> Rc<Self> {
        let exchange = Rc::new(RefCell::new(Exchange { facts, ..Exchange::default() }));
        let seats = filters.iter().map(Seat::new).collect::<Vec<_>>();
        Rc::new_cyclic(|owner| Self {
            state: RefCell::new(State {
                owner: Weak::clone(owner),
                exchange: Rc::clone(&exchange),
                request: Flow::default(),
                response: Flow::default(),
                filters: seats,
                origin: Origin::Nobody,
                events: VecDeque::new(),
                buffer_bytes,
                is_closed: false,
            }),
            exchange,
            inbox: RefCell::default(),
            is_busy: Cell::new(false),
            waker: RefCell::default(),
            was_full: Cell::new(false),
        })
    }

    /// Does something, and then all that filters asked for meanwhile.
    pub(super) fn run(&self, what: impl FnOnce(&mut State)) {
        if self.is_busy.replace(true) {
            return; // Unreachable from outside: a stream's methods are not called in its callbacks.
        }
        if let Ok(mut state) = self.state.try_borrow_mut() {
            what(&mut state);
            state.obey();
        }
        self.is_busy.set(false);
        self.wake();
    }

    pub(super) fn next_event(&self) -> Option<HttpEvent> {
        self.state.try_borrow_mut().ok()?.events.pop_front()
    }

    pub(super) fn poll_event(&self, cx: &mut Context<'_>) -> Poll<HttpEvent> {
        if let Some(event) = self.next_event() {
            return Poll::Ready(event);
        }
        let known = self.waker.take().filter(|waker| waker.will_wake(cx.waker()));
        self.waker.replace(Some(known.unwrap_or_else(|| cx.waker().clone())));
        Poll::Pending
    }

    pub(super) fn is_full(&self, direction: Direction) -> bool {
        let is_full = self.state.try_borrow().is_ok_and(|state| state.is_full(direction));
        self.was_full.set(self.was_full.get() || is_full);
        is_full
    }

    /// The exchange is over: the filters log it and forget it.
    pub(super) fn close(&self) {
        self.run(State::close);
    }

    /// Lets the proxy know that there is something to do, or to read on.
    fn wake(&self) {
        let Ok(state) = self.state.try_borrow() else { return };
        let has_room = self.was_full.get()
            && !(state.is_full(Direction::Request) && state.is_full(Direction::Response));
        let has_events = !state.events.is_empty();
        drop(state);
        if has_events || has_room {
            self.was_full.set(false);
            // Out of its cell first: waking may come back to ask for the next event.
            let waker = self.waker.take();
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl Owner for Chain {
    fn on_effect(&self, place: usize, effect: Effect) {
        self.inbox.borrow_mut().push_back((place, effect));
    }

    fn pump(&self) {
        self.run(|_| {});
    }
}

impl Seat {
    fn new(filter: &Filter) -> Self {
        let (entrance, buffers) = (filter.entrance(), Rc::default());
        let (request, response) = (Stage::default(), Stage::default());
        Self { filter: filter.clone(), entrance, context: None, buffers, request, response }
    }

    /// How the request goes through the filter, now that it is there. Its machine may have
    /// failed since the exchange began: then it is as if that had been before.
    fn entrance(&mut self) -> &Entrance {
        if let Entrance::Machine(vm, _) = &self.entrance
            && self.context.is_none()
            && vm.failed_ns().is_some()
        {
            self.entrance = self.filter.entrance();
        }
        &self.entrance
    }

    /// The filter's machine and its context for this exchange, if it has one.
    fn machine(&self) -> Option<(Rc<Vm>, ContextId)> {
        match (&self.entrance, self.context) {
            (Entrance::Machine(vm, _), Some(context)) => Some((Rc::clone(vm), context)),
            _ => None,
        }
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
            self.exchange.borrow_mut().response_trailers = Some(trailers);
            self.on_trailers(Direction::Response);
        }
    }

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
            let exchange = self.exchange.borrow();
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
        let mut exchange = self.exchange.borrow_mut();
        exchange.facts.response_code_details = Some(details.to_owned());
        exchange.facts.response_code = status(&headers);
        exchange.response_headers = Some(headers);
    }

    /// Does what filters asked for.
    fn obey(&mut self) {
        while let Some((seat, effect)) = self.next_effect() {
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

    /// Does what ends the exchange's way, of what filters asked for: that comes before what
    /// the callback returned.
    fn obey_ends(&mut self) {
        let Some(owner) = self.owner.upgrade() else { return };
        let goes_on =
            |effect: &Effect| matches!(effect, Effect::ContinueRequest | Effect::ContinueResponse);
        let mut inbox = owner.inbox.borrow_mut();
        if inbox.iter().all(|(_, effect)| goes_on(effect)) {
            return;
        }
        let (later, ends) = inbox.drain(..).partition(|(_, effect)| goes_on(effect));
        *inbox = later;
        drop(inbox);
        let ends: VecDeque<_> = ends;
        for (seat, effect) in ends {
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

    fn next_effect(&self) -> Option<(usize, Effect)> {
        let owner = self.owner.upgrade()?;
        owner.inbox.borrow_mut().pop_front()
    }

    fn reset(&mut self) {
        self.request.is_over = true;
        self.response.is_over = true;
        self.is_closed = true;
        self.events.clear();
        self.events.push_back(HttpEvent::Reset);
        self.leave();
    }

    /// A filter's machine failed: it is not called any more, and the exchange ends.
    fn fail(&mut self, seat: usize) {
        let Some(failed) = self.filters.get_mut(seat) else { return };
        if failed.context.take().is_none() && matches!(failed.entrance, Entrance::Bypass) {
            return;
        }
        failed.entrance = Entrance::Bypass;
        if self.origin == Origin::Proxy {
            // The answer goes on without the filter.
            return self.skip(Direction::Response, seat);
        }
        self.answer(&refusal());
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
        for place in 0..self.filters.len() {
            // One that the request never reached logs it all the same.
            let logs = |seat: &&Seat| match &seat.entrance {
                Entrance::Machine(vm, _) => vm.has(Callback::Log),
                _ => false,
            };
            if self.filters.get(place).filter(logs).is_some() {
                self.enter(place);
            }
        }
        for seat in &self.filters {
            if let Some((vm, context)) = seat.machine() {
                vm.log(context);
            }
        }
        for seat in &mut self.filters {
            if let Some((vm, context)) = seat.machine() {
                seat.context = None;
                vm.close(context);
            }
        }
    }

    /// Makes the filter's context, if it has none yet; whether it has one now.
    fn enter(&mut self, place: usize) -> bool {
        let Some(seat) = self.filters.get_mut(place) else { return false };
        if seat.context.is_some() {
            return true;
        }
        let Entrance::Machine(vm, root) = &seat.entrance else { return false };
        let owner: Weak<dyn Owner> = self.owner.clone();
        let stream = StreamContext {
            kind: StreamKind::Http,
            exchange: Rc::clone(&self.exchange),
            buffers: Rc::clone(&seat.buffers),
            owner,
            place,
        };
        let (vm, root) = (Rc::clone(vm), *root);
        seat.context = vm.open(root, stream).ok();
        seat.context.is_some()
    }

    fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    fn stage(&mut self, direction: Direction, at: usize) -> Option<&mut Stage> {
        if at >= self.filters.len() {
            return None;
        }
        let seat = self.seat(direction, at);
        let seat = self.filters.get_mut(seat)?;
        Some(match direction {
            Direction::Request => &mut seat.request,
            Direction::Response => &mut seat.response,
        })
    }

    /// Which seat a stage belongs to: responses pass the filters in reverse.
    fn seat(&self, direction: Direction, at: usize) -> usize {
        match direction {
            Direction::Request => at,
            Direction::Response => self.filters.len().saturating_sub(at + 1),
        }
    }

    fn is_over(&mut self, direction: Direction) -> bool {
        self.flow(direction).is_over
    }

    // What comes to a stage; behind the last stage it becomes an event.

    fn take_headers(&mut self, direction: Direction, at: usize, is_end: bool) {
        if self.is_over(direction) {
            return;
        }
        let Some(stage) = self.stage(direction, at) else {
            return self.send_headers(direction, is_end);
        };
        stage.headers = Part::Waits;
        stage.is_end = is_end;
        self.advance(direction, at);
    }

    fn take_data(&mut self, direction: Direction, at: usize, data: Bytes, is_end: bool) {
        if self.is_over(direction) {
            return;
        }
        let Some(stage) = self.stage(direction, at) else {
            return self.send_data(direction, data, is_end);
        };
        stage.is_end |= is_end;
        join(&mut stage.data, data);
        self.advance(direction, at);
    }

    fn take_trailers(&mut self, direction: Direction, at: usize) {
        if self.is_over(direction) {
            return;
        }
        let Some(stage) = self.stage(direction, at) else {
            return self.send_trailers(direction);
        };
        stage.trailers = Part::Waits;
        self.advance(direction, at);
    }

    // Events.

    fn send_headers(&mut self, direction: Direction, is_end: bool) {
        if direction == Direction::Response && !self.has_status() {
            return self.answer(&no_status());
        }
        self.flow(direction).has_begun = true;
        let mut exchange = self.exchange.borrow_mut();
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
        let exchange = self.exchange.borrow();
        exchange.response_headers.as_ref().is_some_and(|headers| headers.get(b":status").is_some())
    }

    fn send_data(&mut self, direction: Direction, data: Bytes, is_end: bool) {
        if data.is_empty() && !is_end {
            return;
        }
        self.events.push_back(match direction {
            Direction::Request => HttpEvent::RequestData(data, is_end),
            Direction::Response => {
                self.exchange.borrow_mut().facts.response_body_bytes += data.len() as u64;
                HttpEvent::ResponseData(data, is_end)
            }
        });
    }

    fn send_trailers(&mut self, direction: Direction) {
        let mut exchange = self.exchange.borrow_mut();
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

    // What a stage does with what it has.

    /// Shows the filter what waits, and passes on what it lets go, until nothing moves.
    fn advance(&mut self, direction: Direction, at: usize) {
        loop {
            if self.is_over(direction) {
                return;
            }
            let Some(stage) = self.stage(direction, at) else { return };
            let is_stopped = stage.pause == Pause::All;
            let has_end = stage.is_end && !stage.was_end_shown;
            if stage.headers == Part::Waits {
                self.show_headers(direction, at);
            } else if is_stopped || stage.headers == Part::Ahead {
                return self.bound(direction, at);
            } else if !stage.data.is_empty() || has_end {
                self.show_body(direction, at);
            } else if stage.trailers == Part::Waits {
                self.show_trailers(direction, at);
            } else {
                return;
            }
            self.obey();
        }
    }

    fn show_headers(&mut self, direction: Direction, at: usize) {
        let seat = self.seat(direction, at);
        if direction == Direction::Request {
            let entrance = self.filters.get_mut(seat).map(Seat::entrance);
            let is_refused = match entrance {
                Some(Entrance::Refuse) => true,
                Some(Entrance::Machine(..)) => !self.enter(seat),
                _ => false,
            };
            if is_refused {
                self.answer(&refusal());
                return;
            }
        }
        let Some(stage) = self.stage(direction, at) else { return };
        let is_end = stage.is_end;
        stage.headers = Part::Held;
        stage.was_end_shown = is_end;
        let callback = match direction {
            Direction::Request => Callback::RequestHeaders,
            Direction::Response => Callback::ResponseHeaders,
        };
        let Some(answer) = self.call(direction, callback, seat, is_end) else { return };
        let stops_headers_alone = self
            .filters
            .get(seat)
            .is_some_and(|seat| seat.filter.config().allow_on_headers_stop_iteration);
        let pause = match answer {
            action::CONTINUE | action::CONTINUE_AND_END => Pause::No,
            action::STOP if stops_headers_alone => Pause::Headers,
            _ => Pause::All,
        };
        if pause == Pause::No {
            return self.pass_headers(direction, at);
        }
        if let Some(stage) = self.stage(direction, at) {
            stage.pause = pause;
            stage.is_bounded = answer == action::STOP_ALL_AND_BUFFER;
        }
    }

    fn show_body(&mut self, direction: Direction, at: usize) {
        let seat = self.seat(direction, at);
        let Some(stage) = self.stage(direction, at) else { return };
        let (data, is_end) = (std::mem::take(&mut stage.data), stage.is_end);
        stage.was_end_shown |= is_end;
        let callback = match direction {
            Direction::Request => Callback::RequestBody,
            Direction::Response => Callback::ResponseBody,
        };
        self.hold(direction, seat, data, is_end);
        let Some(answer) = self.call(direction, callback, seat, is_end) else { return };
        if is_end {
            self.find_trailers(direction, at);
        }
        let shown_again = match answer {
            action::CONTINUE => return self.pass_held(direction, at),
            action::STOP_NO_BUFFER => {
                drop(self.held(direction, seat));
                Bytes::new()
            }
            action::STOP_AND_WATERMARK => {
                self.keep(direction, at);
                Bytes::new()
            }
            _ => self.all_held(direction, at).unwrap_or_default(),
        };
        // The end, if that was it, still goes on one day.
        self.hold(direction, seat, shown_again, is_end);
        let is_bounded = answer != action::STOP_AND_WATERMARK;
        if let Some(stage) = self.stage(direction, at) {
            stage.is_bounded = is_bounded;
            if stage.pause != Pause::Headers {
                stage.pause = Pause::Body;
            }
        }
        if is_bounded && self.held_bytes(direction, seat) > self.buffer_bytes {
            self.answer(&too_large(direction));
        }
    }

    /// A filter may add trailers at a body's end: then the end is behind those.
    fn find_trailers(&mut self, direction: Direction, at: usize) {
        let has_trailers = {
            let exchange = self.exchange.borrow();
            match direction {
                Direction::Request => exchange.request_trailers.is_some(),
                Direction::Response => exchange.response_trailers.is_some(),
            }
        };
        if let Some(stage) = self.stage(direction, at).filter(|_| has_trailers)
            && stage.trailers == Part::Ahead
        {
            (stage.is_end, stage.was_end_shown) = (false, false);
            stage.trailers = Part::Held;
        }
    }

    fn show_trailers(&mut self, direction: Direction, at: usize) {
        let seat = self.seat(direction, at);
        if let Some(stage) = self.stage(direction, at) {
            stage.trailers = Part::Held;
        }
        let callback = match direction {
            Direction::Request => Callback::RequestTrailers,
            Direction::Response => Callback::ResponseTrailers,
        };
        let Some(answer) = self.call(direction, callback, seat, true) else { return };
        if answer == action::CONTINUE {
            return self.pass_held(direction, at);
        }
        if let Some(stage) = self.stage(direction, at) {
            stage.pause = Pause::Trailers;
        }
    }

    /// Calls a filter. Continue, if it is not there to be called; `None` if nothing goes on
    /// in this direction: it failed, or answered.
    fn call(
        &mut self,
        direction: Direction,
        callback: Callback,
        seat: usize,
        is_end: bool,
    ) -> Option<u32> {
        let Some((vm, id)) = self.filters.get(seat).and_then(Seat::machine) else {
            return Some(action::CONTINUE);
        };
        if !vm.has(callback) {
            return Some(action::CONTINUE);
        }
        let answer = match callback {
            Callback::RequestHeaders => vm.on_request_headers(id, is_end),
            Callback::RequestBody => vm.on_request_body(id, is_end),
            Callback::RequestTrailers => vm.on_request_trailers(id),
            Callback::ResponseHeaders => vm.on_response_headers(id, is_end),
            Callback::ResponseBody => vm.on_response_body(id, is_end),
            Callback::ResponseTrailers => vm.on_response_trailers(id),
            _ => Ok(action::CONTINUE),
        };
        if answer.is_err() {
            self.fail(seat);
        }
        self.obey_ends();
        answer.ok().filter(|_| !self.is_over(direction))
    }

    /// A filter lets go of what it holds.
    fn resume(&mut self, direction: Direction, seat: usize) {
        let at = self.seat(direction, seat); // The same both ways.
        let Some(stage) = self.stage(direction, at) else { return };
        match stage.pause {
            Pause::No => {}
            Pause::All => {
                stage.pause = Pause::No;
                self.pass_headers(direction, at);
            }
            Pause::Headers | Pause::Body | Pause::Trailers => self.pass_held(direction, at),
        }
        self.advance(direction, at);
    }

    /// Goes on without a filter that failed.
    fn skip(&mut self, direction: Direction, seat: usize) {
        let at = self.seat(direction, seat);
        self.pass_held(direction, at);
        self.advance(direction, at);
    }

    fn pass_headers(&mut self, direction: Direction, at: usize) {
        let Some(stage) = self.stage(direction, at) else { return };
        if stage.headers != Part::Held {
            return;
        }
        stage.headers = Part::Gone;
        // The end goes with the headers only if nothing came behind them.
        let is_end = stage.is_end && stage.was_end_shown && stage.trailers == Part::Ahead;
        let is_alone = stage.data.is_empty() && !self.is_held(direction, at);
        self.take_headers(direction, at + 1, is_end && is_alone);
    }

    /// Passes on everything that the filter was shown, in order.
    fn pass_held(&mut self, direction: Direction, at: usize) {
        self.pass_headers(direction, at);
        let held = self.all_held(direction, at);
        let Some(stage) = self.stage(direction, at) else { return };
        stage.pause = Pause::No;
        let (is_end, trailers) = (stage.was_end_shown, stage.trailers);
        if let Some(data) = held {
            self.take_data(direction, at + 1, data, is_end);
        }
        if trailers == Part::Held {
            if let Some(stage) = self.stage(direction, at) {
                stage.trailers = Part::Gone;
            }
            self.take_trailers(direction, at + 1);
        }
    }

    // What a filter was shown of a body and may change.

    fn hold(&mut self, direction: Direction, seat: usize, data: Bytes, is_end: bool) {
        let Some(seat) = self.filters.get(seat) else { return };
        let mut buffers = seat.buffers.borrow_mut();
        let buffers = &mut *buffers;
        let (buffer, end) = match direction {
            Direction::Request => (&mut buffers.request, &mut buffers.is_request_end),
            Direction::Response => (&mut buffers.response, &mut buffers.is_response_end),
        };
        join(buffer.get_or_insert_default(), data);
        *end = is_end;
    }

    fn held(&mut self, direction: Direction, seat: usize) -> Option<Bytes> {
        let mut buffers = self.filters.get(seat)?.buffers.borrow_mut();
        match direction {
            Direction::Request => buffers.request.take(),
            Direction::Response => buffers.response.take(),
        }
    }

    /// Keeps what the filter was shown, where it does not see it again.
    fn keep(&mut self, direction: Direction, at: usize) {
        let all = self.all_held(direction, at).unwrap_or_default();
        if let Some(stage) = self.stage(direction, at) {
            stage.kept = all;
        }
    }

    /// Takes what is kept and what the filter sees, together.
    fn all_held(&mut self, direction: Direction, at: usize) -> Option<Bytes> {
        let seat = self.seat(direction, at);
        let held = self.held(direction, seat)?;
        let mut all = self.stage(direction, at).map(|stage| std::mem::take(&mut stage.kept))?;
        join(&mut all, held);
        Some(all)
    }

    fn is_held(&mut self, direction: Direction, at: usize) -> bool {
        let seat = self.seat(direction, at);
        self.filters.get(seat).is_some_and(|seat| seat.buffer(direction).is_some())
    }

    fn held_bytes(&self, direction: Direction, seat: usize) -> usize {
        self.filters.get(seat).and_then(|seat| seat.buffer(direction)).unwrap_or(0)
    }

    /// Ends an exchange whose filter wanted everything kept, and that became too much.
    fn bound(&mut self, direction: Direction, at: usize) {
        let limit = self.buffer_bytes;
        let Some(stage) = self.stage(direction, at) else { return };
        if stage.pause == Pause::All && stage.is_bounded && stage.data.len() > limit {
            self.answer(&too_large(direction));
        }
    }

    /// Whether a filter that lets the sender wait has as much as it may. One that buffers does
    /// not count: it waits for the end, which comes, or too much does.
    fn is_full(&self, direction: Direction) -> bool {
        let is_over = match direction {
            Direction::Request => self.request.is_over,
            Direction::Response => self.response.is_over,
        };
        let is_full = |seat: &Seat| {
            let stage = seat.stage(direction);
            let waits = stage.pause != Pause::No && !stage.is_bounded;
            let shown = || stage.kept.len() + seat.buffer(direction).unwrap_or(0);
            waits && stage.data.len() + shown() >= self.buffer_bytes
        };
        !is_over && self.filters.iter().any(is_full)
    }
}

impl Seat {
    const fn stage(&self, direction: Direction) -> &Stage {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    /// How many bytes the filter holds, if any.
    fn buffer(&self, direction: Direction) -> Option<usize> {
        let buffers = self.buffers.borrow();
        match direction {
            Direction::Request => buffers.request.as_ref().map(Bytes::len),
            Direction::Response => buffers.response.as_ref().map(Bytes::len),
        }
    }
}

/// What a request gets whose filter failed.
fn refusal() -> LocalReply {
    LocalReply {
        status: 503,
        details: "wasm_fail_stream".to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        grpc_status: Some(14),
    }
}

/// What a client gets when a filter took the response's status away.
fn no_status() -> LocalReply {
    let body = "missing required header: :status";
    LocalReply {
        status: 502,
        details: format!("filter_removed_required_response_headers{{{}}}", body.replace(' ', "_")),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        grpc_status: None,
    }
}

fn too_large(direction: Direction) -> LocalReply {
    let (status, details, body) = match direction {
        Direction::Request => (413, "request_payload_too_large", "Payload Too Large"),
        Direction::Response => (500, "response_payload_too_large", "Internal Server Error"),
    };
    LocalReply {
        status,
        details: details.to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        grpc_status: None,
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
