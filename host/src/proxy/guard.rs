//! A component that decides each request before filters see it.
//!
//! Each lane has an instance of its own, and what they share lies in the process, so that their
//! limits hold together. Facts are gathered of the request as filters would read them; a request
//! that is held is awaited here, and one whose client has left is given up. An instance that fails
//! answers nothing any more: what it held, and what comes until another is there, gets what its
//! policy says of a store that is away, or goes on.
//!
//! - [`facts`]: what a policy wants to know of a request
//! - [`shell`]: what a component finds around it, and its questions as calls
//! - [`trial`]: one that is new is first started where it holds up nobody
//! - [`set`]: the guards of a plan; [`party`]: what all lanes' guards have in common
//! - [`meters`]: what they count

mod facts;
mod meters;
mod party;
mod set;
mod shell;
mod trial;

use super::calls::Calls;
use super::exchange::Beginning;
use super::shared::Shared;
use crate::component::world::guard::{Decision, Setup, Step, Terms, Verdict};
use crate::component::world::store::{NoAnswer, Question};
use crate::component::world::types::Want;
use crate::component::{Failed, Instance, Shell};
use bytes::Bytes;
use meters::Meters;
pub(super) use party::{Components, GuardPlan, Party};
use proxy_wasm_host::http::Refusal;
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::plugin::Limits;
pub(super) use set::Guards;
use shell::{Letters, Outlook};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
pub(super) use trial::tried;

/// How long after a failure another instance is made; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// An instance that was at work for so long was well: the next pause is short again.
const WELL: Duration = Duration::from_secs(10);

/// The longest that a request is held: policies wait 4 s at most for a store. An instance that has not
/// decided it by then never will.
const HELD_MAX: Duration = Duration::from_secs(5);

/// Fields of a response.
pub(super) type Fields = Vec<(String, String)>;

/// What becomes of a request.
pub(super) enum Admission {
    /// It goes on; its response gets these, in place of what is there by their names.
    Through(Fields),
    Refused(Box<Refusal>),
}

/// One lane's instance, and who waits for it.
pub(super) struct Guard {
    shared: Arc<Shared>,
    calls: Rc<Calls>,
    plan: RefCell<Arc<GuardPlan>>,
    life: RefCell<Life>,
    /// What the instance has asked and nobody has sent yet.
    letters: Letters,
    wants: RefCell<Rc<[Want]>>,
    tick: Cell<Duration>,
    held: RefCell<HashMap<u64, oneshot::Sender<Verdict>>>,
    meters: RefCell<Meters>,
    /// Which instance this is: an answer to another's question is nobody's.
    generation: Cell<u64>,
    failures: Cell<u32>,
}

enum Life {
    Up(Box<Instance>, Instant),
    Down { until: Instant },
}

impl Guard {
    /// A guard at work by a plan.
    ///
    /// # Errors
    ///
    /// If the component fails, or refuses the policy.
    fn start(
        plan: &Arc<GuardPlan>,
        shared: &Arc<Shared>,
        calls: &Rc<Calls>,
    ) -> Result<Rc<Self>, String> {
        let letters = Letters::default();
        let outlook = Outlook::new(plan, shared, calls, &letters);
        let (instance, terms) = started(plan, shared, Box::new(outlook), plan.lane_limits())?;
        let guard = Rc::new(Self {
            shared: Arc::clone(shared),
            calls: Rc::clone(calls),
            plan: RefCell::new(Arc::clone(plan)),
            life: RefCell::new(Life::Up(Box::new(instance), Instant::now())),
            letters,
            wants: RefCell::default(),
            tick: Cell::default(),
            held: RefCell::default(),
            meters: RefCell::new(Meters::new(shared)),
            generation: Cell::new(0),
            failures: Cell::new(0),
        });
        guard.take(terms);
        guard.measure();
        tokio::task::spawn_local(tick(Rc::downgrade(&guard)));
        Ok(guard)
    }

    fn take(&self, terms: Terms) {
        self.wants.replace(terms.wants.into());
        self.tick.set(Duration::from_nanos(terms.tick).max(Duration::from_millis(1)));
    }

    /// Puts another policy in force, which a trial has shown to be good.
    fn configure(self: &Rc<Self>, plan: &Arc<GuardPlan>) {
        self.plan.replace(Arc::clone(plan));
        let setup = self.shared.party.setup(self.shared.lanes.len());
        match self.call(None, |instance| instance.configure(&plan.policy, setup)) {
            Some(Ok(terms)) => self.take(terms),
            Some(Err(problems)) => {
                tracing::error!(component = plan.settings.name, "{}", problems.join("\n"));
            }
            None => {}
        }
    }

    /// Decides a request, as soon as that can be.
    pub(super) async fn admit(self: &Rc<Self>, beginning: &mut Beginning) -> Admission {
        let wants = Rc::clone(&self.wants.borrow());
        let plan = Arc::clone(&self.plan.borrow());
        let facts = facts::gather(&wants, beginning, &plan.config);
        let step = self.call(Some(&beginning.headers), |instance| instance.on_request(&facts));
        let verdict = match step {
            Some(Step::Answer(verdict)) => verdict,
            Some(Step::Hold(ticket)) => match self.hold(ticket).await {
                Some(verdict) => verdict,
                None => unguarded(&plan),
            },
            None => unguarded(&plan),
        };
        admission(verdict)
    }

    /// Waits for what becomes of a request; `None` if nobody can tell any more. Given up when
    /// dropped, for then its client has left, and after [`HELD_MAX`].
    async fn hold(self: &Rc<Self>, ticket: u64) -> Option<Verdict> {
        let (told, verdict) = oneshot::channel();
        self.held.borrow_mut().insert(ticket, told);
        let held = Held { guard: self, ticket };
        let verdict = tokio::time::timeout(HELD_MAX, verdict).await.ok()?.ok();
        // It is not among those that are held any more.
        std::mem::forget(held);
        verdict
    }

    fn on_tick(self: &Rc<Self>) {
        self.revive();
        if let Some(decided) = self.call(None, Instance::on_tick) {
            self.tell(decided);
        }
        self.measure();
    }

    fn measure(self: &Rc<Self>) {
        if let Some(tallies) = self.call(None, Instance::take_tallies) {
            self.meters.borrow_mut().tell(&tallies);
        }
    }

    fn tell(&self, decided: Vec<Decision>) {
        for Decision { ticket, verdict } in decided {
            let told = self.held.borrow_mut().remove(&ticket);
            if let Some(told) = told {
                let _ = told.send(verdict);
            }
        }
    }

    /// Runs the instance, and sends what it asks: on behalf of a request, if these are its headers.
    /// `None` if there is no instance, or it failed.
    fn call<T>(
        self: &Rc<Self>,
        request: Option<&HeaderMap>,
        run: impl FnOnce(&mut Instance) -> Result<T, Failed>,
    ) -> Option<T> {
        let done = match &mut *self.life.borrow_mut() {
            Life::Up(instance, _) => run(instance),
            Life::Down { .. } => return None,
        };
        let questions = self.letters.take();
        match done {
            Ok(done) => {
                questions.into_iter().for_each(|question| self.send(question, request));
                Some(done)
            }
            Err(failed) => {
                self.fail(&failed);
                None
            }
        }
    }

    fn send(self: &Rc<Self>, question: Question, request: Option<&HeaderMap>) {
        let name = (question.id, self.generation.get());
        let call = shell::call(question, &self.shared.party.id, request);
        let guard = Rc::downgrade(self);
        let sent = self.calls.ask(call, move |response| {
            if let Some(guard) = guard.upgrade() {
                guard.hear(name, shell::answer(&response));
            }
        });
        // Looked up when the instance sent it: a plan that was taken since may have less.
        if sent.is_err() {
            let guard = Rc::downgrade(self);
            tokio::task::spawn_local(async move {
                if let Some(guard) = guard.upgrade() {
                    guard.hear(name, Err(shell::UNREACHABLE));
                }
            });
        }
    }

    /// Brings back what came of a question, unless another instance put it.
    fn hear(self: &Rc<Self>, (id, generation): (u64, u64), answer: Result<&[u8], NoAnswer>) {
        if self.generation.get() == generation {
            let decided = self.call(None, |instance| instance.on_reply(id, answer));
            self.tell(decided.unwrap_or_default());
        }
    }

    /// The instance is of no more use: another is made after a pause, and whom it held gets an
    /// answer.
    fn fail(&self, failed: &Failed) {
        let was_well =
            matches!(&*self.life.borrow(), Life::Up(_, since) if since.elapsed() >= WELL);
        let failures = if was_well { 0 } else { self.failures.get() };
        self.failures.set(failures.saturating_add(1));
        let pause = PAUSE * 2_u32.pow(failures.min(PAUSE_DOUBLINGS_MAX));
        self.life.replace(Life::Down { until: Instant::now() + pause });
        self.generation.set(self.generation.get() + 1);
        self.meters.borrow_mut().failed();
        let plan = Arc::clone(&self.plan.borrow());
        let name = &plan.settings.name;
        tracing::error!(component = name, ?pause, "an instance failed, another follows: {failed}");
        for told in std::mem::take(&mut *self.held.borrow_mut()).into_values() {
            let _ = told.send(unguarded(&plan));
        }
    }

    /// Makes another instance, if one failed and the pause is over.
    fn revive(&self) {
        match &*self.life.borrow() {
            Life::Down { until } if *until <= Instant::now() => {}
            _ => return,
        }
        let plan = Arc::clone(&self.plan.borrow());
        let outlook = Outlook::new(&plan, &self.shared, &self.calls, &self.letters);
        match started(&plan, &self.shared, Box::new(outlook), plan.lane_limits()) {
            Ok((instance, terms)) => {
                self.life.replace(Life::Up(Box::new(instance), Instant::now()));
                self.take(terms);
            }
            Err(why) => self.fail(&Failed(why)),
        }
    }
}

/// An instance with its policy in force.
fn started(
    plan: &GuardPlan,
    shared: &Shared,
    around: Box<dyn Shell>,
    limits: Limits,
) -> Result<(Instance, Terms), String> {
    let name = &plan.settings.name;
    let failed = |Failed(why)| format!("component {name}: {why}");
    let mut instance = Instance::new(&plan.component, around, limits).map_err(failed)?;
    let setup: Setup = shared.party.setup(shared.lanes.len());
    let configured = instance.configure(&plan.policy, setup).map_err(failed)?;
    let terms = configured.map_err(|problems| {
        format!("component {name} refuses the policy:\n{}", problems.join("\n"))
    })?;
    Ok((instance, terms))
}

/// One request that is held, until its future is dropped.
struct Held<'a> {
    guard: &'a Rc<Guard>,
    ticket: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.guard.held.borrow_mut().remove(&self.ticket).is_some() {
            self.guard.call(None, |instance| instance.on_gone(self.ticket));
        }
    }
}

async fn tick(guard: Weak<Guard>) {
    loop {
        let Some(period) = guard.upgrade().map(|guard| guard.tick.get()) else { return };
        tokio::time::sleep(period).await;
        let Some(guard) = guard.upgrade() else { return };
        guard.on_tick();
    }
}

/// What a request gets that no instance decided: it goes on, unless its policy would rather refuse
/// than let one through unchecked.
fn unguarded(plan: &GuardPlan) -> Verdict {
    use crate::component::world::guard::{Reason, Refusal};
    if !plan.is_closed {
        return Verdict::Allow(None);
    }
    Verdict::Refuse(Refusal {
        reason: Reason::Unknown,
        limit: None,
        retry_after: None,
        standings: Vec::new(),
        status: 500,
        grpc_status: 13,
        fields: Vec::new(),
        body: String::new(),
        details: "tidegate{bug}".to_owned(),
    })
}

fn admission(verdict: Verdict) -> Admission {
    match verdict {
        Verdict::Allow(None) => Admission::Through(Fields::new()),
        Verdict::Allow(Some(told)) => {
            let fields = told.fields.into_iter().map(|field| (field.name, field.value));
            Admission::Through(fields.collect())
        }
        Verdict::Refuse(refusal) => Admission::Refused(Box::new(Refusal {
            status: refusal.status,
            grpc_status: Some(refusal.grpc_status),
            headers: refusal.fields.into_iter().map(|it| (it.name, it.value)).collect(),
            body: Bytes::from(refusal.body),
            details: refusal.details,
        })),
    }
}
