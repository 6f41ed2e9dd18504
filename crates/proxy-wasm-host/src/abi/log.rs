//! What filters have to say.

use super::{Calls, ENV, define};
use crate::outside::Level;
use crate::status::Status;
use crate::vm::State;
use crate::vm::guest::{Guest, Outcome, Slice, read};
use crate::vm::state::Mode;

/// The most bytes of a message that are passed on; a line is for people to read.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Allocating, {
        "proxy_log" => log, (level: u32, text: u32, bytes: u32);
    });
    define!(calls, ENV, Mode::Running, {
        "proxy_get_log_level" => get_log_level, (level: u32);
    });
    Ok(())
}

fn log(guest: &mut Guest<'_>, level: u32, text: u32, bytes: u32) -> Outcome {
    let level = match level {
        0 => Level::Trace,
        1 => Level::Debug,
        2 => Level::Info,
        3 => Level::Warn,
        4 => Level::Error,
        5 => Level::Critical,
        _ => return Err(Status::BadArgument.into()),
    };
    let (memory, state) = guest.split()?;
    say(state, level, read(memory, Slice(text, bytes))?);
    Ok(())
}

/// Passes a message on, if anybody wants it.
pub(super) fn say(state: &State, level: Level, text: &[u8]) {
    let outside = &state.place.outside;
    if level >= outside.log_level() {
        let text = text.get(..LINE_BYTES_MAX).unwrap_or(text);
        outside.log(&state.plugin().name, level, &String::from_utf8_lossy(text));
    }
}

fn get_log_level(guest: &mut Guest<'_>, level: u32) -> Outcome {
    let known = guest.state().place.outside.log_level() as u32;
    guest.write_u32(level, known)
}
