//! `token`: where a request's token is found. And the claims of it that rules refer to.
//!
//! ```yaml
//! token:
//!   from:                              # the first of these that is there counts
//!     - jwt_authn: { payload: payload, header: header, forwarded: authorization }
//!     - payload_header: x-jwt-payload  # an earlier filter writes it, and strips what clients send
//!     - bearer: { header: authorization, unverified: true }   # or { cookie: NAME, … }
//!     - opaque: { header: authorization }                     # or { cookie: NAME }
//! ```
//!
//! Behind `Bearer` or `DPoP` a token has the characters that RFC 6750 gives it, `|` or `:`, or the
//! request is refused; keys of other characters go in a header without a scheme, or in a cookie.

use super::Resolver;
use super::matcher::metadata_path;
use crate::reading::{Reader, Spot};
use alloc::boxed::Box;
use alloc::vec::Vec;
use tidegate_core::facts::{Want, WantId};
use tidegate_core::policy::{
    CLAIMS_MAX, ClaimId, Place, SOURCES_MAX, Source, TEXT_BYTES_MAX, TokenFrom,
};

const SOURCES: &[&str] = &["jwt_authn", "payload_header", "bearer", "opaque"];

/// A `token` for who has none.
pub(super) const EXAMPLE: &str = "token: { from: [{ jwt_authn: { payload: payload } }] }";

impl Resolver {
    pub(super) fn token(&mut self, spot: &Spot<'_>) -> Option<()> {
        self.fields(spot, &["from"])?;
        self.policy.token =
            Some(TokenFrom { from: Vec::new(), claims: ClaimId::KNOWN.map(Box::from).into() });
        self.read_required(spot, "from", "a list of sources", |this, at| {
            let items = this.one_or_more(at, SOURCES_MAX, "sources")?;
            if items.is_empty() {
                this.wrong(at, format_args!("at least one source"));
            }
            for item in &items {
                let source = this.source(item);
                this.policy.token.as_mut()?.from.extend(source);
            }
            Some(())
        });
        Some(())
    }

    fn source(&mut self, spot: &Spot<'_>) -> Option<Source> {
        self.fields(spot, SOURCES)?;
        let mut kinds = SOURCES.iter().filter_map(|name| Some((*name, spot.field(name)?)));
        let (Some((kind, at)), None) = (kinds.next(), kinds.next()) else {
            self.wrong(spot, format_args!("a map of one field, the kind of source"));
            return None;
        };
        match kind {
            "jwt_authn" => self.jwt_authn(&at),
            "payload_header" => self.sole_header(&at).map(Source::PayloadHeader),
            "bearer" => {
                self.fields(&at, &["header", "cookie", "unverified"])?;
                if !self.optional(&at, "unverified", false, Self::flag)? {
                    let wanted = format_args!("true: nothing verifies a token before it is read");
                    let hint = "what Envoy's JWT filter has verified is there as jwt_authn: {}";
                    self.missing(&at, "unverified", wanted, Some(hint.into()));
                }
                self.place(&at).map(Source::Bearer)
            }
            _ => {
                self.fields(&at, &["header", "cookie"])?;
                self.place(&at).map(Source::Opaque)
            }
        }
    }

    fn jwt_authn(&mut self, spot: &Spot<'_>) -> Option<Source> {
        self.fields(spot, &["payload", "header", "forwarded"])?;
        let default = self.jwt_payload_key.clone();
        let payload = self.optional(spot, "payload", default, Self::element);
        let header = self.optional(spot, "header", None, |this, at| Some(Some(this.element(at)?)));
        let forwarded = self.optional(spot, "forwarded", None, |this, at| {
            Some(Some(Place::Header(this.sole_header(at)?)))
        });
        let path = metadata_path().into_iter().take(1).collect();
        let metadata = self.want(spot, Want::Property(path))?;
        Some(Source::JwtAuthn {
            metadata,
            payload: payload?,
            header: header?,
            forwarded: forwarded?,
        })
    }

    /// `header: NAME`, or `cookie: NAME`.
    fn place(&mut self, spot: &Spot<'_>) -> Option<Place> {
        match (spot.field("header"), spot.field("cookie")) {
            (Some(header), None) => Some(Place::Header(self.sole_header(&header)?)),
            (None, Some(cookie)) => self.cookie_place(&cookie),
            _ => {
                self.wrong(spot, format_args!("one of header: NAME and cookie: NAME"));
                None
            }
        }
    }

    /// A cookie that holds a credential.
    pub(super) fn cookie_place(&mut self, spot: &Spot<'_>) -> Option<Place> {
        let name = self.text(spot, "a cookie's name")?;
        let name = self.cookie_named(name, spot)?;
        Some(Place::Cookie { header: self.want(spot, Want::SoleHeader("cookie".into()))?, name })
    }

    fn sole_header(&mut self, spot: &Spot<'_>) -> Option<WantId> {
        let name = self.header_name(spot)?;
        self.want(spot, Want::SoleHeader(name))
    }

    /// The claim that a rule names, as a fact. `kind` is `claim` or `unverified_claim`.
    pub(super) fn claim_fact(&mut self, kind: &str, name: &str, spot: &Spot<'_>) -> Option<WantId> {
        let unverified = kind == "unverified_claim";
        let claim = self.claim_named(name, spot)?;
        let from =
            self.policy.token.as_ref().map(|token| token.from.as_slice()).unwrap_or_default();
        let gives = |source: &Source| match source {
            Source::Opaque(_) => false,
            source => unverified || source.is_verified(),
        };
        if !from.iter().any(gives) {
            let verified = if unverified { "" } else { " that is verified" };
            let wanted = format_args!("a source in token.from{verified}, to take it from");
            let hint = "one that is believed although nobody has verified it: unverified_claim";
            self.wrong_found(spot, "a claim", wanted, (!unverified).then(|| hint.into()));
            return None;
        }
        self.want(spot, Want::Claim { claim, unverified })
    }

    /// The place of a claim in the policy's list.
    pub(super) fn claim_named(&mut self, name: &str, spot: &Spot<'_>) -> Option<ClaimId> {
        if name.is_empty() || name.len() > TEXT_BYTES_MAX {
            self.wrong(spot, format_args!("a claim's name of 1 to {TEXT_BYTES_MAX} bytes"));
            return None;
        }
        let Some(token) = &mut self.policy.token else {
            // One that cannot be read was told already.
            if !self.has_token {
                let wanted = format_args!("a `token` in the policy, to take it from");
                self.wrong_found(spot, "a claim", wanted, Some(EXAMPLE.into()));
            }
            return None;
        };
        let place = token.claims.iter().position(|known| **known == *name);
        let place = place.unwrap_or(token.claims.len());
        if place == token.claims.len() {
            if place >= CLAIMS_MAX {
                let wanted = format_args!("at most {CLAIMS_MAX} in one policy");
                self.wrong_found(spot, "one more claim", wanted, None);
                return None;
            }
            token.claims.push(name.into());
        }
        u8::try_from(place).ok().map(ClaimId)
    }

    /// Whether values of this fact are compared with digits too.
    pub(super) fn has_digits(&self, fact: WantId) -> bool {
        matches!(
            self.policy.wants.get(usize::from(fact.0)),
            Some(Want::Claim { .. } | Want::Output { .. })
        )
    }
}
