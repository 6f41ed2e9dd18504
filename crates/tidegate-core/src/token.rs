//! The token that a request carries, and what it claims.
//!
//! - [`claims`]: the claims that somebody wants to know
//! - [`json`], [`jwt_authn`], [`jws`]: how they are read from a payload, from what the proxy has
//!   verified, and from a token as it travels
//!
//! A policy lists where a token may be ([`TokenFrom`]); the first place that has one counts. It is
//! read once for a request, when a rule first comes to it ([`Reading`]), and limits see its claims
//! as facts like any others ([`WithClaims`]).

pub mod claims;
pub mod json;
pub mod jws;
pub mod jwt_authn;

use crate::client;
use crate::facts::{Facts, REPEATED, Want, WantId};
use crate::policy::{ClaimId, Place, Policy, Source, TokenFrom};
use crate::protobuf;
use alloc::vec::Vec;
use claims::{Claims, WrongType};

/// The longest payload that is read.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024;

/// What cannot be read as what it should be. There is nothing more to say: its writer is a
/// stranger, and its reader has nobody to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Why a request's token cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It cannot be read, has a claim twice, or one of the wrong type.
    Malformed,
    /// There are several, and nobody knows which of them others will believe.
    Several,
    /// It lacks a claim that the policy needs.
    Lacking,
    /// It is a secret, and no key that it could be known by has come yet: it cannot be checked now.
    Keyless,
}

impl From<Malformed> for Unfit {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<WrongType> for Unfit {
    fn from(_: WrongType) -> Self {
        Self::Malformed
    }
}

impl From<protobuf::Malformed> for Malformed {
    fn from(_: protobuf::Malformed) -> Self {
        Self
    }
}

/// One worker's reader of tokens, under one policy.
pub struct Reading {
    found: Option<Result<Option<usize>, Unfit>>,
    header: Claims,
    payload: Claims,
    decoded: Vec<u8>,
}

impl Reading {
    /// For the tokens that this policy speaks of.
    pub fn new(policy: &Policy) -> Self {
        let claims = policy.token.as_ref().map(|token| token.claims.clone());
        Self {
            found: None,
            header: jws::header_claims(),
            payload: Claims::new(claims.unwrap_or_default()),
            decoded: Vec::new(),
        }
    }

    /// Starts a new request, whose token nobody has looked at.
    pub const fn begin(&mut self) {
        self.found = None;
    }

    /// Where the request's token was found, if it has one; it is read by then.
    ///
    /// # Errors
    ///
    /// [`Unfit`] if it has one that cannot be read, or several.
    pub fn source<'p, F: Facts>(
        &mut self,
        policy: &'p Policy,
        facts: &mut F,
    ) -> Result<Option<&'p Source>, Unfit> {
        let Some(token) = &policy.token else { return Ok(None) };
        let found = match self.found {
            Some(found) => found,
            None => self.find(token, policy, facts),
        };
        self.found = Some(found);
        Ok(found?.and_then(|place| token.from.get(place)))
    }

    /// What the token claims, once [`Reading::source`] has found it.
    pub const fn payload(&self) -> &Claims {
        &self.payload
    }

    /// The key that it was signed with.
    ///
    /// # Errors
    ///
    /// [`WrongType`] if its name is none.
    pub fn key_id(&self) -> Result<Option<&[u8]>, WrongType> {
        self.header.id(jws::KEY_ID)
    }

    fn find<F: Facts>(
        &mut self,
        token: &TokenFrom,
        policy: &Policy,
        facts: &mut F,
    ) -> Result<Option<usize>, Unfit> {
        for (number, source) in token.from.iter().enumerate() {
            let (_, later) = token.from.split_at_checked(number + 1).unwrap_or_default();
            self.header.clear();
            self.payload.clear();
            if !self.read(source, later, policy, facts)? {
                continue;
            }
            if let Some(here) = source.place() {
                for other in later.iter().filter_map(Source::place) {
                    if other != here && credential(other, policy, facts)?.is_some() {
                        return Err(Unfit::Several);
                    }
                }
            }
            return Ok(Some(number));
        }
        Ok(None)
    }

    /// Reads the token of a source; `false` if there is none.
    fn read<F: Facts>(
        &mut self,
        source: &Source,
        later: &[Source],
        policy: &Policy,
        facts: &mut F,
    ) -> Result<bool, Unfit> {
        let Self { header, payload, decoded, .. } = self;
        match source {
            Source::JwtAuthn { metadata, payload: key, header: header_key, .. } => {
                let Some(metadata) = fact(*metadata, policy, facts) else { return Ok(false) };
                let Some(fields) = jwt_authn::noted(metadata, key)? else { return Ok(false) };
                jwt_authn::read(fields, payload)?;
                if let Some(key) = header_key
                    && let Some(fields) = jwt_authn::noted(metadata, key)?
                {
                    jwt_authn::read(fields, header)?;
                }
            }
            Source::PayloadHeader(id) => {
                let Some(value) = fact(*id, policy, facts) else { return Ok(false) };
                jws::read_payload(value, payload, decoded)?;
            }
            Source::Bearer(place) => {
                let Some(token) = credential(place, policy, facts)? else { return Ok(false) };
                let or_opaque = |other: &Source| matches!(other, Source::Opaque(at) if at == place);
                if !jws::has_shape(token) && later.iter().any(or_opaque) {
                    return Ok(false);
                }
                jws::read(token, header, payload, decoded)?;
            }
            Source::Opaque(place) => return Ok(credential(place, policy, facts)?.is_some()),
        }
        Ok(true)
    }

    /// A claim for a limit; none of a token that cannot be used.
    fn claim<F: Facts>(
        &mut self,
        claim: ClaimId,
        unverified: bool,
        policy: &Policy,
        facts: &mut F,
    ) -> Option<&[u8]> {
        let source = self.source(policy, facts).ok()??;
        let is_believed = unverified || source.is_verified();
        self.payload.text(usize::from(claim.0)).filter(|_| is_believed)
    }
}

/// A request's facts, and the claims of its token among them.
pub struct WithClaims<'a, F> {
    facts: &'a mut F,
    reading: &'a mut Reading,
    policy: &'a Policy,
}

impl<'a, F: Facts> WithClaims<'a, F> {
    /// Adds what `reading` finds in these facts.
    pub const fn new(facts: &'a mut F, reading: &'a mut Reading, policy: &'a Policy) -> Self {
        Self { facts, reading, policy }
    }
}

impl<F: Facts> Facts for WithClaims<'_, F> {
    fn read(&mut self, id: WantId, want: &Want) -> Option<&[u8]> {
        match *want {
            Want::Claim { claim, unverified } => {
                self.reading.claim(claim, unverified, self.policy, self.facts)
            }
            _ => self.facts.read(id, want),
        }
    }
}

/// The credential that a client has written in a place, without what surrounds it.
///
/// # Errors
///
/// [`Unfit::Several`] if there are several, [`Unfit::Malformed`] if others may find several where
/// we find one.
pub fn credential<'a, F: Facts>(
    place: &Place,
    policy: &Policy,
    facts: &'a mut F,
) -> Result<Option<&'a [u8]>, Unfit> {
    let (Place::Header(id) | Place::Cookie { header: id, .. }) = place;
    let value = match fact(*id, policy, facts) {
        Some(REPEATED) => return Err(Unfit::Several),
        value => value.unwrap_or_default(),
    };
    Ok(match place {
        Place::Header(_) => jws::bare(value)?,
        Place::Cookie { name, .. } => {
            let value = client::sole_cookie(value, name).map_err(|_| Unfit::Several)?;
            value.and_then(jws::bare_of_cookie)
        }
    })
}

fn fact<'a, F: Facts>(id: WantId, policy: &Policy, facts: &'a mut F) -> Option<&'a [u8]> {
    facts.read(id, policy.want(id)?)
}
