//! How a machine starts: the module's own start, its root contexts, their configuration.

use super::callouts::Callouts;
use super::entries::Entries;
use super::failure::{self, Exit};
use super::state::{Context, Contexts, Mode, Place, Root};
use super::ticks::Ticks;
use super::{Callbacks, ContextId, Machines, Running, State, Vm, count};
use crate::budget::Budget;
use crate::engine::epochs::Watch;
use crate::engine::{Module, TICK};
use crate::plugin::PluginConfig;
use crate::shared::metrics::Ids;
use crate::worker::StartError;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;
use wasmtime::Store;

impl Vm {
    /// A machine with an instance of the module, initialised, and no root context yet.
    ///
    /// # Errors
    ///
    /// If it wants more than it may have, or traps.
    pub(crate) fn create(
        module: &Module,
        config: &Rc<PluginConfig>,
        key: [u8; 32],
        place: Place,
        others: Weak<Machines>,
    ) -> Result<Self, StartError> {
        is_affordable(module, config)?;
        let ticks = Rc::new(Ticks::default());
        let (id, process) = (place.vm, place.process.clone());
        let outside = place.outside.clone();
        let state = State {
            place,
            config: config.clone(),
            version: module.version(),
            memory: None,
            allocator: None,
            mode: Mode::Starting,
            budget: Budget::new(config.limits.memory_bytes, config.limits.table_elements),
            watch: Watch::new(TICK),
            contexts: Contexts::default(),
            called: 0,
            current: 0,
            callback: 0,
            configuring: None,
            callouts: Callouts::default(),
            answer: None,
            ticks: ticks.clone(),
            metrics: Ids::default(),
            effects: Vec::new(),
            replied: false,
            done: Vec::new(),
            scratch: Vec::new(),
        };
        let mut store = Store::new(module.engine().wasm(), state);
        store.limiter(|state| &mut state.budget);
        Watch::keep(&mut store, State::watch);
        Watch::arm(&mut store, State::watch, config.limits.start);
        let running = initialise(module, config, store)?;
        Ok(Self {
            id,
            key,
            callbacks: Callbacks::of(&running.entries),
            running: RefCell::new(Some(running)),
            callback_max: config.limits.callback,
            ticks,
            process,
            outside,
            config: config.clone(),
            failed_ns: Cell::new(None),
            others,
            woken: RefCell::default(),
            is_waking: Cell::new(false),
        })
    }

    /// Makes a root context for a filter, and configures it. In a machine that has just been
    /// created that is still within the time for its start.
    ///
    /// # Errors
    ///
    /// If the module traps, takes too long, or refuses. Refused, its context is gone again.
    pub(crate) fn add_root(
        &self,
        config: &Rc<PluginConfig>,
        is_new: bool,
    ) -> Result<ContextId, StartError> {
        let add = |state: &mut State| {
            let id = state.contexts.next_id();
            let root = Root::new(config.clone());
            state.contexts.insert(id, Context::Root(root));
            id
        };
        let Some(id) = self.with(add) else {
            return Err(told(config, "the machine that it shares has failed"));
        };
        let limit = (!is_new).then_some(config.limits.start);
        self.start_step(
            config,
            id,
            "proxy_on_context_create",
            limit,
            |Running { store, entries }| {
                let Some(create) = &entries.found.on_context_create else { return Ok(true) };
                create.call(store, (id, 0)).map(|()| true)
            },
        )?;
        self.start_step(config, id, "proxy_on_vm_start", None, |Running { store, entries }| {
            let Some(start) = &entries.found.on_vm_start else { return Ok(true) };
            let bytes = count(store.data().config.vm_configuration.len());
            start.call(store, (id, bytes)).map(|accepted| accepted != 0)
        })?;
        self.start_step(config, id, "proxy_on_configure", None, |Running { store, entries }| {
            let Some(configure) = &entries.found.on_configure else { return Ok(true) };
            store.data_mut().configuring = Some(id);
            let accepted = configure.call(&mut *store, (id, count(config.configuration.len())));
            store.data_mut().configuring = None;
            accepted.map(|accepted| accepted != 0)
        })?;
        Ok(id)
    }

    fn start_step(
        &self,
        config: &PluginConfig,
        id: ContextId,
        name: &str,
        limit: Option<Duration>,
        call: impl FnOnce(&mut Running) -> wasmtime::Result<bool>,
    ) -> Result<(), StartError> {
        let outcome = self.attempt(id, limit, call);
        match outcome {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => {
                self.delete_root(id);
                Err(told(config, &format!("{name} refused its configuration")))
            }
            Ok(Err(error)) => {
                let line = self.with(|state| failure::describe(name, &error, &state.budget));
                self.fail(name, &error);
                Err(told(config, &line.unwrap_or_default()))
            }
            Err(_) => Err(told(config, "the machine that it shares has failed")),
        }
    }
}

/// Whether what the module begins with is within its limits.
fn is_affordable(module: &Module, config: &PluginConfig) -> Result<(), StartError> {
    let (bytes, elements) = module.least();
    let limit = config.limits.memory_bytes as u64;
    if bytes > limit {
        let line = format!("begins with {bytes} bytes of memory; its limit is {limit}");
        return Err(told(config, &line));
    }
    let limit = config.limits.table_elements as u64;
    if elements > limit {
        let line = format!("begins with {elements} elements of tables; its limit is {limit}");
        return Err(told(config, &line));
    }
    Ok(())
}

fn initialise(
    module: &Module,
    config: &PluginConfig,
    mut store: Store<State>,
) -> Result<Running, StartError> {
    let failed = |name: &str, error: &wasmtime::Error, store: &Store<State>| {
        told(config, &failure::describe(name, error, &store.data().budget))
    };
    let instance = module
        .instantiate(&mut store, config.allowed_calls.as_ref())
        .map_err(|error| failed("its start function", &error, &store))?;
    let entries = Entries::of(&instance, &mut store);
    let memory = instance.get_memory(&mut store, "memory");
    let state = store.data_mut();
    state.memory = memory;
    let (malloc, allocate) = (&entries.found.malloc, &entries.found.allocate);
    state.allocator = malloc.as_ref().or(allocate.as_ref()).cloned();
    let mut running = Running { store, entries };
    if let Err((name, error)) = running.initialise() {
        return Err(failed(name, &error, &running.store));
    }
    running.store.data_mut().mode = Mode::Running;
    Ok(running)
}

impl Running {
    /// Runs a reactor's or a command's own initialisation. A command may end itself with
    /// success: it has done what it had to do.
    fn initialise(&mut self) -> Result<(), (&'static str, wasmtime::Error)> {
        let Self { store, entries } = self;
        let found = &entries.found;
        let (name, outcome) = if let Some(initialize) = &found.initialize {
            initialize.call(&mut *store, ()).map_err(|error| ("_initialize", error))?;
            if let Some(main) = &found.main {
                ("main", main.call(store, (0, 0)).map(drop))
            } else if let Some(main) = &found.main_void {
                ("__main_void", main.call(store, ()).map(drop))
            } else {
                return Ok(());
            }
        } else if let Some(start) = &found.start {
            ("_start", start.call(store, ()))
        } else {
            return Ok(());
        };
        match outcome {
            Err(error) if matches!(error.downcast_ref(), Some(Exit(0))) => Ok(()),
            outcome => outcome.map_err(|error| (name, error)),
        }
    }
}

/// An error line of a filter.
fn told(config: &PluginConfig, what: &str) -> StartError {
    StartError(format!("filter \"{}\": {what}", config.name))
}
