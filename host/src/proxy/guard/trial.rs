//! A component and its policy, tried before any lane has them.
//!
//! A lane that starts an instance does nothing else meanwhile. So each is first started on a thread
//! for which nobody waits but who reloads: one that loops there, or fails, costs no request anything;
//! and how long it took bounds what the lanes then give it.

use super::party::GuardPlan;
use super::{Shared, shell, started};
use crate::component::Shell;
use crate::component::world::log::Level;
use crate::component::world::store::Question;
use bytes::Bytes;
use proxy_wasm_host::worker::Process;
use std::sync::Arc;
use std::time::Instant;

/// Tries the components of a plan, except those that are at work as they are.
///
/// # Errors
///
/// If one fails at its start, or refuses its policy.
pub(in crate::proxy) async fn tried<'a>(
    wanted: impl Iterator<Item = &'a Arc<GuardPlan>>,
    at_work: &[Arc<GuardPlan>],
    shared: &Arc<Shared>,
) -> Result<(), String> {
    for plan in wanted.filter(|plan| plan.start_took.get().is_none()) {
        let known = at_work.iter().find(|known| known.is_as(plan));
        let took = match known.and_then(|known| known.start_took.get()) {
            Some(took) => *took,
            None => {
                let (plan, shared) = (Arc::clone(plan), Arc::clone(shared));
                let trial = tokio::task::spawn_blocking(move || {
                    let begun = Instant::now();
                    let around = Alone::new(&plan, &shared);
                    started(&plan, &shared, Box::new(around), plan.limits())?;
                    Ok::<_, String>(begun.elapsed())
                });
                trial.await.map_err(|error| format!("cannot try a component: {error}"))??
            }
        };
        // Only this sets it.
        let _ = plan.start_took.set(took);
    }
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
