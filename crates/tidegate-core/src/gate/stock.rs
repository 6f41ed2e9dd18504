//! What one worker holds ahead: tokens of hot keys, and keys known to be empty.
//!
//! A key's first request draws just what it costs. As long as more come between two
//! ticks, each draw takes twice as many ahead as the last, up to [`EXTRA_MAX`] and to a
//! sixteenth of what was left in the bucket: a key with little left is never hoarded.
//!
//! A refused key is remembered until its wait is over or [`RECHECK`] has passed (another
//! worker may have returned tokens), so a flood of refused requests does not touch shared
//! state for each.
//!
//! 4-way sets, 1,024 entries of about 120 bytes. A key that finds no place is simply not
//! stocked.

use crate::key::Key;
use crate::limit::token_bucket::Chunk;
use crate::limit::{Quota, Refused, Standing};
use crate::plan::Applied;
use crate::time::{Instant, Span};
use crate::verdict::LimitIndex;
use alloc::vec::Vec;

/// The most tokens taken ahead at once: one draw in 129 requests costs nothing any more.
const EXTRA_MAX: u32 = 128;

/// What part of the tokens left may be taken ahead by one worker.
const EXTRA_PART: u32 = 16;

/// How long a refusal is remembered without looking again.
const RECHECK: Span = Span::from_millis(100);

/// Ticks after which even a key in use settles: at 100 ms a tick half of
/// [`token_bucket::CHUNK_LIFE`](crate::limit::token_bucket::CHUNK_LIFE).
const SETTLE_TICKS: u8 = 20;

const WAYS: usize = 4;
const SETS: usize = 256;

pub(super) struct Stock {
    entries: Vec<Option<Entry>>,
}

/// One key's stock.
pub(super) struct Entry {
    key: Key,
    limit: LimitIndex,
    quota: Quota,
    pub(super) chunk: Chunk,
    standing: Standing,
    next_extra: u32,
    is_touched: bool,
    age_ticks: u8,
    denied: Option<Denied>,
}

/// A refusal, remembered.
struct Denied {
    cost: u32,
    until: Instant,
    look_again: Instant,
}

impl Stock {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The entry of a key, if it has one.
    pub(super) fn entry(&mut self, key: &Key) -> Option<&mut Entry> {
        self.set(key).iter_mut().flatten().find(|entry| entry.key == *key)
    }

    pub(super) fn entries(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().flatten()
    }

    /// Keeps what a draw brought.
    pub(super) fn record(
        &mut self,
        applied: &Applied,
        chunk: Chunk,
        outcome: Result<Standing, Refused>,
        now: Instant,
    ) {
        let Some(entry) = self.place(applied) else { return };
        entry.chunk = chunk;
        entry.is_touched = true;
        entry.age_ticks = 0;
        entry.next_extra = (entry.next_extra * 2).clamp(1, EXTRA_MAX);
        entry.denied = None;
        match outcome {
            Ok(standing) => entry.standing = standing,
            Err(Refused::Wait { wait, standing }) => {
                entry.standing = standing;
                let look_again = now.after(wait.min(RECHECK));
                entry.denied =
                    Some(Denied { cost: applied.cost, until: now.after(wait), look_again });
            }
            Err(Refused::Never) => {}
        }
    }

    /// Puts tokens back into a stock that they can have come from; `false` if there is none.
    pub(super) fn give_back(&mut self, key: &Key, cost: u32) -> bool {
        let Some(entry) = self.entry(key) else { return false };
        let left = entry.chunk.left.saturating_add(cost);
        let fits = left <= entry.chunk.granted;
        if fits {
            entry.chunk.left = left;
        }
        fits
    }

    /// The entry for a key: its own, a free one, or one that holds nothing and was not
    /// touched since the last tick.
    fn place(&mut self, applied: &Applied) -> Option<&mut Entry> {
        if self.entries.is_empty() {
            self.entries.resize_with(SETS * WAYS, || None);
        }
        let set = self.set(&applied.key);
        let own = set.iter().position(|way| way.as_ref().is_some_and(|e| e.key == applied.key));
        let free = || set.iter().position(Option::is_none);
        let idle = || set.iter().position(|way| way.as_ref().is_some_and(Entry::is_idle));
        let spent =
            || set.iter().position(|way| way.as_ref().is_some_and(|e| e.chunk.granted == 0));
        let at = own.or_else(free).or_else(idle).or_else(spent)?;
        let way = set.get_mut(at)?;
        if own.is_none() {
            *way = None;
        }
        Some(way.get_or_insert_with(|| Entry::new(applied)))
    }

    fn set(&mut self, key: &Key) -> &mut [Option<Entry>] {
        let [low, high, ..] = key.0;
        let start = usize::from(u16::from_le_bytes([low, high])) % SETS * WAYS;
        self.entries.get_mut(start..start + WAYS).unwrap_or_default()
    }
}

impl Entry {
    const fn new(applied: &Applied) -> Self {
        Self {
            key: applied.key,
            limit: applied.limit,
            quota: applied.quota,
            chunk: Chunk { epoch: 0, granted: 0, left: 0 },
            standing: Standing { remaining: 0, reset: Span::ZERO },
            next_extra: 0,
            is_touched: false,
            age_ticks: 0,
            denied: None,
        }
    }

    /// Spends from what is held; `None` if that is not enough.
    pub(super) fn spend(&mut self, cost: u32) -> Option<Standing> {
        // A request that costs nothing must not be refused by a key that holds nothing,
        // nor vouched for by one.
        let left = self.chunk.left.checked_sub(cost).filter(|_| self.chunk.granted > 0)?;
        self.chunk.left = left;
        self.is_touched = true;
        let remaining = self.standing.remaining.saturating_add(left);
        Some(Standing { remaining, ..self.standing })
    }

    /// The refusal that still holds for a request of this cost.
    pub(super) fn denies(&self, now: Instant, cost: u32) -> Option<Refused> {
        let denied = self.denied.as_ref()?;
        let holds = cost >= denied.cost && cost <= self.quota.burst() && now < denied.look_again;
        holds.then(|| Refused::Wait { wait: denied.until.since(now), standing: self.standing })
    }

    /// How many tokens to take ahead at the next draw.
    pub(super) fn extra(&self) -> u32 {
        self.next_extra.min(self.standing.remaining / EXTRA_PART)
    }

    /// Notes a tick; whether what is held should go back.
    pub(super) fn rests(&mut self) -> bool {
        let was_touched = core::mem::take(&mut self.is_touched);
        self.age_ticks = self.age_ticks.saturating_add(1);
        if !was_touched {
            self.next_extra = 0;
        }
        !was_touched || self.age_ticks >= SETTLE_TICKS
    }

    pub(super) fn empty(&mut self) {
        self.chunk = Chunk::default();
        self.age_ticks = 0;
    }

    pub(super) const fn as_applied(&self) -> Applied {
        Applied { limit: self.limit, key: self.key, quota: self.quota, cost: 0 }
    }

    const fn is_idle(&self) -> bool {
        self.chunk.granted == 0 && !self.is_touched
    }
}
