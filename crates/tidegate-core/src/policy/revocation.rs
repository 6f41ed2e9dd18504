//! Where a request's token is found, and what of it is checked for having been revoked.

use super::Matcher;
use crate::facts::WantId;
use crate::revoke::Kind;
use crate::time::Span;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The most places that a token is looked for in.
pub const SOURCES_MAX: usize = 8;

/// The most different claims that one policy may refer to: each name in a payload is held against
/// them one by one.
pub const CLAIMS_MAX: usize = 32;

/// The place of a claim's name in [`TokenFrom::claims`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimId(pub u8);

impl ClaimId {
    /// `iss`: who issued the token.
    pub const ISSUER: Self = Self(0);
    /// `jti`: the token's own id.
    pub const TOKEN_ID: Self = Self(1);
    /// `iat`: when it was issued.
    pub const ISSUED: Self = Self(2);
    /// `exp`: when it expires.
    pub const EXPIRES: Self = Self(3);
    /// The names of those that are always known, in order.
    pub const KNOWN: [&str; 4] = ["iss", "jti", "iat", "exp"];
}

/// Where a request's token is found, and which claims of it matter.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenFrom {
    /// The first of these that is there counts, and is the only one: a request with an unverified
    /// token in another of them as well has too many (RFC 6750 section 2).
    pub from: Vec<Source>,
    /// The names of claims that the policy refers to by [`ClaimId`]; those of
    /// [`ClaimId::KNOWN`] come first.
    pub claims: Vec<Box<str>>,
}

/// Where a token, or what it claims, is found.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// What the proxy's JWT filter has verified, in the request's metadata. It should take tokens
    /// from one place only: of several valid ones it notes one, and others may believe another.
    JwtAuthn {
        /// All of the metadata.
        metadata: WantId,
        /// Under which key it keeps the token's claims (its `payload_in_metadata`).
        payload: Box<str>,
        /// And the token's header (its `header_in_metadata`), which alone has `kid`.
        header: Option<Box<str>>,
        /// The header that it leaves the token itself in (its `forward`), which alone tells apart
        /// tokens without `jti`.
        forwarded: Option<Place>,
    },
    /// A header with the payload alone, base64url, that an earlier filter writes once it has
    /// verified the token, and that it strips when a client sends it.
    PayloadHeader(WantId),
    /// A signed token that nobody before us has verified.
    Bearer(Place),
    /// A token that tells nothing to those who have not issued it.
    Opaque(Place),
}

impl Source {
    /// Whether somebody has verified what is found there.
    pub const fn is_verified(&self) -> bool {
        matches!(self, Self::JwtAuthn { .. } | Self::PayloadHeader(_))
    }

    /// Where the client has written it, if it is the client's own writing.
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Bearer(place) | Self::Opaque(place) => Some(place),
            Self::JwtAuthn { .. } | Self::PayloadHeader(_) => None,
        }
    }
}

/// Where in a request a credential stands.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // of fields: each variant tells of its own
pub enum Place {
    /// A header, with or without the scheme `Bearer` or `DPoP`.
    Header(WantId),
    /// A cookie; it may be there once.
    Cookie { header: WantId, name: Box<str> },
}

/// What is checked for having been revoked.
#[derive(Clone, Debug, PartialEq)]
pub struct Revocation {
    /// Which requests it applies to.
    pub when: Matcher,
    /// Whether the token itself is checked: by `iss` and `jti`, or its hash, or keyed.
    pub token: bool,
    /// Whether the key that signed it is: by `iss` and `kid`.
    pub key: bool,
    /// Whether its issuer is.
    pub issuer: bool,
    /// What else is, by `iss` and a claim.
    pub by_claims: Vec<ByClaim>,
    /// The cookie that is a session by itself.
    pub session_cookie: Option<Place>,
    /// Whether a request without a token or session cookie is refused.
    pub needs_token: bool,
    /// Whether a token is refused that lacks `iss`, or what tells it from all others.
    pub needs_claims: bool,
    /// Whether requests pass that cannot be checked, and are not refused with 503.
    pub is_open: bool,
    /// After how long without news from the host each request is checked there.
    pub stale_after: Span,
    /// The most bytes that own copies of images may take in all workers of a process together; while
    /// newer ones are fetched, what changed is there twice.
    pub copies_bytes_max: u64,
}

/// A kind that is checked by `iss` and another claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByClaim {
    /// Which kind.
    pub kind: Kind,
    /// The claim: the first of these that the token has.
    pub claims: Vec<ClaimId>,
}
