//! How a request is answered: JSON, or lines of it; what is wrong, as RFC 9457 has it.

use super::attempts;
use crate::revocations::{Accepted, Fault, NotAccepted, Reach};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use std::io;
use std::time::Duration;
use tidegate_core::revoke::{EVER, Position, Record};

/// A body, whole or as it comes. An error breaks it off, so that nobody takes it for whole.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) type Reply = Response<Body>;

/// An answer instead of what was to be found out.
pub(super) type Refusal = Box<Reply>;

/// Lines of JSON.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// An answer in JSON.
pub(super) fn json(status: StatusCode, page: &impl Serialize) -> Reply {
    // Maps with names for keys always serialize.
    let text = serde_json::to_string(page).unwrap_or_default();
    with_type(status, "application/json", whole(text + "\n"))
}

/// An answer that says all by its status.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = with_type(status, "text/plain", whole(""));
    reply.headers_mut().remove(CONTENT_TYPE);
    reply
}

/// What is wrong, in one sentence.
pub(super) fn problem(status: StatusCode, detail: &str) -> Reply {
    let title = status.canonical_reason().unwrap_or_default();
    let page = json!({ "title": title, "status": status.as_u16(), "detail": detail });
    with_type(status, "application/problem+json", whole(page.to_string() + "\n"))
}

/// The same, where something else was expected.
pub(super) fn refusal(status: StatusCode, detail: &str) -> Refusal {
    Box::new(problem(status, detail))
}

/// Too much of something, and when to come again.
pub(super) fn later(status: StatusCode, detail: &str, wait: Duration) -> Reply {
    let mut reply = problem(status, detail);
    reply.headers_mut().insert(RETRY_AFTER, attempts::whole_secs(wait).into());
    reply
}

/// Lines, as they come.
pub(super) fn lines(body: Body) -> Reply {
    with_type(StatusCode::OK, NDJSON, body)
}

/// Why nothing was accepted.
pub(super) fn not_accepted(not: &NotAccepted) -> Reply {
    match not {
        NotAccepted::Count(_) => problem(StatusCode::PAYLOAD_TOO_LARGE, &why(not)),
        NotAccepted::NoReplicas => problem(StatusCode::BAD_REQUEST, &why(not)),
        NotAccepted::Fault(fault) => self::fault(fault),
        NotAccepted::Away(_)
        | NotAccepted::Unknown(_)
        | NotAccepted::HeldMax
        | NotAccepted::Ending => {
            later(StatusCode::SERVICE_UNAVAILABLE, &why(not), Duration::from_secs(1))
        }
    }
}

/// The same in words.
pub(super) fn why(not: &NotAccepted) -> String {
    match not {
        NotAccepted::Count(count) => format!("{count} records at once"),
        NotAccepted::Fault(fault) => fault.to_string(),
        NotAccepted::Away(why) => format!(
            "nothing was revoked: the log that hosts share is away ({why}); send it again, or with \
             ?durability=this_host, which this host and its proxies enforce at once"
        ),
        NotAccepted::Unknown(why) => {
            format!("it may have been revoked, or not: {why}; sending it again does no harm")
        }
        NotAccepted::HeldMax => "nothing was revoked: as many revocations as may already wait for \
                                 the shared log"
            .to_owned(),
        NotAccepted::NoReplicas => "durability: replicas were asked for, and this host's log is \
                                    its own: it has no Redis"
            .to_owned(),
        NotAccepted::Ending => "nothing was revoked: this host is ending".to_owned(),
    }
}

/// The file fails.
pub(super) fn fault(fault: &Fault) -> Reply {
    match fault {
        Fault::Full => problem(StatusCode::INSUFFICIENT_STORAGE, &fault.to_string()),
        _ => problem(StatusCode::SERVICE_UNAVAILABLE, &fault.to_string()),
    }
}

/// 200, or 202 if it is not as durable as it should be in the end.
pub(super) fn status(accepted: &Accepted, replicas_wanted: u32) -> StatusCode {
    match accepted.reach {
        Reach::Held => StatusCode::ACCEPTED,
        Reach::Shared { replicas } if replicas < replicas_wanted => StatusCode::ACCEPTED,
        Reach::ThisHost | Reach::Shared { .. } => StatusCode::OK,
    }
}

/// How durable something is.
pub(super) fn durability(reach: Reach) -> serde_json::Value {
    match reach {
        Reach::ThisHost => json!({ "this_host": true, "shared": false }),
        Reach::Shared { replicas } => {
            json!({ "this_host": true, "shared": true, "replicas": replicas })
        }
        Reach::Held => json!({ "this_host": true, "shared": false, "waits_for_shared": true }),
    }
}

/// A place in the log. Its numbers are random: as text, for JSON's readers round large ones.
pub(super) fn position(position: &Position) -> serde_json::Value {
    let Position { log, number, chain } = position;
    json!({ "log": format!("{log:016x}"), "number": number, "chain": format!("{chain:016x}") })
}

/// A record as exports have it, and as it can be sent again.
#[derive(Serialize)]
pub(super) struct Shown {
    kind: &'static str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
    at_ms: u64,
}

/// Seconds of Unix time, or `"ever"`.
#[derive(Serialize)]
#[serde(untagged)]
enum Time {
    Secs(u64),
    Ever(&'static str),
}

impl Shown {
    pub(super) fn of(record: &Record) -> Self {
        let time = |secs| match secs {
            EVER => Time::Ever("ever"),
            secs => Time::Secs(secs),
        };
        let until = time(record.until_secs);
        let (exp, until) = if record.by_exp { (Some(until), None) } else { (None, Some(until)) };
        Self {
            kind: record.kind.name(),
            id: record.id.to_string(),
            lifted: record.lifts.then_some(true),
            before: (!record.lifts).then(|| time(record.before_secs)),
            exp,
            until,
            at_ms: record.at_ms,
        }
    }
}

pub(super) fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // RFC 7009 wants none of it cached, and so do we of all.
    headers.insert(HeaderName::from_static("cache-control"), HeaderValue::from_static("no-store"));
    reply
}
