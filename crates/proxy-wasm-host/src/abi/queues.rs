//! Queues between machines, of one `vm_id` or of several.

use super::{Calls, ENV, define};
use crate::shared::queues::Listener;
use crate::status::Status;
use crate::vm::guest::{Guest, Out, Outcome, Slice, read, read_text};
use crate::vm::state::Mode;
use bytes::Bytes;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_register_shared_queue" => register, (name: u32, bytes: u32, token: u32);
        "proxy_resolve_shared_queue" => resolve,
            (vm_id: u32, vm_id_len: u32, name: u32, bytes: u32, token: u32);
        "proxy_enqueue_shared_queue" => enqueue, (token: u32, value: u32, bytes: u32);
        "proxy_dequeue_shared_queue" => dequeue, (token: u32, at: u32, len: u32);
    });
    Ok(())
}

/// It is the filter that is told, not the stream on whose behalf it registers.
fn register(guest: &mut Guest<'_>, name: u32, bytes: u32, token: u32) -> Outcome {
    let (memory, state) = guest.split()?;
    let name = read_text(memory, Slice(name, bytes))?;
    let (worker, vm) = (state.place.worker, state.place.vm);
    let who = Listener { worker, vm, root: state.root() };
    let found = state.place.process.queues.register(&state.config.vm_id, &name, who)?;
    guest.write_u32(token, found)
}

fn resolve(
    guest: &mut Guest<'_>,
    vm_id: u32,
    vm_id_len: u32,
    name: u32,
    bytes: u32,
    token: u32,
) -> Outcome {
    let (memory, state) = guest.split()?;
    let vm_id = read_text(memory, Slice(vm_id, vm_id_len))?;
    let name = read_text(memory, Slice(name, bytes))?;
    let vm_id = if vm_id.is_empty() { &state.config.vm_id } else { &vm_id };
    let found = state.place.process.queues.resolve(vm_id, &name).ok_or(Status::NotFound)?;
    guest.write_u32(token, found)
}

fn enqueue(guest: &mut Guest<'_>, token: u32, value: u32, bytes: u32) -> Outcome {
    let (memory, state) = guest.split()?;
    let value = Bytes::copy_from_slice(read(memory, Slice(value, bytes))?);
    if let Some(listener) = state.place.process.queues.enqueue(token, value)? {
        state.place.process.notify(listener, token);
    }
    Ok(())
}

fn dequeue(guest: &mut Guest<'_>, token: u32, at: u32, len: u32) -> Outcome {
    let value = guest.state().place.process.queues.dequeue(token)?;
    guest.hand_out(&value, Out(at, len))
}
