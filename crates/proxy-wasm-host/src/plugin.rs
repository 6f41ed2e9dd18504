//! How one filter is set up: the fields that Envoy's `PluginConfig` and `VmConfig` have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One filter of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginConfig {
    /// What it is called in logs and metrics, and what `plugin_name` says.
    pub name: String,
    /// Which of a module's root contexts it wants; `plugin_root_id`.
    pub root_id: String,
    /// Plugins of one module with the same `vm_id` and VM configuration share a machine in
    /// each worker; shared data and queues belong to a `vm_id`.
    pub vm_id: String,
    /// What `on_vm_start` can read.
    pub vm_configuration: Vec<u8>,
    /// What `on_configure` can read.
    pub configuration: Vec<u8>,
    /// The machine's environment variables.
    pub environment: BTreeMap<String, String>,
    /// If given, the only host calls that it may make.
    pub allowed_calls: Option<BTreeSet<String>>,
    /// What becomes of requests when the filter failed.
    pub failure: FailurePolicy,
    /// In `on_*_headers`, whether Pause holds the headers alone and lets the filter see the
    /// body; otherwise the body waits with them.
    pub allow_on_headers_stop_iteration: bool,
    /// What its machine may use.
    pub limits: Limits,
    /// The proxy that it runs in.
    pub node: Node,
}

/// What a proxy says of itself: `xds.node`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `xds.node.id`.
    pub id: String,
    /// `xds.node.cluster`.
    pub cluster: String,
    /// `xds.node.metadata`, flat.
    pub metadata: BTreeMap<String, String>,
}

/// What becomes of requests when a filter's machine trapped, or ran out of time or memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// They are answered with 503.
    #[default]
    Closed,
    /// They go on without the filter.
    Open,
    /// As [`FailurePolicy::Closed`], but the filter gets a new machine at the next request
    /// after a pause, which doubles with each failure soon after a start.
    Reload {
        /// The least pause; never less than a millisecond.
        pause: Duration,
    },
}

/// What one machine may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory.
    pub memory_bytes: usize,
    /// Elements of all tables together.
    pub table_elements: usize,
    /// How long one callback may run.
    pub callback: Duration,
    /// How long the start may take, with `on_vm_start` and `on_configure`: of each filter its own, also
    /// in a machine that it shares.
    pub start: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            table_elements: 1 << 20,
            callback: Duration::from_secs(1),
            start: Duration::from_secs(10),
        }
    }
}
