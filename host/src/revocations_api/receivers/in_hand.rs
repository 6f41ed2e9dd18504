//! How many notices of one address may be in hand: they are read and verified before it is known
//! whose they are, and what one address sends must not keep another's waiting.

use super::super::attempts::network;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More than a provider sends at once; and with as many as this of each connection that there may
/// be, no more memory than images take.
const OF_ONE_MAX: usize = 32;

/// Notices that are being read or verified, by address.
#[derive(Default)]
pub(super) struct InHand(Mutex<HashMap<Ipv6Addr, usize>>);

/// One of them, until it is dropped.
pub(super) struct One<'a> {
    all: &'a InHand,
    of: Ipv6Addr,
}

impl InHand {
    /// One more of this address; `None` if it has as many as it may.
    pub(super) fn one_of(&self, peer: IpAddr) -> Option<One<'_>> {
        let of = network(peer);
        let mut all = self.all();
        let count = all.entry(of).or_default();
        if *count == OF_ONE_MAX {
            return None;
        }
        *count += 1;
        Some(One { all: self, of })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Ipv6Addr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        let mut all = self.all.all();
        if let Some(count) = all.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_others_have_theirs() {
        let in_hand = InHand::default();
        let one_of = |peer: &str| in_hand.one_of(peer.parse().unwrap());
        let mut ours: Vec<_> = (0..OF_ONE_MAX).map(|_| one_of("192.0.2.1").unwrap()).collect();
        assert!(one_of("192.0.2.1").is_none() && one_of("::ffff:192.0.2.1").is_none());
        assert!(one_of("192.0.2.2").is_some());
        ours.pop();
        let again = one_of("192.0.2.1");
        assert!(again.is_some() && one_of("192.0.2.1").is_none());
        drop((ours, again));
        assert!(in_hand.all().is_empty());
    }
}
