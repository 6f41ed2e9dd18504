//! A root context's callbacks: its ticks, its queues, and the answers to its calls.

use super::callouts::{Answer, Kind};
use super::{ContextId, Failed, Running, State, Vm, count};
use crate::maps::HeaderMap;
use crate::outside::{GrpcEvent, HttpResponse};

impl Vm {
    /// Runs the ticks that are due.
    pub(crate) fn tick(&self) {
        let now_ns = self.outside.monotonic_ns();
        for root in self.ticks.due(now_ns) {
            // One that ticked before it may have ended it, or its ticks.
            if !self.ticks.is_due(root, now_ns) {
                continue;
            }
            let ticked = self.run(root, "proxy_on_tick", |Running { store, entries }| {
                let Some(entry) = &entries.found.on_tick else { return Ok(()) };
                entry.call(store, (root,))
            });
            if ticked.is_err() {
                return;
            }
            self.ticks.rearm(root, self.outside.monotonic_ns());
        }
    }

    /// There is something in a queue that this root context registered.
    pub(crate) fn on_queue_ready(&self, root: ContextId, queue: u32) {
        if self.with(|state| state.contexts.is_known(root)) != Some(true) {
            return;
        }
        // A machine that fails tells so itself.
        let _ = self.run(root, "proxy_on_queue_ready", |Running { store, entries }| {
            let Some(entry) = &entries.found.on_queue_ready else { return Ok(()) };
            entry.call(store, (root, queue))
        });
    }

    /// The answer to an HTTP call.
    pub(crate) fn on_http_response(&self, token: u32, response: HttpResponse) {
        let Some(root) = self.whose(token, Kind::Http) else { return };
        self.with(|state| state.callouts.end(token));
        let HttpResponse { headers, body, trailers } = response;
        let counts = (count(headers.len()), count(body.len()), count(trailers.len()));
        // As in Envoy, there is no map of trailers that were not sent.
        let trailers = (!trailers.is_empty()).then_some(trailers);
        // Nor is there anything of an answer that broke off.
        let http_body = (!headers.is_empty()).then_some(body);
        let headers = (!headers.is_empty()).then_some(headers);
        let maps = [None, None, headers, trailers];
        let answer = Answer { root, maps, http_body, ..Answer::default() };
        let _ = self.run(root, "proxy_on_http_call_response", |Running { store, entries }| {
            let Some(entry) = &entries.found.on_http_call_response else { return Ok(()) };
            store.data_mut().answer = Some(answer);
            entry.call(store, (root, token, counts.0, counts.1, counts.2))
        });
    }

    /// What happened on a gRPC call or stream.
    pub(crate) fn on_grpc(&self, token: u32, event: GrpcEvent) {
        let Some(kind) = Kind::of(token) else { return };
        let Some(root) = self.whose(token, kind) else { return };
        // A machine that fails tells so itself.
        let _ = match event {
            GrpcEvent::InitialMetadata(map) => self.on_metadata(root, token, map, false),
            GrpcEvent::TrailingMetadata(map) => self.on_metadata(root, token, map, true),
            GrpcEvent::Message(message) => {
                if kind == Kind::GrpcCall {
                    self.with(|state| state.callouts.end(token));
                }
                let bytes = count(message.len());
                let answer = Answer { root, grpc_message: Some(message), ..Answer::default() };
                self.run(root, "proxy_on_grpc_receive", |Running { store, entries }| {
                    let Some(entry) = &entries.found.on_grpc_receive else { return Ok(()) };
                    store.data_mut().answer = Some(answer);
                    entry.call(store, (root, token, bytes))
                })
            }
            GrpcEvent::Close(status, message) => {
                self.with(|state| end_grpc(state, token, kind));
                let answer = Answer { root, status: (status, message), ..Answer::default() };
                self.run(root, "proxy_on_grpc_close", |Running { store, entries }| {
                    let Some(entry) = &entries.found.on_grpc_close else { return Ok(()) };
                    store.data_mut().answer = Some(answer);
                    entry.call(store, (root, token, status))
                })
            }
        };
    }

    fn on_metadata(
        &self,
        root: ContextId,
        token: u32,
        map: HeaderMap,
        is_trailing: bool,
    ) -> Result<(), Failed> {
        let fields = count(map.len());
        let (name, maps) = if is_trailing {
            ("proxy_on_grpc_receive_trailing_metadata", [None, Some(map), None, None])
        } else {
            ("proxy_on_grpc_receive_initial_metadata", [Some(map), None, None, None])
        };
        let answer = Answer { root, maps, ..Answer::default() };
        self.run(root, name, |Running { store, entries }| {
            let found = &entries.found;
            let entry = if is_trailing {
                &found.on_grpc_trailing_metadata
            } else {
                &found.on_grpc_initial_metadata
            };
            let Some(entry) = entry else { return Ok(()) };
            store.data_mut().answer = Some(answer);
            entry.call(store, (root, token, fields))
        })
    }

    /// The root context that made a call, if it is of that kind and still waits.
    fn whose(&self, token: u32, kind: Kind) -> Option<ContextId> {
        if Kind::of(token) != Some(kind) {
            return None;
        }
        self.with(|state| state.callouts.root_of(token)).flatten()
    }
}

fn end_grpc(state: &mut State, token: u32, kind: Kind) {
    if kind == Kind::GrpcStream {
        state.callouts.end_remote(token);
    } else {
        state.callouts.end(token);
    }
}
