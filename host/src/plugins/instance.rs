//! One instance of a plugin: its memory, within its bound, and calls to it, within theirs.

use super::bindings::tidegate::edge::log::{Host as Log, Level};
use super::bindings::tidegate::edge::types::Host as Types;
use super::bindings::{PolicyPlugin, tidegate};
use super::component::{Code, Description};
use super::log::{Line, Printed};
use crate::component::Engine;
use crate::component::engine::HANDLES_MAX;
use proxy_wasm_host::budget::Budget;
use proxy_wasm_host::engine::epochs::Watch;
use proxy_wasm_host::engine::one_line;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// The most elements of all tables of an instance; JavaScript's and Python's have some ten thousand.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// The most random bytes for one call to the host, which nothing interrupts; beyond it, it traps.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// How a call failed. A plugin that says that it cannot tell, or tells nonsense, lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Failure {
    Deadline,
    Memory,
    Trap,
    Nonsense,
    CannotTell,
}

pub(super) struct Instance {
    store: Store<Guest>,
    plugin: PolicyPlugin,
    engine: Engine,
}

/// What the host keeps of an instance.
pub(super) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    line: Arc<Line>,
    budget: Budget,
    watch: Watch,
}

impl Guest {
    const fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }
}

/// What a plugin gives, in its own order.
pub(super) type Given = Vec<Option<String>>;

impl Instance {
    /// Makes an instance, of at most so many bytes of memory, and hears what it is.
    ///
    /// # Errors
    ///
    /// One line.
    pub(super) async fn new(
        code: &Code,
        line: &Arc<Line>,
        memory_max: usize,
        within: Duration,
    ) -> Result<(Self, Description), String> {
        let wasi = WasiCtx::builder()
            .stdout(Printed(Arc::clone(line)))
            .stderr(Printed(Arc::clone(line)))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES_MAX)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let guest = Guest {
            table,
            wasi,
            line: Arc::clone(line),
            budget: Budget::new(memory_max, TABLE_ELEMENTS_MAX).or_end(),
            watch: Watch::strict(code.engine.tick()),
        };
        let mut store = code.engine.store(guest);
        store.limiter(|guest| &mut guest.budget);
        Watch::keep(&mut store, Guest::watch);
        Watch::arm(&mut store, Guest::watch, within);
        let made = tokio::time::timeout(within, async {
            let plugin = code.ready.instantiate_async(&mut store).await?;
            let told = plugin.tidegate_edge_policy().call_describe(&mut store).await?;
            Ok::<_, wasmtime::Error>((plugin, told))
        });
        let made = made.await;
        let (plugin, told) = match (made, store.data().budget.refused()) {
            (Err(_), _) => return Err(format!("it did not start within {within:?}")),
            (Ok(Err(_)), Some(refused)) => return Err(format!("it did not start: it {refused}")),
            (Ok(Err(error)), None) => {
                return Err(format!("it did not start: {}", one_line(&error)));
            }
            (Ok(Ok(made)), _) => made,
        };
        let engine = code.engine.clone();
        Ok((Self { store, plugin, engine }, Description::of(told)?))
    }

    /// What it has of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().budget.memory_bytes()
    }

    /// Asks it of one request.
    ///
    /// # Errors
    ///
    /// [`Failure`]; and whether the instance can be used any more.
    pub(super) async fn resolve(
        &mut self,
        facts: &[Option<Vec<u8>>],
        within: Duration,
    ) -> Result<Given, (Failure, bool)> {
        let Self { store, plugin, engine } = self;
        Watch::arm(store, Guest::watch, within);
        let call = plugin.tidegate_edge_policy().call_resolve(&mut *store, facts);
        let answer = tokio::time::timeout(within + engine.tick(), call).await;
        let error = match answer {
            Ok(Ok(Ok(given))) => return Ok(given),
            Ok(Ok(Err(why))) => {
                store.data().line.log(tracing::Level::WARN, &format!("cannot tell: {why}"));
                return Err((Failure::CannotTell, true));
            }
            // What it was doing is not over, and never will be.
            Err(_) => {
                store.data().line.warn(Failure::Deadline.name(), "it was waiting");
                return Err((Failure::Deadline, false));
            }
            Ok(Err(error)) => error,
        };
        let failure = match error.downcast_ref::<Trap>() {
            _ if store.data().budget.refused().is_some() => Failure::Memory,
            Some(Trap::Interrupt) => Failure::Deadline,
            _ => Failure::Trap,
        };
        store.data().line.warn(failure.name(), &one_line(&error));
        Err((failure, false))
    }
}

impl Failure {
    /// Its name in metrics and logs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Trap => "trap",
            Self::Nonsense => "nonsense",
            Self::CannotTell => "cannot_tell",
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl Types for Guest {}

impl Log for Guest {
    fn write(&mut self, level: Level, message: String) {
        use tidegate::edge::log::Level::{Debug, Error, Info, Warn};
        let level = match level {
            Debug => tracing::Level::DEBUG,
            Info => tracing::Level::INFO,
            Warn => tracing::Level::WARN,
            Error => tracing::Level::ERROR,
        };
        self.line.log(level, &message);
    }
}
