//! The limiter in this process: its component, what that finds around it, and who waits for it.

use crate::ask::Service;
use exports::tidegate::edge::guard::{Decision, Guest, Setup, Step};
use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::take;
use std::process::exit;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate::edge::types::Fact;
use tidegate::edge::{clock, log, shared, store, types};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

pub use exports::tidegate::edge::guard::Verdict;
pub use tidegate::edge::store::{NoAnswer, Question};
pub use tidegate::edge::types::Want;

wasmtime::component::bindgen!({ path: "../..", world: "edge-guard" });

/// No request is held for longer; the longest deadline that a policy can have is 4 s.
const HELD_MAX: Duration = Duration::from_secs(10);

/// By what a request is called in logs and traces: goes along with a question about it.
pub type Names = Vec<(&'static str, String)>;

/// One instance, on the one thread that there is.
pub struct Guard {
    instance: RefCell<(Store<Around>, EdgeGuard)>,
    /// The requests that wait: by its ticket, whom to tell of each.
    held: RefCell<HashMap<u64, oneshot::Sender<Verdict>>>,
    service: Service,
    /// What [`Guard::decide`] takes of a request.
    pub wants: Vec<Want>,
    /// How often [`Guard::tick`] is to be called.
    pub tick: Duration,
}

impl Guard {
    /// Makes the instance and puts the policy in force. One that makes no sense ends the process.
    pub fn start(component: &str, policy: &str, service: Service) -> wasmtime::Result<Rc<Self>> {
        let engine = Engine::default();
        let component = Component::from_file(&engine, component)?;
        let mut linker = Linker::new(&engine);
        EdgeGuard::add_to_linker::<_, HasSelf<_>>(&mut linker, |around| around)?;
        let mut store = Store::new(&engine, Around::new());
        let world = EdgeGuard::instantiate(&mut store, &component, &linker)?;
        let draw = getrandom::u64;
        let setup = Setup { seed: (draw()?, draw()?), process: draw()?, number: 1, instances: 1 };
        let terms = world.tidegate_edge_guard().call_configure(&mut store, policy, setup)?;
        let terms = terms.unwrap_or_else(|problems| {
            eprintln!("{}", problems.join("\n"));
            exit(1)
        });
        let (wants, tick) = (terms.wants, Duration::from_nanos(terms.tick));
        let instance = RefCell::new((store, world));
        Ok(Rc::new(Self { instance, held: RefCell::default(), service, wants, tick }))
    }

    /// The verdict; none if the guard does not tell. If this is dropped, the client is gone.
    pub async fn decide(self: &Rc<Self>, facts: &[Fact], names: Names) -> Option<Verdict> {
        self.instance.borrow_mut().0.data_mut().names = names;
        let step = self.call(|it, store| it.call_on_request(store, facts));
        self.instance.borrow_mut().0.data_mut().names.clear();
        let ticket = match step {
            Step::Answer(verdict) => return Some(verdict),
            Step::Hold(ticket) => ticket,
        };
        let (tell, told) = oneshot::channel();
        self.held.borrow_mut().insert(ticket, tell);
        let _held = Held { guard: self, ticket };
        timeout(HELD_MAX, told).await.ok()?.ok()
    }

    pub fn tick(self: &Rc<Self>) {
        self.settle(self.call(|it, store| it.call_on_tick(store)));
    }

    /// Calls the guard, and sends what it asks. A trap ends the process: whoever runs it starts
    /// another.
    fn call<T>(
        self: &Rc<Self>,
        run: impl FnOnce(&Guest, &mut Store<Around>) -> wasmtime::Result<T>,
    ) -> T {
        let (store, world) = &mut *self.instance.borrow_mut();
        let done = run(world.tidegate_edge_guard(), store).unwrap_or_else(|trap| {
            eprintln!("error: the guard is gone: {trap:?}");
            exit(70)
        });
        for (question, names) in take(&mut store.data_mut().questions) {
            spawn_local(self.clone().bring(question, names));
        }
        done
    }

    /// Brings back what comes of a question, whatever it is.
    async fn bring(self: Rc<Self>, question: Question, names: Names) {
        let id = question.id;
        let answer = self.service.ask(question, names).await;
        let answer = answer.as_deref().map_err(|none| *none);
        self.settle(self.call(|it, store| it.call_on_reply(store, id, answer)));
    }

    fn settle(&self, decisions: Vec<Decision>) {
        for Decision { ticket, verdict } in decisions {
            if let Some(tell) = self.held.borrow_mut().remove(&ticket) {
                // Who is gone by now needs no verdict.
                let _ = tell.send(verdict);
            }
        }
    }
}

/// A request that is held. When it drops undecided, its client is gone, or has waited for too long.
struct Held<'a> {
    guard: &'a Rc<Guard>,
    ticket: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let held = self.guard.held.borrow_mut().remove(&self.ticket);
        if held.is_some() {
            self.guard.call(|it, store| it.call_on_gone(store, self.ticket));
        }
    }
}

/// What the guard finds around it. What the instances of a process share is a map: it has one.
struct Around {
    start: Instant,
    shared: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    /// Of the request that is just being decided.
    names: Names,
    /// Taken, and sent when the call has returned.
    questions: Vec<(Question, Names)>,
}

impl Around {
    fn new() -> Self {
        let (shared, names, questions) = Default::default();
        Self { start: Instant::now(), shared, names, questions }
    }
}

impl types::Host for Around {}

impl clock::Host for Around {
    fn now(&mut self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

impl log::Host for Around {
    fn write(&mut self, level: log::Level, message: String) {
        eprintln!("{level:?}: {message}");
    }
}

impl shared::Host for Around {
    fn get(&mut self, key: Vec<u8>) -> Option<(Vec<u8>, u32)> {
        self.shared.get(&key).cloned()
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>, version: Option<u32>) -> bool {
        let current = self.shared.get(&key).map_or(0, |(_, version)| *version);
        let fits = version.is_none_or(|version| version == current);
        if fits {
            self.shared.insert(key, (value, current.checked_add(1).unwrap_or(1)));
        }
        fits
    }
}

impl store::Host for Around {
    fn send(&mut self, question: Question) -> bool {
        self.questions.push((question, self.names.clone()));
        true
    }
}
