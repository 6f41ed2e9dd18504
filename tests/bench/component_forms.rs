//! The three forms, each ready to decide.

pub(crate) use super::filter_form::Filter;
use super::filter_form::module;
use anyhow::{anyhow, bail, ensure};
use bytes::Bytes;
use harness::ground::Alone;
use harness::{Result, parts};
use proxy_wasm_host::engine::Module;
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::plugin::Limits;
use proxy_wasm_host::worker::Process;
use serde_json::Value;
use std::fs;
use std::sync::Arc;
use std::time::Instant;
use tidegate::component::world::guard::{Setup, Step as EdgeStep, Verdict as EdgeVerdict};
use tidegate::component::world::types::{Fact, Want as EdgeWant};
use tidegate::component::world::{log, store};
use tidegate::component::{self, Instance, Shell};
use tidegate_core::facts::{Facts, Want, WantId};
use tidegate_core::gate::{Gate, Step};
use tidegate_core::lease::HolderId;
use tidegate_core::verdict::Verdict;
use tidegate_policy::{resolve::resolve, text};

/// Something that decides requests.
pub(crate) trait Form {
    /// Decides one, which is to be let through.
    fn passes(&mut self, request: HeaderMap) -> Result<()>;
}

/// What is shipped, compiled.
pub(crate) struct Modules {
    pub(crate) filter: Module,
    component: component::Component,
}

impl Modules {
    pub(crate) fn load() -> Result<Self> {
        let engine = component::Engine::for_guards(None).map_err(|why| anyhow!(why))?;
        let component = engine.load(&fs::read(parts::component()?)?).map_err(|why| anyhow!(why))?;
        Ok(Self { filter: module()?, component })
    }
}

/// Core, with the memory of one worker.
pub(crate) struct Core {
    gate: Gate,
    ground: Alone,
}

struct Headers<'a>(&'a HeaderMap);

impl Core {
    pub(crate) fn start(policy: &Value) -> Result<Self> {
        let document = text::from_json(policy.to_string().as_bytes())?;
        let Some(policy) = resolve(&document).policy else { bail!("core refuses the policy") };
        let gate = Gate::new(policy, &[7; 16], HolderId::new(7, 0));
        Ok(Self { gate, ground: Alone::default() })
    }
}

impl Form for Core {
    fn passes(&mut self, request: HeaderMap) -> Result<()> {
        let step = self.gate.on_request(&mut self.ground, &mut Headers(&request));
        ensure!(matches!(step, Step::Answer(Verdict::Allow(_))), "core says {step:?}");
        Ok(())
    }
}

impl Facts for Headers<'_> {
    fn read(&mut self, _: WantId, want: &Want) -> Option<&[u8]> {
        match want {
            Want::Header(name) | Want::SoleHeader(name) => {
                self.0.get(name.as_bytes()).map(|value| &**value)
            }
            _ => None,
        }
    }
}

impl Form for Filter {
    fn passes(&mut self, request: HeaderMap) -> Result<()> {
        self.passes(request)
    }
}

/// What the component sees of the world.
struct World {
    begun: Instant,
    process: Arc<Process>,
}

/// The component, in an instance.
pub(crate) struct Component {
    instance: Instance,
    wants: Vec<EdgeWant>,
}

impl Component {
    pub(crate) fn start(modules: &Modules, policy: &Value) -> Result<Self> {
        let world = World { begun: Instant::now(), process: Process::new() };
        let mut instance = Instance::new(&modules.component, Box::new(world), Limits::default())?;
        let setup = Setup { seed: (7, 7), process: 7, number: 0, instances: 1 };
        let terms = instance.configure(&policy.to_string(), setup)?;
        let terms = terms.map_err(|problems| anyhow!(problems.join("\n")))?;
        Ok(Self { instance, wants: terms.wants })
    }
}

impl Form for Component {
    fn passes(&mut self, request: HeaderMap) -> Result<()> {
        let fact = |want: &EdgeWant| match want {
            EdgeWant::Header(name) | EdgeWant::SoleHeader(name) => {
                request.get(name.as_bytes()).map(|value| value.to_vec())
            }
            _ => None,
        };
        let facts: Vec<Fact> = self.wants.iter().map(fact).collect();
        match self.instance.on_request(&facts)? {
            EdgeStep::Answer(EdgeVerdict::Allow(_)) => Ok(()),
            other => bail!("the component says {other:?}"),
        }
    }
}

impl Shell for World {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn log(&self, level: log::Level, message: &str) {
        eprintln!("the component: {level:?}: {message}");
    }

    fn shared(&self, key: &[u8]) -> Option<(Bytes, u32)> {
        self.process.shared("component", key)
    }

    fn share(&self, key: &[u8], value: Vec<u8>, version: Option<u32>) -> bool {
        self.process.share("component", key, value.into(), version)
    }

    fn send(&self, _: store::Question) -> bool {
        false
    }
}
