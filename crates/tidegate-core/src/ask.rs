//! Questions to the store, as data, and the reference answer to them.
//!
//! A store may be this process, a host service or Redis: it is always asked with an
//! [`Ask`] and answers with a [`Reply`], or gives [`NoAnswer`], which is an input
//! like any other. [`MemoryStore`] says what the right reply is; every other store is
//! held against it.

use crate::key::Key;
use crate::limit::{Quota, Refused, Standing, State};
use crate::table::{Set, Table};
use crate::time::{Instant, Span};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The most items of an ask: as many limits as may apply to one request.
pub const ITEMS_MAX: usize = crate::policy::APPLIED_MAX;

/// Parts of a whole share: [`Answer::share_ppm`] never is more.
pub const SHARE_WHOLE_PPM: u32 = 1_000_000;

/// One question: may a request draw on all of these budgets?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// One to [`ITEMS_MAX`] budgets, no key twice.
    pub items: Vec<Item>,
}

/// One budget, and how much of it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Whose budget.
    pub key: Key,
    /// Of which limit.
    pub limit: LimitTag,
    /// How large it is.
    pub quota: Quota,
    /// Units to take; zero only looks.
    pub cost: u32,
    /// Units that were used while no store could be asked. They are charged first, whatever
    /// becomes of the rest: all of them, or as many as there is room for.
    pub owed: u32,
}

/// Which limit of which domain: a hash, for shares of demand and for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitTag(pub u64);

/// The answer to an [`Ask`].
///
/// All or nothing: if any item is refused, nothing is charged (but for what is owed), and the
/// items that would have passed say how they stand, uncharged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// One per item, in their order.
    pub answers: Vec<Answer>,
}

/// The answer to one [`Item`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether this budget admits the request.
    pub outcome: Result<Standing, Refused>,
    /// The asking proxy's share of the limit's recent demand, in parts per million of all
    /// proxies'; 0 if not known.
    pub share_ppm: u32,
}

/// Why there is no reply: the other thing that may happen to an [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing came from whoever keeps the store, in time and in good order. The next question
    /// would wait as long for nothing.
    Unreachable,
    /// Whoever keeps the store said at once that it gives no answer for these budgets, and for
    /// how long by now. Others may be answered: of a cluster one shard is away.
    StoreAway(Span),
}

impl Reply {
    /// Whether every item was admitted, and so all of them charged.
    pub fn admits(&self) -> bool {
        self.answers.iter().all(|answer| answer.outcome.is_ok())
    }
}

/// A store in this process's memory.
///
/// It grows with use up to its bound of keys, and never shrinks.
pub struct MemoryStore {
    table: Table,
    /// By number of the set; `None` until a key of it is charged.
    sets: Vec<Option<Box<Set>>>,
}

impl MemoryStore {
    /// A store for at least `keys_max` keys, about 100 bytes each once used.
    pub fn new(keys_max: u32) -> Self {
        let table = Table::new(keys_max);
        let mut sets = Vec::new();
        sets.resize_with(table.sets() as usize, || None);
        Self { table, sets }
    }

    /// Answers, and charges if every item is admitted.
    pub fn answer(&mut self, now: Instant, ask: &Ask) -> Reply {
        for item in ask.items.iter().filter(|item| item.owed > 0) {
            self.change(item, now, |state| item.quota.charge_up_to(state, now, item.owed));
        }
        let checked = Reply { answers: self.each(ask, |set, item| check(set, item, now)) };
        if !checked.admits() {
            return Reply { answers: self.each(ask, |set, item| uncharged(set, item, now)) };
        }
        for item in ask.items.iter().filter(|item| item.cost > 0) {
            // Checked above, so it can be refused only if an ask names a key twice.
            self.change(item, now, |state| item.quota.take(state, now, item.cost).is_ok());
        }
        checked
    }

    fn each(&self, ask: &Ask, answer: impl Fn(&Set, &Item) -> Answer) -> Vec<Answer> {
        const NOBODY: &Set = &Set::empty();
        let set_of = |item: &Item| {
            let set = self.sets.get(self.table.set_of(&item.key) as usize);
            set.and_then(Option::as_deref).unwrap_or(NOBODY)
        };
        ask.items.iter().map(|item| answer(set_of(item), item)).collect()
    }

    /// Changes a key's state, if `change` says that it did.
    fn change(&mut self, item: &Item, now: Instant, change: impl FnOnce(&mut State) -> bool) {
        let Some(place) = self.sets.get_mut(self.table.set_of(&item.key) as usize) else {
            return; // there is a place for every set
        };
        let set = place.get_or_insert_default();
        let mut state = set.state(&item.key);
        if change(&mut state) {
            set.put(&item.key, &state, item.quota.weight(&state, now), now);
        }
    }
}

fn check(set: &Set, item: &Item, now: Instant) -> Answer {
    Answer { outcome: item.quota.check(&set.state(&item.key), now, item.cost), share_ppm: 0 }
}

fn uncharged(set: &Set, item: &Item, now: Instant) -> Answer {
    let state = set.state(&item.key);
    let passes = item.quota.check(&state, now, item.cost);
    Answer { outcome: passes.map(|_| item.quota.standing(&state, now)), share_ppm: 0 }
}
