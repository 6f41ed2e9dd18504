//! Where an upstream is, as typed.

use crate::config::kinds::parsed;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::fmt;
use std::path::PathBuf;

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
