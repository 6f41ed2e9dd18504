//! What the section `redis` means: which servers, by whose word, how they let us in.
//!
//! Nothing that was said is passed over: settings that contradict each other, or that belong
//! to another kind of Redis than the one described, are errors.

use super::environment::{CLUSTER_NODES, SENTINEL_HOSTS};
use super::kinds;
use super::text;
use super::tree::Origin;
use super::{Node, Problem};
use crate::secret::Secret;
use rustls::pki_types::ServerName;
use std::path::PathBuf;
use tidegate_redis::{
    Access, Address, ClientCertificate, Credentials, Password, Servers, Settings, Tls,
};

/// The settings that the section means.
///
/// # Errors
///
/// The first thing in it that is missing or contradicts another.
pub(super) fn settings(mut redis: text::Redis, tree: &Node) -> Result<Settings, Problem> {
    let reader = Reader { tree };
    let mut settings = reader.start(&redis)?;
    let in_url = std::mem::take(&mut settings.access.credentials);
    let said = Said {
        username: redis.username.take(),
        password: redis.password.take(),
        file: redis.password_file.take(),
    };
    settings.access.credentials = reader.credentials("redis.", said, in_url)?;
    let url_is_tls = redis.url.is_some().then_some(settings.access.tls.is_some());
    settings.access.tls = reader.tls("redis.tls", &redis.tls, url_is_tls)?;
    settings.servers = reader.servers(&mut redis, &settings)?;
    settings.db = reader.db(&redis, &settings)?;
    settings.pool_size = usize::from(redis.pool_size.0);
    settings.max_retries = redis.max_retries.0;
    settings.dial_timeout = redis.dial_timeout.0;
    settings.read_timeout = redis.read_timeout.0;
    settings.write_timeout = redis.write_timeout.0;
    settings.pool_timeout = redis.pool_timeout.0;
    settings.idle_timeout = redis.idle_timeout.0;
    settings.max_conn_age = redis.max_conn_age.0;
    Ok(settings)
}

struct Reader<'a> {
    tree: &'a Node,
}

/// Who we are, as typed.
struct Said {
    username: Option<String>,
    password: Option<Secret>,
    file: Option<PathBuf>,
}

impl Reader<'_> {
    /// What a URL says, or nothing but the first address.
    fn start(&self, redis: &text::Redis) -> Result<Settings, Problem> {
        match (&redis.url, redis.addresses.first()) {
            (Some(_), Some(_)) => Err(self.both("redis.url", "redis.addresses")),
            (Some(url), None) => Settings::from_url(url.expose())
                .map_err(|bad| self.problem("redis.url", &bad.to_string())),
            (None, Some(first)) => Ok(Settings::new(Servers::Standalone(address(first)))),
            (None, None) => Err(self
                .problem("redis", "has neither url nor addresses")
                .hint("say where Redis is: url: redis://host:6379".to_owned())),
        }
    }

    /// One server, sentinels, or a cluster.
    fn servers(&self, redis: &mut text::Redis, start: &Settings) -> Result<Servers, Problem> {
        let is_cluster = redis.cluster_mode == Some(true);
        match self.tree.at("redis.addresses").map(|addresses| addresses.origin) {
            Some(Origin::Environment(SENTINEL_HOSTS)) if redis.sentinel_master_name.is_none() => {
                return Err(self
                    .problem("redis.addresses", "are sentinels, but not of which master")
                    .hint("set TIDEGATE_REDIS_SENTINEL_MASTER".to_owned()));
            }
            Some(Origin::Environment(CLUSTER_NODES)) if !is_cluster => {
                return Err(self.problem(
                    "redis.cluster_mode",
                    &format!("is false, and {CLUSTER_NODES} is set"),
                ));
            }
            _ => {}
        }
        if let Some(master_name) = redis.sentinel_master_name.take() {
            return self.sentinel(redis, master_name, is_cluster, start);
        }
        self.no_sentinel(redis)?;
        match (is_cluster, &start.servers) {
            (true, Servers::Standalone(seed)) if redis.url.is_some() => {
                Ok(Servers::Cluster { seeds: vec![seed.clone()] })
            }
            (true, _) => {
                Ok(Servers::Cluster { seeds: redis.addresses.iter().map(address).collect() })
            }
            (false, _) if redis.addresses.len() > 1 => Err(self
                .problem(
                    "redis.addresses",
                    "are several, and neither sentinel_master_name nor cluster_mode is set",
                )
                .hint(
                    "say what they are: sentinel_master_name: NAME, or cluster_mode: true".into(),
                )),
            (false, servers) => Ok(servers.clone()),
        }
    }

    fn sentinel(
        &self,
        redis: &mut text::Redis,
        master_name: String,
        is_cluster: bool,
        start: &Settings,
    ) -> Result<Servers, Problem> {
        const NAME: &str = "redis.sentinel_master_name";
        if master_name.is_empty() {
            return Err(self.problem(NAME, "is empty"));
        }
        if redis.url.is_some() {
            return Err(self
                .problem(NAME, "is set, and redis.url too")
                .hint("name the sentinels instead: addresses: [host:26379, …]".to_owned()));
        }
        if is_cluster {
            return Err(self
                .problem(NAME, "is set, and redis.cluster_mode is true")
                .hint("a cluster looks after itself: keep one of them".to_owned()));
        }
        let said = Said {
            username: redis.sentinel_username.take(),
            password: redis.sentinel_password.take(),
            file: redis.sentinel_password_file.take(),
        };
        let credentials = self.credentials("redis.sentinel_", said, Credentials::default())?;
        let tls = match &redis.sentinel_tls {
            None => start.access.tls.clone(),
            Some(tls) => self.tls("redis.sentinel_tls", tls, None)?,
        };
        let sentinels = redis.addresses.iter().map(address).collect();
        Ok(Servers::Sentinel { master_name, sentinels, access: Access { credentials, tls } })
    }

    /// What is said of sentinels although there are none.
    fn no_sentinel(&self, redis: &text::Redis) -> Result<(), Problem> {
        let said = [
            (redis.sentinel_username.is_some(), "redis.sentinel_username"),
            (redis.sentinel_password.is_some(), "redis.sentinel_password"),
            (redis.sentinel_password_file.is_some(), "redis.sentinel_password_file"),
            (redis.sentinel_tls.is_some(), "redis.sentinel_tls"),
        ];
        match said.into_iter().find(|(is_said, _)| *is_said) {
            None => Ok(()),
            Some((_, path)) => {
                Err(self.problem(path, "is set, and redis.sentinel_master_name is not"))
            }
        }
    }

    fn db(&self, redis: &text::Redis, settings: &Settings) -> Result<u32, Problem> {
        let (in_url, said) = (settings.db, redis.db.map(u32::from));
        if said.is_some_and(|said| in_url != 0 && in_url != said) {
            return Err(self.both("redis.db", "another database in redis.url"));
        }
        let db = said.unwrap_or(in_url);
        if db != 0 && matches!(settings.servers, Servers::Cluster { .. }) {
            let path = if said.is_some() { "redis.db" } else { "redis.url" };
            return Err(self.problem(path, &format!("a cluster has no database {db}, only 0")));
        }
        Ok(db)
    }

    /// Who we are, by settings named `PREFIXusername` and so on, and by a URL.
    fn credentials(
        &self,
        prefix: &str,
        said: Said,
        in_url: Credentials,
    ) -> Result<Credentials, Problem> {
        let path = |name: &str| format!("{prefix}{name}");
        if in_url.username.is_some() && said.username.is_some() {
            return Err(self.both(&path("username"), "a user in redis.url"));
        }
        let password = match (said.password, said.file) {
            (Some(_), Some(_)) => {
                return Err(self.both(&path("password"), &path("password_file")));
            }
            (Some(secret), None) => {
                Some((path("password"), Password::Text(secret.expose().to_owned())))
            }
            (None, Some(file)) => Some((path("password_file"), Password::File(file))),
            (None, None) => None,
        };
        let password = match (password, in_url.password) {
            (Some((path, _)), Password::Text(_)) => {
                return Err(self.both(&path, "a password in redis.url"));
            }
            (Some((_, password)), _) => password,
            (None, in_url) => in_url,
        };
        let username = said.username.or(in_url.username);
        if username.is_some() && matches!(password, Password::None) {
            return Err(self.problem(&path("username"), "has no password").hint(format!(
                "give {} or {}",
                path("password_file"),
                path("password")
            )));
        }
        Ok(Credentials { username, password })
    }

    /// The TLS that a section means; `url_is_tls` is what a URL says about it.
    fn tls(
        &self,
        section: &str,
        tls: &text::Tls,
        url_is_tls: Option<bool>,
    ) -> Result<Option<Tls>, Problem> {
        let path = |name: &str| format!("{section}.{name}");
        let is_enabled = match (tls.enabled, url_is_tls) {
            (Some(true), Some(false)) => {
                return Err(self
                    .problem(&path("enabled"), "is true, and redis.url does not say rediss://")
                    .hint("write rediss:// there".to_owned()));
            }
            (Some(false), Some(true)) => {
                return Err(
                    self.problem(&path("enabled"), "is false, and redis.url says rediss://")
                );
            }
            (said, in_url) => said.or(in_url).unwrap_or(false),
        };
        if !is_enabled {
            // Who says how TLS is to be done must not get a connection without it.
            let said = [
                (tls.ca_file.is_some(), "ca_file"),
                (tls.cert_file.is_some(), "cert_file"),
                (tls.key_file.is_some(), "key_file"),
                (tls.server_name.is_some(), "server_name"),
                (tls.insecure_skip_verify, "insecure_skip_verify"),
            ];
            return match said.into_iter().find(|(is_said, _)| *is_said) {
                None => Ok(None),
                Some((_, name)) => Err(self
                    .problem(&path(name), &format!("is set, and {} is not true", path("enabled")))
                    .hint(format!("set {}: true", path("enabled")))),
            };
        }
        let certificate = match (&tls.cert_file, &tls.key_file) {
            (None, None) => None,
            (Some(cert_file), Some(key_file)) => {
                Some(ClientCertificate { cert_file: cert_file.clone(), key_file: key_file.clone() })
            }
            (Some(_), None) => {
                return Err(self.problem(&path("cert_file"), "is set without its key_file"));
            }
            (None, Some(_)) => {
                return Err(self.problem(&path("key_file"), "is set without its cert_file"));
            }
        };
        if let Some(name) = &tls.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            let what = format!("{name:?} is no name that a certificate may bear");
            return Err(self.problem(&path("server_name"), &what));
        }
        Ok(Some(Tls {
            ca_file: tls.ca_file.clone(),
            certificate,
            server_name: tls.server_name.clone(),
            insecure_skip_verify: tls.insecure_skip_verify,
        }))
    }

    fn problem(&self, path: &str, what: &str) -> Problem {
        Problem::new(what.to_owned()).located(self.tree, path)
    }

    fn both(&self, one: &str, other: &str) -> Problem {
        self.problem(one, &format!("is set, and {other} too")).hint("keep one of them".to_owned())
    }
}

fn address(typed: &kinds::Address) -> Address {
    Address::new(typed.host.clone(), typed.port)
}
