//! What all plugins of a process run on: one engine, and the clock that stops those that loop.

use proxy_wasm_host::engine::epochs::Epochs;
use std::time::Duration;
use wasmtime::Config;

/// How often the clock ticks: a call that loops ends this much after its deadline at most.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) wasm: wasmtime::Engine,
    _epochs: Epochs,
}

impl Engine {
    /// # Errors
    ///
    /// If this machine cannot run wasmtime.
    pub(super) fn new() -> Result<Self, String> {
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true);
        let told = |error: &dyn std::fmt::Display| format!("wasmtime cannot run here: {error}");
        let wasm = wasmtime::Engine::new(&config).map_err(|error| told(&error))?;
        let epochs = Epochs::start(&wasm, TICK, "plugin-ticker").map_err(|error| told(&error))?;
        Ok(Self { wasm, _epochs: epochs })
    }
}
