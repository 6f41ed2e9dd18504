//! The filters of one chain, in their order, and what each one holds.

use super::{Direction, Wishes};
use crate::exchange::Exchange;
use crate::vm::{Buffers, Callback, ContextId, Owner, StreamContext, StreamKind, Vm, join};
use crate::worker::{Entrance, Filter};
use bytes::Bytes;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// The filters of one chain; `L` is what is known of one in one direction.
pub(crate) struct Row<L> {
    seats: Vec<Seat<L>>,
    kind: StreamKind,
    owner: Weak<dyn Owner>,
    pub(crate) exchange: Rc<RefCell<Exchange>>,
    pub(crate) wishes: Rc<Wishes>,
}

/// A filter's place in the chain.
pub(crate) struct Seat<L> {
    /// Kept, for a filter is not told that it is done before its last stream.
    pub(crate) filter: Filter,
    pub(crate) entrance: Entrance,
    pub(crate) context: Option<ContextId>,
    buffers: Rc<RefCell<Buffers>>,
    request: L,
    response: L,
}

impl<L: Default> Row<L> {
    pub(crate) fn new(
        filters: &[Filter],
        kind: StreamKind,
        owner: Weak<dyn Owner>,
        exchange: &Rc<RefCell<Exchange>>,
        wishes: &Rc<Wishes>,
    ) -> Self {
        Self {
            seats: filters.iter().map(Seat::new).collect(),
            kind,
            owner,
            exchange: Rc::clone(exchange),
            wishes: Rc::clone(wishes),
        }
    }
}

impl<L> Row<L> {
    pub(crate) const fn len(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn get(&self, place: usize) -> Option<&Seat<L>> {
        self.seats.get(place)
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut Seat<L>> {
        self.seats.get_mut(place)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Seat<L>> {
        self.seats.iter()
    }

    /// The machine of a filter that is there to be called, and its context.
    pub(crate) fn machine(&self, place: usize) -> Option<(Rc<Vm>, ContextId)> {
        self.get(place).and_then(Seat::machine)
    }

    /// As [`Row::machine`], if it has the callback.
    pub(crate) fn with(&self, place: usize, callback: Callback) -> Option<(Rc<Vm>, ContextId)> {
        self.machine(place).filter(|(vm, _)| vm.has(callback))
    }

    /// Makes a filter's context, if it has none yet; whether it has one now.
    pub(crate) fn enter(&mut self, place: usize) -> bool {
        let Some(seat) = self.seats.get_mut(place) else { return false };
        if seat.context.is_some() {
            return true;
        }
        let Entrance::Machine(vm, root) = &seat.entrance else { return false };
        let stream = StreamContext {
            kind: self.kind,
            exchange: Rc::clone(&self.exchange),
            buffers: Rc::clone(&seat.buffers),
            owner: self.owner.clone(),
            place,
        };
        let (vm, root) = (Rc::clone(vm), *root);
        seat.context = vm.open(root, stream).ok();
        seat.context.is_some()
    }

    /// The filters forget the stream.
    pub(crate) fn leave(&mut self) {
        for seat in &mut self.seats {
            if let Some((vm, context)) = seat.machine() {
                seat.context = None;
                vm.close(context);
            }
        }
    }
}

impl<L: Default> Seat<L> {
    fn new(filter: &Filter) -> Self {
        let (request, response) = (L::default(), L::default());
        let (entrance, buffers) = (filter.entrance(), Rc::default());
        Self { filter: filter.clone(), entrance, context: None, buffers, request, response }
    }
}

impl<L> Seat<L> {
    /// How the stream goes through the filter, now that it is there. Its machine may have
    /// failed since the stream began: then it is as if that had been before.
    pub(crate) fn entrance(&mut self) -> &Entrance {
        if let Entrance::Machine(vm, _) = &self.entrance
            && self.context.is_none()
            && vm.failed_ns().is_some()
        {
            self.entrance = self.filter.entrance();
        }
        &self.entrance
    }

    /// The filter's machine and its context for this stream, if it has one.
    pub(crate) fn machine(&self) -> Option<(Rc<Vm>, ContextId)> {
        match (&self.entrance, self.context) {
            (Entrance::Machine(vm, _), Some(context)) => Some((Rc::clone(vm), context)),
            _ => None,
        }
    }

    pub(crate) const fn lane(&self, direction: Direction) -> &L {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    pub(crate) const fn lane_mut(&mut self, direction: Direction) -> &mut L {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// Lets the filter see bytes, behind those that it sees already.
    pub(crate) fn hold(&self, direction: Direction, data: Bytes, is_end: bool) {
        let mut buffers = self.buffers.borrow_mut();
        let buffers = &mut *buffers;
        let (buffer, end) = match direction {
            Direction::Request => (&mut buffers.request, &mut buffers.is_request_end),
            Direction::Response => (&mut buffers.response, &mut buffers.is_response_end),
        };
        join(buffer.get_or_insert_default(), data);
        *end = is_end;
    }

    /// Takes back what the filter sees, as it left it.
    pub(crate) fn take_held(&self, direction: Direction) -> Option<Bytes> {
        let mut buffers = self.buffers.borrow_mut();
        match direction {
            Direction::Request => buffers.request.take(),
            Direction::Response => buffers.response.take(),
        }
    }

    /// How many bytes the filter sees, if it may see any.
    pub(crate) fn held_bytes(&self, direction: Direction) -> Option<usize> {
        let buffers = self.buffers.borrow();
        match direction {
            Direction::Request => buffers.request.as_ref().map(Bytes::len),
            Direction::Response => buffers.response.as_ref().map(Bytes::len),
        }
    }
}
