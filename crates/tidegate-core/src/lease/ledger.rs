//! What is taken of a budget: a bucket's backlog, or a window's ring, under outstanding units.
//!
//! The formulas are those of [`token_bucket`](crate::limit::token_bucket) and
//! [`sliding_window`](crate::limit::sliding_window); here is what outstanding units change.
//!
//! A bucket's backlog contains them, and never drains below them:
//!
//! ```text
//! backlog(now) = max(backlog − (now − last) × drain,
//!                    for each lapse t: held(t) × cell − (now − t)⁺ × drain)
//! held(t)      = units outstanding that lapse at t or later
//! ```
//!
//! so what kept the bucket from refilling begins to drain at the moment when it lapses. A
//! window's ring does not contain them: they are counted beside it, always as of now, and
//! enter it as they are settled, or at the moment when they lapse.

use super::Terms;
use super::outstanding::{Lapse, Outstanding, shift};
use crate::limit::sliding_window::SUB_COUNTERS;
use crate::limit::{Algorithm, Quota, Tick};
use crate::time::{Instant, Span};

/// The parts of a window and the one that has just begun.
pub(super) const KEPT: usize = SUB_COUNTERS + 1;

/// What is taken of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ledger {
    Bucket {
        tick: Tick,
        /// Units of backlog that one unit costs.
        cell: u64,
        /// Units of backlog that drain in a tick.
        drain: u64,
        /// At most twice a full one: what is owed beyond that is forgiven.
        backlog: u64,
    },
    Ring {
        period_ms: u64,
        /// Newest first; the newest is that of the record's time.
        counts: [u32; KEPT],
    },
}

impl Ledger {
    /// One of which nothing is taken.
    pub(super) fn new(quota: &Quota) -> Self {
        match quota.algorithm() {
            Algorithm::SlidingWindow => {
                Self::Ring { period_ms: quota.period().millis_ceil(), counts: [0; KEPT] }
            }
            Algorithm::TokenBucket | Algorithm::SlidingCounter => Self::Bucket {
                tick: quota.tick(),
                cell: quota.cell(),
                drain: quota.drain(),
                backlog: 0,
            },
        }
    }

    /// Whether it counts as `quota` does.
    pub(super) fn is_of(&self, quota: &Quota) -> bool {
        match (self, Self::new(quota)) {
            (
                Self::Bucket { tick, cell, drain, .. },
                Self::Bucket { tick: tick_of, cell: cell_of, drain: drain_of, .. },
            ) => (*tick, *cell, *drain) == (tick_of, cell_of, drain_of),
            (Self::Ring { period_ms, .. }, Self::Ring { period_ms: period_of, .. }) => {
                *period_ms == period_of
            }
            _ => false,
        }
    }

    /// The same use, counted as `quota` does; of a window, all as if it were used now.
    pub(super) fn converted(&self, quota: &Quota, out: &Outstanding) -> Self {
        let used = u64::from(self.used(out));
        let mut ledger = Self::new(quota);
        match &mut ledger {
            Self::Bucket { backlog, cell, .. } => {
                *backlog = (used + u64::from(out.total())).saturating_mul(*cell);
            }
            Self::Ring { counts: [newest, ..], .. } => {
                *newest = u32::try_from(used).unwrap_or(u32::MAX);
            }
        }
        ledger.cap(quota);
        ledger
    }

    /// Lets time pass, under what was outstanding at `from`.
    pub(super) fn advance(&mut self, from: Instant, now: Instant, out: &Outstanding) {
        let lapses = out.lapses(from);
        match self {
            Self::Bucket { tick, drain, backlog, cell } => {
                let tick = *tick;
                let drained = |amount: u64, since: Instant| {
                    let ticks = tick.of(now).saturating_sub(ceil(tick, since));
                    amount.saturating_sub(ticks.saturating_mul(*drain))
                };
                // Ticks that have begun telescope: from the record's own, nothing is rounded.
                let ticks = tick.of(now).saturating_sub(tick.of(from));
                let mut left = backlog.saturating_sub(ticks.saturating_mul(*drain));
                for Lapse { at, units } in &lapses {
                    if *units > 0 {
                        let held = held(&lapses, *at).saturating_mul(*cell).min(*backlog);
                        left = left.max(drained(held, (*at).min(now)));
                    }
                }
                *backlog = left;
            }
            Self::Ring { period_ms, counts } => {
                let width = width(*period_ms);
                let newest = now.micros() / width;
                shift(counts, newest.saturating_sub(from.micros() / width));
                for Lapse { at, units } in lapses {
                    let age = newest.saturating_sub(at.micros() / width);
                    let place = usize::try_from(age).ok().and_then(|age| counts.get_mut(age));
                    if let Some(count) = place.filter(|_| at <= now) {
                        *count = count.saturating_add(units);
                    }
                }
            }
        }
    }

    /// Whole units that may be granted.
    pub(super) fn room(&self, terms: &Terms, out: &Outstanding) -> u32 {
        let burst = terms.quota().burst().saturating_sub(terms.reserve());
        match self {
            Self::Bucket { cell, backlog, .. } => {
                let full = u64::from(burst).saturating_mul(*cell);
                let units = full.saturating_sub(*backlog) / (*cell).max(1);
                u32::try_from(units).unwrap_or(u32::MAX)
            }
            Self::Ring { counts, .. } => {
                burst.saturating_sub(total(counts)).saturating_sub(out.total())
            }
        }
    }

    /// Notes a grant, which `out` counts already or is going to.
    pub(super) fn grant(&mut self, units: u32) {
        if let Self::Bucket { cell, backlog, .. } = self {
            *backlog = backlog.saturating_add(u64::from(units).saturating_mul(*cell));
        }
    }

    /// Notes units that are outstanding no more; `out` knows it already.
    pub(super) fn settle(&mut self, spent: u32, returned: u32, out: &Outstanding) {
        match self {
            Self::Bucket { cell, backlog, .. } => {
                let least = u64::from(out.total()).saturating_mul(*cell).min(*backlog);
                let back = u64::from(returned).saturating_mul(*cell);
                *backlog = backlog.saturating_sub(back).max(least);
            }
            Self::Ring { counts: [newest, ..], .. } => *newest = newest.saturating_add(spent),
        }
    }

    /// Charges units that were used without a grant.
    pub(super) fn charge(&mut self, quota: &Quota, units: u32) {
        match self {
            Self::Bucket { cell, backlog, .. } => {
                *backlog = backlog.saturating_add(u64::from(units).saturating_mul(*cell));
            }
            Self::Ring { counts: [newest, ..], .. } => *newest = newest.saturating_add(units),
        }
        self.cap(quota);
    }

    /// Leaves nothing to grant, all of it being outstanding for what is known.
    pub(super) fn empty(&mut self, quota: &Quota) {
        match self {
            Self::Bucket { cell, backlog, .. } => {
                *backlog = u64::from(quota.burst()).saturating_mul(*cell).max(*backlog);
            }
            // What is outstanding is counted beside it, and for longer than what was in it.
            Self::Ring { counts, .. } => *counts = [0; KEPT],
        }
    }

    /// The time until `units` can be granted, if nobody else comes and what is outstanding
    /// is no hindrance.
    pub(super) fn wait(&self, terms: &Terms, now: Instant, out: &Outstanding, units: u32) -> Span {
        let burst = terms.quota().burst().saturating_sub(terms.reserve());
        match self {
            Self::Bucket { tick, cell, drain, backlog } => {
                let target = u64::from(burst.saturating_sub(units)).saturating_mul(*cell);
                let ticks = backlog.saturating_sub(target).div_ceil((*drain).max(1));
                Span(ticks.saturating_mul(tick.nanos()))
            }
            Self::Ring { period_ms, counts } => {
                let width = width(*period_ms);
                let used = total(counts).saturating_add(out.total()).saturating_add(units);
                let mut above = used.saturating_sub(burst);
                let newest = now.micros() / width;
                for (age, count) in counts.iter().enumerate().rev() {
                    above = above.saturating_sub(*count);
                    if above == 0 {
                        let leaves =
                            newest.saturating_add((KEPT - age) as u64).saturating_mul(width);
                        return Span::from_micros(leaves.saturating_sub(now.micros()));
                    }
                }
                Span::ZERO
            }
        }
    }

    /// Units used and outstanding no more, rounded up.
    pub(super) fn used(&self, out: &Outstanding) -> u32 {
        match self {
            Self::Bucket { cell, backlog, .. } => {
                let units = u32::try_from(backlog.div_ceil((*cell).max(1))).unwrap_or(u32::MAX);
                units.saturating_sub(out.total())
            }
            Self::Ring { counts, .. } => total(counts),
        }
    }

    fn cap(&mut self, quota: &Quota) {
        if let Self::Bucket { cell, backlog, .. } = self {
            *backlog =
                (*backlog).min(u64::from(quota.burst()).saturating_mul(*cell).saturating_mul(2));
        }
    }
}

/// Units outstanding that lapse at `at` or later.
fn held(lapses: &[Lapse], at: Instant) -> u64 {
    lapses.iter().filter(|lapse| lapse.at >= at).map(|lapse| u64::from(lapse.units)).sum()
}

fn total(counts: &[u32]) -> u32 {
    counts.iter().fold(0, |sum: u32, count| sum.saturating_add(*count))
}

/// The microseconds that one sub-counter covers: whole, as periods are whole milliseconds.
fn width(period_ms: u64) -> u64 {
    (period_ms.saturating_mul(1_000) / SUB_COUNTERS as u64).max(1)
}

/// The first tick that begins at `at` or later.
fn ceil(tick: Tick, at: Instant) -> u64 {
    at.0.div_ceil(tick.nanos())
}
