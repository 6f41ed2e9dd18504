//! A verdict, as response fields and a body.
//!
//! `RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-11
//! (RFC 9651 lists; `q` quota, `w` window, `r` available, `t` effective window, whole
//! seconds); refusals are problem details (RFC 9457) of that draft's types; `Retry-After` is
//! RFC 9110 §10.2.3, `WWW-Authenticate` of a token that is not accepted RFC 6750 §3. `X-RateLimit-*` have no standard: here they speak of the limit that
//! has least left, and `-Reset` counts seconds from now.
//!
//! No value holds a byte that a client sent: names of limits are `[a-z0-9_-]`, the rest is
//! numbers.

use crate::policy::Policy;
use crate::time::Span;
use crate::verdict::{Denial, LimitIndex, LimitStanding, Reason, Rejection};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

/// A field's name, lower-case as HTTP/2 wants it, and its value.
pub type Field = (&'static str, String);

/// A refusal, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 401, 429 or 503.
    pub status: u16,
    /// What gRPC clients get: 8 `RESOURCE_EXHAUSTED`, which they do not retry at once, 14
    /// `UNAVAILABLE`, or 16 `UNAUTHENTICATED`.
    pub grpc_status: u32,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Its body, JSON.
    pub body: String,
    /// Why, for access logs: `tidegate{limit=NAME}`, `tidegate{revoked}`; no spaces.
    pub details: String,
}

/// The response for a refused request.
pub fn refusal(policy: &Policy, denial: &Denial) -> Response {
    let name = limit_name(policy, denial.limit);
    let (status, grpc_status, problem, title, why) = match denial.reason {
        Reason::Limited => (429, 8, "quota-exceeded", "Too many requests", ""),
        Reason::CostTooHigh => {
            (429, 8, "quota-exceeded", "The request costs more than the quota ever holds", ",cost")
        }
        Reason::StoreAway => {
            (503, 14, "temporary-reduced-capacity", "The quota cannot be checked now", ",store")
        }
    };
    let mut fields = Vec::with_capacity(7);
    fields.push(("content-type", String::from("application/problem+json")));
    fields.push(("cache-control", String::from("no-store")));
    if let Some(seconds) = retry_after(policy, denial) {
        fields.push(("retry-after", format!("{seconds}")));
    }
    standing_fields(policy, &denial.standings, &mut fields);
    let mut body = format!(
        "{{\"type\":\"https://iana.org/assignments/http-problem-types#{problem}\",\
         \"title\":\"{title}\",\"status\":{status}"
    );
    if denial.reason != Reason::StoreAway {
        let _ = write!(body, ",\"violated-policies\":[\"{name}\"");
        for told in denial.standings.iter().filter(|told| told.limit != denial.limit) {
            let _ = write!(body, ",\"{}\"", limit_name(policy, told.limit));
        }
        body.push(']');
    }
    body.push('}');
    let details = format!("tidegate{{limit={name}{why}}}");
    Response { status, grpc_status, fields, body, details }
}

/// The response for a request that is rejected for what it shows, or does not show.
pub fn rejection(policy: &Policy, rejection: Rejection) -> Response {
    let (status, grpc_status, title, details) = match rejection {
        Rejection::Revoked => (401, 16, "The token was revoked", "tidegate{revoked}"),
        Rejection::Unfit => (401, 16, "The token cannot be accepted", "tidegate{token}"),
        Rejection::NoToken => (401, 16, "A token is needed", "tidegate{no_token}"),
        Rejection::Unknown => {
            (503, 14, "The token cannot be checked now", "tidegate{revocation,store}")
        }
    };
    let mut fields = Vec::with_capacity(3);
    fields.push(("content-type", String::from("application/problem+json")));
    fields.push(("cache-control", String::from("no-store")));
    match rejection {
        // RFC 6750 section 3: who shows no token is told no more than that one is needed.
        Rejection::NoToken => fields.push(("www-authenticate", String::from("Bearer"))),
        Rejection::Revoked | Rejection::Unfit => {
            let why = format!("Bearer error=\"invalid_token\", error_description=\"{title}\"");
            fields.push(("www-authenticate", why));
        }
        Rejection::Unknown => {
            let wait = policy.host.as_ref().map_or(Span::ZERO, |host| host.breaker);
            fields.push(("retry-after", format!("{}", whole_seconds(wait))));
        }
    }
    let body = format!("{{\"title\":\"{title}\",\"status\":{status}}}");
    Response { status, grpc_status, fields, body, details: String::from(details) }
}

/// The fields that tell a client where it stands, as the policy wants them.
pub fn standing_fields(policy: &Policy, standings: &[LimitStanding], to: &mut Vec<Field>) {
    let Some(least) = standings.iter().min_by_key(|told| told.standing.remaining) else { return };
    if policy.headers.ratelimit {
        let (mut rules, mut now) = (String::new(), String::new());
        for (place, told) in standings.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let name = limit_name(policy, told.limit);
            let (q, w) = (told.burst, whole_seconds(told.window));
            let (r, t) = (told.standing.remaining, whole_seconds(told.standing.reset));
            let _ = write!(rules, "{comma}\"{name}\";q={q};w={w}");
            let _ = write!(now, "{comma}\"{name}\";r={r};t={t}");
        }
        to.push(("ratelimit-policy", rules));
        to.push(("ratelimit", now));
    }
    if policy.headers.x_ratelimit {
        to.push(("x-ratelimit-limit", format!("{}", least.burst)));
        to.push(("x-ratelimit-remaining", format!("{}", least.standing.remaining)));
        to.push(("x-ratelimit-reset", format!("{}", whole_seconds(least.standing.reset))));
    }
}

/// Seconds until a retry can succeed; while the store is away, until it is probed again.
fn retry_after(policy: &Policy, denial: &Denial) -> Option<u64> {
    let wait = match denial.reason {
        Reason::Limited => denial.retry_after?,
        Reason::CostTooHigh => return None,
        Reason::StoreAway => policy.host.as_ref()?.breaker,
    };
    Some(whole_seconds(wait))
}

/// The fields' grain is a second, and a wait told must not be too short.
fn whole_seconds(span: Span) -> u64 {
    span.secs_ceil().max(1)
}

fn limit_name(policy: &Policy, limit: LimitIndex) -> &str {
    policy.limits.get(usize::from(limit.0)).map_or("", |limit| &limit.name)
}
