//! How long a server has given no answers, and what was asked of it in that time: the bound on
//! how far its counts may be off.
//!
//! A server gives answers while it is connected to and its breaker is closed. Whatever it gave
//! no answer to was decided without it, by each limit's `on_error`, here or at the proxies; so
//! it has counted too little by that at most. What a proxy decided that reached no host at all
//! only that proxy knows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Of one server.
pub(crate) struct Outages {
    inner: Mutex<Inner>,
    unanswered: AtomicU64,
}

struct Inner {
    /// The one that goes on: since when, and what had been unanswered before.
    current: Option<(Instant, u64)>,
    /// All that are over, together.
    past: Duration,
}

/// An outage that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// How long no answers have come, as far as is known.
    pub lasts: Duration,
    /// Units of budgets that were asked for in it, in vain.
    pub unanswered_units: u64,
}

impl Outages {
    /// Of a server that was not reached yet.
    pub(crate) fn new() -> Self {
        let inner = Inner { current: Some((Instant::now(), 0)), past: Duration::ZERO };
        Self { inner: Mutex::new(inner), unanswered: AtomicU64::new(0) }
    }

    /// Looks whether it gives answers now; call it after whatever may have changed that.
    pub(crate) fn review(&self, answers: impl FnOnce() -> bool) {
        let mut inner = self.inner();
        // Looked at under the lock: of two changes at once the later look sees both.
        match (inner.current, answers()) {
            (Some((since, _)), true) => {
                inner.past += since.elapsed();
                inner.current = None;
            }
            (None, false) => inner.current = Some((Instant::now(), self.unanswered_units())),
            (Some(_), false) | (None, true) => {}
        }
    }

    /// An ask for so many units of its budgets got no answer.
    pub(crate) fn add_unanswered(&self, units: u64) {
        self.unanswered.fetch_add(units, Ordering::Relaxed);
    }

    /// All such units, in outages and out of them.
    pub(crate) fn unanswered_units(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// The one that goes on.
    pub(crate) fn current(&self) -> Option<Outage> {
        let (since, before) = self.inner().current?;
        let unanswered_units = self.unanswered_units().saturating_sub(before);
        Some(Outage { lasts: since.elapsed(), unanswered_units })
    }

    /// How long all of them lasted, the one that goes on too.
    pub(crate) fn total(&self) -> Duration {
        let inner = self.inner();
        inner.past + inner.current.map_or(Duration::ZERO, |(since, _)| since.elapsed())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_outage_is_counted_by_itself_and_all_together() {
        let seconds = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        let outage = |lasts, unanswered_units| {
            Some(Outage { lasts: Duration::from_secs(lasts), unanswered_units })
        };
        let outages = Outages::new();
        seconds(1).await;
        assert_eq!(outages.current(), outage(1, 0), "it is away until it is reached");
        outages.review(|| true);
        outages.add_unanswered(5);
        seconds(10).await;
        assert_eq!((outages.current(), outages.total()), (None, Duration::from_secs(1)));

        outages.review(|| false);
        seconds(2).await;
        outages.add_unanswered(7);
        outages.review(|| false);
        assert_eq!(outages.current(), outage(2, 7), "it goes on, whatever else breaks");
        assert_eq!(outages.total(), Duration::from_secs(3));
        outages.review(|| true);
        outages.review(|| true);
        seconds(10).await;
        assert_eq!((outages.current(), outages.total()), (None, Duration::from_secs(3)));
        assert_eq!(outages.unanswered_units(), 12);
    }
}
