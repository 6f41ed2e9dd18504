//! Requests that wait for the store: how they are held, and what is asked for them.

use super::held::Held;
use super::leases::{Leased, LeasedState, Place};
use super::question::{Asked, OnItsWay, Purpose, Question, QuestionId};
use super::{Gate, Ground, Step, Ticket, WAITING_MAX, Waiting};
use crate::ask::{Ask, NoAnswer};
use crate::lease::{Budget, Due, Queue, WANTS_MAX};
use crate::limit::Refused;
use crate::plan::Applied;
use crate::time::Span;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A request waits for a further question only if more than this part of its deadline is left.
const PART_LEFT: u64 = 4;

impl Gate {
    /// Holds a request until the store has spoken; or decides it now, where it cannot be asked.
    pub(super) fn hold<G: Ground>(&mut self, ground: &mut G, mut held: Held) -> Step {
        if !self.may_wait() {
            let verdict = self.conclude_alone(ground, held, NoAnswer::Unreachable);
            return Step::Answer(verdict);
        }
        let now = ground.now();
        let resumed = self.resumed;
        held.until = resumed.map_or_else(|| now.after(self.deadline()), |it| it.until);
        if !self.is_worth_asking(held.until.since(now)) {
            let verdict = self.conclude_alone(ground, held, NoAnswer::Unreachable);
            return Step::Answer(verdict);
        }
        let waits = resumed.map(|it| it.until.since(now));
        for applied in held.leased.iter().filter(|it| it.state == LeasedState::Waits) {
            self.count(applied.applied.limit, |tally| tally.waited += 1);
        }
        for applied in &held.exact {
            self.count(applied.limit, |tally| tally.waited += 1);
        }
        let ticket = resumed.map_or_else(|| Ticket(self.number()), |it| it.ticket);
        if held.waits_for_units() {
            self.stand_in_line(ground, ticket, &held);
        } else {
            self.ask_exact(ground, ticket, &held.exact, waits);
        }
        self.waiting.insert(ticket.0, Waiting::Request(Box::new(held)));
        Step::Hold(ticket)
    }

    /// Takes what a request costs of a leased limit; notes what is due.
    pub(super) fn take_leased<G: Ground>(
        &mut self,
        ground: &mut G,
        applied: &Applied,
        for_later: bool,
    ) -> Result<Leased, Refused> {
        let Some(budget) = self.budget(applied) else { return Err(Refused::Never) };
        let (outcome, due) = if for_later {
            self.leases.keep(ground, &budget, applied.cost, true)
        } else {
            self.leases.take(ground, &budget, applied.cost)
        };
        if due != Due::Nothing && !self.due.contains(&budget) {
            self.due.push(budget);
        }
        Ok(Leased { applied: *applied, budget, state: outcome? })
    }

    /// What a leased limit's budget is called; `None` of one that is not leased.
    pub(super) fn budget(&self, applied: &Applied) -> Option<Budget> {
        let terms = *self.leases.terms(applied)?;
        Some(Budget { key: applied.key, limit: self.planner.tag(applied.limit), terms })
    }

    /// Asks for a limit that only looks on.
    pub(super) fn look_on<G: Ground>(&mut self, ground: &mut G, applied: &Applied) {
        if !self.may_wait() {
            return;
        }
        if self.leases.terms(applied).is_none() {
            let ask = Ask { items: alloc::vec![self.item(applied)] };
            self.put(Asked::Exact(ask), Purpose::Shadow(*applied), None);
            return;
        }
        match self.take_leased(ground, applied, false) {
            Ok(leased) if leased.state == LeasedState::Waits => {
                let leased = alloc::vec![leased];
                let _ = self.hold(ground, Held { leased, is_shadow: true, ..Held::default() });
            }
            Ok(_) => self.count(applied.limit, |tally| tally.allowed += 1),
            Err(_) => self.count(applied.limit, |tally| tally.shadowed += 1),
        }
    }

    /// Asks for what runs out, tells and returns what there is to tell and to return.
    pub(super) fn tend_leases<G: Ground>(&mut self, ground: &mut G) {
        let due = self.leases.till.on_tick(ground);
        if !self.may_tell(ground) {
            return;
        }
        let till = &self.leases.till;
        let due: Vec<_> = due
            .into_iter()
            .map(|queue| queue.budget)
            .filter(|it| !till.is_asking(&it.key))
            .collect();
        for budgets in due.chunks(WANTS_MAX) {
            self.ask_for_units(ground, budgets, None);
        }
    }

    /// Asks for what requests found to be due; again at a tick, if it cannot be now.
    pub(super) fn ask_for_due<G: Ground>(&mut self, ground: &mut G) {
        let mut due = core::mem::take(&mut self.due);
        // What waits has been asked for meanwhile, with all that is due.
        due.retain(|budget| !self.leases.till.is_asking(&budget.key));
        if !due.is_empty() && self.may_tell(ground) {
            self.ask_for_units(ground, &due, None);
        }
    }

    /// Whether to ask although no request waits for it.
    fn may_tell<G: Ground>(&self, ground: &mut G) -> bool {
        self.may_wait() && !self.debts.waits(ground)
    }

    /// Whether more may wait for the store.
    pub(super) fn may_wait(&self) -> bool {
        !self.breaker.is_open() && self.waiting.len() < WAITING_MAX
    }

    /// Asks about what was used while nobody could be asked.
    pub(super) fn ask_for_debts<G: Ground>(&mut self, ground: &mut G) {
        if !self.may_wait() {
            return;
        }
        let due = self.debts.due(ground.now());
        for (ask, carried) in due.exact {
            self.put(Asked::Exact(ask), Purpose::Debts(carried), None);
        }
        for budgets in due.leased.chunks(WANTS_MAX) {
            self.ask_for_units(ground, budgets, None);
        }
    }

    /// Puts a question to be sent, which waits for its answer so long; or as long as it may.
    pub(super) fn put(&mut self, ask: Asked, purpose: Purpose, waits: Option<Span>) {
        let is_patient = waits.is_none();
        let waits = waits.unwrap_or_else(|| self.deadline());
        self.put_for(ask, purpose, waits, is_patient);
    }

    /// The same; `is_patient` if silence for so long says that the host is away.
    pub(super) fn put_for(&mut self, ask: Asked, purpose: Purpose, waits: Span, is_patient: bool) {
        let id = QuestionId(self.number());
        let sent = OnItsWay { purpose, replies_before: self.replies, is_patient };
        self.waiting.insert(id.0, Waiting::Question(Box::new(sent)));
        self.questions.push(Question { id, ask, waits });
    }

    fn stand_in_line<G: Ground>(&mut self, ground: &mut G, ticket: Ticket, held: &Held) {
        let waits = || held.leased.iter().filter(|it| it.state == LeasedState::Waits);
        let is_last = held.exact.is_empty() && waits().count() == 1;
        let mut asks = Vec::new();
        for Leased { applied, budget, .. } in waits() {
            if self.leases.stand(budget, Place { ticket, cost: applied.cost, is_last }) {
                asks.push(*budget);
            }
        }
        if !asks.is_empty() {
            self.ask_for_units(ground, &asks, None);
        }
    }

    /// Asks for leases of these budgets: for all who wait for them, and for what else is due. Who
    /// waits already is asked for whatever else does: it would wait for ever.
    pub(super) fn ask_for_units<G: Ground>(
        &mut self,
        ground: &mut G,
        budgets: &[Budget],
        waits: Option<Span>,
    ) {
        if !self.debts.is_empty() {
            budgets.iter().for_each(|budget| self.note_debt(ground, budget));
        }
        let queues: Vec<Queue> = budgets.iter().map(|budget| self.leases.queue(budget)).collect();
        if let Some((ask, sent)) = self.leases.till.ask(ground, &queues) {
            self.put(Asked::Leases(ask), Purpose::Leases(sent), waits);
        }
    }

    /// Has the next ask about a budget tell what is owed of it.
    fn note_debt<G: Ground>(&mut self, ground: &mut G, budget: &Budget) {
        let now = ground.now();
        if let Some(debt) = self.debts.take(&budget.key, now)
            && !self.leases.till.owe(ground, budget, debt.units)
        {
            self.debts.keep(alloc::vec![(budget.key, debt)]);
        }
    }

    pub(super) fn ask_exact<G: Ground>(
        &mut self,
        ground: &mut G,
        ticket: Ticket,
        limits: &[Applied],
        waits: Option<Span>,
    ) {
        let mut ask = Ask { items: limits.iter().map(|applied| self.item(applied)).collect() };
        let carried = self.debts.load(&mut ask, || ground.now());
        self.put(Asked::Exact(ask), Purpose::Request(ticket, carried), waits);
    }

    /// How long a request may wait for one more question; `None` if it is not worth asking.
    pub(super) fn time_left<G: Ground>(&self, ground: &mut G, ticket: Ticket) -> Option<Span> {
        let Some(Waiting::Request(held)) = self.waiting.get(ticket.0) else { return None };
        let left = held.until.since(ground.now());
        self.is_worth_asking(left).then_some(left)
    }

    pub(super) fn is_worth_asking(&self, left: Span) -> bool {
        left.0 > self.deadline().0 / PART_LEFT
    }

    pub(super) fn deadline(&self) -> Span {
        self.policy.host.as_ref().map_or(Span::from_millis(1), |host| host.deadline)
    }

    pub(super) fn number(&mut self) -> u32 {
        // Numbers come round again after 4 billion; nothing waits that long.
        self.last_number = self.last_number.wrapping_add(1);
        self.last_number
    }
}
