//! Times as people and programs write them.

use chrono::DateTime;

/// Seconds of Unix time of a date such as `2026-09-21T14:13:20Z` (RFC 3339); `None` if it is
/// none, or before 1970.
pub(crate) fn rfc3339_secs(text: &str) -> Option<u64> {
    u64::try_from(DateTime::parse_from_rfc3339(text).ok()?.timestamp()).ok()
}

/// Now, in milliseconds of Unix time.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A time for people, in UTC.
pub(crate) fn shown(secs: u64) -> String {
    let time = i64::try_from(secs).ok().and_then(|secs| DateTime::from_timestamp(secs, 0));
    time.map_or_else(|| secs.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}
