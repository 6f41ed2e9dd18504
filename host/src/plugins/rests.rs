//! When a plugin rests: one that fails and fails would cost each request its deadline, and each time
//! a new instance.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many calls in a row that ended their instance, or so many among the last 32, and it rests.
const IN_A_ROW: u32 = 5;
const AMONG_LAST: u32 = 8;
const REST: Duration = Duration::from_millis(500);

/// How the last calls of one plugin ended, and until when it rests for that.
pub(super) struct Rests(Mutex<Ended>);

#[derive(Default)]
struct Ended {
    /// A bit for each of the last 32 calls, the last of them lowest: whether it ended its instance.
    last: u32,
    until: Option<Instant>,
}

impl Rests {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Notes how a call ended.
    pub(super) fn note(&self, has_failed: bool, now: Instant) {
        let mut ended = self.ended();
        ended.last = ended.last << 1 | u32::from(has_failed);
        if ended.last.trailing_ones() >= IN_A_ROW || ended.last.count_ones() >= AMONG_LAST {
            *ended = Ended { last: 0, until: Some(now + REST) };
        }
    }

    pub(super) fn is_resting(&self, now: Instant) -> bool {
        let mut ended = self.ended();
        ended.until = ended.until.filter(|until| now < *until);
        ended.until.is_some()
    }

    /// What was, another did.
    pub(super) fn forget(&self) {
        *self.ended() = Ended::default();
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many calls a plugin rests of which this says which fail.
    fn rests_after(fails: impl Fn(u32) -> bool) -> Option<u32> {
        let (rests, now) = (Rests::new(), Instant::now());
        (1..=1_000).find(|call| {
            rests.note(fails(*call), now);
            rests.is_resting(now)
        })
    }

    #[test]
    fn who_fails_often_rests_whether_in_a_row_or_not() {
        assert_eq!(rests_after(|_| true), Some(5));
        assert_eq!(rests_after(|call| call % 2 == 0), Some(16));
        assert_eq!(rests_after(|call| call % 4 == 0), Some(32));
        assert_eq!(rests_after(|call| call % 5 == 0), None);
        assert_eq!(rests_after(|call| call % 32 < 4), None);
    }

    #[test]
    fn a_rest_ends_and_then_as_much_may_go_wrong_again() {
        let (rests, start) = (Rests::new(), Instant::now());
        let fail = |count| (0..count).for_each(|_| rests.note(true, start));
        fail(IN_A_ROW);
        assert!(rests.is_resting(start) && !rests.is_resting(start + REST));
        fail(IN_A_ROW - 1);
        assert!(!rests.is_resting(start));
        fail(1);
        assert!(rests.is_resting(start));
        rests.forget();
        assert!(!rests.is_resting(start));
    }
}
