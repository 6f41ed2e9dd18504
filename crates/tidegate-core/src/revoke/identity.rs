//! Which of the things that can be revoked a request has.
//!
//! A policy says what is checked ([`Revocation`]); the request's token and cookies say by which
//! ids. A token that cannot be read, or that lacks what tells it from all others, has none that
//! can be trusted to be all: it is [`Unfit`], and is refused.

use super::id::{Id, IdKey, Kind};
use super::message::ID_KEYS_MAX;
use crate::client;
use crate::facts::Facts;
use crate::policy::{ByClaim, ClaimId, Policy, Revocation, Source};
use crate::token::jws::{self, TOKEN_BYTES_MAX};
use crate::token::{Reading, Unfit, credential};
use alloc::vec::Vec;
use sha2::{Digest as _, Sha256};

/// The most ids of one request: of a token itself, its four claims, its key and its issuer, and
/// of a session cookie under each key.
pub const IDS_MAX: usize = 9;

/// What of a request can be revoked; reused from request to request.
#[derive(Debug, Default)]
pub struct Identity {
    /// By which ids; at most [`IDS_MAX`].
    pub ids: Vec<(Kind, Id)>,
    /// When its token was issued, in seconds of Unix time. One that does not say was issued
    /// before any time.
    pub issued_secs: Option<u64>,
    /// When its token expires, in seconds of Unix time.
    pub expires_secs: Option<u64>,
}

/// What an id is made of.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// Which kind of id.
    pub kind: Kind,
    /// The parts, in the order that [`Kind`] says; but of [`Kind::TokenHash`] what is yet to be
    /// hashed, and of what is keyed the secret in its [`secret_form`].
    pub parts: &'a [&'a [u8]],
    /// The key, if there is a secret among them.
    pub key: Option<&'a IdKey>,
}

impl Parts<'_> {
    /// The id, hashed now: 1 µs for short parts, in a filter.
    pub fn id(&self) -> Id {
        match (self.kind, self.key, self.parts) {
            (kind, Some(key), [secret]) => Id::keyed(kind, key, secret),
            (Kind::TokenHash, _, [signed]) => Id::of(Kind::TokenHash, &[&Sha256::digest(signed)]),
            (kind, _, parts) => Id::of(kind, parts),
        }
    }
}

/// Who makes ids of their parts; a gate remembers those of lately.
pub type MakeId<'m> = dyn FnMut(Parts<'_>) -> Id + 'm;

/// An opaque token or a session cookie as it is hashed: without scheme and quotes, and with `\101`,
/// `%41` and `+` decoded, for what reads a cookie may do any of that and so take two spellings for
/// one.
/// `None` if it is empty, or longer than [`TOKEN_BYTES_MAX`].
pub fn secret_form(credential: &[u8]) -> Option<Vec<u8>> {
    let secret =
        jws::bare_of_cookie(credential).filter(|secret| secret.len() <= TOKEN_BYTES_MAX)?;
    Some(client::decoded(&client::unescaped(secret)).collect())
}

impl Identity {
    /// Finds out what of a request can be revoked. `keys` are those that secrets are known by.
    /// Returns whether it has a token or session cookie at all.
    ///
    /// # Errors
    ///
    /// [`Unfit`] if it has one that cannot be used.
    pub fn read<F: Facts>(
        &mut self,
        revocation: &Revocation,
        (policy, facts): (&Policy, &mut F),
        reading: &mut Reading,
        keys: &[IdKey],
        make: &mut MakeId<'_>,
    ) -> Result<bool, Unfit> {
        self.ids.clear();
        (self.issued_secs, self.expires_secs) = (None, None);
        let source = reading.source(policy, facts)?;
        match source {
            None => {}
            Some(Source::Opaque(place)) => {
                let secret = credential(place, policy, facts)?;
                if revocation.token {
                    self.add_secret(Kind::Opaque, secret, keys, make)?;
                }
            }
            Some(source) => {
                let signed = signed(source, policy, facts)?;
                self.add_claims(revocation, reading, signed, make)?;
            }
        }
        let cookie = match &revocation.session_cookie {
            Some(place) => credential(place, policy, facts)?,
            None => None,
        };
        if cookie.is_some() {
            self.add_secret(Kind::Cookie, cookie, keys, make)?;
        }
        Ok(source.is_some() || cookie.is_some())
    }

    fn add_claims(
        &mut self,
        revocation: &Revocation,
        reading: &Reading,
        signed: Option<&[u8]>,
        make: &mut MakeId<'_>,
    ) -> Result<(), Unfit> {
        let claims = reading.payload();
        let id = |claim: ClaimId| claims.id(usize::from(claim.0));
        let secs = |claim: ClaimId| claims.secs(usize::from(claim.0));
        (self.issued_secs, self.expires_secs) = (secs(ClaimId::ISSUED)?, secs(ClaimId::EXPIRES)?);
        let issuer = id(ClaimId::ISSUER)?;
        if issuer.is_none() && revocation.needs_claims {
            return Err(Unfit::Lacking);
        }
        let issuer = issuer.unwrap_or_default();
        if revocation.token {
            match (id(ClaimId::TOKEN_ID)?, signed) {
                (Some(token_id), _) => self.add(Kind::Token, &[issuer, token_id], make),
                (None, Some(signed)) => self.add(Kind::TokenHash, &[signed], make),
                (None, None) if revocation.needs_claims => return Err(Unfit::Lacking),
                (None, None) => {}
            }
        }
        for ByClaim { kind, claims } in &revocation.by_claims {
            for claim in claims {
                if let Some(value) = id(*claim)? {
                    self.add(*kind, &[issuer, value], make);
                    break;
                }
            }
        }
        if revocation.key
            && let Some(key) = reading.key_id()?
        {
            self.add(Kind::Key, &[issuer, key], make);
        }
        if revocation.issuer {
            self.add(Kind::Issuer, &[issuer], make);
        }
        Ok(())
    }

    fn add_secret(
        &mut self,
        kind: Kind,
        secret: Option<&[u8]>,
        keys: &[IdKey],
        make: &mut MakeId<'_>,
    ) -> Result<(), Unfit> {
        let secret = secret.and_then(secret_form).ok_or(Unfit::Malformed)?;
        if keys.is_empty() {
            return Err(Unfit::Keyless);
        }
        for key in keys.iter().take(ID_KEYS_MAX) {
            self.ids.push((kind, make(Parts { kind, parts: &[&secret], key: Some(key) })));
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, parts: &[&[u8]], make: &mut MakeId<'_>) {
        self.ids.push((kind, make(Parts { kind, parts, key: None })));
    }
}

/// What the token of a source is signed over, if the token itself is there to be seen.
fn signed<'a, F: Facts>(
    source: &Source,
    policy: &Policy,
    facts: &'a mut F,
) -> Result<Option<&'a [u8]>, Unfit> {
    let (Source::Bearer(place) | Source::JwtAuthn { forwarded: Some(place), .. }) = source else {
        return Ok(None);
    };
    let token = credential(place, policy, facts)?;
    // Envoy verifies the first run of these that it finds, whatever stands around it.
    if source.is_verified() && token.is_some_and(|token| !jws::is_run(token)) {
        return Err(Unfit::Malformed);
    }
    Ok(token.and_then(jws::signed))
}
