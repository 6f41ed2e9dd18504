//! Quotas: how much, how fast, and counted by which algorithm.
//!
//! All arithmetic is in whole ticks of a microsecond (a millisecond where numbers
//! would grow too large), and every quantity stays below 2^53. So the same sums come
//! out of Rust's integers and of the doubles that Redis scripts count in, exactly, and
//! the two stores can be held against each other to the bit.

use crate::time::Span;
use core::fmt;

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
}

/// The grain of a quota's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tick {
    /// 1 µs: what Redis `TIME` gives.
    Micro,
    /// 1 ms, for quotas whose numbers share no factor, such as 999983/1d.
    Milli,
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
    /// For the window algorithms `burst` has no meaning beyond `count` and must equal it.
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
        for tick in [Tick::Micro, Tick::Milli] {
            let ticks = period.0 / tick.nanos();
            // 100 per minute is 1 per 600 ms: shared factors would only make numbers larger.
            let shared = gcd(ticks, u64::from(count));
            let (cell, drain) = (ticks / shared, u64::from(count) / shared);
            let largest =
                u128::from(cell) * (u128::from(burst.max(count)) * 2 + 1) + u128::from(drain);
            if largest < u128::from(EXACT_MAX) {
                return Ok(Self { algorithm, count, period, burst, tick, drain, cell });
            }
        }
        Err(Impossible::TooFine)
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

    /// Units of backlog that drain in one tick.
    pub const fn drain(&self) -> u64 {
        self.drain
    }

    /// Units of backlog that one request costs.
    pub const fn cell(&self) -> u64 {
        self.cell
    }
}

impl Tick {
    /// Its length in nanoseconds.
    pub const fn nanos(self) -> u64 {
        match self {
            Self::Micro => 1_000,
            Self::Milli => 1_000_000,
        }
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
