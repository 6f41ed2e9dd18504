//! Properties: what filters ask of an exchange by path, with Envoy's names and encodings.
//!
//! A path is parts with a NUL between them: `request`, `path`. The first names a group of
//! facts, or a value that a filter set itself; each further part leads into it. Numbers, times
//! and lengths of time are eight bytes, little-endian; texts are themselves; maps are encoded
//! as header maps are; messages are protobuf.
//!
//! Followed here is Envoy 1.40, as measured. What it answers to a group as a whole
//! (`SerializationFailure`) and to what is not there (`NotFound`) filters take for what it is.
//! One thing is added: the names without `xds` that it gave up (`node`, `cluster_name`, …)
//! still lead where they led, since older filters ask by them.

mod groups;
mod message;
mod state;
#[cfg(test)]
mod tests;
mod value;

use crate::exchange::Exchange;
use crate::foreign::Memory;
use crate::plugin::PluginConfig;
use crate::status::Status;
use std::borrow::Cow;

pub(crate) use groups::Group;
pub use state::FilterState;
pub(crate) use state::State;
pub(crate) use value::{Value, encode_pairs, joined};

/// What one context sees now.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// Not in a root context.
    pub(crate) exchange: Option<&'a Exchange>,
    pub(crate) config: &'a PluginConfig,
    pub(crate) seen: Seen,
}

/// Which of an exchange's maps a context sees now: those whose callback is running or paused,
/// and all of them while it logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) request_headers: bool,
    pub(crate) response_headers: bool,
    pub(crate) response_trailers: bool,
}

impl Seen {
    /// What is seen in `proxy_on_log`.
    pub(crate) const ALL: Self =
        Self { request_headers: true, response_headers: true, response_trailers: true };
}

/// `proxy_get_property`.
///
/// # Errors
///
/// `NotFound` for what is not there, or not in this phase; `SerializationFailure` for a whole
/// group, or nothing at all.
pub(crate) fn get(path: &[u8], view: &View<'_>) -> Result<Vec<u8>, Status> {
    if path.is_empty() {
        return Err(Status::SerializationFailure);
    }
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let mut parts = path.split(|byte| *byte == 0);
    let mut value = top(parts.next().unwrap_or_default(), view).ok_or(Status::NotFound)?;
    for part in parts {
        value = value.part(part, view).ok_or(Status::NotFound)?;
    }
    let mut encoded = Vec::new();
    value.encode(&mut encoded)?;
    Ok(encoded)
}

/// `proxy_set_property`: keeps a value with the exchange, for all its filters to read by the
/// same path. It never covers a property that the proxy knows. As in Envoy, a path of several
/// parts is kept but cannot be read.
///
/// In a root context there is nothing to keep it with: that is `NotFound`.
pub(crate) fn set(exchange: &mut Exchange, memory: &Memory, path: &[u8], value: &[u8]) -> Status {
    let state = memory.declared.state(path, value);
    exchange.filter_state.set([state::PREFIX, path].concat(), state)
}

/// What a path's first part names.
pub(crate) fn top<'a>(name: &[u8], view: &View<'a>) -> Option<Value<'a>> {
    if let Some(group) = Group::named(name) {
        return (group == Group::Xds || group.is_there(view)).then_some(Value::Group(group));
    }
    let text = |text: &'a str| Some(Value::Text(Cow::Borrowed(text.as_bytes())));
    match name {
        b"plugin_name" => text(&view.config.name),
        b"plugin_root_id" => text(&view.config.root_id),
        b"plugin_vm_id" => text(&view.config.vm_id),
        b"connection_id" => Some(Value::Uint(view.exchange?.facts.connection.id)),
        b"metadata" => {
            let noted = Some(&view.exchange?.facts.metadata);
            Some(Value::Message(message::Message::Metadata(noted)))
        }
        _ => own(name, view).or_else(|| former(name, view)),
    }
}

/// What a filter set.
fn own<'a>(name: &[u8], view: &View<'a>) -> Option<Value<'a>> {
    let state = view.exchange?.filter_state.get(&[state::PREFIX, name].concat())?;
    Some(state.value())
}

/// What Envoy knew by this name until it moved it under `xds`.
fn former<'a>(name: &[u8], view: &View<'a>) -> Option<Value<'a>> {
    const FORMER: [&[u8]; 8] = [
        b"node",
        b"cluster_name",
        b"cluster_metadata",
        b"route_name",
        b"route_metadata",
        b"upstream_host_metadata",
        b"listener_metadata",
        b"listener_direction",
    ];
    if FORMER.contains(&name) { Group::Xds.part(name, view) } else { None }
}
