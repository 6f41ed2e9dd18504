//! The proxy's configuration as typed: names, types and defaults.

mod component;
mod filter;
mod upstream;

pub(in crate::proxy) use component::Component;
pub(in crate::proxy) use filter::{Blob, Filter, OnFailure};
pub(in crate::proxy) use upstream::{Upstream, UpstreamMap, Url};

use crate::config::kinds::{Count, MaybeTime, Small, Time, address};
use crate::config::{LogFormat, LogLevel};
use serde::Deserialize;
use serde::de::Deserializer;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The whole file. What a listener does not say of its own is taken from here.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Text {
    pub(in crate::proxy) listeners: Vec<Listener>,
    /// What decides requests before filters see them.
    pub(in crate::proxy) component: Option<Component>,
    pub(in crate::proxy) filters: Vec<Filter>,
    pub(in crate::proxy) upstream: Option<Upstream>,
    pub(in crate::proxy) respond: Option<Respond>,
    /// Whom filters may call, by the name that they use.
    pub(in crate::proxy) clusters: BTreeMap<String, Upstream>,
    /// Who answers the asks of policies; left out, this process does.
    pub(in crate::proxy) host: Option<Upstream>,
    pub(in crate::proxy) memory: Memory,
    /// By the names that policies have for them.
    pub(in crate::proxy) plugins: BTreeMap<String, crate::plugins::text::Text>,
    pub(in crate::proxy) timeouts: Timeouts,
    pub(in crate::proxy) bounds: Bounds,
    /// Left out: as many as there are cores.
    pub(in crate::proxy) workers: Option<Small<1, 256>>,
    pub(in crate::proxy) access_log: AccessLog,
    pub(in crate::proxy) node: Node,
    #[serde(deserialize_with = "maybe_address")]
    pub(in crate::proxy) admin: Option<SocketAddr>,
    pub(in crate::proxy) log_level: LogLevel,
    pub(in crate::proxy) log_format: LogFormat,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::proxy) struct Listener {
    #[serde(deserialize_with = "address")]
    pub(in crate::proxy) address: SocketAddr,
    #[serde(default)]
    pub(in crate::proxy) protocol: Protocol,
    pub(in crate::proxy) tls: Option<Tls>,
    /// How many proxies of one's own stand before this one, each adding to
    /// `x-forwarded-for`.
    #[serde(default)]
    pub(in crate::proxy) trusted_hops: u8,
    /// Rules match on the path, so there is one way to write each: dot segments resolved,
    /// slashes merged, needless escapes undone.
    #[serde(default = "yes")]
    pub(in crate::proxy) normalize_path: bool,
    /// What a client may turn a connection into.
    #[serde(default = "websocket")]
    pub(in crate::proxy) upgrades: BTreeSet<String>,
    pub(in crate::proxy) component: Option<Component>,
    pub(in crate::proxy) filters: Option<Vec<Filter>>,
    pub(in crate::proxy) upstream: Option<Upstream>,
    pub(in crate::proxy) respond: Option<Respond>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::proxy) enum Protocol {
    /// HTTP/1.1 and HTTP/2.
    #[default]
    Http,
    /// Bytes, for filters of connections.
    Tcp,
}

impl Protocol {
    /// Its name in logs.
    pub(in crate::proxy) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::proxy) struct Tls {
    /// PEM, the whole chain.
    pub(in crate::proxy) certificate: PathBuf,
    /// PEM.
    pub(in crate::proxy) key: PathBuf,
    /// PEM: who signs clients' certificates. If given, clients must show one.
    pub(in crate::proxy) client_ca: Option<PathBuf>,
}

/// An answer to all requests, made here.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Respond {
    pub(in crate::proxy) status: Small<200, 599>,
    pub(in crate::proxy) headers: BTreeMap<String, String>,
    pub(in crate::proxy) body: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Memory {
    pub(in crate::proxy) keys_max: Count<8, 100_000_000>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Timeouts {
    /// To connect upstream, TLS included.
    pub(in crate::proxy) connect: Time<1, 600_000>,
    /// From the end of a request to the head of its response; 0: none.
    pub(in crate::proxy) request: MaybeTime,
    /// For a request's head, from its first byte; for a client's TLS handshake.
    pub(in crate::proxy) request_headers: Time<1, 600_000>,
    /// An exchange on which nothing moves for so long is ended; 0: none.
    pub(in crate::proxy) stream_idle: MaybeTime,
    /// A client's connection without an exchange is closed after this; 0: never.
    pub(in crate::proxy) idle: MaybeTime,
    /// An upstream connection without an exchange is closed after this.
    pub(in crate::proxy) upstream_idle: Time<1, 86_400_000>,
    /// For exchanges in flight, once told to stop.
    pub(in crate::proxy) drain: Time<1, 600_000>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Bounds {
    /// Clients' connections at once, over all workers; more wait to be let in.
    pub(in crate::proxy) connections_max: Count<1, 1_000_000>,
    /// Exchanges at once, over all workers; more are answered 503.
    pub(in crate::proxy) exchanges_max: Count<1, 1_000_000>,
    /// Exchanges at once on one HTTP/2 connection.
    pub(in crate::proxy) streams_max: Count<1, 65_536>,
    /// A message's headers together, in KiB.
    pub(in crate::proxy) headers_kib: Small<8, 1_024>,
    /// What a filter may hold of one body, in KiB.
    pub(in crate::proxy) buffer_kib: Count<1, 1_048_576>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct AccessLog {
    pub(in crate::proxy) format: AccessLogFormat,
    /// Left out: standard output.
    pub(in crate::proxy) path: Option<PathBuf>,
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::proxy) enum AccessLogFormat {
    /// Not at all.
    Off,
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// What filters find as `xds.node`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Node {
    pub(in crate::proxy) id: String,
    pub(in crate::proxy) cluster: String,
    pub(in crate::proxy) metadata: BTreeMap<String, String>,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            component: None,
            filters: Vec::new(),
            upstream: None,
            respond: None,
            clusters: BTreeMap::new(),
            host: None,
            memory: Memory::default(),
            plugins: BTreeMap::new(),
            timeouts: Timeouts::default(),
            bounds: Bounds::default(),
            workers: None,
            access_log: AccessLog::default(),
            node: Node::default(),
            admin: None,
            log_level: LogLevel::Info,
            log_format: LogFormat::Auto,
        }
    }
}

impl Listener {
    /// A listener for HTTP with nothing of its own but an address.
    pub(in crate::proxy) fn http(address: SocketAddr) -> Self {
        Self {
            address,
            protocol: Protocol::Http,
            tls: None,
            trusted_hops: 0,
            normalize_path: true,
            upgrades: websocket(),
            component: None,
            filters: None,
            upstream: None,
            respond: None,
        }
    }
}

impl Default for Respond {
    fn default() -> Self {
        Self { status: Small(200), headers: BTreeMap::new(), body: String::new() }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self { keys_max: Count(1_000_000) }
    }
}

impl Default for Timeouts {
    /// Envoy's, except that a slow head is not waited for without end, and that idle upstream
    /// connections go before most origins close them.
    fn default() -> Self {
        Self {
            connect: Time(Duration::from_secs(5)),
            request: MaybeTime(Some(Duration::from_secs(15))),
            request_headers: Time(Duration::from_secs(10)),
            stream_idle: MaybeTime(Some(Duration::from_secs(300))),
            idle: MaybeTime(Some(Duration::from_secs(3_600))),
            upstream_idle: Time(Duration::from_secs(60)),
            drain: Time(Duration::from_secs(10)),
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: Count(16_384),
            exchanges_max: Count(16_384),
            streams_max: Count(1_024),
            headers_kib: Small(60),
            buffer_kib: Count(1_024),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        let name = || "tidegate".to_owned();
        Self { id: name(), cluster: name(), metadata: BTreeMap::new() }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { format: AccessLogFormat::Off, path: None }
    }
}

fn yes() -> bool {
    true
}

fn websocket() -> BTreeSet<String> {
    BTreeSet::from(["websocket".to_owned()])
}

fn maybe_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    address(from).map(Some)
}
