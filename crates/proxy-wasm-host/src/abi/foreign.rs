//! Functions that the host process adds to the ABI, by name.

use super::{Calls, ENV, define};
use crate::foreign::{Caller, ForeignFunction, Memory};
use crate::properties::Seen;
use crate::status::Status;
use crate::vm::State;
use crate::vm::guest::{Guest, Out, Outcome, Slice, read};
use crate::vm::state::Mode;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_call_foreign_function" => call,
            (name: u32, name_len: u32, arguments: u32, arguments_len: u32, at: u32, len: u32);
    });
    Ok(())
}

fn call(
    guest: &mut Guest<'_>,
    name: u32,
    name_len: u32,
    arguments: u32,
    arguments_len: u32,
    at: u32,
    len: u32,
) -> Outcome {
    let (memory, state) = guest.split()?;
    let name = read(memory, Slice(name, name_len))?;
    let arguments = read(memory, Slice(arguments, arguments_len))?;
    let process = state.place.process.clone();
    let known = std::str::from_utf8(name).ok().and_then(|name| process.functions.get(name));
    let function = known.ok_or(Status::NotFound)?;
    let results = run(state, function, arguments)?;
    match (at, len) {
        // Who names no place for the results does not want them.
        (0, 0) => Ok(()),
        (0, len) => guest.write_u32(len, u32::try_from(results.len()).unwrap_or(u32::MAX)),
        (at, len) => guest.hand_out(&results, Out(at, len)),
    }
}

/// Calls a function on behalf of the current context.
fn run(
    state: &mut State,
    function: &dyn ForeignFunction,
    arguments: &[u8],
) -> Result<Vec<u8>, Status> {
    let config = state.plugin().clone();
    let (root, stream) = state.contexts.both(state.current);
    // The machine itself, before its first root context, has nothing to keep.
    let mut none = Memory::default();
    let seen = stream.as_ref().map_or(Seen::default(), |stream| stream.seen());
    let mut exchange = stream.map(|stream| stream.context.exchange.borrow_mut());
    let mut caller = Caller {
        exchange: exchange.as_deref_mut(),
        config: &config,
        seen,
        memory: root.map_or(&mut none, |root| &mut root.memory),
    };
    function.call(&mut caller, arguments)
}
