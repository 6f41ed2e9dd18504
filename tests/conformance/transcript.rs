//! What became of a case, as text: what the filters logged, what the origin saw, what the
//! client got. Two homes agree if their transcripts do.

use crate::origin::Seen;
use hyper::header::{HeaderMap, HeaderValue};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Fields that belong to a connection, to the hour or to a product, not to the message.
const NOT_COMPARED: [&str; 8] = [
    "connection",
    "date",
    "keep-alive",
    "server",
    "transfer-encoding",
    "x-case",
    // Each proxy in its own words.
    "x-forwarded-for",
    "via",
];

/// Longer bodies are shown by their length and a checksum.
const SHOWN_BYTES_MAX: usize = 160;

/// One case.
pub(crate) fn write(case: &str, log: &[String], seen: &[Seen], got: &[String]) -> String {
    let mut text = format!("case {case}\n");
    for line in log {
        let _ = writeln!(text, "  {line}");
    }
    // How much of a request that was given up reached the origin is chance.
    let mut whole: Vec<_> = seen.iter().filter(|seen| seen.is_whole).map(origin).collect();
    // And so is which of two at once came first.
    whole.sort();
    for seen in whole {
        let _ = writeln!(text, "{seen}");
    }
    for got in got {
        let _ = writeln!(text, "{got}");
    }
    text
}

fn origin(seen: &Seen) -> String {
    let what = format!("origin: {}", seen.line);
    message(&what, &seen.fields, &seen.body, &seen.trailers)
}

/// Makes any number of parts of a body, of any size, one: where they are too many for one
/// packet, nobody says how they come.
pub(crate) fn without_sizes(log: Vec<String>) -> Vec<String> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    for line in log {
        let is_detail = line.starts_with(' ');
        let line = match line.split_once("_body ") {
            Some((which, _)) if !is_detail => format!("{which}_body ..."),
            _ => line,
        };
        match parts.last_mut().filter(|_| is_detail) {
            Some(part) => part.push(line),
            None => parts.push(vec![line]),
        }
    }
    parts.dedup();
    parts.concat()
}

/// One message: its first line, then its parts.
pub(crate) fn message(what: &str, fields: &HeaderMap, body: &[u8], trailers: &HeaderMap) -> String {
    let mut text = what.to_owned();
    for (name, values) in grouped(fields) {
        // How long the body is said to be, if at all, is how it is sent: if it is right.
        if name == "content-length" && values == body.len().to_string() {
            continue;
        }
        let _ = write!(text, "\n  {name}: {values}");
    }
    if body.len() > SHOWN_BYTES_MAX {
        let _ = write!(text, "\n  {} bytes, sum {:08x}", body.len(), sum(body));
    } else if !body.is_empty() {
        let _ = write!(text, "\n  \"{}\"", body.escape_ascii());
    }
    for (name, values) in grouped(trailers) {
        let _ = write!(text, "\n  trailer {name}: {values}");
    }
    text
}

/// Fields by name: across names, their order is nobody's business.
fn grouped(fields: &HeaderMap) -> BTreeMap<&str, String> {
    let names = fields.keys().map(|name| name.as_str());
    let compared =
        names.filter(|name| !NOT_COMPARED.contains(name) && !name.starts_with("x-envoy"));
    let shown = |value: &HeaderValue| value.as_bytes().escape_ascii().to_string();
    let values = |name| {
        let values = fields.get_all(name).iter().map(shown).collect::<Vec<_>>().join(" | ");
        if values.len() <= SHOWN_BYTES_MAX {
            values
        } else {
            format!("{} bytes, sum {:08x}", values.len(), sum(values.as_bytes()))
        }
    };
    compared.map(|name| (name, values(name))).collect()
}

/// FNV-1a: enough to see that two long bodies are the same.
fn sum(body: &[u8]) -> u32 {
    body.iter()
        .fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
