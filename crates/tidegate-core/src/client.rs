//! What a client wrote, taken apart: addresses, paths, queries, cookies, hosts.
//!
//! All of it is bytes that a stranger chose. Nothing here can fail; what cannot be
//! read is absent, and nothing is ever assumed to be UTF-8.

use crate::policy::Cidr;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Reads `ip`, `ip:port`, `[v6]` or `[v6]:port`. IPv4 inside IPv6 (`::ffff:a.b.c.d`)
/// is the IPv4 address that it stands for, so that nobody has two identities.
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    let text = core::str::from_utf8(bytes).ok()?;
    let bare = if let Some(rest) = text.strip_prefix('[') {
        rest.split_once(']')?.0
    } else if text.bytes().filter(|byte| *byte == b':').count() == 1 {
        text.split_once(':')?.0
    } else {
        text
    };
    Some(bare.parse::<IpAddr>().ok()?.to_canonical())
}

/// Appends an address cut to its prefix: a family byte, then all its octets.
pub fn write_prefix(ip: IpAddr, v4_bits: u8, v6_bits: u8, to: &mut Vec<u8>) {
    let bits = if ip.is_ipv4() { v4_bits } else { v6_bits };
    match Cidr::holding(ip, bits).network {
        IpAddr::V4(v4) => {
            to.push(4);
            to.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            to.push(6);
            to.extend_from_slice(&v6.octets());
        }
    }
}

/// Reads what [`write_prefix`] wrote.
pub fn prefix(bytes: &[u8]) -> Option<IpAddr> {
    match bytes {
        [4, octets @ ..] => Some(<[u8; 4]>::try_from(octets).ok()?.into()),
        [6, octets @ ..] => Some(<[u8; 16]>::try_from(octets).ok()?.into()),
        _ => None,
    }
}

/// A `:path` without its query or fragment. An empty one is `/` (RFC 9110 §4.2.3): of
/// `http://shop.example?a=b` there are proxies that tell `?a=b`.
pub fn path(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
    let path = end.and_then(|end| target.get(..end)).unwrap_or(target);
    if path.is_empty() { b"/" } else { path }
}

/// An `:authority` without its port.
pub fn host(authority: &[u8]) -> &[u8] {
    // `[v6]:port` keeps its brackets; a bare v6 address is not a valid authority.
    let end = match authority.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !authority.get(colon..).is_some_and(|tail| tail.contains(&b']')) => colon,
        _ => authority.len(),
    };
    authority.get(..end).unwrap_or(authority)
}

/// The value of the first cookie of this name in a `cookie` header (RFC 6265 §4.2.1).
pub fn cookie<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    cookies(header, name).next()
}

/// Several values where one was wanted, and no telling which of them others will believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several;

/// The value of the cookie of this name, which may be there once; or often, but the same.
///
/// # Errors
///
/// [`Several`] if it is there with another value too.
pub fn sole_cookie<'a>(header: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, Several> {
    let mut all = cookies(header, name);
    let sole = all.next();
    if all.all(|other| Some(other) == sole) { Ok(sole) } else { Err(Several) }
}

/// The values of all cookies of this name. `sid =a` and `sid= a` are `sid=a`, as they are to the
/// origins that take blanks off names and values: Go's, Node's, Python's.
fn cookies<'a>(header: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    header.split(|byte| *byte == b';').filter_map(move |pair| {
        let (key, value) = split_once(pair, b'=')?;
        (trimmed(key) == name.as_bytes()).then(|| trimmed(value))
    })
}

/// Without what somebody takes for a blank: those of ASCII, and of Latin-1, which Python and Node
/// read headers as.
fn trimmed(mut text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, 0..=b' ' | 0x7f | 0x85 | 0xa0);
    while let Some((_, rest)) = text.split_first().filter(|(first, _)| is_blank(first)) {
        text = rest;
    }
    while let Some((_, rest)) = text.split_last().filter(|(last, _)| is_blank(last)) {
        text = rest;
    }
    text
}

/// Appends the first value of a query parameter, decoded
/// (`application/x-www-form-urlencoded`); `false` if the target has none.
pub fn query(target: &[u8], name: &str, to: &mut Vec<u8>) -> bool {
    let Some((_, query)) = split_once(target, b'?') else { return false };
    let query = query.split(|byte| *byte == b'#').next().unwrap_or(query);
    for pair in query.split(|byte| *byte == b'&') {
        let (key, value) = split_once(pair, b'=').unwrap_or((pair, &[]));
        if decoded(key).eq(name.bytes()) {
            to.extend(decoded(value));
            return true;
        }
    }
    false
}

/// Decodes `%41` and `+`; a `%` that no two hex digits follow stands for itself.
pub(crate) fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    core::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        if first == b'%'
            && let Some(([high, low], tail)) = after.split_first_chunk::<2>()
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            rest = tail;
            return Some(high << 4 | low);
        }
        rest = after;
        Some(if first == b'+' { b' ' } else { first })
    })
}

/// Reads `\101` and `\A` as `A`, as Python does in a cookie's quotes (`http.cookies`, and with it
/// Django and Werkzeug).
pub(crate) fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, tail) = match after {
            [high @ b'0'..=b'3', mid @ b'0'..=b'7', low @ b'0'..=b'7', tail @ ..]
                if first == b'\\' =>
            {
                ((high & 7) << 6 | (mid & 7) << 3 | low & 7, tail)
            }
            [next, tail @ ..] if first == b'\\' => (*next, tail),
            _ => (first, after),
        };
        plain.push(byte);
        rest = tail;
    }
    plain
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}
