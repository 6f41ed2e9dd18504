//! What is let through of one limit, before the judges whose quota it has to keep to.
//!
//! **A quota that changes.** While some workers have the new policy and some the old one, what
//! all let through conforms to the larger of the two quotas, in rate and in burst: so it does
//! from beginning to end. Until the first has the new one it conforms to the old one, too; and
//! what is let through once all have it, and what they held before has lapsed, to the new one.
//!
//! **Shares of an outage** are let through on trust, beyond what the store knows of. What is
//! promised then, to the unit, is that no more is let through than the quota and
//!
//! - what was let through on shares and was not charged yet; and
//! - what was charged when nothing was left of the budget, until it has refilled: the burst at
//!   most, and what is charged beyond that is forgiven, and so never comes under the first.
//!
//! Of the first there is no small bound. A share starts empty when its proxy finds the store
//! away, and refills by its part of the rate: but it does so while leases are still spent (half
//! a burst, at most), and the budget itself fills up meanwhile and is there for who comes back
//! first, before others told what they owe (a burst). Shares were told at different moments, so
//! where demand went from proxy to proxy each may have nearly all: then as many bursts as there
//! are proxies, at the worst, and as many times the rate for as long as the store is away. All
//! of it is charged afterwards, but for what is forgiven. Made-up histories come to 2.6 bursts.

use crate::judge::{Judge, Stream};
use tidegate_core::limit::{Algorithm, Quota};

pub(crate) struct Watch {
    /// The first sees all that happens.
    judges: Vec<Judge>,
    quotas: Change,
    /// Whether there are shares.
    has_shares: bool,
    /// Units let through on shares that no store knows of.
    on_trust: u64,
    /// Charged, in the measure of streams.
    charged: Stream,
}

struct Change {
    before: Quota,
    after: Quota,
}

impl Watch {
    /// Of a quota that is going to be replaced, perhaps by itself.
    pub(crate) fn new(before: Quota, after: Quota, has_shares: bool) -> Self {
        let mut judges = vec![Judge::new(larger(before, after))];
        if before != after {
            judges.push(Judge::new(before));
        }
        let charged = Stream::new(before);
        Self { judges, quotas: Change { before, after }, has_shares, on_trust: 0, charged }
    }

    /// The one that sees all that happens.
    pub(crate) fn judge(&self) -> &Judge {
        &self.judges[0]
    }

    /// The first worker has the new policy.
    pub(crate) fn begin_change(&mut self) {
        self.judges.truncate(1);
    }

    /// What was held under the old policy has lapsed.
    pub(crate) fn end_change(&mut self) {
        if self.quotas.before != self.quotas.after {
            self.judges.push(Judge::new(self.quotas.after));
        }
    }

    pub(crate) fn attempt(&mut self, now: u64, units: u32) {
        self.judges[0].attempt(now, units);
    }

    /// Notes an admission; says how it breaks a promise, if it does.
    pub(crate) fn admit(&mut self, now: u64, units: u32, is_on_trust: bool) -> Result<(), String> {
        if is_on_trust && self.has_shares {
            self.on_trust += u64::from(units);
        }
        self.charged.advance(now);
        let tolerated = self.on_trust + self.charged.units();
        self.judges.iter_mut().try_for_each(|judge| judge.admit(now, units, tolerated))
    }

    /// Units let through on shares that no store knows of: what was forgiven remains.
    pub(crate) fn on_trust(&self) -> u64 {
        self.on_trust
    }

    /// The store heard of units that were used without a grant.
    pub(crate) fn charge(&mut self, now: u64, units: u32) {
        if !self.has_shares {
            return;
        }
        self.charged.advance(now);
        self.charged.add(units);
        let forgiven = match self.quotas.before.algorithm() {
            Algorithm::TokenBucket => self.charged.cap(self.quotas.before.burst()),
            _ => 0,
        };
        self.on_trust = self.on_trust.saturating_sub(u64::from(units).saturating_sub(forgiven));
    }

    /// The store forgot what was charged.
    pub(crate) fn forget(&mut self) {
        self.on_trust += self.charged.units();
        self.charged.cap(0);
    }
}

/// The smallest quota to which all conforms that conforms to one of the two at a time.
fn larger(a: Quota, b: Quota) -> Quota {
    let count = a.count().max(b.count());
    let (period, burst) = match a.algorithm() {
        Algorithm::TokenBucket => (a.period(), a.burst().max(b.burst())),
        _ => (a.period().min(b.period()), count),
    };
    Quota::new(a.algorithm(), count, period, burst).unwrap()
}
