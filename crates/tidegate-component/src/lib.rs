//! Tidegate as a component: the world `edge-guard` of the package in `wit/`.
//!
//! No decisions here: a call brings facts, drives [`tidegate_core::gate::Gate`] and tells what its
//! step says. What the filter reads from its proxy comes with the call here; what it asks of its
//! proxy is asked of the imports `shared`, `clock`, `store` and `log`.
//!
//! **A panic is a trap**, and ends the instance: the log tells where, and the host makes another.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bindings;
mod facts;
mod ground;
mod instance;
mod reading;
mod tallies;
mod telling;
mod watch;

use bindings::exports::tidegate::edge::guard::{
    Decision, Guest, Setup, Step, Tallies, Terms, Ticket,
};
use bindings::tidegate::edge::store::{NoAnswer, QuestionId};
use bindings::tidegate::edge::types::Fact;
use instance::with;

struct Component;

bindings::export!(Component with_types_in bindings);

impl Guest for Component {
    fn configure(policy: String, setup: Setup) -> Result<Terms, Vec<String>> {
        with(|instance| instance.configure(&policy, setup))
    }

    fn set_instances(instances: u32) {
        with(|instance| instance.set_instances(instances));
    }

    fn on_request(facts: Vec<Fact>) -> Step {
        with(|instance| instance.on_request(facts))
    }

    fn on_reply(question: QuestionId, answer: Result<Vec<u8>, NoAnswer>) -> Vec<Decision> {
        with(|instance| instance.on_reply(question, answer))
    }

    fn on_gone(ticket: Ticket) {
        with(|instance| instance.on_gone(ticket));
    }

    fn on_tick() -> Vec<Decision> {
        with(|instance| instance.on_tick())
    }

    fn take_tallies() -> Tallies {
        with(|instance| instance.take_tallies())
    }
}
