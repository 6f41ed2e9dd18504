//! The time of day, by which records end: this machine's, or one that a test of policies lets
//! pass.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A clock of Unix time.
#[derive(Clone, Default)]
pub struct Wall {
    /// Nanoseconds since the first number of milliseconds, if somebody else says how many.
    given: Option<(u64, Arc<AtomicU64>)>,
}

impl Wall {
    /// This machine's.
    pub const fn of_this_machine() -> Self {
        Self { given: None }
    }

    /// One that shows `start_ms` when `nanos` is 0, and goes as that does.
    pub const fn given(start_ms: u64, nanos: Arc<AtomicU64>) -> Self {
        Self { given: Some((start_ms, nanos)) }
    }

    /// Milliseconds of Unix time.
    pub fn now_ms(&self) -> u64 {
        match &self.given {
            Some((start_ms, nanos)) => start_ms + nanos.load(Ordering::Relaxed) / 1_000_000,
            None => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
            }
        }
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.given.is_some() { "a given clock" } else { "this machine's clock" })
    }
}
