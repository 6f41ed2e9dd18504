//! The time by which budgets are counted: this machine's, or one that a test of policies
//! lets pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) struct Clock {
    start: Instant,
    /// Nanoseconds since `start`, if somebody else says how many.
    given_ns: Option<Arc<AtomicU64>>,
}

impl Clock {
    pub(super) fn of_this_machine() -> Self {
        Self { start: Instant::now(), given_ns: None }
    }

    /// A clock whose time is what `nanos` holds, which never goes back.
    pub(super) fn given(nanos: Arc<AtomicU64>) -> Self {
        Self { start: Instant::now(), given_ns: Some(nanos) }
    }

    /// Whether time passes without anybody's doing.
    pub(super) const fn goes_by_itself(&self) -> bool {
        self.given_ns.is_none()
    }

    /// For core, whose clocks begin at zero.
    pub(super) fn elapsed(&self) -> tidegate_core::time::Instant {
        let nanos = match &self.given_ns {
            Some(given) => given.load(Ordering::Relaxed),
            None => u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        };
        tidegate_core::time::Instant(nanos)
    }

    pub(super) fn now(&self) -> Instant {
        match &self.given_ns {
            Some(given) => self.start + Duration::from_nanos(given.load(Ordering::Relaxed)),
            None => Instant::now(),
        }
    }
}
