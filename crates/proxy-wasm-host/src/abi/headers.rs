//! Header maps: of the stream, and of answers to calls.

use super::{Calls, ENV, define};
use crate::engine::Version;
use crate::maps::{ENCODED_BYTES_MAX, FIELDS_MAX, HeaderMap};
use crate::status::Status;
use crate::vm::State;
use crate::vm::guest::{Guest, Out, Outcome, Slice, Stop, read};
use crate::vm::state::{MapKind, Mode};
use bytes::Bytes;

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    define!(calls, ENV, Mode::Running, {
        "proxy_get_header_map_value" => get, (map: u32, name: u32, bytes: u32, at: u32, len: u32);
        "proxy_add_header_map_value" => add, (map: u32, name: u32, bytes: u32, value: u32, len: u32);
        "proxy_replace_header_map_value" => replace,
            (map: u32, name: u32, bytes: u32, value: u32, len: u32);
        "proxy_remove_header_map_value" => remove, (map: u32, name: u32, bytes: u32);
        "proxy_get_header_map_pairs" => get_pairs, (map: u32, at: u32, len: u32);
        "proxy_set_header_map_pairs" => set_pairs, (map: u32, pairs: u32, bytes: u32);
        "proxy_get_header_map_size" => size, (map: u32, bytes: u32);
    });
    Ok(())
}

/// A map as the ABI numbers them.
#[derive(Clone, Copy)]
enum Map {
    OfStream(MapKind),
    OfAnswer(usize),
}

impl Map {
    fn of(number: u32) -> Result<Self, Stop> {
        Ok(match number {
            0 => Self::OfStream(MapKind::RequestHeaders),
            1 => Self::OfStream(MapKind::RequestTrailers),
            2 => Self::OfStream(MapKind::ResponseHeaders),
            3 => Self::OfStream(MapKind::ResponseTrailers),
            4..=7 => Self::OfAnswer(number as usize - 4),
            _ => return Err(Status::BadArgument.into()),
        })
    }

    /// The name under which a field is kept: a request's `host` is its `:authority`.
    fn known_as(self, name: &[u8]) -> &[u8] {
        let is_request = matches!(self, Self::OfStream(MapKind::RequestHeaders));
        if is_request && name.eq_ignore_ascii_case(b"host") { b":authority" } else { name }
    }

    /// Looks at the map, if it is there for the current context.
    fn look<R>(self, state: &State, look: impl FnOnce(&HeaderMap) -> R) -> Option<R> {
        match self {
            Self::OfStream(kind) => {
                let stream = state.stream().filter(|stream| stream.may_read(kind))?;
                let exchange = stream.context.exchange.borrow();
                kind.of(&exchange).as_ref().map(look)
            }
            Self::OfAnswer(number) => state.answer()?.maps.get(number)?.as_ref().map(look),
        }
    }

    /// Changes the map, if the current context may. What it makes must be within the bounds
    /// of what a filter may hand over.
    fn change(self, state: &mut State, change: impl FnOnce(&mut HeaderMap)) -> Outcome {
        let Self::OfStream(kind) = self else { return Err(Status::BadArgument.into()) };
        let stream = state.stream_mut().ok_or(Status::BadArgument)?;
        stream.change(kind, change).ok_or(Status::BadArgument.into())
    }
}

fn get(guest: &mut Guest<'_>, map: u32, name: u32, bytes: u32, at: u32, len: u32) -> Outcome {
    let map = Map::of(map)?;
    let (memory, state) = guest.split()?;
    let name = read(memory, Slice(name, bytes))?;
    match map.look(state, |fields| fields.get(map.known_as(name)).cloned()) {
        Some(Some(value)) => guest.hand_out(&value, Out(at, len)),
        Some(None) => absent(guest, Out(at, len)),
        None if state.stream().is_some_and(|stream| stream.is_logging) => {
            absent(guest, Out(at, len))
        }
        None => Err(Status::BadArgument.into()),
    }
}

/// Modules of 0.1.0 take a header that is not there for an empty one.
fn absent(guest: &mut Guest<'_>, out: Out) -> Outcome {
    if guest.state().version == Version::V0_1_0 {
        return guest.hand_out(&[], out);
    }
    Err(Status::NotFound.into())
}

fn add(guest: &mut Guest<'_>, map: u32, name: u32, bytes: u32, value: u32, len: u32) -> Outcome {
    write(guest, map, Slice(name, bytes), Slice(value, len), HeaderMap::add)
}

fn replace(
    guest: &mut Guest<'_>,
    map: u32,
    name: u32,
    bytes: u32,
    value: u32,
    len: u32,
) -> Outcome {
    write(guest, map, Slice(name, bytes), Slice(value, len), HeaderMap::replace)
}

fn write(
    guest: &mut Guest<'_>,
    map: u32,
    name: Slice,
    value: Slice,
    write: impl FnOnce(&mut HeaderMap, Bytes, Bytes),
) -> Outcome {
    let map = Map::of(map)?;
    let (memory, state) = guest.split()?;
    let name = Bytes::copy_from_slice(map.known_as(read(memory, name)?));
    let value = Bytes::copy_from_slice(read(memory, value)?);
    let (fields, bytes) = map.look(state, |map| (map.len(), map.bytes())).unwrap_or_default();
    // Envoy bounds what comes and goes by wire, not what filters add in between.
    if fields >= FIELDS_MAX || bytes + name.len() + value.len() > ENCODED_BYTES_MAX {
        return Err(Status::BadArgument.into());
    }
    map.change(state, |map| write(map, name, value))
}

fn remove(guest: &mut Guest<'_>, map: u32, name: u32, bytes: u32) -> Outcome {
    let map = Map::of(map)?;
    let (memory, state) = guest.split()?;
    let name = read(memory, Slice(name, bytes))?;
    map.change(state, |fields| fields.remove(map.known_as(name)))
}

/// All fields; of a map that is not there, as of an empty one, nothing.
fn get_pairs(guest: &mut Guest<'_>, map: u32, at: u32, len: u32) -> Outcome {
    let map = Map::of(map)?;
    let state = guest.state();
    let mut pairs = std::mem::take(&mut state.scratch);
    pairs.clear();
    map.look(state, |map| {
        if !map.is_empty() {
            map.encode(&mut pairs);
        }
    });
    let outcome = guest.hand_out(&pairs, Out(at, len));
    guest.state().scratch = pairs;
    outcome
}

fn set_pairs(guest: &mut Guest<'_>, map: u32, pairs: u32, bytes: u32) -> Outcome {
    let map = Map::of(map)?;
    let (memory, state) = guest.split()?;
    let pairs = decode(memory, Slice(pairs, bytes))?;
    map.change(state, |map| *map = pairs)
}

/// The fields that a module encoded. What is no encoding counts as no fields, as in Envoy.
pub(super) fn decode(memory: &[u8], pairs: Slice) -> Result<HeaderMap, Stop> {
    Ok(HeaderMap::decode(read(memory, pairs)?).unwrap_or_default())
}

fn size(guest: &mut Guest<'_>, map: u32, bytes: u32) -> Outcome {
    let map @ Map::OfStream(_) = Map::of(map)? else { return Err(Status::BadArgument.into()) };
    let size = map.look(guest.state(), HeaderMap::bytes).ok_or(Status::BadArgument)?;
    guest.write_u32(bytes, u32::try_from(size).unwrap_or(u32::MAX))
}
