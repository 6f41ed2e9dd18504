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

impl Local {
    pub(super) fn new(table: Table) -> Self {
        Self { table, stock: Stock::new() }
    }

    /// Takes what a request costs, or refuses it and takes nothing.
    pub(super) fn take<G: Ground>(
        &mut self,
        ground: &mut G,
        applied: &Applied,
    ) -> Result<Standing, Refused> {
        let (now, old, extra) = match self.stock.entry(&applied.key) {
            None => (ground.now(), Chunk::default(), 0),
            Some(entry) => {
                if let Some(standing) = entry.spend(applied.cost) {
                    return Ok(standing);
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
        outcome.map(|standing| Standing {
            remaining: standing.remaining.saturating_add(chunk.left),
            ..standing
        })
    }

    /// As [`Local::take`], but a key that was never seen starts with nothing, and no stock is kept.
    pub(super) fn take_of_empty<G: Ground>(
        &mut self,
        ground: &mut G,
        applied: &Applied,
    ) -> Result<Standing, Refused> {
        let now = ground.now();
        let Applied { quota, cost, .. } = applied;
        change(&self.table, ground, applied, now, |state| {
            if *state == State::default() {
                // A fresh state holds a whole burst, so this cannot be refused.
                let _ = quota.take(state, now, quota.burst());
            }
            quota.take(state, now, *cost)
        })
        .unwrap_or(Err(CONFLICTED))
    }

    /// Gives back what a request took that did not go on.
    pub(super) fn give_back<G: Ground>(&mut self, ground: &mut G, applied: &Applied) {
        if self.stock.give_back(&applied.key, applied.cost) {
            return;
        }
        let now = ground.now();
        // Should it never get through, the tokens stay spent: the safe direction.
        let _ = change(&self.table, ground, applied, now, |state| {
            applied.quota.put_back(state, now, applied.cost);
        });
    }

    /// Returns what no request has wanted lately, so that other workers can have it.
    pub(super) fn on_tick<G: Ground>(&mut self, ground: &mut G) {
        self.settle(ground, Entry::rests);
    }

    /// Returns everything.
    pub(super) fn drain<G: Ground>(&mut self, ground: &mut G) {
        self.settle(ground, |_| true);
    }

    fn settle<G: Ground>(&mut self, ground: &mut G, is_due: impl Fn(&mut Entry) -> bool) {
        for entry in self.stock.entries() {
            if !is_due(entry) || entry.chunk.granted == 0 {
                continue;
            }
            let (now, old) = (ground.now(), entry.chunk);
            let applied = entry.as_applied();
            let settled = change(&self.table, ground, &applied, now, |state| {
                let _ = token_bucket::draw(&applied.quota, state, now, old, 0, 0);
            });
            if settled.is_some() {
                entry.empty();
            }
        }
    }
}

const CONFLICTED: Refused = Refused::Wait {
    wait: CONFLICT_WAIT,
    standing: Standing { remaining: 0, reset: CONFLICT_WAIT },
};

/// Changes one key's shared state by compare-and-swap. `None` if it could not be stored;
/// then nothing is changed.
fn change<G: Ground, R>(
    table: &Table,
    ground: &mut G,
    applied: &Applied,
    now: Instant,
    mut by: impl FnMut(&mut State) -> R,
) -> Option<R> {
    let index = table.set_of(&applied.key);
    for _ in 0..CONFLICTS_MAX {
        let mut set = Set::empty();
        let version = ground.load(index, set.bytes_mut());
        let before = set.state(&applied.key);
        let mut state = before.clone();
        let result = by(&mut state);
        if state == before {
            return Some(result);
        }
        set.put(&applied.key, &state, applied.quota.weight(&state, now), now);
        if ground.store(index, set.bytes(), version).is_ok() {
            return Some(result);
        }
    }
    None
}
