//! What was expected against what was seen, line by line.

use super::case::{Each, HeaderWanted, RetryAfter};
use super::exchange::Seen;
use tidegate_core::time::Span;

/// One thing that was expected, and what there was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) wanted: String,
    pub(super) got: String,
    pub(super) is_met: bool,
}

/// What is not there.
const NOTHING: &str = "(none)";

impl Line {
    /// For values that are equal or not.
    pub(super) fn equal<T: PartialEq + ToString>(name: &str, wanted: &T, got: Option<&T>) -> Self {
        Self {
            name: name.to_owned(),
            wanted: wanted.to_string(),
            got: got.map_or_else(|| NOTHING.to_owned(), ToString::to_string),
            is_met: got == Some(wanted),
        }
    }
}

/// Holds a response against what is expected of each.
pub(super) fn each(expect: &Each, seen: &Seen) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(status) = &expect.status {
        lines.push(Line::equal("status", status, Some(&seen.status)));
    }
    if let Some(status) = &expect.grpc_status {
        lines.push(Line::equal("grpc_status", status, seen.grpc_status().as_ref()));
    }
    if let Some(limit) = &expect.limit {
        lines.push(Line::equal("limit", limit, seen.limit.as_ref()));
    }
    for remaining in &expect.remaining {
        let (name, got) = match &remaining.limit {
            None => ("remaining".to_owned(), least_remaining(seen)),
            Some(limit) => (format!("remaining of {limit}"), remaining_of(seen, limit)),
        };
        lines.push(Line::equal(&name, &remaining.units, got.as_ref()));
    }
    if let Some(wanted) = expect.retry_after {
        lines.push(retry_after(wanted, seen));
    }
    lines.extend(expect.headers.iter().map(|(name, wanted)| header(name, wanted, seen)));
    if let Some(body) = &expect.body {
        lines.push(Line {
            name: "body".to_owned(),
            wanted: body.typed.to_string(),
            got: shown(&seen.body),
            is_met: body.pattern.matches(&seen.body),
        });
    }
    lines
}

fn retry_after(wanted: RetryAfter, seen: &Seen) -> Line {
    let told = seen.header("retry-after");
    let seconds = told.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    Line {
        name: "retry_after".to_owned(),
        wanted: match wanted {
            RetryAfter::Absent => NOTHING.to_owned(),
            RetryAfter::Seconds(seconds) => Span::from_secs(seconds).to_string(),
        },
        got: match seconds {
            Some(seconds) => Span::from_secs(seconds).to_string(),
            None => told.map_or_else(|| NOTHING.to_owned(), shown),
        },
        is_met: match wanted {
            RetryAfter::Absent => told.is_none(),
            RetryAfter::Seconds(wanted) => seconds == Some(wanted),
        },
    }
}

fn header(name: &str, wanted: &HeaderWanted, seen: &Seen) -> Line {
    let values: Vec<&[u8]> = seen
        .headers
        .iter()
        .filter(|(known, _)| known.as_ref() == name.as_bytes())
        .map(|(_, value)| &**value)
        .collect();
    let got = values.iter().map(|value| shown(value)).collect::<Vec<_>>().join(", ");
    Line {
        name: format!("headers.{name}"),
        wanted: match wanted {
            HeaderWanted::Present(true) => "(any)".to_owned(),
            HeaderWanted::Present(false) => NOTHING.to_owned(),
            HeaderWanted::Like(like) => like.typed.to_string(),
        },
        is_met: match wanted {
            HeaderWanted::Present(present) => *present != values.is_empty(),
            // A field that is there several times must be like that each time.
            HeaderWanted::Like(like) => {
                !values.is_empty() && values.iter().all(|value| like.pattern.matches(value))
            }
        },
        got: if values.is_empty() { NOTHING.to_owned() } else { got },
    }
}

/// `r` of a limit in `RateLimit: "login";r=0;t=12, "all";r=7;t=1`.
fn remaining_of(seen: &Seen, limit: &str) -> Option<u32> {
    let (_, units) = standings(seen).into_iter().find(|(name, _)| name == limit)?;
    Some(units)
}

fn least_remaining(seen: &Seen) -> Option<u32> {
    let told = standings(seen).into_iter().map(|(_, units)| units).min();
    told.or_else(|| {
        let value = seen.header("x-ratelimit-remaining")?;
        std::str::from_utf8(value).ok()?.parse().ok()
    })
}

fn standings(seen: &Seen) -> Vec<(String, u32)> {
    let told = seen.header("ratelimit").and_then(|value| std::str::from_utf8(value).ok());
    let standing = |item: &str| {
        let mut parts = item.trim().split(';');
        let name = parts.next()?.trim_matches('"').to_owned();
        let units = parts.find_map(|part| part.strip_prefix("r="))?.parse().ok()?;
        Some((name, units))
    };
    told.unwrap_or_default().split(',').filter_map(standing).collect()
}

/// Bytes for a person: as text, what is not printable escaped.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .flat_map(|char| {
            let escaped = char.is_control().then(|| char.escape_default());
            escaped.into_iter().flatten().chain((!char.is_control()).then_some(char))
        })
        .collect()
}
