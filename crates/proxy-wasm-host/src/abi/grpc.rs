//! gRPC calls and streams that filters make.

mod service;

use super::headers::decode;
use super::{Calls, ENV, define};
use crate::outside::{CallToken, GrpcOpen};
use crate::status::Status;
use crate::vm::State;
use crate::vm::callouts::Kind;
use crate::vm::guest::{
    Guest, Outcome, Slice, Stop, TEXT_BYTES_MAX, read, read_body, read_text, write_u32,
};
use crate::vm::state::Mode;
use bytes::Bytes;
use service::Target;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_grpc_call" => call,
            (target: u32, target_len: u32, service: u32, service_len: u32, method: u32,
             method_len: u32, metadata: u32, metadata_len: u32, message: u32, message_len: u32,
             timeout_ms: u32, token: u32);
        "proxy_grpc_stream" => stream,
            (target: u32, target_len: u32, service: u32, service_len: u32, method: u32,
             method_len: u32, metadata: u32, metadata_len: u32, token: u32);
        "proxy_grpc_send" => send, (token: u32, message: u32, message_len: u32, is_last: u32);
        "proxy_grpc_cancel" => cancel, (token: u32);
        "proxy_grpc_close" => close, (token: u32);
        "proxy_get_status" => get_status, (code: u32, at: u32, len: u32);
    });
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The ABI's, not ours.
fn call(
    guest: &mut Guest<'_>,
    target: u32,
    target_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    message: u32,
    message_len: u32,
    timeout_ms: u32,
    token: u32,
) -> Outcome {
    let opening = Opening {
        target: Slice(target, target_len),
        service: Slice(service, service_len),
        method: Slice(method, method_len),
        metadata: Slice(metadata, metadata_len),
        message: Some(Slice(message, message_len)),
        timeout_ms: (timeout_ms > 0).then_some(timeout_ms),
    };
    open(guest, &opening, Kind::GrpcCall, token)
}

#[allow(clippy::too_many_arguments)] // The ABI's, not ours.
fn stream(
    guest: &mut Guest<'_>,
    target: u32,
    target_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    token: u32,
) -> Outcome {
    let opening = Opening {
        target: Slice(target, target_len),
        service: Slice(service, service_len),
        method: Slice(method, method_len),
        metadata: Slice(metadata, metadata_len),
        message: None,
        timeout_ms: None,
    };
    open(guest, &opening, Kind::GrpcStream, token)
}

/// Where in the module's memory all that a call needs is.
struct Opening {
    target: Slice,
    service: Slice,
    method: Slice,
    metadata: Slice,
    message: Option<Slice>,
    timeout_ms: Option<u32>,
}

fn open(guest: &mut Guest<'_>, opening: &Opening, kind: Kind, token: u32) -> Outcome {
    let (memory, state) = guest.split()?;
    let target = read(memory, opening.target)?;
    if target.len() > TEXT_BYTES_MAX {
        return Err(Status::BadArgument.into());
    }
    let message = opening.message.map(|message| read_body(memory, message)).transpose()?;
    let mut call = GrpcOpen {
        cluster: String::new(),
        service: read_text(memory, opening.service)?,
        method: read_text(memory, opening.method)?,
        metadata: decode(memory, opening.metadata)?,
        message,
        timeout_ms: opening.timeout_ms,
    };
    let is_plain = match service::target(target) {
        Target::Cluster(name) => {
            call.cluster = name;
            false
        }
        Target::Plain(name) => {
            call.cluster = name;
            true
        }
        Target::Other => return Err(Status::BadArgument.into()),
    };
    // Only looked at: Envoy leaves it alone unless the call goes out.
    read(memory, Slice(token, 4))?;
    let begun = begin(state, call, kind, is_plain)?;
    write_u32(memory, token, begun)
}

fn begin(state: &mut State, call: GrpcOpen, kind: Kind, is_plain: bool) -> Result<u32, Status> {
    let names = call.cluster.len() + call.service.len() + call.method.len();
    let message_bytes = call.message.as_ref().map_or(0, Bytes::len);
    let bytes = names + call.metadata.bytes() + message_bytes;
    let token = state.callouts.begin(kind, state.root(), bytes)?;
    let whole = CallToken { vm: state.place.vm, token };
    if state.place.outside.grpc_open(whole, call).is_err() {
        state.callouts.end(token);
        // Envoy takes a name that it does not know for a service that does not parse.
        return Err(if is_plain { Status::ParseFailure } else { Status::InternalFailure });
    }
    Ok(token)
}

fn send(
    guest: &mut Guest<'_>,
    token: u32,
    message: u32,
    message_len: u32,
    is_last: u32,
) -> Outcome {
    let (memory, state) = guest.split()?;
    let message = read_body(memory, Slice(message, message_len))?;
    if Kind::of(token) != Some(Kind::GrpcStream) {
        return Err(Status::BadArgument.into());
    }
    let (whole, is_open) = find(state, token)?;
    if is_open {
        state.place.outside.grpc_send(whole, message, is_last != 0);
    }
    Ok(())
}

/// A call, and whether the other side still takes part in it.
fn find(state: &State, token: u32) -> Result<(CallToken, bool), Stop> {
    match Kind::of(token) {
        Some(Kind::GrpcCall | Kind::GrpcStream) => {}
        _ => return Err(Status::BadArgument.into()),
    }
    if !state.callouts.is_known(token) {
        return Err(Status::NotFound.into());
    }
    let whole = CallToken { vm: state.place.vm, token };
    Ok((whole, state.callouts.root_of(token).is_some()))
}

fn cancel(guest: &mut Guest<'_>, token: u32) -> Outcome {
    let state = guest.state();
    let (whole, is_open) = find(state, token)?;
    if is_open {
        state.place.outside.grpc_cancel(whole);
    }
    state.callouts.end(token);
    Ok(())
}

/// Ends a stream from this side; of a call, it is the same as to cancel it.
fn close(guest: &mut Guest<'_>, token: u32) -> Outcome {
    if Kind::of(token) != Some(Kind::GrpcStream) {
        return cancel(guest, token);
    }
    let state = guest.state();
    let (whole, _) = find(state, token)?;
    if state.callouts.end_local(token) {
        state.place.outside.grpc_close(whole);
    }
    Ok(())
}

/// The status of the call that the current callback is about, and what was said about it.
fn get_status(guest: &mut Guest<'_>, code: u32, at: u32, len: u32) -> Outcome {
    let found = guest.state().answer().map(|answer| answer.status.clone());
    let (status, message) = found.unwrap_or_default();
    guest.write_u32(code, status)?;
    guest.hand_out(message.as_bytes(), crate::vm::guest::Out(at, len))
}
