//! How small things are written: durations, rates, networks, patterns, names.
//!
//! Each function reads exactly one spelling and nothing near it; [`meant`] guesses what
//! somebody had in mind who wrote something near it, for a hint.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use tidegate_core::policy::{Cidr, NAME_BYTES_MAX, Pattern};
use tidegate_core::time::Span;

/// The most `*` in one pattern, so that matching stays within a few passes over a subject.
pub const STARS_MAX: usize = 8;

/// Units of time, largest first, in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// Reads a duration: `20ms`, `1s`, `5m`, `1h30m`, `1d`; larger units first, each once.
pub fn duration(text: &str) -> Option<Span> {
    let (mut rest, mut total, mut last) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() || last == u64::MAX {
        let (number, tail) = split_where(rest, |c| !c.is_ascii_digit())?;
        let (unit, tail) = split_where(tail, |c| c.is_ascii_digit())?;
        let nanos = unit_nanos(unit).filter(|nanos| *nanos < last)?;
        total = number.parse::<u64>().ok()?.checked_mul(nanos)?.checked_add(total)?;
        (rest, last) = (tail, nanos);
    }
    Some(Span(total))
}

/// Reads a rate: a count, a slash, and a time or a unit of time: `100/1m`, `5/s`.
pub fn rate(text: &str) -> Option<(u32, Span)> {
    let (count, period) = text.split_once('/')?;
    if !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return None; // `+5` would parse
    }
    let period = unit_nanos(period).map(Span).or_else(|| duration(period))?;
    Some((count.parse().ok()?, period))
}

/// What was probably meant by a rate or duration that cannot be read: `1 min` is `1m`,
/// `100 per minute` and `100rpm` are `100/m`.
///
/// The answer is in the exact spelling, or there is none.
pub fn meant(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let (mut rest, mut respelled) = (lower.as_str(), String::new());
    while let Some(first) = rest.chars().next() {
        let (token, tail) = if first.is_ascii_alphabetic() {
            split_where(rest, |c| !c.is_ascii_alphabetic())?
        } else {
            rest.split_at_checked(first.len_utf8())?
        };
        respelled.push_str(match token {
            " " | "_" | "," | "r" | "req" | "reqs" | "request" | "requests" => "",
            "per" | "a" | "an" | "each" | "every" | "in" => "/",
            "rps" => "/s",
            "rpm" => "/m",
            "rph" => "/h",
            "sec" | "secs" | "second" | "seconds" => "s",
            "min" | "mins" | "minute" | "minutes" => "m",
            "hr" | "hrs" | "hour" | "hours" => "h",
            "day" | "days" => "d",
            "msec" | "millis" | "millisecond" | "milliseconds" => "ms",
            other => other,
        });
        rest = tail;
    }
    (rate(&respelled).is_some() || duration(&respelled).is_some()).then_some(respelled)
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoNetwork {
    /// Neither `ADDRESS/BITS` nor an address.
    Unreadable,
    /// Bits are set beyond the prefix; this is the network that the address lies in.
    HostBits(Cidr),
}

/// Reads a network: `10.0.0.0/8`, `2001:db8::/32`, or one address.
///
/// # Errors
///
/// [`NoNetwork`].
pub fn network(text: &str) -> Result<Cidr, NoNetwork> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NoNetwork::Unreadable)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) => match bits.parse() {
            Ok(number) if number <= most && !bits.starts_with('+') => number,
            _ => return Err(NoNetwork::Unreadable),
        },
    };
    // Clients that come as `::ffff:192.0.2.1` are told apart by their IPv4 address.
    let (address, bits) = match (address, address.to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(v4)) if bits >= 96 => (IpAddr::V4(v4), bits - 96),
        _ => (address, bits),
    };
    let network = Cidr::holding(address, bits);
    if network.network == address { Ok(network) } else { Err(NoNetwork::HostBits(network)) }
}

/// Reads a pattern: a text in which `*` stands for any run of bytes. `None` if there are
/// more than [`STARS_MAX`] of them.
pub fn pattern(text: &str) -> Option<Pattern> {
    let mut pieces: Vec<Box<str>> = text.split('*').map(Box::from).collect();
    if pieces.len() > STARS_MAX + 1 {
        return None;
    }
    Some(match pieces.as_mut_slice() {
        [whole] => Pattern::Exact(core::mem::take(whole)),
        [start, end] if end.is_empty() => Pattern::Prefix(core::mem::take(start)),
        [start, end] if start.is_empty() => Pattern::Suffix(core::mem::take(end)),
        _ => Pattern::Glob(pieces),
    })
}

/// Whether this can name a limit or a domain: 1 to [`NAME_BYTES_MAX`] of `a-z0-9_-`.
pub fn is_name(text: &str) -> bool {
    let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// Whether this can be a header's, cookie's or method's name: a token, as RFC 9110 5.6.2 has it.
pub fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

/// The nearest of `known` to `typed`, if it is near enough to have been meant.
pub fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |name: &&&str| {
        // A third of a word may be wrong, and never all of it.
        let allowed = (name.len() / 3).clamp(1, 2);
        typed.len().abs_diff(name.len()) <= allowed && edits(typed, name) <= allowed
    };
    known.iter().filter(near).min_by_key(|name| edits(typed, name)).copied()
}

/// Insertions, deletions, replacements and swaps of neighbours between two short texts.
fn edits(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    for (i, x) in a.iter().enumerate() {
        let mut row = alloc::vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            let swap = if swapped { at(&before, j - 1) + 1 } else { usize::MAX / 2 };
            let replace = at(&above, j) + usize::from(x != y);
            row.push(replace.min(swap).min(at(&above, j + 1) + 1).min(at(&row, j) + 1));
        }
        (before, above) = (above, row);
    }
    at(&above, b.len())
}

fn unit_nanos(unit: &str) -> Option<u64> {
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| *nanos)
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    text.split_at_checked(text.find(end).unwrap_or(text.len()))
}

#[cfg(test)]
#[path = "spelling_tests.rs"]
mod tests;
