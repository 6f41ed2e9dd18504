//! How many threads of a plugin have an instance, and whether it is worth while to wait for one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After an instance could not be made, the next is tried; twice as long after each further time.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_DOUBLINGS_MAX: u32 = 7;

/// The threads of one plugin, each a seat for an instance.
pub(super) struct Seats(Mutex<Taken>);

struct Taken {
    count: usize,
    since_none: Option<Instant>,
    /// Whether the last that was to be made while there was none could not be.
    has_failed: bool,
}

impl Seats {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Taken { count: 0, since_none: None, has_failed: false }))
    }

    pub(super) fn take(&self) {
        let mut taken = self.taken();
        *taken = Taken { count: taken.count + 1, since_none: None, has_failed: false };
    }

    pub(super) fn leave(&self, now: Instant) {
        let mut taken = self.taken();
        taken.count = taken.count.saturating_sub(1);
        if taken.count == 0 {
            taken.since_none = Some(now);
        }
    }

    /// Somebody could not be seated.
    pub(super) fn fail(&self) {
        let mut taken = self.taken();
        taken.has_failed = taken.count == 0;
    }

    /// Whether all are empty, and that not only for as long as an ask may wait.
    pub(super) fn are_empty(&self, now: Instant, wait: Duration) -> bool {
        let taken = self.taken();
        let is_long = |since| now.saturating_duration_since(since) >= wait;
        taken.count == 0 && (taken.has_failed || taken.since_none.is_some_and(is_long))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait after so many failures in a row to make an instance.
pub(super) fn pause(failures: u32) -> Duration {
    PAUSE * 2_u32.pow(failures.saturating_sub(1).min(PAUSE_DOUBLINGS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_are_they_when_nobody_sits_and_nobody_comes_soon() {
        let (seats, start, wait) = (Seats::new(), Instant::now(), Duration::from_millis(10));
        assert!(!seats.are_empty(start, wait), "they are only just taken");
        seats.take();
        seats.take();
        seats.leave(start);
        seats.fail();
        assert!(!seats.are_empty(start + wait, wait), "one is left");
        seats.leave(start);
        assert!(!seats.are_empty(start, wait) && seats.are_empty(start + wait, wait));
        seats.fail();
        assert!(seats.are_empty(start, wait));
        seats.take();
        assert!(!seats.are_empty(start + wait, wait));
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let pauses = [1, 2, 3, 8, 9, u32::MAX].map(|failures| pause(failures).as_millis());
        assert_eq!(pauses, [100, 200, 400, 12_800, 12_800, 12_800]);
    }
}
