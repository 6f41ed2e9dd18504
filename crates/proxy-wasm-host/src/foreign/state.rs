//! Envoy's functions around what filters keep with an exchange: `declare_property`,
//! `set_envoy_filter_state` and `clear_route_cache`.

use super::{Caller, ForeignFunction};
use crate::properties::State;
use crate::protobuf::{Fields, Malformed, Wire};
use crate::status::Status;
use std::collections::HashMap;

/// The most properties that one root context may declare.
const DECLARED_MAX: usize = 1024;

/// The longest name of a declared property, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// What Envoy has a use for, by name.
const ENVOYS: [(&str, Wanted); 11] = [
    ("envoy.hashable_string", Wanted::Text),
    ("envoy.network.application_protocols", Wanted::Hidden),
    ("envoy.network.network_namespace", Wanted::Text),
    ("envoy.network.upstream_server_name", Wanted::Text),
    ("envoy.network.upstream_subject_alt_names", Wanted::Text),
    ("envoy.ratelimit.hits_addend", Wanted::Number(u32::MAX)),
    ("envoy.string", Wanted::Text),
    ("envoy.tcp_proxy.cluster", Wanted::Text),
    ("envoy.tcp_proxy.per_connection_idle_timeout_ms", Wanted::Number(u32::MAX)),
    ("envoy.upstream.dynamic_host", Wanted::Text),
    ("envoy.upstream.dynamic_port", Wanted::Number(u16::MAX as u32)),
];

/// What a value of Envoy's has to be.
#[derive(Clone, Copy)]
enum Wanted {
    Text,
    /// Text that nobody can read back.
    Hidden,
    /// A number up to this.
    Number(u32),
}

/// How the properties of a root context are kept, where that was declared.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    by_name: HashMap<Vec<u8>, Kind>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    is_text: bool,
    is_read_only: bool,
}

/// Says how a property is kept: `{ name = 1, readonly = 2, type = 3, schema = 4, span = 5 }`.
///
/// Properties live as long as their exchange, whatever span is asked for; bytes of a schema
/// are bytes.
pub(super) struct DeclareProperty;

/// Sets one of Envoy's own values: `{ path = 1, value = 2, span = 3 }`.
///
/// Filters read it back; no proxy here acts on it. Names that Envoy has no use for are not
/// found.
pub(super) struct SetEnvoyFilterState;

/// Makes Envoy choose a route anew. Here no routes are remembered.
pub(super) struct ClearRouteCache;

impl Declared {
    /// What a filter sets by this path, kept as it was declared.
    pub(crate) fn state(&self, path: &[u8], value: &[u8]) -> State {
        let kind = self.by_name.get(path).copied().unwrap_or_default();
        State { value: value.into(), is_text: kind.is_text, is_read_only: kind.is_read_only }
    }

    fn add(&mut self, name: &[u8], kind: Kind) -> Result<(), Status> {
        if self.by_name.contains_key(name) {
            return Err(Status::BadArgument);
        }
        if self.by_name.len() >= DECLARED_MAX || name.len() > NAME_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        self.by_name.insert(name.into(), kind);
        Ok(())
    }
}

impl ForeignFunction for DeclareProperty {
    fn call(&self, caller: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        /// Of Envoy's types: bytes, text, flat buffers, protobuf.
        const TEXT: u64 = 1;
        let (mut name, mut kind) = (&[][..], Kind::default());
        for field in Fields::new(arguments) {
            match field? {
                (1, Wire::Bytes(bytes)) => name = text(bytes)?.as_bytes(),
                (2, Wire::Varint(is)) => kind.is_read_only = is != 0,
                (3, Wire::Varint(number)) => kind.is_text = number == TEXT,
                _ => {}
            }
        }
        // As in Envoy, what a stream's context declares is heard and not heeded.
        if caller.exchange.is_none() {
            caller.memory.declared.add(name, kind)?;
        }
        Ok(Vec::new())
    }
}

impl ForeignFunction for SetEnvoyFilterState {
    fn call(&self, caller: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        let (mut path, mut value) = ("", "");
        for field in Fields::new(arguments) {
            match field? {
                (1, Wire::Bytes(bytes)) => path = text(bytes)?,
                (2, Wire::Bytes(bytes)) => value = text(bytes)?,
                _ => {}
            }
        }
        let known = ENVOYS.iter().find(|(name, _)| *name == path);
        let (_, wanted) = known.ok_or(Status::NotFound)?;
        if let Wanted::Number(max) = wanted
            && value.parse::<u32>().map_or(true, |number| number > *max)
        {
            return Err(Status::BadArgument);
        }
        let exchange = caller.exchange.as_deref_mut().ok_or(Status::NotFound)?;
        if matches!(wanted, Wanted::Hidden) {
            return Ok(Vec::new());
        }
        let state = State { value: value.into(), is_text: false, is_read_only: false };
        match exchange.filter_state.set(path.into(), state) {
            Status::Ok => Ok(Vec::new()),
            status => Err(status),
        }
    }
}

impl ForeignFunction for ClearRouteCache {
    fn call(&self, _: &mut Caller<'_>, _: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(Vec::new())
    }
}

/// Text of a message, which is UTF-8 or makes the message malformed.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Status> {
    std::str::from_utf8(bytes).map_err(|_| Status::BadArgument)
}

impl From<Malformed> for Status {
    fn from(_: Malformed) -> Self {
        Self::BadArgument
    }
}

#[cfg(test)]
mod tests;
