//! What a machine knows while a module runs in it: its contexts, and what they may see.

use super::callouts::{Answer, Callouts};
use super::ticks::Ticks;
use super::{ContextId, Effect, LocalReply, Owner, StreamContext, StreamKind};
use crate::budget::Budget;
use crate::engine::Version;
use crate::engine::epochs::Watch;
use crate::foreign;
use crate::maps::HeaderMap;
use crate::outside::Outside;
use crate::plugin::PluginConfig;
use crate::properties::Seen;
use crate::shared::metrics::Ids;
use crate::worker::Process;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use wasmtime::{Memory, TypedFunc};

/// A machine's own part of its store.
pub(crate) struct State {
    pub(crate) place: Place,
    /// Whose `vm_id`, VM configuration and environment it has; filters that share the machine
    /// have the same.
    pub(crate) config: Rc<PluginConfig>,
    pub(crate) version: Version,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocator: Option<TypedFunc<(u32,), u32>>,
    pub(crate) mode: Mode,
    pub(crate) budget: Budget,
    pub(crate) watch: Watch,
    pub(crate) contexts: Contexts,
    /// Whose callback runs now. 0 is the machine itself.
    pub(crate) called: ContextId,
    /// On whose behalf calls are made now: the callback's context, or the one that the module
    /// chose instead.
    pub(crate) current: ContextId,
    /// How many callbacks there were, the one that runs now included.
    pub(crate) callback: u64,
    /// The root context that is being configured.
    pub(crate) configuring: Option<ContextId>,
    pub(crate) callouts: Callouts,
    /// What the callback that runs now is about, if it answers a call.
    pub(crate) answer: Option<Answer>,
    pub(crate) ticks: Rc<Ticks>,
    pub(crate) metrics: Ids,
    /// What was asked for in the callback that runs now, and by whom.
    pub(crate) effects: Vec<Told>,
    /// Whether a local reply was asked for in the callback that runs now, for its own stream.
    pub(crate) replied: bool,
    /// Root contexts that said `proxy_done` since they were told that they are done.
    pub(crate) done: Vec<ContextId>,
    /// Bytes to encode into, kept to spare allocations.
    pub(crate) scratch: Vec<u8>,
}

/// Where a machine is, and the world around it.
pub(crate) struct Place {
    pub(crate) process: Arc<Process>,
    pub(crate) outside: Rc<dyn Outside>,
    pub(crate) worker: u64,
    pub(crate) vm: u64,
}

/// What the module may call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// All there is.
    Running,
    /// It is being initialised: its log, its environment and clocks.
    Starting,
    /// It allocates for a host call: its log and a clock.
    Allocating,
}

/// An effect, and whom to tell.
pub(crate) struct Told {
    pub(crate) owner: Weak<dyn Owner>,
    pub(crate) place: usize,
    pub(crate) effect: Effect,
}

/// The contexts of one machine, by their numbers.
#[derive(Default)]
pub(crate) struct Contexts {
    known: HashMap<ContextId, Context, BuildHasherDefault<IdHasher>>,
    last: ContextId,
}

pub(crate) enum Context {
    Root(Root),
    Stream(Stream),
}

/// A filter as the module knows it.
pub(crate) struct Root {
    pub(crate) config: Rc<PluginConfig>,
    /// What foreign functions keep for it.
    pub(crate) memory: foreign::Memory,
    pub(crate) streams: usize,
    pub(crate) life: Life,
}

/// How far a root context is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    InUse,
    /// Nobody uses it any more, but for the streams that it has.
    Retired,
    /// It was told so, and has things to do yet: it will call `proxy_done`.
    Ending,
    /// It has called it.
    Done,
}

/// A stream's part of a filter.
pub(crate) struct Stream {
    pub(crate) root: ContextId,
    pub(crate) context: StreamContext,
    pub(crate) shown: Shown,
    pub(crate) is_logging: bool,
    has_replied: bool,
    asked: Asked,
}

/// What was asked for a stream in one callback: a bit for each kind of effect.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    callback: u64,
    kinds: u16,
}

/// Which maps of its exchange a filter may see: each from its callback on, for as long as
/// the filter pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown(u8);

/// A header map that a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapKind {
    RequestHeaders = 0,
    RequestTrailers = 1,
    ResponseHeaders = 2,
    ResponseTrailers = 3,
}

impl State {
    pub(crate) const fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// The stream on whose behalf calls are made now.
    pub(crate) fn stream(&self) -> Option<&Stream> {
        match self.contexts.known.get(&self.current) {
            Some(Context::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn stream_mut(&mut self) -> Option<&mut Stream> {
        self.contexts.stream(self.current)
    }

    /// The root context that the current context belongs to; 0 is the machine's own.
    pub(crate) fn root(&self) -> ContextId {
        self.contexts.root_of(self.current)
    }

    /// The configuration of the filter on whose behalf calls are made now.
    pub(crate) fn plugin(&self) -> &Rc<PluginConfig> {
        match self.contexts.known.get(&self.root()) {
            Some(Context::Root(root)) => &root.config,
            _ => &self.config,
        }
    }

    /// What the current callback brings, if it is for the current context's filter.
    pub(crate) fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref().filter(|answer| answer.root == self.root())
    }

    /// A callback begins, for that context.
    pub(crate) fn begin_callback(&mut self, id: ContextId) {
        self.called = id;
        self.current = id;
        self.callback += 1;
        self.replied = false;
    }

    /// Notes what the current context asked for. A thing that was asked for twice in one
    /// callback is done once: so there is a bound to what a callback can leave behind.
    pub(crate) fn tell(&mut self, effect: Effect) {
        let Some(stream) = self.contexts.stream(self.current) else { return };
        if stream.asked.is_first(self.callback, effect.bit()) {
            let (owner, place) = (stream.context.owner.clone(), stream.context.place);
            self.effects.push(Told { owner, place, effect });
        }
    }

    /// The current context has no more to do; whether it was asked.
    pub(crate) fn end_current(&mut self) -> bool {
        let Some(root) = self.contexts.root(self.current) else { return false };
        let is_asked = root.life == Life::Ending;
        if is_asked {
            root.life = Life::Done;
            self.done.push(self.current);
        }
        is_asked
    }

    /// Notes a local reply, if the current context can have one. Only the first of a stream
    /// counts; a later one must not stop it either, for nothing would ever let it go on.
    pub(crate) fn reply(&mut self, reply: LocalReply) {
        let is_called = self.current == self.called;
        let Some(stream) = self.stream_mut() else { return };
        if stream.context.kind != StreamKind::Http || stream.has_replied {
            return;
        }
        stream.has_replied = true;
        self.replied |= is_called;
        self.tell(Effect::Reply(reply));
    }
}

impl Contexts {
    /// A number that no context has.
    pub(crate) fn next_id(&mut self) -> ContextId {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.known.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    pub(crate) fn insert(&mut self, id: ContextId, context: Context) {
        self.known.insert(id, context);
    }

    pub(crate) fn remove(&mut self, id: ContextId) -> Option<Context> {
        self.known.remove(&id)
    }

    pub(crate) fn is_known(&self, id: ContextId) -> bool {
        self.known.contains_key(&id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(crate) fn stream(&mut self, id: ContextId) -> Option<&mut Stream> {
        match self.known.get_mut(&id) {
            Some(Context::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn root(&mut self, id: ContextId) -> Option<&mut Root> {
        match self.known.get_mut(&id) {
            Some(Context::Root(root)) => Some(root),
            _ => None,
        }
    }

    /// The current context's root, and the stream if it is one: to be changed together.
    pub(crate) fn both(&mut self, id: ContextId) -> (Option<&mut Root>, Option<&mut Stream>) {
        let root = self.root_of(id);
        if root == id {
            return (self.root(id), None);
        }
        match self.known.get_disjoint_mut([&root, &id]) {
            [Some(Context::Root(root)), Some(Context::Stream(stream))] => {
                (Some(root), Some(stream))
            }
            _ => (None, None),
        }
    }

    pub(crate) fn root_of(&self, id: ContextId) -> ContextId {
        match self.known.get(&id) {
            Some(Context::Stream(stream)) => stream.root,
            Some(Context::Root(_)) => id,
            None => 0,
        }
    }

    pub(crate) fn into_streams(self) -> impl Iterator<Item = Stream> {
        self.known.into_values().filter_map(|context| match context {
            Context::Stream(stream) => Some(stream),
            Context::Root(_) => None,
        })
    }
}

impl Asked {
    fn is_first(&mut self, callback: u64, bit: u16) -> bool {
        if self.callback != callback {
            *self = Self { callback, kinds: 0 };
        }
        let is_first = self.kinds & bit == 0;
        self.kinds |= bit;
        is_first
    }
}

impl Effect {
    const fn bit(&self) -> u16 {
        1 << match self {
            Self::ContinueRequest => 0,
            Self::ContinueResponse => 1,
            Self::CloseRequest => 2,
            Self::CloseResponse => 3,
            Self::ContinueDownstream => 4,
            Self::CloseDownstream => 5,
            Self::CloseUpstream => 6,
            Self::Reply(_) => 7,
            Self::Failed => 8,
        }
    }
}

impl Stream {
    pub(crate) fn new(root: ContextId, context: StreamContext) -> Self {
        let (shown, asked) = (Shown::default(), Asked::default());
        Self { root, context, shown, is_logging: false, has_replied: false, asked }
    }

    /// What the filter may read of a map now. Everything is there to be logged, but for the
    /// request's trailers, as in Envoy.
    pub(crate) fn may_read(&self, kind: MapKind) -> bool {
        if self.is_logging {
            return kind != MapKind::RequestTrailers;
        }
        self.shown.has(kind)
    }

    /// The maps that properties may be read from now.
    pub(crate) fn seen(&self) -> Seen {
        if self.is_logging {
            return Seen::ALL;
        }
        Seen {
            request_headers: self.shown.has(MapKind::RequestHeaders),
            response_headers: self.shown.has(MapKind::ResponseHeaders),
            response_trailers: self.shown.has(MapKind::ResponseTrailers),
        }
    }

    /// Lets the filter change a map now, if it may.
    pub(crate) fn change<R>(
        &mut self,
        kind: MapKind,
        change: impl FnOnce(&mut HeaderMap) -> R,
    ) -> Option<R> {
        self.begin_trailers(kind);
        if !self.shown.has(kind) {
            return None;
        }
        let mut exchange = self.context.exchange.borrow_mut();
        kind.of_mut(&mut exchange).as_mut().map(change)
    }

    /// At the end of a body that has no trailers, a filter may add some.
    fn begin_trailers(&mut self, kind: MapKind) {
        let buffers = self.context.buffers.borrow();
        let is_end = match kind {
            MapKind::RequestTrailers => buffers.request.is_some() && buffers.is_request_end,
            MapKind::ResponseTrailers => buffers.response.is_some() && buffers.is_response_end,
            _ => false,
        };
        if is_end && self.context.kind == StreamKind::Http {
            let mut exchange = self.context.exchange.borrow_mut();
            kind.of_mut(&mut exchange).get_or_insert_default();
            self.shown.show(kind);
        }
    }
}

impl Shown {
    pub(crate) const fn has(self, kind: MapKind) -> bool {
        self.0 & kind.bit() != 0
    }

    pub(crate) const fn show(&mut self, kind: MapKind) {
        self.0 |= kind.bit();
    }

    pub(crate) const fn hide(&mut self, kind: MapKind) {
        self.0 &= !kind.bit();
    }
}

impl MapKind {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    pub(crate) fn of(self, exchange: &crate::exchange::Exchange) -> &Option<HeaderMap> {
        match self {
            Self::RequestHeaders => &exchange.request_headers,
            Self::RequestTrailers => &exchange.request_trailers,
            Self::ResponseHeaders => &exchange.response_headers,
            Self::ResponseTrailers => &exchange.response_trailers,
        }
    }

    fn of_mut(self, exchange: &mut crate::exchange::Exchange) -> &mut Option<HeaderMap> {
        match self {
            Self::RequestHeaders => &mut exchange.request_headers,
            Self::RequestTrailers => &mut exchange.request_trailers,
            Self::ResponseHeaders => &mut exchange.response_headers,
            Self::ResponseTrailers => &mut exchange.response_trailers,
        }
    }
}

/// Spreads numbers that count up: nobody else chooses them, so that it need not be stronger.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // 2^64 divided by the golden ratio: near numbers come to lie far apart.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
