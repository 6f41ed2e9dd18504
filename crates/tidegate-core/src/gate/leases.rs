//! Leased limits: this worker's till, and the lines of requests that wait for units.
//!
//! A request that finds no units stands in its budget's line until the ask of this worker
//! that is on its way for that budget lands; the first of a line sends it. So of each budget
//! a worker has one ask on its way, however many requests wait. When it lands, the units that
//! it brought for those who wait go to them in their order, and the rest are decided again by
//! what is held then.

use super::{Ground, Ticket};
use crate::key::Key;
use crate::lease::{Budget, Due, HolderId, Purse, Queue, Shelf, Take, Terms, Till};
use crate::limit::{Quota, Refused, Standing};
use crate::plan::Applied;
use crate::policy::{Limit, Policy, Scope};
use crate::table::Table;
use crate::time::{Instant, Span};
use alloc::boxed::Box;
use alloc::vec::Vec;

pub(super) struct Leases {
    pub(super) till: Till,
    /// By limit: its own terms first, then those of its overrides. None of one that is not
    /// leased, or not this quota of it.
    terms: Vec<Vec<Terms>>,
    /// In the order of their keys. Bounded by the requests that may wait.
    lines: Vec<(Key, Box<Line>)>,
}

/// The requests that wait for one budget, in the order that they came.
pub(super) struct Line {
    pub(super) budget: Budget,
    pub(super) waiting: Vec<Place>,
}

/// One request in a line.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) ticket: Ticket,
    pub(super) cost: u32,
    /// Whether it goes on as soon as it has this, so that what comes for it is used at once.
    pub(super) is_last: bool,
}

/// What a request takes of a lease, or waits for.
#[derive(Clone, Copy)]
pub(super) struct Leased {
    pub(super) applied: Applied,
    pub(super) budget: Budget,
    pub(super) state: LeasedState,
}

/// How far a request has got with a lease.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LeasedState {
    Waits,
    /// It has its units, for now: they are spent.
    Taken,
    /// The same, and it cannot give them back.
    Spent,
    /// They are put aside for it while it waits for others.
    Kept(Purse),
}

impl Leases {
    /// For one of a process's workers, which is `me`.
    pub(super) fn new(policy: &Policy, me: HolderId) -> Self {
        let keys = policy.table_keys_max;
        let shelf = Shelf::new(Table::new(keys).sets(), keys);
        let terms = policy.limits.iter().map(|limit| all_terms(policy, limit));
        Self { till: Till::new(me, 1, shelf), terms: terms.collect(), lines: Vec::new() }
    }

    /// Whether any limit is leased.
    pub(super) fn are_any(&self) -> bool {
        self.terms.iter().any(|terms| !terms.is_empty())
    }

    /// The terms of this limit for this quota; `None` if it asks for each request.
    pub(super) fn terms(&self, applied: &Applied) -> Option<&Terms> {
        let terms = self.terms.get(usize::from(applied.limit.0))?;
        terms.iter().find(|terms| *terms.quota() == applied.quota)
    }

    /// Takes what a request costs that then goes on, or says why not; and whether something is
    /// due to be asked.
    pub(super) fn take<G: Ground>(
        &mut self,
        ground: &mut G,
        budget: &Budget,
        cost: u32,
    ) -> (Result<LeasedState, Refused>, Due) {
        let (take, due) = self.till.take(ground, budget, cost);
        (follow(take), if take == Take::Trusted { Due::Settlement } else { due })
    }

    /// The same for one that has waited; and whether something must be asked.
    pub(super) fn take_again<G: Ground>(
        &mut self,
        ground: &mut G,
        budget: &Budget,
        cost: u32,
    ) -> (Result<LeasedState, Refused>, bool) {
        let take = self.till.take_again(ground, budget, cost);
        (follow(take), take == Take::Trusted)
    }

    /// The same for one that waits for others; `is_new` unless it has waited for this already.
    pub(super) fn keep<G: Ground>(
        &mut self,
        ground: &mut G,
        budget: &Budget,
        cost: u32,
        is_new: bool,
    ) -> (Result<LeasedState, Refused>, Due) {
        let (take, due, purse) = self.till.take_for_later(ground, budget, cost, is_new);
        let outcome = match follow(take) {
            Ok(LeasedState::Taken) => Ok(LeasedState::Kept(purse)),
            other => other,
        };
        (outcome, due)
    }

    /// Has what a request took, which must now wait for others, kept for it. What was let through
    /// without a grant is told already, and must be granted to be used later.
    pub(super) fn keep_taken<G: Ground>(&mut self, ground: &mut G, leased: &mut Leased) {
        let cost = leased.applied.cost;
        match leased.state {
            LeasedState::Taken => {
                self.till.give_back(ground, &leased.budget, cost);
                let (kept, _) = self.keep(ground, &leased.budget, cost, false);
                leased.state = kept.unwrap_or(LeasedState::Waits);
            }
            LeasedState::Spent => leased.state = LeasedState::Waits,
            LeasedState::Waits | LeasedState::Kept(_) => {}
        }
    }

    /// Gives back what a request took that does not go on.
    pub(super) fn give_back<G: Ground>(&mut self, ground: &mut G, leased: &Leased) {
        match leased.state {
            LeasedState::Taken => {
                self.till.give_back(ground, &leased.budget, leased.applied.cost);
            }
            LeasedState::Kept(purse) => self.till.end(ground, &leased.budget, purse, false),
            LeasedState::Waits | LeasedState::Spent => {}
        }
    }

    /// Puts a request at the end of its budget's line. Whether it must ask: where there is a line
    /// already, or an ask of this worker on its way, that is what it waits for.
    #[must_use]
    pub(super) fn stand(&mut self, budget: &Budget, place: Place) -> bool {
        match self.find(&budget.key) {
            Ok(at) => {
                if let Some((_, line)) = self.lines.get_mut(at) {
                    line.waiting.push(place);
                }
                false
            }
            Err(at) => {
                let line = Line { budget: *budget, waiting: alloc::vec![place] };
                self.lines.insert(at, (budget.key, Box::new(line)));
                !self.till.is_asking(&budget.key)
            }
        }
    }

    /// Removes a request from a line that it stands in.
    pub(super) fn leave(&mut self, key: &Key, ticket: Ticket) {
        let Ok(at) = self.find(key) else { return };
        let Some((_, line)) = self.lines.get_mut(at) else { return };
        line.waiting.retain(|place| place.ticket != ticket);
        if line.waiting.is_empty() {
            self.lines.remove(at);
        }
    }

    /// Takes a budget's whole line.
    pub(super) fn take_line(&mut self, key: &Key) -> Option<Box<Line>> {
        let at = self.find(key).ok()?;
        Some(self.lines.remove(at).1)
    }

    /// What to ask of a budget: units for all who wait for it, and what else is due.
    pub(super) fn queue(&self, budget: &Budget) -> Queue {
        let line = self.find(&budget.key).ok().and_then(|at| self.lines.get(at));
        let waiting = line.map_or(&[][..], |(_, line)| &line.waiting);
        let units = |sum: u32, place: &Place| sum.saturating_add(place.cost);
        Queue {
            budget: *budget,
            waiting: waiting.iter().fold(0, units),
            least: waiting.first().map_or(0, |place| place.cost),
            at_once: !waiting.is_empty() && waiting.iter().all(|place| place.is_last),
        }
    }

    /// Where a budget's line is, or would be.
    fn find(&self, key: &Key) -> Result<usize, usize> {
        self.lines.binary_search_by(|(known, _)| known.0.cmp(&key.0))
    }
}

impl Leased {
    /// Whether what was put aside for it has lapsed.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        matches!(self.state, LeasedState::Kept(purse) if purse.left() > 0 && now >= purse.until())
    }
}

/// What a take means for its request.
const fn follow(take: Take) -> Result<LeasedState, Refused> {
    match take {
        Take::Admitted => Ok(LeasedState::Taken),
        Take::Trusted => Ok(LeasedState::Spent),
        Take::Waits | Take::Asks => Ok(LeasedState::Waits),
        Take::Denied { wait } => Err(denied(wait)),
        Take::Never => Err(Refused::Never),
    }
}

/// As far as this proxy knows, and without looking further.
pub(super) const fn denied(wait: Span) -> Refused {
    Refused::Wait { wait, standing: Standing { remaining: 0, reset: wait } }
}

fn all_terms(policy: &Policy, limit: &Limit) -> Vec<Terms> {
    let (Scope::Global { exact: false, escrow }, Some(host)) = (limit.scope, &policy.host) else {
        return Vec::new();
    };
    let reserve = if escrow { policy.proxies_max } else { 0 };
    let quotas = limit.quota.iter().chain(limit.overrides.iter().flat_map(|it| &it.quota));
    quotas.filter_map(|quota: &Quota| Terms::new(*quota, host.deadline, reserve)).collect()
}
