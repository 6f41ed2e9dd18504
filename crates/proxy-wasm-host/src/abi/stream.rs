//! What a filter lets happen to its stream: go on, close, be answered.

use super::headers::decode;
use super::{Calls, ENV, define};
use crate::status::Status;
use crate::vm::guest::{Guest, Outcome, Slice, read_body, read_text};
use crate::vm::state::{MapKind, Mode};
use crate::vm::{Effect, LocalReply, StreamKind};

/// The highest status that gRPC knows.
const GRPC_STATUS_MAX: u32 = 16;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_continue_stream" => continue_stream, (stream: u32);
        "proxy_close_stream" => close_stream, (stream: u32);
        "proxy_continue_request" => continue_request, ();
        "proxy_continue_response" => continue_response, ();
        "proxy_clear_route_cache" => clear_route_cache, ();
        "proxy_send_local_response" => reply,
            (status: u32, details: u32, details_len: u32, body: u32, body_len: u32,
             headers: u32, headers_len: u32, grpc_status: u32);
        "proxy_set_effective_context" => set_effective_context, (id: u32);
        "proxy_done" => done, ();
    });
    Ok(())
}

fn continue_stream(guest: &mut Guest<'_>, stream: u32) -> Outcome {
    match stream {
        0 => continue_request(guest),
        1 => continue_response(guest),
        2 => tell(guest, StreamKind::Tcp, Effect::ContinueDownstream),
        3 => Err(Status::Unimplemented.into()),
        _ => Err(Status::BadArgument.into()),
    }
}

fn continue_request(guest: &mut Guest<'_>) -> Outcome {
    resume(guest, Effect::ContinueRequest)
}

fn continue_response(guest: &mut Guest<'_>) -> Outcome {
    resume(guest, Effect::ContinueResponse)
}

/// What a filter saw of the request as long as it paused it does not see after that; Envoy
/// forgets the request's side whichever side goes on.
fn resume(guest: &mut Guest<'_>, effect: Effect) -> Outcome {
    tell(guest, StreamKind::Http, effect)?;
    if let Some(stream) = guest.state().stream_mut() {
        stream.shown.hide(MapKind::RequestHeaders);
        stream.shown.hide(MapKind::RequestTrailers);
    }
    Ok(())
}

fn close_stream(guest: &mut Guest<'_>, stream: u32) -> Outcome {
    match stream {
        0 => tell(guest, StreamKind::Http, Effect::CloseRequest),
        1 => tell(guest, StreamKind::Http, Effect::CloseResponse),
        2 => tell(guest, StreamKind::Tcp, Effect::CloseDownstream),
        3 => tell(guest, StreamKind::Tcp, Effect::CloseUpstream),
        _ => Err(Status::BadArgument.into()),
    }
}

/// Notes what the stream is to do, if it is of that kind. For a root context, and for a
/// stream of the other kind, it means nothing.
fn tell(guest: &mut Guest<'_>, kind: StreamKind, effect: Effect) -> Outcome {
    let state = guest.state();
    if state.stream().is_some_and(|stream| stream.context.kind == kind) {
        state.tell(effect);
    }
    Ok(())
}

/// There are no routes here that a changed request could be given anew.
fn clear_route_cache(_guest: &mut Guest<'_>) -> Outcome {
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The ABI's, not ours.
fn reply(
    guest: &mut Guest<'_>,
    status: u32,
    details: u32,
    details_len: u32,
    body: u32,
    body_len: u32,
    headers: u32,
    headers_len: u32,
    grpc_status: u32,
) -> Outcome {
    let (memory, state) = guest.split()?;
    let details = read_text(memory, Slice(details, details_len))?;
    let body = read_body(memory, Slice(body, body_len))?;
    let headers = decode(memory, Slice(headers, headers_len))?;
    state.reply(LocalReply {
        status,
        details: details.replace(char::is_whitespace, "_"),
        headers,
        body,
        grpc_status: Some(grpc_status).filter(|status| *status <= GRPC_STATUS_MAX),
    });
    Ok(())
}

fn set_effective_context(guest: &mut Guest<'_>, id: u32) -> Outcome {
    let state = guest.state();
    // 0 is the machine itself.
    if id != 0 && !state.contexts.is_known(id) {
        return Err(Status::BadArgument.into());
    }
    state.current = if id == 0 { state.called } else { id };
    Ok(())
}

fn done(guest: &mut Guest<'_>) -> Outcome {
    let state = guest.state();
    if state.end_current() { Ok(()) } else { Err(Status::NotFound.into()) }
}
