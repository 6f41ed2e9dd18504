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
//!   when: { path: /api/* }
//! ```

use super::Resolver;
use crate::diagnostic::found;
use crate::reading::{Reader, Spot};
use alloc::vec::Vec;
use tidegate_core::policy::{ByClaim, ClaimId, Matcher, Revocation, Source};
use tidegate_core::revoke::Kind;
use tidegate_core::time::Span;

const FIELDS: &[&str] = &[
    "check",
    "claims",
    "session_cookie",
    "no_token",
    "missing",
    "on_error",
    "stale_after",
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

/// Claims that ids are made of, and by which names they are known unless said otherwise.
const NAMED: &[(&str, Kind, &[&str])] = &[
    ("subject", Kind::Subject, &["sub"]),
    ("client", Kind::Client, &["client_id", "azp"]),
    ("tenant", Kind::Tenant, &[]),
    ("session", Kind::Session, &["sid"]),
];

/// Less than a few polls of the host would be stale by chance; more than an hour is no bound.
const STALE_AFTER: (Span, Span) = (Span::from_millis(500), Span::from_secs(3_600));
const STALE_AFTER_DEFAULT: Span = Span::from_secs(5);

impl Resolver {
    pub(super) fn revocation(&mut self, spot: &Spot<'_>) -> Option<Revocation> {
        const ALLOW: &[(&str, bool)] = &[("allow", false), ("refuse", true)];
        const OPEN: &[(&str, bool)] = &[("closed", false), ("open", true)];
        self.fields(spot, FIELDS)?;
        let when = self.optional(spot, "when", Matcher::All(Vec::new()), Self::matcher);
        let session_cookie = self
            .optional(spot, "session_cookie", None, |this, at| Some(Some(this.cookie_place(at)?)));
        let mut choice =
            |name, default, of| self.optional(spot, name, default, |this, at| this.choice(at, of));
        let needs_token = choice("no_token", false, ALLOW);
        let needs_claims = choice("missing", true, ALLOW);
        let is_open = choice("on_error", false, OPEN);
        let stale_after = self.optional(spot, "stale_after", STALE_AFTER_DEFAULT, |this, at| {
            this.duration(at, STALE_AFTER)
        });
        let by_claims = self.by_claims(spot);
        let checks = self.checks(spot, by_claims.as_deref());
        let (checks, mut by_claims) = (checks?, by_claims?);
        by_claims.retain(|by| checks.contains(&by.kind));
        Some(Revocation {
            when: when?,
            token: checks.contains(&Kind::Token),
            key: checks.contains(&Kind::Key),
            issuer: checks.contains(&Kind::Issuer),
            by_claims,
            session_cookie: session_cookie?,
            needs_token: needs_token?,
            needs_claims: needs_claims?,
            is_open: is_open?,
            stale_after: stale_after?,
        })
    }

    /// Which claims stand for what.
    fn by_claims(&mut self, spot: &Spot<'_>) -> Option<Vec<ByClaim>> {
        let claims = spot.field("claims");
        if let Some(at) = &claims {
            self.fields(at, &["client", "tenant", "session"])?;
        }
        if !self.any_source(|source| !matches!(source, Source::Opaque(_))) {
            return Some(Vec::new());
        }
        let (mut by, mut complete) = (Vec::new(), true);
        for (name, kind, default) in NAMED {
            let claims: Option<Vec<ClaimId>> = match claims.as_ref().and_then(|at| at.field(name)) {
                Some(at) => self.claim_names(&at),
                None => default.iter().map(|name| self.claim_named(name, spot)).collect(),
            };
            complete &= claims.is_some();
            let claims = claims.filter(|claims| !claims.is_empty());
            by.extend(claims.map(|claims| ByClaim { kind: *kind, claims }));
        }
        complete.then_some(by)
    }

    /// What is checked: all that the sources can tell, unless said otherwise.
    fn checks(&mut self, spot: &Spot<'_>, by: Option<&[ByClaim]>) -> Option<Vec<Kind>> {
        let has_header = self.any_source(|source| {
            matches!(source, Source::Bearer(_) | Source::JwtAuthn { header: Some(_), .. })
        });
        let has_claims = self.any_source(|source| !matches!(source, Source::Opaque(_)));
        let told = |kind: Kind| match kind {
            Kind::Token => self.token.is_some(),
            Kind::Key => has_header,
            Kind::Issuer => has_claims,
            _ => by.is_none_or(|by| by.iter().any(|by| by.kind == kind)),
        };
        let told: Vec<Kind> =
            CHECKS.iter().map(|(_, kind)| *kind).filter(|kind| told(*kind)).collect();
        let Some(at) = spot.field("check") else { return Some(told) };
        let items = self.one_or_more(&at, CHECKS.len(), "kinds")?;
        if items.is_empty() {
            self.doubt(&at, "an empty list", format_args!("at least one: tokens pass"), None);
        }
        let is_known = self.has_token == self.token.is_some();
        self.every(&items, |this, item| {
            let kind = this.choice(item, CHECKS)?;
            if is_known && !told.contains(&kind) {
                let (wanted, hint) = match kind {
                    Kind::Key => ("a token's header", "jwt_authn: { header: KEY }"),
                    Kind::Tenant => ("its claim's name", "claims: { tenant: CLAIM }"),
                    _ => ("claims", "jwt_authn: {}"),
                };
                let wanted = format_args!("one that token.from can tell: this needs {wanted}");
                this.wrong_found(item, &found(item.node), wanted, Some(hint.into()));
            }
            Some(kind)
        })
    }

    fn any_source(&self, is_one: impl FnMut(&Source) -> bool) -> bool {
        self.token.as_ref().is_some_and(|token| token.from.iter().any(is_one))
    }
}
