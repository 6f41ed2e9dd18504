//! What of a token is revoked, and by which ids it may already be.
//!
//! It is read by the very code that filters run, under a policy that looks at everything: so host
//! and proxies come to the same ids. Nothing is verified: whoever may revoke may revoke this.
//!
//! A token that is not signed, or not readable as one that is, is a secret of no known structure.
//! One that only looks signed is known by its hash as well: proxies whose verifier takes what
//! this reader does not may see it so.

use super::asked::{self, Terms, Thing};
use super::bounds;
use crate::config::Claims;
use serde_json::json;
use sha2::{Digest, Sha256};
use tidegate_core::facts::{Facts, Want, WantId};
use tidegate_core::policy::Policy;
use tidegate_core::revoke::identity::Identity;
use tidegate_core::revoke::{EVER, Id, Kind, Record};
use tidegate_core::token::jws::{self, TOKEN_BYTES_MAX};
use tidegate_core::token::{Reading, Unfit};

/// Reads tokens.
pub(super) struct Tokens {
    policy: Policy,
}

/// What there is to do about a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sense {
    /// These are to be in force.
    Revoke(Vec<Record>),
    /// Nothing: it is over.
    Over,
    /// Nothing: it is longer than any that is let through, or empty.
    NoToken,
}

/// Why a token cannot be revoked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is a secret, and there is no key to know it by.
    Unsupported(String),
    /// It is wrong in this way.
    Wrong(String),
}

impl Tokens {
    /// For tokens whose claims have these names.
    ///
    /// # Errors
    ///
    /// What is wrong with a name.
    pub(super) fn new(claims: &Claims) -> Result<Self, String> {
        let mut names = json!({ "session": claims.session });
        for (name, claim) in [("client", &claims.client), ("tenant", &claims.tenant)] {
            if let Some(claim) = claim {
                names[name] = json!(claim);
            }
        }
        let policy = json!({
            "tidegate": 1,
            "domain": "tokens",
            "token": { "from": [{ "bearer": { "header": "authorization", "unverified": true } }] },
            "revocation": { "claims": names, "missing": "allow" },
            "host": { "cluster": "tidegate" },
        });
        let judged = crate::policy_file::judge_json("revocations.api.claims", &policy.to_string());
        let policy = judged.usable.map(|(_, policy)| policy);
        policy.map(|policy| Self { policy }).ok_or_else(|| judged.lines.join("; "))
    }

    /// All ids of a signed token, and its times.
    ///
    /// # Errors
    ///
    /// [`Unfit`] if it is none that can be read.
    pub(super) fn identity(&self, token: &[u8]) -> Result<Identity, Unfit> {
        let mut identity = Identity::default();
        let Some(revocation) = &self.policy.revocation else { return Ok(identity) };
        let facts = (&self.policy, &mut Only(token));
        let mut reading = Reading::new(&self.policy);
        identity.read(revocation, facts, &mut reading, &[], &mut |parts| parts.id())?;
        Ok(identity)
    }

    /// What there is to do about a token that is to be revoked.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub(super) fn sense(&self, token: &[u8], terms: &Terms) -> Result<Sense, Refused> {
        let Some(bare) = jws::bare(token).filter(|bare| bare.len() <= TOKEN_BYTES_MAX) else {
            return Ok(Sense::NoToken);
        };
        let signed = jws::has_shape(bare).then(|| self.identity(bare)).and_then(Result::ok);
        let Some(identity) = signed else { return secret(bare, terms) };
        let itself = |(kind, _): &&(Kind, Id)| matches!(kind, Kind::Token | Kind::TokenHash);
        let Some((kind, id)) = identity.ids.iter().find(itself) else {
            return secret(bare, terms);
        };
        let (until_secs, by_exp) = match identity.expires_secs {
            Some(exp) => (exp, true),
            None => (terms.now_secs() + terms.session_ttl_secs, false),
        };
        if until_secs + terms.leeway_secs <= terms.now_secs() {
            return Ok(Sense::Over);
        }
        bounds::bounded("exp", until_secs, terms)
            .map_err(|wrong| Refused::Wrong(wrong.to_string()))?;
        Ok(Sense::Revoke(vec![Record {
            id: *id,
            kind: *kind,
            lifts: false,
            before_secs: EVER,
            until_secs,
            by_exp,
            at_ms: terms.now_ms,
        }]))
    }

    /// All ids by which a token may be revoked.
    pub(super) fn ids(&self, token: &[u8], terms: &Terms) -> (Vec<(Kind, Id)>, Option<u64>) {
        let mut identity = self.identity(token).unwrap_or_default();
        let secret = things(token, terms).unwrap_or_default();
        identity.ids.extend(secret.into_iter().flat_map(|Thing { kind, id, also }| {
            [Some(id), also].into_iter().flatten().map(move |id| (kind, id))
        }));
        identity.ids.sort_unstable();
        identity.ids.dedup();
        (identity.ids, identity.issued_secs)
    }
}

/// Revokes what nobody can read.
fn secret(token: &[u8], terms: &Terms) -> Result<Sense, Refused> {
    let things = things(token, terms).map_err(Refused::Unsupported)?;
    let ids = things.into_iter().flat_map(|Thing { kind, id, also }| {
        [Some(id), also].into_iter().flatten().map(move |id| (kind, id))
    });
    let records = ids.map(|(kind, id)| Record {
        id,
        kind,
        lifts: false,
        before_secs: EVER,
        until_secs: terms.now_secs() + terms.session_ttl_secs,
        by_exp: false,
        at_ms: terms.now_ms,
    });
    Ok(Sense::Revoke(records.collect()))
}

/// As what a token that nobody can read may be known.
fn things(token: &[u8], terms: &Terms) -> Result<Vec<Thing>, String> {
    let hashed = jws::signed(token).filter(|_| jws::has_shape(token)).map(|signed| {
        let id = Id::of(Kind::TokenHash, &[&Sha256::digest(signed)]);
        Thing { kind: Kind::TokenHash, id, also: None }
    });
    match (asked::keyed(Kind::Opaque, token, terms), hashed) {
        (Ok(keyed), hashed) => Ok([Some(keyed), hashed].into_iter().flatten().collect()),
        (Err(_), Some(hashed)) => Ok(vec![hashed]),
        (Err(no_key), None) => Err(format!("a token of no known structure {no_key}")),
    }
}

/// A request with nothing but a token.
struct Only<'a>(&'a [u8]);

impl Facts for Only<'_> {
    fn read(&mut self, _: WantId, want: &Want) -> Option<&[u8]> {
        matches!(want, Want::SoleHeader(_)).then_some(self.0)
    }
}
