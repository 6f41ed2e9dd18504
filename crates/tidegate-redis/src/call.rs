//! What is sent to one server: one call of one of the scripts.
//!
//! What the scripts keep has names of its own, `tidegate:<limit>:{<key>}` and
//! `tidegate:lease:<limit>:{<key>}`: a limit that some ask for exactly and some by leases, as
//! while a configuration is rolled out, must not be counted afresh at each change of hands. The
//! braces put each key alone in its slot of a cluster, and all that is kept about it in the
//! same; and limit and key are hex of hashes, so nothing that a user wrote is in a name.

use crate::lease::Leasing;
use crate::lineage::History;
use crate::take::Taking;
use redis::Cmd;
use std::sync::LazyLock;
use tidegate_core::ask::LimitTag;
use tidegate_core::key::Key;
use tidegate_core::limit::Algorithm;
use tokio::time::Instant;

/// A call, and how it is to be sent.
#[derive(Clone)]
pub(crate) struct Call {
    what: What,
    /// Whether the key is on its way to the server that is asked: then it wants `ASKING`.
    pub(crate) asking: bool,
    /// Nobody waits for the reply any longer than this.
    pub(crate) until: Option<Instant>,
    /// Whether a request waits for it; otherwise it may wait a moment for company.
    pub(crate) hurries: bool,
}

#[derive(Clone)]
enum What {
    Take(Taking),
    Lease(Leasing),
}

/// A script that servers keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    Take,
    Lease,
    Append,
    Cut,
}

impl Call {
    /// Of no use after `until`, if that is said.
    pub(crate) fn take(taking: Taking, until: Option<Instant>) -> Self {
        Self { what: What::Take(taking), asking: false, until, hurries: true }
    }

    /// As [`Self::take`].
    pub(crate) fn lease(leasing: Leasing, until: Option<Instant>, hurries: bool) -> Self {
        Self { what: What::Lease(leasing), asking: false, until, hurries }
    }

    /// How many keys it is about: about so much work it is for a server.
    pub(crate) fn weight(&self) -> usize {
        match &self.what {
            What::Take(taking) => taking.items().len(),
            What::Lease(_) => 1,
        }
    }

    /// The key that says who is to be asked. On a cluster the others must be of its slot.
    pub(crate) fn key(&self) -> Option<Key> {
        match &self.what {
            What::Take(taking) => taking.items().first().map(|item| item.key),
            What::Lease(leasing) => leasing.want().map(|want| want.key),
        }
    }

    /// What it runs.
    pub(crate) const fn script(&self) -> Script {
        match &self.what {
            What::Take(_) => Script::Take,
            What::Lease(_) => Script::Lease,
        }
    }

    /// What is sent to a server that goes on with this history of writes.
    pub(crate) fn command(&self, history: Option<&History>) -> Cmd {
        match &self.what {
            What::Take(taking) => taking.command(),
            What::Lease(leasing) => leasing.command(history),
        }
    }
}

impl Script {
    pub(crate) const ALL: [Self; 4] = [Self::Take, Self::Lease, Self::Append, Self::Cut];

    /// Those that asks run.
    pub(crate) const OF_ASKS: [Self; 2] = [Self::Take, Self::Lease];

    /// What `EVALSHA` calls it.
    pub(crate) fn sha(self) -> &'static str {
        static SHAS: LazyLock<[String; 4]> = LazyLock::new(|| {
            Script::ALL.map(|script| sha1_smol::Sha1::from(script.text()).digest().to_string())
        });
        match self {
            Self::Take => &SHAS[0],
            Self::Lease => &SHAS[1],
            Self::Append => &SHAS[2],
            Self::Cut => &SHAS[3],
        }
    }

    /// The command that makes calls of it work.
    pub(crate) fn load(self) -> Cmd {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(self.text());
        load
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Take => include_str!("../scripts/take.lua"),
            Self::Lease => include_str!("../scripts/lease.lua"),
            Self::Append => include_str!("../scripts/append.lua"),
            Self::Cut => include_str!("../scripts/cut.lua"),
        }
    }
}

/// What scripts call an algorithm.
pub(crate) const fn algorithm_code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::TokenBucket => 1,
        Algorithm::SlidingWindow => 2,
        Algorithm::SlidingCounter => 3,
    }
}

/// Bytes of a name after its namespace.
pub(crate) const KEY_NAME_BYTES: usize = 16 + ":{".len() + 32 + "}".len();

/// `<namespace><limit>:{<key>}`, all of which is `N` bytes.
pub(crate) fn key_name<const N: usize>(namespace: &str, limit: LimitTag, key: Key) -> [u8; N] {
    let mut name = [0; N];
    let (before, rest) = name.split_at_mut(namespace.len());
    before.copy_from_slice(namespace.as_bytes());
    let (limit_place, rest) = rest.split_at_mut(16);
    write_hex(limit_place, &limit.0.to_be_bytes());
    let (open, rest) = rest.split_at_mut(2);
    open.copy_from_slice(b":{");
    let (key_place, close) = rest.split_at_mut(32);
    write_hex(key_place, &key.0);
    close.copy_from_slice(b"}");
    name
}

/// Two digits for each byte, at the beginning of `place`.
fn write_hex(place: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (digits, byte) in place.chunks_exact_mut(2).zip(bytes) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_names_have_one_form() {
        let mut key = [0; 16];
        key[15] = 0xab;
        assert_eq!(
            key_name("tidegate:", LimitTag(0x1234), Key(key)),
            *b"tidegate:0000000000001234:{000000000000000000000000000000ab}"
        );
    }
}
