//! Watches what is admitted, and shares no arithmetic with core.
//!
//! Of a bucket it keeps the smallest burst to which the stream so far conforms: the peak of a
//! leaky bucket of the quota's rate. Of a window, the most that any window of one period held.
//! Beside it, what one ideal limiter that sees every request at once would have admitted.

use std::collections::VecDeque;
use tidegate_core::limit::{Algorithm, Quota};

/// All times here are nanoseconds that passed on the store's clock.
pub(crate) struct Judge {
    quota: Quota,
    stream: Stream,
    ideal: Stream,
    pub(crate) attempts: u64,
    pub(crate) admitted: u64,
    pub(crate) ideally_admitted: u64,
    /// The largest burst, or the fullest window, so far: in units times `scale`.
    peak: u128,
}

/// What counts of a stream at its last event.
pub(crate) struct Stream {
    quota: Quota,
    level: u128,
    at: u64,
    window: VecDeque<(u64, u32)>,
}

impl Stream {
    pub(crate) fn new(quota: Quota) -> Self {
        Self { quota, level: 0, at: 0, window: VecDeque::new() }
    }

    /// One unit, in the measure of levels.
    fn unit(&self) -> u128 {
        match self.quota.algorithm() {
            Algorithm::TokenBucket => u128::from(self.quota.period().0),
            _ => 1,
        }
    }

    pub(crate) fn advance(&mut self, now: u64) {
        let now = now.max(self.at);
        if self.quota.algorithm() == Algorithm::TokenBucket {
            let drained = u128::from(now - self.at) * u128::from(self.quota.count());
            self.level = self.level.saturating_sub(drained);
        } else {
            while let Some((at, units)) = self.window.front().copied()
                && now - at >= self.quota.period().0
            {
                self.level -= u128::from(units);
                self.window.pop_front();
            }
        }
        self.at = now;
    }

    pub(crate) fn add(&mut self, units: u32) {
        self.level += u128::from(units) * self.unit();
        if self.quota.algorithm() != Algorithm::TokenBucket {
            self.window.push_back((self.at, units));
        }
    }

    /// What counts, in units, rounded up.
    pub(crate) fn units(&self) -> u64 {
        self.level.div_ceil(self.unit()) as u64
    }

    /// Drops what counts beyond so many units; says how much that was, rounded up.
    pub(crate) fn cap(&mut self, units: u32) -> u64 {
        let most = u128::from(units) * self.unit();
        let beyond = self.level.saturating_sub(most);
        self.level -= beyond;
        if units == 0 {
            self.window.clear();
        }
        beyond.div_ceil(self.unit()) as u64
    }
}

impl Judge {
    pub(crate) fn new(quota: Quota) -> Self {
        Self {
            quota,
            stream: Stream::new(quota),
            ideal: Stream::new(quota),
            attempts: 0,
            admitted: 0,
            ideally_admitted: 0,
            peak: 0,
        }
    }

    pub(crate) fn attempt(&mut self, now: u64, units: u32) {
        self.attempts += u64::from(units);
        self.ideal.advance(now);
        let full = u128::from(self.quota.burst()) * self.ideal.unit();
        if self.ideal.level + u128::from(units) * self.ideal.unit() <= full {
            self.ideal.add(units);
            self.ideally_admitted += u64::from(units);
        }
    }

    /// Notes an admission, so many units beyond the quota being tolerated; says how it breaks the
    /// promise, if it does.
    pub(crate) fn admit(&mut self, now: u64, units: u32, tolerated: u64) -> Result<(), String> {
        self.admitted += u64::from(units);
        self.stream.advance(now);
        self.stream.add(units);
        self.peak = self.peak.max(self.stream.level);
        let unit = self.stream.unit();
        let most = u128::from(u64::from(self.quota.burst()) + tolerated) * unit;
        // The store's clock ticks: a tick's worth may have refilled already.
        let tick = match self.quota.algorithm() {
            Algorithm::TokenBucket => {
                u128::from(self.quota.tick().nanos()) * u128::from(self.quota.count())
            }
            _ => 0,
        };
        if self.stream.level <= most + tick {
            return Ok(());
        }
        Err(format!(
            "{:.4} units at once of a burst of {} (+ {} tolerated)",
            self.stream.level as f64 / unit as f64,
            self.quota.burst(),
            tolerated,
        ))
    }

    /// The smallest burst to which all conforms, in parts of the quota's.
    pub(crate) fn burst_used(&self) -> f64 {
        self.peak as f64 / self.stream.unit() as f64 / f64::from(self.quota.burst())
    }

    pub(crate) fn admitted_of_ideal(&self) -> f64 {
        self.admitted as f64 / (self.ideally_admitted as f64).max(1.0)
    }
}
