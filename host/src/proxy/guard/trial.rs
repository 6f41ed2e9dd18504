//! A component and its policy, tried before any lane has them, as `host/src/proxy/trial.rs` says.

use super::party::GuardPlan;
use super::{Shared, shell, started};
use crate::component::Shell;
use crate::component::world::log::Level;
use crate::component::world::store::Question;
use crate::proxy::plan::Plan;
use crate::proxy::trial::{TRIAL, apart};
use bytes::Bytes;
use proxy_wasm_host::worker::Process;
use std::sync::Arc;
use std::time::Instant;

/// Tries the components of a plan, except those that are at work as they are.
///
/// # Errors
///
/// If one fails at its start, or refuses its policy.
pub(in crate::proxy) async fn tried(
    next: &Plan,
    at_work: &Plan,
    shared: &Arc<Shared>,
) -> Result<(), String> {
    for plan in next.guards() {
        let known = at_work.guards().find(|known| known.is_as(plan));
        plan.tried.learn(known.map(|known| &known.tried));
        if !plan.tried.is_done() {
            let (plan, shared) = (Arc::clone(plan), Arc::clone(shared));
            apart(TRIAL, move || try_one(&plan, &shared)).await?;
        }
    }
    Ok(())
}

fn try_one(plan: &Arc<GuardPlan>, shared: &Arc<Shared>) -> Result<(), String> {
    let begun = Instant::now();
    let around = Alone::new(plan, shared);
    started(plan, shared, Box::new(around), plan.limits())?;
    plan.tried.took(begun.elapsed());
    Ok(())
}

/// What a component finds around it there: nobody to ask, and nothing shared but with itself.
struct Alone {
    plan: Arc<GuardPlan>,
    shared: Arc<Shared>,
    process: Arc<Process>,
}

impl Alone {
    fn new(plan: &Arc<GuardPlan>, shared: &Arc<Shared>) -> Self {
        Self { plan: Arc::clone(plan), shared: Arc::clone(shared), process: Process::new() }
    }
}

impl Shell for Alone {
    fn now(&self) -> u64 {
        self.shared.monotonic_ns()
    }

    fn log(&self, level: Level, message: &str) {
        shell::log(&self.plan, level, message);
    }

    fn shared(&self, key: &[u8]) -> Option<(Bytes, u32)> {
        self.process.shared("", key)
    }

    fn share(&self, key: &[u8], value: Vec<u8>, version: Option<u32>) -> bool {
        self.process.share("", key, value.into(), version)
    }

    fn send(&self, _: Question) -> bool {
        false
    }
}
