//! What is expected: a verdict, a status, or more in a map.
//!
//! ```yaml
//! expect: allowed                      # or limited, or unavailable
//! expect: 429
//! expect:
//!   limit: login                       # the one that fired
//!   retry_after: 12s                   # or false: not told
//!   remaining: 0                       # or { login: 0 }
//!   status: 429
//!   grpc_status: 8
//!   headers: { content-type: "*json", ratelimit: true, set-cookie: false }
//!   body: "*quota-exceeded*"
//! expect: { allowed: 20, limited: 30, limit: login }   # of `times: 50`, in any order
//! ```
//!
//! Beside counts, the rest is expected of each response that is a refusal.

use super::super::case::{Counts, Each, Expect, HeaderWanted, Remaining, RetryAfter, Wanted};
use super::CaseReader;
use tidegate_core::time::Span;
use tidegate_policy::diagnostic::found;
use tidegate_policy::reading::{Reader, Spot};
use tidegate_policy::spelling;
use tidegate_policy::text::Value;

const EXPECT_FIELDS: &[&str] = &[
    "allowed",
    "limited",
    "unavailable",
    "status",
    "grpc_status",
    "limit",
    "remaining",
    "retry_after",
    "headers",
    "body",
];

const STATUS: (u32, u32) = (100, 599);

/// Codes of gRPC.
const GRPC_STATUS: (u32, u32) = (0, 16);

/// The grain of `Retry-After`.
const SECOND: Span = Span::from_secs(1);

const RETRY_AFTER_MAX: Span = Span::from_secs(2 * 366 * 86_400);

impl CaseReader<'_> {
    /// What is expected of `times` requests; their number is `None` if it could not be read.
    pub(super) fn expect(&mut self, spot: &Spot<'_>, times: Option<u32>) -> Option<Expect> {
        match &spot.node.value {
            Value::Map(fields) if fields.is_empty() => {
                self.wrong(spot, format_args!("something to expect"));
                None
            }
            Value::Map(_) => self.expect_map(spot, times),
            Value::Whole(_) => {
                let status = self.status(spot)?;
                Some(Expect {
                    counts: None,
                    each: Each { status: Some(status), ..Each::default() },
                })
            }
            _ => {
                let times = times.unwrap_or(1);
                let all = |allowed, limited, unavailable| Counts {
                    allowed,
                    limited,
                    unavailable,
                    failed: 0,
                };
                let words = [
                    ("allowed", all(times, 0, 0)),
                    ("limited", all(0, times, 0)),
                    ("unavailable", all(0, 0, times)),
                ];
                let counts = self.choice(spot, &words)?;
                Some(Expect { counts: Some(counts), each: Each::default() })
            }
        }
    }

    fn expect_map(&mut self, spot: &Spot<'_>, times: Option<u32>) -> Option<Expect> {
        self.fields(spot, EXPECT_FIELDS)?;
        let counts = self.counts(spot, times);
        let status = self.optional(spot, "status", None, |this, at| this.status(at).map(Some));
        let grpc_status = self
            .optional(spot, "grpc_status", None, |this, at| this.whole(at, GRPC_STATUS).map(Some));
        let limit = self.optional(spot, "limit", None, |this, at| this.limit(at).map(Some));
        let remaining = self.optional(spot, "remaining", Vec::new(), Self::remaining);
        let retry_after =
            self.optional(spot, "retry_after", None, |this, at| this.retry_after(at).map(Some));
        let headers = self.optional(spot, "headers", Vec::new(), Self::wanted_headers);
        let body = self.optional(spot, "body", None, |this, at| this.wanted(at).map(Some));
        let each = Each {
            status: status?,
            grpc_status: grpc_status?,
            limit: limit?,
            remaining: remaining?,
            retry_after: retry_after?,
            headers: headers?,
            body: body?,
        };
        Some(Expect { counts: counts?, each })
    }

    fn counts(&mut self, spot: &Spot<'_>, times: Option<u32>) -> Option<Option<Counts>> {
        let names = ["allowed", "limited", "unavailable"];
        if names.iter().all(|name| spot.field(name).is_none()) {
            return Some(None);
        }
        let counts = names
            .map(|name| self.optional(spot, name, 0, |this, at| this.whole(at, (0, u32::MAX))));
        let [Some(allowed), Some(limited), Some(unavailable)] = counts else { return None };
        let counts = Counts { allowed, limited, unavailable, failed: 0 };
        let times = times?;
        if counts.sum() != times {
            let found = format!("counts that sum to {}", counts.sum());
            let wanted = format_args!("{times}, one for each of the step's requests");
            self.wrong_found(spot, &found, wanted, None);
            return None;
        }
        Some(Some(counts))
    }

    fn status(&mut self, spot: &Spot<'_>) -> Option<u16> {
        u16::try_from(self.whole(spot, STATUS)?).ok()
    }

    fn remaining(&mut self, spot: &Spot<'_>) -> Option<Vec<Remaining>> {
        let Value::Map(_) = spot.node.value else {
            let units = self.whole(spot, (0, u32::MAX))?;
            return Some(vec![Remaining { limit: None, units }]);
        };
        let entries = self.entries(spot, "a map of limits and counts")?;
        let limits: Vec<_> = entries
            .iter()
            .map(|(name, at)| {
                let limit = self.limit_named(name, at);
                let units = self.whole(at, (0, u32::MAX));
                Some(Remaining { limit: Some(limit?), units: units? })
            })
            .collect();
        limits.into_iter().collect()
    }

    fn retry_after(&mut self, spot: &Spot<'_>) -> Option<RetryAfter> {
        if spot.node.value == Value::Bool(false) {
            return Some(RetryAfter::Absent);
        }
        let span = self.duration(spot, (SECOND, RETRY_AFTER_MAX))?;
        if !span.0.is_multiple_of(SECOND.0) {
            let hint = Some(format!("a client would be told {}s", span.secs_ceil()));
            self.wrong_found(spot, &found(spot.node), format_args!("whole seconds"), hint);
            return None;
        }
        Some(RetryAfter::Seconds(span.secs_ceil()))
    }

    fn wanted_headers(&mut self, spot: &Spot<'_>) -> Option<Vec<(Box<str>, HeaderWanted)>> {
        let entries = self.entries(spot, "a map of headers, such as { retry-after: true }")?;
        let headers: Vec<_> = entries
            .iter()
            .map(|(name, at)| {
                let name = self.header_named(name, at);
                let wanted = match at.node.value {
                    Value::Bool(present) => Some(HeaderWanted::Present(present)),
                    _ => self.wanted(at).map(HeaderWanted::Like),
                };
                Some((name?, wanted?))
            })
            .collect();
        headers.into_iter().collect()
    }

    /// A text in which `*` stands for anything.
    fn wanted(&mut self, spot: &Spot<'_>) -> Option<Wanted> {
        let typed = self.value(spot)?;
        let Some(pattern) = spelling::pattern(&typed) else {
            self.wrong(spot, format_args!("a pattern with at most {} *", spelling::STARS_MAX));
            return None;
        };
        Some(Wanted { typed: typed.into(), pattern })
    }
}
