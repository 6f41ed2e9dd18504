//! What can be revoked, named by 16 bytes that tell nothing of it.
//!
//! An id is a hash of a kind and of length-prefixed parts, so that no part can imitate another.
//! SHA-256 cut to 128 bits: proxies and hosts must agree on it and share no secret, and nobody
//! can make two ids collide. Where a part *is* a secret, as an opaque token is, the hash is
//! HMAC-SHA-256 (RFC 2104) under a key of the operator's: who reads the store cannot try
//! tokens against it.

use core::fmt;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// Kinds of what can be revoked, and the parts of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One token: `iss`, `jti` (RFC 7519 §4.1; RFC 9068 requires both).
    Token = 1,
    /// One token without `jti`: the SHA-256 of its `header.payload`. Never of its signature, which
    /// can be written in other ways and stays valid.
    TokenHash = 2,
    /// One token of no known structure, keyed.
    Opaque = 3,
    /// All tokens of a subject: `iss`, `sub`.
    Subject = 4,
    /// All tokens of a client: `iss`, `client_id` or `azp`.
    Client = 5,
    /// All tokens of a tenant: `iss`, and the claim that the policy names.
    Tenant = 6,
    /// All tokens of a session: `iss`, `sid` (OpenID Connect Back-Channel Logout §2.1).
    Session = 7,
    /// A session by its cookie's value, keyed.
    Cookie = 8,
    /// All tokens signed with a key: `iss`, `kid`.
    Key = 9,
    /// All tokens of an issuer: `iss`.
    Issuer = 10,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Token,
        Self::TokenHash,
        Self::Opaque,
        Self::Subject,
        Self::Client,
        Self::Tenant,
        Self::Session,
        Self::Cookie,
        Self::Key,
        Self::Issuer,
    ];

    /// The kind of a number; `None` if there is none.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether a request that shows one shows its end, too: the `exp` beside its id. Of all others
    /// a request cannot tell, so where an id is looked up must not depend on it.
    pub const fn shows_end(self) -> bool {
        matches!(self, Self::Token | Self::TokenHash)
    }

    /// As it is called outside: in the API, in exports, in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::TokenHash => "token_hash",
            Self::Opaque => "opaque",
            Self::Subject => "subject",
            Self::Client => "client",
            Self::Tenant => "tenant",
            Self::Session => "session",
            Self::Cookie => "cookie",
            Self::Key => "key",
            Self::Issuer => "issuer",
        }
    }
}

/// The name of something that can be revoked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 16]);

/// The key of ids whose parts are secret.
pub type IdKey = [u8; 32];

impl Id {
    /// The id of these parts, in the order that [`Kind`] says.
    pub fn of(kind: Kind, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        write(kind, parts, |bytes| hash.update(bytes));
        Self::cut(&hash.finalize())
    }

    /// The id of one secret part.
    pub fn keyed(kind: Kind, key: &IdKey, secret: &[u8]) -> Self {
        // A key of any length will do, so there is nothing that could fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Self([0; 16]) };
        write(kind, &[secret], |bytes| mac.update(bytes));
        Self::cut(&mac.finalize().into_bytes())
    }

    /// What filters know it by: half of it.
    pub fn short(&self) -> u64 {
        u64::from_le_bytes(crate::field::get(&self.0, 0))
    }

    fn cut(digest: &[u8]) -> Self {
        Self(crate::field::get(digest, 0))
    }
}

/// Calls `hash` with what an id is the hash of.
fn write(kind: Kind, parts: &[&[u8]], mut hash: impl FnMut(&[u8])) {
    hash(b"tidegate revocation 1\0");
    hash(&[kind as u8]);
    for part in parts {
        hash(&(part.len() as u32).to_le_bytes());
        hash(part);
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Id {
    /// 32 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
