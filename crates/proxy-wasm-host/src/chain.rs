//! What chains of filters have in common, over an HTTP exchange or a TCP connection.
//!
//! A chain does one thing at a time: what comes in, and then all that filters asked for
//! meanwhile, until nothing is left. A filter's callback only notes its wishes; so calls never
//! nest on the host's stack, however filters let each other go.
//!
//! Which filters there are, and what each holds, is in [`row`].

mod row;

pub(crate) use row::{Row, Seat};

use crate::exchange::{Exchange, Facts};
use crate::vm::{Effect, Owner};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// Which way a part goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to upstream.
    Request,
    /// From upstream to the client.
    Response,
}

/// One exchange's or connection's way through the filters.
pub(crate) struct Chain<W> {
    pub(crate) exchange: Rc<RefCell<Exchange>>,
    walk: RefCell<W>,
    wishes: Rc<Wishes>,
    is_busy: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Whether the proxy was told to read no further for now, and waits to be woken.
    was_full: Cell<bool>,
}

/// How parts move from filter to filter: everything but what filters may touch while the
/// chain is busy.
pub(crate) trait Walk {
    /// What the proxy is to do.
    type Event;

    /// What it was not told yet.
    fn events(&mut self) -> &mut VecDeque<Self::Event>;

    /// Does what filters asked for.
    fn obey(&mut self);

    /// Whether the proxy is to read no further for now.
    fn is_full(&self, _: Direction) -> bool {
        false
    }
}

/// What filters asked for while their chain was busy, in order, with each one's place.
#[derive(Default)]
pub(crate) struct Wishes(RefCell<VecDeque<(usize, Effect)>>);

impl<W: Walk + 'static> Chain<W> {
    /// A chain whose walk `make` makes of what each needs: who owns its filters' streams, what
    /// is known of the exchange, and what filters ask for.
    pub(crate) fn new(
        facts: Facts,
        make: impl FnOnce(Weak<dyn Owner>, &Rc<RefCell<Exchange>>, &Rc<Wishes>) -> W,
    ) -> Rc<Self> {
        let exchange = Rc::new(RefCell::new(Exchange { facts, ..Exchange::default() }));
        let wishes = Rc::<Wishes>::default();
        Rc::new_cyclic(|owner: &Weak<Self>| Self {
            walk: RefCell::new(make(owner.clone(), &exchange, &wishes)),
            exchange,
            wishes,
            is_busy: Cell::new(false),
            waker: RefCell::default(),
            was_full: Cell::new(false),
        })
    }

    /// Does something, and then all that filters asked for meanwhile.
    pub(crate) fn run(&self, what: impl FnOnce(&mut W)) {
        if self.is_busy.replace(true) {
            return; // Unreachable from outside: a stream's methods are not called in its callbacks.
        }
        if let Ok(mut walk) = self.walk.try_borrow_mut() {
            what(&mut walk);
            walk.obey();
        }
        self.is_busy.set(false);
        self.wake();
    }

    /// Asks something of the walk; `None` while it is busy.
    pub(crate) fn ask<T>(&self, what: impl FnOnce(&W) -> T) -> Option<T> {
        self.walk.try_borrow().ok().map(|walk| what(&walk))
    }

    pub(crate) fn next_event(&self) -> Option<W::Event> {
        self.walk.try_borrow_mut().ok()?.events().pop_front()
    }

    pub(crate) fn poll_event(&self, cx: &mut Context<'_>) -> Poll<W::Event> {
        if let Some(event) = self.next_event() {
            return Poll::Ready(event);
        }
        let known = self.waker.take().filter(|waker| waker.will_wake(cx.waker()));
        self.waker.replace(Some(known.unwrap_or_else(|| cx.waker().clone())));
        Poll::Pending
    }

    pub(crate) fn is_full(&self, direction: Direction) -> bool {
        let is_full = self.ask(|walk| walk.is_full(direction)).unwrap_or(false);
        self.was_full.set(self.was_full.get() || is_full);
        is_full
    }

    /// Lets the proxy know that there is something to do, or to read on.
    fn wake(&self) {
        let Ok(mut walk) = self.walk.try_borrow_mut() else { return };
        let has_room = self.was_full.get()
            && !(walk.is_full(Direction::Request) && walk.is_full(Direction::Response));
        let has_events = !walk.events().is_empty();
        drop(walk);
        if has_events || has_room {
            self.was_full.set(false);
            // Out of its cell first: waking may come back to ask for the next event.
            let waker = self.waker.take();
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl<W: Walk + 'static> Owner for Chain<W> {
    fn on_effect(&self, place: usize, effect: Effect) {
        self.wishes.0.borrow_mut().push_back((place, effect));
    }

    fn pump(&self) {
        self.run(|_| {});
    }
}

impl Wishes {
    /// The next one.
    pub(crate) fn next(&self) -> Option<(usize, Effect)> {
        self.0.borrow_mut().pop_front()
    }

    /// Whether there is such a one.
    pub(crate) fn has(&self, is_it: impl Fn(&Effect) -> bool) -> bool {
        self.0.borrow().iter().any(|(_, effect)| is_it(effect))
    }

    /// Takes those out of turn that are such.
    pub(crate) fn take(&self, is_it: impl Fn(&Effect) -> bool) -> VecDeque<(usize, Effect)> {
        if !self.has(&is_it) {
            return VecDeque::new();
        }
        let mut wishes = self.0.borrow_mut();
        let (taken, rest) = wishes.drain(..).partition(|(_, effect)| is_it(effect));
        *wishes = rest;
        taken
    }
}
