//! What a policy checks for having been revoked: found where, by what, and what becomes of the
//! requests that cannot be checked.

use super::{Account, joined};
use tidegate_core::policy::{ClaimId, Place, Revocation, Source, TokenFrom};

impl Account<'_> {
    /// The account of `revocation`.
    pub(super) fn revocation(&mut self, revocation: &Revocation) {
        self.heading("revocation");
        self.conditions("checks", &revocation.when);
        if let Some(token) = &self.policy.token {
            self.sources(token);
            let by = self.checked_by(revocation, token);
            self.row("by", format_args!("{}", joined(&by, "and")));
        }
        if let Some(place) = &revocation.session_cookie {
            let place = self.place(place);
            self.row("session", format_args!("{place}, by a keyed hash"));
        }
        self.row(
            "revoked",
            format_args!("is a 401; so is a token that cannot be read, or several"),
        );
        self.row("no token", format_args!("{}", becomes(revocation.needs_token)));
        if revocation.token && !revocation.by_claims.is_empty() {
            self.row(
                "lacking",
                format_args!(
                    "iss, or both jti and itself in sight: a token {}",
                    becomes(revocation.needs_claims)
                ),
            );
        }
        let away = if revocation.is_open { "pass" } else { "are refused with 503; gRPC status 14" };
        self.row(
            "no news",
            format_args!(
                "for {}, and each request is checked at the host; if it is away, they {away}",
                revocation.stale_after
            ),
        );
        let mib = revocation.copies_bytes_max >> 20;
        self.row(
            "memory",
            format_args!(
                "of a proxy: own copies of images up to {mib} MiB in all workers, else one"
            ),
        );
    }

    fn sources(&mut self, token: &TokenFrom) {
        for (place, source) in token.from.iter().enumerate() {
            let source = self.source(source);
            let (label, join) = if place == 0 { ("token in", "") } else { ("", "else ") };
            self.row(label, format_args!("{join}{source}"));
        }
    }

    fn source(&self, source: &Source) -> String {
        match source {
            Source::JwtAuthn { payload, header, forwarded, .. } => {
                let header = header.as_ref().map(|key| format!(" and {key:?}"));
                let forwarded =
                    forwarded.as_ref().map(|at| format!("; itself in {}", self.place(at)));
                let (header, forwarded) =
                    (header.unwrap_or_default(), forwarded.unwrap_or_default());
                format!("metadata of jwt_authn, {payload:?}{header}, verified{forwarded}")
            }
            Source::PayloadHeader(id) => {
                format!("{}, its payload: an earlier filter must write or strip it", self.fact(*id))
            }
            Source::Bearer(place) => format!("{}, not verified", self.place(place)),
            Source::Opaque(place) => format!("{}, by a keyed hash", self.place(place)),
        }
    }

    fn place(&self, place: &Place) -> String {
        match place {
            Place::Header(id) => self.fact(*id),
            Place::Cookie { name, .. } => format!("cookie {name}"),
        }
    }

    fn checked_by(&self, revocation: &Revocation, token: &TokenFrom) -> Vec<String> {
        let name = |claim: &ClaimId| {
            token.claims.get(usize::from(claim.0)).map_or(String::new(), ToString::to_string)
        };
        let mut by = Vec::new();
        if revocation.token {
            by.push("token (iss and jti, or a hash of it)".to_owned());
        }
        by.extend(revocation.by_claims.iter().map(|by| {
            let claims: Vec<String> = by.claims.iter().map(name).collect();
            format!("{} ({})", by.kind.name(), claims.join(" or else "))
        }));
        if revocation.key {
            by.push("key (kid)".to_owned());
        }
        if revocation.issuer {
            by.push("issuer (iss)".to_owned());
        }
        by
    }
}

const fn becomes(is_refused: bool) -> &'static str {
    if is_refused { "is refused with 401" } else { "passes" }
}
