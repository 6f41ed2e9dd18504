//! What is known of one HTTP exchange or connection: what filters read and change, and the
//! facts behind properties.

use crate::maps::HeaderMap;
use crate::plugin::PluginConfig;
pub use crate::properties::FilterState;
use crate::properties::{self, Seen, View};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

/// One request and its response, as all filters of a chain share them.
///
/// A map is there from when its part arrived until its part was sent on. Which filter may
/// see it when is the chain's and the machine's business.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Exchange {
    pub request_headers: Option<HeaderMap>,
    pub request_trailers: Option<HeaderMap>,
    pub response_headers: Option<HeaderMap>,
    pub response_trailers: Option<HeaderMap>,
    pub facts: Facts,
    /// What filters keep with it.
    pub filter_state: FilterState,
}

impl Exchange {
    /// A property of it as a filter of this configuration would read it with the request's headers
    /// before it; the path's parts with a NUL between them. `None` for what is not there.
    #[must_use]
    pub fn property(&self, config: &PluginConfig, path: &[u8]) -> Option<Vec<u8>> {
        let seen = Seen { request_headers: true, ..Seen::default() };
        properties::get(path, &View { exchange: Some(self), config, seen }).ok()
    }
}

/// What the proxy knows and filters ask for by property.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Where it runs; the same for all of a listener's exchanges.
    pub listener: Rc<ListenerFacts>,
    /// Whose it is; the same for all exchanges of a connection.
    pub connection: Rc<ConnectionFacts>,
    /// `metadata.filter_metadata`: what other parts of the proxy noted of it, such as the claims
    /// of a token that was verified.
    pub metadata: BTreeMap<String, Noted>,
    /// `request.protocol`, as `HTTP/1.1`.
    pub protocol: &'static str,
    /// `request.time`: nanoseconds since 1970.
    pub start_wall_ns: u64,
    /// When it began on the monotone clock.
    pub start_ns: u64,
    /// `request.duration`, known at the end.
    pub duration_ns: Option<u64>,
    /// Body bytes received so far; `request.size`.
    pub request_body_bytes: u64,
    /// Body bytes sent so far; `response.size`.
    pub response_body_bytes: u64,
    /// `response.code`, once there is a response.
    pub response_code: Option<u16>,
    /// `response.code_details`.
    pub response_code_details: Option<String>,
    /// `response.flags`, as Envoy numbers them.
    pub response_flags: u64,
    /// `response.grpc_status`.
    pub grpc_status: Option<u32>,
    /// `upstream.*`, once there is one.
    pub upstream: Option<UpstreamFacts>,
    /// `response.backend_latency`.
    pub backend_latency_ns: Option<u64>,
}

/// A value among metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// A text.
    Text(String),
    /// Values by name.
    Map(BTreeMap<String, Noted>),
}

/// What is the same for all exchanges of a listener.
#[derive(Clone, Debug, Default)]
pub struct ListenerFacts {
    /// `xds.cluster_name`: where requests go.
    pub cluster_name: String,
    /// `xds.route_name`.
    pub route_name: String,
    /// `xds.virtual_host_name`.
    pub virtual_host_name: String,
    /// `xds.filter_chain_name`.
    pub filter_chain_name: String,
    /// `xds.listener_direction`: 0 unspecified, 1 inbound, 2 outbound.
    pub direction: u32,
}

/// What is the same for all exchanges of a connection.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFacts {
    /// `connection.id`.
    pub id: u64,
    /// The client, as trusted hops tell it; `source.address`.
    pub source: Option<SocketAddr>,
    /// Where it connected to; `destination.address`.
    pub destination: Option<SocketAddr>,
    /// If it is encrypted.
    pub tls: Option<TlsFacts>,
}

/// An encrypted connection.
#[derive(Clone, Debug, Default)]
pub struct TlsFacts {
    /// `connection.tls_version`, as `TLSv1.3`.
    pub version: String,
    /// `connection.requested_server_name`.
    pub server_name: String,
    /// What the client showed; `connection.mtls` is whether it did.
    pub peer: Option<CertificateFacts>,
}

/// A certificate that was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// `connection.subject_peer_certificate`, as RFC 2253 writes it: `CN=a,O=b`.
    pub subject: String,
    /// `connection.dns_san_peer_certificate`: the first such name.
    pub dns_san: Option<String>,
    /// `connection.uri_san_peer_certificate`: the first such name.
    pub uri_san: Option<String>,
    /// `connection.sha256_peer_certificate_digest`, in hex.
    pub sha256: String,
}

/// Who answers.
#[derive(Clone, Debug, Default)]
pub struct UpstreamFacts {
    /// `upstream.address`.
    pub address: Option<SocketAddr>,
    /// `upstream.local_address`.
    pub local_address: Option<SocketAddr>,
    /// `upstream.cx_pool_ready_duration`: how long it took to get a connection for this exchange.
    pub ready_ns: Option<u64>,
}
