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
//! `limit`, its `when` in `matcher`, its `key` in `key`; `token`, `plugins` and `revocation` in files
//! of their names.

mod key;
mod limit;
mod matcher;
mod plugin;
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
    Preflight, Scope, WANTS_MAX,
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
    "plugins",
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
    let mut resolver = Resolver::new();
    let read = resolver.policy(&Spot::root(document));
    let refused = read.is_none() || resolver.errors() > 0;
    let Resolver { policy, diagnostics, .. } = resolver;
    Resolved { policy: (!refused).then_some(policy), diagnostics }
}

/// What has been gathered so far.
///
/// The policy is filled in place: what cannot be read keeps its default, and no policy comes out
/// once an error was told. It takes a third less of a filter than values handed up and put
/// together would, each of which has to be dropped wherever something after it may fail.
struct Resolver {
    diagnostics: Vec<Diagnostic>,
    policy: Policy,
    /// Under which key the proxy's JWT filter keeps verified claims.
    jwt_payload_key: Box<str>,
    /// Whether the document says where tokens are, readably or not.
    has_token: bool,
    /// Whether there is something to do but for limits.
    revokes: bool,
    /// Whether what is read is decided before any plugin is asked.
    precedes_plugins: bool,
}

impl Reader for Resolver {
    fn diagnostics(&mut self) -> &mut Vec<Diagnostic> {
        &mut self.diagnostics
    }
}

/// Reads a value to where it belongs.
type Read = fn(&mut Resolver, &Spot<'_>) -> Option<()>;

impl Resolver {
    fn new() -> Self {
        let policy = Policy {
            domain: Box::default(),
            wants: Vec::new(),
            limits: Vec::new(),
            allow: Vec::new(),
            preflight: Preflight::Count,
            headers: HeaderFields { ratelimit: true, x_ratelimit: false, on_allow: false },
            token: None,
            plugins: Vec::new(),
            revocation: None,
            host: None,
            proxies_max: 1,
            table_keys_max: TABLE_KEYS_DEFAULT,
        };
        let (diagnostics, jwt_payload_key) = (Vec::new(), "payload".into());
        let (has_token, revokes, precedes_plugins) = (false, false, false);
        Self { diagnostics, policy, jwt_payload_key, has_token, revokes, precedes_plugins }
    }

    /// Reads a field if it is there.
    fn read(&mut self, spot: &Spot<'_>, name: &str, read: Read) {
        if let Some(at) = spot.field(name) {
            read(self, &at);
        }
    }

    /// How many errors were told.
    fn errors(&self) -> usize {
        reading::told(&self.diagnostics, Severity::Error)
    }

    /// Reads a field that may not be left out.
    fn read_required(&mut self, spot: &Spot<'_>, name: &str, wanted: &str, read: Read) {
        self.required(spot, name, wanted, read);
    }

    fn policy(&mut self, spot: &Spot<'_>) -> Option<()> {
        self.fields(spot, POLICY_FIELDS)?;
        self.read_required(spot, "tidegate", "1, this shape's version", Self::version);
        self.read_required(spot, "domain", "a name for the policy's budgets", |this, at| {
            this.policy.domain = this.name(at)?;
            Some(())
        });
        // Before the limits, whose claims are found by it.
        self.read(spot, "jwt_payload_key", |this, at| {
            this.jwt_payload_key = this.element(at)?;
            Some(())
        });
        // And these.
        self.has_token = spot.field("token").is_some();
        self.read(spot, "token", Self::token);
        self.read(spot, "plugins", Self::plugins);
        // And whose escrow is for so many.
        self.read(spot, "proxies_max", |this, at| {
            this.policy.proxies_max = this.whole(at, (1, PROXIES_MAX))?;
            Some(())
        });
        self.revokes = spot.field("revocation").is_some();
        if !self.revokes || spot.field("limits").is_some() {
            self.read_required(spot, "limits", "a list of limits", Self::limits);
        }
        self.read(spot, "allow", Self::allow);
        self.read(spot, "cors_preflight", Self::preflight);
        self.read(spot, "headers", Self::headers);
        self.read(spot, "revocation", Self::revocation);
        self.read(spot, "host", Self::host);
        self.read(spot, "table_keys_max", |this, at| {
            this.policy.table_keys_max = this.whole(at, TABLE_KEYS)?;
            Some(())
        });
        self.needs(spot);
        Some(())
    }

    /// Checks that what is there has what it needs.
    fn needs(&mut self, spot: &Spot<'_>) {
        let sessions = |at: Spot<'_>| at.field("session_cookie").is_some();
        if !self.has_token && !spot.field("revocation").is_none_or(sessions) {
            let wanted = format_args!("where tokens are found, or revocation.session_cookie");
            self.missing(spot, "token", wanted, Some(token::EXAMPLE.into()));
        }
        let global = self.policy.limits.iter().find(|limit| limit.scope != Scope::Local);
        let is_alone = !self.revokes && self.policy.plugins.is_empty();
        if global.is_none() && is_alone {
            self.policy.host = None;
        } else if spot.field("host").is_none() {
            let wanted = match global {
                Some(limit) => format!("the host's cluster: limit {} is global", limit.name),
                None if self.revokes => "the host's cluster: what is revoked is known there".into(),
                None => "the host's cluster: plugins run there".into(),
            };
            let hint = Some("host: { cluster: tidegate }".into());
            self.missing(spot, "host", format_args!("{wanted}"), hint);
        }
    }

    fn version(&mut self, spot: &Spot<'_>) -> Option<()> {
        if spot.node.value == crate::text::Value::Whole(VERSION) {
            return Some(());
        }
        self.wrong(spot, format_args!("{VERSION}, the only version of this shape"));
        None
    }

    fn limits(&mut self, spot: &Spot<'_>) -> Option<()> {
        let items = self.items(spot, LIMITS_MAX, "limits")?;
        if items.is_empty() && !self.revokes {
            self.doubt(spot, "an empty list", format_args!("at least one limit"), None);
        }
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
            self.limit(item);
        }
        let everywhere = |limit: &&Limit| limit.when == Matcher::All(Vec::new());
        let applied = self.policy.limits.iter().filter(everywhere).count();
        if applied > APPLIED_MAX {
            let found = format!("{applied} limits without `when`");
            let wanted = format_args!("at most {APPLIED_MAX} that apply to one request");
            self.wrong_found(spot, &found, wanted, None);
        }
        Some(())
    }

    fn allow(&mut self, spot: &Spot<'_>) -> Option<()> {
        self.policy.allow = self.networks(spot)?;
        if !self.policy.allow.is_empty() {
            self.want(spot, Want::ClientAddress)?;
        }
        Some(())
    }

    /// Networks, or one of them.
    fn networks(&mut self, spot: &Spot<'_>) -> Option<Vec<Cidr>> {
        let items = self.one_or_more(spot, PATTERNS_MAX, "networks")?;
        self.every(&items, Self::network)
    }

    fn preflight(&mut self, spot: &Spot<'_>) -> Option<()> {
        if self.choice(spot, &[("count", false), ("bypass", true)])? {
            let mut header = |name: &str| self.want(spot, Want::Header(name.into()));
            self.policy.preflight = Preflight::Bypass {
                method: header(":method")?,
                origin: header("origin")?,
                requested: header("access-control-request-method")?,
            };
        }
        Some(())
    }

    fn headers(&mut self, spot: &Spot<'_>) -> Option<()> {
        self.fields(spot, &["ratelimit", "x_ratelimit", "send"])?;
        self.read(spot, "ratelimit", |this, at| {
            this.policy.headers.ratelimit = this.flag(at)?;
            Some(())
        });
        self.read(spot, "x_ratelimit", |this, at| {
            this.policy.headers.x_ratelimit = this.flag(at)?;
            Some(())
        });
        self.read(spot, "send", |this, at| {
            const SEND: &[(&str, bool)] = &[("denied", false), ("always", true)];
            this.policy.headers.on_allow = this.choice(at, SEND)?;
            Some(())
        });
        Some(())
    }

    fn host(&mut self, spot: &Spot<'_>) -> Option<()> {
        self.fields(spot, &["cluster", "authority", "deadline", "breaker"])?;
        let cluster =
            self.required(spot, "cluster", "the proxy's name of the host's cluster", Self::element);
        let cluster = cluster.unwrap_or_default();
        let (deadline, breaker) = (DEADLINE_DEFAULT, BREAKER_DEFAULT);
        self.policy.host = Some(Host { authority: cluster.clone(), cluster, deadline, breaker });
        self.read(spot, "authority", |this, at| {
            this.policy.host.as_mut()?.authority = this.authority(at)?;
            Some(())
        });
        self.read(spot, "deadline", |this, at| {
            this.policy.host.as_mut()?.deadline = this.duration(at, DEADLINE)?;
            Some(())
        });
        self.read(spot, "breaker", |this, at| {
            this.policy.host.as_mut()?.breaker = this.duration(at, BREAKER)?;
            Some(())
        });
        Some(())
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
        let index = self.policy.wants.iter().position(|known| *known == want);
        let index = index.unwrap_or(self.policy.wants.len());
        if index == self.policy.wants.len() {
            if index >= WANTS_MAX {
                let wanted = format_args!("at most {WANTS_MAX} in one policy");
                self.wrong_found(spot, "one more header or property", wanted, None);
                return None;
            }
            self.policy.wants.push(want);
        }
        u16::try_from(index).ok().map(WantId)
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
