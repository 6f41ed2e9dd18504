//! The token bucket, as a backlog that drains: GCRA in whole numbers.
//!
//! At most `burst + rate × t` units are admitted in any time `t`, exactly: nothing is
//! rounded, so nothing drifts. With the quota's `cell` and `drain` (see [`Quota`]):
//!
//! ```text
//! full      = burst × cell
//! now       = max(now, last)                      time never runs backwards
//! backlog   = max(0, backlog − (now − last) × drain)
//! room      = floor((full − backlog) / cell)
//! add(c)    : backlog += c × cell; last = now
//! admits_at(c) = last + ceil((backlog + c × cell − full) / drain)
//! ```
//!
//! ## Chunks
//!
//! A proxy has several workers, and each takes a small [`Chunk`] of units from the shared
//! state ahead of use, so that most requests touch nothing shared. That alone would not
//! be exact: units held back while the bucket fills up again come on top of a full one.
//! So the state counts the units outstanding, and the backlog never drains below them:
//!
//! ```text
//! backlog ≥ outstanding × cell
//! ```
//!
//! Then at every moment what workers hold plus what the bucket holds is at most `burst`,
//! and what they admit in any time `t` at most `burst + rate × t`, whatever becomes of
//! the chunks. A worker that comes for its next chunk settles the last one: its units are
//! outstanding no more, and those not spent flow back. The price: while the bucket is
//! nearly full, it does not refill the units that are outstanding.
//!
//! A worker may die with its chunk. Chunks are therefore counted by the [`EPOCH`] in which
//! they were granted; epoch `e` is forgotten at `(e + 2) × EPOCH`, and its units begin to
//! drain then, not before. A late settlement of a forgotten epoch returns nothing: by
//! then its units may have drained, and would be admitted twice.
//!
//! ## State
//!
//! Bytes: 4 epoch, 8 outstanding of it, 12 outstanding of the epoch before, 16 backlog,
//! 24 last (tick), 32 cell, 40 drain. Under another quota the backlog becomes whole
//! units, rounded up, at the new cell; at most the new burst.

use super::{Account, Algorithm, Quota, Refused, Standing, State, Tick, Weight};
use crate::time::{Instant, Span};

/// Chunks are counted by the epoch in which they were granted, and forgotten when the
/// epoch after it has ended.
pub const EPOCH: Span = Span::from_secs(8);

/// How long after its grant a chunk may be spent. Well within the time for which it is
/// counted, so that it never matters which clock reading came first.
pub const CHUNK_LIFE: Span = Span::from_secs(4);

/// Units that a worker took ahead of use. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The epoch of its grant.
    pub epoch: u32,
    /// The units granted: they are outstanding until it is settled.
    pub granted: u32,
    /// The units not spent yet.
    pub left: u32,
}

/// Settles a chunk, takes `cost`, and grants up to `extra` more as a new chunk.
///
/// The order is part of the proof: the backlog drains under the *old* outstanding units;
/// then `old` is settled; then `cost` is taken; then as much of `extra` is granted as there
/// is room for. A refusal settles too, and grants nothing. With neither cost nor extra it
/// only settles. The standing is that of the shared state after all this; what the new
/// chunk holds comes on top for its worker.
///
/// The chunk must be spent within [`CHUNK_LIFE`] of `now`, and settled once. Quotas of
/// other algorithms grant no chunks: there this is [`Quota::take`].
pub fn draw(
    quota: &Quota,
    state: &mut State,
    now: Instant,
    old: Chunk,
    cost: u32,
    extra: u32,
) -> (Chunk, Result<Standing, Refused>) {
    if quota.algorithm() != Algorithm::TokenBucket {
        return (Chunk::default(), quota.take(state, now, cost));
    }
    let mut bucket = Bucket::open(quota, state, now);
    let settled = bucket.settle(old);
    let room = bucket.room(quota);
    if cost > room {
        if settled {
            *state = bucket.close();
        }
        let refused = if cost > quota.burst() {
            Refused::Never
        } else {
            quota.refusal(&bucket, now, room, cost)
        };
        return (Chunk::default(), Err(refused));
    }
    let granted = extra.min(room - cost);
    bucket.enter_epoch();
    bucket.add(quota, cost + granted);
    bucket.out = bucket.out.saturating_add(granted);
    if settled || cost + granted > 0 {
        *state = bucket.close();
    }
    let chunk = Chunk { epoch: bucket.epoch, granted, left: granted };
    (chunk, Ok(quota.standing_of(&bucket, now, room - cost - granted)))
}

/// Whether a state was last changed before `at`.
pub(crate) fn is_older(state: &State, at: Instant) -> bool {
    Bucket::load(state).is_some_and(|bucket| bucket.last < bucket.tick.of(at))
}

/// See [`super::used`].
pub(super) fn used(state: &State, now: Instant) -> u32 {
    Bucket::load(state).map_or(0, |mut bucket| {
        bucket.advance(bucket.tick.of(now));
        bucket.units()
    })
}

/// A state, unpacked.
pub(super) struct Bucket {
    tick: Tick,
    cell: u64,
    drain: u64,
    backlog: u64,
    /// The tick at which `backlog` was that.
    last: u64,
    /// The epoch of the newest unit outstanding.
    epoch: u32,
    /// Units outstanding from `epoch`.
    out: u32,
    /// Units outstanding from the epoch before.
    out_before: u32,
}

impl Account for Bucket {
    #[inline]
    fn open(quota: &Quota, state: &State, now: Instant) -> Self {
        let mut bucket = if Self::is_of(quota, state) {
            Self::read(state, quota.tick())
        } else {
            Self::adopted(quota, state, now)
        };
        bucket.backlog = bucket.backlog.min(full(quota));
        bucket.advance(quota.tick().of(now));
        bucket
    }

    fn room(&self, quota: &Quota) -> u32 {
        let units = full(quota).saturating_sub(self.backlog) / quota.cell();
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    fn admits_at(&self, quota: &Quota, taken: u32, cost: u32) -> u64 {
        let backlog = self.backlog + u64::from(taken) * quota.cell();
        self.falls_to(full(quota).saturating_sub(u64::from(cost) * quota.cell()), backlog)
    }

    fn add(&mut self, quota: &Quota, cost: u32) {
        self.backlog += u64::from(cost) * quota.cell();
    }

    fn remove(&mut self, quota: &Quota, _now: Instant, cost: u32) {
        let least = self.held(self.out_before.saturating_add(self.out));
        let paid = u64::from(cost).saturating_mul(quota.cell());
        self.backlog = self.backlog.saturating_sub(paid).max(least);
    }

    fn weight(&self, quota: &Quota) -> Weight {
        Weight::new(self.backlog, full(quota), self.tick.begin(self.falls_to(0, self.backlog)))
    }

    #[inline]
    fn close(&self) -> State {
        let mut state = State::new(Algorithm::TokenBucket, self.tick);
        state.set_u32(4, self.epoch);
        state.set_u32(8, self.out);
        state.set_u32(12, self.out_before);
        state.set_u64(16, self.backlog);
        state.set_u64(24, self.last);
        state.set_u64(32, self.cell);
        state.set_u64(40, self.drain);
        state
    }
}

impl Bucket {
    /// Whether a state was written under this cell, drain and tick.
    fn is_of(quota: &Quota, state: &State) -> bool {
        state.is_of(Algorithm::TokenBucket, quota.tick())
            && state.u64(32) == quota.cell()
            && state.u64(40) == quota.drain()
    }

    #[inline]
    fn read(state: &State, tick: Tick) -> Self {
        Self {
            tick,
            cell: state.u64(32),
            drain: state.u64(40),
            backlog: state.u64(16),
            last: state.u64(24),
            epoch: state.u32(4),
            out: state.u32(8),
            out_before: state.u32(12),
        }
    }

    /// The bucket of a state, whatever its quota; `None` for bytes that no bucket wrote.
    fn load(state: &State) -> Option<Self> {
        let bucket = Self::read(state, state.tick()?);
        let is_bucket = state.algorithm() == Some(Algorithm::TokenBucket);
        (is_bucket && bucket.cell > 0 && bucket.drain > 0).then_some(bucket)
    }

    /// The same use, counted in another quota's units; of a bucket, the time until now
    /// still drains at the old rate.
    #[cold]
    fn adopted(quota: &Quota, state: &State, now: Instant) -> Self {
        let (tick, cell, drain) = (quota.tick(), quota.cell(), quota.drain());
        let Some(mut old) = Self::load(state) else {
            let backlog = u64::from(super::used(state, now)).saturating_mul(cell);
            let last = tick.of(now);
            return Self { tick, cell, drain, backlog, last, epoch: 0, out: 0, out_before: 0 };
        };
        old.advance(old.tick.of(now));
        // A coarser tick than the new one may have begun a while ago: that is no time to drain.
        let last = old.last.saturating_mul(old.tick.nanos()).div_ceil(tick.nanos());
        Self {
            backlog: u64::from(old.units()).saturating_mul(cell),
            last: last.max(tick.of(now)),
            tick,
            cell,
            drain,
            ..old
        }
    }

    /// The backlog in whole units, rounded up.
    fn units(&self) -> u32 {
        u32::try_from(self.backlog.div_ceil(self.cell)).unwrap_or(u32::MAX)
    }

    /// Lets time pass until `now`; earlier than `last` is `last`.
    #[inline]
    fn advance(&mut self, now: u64) {
        if now <= self.last {
            return;
        }
        let backlog = self.drained(self.backlog, self.last, now);
        if self.has_out() {
            self.advance_held(backlog, now);
        } else {
            self.backlog = backlog;
            self.last = now;
        }
    }

    fn advance_held(&mut self, mut backlog: u64, now: u64) {
        for (held, until) in self.floors() {
            backlog = backlog.max(self.drained(held, until, now));
        }
        self.backlog = backlog;
        self.last = now;
        self.enter_epoch();
    }

    /// What is left at `now` of an amount that began to drain at `from`.
    #[inline]
    fn drained(&self, amount: u64, from: u64, now: u64) -> u64 {
        amount.saturating_sub(now.saturating_sub(from).saturating_mul(self.drain))
    }

    #[inline]
    fn has_out(&self) -> bool {
        self.out > 0 || self.out_before > 0
    }

    /// Forgets the epochs that are over at `last`. Needed only where there are units to forget.
    fn enter_epoch(&mut self) {
        let epoch = epoch_of(self.tick.begin(self.last));
        (self.out, self.out_before) = match epoch.saturating_sub(self.epoch) {
            0 => (self.out, self.out_before),
            1 => (0, self.out),
            _ => (0, 0),
        };
        self.epoch = self.epoch.max(epoch);
    }

    /// What the backlog does not drain below, and until which tick.
    fn floors(&self) -> [(u64, u64); 2] {
        let end = |epochs: u64| {
            let end = Instant((u64::from(self.epoch) + epochs).saturating_mul(EPOCH.0));
            self.tick.of(end).max(self.last)
        };
        [
            (self.held(self.out_before.saturating_add(self.out)), end(1)),
            (self.held(self.out), end(2)),
        ]
    }

    /// The backlog of so many outstanding units.
    fn held(&self, units: u32) -> u64 {
        // Never above the backlog itself; only a smaller burst since could make it so.
        u64::from(units).saturating_mul(self.cell).min(self.backlog)
    }

    /// The first tick at which a backlog that is now so large is at most `target`; past if
    /// it is already.
    #[inline]
    fn falls_to(&self, target: u64, backlog: u64) -> u64 {
        let falls = |amount: u64, from: u64| match amount.saturating_sub(target) {
            0 => 0,
            above => from.saturating_add(above.div_ceil(self.drain)),
        };
        let mut at = falls(backlog, self.last);
        if self.has_out() {
            for (held, until) in self.floors() {
                at = at.max(falls(held, until));
            }
        }
        at
    }

    /// Whether there was anything to settle.
    fn settle(&mut self, old: Chunk) -> bool {
        let out = match self.epoch.checked_sub(old.epoch) {
            Some(0) => &mut self.out,
            Some(1) => &mut self.out_before,
            _ => return false,
        };
        // A state that has been evicted meanwhile knows nothing of the chunk.
        let settled = old.granted.min(*out);
        *out -= settled;
        let returned = u64::from(old.left.min(settled)).saturating_mul(self.cell);
        let least = self.held(self.out_before.saturating_add(self.out));
        self.backlog = self.backlog.saturating_sub(returned).max(least);
        settled > 0
    }
}

fn full(quota: &Quota) -> u64 {
    u64::from(quota.burst()) * quota.cell()
}

fn epoch_of(now: Instant) -> u32 {
    u32::try_from(now.0 / EPOCH.0).unwrap_or(u32::MAX)
}
