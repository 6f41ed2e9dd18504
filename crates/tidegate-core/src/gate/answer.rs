//! What an answer, or none, means for those who waited for it: how they go on, and end.

use super::debts::Carried;
use super::held::Held;
use super::leases::{self, Leased, LeasedState, Line, Place};
use super::question::{Answered, OnItsWay, Purpose};
use super::refusals::Refusals;
use super::{Gate, Ground, Ticket, Waiting};
use crate::ask::{NoAnswer, Reply};
use crate::key::Key;
use crate::lease::{self, Budget, Sent};
use crate::limit::Refused;
use crate::plan::Applied;
use crate::time::Span;
use crate::verdict::Verdict;
use alloc::boxed::Box;
use alloc::vec::Vec;

impl Gate {
    /// What an answer, or none, says of whoever gives answers.
    pub(super) fn hear<G: Ground>(
        &mut self,
        ground: &mut G,
        reply: &Result<Answered, NoAnswer>,
        sent: &OnItsWay,
    ) {
        match reply {
            // Who says that its store is away is there, costs no deadline, and is asked on.
            Ok(_) | Err(NoAnswer::StoreAway(_)) => {
                self.replies = self.replies.wrapping_add(1);
                self.breaker.close();
            }
            // Who answered others meanwhile is not away. What its share lets through is charged at
            // once.
            Err(NoAnswer::Unreachable) if sent.replies_before != self.replies => {}
            Err(NoAnswer::Unreachable) if sent.is_patient => self.breaker.trip(ground.now()),
            Err(NoAnswer::Unreachable) => {}
        }
    }

    /// Goes on with what a question was for.
    pub(super) fn follow<G: Ground>(
        &mut self,
        ground: &mut G,
        purpose: Purpose,
        reply: Result<Answered, NoAnswer>,
        is_there: &mut dyn FnMut(Ticket) -> bool,
    ) {
        match purpose {
            Purpose::Leases(sent) => self.land(ground, sent, reply, is_there),
            Purpose::Told => {}
            Purpose::Check(ticket) => self.conclude_check(ground, ticket, reply, is_there),
            Purpose::Resolve(ticket, plugin) => {
                self.conclude_resolve(ground, (ticket, plugin), reply, is_there);
            }
            Purpose::News(from, asked) => self.hear_news(ground, &from, asked, reply),
            Purpose::Chunk(ask) => self.hear_chunk(ground, &ask, reply),
            Purpose::Shadow(applied) => {
                if let Ok(reply) = exact(reply) {
                    self.note_shadow(&applied, &reply);
                }
            }
            Purpose::Debts(carried) => {
                if matches!(reply, Err(NoAnswer::StoreAway(_))) {
                    self.debts.wait(ground.now());
                }
                self.settle(carried, reply.is_ok());
            }
            Purpose::Request(ticket, carried) => {
                self.settle(carried, reply.is_ok());
                if !is_there(ticket) {
                    return self.on_gone(ground, ticket);
                }
                if let Some(held) = self.let_go(ticket) {
                    let verdict = self.conclude(ground, *held, exact(reply));
                    self.decided.push((ticket, verdict));
                }
            }
        }
    }

    /// Takes a request out of all that it waits in.
    pub(super) fn let_go(&mut self, ticket: Ticket) -> Option<Box<Held>> {
        let Some(Waiting::Request(held)) = self.waiting.remove(ticket.0) else { return None };
        for leased in held.leased.iter().filter(|it| it.state == LeasedState::Waits) {
            self.leases.leave(&leased.budget.key, ticket);
        }
        Some(held)
    }

    /// Learns what an ask for leases brought, and serves those who waited for it.
    fn land<G: Ground>(
        &mut self,
        ground: &mut G,
        sent: Sent,
        reply: Result<Answered, NoAnswer>,
        is_there: &mut dyn FnMut(Ticket) -> bool,
    ) {
        let budgets: Vec<Key> = sent.budgets().map(|budget| budget.key).collect();
        let why = match reply {
            Ok(Answered::Leases(reply)) => {
                let mut brought = Vec::new();
                let serve = |budget: &Budget, served| brought.push((budget.key, served));
                if self.leases.till.on_reply(ground, sent, &reply, serve) {
                    for (key, served) in brought {
                        self.serve(ground, &key, served, is_there);
                    }
                    return;
                }
                NoAnswer::Unreachable
            }
            Ok(_) => {
                self.leases.till.on_lost(ground, sent);
                NoAnswer::Unreachable
            }
            Err(why) => {
                self.leases.till.on_lost(ground, sent);
                why
            }
        };
        if matches!(why, NoAnswer::StoreAway(_)) {
            self.debts.wait(ground.now());
        }
        for key in budgets {
            self.give_up(ground, &key, why, is_there);
        }
    }

    /// Serves a budget's line with what came for it.
    fn serve<G: Ground>(
        &mut self,
        ground: &mut G,
        key: &Key,
        served: Result<lease::Served, lease::Away>,
        is_there: &mut dyn FnMut(Ticket) -> bool,
    ) {
        let mut units = match served {
            Ok(served) => served.units,
            Err(lease::Away(span)) => {
                return self.give_up(ground, key, NoAnswer::StoreAway(span), is_there);
            }
        };
        let Some(line) = self.leases.take_line(key) else { return };
        let Line { budget, waiting } = *line;
        let (mut asks, mut left) = (false, Vec::new());
        for place in waiting {
            let Place { ticket, cost, is_last } = place;
            if !self.waits_still(ticket, is_there) {
                self.on_gone(ground, ticket);
                continue;
            }
            let outcome = if !is_last {
                self.leases.keep(ground, &budget, cost, false).0
            } else if cost <= units {
                units -= cost;
                Ok(LeasedState::Spent)
            } else {
                let (outcome, must_ask) = self.leases.take_again(ground, &budget, cost);
                asks |= must_ask;
                outcome
            };
            match outcome {
                Ok(LeasedState::Waits) => left.push(place),
                Ok(state) => self.go_on(ground, ticket, key, state),
                Err(refused) => self.turn_away(ground, ticket, key, refused),
            }
        }
        self.wait_on(ground, &budget, left, asks);
    }

    /// Has those who got nothing wait for another ask, as far as their deadlines allow.
    fn wait_on<G: Ground>(
        &mut self,
        ground: &mut G,
        budget: &Budget,
        places: Vec<Place>,
        mut asks: bool,
    ) {
        let mut waits: Option<Span> = None;
        for place in places {
            match self.time_left(ground, place.ticket) {
                Some(left) => {
                    waits = Some(waits.map_or(left, |waits| waits.min(left)));
                    asks |= self.leases.stand(budget, place);
                }
                None => self.decide_now(ground, place.ticket, NoAnswer::Unreachable),
            }
        }
        if asks {
            self.ask_for_units(ground, &[*budget], waits);
        }
    }

    /// Nothing came for a budget's line.
    fn give_up<G: Ground>(
        &mut self,
        ground: &mut G,
        key: &Key,
        why: NoAnswer,
        is_there: &mut dyn FnMut(Ticket) -> bool,
    ) {
        let Some(line) = self.leases.take_line(key) else { return };
        for Place { ticket, .. } in line.waiting {
            if self.waits_still(ticket, is_there) {
                self.decide_now(ground, ticket, why);
            } else {
                self.on_gone(ground, ticket);
            }
        }
    }

    /// Whether there is anybody whom a ticket stands for; of a limit that looks on there never is.
    fn waits_still(&self, ticket: Ticket, is_there: &mut dyn FnMut(Ticket) -> bool) -> bool {
        match self.waiting.get(ticket.0) {
            Some(Waiting::Request(held)) => held.is_shadow || is_there(ticket),
            _ => false,
        }
    }

    /// A request has its units of one lease, and goes on to what else it waits for.
    fn go_on<G: Ground>(&mut self, ground: &mut G, ticket: Ticket, key: &Key, state: LeasedState) {
        let Some(Waiting::Request(held)) = self.waiting.get_mut(ticket.0) else { return };
        for leased in held.leased.iter_mut().filter(|leased| leased.budget.key == *key) {
            leased.state = state;
        }
        if held.waits_for_units() {
            return;
        }
        if held.exact.is_empty() {
            if let Some(held) = self.let_go(ticket) {
                self.end_held(ground, ticket, *held);
            }
            return;
        }
        let exact = held.exact.clone();
        match self.time_left(ground, ticket).filter(|_| !self.breaker.is_open()) {
            Some(left) => self.ask_exact(ground, ticket, &exact, Some(left)),
            None => self.decide_now(ground, ticket, NoAnswer::Unreachable),
        }
    }

    fn end_held<G: Ground>(&mut self, ground: &mut G, ticket: Ticket, held: Held) {
        let is_shadow = held.is_shadow;
        let verdict = self.end(ground, held, Refusals::default());
        if !is_shadow {
            self.decided.push((ticket, verdict));
        }
    }

    /// A lease refuses a request that waited.
    fn turn_away<G: Ground>(
        &mut self,
        ground: &mut G,
        ticket: Ticket,
        key: &Key,
        refused: Refused,
    ) {
        let Some(held) = self.let_go(ticket) else { return };
        let mut refusals = Refusals::default();
        let by = held.leased.iter().find(|leased| leased.budget.key == *key);
        if let Some(Leased { applied, .. }) = by {
            self.refuse(applied, refused, &mut refusals);
        }
        self.give_back(ground, &held);
        if let Some(denial) = refusals.denial {
            self.decided.push((ticket, Verdict::Deny(denial)));
        }
    }

    /// Decides a request that nothing came for.
    fn decide_now<G: Ground>(&mut self, ground: &mut G, ticket: Ticket, why: NoAnswer) {
        let Some(held) = self.let_go(ticket).filter(|held| !held.is_shadow) else { return };
        let verdict = self.conclude_alone(ground, *held, why);
        self.decided.push((ticket, verdict));
    }

    /// Decides a request by the reply for its exact limits; all others are taken.
    fn conclude<G: Ground>(
        &mut self,
        ground: &mut G,
        mut held: Held,
        reply: Result<Reply, NoAnswer>,
    ) -> Verdict {
        let reply = match reply {
            Ok(reply) if reply.answers.len() == held.exact.len() => reply,
            Err(why) => return self.conclude_alone(ground, held, why),
            // An answer to some of the questions is none: the rest would pass unchecked.
            Ok(_) => return self.conclude_alone(ground, held, NoAnswer::Unreachable),
        };
        let mut refusals = Refusals::default();
        for (applied, answer) in held.exact.iter().zip(reply.answers) {
            self.learn_share(applied, answer.share_ppm);
            match answer.outcome {
                Ok(standing) => self.tell(applied, standing, &mut held.standings),
                Err(refused) => self.refuse(applied, refused, &mut refusals),
            }
        }
        self.end(ground, held, refusals)
    }

    pub(super) fn conclude_alone<G: Ground>(
        &mut self,
        ground: &mut G,
        held: Held,
        why: NoAnswer,
    ) -> Verdict {
        let since = match why {
            NoAnswer::StoreAway(span) => Some(ground.now().before(span)),
            NoAnswer::Unreachable => self.breaker.since(),
        };
        let mut refusals = Refusals::default();
        self.decide_alone(ground, &held, since, &mut refusals);
        self.end(ground, held, refusals)
    }

    fn end<G: Ground>(&mut self, ground: &mut G, held: Held, mut refusals: Refusals) -> Verdict {
        let now = ground.now();
        for leased in held.leased.iter().filter(|leased| leased.is_over(now)) {
            // Its worker did nothing for so long: others may have what was put aside for it.
            self.refuse(&leased.applied, leases::denied(Span::from_millis(1)), &mut refusals);
        }
        match refusals.denial {
            Some(denial) => {
                self.give_back(ground, &held);
                Verdict::Deny(denial)
            }
            None => self.admit(ground, held),
        }
    }

    fn note_shadow(&mut self, applied: &Applied, reply: &Reply) {
        let admits = reply.admits();
        self.count(applied.limit, |tally| {
            if admits {
                tally.allowed += 1;
            } else {
                tally.shadowed += 1;
            }
        });
    }

    fn settle(&mut self, carried: Carried, is_charged: bool) {
        if !is_charged {
            self.debts.keep(carried);
        }
    }
}

/// The reply to a question about exact limits; one to another question is none.
fn exact(reply: Result<Answered, NoAnswer>) -> Result<Reply, NoAnswer> {
    match reply? {
        Answered::Exact(reply) => Ok(reply),
        _ => Err(NoAnswer::Unreachable),
    }
}
