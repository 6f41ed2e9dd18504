//! The sliding window, as a ring of sub-counters: at most `count` in *any* period.
//!
//! The period is cut into [`SUB_COUNTERS`] parts of `width` ticks (µs, always whole, as
//! periods are whole milliseconds). A unit admitted at `t` is counted in sub-counter
//! `floor(t / width)`, and counted there until that sub-counter's *end* is one period
//! old. So no unit is forgotten before it is a period old, and no window of one period
//! ever holds more than `count`. The price: a unit may be counted for up to `width` too
//! long, and under lasting demand at least `k / (k + 1)` of `count` is admitted.
//!
//! ```text
//! k        = SUB_COUNTERS = 10;  width = period / k;  i = max(floor(now / width), newest)
//! counted  = Σ counts[i − k ..= i]
//! room     = max(0, count − counted)
//! add(c)   : counts[i] += c; newest = i
//! admits_at(c) = (j + 1 + k) × width,  the smallest j with Σ counts[i − k ..= j] ≥ counted + c − count
//! ```
//!
//! ## State
//!
//! Bytes: 4 eleven counts (u32), newest first; 48 the newest sub-counter's number, 56 its
//! width. Under another period, each old sub-counter goes where the last moment it covers
//! is counted; from another algorithm, all that is used is counted as if admitted now.

use super::{Account, Algorithm, Quota, State, Tick, Weight};
use crate::time::Instant;

/// Parts of one period. Ten cost at most 1/11 of the throughput, and fit a [`State`].
pub const SUB_COUNTERS: usize = 10;

/// The parts of a period and the one that has just begun.
const KEPT: usize = SUB_COUNTERS + 1;

/// See [`super::used`].
pub(super) fn used(state: &State, now: Instant) -> u32 {
    Ring::load(state).map_or(0, |mut ring| {
        ring.advance(Tick::Micro.of(now));
        u32::try_from(ring.counted()).unwrap_or(u32::MAX)
    })
}

/// A state, unpacked.
pub(super) struct Ring {
    /// Ticks that one sub-counter covers.
    width: u64,
    /// The number of the newest sub-counter, by time since the clock's zero.
    newest: u64,
    /// Newest first.
    counts: [u32; KEPT],
}

impl Account for Ring {
    fn open(quota: &Quota, state: &State, now: Instant) -> Self {
        let width = (quota.period_ticks() / SUB_COUNTERS as u64).max(1);
        let now_tick = Tick::Micro.of(now);
        let mut ring = Self::read(state);
        if !state.is_of(Algorithm::SlidingWindow, Tick::Micro) || ring.width != width {
            ring = Self::adopted(width, state, now);
        }
        ring.advance(now_tick);
        ring
    }

    fn room(&self, quota: &Quota) -> u32 {
        let room = u64::from(quota.count()).saturating_sub(self.counted());
        u32::try_from(room).unwrap_or(u32::MAX)
    }

    fn admits_at(&self, quota: &Quota, taken: u32, cost: u32) -> u64 {
        let wanted = self.counted() + u64::from(taken) + u64::from(cost);
        let mut above = wanted.saturating_sub(quota.count().into());
        for (age, count) in self.counts.iter().enumerate().rev() {
            above = above.saturating_sub(u64::from(*count));
            if above == 0 {
                return self.leaves_at(age);
            }
        }
        // It takes some of what was taken now.
        self.leaves_at(0)
    }

    fn add(&mut self, _quota: &Quota, cost: u32) {
        self.count_at(self.newest, cost);
    }

    fn remove(&mut self, quota: &Quota, now: Instant, cost: u32) {
        // From the sub-counter of `now` towards newer ones: the charge was made in it, or in
        // a newer one if the state's clock was ahead. If it has left the ring, so has the charge.
        let from = self.newest.saturating_sub(quota.tick().of(now) / self.width);
        if from >= KEPT as u64 {
            return;
        }
        let mut cost = cost;
        for (age, count) in self.counts.iter_mut().enumerate().rev() {
            if age as u64 <= from {
                let taken = cost.min(*count);
                *count -= taken;
                cost -= taken;
            }
        }
    }

    fn weight(&self, quota: &Quota) -> Weight {
        let youngest = self.counts.iter().position(|count| *count > 0);
        let fresh_at = youngest.map_or(0, |age| self.leaves_at(age));
        Weight::new(self.counted(), quota.count().into(), quota.tick().begin(fresh_at))
    }

    fn close(&self) -> State {
        let mut state = State::new(Algorithm::SlidingWindow, Tick::Micro);
        for (count, at) in self.counts.iter().zip((4..).step_by(4)) {
            state.set_u32(at, *count);
        }
        state.set_u64(48, self.newest);
        state.set_u64(56, self.width);
        state
    }
}

impl Ring {
    #[inline]
    fn read(state: &State) -> Self {
        let mut ring = Self { newest: state.u64(48), width: state.u64(56), counts: [0; KEPT] };
        for (count, at) in ring.counts.iter_mut().zip((4..).step_by(4)) {
            *count = state.u32(at);
        }
        ring
    }

    /// The ring of a state, whatever its quota; `None` for bytes that no ring wrote.
    fn load(state: &State) -> Option<Self> {
        let ring = Self::read(state);
        let is_ring = state.algorithm() == Some(Algorithm::SlidingWindow);
        (is_ring && ring.width > 0).then_some(ring)
    }

    #[cold]
    fn adopted(width: u64, state: &State, now: Instant) -> Self {
        let now_tick = Tick::Micro.of(now);
        Self::load(state).map(|ring| ring.at_width(width, now_tick)).unwrap_or_else(|| {
            let mut ring = Self { width, newest: now_tick / width, counts: [0; KEPT] };
            ring.count_at(ring.newest, super::used(state, now));
            ring
        })
    }

    /// The same use, in sub-counters of another width.
    fn at_width(&self, width: u64, now: u64) -> Self {
        let now = now.max(self.newest.saturating_mul(self.width));
        let mut ring = Self { width, newest: now / width, counts: [0; KEPT] };
        for (age, count) in self.counts.iter().enumerate() {
            let end = (self.newest.saturating_add(1)).saturating_sub(age as u64);
            let last = end.saturating_mul(self.width).saturating_sub(1).min(now);
            ring.count_at(last / width, *count);
        }
        ring
    }

    /// Adds to sub-counter `number`, unless that has left the window.
    fn count_at(&mut self, number: u64, cost: u32) {
        let age = usize::try_from(self.newest.saturating_sub(number)).unwrap_or(KEPT);
        if let Some(count) = self.counts.get_mut(age) {
            *count = count.saturating_add(cost);
        }
    }

    /// Lets time pass until `now`; earlier than the newest sub-counter is that one.
    fn advance(&mut self, now: u64) {
        let number = now / self.width;
        let passed = number.saturating_sub(self.newest).min(KEPT as u64) as usize;
        self.counts.rotate_right(passed);
        self.counts.iter_mut().take(passed).for_each(|count| *count = 0);
        self.newest = self.newest.max(number);
    }

    fn counted(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The tick at which the sub-counter of this age is counted no more.
    fn leaves_at(&self, age: usize) -> u64 {
        self.newest.saturating_add((KEPT - age.min(KEPT)) as u64).saturating_mul(self.width)
    }
}
