//! Whose budget: a request's facts, by a limit's recipe, become a 128-bit key.
//!
//! Every part is written length-prefixed under a tag, so no value can imitate
//! another part or another number of parts, and the whole is hashed, so no byte that
//! a client sent reaches a store's key, a log or a metric.
//!
//! Local keys use SipHash-1-3 under a secret seed that each process draws for itself:
//! nobody outside can make two keys collide. Global keys must agree between proxies
//! that share no secret, so they use SHA-256, cut to 128 bits, whose collisions nobody
//! can make either. It costs about 1 µs more, the first time: a worker finds those of lately
//! ([`KnownKeys`]) by the quick hash.

use crate::ask::LimitTag;
use crate::client;
use crate::facts::Facts;
use crate::field;
use crate::policy::{KeyPart, KeyValue, Limit, Missing, Policy};
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hasher as _;
use sha2::Digest as _;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// A key: already hashed, of fixed size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 16]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Hashes the keys of one limit; its domain and name are hashed in beforehand.
#[derive(Clone)]
pub enum KeyHasher {
    /// Under the process's seed.
    Local(SipHasher13),
    /// The same in every proxy.
    Global(sha2::Sha256),
}

impl KeyHasher {
    /// For a budget kept in this process; `seed` is secret and the same in all its workers.
    pub fn local(seed: &[u8; 16], domain: &str, limit: &str) -> Self {
        let mut hasher = SipHasher13::new_with_key(seed);
        write_named(domain, limit, |bytes| hasher.write(bytes));
        Self::Local(hasher)
    }

    /// For a budget kept in the store.
    pub fn global(domain: &str, limit: &str) -> Self {
        let mut hasher = sha2::Sha256::new();
        write_named(domain, limit, |bytes| hasher.update(bytes));
        Self::Global(hasher)
    }

    /// The key of these encoded parts.
    pub fn key(&self, parts: &Parts) -> Key {
        match self {
            Self::Local(hasher) => {
                let mut hasher = *hasher;
                hasher.write(&parts.bytes);
                Key(hasher.finish128().as_bytes())
            }
            Self::Global(hasher) => {
                let digest = hasher.clone().chain_update(&parts.bytes).finalize();
                let mut key = [0; 16];
                key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
                Key(key)
            }
        }
    }
}

/// The global keys that a worker has hashed lately, by what the quick hash makes of the same parts
/// under its process's secret seed: 4,096 of them in 128 KiB, the last to come to each place.
#[derive(Default)]
pub struct KnownKeys(Vec<(Key, Key)>);

impl KnownKeys {
    /// The key that goes with `quick`, or else the one that is made now.
    pub fn key(&mut self, quick: Key, make: impl FnOnce() -> Key) -> Key {
        const PLACES: usize = 4_096;
        const NONE: Key = Key([0; 16]);
        self.0.resize(PLACES, (NONE, NONE));
        let number = usize::from(u16::from_le_bytes(field::get(&quick.0, 0))) % PLACES;
        let Some(place) = self.0.get_mut(number) else { return make() };
        if place.0 != quick || quick == NONE {
            *place = (quick, make());
        }
        place.1
    }
}

/// What a store calls a limit: a hash of its domain and name.
pub fn tag(domain: &str, limit: &str) -> LimitTag {
    let mut hasher = sha2::Sha256::new();
    write_named(domain, limit, |bytes| hasher.update(bytes));
    let mut tag = [0; 8];
    tag.iter_mut().zip(hasher.finalize()).for_each(|(to, from)| *to = from);
    LimitTag(u64::from_le_bytes(tag))
}

fn write_named(domain: &str, limit: &str, mut write: impl FnMut(&[u8])) {
    for name in [domain, limit] {
        write(&(name.len() as u32).to_le_bytes());
        write(name.as_bytes());
    }
}

/// The parts of one key, encoded; reused from request to request.
#[derive(Default)]
pub struct Parts {
    /// For each part: a tag byte, a `u32` length, the bytes.
    bytes: Vec<u8>,
}

/// Bytes before a part's value: its tag and its length.
const PREFIX_BYTES: usize = 5;

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

impl Parts {
    /// Derives a limit's key parts from a request's facts.
    ///
    /// Returns `false` if a part is absent and the limit is then skipped.
    pub fn derive(&mut self, policy: &Policy, limit: &Limit, facts: &mut dyn Facts) -> bool {
        self.bytes.clear();
        for part in &limit.key {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&[ABSENT; PREFIX_BYTES]);
            let present = write_part(part, policy, facts, &mut self.bytes);
            if !present {
                self.bytes.truncate(start + PREFIX_BYTES);
                if limit.missing == Missing::Skip {
                    return false;
                }
                continue;
            }
            let len = (self.bytes.len() - start - PREFIX_BYTES) as u32;
            if let Some(prefix) = self.bytes.get_mut(start..start + PREFIX_BYTES)
                && let [tag, length @ ..] = prefix
            {
                *tag = PRESENT;
                length.copy_from_slice(&len.to_le_bytes());
            }
        }
        true
    }

    /// Each part's value, in order; `None` where it was absent.
    pub fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = self.bytes.as_slice();
        core::iter::from_fn(move || {
            let (prefix, after) = rest.split_first_chunk::<PREFIX_BYTES>()?;
            let [tag, a, b, c, d] = *prefix;
            let (value, after) =
                after.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize)?;
            rest = after;
            Some((tag == PRESENT).then_some(value))
        })
    }
}

/// Appends a part's value; `false` if the request does not have it.
fn write_part(part: &KeyPart, policy: &Policy, facts: &mut dyn Facts, to: &mut Vec<u8>) -> bool {
    let id = match part {
        KeyPart::ClientIp { address: id, .. } | KeyPart::Query { path: id, .. } => *id,
        KeyPart::Cookie { header: id, .. } | KeyPart::Header(id) | KeyPart::Path(id) => *id,
        KeyPart::Method(id) | KeyPart::Host(id) | KeyPart::Property(id) => *id,
        KeyPart::Const(text) => {
            to.extend_from_slice(text.as_bytes());
            return true;
        }
    };
    let Some(fact) = policy.want(id).and_then(|want| facts.read(id, want)) else { return false };
    match part {
        KeyPart::ClientIp { v4_bits, v6_bits, .. } => {
            let address = client::address(fact);
            address.map(|ip| client::write_prefix(ip, *v4_bits, *v6_bits, to)).is_some()
        }
        KeyPart::Query { name, .. } => client::query(fact, name, to),
        KeyPart::Cookie { name, .. } => {
            client::cookie(fact, name).map(|value| to.extend_from_slice(value)).is_some()
        }
        KeyPart::Host(_) => {
            to.extend(client::host(fact).iter().map(u8::to_ascii_lowercase));
            true
        }
        KeyPart::Path(_) => {
            to.extend_from_slice(client::path(fact));
            true
        }
        _ => {
            to.extend_from_slice(fact);
            true
        }
    }
}

/// Whether an override's value names this part's.
pub fn names(expected: &KeyValue, value: &[u8]) -> bool {
    match expected {
        KeyValue::Is(text) => text.as_bytes() == value,
        KeyValue::In(network) => client::prefix(value).is_some_and(|ip| network.contains(ip)),
    }
}
