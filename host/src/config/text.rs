//! The configuration as typed: names, types and defaults. What each means is said here,
//! once, in the words that Redis users know where those exist.

use crate::secret::Secret;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;
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
    pub(super) http: Http,
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
    /// `host:port`, one for now.
    pub(super) addresses: Vec<Address>,
    /// `redis://[user[:password]@]host[:port][/db]`, instead of `addresses`.
    pub(super) url: Option<Secret>,
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
    pub(super) sentinel_master_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) enabled: bool,
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

impl Default for Text {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8081)),
            unix_socket: None,
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 8082)),
            provider: None,
            memory: Memory::default(),
            redis: Redis::default(),
            http: Http::default(),
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
        let settings = tidegate_redis::Settings::new(String::new(), 0);
        Self {
            addresses: Vec::new(),
            url: None,
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
            sentinel_master_name: None,
        }
    }
}

/// A count from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count<const MIN: u32, const MAX: u32>(pub(super) u32);

/// A small count from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Small<const MIN: u16, const MAX: u16>(pub(super) u16);

/// A duration with its unit, from `MIN` to `MAX` milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time<const MIN: u64, const MAX: u64>(pub(super) Duration);

/// A duration with its unit, up to 366 days; `0` is none at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaybeTime(pub(super) Option<Duration>);

/// `host:port`. An IPv6 address stands in brackets.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wanted = format!("a whole number, {MIN} to {MAX}");
        parsed(from, &wanted, |text| {
            let count = text.parse().ok()?;
            (MIN..=MAX).contains(&count).then_some(Self(count))
        })
    }
}

impl<'de, const MIN: u16, const MAX: u16> Deserialize<'de> for Small<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wanted = format!("a whole number, {MIN} to {MAX}");
        parsed(from, &wanted, |text| {
            let count = text.parse().ok()?;
            (MIN..=MAX).contains(&count).then_some(Self(count))
        })
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Time<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wanted =
            format!("a time with its unit, {MIN}ms to {}s, such as 50ms or 2s", MAX / 1000);
        parsed(from, &wanted, |text| {
            let time = duration(text)?;
            let range = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
            range.contains(&time).then_some(Self(time))
        })
    }
}

impl<'de> Deserialize<'de> for MaybeTime {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const MAX: Duration = Duration::from_secs(366 * 86_400);
        parsed(from, "a time with its unit, such as 5m, or 0 for never", |text| match text {
            "0" => Some(Self(None)),
            text => {
                let time = duration(text).filter(|time| *time <= MAX)?;
                Some(Self((!time.is_zero()).then_some(time)))
            }
        })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, "host:port", |text| {
            let (host, port) = text.rsplit_once(':')?;
            let host = match host.strip_prefix('[') {
                Some(v6) => v6.strip_suffix(']')?,
                None if host.contains(':') => return None,
                None => host,
            };
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:%".contains(&b);
            let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
            (!host.is_empty() && host.bytes().all(plain))
                .then(|| Self { host: host.to_owned(), port })
        })
    }
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    parsed(from, "an IP address and port, such as 127.0.0.1:8081 or [::]:8081", |text| {
        text.parse().ok()
    })
}

/// Whole numbers of one unit: `250ms`, `5s`, `4m`, `1h`, `1d`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(count.parse::<u64>().ok()?.checked_mul(millis)?))
}

/// Reads a text and makes of it what `parse` can, or says what was `wanted`.
fn parsed<'de, D: Deserializer<'de>, T>(
    from: D,
    wanted: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Parsed<'a, F>(&'a str, F);

    impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for Parsed<'_, F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    from.deserialize_str(Parsed(wanted, parse))
}
