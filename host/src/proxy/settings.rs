//! What the operator set for the proxy, as meant.
//!
//! One file says it all, read by the same machinery as the service's; the flags of the
//! command line are a short way to write such a file. Files that the settings name (policies,
//! modules, certificates) are read when a plan is made of them ([`super::plan`]), each time
//! anew.

mod resolve;
pub(super) mod text;

use crate::config::{LogFormat, LogLevel, Problem};
use proxy_wasm_host::plugin::{Node, PluginConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
pub(super) use text::{AccessLogFormat, Protocol, Tls, Url};

/// Where settings come from; read again at each reload.
#[derive(Clone, Debug)]
pub(super) enum Source {
    File(PathBuf),
    /// What flags of the command line stand for.
    Flags(Box<text::Text>),
}

/// Everything that can be set.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) listeners: Vec<Listener>,
    /// Whom filters may call, by name.
    pub(super) clusters: BTreeMap<String, Upstream>,
    /// Who answers the asks of policies; `None`: this process.
    pub(super) host: Option<Upstream>,
    /// Of the store in this process.
    pub(super) memory_keys_max: u32,
    /// Plugins that run in this process, by name.
    pub(super) plugins: BTreeMap<String, crate::plugins::Settings>,
    pub(super) timeouts: Timeouts,
    pub(super) bounds: Bounds,
    pub(super) workers: usize,
    pub(super) access_log: AccessLog,
    /// Where the operator's `/metrics`, `/readyz` and `/healthz` are.
    pub(super) admin: Option<SocketAddr>,
    pub(super) log_level: LogLevel,
    pub(super) log_format: LogFormat,
}

/// A door for clients, and what is behind it.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) tls: Option<Tls>,
    pub(super) trusted_hops: usize,
    pub(super) normalize_path: bool,
    /// Lower-case.
    pub(super) upgrades: BTreeSet<String>,
    /// What decides requests before filters see them, if anything.
    pub(super) component: Option<Component>,
    pub(super) filters: Vec<Filter>,
    pub(super) target: Target,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Upstream(Upstream),
    /// Nowhere: they are answered with this.
    Respond {
        status: u16,
        headers: BTreeMap<String, String>,
        body: String,
    },
}

/// One address to connect to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) url: Url,
    pub(super) is_http2: bool,
    pub(super) ca: Option<PathBuf>,
    /// The name that its certificate must bear.
    pub(super) server_name: String,
}

/// One filter of a chain.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// `None`: the shipped one.
    pub(super) wasm: Option<PathBuf>,
    pub(super) configuration: Configuration,
    /// All but `configuration`, which may be in a file.
    pub(super) plugin: PluginConfig,
}

/// A component of the world `edge-guard`, and its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Component {
    /// Its file.
    pub(super) wasm: PathBuf,
    /// What it shares it shares with those of this name.
    pub(super) name: String,
    pub(super) policy: Configuration,
    pub(super) node: Node,
    pub(super) memory_bytes: usize,
    pub(super) table_elements: usize,
    /// How long one call may run.
    pub(super) call: Duration,
    /// How long its start may take, and a new policy.
    pub(super) start: Duration,
}

/// What a filter is told by `on_configure`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Configuration {
    Inline(Vec<u8>),
    File(PathBuf),
    Policy(PathBuf),
    /// A policy as JSON.
    InlinePolicy(Vec<u8>),
}

/// How long things may take. `None`: without end.
#[derive(Clone, Debug)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) request: Option<Duration>,
    pub(super) request_headers: Duration,
    pub(super) stream_idle: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) upstream_idle: Duration,
    pub(super) drain: Duration,
}

/// How much clients may take.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) connections_max: usize,
    pub(super) exchanges_max: usize,
    pub(super) streams_max: u32,
    pub(super) headers_bytes: usize,
    pub(super) buffer_bytes: usize,
}

/// What is written of each exchange, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccessLog {
    pub(super) format: AccessLogFormat,
    /// `None`: standard output.
    pub(super) path: Option<PathBuf>,
}

impl Source {
    /// Reads the settings, filling in variables from `environment`.
    ///
    /// # Errors
    ///
    /// The first setting that is wrong, as a message to print.
    pub(super) fn read(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Settings, Problem> {
        match self {
            Self::Flags(text) => resolve::settings(text.as_ref().clone(), None),
            Self::File(path) => {
                let (text, tree) = crate::config::read_as::<text::Text>(path, environment)?;
                resolve::settings(text, Some(&tree)).map_err(|problem| problem.in_file(path))
            }
        }
    }
}
