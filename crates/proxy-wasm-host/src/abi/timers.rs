//! The time, and calls at intervals.

use super::{Calls, ENV, define};
use crate::vm::guest::{Guest, Outcome};
use crate::vm::state::Mode;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_set_tick_period_milliseconds" => set_tick_period, (ms: u32);
        "proxy_get_current_time_nanoseconds" => now, (time: u32);
    });
    Ok(())
}

/// Of the filter, also when a stream asks for it.
fn set_tick_period(guest: &mut Guest<'_>, ms: u32) -> Outcome {
    let state = guest.state();
    state.ticks.set(state.root(), ms, state.place.outside.monotonic_ns());
    // Whoever sleeps until the next tick that was known may have to wake earlier.
    state.place.process.wake(state.place.worker);
    Ok(())
}

fn now(guest: &mut Guest<'_>, time: u32) -> Outcome {
    let now = guest.state().place.outside.wall_ns();
    guest.write_u64(time, now)
}
