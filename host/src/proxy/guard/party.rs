//! What all lanes' guards have in common: who this process is, compiled components, plans.

use crate::component::world::guard::Setup;
use crate::component::{Component, Engine};
use crate::logs::allowance::Allowance;
use crate::proxy::ids::fill_random;
use crate::proxy::settings;
use crate::proxy::trial::Tried;
use proxy_wasm_host::plugin::{Limits, PluginConfig};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use tidegate_core::policy::{OnError, Policy};

/// Who this process is to those that share budgets with it.
pub(in crate::proxy) struct Party {
    seed: (u64, u64),
    process: u64,
    /// The same as hosts know it: 16 hex digits.
    pub(super) id: String,
    /// How often an instance was configured.
    numbers: AtomicU32,
}

/// A component and its policy, for all lanes.
pub(in crate::proxy) struct GuardPlan {
    pub(in crate::proxy) settings: settings::Component,
    pub(super) component: Component,
    /// JSON.
    pub(super) policy: String,
    /// Whether a request that nobody can decide is refused.
    pub(super) is_closed: bool,
    /// What properties are read by.
    pub(super) config: PluginConfig,
    /// What it may log, on all lanes together.
    pub(super) lines: Allowance,
    pub(super) tried: Tried,
}

/// Components of the last plan, which the next one mostly has as well.
pub(in crate::proxy) struct Components {
    cache: Option<PathBuf>,
    /// For those that know nothing of async calls, and for any.
    engines: [Option<Engine>; 2],
    known: Option<(Vec<u8>, Component)>,
}

impl Party {
    pub(in crate::proxy) fn new() -> Self {
        let draw = || {
            let mut bytes = [0; 8];
            fill_random(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        let process = draw();
        let id = format!("{process:016x}");
        Self { seed: (draw(), draw()), process, id, numbers: AtomicU32::new(0) }
    }

    /// For one configuration of one instance.
    pub(super) fn setup(&self, lanes: usize) -> Setup {
        Setup {
            seed: self.seed,
            process: self.process,
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            instances: u32::try_from(lanes).unwrap_or(u32::MAX),
        }
    }
}

impl GuardPlan {
    pub(in crate::proxy) fn new(
        settings: settings::Component,
        component: Component,
        policy: &Policy,
        json: String,
    ) -> Self {
        let is_closed = policy.limits.iter().any(|limit| limit.on_error == OnError::Closed)
            || policy.revocation.as_ref().is_some_and(|rules| !rules.is_open);
        let config = PluginConfig {
            name: settings.name.clone(),
            node: settings.node.clone(),
            ..PluginConfig::default()
        };
        let (lines, tried) = (Allowance::new(), Tried::default());
        Self { settings, component, policy: json, is_closed, config, lines, tried }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            memory_bytes: self.settings.memory_bytes,
            table_elements: self.settings.table_elements,
            callback: self.settings.call,
            start: self.settings.start,
        }
    }

    /// The same for a lane.
    pub(super) fn lane_limits(&self) -> Limits {
        self.tried.lane_limits(self.limits())
    }

    /// Whether an instance of the one can go on by the other.
    pub(super) fn goes_on_as(&self, next: &Self) -> bool {
        let bounds = |plan: &Self| {
            let it = &plan.settings;
            (it.name.clone(), it.memory_bytes, it.table_elements, it.call, it.start)
        };
        self.component.is(&next.component) && bounds(self) == bounds(next)
    }

    /// Whether nothing is new.
    pub(super) fn is_as(&self, next: &Self) -> bool {
        self.goes_on_as(next) && self.policy == next.policy && self.settings == next.settings
    }
}

impl Components {
    /// What is compiled is kept in `cache`, if that is given.
    pub(in crate::proxy) const fn new(cache: Option<PathBuf>) -> Self {
        Self { cache, engines: [None, None], known: None }
    }

    /// Compiles a component, unless it is the one of last time.
    ///
    /// # Errors
    ///
    /// If it cannot be run here; why, as a message to print.
    pub(in crate::proxy) fn load(&mut self, code: Vec<u8>) -> Result<Component, String> {
        if let Some((known, component)) = &self.known
            && *known == code
        {
            return Ok(component.clone());
        }
        let component = self.quick()?.load(&code).or_else(|_| self.any()?.load(&code))?;
        self.known = Some((code, component.clone()));
        Ok(component)
    }

    fn quick(&mut self) -> Result<&Engine, String> {
        let Self { cache, engines: [quick, _], .. } = self;
        made(quick, || Engine::for_guards(cache.clone()))
    }

    fn any(&mut self) -> Result<&Engine, String> {
        let Self { cache, engines: [_, any], .. } = self;
        made(any, || Engine::for_any_guards(cache.clone()))
    }
}

/// An engine has a thread: none is made before it is needed.
fn made(
    engine: &mut Option<Engine>,
    make: impl FnOnce() -> Result<Engine, String>,
) -> Result<&Engine, String> {
    match engine {
        Some(engine) => Ok(engine),
        None => Ok(engine.insert(make()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_that_names_functions_for_async_calls_is_looked_at_as_any_other() {
        let code = wat::parse_str("(component (core func (canon task.cancel)))").unwrap();
        let mut components = Components::new(None);
        let quick = components.quick().unwrap().load(&code).err().unwrap();
        assert!(quick.contains("does not compile"), "{quick}");
        let any = components.load(code).err().unwrap();
        assert!(any.contains("does not export tidegate:edge/guard@0.1.0"), "{any}");
    }
}
