//! The groups of facts that a path's first part names, and each fact in them.

mod http;

use super::View;
use super::message::Message;
use super::value::Value;
use crate::exchange::{ConnectionFacts, Exchange, TlsFacts};
use std::borrow::Cow;
use std::net::SocketAddr;

/// A group of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Request,
    Response,
    Connection,
    Upstream,
    Source,
    Destination,
    Xds,
    FilterState,
    UpstreamFilterState,
}

impl Group {
    /// The group of a name.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"request" => Some(Self::Request),
            b"response" => Some(Self::Response),
            b"connection" => Some(Self::Connection),
            b"upstream" => Some(Self::Upstream),
            b"source" => Some(Self::Source),
            b"destination" => Some(Self::Destination),
            b"xds" => Some(Self::Xds),
            b"filter_state" => Some(Self::FilterState),
            b"upstream_filter_state" => Some(Self::UpstreamFilterState),
            _ => None,
        }
    }

    /// Whether there can be anything in it now.
    pub(crate) fn is_there(self, view: &View<'_>) -> bool {
        match self {
            // Even a root context runs somewhere.
            Self::Xds => true,
            Self::UpstreamFilterState => {
                let upstream = view.exchange.and_then(|exchange| exchange.facts.upstream.as_ref());
                upstream.is_some_and(|upstream| upstream.local_address.is_some())
            }
            _ => view.exchange.is_some(),
        }
    }

    /// The fact of a name, if it is known now.
    pub(crate) fn part<'a>(self, name: &[u8], view: &View<'a>) -> Option<Value<'a>> {
        if self == Self::Xds && name == b"node" {
            return Some(Value::Message(Message::Node(&view.config.node)));
        }
        let exchange = view.exchange?;
        let facts = &exchange.facts;
        match self {
            Self::Request => http::request(name, exchange, view.seen),
            Self::Response => http::response(name, exchange, view.seen),
            Self::Connection => connection(name, &facts.connection),
            Self::Upstream => upstream(name, exchange),
            Self::Source => peer(name, facts.connection.source),
            Self::Destination => peer(name, facts.connection.destination),
            Self::Xds => xds(name, exchange),
            Self::FilterState => exchange.filter_state.get(name).map(super::State::value),
            Self::UpstreamFilterState => None,
        }
    }

    /// The names of all facts that the group can have; what filters set themselves is not
    /// among them.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Request => &http::REQUEST,
            Self::Response => &http::RESPONSE,
            Self::Connection => &CONNECTION,
            Self::Upstream => &UPSTREAM,
            Self::Source | Self::Destination => &["address", "port"],
            Self::Xds => &XDS,
            Self::FilterState | Self::UpstreamFilterState => &[],
        }
    }
}

const CONNECTION: [&str; 8] = [
    "dns_san_peer_certificate",
    "id",
    "mtls",
    "requested_server_name",
    "sha256_peer_certificate_digest",
    "subject_peer_certificate",
    "tls_version",
    "uri_san_peer_certificate",
];

fn connection<'a>(name: &[u8], facts: &'a ConnectionFacts) -> Option<Value<'a>> {
    let tls = facts.tls.as_ref();
    match name {
        b"id" => Some(Value::Uint(facts.id)),
        b"mtls" => Some(Value::Bool(tls.is_some_and(|tls| tls.peer.is_some()))),
        // As in Envoy there even without TLS, and then empty.
        b"requested_server_name" => Some(text(tls.map_or("", |tls| &tls.server_name))),
        _ => tls.and_then(|tls| encryption(name, tls)),
    }
}

fn encryption<'a>(name: &[u8], tls: &'a TlsFacts) -> Option<Value<'a>> {
    let peer = tls.peer.as_ref();
    match name {
        b"tls_version" => Some(text(&tls.version)),
        // As in Envoy there even without a certificate, and then empty.
        b"subject_peer_certificate" => Some(text(peer.map_or("", |peer| &peer.subject))),
        b"dns_san_peer_certificate" => peer?.dns_san.as_deref().map(text),
        b"uri_san_peer_certificate" => peer?.uri_san.as_deref().map(text),
        b"sha256_peer_certificate_digest" => Some(text(&peer?.sha256)),
        _ => None,
    }
}

const UPSTREAM: [&str; 8] = [
    "address",
    "cx_pool_ready_duration",
    "local_address",
    "locality",
    "num_endpoints",
    "port",
    "request_attempt_count",
    "transport_failure_reason",
];

fn upstream<'a>(name: &[u8], exchange: &'a Exchange) -> Option<Value<'a>> {
    let upstream = exchange.facts.upstream.as_ref();
    match name {
        b"request_attempt_count" => Some(Value::Uint(u64::from(upstream.is_some()))),
        // One address, once it is known where requests go.
        b"num_endpoints" => {
            (!exchange.facts.listener.cluster_name.is_empty()).then_some(Value::Uint(1))
        }
        b"address" | b"port" => peer(name, upstream?.address),
        b"local_address" => peer(b"address", upstream?.local_address),
        b"cx_pool_ready_duration" => {
            Some(Value::DurationNs(i64::try_from(upstream?.ready_ns?).unwrap_or(i64::MAX)))
        }
        b"locality" => upstream.map(|_| Value::Message(Message::Locality)),
        b"transport_failure_reason" => upstream.map(|_| text("")),
        _ => None,
    }
}

fn peer<'a>(name: &[u8], address: Option<SocketAddr>) -> Option<Value<'a>> {
    let address = address?;
    match name {
        b"address" => Some(Value::Text(Cow::Owned(address.to_string().into_bytes()))),
        b"port" => Some(Value::Int(address.port().into())),
        _ => None,
    }
}

const XDS: [&str; 12] = [
    "cluster_metadata",
    "cluster_name",
    "filter_chain_name",
    "listener_direction",
    "listener_metadata",
    "node",
    "route_metadata",
    "route_name",
    "upstream_host_locality_metadata",
    "upstream_host_metadata",
    "virtual_host_metadata",
    "virtual_host_name",
];

fn xds<'a>(name: &[u8], exchange: &'a Exchange) -> Option<Value<'a>> {
    let listener = &*exchange.facts.listener;
    let has_route = !exchange.facts.protocol.is_empty();
    match name {
        // Where a connection of mere bytes goes is decided behind the filters.
        b"cluster_name" if has_route || exchange.facts.upstream.is_some() => {
            Some(text(&listener.cluster_name))
        }
        b"filter_chain_name" => Some(text(&listener.filter_chain_name)),
        b"listener_direction" => Some(Value::Int(listener.direction.into())),
        b"cluster_metadata" | b"listener_metadata" => Some(Value::Message(Message::Metadata(None))),
        // Routes and virtual hosts are HTTP's.
        b"route_name" if has_route => Some(text(&listener.route_name)),
        b"virtual_host_name" if has_route => Some(text(&listener.virtual_host_name)),
        b"route_metadata" | b"virtual_host_metadata" if has_route => {
            Some(Value::Message(Message::Metadata(None)))
        }
        b"upstream_host_metadata" | b"upstream_host_locality_metadata" => {
            exchange.facts.upstream.as_ref().map(|_| Value::Null)
        }
        _ => None,
    }
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text.as_bytes()))
}
