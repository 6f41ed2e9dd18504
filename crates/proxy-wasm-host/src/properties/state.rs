//! What filters keep with an exchange: Envoy's filter state.

use super::value::Value;
use crate::status::Status;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What comes before the names that filters give. What they set by Envoy's own names is
/// without it.
pub(super) const PREFIX: &[u8] = b"wasm.";

/// The most bytes of names and values that filters may keep in one exchange: as much as the
/// body that it may hold.
const BYTES_MAX: usize = 1 << 20;

/// What an entry costs beyond its name and value, roughly: so that empty ones are bounded too.
const ENTRY_BYTES: usize = 64;

/// What filters keep with one exchange, by name.
#[derive(Clone, Debug, Default)]
pub struct FilterState {
    entries: BTreeMap<Vec<u8>, State>,
    bytes: usize,
}

/// One thing that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) value: Vec<u8>,
    /// Text rather than bytes, for expressions.
    pub(crate) is_text: bool,
    /// It was declared so that it is set once.
    pub(crate) is_read_only: bool,
}

impl FilterState {
    /// What is kept by a name, with Envoy's `wasm.` before what a filter set as a property.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.get(name.as_bytes()).map(|state| &*state.value)
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&State> {
        self.entries.get(name)
    }

    /// All that is kept, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Value<'_>)> {
        self.entries.iter().map(|(name, state)| (&**name, state.value()))
    }

    /// Keeps a value. One that is there stays of its kind, and stays as it is if it is
    /// read-only (`BadArgument`) or the new one is too much (`InternalFailure`).
    pub(crate) fn set(&mut self, name: Vec<u8>, state: State) -> Status {
        let present = self.entries.get_mut(&name);
        if present.as_ref().is_some_and(|present| present.is_read_only) {
            return Status::BadArgument;
        }
        let less = present.as_ref().map_or(0, |present| present.value.len());
        let entry = if present.is_some() { 0 } else { ENTRY_BYTES + name.len() };
        let bytes = self.bytes - less + entry + state.value.len();
        if bytes > BYTES_MAX {
            return Status::InternalFailure;
        }
        self.bytes = bytes;
        match present {
            Some(present) => present.value = state.value,
            None => drop(self.entries.insert(name, state)),
        }
        Status::Ok
    }
}

impl State {
    pub(crate) fn value(&self) -> Value<'_> {
        let bytes = Cow::Borrowed(&*self.value);
        if self.is_text { Value::Text(bytes) } else { Value::Bytes(bytes) }
    }
}
