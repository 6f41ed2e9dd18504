//! Clocks that disagree: each has its own zero and its own idea of a second.

use tidegate_core::time::Instant;

#[derive(Clone)]
pub(crate) struct Clock {
    pub(crate) zero_ns: u64,
    pub(crate) drift_ppm: i64,
}

impl Clock {
    /// What it shows when so many true nanoseconds have passed.
    pub(crate) fn at(&self, now: u64) -> Instant {
        let drift = i128::from(now) * i128::from(self.drift_ppm) / 1_000_000;
        let shown = i128::from(self.zero_ns) + i128::from(now) + drift;
        Instant(u64::try_from(shown.max(0)).unwrap())
    }
}
