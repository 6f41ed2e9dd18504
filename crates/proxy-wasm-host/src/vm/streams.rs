//! A stream's callbacks.

use super::state::{Context, MapKind, Stream};
use super::{Callback, ContextId, Failed, Running, StreamContext, StreamKind, Vm, count};
use crate::tcp::Peer;
use wasmtime::TypedFunc;

/// What a callback of headers, of a body, of trailers returns at most; more means the same.
/// A filter that has asked for a local reply returns it, whatever it says.
const HEADERS_STOP: u32 = 4;
const BODY_STOP: u32 = 3;
const TRAILERS_STOP: u32 = 1;

impl Vm {
    /// Makes a context for a stream (`proxy_on_context_create`).
    pub(crate) fn open(&self, root: ContextId, stream: StreamContext) -> Result<ContextId, Failed> {
        let add = |state: &mut super::State| {
            let id = state.contexts.next_id();
            state.contexts.root(root)?.streams += 1;
            let stream = Stream::new(root, stream);
            state.contexts.insert(id, Context::Stream(stream));
            Some(id)
        };
        let id = self.with(add).flatten().ok_or(Failed)?;
        if self.calls_back(Step::Create) {
            self.run(id, "proxy_on_context_create", |Running { store, entries }| {
                let Some(create) = &entries.found.on_context_create else { return Ok(()) };
                create.call(store, (id, root))
            })?;
        }
        Ok(id)
    }

    /// `proxy_on_request_headers`: the action as the module returned it; 0 without the callback.
    /// The map is visible to the filter during the call, and afterwards for as long as it pauses.
    /// All of these deliver the effects of the call before they return.
    pub(crate) fn on_request_headers(&self, id: ContextId, is_end: bool) -> Result<u32, Failed> {
        if !self.has(Callback::RequestHeaders) {
            return Ok(0);
        }
        self.run(id, "proxy_on_request_headers", |running| {
            let fields = running.show(id, MapKind::RequestHeaders);
            let Running { store, entries } = running;
            let action = entries.on_request_headers.call(store, id, fields, is_end)?;
            Ok(running.hide(id, MapKind::RequestHeaders, action.unwrap_or(0), HEADERS_STOP))
        })
    }

    /// `proxy_on_request_body`, of what [`Buffers::request`](super::Buffers::request) holds.
    pub(crate) fn on_request_body(&self, id: ContextId, is_end: bool) -> Result<u32, Failed> {
        if !self.has(Callback::RequestBody) {
            return Ok(0);
        }
        self.run(id, "proxy_on_request_body", |running| {
            let bytes = running.offer(id, true, is_end);
            let Running { store, entries } = running;
            let action = call_data(&entries.found.on_request_body, store, id, bytes, is_end)?;
            Ok(running.settle(action, BODY_STOP))
        })
    }

    pub(crate) fn on_request_trailers(&self, id: ContextId) -> Result<u32, Failed> {
        if !self.has(Callback::RequestTrailers) {
            return Ok(0);
        }
        self.run(id, "proxy_on_request_trailers", |running| {
            let fields = running.show(id, MapKind::RequestTrailers);
            let Running { store, entries } = running;
            let action = call_two(&entries.found.on_request_trailers, store, id, fields)?;
            Ok(running.hide(id, MapKind::RequestTrailers, action, TRAILERS_STOP))
        })
    }

    pub(crate) fn on_response_headers(&self, id: ContextId, is_end: bool) -> Result<u32, Failed> {
        if !self.has(Callback::ResponseHeaders) {
            return Ok(0);
        }
        self.run(id, "proxy_on_response_headers", |running| {
            let fields = running.show(id, MapKind::ResponseHeaders);
            let Running { store, entries } = running;
            let action = entries.on_response_headers.call(store, id, fields, is_end)?;
            Ok(running.hide(id, MapKind::ResponseHeaders, action.unwrap_or(0), HEADERS_STOP))
        })
    }

    pub(crate) fn on_response_body(&self, id: ContextId, is_end: bool) -> Result<u32, Failed> {
        if !self.has(Callback::ResponseBody) {
            return Ok(0);
        }
        self.run(id, "proxy_on_response_body", |running| {
            let bytes = running.offer(id, false, is_end);
            let Running { store, entries } = running;
            let action = call_data(&entries.found.on_response_body, store, id, bytes, is_end)?;
            Ok(running.settle(action, BODY_STOP))
        })
    }

    pub(crate) fn on_response_trailers(&self, id: ContextId) -> Result<u32, Failed> {
        if !self.has(Callback::ResponseTrailers) {
            return Ok(0);
        }
        self.run(id, "proxy_on_response_trailers", |running| {
            let fields = running.show(id, MapKind::ResponseTrailers);
            let Running { store, entries } = running;
            let action = call_two(&entries.found.on_response_trailers, store, id, fields)?;
            Ok(running.hide(id, MapKind::ResponseTrailers, action, TRAILERS_STOP))
        })
    }

    pub(crate) fn on_new_connection(&self, id: ContextId) -> Result<u32, Failed> {
        self.run(id, "proxy_on_new_connection", |Running { store, entries }| {
            entries.found.on_new_connection.as_ref().map_or(Ok(0), |entry| entry.call(store, (id,)))
        })
    }

    /// Of what [`Buffers::request`](super::Buffers::request) holds.
    pub(crate) fn on_downstream_data(&self, id: ContextId, is_end: bool) -> Result<u32, Failed> {
        self.run(id, "proxy_on_downstream_data", |running| {
            let bytes = running.offer(id, true, is_end);
            let Running { store, entries } = running;
            call_data(&entries.found.on_downstream_data, store, id, bytes, is_end)
        })
    }

    /// Of what [`Buffers::response`](super::Buffers::response) holds.
    pub(crate) fn on_upstream_data(&self, id: ContextId, is_end: bool) -> Result<u32, Failed> {
        self.run(id, "proxy_on_upstream_data", |running| {
            let bytes = running.offer(id, false, is_end);
            let Running { store, entries } = running;
            call_data(&entries.found.on_upstream_data, store, id, bytes, is_end)
        })
    }

    pub(crate) fn on_downstream_close(&self, id: ContextId, by: Peer) -> Result<(), Failed> {
        self.run(id, "proxy_on_downstream_connection_close", |Running { store, entries }| {
            let Some(entry) = &entries.found.on_downstream_close else { return Ok(()) };
            entry.call(store, (id, by as u32))
        })
    }

    pub(crate) fn on_upstream_close(&self, id: ContextId, by: Peer) -> Result<(), Failed> {
        self.run(id, "proxy_on_upstream_connection_close", |Running { store, entries }| {
            let Some(entry) = &entries.found.on_upstream_close else { return Ok(()) };
            entry.call(store, (id, by as u32))
        })
    }

    /// An HTTP exchange is over (`proxy_on_log`): all its maps but the request's trailers are
    /// readable meanwhile.
    pub(crate) fn log(&self, id: ContextId) {
        if !self.has(Callback::Log) {
            return;
        }
        // A machine that fails tells so itself.
        let _ = self.run(id, "proxy_on_log", |Running { store, entries }| {
            let Some(entry) = &entries.found.on_log else { return Ok(()) };
            let Some(stream) = store.data_mut().contexts.stream(id) else { return Ok(()) };
            stream.is_logging = true;
            entry.call(&mut *store, (id,))?;
            if let Some(stream) = store.data_mut().contexts.stream(id) {
                stream.is_logging = false;
            }
            Ok(())
        });
    }

    /// The stream is over: `proxy_on_done`, of a TCP connection then `proxy_on_log`, and
    /// `proxy_on_delete`. What a stream answers to `proxy_on_done` counts for nothing, as in
    /// Envoy: only root contexts can ask to stay.
    pub(crate) fn close(&self, id: ContextId) {
        let kind = self.with(|state| state.contexts.stream(id).map(|stream| stream.context.kind));
        let Some(kind) = kind.flatten() else { return };
        if self.calls_back(Step::Done) {
            let _ = self.run(id, "proxy_on_done", |Running { store, entries }| {
                entries.found.on_done.as_ref().map_or(Ok(1), |entry| entry.call(store, (id,)))
            });
        }
        if kind == StreamKind::Tcp {
            self.log(id);
        }
        if self.calls_back(Step::Delete) {
            let _ = self.run(id, "proxy_on_delete", |Running { store, entries }| {
                entries.found.on_delete.as_ref().map_or(Ok(()), |entry| entry.call(store, (id,)))
            });
        }
        self.forget_stream(id);
    }

    fn forget_stream(&self, id: ContextId) {
        let idle = self.with(|state| {
            let Some(Context::Stream(stream)) = state.contexts.remove(id) else { return None };
            let root = state.contexts.root(stream.root)?;
            root.streams = root.streams.saturating_sub(1);
            root.is_idle().then_some(stream.root)
        });
        if let Some(root) = idle.flatten() {
            self.end_root(root);
        }
    }
}

/// A callback at a stream's beginning or end, that many modules do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    Done,
    Delete,
}

impl Running {
    /// Lets a filter see a map of its stream from now on; how many fields it has.
    fn show(&mut self, id: ContextId, kind: MapKind) -> u32 {
        let Some(stream) = self.store.data_mut().contexts.stream(id) else { return 0 };
        stream.shown.show(kind);
        let exchange = stream.context.exchange.borrow();
        kind.of(&exchange).as_ref().map_or(0, |map| count(map.len()))
    }

    /// What the callback's action comes to; if that is to go on, the map is not seen again.
    fn hide(&mut self, id: ContextId, kind: MapKind, action: u32, stop: u32) -> u32 {
        let action = self.settle(action, stop);
        // 2 is "continue, and end the stream" of headers, which Envoy takes for "continue".
        if (action == 0 || (action == 2 && stop == HEADERS_STOP))
            && let Some(stream) = self.store.data_mut().contexts.stream(id)
        {
            stream.shown.hide(kind);
        }
        action
    }

    fn settle(&self, action: u32, stop: u32) -> u32 {
        if self.store.data().replied { stop } else { action.min(stop) }
    }

    /// How many bytes of its body a filter is offered.
    fn offer(&mut self, id: ContextId, is_request: bool, is_end: bool) -> u32 {
        let Some(stream) = self.store.data_mut().contexts.stream(id) else { return 0 };
        let mut buffers = stream.context.buffers.borrow_mut();
        let body = if is_request {
            buffers.is_request_end = is_end;
            &buffers.request
        } else {
            buffers.is_response_end = is_end;
            &buffers.response
        };
        body.as_ref().map_or(0, |body| count(body.len()))
    }
}

fn call_data(
    entry: &Option<TypedFunc<(u32, u32, u32), u32>>,
    store: &mut wasmtime::Store<super::State>,
    id: ContextId,
    bytes: u32,
    is_end: bool,
) -> wasmtime::Result<u32> {
    entry.as_ref().map_or(Ok(0), |entry| entry.call(store, (id, bytes, u32::from(is_end))))
}

fn call_two(
    entry: &Option<TypedFunc<(u32, u32), u32>>,
    store: &mut wasmtime::Store<super::State>,
    id: ContextId,
    fields: u32,
) -> wasmtime::Result<u32> {
    entry.as_ref().map_or(Ok(0), |entry| entry.call(store, (id, fields)))
}
