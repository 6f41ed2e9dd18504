//! `revocation`: what is checked for having been revoked.
//!
//! ```yaml
//! revocation:
//!   check: [token, subject, client, tenant, session, key, issuer]   # all that tokens can tell
//!   claims: { client: azp, tenant: tid, session: sid }   # client_id or else azp; none; sid
//!   session_cookie: sid          # none
//!   no_token: allow              # or refuse: a request with neither token nor session cookie
//!   missing: refuse              # or allow: a token without iss, or neither jti nor itself there
//!   on_error: closed             # or open: what cannot be checked
//!   stale_after: 5s              # without news for so long, each request is checked at the host
//!   copies_mib: 64               # memory that workers' own copies of images may take in a process,
//!                                # and for moments, while newer ones come, as much again;
//!                                # beyond it all share one copy, and with 0 they always do
//!   when: { path: /api/* }
//! ```

use super::Resolver;
use crate::diagnostic::found;
use crate::reading::{Reader, Spot};
use alloc::vec::Vec;
use tidegate_core::policy::{ByClaim, Matcher, Revocation, Source};
use tidegate_core::revoke::Kind;
use tidegate_core::revoke::images::COPIES_BYTES_DEFAULT;
use tidegate_core::time::Span;

const FIELDS: &[&str] = &[
    "check",
    "claims",
    "session_cookie",
    "no_token",
    "missing",
    "on_error",
    "stale_after",
    "copies_mib",
    "when",
];

/// What can be checked, by the words for it.
const CHECKS: &[(&str, Kind)] = &[
    ("token", Kind::Token),
    ("subject", Kind::Subject),
    ("client", Kind::Client),
    ("tenant", Kind::Tenant),
    ("session", Kind::Session),
    ("key", Kind::Key),
    ("issuer", Kind::Issuer),
];

/// Of those that go by a claim, which it is unless said otherwise.
const CLAIMS: &[(Kind, &[&str])] = &[
    (Kind::Subject, &["sub"]),
    (Kind::Client, &["client_id", "azp"]),
    (Kind::Tenant, &[]),
    (Kind::Session, &["sid"]),
];

const REFUSE: &[(&str, bool)] = &[("allow", false), ("refuse", true)];

const OPEN: &[(&str, bool)] = &[("closed", false), ("open", true)];

/// Less than a few polls of the host would be stale by chance; more than an hour is no bound.
const STALE_AFTER: (Span, Span) = (Span::from_millis(500), Span::from_secs(3_600));
const STALE_AFTER_DEFAULT: Span = Span::from_secs(5);

/// The memory of a VM ends at 4 GiB.
const COPIES_MIB: (u32, u32) = (0, 4_096);

impl Resolver {
    pub(super) fn revocation(&mut self, spot: &Spot<'_>) -> Option<()> {
        self.fields(spot, FIELDS)?;
        self.policy.revocation = Some(Revocation {
            when: Matcher::All(Vec::new()),
            token: false,
            key: false,
            issuer: false,
            by_claims: Vec::new(),
            session_cookie: None,
            needs_token: false,
            needs_claims: true,
            is_open: false,
            stale_after: STALE_AFTER_DEFAULT,
            copies_bytes_max: COPIES_BYTES_DEFAULT,
        });
        self.read(spot, "when", |this, at| {
            this.precedes_plugins = true;
            let when = this.matcher(at);
            this.precedes_plugins = false;
            this.policy.revocation.as_mut()?.when = when?;
            Some(())
        });
        self.read(spot, "session_cookie", |this, at| {
            this.policy.revocation.as_mut()?.session_cookie = Some(this.cookie_place(at)?);
            Some(())
        });
        self.read(spot, "no_token", |this, at| {
            this.policy.revocation.as_mut()?.needs_token = this.choice(at, REFUSE)?;
            Some(())
        });
        self.read(spot, "missing", |this, at| {
            this.policy.revocation.as_mut()?.needs_claims = this.choice(at, REFUSE)?;
            Some(())
        });
        self.read(spot, "on_error", |this, at| {
            this.policy.revocation.as_mut()?.is_open = this.choice(at, OPEN)?;
            Some(())
        });
        self.read(spot, "stale_after", |this, at| {
            this.policy.revocation.as_mut()?.stale_after = this.duration(at, STALE_AFTER)?;
            Some(())
        });
        self.read(spot, "copies_mib", |this, at| {
            let bytes = u64::from(this.whole(at, COPIES_MIB)?) << 20;
            this.policy.revocation.as_mut()?.copies_bytes_max = bytes;
            Some(())
        });
        self.by_claims(spot)?;
        self.checks(spot)
    }

    /// Which claims stand for what.
    fn by_claims(&mut self, spot: &Spot<'_>) -> Option<()> {
        let claims = spot.field("claims");
        if let Some(at) = &claims {
            self.fields(at, &["client", "tenant", "session"])?;
        }
        if !self.any_source(has_claims) {
            return Some(());
        }
        for (kind, default) in CLAIMS {
            let mut names = Vec::new();
            match claims.as_ref().and_then(|at| at.field(kind.name())) {
                Some(at) => {
                    for item in &self.one_or_more(&at, CLAIMS.len(), "claims' names")? {
                        let Some(name) = self.text(item, "a claim's name") else { continue };
                        names.extend(self.claim_named(name, item));
                    }
                }
                None => {
                    for name in *default {
                        names.extend(self.claim_named(name, spot));
                    }
                }
            }
            if !names.is_empty() {
                let by = &mut self.policy.revocation.as_mut()?.by_claims;
                by.push(ByClaim { kind: *kind, claims: names });
            }
        }
        Some(())
    }

    /// What is checked: all that the sources can tell, unless said otherwise.
    fn checks(&mut self, spot: &Spot<'_>) -> Option<()> {
        let told = self.told();
        let mut checked = told;
        if let Some(at) = spot.field("check") {
            checked = 0;
            let items = self.one_or_more(&at, CHECKS.len(), "kinds")?;
            if items.is_empty() {
                self.doubt(&at, "an empty list", format_args!("at least one: tokens pass"), None);
            }
            for item in &items {
                let Some(kind) = self.choice(item, CHECKS) else { continue };
                if told & bit(kind) == 0 && self.has_token == self.policy.token.is_some() {
                    let (wanted, hint) = match kind {
                        Kind::Key => ("a token's header", "jwt_authn: { header: KEY }"),
                        Kind::Tenant => ("its claim's name", "claims: { tenant: CLAIM }"),
                        _ => ("claims", "jwt_authn: {}"),
                    };
                    let wanted = format_args!("one that token.from can tell: this needs {wanted}");
                    self.wrong_found(item, &found(item.node), wanted, Some(hint.into()));
                }
                checked |= bit(kind);
            }
        }
        let is_checked = |kind: Kind| checked & bit(kind) != 0;
        let revocation = self.policy.revocation.as_mut()?;
        revocation.token = is_checked(Kind::Token);
        revocation.key = is_checked(Kind::Key);
        revocation.issuer = is_checked(Kind::Issuer);
        revocation.by_claims.retain(|by| is_checked(by.kind));
        Some(())
    }

    /// What the sources can tell, a bit for each kind.
    fn told(&self) -> u16 {
        let mut told = 0;
        if self.policy.token.is_some() {
            told |= bit(Kind::Token);
        }
        if self.any_source(has_header) {
            told |= bit(Kind::Key);
        }
        if self.any_source(has_claims) {
            told |= bit(Kind::Issuer);
        }
        let by_claims = self.policy.revocation.iter().flat_map(|it| &it.by_claims);
        by_claims.fold(told, |told, by| told | bit(by.kind))
    }

    fn any_source(&self, is_one: fn(&Source) -> bool) -> bool {
        self.policy.token.as_ref().is_some_and(|token| token.from.iter().any(is_one))
    }
}

const fn has_claims(source: &Source) -> bool {
    !matches!(source, Source::Opaque(_))
}

const fn has_header(source: &Source) -> bool {
    matches!(source, Source::Bearer(_) | Source::JwtAuthn { header: Some(_), .. })
}

const fn bit(kind: Kind) -> u16 {
    1 << kind as u16
}
