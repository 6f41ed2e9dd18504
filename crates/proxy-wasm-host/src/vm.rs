//! One machine: an instance of a module, its contexts, and the way in.
//!
//! What a filter asks for in a callback (go on, answer, close) is told to the context's
//! [`Owner`] when the callback has returned and the machine is free again: so a host call
//! never leads back into a machine that is busy.

mod answers;
pub(crate) mod callouts;
pub(crate) mod entries;
pub(crate) mod failure;
pub(crate) mod guest;
mod life;
mod start;
pub(crate) mod state;
mod streams;
pub(crate) mod ticks;

use crate::engine::epochs::Watch;
use crate::exchange::Exchange;
use crate::maps::HeaderMap;
use crate::outside::{Level, Outside};
use crate::plugin::PluginConfig;
use crate::worker::Process;
use bytes::{Bytes, BytesMut};
use entries::Entries;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use ticks::Ticks;
use wasmtime::Store;

pub(crate) use state::State;
use state::Told;
use streams::Step;

/// A context, as the module knows it.
pub(crate) type ContextId = u32;

/// The machine trapped, ran out of time or memory, or had failed before. It will not run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

/// One machine.
pub(crate) struct Vm {
    id: u64,
    /// Filters with the same may share it.
    key: [u8; 32],
    /// Gone once it has failed.
    running: RefCell<Option<Running>>,
    callbacks: Callbacks,
    /// How long a callback may run.
    callback_max: Duration,
    ticks: Rc<Ticks>,
    process: Arc<Process>,
    outside: Rc<dyn Outside>,
    /// Of the filter that it was started for.
    config: Rc<PluginConfig>,
    failed_ns: Cell<Option<u64>>,
    /// All machines of its worker.
    others: Weak<Machines>,
    /// Who has effects to act on, in the order in which they were noted.
    woken: RefCell<VecDeque<Weak<dyn Owner>>>,
    is_waking: Cell<bool>,
}

/// The machines of a worker that are alive, by their numbers.
pub(crate) type Machines = RefCell<BTreeMap<u64, Rc<Vm>>>;

struct Running {
    store: Store<State>,
    entries: Entries,
}

/// Who leads a stream: a chain.
pub(crate) trait Owner {
    /// The filter at a place of the chain asked for something. Only noted here.
    fn on_effect(&self, place: usize, effect: Effect);

    /// Does what was noted, unless it is busy with that already. Called after the effects of
    /// a callback, with the machine free.
    fn pump(&self);
}

/// What a filter asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    ContinueRequest,
    ContinueResponse,
    CloseRequest,
    CloseResponse,
    ContinueDownstream,
    CloseDownstream,
    CloseUpstream,
    Reply(LocalReply),
    /// The machine failed while this stream was in it.
    Failed,
}

/// An answer that a filter made itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalReply {
    pub(crate) status: u32,
    /// Spaces made `_`.
    pub(crate) details: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// For gRPC requests.
    pub(crate) grpc_status: Option<u32>,
}

/// What a stream's context reads and changes.
pub(crate) struct StreamContext {
    pub(crate) kind: StreamKind,
    pub(crate) exchange: Rc<RefCell<Exchange>>,
    pub(crate) buffers: Rc<RefCell<Buffers>>,
    pub(crate) owner: Weak<dyn Owner>,
    pub(crate) place: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Http,
    Tcp,
}

/// The parts of bodies that one filter may see and change now: what it is offered, and what
/// it holds. `None` outside of their phase.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// The request's body, or what a TCP client sent.
    pub(crate) request: Option<Bytes>,
    /// The response's body, or what a TCP upstream sent.
    pub(crate) response: Option<Bytes>,
    pub(crate) is_request_end: bool,
    pub(crate) is_response_end: bool,
}

/// Appends without copying what is there, if nobody else holds it.
pub(crate) fn join(to: &mut Bytes, more: Bytes) {
    if to.is_empty() {
        *to = more;
    } else if !more.is_empty() {
        let mut joined =
            std::mem::take(to).try_into_mut().unwrap_or_else(|it| BytesMut::from(&*it));
        joined.extend_from_slice(&more);
        *to = joined.freeze();
    }
}

/// Callbacks that need not be there; the chain skips a filter without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callback {
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    ResponseTrailers,
    NewConnection,
    DownstreamData,
    UpstreamData,
    Log,
}

/// Which of [`Callback`] a module exports, and which of [`Step`].
#[derive(Clone, Copy, Debug, Default)]
struct Callbacks {
    callbacks: u16,
    steps: u16,
}

impl Vm {
    /// Whether the module exports a callback.
    pub(crate) fn has(&self, callback: Callback) -> bool {
        self.callbacks.callbacks & (1 << callback as u16) != 0
    }

    /// When it failed, on the monotone clock.
    pub(crate) fn failed_ns(&self) -> Option<u64> {
        self.failed_ns.get()
    }

    pub(crate) const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// When its first tick is due.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.ticks.due_ns()
    }

    /// Calls into the module for a context, with a time limit; then does what that left to be
    /// done. `name` is the callback's.
    fn run<R>(
        &self,
        id: ContextId,
        name: &str,
        call: impl FnOnce(&mut Running) -> wasmtime::Result<R>,
    ) -> Result<R, Failed> {
        let outcome = self.attempt(id, Some(self.callback_max), call)?;
        outcome.inspect_err(|error| self.fail(name, error)).map_err(|_| Failed)
    }

    /// As [`Vm::run`], but a trap is returned and nobody is told. Without a limit the time that
    /// was set before goes on.
    fn attempt<R>(
        &self,
        id: ContextId,
        limit: Option<Duration>,
        call: impl FnOnce(&mut Running) -> wasmtime::Result<R>,
    ) -> Result<wasmtime::Result<R>, Failed> {
        let (result, told, done) = {
            let mut running = self.running.try_borrow_mut().map_err(|_| Failed)?;
            let Some(running) = running.as_mut() else { return Err(Failed) };
            let state = running.store.data_mut();
            state.begin_callback(id);
            if let Some(limit) = limit {
                Watch::arm(&mut running.store, State::watch, limit);
            }
            let result = call(running);
            let state = running.store.data_mut();
            state.answer = None;
            (result, std::mem::take(&mut state.effects), std::mem::take(&mut state.done))
        };
        if result.is_ok() {
            self.deliver(told);
            for root in done {
                self.delete_root(root);
            }
        }
        Ok(result)
    }

    /// Looks at its state, if it is alive and free.
    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> Option<R> {
        let mut running = self.running.try_borrow_mut().ok()?;
        Some(look(running.as_mut()?.store.data_mut()))
    }

    /// Ends it: it will not run again, its streams are told, its memory is given back.
    fn fail(&self, name: &str, error: &wasmtime::Error) {
        let Some(mut running) = self.running.take() else { return };
        let state = running.store.data_mut();
        let line = failure::describe(name, error, &state.budget);
        self.outside.log(&self.config.name, Level::Critical, &line);
        self.failed_ns.set(Some(self.outside.monotonic_ns()));
        state.callouts.cancel(None, self.id, &*self.outside);
        let streams = std::mem::take(&mut state.contexts).into_streams();
        let told = |stream: state::Stream| {
            let StreamContext { owner, place, .. } = stream.context;
            Told { owner, place, effect: Effect::Failed }
        };
        let told: Vec<Told> = streams.map(told).collect();
        drop(running);
        self.leave();
        self.deliver(told);
    }

    /// Notes effects where they belong; then lets everyone concerned act, one after the other.
    /// Effects that this leads to in turn are left to the same loop: else streams that wake
    /// each other would fill the stack.
    fn deliver(&self, told: Vec<Told>) {
        for Told { owner, place, effect } in told {
            let Some(chain) = owner.upgrade() else { continue };
            chain.on_effect(place, effect);
            let mut woken = self.woken.borrow_mut();
            if !woken.back().is_some_and(|last| Weak::ptr_eq(last, &owner)) {
                woken.push_back(owner);
            }
        }
        if self.woken.borrow().is_empty() || self.is_waking.replace(true) {
            return;
        }
        while let Some(owner) = self.next_woken() {
            if let Some(owner) = owner.upgrade() {
                owner.pump();
            }
        }
        self.is_waking.set(false);
    }

    fn next_woken(&self) -> Option<Weak<dyn Owner>> {
        self.woken.borrow_mut().pop_front()
    }

    /// Takes it off its worker's list.
    fn leave(&self) {
        self.ticks.forget_all();
        self.process.queues.forget(self.id);
        let left = self.others.upgrade().and_then(|others| others.borrow_mut().remove(&self.id));
        // It may be the last to hold this machine, but for the caller.
        drop(left);
    }
}

impl Drop for Vm {
    /// One that was only tried, or whose filters never said that they are done, may still have
    /// calls in flight and queues that it listens to.
    fn drop(&mut self) {
        if let Some(running) = self.running.get_mut() {
            running.store.data_mut().callouts.cancel(None, self.id, &*self.outside);
        }
        self.process.queues.forget(self.id);
    }
}

impl Callbacks {
    fn of(entries: &Entries) -> Self {
        let found = &entries.found;
        let there = [
            (Callback::RequestHeaders, entries.on_request_headers.is_there()),
            (Callback::RequestBody, found.on_request_body.is_some()),
            (Callback::RequestTrailers, found.on_request_trailers.is_some()),
            (Callback::ResponseHeaders, entries.on_response_headers.is_there()),
            (Callback::ResponseBody, found.on_response_body.is_some()),
            (Callback::ResponseTrailers, found.on_response_trailers.is_some()),
            (Callback::NewConnection, found.on_new_connection.is_some()),
            (Callback::DownstreamData, found.on_downstream_data.is_some()),
            (Callback::UpstreamData, found.on_upstream_data.is_some()),
            (Callback::Log, found.on_log.is_some()),
        ];
        let steps = [
            (Step::Create as u16, found.on_context_create.is_some()),
            (Step::Done as u16, found.on_done.is_some()),
            (Step::Delete as u16, found.on_delete.is_some()),
        ];
        Self {
            callbacks: bits(there.map(|(callback, is_there)| (callback as u16, is_there))),
            steps: bits(steps),
        }
    }

    const fn has_step(self, step: Step) -> bool {
        self.steps & (1 << step as u16) != 0
    }
}

/// A number of fields or bytes, as modules are told it; nothing comes near what does not fit.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn bits<const N: usize>(there: [(u16, bool); N]) -> u16 {
    there.iter().fold(0, |bits, (at, is_there)| bits | u16::from(*is_there) << at)
}

#[cfg(test)]
mod tests;
