//! A chain of filters over one TCP connection.
//!
//! Bytes wait in front of the filter that has not let them go, and it is shown all of them
//! again when more come, as in Envoy's read filters. No byte goes anywhere before all
//! filters let the new connection pass.

use crate::exchange::{Exchange, Facts};
use crate::vm::{Buffers, Callback, ContextId, Effect, Owner, StreamContext, StreamKind, Vm, join};
use crate::worker::{Entrance, Filter};
use bytes::Bytes;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// One connection. When it is dropped, the filters log it and forget it.
pub struct TcpStream {
    chain: Rc<Chain>,
}

/// What the proxy is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpEvent {
    /// Every filter has let the new connection pass: connect upstream.
    Connect,
    /// Send these bytes upstream; whether the client is at its end.
    ToUpstream(Bytes, bool),
    /// Send these bytes to the client; whether upstream is at its end.
    ToDownstream(Bytes, bool),
    /// Close both sides, after what was to be sent.
    Close,
}

/// Who closed a connection, as the ABI numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Peer {
    /// Nobody knows.
    Unknown = 0,
    /// This proxy.
    Local = 1,
    /// The other side.
    Remote = 2,
}

impl TcpStream {
    /// A new connection through these filters: what the client sends passes them in order,
    /// what upstream sends in reverse.
    #[must_use]
    pub fn new(filters: &[Filter], facts: Facts) -> Self {
        let chain = Chain::new(filters, facts);
        chain.run(State::greet);
        Self { chain }
    }

    /// Bytes from the client; whether it is at its end.
    pub fn on_downstream_data(&self, data: Bytes, is_end: bool) {
        self.chain.run(|state| state.on_data(Way::Up, data, is_end));
    }

    /// Bytes from upstream; whether it is at its end.
    pub fn on_upstream_data(&self, data: Bytes, is_end: bool) {
        self.chain.run(|state| state.on_data(Way::Down, data, is_end));
    }

    /// The client's side is closed. Of upstream's side filters hear at its end, with the last
    /// of its bytes, as in Envoy.
    pub fn on_downstream_close(&self, by: Peer) {
        self.chain.run(|state| state.tell(|vm, id| vm.on_downstream_close(id, by)));
    }

    /// What is known of it: for facts that come late. Do not keep it over a call of another
    /// method.
    #[must_use]
    pub fn exchange(&self) -> RefMut<'_, Exchange> {
        self.chain.exchange.borrow_mut()
    }

    /// The next thing to do; pending until a filter lets go.
    pub fn poll_event(&self, cx: &mut Context<'_>) -> Poll<TcpEvent> {
        if let Some(event) = self.next_event() {
            return Poll::Ready(event);
        }
        drop(self.chain.waker.replace(Some(cx.waker().clone())));
        Poll::Pending
    }

    /// The next thing to do, if there is one now.
    #[must_use]
    pub fn next_event(&self) -> Option<TcpEvent> {
        self.chain.state.try_borrow_mut().ok()?.events.pop_front()
    }

    /// How many bytes from the client wait in front of filters: read no further beyond what
    /// you are ready to hold.
    #[must_use]
    pub fn waiting_from_downstream(&self) -> usize {
        self.chain.waiting(Way::Up)
    }

    /// As [`TcpStream::waiting_from_downstream`], of bytes from upstream.
    #[must_use]
    pub fn waiting_from_upstream(&self) -> usize {
        self.chain.waiting(Way::Down)
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.chain.run(State::leave);
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the client to upstream.
    Up,
    /// From upstream to the client.
    Down,
}

struct Chain {
    exchange: Rc<RefCell<Exchange>>,
    state: RefCell<State>,
    inbox: RefCell<VecDeque<(usize, Effect)>>,
    is_busy: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

struct State {
    owner: Weak<Chain>,
    exchange: Rc<RefCell<Exchange>>,
    seats: Vec<Seat>,
    /// How many filters were told of the connection; all but the last let it pass.
    greeted: usize,
    /// Whether all of them did.
    is_connected: bool,
    events: VecDeque<TcpEvent>,
    is_closed: bool,
}

struct Seat {
    /// Kept, for a filter is not told that it is done before its last stream.
    filter: Filter,
    entrance: Entrance,
    context: Option<ContextId>,
    buffers: Rc<RefCell<Buffers>>,
    up: Lane,
    down: Lane,
}

/// What waits in front of one filter, in one direction.
#[derive(Default)]
struct Lane {
    data: Bytes,
    is_end: bool,
    /// Whether the filter was shown all there is, and holds it: then it is in its buffers,
    /// where it can still see it.
    is_held: bool,
    /// Whether the end went on.
    is_over: bool,
}

const CONTINUE: u32 = 0;

impl Chain {
    fn new(filters: &[Filter], facts: Facts) -> Rc<Self> {
        let exchange = Rc::new(RefCell::new(Exchange { facts, ..Exchange::default() }));
        Rc::new_cyclic(|owner| Self {
            exchange: Rc::clone(&exchange),
            state: RefCell::new(State {
                owner: Weak::clone(owner),
                exchange,
                seats: filters.iter().map(Seat::new).collect(),
                greeted: 0,
                is_connected: false,
                events: VecDeque::new(),
                is_closed: false,
            }),
            inbox: RefCell::default(),
            is_busy: Cell::new(false),
            waker: RefCell::default(),
        })
    }

    fn run(&self, what: impl FnOnce(&mut State)) {
        if self.is_busy.replace(true) {
            return;
        }
        let mut has_events = false;
        if let Ok(mut state) = self.state.try_borrow_mut() {
            what(&mut state);
            state.obey();
            has_events = !state.events.is_empty();
        }
        self.is_busy.set(false);
        // Out of its cell first: waking may come back to ask for the next event.
        let waker = if has_events { self.waker.take() } else { None };
        waker.into_iter().for_each(Waker::wake);
    }

    fn waiting(&self, way: Way) -> usize {
        let Ok(mut state) = self.state.try_borrow_mut() else { return 0 };
        state.seats.iter_mut().map(|seat| seat.waiting(way)).sum()
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
        Self {
            filter: filter.clone(),
            entrance: filter.entrance(),
            context: None,
            buffers: Rc::default(),
            up: Lane::default(),
            down: Lane::default(),
        }
    }

    /// How the connection goes through the filter. Its machine may have failed since the
    /// connection came: then it is as if that had been before.
    fn entrance(&mut self) -> &Entrance {
        if let Entrance::Machine(vm, _) = &self.entrance
            && vm.failed_ns().is_some()
        {
            self.entrance = self.filter.entrance();
        }
        &self.entrance
    }

    const fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// Bytes in front of the filter, shown to it or not.
    fn waiting(&mut self, way: Way) -> usize {
        let buffers = self.buffers.borrow();
        let held = match way {
            Way::Up => &buffers.request,
            Way::Down => &buffers.response,
        };
        let held = held.as_ref().map_or(0, Bytes::len);
        drop(buffers);
        self.lane(way).data.len() + held
    }

    /// Takes back what the filter holds, as it left it.
    fn reclaim(&mut self, way: Way) {
        if std::mem::take(&mut self.lane(way).is_held) {
            let held = offer(&self.buffers, way, None).unwrap_or_default();
            self.lane(way).data = held;
        }
    }

    fn machine(&self) -> Option<(Rc<Vm>, ContextId)> {
        match (&self.entrance, self.context) {
            (Entrance::Machine(vm, _), Some(context)) => Some((Rc::clone(vm), context)),
            _ => None,
        }
    }
}

impl State {
    /// Tells filters of the connection, as far as they let it pass.
    fn greet(&mut self) {
        while !self.is_closed {
            let place = self.greeted;
            if place >= self.seats.len() {
                if !std::mem::replace(&mut self.is_connected, true) {
                    self.events.push_back(TcpEvent::Connect);
                }
                break;
            }
            self.greeted += 1;
            let answer = match self.seats.get_mut(place).map(Seat::entrance) {
                Some(Entrance::Refuse) => return self.close(),
                Some(Entrance::Machine(..)) => {
                    self.enter(place);
                    self.call(place, Callback::NewConnection, |vm, id| vm.on_new_connection(id))
                }
                _ => CONTINUE,
            };
            if answer != CONTINUE {
                return;
            }
        }
    }

    /// Whether it is this filter that did not let the new connection pass. If it lets data
    /// pass, it has let the connection pass as well.
    const fn holds_connection(&self, place: usize) -> bool {
        !self.is_connected && place + 1 == self.greeted
    }

    fn enter(&mut self, place: usize) {
        let owner: Weak<dyn Owner> = self.owner.clone();
        let exchange = Rc::clone(&self.exchange);
        let Some(seat) = self.seats.get_mut(place) else { return };
        let Entrance::Machine(vm, root) = &seat.entrance else { return };
        let buffers = Rc::clone(&seat.buffers);
        let stream = StreamContext { kind: StreamKind::Tcp, exchange, buffers, owner, place };
        let (vm, root) = (Rc::clone(vm), *root);
        match vm.open(root, stream) {
            Ok(context) => seat.context = Some(context),
            Err(_) => self.close(),
        }
    }

    /// Calls a filter; Continue, if it is not there to be called.
    fn call<E>(
        &mut self,
        place: usize,
        callback: Callback,
        call: impl FnOnce(&Vm, ContextId) -> Result<u32, E>,
    ) -> u32 {
        let Some((vm, id)) = self.seats.get(place).and_then(Seat::machine) else {
            return CONTINUE;
        };
        if !vm.has(callback) {
            return CONTINUE;
        }
        call(&vm, id).unwrap_or_else(|_| {
            self.close();
            1
        })
    }

    fn on_data(&mut self, way: Way, data: Bytes, is_end: bool) {
        let first = match way {
            Way::Up => 0,
            Way::Down => self.seats.len(),
        };
        self.take(way, first, data, is_end);
    }

    /// Bytes come to a filter. Going up that is the one at `at`; going down the one before it.
    fn take(&mut self, way: Way, at: usize, data: Bytes, is_end: bool) {
        if self.is_closed {
            return;
        }
        let place = match way {
            Way::Up => Some(at).filter(|at| *at < self.seats.len()),
            Way::Down => at.checked_sub(1),
        };
        let Some((place, seat)) = place.and_then(|it| Some((it, self.seats.get_mut(it)?))) else {
            if !data.is_empty() || is_end {
                self.events.push_back(match way {
                    Way::Up => TcpEvent::ToUpstream(data, is_end),
                    Way::Down => TcpEvent::ToDownstream(data, is_end),
                });
            }
            return;
        };
        seat.reclaim(way);
        let lane = seat.lane(way);
        lane.is_end |= is_end;
        join(&mut lane.data, data);
        self.show(way, place);
    }

    /// Shows a filter what waits in front of it, once the connection is open that far.
    fn show(&mut self, way: Way, place: usize) {
        // Those behind the one that holds up the new connection see no data yet.
        let is_ready = place < self.greeted;
        let Some(seat) = self.seats.get_mut(place) else { return };
        let buffers = Rc::clone(&seat.buffers);
        let lane = seat.lane(way);
        if !is_ready || lane.is_held || lane.is_over || (lane.data.is_empty() && !lane.is_end) {
            return;
        }
        let (data, is_end) = (std::mem::take(&mut lane.data), lane.is_end);
        let callback = match way {
            Way::Up => Callback::DownstreamData,
            Way::Down => Callback::UpstreamData,
        };
        offer(&buffers, way, Some((data, is_end)));
        let answer = self.call(place, callback, |vm, id| match way {
            Way::Up => vm.on_downstream_data(id, is_end),
            Way::Down => vm.on_upstream_data(id, is_end),
        });
        if way == Way::Down && is_end {
            let told = |vm: &Vm, id| vm.on_upstream_close(id, Peer::Unknown).map(|()| CONTINUE);
            self.call(place, Callback::UpstreamData, told);
        }
        if self.is_ending() {
            return self.close();
        }
        if answer == CONTINUE {
            let data = offer(&buffers, way, None).unwrap_or_default();
            self.pass(way, place, data, is_end);
        } else if let Some(seat) = self.seats.get_mut(place) {
            seat.lane(way).is_held = true;
        }
    }

    /// Whether a filter asked for the end: then nothing more goes anywhere.
    fn is_ending(&self) -> bool {
        let ends = |effect: &Effect| {
            matches!(effect, Effect::CloseDownstream | Effect::CloseUpstream | Effect::Failed)
        };
        let owner = self.owner.upgrade();
        owner.is_some_and(|owner| owner.inbox.borrow().iter().any(|(_, effect)| ends(effect)))
    }

    fn pass(&mut self, way: Way, place: usize, data: Bytes, is_end: bool) {
        if way == Way::Up && self.holds_connection(place) {
            self.greet();
        }
        if let Some(seat) = self.seats.get_mut(place) {
            seat.lane(way).is_over |= is_end;
        }
        let next = match way {
            Way::Up => place + 1,
            Way::Down => place,
        };
        self.take(way, next, data, is_end);
    }

    fn resume(&mut self, way: Way, place: usize) {
        let holds_connection = way == Way::Up && self.holds_connection(place);
        let Some(seat) = self.seats.get_mut(place) else { return };
        if !seat.lane(way).is_held {
            if holds_connection {
                self.greet();
            }
            return;
        }
        seat.reclaim(way);
        let lane = seat.lane(way);
        let (data, is_end) = (std::mem::take(&mut lane.data), lane.is_end);
        self.pass(way, place, data, is_end);
    }

    fn tell<E>(&mut self, call: impl Fn(&Vm, ContextId) -> Result<(), E>) {
        for place in 0..self.seats.len() {
            if let Some((vm, id)) = self.seats.get(place).and_then(Seat::machine)
                && call(&vm, id).is_err()
            {
                self.close();
            }
        }
    }

    fn obey(&mut self) {
        while let Some((place, effect)) = self.next_effect() {
            match effect {
                Effect::ContinueDownstream => self.resume(Way::Up, place),
                Effect::CloseDownstream | Effect::CloseUpstream | Effect::Failed => self.close(),
                // Of HTTP exchanges.
                _ => {}
            }
        }
    }

    fn next_effect(&self) -> Option<(usize, Effect)> {
        let owner = self.owner.upgrade()?;
        owner.inbox.borrow_mut().pop_front()
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.events.push_back(TcpEvent::Close);
        }
    }

    fn leave(&mut self) {
        self.is_closed = true;
        for seat in &mut self.seats {
            if let Some((vm, id)) = seat.machine() {
                seat.context = None;
                vm.close(id);
            }
        }
    }
}

/// Lets the filter see bytes, or takes back what it left of them.
fn offer(buffers: &RefCell<Buffers>, way: Way, data: Option<(Bytes, bool)>) -> Option<Bytes> {
    let mut buffers = buffers.borrow_mut();
    let buffers = &mut *buffers;
    let (buffer, end) = match way {
        Way::Up => (&mut buffers.request, &mut buffers.is_request_end),
        Way::Down => (&mut buffers.response, &mut buffers.is_response_end),
    };
    if let Some((_, is_end)) = &data {
        *end = *is_end;
    }
    std::mem::replace(buffer, data.map(|(data, _)| data))
}
