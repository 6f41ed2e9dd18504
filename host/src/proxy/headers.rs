//! Headers on their way through: from the wire to what filters see, and back.
//!
//! Filters see what Envoy shows them: `:authority`, `:path`, `:method`, `:scheme`, then the
//! fields as they came, then what the proxy added: `x-forwarded-for`, `x-forwarded-proto`,
//! `x-request-id`. Fields that are for one hop alone are gone from requests by then; those
//! of responses are taken away behind the filters, as Envoy does it. One difference: fields
//! of one name stand together, at the first one's place, for hyper hands them over so.

pub(super) mod back;

use super::client_address::client_address;
use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::{request, response};
use hyper::{Method, Version};
use proxy_wasm_host::maps::HeaderMap;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;

pub(super) type WireHeaders = hyper::HeaderMap;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Envoy's bound on what one `connection` field may name.
const NOMINATED_MAX: usize = 10;

/// How a request came.
pub(super) struct Hop<'a> {
    pub(super) is_tls: bool,
    pub(super) peer: SocketAddr,
    pub(super) trusted_hops: usize,
    /// Of what a connection may become something else.
    pub(super) upgrades: &'a BTreeSet<String>,
    /// All names and values together, as they came.
    pub(super) headers_bytes_max: usize,
}

/// A request as filters see it.
#[derive(Debug)]
pub(super) struct Presented {
    pub(super) headers: HeaderMap,
    /// Whose request it is.
    pub(super) client: SocketAddr,
    /// Whether it wants its connection to become something else.
    pub(super) is_upgrade: bool,
}

/// A request that is refused before any filter: its status, and the detail for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) details: &'static str,
}

/// Makes of a request's head what filters see. `id` makes a new request id.
pub(super) fn request(
    head: &request::Parts,
    hop: &Hop<'_>,
    id: impl FnOnce() -> String,
) -> Result<Presented, Refusal> {
    // hyper's own bounds are only near this: it reads more at once.
    if size(head) > hop.headers_bytes_max {
        return Err(Refusal { status: 431, details: "request_headers_too_large" });
    }
    let nominated = Nominated::of(&head.headers)?;
    let authority = authority(head)?;
    if head.method == Method::CONNECT {
        return Err(Refusal { status: 405, details: "connect_not_served" });
    }
    let is_upgrade = upgrade(head, &nominated, hop.upgrades)?;
    let forwarded = || head.headers.get_all(X_FORWARDED_FOR).iter();
    let client = client_address(hop.peer, hop.trusted_hops, forwarded().map(HeaderValue::as_bytes));
    let proto = proto(head, hop);
    let path = match head.uri.path_and_query().map_or("/", |path| path.as_str()) {
        // Of a whole URL without a path (RFC 9112 section 3.2.1).
        query if query.starts_with('?') => Cow::Owned(format!("/{query}")),
        path => Cow::Borrowed(path),
    };
    let scheme = head.uri.scheme_str().filter(|scheme| is_scheme(scheme)).unwrap_or(proto);

    let mut block = Block::with_capacity(&head.headers, authority.len() + path.len() + 128);
    block.add_static(b":authority", authority);
    block.add_static(b":path", path.as_bytes());
    block.add_static(b":method", head.method.as_str().as_bytes());
    block.add_static(b":scheme", scheme.as_bytes());
    let mut cookies = Vec::new();
    let mut added = Added { forwarded_for: true, forwarded_proto: true, id: true };
    for (name, value) in &head.headers {
        if is_for_one_hop(name, is_upgrade) || nominated.has(name) {
            continue;
        }
        if *name == header::COOKIE {
            cookies.push(value.as_bytes());
        } else if *name == X_FORWARDED_FOR {
            if std::mem::take(&mut added.forwarded_for) {
                block.add(name, &appended(forwarded(), hop.peer));
            }
        } else if *name == X_FORWARDED_PROTO {
            if std::mem::take(&mut added.forwarded_proto) {
                block.add(name, proto.as_bytes());
            }
        } else if *name == header::TE {
            if has_token(value, "trailers") {
                block.add(name, b"trailers");
            }
        } else {
            added.id &= *name != X_REQUEST_ID;
            block.add(name, value.as_bytes());
        }
    }
    if !cookies.is_empty() {
        // HTTP/2 may send one by one what HTTP/1 and filters want in one field.
        block.add(&header::COOKIE, &cookies.join(&b"; "[..]));
    }
    if is_upgrade {
        block.add_static(b"connection", b"upgrade");
    }
    if added.forwarded_for {
        block.add(&X_FORWARDED_FOR, &appended(forwarded(), hop.peer));
    }
    if added.forwarded_proto {
        block.add(&X_FORWARDED_PROTO, proto.as_bytes());
    }
    if added.id {
        block.add(&X_REQUEST_ID, id().as_bytes());
    }
    Ok(Presented { headers: block.into_map(), client, is_upgrade })
}

/// How many bytes a head's names and values have, the path among them.
fn size(head: &request::Parts) -> usize {
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    fields.sum::<usize>() + head.uri.path_and_query().map_or(0, |path| path.as_str().len())
}

/// What is still to be added to a request.
struct Added {
    forwarded_for: bool,
    forwarded_proto: bool,
    id: bool,
}

/// Makes of a response's head what filters see.
pub(super) fn response(head: &response::Parts) -> HeaderMap {
    let mut block = Block::with_capacity(&head.headers, 3);
    block.add_static(b":status", head.status.as_str().as_bytes());
    for (name, value) in &head.headers {
        block.add(name, value.as_bytes());
    }
    block.into_map()
}

/// Trailers, or any fields without pseudo headers among them.
pub(super) fn trailers(fields: &WireHeaders) -> HeaderMap {
    let mut block = Block::with_capacity(fields, 0);
    for (name, value) in fields {
        block.add(name, value.as_bytes());
    }
    block.into_map()
}

/// Fields whose text lies in one piece of memory: one allocation instead of two a field.
struct Block {
    text: Vec<u8>,
    fields: Vec<Place>,
}

/// Where a field's name and value end.
struct Place {
    /// A name that is not in the block.
    name: Option<&'static [u8]>,
    name_end: usize,
    value_end: usize,
}

impl Block {
    fn with_capacity(of: &WireHeaders, more: usize) -> Self {
        let bytes: usize = of.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        // Beside the fields: four pseudo headers, three of the proxy.
        Self { text: Vec::with_capacity(bytes + more), fields: Vec::with_capacity(of.len() + 7) }
    }

    fn add(&mut self, name: &HeaderName, value: &[u8]) {
        self.text.extend_from_slice(name.as_str().as_bytes());
        self.put(None, value);
    }

    fn add_static(&mut self, name: &'static [u8], value: &[u8]) {
        self.put(Some(name), value);
    }

    fn put(&mut self, name: Option<&'static [u8]>, value: &[u8]) {
        let name_end = self.text.len();
        self.text.extend_from_slice(value);
        self.fields.push(Place { name, name_end, value_end: self.text.len() });
    }

    fn into_map(self) -> HeaderMap {
        let text = Bytes::from(self.text);
        let mut start = 0;
        let field = |place: Place| {
            let in_block = || text.slice(start..place.name_end);
            let name = place.name.map_or_else(in_block, Bytes::from_static);
            let value = text.slice(place.name_end..place.value_end);
            start = place.value_end;
            (name, value)
        };
        self.fields.into_iter().map(field).collect()
    }
}

/// What `connection` names besides itself: fields that go no further.
struct Nominated<'a>(Vec<&'a [u8]>);

impl<'a> Nominated<'a> {
    fn of(headers: &'a WireHeaders) -> Result<Self, Refusal> {
        const REFUSED: Refusal = Refusal { status: 400, details: "connection_header_rejected" };
        let values = headers.get_all(header::CONNECTION);
        let tokens: Vec<&[u8]> =
            values.iter().flat_map(tokens).filter(|token| !token.is_empty()).collect();
        if tokens.len() >= NOMINATED_MAX {
            return Err(REFUSED);
        }
        // To have these taken away would be to have another say who one is.
        let is_sacred = |token: &&[u8]| {
            [&b"x-forwarded-for"[..], b"x-forwarded-host", b"x-forwarded-proto", b"host"]
                .iter()
                .any(|name| token.eq_ignore_ascii_case(name))
                || token.starts_with(b":")
        };
        match tokens.iter().any(is_sacred) {
            true => Err(REFUSED),
            false => Ok(Self(tokens)),
        }
    }

    fn has(&self, name: &HeaderName) -> bool {
        // `te` is looked at for itself, and `upgrade` is judged with the request.
        self.0.iter().any(|token| token.eq_ignore_ascii_case(name.as_str().as_bytes()))
            && *name != header::TE
            && *name != header::UPGRADE
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn has_token(value: &HeaderValue, wanted: &str) -> bool {
    tokens(value).any(|token| {
        let end = token.iter().position(|byte| *byte == b';').unwrap_or(token.len());
        token[..end].trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
    })
}

/// Where a request is for: of the target, or else `host`.
fn authority(head: &request::Parts) -> Result<&[u8], Refusal> {
    if let Some(authority) = head.uri.authority() {
        return Ok(authority.as_str().as_bytes());
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(host.as_bytes()),
        (None, _) if head.version < Version::HTTP_11 => Ok(b""),
        (None, _) => Err(Refusal { status: 400, details: "missing_host_header" }),
        (Some(_), Some(_)) => Err(Refusal { status: 400, details: "duplicate_host_header" }),
    }
}

/// Whether a request is to turn its connection into something else. As in Envoy, one for
/// what is not allowed is refused, and one for HTTP/2 (`h2c`) is passed over.
fn upgrade(
    head: &request::Parts,
    nominated: &Nominated<'_>,
    allowed: &BTreeSet<String>,
) -> Result<bool, Refusal> {
    let wants = nominated.0.iter().any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let Some(to) = head.headers.get(header::UPGRADE).filter(|_| wants) else { return Ok(false) };
    if head.version >= Version::HTTP_2 || has_token(to, "h2c") {
        return Ok(false);
    }
    let to = to.as_bytes().to_ascii_lowercase();
    match std::str::from_utf8(&to).is_ok_and(|to| allowed.contains(to)) {
        true => Ok(true),
        false => Err(Refusal { status: 403, details: "upgrade_failed" }),
    }
}

/// `http` or `https`: what a trusted hop says, otherwise what this connection is.
fn proto(head: &request::Parts, hop: &Hop<'_>) -> &'static str {
    let said = head.headers.get(X_FORWARDED_PROTO).filter(|_| hop.trusted_hops > 0);
    match said.map(HeaderValue::as_bytes) {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ if hop.is_tls => "https",
        _ => "http",
    }
}

fn is_scheme(scheme: &str) -> bool {
    matches!(scheme, "http" | "https")
}

fn is_for_one_hop(name: &HeaderName, is_upgrade: bool) -> bool {
    *name == header::HOST // told as `:authority`
        || *name == header::CONNECTION // told anew for an upgrade
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == HTTP2_SETTINGS
        || *name == header::EXPECT // answered here
        || (*name == header::UPGRADE && !is_upgrade)
}

/// All hops in one value, the peer last.
fn appended<'a>(values: impl Iterator<Item = &'a HeaderValue>, peer: SocketAddr) -> Vec<u8> {
    let mut all = values.map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b","[..]);
    if !all.is_empty() {
        all.push(b',');
    }
    let mut ip = String::new();
    let _ = write!(ip, "{}", peer.ip().to_canonical());
    all.extend_from_slice(ip.as_bytes());
    all
}

#[cfg(test)]
mod tests;
