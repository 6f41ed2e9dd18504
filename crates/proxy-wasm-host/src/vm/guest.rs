//! The module's side of a host call: its memory, its allocator, and what a call comes to.
//!
//! Pointers and lengths are a module's word for it: each is looked at before it is used, and
//! a bad one is a status of the call, never a trap and never a panic.

use super::state::{Mode, State};
use crate::status::Status;
use bytes::Bytes;
use wasmtime::{Caller, Extern, Memory};

/// Why a call did not go through.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The module gets to know.
    Status(Status),
    /// The module has failed.
    Trap(wasmtime::Error),
}

/// What a host call comes to; what it has to say it has written to the module's memory.
pub(crate) type Outcome = Result<(), Stop>;

/// A part of a module's memory: where it begins and how many bytes it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice(pub(crate) u32, pub(crate) u32);

/// Where a call writes the address and the length of what it hands out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out(pub(crate) u32, pub(crate) u32);

/// The module that makes a call.
pub(crate) struct Guest<'a> {
    caller: Caller<'a, State>,
}

impl<'a> Guest<'a> {
    pub(crate) fn new(caller: Caller<'a, State>) -> Self {
        Self { caller }
    }

    pub(crate) fn state(&mut self) -> &mut State {
        self.caller.data_mut()
    }

    /// The module's memory and what is known of the module.
    pub(crate) fn split(&mut self) -> Result<(&mut [u8], &mut State), Stop> {
        let memory = match self.caller.data().memory {
            Some(memory) => memory,
            None => self.find_memory()?,
        };
        Ok(memory.data_and_store_mut(&mut self.caller))
    }

    /// While the module's own start function runs, there is no instance yet to know it by.
    fn find_memory(&mut self) -> Result<Memory, Stop> {
        match self.caller.get_export("memory") {
            Some(Extern::Memory(memory)) => Ok(memory),
            _ => Err(Status::InvalidMemoryAccess.into()),
        }
    }

    /// Hands bytes out: in memory that the module's allocator gives for them. Of nothing at
    /// all the address is 0.
    pub(crate) fn hand_out(&mut self, bytes: &[u8], out: Out) -> Outcome {
        let at = if bytes.is_empty() { 0 } else { self.allocate(bytes.len())? };
        let (memory, _) = self.split()?;
        write(memory, at, bytes)?;
        write_u32(memory, out.0, at)?;
        write_u32(memory, out.1, len_u32(bytes)?)
    }

    fn allocate(&mut self, bytes: usize) -> Result<u32, Stop> {
        let bytes = u32::try_from(bytes).map_err(|_| Status::InvalidMemoryAccess)?;
        let state = self.caller.data_mut();
        // Taken out rather than cloned: a clone counts references, and this is often.
        let Some(allocator) = state.allocator.take() else {
            return Err(Status::InvalidMemoryAccess.into());
        };
        let before = std::mem::replace(&mut state.mode, Mode::Allocating);
        let found = allocator.call(&mut self.caller, (bytes,));
        let state = self.caller.data_mut();
        state.mode = before;
        state.allocator = Some(allocator);
        match found.map_err(Stop::Trap)? {
            0 => Err(Status::InvalidMemoryAccess.into()),
            at => Ok(at),
        }
    }

    pub(crate) fn write_u32(&mut self, at: u32, value: u32) -> Outcome {
        write_u32(self.split()?.0, at, value)
    }

    pub(crate) fn write_u64(&mut self, at: u32, value: u64) -> Outcome {
        write(self.split()?.0, at, &value.to_le_bytes())
    }
}

/// A part of memory, if all of it is there.
pub(crate) fn read(memory: &[u8], Slice(at, bytes): Slice) -> Result<&[u8], Stop> {
    let from = at as usize;
    let found = from.checked_add(bytes as usize).and_then(|to| memory.get(from..to));
    found.ok_or(Stop::Status(Status::InvalidMemoryAccess))
}

/// The longest text that a call takes, in bytes: names, and details of a reply. Envoy knows no
/// bound; here they are copied and kept.
pub(crate) const TEXT_BYTES_MAX: usize = 64 << 10;

/// The most bytes of a body or message that a filter makes itself: many times what a chain
/// holds of one otherwise.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 20;

/// Text, with what is no UTF-8 replaced.
pub(crate) fn read_text(memory: &[u8], slice: Slice) -> Result<String, Stop> {
    if slice.1 as usize > TEXT_BYTES_MAX {
        read(memory, slice)?;
        return Err(Status::BadArgument.into());
    }
    Ok(String::from_utf8_lossy(read(memory, slice)?).into_owned())
}

/// A body or a message.
pub(crate) fn read_body(memory: &[u8], slice: Slice) -> Result<Bytes, Stop> {
    let body = read(memory, slice)?;
    if body.len() > BODY_BYTES_MAX {
        return Err(Status::BadArgument.into());
    }
    Ok(Bytes::copy_from_slice(body))
}

pub(crate) fn write(memory: &mut [u8], at: u32, bytes: &[u8]) -> Outcome {
    let from = at as usize;
    let to = from.checked_add(bytes.len()).and_then(|to| memory.get_mut(from..to));
    to.ok_or(Status::InvalidMemoryAccess)?.copy_from_slice(bytes);
    Ok(())
}

pub(crate) fn write_u32(memory: &mut [u8], at: u32, value: u32) -> Outcome {
    write(memory, at, &value.to_le_bytes())
}

pub(crate) fn len_u32(bytes: &[u8]) -> Result<u32, Stop> {
    u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess.into())
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}
