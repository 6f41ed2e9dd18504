//! Who asks how much: each proxy's share of a limit's recent demand, in the whole fleet.
//!
//! When the store is away, a proxy goes on with its share of the limit. So the shares of
//! all proxies must not sum to more than the whole, and a proxy that has just come has one too:
//! most goes by demand, one part in ten evenly.
//!
//! This host knows what it is asked itself. How much of that is all there is, the hosts find
//! out together (`fleet`, and `census`): a proxy's share is its part of what this host is asked
//! × this host's part of what all hosts are. A proxy that asks several hosts is told the sum of
//! its parts by each. While no census can be taken the last one goes on counting.
//!
//! Demand is a counter that decays by half every [`HALF_LIFE`], decayed when it is touched.
//! Only a hash of a proxy's name is kept. Where bounds are reached, whoever asked longest
//! ago is forgotten.

mod fleet;

use fleet::Known;
use siphasher::sip::SipHasher13;
use std::collections::HashMap;
use std::hash::Hasher;
use std::time::{Duration, Instant};
use tidegate_core::ask::{LimitTag, SHARE_WHOLE_PPM};

/// Demand counts half after this long: a share follows a shift of traffic in some 20 s.
pub(super) const HALF_LIFE: Duration = Duration::from_secs(10);

/// A proxy that has not asked for this long has no share: by then its demand counts for
/// 1/64 of what it was.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Limits tracked at once. A policy of 4,096 limits is large.
const LIMITS_MAX: usize = 4_096;

/// Proxies tracked for each limit, and in all. Beyond that, shares are too small to be of use.
const PROXIES_MAX: usize = 1_024;

/// The part that is shared out evenly, in parts per million.
const EVEN_PPM: u32 = SHARE_WHOLE_PPM / 10;

/// The part that is not shared out among several hosts: each hears of the others' demand some
/// seconds late. A host that is alone is not late.
const SLACK_PPM: u32 = SHARE_WHOLE_PPM / 20;

/// Recent demand, by limit and proxy.
pub(crate) struct Shares {
    limits: HashMap<LimitTag, Limit>,
    /// What proxies ask for, of all limits together.
    proxies: HashMap<u64, Proxy>,
    /// What is known of the other hosts; `None` before the first census.
    fleet: Option<Known>,
}

struct Limit {
    proxies: HashMap<u64, Demand>,
    /// The sum over `proxies`, so that a share costs no walk over them.
    total: Demand,
    /// When the proxies that no longer ask were last looked for.
    swept: Instant,
    /// What the others were told of it.
    told: f64,
    /// This host's part of what all hosts are asked; `None` if that is not known yet.
    part: Option<f64>,
}

struct Proxy {
    demand: Demand,
    told: f64,
    /// All that it asks for ÷ what it asks for here.
    spread: f64,
}

#[derive(Clone, Copy)]
struct Demand {
    units: f64,
    at: Instant,
}

impl Shares {
    pub(crate) fn new() -> Self {
        Self { limits: HashMap::new(), proxies: HashMap::new(), fleet: None }
    }

    /// Counts that `proxy` asked for `cost` units of `limit`, and tells its share of that
    /// limit's recent demand, in parts per million. `now` never goes back.
    pub(crate) fn record(&mut self, limit: LimitTag, proxy: &[u8], cost: u32, now: Instant) -> u32 {
        let proxy = hash(proxy);
        let spread = self.record_proxy(proxy, cost, now);
        if self.limits.len() >= LIMITS_MAX && !self.limits.contains_key(&limit) {
            forget_stalest(&mut self.limits, |limit| limit.total.at);
        }
        let limit = self.limits.entry(limit).or_insert_with(|| Limit::new(now));
        let units = limit.record(proxy, cost, now);
        match self.fleet.as_ref().filter(|fleet| fleet.hosts > 1) {
            None => share(units, limit.total.units, limit.proxies.len()),
            Some(fleet) => fleet.share(units, limit, spread),
        }
    }

    /// Counts what a proxy asks for, and tells how far it is spread.
    fn record_proxy(&mut self, proxy: u64, cost: u32, now: Instant) -> f64 {
        let is_new = !self.proxies.contains_key(&proxy);
        if is_new {
            if self.proxies.len() >= PROXIES_MAX {
                forget_stalest(&mut self.proxies, |proxy| proxy.demand.at);
            }
            if let Some(fleet) = &mut self.fleet {
                fleet.newcomers += 1.0;
            }
        }
        let new = || Proxy { demand: Demand { units: 0.0, at: now }, told: 0.0, spread: 1.0 };
        let known = self.proxies.entry(proxy).or_insert_with(new);
        known.demand.add(cost, now);
        known.spread
    }
}

impl Limit {
    fn new(now: Instant) -> Self {
        let total = Demand { units: 0.0, at: now };
        Self { proxies: HashMap::new(), total, swept: now, told: 0.0, part: None }
    }

    /// Counts, and tells the proxy's demand.
    fn record(&mut self, proxy: u64, cost: u32, now: Instant) -> f64 {
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
        units
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

/// Of a host that is alone. Rounded down twice, so that all shares together stay within the
/// whole.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=EVEN_PPM * 9")]
fn share(units: f64, total: f64, proxies: usize) -> u32 {
    let proxies = u32::try_from(proxies).unwrap_or(u32::MAX).max(1);
    // A limit that is only looked at (cost 0) has no demand to go by.
    let part = if total > 0.0 { (units / total).min(1.0) } else { 1.0 / f64::from(proxies) };
    let by_demand = (part * f64::from(SHARE_WHOLE_PPM - EVEN_PPM)) as u32;
    by_demand + EVEN_PPM / proxies
}

/// The same in all hosts, whatever builds they are. Nobody else names proxies: no secret is
/// needed.
fn hash(name: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name);
    hasher.finish()
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
mod tests;
