//! From the document as typed to the policy as meant, with everything that is wrong on
//! the way told at once.
//!
//! ```yaml
//! tidegate: 1
//! domain: shop
//! limits:
//!   - name: login
//!     when: { path: /login, method: POST }
//!     key: [client_ip]
//!     rate: 5/1m
//! ```
//!
//! Every reader here returns `None` after it has told an error, and goes on wherever
//! going on can find more; a [`Policy`] comes out only if no error was told. Each field's
//! spelling stands beside the code that reads it: the whole in this file, one limit in
//! `limit`, its `when` in `matcher`, its `key` in `key`; `token` and `revocation` in files of
//! their names.

mod key;
mod limit;
mod matcher;
mod revocation;
mod token;

use crate::diagnostic::{Diagnostic, Severity};
use crate::reading::{self, Reader, Spot};
use crate::text::Document;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use tidegate_core::facts::{Want, WantId};
use tidegate_core::policy::{
    APPLIED_MAX, Cidr, HeaderFields, Host, LIMITS_MAX, Limit, Matcher, PATTERNS_MAX, Policy,
    Preflight, Scope, TokenFrom, WANTS_MAX,
};
use tidegate_core::time::Span;

/// The version of the document's shape that is read here.
const VERSION: i64 = 1;

/// The fewest and most keys of the proxy-wide table: 8 KiB of state is too little to tell
/// abusers apart under a flood, and a million keys is 100 MB.
const TABLE_KEYS: (u32, u32) = (1_024, 1 << 20);

/// Enough for most sites, in about 6 MiB.
const TABLE_KEYS_DEFAULT: u32 = 65_536;

/// The most proxies that may enforce one policy.
const PROXIES_MAX: u32 = 100_000;

/// How long a request may wait for the host: a client notices more than this.
const DEADLINE: (Span, Span) = (Span::from_millis(1), Span::from_secs(4));
const DEADLINE_DEFAULT: Span = Span::from_millis(20);

/// How long nobody asks a host that failed.
const BREAKER: (Span, Span) = (Span::from_millis(10), Span::from_secs(300));
const BREAKER_DEFAULT: Span = Span::from_secs(1);

const POLICY_FIELDS: &[&str] = &[
    "tidegate",
    "domain",
    "limits",
    "allow",
    "cors_preflight",
    "headers",
    "host",
    "token",
    "revocation",
    "jwt_payload_key",
    "proxies_max",
    "table_keys_max",
];

/// What became of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The policy, unless there were errors.
    pub policy: Option<Policy>,
    /// Errors and warnings, in the order in which they were noticed. At most
    /// [`DIAGNOSTICS_MAX`](crate::diagnostic::DIAGNOSTICS_MAX) of each severity.
    pub diagnostics: Vec<Diagnostic>,
}

/// Makes of a document what its author meant.
pub fn resolve(document: &Document) -> Resolved {
    let mut resolver = Resolver::default();
    let policy = resolver.policy(&Spot::root(document));
    let refused = reading::told(&resolver.diagnostics, Severity::Error) > 0;
    Resolved { policy: policy.filter(|_| !refused), diagnostics: resolver.diagnostics }
}

/// What has been gathered so far.
#[derive(Default)]
struct Resolver {
    diagnostics: Vec<Diagnostic>,
    wants: Vec<Want>,
    /// Under which key the proxy's JWT filter keeps verified claims.
    jwt_payload_key: Box<str>,
    /// Where tokens are found, and which of their claims were referred to so far.
    token: Option<TokenFrom>,
    /// Whether the document says where, readably or not.
    has_token: bool,
    /// Whether there is something to do but for limits.
    revokes: bool,
    /// Of how many proxies the fleet is at most.
    proxies_max: u32,
}

impl Reader for Resolver {
    fn diagnostics(&mut self) -> &mut Vec<Diagnostic> {
        &mut self.diagnostics
    }
}

impl Resolver {
    fn policy(&mut self, spot: &Spot<'_>) -> Option<Policy> {
        self.fields(spot, POLICY_FIELDS)?;
        let version = self.required(spot, "tidegate", "1, this shape's version", Self::version);
        let domain = self.required(spot, "domain", "a name for the policy's budgets", Self::name);
        // Before the limits, whose claims are found by it.
        let payload_key = self.optional(spot, "jwt_payload_key", "payload".into(), Self::element);
        self.jwt_payload_key = payload_key.unwrap_or_default();
        // And these.
        self.has_token = spot.field("token").is_some();
        let token = self.optional(spot, "token", None, |this, at| Some(Some(this.token(at)?)));
        self.token = token.flatten();
        // And whose escrow is for so many.
        let proxies_max =
            self.optional(spot, "proxies_max", 1, |this, at| this.whole(at, (1, PROXIES_MAX)));
        self.proxies_max = proxies_max.unwrap_or(1);
        self.revokes = spot.field("revocation").is_some();
        let limits = match spot.field("limits") {
            None if self.revokes => Some(Vec::new()),
            _ => self.required(spot, "limits", "a list of limits", Self::limits),
        };
        let allow = self.optional(spot, "allow", Vec::new(), Self::allow);
        let preflight = self.optional(spot, "cors_preflight", Preflight::Count, Self::preflight);
        let headers = self.optional(spot, "headers", HEADERS_DEFAULT, Self::headers);
        let revocation =
            self.optional(spot, "revocation", None, |this, at| Some(Some(this.revocation(at)?)));
        let is_found = self.has_token
            || spot.field("revocation").is_none_or(|at| at.field("session_cookie").is_some());
        if !is_found {
            let wanted = format_args!("where tokens are found, or revocation.session_cookie");
            self.missing(spot, "token", wanted, Some(token::EXAMPLE.into()));
        }
        let host = self.optional(spot, "host", None, |this, at| Some(Some(this.host(at)?)));
        let table_keys_max =
            self.optional(spot, "table_keys_max", TABLE_KEYS_DEFAULT, |this, at| {
                this.whole(at, TABLE_KEYS)
            });
        version?;
        let (limits, mut host) = (limits?, host?);
        let global = limits.iter().find(|limit| limit.scope != Scope::Local);
        let needs_it = match global {
            Some(limit) => format!("limit {} is global", limit.name),
            None => "what is revoked is known there".into(),
        };
        if global.is_none() && !self.revokes {
            host = None;
        } else if host.is_none() {
            let wanted = format_args!("the host's cluster: {needs_it}");
            self.missing(spot, "host", wanted, Some("host: { cluster: tidegate }".into()));
        }
        Some(Policy {
            domain: domain?,
            wants: core::mem::take(&mut self.wants),
            limits,
            allow: allow?,
            preflight: preflight?,
            headers: headers?,
            token: self.token.take(),
            revocation: revocation?,
            host,
            proxies_max: proxies_max?,
            table_keys_max: table_keys_max?,
        })
    }

    fn version(&mut self, spot: &Spot<'_>) -> Option<()> {
        if spot.node.value == crate::text::Value::Whole(VERSION) {
            return Some(());
        }
        self.wrong(spot, format_args!("{VERSION}, the only version of this shape"));
        None
    }

    fn limits(&mut self, spot: &Spot<'_>) -> Option<Vec<Limit>> {
        let items = self.items(spot, LIMITS_MAX, "limits")?;
        if items.is_empty() && !self.revokes {
            self.doubt(spot, "an empty list", format_args!("at least one limit"), None);
        }
        let mut limits = Vec::new();
        let mut named: Vec<(&str, usize)> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if let Some(name) = item.field("name")
                && let Some(text) = name.text()
            {
                match named.iter().find(|(other, _)| *other == text) {
                    None => named.push((text, index)),
                    Some((_, first)) => self.wrong(
                        &name,
                        format_args!("a name of its own: limits[{first}] has this one"),
                    ),
                }
            }
            limits.extend(self.limit(item));
        }
        let everywhere = |limit: &&Limit| limit.when == Matcher::All(Vec::new());
        let applied = limits.iter().filter(everywhere).count();
        if applied > APPLIED_MAX {
            let found = format!("{applied} limits without `when`");
            let wanted = format_args!("at most {APPLIED_MAX} that apply to one request");
            self.wrong_found(spot, &found, wanted, None);
        }
        Some(limits)
    }

    fn allow(&mut self, spot: &Spot<'_>) -> Option<Vec<Cidr>> {
        let networks = self.networks(spot)?;
        if !networks.is_empty() {
            self.want(spot, Want::ClientAddress)?;
        }
        Some(networks)
    }

    /// Networks, or one of them.
    fn networks(&mut self, spot: &Spot<'_>) -> Option<Vec<Cidr>> {
        let items = self.one_or_more(spot, PATTERNS_MAX, "networks")?;
        self.every(&items, Self::network)
    }

    fn preflight(&mut self, spot: &Spot<'_>) -> Option<Preflight> {
        if !self.choice(spot, &[("count", false), ("bypass", true)])? {
            return Some(Preflight::Count);
        }
        let mut header = |name: &str| self.want(spot, Want::Header(name.into()));
        Some(Preflight::Bypass {
            method: header(":method")?,
            origin: header("origin")?,
            requested: header("access-control-request-method")?,
        })
    }

    fn headers(&mut self, spot: &Spot<'_>) -> Option<HeaderFields> {
        const SEND: &[(&str, bool)] = &[("denied", false), ("always", true)];
        let HeaderFields { ratelimit, x_ratelimit, on_allow } = HEADERS_DEFAULT;
        self.fields(spot, &["ratelimit", "x_ratelimit", "send"])?;
        let ratelimit = self.optional(spot, "ratelimit", ratelimit, Self::flag);
        let x_ratelimit = self.optional(spot, "x_ratelimit", x_ratelimit, Self::flag);
        let on_allow = self.optional(spot, "send", on_allow, |this, at| this.choice(at, SEND));
        Some(HeaderFields { ratelimit: ratelimit?, x_ratelimit: x_ratelimit?, on_allow: on_allow? })
    }

    fn host(&mut self, spot: &Spot<'_>) -> Option<Host> {
        self.fields(spot, &["cluster", "authority", "deadline", "breaker"])?;
        let cluster =
            self.required(spot, "cluster", "the proxy's name of the host's cluster", Self::element);
        let authority =
            self.optional(spot, "authority", None, |this, at| this.authority(at).map(Some));
        let deadline = self
            .optional(spot, "deadline", DEADLINE_DEFAULT, |this, at| this.duration(at, DEADLINE));
        let breaker =
            self.optional(spot, "breaker", BREAKER_DEFAULT, |this, at| this.duration(at, BREAKER));
        let cluster = cluster?;
        let authority = authority?.unwrap_or_else(|| cluster.clone());
        Some(Host { cluster, authority, deadline: deadline?, breaker: breaker? })
    }

    fn authority(&mut self, spot: &Spot<'_>) -> Option<Box<str>> {
        let text = self.element(spot)?;
        // What stands in `:authority` may not end it and start something else.
        if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)) {
            return Some(text);
        }
        self.wrong(spot, format_args!("a host name, with or without a port"));
        None
    }

    /// The place of a want in the policy's list; the same want has one place.
    fn want(&mut self, spot: &Spot<'_>, want: Want) -> Option<WantId> {
        let index = self.wants.iter().position(|known| *known == want);
        let index = index.unwrap_or(self.wants.len());
        if index == self.wants.len() {
            if index >= WANTS_MAX {
                let wanted = format_args!("at most {WANTS_MAX} in one policy");
                self.wrong_found(spot, "one more header or property", wanted, None);
                return None;
            }
            self.wants.push(want);
        }
        u16::try_from(index).ok().map(WantId)
    }
}

const HEADERS_DEFAULT: HeaderFields =
    HeaderFields { ratelimit: true, x_ratelimit: false, on_allow: false };

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
