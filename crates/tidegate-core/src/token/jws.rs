//! A signed token as it travels: `header.payload.signature`, each base64url (RFC 7515, the compact
//! form), or the payload alone, as an earlier filter forwards it.
//!
//! Nothing is verified here, for that needs keys: this reads what a token says, so that it can be
//! held against what is revoked. What two readers might take for two different tokens is refused:
//! another number of parts, padding, bits that no octet has, `alg: none`, and `crit`, by which a
//! token says that it must not be understood by those who do not know its extensions; we know
//! none (RFC 7515 4.1.11).
//!
//! Work and space are bounded by [`TOKEN_BYTES_MAX`], and each byte is looked at a fixed number
//! of times.

use super::claims::Claims;
use super::{Malformed, json};
use alloc::boxed::Box;
use alloc::vec::Vec;
use base64ct::{Base64UrlUnpadded, Encoding as _};

/// The longest token that is read.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Places of what is wanted of a token's header.
pub(super) const KEY_ID: usize = 0;
const ALGORITHM: usize = 1;
const CRITICAL: usize = 2;

/// A reader of headers.
pub(super) fn header_claims() -> Claims {
    Claims::new(["kid", "alg", "crit"].map(Box::from).into())
}

/// Takes the scheme and quotes off a credential: the token of `Bearer TOKEN` and `DPoP TOKEN`,
/// and a value without any scheme as a whole. `None` if it is empty, or of another scheme.
pub fn bare(credential: &[u8]) -> Option<&[u8]> {
    let is_scheme =
        |word: &[u8]| word.eq_ignore_ascii_case(b"bearer") || word.eq_ignore_ascii_case(b"dpop");
    let credential = credential.trim_ascii();
    let token = match credential.iter().position(u8::is_ascii_whitespace) {
        Some(end) => {
            let (scheme, token) = credential.split_at_checked(end)?;
            is_scheme(scheme).then_some(token.trim_ascii_start())?
        }
        None if is_scheme(credential) => return None,
        None => credential,
    };
    let inner = token.strip_prefix(b"\"").and_then(|token| token.strip_suffix(b"\""));
    Some(inner.unwrap_or(token)).filter(|token| !token.is_empty())
}

/// Whether it has the shape of a signed token: three parts.
pub fn has_shape(token: &[u8]) -> bool {
    token.iter().filter(|byte| **byte == b'.').count() == 2
}

/// `header.payload`: what a signature is over, and so what no holder can write in another way.
pub fn signed(token: &[u8]) -> Option<&[u8]> {
    let end = token.iter().rposition(|byte| *byte == b'.')?;
    token.get(..end)
}

/// Reads the wanted claims of a token, and its header's. `decoded` is for the work between.
///
/// # Errors
///
/// [`Malformed`], as the file's head and [`json::read`] have it.
pub fn read(
    token: &[u8],
    header: &mut Claims,
    payload: &mut Claims,
    decoded: &mut Vec<u8>,
) -> Result<(), Malformed> {
    if token.len() > TOKEN_BYTES_MAX || !has_shape(token) {
        return Err(Malformed);
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(Malformed);
    let (first, second, _signature) = (part()?, part()?, part()?);
    json::read(decode(first, decoded)?, header)?;
    let algorithm = header.id(ALGORITHM).ok().flatten().ok_or(Malformed)?;
    if algorithm.eq_ignore_ascii_case(b"none") || header.is_there(CRITICAL) {
        return Err(Malformed);
    }
    json::read(decode(second, decoded)?, payload)
}

/// Reads the wanted claims of a payload that an earlier filter forwards, padded or not.
///
/// # Errors
///
/// [`Malformed`], as for a token.
pub fn read_payload(
    value: &[u8],
    payload: &mut Claims,
    decoded: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let value = value.trim_ascii();
    let mut bare = value;
    for _ in 0..2 {
        // Padding makes a multiple of four.
        if value.len().is_multiple_of(4) {
            bare = bare.strip_suffix(b"=").unwrap_or(bare);
        }
    }
    if bare.is_empty() || bare.len() > TOKEN_BYTES_MAX {
        return Err(Malformed);
    }
    json::read(decode(bare, decoded)?, payload)
}

fn decode<'a>(text: &[u8], decoded: &'a mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    decoded.resize(text.len(), 0);
    Base64UrlUnpadded::decode(text, decoded).map_err(|_| Malformed)
}
