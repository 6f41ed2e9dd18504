//! Bytes as log lines show them: on one line, and not too long.

use std::fmt::Write as _;

/// Longer values are shown by their beginning, their length and a checksum.
const SHOWN_BYTES_MAX: usize = 160;

/// Maps of more fields are shown by their first ones, their number and a checksum.
const SHOWN_FIELDS_MAX: usize = 40;

/// A field that only Envoy adds to the answers of calls, and that differs each time: it is
/// neither shown nor counted.
pub(crate) const HIDDEN: &str = "x-envoy-upstream-service-time";

/// A field that each proxy has in its own words: not in a checksum.
const VARYING: &[u8] = b"x-forwarded-for";

/// A value in quotes.
pub(crate) fn bytes(value: &[u8]) -> String {
    match value.get(..32).filter(|_| value.len() > SHOWN_BYTES_MAX) {
        Some(start) => {
            format!("\"{}\"... {} bytes, sum {:08x}", start.escape_ascii(), value.len(), sum(value))
        }
        None => format!("\"{}\"", value.escape_ascii()),
    }
}

/// The pairs of an encoded map, as they come.
pub(crate) fn pairs(encoded: &[u8]) -> String {
    match decoded(encoded) {
        Some(pairs) => listed(&pairs),
        None => format!("no map: {}", bytes(encoded)),
    }
}

/// The pairs of an encoded map, sorted.
pub(crate) fn sorted(encoded: &[u8]) -> String {
    match decoded(encoded) {
        Some(mut pairs) => {
            pairs.sort();
            listed(&pairs)
        }
        None => format!("no map: {}", bytes(encoded)),
    }
}

fn listed(pairs: &[Pair<'_>]) -> String {
    let pairs: Vec<_> = pairs.iter().filter(|(name, _)| *name != HIDDEN.as_bytes()).collect();
    let mut shown = String::from("{");
    for (name, value) in pairs.iter().take(SHOWN_FIELDS_MAX) {
        let _ = write!(shown, " {}={}", name.escape_ascii(), value.escape_ascii());
    }
    if pairs.len() > SHOWN_FIELDS_MAX {
        let same = pairs.iter().filter(|(name, _)| *name != VARYING);
        let all: Vec<u8> =
            same.flat_map(|(name, value)| [name, &b"="[..], value].concat()).collect();
        let _ = write!(shown, " ... {} pairs, sum {:08x}", pairs.len(), sum(&all));
    }
    shown.push_str(" }");
    shown
}

type Pair<'a> = (&'a [u8], &'a [u8]);

/// A count, the lengths, then each name and value with a NUL behind it.
fn decoded(encoded: &[u8]) -> Option<Vec<Pair<'_>>> {
    let word = |at: usize| {
        let bytes = encoded.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    let count = word(0)?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    let mut text = |len: usize| {
        let text = encoded.get(at..)?.get(..len)?;
        at += len + 1;
        Some(text)
    };
    (0..count)
        .map(|place| Some((text(word(4 + place * 8)?)?, text(word(8 + place * 8)?)?)))
        .collect()
}

/// FNV-1a: enough to see that two long values are the same.
fn sum(value: &[u8]) -> u32 {
    value
        .iter()
        .fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
