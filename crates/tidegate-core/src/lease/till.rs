//! What one worker does with leases: its purses, the holders that it shares, its asks.
//!
//! This is what stands where a worker decides. A request of a key takes from the worker's
//! purse; else purse and shared holder are exchanged, by compare-and-swap; else it has to
//! wait for an ask. No worker hears of another's replies. So one whose requests find another's
//! ask on its way asks too, for these requests alone; or, where there was too little last
//! time, refuses them until the reply is there.
//!
//! Per key some 300 bytes in 4-way sets of 256. A key that finds no place does without a purse.

use super::{
    Ask, Away, Due, Flight, Grant, Holder, HolderId, Purse, Reply, Served, Shelf, Take, Terms,
    WANTS_MAX, Want,
};
use crate::ask::LimitTag;
use crate::field;
use crate::gate::Ground;
use crate::key::Key;
use crate::limit::Standing;
use crate::time::{Instant, Span};
use alloc::vec::Vec;
use core::ops::Range;

const WAYS: usize = 4;
const SETS: usize = 256;

/// One worker's leases.
pub struct Till {
    me: HolderId,
    seq: u64,
    workers: u32,
    shelf: Shelf,
    /// Where the entries of each set are, counted from 1; 0 for nowhere.
    index: Vec<u16>,
    entries: Vec<Entry>,
}

/// A budget that is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Whose.
    pub key: Key,
    /// Of which limit.
    pub limit: LimitTag,
    /// On which terms.
    pub terms: Terms,
}

/// Requests that wait for a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// What they wait for.
    pub budget: Budget,
    /// Units that they cost together; 0 if none waits.
    pub waiting: u32,
    /// What the first of them costs.
    pub least: u32,
    /// See [`Holder::ask`].
    pub at_once: bool,
}

/// An ask of this worker on its way: keep it until its fate is known.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    seq: u64,
    of: Vec<(Budget, Flight)>,
}

impl Sent {
    /// What it asked about.
    pub fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.of.iter().map(|(budget, _)| budget)
    }
}

struct Entry {
    budget: Budget,
    purse: Purse,
    /// Asks of this worker on their way.
    flights: u16,
    /// Since the last tick.
    is_touched: bool,
    /// Whether there was something to wait for, or to tell, at the last tick.
    is_needed: bool,
}

impl Till {
    /// One of `workers` tills of a process, which share what is on `shelf`. `me` names this
    /// worker (see [`HolderId::new`]).
    pub const fn new(me: HolderId, workers: u32, shelf: Shelf) -> Self {
        Self { me, seq: 0, workers, shelf, index: Vec::new(), entries: Vec::new() }
    }

    /// Decides a request of `cost` units, and says whether something is due to be asked that
    /// it does not wait for: then call [`Self::ask`] with nobody waiting.
    ///
    /// [`Take::Waits`] is said only where an ask of this worker is on its way.
    pub fn take<G: Ground>(&mut self, ground: &mut G, budget: &Budget, cost: u32) -> (Take, Due) {
        let now = ground.now();
        let (workers, shelf) = (self.workers, self.shelf);
        let Some(entry) = self.place(budget) else {
            return take_without_purse(ground, now, shelf, budget, cost);
        };
        entry.is_touched = true;
        if entry.purse.take(now, cost) {
            return (Take::Admitted, Due::Nothing);
        }
        if let Some(wait) = entry.purse.denies(now, cost) {
            return (Take::Denied { wait }, Due::Nothing);
        }
        entry.exchange(ground, now, shelf, workers, cost)
    }

    /// As [`Self::take`], for a request that others may still refuse: what it is to use is put
    /// aside for it. Tell [`Self::end`] whether it did.
    pub fn take_for_later<G: Ground>(
        &mut self,
        ground: &mut G,
        budget: &Budget,
        cost: u32,
        is_new: bool,
    ) -> (Take, Due, Purse) {
        let (now, shelf, terms) = (ground.now(), self.shelf, budget.terms);
        let mut entry = self.place(budget);
        let before = entry.as_ref().map_or_else(Purse::default, |entry| entry.purse);
        let taken = shelf.change(ground, now, &budget.key, |holder| {
            let mut own = before;
            holder.empty(now, &mut own);
            let (take, purse) = holder.take_for_later(now, &terms, cost, is_new);
            (take, due_after(take, holder, now, &terms), purse, holder.refuses_meanwhile())
        });
        let Some((take, due, purse, refuses)) = taken else {
            return (Take::Asks, Due::Nothing, Purse::default());
        };
        if let Some(entry) = &mut entry {
            entry.is_touched = true;
            entry.purse = Purse::default();
        }
        let is_asking = entry.is_some_and(|entry| entry.flights > 0);
        (if is_asking { take } else { heard_here(take, refuses) }, due, purse)
    }

    /// Says whether what was put aside was used, within its life; otherwise it goes back.
    pub fn end<G: Ground>(&self, ground: &mut G, budget: &Budget, purse: Purse, is_used: bool) {
        let now = ground.now();
        let mut after = purse;
        if is_used {
            after.spend_all();
        }
        // Should it never get through, it lapses: the safe direction.
        let _ = self.shelf.change(ground, now, &budget.key, |holder| {
            let mut purse = after;
            holder.empty(now, &mut purse);
        });
    }

    /// Decides again a request that has waited.
    pub fn take_again<G: Ground>(&mut self, ground: &mut G, budget: &Budget, cost: u32) -> Take {
        let (now, terms) = (ground.now(), &budget.terms);
        let again = |holder: &mut Holder| holder.take_again(now, terms, cost);
        let take = self.shelf.change(ground, now, &budget.key, again);
        let is_asking = self.entry(&budget.key).is_some_and(|entry| entry.flights > 0);
        match take.unwrap_or(Take::Asks) {
            Take::Waits if !is_asking => Take::Asks,
            take => take,
        }
    }

    /// From now on so many workers share what is on the shelf.
    pub const fn set_workers(&mut self, workers: u32) {
        self.workers = workers;
    }

    /// Whether an ask of this worker about a budget is on its way.
    pub fn is_asking(&self, key: &Key) -> bool {
        let entry = self.find(key).and_then(|at| self.entries.get(at));
        entry.is_some_and(|entry| entry.flights > 0)
    }

    /// Gives back what a request took of a lease that is not going on after all.
    pub fn give_back<G: Ground>(&mut self, ground: &mut G, budget: &Budget, cost: u32) {
        if self.entry(&budget.key).is_some_and(|entry| entry.purse.give_back(cost)) {
            return;
        }
        let now = ground.now();
        // Should it never get through, the units are told as spent: the safe direction.
        let _ = self.shelf.change(ground, now, &budget.key, |it| it.give_back(now, cost));
    }

    /// One ask for the first [`WANTS_MAX`] of these, none of them twice. `None` if there are none.
    pub fn ask<G: Ground>(&mut self, ground: &mut G, queues: &[Queue]) -> Option<(Ask, Sent)> {
        let now = ground.now();
        let (mut wants, mut of) = (Vec::new(), Vec::new());
        for queue in queues.iter().take(WANTS_MAX) {
            let (want, flight) = self.want(ground, now, queue);
            wants.push(want);
            of.push((queue.budget, flight));
            if let Some(entry) = self.entry(&queue.budget.key) {
                entry.flights = entry.flights.saturating_add(1);
            }
        }
        if wants.is_empty() {
            return None;
        }
        self.seq = self.seq.saturating_add(1);
        let seq = self.seq;
        Some((Ask { holder: self.me, seq, wants }, Sent { seq, of }))
    }

    /// Learns what an ask brought, and says of each budget what it served to those who wait, or
    /// that its store is away: of that budget it is as if the ask were lost. A reply to another
    /// ask is none: `false`, and it is as if all of it were lost.
    pub fn on_reply<G: Ground>(
        &mut self,
        ground: &mut G,
        sent: Sent,
        reply: &Reply,
        mut serve: impl FnMut(&Budget, Result<Served, Away>),
    ) -> bool {
        if reply.seq != sent.seq || reply.grants.len() != sent.of.len() {
            self.on_lost(ground, sent);
            return false;
        }
        let (now, by) = (ground.now(), (self.me, sent.seq));
        for ((budget, flight), grant) in sent.of.iter().zip(&reply.grants) {
            self.land(&budget.key);
            let served = match grant {
                Ok(grant) => Ok(self.learn(ground, now, budget, *flight, by, grant)),
                Err(away) => {
                    self.lose(ground, now, budget, *flight);
                    Err(*away)
                }
            };
            serve(budget, served);
        }
        true
    }

    /// Learns that an ask was given up: a reply to it must not be looked at any more.
    pub fn on_lost<G: Ground>(&mut self, ground: &mut G, sent: Sent) {
        let now = ground.now();
        for (budget, flight) in sent.of {
            self.land(&budget.key);
            self.lose(ground, now, &budget, flight);
        }
    }

    /// Does what time brings, and says of which budgets something is due; call it about every
    /// 25 ms and [`Self::ask`] for those. A look at the shared holder for each key that this worker
    /// used since the last tick, or that holds something, and a change where there is something new.
    pub fn on_tick<G: Ground>(&mut self, ground: &mut G) -> Vec<Queue> {
        let (now, shelf) = (ground.now(), self.shelf);
        let mut due = Vec::new();
        let mut at = 0;
        while let Some(entry) = self.entries.get_mut(at) {
            let is_touched = core::mem::take(&mut entry.is_touched);
            if !is_touched && !entry.is_needed && entry.flights == 0 {
                self.remove(at);
                continue;
            }
            let Budget { key, terms, .. } = entry.budget;
            let before = entry.purse;
            let swept = shelf.change(ground, now, &key, |holder| {
                let mut purse = before;
                holder.empty(now, &mut purse);
                let is_needed = holder.left(now) > 0 || !holder.may_be_dropped(now);
                (purse, holder.due(now, &terms), is_needed)
            });
            let mut what = Due::Nothing;
            entry.is_needed = true;
            if let Some(swept) = swept {
                (entry.purse, what, entry.is_needed) = swept;
            }
            if what != Due::Nothing {
                entry.is_needed = true;
                due.push(Queue { budget: entry.budget, waiting: 0, least: 0, at_once: false });
            }
            at += 1;
        }
        due
    }

    /// Returns all that this worker and the holders it knows have: for the end of a process,
    /// or of a policy. Nothing needs to be done with the replies. What asks that are on their way
    /// bring comes afterwards: call it again when they have landed.
    pub fn drain<G: Ground>(&mut self, ground: &mut G) -> Vec<Ask> {
        let now = ground.now();
        let mut wants = Vec::new();
        self.index.clear();
        for entry in core::mem::take(&mut self.entries) {
            let Budget { key, limit, terms } = entry.budget;
            let drained = self.shelf.change(ground, now, &key, |holder| {
                let mut purse = entry.purse;
                holder.empty(now, &mut purse);
                holder.drain(now, &terms, (key, limit))
            });
            wants.extend(drained.flatten());
            if entry.flights > 0
                && let Some(again) = self.place(&entry.budget)
            {
                again.flights = entry.flights;
            }
        }
        let mut asks = Vec::new();
        for wants in wants.chunks(WANTS_MAX) {
            self.seq = self.seq.saturating_add(1);
            asks.push(Ask { holder: self.me, seq: self.seq, wants: wants.to_vec() });
        }
        asks
    }

    /// Notes units that were used without a grant, to be charged. `false` if there is no
    /// place to note them.
    pub fn owe<G: Ground>(&mut self, ground: &mut G, budget: &Budget, units: u32) -> bool {
        let now = ground.now();
        self.shelf.change(ground, now, &budget.key, |holder| holder.owe(units)).is_some()
    }

    /// How a budget stands, and this process's part of the demand for it in parts per million,
    /// by what the store said last.
    pub fn standing<G: Ground>(&self, ground: &mut G, budget: &Budget) -> (Standing, u32) {
        let now = ground.now();
        let look = |holder: &mut Holder| (holder.standing(now, &budget.terms), holder.share_ppm());
        let nothing = || look(&mut Holder::default());
        self.shelf.change(ground, now, &budget.key, look).unwrap_or_else(nothing)
    }

    fn want<G: Ground>(&self, ground: &mut G, now: Instant, queue: &Queue) -> (Want, Flight) {
        let Queue { budget, waiting, least, at_once } = queue;
        let ask = |holder: &mut Holder| {
            let of = (budget.key, budget.limit);
            holder.ask(now, &budget.terms, of, (*waiting, *least), *at_once)
        };
        // Without its holder it asks as one that holds nothing.
        let nothing = || ask(&mut Holder::default());
        self.shelf.change(ground, now, &budget.key, ask).unwrap_or_else(nothing)
    }

    fn learn<G: Ground>(
        &self,
        ground: &mut G,
        now: Instant,
        budget: &Budget,
        flight: Flight,
        by: (HolderId, u64),
        grant: &Grant,
    ) -> Served {
        let learn = |it: &mut Holder| it.on_reply(now, &budget.terms, flight, by, grant);
        // Without its holder those who wait are served, and the rest lapses.
        let nothing = || learn(&mut Holder::default());
        self.shelf.change(ground, now, &budget.key, learn).unwrap_or_else(nothing)
    }

    fn lose<G: Ground>(&self, ground: &mut G, now: Instant, budget: &Budget, flight: Flight) {
        // Should it never get through, others wait a little longer for nothing.
        let _ = self.shelf.change(ground, now, &budget.key, |it| it.on_lost(flight));
    }

    fn land(&mut self, key: &Key) {
        if let Some(entry) = self.entry(key) {
            entry.flights = entry.flights.saturating_sub(1);
        }
    }

    fn entry(&mut self, key: &Key) -> Option<&mut Entry> {
        let at = self.find(key)?;
        self.entries.get_mut(at)
    }

    fn find(&self, key: &Key) -> Option<usize> {
        let set = self.index.get(set_of(key))?;
        let mut places = set.iter().filter_map(|at| usize::from(*at).checked_sub(1));
        let is_of = |at: &usize| self.entries.get(*at).is_some_and(|it| it.budget.key == *key);
        places.find(is_of)
    }

    /// The entry for a budget: its own, or a new one if there is room for it.
    fn place(&mut self, budget: &Budget) -> Option<&mut Entry> {
        if let Some(own) = self.find(&budget.key) {
            let entry = self.entries.get_mut(own)?;
            // A key's terms change with its policy; what is held stays good.
            entry.budget = *budget;
            return Some(entry);
        }
        self.index.resize(SETS * WAYS, 0);
        let set = self.index.get_mut(set_of(&budget.key))?;
        let free = set.iter_mut().find(|at| **at == 0)?;
        *free = u16::try_from(self.entries.len() + 1).ok()?;
        self.entries.push(Entry::new(budget));
        self.entries.last_mut()
    }

    /// Removes an entry; the last one takes its number.
    fn remove(&mut self, at: usize) {
        let last = self.entries.len();
        let mut renumber = |of: &Key, from: usize, to: usize| {
            let set = self.index.get_mut(set_of(of)).unwrap_or_default();
            if let Some(place) = set.iter_mut().find(|at| usize::from(**at) == from) {
                *place = u16::try_from(to).unwrap_or(0);
            }
        };
        if let Some(entry) = self.entries.get(at) {
            renumber(&entry.budget.key, at + 1, 0);
        }
        if let Some(moved) = self.entries.last().filter(|_| at + 1 < last) {
            renumber(&moved.budget.key, last, at + 1);
        }
        if at < last {
            self.entries.swap_remove(at);
        }
    }
}

/// The places of a key's set in the index.
fn set_of(key: &Key) -> Range<usize> {
    let number = usize::from(u16::from_le_bytes(field::get(&key.0, 4)));
    let start = number % SETS * WAYS;
    start..start + WAYS
}

/// Decides a request of a key for which there is no entry: of its holder alone.
fn take_without_purse<G: Ground>(
    ground: &mut G,
    now: Instant,
    shelf: Shelf,
    budget: &Budget,
    cost: u32,
) -> (Take, Due) {
    let taken = shelf.change(ground, now, &budget.key, |holder| {
        let take = holder.take(now, &budget.terms, cost);
        (take, due_after(take, holder, now, &budget.terms), holder.refuses_meanwhile())
    });
    match taken {
        Some((take, due, refuses)) => (heard_here(take, refuses), due),
        None => (Take::Asks, Due::Nothing),
    }
}

/// What becomes of a request of a worker that has asked nothing itself: of another's reply it
/// would hear nothing.
const fn heard_here(take: Take, refuses: Option<Span>) -> Take {
    match (take, refuses) {
        (Take::Waits, Some(wait)) => Take::Denied { wait },
        (Take::Waits, None) => Take::Asks,
        (take, _) => take,
    }
}

/// What is due once a request has taken of what is held.
fn due_after(take: Take, holder: &mut Holder, now: Instant, terms: &Terms) -> Due {
    match take {
        Take::Admitted | Take::Trusted => holder.due(now, terms),
        _ => Due::Nothing,
    }
}

impl Entry {
    fn new(budget: &Budget) -> Self {
        Self {
            budget: *budget,
            purse: Purse::default(),
            flights: 0,
            is_touched: true,
            is_needed: true,
        }
    }

    fn exchange<G: Ground>(
        &mut self,
        ground: &mut G,
        now: Instant,
        shelf: Shelf,
        workers: u32,
        cost: u32,
    ) -> (Take, Due) {
        let Budget { key, terms, .. } = self.budget;
        let before = self.purse;
        let exchanged = shelf.change(ground, now, &key, |holder| {
            let mut purse = before;
            let take = holder.exchange(now, &terms, &mut purse, cost, workers);
            let due = due_after(take, holder, now, &terms);
            (take, due, purse, holder.refuses_meanwhile())
        });
        let Some((take, due, purse, refuses)) = exchanged else {
            return (Take::Asks, Due::Nothing);
        };
        self.purse = purse;
        (if self.flights > 0 { take } else { heard_here(take, refuses) }, due)
    }
}
