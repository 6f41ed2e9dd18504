//! Bodies, and other bytes of which a filter may want only a part.

use super::{Calls, ENV, define};
use crate::status::Status;
use crate::vm::guest::{BODY_BYTES_MAX, Guest, Out, Outcome, Slice, Stop, read};
use crate::vm::state::Mode;
use crate::vm::{State, StreamKind};
use bytes::Bytes;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_get_buffer_bytes" => get, (buffer: u32, start: u32, max: u32, at: u32, len: u32);
        "proxy_get_buffer_status" => status, (buffer: u32, bytes: u32, flags: u32);
        "proxy_set_buffer_bytes" => set, (buffer: u32, start: u32, len: u32, data: u32, bytes: u32);
        "proxy_get_configuration" => get_configuration, (at: u32, len: u32);
    });
    Ok(())
}

fn get(guest: &mut Guest<'_>, buffer: u32, start: u32, max: u32, at: u32, len: u32) -> Outcome {
    let whole = find(guest.state(), buffer)?;
    let (start, max) = (start as usize, max as usize);
    let start = start.min(whole.len());
    let end = start.saturating_add(max).min(whole.len());
    guest.hand_out(whole.get(start..end).unwrap_or_default(), Out(at, len))
}

fn status(guest: &mut Guest<'_>, buffer: u32, bytes: u32, flags: u32) -> Outcome {
    let whole = find(guest.state(), buffer)?;
    guest.write_u32(bytes, u32::try_from(whole.len()).unwrap_or(u32::MAX))?;
    guest.write_u32(flags, 0)
}

/// What a buffer holds. One that is not there now is empty, but for two that are not found.
fn find(state: &State, buffer: u32) -> Result<Bytes, Stop> {
    let found = match buffer {
        0..=3 => state.stream().and_then(|stream| {
            let (is_request, kind) = direction(buffer);
            let buffers = stream.context.buffers.borrow();
            let part = if is_request { &buffers.request } else { &buffers.response };
            part.clone().filter(|_| stream.context.kind == kind)
        }),
        4 => {
            let body = state.answer().and_then(|answer| answer.http_body.clone());
            return body.ok_or(Status::NotFound.into());
        }
        5 => state.answer().and_then(|answer| answer.grpc_message.clone()),
        6 => Some(Bytes::copy_from_slice(&state.config.vm_configuration)),
        7 => return plugin_configuration(state).ok_or(Status::NotFound.into()),
        8 => None,
        _ => return Err(Status::BadArgument.into()),
    };
    Ok(found.unwrap_or_default())
}

/// Only while it is being configured.
fn plugin_configuration(state: &State) -> Option<Bytes> {
    (state.configuring? == state.current)
        .then(|| Bytes::copy_from_slice(&state.plugin().configuration))
}

fn direction(buffer: u32) -> (bool, StreamKind) {
    let kind = if buffer < 2 { StreamKind::Http } else { StreamKind::Tcp };
    (buffer.is_multiple_of(2), kind)
}

/// Replaces a beginning, or appends; in the middle of a body nothing can be changed.
fn set(guest: &mut Guest<'_>, buffer: u32, start: u32, len: u32, data: u32, bytes: u32) -> Outcome {
    let (memory, state) = guest.split()?;
    // Before the pointers, as in Envoy: a buffer that is not found is not found.
    find(state, buffer)?;
    let data = read(memory, Slice(data, bytes))?;
    if buffer > 3 {
        return Err(Status::BadArgument.into());
    }
    let stream = state.stream().ok_or(Status::BadArgument)?;
    let (is_request, kind) = direction(buffer);
    let mut buffers = stream.context.buffers.borrow_mut();
    let part = if is_request { &mut buffers.request } else { &mut buffers.response };
    let part = part.as_mut().filter(|_| stream.context.kind == kind).ok_or(Status::BadArgument)?;
    let (start, len) = (start as usize, len as usize);
    let (before, after) = if start == 0 {
        (data, part.get(len.min(part.len())..).unwrap_or_default())
    } else if start >= part.len() {
        (&**part, data)
    } else {
        return Err(Status::BadArgument.into());
    };
    if before.len() + after.len() > BODY_BYTES_MAX {
        return Err(Status::BadArgument.into());
    }
    *part = if after.is_empty() {
        Bytes::copy_from_slice(before)
    } else {
        [before, after].concat().into()
    };
    Ok(())
}

/// Of 0.1.0: the configuration that is at hand.
fn get_configuration(guest: &mut Guest<'_>, at: u32, len: u32) -> Outcome {
    let state = guest.state();
    let found = plugin_configuration(state);
    let found = found.unwrap_or_else(|| Bytes::copy_from_slice(&state.config.vm_configuration));
    guest.hand_out(&found, Out(at, len))
}
