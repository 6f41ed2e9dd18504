//! A store of leases in this process's memory, and what every other is held against.
//!
//! Keys are kept as in [`table`](crate::table): eight places for each set of keys, and where
//! all are taken, a new key takes that of one whose record may be forgotten, else of the
//! least indebted. So a flood of keys does not free one that has used its budget.

use super::replay::{Heard, Replays};
use super::{Ask, Grant, Place, RECORD_BYTES, Record, Reply, Terms, Want};
use crate::field;
use crate::table::{Table, WAYS};
use crate::time::{Instant, Span};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The records of many keys.
#[derive(Clone)]
pub struct Store {
    table: Table,
    /// By number of the set; `None` until a key of it is asked for.
    sets: Vec<Option<Box<[Slot; WAYS]>>>,
    replays: Replays,
}

#[derive(Clone, Copy)]
struct Slot {
    tag: u64,
    /// In parts of 65535 of the whole quota, at `written_at`.
    debt: u16,
    written_at: Instant,
    /// From when on it may be forgotten.
    fresh_at: Instant,
    /// All zero: free.
    record: [u8; RECORD_BYTES],
}

const FREE: Slot = Slot {
    tag: 0,
    debt: 0,
    written_at: Instant(0),
    fresh_at: Instant(0),
    record: [0; RECORD_BYTES],
};

impl Store {
    /// A store for at least `keys_max` keys, about 150 bytes each once used.
    pub fn new(keys_max: u32) -> Self {
        let table = Table::new(keys_max);
        let mut sets = Vec::new();
        sets.resize_with(table.sets() as usize, || None);
        Self { table, sets, replays: Replays::default() }
    }

    /// Answers an ask. `None` if it has come before: its answer is on its way, or was lost.
    pub fn answer(&mut self, place: &Place, ask: &Ask) -> Option<Reply> {
        let may_settle = match self.replays.hear(place.now, ask.holder, ask.seq) {
            Heard::First => true,
            Heard::Perhaps => false,
            Heard::Again => return None,
        };
        let grants = ask.wants.iter().map(|want| self.grant(place, ask, want, may_settle));
        Some(Reply { seq: ask.seq, grants: grants.map(Ok).collect() })
    }

    /// How many asks it answered and settled nothing, for it had not heard of their holders.
    pub const fn unsettled(&self) -> u64 {
        self.replays.unsettled()
    }

    fn grant(&mut self, place: &Place, ask: &Ask, want: &Want, may_settle: bool) -> Grant {
        let number = self.table.set_of(&want.key) as usize;
        let terms = Terms::new(want.quota, Span::ZERO, want.reserve);
        let (Some(set), Some(terms)) = (self.sets.get_mut(number), terms) else {
            return Grant::default();
        };
        let set = set.get_or_insert_with(|| Box::new([FREE; WAYS]));
        // The half of a key that does not name its set.
        let tag = u64::from_le_bytes(field::get(&want.key.0, 8));
        let own = set.iter().position(|slot| !slot.is_free() && slot.tag == tag);
        let slot = match own {
            Some(own) => set.get_mut(own),
            None => {
                let least = set.iter_mut().min_by_key(|slot| slot.loss(place.now));
                least.map(|slot| {
                    *slot = FREE;
                    slot
                })
            }
        };
        let Some(slot) = slot else { return Grant::default() };
        let mut record = Record::from_bytes(&slot.record);
        let grant = record.answer(place, ask.holder, want, may_settle);
        let weight = record.weight(&terms);
        let (debt, fresh_at) = (weight.debt, weight.fresh_at);
        let record = record.to_bytes();
        *slot = Slot { tag, debt, written_at: place.now, fresh_at, record };
        grant
    }
}

impl Slot {
    fn is_free(&self) -> bool {
        self.record.first() == Some(&0)
    }

    /// What would be lost by forgetting it, by order: nothing, or its debt as faded until now.
    fn loss(&self, now: Instant) -> (u64, Instant) {
        if self.is_free() || self.fresh_at <= now {
            return (0, self.fresh_at);
        }
        // In milliseconds, so that the product fits.
        let whole = self.fresh_at.since(self.written_at).millis_ceil().max(1);
        let left = self.fresh_at.since(now).millis_ceil().min(whole);
        (1 + u64::from(self.debt).saturating_mul(left) / whole, self.fresh_at)
    }
}
