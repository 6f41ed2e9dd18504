//! What of a token is revoked, and by which ids it may already be: by all that a proxy may look it up
//! by, wherever its policy finds it.
//!
//! | where a policy finds it | looked up by |
//! |---|---|
//! | claims that another filter has verified, of the token or of its payload alone | `iss` and `jti`; without `jti` the hash |
//! | the token itself | the same, if it is none that nobody may read |
//! | a token of no known structure, which may be a signed one all the same | the keyed hash |
//!
//! Claims are read by the very code that filters run, so host and proxies come to the same ids. But
//! they are read as a verifier hands them on that knows all that a header calls critical; and kind by
//! kind, for what is wrong with a claim matters to those alone that look at it. Nothing is verified:
//! whoever may revoke may revoke this.

use super::asked::{self, Terms, Thing};
use super::bounds;
use crate::config::Claims;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_core::facts::{Facts, Want, WantId};
use tidegate_core::policy::Policy;
use tidegate_core::revoke::identity::{Identity, Parts};
use tidegate_core::revoke::{EVER, Id, Kind, Record};
use tidegate_core::token::Reading;
use tidegate_core::token::jws::{self, TOKEN_BYTES_MAX};

/// Reads tokens.
pub(super) struct Tokens {
    /// One for each kind of what tokens claim.
    policies: Vec<Policy>,
}

/// What there is to do about a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sense {
    /// These are to be in force.
    Revoke(Vec<Record>),
    /// Nothing: it is over.
    Over,
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
        let kinds = ["token", "subject", "client", "tenant", "session", "key", "issuer"];
        let kinds = kinds.into_iter().filter(|kind| *kind != "tenant" || claims.tenant.is_some());
        let policies = kinds.map(|kind| policy(kind, &names)).collect::<Result<_, _>>()?;
        Ok(Self { policies })
    }

    /// All ids by which a token may be looked up, and its times.
    ///
    /// # Errors
    ///
    /// If it is empty, or longer than proxies read one.
    pub(super) fn identity(&self, token: &[u8], terms: &Terms) -> Result<Identity, Refused> {
        let token = bare(token)?;
        let mut identity = self.claimed(token);
        if !identity.ids.iter().any(|(kind, _)| *kind == Kind::Token)
            && let Some(signed) = jws::signed(token).filter(|_| jws::has_shape(token))
        {
            let id = Id::of(Kind::TokenHash, &[&Sha256::digest(signed)]);
            identity.ids.push((Kind::TokenHash, id));
        }
        if let Ok(Thing { kind, id, also }) = asked::keyed(Kind::Opaque, token, terms) {
            identity.ids.extend([Some(id), also].into_iter().flatten().map(|id| (kind, id)));
        }
        Ok(identity)
    }

    /// What there is to do about a token that is to be revoked.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub(super) fn sense(&self, token: &[u8], terms: &Terms) -> Result<Sense, Refused> {
        let Identity { mut ids, expires_secs, .. } = self.identity(token, terms)?;
        ids.retain(|(kind, _)| matches!(kind, Kind::Token | Kind::TokenHash | Kind::Opaque));
        if ids.is_empty() {
            let what = "a token of no known structure wants a key, and this host has none: set \
                        revocations.id_key_files";
            return Err(Refused::Unsupported(what.to_owned()));
        }
        let until_secs = match expires_secs {
            Some(exp) => bounds::bounded("exp", exp, terms)
                .map_err(|wrong| Refused::Wrong(wrong.to_string()))?,
            None => terms.now_secs() + terms.session_ttl_secs,
        };
        if until_secs + terms.leeway_secs <= terms.now_secs() {
            return Ok(Sense::Over);
        }
        let records = ids.into_iter().map(|(kind, id)| Record {
            id,
            kind,
            lifts: false,
            before_secs: EVER,
            until_secs,
            by_exp: expires_secs.is_some() && kind.shows_end(),
            at_ms: terms.now_ms,
        });
        Ok(Sense::Revoke(records.collect()))
    }

    /// The ids of what a token claims; none if it is not readable as a signed one.
    fn claimed(&self, token: &[u8]) -> Identity {
        let mut all = Identity::default();
        let Some(token) = as_handed_on(token) else { return all };
        for policy in &self.policies {
            let Some(revocation) = &policy.revocation else { continue };
            let (mut identity, mut reading) = (Identity::default(), Reading::new(policy));
            let facts = (policy, &mut Only(token.as_bytes()));
            let make = &mut |parts: Parts<'_>| parts.id();
            if identity.read(revocation, facts, &mut reading, &[], make).is_ok() {
                all.ids.append(&mut identity.ids);
                (all.issued_secs, all.expires_secs) = (identity.issued_secs, identity.expires_secs);
            }
        }
        // Of the token as it came, not of this.
        all.ids.retain(|(kind, _)| *kind != Kind::TokenHash);
        all
    }
}

/// One that looks at what is of this kind.
fn policy(kind: &str, names: &Value) -> Result<Policy, String> {
    let policy = json!({
        "tidegate": 1,
        "domain": "tokens",
        "token": { "from": [{ "bearer": { "header": "authorization", "unverified": true } }] },
        "revocation": { "check": kind, "claims": names, "missing": "allow" },
        "host": { "cluster": "tidegate" },
    });
    let judged = crate::policy_file::judge_json("revocations.api.claims", &policy.to_string());
    let policy = judged.usable.map(|(_, policy)| policy);
    policy.ok_or_else(|| judged.lines.join("; "))
}

/// The token itself, without what may surround it.
fn bare(token: &[u8]) -> Result<&[u8], Refused> {
    match jws::bare_of_cookie(token) {
        None => Err(Refused::Wrong("token: is empty".to_owned())),
        Some(bare) if bare.len() > TOKEN_BYTES_MAX => Err(Refused::Wrong(format!(
            "token: has {} bytes, wanted at most {TOKEN_BYTES_MAX}: revoke it by jti and iss, or by \
             token_hash",
            bare.len()
        ))),
        Some(bare) => Ok(bare),
    }
}

/// A token whose header says no more than which key signed it, and whose payload is not padded:
/// whatever else a verifier may know of, it hands on the claims.
fn as_handed_on(token: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(token).ok().filter(|_| jws::has_shape(token))?;
    let (header, rest) = text.split_once('.')?;
    let (payload, _) = rest.split_once('.')?;
    let mut handed_on = json!({ "alg": "any" });
    if let Some(kid) = key_id(header) {
        handed_on["kid"] = kid;
    }
    let handed_on = handed_on.to_string();
    let mut digits = vec![0; Base64UrlUnpadded::encoded_len(handed_on.as_bytes())];
    let header = Base64UrlUnpadded::encode(handed_on.as_bytes(), &mut digits).ok()?;
    Some(format!("{header}.{}.any", payload.trim_end_matches('=')))
}

/// The `kid` of a header, if it names a key.
fn key_id(header: &str) -> Option<Value> {
    let mut bytes = vec![0; header.len()];
    let bytes = Base64UrlUnpadded::decode(header.trim_end_matches('='), &mut bytes).ok()?;
    let header: Value = serde_json::from_slice(bytes).ok()?;
    header.get("kid").cloned()
}

/// A request with nothing but a token.
struct Only<'a>(&'a [u8]);

impl Facts for Only<'_> {
    fn read(&mut self, _: WantId, want: &Want) -> Option<&[u8]> {
        matches!(want, Want::SoleHeader(_)).then_some(self.0)
    }
}
