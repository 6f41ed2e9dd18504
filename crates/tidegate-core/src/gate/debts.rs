//! What was let through on this worker's share while the store was away, to be charged when
//! it is back: so an outage gives nobody more than the limit, only on trust.
//!
//! A key's debt goes with the next question about it, and is charged before that is decided;
//! what nobody asks about is sent by itself, some at each tick. A question that stays without
//! an answer may have been charged all the same: its debt is kept, which errs on the safe side.

use super::Ground;
use crate::ask::{Ask, ITEMS_MAX, Item, LimitTag};
use crate::key::Key;
use crate::lease::{Budget, Terms};
use crate::limit::Quota;
use crate::time::{Instant, Span};
use alloc::vec::Vec;

/// The most keys of one worker whose debts are kept, about 100 bytes each. What is let through
/// for more of them is not charged: each may use its share of the outage twice.
pub const DEBTS_MAX: usize = 4_096;

/// Keys of either kind that nothing but their debts is asked for, at one tick: all debts are told
/// within two seconds.
const KEYS_PER_TICK: usize = 16 * ITEMS_MAX;

/// How long no more of them are put after one that a store did not answer, being away.
const PAUSE: Span = Span::from_millis(1_000);

/// What a question carries of debts, to be kept if it stays without an answer.
pub(super) type Carried = Vec<(Key, Debt)>;

#[derive(Default)]
pub(super) struct Debts {
    /// In the order of their keys.
    all: Vec<(Key, Debt)>,
    /// No question carries nothing but debts before this.
    not_before: Instant,
}

/// What is to be asked for debts alone.
#[derive(Default)]
pub(super) struct Due {
    pub(super) exact: Vec<(Ask, Carried)>,
    pub(super) leased: Vec<Budget>,
}

/// What one key owes.
#[derive(Clone, Copy)]
pub(super) struct Debt {
    limit: LimitTag,
    quota: Quota,
    /// Of a leased limit: its holder tells it.
    terms: Option<Terms>,
    pub(super) units: u32,
    /// When it last grew.
    at: Instant,
}

impl Debts {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Notes what an item of a question that was not asked has used; with the terms of a leased
    /// one.
    pub(super) fn owe(&mut self, item: &Item, terms: Option<Terms>, now: Instant) {
        let Item { key, limit, quota, cost, .. } = *item;
        self.add(key, Debt { limit, quota, terms, units: cost, at: now });
    }

    /// Takes what a key owes, if it still does.
    pub(super) fn take(&mut self, key: &Key, now: Instant) -> Option<Debt> {
        let at = self.place(key).ok()?;
        Some(self.all.remove(at).1).filter(|debt| !debt.is_over(now))
    }

    /// Keeps what a question without an answer carried.
    pub(super) fn keep(&mut self, carried: Carried) {
        for (key, debt) in carried {
            self.add(key, debt);
        }
    }

    /// The store is away: questions that carry nothing else can wait.
    pub(super) fn wait(&mut self, now: Instant) {
        self.not_before = now.after(PAUSE);
    }

    /// Whether they wait still.
    pub(super) fn waits<G: Ground>(&self, ground: &mut G) -> bool {
        self.not_before > Instant::default() && ground.now() < self.not_before
    }

    /// Takes over all of another's.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        self.keep(core::mem::take(&mut other.all));
    }

    fn add(&mut self, key: Key, more: Debt) {
        // More than the burst changes nothing: there is no more to take.
        let units = |units: u32| units.min(more.quota.burst());
        match self.place(&key) {
            Ok(at) => {
                let Some((_, debt)) = self.all.get_mut(at) else { return };
                let at = debt.at.max(more.at);
                *debt = Debt { units: units(debt.units.saturating_add(more.units)), at, ..more };
            }
            Err(at) if more.units > 0 && self.all.len() < DEBTS_MAX => {
                self.all.insert(at, (key, Debt { units: units(more.units), ..more }));
            }
            Err(_) => {}
        }
    }

    /// Where a key's debt is, or would be.
    fn place(&self, key: &Key) -> Result<usize, usize> {
        self.all.binary_search_by(|(known, _)| known.0.cmp(&key.0))
    }

    /// Puts the debts of a question's keys into it.
    pub(super) fn load(&mut self, ask: &mut Ask, now: impl FnOnce() -> Instant) -> Carried {
        let mut carried = Carried::new();
        if self.is_empty() {
            return carried;
        }
        let now = now();
        for item in &mut ask.items {
            if let Some(debt) = self.take(&item.key, now) {
                item.owed = debt.units;
                carried.push((item.key, debt));
            }
        }
        carried
    }

    /// What to ask now, for nothing but debts: exact limits by questions that carry them, leased
    /// ones by asks for leases, which take theirs with [`Self::take`].
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        if now < self.not_before {
            return due;
        }
        self.all.retain(|(_, debt)| !debt.is_over(now));
        let leased = |(key, debt): &(Key, Debt)| {
            let Debt { limit, terms, .. } = *debt;
            Some(Budget { key: *key, limit, terms: terms? })
        };
        due.leased = self.all.iter().filter_map(leased).take(KEYS_PER_TICK).collect();
        let mut exact: Carried =
            self.all.extract_if(.., |(_, debt)| debt.terms.is_none()).take(KEYS_PER_TICK).collect();
        while !exact.is_empty() {
            let carried = exact.split_off(exact.len().saturating_sub(ITEMS_MAX));
            let item = |(key, debt): &(Key, Debt)| Item {
                key: *key,
                limit: debt.limit,
                quota: debt.quota,
                cost: 0,
                owed: debt.units,
            };
            due.exact.push((Ask { items: carried.iter().map(item).collect() }, carried));
        }
        due
    }
}

impl Debt {
    /// Whether it is so old that a budget charged with it then would be whole again. Until
    /// that moment all of it is owed: what else was charged is the store's to know.
    fn is_over(&self, now: Instant) -> bool {
        let quota = &self.quota;
        let span = match quota.algorithm() {
            crate::limit::Algorithm::TokenBucket => super::refusals::window(quota),
            // A window, and as long again for the one that fades; a part of one more.
            _ => Span(quota.period().0.saturating_mul(2)),
        };
        now >= self.at.after(span)
    }
}
