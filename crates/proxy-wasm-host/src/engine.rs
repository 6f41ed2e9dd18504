//! Compiled modules, and the machinery under all of a process's machines.
//!
//! wasmtime's own allocator serves here, not its pool: a machine lives as long as its filter
//! is set up, so that there is next to nothing for a pool to speed up.

pub mod cache;
pub mod epochs;
mod exports;
mod imports;

use crate::abi::Calls;
use crate::vm::State;
use cache::Cache;
use epochs::Epochs;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::{Config, InstancePre, Memory, Store, Table};

/// How often the clock that stops loops ticks; a callback runs at most this much longer than
/// it may.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// wasmtime's engine, set up for filters, and the clock that stops loops. One a process.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasm: wasmtime::Engine,
    /// All host calls there are.
    calls: Calls,
    cache: Option<Cache>,
    _epochs: Epochs,
}

/// A filter's code, compiled and looked over; cheap to clone.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Compiled>,
}

struct Compiled {
    engine: Engine,
    wasm: wasmtime::Module,
    /// Unless it imports things that each machine has its own of.
    ready: Option<InstancePre<State>>,
    digest: [u8; 32],
    version: Version,
}

/// What the module's marker says of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V0_1_0,
    V0_2_0,
    V0_2_1,
}

/// Why a module cannot be used: one line that names what and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(pub String);

impl Engine {
    /// An engine. With a folder for it, what was compiled once is kept there and only mapped
    /// the next time; a file that cannot be read or trusted is compiled anew.
    ///
    /// # Errors
    ///
    /// If this machine cannot run wasmtime.
    pub fn new(cache: Option<PathBuf>) -> Result<Self, LoadError> {
        let mut config = Config::new();
        // Rust filters that catch their panics are compiled with the standard exception
        // opcodes, which are a part of wasmtime's garbage collection.
        config.wasm_exceptions(true).wasm_gc(true).wasm_function_references(true);
        config.epoch_interruption(true);
        let told = |error| LoadError(format!("wasmtime cannot run here: {}", one_line(&error)));
        let wasm = wasmtime::Engine::new(&config).map_err(told)?;
        let calls = Calls::new(&wasm).map_err(told)?;
        let epochs =
            Epochs::start(&wasm, TICK, "wasm-ticker").map_err(|error| told(error.into()))?;
        let cache = cache.and_then(Cache::open);
        Ok(Self { inner: Arc::new(Inner { wasm, calls, cache, _epochs: epochs }) })
    }

    /// Compiles a module, or takes it from the cache.
    ///
    /// # Errors
    ///
    /// If it is not a module, lacks what a filter must export, or speaks an ABI version that
    /// is not known here.
    pub fn load(&self, code: &[u8]) -> Result<Module, LoadError> {
        looks_like_a_module(code)?;
        let wasm = self.compile(code)?;
        let version = exports::look_over(&wasm)?;
        let calls = imports::link(&self.inner.calls, &wasm, None)?;
        let ready = if imports::all_shared(&wasm) {
            Some(calls.instantiate_pre(&wasm).map_err(|error| LoadError(one_line(&error)))?)
        } else {
            None
        };
        let digest = Sha256::digest(code).into();
        let engine = self.clone();
        Ok(Module { inner: Arc::new(Compiled { engine, wasm, ready, digest, version }) })
    }

    fn compile(&self, code: &[u8]) -> Result<wasmtime::Module, LoadError> {
        let Inner { wasm: engine, cache, .. } = &*self.inner;
        let kept = cache.as_ref().map(|cache| (cache, cache::key(engine, code)));
        if let Some(module) = kept.as_ref().and_then(|(cache, key)| cache.get(engine, key)) {
            return Ok(module);
        }
        let module = wasmtime::Module::from_binary(engine, code)
            .map_err(|error| LoadError(format!("does not compile: {}", one_line(&error))))?;
        if let Some((cache, key)) = kept
            && let Ok(compiled) = module.serialize()
        {
            cache.put(&key, &compiled);
        }
        Ok(module)
    }

    pub(crate) fn wasm(&self) -> &wasmtime::Engine {
        &self.inner.wasm
    }
}

impl Module {
    /// Whether both are of the same code.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// SHA-256 of the code.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.inner.digest
    }

    pub(crate) fn version(&self) -> Version {
        self.inner.version
    }

    /// The least bytes of memory and elements of tables that it starts with.
    pub(crate) fn least(&self) -> (u64, u64) {
        let exported = self.inner.wasm.exports().map(|export| export.ty());
        let imported = self.inner.wasm.imports().map(|import| import.ty());
        let mut least = (0_u64, 0_u64);
        for kind in exported.chain(imported) {
            match kind {
                wasmtime::ExternType::Memory(memory) => {
                    let bytes = memory.minimum().saturating_mul(memory.page_size());
                    least.0 = least.0.saturating_add(bytes);
                }
                wasmtime::ExternType::Table(table) => {
                    least.1 = least.1.saturating_add(table.minimum());
                }
                _ => {}
            }
        }
        least
    }

    /// Makes an instance, which runs the module's own start function if it has one. With a
    /// list, other host calls than its are refused.
    pub(crate) fn instantiate(
        &self,
        store: &mut Store<State>,
        allowed: Option<&BTreeSet<String>>,
    ) -> wasmtime::Result<wasmtime::Instance> {
        let Compiled { engine, wasm, ready, .. } = &*self.inner;
        if let (Some(ready), None) = (ready, allowed) {
            return ready.instantiate(store);
        }
        let told = |LoadError(line)| wasmtime::Error::msg(line);
        let mut calls = imports::link(&engine.inner.calls, wasm, allowed).map_err(told)?;
        for import in wasm.imports() {
            match import.ty() {
                wasmtime::ExternType::Memory(kind) => {
                    let memory = Memory::new(&mut *store, kind)?;
                    calls.define(&mut *store, import.module(), import.name(), memory)?;
                }
                wasmtime::ExternType::Table(kind) => {
                    let nothing = wasmtime::Ref::null(kind.element().heap_type());
                    let table = Table::new(&mut *store, kind, nothing)?;
                    calls.define(&mut *store, import.module(), import.name(), table)?;
                }
                _ => {}
            }
        }
        calls.instantiate(store, wasm)
    }
}

fn looks_like_a_module(code: &[u8]) -> Result<(), LoadError> {
    let found = match code {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', version @ ..] => match version {
            [0x0d, 0, 1, 0, ..] => "it is a component; wanted a core module".to_owned(),
            _ => "it has another version of the format; wanted version 1".to_owned(),
        },
        [] => "it is empty".to_owned(),
        other => {
            let start: Vec<u8> = other.iter().take(8).copied().collect();
            format!("it begins with \"{}\"; wanted \"\\0asm\"", start.escape_ascii())
        }
    };
    Err(LoadError(format!("not a WebAssembly module: {found}")))
}

/// An error and its causes, in one line.
#[must_use]
pub fn one_line(error: &wasmtime::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        for part in cause.to_string().lines().map(str::trim).filter(|part| !part.is_empty()) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(part);
        }
    }
    line
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

#[cfg(test)]
mod tests;
