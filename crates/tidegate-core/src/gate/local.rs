//! Local limits: this worker's stock first, then the state that all workers share.

use super::Ground;
use super::stock::{Entry, Stock};
use crate::limit::token_bucket::{self, Chunk};
use crate::limit::{Algorithm, Refused, Standing, State};
use crate::plan::Applied;
use crate::table::{Set, Table};
use crate::time::{Instant, Span};

/// How often a change is tried again when other workers keep changing the same set. Each
/// round some worker's change went through, so this many in a row means a broken store of
/// shared state; the request is then refused for a moment, which charges nothing.
const CONFLICTS_MAX: usize = 64;

/// What a request refused for [`CONFLICTS_MAX`] is told to wait.
const CONFLICT_WAIT: Span = Span::from_millis(10);

pub(super) struct Local {
    table: Table,
    stock: Stock,
}

/// What a request took of one limit.
pub(super) struct Taken {
    pub(super) applied: Applied,
    /// Of a bucket, for a request that waits: outstanding units.
    chunk: Chunk,
    at: Instant,
}

impl Local {
    pub(super) fn new(table: Table) -> Self {
        Self { table, stock: Stock::new() }
    }

    /// Takes what a request costs, or refuses it and takes nothing.
    pub(super) fn take<G: Ground>(
        &mut self,
        ground: &mut G,
        applied: &Applied,
    ) -> Result<(Standing, Taken), Refused> {
        let taken = |at| Taken { applied: *applied, chunk: Chunk::default(), at };
        let (now, old, extra) = match self.stock.entry(&applied.key) {
            None => (ground.now(), Chunk::default(), 0),
            Some(entry) => {
                if let Some(standing) = entry.spend(applied.cost) {
                    // From stock it goes back to stock; the time is not needed.
                    return Ok((standing, taken(Instant::default())));
                }
                let now = ground.now();
                if let Some(refused) = entry.denies(now, applied.cost) {
                    return Err(refused);
                }
                (now, entry.chunk, entry.extra())
            }
        };
        let (chunk, outcome) =
            change(&self.table, ground, applied, now, |state| match applied.quota.algorithm() {
                Algorithm::TokenBucket => {
                    token_bucket::draw(&applied.quota, state, now, old, applied.cost, extra)
                }
                _ => (Chunk::default(), applied.quota.take(state, now, applied.cost)),
            })
            .unwrap_or((old, Err(CONFLICTED)));
        self.stock.record(applied, chunk, outcome, now);
        // What this worker now holds ahead is still there for the client.
        outcome.map(|standing| {
            let remaining = standing.remaining.saturating_add(chunk.left);
            (Standing { remaining, ..standing }, taken(now))
        })
    }

    /// As [`Local::take`], of a budget that began with nothing: at `since`, or where that is
    /// not known, when its key was first seen. No stock is kept.
    pub(super) fn take_of_empty<G: Ground>(
        &mut self,
        ground: &mut G,
        applied: &Applied,
        since: Option<Instant>,
    ) -> Result<Taken, Refused> {
        let now = ground.now();
        let Applied { quota, cost, .. } = applied;
        let outcome = change(&self.table, ground, applied, now, |state| {
            let is_of_before = since.is_some_and(|since| token_bucket::is_older(state, since));
            if is_of_before || *state == State::default() {
                *state = State::default();
                quota.charge_up_to(state, since.unwrap_or(now), quota.burst());
            }
            quota.take(state, now, *cost)
        });
        outcome.unwrap_or(Err(CONFLICTED))?;
        Ok(Taken { applied: *applied, chunk: Chunk::default(), at: now })
    }

    /// Takes for a request that will wait for the store.
    ///
    /// From a bucket it is taken as a chunk, outstanding until [`Local::keep`] or
    /// [`Local::give_back`]: were it charged and later put back, a bucket that had filled up
    /// meanwhile would be filled twice.
    pub(super) fn take_for_later<G: Ground>(
        &mut self,
        ground: &mut G,
        applied: &Applied,
    ) -> Result<(Standing, Taken), Refused> {
        let Applied { key, quota, cost, .. } = applied;
        let now = ground.now();
        let old = self.stock.entry(key).map_or_else(Chunk::default, |entry| entry.chunk);
        let result = change(&self.table, ground, applied, now, |state| {
            if quota.algorithm() != Algorithm::TokenBucket {
                return (quota.take(state, now, *cost), Chunk::default());
            }
            let (_, settled) = token_bucket::draw(quota, state, now, old, 0, 0);
            let refused = quota.check(state, now, *cost).and(settled).err();
            let extra = if refused.is_none() { *cost } else { 0 };
            let (chunk, drawn) = token_bucket::draw(quota, state, now, Chunk::default(), 0, extra);
            (refused.map_or(drawn, Err), chunk)
        });
        let (outcome, chunk) = result.ok_or(CONFLICTED)?;
        if let Some(entry) = self.stock.entry(key) {
            entry.empty();
        }
        outcome.map(|standing| (standing, Taken { applied: *applied, chunk, at: now }))
    }

    /// Spends what was taken for a request that goes on.
    pub(super) fn keep<G: Ground>(&mut self, ground: &mut G, taken: &Taken) {
        self.settle_taken(ground, taken, 0);
    }

    /// Gives back what was taken for a request that does not go on.
    pub(super) fn give_back<G: Ground>(&mut self, ground: &mut G, taken: &Taken) {
        let Taken { applied, chunk, at } = taken;
        if chunk.granted > 0 {
            self.settle_taken(ground, taken, chunk.granted);
        } else if !self.stock.give_back(&applied.key, applied.cost) {
            // Should it never get through, the tokens stay spent: the safe direction.
            let _ = change(&self.table, ground, applied, *at, |state| {
                applied.quota.put_back(state, *at, applied.cost);
            });
        }
    }

    fn settle_taken<G: Ground>(&mut self, ground: &mut G, taken: &Taken, left: u32) {
        let Taken { applied, chunk, .. } = taken;
        if chunk.granted > 0 {
            // Should it never get through, it is forgotten with its epoch: the safe direction.
            let _ = settle(&self.table, ground, applied, Chunk { left, ..*chunk });
        }
    }

    /// Returns what no request has wanted lately, so that other workers can have it.
    pub(super) fn on_tick<G: Ground>(&mut self, ground: &mut G) {
        self.settle_stock(ground, Entry::rests);
    }

    /// Returns everything.
    pub(super) fn drain<G: Ground>(&mut self, ground: &mut G) {
        self.settle_stock(ground, |_| true);
    }

    fn settle_stock<G: Ground>(&mut self, ground: &mut G, is_due: impl Fn(&mut Entry) -> bool) {
        for entry in self.stock.entries() {
            if !is_due(entry) || entry.chunk.granted == 0 {
                continue;
            }
            if settle(&self.table, ground, &entry.as_applied(), entry.chunk).is_some() {
                entry.empty();
            }
        }
    }
}

const CONFLICTED: Refused = Refused::Wait {
    wait: CONFLICT_WAIT,
    standing: Standing { remaining: 0, reset: CONFLICT_WAIT },
};

/// Settles a chunk and takes nothing. `None` if it could not be stored.
fn settle<G: Ground>(table: &Table, ground: &mut G, applied: &Applied, old: Chunk) -> Option<()> {
    let now = ground.now();
    change(table, ground, applied, now, |state| {
        let _ = token_bucket::draw(&applied.quota, state, now, old, 0, 0);
    })
}

/// Changes one key's shared state by compare-and-swap. `None` if it could not be stored;
/// then nothing is changed.
fn change<G: Ground, R>(
    table: &Table,
    ground: &mut G,
    applied: &Applied,
    now: Instant,
    mut by: impl FnMut(&mut State) -> R,
) -> Option<R> {
    let mut result = None;
    let is_done = change_by(table, ground, applied, now, &mut |state| result = Some(by(state)));
    result.filter(|_| is_done)
}

// Once, and not for each thing that is done to states.
#[inline(never)]
fn change_by<G: Ground>(
    table: &Table,
    ground: &mut G,
    applied: &Applied,
    now: Instant,
    by: &mut dyn FnMut(&mut State),
) -> bool {
    let index = table.set_of(&applied.key);
    for _ in 0..CONFLICTS_MAX {
        let mut set = Set::empty();
        let version = ground.load(index, set.bytes_mut());
        let before = set.state(&applied.key);
        let mut state = before.clone();
        by(&mut state);
        if state == before {
            return true;
        }
        set.put(&applied.key, &state, applied.quota.weight(&state, now), now);
        if ground.store(index, set.bytes(), version).is_ok() {
            return true;
        }
    }
    false
}
