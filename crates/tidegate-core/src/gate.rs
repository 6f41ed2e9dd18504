//! THE state machine that every shell drives.
//!
//! A shell hands in a request's facts and gets a [`Step`]: a verdict, or a question for
//! the store and a ticket to come back with. A store that does not answer is an input
//! like any other ([`NoAnswer`]), so what happens then is decided, and tested, here.
//!
//! Several limits on one request are all or nothing. Local limits go first: they are
//! checked, then taken, and given back if a later one refuses. Then one ask carries all
//! global limits. So a denied request charges nothing.
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

mod breaker;
mod debts;
mod local;
mod refusals;
pub(crate) mod share;
mod stock;

use crate::ask::{Ask, Item, NoAnswer, Reply, SHARE_WHOLE_PPM};
use crate::facts::Facts;
use crate::limit::{Refused, Standing};
use crate::plan::{Applied, Planner};
use crate::policy::{Limit, OnError, Policy, Scope};
use crate::table::{Slots, Table};
use crate::time::{Instant, Span};
use crate::verdict::{LimitIndex, LimitStanding, Verdict};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use breaker::Breaker;
pub use debts::DEBTS_MAX;
use debts::{Carried, Debts};
use local::{Local, Taken};
use refusals::{Refusals, told};

/// The most requests of one worker that may wait for the store at once. Each waits at
/// most the deadline (20 ms), so this is 400,000 asks a second; beyond it a request is
/// decided as if the store were away.
pub const WAITING_MAX: usize = 8_192;

/// What a gate stands on: the shared state of its process, and a clock that it reads
/// only when an answer can depend on the time.
pub trait Ground: Slots {
    /// The time on a clock that never goes back and is the same for all workers.
    fn now(&mut self) -> Instant;
}

/// What to do next with a request.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// It is decided.
    Answer(Verdict),
    /// Hold it, put this question to the store, and come back with the ticket.
    Ask(Ticket, Ask),
}

/// Stands for a request that waits for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u32);

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
}

/// One worker's gate, under one policy.
pub struct Gate {
    policy: Policy,
    planner: Planner,
    plan: Vec<Applied>,
    local: Local,
    breaker: Breaker,
    /// With how many replies there had been when each was put.
    waiting: BTreeMap<Ticket, (u32, Waiting)>,
    replies: u32,
    next_ticket: u32,
    asides: Vec<(Ticket, Ask)>,
    debts: Debts,
    shares_ppm: Vec<u32>,
    tallies: Vec<Tally>,
}

/// A request, or a shadow limit's question, that waits for the store.
enum Waiting {
    /// And what its question carries of debts.
    Request(Held, Carried),
    Shadow(Applied),
    Debts(Carried),
}

/// What is known of a request whose global limits are still to be decided.
#[derive(Default)]
struct Held {
    /// Local limits, taken already.
    local: Vec<Taken>,
    /// Global limits that can refuse it.
    global: Vec<Applied>,
    /// Global limits that only look on; asked once the request is let through, so that
    /// they never delay it.
    shadows: Vec<Applied>,
    standings: Vec<LimitStanding>,
}

impl Gate {
    /// A gate for `policy`. `seed` is secret and the same in all workers of the process.
    pub fn new(policy: Policy, seed: &[u8; 16]) -> Self {
        let limits = policy.limits.len();
        Self {
            planner: Planner::new(&policy, seed),
            plan: Vec::new(),
            local: Local::new(Table::new(policy.table_keys_max)),
            breaker: Breaker::new(policy.host.as_ref().map_or(Span::from_secs(1), |h| h.breaker)),
            waiting: BTreeMap::new(),
            replies: 0,
            next_ticket: 0,
            asides: Vec::new(),
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

    /// Decides a request, or says what to ask first.
    pub fn on_request<F: Facts, G: Ground>(&mut self, ground: &mut G, facts: &mut F) -> Step {
        let mut plan = core::mem::take(&mut self.plan);
        self.planner.plan(&self.policy, facts, &mut plan);
        let step = self.decide(ground, &plan);
        self.plan = plan;
        step
    }

    /// Goes on with a request whose question was answered, or was not.
    ///
    /// `None` if there is no request to decide: the ticket was a shadow limit's, or is
    /// not known any more.
    pub fn on_reply<G: Ground>(
        &mut self,
        ground: &mut G,
        ticket: Ticket,
        reply: Result<Reply, NoAnswer>,
    ) -> Option<Verdict> {
        let waited = self.waiting.remove(&ticket);
        match &reply {
            // Who says that its store is away is there, costs no deadline, and is asked on.
            Ok(_) | Err(NoAnswer::StoreAway(_)) => {
                self.replies = self.replies.wrapping_add(1);
                self.breaker.close();
            }
            // Who answered others meanwhile is not away. What its share lets through is charged at
            // once.
            Err(NoAnswer::Unreachable)
                if waited.as_ref().is_some_and(|(before, _)| *before != self.replies) => {}
            Err(NoAnswer::Unreachable) => self.breaker.trip(ground.now()),
        }
        match waited?.1 {
            Waiting::Shadow(applied) => {
                self.note_shadow(&applied, reply.ok()?);
                None
            }
            Waiting::Debts(carried) => {
                if matches!(reply, Err(NoAnswer::StoreAway(_))) {
                    self.debts.wait(ground.now());
                }
                self.settle(carried, reply.is_ok());
                None
            }
            Waiting::Request(held, carried) => {
                self.settle(carried, reply.is_ok());
                Some(self.conclude(ground, held, reply))
            }
        }
    }

    /// Forgets a request that died while it waited. What it took of local limits goes
    /// back; what the store charged for it stays charged, the safe direction.
    pub fn on_gone<G: Ground>(&mut self, ground: &mut G, ticket: Ticket) {
        if let Some((_, Waiting::Request(held, carried))) = self.waiting.remove(&ticket) {
            // Nobody will say whether they were charged.
            self.debts.keep(carried);
            self.give_back(ground, &held.local);
        }
    }

    /// Does what time brings; call it about every 100 ms. Returns whether the store
    /// should be probed now: if so, tell [`Gate::on_probe`] how that went.
    pub fn on_tick<G: Ground>(&mut self, ground: &mut G) -> bool {
        self.local.on_tick(ground);
        if !self.breaker.is_open() && !self.debts.is_empty() {
            self.ask_for_debts(ground.now());
        }
        self.breaker.is_open() && self.breaker.probes(ground.now())
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
    }

    /// Gives back all that this worker holds ahead, because its policy is replaced.
    pub fn drain<G: Ground>(&mut self, ground: &mut G) {
        self.local.drain(ground);
    }

    /// Whether there are questions to send that no request waits for.
    pub const fn has_asides(&self) -> bool {
        !self.asides.is_empty()
    }

    /// Questions of shadow limits and of debts: send them off without holding any request for
    /// them, and tell [`Gate::on_reply`] what came of each.
    pub fn take_asides(&mut self) -> Vec<(Ticket, Ask)> {
        core::mem::take(&mut self.asides)
    }

    /// What happened to each limit since the last call, in the policy's order.
    pub fn take_tallies(&mut self) -> impl Iterator<Item = (&Limit, Tally)> {
        self.policy.limits.iter().zip(self.tallies.iter_mut().map(core::mem::take))
    }

    /// Whether the store is known to be away.
    pub const fn is_store_away(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether requests wait for the store.
    pub fn is_asking(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn decide<G: Ground>(&mut self, ground: &mut G, plan: &[Applied]) -> Step {
        if let [only] = plan
            && matches!(self.role(only), Role::Local)
            && !self.policy.headers.on_allow
        {
            return Step::Answer(self.decide_one(ground, only));
        }
        let mut held = Held::default();
        let mut refusals = Refusals::default();
        let waits = plan.iter().any(|it| matches!(self.role(it), Role::Global));
        for applied in plan {
            match self.role(applied) {
                Role::Global => held.global.push(*applied),
                Role::GlobalShadow => held.shadows.push(*applied),
                Role::Local => match self.take(ground, applied, waits) {
                    Ok((standing, taken)) => {
                        held.local.push(taken);
                        self.tell(applied, standing, &mut held.standings);
                    }
                    Err(refused) => self.refuse(applied, refused, &mut refusals),
                },
            }
        }
        if let Some(denial) = refusals.denial {
            self.give_back(ground, &held.local);
            return Step::Answer(Verdict::Deny(denial));
        }
        if held.global.is_empty() {
            return Step::Answer(self.admit(ground, held));
        }
        if self.breaker.is_open() || self.waiting.len() >= WAITING_MAX {
            return Step::Answer(self.conclude(ground, held, Err(NoAnswer::Unreachable)));
        }
        let mut ask = self.question(&held.global);
        let carried = self.debts.load(&mut ask, || ground.now());
        Step::Ask(self.wait(Waiting::Request(held, carried)), ask)
    }

    /// The common request, one local limit: nothing is collected for it.
    fn decide_one<G: Ground>(&mut self, ground: &mut G, applied: &Applied) -> Verdict {
        let refused = match self.local.take(ground, applied) {
            Ok(_) => {
                self.count(applied.limit, |tally| tally.allowed += 1);
                return Verdict::Allow(Vec::new());
            }
            Err(refused) => refused,
        };
        let mut refusals = Refusals::default();
        self.refuse(applied, refused, &mut refusals);
        refusals.denial.map_or_else(|| Verdict::Allow(Vec::new()), Verdict::Deny)
    }

    /// Decides a request by the reply for its global limits; its local ones are taken.
    fn conclude<G: Ground>(
        &mut self,
        ground: &mut G,
        mut held: Held,
        reply: Result<Reply, NoAnswer>,
    ) -> Verdict {
        let mut refusals = Refusals::default();
        match reply {
            Ok(reply) if reply.answers.len() == held.global.len() => {
                for (applied, answer) in held.global.iter().zip(reply.answers) {
                    self.learn_share(applied, answer.share_ppm);
                    match answer.outcome {
                        Ok(standing) => self.tell(applied, standing, &mut held.standings),
                        Err(refused) => self.refuse(applied, refused, &mut refusals),
                    }
                }
            }
            Err(NoAnswer::StoreAway(span)) => {
                let since = Some(ground.now().before(span));
                self.decide_alone(ground, &held.global, since, &mut refusals);
            }
            // An answer to some of the questions is none: the rest would pass unchecked.
            Ok(_) | Err(NoAnswer::Unreachable) => {
                let since = self.breaker.since();
                self.decide_alone(ground, &held.global, since, &mut refusals);
            }
        }
        if let Some(denial) = refusals.denial {
            self.give_back(ground, &held.local);
            return Verdict::Deny(denial);
        }
        self.admit(ground, held)
    }

    /// Lets a request through: counts it, and asks for the limits that only look on.
    fn admit<G: Ground>(&mut self, ground: &mut G, held: Held) -> Verdict {
        for taken in &held.local {
            self.local.keep(ground, taken);
            self.count(taken.applied.limit, |tally| tally.allowed += 1);
        }
        for applied in &held.global {
            self.count(applied.limit, |tally| tally.allowed += 1);
        }
        for shadow in held.shadows {
            self.ask_shadow(shadow);
        }
        Verdict::Allow(held.standings)
    }

    /// Decides global limits without their store, which went away then, each as its policy
    /// says.
    fn decide_alone<G: Ground>(
        &mut self,
        ground: &mut G,
        global: &[Applied],
        since: Option<Instant>,
        refusals: &mut Refusals,
    ) {
        let mut taken = Vec::new();
        for applied in global {
            self.count(applied.limit, |tally| tally.degraded += 1);
            match self.limit(applied).map_or(OnError::Closed, |limit| limit.on_error) {
                OnError::Open => {}
                OnError::Closed => refusals.close(applied),
                OnError::LocalShare => {
                    let ours = share::of(applied, self.share_ppm(applied.limit));
                    match self.local.take_of_empty(ground, &ours, since) {
                        Ok(ours) => taken.push(ours),
                        Err(refused) => self.refuse(applied, refused, refusals),
                    }
                }
            }
        }
        if refusals.denial.is_some() {
            return self.give_back(ground, &taken);
        }
        if !taken.is_empty() {
            self.owe(global, ground.now());
        }
    }

    /// Notes what a request used of limits that are shared while the store is away.
    fn owe(&mut self, global: &[Applied], now: Instant) {
        let is_shared = |applied: &&Applied| {
            let limit = self.limit(applied);
            limit.is_some_and(|limit| limit.on_error == OnError::LocalShare)
        };
        let shared: Vec<_> = global.iter().filter(is_shared).map(|it| self.item(it)).collect();
        shared.iter().for_each(|item| self.debts.owe(item, now));
    }

    fn settle(&mut self, carried: Carried, is_charged: bool) {
        if !is_charged {
            self.debts.keep(carried);
        }
    }

    fn ask_for_debts(&mut self, now: Instant) {
        if self.waiting.len() < WAITING_MAX {
            for (ask, carried) in self.debts.questions(now) {
                let ticket = self.wait(Waiting::Debts(carried));
                self.asides.push((ticket, ask));
            }
        }
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

    fn give_back<G: Ground>(&mut self, ground: &mut G, taken: &[Taken]) {
        for taken in taken {
            self.local.give_back(ground, taken);
        }
    }

    fn ask_shadow(&mut self, applied: Applied) {
        if !self.breaker.is_open() && self.waiting.len() < WAITING_MAX {
            let ask = self.question(&[applied]);
            let ticket = self.wait(Waiting::Shadow(applied));
            self.asides.push((ticket, ask));
        }
    }

    fn note_shadow(&mut self, applied: &Applied, reply: Reply) {
        let admits = reply.admits();
        self.count(applied.limit, |tally| {
            if admits {
                tally.allowed += 1;
            } else {
                tally.shadowed += 1;
            }
        });
    }

    fn question(&self, global: &[Applied]) -> Ask {
        Ask { items: global.iter().map(|applied| self.item(applied)).collect() }
    }

    fn item(&self, applied: &Applied) -> Item {
        let Applied { key, quota, cost, .. } = *applied;
        Item { key, limit: self.planner.tag(applied.limit), quota, cost, owed: 0 }
    }

    fn wait(&mut self, waiting: Waiting) -> Ticket {
        // Tickets come round again after 4 billion; none waits that long.
        self.next_ticket = self.next_ticket.wrapping_add(1);
        let ticket = Ticket(self.next_ticket);
        self.waiting.insert(ticket, (self.replies, waiting));
        ticket
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
            Some(Limit { scope: Scope::Global { .. }, shadow, .. }) => {
                if *shadow {
                    Role::GlobalShadow
                } else {
                    Role::Global
                }
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

    fn learn_share(&mut self, applied: &Applied, ppm: u32) {
        if ppm > 0
            && let Some(share) = self.shares_ppm.get_mut(usize::from(applied.limit.0))
        {
            *share = ppm;
        }
    }

    /// This proxy's share of a limit: as the store last said, else one part of the fleet.
    fn share_ppm(&self, limit: LimitIndex) -> u32 {
        match self.shares_ppm.get(usize::from(limit.0)) {
            Some(&ppm) if ppm > 0 => ppm,
            _ => SHARE_WHOLE_PPM / self.policy.proxies_max.max(1),
        }
    }
}

/// How a limit takes part in a decision.
enum Role {
    Local,
    Global,
    GlobalShadow,
}
