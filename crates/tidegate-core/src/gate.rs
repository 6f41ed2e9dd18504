//! THE state machine that every shell drives.
//!
//! A shell hands in a request's facts and gets a [`Step`]: a verdict, or a ticket for a
//! request to be held. After each call it sends the [`Question`]s that there are, and after
//! each answer it acts on what was decided. A store that does not answer is an input like any
//! other ([`NoAnswer`]), so what happens then is decided, and tested, here.
//!
//! Several limits on one request are all or nothing. What needs no store goes first: leased
//! limits and local ones are taken, and given back if a later one refuses. Then units are
//! awaited for leased limits that had none; then one ask carries all exact limits. So a denied
//! request charges nothing.
//!
//! **Workers.** A proxy runs one gate in each worker over shared state that is read and
//! written with compare-and-swap ([`Slots`]). Token buckets are drawn on in chunks
//! (`stock`), so most requests touch no shared state and read no clock; the windows
//! algorithms touch it once for each request.
//!
//! **What this costs in truth.** Chunks never over-admit (see
//! [`token_bucket`](crate::limit::token_bucket)), as long as ticks come: a worker whose
//! event loop stalled for longer than [`EPOCH`](crate::limit::token_bucket::EPOCH) may spend
//! one stale chunk. They can strand up to a sixteenth of what was left in the bucket in
//! workers that see no more requests, until the next tick returns it. Where one local limit
//! refuses what another had granted, the grant is put back within the same callback; a
//! bucket that was full may have refilled for those microseconds.

mod alone;
mod answer;
mod breaker;
mod debts;
mod held;
mod leases;
mod local;
mod pulls;
mod question;
mod refusals;
mod resolving;
mod revocations;
mod share;
mod sharing;
mod stock;
mod wait;

use crate::ask::NoAnswer;
use crate::facts::Facts;
use crate::lease::{Budget, HolderId};
use crate::limit::{Refused, Standing};
use crate::numbered::Numbered;
use crate::plan::{Applied, Planner};
use crate::policy::{Limit, Policy, Scope};
use crate::revoke::Position;
use crate::table::{Conflict, Slots, Table};
use crate::time::{Instant, Span};
use crate::token::Reading;
use crate::verdict::{LimitIndex, LimitStanding, Verdict};
use alloc::boxed::Box;
use alloc::vec::Vec;
use breaker::Breaker;
pub use debts::DEBTS_MAX;
use debts::Debts;
use held::Held;
use leases::{Leased, LeasedState, Leases};
use local::{Local, Taken};
use pulls::Pulls;
pub use question::{Answered, Asked, Question, QuestionId};
use question::{OnItsWay, Purpose};
use refusals::{Refusals, told};
use resolving::{Open, Plugins};
pub use resolving::{PluginTally, RESOLVING_MAX};
pub use revocations::{CHECKS_MAX, RevocationState, RevocationTally};
use revocations::{Checking, Looked, Resumed, Revocations};
use sharing::Place;
pub use sharing::Place as SharedPlace;

/// The most requests and questions of one worker that may wait for the store at once. Each
/// waits at most the deadline (20 ms), so this is 400,000 requests a second that ask one by one;
/// beyond it a request is decided as if the store were away.
pub const WAITING_MAX: usize = 16_384;

/// How often a gate wants [`Gate::on_tick`].
const TICK: Span = Span::from_millis(100);

/// The same, if it holds leases: what is not needed goes back, and what runs out is asked for. And
/// if it looks at revocations: it hears at ticks what other workers were told.
const LEASES_TICK: Span = Span::from_millis(25);

/// What a gate stands on: the shared state of its process, and a clock that it reads
/// only when an answer can depend on the time.
pub trait Ground: Slots {
    /// The time on a clock that never goes back and is the same for all workers.
    fn now(&mut self) -> Instant;

    /// Reads a value that all workers of the process share; returns its version, 0 if there is
    /// none. A worker that is alone need not keep any.
    fn shared(&mut self, place: Place, read: &mut dyn FnMut(&[u8])) -> u32 {
        let _ = (place, read);
        0
    }

    /// Shares a value; if a version is given, only in place of the one that has it.
    ///
    /// # Errors
    ///
    /// [`Conflict`] if another was there, or it cannot be kept; nothing is written.
    fn share(&mut self, place: Place, bytes: &[u8], version: Option<u32>) -> Result<(), Conflict> {
        let _ = (place, bytes, version);
        Ok(())
    }
}

/// What to do next with a request.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// It is decided.
    Answer(Verdict),
    /// Hold it: what becomes of it is said by [`Gate::take_decided`], once a question is answered.
    Hold(Ticket),
}

/// Stands for a request that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(
    /// Its number: they count up.
    pub u32,
);

/// How often each thing happened to one limit since the tallies were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that the limit applied to and that were let through.
    pub allowed: u64,
    /// Requests that this limit refused.
    pub limited: u64,
    /// Requests that this limit would have refused, were it not a shadow.
    pub shadowed: u64,
    /// Requests decided by `on_error`, the store being away.
    pub degraded: u64,
    /// Requests that waited for the store because of this limit.
    pub waited: u64,
}

/// One worker's gate, under one policy.
pub struct Gate {
    policy: Policy,
    planner: Planner,
    reading: Reading,
    plan: Vec<Applied>,
    local: Local,
    leases: Leases,
    /// If the policy looks at any.
    revocations: Option<Revocations>,
    plugins: Plugins,
    /// The request that goes on after it has waited, while it does.
    resumed: Option<Resumed>,
    breaker: Breaker,
    /// By ticket or by question: one row of numbers counts both.
    waiting: Numbered<Waiting>,
    last_number: u32,
    replies: u32,
    ticks: u8,
    /// Budgets of which something is to be asked once this request is decided: what it took and
    /// gives back must not have been told as spent.
    due: Vec<Budget>,
    questions: Vec<Question>,
    decided: Vec<(Ticket, Verdict)>,
    debts: Debts,
    shares_ppm: Vec<u32>,
    tallies: Vec<Tally>,
}

enum Waiting {
    Request(Box<Held>),
    Question(Box<OnItsWay>),
    Checking(Box<Checking>),
    Resolving(Box<Open>),
}

impl Gate {
    /// A gate for `policy`. `seed` is secret and the same in all workers of the process; `me` is
    /// this gate's alone, ever: not even one that it replaces may have had it.
    pub fn new(policy: Policy, seed: &[u8; 16], me: HolderId) -> Self {
        let limits = policy.limits.len();
        Self {
            planner: Planner::new(&policy, seed),
            reading: Reading::new(&policy),
            plan: Vec::new(),
            local: Local::new(Table::new(policy.table_keys_max)),
            leases: Leases::new(&policy, me),
            revocations: policy
                .revocation
                .as_ref()
                .map(|rules| Revocations::new(rules, Pulls::new(me), seed)),
            plugins: Plugins::new(&policy),
            resumed: None,
            breaker: Breaker::new(policy.host.as_ref().map_or(Span::from_secs(1), |h| h.breaker)),
            waiting: Numbered::default(),
            last_number: 0,
            replies: 0,
            ticks: 0,
            due: Vec::new(),
            questions: Vec::new(),
            decided: Vec::new(),
            debts: Debts::default(),
            shares_ppm: alloc::vec![0; limits],
            tallies: alloc::vec![Tally::default(); limits],
            policy,
        }
    }

    /// The policy it enforces.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many workers of the process share what is leased: more of them take less each. 1
    /// until this is called.
    pub const fn set_workers(&mut self, workers: u32) {
        self.leases.till.set_workers(workers);
        if let Some(revocations) = &mut self.revocations {
            revocations.known.set_workers(workers);
        }
    }

    /// Decides a request, or says that it must wait.
    pub fn on_request<F: Facts, G: Ground>(&mut self, ground: &mut G, facts: &mut F) -> Step {
        self.reading.begin();
        let looked = self.look(ground, facts);
        if let Looked::Rejected(rejection) = looked {
            return Step::Answer(self.reject(rejection));
        }
        let mut plan = core::mem::take(&mut self.plan);
        let open = self.plan(facts, &mut plan);
        let step = match looked {
            Looked::Unsure => self.check(ground, &plan, open),
            Looked::Clear | Looked::Rejected(_) => self.proceed(ground, &plan, open),
        };
        self.plan = plan;
        if !self.due.is_empty() {
            self.ask_for_due(ground);
        }
        step
    }

    /// Learns what came of a question. `is_there` says whether a request that waits still does:
    /// what one that died took goes back, and nothing is decided for it.
    pub fn on_reply<G: Ground>(
        &mut self,
        ground: &mut G,
        question: QuestionId,
        reply: Result<Answered, NoAnswer>,
        is_there: &mut dyn FnMut(Ticket) -> bool,
    ) {
        let Some(Waiting::Question(sent)) = self.waiting.remove(question.0) else { return };
        if !sent.purpose.is_pull() && !self.is_of_own_proxy(&sent.purpose, &reply) {
            self.hear(ground, &reply, &sent);
        }
        self.follow(ground, sent.purpose, reply, is_there);
        if !self.due.is_empty() {
            self.ask_for_due(ground);
        }
    }

    /// Forgets a request that died while it waited. What it took of local and leased limits goes
    /// back; what the store charged for it stays charged, the safe direction.
    pub fn on_gone<G: Ground>(&mut self, ground: &mut G, ticket: Ticket) {
        if let Some(held) = self.let_go(ticket) {
            self.give_back(ground, &held);
        }
    }

    /// Does what time brings; call it about every [`Gate::tick`]. Returns whether the store
    /// should be probed now: if so, tell [`Gate::on_probe`] how that went.
    pub fn on_tick<G: Ground>(&mut self, ground: &mut G) -> bool {
        self.ticks = self.ticks.wrapping_add(1);
        if self.leases.are_any() {
            self.tend_leases(ground);
        }
        if self.ticks_fast() {
            self.tend_revocations(ground);
            if u64::from(self.ticks) % (TICK.0 / LEASES_TICK.0) != 0 {
                return false;
            }
        }
        self.local.on_tick(ground);
        if !self.breaker.is_open() && !self.debts.is_empty() {
            self.ask_for_debts(ground);
        }
        self.breaker.is_open() && self.breaker.probes(ground.now())
    }

    /// How often [`Gate::on_tick`] is to be called.
    pub fn tick(&self) -> Span {
        if self.ticks_fast() { LEASES_TICK } else { TICK }
    }

    /// Learns whether the store is back.
    pub fn on_probe<G: Ground>(&mut self, ground: &mut G, is_ready: bool) {
        if is_ready {
            self.breaker.close();
        } else {
            self.breaker.trip(ground.now());
        }
    }

    /// Takes over what another gate of this worker, whose policy this one's replaces, is owed.
    ///
    /// Call it again until the other is asking no more: a question of its own that stays
    /// without an answer brings back the debts that it carried, and may make new ones. Debts
    /// of limits that this policy does not have are told all the same.
    pub fn take_over(&mut self, other: &mut Self) {
        self.debts.absorb(&mut other.debts);
        if let (Some(ours), Some(theirs)) = (&mut self.revocations, &mut other.revocations)
            && ours.known.position() == Position::default()
        {
            ours.known = core::mem::take(&mut theirs.known);
            ours.is_fresh = theirs.is_fresh;
        }
    }

    /// Gives back all that this worker holds ahead, because its policy is replaced. Questions
    /// tell the store of leases; send them too. Call it again until it is asking no more: units may
    /// be on their way.
    pub fn drain<G: Ground>(&mut self, ground: &mut G) {
        self.local.drain(ground);
        if !self.breaker.is_open() {
            for ask in self.leases.till.drain(ground) {
                self.put(Asked::Leases(ask), Purpose::Told, None);
            }
        }
    }

    /// Whether there are questions to send.
    pub const fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Questions to send, whether or not requests are held for them. Tell [`Gate::on_reply`]
    /// what came of each.
    pub fn take_questions(&mut self) -> Vec<Question> {
        core::mem::take(&mut self.questions)
    }

    /// What was decided of requests that were held.
    pub fn take_decided(&mut self) -> Vec<(Ticket, Verdict)> {
        core::mem::take(&mut self.decided)
    }

    /// What happened to each limit since the last call, in the policy's order.
    pub fn take_tallies(&mut self) -> impl Iterator<Item = (&Limit, Tally)> {
        self.policy.limits.iter().zip(self.tallies.iter_mut().map(core::mem::take))
    }

    /// Whether the store is known to be away.
    pub const fn is_store_away(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether requests or questions wait for the store.
    pub fn is_asking(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn ticks_fast(&self) -> bool {
        self.leases.are_any() || self.revocations.is_some()
    }

    #[inline(never)] // called from several places: small code counts more
    fn decide<G: Ground>(&mut self, ground: &mut G, plan: &[Applied]) -> Step {
        if let [only] = plan
            && !self.policy.headers.on_allow
        {
            match self.role(only) {
                Role::Local => return Step::Answer(self.decide_local(ground, only)),
                Role::Leased => return self.decide_leased(ground, only),
                Role::Exact | Role::GlobalShadow => {}
            }
        }
        let mut held = Held::default();
        let mut refusals = Refusals::default();
        let for_later = plan.iter().any(|applied| self.role(applied) == Role::Exact);
        for applied in plan {
            match self.role(applied) {
                Role::Leased => match self.take_leased(ground, applied, for_later) {
                    Ok(leased) => held.leased.push(leased),
                    Err(refused) => self.refuse(applied, refused, &mut refusals),
                },
                Role::Exact => held.exact.push(*applied),
                Role::GlobalShadow => held.shadows.push(*applied),
                Role::Local => {}
            }
        }
        let waits = held.waits();
        for applied in plan {
            if self.role(applied) != Role::Local {
                continue;
            }
            match self.take(ground, applied, waits) {
                Ok((standing, taken)) => {
                    held.local.push(taken);
                    self.tell(applied, standing, &mut held.standings);
                }
                Err(refused) => self.refuse(applied, refused, &mut refusals),
            }
        }
        if let Some(denial) = refusals.denial {
            self.give_back(ground, &held);
            return Step::Answer(Verdict::Deny(denial));
        }
        if !waits {
            return Step::Answer(self.admit(ground, held));
        }
        for leased in &mut held.leased {
            self.leases.keep_taken(ground, leased);
        }
        self.hold(ground, held)
    }

    /// The common request, one local limit: nothing is collected for it.
    fn decide_local<G: Ground>(&mut self, ground: &mut G, applied: &Applied) -> Verdict {
        match self.local.take(ground, applied) {
            Ok(_) => self.admit_one(applied),
            Err(refused) => self.refuse_one(applied, refused),
        }
    }

    /// The other common request, one leased limit.
    fn decide_leased<G: Ground>(&mut self, ground: &mut G, applied: &Applied) -> Step {
        match self.take_leased(ground, applied, false) {
            Ok(leased) if leased.state == LeasedState::Waits => {
                let held = Held { leased: alloc::vec![leased], ..Held::default() };
                self.hold(ground, held)
            }
            Ok(_) => Step::Answer(self.admit_one(applied)),
            Err(refused) => Step::Answer(self.refuse_one(applied, refused)),
        }
    }

    fn admit_one(&mut self, applied: &Applied) -> Verdict {
        self.count(applied.limit, |tally| tally.allowed += 1);
        Verdict::Allow(Vec::new())
    }

    fn refuse_one(&mut self, applied: &Applied, refused: Refused) -> Verdict {
        let mut refusals = Refusals::default();
        self.refuse(applied, refused, &mut refusals);
        refusals.denial.map_or_else(|| Verdict::Allow(Vec::new()), Verdict::Deny)
    }

    /// Lets a request through: counts it, and asks for the limits that only look on.
    fn admit<G: Ground>(&mut self, ground: &mut G, mut held: Held) -> Verdict {
        for taken in &held.local {
            self.local.keep(ground, taken);
            self.count(taken.applied.limit, |tally| tally.allowed += 1);
        }
        for applied in &held.exact {
            self.count(applied.limit, |tally| tally.allowed += 1);
        }
        for Leased { applied, budget, state } in &held.leased {
            self.count(applied.limit, |tally| tally.allowed += 1);
            if let LeasedState::Kept(purse) = state {
                self.leases.till.end(ground, budget, *purse, true);
            }
            // Decided without the store: nobody knows what is left.
            let is_known = *state != LeasedState::Waits;
            if is_known && self.policy.headers.on_allow {
                let (standing, _) = self.leases.till.standing(ground, budget);
                self.tell(applied, standing, &mut held.standings);
            }
        }
        for shadow in &held.shadows {
            self.look_on(ground, shadow);
        }
        Verdict::Allow(held.standings)
    }

    fn refuse(&mut self, applied: &Applied, refused: Refused, refusals: &mut Refusals) {
        if self.is_shadow(applied) {
            self.count(applied.limit, |tally| tally.shadowed += 1);
        } else {
            self.count(applied.limit, |tally| tally.limited += 1);
            refusals.add(applied, refused);
        }
    }

    fn take<G: Ground>(
        &mut self,
        ground: &mut G,
        applied: &Applied,
        waits: bool,
    ) -> Result<(Standing, Taken), Refused> {
        if waits {
            self.local.take_for_later(ground, applied)
        } else {
            self.local.take(ground, applied)
        }
    }

    /// Gives back what a request took that does not go on.
    fn give_back<G: Ground>(&mut self, ground: &mut G, held: &Held) {
        self.give_back_local(ground, &held.local);
        for leased in &held.leased {
            self.leases.give_back(ground, leased);
        }
    }

    fn give_back_local<G: Ground>(&mut self, ground: &mut G, taken: &[Taken]) {
        for taken in taken {
            self.local.give_back(ground, taken);
        }
    }

    fn count(&mut self, limit: LimitIndex, add: impl FnOnce(&mut Tally)) {
        if let Some(tally) = self.tallies.get_mut(usize::from(limit.0)) {
            add(tally);
        }
    }

    fn limit(&self, applied: &Applied) -> Option<&Limit> {
        self.policy.limits.get(usize::from(applied.limit.0))
    }

    fn role(&self, applied: &Applied) -> Role {
        match self.limit(applied) {
            Some(Limit { scope: Scope::Global { .. }, shadow: true, .. }) => Role::GlobalShadow,
            Some(Limit { scope: Scope::Global { .. }, .. }) => {
                if self.leases.terms(applied).is_some() { Role::Leased } else { Role::Exact }
            }
            _ => Role::Local,
        }
    }

    fn tell(&self, applied: &Applied, standing: Standing, to: &mut Vec<LimitStanding>) {
        if self.policy.headers.on_allow {
            to.push(told(applied, standing));
        }
    }

    fn is_shadow(&self, applied: &Applied) -> bool {
        self.limit(applied).is_some_and(|limit| limit.shadow)
    }
}

/// How a limit takes part in a decision.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Local,
    Leased,
    Exact,
    GlobalShadow,
}
