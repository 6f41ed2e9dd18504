//! What the operator set: a YAML file, overridden by the environment, or neither.
//!
//! In this order, the later winning: the defaults below, the file, `TIDEGATE_*` variables
//! ([`VARIABLES`]). What cannot be served is refused, never ignored, and the message says
//! where it was set. Secrets are kept in [`crate::secret::Secret`], which no log or message shows.
//!
//! `host/tidegate.yaml` shows every setting with its default.

mod environment;
pub(crate) mod kinds;
mod problem;
mod read;
mod redis;
mod revocations;
mod revocations_api;
mod text;
mod tree;

pub use environment::VARIABLES;
pub use problem::Problem;
pub use revocations::Revocations;
pub use revocations_api::{ApiTls, Claims, Receiver, RevocationsApi};
pub use text::{LogFormat, LogLevel};

pub use crate::plugins::Settings as Plugin;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidegate_redis::Settings;
pub(crate) use tree::Node;

/// Everything that can be set, as meant.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where asks are answered.
    pub listen: SocketAddr,
    /// Where asks are answered too: a Unix socket, made with mode 0660.
    pub unix_socket: Option<PathBuf>,
    /// Where the operator's `/metrics`, `/readyz` and `/healthz` are.
    pub admin: SocketAddr,
    /// Who keeps the truth.
    pub provider: Provider,
    /// Where what is revoked is kept, if it is.
    pub revocations: Option<Revocations>,
    /// Plugins of policies, by name.
    pub plugins: BTreeMap<String, Plugin>,
    /// Bounds on what callers may take.
    pub http: Http,
    /// Whether asks that the store gives no answer to are admitted here, uncharged. Otherwise
    /// the proxies are told that there is none, and each limit's `on_error` decides.
    pub fail_open: bool,
    /// The longest wait for asks in flight once told to stop.
    pub drain_timeout: Duration,
    /// The least severe event logged.
    pub log_level: LogLevel,
    /// How events are written.
    pub log_format: LogFormat,
}

/// Who keeps the truth.
#[derive(Clone, Debug)]
pub enum Provider {
    /// This process, until it ends.
    Memory {
        /// How many keys it keeps; beyond that the least indebted are forgotten.
        keys_max: u32,
    },
    /// A Redis: one server, a master that Sentinel names, or a cluster.
    Redis(Box<Settings>),
}

/// Bounds on what callers may take.
#[derive(Clone, Debug)]
pub struct Http {
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Asks at once; more are answered 503 immediately.
    pub in_flight_max: usize,
    /// Asks at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// The longest time for a request's head, and for its body.
    pub request_timeout: Duration,
}

/// A configuration, and what is odd about it without being wrong.
#[derive(Debug)]
pub struct Loaded {
    /// What was set.
    pub config: Config,
    /// One line each, to be logged.
    pub warnings: Vec<String>,
}

/// Reads the configuration from `file`, if there is one, and from `environment`.
///
/// # Errors
///
/// The first setting that is wrong or not served, as a message to print.
pub fn load(
    file: Option<&Path>,
    environment: &dyn Fn(&str) -> Option<String>,
    names: &[String],
) -> Result<Loaded, Problem> {
    let mut tree = match file {
        None => Node::empty(),
        Some(path) => {
            let yaml = read_file(path)?;
            Node::parse(&yaml, environment).map_err(|p| p.in_file(path))?
        }
    };
    environment::apply(&mut tree, environment)?;
    let mut warnings = environment::unknown(names);
    let config = read::read::<text::Text>(&tree)
        .and_then(|text| resolve(text, &tree, &mut warnings))
        .map_err(|p| file.map_or_else(|| p.clone(), |path| p.clone().in_file(path)))?;
    Ok(Loaded { config, warnings })
}

/// Reads a file of settings as a `T`, filling in variables from `environment`: for
/// configurations beside the service's own. The tree goes with it, for messages about what
/// was typed where.
///
/// # Errors
///
/// The first setting that is wrong, as a message to print.
pub(crate) fn read_as<T: serde::de::DeserializeOwned>(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(T, Node), Problem> {
    let read = |yaml: String| {
        let tree = Node::parse(&yaml, environment)?;
        Ok((read::read(&tree)?, tree))
    };
    read(read_file(path)?).map_err(|problem: Problem| problem.in_file(path))
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let read = || {
        let size = std::fs::metadata(path)?.len();
        if size > tree::FILE_BYTES_MAX {
            return Err(std::io::Error::other("it is larger than any configuration"));
        }
        std::fs::read_to_string(path)
    };
    read().map_err(|error| Problem::new(format!("{}: cannot be read: {error}", path.display())))
}

/// From as typed to as meant.
fn resolve(text: text::Text, tree: &Node, warnings: &mut Vec<String>) -> Result<Config, Problem> {
    let text::Text { http, memory, redis, revocations, .. } = text;
    let provider = match text.provider {
        // Whoever says where a Redis is, or of what kind, wants it used.
        None if redis.is_described() => text::ProviderName::Redis,
        None => text::ProviderName::Memory,
        Some(name) => name,
    };
    let provider = match provider {
        text::ProviderName::Memory => {
            if redis.is_described() {
                warnings.push("provider is memory: the redis settings have no effect".to_owned());
            }
            Provider::Memory { keys_max: memory.keys_max.0 }
        }
        text::ProviderName::Redis => Provider::Redis(Box::new(redis::settings(redis, tree)?)),
    };
    Ok(Config {
        listen: text.listen,
        unix_socket: text.unix_socket,
        admin: text.admin,
        provider,
        revocations: revocations::resolve(revocations, tree)?,
        plugins: crate::plugins::text::resolve(text.plugins)
            .map_err(|(name, what)| Problem::new(what).located(tree, &format!("plugins.{name}")))?,
        http: Http {
            connections_max: http.connections_max.0 as usize,
            in_flight_max: http.in_flight_max.0 as usize,
            streams_max: http.streams_max.0,
            request_timeout: http.request_timeout.0,
        },
        fail_open: text.rate_limit_fail_open.unwrap_or(false),
        drain_timeout: text.drain_timeout.0,
        log_level: text.log_level,
        log_format: text.log_format,
    })
}
