//! Quotas: how much, how fast, and counted by which algorithm.
//!
//! All arithmetic is in whole ticks of a microsecond (a millisecond or a second where
//! numbers would grow too large), and every quantity stays below 2^53. So the same sums
//! come out of Rust's integers and of the doubles that Redis scripts count in, exactly,
//! and the two stores can be held against each other to the bit.
//!
//! One file per algorithm, each with its formulas at its head. They share this frame:
//!
//! ```text
//! now      = floor(clock / tick)
//! room     = how many whole units would be admitted at now      (each file says)
//! take(c)  : c > burst           → Never
//!            c > room            → Wait, admits_at(c) − now      (state unchanged)
//!            else                → add(c)
//! remaining = room
//! reset    = admits_at(1) − now, as it would be after add(room)
//! ```
//!
//! `admits_at(c)` is the first tick at which `c` would be admitted if nobody else came.
//! It is an absolute tick, so a wait stays exact even where a state's own clock was
//! ahead of the caller's. No span is ever rounded: whoever prints seconds rounds up.

pub mod sliding_counter;
pub mod sliding_window;
mod state;
pub mod token_bucket;

pub use state::{STATE_BYTES, State};

use crate::time::{Instant, Span};
use core::fmt;
use sliding_counter::Counter;
use sliding_window::Ring;
use token_bucket::Bucket;

/// The bound on every quantity in limit arithmetic: integers below it are exact in a double.
pub const EXACT_MAX: u64 = 1 << 53;

/// The shortest period of a quota.
pub const PERIOD_MIN: Span = Span::from_millis(1);

/// The longest period of a quota: 366 days.
pub const PERIOD_MAX: Span = Span::from_secs(366 * 86_400);

/// How a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// GCRA: at most `burst + rate × t` in any time `t`.
    TokenBucket,
    /// A ring of sub-counters: at most `count` in any window of one period.
    SlidingWindow,
    /// Two windows, interpolated: about `count` in a period, at worst 2 × `count`.
    SlidingCounter,
}

/// How much, how fast, counted how. One that exists can be counted exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    algorithm: Algorithm,
    count: u32,
    period: Span,
    burst: u32,
    tick: Tick,
    /// Units of backlog that drain in one tick.
    drain: u64,
    /// Units of backlog that one request costs.
    cell: u64,
    /// [`Self::period`] in ticks.
    period_ticks: u64,
}

/// The grain of a quota's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tick {
    /// 1 µs: what Redis `TIME` gives.
    Micro,
    /// 1 ms, for quotas whose numbers share no factor, such as 999983/1d.
    Milli,
    /// 1 s, for the largest of all, such as 5000000/30d by sliding counter.
    Second,
}

/// Why a quota cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impossible {
    /// A count or burst of zero would admit nothing; leave the limit out or refuse in routing.
    Zero,
    /// The period is not within [`PERIOD_MIN`] to [`PERIOD_MAX`], or no whole number of milliseconds.
    Period,
    /// Burst and rate together need numbers beyond [`EXACT_MAX`]; a rounder rate or a
    /// smaller burst will do.
    TooFine,
}

impl Quota {
    /// A quota of `count` requests per `period`, `burst` of which may come at once.
    ///
    /// The window algorithms know no burst but the count: there it is `count`, whatever
    /// is said.
    ///
    /// # Errors
    ///
    /// [`Impossible`], with what would be possible.
    pub fn new(
        algorithm: Algorithm,
        count: u32,
        period: Span,
        burst: u32,
    ) -> Result<Self, Impossible> {
        if count == 0 || burst == 0 {
            return Err(Impossible::Zero);
        }
        if period < PERIOD_MIN || period > PERIOD_MAX || !period.0.is_multiple_of(PERIOD_MIN.0) {
            return Err(Impossible::Period);
        }
        let burst = if algorithm == Algorithm::TokenBucket { burst } else { count };
        for tick in [Tick::Micro, Tick::Milli, Tick::Second] {
            if !period.0.is_multiple_of(tick.nanos()) {
                break;
            }
            let period_ticks = period.0 / tick.nanos();
            let (cell, drain, largest) = match algorithm {
                Algorithm::TokenBucket => {
                    // 100 per minute is 1 per 600 ms: shared factors would only make numbers larger.
                    let shared = gcd(period_ticks, u64::from(count));
                    let (cell, drain) = (period_ticks / shared, u64::from(count) / shared);
                    let largest = u128::from(cell) * (u128::from(burst.max(count)) * 2 + 1)
                        + u128::from(drain);
                    (cell, drain, largest)
                }
                Algorithm::SlidingWindow => (1, 0, u128::from(period_ticks)),
                Algorithm::SlidingCounter => {
                    (1, 0, u128::from(period_ticks) * (u128::from(count) + 2))
                }
            };
            if largest < u128::from(EXACT_MAX) {
                return Ok(Self {
                    algorithm,
                    count,
                    period,
                    burst,
                    tick,
                    drain,
                    cell,
                    period_ticks,
                });
            }
        }
        Err(Impossible::TooFine)
    }

    /// What [`Self::take`] would say, with the standing as it would be after taking.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub fn check(&self, state: &State, now: Instant, cost: u32) -> Result<Standing, Refused> {
        match self.algorithm {
            Algorithm::TokenBucket => self.charge::<Bucket>(state, now, cost).map(|(_, s)| s),
            Algorithm::SlidingWindow => self.charge::<Ring>(state, now, cost).map(|(_, s)| s),
            Algorithm::SlidingCounter => self.charge::<Counter>(state, now, cost).map(|(_, s)| s),
        }
    }

    /// Takes `cost` units out of this quota, or says how long until that would work.
    ///
    /// A cost of zero always succeeds and charges nothing.
    ///
    /// # Errors
    ///
    /// [`Refused`]; `state` is then as it was.
    pub fn take(&self, state: &mut State, now: Instant, cost: u32) -> Result<Standing, Refused> {
        let (after, standing) = match self.algorithm {
            Algorithm::TokenBucket => {
                self.charge::<Bucket>(state, now, cost).map(|(a, s)| (a.close(), s))
            }
            Algorithm::SlidingWindow => {
                self.charge::<Ring>(state, now, cost).map(|(a, s)| (a.close(), s))
            }
            Algorithm::SlidingCounter => {
                self.charge::<Counter>(state, now, cost).map(|(a, s)| (a.close(), s))
            }
        }?;
        if cost > 0 {
            *state = after;
        }
        Ok(standing)
    }

    /// Charges `cost`, or as much of it as there is room for: what was used already. Returns
    /// whether that is anything.
    pub fn charge_up_to(&self, state: &mut State, now: Instant, cost: u32) -> bool {
        let cost = cost.min(self.standing(state, now).remaining);
        cost > 0 && self.take(state, now, cost).is_ok()
    }

    /// Undoes a take that did not happen after all; `now` is the instant it was given.
    ///
    /// Meant for the same moment: a token bucket that ran empty of debt in between has
    /// forgotten the take already, and would then forgive up to `cost` once more.
    pub fn put_back(&self, state: &mut State, now: Instant, cost: u32) {
        if cost == 0 || *state == State::default() {
            return;
        }
        *state = match self.algorithm {
            Algorithm::TokenBucket => self.refund::<Bucket>(state, now, cost),
            Algorithm::SlidingWindow => self.refund::<Ring>(state, now, cost),
            Algorithm::SlidingCounter => self.refund::<Counter>(state, now, cost),
        };
    }

    /// How a key stands, if it takes nothing.
    pub fn standing(&self, state: &State, now: Instant) -> Standing {
        match self.algorithm {
            Algorithm::TokenBucket => self.stands::<Bucket>(state, now),
            Algorithm::SlidingWindow => self.stands::<Ring>(state, now),
            Algorithm::SlidingCounter => self.stands::<Counter>(state, now),
        }
    }

    /// How much would be forgiven by forgetting this state.
    pub fn weight(&self, state: &State, now: Instant) -> Weight {
        match self.algorithm {
            Algorithm::TokenBucket => Bucket::open(self, state, now).weight(self),
            Algorithm::SlidingWindow => Ring::open(self, state, now).weight(self),
            Algorithm::SlidingCounter => Counter::open(self, state, now).weight(self),
        }
    }

    /// How it counts.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Requests per [`Self::period`].
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The time that [`Self::count`] is for.
    pub const fn period(&self) -> Span {
        self.period
    }

    /// The most that can be admitted at one instant.
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// The grain of its clock.
    pub const fn tick(&self) -> Tick {
        self.tick
    }

    /// [`Self::period`] in ticks, exactly.
    pub const fn period_ticks(&self) -> u64 {
        self.period_ticks
    }

    /// Units of backlog that drain in one tick. Windows have none: 0.
    pub const fn drain(&self) -> u64 {
        self.drain
    }

    /// Units of backlog that one request costs. Windows count requests themselves: 1.
    pub const fn cell(&self) -> u64 {
        self.cell
    }

    /// Charges `cost` to a copy of the state.
    #[inline]
    fn charge<A: Account>(
        &self,
        state: &State,
        now: Instant,
        cost: u32,
    ) -> Result<(A, Standing), Refused> {
        if cost > self.burst {
            return Err(Refused::Never);
        }
        let mut account = A::open(self, state, now);
        let room = account.room(self);
        if cost > room {
            return Err(self.refusal(&account, now, room, cost));
        }
        account.add(self, cost);
        let standing = self.standing_of(&account, now, room - cost);
        Ok((account, standing))
    }

    fn refusal<A: Account>(&self, account: &A, now: Instant, room: u32, cost: u32) -> Refused {
        let wait = self.until(account.admits_at(self, 0, cost), now);
        Refused::Wait { wait, standing: self.standing_of(account, now, room) }
    }

    fn refund<A: Account>(&self, state: &State, now: Instant, cost: u32) -> State {
        let mut account = A::open(self, state, now);
        account.remove(self, now, cost);
        account.close()
    }

    fn stands<A: Account>(&self, state: &State, now: Instant) -> Standing {
        let account = A::open(self, state, now);
        self.standing_of(&account, now, account.room(self))
    }

    fn standing_of<A: Account>(&self, account: &A, now: Instant, room: u32) -> Standing {
        Standing { remaining: room, reset: self.until(account.admits_at(self, room, 1), now) }
    }

    /// The time from `now` to a tick; zero if that is past.
    fn until(&self, tick: u64, now: Instant) -> Span {
        Span(tick.saturating_sub(self.tick.of(now)).saturating_mul(self.tick.nanos()))
    }
}

/// How a key stands with its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whole units that would be admitted now.
    pub remaining: u32,
    /// If all of them were taken now: the time until one more would be admitted. Within
    /// it, no more than `remaining` will be.
    pub reset: Span,
}

/// Why a take is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is not room enough now.
    Wait {
        /// After exactly this time it will be admitted, if nobody else comes.
        wait: Span,
        /// How the key stands meanwhile.
        standing: Standing,
    },
    /// The cost is above the burst: no wait helps, so an answer must not name one.
    Never,
}

/// How much would be forgiven by forgetting a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// What is used, in parts of 65535 of the whole quota, rounded up: zero only if nothing is.
    pub debt: u16,
    /// From when on the state says the same as a new key's. May be past.
    pub fresh_at: Instant,
}

impl Weight {
    pub(crate) fn new(used: u64, full: u64, fresh_at: Instant) -> Self {
        // Shifted so that the product stays within 64 bits; below 2^47 nothing is lost.
        let shift = (u64::BITS - full.leading_zeros()).saturating_sub(47);
        let scaled = (used.min(full) >> shift).saturating_mul(u64::from(u16::MAX));
        let parts = scaled.div_ceil((full >> shift).max(1));
        Self { debt: u16::try_from(parts).unwrap_or(u16::MAX).max(u16::from(used > 0)), fresh_at }
    }
}

/// The state of one key, unpacked by one algorithm, as it is at one moment.
trait Account {
    /// Reads a state under `quota` at `now`, whichever quota it was written under.
    fn open(quota: &Quota, state: &State, now: Instant) -> Self;
    /// Whole units that would be admitted now.
    fn room(&self, quota: &Quota) -> u32;
    /// The first tick at which `cost` would be admitted if `taken`, for which there is
    /// room, were taken now. Together they are more than there is room for; `cost` alone
    /// is at most the burst.
    fn admits_at(&self, quota: &Quota, taken: u32, cost: u32) -> u64;
    /// Charges `cost`, for which there is room.
    fn add(&mut self, quota: &Quota, cost: u32);
    /// Takes back a charge that was made at `now`.
    fn remove(&mut self, quota: &Quota, now: Instant, cost: u32);
    /// For [`Quota::weight`].
    fn weight(&self, quota: &Quota) -> Weight;
    /// Packs it.
    fn close(&self) -> State;
}

/// How many units are used at `now`, by the quota that the state was written under,
/// rounded up: what another algorithm starts from.
fn used(state: &State, now: Instant) -> u32 {
    match state.algorithm() {
        None => 0,
        Some(Algorithm::TokenBucket) => token_bucket::used(state, now),
        Some(Algorithm::SlidingWindow) => sliding_window::used(state, now),
        Some(Algorithm::SlidingCounter) => sliding_counter::used(state, now),
    }
}

impl Tick {
    /// Its length in nanoseconds.
    pub const fn nanos(self) -> u64 {
        match self {
            Self::Micro => 1_000,
            Self::Milli => 1_000_000,
            Self::Second => 1_000_000_000,
        }
    }

    /// Whole ticks since the clock's zero, rounded down.
    pub const fn of(self, now: Instant) -> u64 {
        // Three divisions by constants, each a multiplication.
        match self {
            Self::Micro => now.0 / Self::Micro.nanos(),
            Self::Milli => now.0 / Self::Milli.nanos(),
            Self::Second => now.0 / Self::Second.nanos(),
        }
    }

    /// The instant at which a tick begins.
    const fn begin(self, tick: u64) -> Instant {
        Instant(tick.saturating_mul(self.nanos()))
    }
}

impl fmt::Display for Quota {
    /// As a policy writes it: `100/1m`, with `burst 20` where that differs from the count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.period)?;
        if self.burst != self.count {
            write!(f, " burst {}", self.burst)?;
        }
        Ok(())
    }
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
