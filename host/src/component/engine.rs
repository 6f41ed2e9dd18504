//! Components compiled and looked over, and the clock that stops loops.

use super::instance::State;
use super::package::{EDGE_GUARD, World};
use super::world::{EdgeGuard, EdgeGuardPre};
use proxy_wasm_host::engine::cache::{self, Cache};
use proxy_wasm_host::engine::epochs::Epochs;
use proxy_wasm_host::engine::one_line;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::{self, HasSelf, Linker};
use wasmtime::{Config, Store};

/// The most handles that an instance may have at a time; beyond it, it traps.
pub(crate) const HANDLES_MAX: usize = 10_000;

/// The most bytes that an instance may hand over in one call: twice what the longest value that
/// guards share takes. Beyond it, it traps.
const HANDED_BYTES_MAX: usize = 1 << 20;

/// wasmtime's engine, set up for components. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    wasm: wasmtime::Engine,
    tick: Duration,
    cache: Option<Arc<Cache>>,
    _epochs: Epochs,
}

/// A guard that was compiled, and is of the world; cheap to clone.
#[derive(Clone)]
pub struct Component {
    pub(super) ready: EdgeGuardPre<State>,
    engine: Engine,
    this: Arc<()>,
}

impl Component {
    /// Whether both are of one call of [`Engine::load`].
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.this, &other.this)
    }

    pub(super) const fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Engine {
    /// An engine for guards that know nothing of async calls: what is kept for those would take each
    /// call 0.5 to 0.9 µs, as long as a decision. With a folder for it, what was compiled once is
    /// kept there.
    ///
    /// # Errors
    ///
    /// If this machine cannot run wasmtime.
    pub fn for_guards(cache: Option<PathBuf>) -> Result<Self, String> {
        Self::new(cache, Duration::from_millis(10), |config| {
            config.concurrency_support(false);
        })
    }

    /// An engine for guards of any kind. What jco makes of JavaScript names functions for async calls,
    /// whoever calls it.
    ///
    /// # Errors
    ///
    /// If this machine cannot run wasmtime.
    pub fn for_any_guards(cache: Option<PathBuf>) -> Result<Self, String> {
        Self::new(cache, Duration::from_millis(10), with_async)
    }

    /// An engine for plugins, of any kind too: one that loops ends some two milliseconds after its
    /// deadline.
    ///
    /// # Errors
    ///
    /// If this machine cannot run wasmtime.
    pub(crate) fn for_plugins(cache: Option<PathBuf>) -> Result<Self, String> {
        Self::new(cache, Duration::from_millis(1), with_async)
    }

    /// One whose calls run for some two ticks longer than they may, at most.
    fn new(
        cache: Option<PathBuf>,
        tick: Duration,
        adjust: impl FnOnce(&mut Config),
    ) -> Result<Self, String> {
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true);
        adjust(&mut config);
        let told = |error| format!("wasmtime cannot run here: {}", one_line(&error));
        let wasm = wasmtime::Engine::new(&config).map_err(told)?;
        let epochs = Epochs::start(&wasm, tick, "component-ticker");
        let epochs = epochs.map_err(|error| format!("cannot start a thread: {error}"))?;
        let cache = cache.and_then(Cache::open).map(Arc::new);
        Ok(Self { wasm, tick, cache, _epochs: epochs })
    }

    /// Compiles a guard.
    ///
    /// # Errors
    ///
    /// If it is none: what it has and what was wanted, by name and version.
    pub fn load(&self, code: &[u8]) -> Result<Component, String> {
        let compiled = self.compile(&EDGE_GUARD, code)?;
        let mut linker = Linker::new(&self.wasm);
        let misfit = |error| EDGE_GUARD.misfit(&one_line(&error));
        EdgeGuard::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state).map_err(misfit)?;
        let ready = linker.instantiate_pre(&compiled).map_err(misfit)?;
        let ready = EdgeGuardPre::new(ready).map_err(misfit)?;
        Ok(Component { ready, engine: self.clone(), this: Arc::default() })
    }

    /// Compiles a component, or takes what was compiled before; its names are those of a world.
    ///
    /// # Errors
    ///
    /// If they are not, or it is none.
    pub(crate) fn compile(
        &self,
        world: &World,
        code: &[u8],
    ) -> Result<component::Component, String> {
        world.reads(code)?;
        let key = cache::key(&self.wasm, code);
        let component = match self.kept(&key) {
            Some(component) => component,
            None => self.compile_anew(&key, code)?,
        };
        world.fits(&self.wasm, &component)?;
        Ok(component)
    }

    /// What linkers are made for.
    pub(crate) const fn wasm(&self) -> &wasmtime::Engine {
        &self.wasm
    }

    /// What an instance lives in, with bounds on what it can have its host keep.
    pub(crate) fn store<T: 'static>(&self, data: T) -> Store<T> {
        let mut store = Store::new(&self.wasm, data);
        store.set_hostcall_fuel(HANDED_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        if let Some(of_async_calls) = store.concurrent_resource_table() {
            of_async_calls.set_max_capacity(HANDLES_MAX);
        }
        store
    }

    /// How often the clock ticks.
    pub(crate) const fn tick(&self) -> Duration {
        self.tick
    }

    fn kept(&self, key: &str) -> Option<component::Component> {
        let compiled = self.cache.as_ref()?.bytes(key)?;
        // SAFETY: `serialize` made it for an engine with the same key, and the cache answers for it
        // being what it was then.
        #[allow(unsafe_code)]
        unsafe {
            component::Component::deserialize(&self.wasm, compiled).ok()
        }
    }

    fn compile_anew(&self, key: &str, code: &[u8]) -> Result<component::Component, String> {
        let component = component::Component::from_binary(&self.wasm, code)
            .map_err(|error| format!("does not compile: {}", one_line(&error)))?;
        if let Some(cache) = &self.cache
            && let Ok(compiled) = component.serialize()
        {
            cache.put(key, &compiled);
        }
        Ok(component)
    }
}

fn with_async(config: &mut Config) {
    config.wasm_component_model_async(true);
}

#[cfg(test)]
mod tests {
    use super::super::package::POLICY_PLUGIN;
    use super::*;

    #[test]
    fn what_is_no_component_of_this_world_is_refused_for_what_it_is() {
        let engine = Engine::for_guards(None).unwrap();
        let guard = r#"(instance $none) (export "tidegate:edge/guard@0.1.0" (instance $none))"#;
        let wasi = format!(r#"(component (import "wasi:io/poll@0.2.0" (instance)) {guard})"#);
        let next =
            format!(r#"(component (import "tidegate:edge/clock@0.2.0" (instance)) {guard})"#);
        for (text, told) in [
            ("(module)", "it is a core module"),
            ("(component)", "found nothing"),
            (&*wasi, "imports wasi:io/poll@0.2.0"),
            (&*next, "this host has tidegate:edge/clock@0.1.0"),
            (
                &*format!("(component {guard})"),
                "is not of the world edge-guard of tidegate:edge@0.1.0",
            ),
        ] {
            let error = engine.load(&wat::parse_str(text).unwrap()).err().unwrap();
            assert!(error.contains(told), "{text}: {error}");
        }
        let error = engine.load(b"component").err().unwrap();
        assert!(error.contains("it begins with"), "{error}");
    }

    #[test]
    fn what_was_compiled_once_is_kept_for_the_next_engine() {
        let folder = tempfile::tempdir().unwrap();
        let engine = || Engine::for_plugins(Some(folder.path().join("cache")));
        let policy = r#"(component (instance $none) (export "tidegate:edge/policy@0.1.4" (instance $none)))"#;
        let code = wat::parse_str(policy).unwrap();
        let first = engine().unwrap();
        let key = cache::key(first.wasm(), &code);
        assert!(first.kept(&key).is_none());
        first.compile(&POLICY_PLUGIN, &code).unwrap();
        assert!(engine().unwrap().kept(&key).is_some());
    }
}
