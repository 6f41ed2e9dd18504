//! Properties: what is known of an exchange, by path.

use super::{Calls, ENV, define};
use crate::properties::{self, Seen, View};
use crate::status::Status;
use crate::vm::State;
use crate::vm::guest::{Guest, Out, Outcome, Slice, read};
use crate::vm::state::Mode;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_get_property" => get, (path: u32, bytes: u32, at: u32, len: u32);
        "proxy_set_property" => set, (path: u32, bytes: u32, value: u32, len: u32);
    });
    Ok(())
}

fn get(guest: &mut Guest<'_>, path: u32, bytes: u32, at: u32, len: u32) -> Outcome {
    let (memory, state) = guest.split()?;
    let value = property(state, read(memory, Slice(path, bytes))?)?;
    guest.hand_out(&value, Out(at, len))
}

/// A property as the current context sees it.
fn property(state: &State, path: &[u8]) -> Result<Vec<u8>, Status> {
    let config = state.plugin();
    let Some(stream) = state.stream() else {
        return properties::get(path, &View { exchange: None, config, seen: Seen::default() });
    };
    let exchange = stream.context.exchange.borrow();
    properties::get(path, &View { exchange: Some(&exchange), config, seen: stream.seen() })
}

/// Properties are a stream's: a root context has none to set.
fn set(guest: &mut Guest<'_>, path: u32, bytes: u32, value: u32, len: u32) -> Outcome {
    let (memory, state) = guest.split()?;
    let path = read(memory, Slice(path, bytes))?;
    let value = read(memory, Slice(value, len))?;
    let (Some(root), Some(stream)) = state.contexts.both(state.current) else {
        return Err(Status::NotFound.into());
    };
    match properties::set(&mut stream.context.exchange.borrow_mut(), &root.memory, path, value) {
        Status::Ok => Ok(()),
        status => Err(status.into()),
    }
}
