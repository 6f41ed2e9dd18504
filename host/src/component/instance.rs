//! A component at work, on one thread.

use super::engine::{Component, Engine};
use super::shell::Shell;
use super::world::EdgeGuard;
use super::world::guard::{Decision, Setup, Step, Tallies, Terms};
use super::world::store::NoAnswer;
use super::world::types::Fact;
use proxy_wasm_host::budget::Budget;
use proxy_wasm_host::engine::epochs::Watch;
use proxy_wasm_host::engine::one_line;
use proxy_wasm_host::plugin::Limits;
use std::fmt;
use std::time::Duration;
use wasmtime::Store;

/// One instance. After a method has failed it is of no more use.
pub struct Instance {
    store: Store<State>,
    guard: EdgeGuard,
    /// How long a call may run, and one that brings a policy.
    call_max: Duration,
    start_max: Duration,
    /// Its clock goes on for as long as somebody has it.
    _engine: Engine,
}

/// What goes with an instance.
pub struct State {
    pub(super) shell: Box<dyn Shell>,
    budget: Budget,
    watch: Watch,
}

impl State {
    const fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }
}

/// Why an instance is of no more use, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed(pub String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

type Done<T> = Result<T, Failed>;

impl Instance {
    /// Makes an instance.
    ///
    /// # Errors
    ///
    /// If it wants more than `limits` give it, or fails at its start.
    pub fn new(component: &Component, shell: Box<dyn Shell>, limits: Limits) -> Done<Self> {
        let budget = Budget::new(limits.memory_bytes, limits.table_elements);
        let engine = component.engine().clone();
        let watch = Watch::new(engine.tick());
        let mut store = engine.store(State { shell, budget, watch });
        store.limiter(|state| &mut state.budget);
        Watch::keep(&mut store, State::watch);
        Watch::arm(&mut store, State::watch, limits.start);
        let guard = component.ready.instantiate(&mut store).map_err(failed)?;
        let (call_max, start_max) = (limits.callback, limits.start);
        Ok(Self { store, guard, call_max, start_max, _engine: engine })
    }

    /// Puts a policy (JSON) in force, in place of the one that is.
    ///
    /// # Errors
    ///
    /// If the component failed; within it what is wrong with the policy, which changes nothing.
    pub fn configure(&mut self, policy: &str, setup: Setup) -> Done<Result<Terms, Vec<String>>> {
        Watch::arm(&mut self.store, State::watch, self.start_max);
        let called =
            self.guard.tidegate_edge_guard().call_configure(&mut self.store, policy, setup);
        called.map_err(failed)
    }

    /// Decides a request by the facts that the terms want, in their order, or says to hold it.
    ///
    /// # Errors
    ///
    /// If the component failed.
    pub fn on_request(&mut self, facts: &[Fact]) -> Done<Step> {
        self.arm();
        self.guard.tidegate_edge_guard().call_on_request(&mut self.store, facts).map_err(failed)
    }

    /// Brings back what came of a question; what was decided by it.
    ///
    /// # Errors
    ///
    /// If the component failed.
    pub fn on_reply(
        &mut self,
        question: u64,
        answer: Result<&[u8], NoAnswer>,
    ) -> Done<Vec<Decision>> {
        self.arm();
        let guard = self.guard.tidegate_edge_guard();
        guard.call_on_reply(&mut self.store, question, answer).map_err(failed)
    }

    /// Says that a request has died which was held.
    ///
    /// # Errors
    ///
    /// If the component failed.
    pub fn on_gone(&mut self, ticket: u64) -> Done<()> {
        self.arm();
        self.guard.tidegate_edge_guard().call_on_gone(&mut self.store, ticket).map_err(failed)
    }

    /// Lets it do what time brings; what was decided by it.
    ///
    /// # Errors
    ///
    /// If the component failed.
    pub fn on_tick(&mut self) -> Done<Vec<Decision>> {
        self.arm();
        self.guard.tidegate_edge_guard().call_on_tick(&mut self.store).map_err(failed)
    }

    /// Takes what happened since the last call.
    ///
    /// # Errors
    ///
    /// If the component failed.
    pub fn take_tallies(&mut self) -> Done<Tallies> {
        self.arm();
        self.guard.tidegate_edge_guard().call_take_tallies(&mut self.store).map_err(failed)
    }

    /// From now on it may run for so long.
    fn arm(&mut self) {
        Watch::arm(&mut self.store, State::watch, self.call_max);
    }
}

fn failed(error: wasmtime::Error) -> Failed {
    // The root says what happened; before it stands where, which is our own code.
    let root = one_line(&wasmtime::Error::msg(error.root_cause().to_string()));
    Failed(root)
}
