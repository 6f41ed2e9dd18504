//! What is counted: all of it grows, and is read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the classes in which batches are counted, in asks.
pub const BATCH_SIZES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// Counters of one store.
#[derive(Debug, Default)]
pub struct Stats {
    batches: [AtomicU64; BATCH_SIZES.len()],
    asks: AtomicU64,
    dials: AtomicU64,
    dials_failed: AtomicU64,
    retries: AtomicU64,
    timeouts: AtomicU64,
    fail_overs: AtomicU64,
    lost_asks_max: AtomicU64,
    resets: AtomicU64,
    redirects: AtomicU64,
    given_back: AtomicU64,
    kept_charges: AtomicU64,
    unanswered_units: AtomicU64,
}

macro_rules! read {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> u64 {
            self.$name.load(Ordering::Relaxed)
        }
    )*};
}

impl Stats {
    /// Batches sent, by size: each class holds those larger than the class before.
    pub fn batches(&self) -> [u64; BATCH_SIZES.len()] {
        self.batches.each_ref().map(|class| class.load(Ordering::Relaxed))
    }

    read! {
        /// Asks sent, in all batches together.
        asks,
        /// Attempts to connect.
        dials,
        /// Attempts to connect that led to no connection.
        dials_failed,
        /// Commands sent again because they provably had not run.
        retries,
        /// Batches whose replies did not come in time.
        timeouts,
        /// Times that another server took over and went on from where the last one was.
        fail_overs,
        /// Answered asks that fail-overs may have forgotten, at most: so much more may have
        /// been admitted. Mostly far fewer, or none, were.
        lost_asks_max,
        /// Times that a server came back without anything that had been counted.
        resets,
        /// Asks that a node of a cluster sent on to another.
        redirects,
        /// Charges given back because another budget of the same ask, on another shard of a
        /// cluster, refused.
        given_back,
        /// Charges that could not be given back: so much less is admitted until they fade.
        kept_charges,
        /// Units of budgets that were asked for in vain: what others may have let through and
        /// no server has counted. Those of slots that nobody serves, too.
        unanswered_units,
    }

    pub(crate) fn batch(&self, size: usize) {
        let class = BATCH_SIZES.partition_point(|bound| *bound < size).min(BATCH_SIZES.len() - 1);
        self.batches[class].fetch_add(1, Ordering::Relaxed);
        self.asks.fetch_add(size as u64, Ordering::Relaxed);
    }

    pub(crate) fn dial(&self, worked: bool) {
        self.dials.fetch_add(1, Ordering::Relaxed);
        self.dials_failed.fetch_add(u64::from(!worked), Ordering::Relaxed);
    }

    pub(crate) fn retry(&self, commands: usize) {
        self.retries.fetch_add(commands as u64, Ordering::Relaxed);
    }

    pub(crate) fn failed_over(&self, lost_max: u64) {
        self.fail_overs.fetch_add(1, Ordering::Relaxed);
        self.lost_asks_max.fetch_add(lost_max, Ordering::Relaxed);
    }

    pub(crate) fn lost_all(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn redirect(&self) {
        self.redirects.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn gave_back(&self, worked: bool) {
        let count = if worked { &self.given_back } else { &self.kept_charges };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unanswered(&self, units: u64) {
        self.unanswered_units.fetch_add(units, Ordering::Relaxed);
    }

    pub(crate) fn timeout(&self) {
        self.timeouts.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fall_into_their_class() {
        let stats = Stats::default();
        for size in [1, 2, 3, 4, 5, 128] {
            stats.batch(size);
        }
        assert_eq!(stats.batches(), [1, 1, 2, 1, 0, 0, 0, 1]);
        assert_eq!(stats.asks(), 143);
    }
}
