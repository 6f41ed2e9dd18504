//! Who asks how much: each proxy's share of a limit's recent demand.
//!
//! When the store is away, a proxy goes on with its share of the limit. So the shares of
//! all proxies never sum to more than the whole, and a proxy that has just come has one too:
//! nine parts in ten go by demand, one part in ten evenly.
//!
//! Demand is a counter that decays by half every [`HALF_LIFE`], decayed when it is touched.
//! Only a hash of a proxy's name is kept. Where bounds are reached, whoever asked longest
//! ago is forgotten.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};
use tidegate_core::ask::{LimitTag, SHARE_WHOLE_PPM};

/// Demand counts half after this long: a share follows a shift of traffic in some 20 s.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// A proxy that has not asked for this long has no share: by then its demand counts for
/// 1/64 of what it was.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Limits tracked at once. A policy of 4,096 limits is large.
const LIMITS_MAX: usize = 4_096;

/// Proxies tracked for each limit. Beyond that, shares are too small to be of use.
const PROXIES_MAX: usize = 1_024;

/// The part that is shared out evenly, in parts per million.
const EVEN_PPM: u32 = SHARE_WHOLE_PPM / 10;

/// Recent demand, by limit and proxy.
pub(crate) struct Shares {
    limits: HashMap<LimitTag, Limit>,
    hasher: RandomState,
}

struct Limit {
    proxies: HashMap<u64, Demand>,
    /// The sum over `proxies`, so that a share costs no walk over them.
    total: Demand,
    /// When the proxies that no longer ask were last looked for.
    swept: Instant,
}

#[derive(Clone, Copy)]
struct Demand {
    units: f64,
    at: Instant,
}

impl Shares {
    pub(crate) fn new() -> Self {
        Self { limits: HashMap::new(), hasher: RandomState::new() }
    }

    /// Counts that `proxy` asked for `cost` units of `limit`, and tells its share of that
    /// limit's recent demand, in parts per million. `now` never goes back.
    pub(crate) fn record(&mut self, limit: LimitTag, proxy: &[u8], cost: u32, now: Instant) -> u32 {
        let proxy = self.hasher.hash_one(proxy);
        if self.limits.len() >= LIMITS_MAX && !self.limits.contains_key(&limit) {
            forget_stalest(&mut self.limits, |limit| limit.total.at);
        }
        let limit = self.limits.entry(limit).or_insert_with(|| Limit::new(now));
        limit.record(proxy, cost, now)
    }
}

impl Limit {
    fn new(now: Instant) -> Self {
        Self { proxies: HashMap::new(), total: Demand { units: 0.0, at: now }, swept: now }
    }

    fn record(&mut self, proxy: u64, cost: u32, now: Instant) -> u32 {
        if now.duration_since(self.swept) >= FORGOTTEN_AFTER {
            self.sweep(now);
        }
        let is_full = self.proxies.len() >= PROXIES_MAX && !self.proxies.contains_key(&proxy);
        if is_full && let Some(gone) = forget_stalest(&mut self.proxies, |demand| demand.at) {
            self.total.units = self.total.units_at(now) - gone.units_at(now);
            self.total.at = now;
        }
        let demand = self.proxies.entry(proxy).or_insert(Demand { units: 0.0, at: now });
        demand.add(cost, now);
        let units = demand.units;
        self.total.add(cost, now);
        // The sum is kept by adding and taking away: rounding may leave it short of a part.
        self.total.units = self.total.units.max(units);
        share(units, self.total.units, self.proxies.len())
    }

    /// Forgets the proxies that no longer ask, and sums up the others anew.
    fn sweep(&mut self, now: Instant) {
        self.proxies.retain(|_, demand| now.duration_since(demand.at) < FORGOTTEN_AFTER);
        let units = self.proxies.values().map(|demand| demand.units_at(now)).sum();
        self.total = Demand { units, at: now };
        self.swept = now;
    }
}

impl Demand {
    fn units_at(&self, now: Instant) -> f64 {
        let halvings =
            now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.units * (-halvings).exp2()
    }

    fn add(&mut self, cost: u32, now: Instant) {
        self.units = self.units_at(now) + f64::from(cost);
        self.at = self.at.max(now);
    }
}

/// Rounded down twice, so that all shares together stay within the whole.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=EVEN_PPM * 9")]
fn share(units: f64, total: f64, proxies: usize) -> u32 {
    let proxies = u32::try_from(proxies).unwrap_or(u32::MAX).max(1);
    // A limit that is only looked at (cost 0) has no demand to go by.
    let part = if total > 0.0 { (units / total).min(1.0) } else { 1.0 / f64::from(proxies) };
    let by_demand = (part * f64::from(SHARE_WHOLE_PPM - EVEN_PPM)) as u32;
    by_demand + EVEN_PPM / proxies
}

/// Takes out the entry that was touched longest ago. A walk: reaching a bound is rare.
fn forget_stalest<K: Copy + Eq + std::hash::Hash, V>(
    map: &mut HashMap<K, V>,
    at: impl Fn(&V) -> Instant,
) -> Option<V> {
    let stalest = map.iter().min_by_key(|(_, value)| at(value)).map(|(key, _)| *key)?;
    map.remove(&stalest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: LimitTag = LimitTag(7);

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn one_proxy_has_it_all() {
        let (mut shares, now) = (Shares::new(), Instant::now());
        for cost in [0, 1, 1_000_000] {
            assert_eq!(shares.record(LIMIT, b"a", cost, now), SHARE_WHOLE_PPM);
        }
    }

    #[test]
    fn shares_follow_demand() {
        let (mut shares, now) = (Shares::new(), Instant::now());
        shares.record(LIMIT, b"a", 300, now);
        assert_eq!(
            shares.record(LIMIT, b"b", 100, now),
            275_000,
            "a quarter of 90 %, half of 10 %"
        );
        assert_eq!(shares.record(LIMIT, b"a", 0, now), 725_000);
    }

    #[test]
    fn limits_do_not_share() {
        let (mut shares, now) = (Shares::new(), Instant::now());
        shares.record(LIMIT, b"a", 300, now);
        assert_eq!(shares.record(LimitTag(8), b"b", 1, now), SHARE_WHOLE_PPM);
    }

    #[test]
    fn a_new_proxy_among_busy_ones_has_a_share_at_once() {
        let (mut shares, now) = (Shares::new(), Instant::now());
        for proxy in 0..9_u8 {
            shares.record(LIMIT, &[proxy], 1_000_000, now);
        }
        assert_eq!(shares.record(LIMIT, b"new", 1, now), 10_000, "a tenth of the even tenth");
    }

    #[test]
    fn old_demand_fades_and_is_then_forgotten() {
        let (mut shares, start) = (Shares::new(), Instant::now());
        shares.record(LIMIT, b"a", 1_000, start);
        let fading = shares.record(LIMIT, b"b", 1_000, after(start, 10));
        assert_eq!(fading, 600_000 + 50_000, "b's 1000 against a's 500");
        assert_eq!(shares.record(LIMIT, b"b", 1, after(start, 75)), SHARE_WHOLE_PPM);
    }

    #[test]
    fn bounds_hold_and_the_stalest_goes() {
        let (mut shares, start) = (Shares::new(), Instant::now());
        for n in 0..=LIMITS_MAX as u64 {
            shares.record(LimitTag(n), b"a", 1, start + Duration::from_micros(n));
        }
        assert_eq!(shares.limits.len(), LIMITS_MAX);
        assert!(!shares.limits.contains_key(&LimitTag(0)));
        for n in 0..=PROXIES_MAX as u64 {
            let now = start + Duration::from_millis(10 + n);
            shares.record(LimitTag(5), &n.to_le_bytes(), 1, now);
        }
        assert_eq!(shares.limits[&LimitTag(5)].proxies.len(), PROXIES_MAX);
    }

    proptest! {
        #[test]
        fn all_shares_together_are_never_more_than_the_whole(
            asks in prop::collection::vec((0..40_u8, 0..1_000_000_u32, 0..20_000_u64), 1..200)
        ) {
            let (mut shares, mut now) = (Shares::new(), Instant::now());
            for (proxy, cost, millis) in asks {
                now += Duration::from_millis(millis);
                shares.record(LIMIT, &[proxy], cost, now);
            }
            let limit = &shares.limits[&LIMIT];
            let total = limit.total.units_at(now);
            let sum: u64 = limit
                .proxies
                .values()
                .map(|demand| u64::from(share(demand.units_at(now), total, limit.proxies.len())))
                .sum();
            prop_assert!(sum <= u64::from(SHARE_WHOLE_PPM), "{sum}");
        }
    }
}
