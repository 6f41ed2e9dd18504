//! An answer that the proxy or a filter makes itself, as a response; and those that the chain
//! makes for filters that failed.
//!
//! As Envoy's `Http::Utility::prepareLocalReply`: a gRPC request is answered in its own
//! terms, by trailers alone, and only a body has a length and a type.

use crate::chain::Direction;
use crate::maps::HeaderMap;
use crate::vm::LocalReply;
use bytes::Bytes;
use std::fmt::Write;

/// The response's headers and body. `request` tells whether it is gRPC's, or HEAD.
pub(super) fn response(reply: &LocalReply, request: Option<&HeaderMap>) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.add(":status", reply.status.to_string());
    // Its status is one already.
    for (name, value) in reply.headers.iter().filter(|(name, _)| *name != ":status") {
        headers.add(name.clone(), value.clone());
    }
    if request.is_some_and(is_grpc) {
        return (grpc(headers, reply), Bytes::new());
    }
    if reply.body.is_empty() {
        headers.remove(b"content-length");
        headers.remove(b"content-type");
        return (headers, Bytes::new());
    }
    headers.replace("content-length", reply.body.len().to_string());
    if headers.get(b"content-type").is_none() {
        headers.add("content-type", "text/plain");
    }
    let is_head =
        request.and_then(|headers| headers.get(b":method")).is_some_and(|it| it == "HEAD");
    (headers, if is_head { Bytes::new() } else { reply.body.clone() })
}

/// What a request gets whose filter failed.
pub(super) fn refusal() -> LocalReply {
    LocalReply {
        status: 503,
        details: "wasm_fail_stream".to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        grpc_status: Some(14),
    }
}

/// What a client gets when a filter took the response's status away.
pub(super) fn no_status() -> LocalReply {
    let body = "missing required header: :status";
    LocalReply {
        status: 502,
        details: format!("filter_removed_required_response_headers{{{}}}", body.replace(' ', "_")),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        grpc_status: None,
    }
}

pub(super) fn too_large(direction: Direction) -> LocalReply {
    let (status, details, body) = match direction {
        Direction::Request => (413, "request_payload_too_large", "Payload Too Large"),
        Direction::Response => (500, "response_payload_too_large", "Internal Server Error"),
    };
    LocalReply {
        status,
        details: details.to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        grpc_status: None,
    }
}

fn grpc(mut headers: HeaderMap, reply: &LocalReply) -> HeaderMap {
    headers.replace(":status", "200");
    headers.replace("content-type", "application/grpc");
    if headers.get(b"grpc-status").is_none() {
        let status = reply.grpc_status.unwrap_or_else(|| grpc_status(reply.status));
        headers.add("grpc-status", status.to_string());
    }
    if !reply.body.is_empty() {
        headers.replace("grpc-message", percent_encoded(&reply.body));
    }
    headers.remove(b"content-length");
    headers
}

fn is_grpc(request: &HeaderMap) -> bool {
    let Some(kind) = request.get(b"content-type") else { return false };
    let rest = kind.strip_prefix(b"application/grpc".as_slice());
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// gRPC's "HTTP to gRPC Status Code Mapping".
const fn grpc_status(status: u32) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// As gRPC over HTTP/2 wants `grpc-message`.
fn percent_encoded(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b' '..=b'~' if *byte != b'%' => encoded.push(char::from(*byte)),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &'static str) -> LocalReply {
        LocalReply {
            status: 429,
            details: String::new(),
            headers: [("Retry-After", "1")].into_iter().collect(),
            body: Bytes::from_static(body.as_bytes()),
            grpc_status: Some(8),
        }
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().copied().collect()
    }

    #[test]
    fn a_body_brings_its_length_and_type() {
        let (headers, body) = response(&reply("no"), None);
        let wanted = [
            (":status", "429"),
            ("retry-after", "1"),
            ("content-length", "2"),
            ("content-type", "text/plain"),
        ];
        assert_eq!((headers, &body[..]), (map(&wanted), &b"no"[..]));
    }

    #[test]
    fn no_body_has_neither() {
        let (headers, body) = response(&reply(""), None);
        assert_eq!(headers, map(&[(":status", "429"), ("retry-after", "1")]));
        assert!(body.is_empty());
    }

    #[test]
    fn head_gets_the_headers_alone() {
        let (headers, body) = response(&reply("no"), Some(&map(&[(":method", "HEAD")])));
        assert_eq!(headers.get(b"content-length").unwrap(), "2");
        assert!(body.is_empty());
    }

    #[test]
    fn grpc_is_answered_in_its_own_terms() {
        let request = map(&[("content-type", "application/grpc+proto")]);
        let (headers, body) = response(&reply("50%\n"), Some(&request));
        assert_eq!(headers.get(b":status").unwrap(), "200");
        assert_eq!(headers.get(b"grpc-status").unwrap(), "8");
        assert_eq!(headers.get(b"grpc-message").unwrap(), "50%25%0A");
        assert!(headers.get(b"content-length").is_none() && body.is_empty());
        let (headers, _) = response(&LocalReply { grpc_status: None, ..reply("") }, Some(&request));
        assert_eq!(headers.get(b"grpc-status").unwrap(), "14");
        let web = map(&[("content-type", "application/grpc-web")]);
        assert_eq!(response(&reply(""), Some(&web)).0.get(b":status").unwrap(), "429");
    }
}
