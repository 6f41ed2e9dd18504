//! A chain of filters over one TCP connection.
//!
//! Bytes wait in front of the filter that has not let them go, and it is shown all of them
//! again when more come, as in Envoy's read filters. No byte goes anywhere before all
//! filters let the new connection pass.

use crate::chain::{Chain, Direction, Row, Seat, Walk};
use crate::exchange::{Exchange, Facts};
use crate::vm::{Callback, ContextId, Effect, StreamKind, Vm, join};
use crate::worker::{Entrance, Filter};
use bytes::Bytes;
use std::cell::RefMut;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

/// One connection. When it is dropped, the filters log it and forget it.
pub struct TcpStream {
    chain: Rc<Chain<State>>,
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
        let chain = Chain::new(facts, |owner, exchange, wishes| State {
            row: Row::new(filters, StreamKind::Tcp, owner, exchange, wishes),
            greeted: 0,
            is_connected: false,
            events: VecDeque::new(),
            is_closed: false,
        });
        chain.run(State::greet);
        Self { chain }
    }

    /// Bytes from the client; whether it is at its end.
    pub fn on_downstream_data(&self, data: Bytes, is_end: bool) {
        self.chain.run(|state| state.on_data(Direction::Request, data, is_end));
    }

    /// Bytes from upstream; whether it is at its end.
    pub fn on_upstream_data(&self, data: Bytes, is_end: bool) {
        self.chain.run(|state| state.on_data(Direction::Response, data, is_end));
    }

    /// The client's side is closed. Of upstream's side filters hear at its end, with the last
    /// of its bytes, as in Envoy.
    pub fn on_downstream_close(&self, by: Peer) {
        self.chain.run(|state| state.tell_all(|vm, id| vm.on_downstream_close(id, by)));
    }

    /// What is known of it: for facts that come late. Do not keep it over a call of another
    /// method.
    #[must_use]
    pub fn exchange(&self) -> RefMut<'_, Exchange> {
        self.chain.exchange.borrow_mut()
    }

    /// The next thing to do; pending until a filter lets go.
    pub fn poll_event(&self, cx: &mut Context<'_>) -> Poll<TcpEvent> {
        self.chain.poll_event(cx)
    }

    /// The next thing to do, if there is one now.
    #[must_use]
    pub fn next_event(&self) -> Option<TcpEvent> {
        self.chain.next_event()
    }

    /// How many bytes from the client wait in front of filters: read no further beyond what
    /// you are ready to hold.
    #[must_use]
    pub fn waiting_from_downstream(&self) -> usize {
        self.waiting(Direction::Request)
    }

    /// As [`TcpStream::waiting_from_downstream`], of bytes from upstream.
    #[must_use]
    pub fn waiting_from_upstream(&self) -> usize {
        self.waiting(Direction::Response)
    }

    fn waiting(&self, way: Direction) -> usize {
        let waiting = |state: &State| state.row.iter().map(|seat| waiting(seat, way)).sum();
        self.chain.ask(waiting).unwrap_or(0)
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.chain.run(State::leave);
    }
}

struct State {
    row: Row<Lane>,
    /// How many filters were told of the connection; all but the last let it pass.
    greeted: usize,
    /// Whether all of them did.
    is_connected: bool,
    events: VecDeque<TcpEvent>,
    is_closed: bool,
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

impl Walk for State {
    type Event = TcpEvent;

    fn events(&mut self) -> &mut VecDeque<TcpEvent> {
        &mut self.events
    }

    fn obey(&mut self) {
        while let Some((place, effect)) = self.row.wishes.next() {
            match effect {
                Effect::ContinueDownstream => self.resume(Direction::Request, place),
                effect if ends(&effect) => self.close(),
                // Of HTTP exchanges.
                _ => {}
            }
        }
    }
}

impl State {
    /// Tells filters of the connection, as far as they let it pass.
    fn greet(&mut self) {
        while !self.is_closed {
            let place = self.greeted;
            if place >= self.row.len() {
                if !std::mem::replace(&mut self.is_connected, true) {
                    self.events.push_back(TcpEvent::Connect);
                }
                break;
            }
            self.greeted += 1;
            let answer = match self.row.get_mut(place).map(Seat::entrance) {
                Some(Entrance::Refuse) => return self.close(),
                Some(Entrance::Machine(..)) => {
                    if !self.row.enter(place) {
                        return self.close();
                    }
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

    /// Calls a filter; Continue, if it is not there to be called.
    fn call<E>(
        &mut self,
        place: usize,
        callback: Callback,
        call: impl FnOnce(&Vm, ContextId) -> Result<u32, E>,
    ) -> u32 {
        let Some((vm, id)) = self.row.with(place, callback) else { return CONTINUE };
        call(&vm, id).unwrap_or_else(|_| {
            self.close();
            1
        })
    }

    fn on_data(&mut self, way: Direction, data: Bytes, is_end: bool) {
        let first = match way {
            Direction::Request => 0,
            Direction::Response => self.row.len(),
        };
        self.take(way, first, data, is_end);
    }

    /// Bytes come to a filter. Going up that is the one at `at`; going down the one before it.
    fn take(&mut self, way: Direction, at: usize, data: Bytes, is_end: bool) {
        if self.is_closed {
            return;
        }
        let place = match way {
            Direction::Request => Some(at).filter(|at| *at < self.row.len()),
            Direction::Response => at.checked_sub(1),
        };
        let Some((place, seat)) = place.and_then(|it| Some((it, self.row.get_mut(it)?))) else {
            if !data.is_empty() || is_end {
                self.events.push_back(match way {
                    Direction::Request => TcpEvent::ToUpstream(data, is_end),
                    Direction::Response => TcpEvent::ToDownstream(data, is_end),
                });
            }
            return;
        };
        reclaim(seat, way);
        let lane = seat.lane_mut(way);
        lane.is_end |= is_end;
        join(&mut lane.data, data);
        self.show(way, place);
    }

    /// Shows a filter what waits in front of it, once the connection is open that far.
    fn show(&mut self, way: Direction, place: usize) {
        // Those behind the one that holds up the new connection see no data yet.
        let is_ready = place < self.greeted;
        let Some(seat) = self.row.get_mut(place) else { return };
        let lane = seat.lane_mut(way);
        if !is_ready || lane.is_held || lane.is_over || (lane.data.is_empty() && !lane.is_end) {
            return;
        }
        let (data, is_end) = (std::mem::take(&mut lane.data), lane.is_end);
        let callback = match way {
            Direction::Request => Callback::DownstreamData,
            Direction::Response => Callback::UpstreamData,
        };
        seat.hold(way, data, is_end);
        let answer = self.call(place, callback, |vm, id| match way {
            Direction::Request => vm.on_downstream_data(id, is_end),
            Direction::Response => vm.on_upstream_data(id, is_end),
        });
        if way == Direction::Response && is_end {
            self.tell(place, |vm, id| vm.on_upstream_close(id, Peer::Unknown));
        }
        // Then nothing more goes anywhere.
        if self.row.wishes.has(ends) {
            return self.close();
        }
        let Some(seat) = self.row.get_mut(place) else { return };
        if answer == CONTINUE {
            let data = seat.take_held(way).unwrap_or_default();
            self.pass(way, place, data, is_end);
        } else {
            seat.lane_mut(way).is_held = true;
        }
    }

    fn pass(&mut self, way: Direction, place: usize, data: Bytes, is_end: bool) {
        if way == Direction::Request && self.holds_connection(place) {
            self.greet();
        }
        if let Some(seat) = self.row.get_mut(place) {
            seat.lane_mut(way).is_over |= is_end;
        }
        let next = match way {
            Direction::Request => place + 1,
            Direction::Response => place,
        };
        self.take(way, next, data, is_end);
    }

    fn resume(&mut self, way: Direction, place: usize) {
        let holds_connection = way == Direction::Request && self.holds_connection(place);
        let Some(seat) = self.row.get_mut(place) else { return };
        if !seat.lane_mut(way).is_held {
            if holds_connection {
                self.greet();
            }
            return;
        }
        reclaim(seat, way);
        let lane = seat.lane_mut(way);
        let (data, is_end) = (std::mem::take(&mut lane.data), lane.is_end);
        self.pass(way, place, data, is_end);
    }

    fn tell<E>(&mut self, place: usize, call: impl Fn(&Vm, ContextId) -> Result<(), E>) {
        if let Some((vm, id)) = self.row.machine(place)
            && call(&vm, id).is_err()
        {
            self.close();
        }
    }

    fn tell_all<E>(&mut self, call: impl Fn(&Vm, ContextId) -> Result<(), E>) {
        (0..self.row.len()).for_each(|place| self.tell(place, &call));
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.events.push_back(TcpEvent::Close);
        }
    }

    fn leave(&mut self) {
        self.is_closed = true;
        self.row.leave();
    }
}

/// Whether a filter asked for the end by it.
const fn ends(effect: &Effect) -> bool {
    matches!(effect, Effect::CloseDownstream | Effect::CloseUpstream | Effect::Failed)
}

/// Bytes in front of a filter, shown to it or not.
fn waiting(seat: &Seat<Lane>, way: Direction) -> usize {
    seat.lane(way).data.len() + seat.held_bytes(way).unwrap_or(0)
}

/// Takes back what a filter holds, as it left it.
fn reclaim(seat: &mut Seat<Lane>, way: Direction) {
    if std::mem::take(&mut seat.lane_mut(way).is_held) {
        seat.lane_mut(way).data = seat.take_held(way).unwrap_or_default();
    }
}
