//! What the hosts of a fleet tell each other of demand, and what follows for one of them.
//!
//! Each tells its demand, by limit and by proxy, and hears the sum over all. Demand that is
//! told fades until it is told again, by how much depends on when that was; so it is told as
//! of half a census from now: as much too high after a census as too low before the next.
//!
//! What a host makes of the sums stays as it is until the next census, so shares of all hosts
//! add up between two of them, and after the last one before an outage, whatever each is asked
//! meanwhile.

use super::{EVEN_PPM, FORGOTTEN_AFTER, HALF_LIFE, Limit, SLACK_PPM, Shares};
use std::time::{Duration, Instant};
use tidegate_core::ask::SHARE_WHOLE_PPM;
use tidegate_redis::{Counted, Fleet, Record};

/// How often a host tells, and …
const EVERY_MIN: Duration = Duration::from_secs(2);

/// … how long that takes for each host of the fleet at least: a hundred censuses a second, at
/// most, are no load for a Redis.
const EVERY_FOR_EACH: Duration = Duration::from_millis(10);

/// All hosts have told a server that is new to them after so many censuses.
const SETTLED_AFTER: u32 = 2;

/// What is known of the fleet.
pub(super) struct Known {
    pub(super) hosts: u32,
    proxies: f64,
    /// Proxies that have come since.
    pub(super) newcomers: f64,
    at: Instant,
}

/// The last census, for people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct News {
    pub(crate) hosts: u32,
    pub(crate) proxies: f64,
    pub(crate) age: Duration,
}

impl Known {
    /// Of a host among several. What is not known yet is shared alike among hosts.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "parts of a whole")]
    pub(super) fn share(&self, units: f64, limit: &Limit, spread: f64) -> u32 {
        let proxies = (self.proxies + self.newcomers).max(1.0);
        let part = match limit.total.units {
            // A limit that is only looked at (cost 0) has no demand to go by.
            0.0 => 1.0 / proxies,
            total => units / total * limit.part.unwrap_or(1.0 / f64::from(self.hosts)) * spread,
        };
        let by_demand = part.min(1.0) * f64::from(SHARE_WHOLE_PPM - EVEN_PPM - SLACK_PPM);
        by_demand as u32 + (f64::from(EVEN_PPM) / proxies) as u32
    }
}

impl Shares {
    /// How long until the next census.
    pub(crate) fn census_every(&self) -> Duration {
        let hosts = self.fleet.as_ref().map_or(1, |fleet| fleet.hosts);
        EVERY_MIN.max(EVERY_FOR_EACH * hosts)
    }

    /// How many proxies this host speaks for, and what it tells of limits and proxies.
    pub(crate) fn tell(&mut self, now: Instant) -> (f64, Vec<Record>) {
        let ahead = self.ahead();
        self.proxies.retain(|_, proxy| now.duration_since(proxy.demand.at) < FORGOTTEN_AFTER);
        let mut records = Vec::with_capacity(self.limits.len() + self.proxies.len());
        for (tag, limit) in &mut self.limits {
            if now.duration_since(limit.total.at) < FORGOTTEN_AFTER {
                let units = limit.total.units_at(now) * ahead;
                records.push(Record { of: Counted::Limit(*tag), units, told: limit.told });
            } else {
                (limit.told, limit.part) = (0.0, None);
            }
        }
        for (name, proxy) in &self.proxies {
            let units = proxy.demand.units_at(now) * ahead;
            records.push(Record { of: Counted::Proxy(*name), units, told: proxy.told });
        }
        (self.proxies.values().map(|proxy| 1.0 / proxy.spread).sum(), records)
    }

    /// What came of that; `hears_for`: how long this host has been hearing censuses without a
    /// gap. After a gap, or on a server that has lost the roll, not everybody may have told
    /// yet: then what was known before goes on counting, if anything was.
    pub(crate) fn hear(
        &mut self,
        records: &[Record],
        fleet: &Fleet,
        hears_for: Duration,
        now: Instant,
    ) {
        let ahead = self.ahead();
        let settled_after = self.census_every() * SETTLED_AFTER;
        let is_believed = self.fleet.as_ref().is_none_or(|known| {
            let are_all_there = fleet.age >= settled_after || fleet.hosts >= known.hosts;
            hears_for >= settled_after && are_all_there
        });
        if is_believed {
            let Fleet { hosts, proxies, .. } = *fleet;
            self.fleet = Some(Known { hosts, proxies, newcomers: 0.0, at: now });
        }
        for (record, all) in records.iter().zip(&fleet.units) {
            let own = record.units / ahead;
            let all = own + (all - record.units).max(0.0);
            match record.of {
                Counted::Limit(tag) => {
                    let Some(limit) = self.limits.get_mut(&tag) else { continue };
                    limit.told = record.units;
                    if is_believed {
                        limit.part = (all > 0.0).then(|| own / all);
                    }
                }
                Counted::Proxy(name) => {
                    let Some(proxy) = self.proxies.get_mut(&name) else { continue };
                    proxy.told = record.units;
                    if is_believed && own > 0.0 {
                        proxy.spread = all / own;
                    }
                }
            }
        }
    }

    /// What is known of the fleet; `None` before the first census.
    pub(crate) fn news(&self, now: Instant) -> Option<News> {
        let Known { hosts, proxies, at, .. } = *self.fleet.as_ref()?;
        Some(News { hosts, proxies, age: now.saturating_duration_since(at) })
    }

    /// By so much more is told than there is: demand fades for half a census on average.
    fn ahead(&self) -> f64 {
        (self.census_every().as_secs_f64() / 2.0 / HALF_LIFE.as_secs_f64()).exp2()
    }
}

#[cfg(test)]
mod tests;
