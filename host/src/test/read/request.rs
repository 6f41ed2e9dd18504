//! Requests: `GET /api/items`, or a map of what is not as usual.
//!
//! ```yaml
//! request:
//!   method: POST
//!   path: /login?next=/
//!   host: shop.example
//!   headers: { x-tenant: acme, cookie: session=1, x-old: null }   # null: without the usual one
//!   client_ip: 192.0.2.7
//!   jwt: { sub: alice }               # claims that the proxy has verified
//!   metadata: { my.namespace: { tier: gold } }
//!   route: main
//!   protocol: grpc                    # or http1, http2
//!   body: '{"user":"alice"}'
//!   proxy: b                          # one of several that share the store
//! ```

use super::super::case::{Protocol, Request};
use super::CaseReader;
use proxy_wasm_host::exchange::Noted;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use tidegate_policy::diagnostic::found;
use tidegate_policy::reading::{Reader, Spot};
use tidegate_policy::spelling;
use tidegate_policy::text::Value;

/// The most fields of one request that a default can add to.
const HEADERS_MAX: usize = 128;

const REQUEST_FIELDS: &[&str] = &[
    "method",
    "path",
    "host",
    "headers",
    "client_ip",
    "body",
    "protocol",
    "route",
    "jwt",
    "metadata",
    "proxy",
];

const PROTOCOLS: &[(&str, Protocol)] =
    &[("http1", Protocol::Http1), ("http2", Protocol::Http2), ("grpc", Protocol::Grpc)];

/// Where proxies keep the claims of a token that they have verified.
const JWT_NAMESPACE: &str = "envoy.filters.http.jwt_authn";

const METADATA_WANTED: &str = "a map of namespaces, such as { my.namespace: { tier: gold } }";

const CLAIM_WANTED: &str = "a text: claims and metadata are compared as text only";

type Metadata = BTreeMap<String, Noted>;

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            path: "/".into(),
            host: "example.test".into(),
            headers: Vec::new(),
            // Of the networks kept for documentation.
            client_ip: Ipv4Addr::new(192, 0, 2, 1).into(),
            body: "".into(),
            protocol: Protocol::Http1,
            route: "".into(),
            metadata: BTreeMap::new(),
            proxy: "a".into(),
        }
    }
}

impl CaseReader<'_> {
    /// A request that is `usual` but for what is said here.
    pub(super) fn request(&mut self, spot: &Spot<'_>, usual: &Request) -> Option<Request> {
        let mut request = usual.clone();
        if let Some(line) = spot.text() {
            let Some((method, path)) = line.split_once(' ') else {
                let hint = line.starts_with('/').then(|| format!("write GET {line}"));
                let wanted = format_args!("a method and a path, such as GET /api, or a map");
                self.wrong_found(spot, &found(spot.node), wanted, hint);
                return None;
            };
            request.method = self.method(method, spot)?;
            request.path = self.path(path, spot)?;
            return Some(request);
        }
        self.fields(spot, REQUEST_FIELDS)?;
        let method = self.optional(spot, "method", request.method, |this, at| {
            let method = this.text(at, "a method, such as GET")?;
            this.method(method, at)
        });
        let path = self.optional(spot, "path", request.path, |this, at| {
            let path = this.text(at, "a path, such as /api")?;
            this.path(path, at)
        });
        let host = self.optional(spot, "host", request.host, Self::element);
        let client_ip = self.optional(spot, "client_ip", request.client_ip, Self::client_ip);
        let body =
            self.optional(spot, "body", request.body, |this, at| this.value(at).map(Into::into));
        let protocol = self
            .optional(spot, "protocol", request.protocol, |this, at| this.choice(at, PROTOCOLS));
        let route = self.optional(spot, "route", request.route, Self::element);
        let proxy = self.optional(spot, "proxy", request.proxy, Self::name);
        let headers = self.headers(spot, request.headers);
        let metadata = self.noted(spot, request.metadata);
        Some(Request {
            method: method?,
            path: path?,
            host: host?,
            headers: headers?,
            client_ip: client_ip?,
            body: body?,
            protocol: protocol?,
            route: route?,
            metadata: metadata?,
            proxy: proxy?,
        })
    }

    fn method(&mut self, typed: &str, spot: &Spot<'_>) -> Option<Box<str>> {
        if spelling::is_token(typed) {
            return Some(typed.into());
        }
        self.wrong(spot, format_args!("a method, such as GET"));
        None
    }

    fn path(&mut self, typed: &str, spot: &Spot<'_>) -> Option<Box<str>> {
        if typed.starts_with(['/', '*']) && !typed.contains(' ') {
            return Some(typed.into());
        }
        let hint = format!("write /{typed}");
        let hint = Some(hint).filter(|_| !typed.contains(' ') && !typed.starts_with('/'));
        let wanted = format_args!("a path, which starts with / and has no spaces");
        self.wrong_found(spot, &found(spot.node), wanted, hint);
        None
    }

    fn client_ip(&mut self, spot: &Spot<'_>) -> Option<IpAddr> {
        let address = spot.text().and_then(|text| text.parse().ok());
        if address.is_none() {
            self.wrong(spot, format_args!("an address, such as 192.0.2.7 or 2001:db8::7"));
        }
        address
    }

    /// The usual headers, with those named here in their place.
    fn headers(
        &mut self,
        spot: &Spot<'_>,
        mut headers: Vec<(Box<str>, Box<str>)>,
    ) -> Option<Vec<(Box<str>, Box<str>)>> {
        let Some(at) = spot.field("headers") else { return Some(headers) };
        let mut complete = true;
        for (name, inner) in &self.entries(&at, "a map of headers, such as { x-tenant: acme }")? {
            let Some(name) = self.header_named(name, inner) else {
                complete = false;
                continue;
            };
            headers.retain(|(known, _)| *known != name);
            if inner.node.value == Value::Null {
                continue;
            }
            let values = self.one_or_more(inner, HEADERS_MAX, "values")?;
            let values = self.every(&values, |this, at| this.value(at).map(Box::from));
            complete &= values.is_some();
            let values = values.unwrap_or_default();
            headers.extend(values.into_iter().map(|value| (name.clone(), value)));
        }
        if headers.len() > HEADERS_MAX {
            self.wrong(&at, format_args!("at most {HEADERS_MAX} headers"));
        }
        complete.then_some(headers)
    }

    /// What others noted: `jwt` and `metadata`. Each namespace is as a whole one's own.
    fn noted(&mut self, spot: &Spot<'_>, mut noted: Metadata) -> Option<Metadata> {
        let mut complete = true;
        if let Some(at) = spot.field("jwt") {
            let claims = self.map(&at);
            complete &= claims.is_some();
            let payload =
                (self.jwt_payload_key.to_string(), Noted::Map(claims.unwrap_or_default()));
            noted.insert(JWT_NAMESPACE.to_owned(), Noted::Map([payload].into()));
        }
        if let Some(at) = spot.field("metadata") {
            for (namespace, inner) in &self.entries(&at, METADATA_WANTED)? {
                let values = self.map(inner);
                complete &= values.is_some();
                noted.insert((*namespace).to_owned(), Noted::Map(values.unwrap_or_default()));
            }
        }
        complete.then_some(noted)
    }

    fn map(&mut self, spot: &Spot<'_>) -> Option<Metadata> {
        let entries = self.entries(spot, "a map of names and texts, such as { sub: alice }")?;
        let values: Vec<_> = entries
            .iter()
            .map(|(name, at)| {
                let noted = match at.node.value {
                    Value::Map(_) => Noted::Map(self.map(at)?),
                    _ => Noted::Text(self.text(at, CLAIM_WANTED)?.to_owned()),
                };
                Some(((*name).to_owned(), noted))
            })
            .collect();
        values.into_iter().collect()
    }
}
