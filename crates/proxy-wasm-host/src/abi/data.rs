//! Data that all machines of a `vm_id` share.

use super::{Calls, ENV, define};
use crate::status::Status;
use crate::vm::guest::{Guest, Out, Outcome, Slice, read};
use crate::vm::state::Mode;
use bytes::Bytes;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_get_shared_data" => get, (key: u32, bytes: u32, at: u32, len: u32, cas: u32);
        "proxy_set_shared_data" => set, (key: u32, bytes: u32, value: u32, len: u32, cas: u32);
    });
    Ok(())
}

fn get(guest: &mut Guest<'_>, key: u32, bytes: u32, at: u32, len: u32, cas: u32) -> Outcome {
    let (memory, state) = guest.split()?;
    let key = read(memory, Slice(key, bytes))?;
    let found = state.place.process.data.get(&state.config.vm_id, key);
    let (value, version) = found.ok_or(Status::NotFound)?;
    guest.hand_out(&value, Out(at, len))?;
    guest.write_u32(cas, version)
}

fn set(guest: &mut Guest<'_>, key: u32, bytes: u32, value: u32, len: u32, cas: u32) -> Outcome {
    let (memory, state) = guest.split()?;
    let key = read(memory, Slice(key, bytes))?;
    let value = Bytes::copy_from_slice(read(memory, Slice(value, len))?);
    Ok(state.place.process.data.set(&state.config.vm_id, key, value, cas)?)
}
