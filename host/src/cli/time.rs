//! Times as people write them: seconds of Unix time, a date, or from now on.

use crate::revocations_api::when;
use serde_json::Value;

/// A time as the API takes it: seconds of Unix time, or `ever`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) Value);

/// Reads a time.
///
/// # Errors
///
/// What would be one.
pub(super) fn read(text: &str) -> Result<Time, String> {
    let now_secs = when::now_ms() / 1_000;
    let secs = match text {
        "ever" => return Ok(Time("ever".into())),
        "now" => Some(now_secs),
        _ => match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(ahead), _) => span_secs(ahead).and_then(|span| now_secs.checked_add(span)),
            (_, Some(ago)) => span_secs(ago).and_then(|span| now_secs.checked_sub(span)),
            (None, None) => text.parse().ok().or_else(|| when::rfc3339_secs(text)),
        },
    };
    secs.map(|secs| Time(secs.into())).ok_or_else(|| {
        "wanted seconds of Unix time, 2026-09-21T14:13:20Z, now, +1h, -30m, or ever".to_owned()
    })
}

/// `90s`, `30m`, `1h`, `7d`.
fn span_secs(text: &str) -> Option<u64> {
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_secs = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(unit_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_a_date_or_from_now_on() {
        assert_eq!(read("1790000000").unwrap(), Time(1_790_000_000_u64.into()));
        assert_eq!(read("2026-09-21T14:13:20Z").unwrap(), Time(1_790_000_000_u64.into()));
        assert_eq!(read("2026-09-21T16:13:20+02:00").unwrap(), Time(1_790_000_000_u64.into()));
        assert_eq!(read("ever").unwrap(), Time("ever".into()));
        let now = when::now_ms() / 1_000;
        for (text, span) in [("+90s", 90), ("+1h", 3_600), ("+7d", 604_800), ("now", 0)] {
            let at = read(text).unwrap().0.as_u64().unwrap();
            assert!((now + span..now + span + 5).contains(&at), "{text}");
        }
        assert!(read("-1h").unwrap().0.as_u64().unwrap() < now);
        for text in ["", "+", "1h", "+1w", "tomorrow", "1.5", "+-1h", "2026-09-21", "+1µ"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
