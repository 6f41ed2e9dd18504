//! The proxy's configuration as typed: names, types and defaults.

use crate::config::kinds::{Count, MaybeTime, Small, Time, address, parsed};
use crate::config::{LogFormat, LogLevel};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The whole file. What a listener does not say of its own is taken from here.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Text {
    pub(in crate::proxy) listeners: Vec<Listener>,
    pub(in crate::proxy) filters: Vec<Filter>,
    pub(in crate::proxy) upstream: Option<Upstream>,
    pub(in crate::proxy) respond: Option<Respond>,
    /// Whom filters may call, by the name that they use.
    pub(in crate::proxy) clusters: BTreeMap<String, Upstream>,
    /// Who answers the asks of policies; left out, this process does.
    pub(in crate::proxy) host: Option<Upstream>,
    pub(in crate::proxy) memory: Memory,
    pub(in crate::proxy) timeouts: Timeouts,
    pub(in crate::proxy) bounds: Bounds,
    /// Left out: as many as there are cores.
    pub(in crate::proxy) workers: Option<Small<1, 256>>,
    pub(in crate::proxy) access_log: AccessLog,
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

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Filter {
    /// Left out: the file's name, or `tidegate`.
    pub(in crate::proxy) name: Option<String>,
    /// The module; left out together with `policy`, it is the shipped filter.
    pub(in crate::proxy) wasm: Option<PathBuf>,
    /// A policy file, as what Tidegate's own filter is configured by.
    pub(in crate::proxy) policy: Option<PathBuf>,
    pub(in crate::proxy) root_id: Option<String>,
    pub(in crate::proxy) vm_id: Option<String>,
    pub(in crate::proxy) configuration: Option<Blob>,
    pub(in crate::proxy) configuration_file: Option<PathBuf>,
    pub(in crate::proxy) vm_configuration: Option<Blob>,
    pub(in crate::proxy) environment: BTreeMap<String, String>,
    pub(in crate::proxy) allowed_calls: Option<BTreeSet<String>>,
    pub(in crate::proxy) on_failure: Option<OnFailure>,
    /// With `on_failure: reload`: how long until a new start.
    pub(in crate::proxy) reload_pause: Option<Time<1, 60_000>>,
    pub(in crate::proxy) allow_on_headers_stop_iteration: bool,
    pub(in crate::proxy) limits: Limits,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::proxy) enum OnFailure {
    Closed,
    Open,
    Reload,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Limits {
    pub(in crate::proxy) memory_mib: Count<1, 4_095>,
    pub(in crate::proxy) table_elements: Count<1, 100_000_000>,
    pub(in crate::proxy) callback: Time<1, 60_000>,
    pub(in crate::proxy) start: Time<1, 600_000>,
}

/// What a filter reads: a text as it stands, or anything else as JSON.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Blob(pub(in crate::proxy) Vec<u8>);

/// One address to connect to: `http://host:port`, or a map with that as `url` and more.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Upstream(pub(in crate::proxy) UpstreamMap);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::proxy) struct UpstreamMap {
    pub(in crate::proxy) url: Url,
    /// Speak HTTP/2: without TLS by prior knowledge.
    #[serde(default)]
    pub(in crate::proxy) http2: bool,
    /// PEM: who may have signed its certificate; left out, whom the system trusts.
    pub(in crate::proxy) ca: Option<PathBuf>,
    /// The name that its certificate must bear; left out, the url's.
    pub(in crate::proxy) server_name: Option<String>,
}

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Url {
    Tcp { is_tls: bool, host: String, port: u16 },
    Unix(PathBuf),
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

impl Default for Text {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            filters: Vec::new(),
            upstream: None,
            respond: None,
            clusters: BTreeMap::new(),
            host: None,
            memory: Memory::default(),
            timeouts: Timeouts::default(),
            bounds: Bounds::default(),
            workers: None,
            access_log: AccessLog::default(),
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
            filters: None,
            upstream: None,
            respond: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let limits = proxy_wasm_host::plugin::Limits::default();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            memory_mib: Count(count(limits.memory_bytes >> 20)),
            table_elements: Count(count(limits.table_elements)),
            callback: Time(limits.callback),
            start: Time(limits.start),
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

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(match serde_json::Value::deserialize(from)? {
            serde_json::Value::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        }))
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct TextOrMap;

        impl<'de> Visitor<'de> for TextOrMap {
            type Value = Upstream;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{URL_WANTED}, or a map with such a url")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Upstream, E> {
                let unexpected = serde::de::Unexpected::Str(text);
                let url = Url::parse(text).ok_or_else(|| E::invalid_value(unexpected, &self))?;
                Ok(Upstream(UpstreamMap { url, http2: false, ca: None, server_name: None }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Upstream, A::Error> {
                UpstreamMap::deserialize(MapAccessDeserializer::new(map)).map(Upstream)
            }
        }

        from.deserialize_any(TextOrMap)
    }
}

const URL_WANTED: &str = "http://host:port, https://host:port or unix:/path";

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, URL_WANTED, Self::parse)
    }
}

impl Url {
    /// Reads `http://host[:port]`, `https://host[:port]`, `tcp://host:port` or `unix:/path`.
    /// There is no path behind the host: requests keep theirs.
    pub(in crate::proxy) fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return path.starts_with('/').then(|| Self::Unix(path.into()));
        }
        let (is_tls, rest, port) = match text.split_once("://")? {
            ("http", rest) => (false, rest, Some(80)),
            ("https", rest) => (true, rest, Some(443)),
            ("tcp", rest) => (false, rest, None),
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if rest.is_empty() { port } else { Some(number(rest.strip_prefix(':')?)?) })
            }
            None => match rest.split_once(':') {
                Some((host, digits)) => (host, Some(number(digits)?)),
                None => (rest, port),
            },
        };
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        let is_host = !host.is_empty() && host.bytes().all(is_plain);
        is_host.then_some(Self::Tcp { is_tls, host: host.to_owned(), port: port? })
    }
}

/// A port: digits alone, not 0.
fn number(digits: &str) -> Option<u16> {
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|port| is_plain && *port != 0)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { is_tls, host, port } => {
                let scheme = if *is_tls { "https" } else { "http" };
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}"),
                    false => write!(f, "{scheme}://{host}:{port}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_upstreams() {
        for (text, meant) in [
            ("http://127.0.0.1:9000", Some("http://127.0.0.1:9000")),
            ("http://origin", Some("http://origin:80")),
            ("https://origin/", Some("https://origin:443")),
            ("http://[::1]:9", Some("http://[::1]:9")),
            ("unix:/run/a.sock", Some("unix:/run/a.sock")),
            ("unix:///run/a.sock", Some("unix:/run/a.sock")),
            ("tcp://db:5432", Some("http://db:5432")),
            ("tcp://db", None),
            ("origin:80", None),
            ("http://origin/path", None),
            ("http://origin:0", None),
            ("http://origin:+1", None),
            ("http://:80", None),
            ("unix:a.sock", None),
            ("ftp://origin", None),
        ] {
            assert_eq!(Url::parse(text).map(|url| url.to_string()).as_deref(), meant, "{text}");
        }
    }
}
