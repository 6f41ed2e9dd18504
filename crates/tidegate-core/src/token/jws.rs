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

/// Schemes of tokens.
const SCHEMES: [&[u8]; 2] = [b"bearer", b"dpop"];

/// Takes the scheme and quotes off what a header has: the token of `Bearer TOKEN` and
/// `DPoP TOKEN`, and a value without any scheme as a whole. `None` if it is empty, or of another
/// scheme.
///
/// # Errors
///
/// [`Malformed`] where another reader may find another token: behind a scheme is no `b64token`
/// (RFC 6750 section 2.1; `|` and `:` pass too), such as two words, of which many take the first; our scheme stands
/// behind another, where some look for it; or there is more than visible ASCII, some of which
/// is a blank to somebody.
pub fn bare(header: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let header = header.trim_ascii();
    if !header.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return Err(Malformed);
    }
    let (scheme, rest) = schemed(header);
    let token = unquoted(rest);
    match scheme {
        Some(true) if token.is_some_and(|token| !is_one_word(token)) => Err(Malformed),
        Some(false) if header.split(is_blank).any(ends_in_scheme) => Err(Malformed),
        Some(false) => Ok(None),
        _ => Ok(token),
    }
}

/// The same of a cookie, which knows no other schemes: whatever it is, it is the token.
pub fn bare_of_cookie(cookie: &[u8]) -> Option<&[u8]> {
    match schemed(cookie) {
        (Some(false), _) => unquoted(cookie.trim_ascii()),
        (_, token) => unquoted(token),
    }
}

/// Whether a credential has a scheme of tokens, if it has any; and what comes after it.
fn schemed(credential: &[u8]) -> (Option<bool>, &[u8]) {
    let credential = credential.trim_ascii();
    let mut words = credential.splitn(2, is_blank);
    let first = words.next().unwrap_or_default();
    let is_ours = SCHEMES.iter().any(|it| it.eq_ignore_ascii_case(first));
    match words.next() {
        Some(rest) => (Some(is_ours), rest.trim_ascii_start()),
        None if is_ours => (Some(true), &[]),
        None => (None, credential),
    }
}

/// Whether a word ends as if one of ours began there: Envoy takes `xBearer TOKEN`, too.
fn ends_in_scheme(word: &[u8]) -> bool {
    let ends = |scheme: &[u8]| {
        let end = word.get(word.len().wrapping_sub(scheme.len())..);
        end.is_some_and(|end| end.eq_ignore_ascii_case(scheme))
    };
    SCHEMES.into_iter().any(ends)
}

const fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether it is a `b64token`; or has `|` or `:` as well, which real tokens have (`17|nXq…`) and at
/// which nobody ends one.
fn is_one_word(token: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/|:".contains(byte);
    let mut padding = token.iter().skip_while(|byte| is_digit(byte));
    token.first().is_some_and(is_digit) && padding.all(|byte| *byte == b'=')
}

fn unquoted(token: &[u8]) -> Option<&[u8]> {
    let inner = token.strip_prefix(b"\"").and_then(|token| token.strip_suffix(b"\""));
    Some(inner.unwrap_or(token)).filter(|token| !token.is_empty())
}

/// Whether it has the shape of a signed token: three parts.
pub fn has_shape(token: &[u8]) -> bool {
    token.iter().filter(|byte| **byte == b'.').count() == 2
}

/// Whether it is of that shape, and of a signed token's digits alone.
pub fn is_run(token: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    has_shape(token) && token.iter().all(is_digit)
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

/// Base64url without padding, and only as RFC 4648 has it: bits that no octet has are zeros.
fn decode<'a>(text: &[u8], decoded: &'a mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    decoded.clear();
    decoded.reserve(text.len());
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return Err(Malformed),
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // Six bits left are a digit too many.
    if bits == 0 && count < 6 { Ok(decoded) } else { Err(Malformed) }
}
