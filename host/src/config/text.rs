//! The configuration as typed: names, types and defaults. What each means is said here,
//! once, in the words that Redis users know where those exist.

use super::kinds::{Address, Count, MaybeTime, Small, Time, address};
use super::revocations;
use crate::plugins::text as plugins;
use crate::secret::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Text {
    #[serde(deserialize_with = "address")]
    pub(super) listen: SocketAddr,
    pub(super) unix_socket: Option<PathBuf>,
    #[serde(deserialize_with = "address")]
    pub(super) admin: SocketAddr,
    /// Left out: redis if it is said where that is, otherwise memory.
    pub(super) provider: Option<ProviderName>,
    pub(super) memory: Memory,
    pub(super) redis: Redis,
    pub(super) revocations: revocations::Text,
    /// By the names that policies have for them.
    pub(super) plugins: BTreeMap<String, plugins::Text>,
    pub(super) http: Http,
    /// Whether the host itself admits what its store gives no answer to. Left out or false, it
    /// says that it has none, and each limit's `on_error` decides.
    pub(super) rate_limit_fail_open: Option<bool>,
    /// 10 s: well within Kubernetes' 30 s between SIGTERM and SIGKILL.
    pub(super) drain_timeout: Time<1, 600_000>,
    pub(super) log_level: LogLevel,
    pub(super) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProviderName {
    Memory,
    Redis,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Memory {
    /// A million keys take about 100 MB.
    pub(super) keys_max: Count<8, 100_000_000>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    /// A proxy keeps one connection for each of its workers: 4,096 is some hundred proxies.
    pub(super) connections_max: Count<1, 1_000_000>,
    /// Far more than a store can answer in one deadline.
    pub(super) in_flight_max: Count<1, 1_000_000>,
    /// Envoy's own default for an upstream.
    pub(super) streams_max: Count<1, 65_536>,
    /// An ask is a few hundred bytes and comes at once, or its caller has given up.
    pub(super) request_timeout: Time<1, 60_000>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Redis {
    /// `host:port`: the one server, all sentinels, or some nodes of a cluster.
    pub(super) addresses: Vec<Address>,
    /// `redis://[user[:password]@]host[:port][/db]`, instead of `addresses`; `rediss://` is TLS.
    pub(super) url: Option<Secret>,
    /// `addresses` are sentinels, and this is what they call the master.
    pub(super) sentinel_master_name: Option<String>,
    /// How the sentinels let us in: these have nothing to do with the servers' own.
    pub(super) sentinel_username: Option<String>,
    pub(super) sentinel_password: Option<Secret>,
    pub(super) sentinel_password_file: Option<PathBuf>,
    /// Left out: as `tls`, for one certificate authority mostly signs for both.
    pub(super) sentinel_tls: Option<Tls>,
    /// `addresses` or `url` are nodes of a cluster, from which all others are found.
    pub(super) cluster_mode: Option<bool>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    /// Read anew for every connection, so a rotated password needs no restart.
    pub(super) password_file: Option<PathBuf>,
    pub(super) db: Option<u16>,
    /// How many pipelined batches may be under way at once. They share one connection: one
    /// outruns a Redis server's one thread, so more sockets would buy nothing.
    pub(super) pool_size: Small<1, 1024>,
    /// How often a command is sent again that provably did not run. One that may have run
    /// is never sent again.
    pub(super) max_retries: Small<0, 10>,
    /// For one attempt to connect: resolve, connect, sign in, load the script.
    pub(super) dial_timeout: Time<1, 60_000>,
    /// From a batch's sending to its replies. A limiter that waits longer than its callers'
    /// deadline (20 ms by default) only keeps them in memory.
    pub(super) read_timeout: Time<1, 60_000>,
    /// How long sent bytes may stay unacknowledged before the connection counts as broken.
    pub(super) write_timeout: Time<1, 60_000>,
    /// How long an ask may wait for its batch to be sent.
    pub(super) pool_timeout: Time<1, 60_000>,
    /// A connection that carried no ask for so long is replaced; 0 means never.
    pub(super) idle_timeout: MaybeTime,
    /// A connection of this age is replaced, its successor being ready; 0 means never.
    pub(super) max_conn_age: MaybeTime,
    pub(super) tls: Tls,
}

/// All files are PEM, and read anew for every connection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    /// Left out: as the URL says, otherwise false.
    pub(super) enabled: Option<bool>,
    /// Whom to trust. Left out: whom the system trusts.
    pub(super) ca_file: Option<PathBuf>,
    /// What to show of ourselves, for servers that ask for it.
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    /// The name that the certificate must bear, where it is not the address's host.
    pub(super) server_name: Option<String>,
    /// Whom to trust does not matter.
    pub(super) insecure_skip_verify: bool,
}

/// The least severe event that is logged.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the usual five, and none")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How events are written to standard error.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text to a terminal, JSON to anything else.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Redis {
    /// Whether it says where a Redis is, or of what kind.
    pub(super) fn is_described(&self) -> bool {
        self.url.is_some()
            || !self.addresses.is_empty()
            || self.sentinel_master_name.is_some()
            || self.cluster_mode == Some(true)
    }
}

impl Default for Text {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8081)),
            unix_socket: None,
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 8082)),
            provider: None,
            memory: Memory::default(),
            redis: Redis::default(),
            revocations: revocations::Text::default(),
            plugins: BTreeMap::new(),
            http: Http::default(),
            rate_limit_fail_open: None,
            drain_timeout: Time(Duration::from_secs(10)),
            log_level: LogLevel::Info,
            log_format: LogFormat::Auto,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self { keys_max: Count(1_000_000) }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            connections_max: Count(4_096),
            in_flight_max: Count(10_000),
            streams_max: Count(1_024),
            request_timeout: Time(Duration::from_secs(1)),
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        let settings = tidegate_redis::Settings::standalone(String::new(), 0);
        Self {
            addresses: Vec::new(),
            url: None,
            sentinel_master_name: None,
            sentinel_username: None,
            sentinel_password: None,
            sentinel_password_file: None,
            sentinel_tls: None,
            cluster_mode: None,
            username: None,
            password: None,
            password_file: None,
            db: None,
            pool_size: Small(u16::try_from(settings.pool_size).unwrap_or(u16::MAX)),
            max_retries: Small(settings.max_retries),
            dial_timeout: Time(settings.dial_timeout),
            read_timeout: Time(settings.read_timeout),
            write_timeout: Time(settings.write_timeout),
            pool_timeout: Time(settings.pool_timeout),
            idle_timeout: MaybeTime(settings.idle_timeout),
            max_conn_age: MaybeTime(settings.max_conn_age),
            tls: Tls::default(),
        }
    }
}
