//! From what filters made of headers back to the wire.
//!
//! A filter may write anything. What it left of a request that is none any more is refused, as
//! in Envoy; of a response, fields that are none are left out. What would break the message's
//! frame (`transfer-encoding`, a length without a body) is taken away.

use super::{KEEP_ALIVE, PROXY_CONNECTION, WireHeaders};
use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use proxy_wasm_host::maps::HeaderMap;

const SERVER: HeaderValue = HeaderValue::from_static("tidegate");
const TRAILER_FIELDS_NOT: [HeaderName; 2] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// Why what a filter left is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum NoRequest {
    /// Without a path nobody knows where it leads.
    Nowhere,
    /// What is missing or cannot be sent, in Envoy's words.
    Malformed(String),
}

/// Makes a request's head. `is_end`: there is no body.
pub(in crate::proxy) fn request(
    fields: &HeaderMap,
    is_http2: bool,
    is_tls: bool,
    is_end: bool,
) -> Result<Request<()>, NoRequest> {
    let invalid = |name: &str| NoRequest::Malformed(format!("invalid header value for: {name}"));
    let missing = |name: &str| NoRequest::Malformed(format!("missing required header: {name}"));
    let get = |name: &str| fields.get(name.as_bytes()).ok_or_else(|| missing(name));
    let path = fields.get(b":path").ok_or(NoRequest::Nowhere)?;
    let method = Method::from_bytes(get(":method")?).map_err(|_| invalid(":method"))?;
    let path = PathAndQuery::from_maybe_shared(path.clone()).map_err(|_| invalid(":path"))?;
    let authority = get(":authority")?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    let headers = request.headers_mut();
    headers.reserve(fields.len());
    let mut uri = hyper::http::uri::Parts::default();
    uri.path_and_query = Some(path);
    if is_http2 {
        let authority = Authority::from_maybe_shared(authority.clone());
        uri.authority = Some(authority.map_err(|_| invalid(":authority"))?);
        uri.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    } else {
        let host = HeaderValue::from_maybe_shared(authority.clone());
        headers.insert(header::HOST, host.map_err(|_| invalid(":authority"))?);
    }
    let is_upgrade = !is_http2 && fields.get(b"upgrade").is_some();
    let unfit = copy(fields, headers, |name| {
        (is_upgrade && (*name == header::CONNECTION || *name == header::UPGRADE))
            || !(is_hop(name) || *name == header::HOST)
    });
    if let Some(unfit) = unfit {
        return Err(unfit.into());
    }
    if is_end && headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0") {
        headers.remove(header::CONTENT_LENGTH);
    }
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| invalid(":path"))?;
    *request.version_mut() = if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    Ok(request)
}

/// Makes a response's head. `is_bodiless`: the request was for the head alone.
pub(in crate::proxy) fn response(
    fields: &HeaderMap,
    is_end: bool,
    is_bodiless: bool,
) -> Response<()> {
    let mut response = Response::new(());
    let status = fields.get(b":status").and_then(|status| StatusCode::from_bytes(status).ok());
    // As Envoy: a response without a usable status is nobody's but the proxy's fault.
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(fields.len() + 1);
    let is_upgrade = status == StatusCode::SWITCHING_PROTOCOLS;
    let _ = copy(fields, headers, |name| {
        (is_upgrade && (*name == header::CONNECTION || *name == header::UPGRADE)) || !is_hop(name)
    });
    headers.entry(header::SERVER).or_insert(SERVER);
    let may_lie = is_bodiless || status == StatusCode::NOT_MODIFIED;
    if is_end && !may_lie && headers.get(header::CONTENT_LENGTH).is_some_and(|it| it != "0") {
        headers.remove(header::CONTENT_LENGTH);
    }
    response
}

/// Makes trailers.
pub(in crate::proxy) fn trailers(fields: &HeaderMap) -> WireHeaders {
    let mut trailers = WireHeaders::with_capacity(fields.len());
    let _ = copy(fields, &mut trailers, |name| !is_hop(name) && !TRAILER_FIELDS_NOT.contains(name));
    trailers
}

/// A field that cannot be sent, by its name.
enum Unfit<'a> {
    Name(&'a [u8]),
    Value(&'a [u8]),
}

impl From<Unfit<'_>> for NoRequest {
    fn from(unfit: Unfit<'_>) -> Self {
        Self::Malformed(match unfit {
            Unfit::Name(name) => format!("invalid header name: {}", name.escape_ascii()),
            Unfit::Value(name) => format!("invalid header value for: {}", name.escape_ascii()),
        })
    }
}

/// Copies all fields but pseudo headers and those that cannot be sent; the first of these.
fn copy<'a>(
    from: &'a HeaderMap,
    to: &mut WireHeaders,
    is_wanted: impl Fn(&HeaderName) -> bool,
) -> Option<Unfit<'a>> {
    let mut unfit = None;
    for (field, value) in from.iter().filter(|(field, _)| !field.starts_with(b":")) {
        let Ok(name) = HeaderName::from_bytes(field) else {
            unfit.get_or_insert(Unfit::Name(field));
            continue;
        };
        if !is_wanted(&name) {
            continue;
        }
        let Some(value) = value_of(value) else {
            unfit.get_or_insert(Unfit::Value(field));
            continue;
        };
        // At the bound of `HeaderMap` (32,768 fields) the rest is left out.
        let _ = to.try_append(name, value);
    }
    unfit
}

fn value_of(value: &Bytes) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(value.clone()).ok()
}

/// For one hop alone, or hyper's own business.
fn is_hop(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::UPGRADE
        || *name == header::TRANSFER_ENCODING
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}
