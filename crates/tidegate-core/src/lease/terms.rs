//! What a quota means for its leases: worked out once for each limit, not for each request.

use super::{HORIZON_MAX, SOON_LIFE};
use crate::limit::{Algorithm, Quota};
use crate::time::Span;

/// The shortest lease worth having, where a full bucket lasts for long.
const HORIZON_LEAST: (Span, Span) = (Span::from_millis(20), Span::from_millis(100));

/// How long holders of a scarce key wait between two asks: at least what the first says, or
/// an eighth of a refill; at most what the second says, or half a refill. With 64 holders and
/// 10,000 a second, that is 0.13 asks for each unit.
const PAUSE: (Span, Span) = (Span::from_millis(50), Span::from_secs(2));

/// The shortest sliding window that is leased. Units are counted up to [`super::LAPSE`] longer
/// than their window when nobody settles them: of a shorter window that would be most of it.
const WINDOW_MIN: Span = Span::from_secs(2);

/// The terms on which a quota is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    quota: Quota,
    reserve: u32,
    refill: Span,
    is_prompt: bool,
}

impl Terms {
    /// The terms for `quota`, asked for with replies awaited for at most `deadline`.
    ///
    /// `reserve` units of the burst are never granted: they are there to be used without a
    /// grant, one by each proxy of a fleet of at most so many (see [`super::Holder::take`]).
    /// A reserve of more than an eighth of the burst costs more than it brings and is not
    /// made; neither is one of a sliding window.
    ///
    /// `None` if such a quota cannot be leased, and each request has to ask: the
    /// interpolated counter, which is not exact to begin with, and windows under 2 s.
    pub fn new(quota: Quota, deadline: Span, reserve: u32) -> Option<Self> {
        let (is_leased, may_reserve) = match quota.algorithm() {
            Algorithm::TokenBucket => (true, reserve <= quota.burst() / 8),
            Algorithm::SlidingWindow => (quota.period() >= WINDOW_MIN, false),
            Algorithm::SlidingCounter => (false, false),
        };
        let refill = match quota.algorithm() {
            Algorithm::TokenBucket => time_for(&quota, quota.burst().into()),
            _ => quota.period(),
        };
        let reserve = if may_reserve { reserve } else { 0 };
        is_leased.then_some(Self { quota, reserve, refill, is_prompt: deadline <= SOON_LIFE })
    }

    /// The quota.
    pub const fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Units of the burst that are never granted.
    pub const fn reserve(&self) -> u32 {
        self.reserve
    }

    /// The most units that can be granted at once.
    pub(super) const fn grantable(&self) -> u32 {
        self.quota.burst().saturating_sub(self.reserve)
    }

    /// The time in which an empty budget fills.
    pub const fn refill(&self) -> Span {
        self.refill
    }

    /// How long a holder remembers a key of which it heard no more: until then, what it was
    /// granted may not have refilled.
    pub(super) const fn memory(&self) -> Span {
        let refill = self.refill.0;
        Span(refill.saturating_add(refill / 8).saturating_add(2 * super::LAPSE.0))
    }

    /// Whether replies come in time for requests that wait for them.
    pub(super) const fn is_prompt(&self) -> bool {
        self.is_prompt
    }

    /// The most units that may be outstanding beyond [`SOON_LIFE`]: half the burst, so that a
    /// budget of which the store forgot everything is not wholly lost until it knows again.
    pub(super) const fn out_max(&self) -> u32 {
        self.quota.burst().div_ceil(2)
    }

    /// The time in which so many units refill, rounded up.
    pub(super) fn time_for(&self, units: u64) -> Span {
        time_for(&self.quota, units)
    }

    /// The units that refill in a time, rounded down.
    pub(super) fn units_in(&self, span: Span) -> u64 {
        let units =
            u128::from(span.0) * u128::from(self.quota.count()) / u128::from(self.quota.period().0);
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// How long a lease is meant to last, when `level` units are left and all holders
    /// together want `rate` thousandths of a unit a second: a quarter of what is left.
    pub fn horizon(&self, level: u32, rate_milli: u64) -> Span {
        let (low, high) = HORIZON_LEAST;
        let least = Span(self.refill.0 / 8).clamp(low, high);
        let nanos = u128::from(level) * 1_000 * 1_000_000_000 / 4 / u128::from(rate_milli.max(1));
        Span(u64::try_from(nanos).unwrap_or(u64::MAX)).clamp(least, HORIZON_MAX)
    }

    /// How long `holders` of a scarce key wait between two asks: until one unit for each of
    /// them has come, within bounds.
    pub(super) fn pause(&self, holders: u32) -> Span {
        let (low, high) = PAUSE;
        let least = low.min(Span(self.refill.0 / 4));
        let most = high.min(Span(self.refill.0 / 2).max(low));
        self.time_for(holders.into()).clamp(least.min(most), most)
    }
}

fn time_for(quota: &Quota, units: u64) -> Span {
    let nanos =
        (u128::from(units) * u128::from(quota.period().0)).div_ceil(u128::from(quota.count()));
    Span(u64::try_from(nanos).unwrap_or(u64::MAX))
}
