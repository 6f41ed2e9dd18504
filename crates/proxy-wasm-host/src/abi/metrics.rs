//! Metrics that filters count themselves.

use super::{Calls, ENV, define};
use crate::vm::guest::{Guest, Outcome, Slice, read_text};
use crate::vm::state::Mode;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_define_metric" => define_metric, (kind: u32, name: u32, bytes: u32, id: u32);
        "proxy_increment_metric" => increment, (id: u32, by: i64);
        "proxy_record_metric" => record, (id: u32, value: u64);
        "proxy_get_metric" => get, (id: u32, value: u32);
    });
    Ok(())
}

fn define_metric(guest: &mut Guest<'_>, kind: u32, name: u32, bytes: u32, id: u32) -> Outcome {
    let (memory, state) = guest.split()?;
    let name = read_text(memory, Slice(name, bytes))?;
    let found = state.metrics.define(&state.place.process.metrics, kind, &name)?;
    guest.write_u32(id, found)
}

fn increment(guest: &mut Guest<'_>, id: u32, by: i64) -> Outcome {
    Ok(guest.state().metrics.increment(id, by)?)
}

fn record(guest: &mut Guest<'_>, id: u32, value: u64) -> Outcome {
    Ok(guest.state().metrics.record(id, value)?)
}

fn get(guest: &mut Guest<'_>, id: u32, value: u32) -> Outcome {
    let found = guest.state().metrics.get(id)?;
    guest.write_u64(value, found)
}
