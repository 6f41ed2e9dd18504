//! What one instance holds: the policy in force, replaced ones that still wait, the questions on
//! their way.

use crate::bindings::exports::tidegate::edge::guard::{
    Decision, Setup, Step, Tallies, Terms, Ticket, Verdict,
};
use crate::bindings::tidegate::edge::log::{self, Level};
use crate::bindings::tidegate::edge::store::{self, NoAnswer};
use crate::bindings::tidegate::edge::types::Fact;
use crate::facts::Given;
use crate::tallies::Leftovers;
use crate::watch::{Serial, Watch, of_ticket};
use crate::{reading, telling};
use std::cell::RefCell;
use tidegate_core::ask;
use tidegate_core::gate::{self, Answered, Question, QuestionId};
use tidegate_core::numbered::Numbered;
use tidegate_core::time::Span;
use tidegate_core::wire::Kind;

#[derive(Default)]
pub(crate) struct Instance {
    in_force: Option<Watch>,
    /// Replaced ones whose last requests still wait for the store: decided as they were begun.
    /// None lives longer than a question's deadline.
    retired: Vec<Watch>,
    last_serial: Serial,
    /// Questions on their way, by their numbers. Bounded by the gates.
    calls: Numbered<Call>,
    last_call: u32,
    /// Not told yet: of requests that were held.
    decided: Vec<Decision>,
    leftovers: Leftovers,
}

/// A question on its way.
struct Call {
    serial: Serial,
    /// The gate's question and of which kind its answer is; none: whether the store is back.
    question: Option<(QuestionId, Kind)>,
}

thread_local! {
    static INSTANCE: RefCell<Instance> = RefCell::new(Instance::default());
}

/// Runs with this instance's state. An instance is one thread and imports never call back, so it
/// is never busy.
pub(crate) fn with<R>(run: impl FnOnce(&mut Instance) -> R) -> R {
    INSTANCE.with_borrow_mut(run)
}

impl Instance {
    /// Puts a policy in force, or refuses it and leaves all as it is.
    pub(crate) fn configure(&mut self, text: &str, setup: Setup) -> Result<Terms, Vec<String>> {
        let (policy, warnings) = reading::read(text)?;
        tell_of_panics();
        self.last_serial = Serial(self.last_serial.0.wrapping_add(1));
        let (mut new, wants) = Watch::new(policy, &setup, self.last_serial);
        if let Some(mut old) = self.in_force.take() {
            old.gate.drain(&mut old.ground);
            self.leftovers.keep(&mut old.gate);
            new.gate.take_over(&mut old.gate);
            let serial = old.serial;
            self.retired.push(old);
            self.carry(serial);
        }
        let tick = new.gate.tick().0;
        self.in_force = Some(new);
        Ok(Terms { wants, tick, warnings })
    }

    pub(crate) fn set_instances(&mut self, instances: u32) {
        if let Some(watch) = &mut self.in_force {
            watch.gate.set_workers(instances);
        }
    }

    /// Decides a request, or holds it.
    pub(crate) fn on_request(&mut self, facts: Vec<Fact>) -> Step {
        let Some(watch) = &mut self.in_force else {
            return Step::Answer(Verdict::Allow(None));
        };
        let mut given = Given { places: &watch.places, facts: &facts };
        let step = watch.gate.on_request(&mut watch.ground, &mut given);
        let (serial, has_questions) = (watch.serial, watch.gate.has_questions());
        let step = match step {
            gate::Step::Answer(verdict) => {
                Step::Answer(telling::told(watch.gate.policy(), verdict))
            }
            gate::Step::Hold(ticket) => Step::Hold(watch.ticket(ticket)),
        };
        if !has_questions {
            return step;
        }
        self.carry(serial);
        self.decided_at_once(step)
    }

    /// A request whose question could not be sent is decided before it was told to wait.
    fn decided_at_once(&mut self, step: Step) -> Step {
        let Step::Hold(ticket) = step else { return step };
        match self.decided.iter().position(|decision| decision.ticket == ticket) {
            Some(at) => Step::Answer(self.decided.remove(at).verdict),
            None => step,
        }
    }

    /// Goes on with what a question was for.
    pub(crate) fn on_reply(
        &mut self,
        question: u64,
        answer: Result<Vec<u8>, NoAnswer>,
    ) -> Vec<Decision> {
        let call = u32::try_from(question).ok().and_then(|number| self.calls.remove(number));
        let Some(Call { serial, question }) = call else { return self.take_decided() };
        let Some(watch) = self.watch(serial) else { return self.take_decided() };
        match question {
            None => watch.gate.on_probe(&mut watch.ground, answer.is_ok()),
            Some((id, kind)) => {
                let reply = answer.map_err(why).and_then(|body| {
                    Answered::decode(kind, body).map_err(|_| ask::NoAnswer::Unreachable)
                });
                // One that died was said to have.
                watch.gate.on_reply(&mut watch.ground, id, reply, &mut |_| true);
            }
        }
        self.carry(serial);
        self.take_decided()
    }

    pub(crate) fn on_gone(&mut self, ticket: Ticket) {
        self.decided.retain(|decision| decision.ticket != ticket);
        let (serial, ticket) = of_ticket(ticket);
        if let Some(watch) = self.watch(serial) {
            watch.gate.on_gone(&mut watch.ground, ticket);
        }
    }

    /// Does what time brings.
    pub(crate) fn on_tick(&mut self) -> Vec<Decision> {
        self.tend_retired();
        if let Some(watch) = &mut self.in_force {
            let serial = watch.serial;
            if watch.gate.on_tick(&mut watch.ground) {
                self.probe();
            }
            self.carry(serial);
        }
        self.take_decided()
    }

    pub(crate) fn take_tallies(&mut self) -> Tallies {
        let none = || Tallies {
            limits: Vec::new(),
            plugins: Vec::new(),
            revocation: None,
            is_store_away: false,
        };
        let gate = self.in_force.as_mut().map(|watch| &mut watch.gate);
        gate.map_or_else(none, |gate| self.leftovers.take(gate))
    }

    /// Lets the last requests of replaced policies end.
    fn tend_retired(&mut self) {
        for old in &mut self.retired {
            old.gate.drain(&mut old.ground);
            self.leftovers.keep(&mut old.gate);
            // They may have gone without an answer since it was replaced.
            if let Some(new) = &mut self.in_force {
                new.gate.take_over(&mut old.gate);
            }
        }
        let serials: Vec<Serial> = self.retired.iter().map(|old| old.serial).collect();
        serials.into_iter().for_each(|serial| self.carry(serial));
        self.retired.retain(|old| old.gate.is_asking());
    }

    fn watch(&mut self, serial: Serial) -> Option<&mut Watch> {
        self.in_force.iter_mut().chain(&mut self.retired).find(|watch| watch.serial == serial)
    }

    /// Sends the questions that a gate has, and keeps what it has decided of requests that were
    /// held.
    fn carry(&mut self, serial: Serial) {
        loop {
            let Some(watch) = self.watch(serial) else { return };
            let questions = watch.gate.take_questions();
            if questions.is_empty() {
                break;
            }
            questions.into_iter().for_each(|question| self.put(serial, question));
        }
        let Some(watch) = self.watch(serial) else { return };
        let decided = watch.gate.take_decided().into_iter().map(|(ticket, verdict)| Decision {
            ticket: watch.ticket(ticket),
            verdict: telling::told(watch.gate.policy(), verdict),
        });
        let decided: Vec<_> = decided.collect();
        self.decided.extend(decided);
    }

    /// Sends a question; one that cannot be sent stays without an answer.
    fn put(&mut self, serial: Serial, question: Question) {
        let (body, kind) = question.ask.encode();
        let call = Call { serial, question: Some((question.id, kind)) };
        if !self.send(call, Some(body), question.waits)
            && let Some(watch) = self.watch(serial)
        {
            let reply = Err(ask::NoAnswer::Unreachable);
            watch.gate.on_reply(&mut watch.ground, question.id, reply, &mut |_| true);
        }
    }

    /// Asks whether the host service is there again; what its store can do it says to each ask.
    fn probe(&mut self) {
        let Some(watch) = &self.in_force else { return };
        let Some(host) = &watch.gate.policy().host else { return };
        let (call, deadline) = (Call { serial: watch.serial, question: None }, host.deadline);
        if !self.send(call, None, deadline)
            && let Some(watch) = &mut self.in_force
        {
            watch.gate.on_probe(&mut watch.ground, false);
        }
    }

    fn send(&mut self, call: Call, body: Option<Vec<u8>>, waits: Span) -> bool {
        let number = self.last_call.wrapping_add(1);
        let Some(watch) = self.watch(call.serial) else { return false };
        let Some(host) = &watch.gate.policy().host else { return false };
        let was_taken = store::send(&store::Question {
            id: u64::from(number),
            to: host.cluster.to_string(),
            authority: host.authority.to_string(),
            body,
            waits: waits.0,
        });
        if was_taken {
            self.last_call = number;
            self.calls.insert(number, call);
        }
        was_taken
    }

    fn take_decided(&mut self) -> Vec<Decision> {
        core::mem::take(&mut self.decided)
    }
}

fn why(none: NoAnswer) -> ask::NoAnswer {
    match none {
        NoAnswer::Unreachable => ask::NoAnswer::Unreachable,
        NoAnswer::StoreAway(nanos) => ask::NoAnswer::StoreAway(Span(nanos)),
    }
}

/// A panic ends the instance; its log says where that came from.
fn tell_of_panics() {
    std::panic::set_hook(Box::new(|info| {
        // The place, not the message: a message may quote what a client sent.
        let place = info.location().map_or_else(String::new, ToString::to_string);
        log::write(Level::Error, &format!("tidegate: a bug at {place}; please report it"));
    }));
}
