//! What the operator meant: a policy that cannot hold nonsense.
//!
//! The crate `tidegate-policy` makes it of a document that somebody typed.

mod plugin;
mod revocation;

use crate::facts::{Want, WantId};
use crate::limit::Quota;
use crate::time::Span;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use plugin::{Output, Plugin};
pub use revocation::{
    ByClaim, CLAIMS_MAX, ClaimId, Place, Revocation, SOURCES_MAX, Source, TokenFrom,
};

/// The most limits that one policy may hold.
pub const LIMITS_MAX: usize = 256;

/// The most limits that may apply to one request; rules beyond it are refused when
/// the policy is read if they could all apply at once, and checked again per request.
pub const APPLIED_MAX: usize = 16;

/// The longest name of a limit or domain, in bytes. Names are `[a-z0-9_-]`, so they
/// can stand in headers, metrics and logs without escaping.
pub const NAME_BYTES_MAX: usize = 64;

/// The most different facts that one policy may refer to: a shell keeps a place for each
/// of them for every request in flight.
pub const WANTS_MAX: usize = 64;

/// The most parts in one key.
pub const KEY_PARTS_MAX: usize = 8;

/// The most overrides in one limit; they are tried one after the other.
pub const OVERRIDES_MAX: usize = 1024;

/// The most patterns or networks in one list; they are tried one after the other.
pub const PATTERNS_MAX: usize = 1024;

/// The longest name, value or pattern, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// A whole policy, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The name under which all its keys live; two policies with one domain share budgets.
    pub domain: Box<str>,
    /// The facts that its rules refer to by [`WantId`].
    pub wants: Vec<Want>,
    /// The limits, in the order written.
    pub limits: Vec<Limit>,
    /// Clients that no limit applies to. If there are any, `wants` holds
    /// [`Want::ClientAddress`].
    pub allow: Vec<Cidr>,
    /// Whether CORS preflight requests (`OPTIONS` with `Origin` and
    /// `Access-Control-Request-Method`) pass without being counted. What shows a token or session
    /// cookie is looked at for having been revoked all the same.
    pub preflight: Preflight,
    /// Which response fields tell clients of their standing.
    pub headers: HeaderFields,
    /// Where a request's token is found; `None` if nothing depends on one.
    pub token: Option<TokenFrom>,
    /// The plugins that rules refer to by [`Want::Output`].
    pub plugins: Vec<Plugin>,
    /// Which tokens and sessions are checked for having been revoked; `None`: none is.
    pub revocation: Option<Revocation>,
    /// How the host service is reached; `None` if no limit is global, nothing can be
    /// revoked, and there are no plugins.
    pub host: Option<Host>,
    /// An upper bound on the proxies that enforce this policy at once: before the host
    /// has told a proxy its share of demand, `local_share` takes one part in so many.
    pub proxies_max: u32,
    /// Keys that the proxy-wide table can hold for local limits.
    pub table_keys_max: u32,
}

impl Policy {
    /// The fact that an id of this policy stands for.
    pub fn want(&self, id: WantId) -> Option<&Want> {
        self.wants.get(usize::from(id.0))
    }
}

/// One named rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Its name, unique in the policy.
    pub name: Box<str>,
    /// Which requests it applies to.
    pub when: Matcher,
    /// Whose budget a request draws on.
    pub key: Vec<KeyPart>,
    /// What it means if a part of the key is absent from a request.
    pub missing: Missing,
    /// How much, how fast, and counted how. `None`: unlimited (only overrides limit).
    pub quota: Option<Quota>,
    /// Other quotas for particular key values; the first that matches holds.
    pub overrides: Vec<Override>,
    /// Where the budget is kept.
    pub scope: Scope,
    /// For [`Scope::Global`]: what happens while the shared truth is out of reach.
    pub on_error: OnError,
    /// How many units one request takes.
    pub cost: Cost,
    /// Count and report, but never refuse.
    pub shadow: bool,
}

/// A part of a key: where its bytes come from.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // of fields: each variant tells of its own
pub enum KeyPart {
    /// The trusted client address, cut to a prefix: /32 and /64 unless said otherwise.
    ClientIp { address: WantId, v4_bits: u8, v6_bits: u8 },
    /// A header's value, byte for byte.
    Header(WantId),
    /// A cookie's value.
    Cookie { header: WantId, name: Box<str> },
    /// The first value of a query parameter, percent-decoded.
    Query { path: WantId, name: Box<str> },
    /// The path without its query.
    Path(WantId),
    /// The method.
    Method(WantId),
    /// The host, lower-cased, without its port.
    Host(WantId),
    /// The route's name, a claim, other metadata or a plugin's output: bytes as they are given.
    Property(WantId),
    /// These bytes.
    Const(Box<str>),
}

/// What an absent key part means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// All requests without it share one budget. The default: leaving a header out
    /// must not be a way around a limit.
    Shared,
    /// The limit does not apply.
    Skip,
}

/// A quota for particular key values.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// One for each part of the key, in its order; `None` matches anything.
    pub values: Vec<Option<KeyValue>>,
    /// The quota instead; `None` is unlimited.
    pub quota: Option<Quota>,
}

/// A particular value of a part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyValue {
    /// These bytes.
    Is(Box<str>),
    /// For [`KeyPart::ClientIp`]: any address in this network. Each such client, cut to
    /// the key's own prefix, still has a budget of its own.
    In(Cidr),
}

/// Where a budget is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In this proxy process, across its workers.
    Local,
    /// In the store, across the fleet.
    Global {
        /// Whether the store is asked for each request; otherwise units are leased ahead.
        exact: bool,
        /// Whether the first request of a key that a proxy holds nothing of is let through at
        /// once, on units that are kept back for this.
        escrow: bool,
    },
}

/// What a global limit does while its store is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Enforce this proxy's share of the limit, locally; what it lets through is charged once
    /// the store is back.
    LocalShare,
    /// Let requests pass.
    Open,
    /// Refuse requests with 503.
    Closed,
}

/// How many units one request takes from a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // of fields: each variant tells of its own
pub enum Cost {
    /// Always this many.
    Const(u32),
    /// As a header, or a plugin's output, says: a decimal number, `default` if absent or unreadable, at most
    /// `max`. Zero is allowed and charges nothing.
    Header { header: WantId, default: u32, max: u32 },
}

/// Which requests a limit applies to.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // of fields: each variant tells of its own
pub enum Matcher {
    /// Every inner matcher matches; `All([])` matches every request.
    All(Vec<Matcher>),
    /// At least one inner matcher matches.
    Any(Vec<Matcher>),
    /// The inner matcher does not match.
    Not(Box<Matcher>),
    /// The subject is there and one of the patterns matches it.
    Test { subject: Subject, patterns: Vec<Pattern> },
    /// The subject is there at all (`true`), or is not (`false`).
    Present { subject: Subject, present: bool },
    /// The trusted client address lies in one of these networks.
    ClientIn { address: WantId, networks: Vec<Cidr> },
}

/// What a matcher looks at.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // of fields: each variant tells of its own
pub enum Subject {
    /// The path without its query.
    Path(WantId),
    /// The method.
    Method(WantId),
    /// The host, lower-cased, without its port.
    Host(WantId),
    /// A header's value.
    Header(WantId),
    /// A cookie's value.
    Cookie { header: WantId, name: Box<str> },
    /// The first value of a query parameter, percent-decoded.
    Query { path: WantId, name: Box<str> },
    /// The route's name, a verified claim or other metadata.
    Property(WantId),
}

/// How a subject's bytes are compared. Written as text with `*` for any run of bytes
/// (none, and `/`, included).
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// No `*`: equal bytes.
    Exact(Box<str>),
    /// One `*`, at the end.
    Prefix(Box<str>),
    /// One `*`, at the start.
    Suffix(Box<str>),
    /// Any other: the literal pieces between the stars, in order; first and last
    /// are anchored (and may be empty).
    Glob(Vec<Box<str>>),
}

/// A network, as `10.0.0.0/8` or `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Its first address.
    pub network: IpAddr,
    /// How many leading bits count.
    pub bits: u8,
}

impl Cidr {
    /// The network of `bits` leading bits that `address` lies in. More bits than the
    /// address has are as good as all of them.
    pub fn holding(address: IpAddr, bits: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let bits = bits.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { network: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(v6) => {
                let bits = bits.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { network: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), bits }
            }
        }
    }

    /// Whether `address` lies in it. IPv4 and IPv6 never lie in each other; a shell that
    /// meets `::ffff:192.0.2.1` makes IPv4 of it first.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4() && Self::holding(address, self.bits) == *self
    }
}

impl fmt::Display for Cidr {
    /// As a policy writes it: `10.0.0.0/8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// What to do with CORS preflight requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// Count them as any other request.
    Count,
    /// Let them pass uncounted. Costs nothing for methods other than `OPTIONS`.
    Bypass {
        /// `:method`
        method: WantId,
        /// `origin`
        origin: WantId,
        /// `access-control-request-method`
        requested: WantId,
    },
}

/// Which response fields tell clients of their standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFields {
    /// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11).
    pub ratelimit: bool,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset` (delta seconds).
    pub x_ratelimit: bool,
    /// Also on responses that were let through, not only on refusals. Needs the build of
    /// the filter that looks at responses.
    pub on_allow: bool,
}

/// How the host service is reached from a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The proxy's name of the upstream cluster.
    pub cluster: Box<str>,
    /// The `:authority` of callouts.
    pub authority: Box<str>,
    /// How long a request may wait for an answer. Default 20 ms.
    pub deadline: Span,
    /// After a failure, how long nobody asks before one probe does. Default 1 s.
    pub breaker: Span,
}
