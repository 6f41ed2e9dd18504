//! How often somebody may try to come in, and how often a caller may ask.
//!
//! Whoever shows the right credentials comes in, however often others have failed at the same
//! address: behind one address there may be a whole cluster, and an attacker among it must not
//! keep logouts away. What wrong ones cost is bounded all the same: they are answered 429 beyond
//! some a minute, and no longer told to the audit log. They could not be guessed in any case.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tidegate_core::ask::{Ask, Item, LimitTag, MemoryStore};
use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, Quota, Refused};
use tidegate_core::time::{self, Span};

/// Addresses that are remembered; beyond them those that tried least are forgotten.
const PEERS_MAX: u32 = 8_192;

/// Callers that are remembered: more than there are tokens.
const CALLERS_MAX: u32 = 1_024;

/// Wrong attempts of one address at once, and each minute.
const WRONG_PER_MINUTE: u32 = 10;

/// How often each of some may do something.
pub(super) struct Attempts {
    store: Mutex<MemoryStore>,
    quota: Quota,
    start: Instant,
    hashers: [RandomState; 2],
}

impl Attempts {
    /// Wrong ones, by address.
    pub(super) fn wrong() -> Self {
        Self::new(PEERS_MAX, WRONG_PER_MINUTE, Span::from_secs(60))
    }

    /// Requests, by caller.
    pub(super) fn requests(per_second: u32) -> Self {
        Self::new(CALLERS_MAX, per_second, Span::from_secs(1))
    }

    fn new(keys_max: u32, count: u32, period: Span) -> Self {
        let quota = Quota::new(Algorithm::TokenBucket, count, period, count)
            .expect("a count of 1 to a million in a second or minute is a quota");
        Self {
            store: Mutex::new(MemoryStore::new(keys_max)),
            quota,
            start: Instant::now(),
            hashers: std::array::from_fn(|_| RandomState::new()),
        }
    }

    /// One more of this address, or of its [`network`].
    ///
    /// # Errors
    ///
    /// How long until that is allowed.
    pub(super) fn of_peer(&self, peer: IpAddr) -> Result<(), Duration> {
        self.one_of(&network(peer).octets())
    }

    /// One more of this name.
    ///
    /// # Errors
    ///
    /// How long until that is allowed.
    pub(super) fn of_caller(&self, name: &str) -> Result<(), Duration> {
        self.one_of(name.as_bytes())
    }

    fn one_of(&self, what: &[u8]) -> Result<(), Duration> {
        let [one, other] = &self.hashers;
        let hash = u128::from(one.hash_one(what)) << 64 | u128::from(other.hash_one(what));
        let key = Key(hash.to_le_bytes());
        let item = Item { key, limit: LimitTag(0), quota: self.quota, cost: 1, owed: 0 };
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = store.answer(time::Instant(nanos), &Ask { items: vec![item] });
        match reply.answers.first().map(|answer| answer.outcome) {
            Some(Err(Refused::Wait { wait, .. })) => Err(Duration::from_nanos(wait.0)),
            Some(Err(Refused::Never)) => Err(Duration::MAX),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// Who is counted as one: an address of IPv4, or a network of IPv6, whose every host has as many
/// addresses as it likes.
pub(super) fn network(peer: IpAddr) -> Ipv6Addr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64),
    }
}

/// As `Retry-After` tells it: whole seconds, rounded up.
pub(super) fn whole_secs(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_often_has_to_wait_and_others_do_not() {
        let attempts = Attempts::wrong();
        let peer = |text: &str| attempts.of_peer(text.parse().unwrap());
        for _ in 0..WRONG_PER_MINUTE {
            peer("192.0.2.1").unwrap();
            peer("2001:db8::1").unwrap();
        }
        for known in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::2"] {
            let wait = peer(known).unwrap_err();
            assert!(wait <= Duration::from_secs(6), "{known}: {wait:?}");
        }
        for other in ["192.0.2.2", "2001:db8:0:1::1"] {
            peer(other).unwrap();
        }
    }
}
