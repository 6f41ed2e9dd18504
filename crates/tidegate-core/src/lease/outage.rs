//! What a holder does while its store is away and its policy says `local_share`: a bucket
//! of its share, which began empty, and a debt afterwards.
//!
//! Shares add up to at most one, so what all holders let through conforms to the quota. A
//! share of the burst that is less than one request is none, for else a fleet larger than
//! the burst would let through more than that at once. When the store is back, what was
//! used is charged, less what would have refilled: `min(used, burst − level)` of each
//! holder's bucket. The deficit of the sum is at most the sum of the deficits, so the level
//! that the store has then is at most the true one. What is not exact: a holder that notices
//! the return late goes on with its share meanwhile; and where only some holders lost the
//! store, their shares come on top of what the store grants to others, until it is charged.

use crate::ask::SHARE_WHOLE_PPM;
use crate::gate::share;
use crate::limit::{Quota, State};
use crate::time::Instant;

/// A share of one key's budget for one outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// `None` if the share is too small for one request.
    quota: Option<Quota>,
    state: State,
    used: u32,
}

impl Outage {
    /// From `now` on, with a share of `share_ppm` parts per million. At first there is
    /// nothing: what was granted before the outage is not granted again.
    pub fn new(now: Instant, quota: &Quota, share_ppm: u32) -> Self {
        let holds_one = u64::from(quota.burst()) * u64::from(share_ppm) >= SHARE_WHOLE_PPM.into();
        let quota = holds_one.then(|| share::part(quota, share_ppm));
        let mut state = State::default();
        if let Some(quota) = &quota {
            quota.charge_up_to(&mut state, now, quota.burst());
        }
        Self { quota, state, used: 0 }
    }

    /// Whether a request may pass on this share.
    pub fn take(&mut self, now: Instant, cost: u32) -> bool {
        let quota = self.quota.as_ref();
        let passes = quota.is_some_and(|it| it.take(&mut self.state, now, cost).is_ok());
        if passes {
            self.used = self.used.saturating_add(cost);
        }
        passes
    }

    /// What is owed to the store: see [`Holder::owe`](super::Holder::owe).
    pub fn debt(&self, now: Instant) -> u32 {
        let Some(quota) = &self.quota else { return 0 };
        let level = quota.standing(&self.state, now).remaining;
        self.used.min(quota.burst().saturating_sub(level))
    }
}
