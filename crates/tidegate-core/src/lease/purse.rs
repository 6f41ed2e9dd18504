//! What one worker took of its process's holder: it spends without touching shared state.
//!
//! As long as a purse has units, a request costs a comparison with the clock and a
//! subtraction; as long as its key is known to be empty, two comparisons. Otherwise it goes
//! to the [`Holder`](super::Holder), which is shared by the workers, with
//! [`Holder::exchange`](super::Holder::exchange).

use super::Purchase;
use crate::time::{Instant, Span};

/// One worker's units of one key, 72 bytes. The default has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purse {
    pub(super) bought: Purchase,
    pub(super) left: u32,
    /// Units wanted here of which the holder does not know yet.
    pub(super) tried: u32,
    pub(super) empty_until: Instant,
    pub(super) deny_until: Instant,
}

impl Purse {
    /// Spends `cost` units, if there are so many. `now` is on the same monotone clock as the
    /// holder's, and must not be older than the request: a worker that slept for longer
    /// than its lease must not spend it.
    pub fn take(&mut self, now: Instant, cost: u32) -> bool {
        let left = self.left.checked_sub(cost).filter(|_| now < self.bought.until);
        if let Some(left) = left {
            self.left = left;
            self.tried = self.tried.saturating_add(cost);
        }
        left.is_some()
    }

    /// For how long a request is to be refused without asking anyone, if it is.
    pub fn denies(&mut self, now: Instant, cost: u32) -> Option<Span> {
        if self.deny_until <= now {
            return None;
        }
        self.tried = self.tried.saturating_add(cost);
        Some(self.empty_until.max(self.deny_until).since(now))
    }

    /// One request's: what it is to use, if it goes on.
    pub(super) fn holding(bought: Purchase) -> Self {
        Self { bought, left: bought.units, ..Self::default() }
    }

    /// Until when what is here may be spent.
    pub const fn until(&self) -> Instant {
        self.bought.until
    }

    /// Notes that all of it is used.
    pub(super) const fn spend_all(&mut self) {
        self.left = 0;
    }

    /// Gives back what a request took here that is not going on after all; `false` if there
    /// is nothing here that it can have come from: then tell
    /// [`Holder::give_back`](super::Holder::give_back).
    pub fn give_back(&mut self, cost: u32) -> bool {
        let left = self.left.saturating_add(cost);
        let fits = left <= self.bought.units;
        if fits {
            self.left = left;
        }
        fits
    }

    /// Units not spent yet.
    pub const fn left(&self) -> u32 {
        self.left
    }
}
