//! Components compiled and looked over, and the clock that stops loops.

use super::instance::State;
use super::world::{EdgeGuard, EdgeGuardPre};
use proxy_wasm_host::engine::cache::{self, Cache};
use proxy_wasm_host::engine::epochs::Epochs;
use proxy_wasm_host::engine::one_line;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Config;
use wasmtime::component::{self, HasSelf, Linker};

/// How often the clock ticks: a call runs at most this much longer than it may.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Our package, and the version of it that is spoken here.
const PACKAGE: &str = "tidegate:edge/";
const VERSION: &str = "0.1.0";

/// What a component of this world exports.
const EXPORT: &str = "guard";

/// What one may import.
const IMPORTS: [&str; 5] = ["clock", "log", "shared", "store", "types"];

/// wasmtime's engine, set up for components. One a process.
#[derive(Clone)]
pub struct Engine {
    wasm: wasmtime::Engine,
    cache: Option<Arc<Cache>>,
    _epochs: Epochs,
}

/// A component that was compiled, and is of the world; cheap to clone.
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

    pub(super) fn engine(&self) -> &wasmtime::Engine {
        &self.engine.wasm
    }
}

impl Engine {
    /// An engine. With a folder for it, what was compiled once is kept there.
    ///
    /// # Errors
    ///
    /// If this machine cannot run wasmtime.
    pub fn new(cache: Option<PathBuf>) -> Result<Self, String> {
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true);
        let told = |error| format!("wasmtime cannot run here: {}", one_line(&error));
        let wasm = wasmtime::Engine::new(&config).map_err(told)?;
        let epochs = Epochs::start(&wasm, TICK, "edge-ticker");
        let epochs = epochs.map_err(|error| format!("cannot start a thread: {error}"))?;
        let cache = cache.and_then(Cache::open).map(Arc::new);
        Ok(Self { wasm, cache, _epochs: epochs })
    }

    /// Compiles a component.
    ///
    /// # Errors
    ///
    /// If it is none, or not of this world: what it has and what was wanted, by name and version.
    pub fn load(&self, code: &[u8]) -> Result<Component, String> {
        looks_like_a_component(code)?;
        let compiled = self.compile(code)?;
        self.look_over(&compiled)?;
        let mut linker = Linker::new(&self.wasm);
        let other = |error: wasmtime::Error| {
            format!("is not of the world edge-guard of {PACKAGE}@{VERSION}: {}", one_line(&error))
                .replace("/@", "@")
        };
        EdgeGuard::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state).map_err(other)?;
        let ready = linker.instantiate_pre(&compiled).map_err(other)?;
        let ready = EdgeGuardPre::new(ready).map_err(other)?;
        Ok(Component { ready, engine: self.clone(), this: Arc::default() })
    }

    /// Compiles, or takes what was compiled before.
    fn compile(&self, code: &[u8]) -> Result<component::Component, String> {
        let key = cache::key(&self.wasm, code);
        if let Some(compiled) = self.cache.as_ref().and_then(|cache| cache.bytes(&key)) {
            // SAFETY: `serialize` made it for an engine with the same key, and the cache answers
            // for it being what it was then.
            #[allow(unsafe_code)]
            let kept = unsafe { component::Component::deserialize(&self.wasm, compiled) };
            if let Ok(component) = kept {
                return Ok(component);
            }
        }
        let component = component::Component::from_binary(&self.wasm, code)
            .map_err(|error| format!("does not compile: {}", one_line(&error)))?;
        if let Some(cache) = &self.cache
            && let Ok(compiled) = component.serialize()
        {
            cache.put(&key, &compiled);
        }
        Ok(component)
    }

    /// Names and versions, which say more than that types do not fit.
    fn look_over(&self, compiled: &component::Component) -> Result<(), String> {
        let kind = compiled.component_type();
        for (name, _) in kind.imports(&self.wasm) {
            imported(name)?;
        }
        let exports: Vec<_> = kind.exports(&self.wasm).map(|(name, _)| name.to_owned()).collect();
        exported(&exports)
    }
}

/// Whether one thing that a component imports is offered here.
fn imported(name: &str) -> Result<(), String> {
    let Some((interface, version)) = ours(name) else {
        return Err(format!(
            "imports {name}, which the world edge-guard does not have\n  hint: it has {}, and \
             nothing of WASI",
            IMPORTS.map(|name| format!("{PACKAGE}{name}@{VERSION}")).join(", ")
        ));
    };
    if !IMPORTS.contains(&interface) {
        return Err(format!("imports {name}, and there is no such interface in {VERSION}"));
    }
    if !is_compatible(version) {
        return Err(format!("imports {name}; this host has {PACKAGE}{interface}@{VERSION}"));
    }
    Ok(())
}

/// Whether what it exports is what a guard does.
fn exported(names: &[String]) -> Result<(), String> {
    let wanted = format!("{PACKAGE}{EXPORT}@{VERSION}");
    let guard = names.iter().find_map(|name| ours(name).filter(|(name, _)| *name == EXPORT));
    match guard {
        Some((_, version)) if is_compatible(version) => Ok(()),
        Some((_, version)) => {
            let found = format!("{PACKAGE}{EXPORT}@{version}");
            Err(format!("exports {found}; this host wants {wanted}"))
        }
        None => {
            let found = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            Err(format!(
                "does not export {wanted}; found {found}\n  hint: wanted a component of the world \
                 edge-guard, such as tidegate.component.wasm"
            ))
        }
    }
}

/// An interface of our package, and of which version.
fn ours(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix(PACKAGE)?;
    Some(name.split_once('@').unwrap_or((name, "")))
}

/// Before 1.0 each minor version is another world.
fn is_compatible(version: &str) -> bool {
    let series = |version: &str| version.rsplit_once('.').map(|(series, _)| series.to_owned());
    series(version).is_some() && series(version) == series(VERSION)
}

fn looks_like_a_component(code: &[u8]) -> Result<(), String> {
    let found = match code {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            "it is a core module; wanted a component, such as tidegate.component.wasm\n  hint: a \
             proxy-wasm filter runs with --filter"
                .to_owned()
        }
        [0, b'a', b's', b'm', ..] => "it has another version of the format".to_owned(),
        [] => "it is empty".to_owned(),
        other => {
            let start: Vec<u8> = other.iter().take(8).copied().collect();
            format!("it begins with \"{}\"; wanted \"\\0asm\"", start.escape_ascii())
        }
    };
    Err(format!("not a component: {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_of_this_world_is_refused_for_what_it_is() {
        let engine = Engine::new(None).unwrap();
        let wasi = r#"(component (import "wasi:io/poll@0.2.0" (instance)))"#;
        let next = r#"(component (import "tidegate:edge/clock@0.2.0" (instance)))"#;
        for (text, told) in [
            ("(module)", "it is a core module"),
            ("(component)", "found nothing"),
            (wasi, "imports wasi:io/poll@0.2.0"),
            (next, "this host has tidegate:edge/clock@0.1.0"),
        ] {
            let error = engine.load(&wat::parse_str(text).unwrap()).err().unwrap();
            assert!(error.contains(told), "{text}: {error}");
        }
        let error = engine.load(b"component").err().unwrap();
        assert!(error.contains("it begins with"), "{error}");
    }

    #[test]
    fn what_is_missing_is_named_with_its_versions() {
        assert_eq!(imported("tidegate:edge/clock@0.1.0"), Ok(()));
        assert_eq!(imported("tidegate:edge/clock@0.1.7"), Ok(()));
        for (import, told) in [
            ("tidegate:edge/clock@0.2.0", "this host has tidegate:edge/clock@0.1.0"),
            ("tidegate:edge/moon@0.1.0", "no such interface"),
            ("wasi:io/streams@0.2.0", "nothing of WASI"),
        ] {
            let error = imported(import).unwrap_err();
            assert!(error.contains(import) && error.contains(told), "{error}");
        }
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(exported(&names(&["other", "tidegate:edge/guard@0.1.1"])), Ok(()));
        for (exports, told) in [
            (&["tidegate:edge/guard@1.0.0"][..], "this host wants tidegate:edge/guard@0.1.0"),
            (&["tidegate:edge/policy@0.1.0"], "found tidegate:edge/policy@0.1.0"),
            (&[], "found nothing"),
        ] {
            let error = exported(&names(exports)).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
