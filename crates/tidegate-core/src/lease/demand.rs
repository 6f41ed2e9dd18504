//! How much is wanted lately: a sum that fades, in whole numbers.
//!
//! What was wanted counts half as much for each half-life that has passed: `2^−x`. Within a
//! half-life that is `1 − x (ln 2 − (ln 2 − ½) x)`, which is right at both ends, falls as it
//! should at the beginning, so that many short steps come to the same as a long one, and is
//! nowhere off by more than 0.006. No logarithm, so that scripts get the same numbers.

use crate::time::{Instant, Span};

/// One, and ln 2, in parts of 2^16.
const ONE: u64 = 1 << 16;
const LN_2: u64 = 45_426;

/// What was wanted, in thousandths, faded to this moment.
pub(super) fn faded(sum_milli: u64, passed: Span, half_life: Span) -> u64 {
    let halves = passed.0 / half_life.0;
    if halves >= 63 {
        return 0;
    }
    let sum = sum_milli >> halves;
    let rest = (passed.0 % half_life.0).saturating_mul(ONE) / half_life.0;
    let part = ONE - rest * (LN_2 - (LN_2 - ONE / 2) * rest / ONE) / ONE;
    (sum / ONE).saturating_mul(part).saturating_add(sum % ONE * part / ONE)
}

/// The rate, in thousandths a second, of which this is the faded sum: `sum × ln 2 / half-life`.
pub(super) const fn rate(sum_milli: u64, half_life: Span) -> u64 {
    sum_milli.saturating_mul(693) / (half_life.0 / 1_000_000)
}

/// The demand that one holder sees, with a half-life of so many milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand<const HALF_LIFE_MS: u64> {
    pub(super) sum_milli: u64,
    pub(super) at: Instant,
}

impl<const HALF_LIFE_MS: u64> Demand<HALF_LIFE_MS> {
    const HALF_LIFE: Span = Span::from_millis(HALF_LIFE_MS);

    /// Notes that `units` were wanted.
    pub(super) fn note(&mut self, now: Instant, units: u32) {
        *self = self.faded(now);
        self.sum_milli = self.sum_milli.saturating_add(u64::from(units) * 1_000);
    }

    /// In thousandths of a unit a second.
    pub(super) fn rate_milli(&self, now: Instant) -> u64 {
        rate(self.faded(now).sum_milli, Self::HALF_LIFE)
    }

    fn faded(&self, now: Instant) -> Self {
        // Rounding down is done at most once a millisecond, else it would add up.
        if now.since(self.at).0 < 1_000_000 {
            return *self;
        }
        let sum_milli = faded(self.sum_milli, now.since(self.at), Self::HALF_LIFE);
        Self { sum_milli, at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_demand_is_measured_within_a_tenth() {
        for per_second in [1_000_u64, 10_000, 90_000] {
            let mut demand = Demand::<100>::default();
            let mut now = Instant(5_000_000_000);
            for _ in 0..per_second * 2 {
                now = now.after(Span(1_000_000_000 / per_second));
                demand.note(now, 1);
            }
            let rate = demand.rate_milli(now) / 1_000;
            assert!(rate.abs_diff(per_second) < per_second / 10, "{rate} of {per_second}");
        }
    }

    #[test]
    fn it_fades_by_half_in_a_half_life_and_to_nothing() {
        let second = Span::from_secs(1);
        assert_eq!(faded(1_000_000, second, second), 500_000);
        assert_eq!(faded(1_000_000, Span(500_000_000), second), 701_721);
        assert_eq!(faded(u64::MAX, Span(u64::MAX), second), 0);
    }
}
