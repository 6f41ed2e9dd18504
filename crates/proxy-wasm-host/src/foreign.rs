//! Functions that filters call by name: `proxy_call_foreign_function`.
//!
//! The registry is open: who embeds this library adds functions of its own. Built in are
//! those that Envoy has, with Envoy's arguments and results. They run in the host, on the
//! worker's thread, where no clock stops them: so each bounds its work by its arguments.

mod expressions;
mod keys;
mod signatures;
mod state;
#[cfg(test)]
mod tests;
mod zlib;

use crate::exchange::Exchange;
use crate::plugin::PluginConfig;
use crate::properties::{self, Seen, View};
use crate::status::Status;
use std::collections::HashMap;

pub(crate) use state::Declared;

/// The most bytes that a function here reads or makes: half a second's work for the slowest.
/// Nothing that filters compress or sign is near it.
const WORK_BYTES_MAX: usize = 16 << 20;

/// A function that filters can call.
pub trait ForeignFunction: Send + Sync {
    /// Does what it does, for a filter that hands over `arguments`.
    ///
    /// # Errors
    ///
    /// What the filter is told. The Rust SDK panics at any but `NotFound`, `BadArgument`,
    /// `SerializationFailure` and `InternalFailure`.
    fn call(&self, caller: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status>;
}

/// Functions by name.
#[derive(Default)]
pub struct Functions {
    by_name: HashMap<String, Box<dyn ForeignFunction>>,
}

/// Who calls: a filter, in the context that is effective.
pub struct Caller<'a> {
    /// None in a root context.
    pub(crate) exchange: Option<&'a mut Exchange>,
    pub(crate) config: &'a PluginConfig,
    pub(crate) seen: Seen,
    /// The root context's.
    pub(crate) memory: &'a mut Memory,
}

/// What Envoy's functions keep for a root context between calls, for as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) declared: Declared,
    expressions: expressions::Expressions,
}

impl Functions {
    /// No functions.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those that Envoy has.
    #[must_use]
    pub fn with_envoys() -> Self {
        let mut functions = Self::none();
        functions.add("clear_route_cache", Box::new(state::ClearRouteCache));
        functions.add("compress", Box::new(zlib::Compressor));
        functions.add("declare_property", Box::new(state::DeclareProperty));
        functions.add("expr_create", Box::new(expressions::Create));
        functions.add("expr_delete", Box::new(expressions::Delete));
        functions.add("expr_evaluate", Box::new(expressions::Evaluate));
        functions.add("set_envoy_filter_state", Box::new(state::SetEnvoyFilterState));
        functions.add("sign", Box::new(signatures::Sign));
        functions.add("uncompress", Box::new(zlib::Uncompressor));
        functions.add("verify_signature", Box::new(signatures::VerifySignature));
        functions
    }

    /// Adds a function; one that has the name already is replaced.
    pub fn add(&mut self, name: &str, function: Box<dyn ForeignFunction>) {
        self.by_name.insert(name.into(), function);
    }

    /// The function of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&dyn ForeignFunction> {
        self.by_name.get(name).map(|function| &**function)
    }
}

impl Caller<'_> {
    /// A property, encoded as `proxy_get_property` does.
    ///
    /// # Errors
    ///
    /// As `proxy_get_property`.
    pub fn property(&self, path: &[u8]) -> Result<Vec<u8>, Status> {
        properties::get(path, &self.view())
    }

    /// Sets a property, as `proxy_set_property`.
    ///
    /// # Errors
    ///
    /// As `proxy_set_property`.
    pub fn set_property(&mut self, path: &[u8], value: &[u8]) -> Result<(), Status> {
        let exchange = self.exchange.as_deref_mut().ok_or(Status::NotFound)?;
        match properties::set(exchange, self.memory, path, value) {
            Status::Ok => Ok(()),
            status => Err(status),
        }
    }

    fn view(&self) -> View<'_> {
        View { exchange: self.exchange.as_deref(), config: self.config, seen: self.seen }
    }
}
