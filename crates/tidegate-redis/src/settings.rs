//! Where Redis is, how one gets in, and how long to wait for it, in the words that users of
//! other Redis clients know. Each field says what its word means here.

mod secret;
mod url;

pub use secret::Password;
pub use url::BadUrl;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A Redis, as its operator runs it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the servers are, and who says which of them is the one to ask.
    pub servers: Servers,
    /// How the servers let us in. The sentinels' own is with the [`Servers`].
    pub access: Access,
    /// Database number. A cluster has no other than 0.
    pub db: u32,
    /// How many batches may be under way at once to each server, on its one connection.
    ///
    /// Default 4: while one is on its way back another is counted and the next is gathered.
    /// More makes batches smaller, not faster.
    pub pool_size: usize,
    /// How often a command is sent again that provably did not run. Default 1: the script
    /// was lost (`SCRIPT FLUSH`, a restart, a fail-over) and is there again.
    pub max_retries: u16,
    /// The longest time for one attempt to connect, all of it: read the files, resolve,
    /// connect, TLS, sign in, load the script. Default 500 ms. No ask ever waits for it.
    pub dial_timeout: Duration,
    /// The longest time from a batch's sending to its replies. Default 50 ms: beyond that the
    /// proxies that asked have long decided on their own. What was asked may still be charged.
    pub read_timeout: Duration,
    /// How long sent bytes may stay unacknowledged before the connection is given up. Default 1 s.
    pub write_timeout: Duration,
    /// The longest time that an ask waits to be sent. Default 20 ms. Nothing is charged then.
    pub pool_timeout: Duration,
    /// A connection that carried no ask for this long is replaced, its successor being ready
    /// first; up to a tenth of that earlier, by chance. Default 4 min, below the idle limits of
    /// common load balancers and clouds.
    pub idle_timeout: Option<Duration>,
    /// A connection of this age, a sentinel's too, is replaced, its successor being ready
    /// first; up to a tenth earlier, by chance. Default: never. Give it where credentials are
    /// good for a while only, as managed services' tokens are.
    pub max_conn_age: Option<Duration>,
}

/// Who is asked, and who says who that is.
#[derive(Clone, Debug)]
pub enum Servers {
    /// One server, or the name that a managed service keeps on its current master: the name
    /// is resolved anew for each connection.
    Standalone(Address),
    /// The master that Sentinel names.
    Sentinel {
        /// What the sentinels call it.
        master_name: String,
        /// All of them, to hear of a switch from whichever notices first. Those that they
        /// name besides are not asked: whoever can greet a sentinel could then name the master.
        sentinels: Vec<Address>,
        /// How the sentinels let us in: often not as the servers do.
        access: Access,
    },
    /// The masters of a cluster, each for its slots.
    Cluster {
        /// Some nodes of it, from which all others are found; one is enough if it is up.
        seeds: Vec<Address>,
    },
}

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Host name or IP address (an IPv6 address without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// How one gets in.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Who we are.
    pub credentials: Credentials,
    /// TLS, if that is what is spoken there.
    pub tls: Option<Tls>,
}

/// Who we are to a server.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// ACL user; none is Redis's `default` user. It needs no more than
    /// `~tidegate:* +evalsha +script|load +mget +set +time`, and
    ///
    /// - `+info`, by which a fail-over that lost writes is noticed, and a replica is told
    ///   from a master before it is asked anything,
    /// - `+select` for a database other than 0,
    /// - `+cluster|slots +cluster|nodes +asking` in a cluster,
    /// - `+xadd +xread +xrange +xrevrange +xtrim +unlink +wait` for the log of revocations.
    ///
    /// A sentinel's user needs `+sentinel|master +sentinel|get-master-addr-by-name +subscribe
    /// &+switch-master`.
    pub username: Option<String>,
    /// Its password.
    pub password: Password,
}

/// TLS to a server. All files are read anew for each connection: certificates may be rotated.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// PEM file with the certificates of those who may have signed the server's. Default: all
    /// whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// What we show of ourselves, where the server asks for it.
    pub certificate: Option<ClientCertificate>,
    /// The name that the server's certificate must bear, and that it is told (SNI). Default:
    /// the host that is connected to, which is an IP address where Sentinel or the cluster
    /// names the server by one.
    pub server_name: Option<String>,
    /// Takes any certificate for the right one. Whoever is on the way can then read and
    /// change everything, the password too.
    pub insecure_skip_verify: bool,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate, and those between it and its root.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

impl Settings {
    /// Those servers, with nothing else said.
    pub const fn new(servers: Servers) -> Self {
        Self {
            servers,
            access: Access {
                credentials: Credentials { username: None, password: Password::None },
                tls: None,
            },
            db: 0,
            pool_size: 4,
            max_retries: 1,
            dial_timeout: Duration::from_millis(500),
            read_timeout: Duration::from_millis(50),
            write_timeout: Duration::from_secs(1),
            pool_timeout: Duration::from_millis(20),
            idle_timeout: Some(Duration::from_secs(240)),
            max_conn_age: None,
        }
    }

    /// The one server at `host` and `port`, with nothing else said.
    pub const fn standalone(host: String, port: u16) -> Self {
        Self::new(Servers::Standalone(Address { host, port }))
    }
}

impl Address {
    /// That port of that host.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// From `host:port`, as Redis writes it: an IPv6 address may stand without brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty()).then(|| Self::new(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_redis_writes_them() {
        for (text, address) in [
            ("10.0.0.1:6379", Some(("10.0.0.1", 6379))),
            ("redis-0.redis:7000", Some(("redis-0.redis", 7000))),
            ("2001:db8::1:6379", Some(("2001:db8::1", 6379))),
            ("[::1]:6379", Some(("::1", 6379))),
            (":6379", None),
            ("redis:0", None),
            ("redis", None),
        ] {
            let wanted = address.map(|(host, port)| Address::new(host, port));
            assert_eq!(Address::parse(text), wanted, "{text}");
        }
        assert_eq!(Address::new("::1", 1).to_string(), "[::1]:1");
    }
}
