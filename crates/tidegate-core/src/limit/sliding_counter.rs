//! The sliding counter: two calendar windows, interpolated. Small and approximate.
//!
//! It assumes that the last window's units came evenly. They may all have come at its
//! end, so the worst case is just under `2 × count` in one period; in return a client
//! that came early in it is held back longer than it need be. Where `count` must hold in
//! any window, take the sliding window.
//!
//! ```text
//! W        = period in ticks;  id = max(floor(now / W), stored id);  e = max(0, now − id × W)
//! carried  = ceil(prev × (W − e) / W)
//! room     = max(0, count − cur − carried)
//! add(c)   : cur += c
//! admits_at(c) = id × W + W − floor((count − cur − c) × W / prev)          if cur + c ≤ count
//!              = (id + 1) × W + W − floor((count − c) × W / cur)           otherwise
//! ```
//!
//! One window on, `prev = cur, cur = 0`; two or more on, both are 0.
//!
//! ## State
//!
//! Bytes: 4 prev, 8 cur, 16 id, 24 W. A lower count keeps what is counted, and what is
//! above it fades as it would have. Under another period, and from another algorithm, all
//! that is used now, at most the count, is counted as if it had come in the current window.

use super::{Account, Algorithm, Quota, State, Tick, Weight};
use crate::time::Instant;

/// See [`super::used`].
pub(super) fn used(state: &State, now: Instant) -> u32 {
    Counter::load(state).map_or(0, |mut counter| {
        counter.advance(counter.tick.of(now));
        u32::try_from(counter.carried().saturating_add(counter.cur.into())).unwrap_or(u32::MAX)
    })
}

/// A state, unpacked.
pub(super) struct Counter {
    tick: Tick,
    /// Ticks in one window.
    window: u64,
    /// The number of the current window, by time since the clock's zero.
    id: u64,
    /// Ticks since the current window began.
    elapsed: u64,
    prev: u32,
    cur: u32,
}

impl Account for Counter {
    fn open(quota: &Quota, state: &State, now: Instant) -> Self {
        let (tick, window) = (quota.tick(), quota.period_ticks());
        let mut counter = match Self::load(state) {
            Some(counter) if counter.window == window && counter.tick == tick => counter,
            _ => Self {
                tick,
                window,
                id: tick.of(now) / window,
                elapsed: 0,
                prev: 0,
                cur: super::used(state, now).min(quota.count()),
            },
        };
        counter.advance(tick.of(now));
        counter
    }

    fn room(&self, quota: &Quota) -> u32 {
        let room = u64::from(quota.count() - self.cur.min(quota.count()));
        u32::try_from(room.saturating_sub(self.carried())).unwrap_or(u32::MAX)
    }

    fn admits_at(&self, quota: &Quota, taken: u32, cost: u32) -> u64 {
        // In the current window as the last one fades, or in the next as this one does.
        let cur = u64::from(self.cur) + u64::from(taken);
        let rest = u64::from(quota.count()).saturating_sub(cost.into());
        let (start, fading, room) = match rest.checked_sub(cur) {
            Some(room) => (self.id, self.prev.into(), room),
            None => (self.id.saturating_add(1), cur, rest),
        };
        let weight = (room * self.window).checked_div(fading).unwrap_or(self.window);
        start.saturating_mul(self.window).saturating_add(self.window.saturating_sub(weight))
    }

    fn add(&mut self, _quota: &Quota, cost: u32) {
        self.cur = self.cur.saturating_add(cost);
    }

    fn remove(&mut self, _quota: &Quota, now: Instant, cost: u32) {
        // As in the sliding window: where the charge was made, or newer; or it is gone.
        let (prev, cur) = match self.id.saturating_sub(self.tick.of(now) / self.window) {
            0 => (0, cost),
            1 => (cost.min(self.prev), cost.saturating_sub(self.prev)),
            _ => (0, 0),
        };
        self.prev -= prev;
        self.cur = self.cur.saturating_sub(cur);
    }

    fn weight(&self, quota: &Quota) -> Weight {
        let windows = match (self.prev, self.cur) {
            (0, 0) => 0,
            (_, 0) => self.id.saturating_add(1),
            _ => self.id.saturating_add(2),
        };
        let fresh_at = self.tick.begin(windows.saturating_mul(self.window));
        Weight::new(self.carried() + u64::from(self.cur), quota.count().into(), fresh_at)
    }

    fn close(&self) -> State {
        let mut state = State::new(Algorithm::SlidingCounter, self.tick);
        state.set_u32(4, self.prev);
        state.set_u32(8, self.cur);
        state.set_u64(16, self.id);
        state.set_u64(24, self.window);
        state
    }
}

impl Counter {
    fn load(state: &State) -> Option<Self> {
        if state.algorithm() != Some(Algorithm::SlidingCounter) {
            return None;
        }
        let counter = Self {
            tick: state.tick()?,
            window: state.u64(24),
            id: state.u64(16),
            elapsed: 0,
            prev: state.u32(4),
            cur: state.u32(8),
        };
        (counter.window > 0).then_some(counter)
    }

    /// Lets time pass until `now`; earlier than the current window is its beginning.
    fn advance(&mut self, now: u64) {
        let id = now / self.window;
        (self.prev, self.cur) = match id.saturating_sub(self.id) {
            0 => (self.prev, self.cur),
            1 => (self.cur, 0),
            _ => (0, 0),
        };
        self.id = self.id.max(id);
        self.elapsed = now.saturating_sub(self.id.saturating_mul(self.window));
    }

    /// What still counts of the last window.
    fn carried(&self) -> u64 {
        // Within 64 bits for every quota that exists; saturating for bytes that none wrote.
        let left = self.window.saturating_sub(self.elapsed);
        u64::from(self.prev).saturating_mul(left).div_ceil(self.window)
    }
}
