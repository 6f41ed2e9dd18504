//! What is known of a request and its response.

use crate::exchange::Exchange;
use crate::maps::HeaderMap;
use crate::properties::{Seen, Value};
use std::borrow::Cow;

pub(super) const REQUEST: [&str; 16] = [
    "duration",
    "headers",
    "headers_bytes",
    "host",
    "id",
    "method",
    "path",
    "protocol",
    "query",
    "referer",
    "scheme",
    "size",
    "time",
    "total_size",
    "url_path",
    "useragent",
];

pub(super) fn request<'a>(name: &[u8], exchange: &'a Exchange, seen: Seen) -> Option<Value<'a>> {
    let facts = &exchange.facts;
    let headers = exchange.request_headers.as_ref().filter(|_| seen.request_headers);
    let header = |name: &[u8]| headers?.get(name).map(|value| bytes(value));
    match name {
        b"headers" => Some(Value::Headers(headers)),
        b"headers_bytes" => Some(count(headers.map_or(0, HeaderMap::bytes))),
        b"time" => Some(Value::TimestampNs(signed(facts.start_wall_ns))),
        b"duration" => facts.duration_ns.map(|ns| Value::DurationNs(signed(ns))),
        b"protocol" => (!facts.protocol.is_empty()).then(|| bytes(facts.protocol.as_bytes())),
        b"size" => match headers.and_then(|headers| headers.get(b"content-length")) {
            Some(length) => number(length).map(Value::Int),
            None => Some(Value::Int(signed(facts.request_body_bytes))),
        },
        b"total_size" => {
            let headers = headers.map_or(0, HeaderMap::bytes) as u64;
            Some(Value::Int(signed(facts.request_body_bytes.saturating_add(headers))))
        }
        b"path" => header(b":path"),
        b"url_path" => headers.map(|headers| bytes(split_path(headers).0)),
        b"query" => headers.map(|headers| bytes(split_path(headers).1)),
        b"host" => header(b":authority"),
        b"scheme" => header(b":scheme"),
        b"method" => header(b":method"),
        b"referer" => header(b"referer"),
        b"useragent" => header(b"user-agent"),
        b"id" => header(b"x-request-id"),
        _ => None,
    }
}

pub(super) const RESPONSE: [&str; 10] = [
    "backend_latency",
    "code",
    "code_details",
    "flags",
    "grpc_status",
    "headers",
    "headers_bytes",
    "size",
    "total_size",
    "trailers",
];

pub(super) fn response<'a>(name: &[u8], exchange: &'a Exchange, seen: Seen) -> Option<Value<'a>> {
    let facts = &exchange.facts;
    let headers = exchange.response_headers.as_ref().filter(|_| seen.response_headers);
    let trailers = exchange.response_trailers.as_ref().filter(|_| seen.response_trailers);
    match name {
        b"code" => facts.response_code.map(|code| Value::Int(code.into())),
        b"code_details" => {
            facts.response_code_details.as_ref().map(|details| bytes(details.as_bytes()))
        }
        b"flags" => Some(Value::Int(signed(facts.response_flags))),
        b"grpc_status" => grpc_status(exchange, headers, trailers).map(Value::Int),
        b"headers" => Some(Value::Headers(headers)),
        b"headers_bytes" => Some(count(headers.map_or(0, HeaderMap::bytes))),
        b"trailers" => Some(Value::Headers(trailers)),
        b"size" => Some(Value::Int(signed(facts.response_body_bytes))),
        b"total_size" => {
            let maps = [headers, trailers].into_iter().flatten().map(HeaderMap::bytes);
            let maps = maps.sum::<usize>() as u64;
            Some(Value::Int(signed(facts.response_body_bytes.saturating_add(maps))))
        }
        b"backend_latency" => facts.backend_latency_ns.map(|ns| Value::DurationNs(signed(ns))),
        _ => None,
    }
}

/// What a response means in gRPC: as its trailers or headers say, or else as its code does, for
/// responses that are not gRPC too.
fn grpc_status(
    exchange: &Exchange,
    headers: Option<&HeaderMap>,
    trailers: Option<&HeaderMap>,
) -> Option<i64> {
    /// What Envoy tells of a status that is none.
    const INVALID: i64 = -1;
    if let Some(status) = exchange.facts.grpc_status {
        return Some(status.into());
    }
    let said = [trailers, headers].into_iter().flatten().find_map(|map| map.get(b"grpc-status"));
    if let Some(said) = said {
        return Some(number(said).filter(|status| (0..=16).contains(status)).unwrap_or(INVALID));
    }
    Some(match exchange.facts.response_code? {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    })
}

/// A path before its query, and the query without `?` and fragment.
fn split_path(headers: &HeaderMap) -> (&[u8], &[u8]) {
    let path = headers.get(b":path").map_or(&[][..], |path| &**path);
    let mut halves = path.splitn(2, |byte| *byte == b'?');
    let before = halves.next().unwrap_or_default();
    let query = halves.next().unwrap_or_default();
    (before, query.split(|byte| *byte == b'#').next().unwrap_or_default())
}

fn bytes(bytes: &[u8]) -> Value<'_> {
    Value::Text(Cow::Borrowed(bytes))
}

fn count<'a>(bytes: usize) -> Value<'a> {
    Value::Int(signed(bytes as u64))
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim_ascii().parse().ok()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
