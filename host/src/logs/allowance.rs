//! How much of what plugins and components write is logged.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::Level;

/// What comes on top in a second is dropped.
const LINES_MAX: u32 = 20;

/// So many lines a second.
pub(crate) struct Allowance {
    /// When this second began, and how many lines it had.
    taken: Mutex<(Instant, u32)>,
}

impl Allowance {
    pub(crate) fn new() -> Self {
        Self { taken: Mutex::new((Instant::now(), 0)) }
    }

    /// Whether a line of this level is to be logged. What nobody is to see takes no room from what
    /// somebody is.
    pub(crate) fn allows(&self, level: Level) -> bool {
        is_seen(level) && self.has_room(Instant::now())
    }

    fn has_room(&self, now: Instant) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(taken.0) >= Duration::from_secs(1) {
            *taken = (now, 0);
        }
        let has_room = taken.1 < LINES_MAX;
        taken.1 += u32::from(has_room);
        has_room
    }
}

fn is_seen(level: Level) -> bool {
    match level {
        Level::ERROR => tracing::enabled!(Level::ERROR),
        Level::WARN => tracing::enabled!(Level::WARN),
        Level::INFO => tracing::enabled!(Level::INFO),
        _ => tracing::enabled!(Level::DEBUG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::fmt;

    #[test]
    fn what_nobody_sees_takes_no_room_and_a_second_has_so_many_lines() {
        let shown = fmt().with_max_level(LevelFilter::INFO).with_writer(std::io::sink).finish();
        tracing::subscriber::with_default(shown, || {
            let allowance = Allowance::new();
            assert!((0..100).all(|_| !allowance.allows(Level::DEBUG)));
            let allowed = (0..100).filter(|_| allowance.has_room(Instant::now())).count();
            assert_eq!(allowed, 20);
            assert!(!allowance.allows(Level::ERROR));
            assert!(allowance.has_room(Instant::now() + Duration::from_secs(1)));
        });
    }
}
